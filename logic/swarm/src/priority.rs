//! Canonical peer priority (BEP 40): both ends of a connection give it the same rank, so that full swarms keep
//! the same connections and stay well meshed, whoever dials most.

use std::net::{IpAddr, SocketAddr};

/// Addresses that peers say they see us at, one of each, that are remembered.
const VOTES_MAX: usize = 16;
/// So many have to agree.
const AGREE_MIN: usize = 2;

/// The rank of a connection between two addresses; the greater one is kept.
#[must_use]
pub(crate) fn priority(a: SocketAddr, b: SocketAddr) -> u32 {
    let (ip_a, ip_b) = (a.ip().to_canonical(), b.ip().to_canonical());
    let (one, other) = match (ip_a, ip_b) {
        _ if ip_a == ip_b => (
            a.port().to_be_bytes().to_vec(),
            b.port().to_be_bytes().to_vec(),
        ),
        (IpAddr::V4(a), IpAddr::V4(b)) => mask(&a.octets(), &b.octets(), 2, 1),
        (IpAddr::V6(a), IpAddr::V6(b)) => mask(&a.octets(), &b.octets(), 6, 1),
        // They never meet.
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return 0,
    };
    let (first, second) = if one <= other {
        (one, other)
    } else {
        (other, one)
    };
    crc32c::crc32c_append(crc32c::crc32c(&first), &second)
}

/// Of the bytes that come after the first `whole`, and after as many more in steps of `step` as the addresses
/// share all before, every second bit counts.
fn mask(a: &[u8], b: &[u8], whole: usize, step: usize) -> (Vec<u8>, Vec<u8>) {
    let mut keep = whole;
    while keep < a.len() && a.get(..keep) == b.get(..keep) {
        keep += step;
    }
    let masked = |bytes: &[u8]| {
        let bytes = bytes.iter().enumerate();
        let bytes = bytes.map(|(at, byte)| if at < keep { *byte } else { byte & 0x55 });
        bytes.collect()
    };
    (masked(a), masked(b))
}

/// What peers say of where we are.
#[derive(Debug, Default)]
pub(crate) struct Seen(Vec<(IpAddr, IpAddr)>);

impl Seen {
    pub(crate) fn vote(&mut self, by: IpAddr, ip: IpAddr) {
        self.0.retain(|(other, _)| *other != by);
        if self.0.len() == VOTES_MAX {
            self.0.remove(0);
        }
        self.0.push((by, ip));
    }

    /// The address of that family that most agree on.
    pub(crate) fn agreed(&self, v4: bool) -> Option<IpAddr> {
        let votes = || {
            self.0
                .iter()
                .map(|(_, ip)| *ip)
                .filter(|ip| ip.is_ipv4() == v4)
        };
        let count = |ip: IpAddr| votes().filter(|other| *other == ip).count();
        let most = votes().max_by_key(|ip| (count(*ip), *ip))?;
        (count(most) >= AGREE_MIN).then_some(most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(a: &str, b: &str) -> u32 {
        priority(a.parse().unwrap(), b.parse().unwrap())
    }

    #[test]
    fn examples_of_bep_40() {
        assert_eq!(of("123.213.32.10:1", "98.76.54.32:2"), 0xec2d_7224);
        assert_eq!(of("98.76.54.32:2", "123.213.32.10:1"), 0xec2d_7224);
        assert_eq!(of("123.213.32.10:1", "123.213.32.234:2"), 0x9956_8189);
    }

    #[test]
    fn neighbours_differ_and_ports_decide_at_one_address() {
        let same = of("198.18.0.1:6881", "198.18.0.1:6882");
        assert_eq!(same, of("198.18.0.1:6882", "198.18.0.1:6881"));
        assert_ne!(same, of("198.18.0.1:6881", "198.18.0.1:6883"));
        assert_ne!(
            of("[2001:2::1]:1", "[2001:2::2]:1"),
            of("[2001:2::1]:1", "[2001:2::3]:1")
        );
        // Far away, every second bit of the host is as good as the other.
        let far = |host: &str| of("[2001:2::1]:1", &format!("[2001:9::{host}]:1"));
        assert_eq!(far("2"), far("8"));
        assert_ne!(far("1"), far("2"));
        assert_eq!(of("198.18.0.1:1", "[2001:2::1]:1"), 0);
    }

    #[test]
    fn one_voice_is_not_enough() {
        let ip = |n| IpAddr::from([198, 18, 0, n]);
        let mut seen = Seen::default();
        seen.vote(ip(1), ip(9));
        seen.vote(ip(1), ip(9));
        assert_eq!(seen.agreed(true), None);
        seen.vote(ip(2), ip(9));
        seen.vote(ip(3), ip(8));
        assert_eq!((seen.agreed(true), seen.agreed(false)), (Some(ip(9)), None));
        for n in 100..100 + VOTES_MAX as u8 {
            seen.vote(ip(n), ip(7));
        }
        assert_eq!(seen.agreed(true), Some(ip(7)));
    }
}
