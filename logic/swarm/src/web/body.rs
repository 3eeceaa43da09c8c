//! The body of an answer: block after block into the assembly.

use torr_base::{Block, Instant, PieceIndex};
use torr_store::BufSource;

use super::FetchKey;
use crate::action::{Outbox, Source};
use crate::assembly::Placed;
use crate::swarm::Swarm;

/// Blocks of the piece it is at that a web seed is asked for ahead, so that others can help with large pieces.
const AHEAD: usize = 512;

/// What is due of a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebDue {
    /// So many bytes of the body go to this place in the block.
    Bytes { offset: u32, len: u32 },
    /// So many bytes of the body that nobody wants.
    Skip { len: u32 },
    /// So many zeros, of padding, that are not in the body.
    Zeros { offset: u32, len: u32 },
    /// So many zeros that nobody wants.
    SkipZeros { len: u32 },
    /// A buffer is not free, or memory is short: later.
    Wait,
    /// The body has all that is wanted of it.
    End,
    /// Nobody waits for it any more.
    Gone,
}

impl<B> Swarm<B> {
    /// What the next bytes of the body are for.
    pub fn web_due(
        &mut self,
        now: Instant,
        (key, part): (FetchKey, u32),
        bufs: &mut dyn BufSource<B>,
    ) -> WebDue {
        let geometry = self.geometry;
        let found = self.web.fetches.get_mut(key);
        let Some(fetch) = found.filter(|it| it.number == part && it.in_body) else {
            return WebDue::Gone;
        };
        fetch.waiting = false;
        if fetch.at >= fetch.end || fetch.at >= fetch.part.end {
            return WebDue::End;
        }
        let Some((block, offset)) = fetch.place(geometry) else {
            return WebDue::End;
        };
        if fetch.piece != Some(block.piece) && !self.enter_piece(now, key, block.piece) {
            return WebDue::Wait;
        }
        let Some(fetch) = self.web.fetches.get_mut(key) else {
            return WebDue::Gone;
        };
        if fetch.landing.is_none() && offset == 0 && fetch.owed.front() == Some(&block.index) {
            let Some(buf) = bufs.take() else {
                fetch.waiting = true;
                return WebDue::Wait;
            };
            fetch.landing = Some((block, buf));
        }
        let (at, of) = (fetch.at, fetch.part);
        let zeros = at < of.from || at >= of.to;
        let until = match at {
            _ if at < of.from => of.from,
            _ if at < of.to => of.to,
            _ => of.end,
        };
        let rest = u64::from(block.len - offset).min(until - at);
        let len = rest as u32;
        match (fetch.landing.is_some(), zeros) {
            (true, false) => WebDue::Bytes { offset, len },
            (true, true) => WebDue::Zeros { offset, len },
            (false, false) => WebDue::Skip { len },
            (false, true) => WebDue::SkipZeros { len },
        }
    }

    /// The block that bytes go into.
    pub fn web_buf(&mut self, key: FetchKey) -> Option<(Block, &mut B)> {
        let fetch = self.web.fetches.get_mut(key)?;
        fetch.landing.as_mut().map(|(block, buf)| (*block, buf))
    }

    /// Others come first, by a rate limit: the server is not to blame.
    pub fn web_waits(&mut self, key: FetchKey) {
        if let Some(fetch) = self.web.fetches.get_mut(key) {
            fetch.waiting = true;
        }
    }

    /// So many of the bytes that were due are there; no more than [`WebDue`] said.
    pub fn web_advance(
        &mut self,
        now: Instant,
        key: FetchKey,
        n: u32,
        bufs: &mut dyn BufSource<B>,
        out: &mut Outbox<B>,
    ) {
        let geometry = self.geometry;
        let Some(fetch) = self.web.fetches.get_mut(key) else {
            return;
        };
        let Some((block, offset)) = fetch.place(geometry) else {
            return;
        };
        debug_assert!(offset + n <= block.len, "more came than was due");
        (fetch.heard, fetch.at) = (now, fetch.at + u64::from(n));
        fetch.came += u64::from(n);
        if offset + n < block.len {
            return;
        }
        let place = fetch.seed;
        let landed = fetch.landing.take();
        self.downloaded += u64::from(block.len);
        self.web.downloaded += u64::from(block.len);
        if let Some(seed) = self.web.seeds.get_mut(usize::from(place)) {
            seed.down.add(u64::from(block.len));
        }
        match landed {
            Some((_, buf)) => self.web_block(now, (key, place), block, buf, bufs, out),
            None => self.wasted += u64::from(block.len),
        }
        self.ask_ahead(now, key);
    }

