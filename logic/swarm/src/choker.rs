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
/// Peers that are given to at a time, the optimistic one among them: few on a slow line, or none of
/// them would have a whole piece to pass on for a long time.
const SLOTS_MIN: usize = 2;
/// … and so many before anything is known of the line.
const SLOTS_START: usize = 4;
/// More are opened while those that have one leave our line idle, up to this.
const SLOTS_MAX: usize = 32;
/// How often the number of slots is set anew.
const SLOTS_EVERY: Duration = Duration::from_secs(1);
/// Peers that take something, up to which a newcomer to a full swarm is given a slot at once.
const TRIALS_MAX: usize = 4 * SLOTS_MAX;
/// As many as this are opened although nobody takes anything.
const SLOTS_IDLE: usize = 8;
/// Bytes a second that each slot should have where the line is the limit.
const SLOT_RATE: u64 = 40_000;
/// While seeding, a peer keeps its slot at least this long: two rounds …
const SEED_TURN: Duration = Duration::from_secs(20);
/// … and while it has not got two pieces or that many bytes, for this long.
const SEED_TURN_MAX: Duration = Duration::from_secs(120);
const SEED_TURN_BYTES: u64 = 4 << 20;
/// How long a peer may take to finish a piece after its turn.
const LEAVES_WITHIN: Duration = Duration::from_secs(20);
/// Who was given no block for so long does not use its slot.
const TAKES: Duration = Duration::from_secs(1);
const IDLE: Duration = Duration::from_secs(3);
/// Who takes less than this in its turn is not in need of more.
const SEED_TURN_IDLE: u64 = 64 * 1024;

#[derive(Debug)]
pub(crate) struct Choker {
    next_round: Instant,
    rounds: u32,
    optimistic: Option<PeerKey>,
    slots: usize,
    next_slots: Instant,
    /// How often peers with a slot were looked at of late, and how often they waited for us.
    looked: usize,
    waited: usize,
    rng: Rng,
}

impl Choker {
    pub(crate) fn new(now: Instant, rng: Rng) -> Self {
        Self {
            next_round: now + ROUND,
            rounds: 0,
            optimistic: None,
            slots: SLOTS_START,
            next_slots: now + SLOTS_EVERY,
            looked: 0,
            waited: 0,
            rng,
        }
    }
}

fn may_be_unchoked<B>(peer: &Peer<B>) -> bool {
    peer.interested_in_us && !peer.only_gives()
}

/// Smaller comes sooner: those whose turn is not over, those that wait by the time they do, and those
/// whose turn is over.
fn turn<B>(peer: &Peer<B>, now: Instant, enough: u64) -> (bool, bool, Instant) {
    let (span, given) = (
        now.since(peer.choke_changed),
        peer.up.total() - peer.up_at_unchoke,
    );
    let served = given >= enough || given < SEED_TURN_IDLE || span >= SEED_TURN_MAX;
    let over = peer.choked_by_us || (span >= SEED_TURN && served);
    (over, !peer.choked_by_us, peer.choke_changed)
}

/// Whether it makes nothing of its slot, or of the last one that it had.
pub(crate) fn is_idle<B>(peer: &Peer<B>, now: Instant) -> bool {
    if peer.choked_by_us {
        return peer.choked_at.is_some() && peer.up.total() == peer.up_at_unchoke;
    }
    let last = peer.took.unwrap_or_default().max(peer.choke_changed);
    now.since(last) >= IDLE
}

impl<B> Swarm<B> {
    /// Somebody became interested: a free slot is used at once instead of in up to ten seconds.
    pub(crate) fn choke_newcomer(&mut self, now: Instant, key: PeerKey, out: &mut Outbox<B>) {
        let free = match self.is_crowded() {
            // Many come, and may mean no good. Who is given to at once shows what it is here for. Those that take what
            // they can and read none of it must not hold all the slots that there are.
            true => self.takers(now) < TRIALS_MAX,
            false => self.has_free_slot(),
        };
        if self.may_upload() && free {
            self.unchoke(now, key, out);
        }
    }

    /// Peers that have a slot and make use of it.
    fn takers(&self, now: Instant) -> usize {
        let takers = self.peers.values().filter(|peer| {
            let takes = peer.took.is_some_and(|took| now.since(took) < TAKES);
            !peer.choked_by_us && takes
        });
        takers.count()
    }

    /// A slot is free where fewer interested peers than may be are unchoked. Those that lost interest
    /// stay unchoked until the round, up to as many again, or all could be had by turns.
    pub(crate) fn has_free_slot(&self) -> bool {
        let unchoked = self.peers.values().filter(|peer| !peer.choked_by_us);
        let (mut all, mut interested) = (0, 0);
        for peer in unchoked {
            all += 1;
            interested += usize::from(may_be_unchoked(peer));
        }
        interested < self.choker.slots && all < 2 * self.choker.slots
    }

    /// Gives slots that peers left to those that wait longest.
    fn fill_slots(&mut self, now: Instant, out: &mut Outbox<B>) {
        if self.is_crowded() {
            return self.try_one(now, out);
        }
        while self.may_upload() && self.has_free_slot() {
            let waiting = self.peers.iter().filter(|(_, peer)| {
                peer.choked_by_us && may_be_unchoked(peer) && !peer.requests.snubbed
            });
            let first = waiting.min_by_key(|(key, peer)| (peer.choke_changed, *key));
            let Some((key, _)) = first else { return };
            self.unchoke(now, key, out);
        }
    }

