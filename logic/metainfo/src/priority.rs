//! Which files a person wants, and so which pieces.

use torr_base::Bitfield;

use crate::{FileIndex, FileMap};

/// How much a file is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FilePriority {
    /// Not at all. Pieces that it shares with a wanted file are fetched, its bytes of them not stored in it.
    Skip,
    /// With all the others.
    #[default]
    Normal,
    /// Before the others.
    High,
}

/// One priority for each file of a torrent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilePriorities(Vec<FilePriority>);

impl FilePriorities {
    /// All files of a torrent with `count` files.
    #[must_use]
    pub fn all(count: u32) -> Self {
        Self(vec![FilePriority::Normal; count as usize])
    }

    /// Only the files for which `wanted` says so.
    #[must_use]
    pub fn only(count: u32, mut wanted: impl FnMut(FileIndex) -> bool) -> Self {
        let priority = |index| match wanted(FileIndex::new(index)) {
            true => FilePriority::Normal,
            false => FilePriority::Skip,
        };
        Self((0..count).map(priority).collect())
    }

    /// How many files there are.
    #[must_use]
    pub fn file_count(&self) -> u32 {
        self.0.len() as u32
    }

    /// A file past the end is skipped.
    #[must_use]
    pub fn get(&self, file: FileIndex) -> FilePriority {
        let priority = self.0.get(file.as_usize()).copied();
        priority.unwrap_or(FilePriority::Skip)
    }

    /// A file past the end changes nothing.
    pub fn set(&mut self, file: FileIndex, priority: FilePriority) {
        if let Some(slot) = self.0.get_mut(file.as_usize()) {
            *slot = priority;
        }
    }

    /// Whether no file is skipped.
    #[must_use]
    pub fn wants_all(&self) -> bool {
        !self.0.contains(&FilePriority::Skip)
    }

    /// The pieces that hold a byte of a wanted file. Where no file is skipped that is every piece, those
    /// of nothing but padding too; else padding is not worth fetching.
    #[must_use]
    pub fn wanted_pieces(&self, map: &FileMap) -> Bitfield {
        if self.wants_all() {
            return Bitfield::full(map.geometry().piece_count());
        }
        self.pieces_from(map, FilePriority::Normal)
    }

    /// The pieces that hold a byte of a file with [`FilePriority::High`].
    #[must_use]
    pub fn high_pieces(&self, map: &FileMap) -> Bitfield {
        self.pieces_from(map, FilePriority::High)
    }

    /// Bytes of the wanted files, without padding.
    #[must_use]
    pub fn wanted_bytes(&self, map: &FileMap) -> u64 {
        self.stored_from(map, FilePriority::Normal)
            .map(|file| map.len(file))
            .sum()
    }

    fn pieces_from(&self, map: &FileMap, least: FilePriority) -> Bitfield {
        let mut pieces = Bitfield::new(map.geometry().piece_count());
        for file in self.stored_from(map, least) {
            for piece in map.pieces_of(file) {
                pieces.set(piece);
            }
        }
        pieces
    }

    fn stored_from<'a>(
        &'a self,
        map: &'a FileMap,
        least: FilePriority,
    ) -> impl Iterator<Item = FileIndex> + 'a {
        map.files()
            .filter(move |file| self.get(*file) >= least && !map.is_pad(*file))
    }
}

#[cfg(test)]
mod tests {
    use torr_base::PieceIndex;

    use super::*;

    #[test]
    fn shared_pieces_are_wanted_and_padding_is_not() {
        // Pieces of 4: aaaa abbb pppp pccc
        let files = [(5, false), (3, false), (5, true), (3, false)];
        let map = FileMap::new(4, files).unwrap();
        let wanted = |f: &FilePriorities| {
            let pieces = f.wanted_pieces(&map);
            pieces.iter().map(PieceIndex::get).collect::<Vec<_>>()
        };
        let mut files = FilePriorities::all(4);
        assert_eq!(wanted(&files), [0, 1, 2, 3]);
        files.set(FileIndex::new(0), FilePriority::Skip);
        assert_eq!(wanted(&files), [1, 3]);
        files.set(FileIndex::new(1), FilePriority::Skip);
        files.set(FileIndex::new(3), FilePriority::High);
        assert_eq!(wanted(&files), [3]);
        assert!(files.high_pieces(&map).get(PieceIndex::new(3)));
        assert_eq!(files.wanted_bytes(&map), 3);
        let first = FilePriorities::only(4, |file| file.get() == 0);
        assert_eq!(wanted(&first), [0, 1]);
    }
}
