//! One open torrent: its files and its have-log, and the rules that tie them together.
//!
//! - A piece's record is appended after its bytes were written, and in the same critical section the
//!   files that it touched become dirty: whoever takes the dirty files and the length of the log in one
//!   look knows that syncing those files makes everything in that length true (G1).
//! - A commit mark is appended only after that sync came back without an error, and then the log is synced.
//! - After a sync that failed nobody knows what is on the disk: no mark is set again before what no mark
//!   covers was hashed anew, by [`Storage::probe`] or by whoever opens the storage next.

use std::collections::BTreeSet;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs;
use rustix::io::Errno;
use torr_store::{Record, StorageError, StorageErrorKind, StorageOp, add_record, bits_of};

use crate::cache::PARTS;
use crate::end::write_end;
use crate::errno::{failed, refused};
use crate::gate::Gate;
use crate::guard::Guard;
use crate::home::Identity;
use crate::hook::Call;
use crate::log_file::{LOG_NAME, LogFile, sync_log};
use crate::plan::{Kind, file_of};
use crate::root::Root;
use crate::state::Lock;
use crate::tree::{Place, Tree};

/// More dirty files than this are synced by one `syncfs`: a sync each would take longer.
const SYNC_EACH_MAX: usize = 16;

/// Files that are made before they are recorded; each holds a descriptor meanwhile, which nothing else takes away.
const MAKE_MAX: usize = 8;

/// When finished pieces are made durable, and how much may wait for it (G3). The bytes are those of all
/// storages together, as if they were on one device.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) mark_after: Duration,
    pub(crate) mark_bytes: u64,
    pub(crate) unmarked_bytes_max: u64,
    pub(crate) unmarked: Arc<AtomicU64>,
}

impl Limits {
    /// Whether every group commit is due at once.
    pub(crate) fn is_much(&self) -> bool {
        self.unmarked.load(Ordering::Relaxed) >= self.mark_bytes
    }
}

#[derive(Debug)]
pub(crate) struct Storage {
    pub(crate) tree: Tree,
    pub(crate) guard: Guard,
    /// `None` once closed.
    lock: Mutex<Option<Lock>>,
    ledger: Mutex<Ledger>,
    /// One group commit at a time.
    pub(crate) marking: Mutex<()>,
    /// One file is made at a time.
    creating: Mutex<()>,
    pub(crate) trouble: Mutex<Trouble>,
    /// Of the device that its folder is on.
    gate: Arc<Gate>,
    /// What its folder is known by (G9).
    home: Identity,
    /// Seconds since `began` when the folder was last seen in its place.
    seen: AtomicU64,
    began: Instant,
    limits: Limits,
}

/// What has to be looked at before all is well again.
#[derive(Debug, Default)]
pub(crate) struct Trouble {
    /// The first sync that failed.
    pub(crate) broken: Option<StorageError>,
    /// Its folder is not there.
    pub(crate) absent: Option<StorageError>,
    /// Bytes of the torrent that could not be read.
    pub(crate) unread: Option<Range<u64>>,
}

/// The log, and what has to be synced before its next mark.
#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) log: LogFile,
    dirty: Dirty,
}

#[derive(Debug, Default)]
struct Dirty {
    files: BTreeSet<u32>,
    /// Folders with new entries.
    folders: BTreeSet<String>,
    /// Bytes of pieces recorded since the last mark.
    bytes: u64,
    since: Option<Instant>,
}

/// What a write is about to leave dirty.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    pub(crate) files: Vec<u32>,
    pub(crate) folders: Vec<String>,
    /// Bytes of finished pieces.
    pub(crate) bytes: u64,
}

