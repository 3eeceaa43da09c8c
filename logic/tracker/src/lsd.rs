//! Local service discovery (BEP 14): the text that peers of one network send to a group.
//!
//! ```text
//! BT-SEARCH * HTTP/1.1
//! Host: 239.192.152.143:6771
//! Port: 6881
//! Infohash: 40 hex digits      one line for each torrent
//! cookie: name of the sender   so that it knows itself
//! ```
#![warn(clippy::indexing_slicing)]

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use torr_base::InfoHash;

/// Where everybody listens.
pub const PORT: u16 = 6771;
/// The groups of both families; the second is that of the site.
pub const GROUP_V4: Ipv4Addr = Ipv4Addr::new(239, 192, 152, 143);
pub const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff15, 0, 0, 0, 0, 0, 0xefc0, 0x988f);
/// BEP 14: no datagram is longer.
pub const MESSAGE_LEN_MAX: usize = 1_400;
/// Torrents of one message; so many fit.
pub const TORRENTS_MAX: usize = 20;
/// A cookie that is longer is none of ours.
const COOKIE_LEN_MAX: usize = 64;

/// "Peers of these torrents are found here, at this port."
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalAnnounce {
    /// Where the sender takes connections.
    pub port: u16,
    /// At most [`TORRENTS_MAX`].
    pub torrents: Vec<InfoHash>,
    pub cookie: Option<String>,
}

impl LocalAnnounce {
    /// `group`: where it is sent.
    #[must_use]
    pub fn encode(&self, group: SocketAddr) -> Vec<u8> {
        let mut text = format!(
            "BT-SEARCH * HTTP/1.1\r\nHost: {group}\r\nPort: {}\r\n",
            self.port
        );
        for torrent in self.torrents.iter().take(TORRENTS_MAX) {
            text.push_str(&format!("Infohash: {torrent}\r\n"));
        }
        if let Some(cookie) = &self.cookie {
            text.push_str(&format!("cookie: {cookie}\r\n"));
        }
        text.push_str("\r\n\r\n");
        text.into_bytes()
    }

    /// `None` for what is no such message. Lines that say nothing to us are passed over, as are torrents that
    /// have no info-hash of version 1, and those beyond the bound.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > MESSAGE_LEN_MAX {
            return None;
        }
        let text = std::str::from_utf8(bytes).ok()?;
        let mut lines = text.split("\r\n");
        if !lines.next()?.starts_with("BT-SEARCH * HTTP/1.") {
            return None;
        }
        let (mut port, mut torrents, mut cookie) = (None, Vec::new(), None);
        for line in lines {
            let Some((name, value)) = line.split_once(':') else {
                continue;
            };
            let value = value.trim();
            match name.trim().to_ascii_lowercase().as_str() {
                "port" => port = port.or(Some(value.parse::<u16>().ok()?)),
                "infohash" if torrents.len() < TORRENTS_MAX => {
                    torrents.extend(InfoHash::from_hex(value));
                }
                "cookie" if value.len() <= COOKIE_LEN_MAX => cookie = Some(value.to_owned()),
                _ => {}
            }
        }
        let port = port.filter(|port| *port > 0)?;
        (!torrents.is_empty()).then_some(Self {
            port,
            torrents,
            cookie,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back_and_within_the_bound() {
        let announce = LocalAnnounce {
            port: 65_535,
            torrents: (0..TORRENTS_MAX as u8).map(|n| InfoHash([n; 20])).collect(),
            cookie: Some("a".repeat(16)),
        };
        for group in [
            SocketAddr::from((GROUP_V4, PORT)),
            SocketAddr::from((GROUP_V6, PORT)),
        ] {
            let bytes = announce.encode(group);
            assert!(bytes.len() <= MESSAGE_LEN_MAX, "{}", bytes.len());
            assert_eq!(LocalAnnounce::decode(&bytes), Some(announce.clone()));
        }
        let text = String::from_utf8(announce.encode((GROUP_V6, PORT).into())).unwrap();
        assert!(text.contains("\r\nHost: [ff15::efc0:988f]:6771\r\n"));
    }

    #[test]
    fn others_write_it_otherwise() {
        let hash = "2c6b6858d61da9543d4231a71db4b1c9264b0685";
        let text = format!(
            "BT-SEARCH * HTTP/1.1\r\nhost: 239.192.152.143:6771\r\nPORT:  7000 \r\nInfohash: {hash}\r\n\
             Infohash: nonsense\r\nX-More: 1\r\n\r\n\r\n"
        );
        let heard = LocalAnnounce::decode(text.as_bytes()).unwrap();
        assert_eq!(heard.port, 7_000);
        assert_eq!(heard.torrents, [InfoHash::from_hex(hash).unwrap()]);
        assert_eq!(heard.cookie, None);
    }

    #[test]
    fn rubbish_is_nothing() {
        let hash = "2c6b6858d61da9543d4231a71db4b1c9264b0685";
        let odd = [
            String::new(),
            "M-SEARCH * HTTP/1.1\r\n\r\n".to_owned(),
            format!("BT-SEARCH * HTTP/1.1\r\nInfohash: {hash}\r\n\r\n"),
            format!("BT-SEARCH * HTTP/1.1\r\nPort: 0\r\nInfohash: {hash}\r\n\r\n"),
            format!("BT-SEARCH * HTTP/1.1\r\nPort: 70000\r\nInfohash: {hash}\r\n\r\n"),
            "BT-SEARCH * HTTP/1.1\r\nPort: 1\r\n\r\n".to_owned(),
            format!(
                "BT-SEARCH * HTTP/1.1\r\nPort: 1\r\nInfohash: {hash}\r\n{}",
                "a".repeat(1_400)
            ),
        ];
        for text in odd {
            assert_eq!(LocalAnnounce::decode(text.as_bytes()), None, "{text}");
        }
        let many = format!("Infohash: {hash}\r\n").repeat(24);
        let many = format!("BT-SEARCH * HTTP/1.1\r\nPort: 1\r\n{many}");
        let heard = LocalAnnounce::decode(many.as_bytes()).unwrap();
        assert_eq!(heard.torrents.len(), TORRENTS_MAX);
    }
}
