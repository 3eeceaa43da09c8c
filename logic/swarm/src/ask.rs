//! Which blocks to ask a peer for, block by block.
//!
//! In this order: the piece it is on already; open pieces that miss blocks and are not left to somebody
//! else; a new piece; open pieces that are left to somebody else; and when nothing is missing any more,
//! blocks that others owe us (end game).

use std::time::Duration;

use torr_base::{BLOCK_LEN, Block, Instant, PieceIndex};
use torr_wire::Message;

use crate::action::{Outbox, PeerKey, Source};
use crate::assembly::{OpenPiece, Stage};
use crate::closing::SMALL_BLOCKS;
use crate::peer::Peer;
use crate::peer::turns::WIDTH_MAX;
use crate::picker::Order;
use crate::swarm::Swarm;

/// A peer that brings a whole piece within this many seconds gets it alone, so that it is soon
/// finished and its hash speaks about one peer.
pub(crate) const WHOLE_PIECE_SECS: u64 = 20;
/// Another peer is asked for a block that is owed for so long, where there is nothing else to ask for.
const OWED_LONG: Duration = Duration::from_secs(2);
/// Where there is more to come, twice as long for each peer that was asked, up to so many times: those who have what is
/// missing are short of upload, of which each block that comes twice takes away.
const OWED_DOUBLINGS: u8 = 6;
/// … and so many times as long as blocks take of late: if many were asked for at once, each is owed for as long as a full
/// line takes for all those before it, and nobody else could bring it sooner.
const TAKES_TIMES: u32 = 2;
/// Of how long blocks take, the last one counts for so much.
const TAKES_SHARE: u32 = 16;
/// Peers that are asked for one block in the end: those that never answer must not be all of them.
const ASKERS_MAX: u8 = 16;
/// How often an idle peer looks for such blocks.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Blocks that one peer is asked for while others owe them.
const ENDGAME_DEPTH: usize = 16;
/// A peer that brings so many bytes a second is asked for several pieces at a time …
const TURNS_RATE_MIN: u64 = 32_000_000;
/// … as many as it brings in this time, if they are not so small that they go side by side when whole.
const TURNS_MILLIS: u64 = 500;
/// Open pieces of fast peers, as a multiple of what would fit if all of them were full: most are on the way.
const FAST_FACTOR: usize = 6;
/// Their memory, with what is at the disk: six fifths of the budget. Staggered, sixteen of them hold 60 % of
/// what they would full; the buffers that serve nobody else take the rest.
const FAST_MEMORY: (usize, usize) = (6, 5);
/// How many of the rarest pieces are looked at for one that a single peer has.
const RAREST: usize = 16;
/// Complete pieces before rarity decides instead of chance.
const RANDOM_FIRST: u32 = 4;

/// Whether the peer brings a piece of that many bytes soon.
pub(crate) fn brings_whole<B>(peer: &Peer<B>, len: u32) -> bool {
    peer.down.per_second().saturating_mul(WHOLE_PIECE_SECS) >= u64::from(len)
}

impl<B> Swarm<B> {
    /// Asks the peer for blocks until it has as many requests as it should.
    pub(crate) fn fill_requests(&mut self, now: Instant, key: PeerKey, out: &mut Outbox<B>) {
        if !self.is_downloading() {
            return;
        }
        let Some(peer) = self.peers.get(key) else {
            return;
        };
        if !peer.interesting_told || !peer.can_be_asked() || !peer.requests.wants_refill() {
            return;
        }
        loop {
            let Some(peer) = self.peers.get(key) else {
                return;
            };
            if peer.requests.len() >= peer.requests.depth() {
                return;
            }
            let Some(block) = self.next_block(now, key) else {
                return;
            };
            let Some(peer) = self.peers.get_mut(key) else {
                return;
            };
            peer.requests.push(block, now);
            peer.send(Message::Request(block.raw()), out);
        }
    }

