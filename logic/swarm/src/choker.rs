//! Whom to give to: tit for tat while downloading, a rotation that serves many while seeding (BEP 3).

use std::time::Duration;

use torr_base::{Instant, Rng};
use torr_store::BufSource;

use crate::action::{Outbox, PeerKey};
use crate::peer::Peer;
use crate::swarm::Swarm;

/// How often the choices are made anew.
const ROUND: Duration = Duration::from_secs(10);
/// Every how many rounds the optimistic unchoke moves on.
const OPTIMISTIC_ROUNDS: u32 = 3;
/// Peers that are given to at a time, the optimistic one among them.
const SLOTS: usize = 8;
/// While seeding, a peer keeps its slot at least this long: two rounds.
const SEED_TURN: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(crate) struct Choker {
    next_round: Instant,
    rounds: u32,
    optimistic: Option<PeerKey>,
    rng: Rng,
}

impl Choker {
    pub(crate) fn new(now: Instant, rng: Rng) -> Self {
        Self {
            next_round: now + ROUND,
            rounds: 0,
            optimistic: None,
            rng,
        }
    }
}

fn may_be_unchoked<B>(peer: &Peer<B>) -> bool {
    peer.interested_in_us && !peer.seed
}

/// Smaller comes sooner: those whose turn is not over, those that wait by the time they do, and those
/// whose turn is over.
fn turn<B>(peer: &Peer<B>, now: Instant) -> (bool, bool, Instant) {
    let over = peer.choked_by_us || now.since(peer.choke_changed) >= SEED_TURN;
    (over, !peer.choked_by_us, peer.choke_changed)
}

impl<B> Swarm<B> {
    /// Somebody became interested: a free slot is used at once instead of in up to ten seconds.
    pub(crate) fn choke_newcomer(&mut self, now: Instant, key: PeerKey, out: &mut Outbox<B>) {
        // Those that lost interest keep their slot until the round, or all could be had by turns.
        let taken = self.peers.values().filter(|p| !p.choked_by_us);
        if self.may_upload() && taken.count() < SLOTS {
            self.unchoke(now, key, out);
        }
    }

    /// Makes the choices anew, if it is time.
    pub(crate) fn choke_round(
        &mut self,
        now: Instant,
        bufs: &mut dyn BufSource<B>,
        out: &mut Outbox<B>,
    ) {
        if now < self.choker.next_round {
            return;
        }
        self.choker.next_round = now + ROUND;
        self.choker.rounds += 1;
        let mut chosen = if !self.may_upload() {
            Vec::new()
        } else if self.is_complete() {
            self.rank_for_seeding(now)
        } else {
            self.rank_by_return(now)
        };
        chosen.truncate(SLOTS - 1);
        chosen.extend(self.optimistic(&chosen));
        let keys: Vec<_> = self.peers.keys().collect();
        for key in keys {
            if chosen.contains(&key) {
                self.unchoke(now, key, out);
            } else {
                self.choke(now, key, bufs, out);
            }
        }
    }

    /// Tit for tat: those that give us most, first. Those that give nothing take turns.
    fn rank_by_return(&self, now: Instant) -> Vec<PeerKey> {
        let mut ranked: Vec<_> = self
            .peers
            .iter()
            .filter(|(_, peer)| may_be_unchoked(peer) && !peer.requests.snubbed)
            .map(|(key, peer)| {
                let rate = std::cmp::Reverse(peer.down.per_second());
                (rate, turn(peer, now), key)
            })
            .collect();
        ranked.sort_unstable();
        ranked.into_iter().map(|(_, _, key)| key).collect()
    }

    /// Those whose turn is not over stay; then whoever has waited longest.
    fn rank_for_seeding(&self, now: Instant) -> Vec<PeerKey> {
        let mut ranked: Vec<_> = self
            .peers
            .iter()
            .filter(|(_, peer)| may_be_unchoked(peer))
            .map(|(key, peer)| (turn(peer, now), key))
            .collect();
        ranked.sort_unstable();
        ranked.into_iter().map(|(_, key)| key).collect()
    }

    /// One peer outside the chosen, at random, for three rounds: how new peers get their first piece,
    /// and how better ones are found.
    fn optimistic(&mut self, chosen: &[PeerKey]) -> Option<PeerKey> {
        let fits = |key: &PeerKey, peers: &torr_base::Slab<Peer<B>, _>| {
            !chosen.contains(key) && peers.get(*key).is_some_and(may_be_unchoked)
        };
        if !self.may_upload() {
            return None;
        }
        let keep = !self.choker.rounds.is_multiple_of(OPTIMISTIC_ROUNDS);
        if let Some(key) = self
            .choker
            .optimistic
            .filter(|key| keep && fits(key, &self.peers))
        {
            return Some(key);
        }
        let others: Vec<_> = self
            .peers
            .keys()
            .filter(|key| fits(key, &self.peers))
            .collect();
        let choice = self.choker.rng.index(others.len());
        self.choker.optimistic = others.get(choice).copied();
        self.choker.optimistic
    }
}