impl Storage {
    /// `home` is what its folder is known by, `gate` that of the device it is on.
    pub(crate) fn new(
        tree: Tree,
        lock: Lock,
        log: LogFile,
        limits: Limits,
        (home, gate): (Identity, Arc<Gate>),
    ) -> Self {
        Self {
            guard: Guard::new(tree.plan.file_count()),
            tree,
            lock: Mutex::new(Some(lock)),
            ledger: Mutex::new(Ledger {
                log,
                dirty: Dirty::default(),
            }),
            marking: Mutex::new(()),
            creating: Mutex::new(()),
            trouble: Mutex::default(),
            gate,
            home,
            seen: AtomicU64::new(0),
            began: Instant::now(),
            limits,
        }
    }

    /// The state directory.
    pub(crate) fn state(&self) -> &Root {
        let state = self.tree.state.as_ref();
        state.expect("a storage is made with its state directory")
    }

    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.ledger)
    }

    /// Appends records of what was just done, and notes what has to be synced before they are durable.
    pub(crate) fn record(&self, records: &[Record], touched: Touched) -> Result<(), StorageError> {
        let mut ledger = self.ledger();
        self.append(&mut ledger, records)?;
        self.note(&mut ledger, touched);
        Ok(())
    }

    /// Appends records, with a descriptor of the log even where others have to make way for it.
    pub(crate) fn append(
        &self,
        ledger: &mut Ledger,
        records: &[Record],
    ) -> Result<(), StorageError> {
        let woken = self.tree.with_descriptor(|| ledger.log.wake(self.state()));
        woken.map_err(|errno| failed(StorageOp::Log, &self.state().show(LOG_NAME), errno))?;
        ledger.log.append(self.state(), records)
    }

    /// Lets go of the log, where all of it is durable.
    pub(crate) fn rest(&self) {
        let mut ledger = self.ledger();
        if ledger.dirty.since.is_none() {
            ledger.log.rest();
        }
    }

    /// Notes what has to be synced before what the log says already is durable.
    pub(crate) fn note(&self, ledger: &mut Ledger, touched: Touched) {
        self.limits
            .unmarked
            .fetch_add(touched.bytes, Ordering::Relaxed);
        ledger.dirty.add(touched);
    }

    /// When the next group commit is due; `None` while there is nothing for it.
    pub(crate) fn mark_due(&self, now: Instant) -> Option<Instant> {
        let dirty = &self.ledger().dirty;
        let since = dirty.since?;
        if self.broken().is_some() {
            return None;
        }
        if self.limits.is_much() {
            return Some(now);
        }
        Some(since + self.limits.mark_after)
    }

    /// Why marks cannot be set.
    pub(crate) fn broken(&self) -> Option<StorageError> {
        let trouble = lock(&self.trouble);
        trouble.absent.as_ref().or(trouble.broken.as_ref()).cloned()
    }

    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    /// G9: sees to it that the folder is where it was.
    ///
    /// # Errors
    /// Where its file system is not there. All that was open on it is let go of.
    pub(crate) fn find_home(&self) -> Result<(), StorageError> {
        let found = self.tree.root.find(self.home);
        let mut trouble = lock(&self.trouble);
        if let Err(error) = &found {
            trouble.absent = Some(error.clone());
            // What was not synced may be gone with it.
            trouble.broken.get_or_insert_with(|| error.clone());
            drop(trouble);
            self.tree.close_files();
        } else {
            trouble.absent = None;
        }
        found
    }

    /// The same, if it was not done in this second.
    fn look_for_home(&self) -> Result<(), StorageError> {
        let now = self.began.elapsed().as_secs();
        match self.seen.swap(now, Ordering::Relaxed) == now {
            true => Ok(()),
            false => self.find_home(),
        }
    }

    /// Lets nobody write to what is known to fail, and waits for the disk where more has been recorded than
    /// a power cut may take (G3).
    pub(crate) fn hold_back(&self) -> Result<(), StorageError> {
        if let Some(error) = self.broken() {
            return Err(error);
        }
        self.look_for_home()?;
        let unmarked = self.limits.unmarked.load(Ordering::Relaxed);
        if unmarked >= self.limits.unmarked_bytes_max {
            self.mark()?;
        }
        self.gate.pass(Instant::now())
    }

    /// Group commit: makes everything recorded so far durable, and says so in the log.
    pub(crate) fn mark(&self) -> Result<(), StorageError> {
        let _one = lock(&self.marking);
        if let Some(error) = self.broken() {
            return Err(error);
        }
        let (dirty, frames) = {
            let mut ledger = self.ledger();
            if ledger.dirty.since.is_none() {
                return Ok(());
            }
            let frames = ledger.log.image().frames();
            (std::mem::take(&mut ledger.dirty), frames)
        };
        let done = self.sync(&dirty).and_then(|()| self.append_mark(frames));
        // Those of a sync that failed wait for nothing any more.
        self.limits
            .unmarked
            .fetch_sub(dirty.bytes, Ordering::Relaxed);
        if let Err(error) = &done {
            let mut trouble = lock(&self.trouble);
            trouble.broken.get_or_insert_with(|| error.clone());
            drop(trouble);
            // A file system that is gone says many things.
            self.find_home()?;
            return Err(error.clone());
        }
        self.compact_if_long();
        self.rest();
        Ok(())
    }

    fn append_mark(&self, frames: u64) -> Result<(), StorageError> {
        let (log, frames) = {
            let mut ledger = self.ledger();
            let mark = Record::Mark { frames };
            self.append(&mut ledger, &[mark])?;
            (ledger.log.handle(), ledger.log.image().frames())
        };
        let Some(log) = log else {
            return Ok(());
        };
        sync_log(&log, self.state())?;
        write_end(self.state(), &log, frames);
        Ok(())
    }

    fn compact_if_long(&self) {
        let mut ledger = self.ledger();
        if ledger.log.image().wants_compaction() {
            // What is marked is marked. If there is no room for a shorter log, the long one serves, and
            // the next mark tries again.
            let _ = ledger.log.rewrite(self.state(), &[]);
        }
    }

    fn sync(&self, dirty: &Dirty) -> Result<(), StorageError> {
        if dirty.files.contains(&PARTS) {
            self.sync_file(PARTS)?;
            let synced = self.state().sync_folder("");
            synced.map_err(|errno| failed(StorageOp::Sync, &self.state().show(""), errno))?;
        }
        let fail = |name: &str, errno| failed(StorageOp::Sync, &self.tree.root.show(name), errno);
        let many = dirty.files.len() + dirty.folders.len() > SYNC_EACH_MAX;
        if many && self.tree.root.sync_all().map_err(|errno| fail("", errno))? {
            return Ok(());
        }
        for file in dirty.files.iter().filter(|file| **file != PARTS) {
            self.sync_file(*file)?;
        }
        for folder in &dirty.folders {
            let synced = self
                .tree
                .with_descriptor(|| self.tree.root.sync_folder(folder));
            synced.map_err(|errno| fail(folder, errno))?;
        }
        Ok(())
    }

    fn sync_file(&self, file: u32) -> Result<(), StorageError> {
        let open = self.tree.file(file, false)?;
        let asked = self
            .tree
            .root
            .hook()
            .ask_with(Call::Sync, || self.tree.name(file));
        asked
            .and_then(|()| fs::fdatasync(&open.fd))
            .map_err(|errno| failed(StorageOp::Sync, &self.tree.show(file), errno))
    }

    /// Sees to it that no file of a range of the torrent is pending.
    pub(crate) fn make_files(&self, range: Range<u64>) -> Result<(), StorageError> {
        let segments = self.tree.plan.segments(range).map(file_of);
        let pending = segments.filter(|file| self.tree.place(*file) == Place::Pending);
        let pending: Vec<u32> = pending.collect();
        pending
            .chunks(MAKE_MAX)
            .try_for_each(|files| self.make_each(files))
    }

    /// Makes a file that must not exist (G7), and records that it is ours.
    pub(crate) fn make_file(&self, file: u32) -> Result<(), StorageError> {
        self.make_each(&[file])
    }

    /// The same for some at once, which are in one record: those that were made before an error or a kill are
    /// blank, and nobody's loss.
    fn make_each(&self, files: &[u32]) -> Result<(), StorageError> {
        let _one = lock(&self.creating);
        let mut touched = Touched::default();
        let mut made = Vec::with_capacity(files.len());
        let mut end = Ok(());
        for file in files.iter().copied() {
            if self.tree.place(file) != Place::Pending {
                continue;
            }
            match self.create(file, &mut touched.folders) {
                Ok(fd) => made.push((file, fd)),
                Err(error) => {
                    end = Err(error);
                    break;
                }
            }
        }
        if made.is_empty() {
            return end;
        }
        touched.files.extend(made.iter().map(|(file, _)| *file));
        let mut records = Vec::new();
        for (first, bits) in touched.files.iter().copied().map(bits_of) {
            add_record(&mut records, Record::Made { first, bits });
        }
        for (first, bits) in touched.files.iter().copied().map(bits_of) {
            add_record(&mut records, Record::Placed { first, bits });
        }
        if let Err(error) = self.record(&records, touched) {
            // Without their record they would be a stranger's the next time.
            for (file, _) in made {
                let _ = self.tree.root.remove_file(&self.tree.plan.name(file));
            }
            return Err(error);
        }
        for (file, fd) in made {
            self.tree.set_ours(file);
            self.tree.keep(file, fd);
            self.tree.set_place(file, Place::File);
        }
        end
    }

    fn create(&self, file: u32, made_in: &mut Vec<String>) -> Result<OwnedFd, StorageError> {
        let name = self.tree.plan.name(file);
        let show = || self.tree.show(file);
        let executable = self.tree.plan.kind(file) == Kind::Executable;
        let root = &self.tree.root;
        let made = self
            .tree
            .with_descriptor(|| root.create_file(&name, executable, made_in));
        match made {
            Err(Errno::EXIST) => Err(refused(
                StorageErrorKind::Occupied,
                StorageOp::Create,
                &show(),
                "a file of that name has appeared, and torr did not make it",
            )),
            other => other.map_err(|errno| failed(StorageOp::Create, &show(), errno)),
        }
    }

    /// Makes everything durable, says that we ended in good order, and lets go of files and lock.
    pub(crate) fn close(&self) -> Result<(), StorageError> {
        let done = self.mark().and_then(|()| {
            let mut ledger = self.ledger();
            if !ledger.log.in_session() || ledger.log.image().closed() {
                return Ok(());
            }
            let mut records = self.stamps(&ledger);
            records.push(Record::Closed);
            self.append(&mut ledger, &records)?;
            ledger.log.sync(self.state())
        });
        self.tree.close_files();
        drop(lock(&self.lock).take());
        done
    }

    /// How our files look now, for the next one to see whether somebody changed them since.
    fn stamps(&self, ledger: &Ledger) -> Vec<Record> {
        let mut out = Vec::new();
        let mut looks = self.tree.root.looks();
        for file in self.tree.plan.files() {
            if self.tree.plan.len(file) > 0 && ledger.log.image().placed(file) {
                let stat = looks.stat(&self.tree.plan.name(file));
                if let Ok(Some(stat)) = stat {
                    let stamp = crate::survey::stamp_of(&stat);
                    out.push(Record::Stamp { file, stamp });
                }
            }
        }
        out
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        let left = self.ledger().dirty.bytes;
        self.limits.unmarked.fetch_sub(left, Ordering::Relaxed);
    }
}

impl Dirty {
    fn add(&mut self, touched: Touched) {
        self.files.extend(touched.files);
        self.folders.extend(touched.folders);
        self.bytes += touched.bytes;
        self.since.get_or_insert_with(Instant::now);
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A worker that panicked under a lock did not get to its append: what is there is still true.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
