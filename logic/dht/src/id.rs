//! Node ids: distances (BEP 5), and which id an address may have (BEP 42).

use std::fmt;
use std::net::IpAddr;

use torr_base::InfoHash;

use crate::addr::is_local;

/// Where a node stands among the 160-bit keys (BEP 5).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub [u8; 20]);

/// The exclusive or of two ids; smaller is closer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Distance(pub(crate) [u8; 20]);

impl Distance {
    /// Farther than every id: for nodes whose id is not known yet.
    pub(crate) const UNKNOWN: Self = Self([0xff; 20]);
}

/// The bits of the checksum that BEP 42 wants in an id.
const CHECKED_BITS: u32 = 0xffff_f800;

impl NodeId {
    #[must_use]
    pub fn distance(self, other: Self) -> Distance {
        let mut out = [0; 20];
        for ((to, a), b) in out.iter_mut().zip(self.0).zip(other.0) {
            *to = a ^ b;
        }
        Distance(out)
    }

    /// How many leading bits both have in common: 0 to 160.
    #[must_use]
    pub fn shared_bits(self, other: Self) -> usize {
        let mut bits = 0;
        for (a, b) in self.0.into_iter().zip(other.0) {
            let same = (a ^ b).leading_zeros() as usize;
            bits += same;
            if same < 8 {
                break;
            }
        }
        bits
    }

    /// Whether a node at `ip` may have this id (BEP 42); true for local addresses, which are exempt.
    #[must_use]
    pub fn fits(self, ip: IpAddr) -> bool {
        let [a, b, c, d, .., last] = self.0;
        is_local(ip) || (u32::from_be_bytes([a, b, c, d]) ^ checksum(ip, last)) & CHECKED_BITS == 0
    }

    /// `random` with the bits that BEP 42 wants for a node at `ip`.
    #[must_use]
    pub fn for_ip(ip: IpAddr, random: [u8; 20]) -> Self {
        let mut id = random;
        let [a, b, c, _, .., last] = &mut id;
        let sum = (checksum(ip, *last) & CHECKED_BITS).to_be_bytes();
        let [sa, sb, sc, _] = sum;
        (*a, *b, *c) = (sa, sb, sc | (*c & 0x07));
        Self(id)
    }

    /// An id that shares exactly `bits` leading bits with this one (all, for 160), the rest as in `random`.
    #[must_use]
    pub fn sharing(self, bits: usize, random: [u8; 20]) -> Self {
        let mut out = random;
        for (i, (to, own)) in out.iter_mut().zip(self.0).enumerate() {
            let kept = bits.saturating_sub(i * 8);
            match kept {
                8.. => *to = own,
                kept if i * 8 <= bits => {
                    // `kept` bits as they are, then one that differs, then chance.
                    let keep = !(0xff_u8 >> kept);
                    let flip = 0x80_u8 >> kept;
                    *to = (own & keep) | (!own & flip) | (*to & !keep & !flip);
                }
                _ => {}
            }
        }
        Self(out)
    }
}

impl From<InfoHash> for NodeId {
    fn from(hash: InfoHash) -> Self {
        Self(hash.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({})", torr_base::hex(&self.0))
    }
}

/// CRC32C over the masked address; the low three bits of `last` are the choice that one address has.
fn checksum(ip: IpAddr, last: u8) -> u32 {
    let choice = (last & 7) << 5;
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let mut part = (u32::from(ip) & 0x030f_3fff).to_be_bytes();
            part[0] |= choice;
            crc32c::crc32c(&part)
        }
        IpAddr::V6(ip) => {
            let high = (u128::from(ip) >> 64) as u64;
            let mut part = (high & 0x0103_070f_1f3f_7fff).to_be_bytes();
            part[0] |= choice;
            crc32c::crc32c(&part)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use torr_base::Rng;

    fn id(hex: &str) -> NodeId {
        NodeId(InfoHash::from_hex(hex).unwrap().0)
    }

    #[test]
    fn the_examples_of_bep_42() {
        let table = [
            ("124.31.75.21", "5fbfbff10c5d6a4ec8a88e4c6ab4c28b95eee401"),
            ("21.75.31.124", "5a3ce9c14e7a08645677bbd1cfe7d8f956d53256"),
            ("65.23.51.170", "a5d43220bc8f112a3d426c84764f8c2a1150e616"),
            ("84.124.73.14", "1b0321dd1bb1fe518101ceef99462b947a01ff41"),
            ("43.213.53.83", "e56f6cbf5b7c4be0237986d5243b87aa6d51305a"),
        ];
        for (ip, text) in table {
            let (ip, id): (IpAddr, _) = (ip.parse().unwrap(), id(text));
            assert!(id.fits(ip), "{ip}");
            assert_eq!(NodeId::for_ip(ip, id.0), id);
            let mut wrong = id;
            wrong.0[2] ^= 0x08;
            assert!(!wrong.fits(ip));
            assert!(wrong.fits("192.168.0.1".parse().unwrap()));
        }
    }

    #[test]
    fn made_ids_fit_and_one_address_has_eight_places() {
        let mut rng = Rng::new(1);
        for ip in ["9.8.7.6", "2a01:1:2:3::4"] {
            let ip: IpAddr = ip.parse().unwrap();
            let mut places = std::collections::BTreeSet::new();
            for _ in 0..200 {
                let mut random = [0; 20];
                rng.fill(&mut random);
                let id = NodeId::for_ip(ip, random);
                assert!(id.fits(ip));
                places.insert((id.0[0], id.0[1], id.0[2] & 0xf8));
            }
            assert_eq!(places.len(), 8);
        }
    }

    #[test]
    fn sharing_shares_exactly_that_many_bits() {
        let mut rng = Rng::new(2);
        let own = id("5fbfbff10c5d6a4ec8a88e4c6ab4c28b95eee401");
        for bits in 0..160 {
            let mut random = [0; 20];
            rng.fill(&mut random);
            assert_eq!(own.sharing(bits, random).shared_bits(own), bits);
        }
        assert_eq!(own.sharing(160, [0; 20]), own);
        assert_eq!(own.shared_bits(own), 160);
    }

    #[test]
    fn distance_orders_by_the_highest_bit_that_differs() {
        let (a, mut b, mut c) = (NodeId([0; 20]), NodeId([0; 20]), NodeId([0; 20]));
        b.0[19] = 0xff;
        c.0[0] = 1;
        assert!(a.distance(a) < a.distance(b) && a.distance(b) < a.distance(c));
        assert!(a.distance(c) < Distance::UNKNOWN);
    }
}
