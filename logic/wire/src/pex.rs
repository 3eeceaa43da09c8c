//! `ut_pex` (BEP 11): peers tell each other whom they are connected to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Peers that one message may add, and drop (BEP 11); what is beyond is not read.
pub const PEX_PEERS_MAX: usize = 50;

/// What is said of a peer that was added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PexFlags(pub u8);

impl PexFlags {
    /// It would rather have its connections encrypted.
    pub const ENCRYPTS: Self = Self(0x01);
    /// It has all that it wants.
    pub const UPLOAD_ONLY: Self = Self(0x02);
    /// It was dialled, so it can be.
    pub const REACHABLE: Self = Self(0x10);

    /// Both sets.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// One message of `ut_pex`: changes since the one before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PexMessage {
    pub added: Vec<(SocketAddr, PexFlags)>,
    pub dropped: Vec<SocketAddr>,
}

/// The payload is no bencoded dictionary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("ut_pex: not a dictionary")]
pub struct PexError;

impl PexMessage {
    /// From the payload of an `extended` message. What is not there or not whole counts as absent, and so
    /// does all beyond [`PEX_PEERS_MAX`].
    ///
    /// # Errors
    /// If it is not a bencoded dictionary.
    pub fn parse(payload: &[u8]) -> Result<Self, PexError> {
        let (value, _) = torr_bencode::parse_prefix(payload).map_err(|_| PexError)?;
        let dict = value.as_dict().ok_or(PexError)?;
        let bytes = |key| dict.bytes(key).unwrap_or_default();
        let flagged = |addrs: Vec<SocketAddr>, flags: &[u8]| {
            let flags = flags.iter().copied().chain(std::iter::repeat(0));
            let pairs = addrs.into_iter().zip(flags.map(PexFlags));
            pairs.collect::<Vec<_>>()
        };
        let mut added = flagged(v4(bytes("added")), bytes("added.f"));
        added.extend(flagged(v6(bytes("added6")), bytes("added6.f")));
        added.truncate(PEX_PEERS_MAX);
        let mut dropped = v4(bytes("dropped"));
        dropped.extend(v6(bytes("dropped6")));
        dropped.truncate(PEX_PEERS_MAX);
        Ok(Self { added, dropped })
    }

    /// The payload of an `extended` message.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut added: [Vec<u8>; 2] = Default::default();
        let mut flags: [Vec<u8>; 2] = Default::default();
        let mut dropped: [Vec<u8>; 2] = Default::default();
        for (addr, flag) in &self.added {
            put(&mut added, *addr);
            let [four, six] = &mut flags;
            let list = if addr.is_ipv4() { four } else { six };
            list.push(flag.0);
        }
        for addr in &self.dropped {
            put(&mut dropped, *addr);
        }
        let ([added4, added6], [flags4, flags6], [dropped4, dropped6]) = (added, flags, dropped);
        torr_bencode::encode_dict(|d| {
            d.bytes("added", added4);
            d.bytes("added.f", flags4);
            d.bytes("added6", added6);
            d.bytes("added6.f", flags6);
            d.bytes("dropped", dropped4);
            d.bytes("dropped6", dropped6);
        })
    }
}

fn put([four, six]: &mut [Vec<u8>; 2], addr: SocketAddr) {
    let list = match addr.ip() {
        IpAddr::V4(ip) => {
            four.extend_from_slice(&ip.octets());
            four
        }
        IpAddr::V6(ip) => {
            six.extend_from_slice(&ip.octets());
            six
        }
    };
    list.extend_from_slice(&addr.port().to_be_bytes());
}

fn v4(bytes: &[u8]) -> Vec<SocketAddr> {
    let (contacts, _) = bytes.as_chunks::<6>();
    let read = |[a, b, c, d, high, low]: [u8; 6]| {
        let ip = Ipv4Addr::new(a, b, c, d);
        SocketAddr::new(ip.into(), u16::from_be_bytes([high, low]))
    };
    let contacts = contacts.iter().take(PEX_PEERS_MAX);
    contacts.map(|contact| read(*contact)).collect()
}

fn v6(bytes: &[u8]) -> Vec<SocketAddr> {
    let (contacts, _) = bytes.as_chunks::<18>();
    let read = |contact: &[u8; 18]| {
        let (ip, port) = contact.split_first_chunk::<16>()?;
        let port = u16::from_be_bytes(port.try_into().ok()?);
        Some(SocketAddr::new(Ipv6Addr::from(*ip).into(), port))
    };
    contacts
        .iter()
        .take(PEX_PEERS_MAX)
        .filter_map(read)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn both_families_both_ways() {
        let message = PexMessage {
            added: vec![
                (addr("198.18.0.1:6881"), PexFlags::REACHABLE),
                (addr("198.18.0.2:80"), PexFlags::default()),
                (
                    addr("[2001:2::1]:51413"),
                    PexFlags::UPLOAD_ONLY.with(PexFlags::REACHABLE),
                ),
            ],
            dropped: vec![addr("198.18.0.3:1"), addr("[2001:2::2]:2")],
        };
        let bytes = message.encode();
        let start = b"d5:added12:\xc6\x12\0\x01\x1a\xe1\xc6\x12\0\x02\0\x507:added.f2:\x10\0";
        assert_eq!(bytes[..start.len()], *start);
        assert_eq!(PexMessage::parse(&bytes), Ok(message));
        let empty = PexMessage::default();
        assert_eq!(PexMessage::parse(&empty.encode()), Ok(empty.clone()));
        assert_eq!(PexMessage::parse(b"de"), Ok(empty));
    }

    #[test]
    fn what_is_missing_or_not_whole_counts_as_absent() {
        let parsed = PexMessage::parse(b"d5:added8:\xc6\x12\0\x01\0\x01xx6:added64:abcde").unwrap();
        assert_eq!(parsed.added, [(addr("198.18.0.1:1"), PexFlags::default())]);
        let parsed = PexMessage::parse(b"d5:addedi7e7:droppedlee");
        assert_eq!(parsed, Ok(PexMessage::default()));
        for bytes in [b"".as_slice(), b"le", b"d5:added"] {
            assert_eq!(PexMessage::parse(bytes), Err(PexError));
        }
    }

    #[test]
    fn no_more_than_fifty_are_read() {
        let many = |base: u16| (0..200).map(move |n| addr(&format!("198.18.0.1:{}", base + n)));
        let message = PexMessage {
            added: many(1_000)
                .map(|addr| (addr, PexFlags::default()))
                .collect(),
            dropped: many(2_000).collect(),
        };
        let read = PexMessage::parse(&message.encode()).unwrap();
        assert_eq!((read.added.len(), read.dropped.len()), (50, 50));
        assert_eq!(read.added[..], message.added[..50]);
    }
}