    /// A block is here, whole.
    fn web_block(
        &mut self,
        now: Instant,
        (key, place): (FetchKey, u16),
        block: Block,
        buf: B,
        bufs: &mut dyn BufSource<B>,
        out: &mut Outbox<B>,
    ) {
        let fetch = self.web.fetches.get_mut(key);
        let owed = fetch.is_some_and(|fetch| {
            let first = fetch.owed.front() == Some(&block.index);
            first && fetch.owed.pop_front().is_some()
        });
        let others = self.assembly.asked(block) > u8::from(owed);
        match self.assembly.place(block, buf, Source::Web(place), now) {
            Placed::Unwanted(buf) => {
                self.wasted += u64::from(block.len);
                bufs.put(buf);
                return;
            }
            Placed::Kept => {
                self.spill_if_large(block.piece, out);
                self.hash_ahead(out);
            }
            Placed::Last => self.close_piece(now, block.piece, out),
        }
        if others {
            self.cancel_at_others(now, block, Source::Web(place), out);
        }
    }

    // ---- pieces

    /// The fetch comes to a piece. False where memory is short and will be less so.
    fn enter_piece(&mut self, now: Instant, key: FetchKey, piece: PieceIndex) -> bool {
        let large = self.has_large_pieces();
        let full = self.assembly.memory() >= self.assembly_room;
        if full && !large && self.has_jobs() {
            if let Some(fetch) = self.web.fetches.get_mut(key) {
                fetch.waiting = true;
            }
            return false;
        }
        self.leave_piece(key);
        let Some(fetch) = self.web.fetches.get_mut(key) else {
            return false;
        };
        debug_assert_eq!(fetch.reserved.start, piece.get(), "pieces come in order");
        fetch.reserved.start = piece.get() + 1;
        fetch.piece = Some(piece);
        let owner = Source::Web(fetch.seed);
        let parole = self.blame.is_suspect(piece);
        self.assembly.open(piece, Some(owner), now).parole = parole;
        self.ask_ahead(now, key);
        true
    }

    /// A piece that others began: the fetch is for some of its blocks only.
    pub(super) fn join_piece(&mut self, now: Instant, key: FetchKey) {
        let geometry = self.geometry;
        let Some(fetch) = self.web.fetches.get_mut(key) else {
            return;
        };
        let Some((block, _)) = fetch.place(geometry) else {
            return;
        };
        fetch.piece = Some(block.piece);
        for index in block.index..fetch.blocks_until(geometry, block.piece) {
            let block = geometry.block_at(block.piece, index);
            if self.assembly.ask(block, now) {
                fetch.owed.push_back(index);
            }
        }
    }

    /// Counts more of the piece that the fetch is at as asked.
    fn ask_ahead(&mut self, now: Instant, key: FetchKey) {
        let geometry = self.geometry;
        let Some(fetch) = self.web.fetches.get_mut(key) else {
            return;
        };
        let (Some(piece), Some((next, offset))) = (fetch.piece, fetch.place(geometry)) else {
            return;
        };
        // What is about to be skipped cannot be kept any more.
        if next.piece != piece || offset != 0 || fetch.owed.len() > AHEAD / 2 {
            return;
        }
        let until = fetch.blocks_until(geometry, piece);
        while fetch.owed.len() < AHEAD {
            let from = fetch.owed.back().map_or(next.index, |last| last + 1);
            match self.assembly.ask_within(piece, from..until, now) {
                Some(block) => fetch.owed.push_back(block.index),
                None => return,
            }
        }
    }

    /// The fetch is through with the piece that it is at: others may go on with it.
    pub(super) fn leave_piece(&mut self, key: FetchKey) {
        let Some(fetch) = self.web.fetches.get_mut(key) else {
            return;
        };
        let Some(piece) = fetch.piece.take() else {
            return;
        };
        let owner = Source::Web(fetch.seed);
        let owed = std::mem::take(&mut fetch.owed);
        self.disown(owner, piece);
        for index in owed {
            self.release_request(self.geometry.block_at(piece, index));
        }
    }
}
