//! Addresses of nodes: families, prefixes, compact form, and which ones may be asked.

use std::net::{IpAddr, SocketAddr};

use crate::NodeId;

/// One of the two networks of BEP 32; each has nodes, ids and a table of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    /// The family of a canonical address: a mapped IPv4 address is IPv4.
    #[must_use]
    pub fn of(addr: SocketAddr) -> Self {
        match addr.ip().to_canonical() {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// Bytes of a peer in compact form (BEP 5, BEP 32); a node has 20 more for its id.
    #[must_use]
    pub const fn peer_len(self) -> usize {
        match self {
            Self::V4 => 6,
            Self::V6 => 18,
        }
    }

    pub(crate) const fn other(self) -> Self {
        match self {
            Self::V4 => Self::V6,
            Self::V6 => Self::V4,
        }
    }

    pub(crate) const fn index(self) -> usize {
        match self {
            Self::V4 => 0,
            Self::V6 => 1,
        }
    }
}

/// A node as others name it: an id and where it is said to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Contact {
    pub id: NodeId,
    pub addr: SocketAddr,
}

/// The network that an address belongs to: /24 of IPv4, /64 of IPv6. Whoever has one address of it may
/// be taken to have all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Prefix(u64);

impl Prefix {
    /// `None` for loopback, private and link-local addresses, where many nodes may share one.
    pub(crate) fn of(addr: SocketAddr) -> Option<Self> {
        let ip = addr.ip().to_canonical();
        (!is_local(ip)).then(|| Self(high_bits(ip)))
    }

    /// As [`Self::of`], with every local socket address as a network of its own.
    pub(crate) fn or_address(addr: SocketAddr) -> Self {
        Self::of(addr).unwrap_or_else(|| {
            let low = match addr.ip().to_canonical() {
                IpAddr::V4(ip) => u64::from(u32::from(ip)),
                // The top bits of local IPv6 addresses say nothing.
                IpAddr::V6(ip) => (u128::from(ip) as u64).rotate_left(16),
            };
            Self((low << 16 | u64::from(addr.port())) ^ u64::MAX)
        })
    }

    pub(crate) const fn get(self) -> u64 {
        self.0
    }
}

/// IPv4 networks are below 2^24, where no IPv6 network in use is.
fn high_bits(ip: IpAddr) -> u64 {
    match ip {
        IpAddr::V4(ip) => u64::from(u32::from(ip) >> 8),
        IpAddr::V6(ip) => (u128::from(ip) >> 64) as u64,
    }
}

/// Loopback, private, shared and link-local ranges: exempt from BEP 42 and from limits by prefix.
pub(crate) fn is_local(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            ip.is_loopback()
                || ip.is_private()
                || ip.is_link_local()
                || (a == 100 && b & 0xc0 == 64)
        }
        IpAddr::V6(ip) => {
            let first = ip.segments()[0];
            ip.is_loopback() || first & 0xfe00 == 0xfc00 || first & 0xffc0 == 0xfe80
        }
    }
}

/// Whether a datagram or a connection could go there at all.
pub(crate) fn is_possible(addr: SocketAddr) -> bool {
    let host = match addr.ip().to_canonical() {
        IpAddr::V4(ip) => {
            let first = ip.octets()[0];
            first != 0 && first < 224
        }
        IpAddr::V6(ip) => !ip.is_unspecified() && !ip.is_multicast(),
    };
    host && addr.port() != 0
}

/// Whether what `by` says may make us send something to `addr`: strangers may not point into our own
/// network.
pub(crate) fn may_name(by: SocketAddr, addr: SocketAddr) -> bool {
    is_possible(addr) && (!is_local(addr.ip()) || is_local(by.ip()))
}

/// The same address with a mapped IPv4 one as IPv4.
pub(crate) fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// 6 or 18 bytes as an address; `None` for any other number of them.
pub(crate) fn read_peer(bytes: &[u8]) -> Option<SocketAddr> {
    let (ip, port) = bytes.split_last_chunk::<2>()?;
    let ip = match ip.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(ip).ok()?),
        16 => IpAddr::from(<[u8; 16]>::try_from(ip).ok()?),
        _ => return None,
    };
    Some(canonical(SocketAddr::new(ip, u16::from_be_bytes(*port))))
}

/// 26 or 38 bytes as a node.
pub(crate) fn read_node(bytes: &[u8]) -> Option<Contact> {
    let (id, addr) = bytes.split_first_chunk::<20>()?;
    Some(Contact {
        id: NodeId(*id),
        addr: read_peer(addr)?,
    })
}

/// Appends 6 or 18 bytes.
pub(crate) fn push_peer(out: &mut Vec<u8>, addr: SocketAddr) {
    match addr.ip() {
        IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
        IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
    }
    out.extend_from_slice(&addr.port().to_be_bytes());
}

/// Appends 26 or 38 bytes.
pub(crate) fn push_node(out: &mut Vec<u8>, node: Contact) {
    out.extend_from_slice(&node.id.0);
    push_peer(out, node.addr);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn neighbours_share_a_prefix_unless_they_are_local() {
        assert_eq!(Prefix::of(at("9.8.7.6:1")), Prefix::of(at("9.8.7.200:9")));
        assert_ne!(Prefix::of(at("9.8.7.6:1")), Prefix::of(at("9.8.8.6:1")));
        let six = |text| Prefix::of(at(text));
        assert_eq!(six("[2a01:1:2:3::4]:1"), six("[2a01:1:2:3:9::]:2"));
        assert_ne!(six("[2a01:1:2:3::4]:1"), six("[2a01:1:2:4::4]:1"));
        for local in [
            "127.0.0.1:1",
            "10.1.2.3:1",
            "100.64.0.1:1",
            "[fe80::1]:1",
            "[fd00::1]:1",
            "[::1]:1",
        ] {
            assert_eq!(Prefix::of(at(local)), None, "{local}");
        }
        let own = |text| Prefix::or_address(at(text));
        assert_ne!(own("127.0.0.1:1"), own("127.0.0.1:2"));
        assert_eq!(own("127.0.0.1:1"), own("127.0.0.1:1"));
    }

    #[test]
    fn strangers_do_not_point_into_our_network() {
        let (far, near) = (at("9.8.7.6:1"), at("192.168.1.9:1"));
        assert!(may_name(near, far) && may_name(near, near) && may_name(far, far));
        assert!(!may_name(far, near));
        for never in [
            "0.1.2.3:4",
            "224.0.0.1:4",
            "255.255.255.255:4",
            "9.8.7.6:0",
            "[::]:4",
            "[ff02::1]:4",
        ] {
            assert!(!may_name(near, at(never)), "{never}");
        }
    }

    #[test]
    fn compact_there_and_back() {
        for text in ["9.8.7.6:513", "[2a01:1:2:3::4]:65535"] {
            let node = Contact {
                id: NodeId([7; 20]),
                addr: at(text),
            };
            let mut bytes = Vec::new();
            push_node(&mut bytes, node);
            assert_eq!(bytes.len(), 20 + Family::of(node.addr).peer_len());
            assert_eq!(read_node(&bytes), Some(node));
            assert_eq!(read_node(&bytes[1..]), None);
        }
        assert_eq!(read_peer(&[]), None);
    }
}
