//! Where the bytes of a torrent are in its files (BEP 3), and which of them are in no file (BEP 47).
//!
//! The files of a torrent lie end to end, in the order of the list. Offsets count from the start of the
//! first one; lengths and offsets are bytes.
//!
//! Invariants:
//! - The segments of a range are in order, not empty, and their lengths add up to the range's.
//! - A file of zero length is in no segment.
//! - Finding the first segment takes `log n` steps in the number of files, each further one step.

use std::fmt;

use torr_base::{Geometry, GeometryError, PieceIndex};

/// A file of a torrent, counted from 0 in the order of the list; pad files count.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileIndex(u32);

impl FileIndex {
    /// For whoever counts files; all that take one answer for a file past the end too.
    #[must_use]
    pub const fn new(index: u32) -> Self {
        Self(index)
    }

    /// The number, from 0.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The number, as an index into a table.
    #[must_use]
    pub const fn as_usize(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Debug for FileIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "file {}", self.0)
    }
}

impl fmt::Display for FileIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A stretch of bytes inside one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The file it is in.
    pub file: FileIndex,
    /// Bytes from the start of that file.
    pub offset: u64,
    /// Bytes, at least 1.
    pub len: u64,
    /// The bytes are zeros and stored nowhere: the file is padding (BEP 47).
    pub pad: bool,
}

/// The geometry of a torrent and the files under it.
#[derive(Clone, Debug)]
pub struct FileMap {
    geometry: Geometry,
    /// Where each file starts, and at the end the total.
    starts: Vec<u64>,
    pads: Vec<bool>,
    /// The files that are not empty. Bytes are looked up here, so that a million empty files in a row
    /// are never walked over.
    filled: Vec<u32>,
}

impl FileMap {
    /// `files`: for each file its length and whether it is padding, at most
    /// [`FILES_MAX`](crate::FILES_MAX) of them.
    ///
    /// # Errors
    /// Where the lengths and the piece length are no [`Geometry`].
    pub fn new(
        piece_len: u64,
        files: impl IntoIterator<Item = (u64, bool)>,
    ) -> Result<Self, GeometryError> {
        let (mut starts, mut pads, mut filled) = (vec![0], Vec::new(), Vec::new());
        let mut total = 0_u64;
        for (index, (len, pad)) in (0_u32..).zip(files) {
            // A sum that overflows is beyond any geometry.
            total = total.saturating_add(len);
            starts.push(total);
            pads.push(pad);
            if len > 0 {
                filled.push(index);
            }
        }
        Ok(Self {
            geometry: Geometry::new(total, piece_len)?,
            starts,
            pads,
            filled,
        })
    }

    /// Pieces and blocks.
    #[must_use]
    pub const fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// How many files there are, pad files too.
    #[must_use]
    pub fn file_count(&self) -> u32 {
        self.pads.len() as u32
    }

    /// All files in order.
    pub fn files(&self) -> impl DoubleEndedIterator<Item = FileIndex> + ExactSizeIterator + use<> {
        (0..self.file_count()).map(FileIndex)
    }

    /// The file of that number, if there is one.
    #[must_use]
    pub fn file(&self, raw: u32) -> Option<FileIndex> {
        (raw < self.file_count()).then_some(FileIndex(raw))
    }

    /// Bytes of the torrent before that file; the total for one past the end.
    #[must_use]
    pub fn start(&self, file: FileIndex) -> u64 {
        let start = self.starts.get(file.as_usize()).copied();
        start.unwrap_or(self.geometry.total())
    }

    /// Bytes in that file; 0 for one past the end.
    #[must_use]
    pub fn len(&self, file: FileIndex) -> u64 {
        let end = self.starts.get(file.as_usize().saturating_add(1)).copied();
        end.map_or(0, |end| end - self.start(file))
    }

