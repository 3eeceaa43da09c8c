//! Who sent wrong data (G16).
//!
//! A piece that fails its hash and came from one peer convicts that peer. One that came from several is
//! fetched again from a single peer; when it then passes, the digests of its blocks are compared with
//! those of the failed attempt, and whoever sent a block that differs is convicted. Nobody is convicted
//! on suspicion; until it is settled, who may be guilty gets pieces of its own, as does a newcomer, so that
//! the next one that fails came from one peer.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};

use torr_base::{PeerId, PieceIndex, is_near};
use torr_store::Digest;

use crate::action::{PeerKey, Source};

/// Failed attempts kept for one piece: two retries and the first.
const ATTEMPTS_MAX: usize = 3;
/// Peers that a piece is not left to again; the oldest gets its second chance then.
const SLOW_MAX: usize = 16;
/// Peers that left and may still be found guilty.
const DEPARTED_MAX: usize = 1_000;
/// Banned addresses; the oldest is forgotten.
const BANNED_MAX: usize = 10_000;

#[derive(Debug)]
struct Attempt {
    /// Who sent each block; `None` for blocks of an earlier run.
    senders: Vec<Option<Source>>,
    digests: Vec<Digest>,
}

impl Attempt {
    /// Each once.
    fn senders(&self) -> BTreeSet<Source> {
        self.senders.iter().flatten().copied().collect()
    }
}

#[derive(Debug, Default)]
struct Suspicion {
    attempts: Vec<Attempt>,
    /// It was left to them, and they took too long: who never answers must not get it each time.
    slow: VecDeque<Source>,
}

#[derive(Debug, Default)]
pub(crate) struct Blame {
    suspicions: BTreeMap<PieceIndex, Suspicion>,
    /// In how many of their attempts each has a part.
    suspects: BTreeMap<Source, u32>,
    departed: VecDeque<(PeerKey, SocketAddr, PeerId)>,
    banned: BTreeSet<Banned>,
    order: VecDeque<Banned>,
}

/// One peer at an address; the address as a whole once a second one there was caught, since behind it may
/// be many, or one that takes a new id. Never so on loopback and private ranges, which many share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Banned {
    Ip(IpAddr),
    Peer(IpAddr, PeerId),
}

impl Blame {
    /// Whether the piece failed before: its blocks' digests are wanted, and it is fetched from one peer.
    pub(crate) fn is_suspect(&self, piece: PieceIndex) -> bool {
        self.suspicions.contains_key(&piece)
    }

    /// Whether no piece is suspect.
    pub(crate) fn is_calm(&self) -> bool {
        self.suspicions.is_empty()
    }

    /// Whether that one has a part in a piece that failed, and it is not known yet who is guilty.
    pub(crate) fn suspects(&self, source: Source) -> bool {
        self.suspects.contains_key(&source)
    }

    fn forget(&mut self, attempt: &Attempt) {
        for sender in attempt.senders() {
            if let Some(count) = self.suspects.get_mut(&sender) {
                *count -= 1;
                if *count == 0 {
                    self.suspects.remove(&sender);
                }
            }
        }
    }

    /// Whether the piece was left to that peer before, in vain.
    pub(crate) fn was_slow(&self, piece: PieceIndex, key: Source) -> bool {
        let suspicion = self.suspicions.get(&piece);
        suspicion.is_some_and(|suspicion| suspicion.slow.contains(&key))
    }

    /// The piece was left to that peer, which took too long.
    pub(crate) fn too_slow(&mut self, piece: PieceIndex, key: Source) {
        if let Some(suspicion) = self.suspicions.get_mut(&piece) {
            if suspicion.slow.len() == SLOW_MAX {
                suspicion.slow.pop_front();
            }
            suspicion.slow.push_back(key);
        }
    }

    /// A piece failed. The one peer that must be guilty, if there is one.
    pub(crate) fn failed(
        &mut self,
        piece: PieceIndex,
        senders: Vec<Option<Source>>,
        digests: Vec<Digest>,
    ) -> Option<Source> {
        if let Some(Some(first)) = senders.first().copied()
            && senders.iter().all(|sender| *sender == Some(first))
        {
            return Some(first);
        }
        let attempt = Attempt { senders, digests };
        for sender in attempt.senders() {
            *self.suspects.entry(sender).or_default() += 1;
        }
        let attempts = &mut self.suspicions.entry(piece).or_default().attempts;
        attempts.push(attempt);
        if attempts.len() > ATTEMPTS_MAX {
            let oldest = attempts.remove(0);
            self.forget(&oldest);
        }
        None
    }

    /// A piece passed with these digests: the peers that earlier sent something else in its place.
    pub(crate) fn passed(&mut self, piece: PieceIndex, right: &[Digest]) -> Vec<Source> {
        let attempts = self.suspicions.remove(&piece).unwrap_or_default().attempts;
        let mut guilty = BTreeSet::new();
        for attempt in attempts {
            self.forget(&attempt);
            if attempt.digests.len() != right.len() {
                continue;
            }
            let blocks = attempt.digests.iter().zip(right).zip(&attempt.senders);
            guilty.extend(
                blocks
                    .filter(|((was, is), _)| was != is)
                    .filter_map(|(_, by)| *by),
            );
        }
        guilty.into_iter().collect()
    }

