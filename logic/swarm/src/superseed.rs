//! Super-seeding (BEP 16): the only one who has a torrent gives each of its pieces once, and sees to it that
//! they go on from there.
//!
//! - Peers hear of no piece at first, then of one at a time by a `have`: one that nobody has and nobody else was
//!   told of. A peer hears of the next one when the last is seen at somebody else: whoever passes pieces on gets
//!   more of them. A fast peer, and one that has no company, hears of several, and everybody of several small ones:
//!   some clients take half a minute to come back once they have all that they were told of.
//! - Nothing waits for that for ever: who cannot pass a piece on hears of another after a while, and at once
//!   while our line has nothing to do; who wants none of what it was told of hears of twice as many.
//! - What a peer was not told of is not sent to it.
//! - It ends when all pieces went out and our line is idle, or when there is another seed: everybody hears of the
//!   rest, and all is as ever. Who lies about what it has can end it sooner, and gains nothing by that.

use std::time::Duration;

use torr_base::{Bitfield, Instant, PieceIndex, Rng};
use torr_wire::Message;

use crate::action::{Outbox, PeerKey};
use crate::peer::Peer;
use crate::swarm::Swarm;

/// What a peer has comes with its first words; who has nothing may say nothing.
const FIRST_WORDS: Duration = Duration::from_secs(1);
/// What a peer is told of beyond what it passed on: one piece, or small ones of so many bytes together, but no more
/// than our line sends in half a second; a fast peer one more …
const BUNDLE: u64 = 512 << 10;
/// … and one that has no company what it takes in a second, up to so many.
const OPEN_ALONE: usize = 64;
/// Without anything to send for so long, pieces go to whoever takes them …
const LINE_IDLE: Duration = Duration::from_millis(300);
/// … and those that another peer was told of and did not take, or that somebody has; or all is over, if they all
/// went out.
const STALLED: Duration = Duration::from_secs(3);
/// How long a peer may take to become interested in a piece. If it does not, it hears of twice as many, up to
/// [`OPEN_ALONE`]: it may want few of all.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long one that is interested may wait for a slot …
const SLOT: Duration = Duration::from_secs(60);
/// … or for the next block of a piece; and how long a piece that is through may take to be seen at somebody else.
const PASS_ON: Duration = Duration::from_secs(20);
/// How often all pieces are looked at for such as nobody has, once all of them were handed out.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Of the pieces that are to go out, so many are looked at for one that a peer was not told of.
const WALK: usize = 64;
/// `have`s that a peer is sent in a tick, once it may know of all pieces.
const REST: usize = 500;

/// What is still to be given out.
#[derive(Debug)]
pub(crate) struct SuperSeed {
    /// Pieces that nobody had and nobody was told of, by chance, the next one last.
    fresh: Vec<PieceIndex>,
    /// Pieces of which all blocks were sent to somebody who is still there. Not everybody says so: who was told of
    /// a piece knows that we have it.
    given: Bitfield,
    next_look: Instant,
    /// When somebody last waited for our line.
    busy: Instant,
    /// Only one peer is there that takes anything.
    alone: bool,
    /// The most that our line sent, in bytes a second.
    best: u64,
    rng: Rng,
}

/// What one peer was told of, while that is not everything.
#[derive(Debug)]
pub(crate) struct Revealed {
    told: Bitfield,
    /// Not seen at anybody else yet, the oldest first.
    open: Vec<Offer>,
    /// Pieces that it hears of at a time while it wants none.
    batch: usize,
}

/// A piece that a peer was told of.
#[derive(Debug)]
struct Offer {
    piece: PieceIndex,
    /// When it was told, or got the last block.
    since: Instant,
    /// Blocks that were not sent.
    left: u32,
}

impl SuperSeed {
    pub(crate) fn new(pieces: u32, now: Instant, rng: Rng) -> Self {
        Self {
            fresh: Vec::new(),
            given: Bitfield::new(pieces),
            next_look: now,
            busy: now,
            alone: false,
            best: 0,
            rng,
        }
    }

    /// A peer is gone, and with it what it had.
    pub(crate) fn gone(&mut self, revealed: &Revealed) {
        for piece in revealed.told.iter() {
            self.given.clear(piece);
        }
    }
}

impl Revealed {
    pub(crate) fn new(pieces: u32) -> Self {
        Self {
            told: Bitfield::new(pieces),
            open: Vec::new(),
            batch: 1,
        }
    }

    /// A block of the piece was sent; true with the last one.
    fn sent(&mut self, piece: PieceIndex, now: Instant) -> bool {
        self.batch = 1;
        let Some(offer) = self.open.iter_mut().find(|offer| offer.piece == piece) else {
            return false;
        };
        offer.left = offer.left.saturating_sub(1);
        offer.since = now;
        offer.left == 0
    }
}