    fn next_block(&mut self, now: Instant, key: PeerKey) -> Option<Block> {
        loop {
            let peer = self.peers.get_mut(key)?;
            let Some(piece) = peer.turns.going_on().or_else(|| self.next_turn(now, key)) else {
                return self.owed_block(now, key);
            };
            let peer = self.peers.get_mut(key)?;
            if peer.may_ask(piece)
                && let Some(block) = self.assembly.ask_missing(piece, now)
            {
                return Some(block);
            }
            peer.turns.remove(piece);
        }
    }

    /// Whose turn it is at that peer, after one more piece was taken if there should be one.
    fn next_turn(&mut self, now: Instant, key: PeerKey) -> Option<PieceIndex> {
        let width = self.width(now, key)?;
        if self.peers.get(key)?.turns.len() < width
            && let Some(piece) = self.take_piece(now, key, width > 1)
        {
            self.peers.get_mut(key)?.turns.push(piece);
        }
        let Self {
            peers,
            assembly,
            geometry,
            ..
        } = self;
        let (turns, blocks) = (&mut peers.get_mut(key)?.turns, geometry.block_count_max());
        turns.next(width, blocks, |piece| assembly.asked_share(piece))
    }

    /// How many pieces the peer is asked for at a time: one, or as many as it brings in a moment where it
    /// is so fast that hashing them costs more than all else.
    fn width(&self, now: Instant, key: PeerKey) -> Option<usize> {
        let rate = self.peers.get(key)?.down.at_best(now);
        let small = self.geometry.block_count_max() <= SMALL_BLOCKS;
        if rate < TURNS_RATE_MIN || small || self.config.sequential {
            return Some(1);
        }
        let piece_len = u64::from(self.geometry.piece_len_max());
        let in_time = rate * TURNS_MILLIS / 1_000 / piece_len;
        // Staggered they hold half of what they would full, beside one that is at the disk.
        let blocks = self.geometry.block_count_max().max(1) as usize;
        let (more, than) = FAST_MEMORY;
        let room = (self.assembly_room * more / than).saturating_sub(blocks);
        let most = self.open_pieces_max().min(room / blocks);
        let share = most * 2 / self.senders.max(1) as usize;
        Some((in_time as usize).min(share).clamp(1, WIDTH_MAX))
    }

    /// One more piece to ask the peer for.
    fn take_piece(&mut self, now: Instant, key: PeerKey, fast: bool) -> Option<PieceIndex> {
        let piece = if self.is_only_source(key) || self.is_doubtful(key) {
            // Others can finish what is begun; nobody else can begin this. And a piece that comes from one peer alone
            // tells at once what it is worth: who lies would spoil many that others have a part in.
            let open = self.open_piece(now, key, fast);
            open.or_else(|| self.join(key, false))
        } else {
            let joined = self.join(key, false);
            joined.or_else(|| self.open_piece(now, key, fast))
        };
        // What is left to others only where there is nothing else at all.
        if piece.is_some() || self.peers.get(key)?.turns.len() > 0 {
            return piece;
        }
        if !self.is_full(fast) && self.relieve_web_seed(now, key) {
            return self.open_piece(now, key, fast);
        }
        self.join(key, true)
    }

    /// Whether no piece with blocks of that peer passed so far, or one failed and may be its fault.
    fn is_doubtful(&self, key: PeerKey) -> bool {
        let peer = self.peers.get(key);
        peer.is_some_and(|peer| peer.good_pieces == 0) || self.blame.suspects(key.into())
    }

    /// Whether the peer has one of the rarest pieces, and is the only one that has it.
    fn is_only_source(&self, key: PeerKey) -> bool {
        let Some(peer) = self.peers.get(key) else {
            return false;
        };
        let a = &self.picker.availability;
        let mut rarest = a.iter().take(RAREST).filter(|piece| a.of(*piece) == 1);
        !self.config.sequential
            && self.peers.len() > 1
            && rarest.any(|piece| peer.have.get(piece) && peer.may_ask(piece))
    }

