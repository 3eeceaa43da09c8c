//! The peers of one torrent.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use torr_base::{Instant, PeerId, Rng};

use crate::announce::{AnnounceRequest, Event};

/// Peers by who they are and by where they are.
///
/// Invariants: `by_id` and `by_addr` hold exactly the peers' ids and addresses; an address belongs to one
/// peer; `seeds` counts the peers that are seeds.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// In no order, so that one can be drawn at random.
    peers: Vec<Peer>,
    by_id: BTreeMap<Identity, usize>,
    by_addr: BTreeMap<SocketAddr, usize>,
    seeds: u32,
    /// No peer expires before this.
    expires_from: Option<Instant>,
}

/// BEP 7: peer id and key together tell one peer from the next, at whatever addresses. The key is known
/// to nobody else, so nobody else can move or remove the peer.
type Identity = (PeerId, u32);

#[derive(Debug)]
struct Peer {
    identity: Identity,
    v4: Option<SocketAddr>,
    v6: Option<SocketAddr>,
    seed: bool,
    said_completed: bool,
    until: Instant,
}

/// A peer as it goes into an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Picked {
    pub(super) id: PeerId,
    pub(super) addr: SocketAddr,
}

impl Peer {
    fn addr(&self, v6: bool) -> Option<SocketAddr> {
        if v6 { self.v6 } else { self.v4 }
    }
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.peers.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    pub(super) fn seeds(&self) -> u32 {
        self.seeds
    }

    pub(super) fn leechers(&self) -> u32 {
        u32::try_from(self.peers.len())
            .unwrap_or(u32::MAX)
            .saturating_sub(self.seeds)
    }

    pub(super) fn contains(&self, announce: &AnnounceRequest) -> bool {
        self.by_id.contains_key(&identity(announce))
    }

    /// Adds the peer, or brings it up to date; whether it has just completed the torrent.
    pub(super) fn upsert(
        &mut self,
        announce: &AnnounceRequest,
        addr: SocketAddr,
        until: Instant,
    ) -> bool {
        let identity = identity(announce);
        let at = self.by_id.get(&identity).copied();
        // Somebody else was here, or the same one under an older id.
        if let Some(other) = self
            .by_addr
            .get(&addr)
            .copied()
            .filter(|it| Some(*it) != at)
        {
            self.take_address(other, addr.is_ipv6());
        }
        let at = match self.by_id.get(&identity).copied() {
            Some(at) => at,
            None => self.push(identity, until),
        };
        let Some(peer) = self.peers.get_mut(at) else {
            return false;
        };
        let slot = if addr.is_ipv6() {
            &mut peer.v6
        } else {
            &mut peer.v4
        };
        if let Some(old) = slot.replace(addr) {
            self.by_addr.remove(&old);
        }
        self.by_addr.insert(addr, at);
        peer.until = until;
        let seed = announce.left == 0;
        self.seeds = self.seeds + u32::from(seed) - u32::from(peer.seed);
        peer.seed = seed;
        let completed = announce.event == Event::Completed && !peer.said_completed;
        peer.said_completed |= completed;
        self.expires_from = Some(self.expires_from.map_or(until, |from| from.min(until)));
        completed
    }

    pub(super) fn remove(&mut self, announce: &AnnounceRequest) {
        if let Some(at) = self.by_id.get(&identity(announce)).copied() {
            self.remove_at(at);
        }
    }

    /// Removes the peers that have not announced again in time.
    pub(super) fn expire(&mut self, now: Instant) {
        if self.expires_from.is_none_or(|from| now < from) {
            return;
        }
        let mut at = 0;
        while let Some(peer) = self.peers.get(at) {
            if peer.until <= now {
                self.remove_at(at);
            } else {
                at += 1;
            }
        }
        self.expires_from = self.peers.iter().map(|peer| peer.until).min();
    }

    /// Up to `wanted` peers of a family by chance: never whoever asks, and no seeds for a seed.
    pub(super) fn pick(
        &self,
        announce: &AnnounceRequest,
        v6: bool,
        wanted: usize,
        rng: &mut Rng,
    ) -> Vec<Picked> {
        let asks = identity(announce);
        let fits = |peer: &&Peer| peer.identity != asks && !(peer.seed && announce.left == 0);
        let fitting = self.peers.iter().filter(fits);
        let picked = |peer: &Peer| {
            let (id, _) = peer.identity;
            peer.addr(v6).map(|addr| Picked { id, addr })
        };
        let mut all: Vec<Picked> = fitting.filter_map(picked).collect();
        let wanted = wanted.min(all.len());
        for at in 0..wanted {
            let other = at + rng.index(all.len() - at);
            all.swap(at, other);
        }
        all.truncate(wanted);
        all
    }

    fn push(&mut self, identity: Identity, until: Instant) -> usize {
        let at = self.peers.len();
        self.by_id.insert(identity, at);
        self.peers.push(Peer {
            identity,
            v4: None,
            v6: None,
            seed: false,
            said_completed: false,
            until,
        });
        at
    }

    /// The peer at `at` is no longer at its address of this family; without any it goes.
    fn take_address(&mut self, at: usize, v6: bool) {
        let Some(peer) = self.peers.get_mut(at) else {
            return;
        };
        let slot = if v6 { &mut peer.v6 } else { &mut peer.v4 };
        if let Some(addr) = slot.take() {
            self.by_addr.remove(&addr);
        }
        if peer.v4.is_none() && peer.v6.is_none() {
            self.remove_at(at);
        }
    }

    fn remove_at(&mut self, at: usize) {
        if at >= self.peers.len() {
            return;
        }
        let gone = self.peers.swap_remove(at);
        self.by_id.remove(&gone.identity);
        for addr in [gone.v4, gone.v6].into_iter().flatten() {
            self.by_addr.remove(&addr);
        }
        self.seeds -= u32::from(gone.seed);
        // The last one has moved into the gap.
        if let Some(moved) = self.peers.get(at) {
            self.by_id.insert(moved.identity, at);
            for addr in [moved.v4, moved.v6].into_iter().flatten() {
                self.by_addr.insert(addr, at);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn check_invariants(&self) {
        let ids: BTreeMap<_, _> = self
            .peers
            .iter()
            .enumerate()
            .map(|(at, peer)| (peer.identity, at))
            .collect();
        assert_eq!(self.by_id, ids);
        let addrs = self.peers.iter().enumerate().flat_map(|(at, peer)| {
            assert!(peer.v4.is_some() || peer.v6.is_some());
            assert!(self.expires_from.is_some_and(|from| from <= peer.until));
            [peer.v4, peer.v6]
                .into_iter()
                .flatten()
                .map(move |addr| (addr, at))
        });
        assert_eq!(self.by_addr, addrs.collect());
        let seeds = self.peers.iter().filter(|peer| peer.seed).count();
        assert_eq!(self.seeds as usize, seeds);
    }
}

fn identity(announce: &AnnounceRequest) -> Identity {
    (announce.peer_id, announce.key)
}
