//! The filters that scrapes are answered with (BEP 33).

use std::fmt;
use std::net::IpAddr;

use sha1::{Digest as _, Sha1};

/// Bytes of a filter.
pub const BLOOM_LEN: usize = 256;

/// A set of addresses in 2,048 bits of which each address sets two (BEP 33).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Bloom(pub [u8; BLOOM_LEN]);

impl Bloom {
    #[must_use]
    pub const fn new() -> Self {
        Self([0; BLOOM_LEN])
    }

    pub fn insert(&mut self, ip: IpAddr) {
        let hash = match ip {
            IpAddr::V4(ip) => Sha1::digest(ip.octets()),
            IpAddr::V6(ip) => Sha1::digest(ip.octets()),
        };
        let [a, b, c, d, ..] = <[u8; 20]>::from(hash);
        for index in [u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d])] {
            let bit = usize::from(index) % (BLOOM_LEN * 8);
            if let Some(byte) = self.0.get_mut(bit / 8) {
                *byte |= 1 << (bit % 8);
            }
        }
    }

    /// About how many addresses are in it; above some 6,000 it says little.
    #[must_use]
    pub fn estimate(&self) -> f64 {
        let bits = (BLOOM_LEN * 8) as f64;
        let zeros: u32 = self.0.iter().map(|byte| byte.count_zeros()).sum();
        let zeros = f64::from(zeros).clamp(1.0, bits - 1.0);
        (zeros / bits).ln() / (2.0 * (1.0 - 1.0 / bits).ln())
    }

    /// Takes in all that `other` holds.
    pub fn merge(&mut self, other: &Self) {
        for (to, from) in self.0.iter_mut().zip(other.0) {
            *to |= from;
        }
    }
}

impl Default for Bloom {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Bloom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bloom(about {:.0})", self.estimate())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    #[test]
    fn the_test_vector_of_bep_33() {
        let mut filter = Bloom::new();
        for last in 0..=255 {
            filter.insert(Ipv4Addr::new(192, 0, 2, last).into());
        }
        for last in 0..=0x3e7 {
            filter.insert(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last).into());
        }
        let text = torr_base::hex(&filter.0).to_string();
        assert!(
            text.starts_with("f6c3f5eaa07ffd91bde89f777f26fb2bff37bdb8fb2bbaa2fd3ddde7bacfff75")
        );
        assert!(text.ends_with("fd8f72ef"));
        assert!((filter.estimate() - 1224.9308).abs() < 0.001);
        let mut both = Bloom::new();
        both.merge(&filter);
        assert_eq!(both, filter);
    }
}
