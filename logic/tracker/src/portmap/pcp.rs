//! The packets of the Port Control Protocol (RFC 6887), of which MAP is all that is used.
//!
//! ```text
//!  0 version 2 | R and opcode | reserved, or result | lifetime | client's address, or epoch and nothing
//! 24 nonce (12) | protocol | nothing (3) | internal port | external port | external address (16)
//! ```

use std::net::{Ipv4Addr, Ipv6Addr};

use super::Protocol;

pub(super) const VERSION: u8 = 2;
const MAP: u8 = 1;
const ANSWER: u8 = 0x80;
const HEADER_LEN: usize = 24;
const MAP_LEN: usize = HEADER_LEN + 36;
/// RFC 6887 section 7: no packet is longer.
const PACKET_LEN_MAX: usize = 1_100;

/// What a MAP request says (section 11.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapRequest {
    /// Where the packet leaves from: the gateway compares.
    pub client: Ipv4Addr,
    pub nonce: [u8; 12],
    pub protocol: Protocol,
    pub internal: u16,
    /// What would be liked; 0 and 0.0.0.0 for whatever there is.
    pub external: (Ipv4Addr, u16),
    /// Seconds; 0 takes the mapping back.
    pub lifetime: u32,
}

/// What comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapAnswer {
    /// The gateway does not speak this version (result 1).
    OtherVersion,
    Map {
        /// 0 is success; see [`reason`].
        result: u8,
        /// Seconds; where it failed, how long it will go on failing.
        lifetime: u32,
        /// Seconds since the gateway lost its mappings.
        epoch: u32,
        nonce: [u8; 12],
        protocol: Protocol,
        internal: u16,
        external: (Ipv4Addr, u16),
    },
}

impl MapRequest {
    #[must_use]
    pub fn encode(&self) -> [u8; MAP_LEN] {
        let mut packet = [0; MAP_LEN];
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            if let Some(place) = packet.get_mut(at..at + bytes.len()) {
                place.copy_from_slice(bytes);
            }
            at += bytes.len();
        };
        put(&[VERSION, MAP, 0, 0]);
        put(&self.lifetime.to_be_bytes());
        put(&self.client.to_ipv6_mapped().octets());
        put(&self.nonce);
        put(&[self.protocol.number(), 0, 0, 0]);
        put(&self.internal.to_be_bytes());
        put(&self.external.1.to_be_bytes());
        put(&self.external.0.to_ipv6_mapped().octets());
        packet
    }
}

impl MapAnswer {
    /// `None` for what is no answer to a MAP request for IPv4.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > PACKET_LEN_MAX {
            return None;
        }
        let (header, rest) = bytes.split_first_chunk::<HEADER_LEN>()?;
        let [
            version,
            opcode,
            _,
            result,
            l0,
            l1,
            l2,
            l3,
            e0,
            e1,
            e2,
            e3,
            ..,
        ] = *header;
        if opcode & ANSWER == 0 {
            return None;
        }
        // Of whatever version the gateway has, and with whatever it sends after the header (section 9).
        if result == 1 {
            return Some(Self::OtherVersion);
        }
        if version != VERSION || opcode != ANSWER | MAP {
            return None;
        }
        let (nonce, rest) = rest.split_first_chunk::<12>()?;
        let ([protocol, _, _, _, i0, i1, x0, x1], rest) = rest.split_first_chunk::<8>()?;
        let external = Ipv6Addr::from(*rest.first_chunk::<16>()?);
        Some(Self::Map {
            result,
            lifetime: u32::from_be_bytes([l0, l1, l2, l3]),
            epoch: u32::from_be_bytes([e0, e1, e2, e3]),
            nonce: *nonce,
            protocol: Protocol::of(*protocol)?,
            internal: u16::from_be_bytes([*i0, *i1]),
            external: (
                // What a failure says here means nothing.
                external.to_ipv4_mapped().or_else(|| {
                    let none = result != 0 || external.is_unspecified();
                    none.then_some(Ipv4Addr::UNSPECIFIED)
                })?,
                u16::from_be_bytes([*x0, *x1]),
            ),
        })
    }
}

/// What a result says (section 7.4), for people.
#[must_use]
pub fn reason(result: u8) -> &'static str {
    match result {
        0 => "it agrees",
        1 => "it speaks another version",
        2 => "it does not allow it",
        3 | 6 => "it did not understand the question",
        4 | 5 => "it cannot map ports",
        7 => "it has no connection",
        8 => "it has no room for more mappings",
        9 => "it does not map this protocol",
        10 => "this machine has too many mappings",
        11 => "the port is taken",
        12 => "the question came through another gateway",
        _ => "it refuses",
    }
}