    /// The same where those that hold a slot may not mean to use it: one more, out of those that did not yet show that.
    fn try_one(&mut self, now: Instant, out: &mut Outbox<B>) {
        if !self.may_upload() || self.takers(now) >= self.choker.slots {
            return;
        }
        let waiting = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.choked_by_us && may_be_unchoked(peer) && !is_idle(peer, now));
        let first = waiting.min_by_key(|(key, peer)| (peer.choke_changed, *key));
        if let Some((key, _)) = first {
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
        self.look_at_slots(now);
        if now >= self.choker.next_slots {
            self.choker.next_slots = now + SLOTS_EVERY;
            self.set_slots();
        }
        if now < self.choker.next_round {
            self.fill_slots(now, out);
            return;
        }
        self.choker.next_round = now + ROUND;
        self.choker.rounds += 1;
        let piece_len = u64::from(self.geometry.piece_len_max());
        let enough = (2 * piece_len).min(SEED_TURN_BYTES);
        let mut chosen = if !self.may_upload() {
            Vec::new()
        } else if self.is_complete() {
            self.rank_for_seeding(now, enough)
        } else {
            self.rank_by_return(now, enough)
        };
        chosen.truncate(self.choker.slots - 1);
        chosen.extend(self.optimistic(&chosen));
        let keys: Vec<_> = self.peers.keys().collect();
        let mut late = 0;
        for key in &keys {
            if chosen.contains(key) {
                if let Some(peer) = self.peers.get_mut(*key) {
                    peer.leaves = None;
                }
            } else if self.is_in_a_piece(now, *key) {
                late += 1;
            } else {
                self.choke(now, *key, bufs, out);
            }
        }
        // Who still finishes a piece holds the slot of one of the new ones.
        let room = self.choker.slots.saturating_sub(late).max(1);
        for key in chosen.into_iter().take(room) {
            self.unchoke(now, key, out);
        }
    }

    /// Whether a peer whose turn is over may first finish the piece that it is on: the part of a piece
    /// is of no use to anybody, and its rest may be long in coming.
    fn is_in_a_piece(&mut self, now: Instant, key: PeerKey) -> bool {
        let Some(peer) = self.peers.get_mut(key) else {
            return false;
        };
        let busy = !peer.choked_by_us && !peer.begun.is_empty() && peer.upload.len() > 0;
        let since = *peer.leaves.get_or_insert(now);
        busy && may_be_unchoked(peer) && now.since(since) < LEAVES_WITHIN
    }

    /// Whether those with a slot wait for our line, or our line for them.
    fn look_at_slots(&mut self, now: Instant) {
        let full = self.is_crowded();
        let counts = |peer: &&Peer<B>| !(peer.choked_by_us || full && is_idle(peer, now));
        let unchoked = self.peers.values().filter(counts);
        for peer in unchoked {
            self.choker.looked += 1;
            self.choker.waited += usize::from(peer.upload.len() > 0);
        }
    }

    /// One more slot for every two while our line is idle; never more than it can feed.
    fn set_slots(&mut self) {
        let rate: u64 = self.peers.values().map(|peer| peer.up.per_second()).sum();
        let fed = usize::try_from(rate / SLOT_RATE).unwrap_or(SLOTS_MAX);
        let Choker {
            slots,
            looked,
            waited,
            ..
        } = &mut self.choker;
        if *waited * 2 < *looked {
            *slots = (*slots + *slots / 2).min(fed.max(SLOTS_IDLE));
        } else if *waited * 10 > *looked * 9 {
            *slots = fed.min(*slots - 1);
        }
        *slots = (*slots).clamp(SLOTS_MIN, SLOTS_MAX);
        (*looked, *waited) = (0, 0);
    }

    /// Tit for tat: those that give us most, first. Those that give nothing take turns.
    fn rank_by_return(&self, now: Instant, enough: u64) -> Vec<PeerKey> {
        let mut ranked: Vec<_> = self
            .peers
            .iter()
            .filter(|(_, peer)| may_be_unchoked(peer) && !peer.requests.snubbed)
            .map(|(key, peer)| {
                let rate = std::cmp::Reverse(peer.down.per_second());
                (rate, turn(peer, now, enough), key)
            })
            .collect();
        ranked.sort_unstable();
        ranked.into_iter().map(|(_, _, key)| key).collect()
    }

    /// Those whose turn is not over stay; then whoever has waited longest.
    fn rank_for_seeding(&self, now: Instant, enough: u64) -> Vec<PeerKey> {
        let full = self.is_crowded();
        let mut ranked: Vec<_> = self
            .peers
            .iter()
            .filter(|(_, peer)| may_be_unchoked(peer))
            .map(|(key, peer)| (full && is_idle(peer, now), turn(peer, now, enough), key))
            .collect();
        ranked.sort_unstable();
        ranked.into_iter().map(|(_, _, key)| key).collect()
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