    /// An open piece with missing blocks that the peer has: of those nearest to their end. `owned`:
    /// also those that are left to somebody else, unless its hash shall speak about that peer.
    fn join(&self, key: PeerKey, owned: bool) -> Option<PieceIndex> {
        if self.assembly.missing() == 0 {
            return None;
        }
        let peer = self.peers.get(key)?;
        let fits = self.assembly.wanting().filter(|(piece, open)| {
            let free = match open.owner {
                None => true,
                Some(owner) => owner == Source::Peer(key) || (owned && !open.parole),
            };
            free && open.stage == Stage::Filling
                && !peer.turns.contains(*piece)
                && open.missing() > 0
                && peer.have.get(*piece)
                && peer.may_ask(*piece)
                && self.wanted.get(*piece)
        });
        fits.min_by_key(|(_, open)| open.missing())
            .map(|(piece, _)| piece)
    }

    /// Opens the piece that the picker names, if there is room for one more.
    fn open_piece(&mut self, now: Instant, key: PeerKey, fast: bool) -> Option<PieceIndex> {
        let inserted = self.picker.availability.inserted();
        if self.is_full(fast) || self.peers.get(key)?.barren_at == Some(inserted) {
            return None;
        }
        let order = if self.config.sequential {
            Order::Sequential
        } else if self.have.count() < RANDOM_FIRST {
            Order::RandomFirst
        } else {
            Order::RarestFirst
        };
        let Self {
            peers,
            blame,
            picker,
            geometry,
            ..
        } = &mut *self;
        let peer = peers.get(key)?;
        // A suspect piece is not left again to who was slow with it, while somebody else could have it.
        let fresh = |piece, (other, peer): (PeerKey, &Peer<B>)| {
            !blame.was_slow(piece, other.into()) && peer.have.get(piece) && peer.may_ask(piece)
        };
        let may_try = |piece| {
            !blame.was_slow(piece, key.into()) || !peers.iter().any(|other| fresh(piece, other))
        };
        // Of a peer that chokes us there are only a few to look at, not all that are wanted.
        let allowed = |piece| peer.may_ask(piece) && may_try(piece);
        let piece = if peer.chokes_us {
            picker.among(&peer.fast_for_us, &peer.have, allowed)
        } else {
            let (have, count) = (&peer.have, peer.interesting);
            picker.next(have, count, order, allowed)
        };
        let Some(piece) = piece else {
            // Until a piece comes back or the peer gets one, there is no use in looking again; what it may
            // try changes with what others do.
            let settled = blame.is_calm().then_some(inserted);
            peers.get_mut(key)?.barren_at = settled;
            return None;
        };
        let peer = peers.get(key)?;
        let piece = if order == Order::RarestFirst && peer.down.per_second() >= TURNS_RATE_MIN {
            let fits = |piece| peer.have.get(piece) && allowed(piece);
            picker.in_a_row(peer.opened, piece, geometry.piece_len_max(), fits)
        } else {
            piece
        };
        let unknown = peer.good_pieces == 0 && peer.down.at_best(now) == 0;
        let suspect = blame.suspects(key.into());
        let whole = unknown || suspect || brings_whole(peer, geometry.piece_len(piece));
        let parole = self.blame.is_suspect(piece);
        self.picker.availability.remove(piece);
        let open = self
            .assembly
            .open(piece, (whole || parole).then_some(key.into()), now);
        open.parole = parole;
        if let Some(peer) = self.peers.get_mut(key) {
            peer.opened = Some(piece);
        }
        Some(piece)
    }

    /// Whether no further piece may be opened. Those of a fast peer are staggered and soon whole, so what
    /// counts is the memory that is taken, not what they would take if all filled up at once. To a lesser
    /// degree that holds for all: the wider the lanes, the cheaper the hash.
    pub(crate) fn is_full(&self, fast: bool) -> bool {
        let active = self.assembly.active();
        if fast {
            let (more, than) = FAST_MEMORY;
            self.assembly.memory() * than >= self.assembly_room * more
                || active >= FAST_FACTOR * self.open_pieces_max()
        } else {
            let most = self.open_pieces_max();
            active >= 2 * most || active >= most && self.assembly.memory() >= self.assembly_room / 2
        }
    }

