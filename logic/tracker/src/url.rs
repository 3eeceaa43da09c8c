//! Tracker URLs, as far as the schedule and the UDP machine must understand them.
//!
//! The HTTP transport parses the same text again with the parser that its requests go through, and
//! judges addresses by that one; so nothing about safety rests on this file agreeing with it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Longer ones are refused: no tracker needs it, and each is kept for the torrent's life.
pub const URL_LEN_MAX: usize = 2048;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
    Udp,
}

/// A tracker's URL of a scheme that can be announced to.
#[derive(Clone, PartialEq, Eq)]
pub struct TrackerUrl {
    whole: String,
    scheme: Scheme,
    host: String,
    port: u16,
    /// Where the path begins in `whole`; it may be empty.
    path_at: usize,
}

/// Why a text is not a tracker's URL. For people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    #[error("the URL is longer than {URL_LEN_MAX} bytes")]
    TooLong,
    #[error("the URL holds a space or control character")]
    Character,
    #[error("the URL has no scheme")]
    NoScheme,
    #[error("only http, https and udp trackers are supported")]
    Scheme,
    #[error("the URL has no host")]
    NoHost,
    #[error("the URL has no valid port")]
    Port,
    #[error("the URL's host is not in ASCII; a name like that is written xn--…")]
    HostNotAscii,
}

impl TrackerUrl {
    /// # Errors
    /// What is wrong with it, without repeating it: a URL may hold a secret.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let text = text.trim();
        if text.len() > URL_LEN_MAX {
            return Err(UrlError::TooLong);
        }
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(UrlError::Character);
        }
        let whole = text.split('#').next().unwrap_or_default().to_owned();
        let (scheme, rest) = whole.split_once("://").ok_or(UrlError::NoScheme)?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            "udp" => Scheme::Udp,
            _ => return Err(UrlError::Scheme),
        };
        let authority_len = rest.find(['/', '?', '\\']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(authority_len);
        let path_at = whole.len() - path.len();
        let host_port = authority.rsplit_once('@').map_or(authority, |(_, it)| it);
        let (host, port) = split_port(host_port)?;
        let port = match (port, scheme) {
            (Some(port), _) => port,
            (None, Scheme::Http) => 80,
            (None, Scheme::Https) => 443,
            (None, Scheme::Udp) => return Err(UrlError::Port),
        };
        let host = host.to_ascii_lowercase();
        Ok(Self {
            scheme,
            host,
            port,
            path_at,
            whole,
        })
    }

    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Name or address in lower case; an IPv6 address without its brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL without a fragment. It may hold a passkey: see [`crate::mask()`].
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.whole
    }

    /// Path and query, as they stand.
    #[must_use]
    pub fn path_and_query(&self) -> &str {
        self.whole.get(self.path_at..).unwrap_or_default()
    }

    #[must_use]
    pub fn path(&self) -> &str {
        self.path_and_query().split('?').next().unwrap_or_default()
    }

    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.path_and_query()
            .split_once('?')
            .map(|(_, query)| query)
    }

    /// Whether the host is written as this machine's own (`127.0.0.0/8`, `::1`, `localhost`).
    #[must_use]
    pub fn names_loopback(&self) -> bool {
        let host = self.host.trim_end_matches('.');
        host == "localhost"
            || host.ends_with(".localhost")
            || host.parse().is_ok_and(|ip: Ipv4Addr| ip.is_loopback())
            || (host.parse()).is_ok_and(|ip: Ipv6Addr| IpAddr::V6(ip).to_canonical().is_loopback())
    }
}

