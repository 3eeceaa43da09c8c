//! What a web seed is asked for, and what is taken from one that is slow.

use std::ops::Range;
use std::time::Duration;

use torr_base::{BLOCK_LEN, Geometry, Instant, PieceIndex};

use super::gap;
use crate::action::{PeerKey, Source};
use crate::assembly::Stage;
use crate::peer::Peer;
use crate::swarm::Swarm;

/// How long a run should take, and its length in bytes at least and at most.
const RUN_SECS: u64 = 4;
const RUN_MIN: u64 = 1 << 20;
const RUN_MAX: u64 = 64 << 20;
/// A piece that a web seed comes to later than that may be taken by somebody who has nothing else to do.
const RELIEF_MILLIS: u64 = 2_000;
/// Pieces of a run that are looked at, from its end, for one that somebody else can give.
const LOOK_MAX: usize = 64;
/// As for peers: a block that is owed for so long is asked of another in the end.
const OWED_LONG: Duration = Duration::from_secs(2);
/// Blocks that are asked for in one request although others owe them.
const ENDGAME_BLOCKS: u32 = 64;
/// Those who are asked for one block in the end.
const ASKERS_MAX: u8 = 4;

/// What a fetch is to bring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// Bytes of the torrent.
    pub(super) at: u64,
    pub(super) end: u64,
    /// Whole pieces that nobody has begun; none where it is for a part of an open one.
    pub(super) reserved: Range<u32>,
}

impl Run {
    fn of_pieces(geometry: Geometry, pieces: Range<u32>) -> Self {
        let last = PieceIndex::new(pieces.end.saturating_sub(1));
        let end = geometry.piece_start(last) + u64::from(geometry.piece_len(last));
        Self {
            at: geometry.piece_start(PieceIndex::new(pieces.start)),
            end,
            reserved: pieces,
        }
    }

    fn of_blocks(geometry: Geometry, piece: PieceIndex, blocks: Range<u32>) -> Self {
        let start = geometry.piece_start(piece);
        let len = u64::from(geometry.piece_len(piece));
        let block = u64::from(BLOCK_LEN);
        Self {
            at: start + u64::from(blocks.start) * block,
            end: start + (u64::from(blocks.end) * block).min(len),
            reserved: 0..0,
        }
    }

    /// The pieces it has bytes of.
    pub(super) fn pieces(&self, geometry: Geometry) -> Range<u32> {
        let piece_len = u64::from(geometry.piece_len_max());
        // Below the number of pieces, which has 32 bits.
        (self.at / piece_len) as u32..self.end.div_ceil(piece_len) as u32
    }
}

impl<B> Swarm<B> {
    /// What to ask that web seed for: a gap; else what is missing of pieces that others began; else what another
    /// web seed takes long to come to; else, in the end game, blocks that others owe us for long.
    pub(super) fn choose_run(&mut self, now: Instant, place: u16) -> Option<Run> {
        if self.picker.availability.candidates() == 0 {
            let open = self.missing_span(place);
            if open.is_some() {
                return open;
            }
            self.relieve_slower(now, place);
        }
        let gap = self.choose_gap(now, place);
        let open = gap.or_else(|| self.missing_span(place));
        open.or_else(|| self.owed_span(now, place))
    }

    fn choose_gap(&self, now: Instant, place: u16) -> Option<Run> {
        let seed = self.web.seeds.get(usize::from(place))?;
        let a = &self.picker.availability;
        if a.candidates() == 0 {
            return None;
        }
        let peers = &self.peers;
        let source = Source::Web(place);
        // As with peers: a suspect piece is not left again to who was slow with it, while somebody else could
        // have it.
        let fresh = |piece, (key, peer): (PeerKey, &Peer<B>)| {
            let slow = self.blame.was_slow(piece, key.into());
            !slow && peer.have.get(piece) && peer.may_ask(piece)
        };
        let may_try = |piece| {
            let slow = self.blame.was_slow(piece, source);
            !slow || !peers.iter().any(|other| fresh(piece, other))
        };
        let free =
            |piece: PieceIndex| a.is_candidate(piece) && seed.may_give(piece) && may_try(piece);
        let pieces = self.geometry.piece_count();
        let want = self.run_len(now, place);
        let look = |from: u32, fits: &dyn Fn(PieceIndex) -> bool| {
            gap::find(pieces, from, want, |piece| {
                let piece = PieceIndex::new(piece);
                free(piece) && fits(piece)
            })
        };
        let high = (a.high_count() > 0).then(|| a.iter().next()).flatten();
        let found = if let Some(first) = high {
            look(first.get(), &|piece| a.is_high(piece))
        } else if self.config.sequential {
            let first = a.in_order().find(|piece| free(*piece));
            first.map(|first| {
                let row = first.get()..pieces.min(first.get().saturating_add(want));
                let mut row = row.take_while(|piece| free(PieceIndex::new(*piece)));
                first.get()..row.by_ref().last().map_or(first.get(), |last| last + 1)
            })
        } else if a.reachable() < a.candidates() {
            // What no peer has comes first: the rest they can give as well.
            look(seed.cursor, &|piece| a.of(piece) == 0)
        } else {
            None
        };
        let found = found.or_else(|| look(seed.cursor, &|_| true))?;
        Some(Run::of_pieces(self.geometry, found))
    }