impl<B> Peer<B> {
    /// Whether it may ask for that piece of ours.
    pub(crate) fn was_told(&self, piece: PieceIndex) -> bool {
        let some = self.revealed.as_ref();
        some.is_none_or(|revealed| revealed.told.get(piece))
    }

    pub(crate) fn check_revealed(&self) {
        let open = self.revealed.iter().flat_map(|revealed| &revealed.open);
        for offer in open {
            assert!(
                self.was_told(offer.piece),
                "{:?} is awaited untold",
                offer.piece
            );
        }
    }

    /// Pieces that it was told of, as far as it has not got them from us or anybody.
    fn untaken(&self) -> impl Iterator<Item = PieceIndex> + '_ {
        let open = self.revealed.iter().flat_map(|revealed| &revealed.open);
        let here = |offer: &&Offer| offer.left > 0 && !self.have.get(offer.piece);
        open.filter(here).map(|offer| offer.piece)
    }
}

impl<B> Swarm<B> {
    /// Whether peers are told of pieces one by one.
    #[must_use]
    pub fn is_super_seeding(&self) -> bool {
        self.super_seed.is_some()
    }

    /// What is due: pieces that peers may hear of now, and the end.
    pub(crate) fn super_seed(&mut self, now: Instant, out: &mut Outbox<B>) {
        let keys: Vec<_> = self.peers.keys().collect();
        let Some(mut state) = self.super_seed.take() else {
            for key in keys {
                self.reveal_rest(key, out);
            }
            return;
        };
        if !self.have.is_full() || self.peers.values().any(|peer| peer.seed) {
            return;
        }
        if self.peers.values().any(|peer| peer.upload.len() > 0) {
            state.busy = now;
        }
        if state.fresh.is_empty() && now >= state.next_look {
            state.next_look = now + LOOK_EVERY;
            let all_out = self.look_for_fresh(&mut state);
            if all_out && now.since(state.busy) >= STALLED {
                return;
            }
        }
        let takers = self.peers.values().filter(|peer| !peer.only_gives());
        state.alone = takers.take(2).count() < 2;
        let rate = self.peers.values().map(|peer| peer.up.per_second()).sum();
        state.best = state.best.max(rate);
        for key in &keys {
            self.settle_offers(now, *key);
        }
        let idle = now.since(state.busy);
        let free = self
            .peers
            .values()
            .filter(|peer| self.may_hear(now, peer, &state));
        let least = free.filter_map(|peer| Some(peer.revealed.as_ref()?.open.len()));
        let most_open = match least.min() {
            _ if state.alone || idle >= STALLED => usize::MAX,
            // Whoever passes on most is first.
            Some(least) if idle >= LINE_IDLE => least + 1,
            Some(_) | None => 0,
        };
        for key in keys {
            while let Some(piece) = self.next_to_reveal(now, key, most_open, &mut state) {
                self.reveal(now, key, piece, out);
            }
        }
        self.super_seed = Some(state);
    }

    /// A block of the piece was sent to the peer.
    pub(crate) fn sent_of_revealed(&mut self, key: PeerKey, piece: PieceIndex, now: Instant) {
        let revealed = self
            .peers
            .get_mut(key)
            .and_then(|peer| peer.revealed.as_mut());
        let through = revealed.is_some_and(|revealed| revealed.sent(piece, now));
        if through && let Some(state) = &mut self.super_seed {
            state.given.set(piece);
        }
    }

    /// Finds the pieces that nobody has and nobody was told of; true where others have them all.
    fn look_for_fresh(&self, state: &mut SuperSeed) -> bool {
        let open = self
            .peers
            .values()
            .filter_map(|peer| peer.revealed.as_ref());
        let open = open.flat_map(|revealed| &revealed.open);
        let mut offered: Vec<_> = open.map(|offer| offer.piece).collect();
        offered.sort_unstable();
        let mut all_out = true;
        for piece in self.geometry.pieces() {
            if !self.is_out(state, piece) {
                all_out = false;
                if offered.binary_search(&piece).is_err() {
                    state.fresh.push(piece);
                }
            }
        }
        state.rng.shuffle(&mut state.fresh);
        all_out
    }

    /// Whether somebody else has the piece.
    fn is_out(&self, state: &SuperSeed, piece: PieceIndex) -> bool {
        self.picker.availability.of(piece) > 0 || state.given.get(piece)
    }

    /// Forgets what a peer was told of that others have by now, or that took it too long.
    fn settle_offers(&mut self, now: Instant, key: PeerKey) {
        let Self { peers, picker, .. } = self;
        let Some(peer) = peers.get_mut(key) else {
            return;
        };
        let (have, wants, choked) = (&peer.have, peer.interested_in_us, peer.choked_by_us);
        let Some(revealed) = &mut peer.revealed else {
            return;
        };
        let Revealed { open, batch, .. } = revealed;
        let mut left_it = false;
        open.retain(|offer| {
            let its = u32::from(have.get(offer.piece));
            let age = now.since(offer.since);
            let through = offer.left == 0 || its > 0;
            let time = match through {
                true => PASS_ON,
                false if wants && choked => SLOT,
                false if wants => PASS_ON,
                false => PATIENCE,
            };
            let keep = age < time;
            left_it |= !keep && !through && !wants;
            keep && picker.availability.of(offer.piece) <= its
        });
        if left_it {
            *batch = (2 * *batch).min(OPEN_ALONE);
        }
    }