    /// Whether the torrent has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.geometry.total() == 0
    }

    /// Whether that file is padding: zeros that are stored nowhere.
    #[must_use]
    pub fn is_pad(&self, file: FileIndex) -> bool {
        self.pads.get(file.as_usize()).copied().unwrap_or(false)
    }

    /// Bytes that are stored: the total without pad files.
    #[must_use]
    pub fn stored(&self) -> u64 {
        let pads = self.files().filter(|file| self.is_pad(*file));
        self.geometry.total() - pads.map(|file| self.len(file)).sum::<u64>()
    }

    /// The files under a range of the torrent's bytes. What lies beyond the end is left out.
    #[must_use]
    pub fn segments(&self, offset: u64, len: u64) -> Segments<'_> {
        let end = offset.saturating_add(len).min(self.geometry.total());
        let first = self.filled.partition_point(|file| {
            let file = FileIndex(*file);
            self.start(file) + self.len(file) <= offset
        });
        Segments {
            map: self,
            filled: self.filled.get(first..).unwrap_or_default(),
            offset,
            end,
        }
    }

    /// The files under a piece.
    #[must_use]
    pub fn segments_of_piece(&self, piece: PieceIndex) -> Segments<'_> {
        let len = match self.geometry.piece(piece.get()) {
            Some(piece) => self.geometry.piece_len(piece),
            None => 0,
        };
        self.segments(self.geometry.piece_start(piece), u64::from(len))
    }

    /// The pieces that hold a byte of that file, in order; none for an empty file.
    pub fn pieces_of(
        &self,
        file: FileIndex,
    ) -> impl DoubleEndedIterator<Item = PieceIndex> + ExactSizeIterator + use<> {
        let piece_len = u64::from(self.geometry.piece_len_max());
        let start = self.start(file);
        let end = start + self.len(file);
        let range = if start == end {
            0..0
        } else {
            // Below the number of pieces, which has 32 bits.
            (start / piece_len) as u32..end.div_ceil(piece_len) as u32
        };
        range.map(PieceIndex::new)
    }
}

/// The segments of a range, in order. Made by [`FileMap::segments`].
#[derive(Clone, Debug)]
pub struct Segments<'a> {
    map: &'a FileMap,
    /// The file that holds `offset`, and all after it.
    filled: &'a [u32],
    offset: u64,
    end: u64,
}

impl Iterator for Segments<'_> {
    type Item = Segment;

    fn next(&mut self) -> Option<Segment> {
        if self.offset >= self.end {
            return None;
        }
        let (file, rest) = self.filled.split_first()?;
        let file = FileIndex(*file);
        let start = self.map.start(file);
        let end = self.end.min(start + self.map.len(file));
        let segment = Segment {
            file,
            offset: self.offset - start,
            len: end - self.offset,
            pad: self.map.is_pad(file),
        };
        self.filled = rest;
        self.offset = end;
        Some(segment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seg(file: u32, offset: u64, len: u64, pad: bool) -> Segment {
        let file = FileIndex(file);
        Segment {
            file,
            offset,
            len,
            pad,
        }
    }

    #[test]
    fn a_piece_over_several_files() {
        let files = [(5, false), (0, false), (3, true), (0, false), (8, false)];
        let map = FileMap::new(4, files).unwrap();
        assert_eq!((map.geometry().piece_count(), map.stored()), (4, 13));
        let all = |offset, len| map.segments(offset, len).collect::<Vec<_>>();
        assert_eq!(
            all(4, 5),
            [seg(0, 4, 1, false), seg(2, 0, 3, true), seg(4, 0, 1, false)]
        );
        assert_eq!(all(5, 1), [seg(2, 0, 1, true)]);
        assert_eq!(all(15, 100), [seg(4, 7, 1, false)]);
        assert_eq!(all(16, 1), []);
        assert_eq!(all(u64::MAX, u64::MAX), []);
        assert_eq!(all(3, 0), []);
        let pieces = |file| map.pieces_of(FileIndex(file)).map(PieceIndex::get);
        assert!(pieces(0).eq(0..2));
        assert!(pieces(1).eq(0..0));
        assert!(pieces(2).eq(1..2));
        assert!(pieces(4).eq(2..4));
        assert!(pieces(9).eq(0..0));
    }

    #[test]
    fn no_bytes_no_pieces() {
        let map = FileMap::new(4, [(0, false); 3]).unwrap();
        assert!(map.is_empty() && map.file_count() == 3);
        assert_eq!(map.segments(0, 10).next(), None);
        assert_eq!(map.segments_of_piece(PieceIndex::new(0)).next(), None);
    }

    #[test]
    fn a_sum_that_overflows_is_refused() {
        assert!(FileMap::new(1 << 29, [(u64::MAX, false), (2, false)]).is_err());
    }
}
