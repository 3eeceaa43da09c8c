//! Looking whether a storage that said no works again (G8, G9). Nothing is left behind, and no file of the
//! torrent is changed.
//!
//! - Its folder has to be where it was ([`crate::home`]).
//! - There has to be as much room as is asked for, both by what the file system says and by a nameless file
//!   of that length: quotas are told of only to who writes.
//! - What was read in vain is read again.
//! - After a sync that failed nobody knows what is on the disk, and after an absence neither: pieces recorded
//!   since the last mark are read again past the page cache, which may hold what the disk does not. Those
//!   that are wrong are struck from the record, blocks that were spilled too, and then marks may be set again.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{self, Mode, OFlags};
use rustix::io::Errno;
use torr_base::PieceIndex;
use torr_store::{Record, Room, StorageError, StorageErrorKind, StorageOp};

use crate::errno::{Sys, failed, refused};
use crate::hook::Call;
use crate::reserve;
use crate::root::Root;
use crate::state::write_all;
use crate::storage::{Storage, Touched, lock};

/// What is written to see whether that works.
const SAMPLE: [u8; 4096] = [0x55; 4096];
/// The name of what is written where nameless files cannot be; it is gone at once.
const NAME: &str = ".torr-probe";

impl Storage {
    /// Whether it works, with room for `needs` bytes more; 0 where nothing is to be written. Gives the pieces
    /// that turned out to be wrong.
    pub(crate) fn probe(&self, needs: u64) -> Result<Vec<PieceIndex>, StorageError> {
        self.find_home()?;
        if needs > 0 {
            // The torrent's own folder may be a mount.
            let top = self.tree.plan.top();
            let place = self.tree.root.folder_or_root(top);
            has_room(&self.tree.root, &place, needs)?;
            can_write(&self.tree.root, &place, needs)?;
        }
        if needs > 0 || self.ledger().log.in_session() {
            let state = self.state();
            can_write(state, &state.dir(), SAMPLE.len() as u64)?;
        }
        self.read_again()?;
        let lost = self.mend()?;
        self.gate().open();
        Ok(lost)
    }

    /// What could not be read.
    fn read_again(&self) -> Result<(), StorageError> {
        let unread = lock(&self.trouble).unread.clone();
        let Some(range) = unread else { return Ok(()) };
        let mut buf = vec![0; (range.end - range.start) as usize];
        self.tree.read(range.start, &mut buf)?;
        lock(&self.trouble).unread = None;
        Ok(())
    }

    /// Finds out what is on the disk, if that is not known.
    fn mend(&self) -> Result<Vec<PieceIndex>, StorageError> {
        if self.broken().is_none() {
            return Ok(Vec::new());
        }
        let _one = lock(&self.marking);
        let pieces: Vec<_> = {
            let ledger = self.ledger();
            let image = ledger.log.image();
            image.have().iter_and_not(image.durable()).collect()
        };
        let (mut lost, mut files) = (Vec::new(), BTreeSet::new());
        // Nobody knows the hash of a block. One that is not there would speak against who sent it.
        let spilled: Vec<_> = {
            let spilled = self.ledger().log.image().spilled();
            spilled.into_iter().map(|(piece, _)| piece).collect()
        };
        for piece in pieces {
            let range = self.tree.plan.piece_range(piece);
            files.extend(self.tree.touched(range.clone()));
            self.tree.forget_cached(range);
            match self.tree.hash_piece(piece) {
                Ok(hash) if hash == self.tree.plan.hash(piece) => {}
                Ok(_) => lost.push(piece),
                Err(error) if error.kind == StorageErrorKind::Missing => lost.push(piece),
                Err(error) => return Err(error),
            }
        }
        let records = lost.iter().map(|piece| Record::Forget { piece: *piece });
        let unspilled = spilled
            .iter()
            .map(|piece| Record::Unspilled { piece: *piece });
        let records: Vec<_> = records.chain(unspilled).collect();
        let touched = Touched {
            files: files.into_iter().collect(),
            ..Touched::default()
        };
        self.record(&records, touched)?;
        lock(&self.trouble).broken = None;
        lost.extend(spilled);
        Ok(lost)
    }
}

fn has_room(root: &Root, place: &Sys<Arc<OwnedFd>>, needs: u64) -> Result<(), StorageError> {
    let show = root.show("");
    let fail = |errno| failed(StorageOp::Probe, &show, errno);
    root.hook().ask(Call::Room, &show).map_err(fail)?;
    let dir = place.as_ref().map_err(|errno| fail(*errno))?;
    let free = reserve::free_bytes(dir).map_err(fail)?;
    if free >= needs {
        return Ok(());
    }
    Err(StorageError {
        room: Some(Room { needs, free }),
        errno: Some("ENOSPC"),
        ..refused(
            StorageErrorKind::NoSpace,
            StorageOp::Probe,
            &show,
            "there is not enough room on it",
        )
    })
}

/// Writes a little, in a file that may grow to `needs` bytes.
fn can_write(root: &Root, place: &Sys<Arc<OwnedFd>>, needs: u64) -> Result<(), StorageError> {
    let show = root.show("");
    let done = place.as_ref().map_err(|errno| *errno).and_then(|dir| {
        root.hook().ask(Call::Write, &show)?;
        let file = nameless(dir)?;
        match reserve::whole(&file, needs.max(1)) {
            // Nobody can tell whether it would fit.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {}
            Err(errno) => return Err(errno),
        }
        write_all(&file, &SAMPLE, 0)?;
        root.hook().ask(Call::Sync, &show)?;
        fs::fdatasync(&file)
    });
    done.map_err(|errno| failed(StorageOp::Probe, &show, errno))
}

fn nameless(dir: &Arc<OwnedFd>) -> Sys<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mode = Mode::from_bits_retain(0o600);
    #[cfg(target_os = "linux")]
    match fs::openat(dir, ".", flags | OFlags::TMPFILE, mode) {
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL) => {}
        done => return done,
    }
    let file = fs::openat(dir, NAME, flags | OFlags::CREATE | OFlags::EXCL, mode)?;
    fs::unlinkat(dir, NAME, fs::AtFlags::empty())?;
    Ok(file)
}

impl crate::tree::Tree {
    /// The kernel shall not answer from memory what the disk may not have.
    fn forget_cached(&self, range: std::ops::Range<u64>) {
        for (file, offset, len) in self.parts_of(range) {
            if let Ok(open) = self.file(file, false) {
                crate::resident::forget(&open.fd, offset, len);
            }
        }
    }
}