    /// A peer left; it may still be found guilty.
    pub(crate) fn remember(&mut self, key: PeerKey, addr: SocketAddr, id: PeerId) {
        if self.departed.len() == DEPARTED_MAX {
            self.departed.pop_front();
        }
        self.departed.push_back((key, addr, id));
    }

    pub(crate) fn departed(&self, key: PeerKey) -> Option<(SocketAddr, PeerId)> {
        let entry = self.departed.iter().find(|(k, _, _)| *k == key);
        entry.map(|(_, addr, id)| (*addr, *id))
    }

    pub(crate) fn ban(&mut self, ip: IpAddr, id: PeerId) {
        let first = Banned::Peer(ip, PeerId([0; 20]));
        let mut caught = self
            .banned
            .range(first..=Banned::Peer(ip, PeerId([255; 20])));
        let again = caught.any(|entry| *entry != Banned::Peer(ip, id));
        let entry = if again && !is_near(ip) {
            Banned::Ip(ip)
        } else {
            Banned::Peer(ip, id)
        };
        if self.banned.insert(entry) {
            self.order.push_back(entry);
        }
        if self.order.len() > BANNED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.banned.remove(&oldest);
        }
    }

    pub(crate) fn is_banned(&self, ip: IpAddr, id: PeerId) -> bool {
        self.is_banned_address(ip) || self.banned.contains(&Banned::Peer(ip, id))
    }

    /// Whether nobody at that address is spoken to.
    pub(crate) fn is_banned_address(&self, ip: IpAddr) -> bool {
        self.banned.contains(&Banned::Ip(ip))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: u64) -> Source {
        Source::Peer(PeerKey::from_unique(n))
    }

    #[test]
    fn a_sole_sender_is_guilty_at_once() {
        let mut blame = Blame::default();
        let senders = vec![Some(peer(1)); 3];
        let guilty = blame.failed(PieceIndex::new(0), senders, vec![Digest(0); 3]);
        assert_eq!(guilty, Some(peer(1)));
        assert!(!blame.is_suspect(PieceIndex::new(0)));
    }

    #[test]
    fn shared_blame_waits_for_the_right_blocks() {
        let mut blame = Blame::default();
        let p = PieceIndex::new(0);
        let senders = vec![Some(peer(1)), Some(peer(2)), None];
        assert_eq!(
            blame.failed(p, senders, vec![Digest(1), Digest(9), Digest(3)]),
            None
        );
        assert!(blame.is_suspect(p));
        assert!(blame.suspects(peer(1)) && blame.suspects(peer(2)) && !blame.suspects(peer(3)));
        assert_eq!(
            blame.passed(p, &[Digest(1), Digest(2), Digest(3)]),
            [peer(2)]
        );
        assert!(!blame.is_suspect(p));
        assert!(!blame.suspects(peer(1)) && !blame.suspects(peer(2)));
    }

    #[test]
    fn suspects_are_forgotten_with_their_attempts() {
        let mut blame = Blame::default();
        let p = PieceIndex::new(0);
        for n in 1..10 {
            let senders = vec![Some(peer(n)), Some(peer(n + 1))];
            assert_eq!(blame.failed(p, senders, vec![Digest(1); 2]), None);
        }
        let suspects: Vec<_> = (1..=10).filter(|n| blame.suspects(peer(*n))).collect();
        assert_eq!(suspects, [7, 8, 9, 10]);
        blame.passed(p, &[Digest(1); 2]);
        assert!(blame.suspects.is_empty());
    }

    #[test]
    fn a_shared_address_is_not_banned_as_a_whole() {
        let mut blame = Blame::default();
        let (a, b) = (PeerId([1; 20]), PeerId([2; 20]));
        blame.ban(IpAddr::from([127, 0, 0, 1]), a);
        assert!(blame.is_banned(IpAddr::from([127, 0, 0, 1]), a));
        assert!(!blame.is_banned(IpAddr::from([127, 0, 0, 1]), b));
        blame.ban(IpAddr::from([127, 0, 0, 1]), b);
        assert!(!blame.is_banned_address(IpAddr::from([127, 0, 0, 1])));
    }

    #[test]
    fn an_address_is_banned_at_the_second_liar() {
        let mut blame = Blame::default();
        let ids = [1, 2, 3].map(|n| PeerId([n; 20]));
        let ip = IpAddr::from([198, 18, 0, 1]);
        blame.ban(ip, ids[0]);
        blame.ban(ip, ids[0]);
        assert!(blame.is_banned(ip, ids[0]) && !blame.is_banned(ip, ids[1]));
        blame.ban(ip, ids[1]);
        assert!(blame.is_banned(ip, ids[2]));
        assert!(!blame.is_banned_address(IpAddr::from([198, 18, 0, 2])));
    }
}