    /// So many pieces as the web seed brings in some seconds.
    fn run_len(&self, now: Instant, place: u16) -> u32 {
        let rate = match self.web.seeds.get(usize::from(place)) {
            Some(seed) => seed.down.at_best(now),
            None => 0,
        };
        let under_way = self.web.of_seed(place).count() as u64 + 1;
        let bytes = (rate.saturating_mul(RUN_SECS) / under_way).clamp(RUN_MIN, RUN_MAX);
        let pieces = bytes / u64::from(self.geometry.piece_len_max());
        pieces.clamp(1, u64::from(u32::MAX)) as u32
    }

    /// Blocks in a row of an open piece that nobody is asked for.
    fn missing_span(&self, place: u16) -> Option<Run> {
        let seed = self.web.seeds.get(usize::from(place))?;
        let fits = self.assembly.wanting().filter(|(piece, open)| {
            let free = match open.owner {
                None => true,
                // Another takes its time with a large one.
                Some(_) => !open.parole && self.picker.availability.candidates() == 0,
            };
            free && open.stage == Stage::Filling
                && seed.may_give(*piece)
                && self.wanted.get(*piece)
                && !self.is_at(place, *piece)
        });
        let (piece, open) = fits.min_by_key(|(_, open)| open.missing())?;
        let span = open.missing_span();
        (!span.is_empty()).then(|| Run::of_blocks(self.geometry, piece, span))
    }

    /// Blocks in a row that others owe us for long, where nothing else is left.
    fn owed_span(&self, now: Instant, place: u16) -> Option<Run> {
        if self.picker.availability.candidates() > 0 || self.web.has_reserved() {
            return None;
        }
        let seed = self.web.seeds.get(usize::from(place))?;
        let fits = self.assembly.iter().filter(|(piece, open)| {
            !open.parole
                && seed.may_give(*piece)
                && self.wanted.get(*piece)
                && !self.is_at(place, *piece)
        });
        let late = fits.filter_map(|(piece, open)| {
            let mut late = open
                .asked()
                .filter(|(_, by, at)| *by < ASKERS_MAX && now.since(*at) >= OWED_LONG);
            let (first, _, at) = late.next()?;
            let row = (first + 1..)
                .zip(late)
                .take_while(|(due, (it, ..))| due == it);
            let more = (row.count() as u32).min(ENDGAME_BLOCKS - 1);
            Some((at, piece, first..first + 1 + more))
        });
        let (_, piece, span) = late.min_by_key(|(at, piece, _)| (*at, *piece))?;
        Some(Run::of_blocks(self.geometry, piece, span))
    }

    /// Whether that web seed is asked for blocks of the piece already.
    fn is_at(&self, place: u16, piece: PieceIndex) -> bool {
        let mut fetches = self.web.of_seed(place);
        fetches.any(|(_, fetch)| fetch.piece == Some(piece))
    }

    /// A peer has nothing to ask for: pieces that a web seed takes long to come to become free, one that
    /// the peer has among them. False where there is none.
    pub(crate) fn relieve_web_seed(&mut self, now: Instant, key: PeerKey) -> bool {
        let Some(peer) = self.peers.get(key) else {
            return false;
        };
        let can = |piece: PieceIndex| peer.have.get(piece) && peer.may_ask(piece);
        let found = self.latest_reserved(now, None, can);
        self.unreserve_from(found)
    }

    /// The same for a web seed.
    fn relieve_slower(&mut self, now: Instant, place: u16) -> bool {
        let Some(seed) = self.web.seeds.get(usize::from(place)) else {
            return false;
        };
        let found = self.latest_reserved(now, Some(place), |piece| seed.may_give(piece));
        self.unreserve_from(found)
    }

    /// The reserved piece that is waited for longest, out of those that `can` be had elsewhere.
    fn latest_reserved(
        &self,
        now: Instant,
        except: Option<u16>,
        can: impl Fn(PieceIndex) -> bool,
    ) -> Option<(super::FetchKey, PieceIndex)> {
        let fetches = self.web.fetches.iter();
        let others = fetches.filter(|(_, fetch)| Some(fetch.seed) != except);
        let found = others.filter_map(|(key, fetch)| {
            let mut row = fetch.reserved.clone().map(PieceIndex::new);
            if !fetch.waiting && now.since(fetch.heard) >= OWED_LONG {
                // It has come to a halt: all of it is free.
                let piece = row.take(LOOK_MAX).find(|piece| can(*piece))?;
                return Some((u64::MAX, key, piece));
            }
            let piece = row
                .by_ref()
                .rev()
                .take(LOOK_MAX)
                .find(|piece| can(*piece))?;
            let wait = fetch.millis_to(self.geometry, piece, now);
            (wait >= RELIEF_MILLIS).then_some((wait, key, piece))
        });
        let (_, key, piece) = found.max_by_key(|(wait, ..)| *wait)?;
        Some((key, piece))
    }

    fn unreserve_from(&mut self, found: Option<(super::FetchKey, PieceIndex)>) -> bool {
        let Some((key, piece)) = found else {
            return false;
        };
        let Some(fetch) = self.web.fetches.get_mut(key) else {
            return false;
        };
        for free in fetch.cut(self.geometry, piece).map(PieceIndex::new) {
            if self.wants(free) {
                self.picker.availability.insert(free);
            }
        }
        true
    }
}
