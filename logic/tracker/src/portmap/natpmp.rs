//! The packets of NAT-PMP (RFC 6886), which gateways speak that do not know PCP.

use std::net::Ipv4Addr;

use super::Protocol;

pub(super) const VERSION: u8 = 0;
const ANSWER: u8 = 128;
const ADDRESS: u8 = 0;
const UDP: u8 = 1;
const TCP: u8 = 2;

/// "What is your address outside?" (section 3.2)
pub const ADDRESS_REQUEST: [u8; 2] = [VERSION, ADDRESS];

/// Asks for a mapping (section 3.3). `external`: the port that would be liked. `lifetime`: seconds; 0 takes the
/// mapping back, and then `external` has to be 0.
#[must_use]
pub fn map_request(protocol: Protocol, internal: u16, external: u16, lifetime: u32) -> [u8; 12] {
    let opcode = match protocol {
        Protocol::Udp => UDP,
        Protocol::Tcp => TCP,
    };
    let ([i0, i1], [x0, x1]) = (internal.to_be_bytes(), external.to_be_bytes());
    let [l0, l1, l2, l3] = lifetime.to_be_bytes();
    [VERSION, opcode, 0, 0, i0, i1, x0, x1, l0, l1, l2, l3]
}

/// What comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Result 1: the packet was of another version, which is how old gateways answer PCP.
    OtherVersion,
    /// Not 0, to the question for the address or (with a protocol) for a mapping; see [`reason`].
    Refused(Option<Protocol>, u16),
    /// `epoch`: seconds since the gateway lost its mappings.
    Address { epoch: u32, address: Ipv4Addr },
    Map {
        epoch: u32,
        protocol: Protocol,
        internal: u16,
        external: u16,
        /// Seconds.
        lifetime: u32,
    },
}

impl Answer {
    /// `None` for what is none.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let ([version, opcode, r0, r1], rest) = bytes.split_first_chunk::<4>()?;
        let opcode = opcode.checked_sub(ANSWER)?;
        if *version != VERSION {
            return None;
        }
        let protocol = match opcode {
            UDP => Some(Protocol::Udp),
            TCP => Some(Protocol::Tcp),
            _ => None,
        };
        match u16::from_be_bytes([*r0, *r1]) {
            0 => {}
            1 => return Some(Self::OtherVersion),
            result if protocol.is_some() || opcode == ADDRESS => {
                return Some(Self::Refused(protocol, result));
            }
            _ => return None,
        }
        let (epoch, rest) = rest.split_first_chunk::<4>()?;
        let epoch = u32::from_be_bytes(*epoch);
        if opcode == ADDRESS {
            let address = Ipv4Addr::from(*rest.first_chunk::<4>()?);
            return Some(Self::Address { epoch, address });
        }
        let [i0, i1, x0, x1, l0, l1, l2, l3] = *rest.first_chunk::<8>()?;
        Some(Self::Map {
            epoch,
            protocol: protocol?,
            internal: u16::from_be_bytes([i0, i1]),
            external: u16::from_be_bytes([x0, x1]),
            lifetime: u32::from_be_bytes([l0, l1, l2, l3]),
        })
    }
}

/// What a result says (section 3.5), for people.
#[must_use]
pub fn reason(result: u16) -> &'static str {
    match result {
        0 => "it agrees",
        1 => "it speaks another version",
        2 => "it does not allow it",
        3 => "it has no connection",
        4 => "it has no room for more mappings",
        5 => "it cannot map ports",
        _ => "it refuses",
    }
}
