//! What a node keeps between two runs: its ids, where it was seen, and nodes to start from.
//!
//! ```text
//! "torrdht1" | IPv4: id 20, address 4, count 2, nodes of 26 | IPv6: id 20, address 16, count 2, nodes of 38 | CRC32C 4
//! ```
//!
//! Numbers are big-endian; an address of zeros is none. Anything else is not taken.
#![warn(clippy::indexing_slicing)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::addr::{Contact, Family, is_possible, push_node, read_node};
use crate::id::NodeId;

/// Nodes of each family.
pub(crate) const NODES_MAX: usize = 300;
const MAGIC: &[u8; 8] = b"torrdht1";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SavedSide {
    pub(crate) id: Option<NodeId>,
    pub(crate) external: Option<IpAddr>,
    pub(crate) nodes: Vec<Contact>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Saved {
    /// IPv4, IPv6.
    pub(crate) sides: [SavedSide; 2],
}

impl Saved {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        for (side, family) in self.sides.iter().zip([Family::V4, Family::V6]) {
            out.extend_from_slice(&side.id.unwrap_or(NodeId([0; 20])).0);
            match (family, side.external) {
                (Family::V4, Some(IpAddr::V4(ip))) => out.extend_from_slice(&ip.octets()),
                (Family::V4, _) => out.extend_from_slice(&[0; 4]),
                (Family::V6, Some(IpAddr::V6(ip))) => out.extend_from_slice(&ip.octets()),
                (Family::V6, _) => out.extend_from_slice(&[0; 16]),
            }
            let nodes = side.nodes.iter().filter(|it| Family::of(it.addr) == family);
            let nodes: Vec<_> = nodes.take(NODES_MAX).collect();
            let count = u16::try_from(nodes.len()).unwrap_or(0);
            out.extend_from_slice(&count.to_be_bytes());
            nodes.into_iter().for_each(|it| push_node(&mut out, *it));
        }
        let sum = crc32c::crc32c(&out);
        out.extend_from_slice(&sum.to_be_bytes());
        out
    }

    /// `None` for what no [`Self::encode`] made.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, sum) = bytes.split_last_chunk::<4>()?;
        if crc32c::crc32c(body) != u32::from_be_bytes(*sum) {
            return None;
        }
        let rest = body.strip_prefix(MAGIC)?;
        let (four, rest) = read_side(rest, Family::V4)?;
        let (six, rest) = read_side(rest, Family::V6)?;
        rest.is_empty().then_some(Self { sides: [four, six] })
    }
}

fn read_side(bytes: &[u8], family: Family) -> Option<(SavedSide, &[u8])> {
    let (id, rest) = bytes.split_first_chunk::<20>()?;
    let (external, rest) = match family {
        Family::V4 => {
            let (ip, rest) = rest.split_first_chunk::<4>()?;
            (IpAddr::V4(Ipv4Addr::from(*ip)), rest)
        }
        Family::V6 => {
            let (ip, rest) = rest.split_first_chunk::<16>()?;
            (IpAddr::V6(Ipv6Addr::from(*ip)), rest)
        }
    };
    let (count, rest) = rest.split_first_chunk::<2>()?;
    let count = usize::from(u16::from_be_bytes(*count));
    let stride = 20 + family.peer_len();
    if count > NODES_MAX {
        return None;
    }
    let (nodes, rest) = rest.split_at_checked(count * stride)?;
    let nodes = nodes.chunks_exact(stride).filter_map(read_node);
    let nodes = nodes.filter(|it| is_possible(it.addr) && Family::of(it.addr) == family);
    let side = SavedSide {
        id: (*id != [0; 20]).then_some(NodeId(*id)),
        external: (!external.is_unspecified()).then_some(external),
        nodes: nodes.collect(),
    };
    Some((side, rest))
}

/// Whether that is a table as it was saved; another one is of no use to [`crate::Dht::new`].
#[must_use]
pub fn is_saved_table(bytes: &[u8]) -> bool {
    Saved::decode(bytes).is_some()
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;
    use torr_base::Rng;

    fn filled(seed: u64) -> Saved {
        let mut rng = Rng::new(seed);
        let mut saved = Saved::default();
        for (side, family) in saved.sides.iter_mut().zip([Family::V4, Family::V6]) {
            let mut id = [0; 20];
            rng.fill(&mut id);
            side.id = Some(NodeId(id));
            let addr = |rng: &mut Rng| {
                let mut ip = [0x20; 16];
                rng.fill(&mut ip[2..]);
                let ip = match family {
                    Family::V4 => IpAddr::from([60, ip[5], ip[6], ip[7]]),
                    Family::V6 => IpAddr::from(ip),
                };
                std::net::SocketAddr::new(ip, 1 + rng.below(60_000) as u16)
            };
            side.external = rng.one_in(2).then(|| addr(&mut rng).ip());
            for _ in 0..rng.below(301) {
                rng.fill(&mut id);
                side.nodes.push(Contact {
                    id: NodeId(id),
                    addr: addr(&mut rng),
                });
            }
        }
        saved
    }

    #[test]
    fn there_and_back() {
        for seed in 0..20 {
            let saved = filled(seed);
            let bytes = saved.encode();
            assert!(bytes.len() <= 8 + 2 * 22 + 20 + 300 * (26 + 38) + 4);
            assert_eq!(Saved::decode(&bytes), Some(saved));
        }
        assert_eq!(
            Saved::decode(&Saved::default().encode()),
            Some(Saved::default())
        );
    }

    #[test]
    fn anything_else_is_nothing() {
        let bytes = filled(3).encode();
        for n in 0..bytes.len() {
            assert_eq!(Saved::decode(&bytes[..n]), None);
        }
        for n in (0..bytes.len()).step_by(7) {
            let mut torn = bytes.clone();
            torn[n] ^= 0x10;
            assert_eq!(Saved::decode(&torn), None);
        }
        // A right checksum over too many nodes.
        let mut many = MAGIC.to_vec();
        many.extend([1; 24]);
        many.extend(301_u16.to_be_bytes());
        many.extend([1; 301 * 26]);
        many.extend([0; 38]);
        many.extend(crc32c::crc32c(&many).to_be_bytes());
        assert_eq!(Saved::decode(&many), None);
    }
}
