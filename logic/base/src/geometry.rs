//! How a torrent's bytes divide into pieces and blocks (BEP 3).
//!
//! [`Geometry`] is the only road from numbers on the wire to a [`PieceIndex`] or a [`Block`]: whoever
//! holds one of those knows that it is in range for the torrent it came from.

use std::fmt;

/// Bytes in a block: the unit that peers ask for. Only the last block of a torrent may be shorter, or
/// the last of each piece where the piece length is no multiple of it.
pub const BLOCK_LEN: u32 = 16 * 1024;

/// Most pieces a torrent may have, so that the tables that hold something for each stay bounded.
pub const PIECES_MAX: u32 = 1 << 22;

/// A piece length above this is refused: 512 MiB, 32 times what the field uses.
const PIECE_LEN_MAX: u32 = 1 << 29;

/// A piece of a torrent, counted from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PieceIndex(u32);

impl PieceIndex {
    /// For tests and for tables that are already bounded by a [`Geometry`]; the wire goes through
    /// [`Geometry::piece`].
    #[must_use]
    pub const fn new(index: u32) -> Self {
        Self(index)
    }

    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    #[must_use]
    pub const fn as_usize(self) -> usize {
        self.0 as usize
    }

    /// The piece after this one, which need not exist.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The piece before this one.
    #[must_use]
    pub const fn previous(self) -> Option<Self> {
        match self.0.checked_sub(1) {
            Some(index) => Some(Self(index)),
            None => None,
        }
    }
}

impl fmt::Debug for PieceIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "piece {}", self.0)
    }
}

impl fmt::Display for PieceIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The three numbers of a `request`, `piece`, `cancel` or `reject` message, as they came: nothing
/// about them is known to be true.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RawBlock {
    pub piece: u32,
    /// Bytes from the start of the piece.
    pub offset: u32,
    /// Bytes.
    pub len: u32,
}

/// One block of a torrent: in range, aligned, and of the one length that the geometry gives it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Block {
    pub piece: PieceIndex,
    /// Which block of the piece, counted from 0.
    pub index: u32,
    /// Bytes in it, at most [`BLOCK_LEN`].
    pub len: u32,
}

impl Block {
    /// Bytes from the start of the piece.
    #[must_use]
    pub const fn offset(self) -> u32 {
        self.index * BLOCK_LEN
    }

    #[must_use]
    pub const fn raw(self) -> RawBlock {
        RawBlock {
            piece: self.piece.0,
            offset: self.offset(),
            len: self.len,
        }
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.piece.0, self.offset())
    }
}

/// Why a pair of total and piece length is no torrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GeometryError {
    /// Zero, or above 512 MiB.
    PieceLength(u64),
    /// More pieces than [`PIECES_MAX`].
    TooManyPieces(u64),
}

impl fmt::Display for GeometryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PieceLength(len) => {
                write!(f, "piece length {len} is not between 1 and {PIECE_LEN_MAX}")
            }
            Self::TooManyPieces(n) => write!(f, "{n} pieces are more than {PIECES_MAX}"),
        }
    }
}

impl std::error::Error for GeometryError {}

/// Total length and piece length of a torrent, and all that follows from them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    total: u64,
    piece_len: u32,
    pieces: u32,
}

impl Geometry {
    /// `total` and `piece_len` in bytes. A total of 0 has no pieces: such torrents exist, of empty files
    /// only, and are complete from the start.
    ///
    /// # Errors
    /// See [`GeometryError`].
    pub fn new(total: u64, piece_len: u64) -> Result<Self, GeometryError> {
        let len = u32::try_from(piece_len)
            .ok()
            .filter(|len| (1..=PIECE_LEN_MAX).contains(len))
            .ok_or(GeometryError::PieceLength(piece_len))?;
        let count = total.div_ceil(u64::from(len));
        let pieces = u32::try_from(count)
            .ok()
            .filter(|n| *n <= PIECES_MAX)
            .ok_or(GeometryError::TooManyPieces(count))?;
        Ok(Self {
            total,
            piece_len: len,
            pieces,
        })
    }

    /// Bytes in the torrent.
    #[must_use]
    pub const fn total(self) -> u64 {
        self.total
    }

    /// Bytes in every piece but perhaps the last.
    #[must_use]
    pub const fn piece_len_max(self) -> u32 {
        self.piece_len
    }

    /// How many pieces there are.
    #[must_use]
    pub const fn piece_count(self) -> u32 {
        self.pieces
    }

    /// All pieces in order.
    pub fn pieces(self) -> impl DoubleEndedIterator<Item = PieceIndex> + ExactSizeIterator {
        (0..self.pieces).map(PieceIndex)
    }

    /// The piece of that number, if there is one.
    #[must_use]
    pub fn piece(self, raw: u32) -> Option<PieceIndex> {
        (raw < self.pieces).then_some(PieceIndex(raw))
    }

    /// Bytes in that piece.
    #[must_use]
    pub fn piece_len(self, piece: PieceIndex) -> u32 {
        debug_assert!(piece.0 < self.pieces, "{piece:?} of {}", self.pieces);
        let rest = self.total - self.piece_start(piece);
        u32::try_from(rest).map_or(self.piece_len, |rest| rest.min(self.piece_len))
    }

