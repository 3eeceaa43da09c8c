//! Reads that are compared with the [`Guard`](crate::guard::Guard), and writes that it is told of.
//!
//! A block that is read is right, or its piece is struck from the record before anybody hears of it (G10).

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use torr_base::{PieceIndex, RawBlock};
use torr_store::{LoadError, Record, StorageError, StorageErrorKind, StorageOp};

use crate::cache::{OpenFile, PARTS};
use crate::errno::{failed, refused};
use crate::guard::{Change, Mark, Verdict, look_at};
use crate::log_file::sync_log;
use crate::plan::file_of;
use crate::storage::Storage;
use crate::tree::Place;

/// How often a read or a hash is tried again that a change came into.
const TRIES: u32 = 4;

impl Storage {
    /// Reads a range of a piece into the start of `buf`, and sees that it is what was verified.
    pub(crate) fn load_verified(&self, range: RawBlock, buf: &mut [u8]) -> Result<(), LoadError> {
        let geometry = self.tree.plan.geometry();
        let Some(piece) = geometry.piece(range.piece) else {
            return Err(LoadError::Storage(self.restless(range.piece)));
        };
        let start = geometry.piece_start(piece) + u64::from(range.offset);
        let end = start + u64::from(range.len);
        for _ in 0..TRIES {
            self.tree
                .read_ahead(start..end, self.tree.plan.piece_range(piece).end);
            match self.tree.read(start, buf) {
                Ok(()) if self.is_sound(piece, start..end)? => return Ok(()),
                Ok(()) => {}
                Err(error) if is_cut_off(&error) => {}
                Err(error) => return Err(LoadError::Storage(error)),
            }
            self.recheck(piece)?;
        }
        Err(LoadError::Storage(self.restless(range.piece)))
    }

    /// Whether the files under a range are what they were when the piece was verified. To be asked after
    /// the read.
    fn is_sound(&self, piece: PieceIndex, range: Range<u64>) -> Result<bool, LoadError> {
        for file in self.files_under(range) {
            let open = self.tree.file(file, false).map_err(LoadError::Storage)?;
            let seen = look_at(&open.fd).map(|(mark, _)| mark);
            let seen = seen
                .map_err(|errno| failed(StorageOp::Check, &self.tree.show(file), errno))
                .map_err(LoadError::Storage)?;
            let same = matches!(
                self.guard.judge(file, seen),
                Verdict::Same | Verdict::Writing
            );
            if !same
                && let Some(change) = self.check(file, &open)
                && !self.guard.is_right(file, change, piece)
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Hashes a piece of files that may have been changed. If it is not right any more, the record says so
    /// before anybody else hears of it.
    pub(crate) fn recheck(&self, piece: PieceIndex) -> Result<(), LoadError> {
        let range = self.tree.plan.piece_range(piece);
        for _ in 0..TRIES {
            let before = self.changes_under(range.clone())?;
            let right = match self.tree.hash_piece(piece) {
                Ok(hash) => hash == self.tree.plan.hash(piece),
                Err(error) if is_cut_off(&error) => false,
                Err(error) => return Err(LoadError::Storage(error)),
            };
            let after = self.changes_under(range.clone())?;
            let number = |(file, change): &(u32, Option<Change>)| (*file, change.map(|c| c.number));
            if !before.iter().map(number).eq(after.iter().map(number)) {
                continue;
            }
            let lost = !right;
            if lost {
                self.forget(piece).map_err(LoadError::Storage)?;
            }
            for (file, change) in before {
                if let Some(change) = change {
                    let had = || self.had_of(file);
                    self.guard.hashed(file, change, (piece, lost), had);
                }
            }
            return if lost { Err(LoadError::Lost) } else { Ok(()) };
        }
        Err(LoadError::Storage(self.restless(piece.get())))
    }

    /// A lost record of this would bring the piece back, so it is made durable.
    fn forget(&self, piece: PieceIndex) -> Result<(), StorageError> {
        let log = {
            let mut ledger = self.ledger();
            if !ledger.log.image().have().get(piece) {
                return Ok(());
            }
            let record = Record::Forget { piece };
            self.append(&mut ledger, &[record])?;
            ledger.log.handle()
        };
        log.map_or(Ok(()), |log| sync_log(&log, self.state()))
    }

    /// The changes that put the files under a range in doubt.
    fn changes_under(&self, range: Range<u64>) -> Result<Vec<(u32, Option<Change>)>, LoadError> {
        let look = |file| {
            let open = self.tree.file(file, false)?;
            Ok((file, self.check(file, &open)))
        };
        let changes = self.files_under(range).map(look);
        changes
            .collect::<Result<_, _>>()
            .map_err(LoadError::Storage)
    }

    /// Sees for good whether a file was changed by somebody else.
    fn check(&self, file: u32, open: &OpenFile) -> Option<Change> {
        let change = self.guard.check(file, || mark_of(open));
        if change.is_some_and(|change| change.new) {
            // Another file may be of that name now.
            self.tree.forget_open(file);
        }
        change
    }

    /// The same for the network thread.
    pub(crate) fn is_doubtful(&self, file: u32, open: &OpenFile) -> bool {
        self.check(file, open).is_some()
    }

    fn had_of(&self, file: u32) -> BTreeSet<PieceIndex> {
        let ledger = self.ledger();
        let have = ledger.log.image().have();
        let pieces = self.tree.plan.pieces_of(file);
        pieces.filter(|piece| have.get(*piece)).collect()
    }

    /// Files of their own under a range of the torrent; nobody else writes to the parts file.
    fn files_under(&self, range: Range<u64>) -> impl Iterator<Item = u32> + '_ {
        let segments = self.tree.plan.segments(range);
        let files = segments.map(file_of);
        files.filter(|file| self.tree.place(*file) == Place::File)
    }

    /// A piece was verified and written by us.
    pub(crate) fn sure_of(&self, piece: PieceIndex) {
        for file in self.files_under(self.tree.plan.piece_range(piece)) {
            self.guard.committed(file, piece);
        }
    }

    /// Before a write of our own.
    pub(crate) fn begin_write(
        &self,
        files: &[u32],
    ) -> Result<Vec<(u32, Arc<OpenFile>)>, StorageError> {
        let own = files.iter().filter(|file| **file != PARTS);
        let open = own.map(|file| Ok((*file, self.tree.file(*file, true)?)));
        let open: Vec<_> = open.collect::<Result<_, StorageError>>()?;
        for (file, open) in &open {
            self.guard.begin_write(*file, || mark_of(open));
        }
        Ok(open)
    }

    /// … and after it, however it went.
    pub(crate) fn end_write(&self, files: &[(u32, Arc<OpenFile>)]) {
        for (file, open) in files {
            self.guard.end_write(*file, || mark_of(open));
        }
    }

    fn restless(&self, piece: u32) -> StorageError {
        let path = self.tree.root.show(self.tree.plan.top());
        let detail = format!("piece {piece} is being changed by another program all the time");
        refused(StorageErrorKind::Io, StorageOp::Read, &path, detail)
    }
}

/// Somebody cut the file off: what is gone is lost like what was overwritten, and the file system is well.
fn is_cut_off(error: &StorageError) -> bool {
    error.kind == StorageErrorKind::Missing && error.op == StorageOp::Read && error.offset.is_some()
}

fn mark_of(open: &OpenFile) -> Option<Mark> {
    look_at(&open.fd).ok().map(|(mark, _)| mark)
}
