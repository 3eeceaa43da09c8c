//! What is there when a storage is opened: every file looked at, none changed.

use std::sync::Arc;

use rustix::fs::{FileType, Stat};
use torr_base::{Bitfield, PieceIndex};
use torr_store::{
    Damage, FileStamp, LogImage, Record, StorageError, StorageErrorKind, StorageOp, bits_of,
};

use crate::cache::{OpenFile, PARTS};
use crate::errno::{Sys, failed, refused};
use crate::guard::Mark;
use crate::log_file::boot_id;
use crate::plan::{Kind, file_of};
use crate::spec::{OnExisting, OpenWarning, StorageSpec};
use crate::tree::{Place, Tree, next_data};

/// A file that is there without our having recorded it.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) file: u32,
    pub(crate) links: u64,
    pub(crate) ours: bool,
    pub(crate) wanted: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Move {
    pub(crate) file: u32,
    /// The file is there: we made it and did not come further, or it is blank.
    pub(crate) exists: bool,
}

/// What looking at the files told.
#[derive(Debug)]
pub(crate) struct Survey {
    /// Bytes that each file has now; 0 where there is none.
    pub(crate) lens: Vec<u64>,
    /// What each file that is there looks like.
    pub(crate) looks: Vec<(u32, Mark)>,
    pub(crate) candidates: Vec<Candidate>,
    /// Wanted files whose bytes, as far as there are any, are in the parts file still; in order.
    pub(crate) to_move: Vec<Move>,
    /// Bytes of the parts file.
    pub(crate) parts_len: u64,
    /// Pieces to hash.
    pub(crate) doubtful: Bitfield,
    /// Records of the log were damaged.
    pub(crate) damaged: bool,
    /// Pieces that are right because the user says so.
    pub(crate) trusted: Bitfield,
    /// What the log has to learn.
    pub(crate) records: Vec<Record>,
    pub(crate) warnings: Vec<OpenWarning>,
}

/// Looks at every file, and sets where its bytes are. `recheck` doubts everything.
pub(crate) fn survey(
    tree: &Tree,
    image: &LogImage,
    damage: Damage,
    spec: &StorageSpec,
    recheck: bool,
) -> Result<Survey, StorageError> {
    let pieces = tree.plan.geometry().piece_count();
    let mut found = Survey {
        lens: vec![0; tree.plan.file_count() as usize],
        looks: Vec::new(),
        candidates: Vec::new(),
        to_move: Vec::new(),
        parts_len: 0,
        damaged: damage.any(),
        doubtful: Bitfield::new(pieces),
        trusted: Bitfield::new(pieces),
        records: Vec::new(),
        warnings: Vec::new(),
    };
    let parts = match tree.file(PARTS, false) {
        Ok(parts) => Some(parts),
        Err(error) if error.kind == StorageErrorKind::Missing => None,
        Err(error) => return Err(error),
    };
    if let Some(parts) = &parts {
        let stat = rustix::fs::fstat(&parts.fd);
        let stat = stat.map_err(|errno| failed(StorageOp::Check, &tree.show(PARTS), errno))?;
        found.parts_len = stat.st_size as u64;
    }
    let look = Look {
        tree,
        image,
        spec,
        parts,
        damaged: damage.any(),
    };
    let mut looks = tree.root.looks();
    for file in tree.plan.files() {
        if tree.plan.kind(file) != Kind::Link {
            look.at(file, looks.stat(&tree.plan.name(file)), &mut found)?;
        }
    }
    look.doubt(recheck, &mut found);
    Ok(found)
}

/// What a file looks like from outside.
#[allow(clippy::unnecessary_cast, reason = "other widths on other systems")]
pub(crate) fn stamp_of(stat: &Stat) -> FileStamp {
    let seconds = stat.st_mtime as i64;
    FileStamp {
        len: stat.st_size as u64,
        modified: seconds
            .saturating_mul(1_000_000_000)
            .saturating_add(stat.st_mtime_nsec as i64),
        inode: stat.st_ino,
    }
}