    /// Bytes of the torrent before that piece.
    #[must_use]
    pub fn piece_start(self, piece: PieceIndex) -> u64 {
        u64::from(piece.0) * u64::from(self.piece_len)
    }

    /// How many blocks that piece has.
    #[must_use]
    pub fn block_count(self, piece: PieceIndex) -> u32 {
        self.piece_len(piece).div_ceil(BLOCK_LEN)
    }

    /// Blocks in a piece of full length.
    #[must_use]
    pub fn block_count_max(self) -> u32 {
        self.piece_len.div_ceil(BLOCK_LEN)
    }

    /// The block of that number in a piece; `index` must be below [`Self::block_count`].
    #[must_use]
    pub fn block_at(self, piece: PieceIndex, index: u32) -> Block {
        let offset = index * BLOCK_LEN;
        let piece_len = self.piece_len(piece);
        debug_assert!(offset < piece_len, "block {index} of {piece:?}");
        Block {
            piece,
            index,
            len: (piece_len - offset).min(BLOCK_LEN),
        }
    }

    /// The block that a message names, if it is one: in range, aligned to [`BLOCK_LEN`], and of
    /// exactly the length that a block has there.
    #[must_use]
    pub fn block(self, raw: RawBlock) -> Option<Block> {
        let piece = self.piece(raw.piece)?;
        if !raw.offset.is_multiple_of(BLOCK_LEN) || raw.offset >= self.piece_len(piece) {
            return None;
        }
        let block = self.block_at(piece, raw.offset / BLOCK_LEN);
        (block.len == raw.len).then_some(block)
    }

    /// Whether the range that a peer's `request` names lies inside its piece and is no longer than
    /// `len_max`: other clients may ask for odd ranges, and BEP 3 lets them.
    #[must_use]
    pub fn contains(self, raw: RawBlock, len_max: u32) -> bool {
        self.piece(raw.piece).is_some_and(|piece| {
            let end = u64::from(raw.offset) + u64::from(raw.len);
            raw.len > 0 && raw.len <= len_max && end <= u64::from(self.piece_len(piece))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(piece: u32, offset: u32, len: u32) -> RawBlock {
        RawBlock { piece, offset, len }
    }

    #[test]
    fn last_piece_and_last_block_are_shorter() {
        let g = Geometry::new(100_000, 40_000).unwrap();
        assert_eq!(g.piece_count(), 3);
        assert_eq!(g.piece_len(PieceIndex(0)), 40_000);
        assert_eq!(g.piece_len(PieceIndex(2)), 20_000);
        assert_eq!(g.block_count(PieceIndex(0)), 3);
        assert_eq!(g.block_at(PieceIndex(0), 2).len, 40_000 - 2 * BLOCK_LEN);
        assert_eq!(g.block_at(PieceIndex(2), 1).len, 20_000 - BLOCK_LEN);
    }

    #[test]
    fn only_true_blocks_pass() {
        let g = Geometry::new(100_000, 40_000).unwrap();
        let last = 20_000 - BLOCK_LEN;
        assert!(g.block(raw(0, 0, BLOCK_LEN)).is_some());
        assert!(g.block(raw(2, BLOCK_LEN, last)).is_some());
        for bad in [
            raw(3, 0, BLOCK_LEN),
            raw(u32::MAX, 0, BLOCK_LEN),
            raw(0, 1, BLOCK_LEN),
            raw(0, 0, BLOCK_LEN - 1),
            raw(0, !(BLOCK_LEN - 1), BLOCK_LEN),
            raw(2, BLOCK_LEN, BLOCK_LEN),
            raw(0, 0, 0),
        ] {
            assert_eq!(g.block(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn requests_may_be_odd_but_stay_inside() {
        let g = Geometry::new(100_000, 40_000).unwrap();
        assert!(g.contains(raw(0, 7, 100), 1 << 17));
        assert!(g.contains(raw(2, 0, 20_000), 1 << 17));
        assert!(!g.contains(raw(2, 1, 20_000), 1 << 17));
        assert!(!g.contains(raw(0, u32::MAX, u32::MAX), u32::MAX));
        assert!(!g.contains(raw(0, 0, 0), 1 << 17));
    }

    #[test]
    fn a_torrent_without_bytes_has_no_pieces() {
        let g = Geometry::new(0, 16_384).unwrap();
        assert_eq!((g.total(), g.piece_count()), (0, 0));
        assert_eq!(g.pieces().next(), None);
        assert_eq!(g.piece(0), None);
        assert_eq!(g.block(raw(0, 0, 0)), None);
        assert!(!g.contains(raw(0, 0, 1), 1));
    }

    #[test]
    fn impossible_torrents_are_refused() {
        assert_eq!(Geometry::new(1, 0), Err(GeometryError::PieceLength(0)));
        assert_eq!(Geometry::new(0, 0), Err(GeometryError::PieceLength(0)));
        assert!(Geometry::new(1, 1 << 29).is_ok());
        assert!(Geometry::new(1, (1 << 29) + 1).is_err());
        assert!(Geometry::new(u64::MAX, 1 << 29).is_err());
        assert!(Geometry::new(u64::from(PIECES_MAX) + 1, 1).is_err());
    }
}