fn split_port(host_port: &str) -> Result<(&str, Option<u16>), UrlError> {
    let (host, port) = if let Some(rest) = host_port.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or(UrlError::NoHost)?;
        host.parse::<Ipv6Addr>().map_err(|_| UrlError::NoHost)?;
        match rest.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if rest.is_empty() => (host, None),
            None => return Err(UrlError::Port),
        }
    } else {
        match host_port.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (host_port, None),
        }
    };
    if host.is_empty() || host.len() > 253 {
        return Err(UrlError::NoHost);
    }
    // Names that look alike would be two hosts (IDNA), and none of them is one as it stands.
    if !host.is_ascii() {
        return Err(UrlError::HostNotAscii);
    }
    let port = match port {
        None | Some("") => None,
        Some(text) if text.bytes().all(|c| c.is_ascii_digit()) => {
            let port: u16 = text.parse().map_err(|_| UrlError::Port)?;
            Some(port)
                .filter(|port| *port != 0)
                .ok_or(UrlError::Port)
                .map(Some)?
        }
        Some(_) => return Err(UrlError::Port),
    };
    Ok((host, port))
}

impl std::fmt::Debug for TrackerUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TrackerUrl({})", crate::mask(&self.whole))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts() {
        let url = TrackerUrl::parse(" HTTP://u:p@T.example:8080/a/announce?x=1#frag").unwrap();
        assert_eq!(url.scheme(), Scheme::Http);
        assert_eq!((url.host(), url.port()), ("t.example", 8080));
        assert_eq!(url.path_and_query(), "/a/announce?x=1");
        assert_eq!((url.path(), url.query()), ("/a/announce", Some("x=1")));
        let url = TrackerUrl::parse("udp://[2001:db8::1]:80").unwrap();
        assert_eq!(
            (url.host(), url.port(), url.path()),
            ("2001:db8::1", 80, "")
        );
        assert_eq!(TrackerUrl::parse("https://t.example").unwrap().port(), 443);
        assert_eq!(TrackerUrl::parse("http://t.example:/x").unwrap().port(), 80);
    }

    #[test]
    fn refusals() {
        let error = |text: &str| TrackerUrl::parse(text).unwrap_err();
        assert_eq!(error("wss://t.example/"), UrlError::Scheme);
        assert_eq!(error("t.example/announce"), UrlError::NoScheme);
        assert_eq!(error("udp://t.example/announce"), UrlError::Port);
        assert_eq!(error("http://t.example:99999/"), UrlError::Port);
        assert_eq!(error("http://t.example:+80/"), UrlError::Port);
        assert_eq!(error("http://t.example:0/"), UrlError::Port);
        assert_eq!(error("http:///announce"), UrlError::NoHost);
        assert_eq!(error("http://[nonsense]/"), UrlError::NoHost);
        assert_eq!(error("http://[::1]x/"), UrlError::Port);
        assert_eq!(error("http://a/\u{7}"), UrlError::Character);
        // A Cyrillic letter that looks like a Latin one, and a full stop that is none.
        assert_eq!(
            error("http://tr\u{430}cker.example/"),
            UrlError::HostNotAscii
        );
        assert_eq!(error("udp://t\u{3002}example:80"), UrlError::HostNotAscii);
        assert_eq!(
            TrackerUrl::parse("http://xn--trcker-4nf.example/")
                .unwrap()
                .port(),
            80
        );
        assert_eq!(error(&"x".repeat(3000)), UrlError::TooLong);
    }

    #[test]
    fn loopback_names() {
        for yes in [
            "127.0.0.1",
            "127.9.9.9",
            "[::1]",
            "localhost",
            "LOCALHOST.",
            "[::ffff:127.0.0.1]",
        ] {
            assert!(
                TrackerUrl::parse(&format!("http://{yes}/a"))
                    .unwrap()
                    .names_loopback(),
                "{yes}"
            );
        }
        for no in ["128.0.0.1", "[::2]", "localhost.example", "t.example"] {
            assert!(
                !TrackerUrl::parse(&format!("http://{no}/a"))
                    .unwrap()
                    .names_loopback(),
                "{no}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text: String) {
            for text in [text.clone(), format!("http://{text}"), format!("udp://[{text}")] {
                if let Ok(url) = TrackerUrl::parse(&text) {
                    let _ = (url.path(), url.query(), url.names_loopback(), format!("{url:?}"));
                }
            }
        }
    }
}
