//! The second half of opening: what is ours is written down, and what is missing is made.

use std::os::fd::OwnedFd;

use rustix::fs;
use rustix::io::Errno;
use torr_base::{BLOCK_LEN, Bitfield, PieceIndex};
use torr_store::{Record, StorageError, StorageErrorKind, StorageOp, bits_of};

use crate::cache::PARTS;
use crate::check::Checked;
use crate::errno::{failed, refused};
use crate::hook::Call;
use crate::open::difference;
use crate::plan::Kind;
use crate::reserve;
use crate::spec::{OnExisting, OpenWarning, Opened, StorageSpec};
use crate::state::write_all;
use crate::storage::{Storage, Touched};
use crate::survey::{Candidate, Move, Survey, placed};
use crate::tree::{Place, next_data, next_hole, retry};

pub(crate) struct Settle<'a> {
    pub(crate) storage: &'a Storage,
    pub(crate) spec: &'a StorageSpec,
    pub(crate) found: Survey,
    pub(crate) have: Bitfield,
    pub(crate) warnings: Vec<OpenWarning>,
    pub(crate) adopted: u32,
}

impl Settle<'_> {
    pub(crate) fn run(mut self, checked: &Checked) -> Result<Opened, StorageError> {
        for candidate in std::mem::take(&mut self.found.candidates) {
            self.judge(&candidate)?;
        }
        self.write_down()?;
        self.cut_long_files()?;
        self.move_parts()?;
        self.make_what_has_no_bytes()?;
        if self.spec.preallocate {
            self.preallocate()?;
        }
        let partial = self.partial();
        Ok(Opened {
            have: self.have,
            partial,
            adopted: self.adopted,
            checked: checked.pieces,
            checked_bytes: checked.bytes,
            warnings: self.warnings,
            served: None,
        })
    }

    /// G7: whether a file that we know nothing of may be taken over.
    fn judge(&mut self, candidate: &Candidate) -> Result<(), StorageError> {
        let tree = &self.storage.tree;
        let file = candidate.file;
        let overwrite = self.spec.on_existing == OnExisting::Overwrite && candidate.wanted;
        let is_right = |piece: PieceIndex| self.have.get(piece);
        let ours = overwrite || candidate.ours;
        if !ours && !tree.plan.pieces_of(file).any(is_right) && !self.is_blank(file)? {
            if candidate.wanted {
                let detail = "torr did not make it, and nothing in it is of this torrent";
                return Err(self.occupied(file, detail));
            }
            tree.set_place(file, Place::Parts);
            return Ok(());
        }
        let full = self.found.lens[file as usize] >= tree.plan.len(file);
        let complete = full && tree.plan.pieces_of(file).all(is_right);
        if candidate.links > 1 && !overwrite && !complete {
            if candidate.wanted {
                let detail = format!("it has {} names (hard links)", candidate.links);
                return Err(self.occupied(file, &detail));
            }
            // Pieces at its ends that are right were read there; they cannot stay there.
            for piece in tree.plan.pieces_of(file) {
                self.have.clear(piece);
            }
            tree.set_place(file, Place::Parts);
            return Ok(());
        }
        if overwrite {
            tree.set_ours(file);
        }
        self.adopted += 1;
        self.found.records.push(placed(file));
        Ok(())
    }

    /// Whether a file is empty or has no data in it.
    fn is_blank(&self, file: u32) -> Result<bool, StorageError> {
        if self.found.lens[file as usize] == 0 {
            return Ok(true);
        }
        let open = self.storage.tree.file(file, false)?;
        match next_data(&open.fd, 0) {
            Ok(data) => Ok(data.is_none()),
            // A file system that cannot tell: then it has data.
            Err(_) => Ok(false),
        }
    }

    /// Brings the log up to what is there. Files that are about to be made are announced, durably, so
    /// that they are known for ours after a power cut.
    fn write_down(&mut self) -> Result<(), StorageError> {
        let (tree, state) = (&self.storage.tree, self.storage.state());
        let mut ledger = self.storage.ledger();
        let image = ledger.log.image();
        let mut records = std::mem::take(&mut self.found.records);
        records.extend(difference(image, &self.have));
        let is_negative =
            |record: &Record| matches!(record, Record::Forget { .. } | Record::Gone { .. });
        let negative = records.iter().any(is_negative);
        if !image.has_names() {
            records.extend(tree.plan.name_records());
        }
        let mut intents = Vec::new();
        let to_make = |file: &u32| {
            let pending = tree.place(*file) == Place::Pending;
            pending && tree.plan.kind(*file) != Kind::Link
                || self
                    .found
                    .to_move
                    .binary_search_by_key(file, |m| m.file)
                    .is_ok()
        };
        for file in tree.plan.files().filter(to_make) {
            add_intent(&mut intents, file);
        }
        if negative || self.found.damaged {
            // Not merely appended: a lost `Forget` would bring the piece back. And damage is told of once.
            ledger.log.rewrite(state, &records)?;
            records.clear();
        }
        records.append(&mut intents);
        if !records.is_empty() {
            ledger.log.append(state, &records)?;
            ledger.log.sync(state)?;
        }
        drop(ledger);
        self.note_unmarked();
        Ok(())
    }

    /// Pieces that no mark covers get one from the next group commit.
    fn note_unmarked(&self) {
        let mut ledger = self.storage.ledger();
        let image = ledger.log.image();
        let mut touched = Touched::default();
        for piece in image.have().iter_and_not(image.durable()) {
            let range = self.storage.tree.plan.piece_range(piece);
            touched.bytes += range.end - range.start;
            touched.files.extend(self.storage.tree.touched(range));
        }
        touched.files.dedup();
        if !touched.files.is_empty() {
            self.storage.note(&mut ledger, touched);
        }
    }

    /// `--overwrite` permits it, and nothing else does.
    fn cut_long_files(&self) -> Result<(), StorageError> {
        let tree = &self.storage.tree;
        if self.spec.on_existing != OnExisting::Overwrite {
            return Ok(());
        }
        for file in tree.plan.files() {
            let len = tree.plan.len(file);
            let is_long = self.found.lens[file as usize] > len;
            if tree.place(file) != Place::File || !is_long || !self.spec.wants(file) {
                continue;
            }
            let open = tree.file(file, true)?;
            let asked = tree.root.hook().ask_with(Call::Resize, || tree.name(file));
            asked
                .and_then(|()| fs::ftruncate(&open.fd, len))
                .map_err(|errno| failed(StorageOp::Write, &tree.show(file), errno))?;
            self.storage.guard.reset(file);
        }
        Ok(())
    }

    /// Files that are wanted now and were not before: what the parts file has of them goes into place.
    fn move_parts(&mut self) -> Result<(), StorageError> {
        for it in std::mem::take(&mut self.found.to_move) {
            match self.storage.tree.file(PARTS, false) {
                Ok(parts) => self.move_file(it, Some(&parts.fd))?,
                Err(error) if error.kind == StorageErrorKind::Missing => {
                    self.move_file(it, None)?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Recorded as made, filled, synced, recorded as placed: at every moment the log says where the bytes
    /// are for certain.
    fn move_file(&self, it: Move, parts: Option<&OwnedFd>) -> Result<(), StorageError> {
        let (file, tree) = (it.file, &self.storage.tree);
        let name = tree.plan.name(file);
        let fail = |op, errno| failed(op, &tree.show(file), errno);
        let mut touched = Touched::default();
        let fd = if it.exists {
            tree.root.open_file(&name, true)
        } else {
            let executable = tree.plan.kind(file) == Kind::Executable;
            tree.root
                .create_file(&name, executable, &mut touched.folders)
        };
        let fd = fd.map_err(|errno| fail(StorageOp::Create, errno))?;
        let (first, bits) = bits_of(file);
        touched.files.push(file);
        self.storage
            .record(&[Record::Made { first, bits }], touched)?;
        tree.set_ours(file);
        if let Some(parts) = parts {
            let start = tree.plan.start(file);
            copy_data(parts, &fd, start, tree.plan.len(file))
                .map_err(|errno| fail(StorageOp::Write, errno))?;
            fs::fdatasync(&fd).map_err(|errno| fail(StorageOp::Sync, errno))?;
        }
        self.storage.guard.reset(file);
        tree.keep(file, fd);
        tree.set_place(file, Place::File);
        self.storage.record(&[placed(file)], Touched::default())
    }

    /// Empty files and links: nothing that is downloaded would ever make them.
    fn make_what_has_no_bytes(&mut self) -> Result<(), StorageError> {
        let tree = &self.storage.tree;
        for file in tree.plan.files() {
            if !self.spec.wants(file) || tree.plan.len(file) > 0 {
                continue;
            }
            if tree.plan.kind(file) == Kind::Link {
                if let Err(why) = self.make_link(file) {
                    let path = tree.show(file);
                    self.warnings.push(OpenWarning::LinkLeftOut { path, why });
                }
            } else if tree.place(file) == Place::Pending {
                self.storage.make_file(file)?;
            }
        }
        Ok(())
    }

    fn make_link(&self, file: u32) -> Result<(), String> {
        let tree = &self.storage.tree;
        let text = tree.plan.link_text(file);
        let text = text.ok_or_else(|| "it leads out of the torrent".to_owned())?;
        let name = tree.plan.name(file);
        match tree.root.link(&text, &name, &mut Vec::new()) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) if tree.root.link_text(&name).as_deref() == Ok(&text) => Ok(()),
            Err(Errno::EXIST) => Err("something else is there".to_owned()),
            Err(errno) => Err(failed(StorageOp::Create, &tree.show(file), errno).detail),
        }
    }

    fn preallocate(&self) -> Result<(), StorageError> {
        let tree = &self.storage.tree;
        for file in tree.plan.files() {
            let len = tree.plan.len(file);
            if !self.spec.wants(file) || len == 0 || self.is_complete(file) {
                continue;
            }
            if tree.place(file) == Place::Pending {
                self.storage.make_file(file)?;
            }
            let open = tree.file(file, true)?;
            let asked = tree.root.hook().ask_with(Call::Resize, || tree.name(file));
            match asked.and_then(|()| retry(|| reserve::whole(&open.fd, len))) {
                // A file system that cannot reserve is used as it is.
                Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
                Err(errno) => {
                    return Err(failed(StorageOp::Allocate, &tree.show(file), errno));
                }
            }
            self.storage.guard.reset(file);
        }
        Ok(())
    }

    fn is_complete(&self, file: u32) -> bool {
        let mut pieces = self.storage.tree.plan.pieces_of(file);
        pieces.all(|piece| self.have.get(piece))
    }

    fn occupied(&self, file: u32, detail: &str) -> StorageError {
        let path = self.storage.tree.show(file);
        refused(StorageErrorKind::Occupied, StorageOp::Check, &path, detail)
    }

    /// Spilled blocks that can still be where they were put.
    fn partial(&self) -> Vec<(PieceIndex, Vec<u32>)> {
        let tree = &self.storage.tree;
        let geometry = tree.plan.geometry();
        let mut out = self.storage.ledger().log.image().spilled();
        for (piece, blocks) in &mut out {
            blocks.retain(|index| {
                let start = geometry.piece_start(*piece) + u64::from(index * BLOCK_LEN);
                *index < geometry.block_count(*piece) && {
                    let len = u64::from(geometry.block_at(*piece, *index).len);
                    self.found.covers(tree, start..start + len)
                }
            });
        }
        out.retain(|(_, blocks)| !blocks.is_empty());
        out
    }
}

fn add_intent(intents: &mut Vec<Record>, file: u32) {
    if let Some(Record::Intent { first, count }) = intents.last_mut()
        && *first + *count == file
    {
        *count += 1;
        return;
    }
    intents.push(Record::Intent {
        first: file,
        count: 1,
    });
}

/// Copies what is data, and leaves holes as they are.
fn copy_data(from: &OwnedFd, to: &OwnedFd, start: u64, len: u64) -> Result<(), Errno> {
    let mut buf = vec![0; 256 * 1024];
    let (mut at, end) = (start, start + len);
    while let Some(data) = next_data(from, at)?.filter(|data| *data < end) {
        let stop = next_hole(from, data)?.min(end);
        at = data;
        while at < stop {
            let want = (stop - at).min(buf.len() as u64) as usize;
            let got = retry(|| rustix::io::pread(from, &mut buf[..want], at))?;
            if got == 0 {
                return Ok(());
            }
            write_all(to, &buf[..got], at - start)?;
            at += got as u64;
        }
    }
    Ok(())
}
