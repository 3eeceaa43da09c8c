//! One fetch: a run of blocks that come in order, cut into ranges of files.

use std::collections::VecDeque;
use std::ops::Range;

use torr_base::{Block, Geometry, Instant, PieceIndex};
use torr_metainfo::{FileIndex, FileMap};

/// Where in the torrent's bytes the range of one file lies, and the padding about it, which is not asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) file: FileIndex,
    /// Bytes of the file before the range.
    pub(super) offset: u64,
    /// Bytes of the torrent: before `from` and after `to` there are zeros, up to `end`.
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) end: u64,
}

impl Part {
    /// The next part of `at..end`; `None` where no file has a byte of it.
    pub(super) fn next(map: &FileMap, at: u64, end: u64) -> Option<Self> {
        let mut from = at;
        let mut part: Option<Self> = None;
        for segment in map.segments(at, end.saturating_sub(at)) {
            match &mut part {
                None if segment.pad => from += segment.len,
                None => {
                    part = Some(Self {
                        file: segment.file,
                        offset: segment.offset,
                        from,
                        to: from + segment.len,
                        end: from + segment.len,
                    });
                }
                Some(part) if segment.pad => part.end += segment.len,
                Some(_) => break,
            }
        }
        part
    }

    /// Bytes of the file.
    pub(super) fn range(&self) -> (u64, u64) {
        (self.offset, self.offset + (self.to - self.from))
    }
}

#[derive(Debug)]
pub(crate) struct Fetch<B> {
    /// The place of its web seed.
    pub(super) seed: u16,
    /// Bytes of the torrent: the next to come, and the end.
    pub(super) at: u64,
    pub(super) end: u64,
    pub(super) part: Part,
    /// Counts the parts; answers to earlier ones are late.
    pub(super) number: u32,
    /// The answer's head was right, so that its body may come.
    pub(super) in_body: bool,
    /// Pieces that are not begun.
    pub(super) reserved: Range<u32>,
    /// The piece that it is at, once it is open.
    pub(super) piece: Option<PieceIndex>,
    /// Blocks of it that are counted as asked, in order.
    pub(super) owed: VecDeque<u32>,
    pub(super) landing: Option<(Block, B)>,
    /// For a buffer, or for a rate limit: the server is not to blame.
    pub(super) waiting: bool,
    pub(super) begun: Instant,
    pub(super) heard: Instant,
    /// Bytes that came.
    pub(super) came: u64,
}

impl<B> Fetch<B> {
    /// The block that is next, and where in it the next byte goes.
    pub(super) fn place(&self, geometry: Geometry) -> Option<(Block, u32)> {
        let piece_len = u64::from(geometry.piece_len_max());
        let piece = geometry.piece(u32::try_from(self.at / piece_len).ok()?)?;
        let offset = u32::try_from(self.at - geometry.piece_start(piece)).ok()?;
        let index = offset / torr_base::BLOCK_LEN;
        let block = geometry.block_at(piece, index);
        Some((block, offset - index * torr_base::BLOCK_LEN))
    }

    /// Where in the piece of that length it stops, as a number of blocks.
    pub(super) fn blocks_until(&self, geometry: Geometry, piece: PieceIndex) -> u32 {
        let to = self.end.saturating_sub(geometry.piece_start(piece));
        let to = to.div_ceil(u64::from(torr_base::BLOCK_LEN));
        u32::try_from(to).map_or(u32::MAX, |to| to.min(geometry.block_count(piece)))
    }

    /// Leaves the last of its reserved pieces to others; gives back which.
    pub(super) fn cut(&mut self, geometry: Geometry, from: PieceIndex) -> Range<u32> {
        debug_assert!(self.reserved.contains(&from.get()));
        let free = from.get()..self.reserved.end;
        self.reserved.end = from.get();
        self.end = self.end.min(geometry.piece_start(from));
        free
    }

    pub(super) fn forgo(&mut self, block: Block) {
        if self.piece == Some(block.piece)
            && let Ok(place) = self.owed.binary_search(&block.index)
        {
            self.owed.remove(place);
        }
    }

    /// Piece and index of what it owes.
    pub(super) fn owed(&self) -> impl Iterator<Item = (PieceIndex, u32)> + '_ {
        let piece = self.piece.into_iter();
        piece.flat_map(|piece| self.owed.iter().map(move |index| (piece, *index)))
    }

    /// Bytes a second since it began.
    pub(super) fn rate(&self, now: Instant) -> u64 {
        let nanos = now.since(self.begun).as_nanos().max(1);
        let rate = u128::from(self.came) * 1_000_000_000 / nanos;
        u64::try_from(rate).unwrap_or(u64::MAX)
    }

    /// How long until it comes to that piece at the rate it has, in milliseconds.
    pub(super) fn millis_to(&self, geometry: Geometry, piece: PieceIndex, now: Instant) -> u64 {
        let bytes = geometry.piece_start(piece).saturating_sub(self.at);
        bytes.saturating_mul(1_000) / self.rate(now).max(1)
    }
}