    /// Whether the peer takes what it hears of.
    fn may_hear(&self, now: Instant, peer: &Peer<B>, state: &SuperSeed) -> bool {
        let ready = peer.spoke || now.since(peer.joined) >= FIRST_WORDS;
        let listens = ready && !peer.only_gives() && self.may_upload();
        listens && peer.untaken().count() < self.open_max(peer, state)
    }

    /// Pieces that the peer may hear of before one of them is seen at somebody else.
    fn open_max(&self, peer: &Peer<B>, state: &SuperSeed) -> usize {
        let piece_len = u64::from(self.geometry.piece_len_max().max(1));
        let in_time = if state.best == 0 {
            BUNDLE
        } else {
            state.best / 2
        };
        let bundle = (in_time.min(BUNDLE) / piece_len).max(1) as usize;
        let in_a_second = (peer.up.per_second() / piece_len) as usize;
        let more = match state.alone {
            true => in_a_second + usize::from(peer.up.total() > 0),
            false => in_a_second.min(1),
        };
        let batch = peer.revealed.as_ref().map_or(0, |revealed| revealed.batch);
        (bundle + more).min(OPEN_ALONE).max(batch)
    }

    /// The piece that the peer may hear of now, if any. `most_open`: so many may be out with it that nobody else has.
    fn next_to_reveal(
        &self,
        now: Instant,
        key: PeerKey,
        most_open: usize,
        state: &mut SuperSeed,
    ) -> Option<PieceIndex> {
        let peer = self.peers.get(key)?;
        let revealed = peer.revealed.as_ref()?;
        let most = self.open_max(peer, state).max(most_open);
        if !self.may_hear(now, peer, state) || revealed.open.len() >= most {
            return None;
        }
        let lacks = |piece: &PieceIndex| !peer.have.get(*piece) && !revealed.told.get(*piece);
        let fresh = self.take_fresh(state, lacks);
        if fresh.is_some() || now.since(state.busy) < STALLED {
            return fresh;
        }
        // What is out may be out of reach.
        let others = self.peers.values().flat_map(Peer::untaken);
        let from = state.rng.index(self.geometry.piece_count() as usize) as u32;
        let pieces = self.geometry.piece_count();
        let any = (from..pieces).chain(0..from).map(PieceIndex::new);
        let few = any.filter(lacks).take(WALK);
        others
            .filter(lacks)
            .chain(few)
            .min_by_key(|piece| self.picker.availability.of(*piece))
    }

    /// A piece that nobody has and that the peer was not told of.
    fn take_fresh(
        &self,
        state: &mut SuperSeed,
        lacks: impl Fn(&PieceIndex) -> bool,
    ) -> Option<PieceIndex> {
        while let Some(piece) = state.fresh.last()
            && self.is_out(state, *piece)
        {
            state.fresh.pop();
        }
        let near = state.fresh.iter().rev().take(WALK);
        let back = near
            .take_while(|piece| !lacks(piece) || self.is_out(state, **piece))
            .count();
        if back == WALK || back >= state.fresh.len() {
            return None;
        }
        Some(state.fresh.remove(state.fresh.len() - 1 - back))
    }

    fn reveal(&mut self, now: Instant, key: PeerKey, piece: PieceIndex, out: &mut Outbox<B>) {
        let left = self.geometry.block_count(piece);
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        let Some(revealed) = &mut peer.revealed else {
            return;
        };
        revealed.told.set(piece);
        if revealed.open.len() >= 2 * OPEN_ALONE {
            revealed.open.remove(0);
        }
        let since = now;
        revealed.open.push(Offer { piece, since, left });
        peer.send(Message::Have(piece.get()), out);
    }

    /// It is over: tells the peer of the pieces that it does not know of, some at a time.
    fn reveal_rest(&mut self, key: PeerKey, out: &mut Outbox<B>) {
        let Self { peers, have, .. } = self;
        let Some(peer) = peers.get_mut(key) else {
            return;
        };
        let Some(revealed) = &mut peer.revealed else {
            return;
        };
        let rest: Vec<_> = have.iter_and_not(&revealed.told).take(REST).collect();
        for piece in &rest {
            revealed.told.set(*piece);
        }
        if rest.len() < REST {
            peer.revealed = None;
        }
        for piece in rest {
            if !peer.have.get(piece) {
                peer.send(Message::Have(piece.get()), out);
            }
        }
        if peer.revealed.is_none() {
            self.allow_fast(key, out);
            self.say_upload_only(key, out);
        }
    }
}
