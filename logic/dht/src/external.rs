//! Where others see us (BEP 42): one answer proves nothing, several from different networks do.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use crate::addr::{Prefix, is_local};

/// The last votes that are kept.
const VOTES_MAX: usize = 16;
/// Votes for one address before it counts.
const AGREED_MIN: usize = 5;

#[derive(Clone, Debug, Default)]
pub(crate) struct Votes {
    votes: VecDeque<(Prefix, IpAddr)>,
}

impl Votes {
    /// Takes in what an answer from `from` says; the address that five networks and three of four
    /// voters agree on, if there is one.
    pub(crate) fn add(&mut self, from: SocketAddr, ip: IpAddr) -> Option<IpAddr> {
        let ip = ip.to_canonical();
        let voter = Prefix::or_address(from);
        // Whoever sits in our own network sees us from inside.
        if is_local(ip) || is_local(from.ip()) || ip.is_ipv4() != from.ip().is_ipv4() {
            return None;
        }
        self.votes.retain(|(prefix, _)| *prefix != voter);
        if self.votes.len() >= VOTES_MAX {
            self.votes.pop_front();
        }
        self.votes.push_back((voter, ip));
        let agreed = self.votes.iter().filter(|(_, voted)| *voted == ip).count();
        (agreed >= AGREED_MIN && agreed * 4 >= self.votes.len() * 3).then_some(ip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(n: u8) -> SocketAddr {
        SocketAddr::from(([60, n, 1, 1], 6881))
    }

    fn ip(n: u8) -> IpAddr {
        IpAddr::from([9, 9, 9, n])
    }

    #[test]
    fn five_networks_must_agree() {
        let mut votes = Votes::default();
        for _ in 0..10 {
            assert_eq!(votes.add(from(1), ip(1)), None, "one voter, one vote");
        }
        for n in 2..5 {
            assert_eq!(votes.add(from(n), ip(1)), None);
        }
        assert_eq!(votes.add(from(5), ip(1)), Some(ip(1)));
        for n in 6..8 {
            assert_eq!(votes.add(from(n), ip(2)), None, "liars stay few");
        }
        assert_eq!(votes.add(from(8), ip(1)), Some(ip(1)));
    }

    #[test]
    fn a_change_wins_when_the_old_votes_are_few() {
        let mut votes = Votes::default();
        for n in 0..16 {
            votes.add(from(n), ip(1));
        }
        let won = (16..32).position(|n| votes.add(from(n), ip(2)) == Some(ip(2)));
        assert_eq!(won, Some(11), "twelve of sixteen");
    }

    #[test]
    fn local_addresses_neither_vote_nor_win() {
        let mut votes = Votes::default();
        for n in 0..20 {
            let local = SocketAddr::from(([192, 168, 1, n], 6881));
            assert_eq!(votes.add(local, ip(1)), None);
            assert_eq!(votes.add(from(n), IpAddr::from([10, 0, 0, 1])), None);
        }
    }
}