    /// How many pieces may be open: what the assembly budget holds, and never fewer than two.
    fn open_pieces_max(&self) -> usize {
        let blocks = self.geometry.block_count_max().max(1) as usize;
        (self.assembly_room / blocks).max(2)
    }

    /// A block that others owe us for some time, once nothing is left that nobody was asked for: in
    /// the end game, or while the memory for unfinished pieces is all taken, which one slow peer
    /// could otherwise keep so.
    fn owed_block(&mut self, now: Instant, key: PeerKey) -> Option<Block> {
        if now < self.peers.get(key)?.looks_at_owed {
            return None;
        }
        if self.is_line_full(now) {
            self.peers.get_mut(key)?.looks_at_owed = now + LOOK_EVERY;
            return None;
        }
        let endgame = self.is_endgame();
        let tight = self.assembly.missing() == 0 && self.is_full(false);
        let last = self.picker.availability.candidates() == 0;
        let usual = self.block_takes * TAKES_TIMES;
        let owed_long = |by: u8| match last {
            true => OWED_LONG,
            false => (OWED_LONG * (1 << (by.clamp(1, OWED_DOUBLINGS) - 1))).max(usual),
        };
        let peer = self.peers.get_mut(key)?;
        if !(endgame || tight) || peer.requests.len() >= ENDGAME_DEPTH {
            return None;
        }
        let open = self.assembly.iter().filter(|(piece, open)| {
            let alone = open.parole && open.owner != Some(key.into());
            !alone && peer.have.get(*piece) && peer.may_ask(*piece)
        });
        let geometry = self.geometry;
        let blocks = open.flat_map(|(piece, open)| {
            let late = open
                .asked()
                .filter(|(_, by, at)| *by < ASKERS_MAX && now.since(*at) >= owed_long(*by));
            late.map(move |(index, by, at)| (at, by, geometry.block_at(piece, index)))
        });
        let fresh = blocks.filter(|(.., block)| !peer.requests.contains(*block));
        let Some((.., block)) = fresh.min_by_key(|(at, by, block)| (*by, *at, *block)) else {
            peer.looks_at_owed = now + LOOK_EVERY;
            return None;
        };
        self.assembly.ask_again(block, now);
        Some(block)
    }

    /// Whether what peers owe us that do answer keeps our line busy for as long as makes a block late: then
    /// each block is owed for so long because the line is slow, and asking for it twice only fills it more.
    fn is_line_full(&self, now: Instant) -> bool {
        let answering = self
            .peers
            .values()
            .filter(|peer| peer.requests.answers(now));
        let (mut blocks, mut rate) = (0, 0);
        for peer in answering {
            blocks += peer.requests.len();
            rate += peer.down.per_second();
        }
        blocks > ENDGAME_DEPTH && blocks as u64 * u64::from(BLOCK_LEN) > rate * OWED_LONG.as_secs()
    }

    /// A block came so long after it was asked for.
    pub(crate) fn block_took(&mut self, took: Duration) {
        self.block_takes = self.block_takes - self.block_takes / TAKES_SHARE + took / TAKES_SHARE;
    }

    /// Whether every wanted block that anybody has is here or owed by somebody. What is left to a peer
    /// on parole is as good as owed.
    pub(crate) fn is_endgame(&self) -> bool {
        let a = &self.picker.availability;
        let free = |(piece, open): (PieceIndex, &OpenPiece<B>)| {
            open.missing() > 0 && !open.parole && self.wanted.get(piece) && a.of(piece) > 0
        };
        let none_free = || self.assembly.missing() == 0 || !self.assembly.wanting().any(free);
        a.reachable() == 0 && none_free()
    }

    /// A block has come: whoever else was asked for it need not send it.
    pub(crate) fn cancel_at_others(
        &mut self,
        now: Instant,
        block: Block,
        from: Source,
        out: &mut Outbox<B>,
    ) {
        self.web.forgo(block);
        let others = self.peers.iter_mut();
        let others = others.filter(|(key, _)| Source::Peer(*key) != from);
        for (_, peer) in others {
            if peer.requests.cancel(block, now) {
                peer.send(Message::Cancel(block.raw()), out);
            }
        }
    }
}