impl Survey {
    /// Whether all bytes of a range of the torrent can be there, going by the lengths of the files.
    pub(crate) fn covers(&self, tree: &Tree, range: std::ops::Range<u64>) -> bool {
        tree.plan.segments(range).all(|segment| {
            let file = file_of(segment);
            let end = segment.offset + segment.len;
            match tree.place(file) {
                Place::Pad => true,
                Place::Pending => false,
                Place::Parts => tree.plan.start(file) + end <= self.parts_len,
                Place::File => end <= self.lens[file as usize],
            }
        })
    }
}

struct Look<'a> {
    tree: &'a Tree,
    image: &'a LogImage,
    spec: &'a StorageSpec,
    parts: Option<Arc<OpenFile>>,
    damaged: bool,
}

impl Look<'_> {
    fn at(
        &self,
        file: u32,
        seen: Sys<Option<Stat>>,
        found: &mut Survey,
    ) -> Result<(), StorageError> {
        let (tree, image) = (self.tree, self.image);
        let wanted = self.spec.wants(file);
        let placed = image.placed(file);
        let stat = match seen {
            // What is in the way of a file that nobody wants does not matter.
            Err(_) if !wanted && !placed => None,
            Err(errno) => return Err(failed(StorageOp::Check, &tree.show(file), errno)),
            Ok(stat) => stat,
        };
        let Some(stat) = stat else {
            self.at_nothing(file, wanted, found);
            return Ok(());
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            if wanted || placed {
                return Err(self.occupied(file, "it is not a regular file"));
            }
            tree.set_place(file, Place::Parts);
            return Ok(());
        }
        let len = stat.st_size as u64;
        found.lens[file as usize] = len;
        found.looks.push((file, Mark::of(&stat)));
        if placed {
            return self.at_ours(file, &stat, found);
        }
        // Made to take bytes from the parts file, and that did not come to its end; the record of the
        // making itself may be missing. In a damaged log it may as well be the record of the end.
        let made = image.made(file);
        if made {
            tree.set_ours(file);
        }
        let half = made && !self.damaged || self.is_blank(file, &stat);
        if wanted && half && self.in_parts(file) {
            tree.set_place(file, Place::Parts);
            found.to_move.push(Move { file, exists: true });
            return Ok(());
        }
        // A stranger's file in the place of one that is not wanted, whose bytes we keep elsewhere.
        let kept = || {
            tree.plan
                .pieces_of(file)
                .any(|piece| image.have().get(piece))
        };
        let too_long = len > tree.plan.len(file) && !self.may_overwrite(file);
        if !wanted && (too_long || kept()) {
            tree.set_place(file, Place::Parts);
            return Ok(());
        }
        if too_long {
            let detail = format!("it has {len} bytes, more than the torrent's");
            return Err(self.occupied(file, &detail));
        }
        tree.set_place(file, Place::File);
        found.candidates.push(Candidate {
            file,
            #[allow(clippy::unnecessary_cast, reason = "other widths on other systems")]
            links: stat.st_nlink as u64,
            ours: made || self.was_about_to_make(file),
            wanted,
        });
        Ok(())
    }

    fn at_nothing(&self, file: u32, wanted: bool, found: &mut Survey) {
        let (tree, placed) = (self.tree, self.image.placed(file));
        if placed {
            found.records.push(Record::Gone { file });
            self.warn_lost(file, 0, found);
            // Whatever the parts file has there, it is not what the log speaks of.
            add(&mut found.doubtful, tree.plan.pieces_of(file));
        }
        if !wanted {
            tree.set_place(file, Place::Parts);
        } else if !placed && self.in_parts(file) {
            tree.set_place(file, Place::Parts);
            let exists = false;
            found.to_move.push(Move { file, exists });
        }
    }

    /// Whether there is nothing in a file that anybody could lose.
    fn is_blank(&self, file: u32, stat: &Stat) -> bool {
        let name = self.tree.plan.name(file);
        let is_hole = || {
            let open = self.tree.root.open_file(&name, false);
            open.is_ok_and(|fd| next_data(&fd, 0) == Ok(None))
        };
        stat.st_nlink == 1 && (stat.st_size == 0 || is_hole())
    }

    /// We said that we would make it, and then the machine went down: the record of the making may have
    /// gone with it, though the file did not.
    fn was_about_to_make(&self, file: u32) -> bool {
        let image = self.image;
        image.intended(file) && !image.closed() && image.boot() != Some(boot_id())
    }

    /// Whether the parts file has data of that file.
    fn in_parts(&self, file: u32) -> bool {
        let start = self.tree.plan.start(file);
        let end = start + self.tree.plan.len(file);
        self.parts.as_ref().is_some_and(|parts| {
            // One that cannot tell holes from data has data everywhere.
            let data = next_data(&parts.fd, start).unwrap_or(Some(start));
            data.is_some_and(|at| at < end)
        })
    }

    /// A file that the log knows to be in its place.
    fn at_ours(&self, file: u32, stat: &Stat, found: &mut Survey) -> Result<(), StorageError> {
        let (tree, image) = (self.tree, self.image);
        tree.set_place(file, Place::File);
        if image.made(file) || self.may_overwrite(file) {
            tree.set_ours(file);
        }
        let (len, full) = (stat.st_size as u64, tree.plan.len(file));
        if len > full && self.spec.wants(file) && !self.may_overwrite(file) {
            let detail = format!("it has grown to {len} bytes, more than the torrent's");
            return Err(self.occupied(file, &detail));
        }
        if len < full {
            self.warn_lost(file, len, found);
        }
        let changed = |stamp: FileStamp| image.closed() && stamp != stamp_of(stat);
        if image.stamp(file).is_some_and(changed) {
            let path = tree.show(file);
            found.warnings.push(OpenWarning::FileChanged { path });
            add(&mut found.doubtful, tree.plan.pieces_of(file));
        }
        Ok(())
    }

    /// `--overwrite` speaks of the files that are wanted.
    fn may_overwrite(&self, file: u32) -> bool {
        self.spec.on_existing == OnExisting::Overwrite && self.spec.wants(file)
    }

    fn warn_lost(&self, file: u32, len: u64, found: &mut Survey) {
        let full = self.tree.plan.len(file);
        let mut pieces = self.tree.plan.pieces_in(file, len..full);
        if pieces.any(|piece| self.image.have().get(piece)) {
            let path = self.tree.show(file);
            found.warnings.push(OpenWarning::FileLost { path });
        }
    }

    /// Decides what has to be hashed.
    fn doubt(&self, recheck: bool, found: &mut Survey) {
        let (tree, image) = (self.tree, self.image);
        if recheck {
            found.doubtful.set_all();
            return;
        }
        for piece in image.have().iter_and_not(image.durable()) {
            found.doubtful.set(piece);
        }
        for candidate in &found.candidates {
            let full = found.lens[candidate.file as usize] == tree.plan.len(candidate.file);
            let into = if self.spec.trust && full {
                &mut found.trusted
            } else {
                &mut found.doubtful
            };
            add(into, tree.plan.pieces_of(candidate.file));
        }
        // The record that said where these bytes are may be the one that was lost.
        if self.damaged {
            let unsure = |file: &u32| tree.place(*file) == Place::Parts;
            for file in tree.plan.files().filter(unsure) {
                add(&mut found.doubtful, tree.plan.pieces_of(file));
            }
        }
    }

    fn occupied(&self, file: u32, detail: &str) -> StorageError {
        let path = self.tree.show(file);
        refused(StorageErrorKind::Occupied, StorageOp::Check, &path, detail)
    }
}

impl StorageSpec {
    pub(crate) fn wants(&self, file: u32) -> bool {
        self.wanted.get(file as usize).copied().unwrap_or(true)
    }
}

/// A record that a file's bytes are in their place.
pub(crate) fn placed(file: u32) -> Record {
    debug_assert_ne!(file, PARTS);
    let (first, bits) = bits_of(file);
    Record::Placed { first, bits }
}

fn add(set: &mut Bitfield, pieces: impl Iterator<Item = PieceIndex>) {
    for piece in pieces {
        set.set(piece);
    }
}

/// The pieces of `set` in order.
pub(crate) fn list(set: &Bitfield) -> Vec<PieceIndex> {
    set.iter().collect()
}
