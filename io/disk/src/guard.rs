//! Notices that somebody else changed a file, so that nothing of it goes to a peer unverified (G10).
//!
//! Each file has a *mark*: what it looked like when its pieces were last known to be right. Whoever reads
//! compares after the read. Our own writes are announced before and after, and move the mark along.
//!
//! ```text
//!   unknown ──first look──► mark ──own write begins──► writing ──the last one ends──► mark
//!                             │
//!                             └──it looks different──► in doubt ──all its pieces hashed──► mark
//! ```
//!
//! Invariants:
//! - A file in doubt has the pieces that were hashed since its last change, and only those may be read.
//! - A change is told once, by [`Guard::take_news`].
//!
//! What cannot be seen: a change in the middle of a write of our own to the same file, and one that leaves
//! length, times and inode as they were.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::fs::Stat;
use torr_base::PieceIndex;

use crate::errno::Sys;
use crate::storage::lock;

/// What a file looks like from outside: length, times and inode in one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark(u64);

impl Mark {
    /// No file looks like one of these.
    const UNKNOWN: Self = Self(0);
    const WRITING: Self = Self(1);
    const DOUBT: Self = Self(2);

    #[allow(clippy::unnecessary_cast, reason = "other widths on other systems")]
    pub(crate) fn of(stat: &Stat) -> Self {
        let facts = [
            stat.st_size as u64,
            stat.st_mtime as u64,
            stat.st_mtime_nsec as u64,
            stat.st_ctime as u64,
            stat.st_ctime_nsec as u64,
            stat.st_ino as u64,
        ];
        // Mixed as splitmix64 does: two looks of one file that differ come out alike once in 2^64.
        let mixed = facts.iter().fold(0x9e37_79b9_7f4a_7c15_u64, |sum, fact| {
            let mut x = (sum ^ fact).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            x ^ (x >> 31)
        });
        Self(mixed.max(3))
    }
}

/// What a look at a file means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// As it was when its pieces were right.
    Same,
    /// We are writing to it.
    Writing,
    /// It is not what it was, and nothing was done about that yet.
    Changed,
    /// It was changed, and its pieces are being hashed as they are needed.
    Doubt,
}

#[derive(Debug)]
pub(crate) struct Guard {
    /// One for each file: 0 while it was not looked at.
    marks: Vec<AtomicU64>,
    /// Those that are being written to, or in doubt.
    busy: Mutex<BTreeMap<u32, Busy>>,
    changes: AtomicU64,
    has_news: AtomicBool,
    news: Mutex<Vec<u32>>,
}

/// A change that was noticed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    pub(crate) number: u64,
    /// … by this look.
    pub(crate) new: bool,
}

#[derive(Debug, Default)]
struct Busy {
    writers: u32,
    doubt: Option<Doubt>,
}

#[derive(Debug)]
struct Doubt {
    change: Change,
    /// What the file looked like after it, our own writes included.
    mark: Mark,
    /// Hashed since then and right.
    right: BTreeSet<PieceIndex>,
    /// Pieces to hash until the file is trusted as a whole again; found out with the first one.
    left: Option<BTreeSet<PieceIndex>>,
}

impl Guard {
    pub(crate) fn new(files: u32) -> Self {
        Self {
            marks: (0..files).map(|_| AtomicU64::new(0)).collect(),
            busy: Mutex::default(),
            changes: AtomicU64::new(0),
            has_news: AtomicBool::new(false),
            news: Mutex::default(),
        }
    }

    /// We changed the file, while nobody reads it.
    pub(crate) fn reset(&self, file: u32) {
        self.put(file, Mark::UNKNOWN);
    }

    pub(crate) fn put(&self, file: u32, mark: Mark) {
        if let Some(slot) = self.marks.get(file as usize) {
            slot.store(mark.0, Ordering::Release);
        }
    }

    fn is_unknown(&self, file: u32) -> bool {
        let slot = self.marks.get(file as usize);
        slot.is_some_and(|slot| slot.load(Ordering::Acquire) == Mark::UNKNOWN.0)
    }

    /// What it means that a file looks like that. No lock, no system call.
    pub(crate) fn judge(&self, file: u32, seen: Mark) -> Verdict {
        let Some(slot) = self.marks.get(file as usize) else {
            return Verdict::Same;
        };
        let known = slot.compare_exchange(0, seen.0, Ordering::AcqRel, Ordering::Acquire);
        match known.map_or_else(Mark, |_| seen) {
            mark if mark == seen => Verdict::Same,
            Mark::WRITING => Verdict::Writing,
            Mark::DOUBT => Verdict::Doubt,
            _ => Verdict::Changed,
        }
    }

    /// Files that changed since the last call. Costs one load while there are none.
    pub(crate) fn take_news(&self) -> Vec<u32> {
        if !self.has_news.swap(false, Ordering::AcqRel) {
            return Vec::new();
        }
        std::mem::take(&mut *lock(&self.news))
    }

    fn tell(&self, file: u32) {
        let mut news = lock(&self.news);
        if !news.contains(&file) {
            news.push(file);
        }
        self.has_news.store(true, Ordering::Release);
    }

    /// A write of our own is about to begin. `look` is called while no other write of ours can begin or
    /// end, here and below; otherwise what we do ourselves would look like somebody else's doing.
    pub(crate) fn begin_write(&self, file: u32, look: impl FnOnce() -> Option<Mark>) {
        let mut busy = lock(&self.busy);
        let entry = busy.entry(file).or_default();
        // Of what was never looked at, a look tells nothing.
        if entry.doubt.is_some() || !self.is_unknown(file) {
            self.compare(file, entry, look);
        }
        entry.writers += 1;
        if entry.doubt.is_none() {
            self.put(file, Mark::WRITING);
        }
    }

    pub(crate) fn end_write(&self, file: u32, look: impl FnOnce() -> Option<Mark>) {
        let mut busy = lock(&self.busy);
        let Some(entry) = busy.get_mut(&file) else {
            return;
        };
        entry.writers -= 1;
        if entry.writers > 0 {
            return;
        }
        // Where it cannot be looked at any more, whoever reads it next finds that out.
        let seen = look().unwrap_or(Mark::UNKNOWN);
        match &mut entry.doubt {
            Some(doubt) => doubt.mark = seen,
            None => {
                busy.remove(&file);
                self.put(file, seen);
            }
        }
    }

    /// Looks again, for good: `None` where the file is as it should be, or being written to by us; else
    /// the change that put it in doubt.
    pub(crate) fn check(&self, file: u32, look: impl FnOnce() -> Option<Mark>) -> Option<Change> {
        let mut busy = lock(&self.busy);
        let entry = busy.entry(file).or_default();
        let new = self.compare(file, entry, look);
        let doubt = entry.doubt.as_ref();
        let change = doubt.map(|doubt| Change {
            new,
            ..doubt.change
        });
        if entry.writers == 0 && change.is_none() {
            busy.remove(&file);
        }
        change
    }

    /// Puts the file in doubt if it changed, and not by us; true if it did.
    fn compare(&self, file: u32, entry: &mut Busy, look: impl FnOnce() -> Option<Mark>) -> bool {
        if entry.writers > 0 {
            return false;
        }
        let Some(seen) = look() else { return false };
        let same = match &entry.doubt {
            Some(doubt) => doubt.mark == seen,
            None => self.judge(file, seen) == Verdict::Same,
        };
        if !same {
            let number = self.changes.fetch_add(1, Ordering::Relaxed);
            entry.doubt = Some(Doubt::new(seen, number));
            self.put(file, Mark::DOUBT);
            self.tell(file);
        }
        !same
    }

    /// Whether a piece was hashed since that change, which is the last one.
    pub(crate) fn is_right(&self, file: u32, change: Change, piece: PieceIndex) -> bool {
        let busy = lock(&self.busy);
        let doubt = busy.get(&file).and_then(|entry| entry.doubt.as_ref());
        doubt.is_none_or(|doubt| {
            doubt.change.number == change.number && doubt.right.contains(&piece)
        })
    }

    /// A piece was hashed after that change and before any other. `had`: the pieces of it that we have.
    pub(crate) fn hashed(
        &self,
        file: u32,
        change: Change,
        (piece, lost): (PieceIndex, bool),
        had: impl FnOnce() -> BTreeSet<PieceIndex>,
    ) {
        let mut busy = lock(&self.busy);
        let Some(entry) = busy.get_mut(&file) else {
            return;
        };
        let same = |doubt: &&mut Doubt| doubt.change.number == change.number;
        let Some(doubt) = entry.doubt.as_mut().filter(same) else {
            return;
        };
        if !lost {
            doubt.right.insert(piece);
        }
        let left = doubt.left.get_or_insert_with(had);
        left.remove(&piece);
        if left.is_empty() && entry.writers == 0 {
            let mark = doubt.mark;
            busy.remove(&file);
            self.put(file, mark);
        }
    }

    /// A piece was verified and written by us: it needs no other look.
    pub(crate) fn committed(&self, file: u32, piece: PieceIndex) {
        let mut busy = lock(&self.busy);
        let doubt = busy.get_mut(&file).and_then(|entry| entry.doubt.as_mut());
        if let Some(doubt) = doubt {
            doubt.right.insert(piece);
            if let Some(left) = &mut doubt.left {
                left.remove(&piece);
            }
        }
    }
}

impl Doubt {
    fn new(mark: Mark, number: u64) -> Self {
        let new = false;
        Self {
            change: Change { number, new },
            mark,
            right: BTreeSet::new(),
            left: None,
        }
    }
}

/// For who has the file open.
pub(crate) fn look_at(fd: &impl AsFd) -> Sys<(Mark, Stat)> {
    let stat = rustix::fs::fstat(fd)?;
    Ok((Mark::of(&stat), stat))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Mark = Mark(10);
    const B: Mark = Mark(11);
    const C: Mark = Mark(12);
    const P: PieceIndex = PieceIndex::new(0);
    const Q: PieceIndex = PieceIndex::new(1);

    fn look(mark: Mark) -> impl Fn() -> Option<Mark> {
        move || Some(mark)
    }

    #[test]
    fn own_writes_move_the_mark_and_others_do_not() {
        let guard = Guard::new(1);
        assert_eq!(guard.judge(0, A), Verdict::Same);
        guard.begin_write(0, look(A));
        guard.begin_write(0, look(B));
        assert_eq!(guard.judge(0, B), Verdict::Writing);
        guard.end_write(0, look(B));
        assert_eq!(guard.judge(0, C), Verdict::Writing);
        assert!(guard.check(0, look(C)).is_none());
        guard.end_write(0, look(B));
        assert_eq!(guard.judge(0, B), Verdict::Same);
        assert_eq!(guard.judge(0, C), Verdict::Changed);
        // A look that is old by now: it was of the time of the write.
        assert!(guard.check(0, look(B)).is_none());
        assert!(guard.take_news().is_empty());
    }

    #[test]
    fn a_file_in_doubt_is_trusted_piece_by_piece_and_then_whole() {
        let guard = Guard::new(1);
        assert_eq!(guard.judge(0, A), Verdict::Same);
        let had = || BTreeSet::from([P, Q]);
        let change = guard.check(0, look(B)).unwrap();
        assert!(change.new && !guard.check(0, look(B)).unwrap().new);
        assert_eq!(guard.take_news(), [0]);
        assert_eq!(guard.judge(0, B), Verdict::Doubt);
        guard.hashed(0, change, (P, false), had);
        assert!(guard.is_right(0, change, P) && !guard.is_right(0, change, Q));
        let next = guard.check(0, look(C)).unwrap();
        assert!(!guard.is_right(0, next, P), "it changed again");
        guard.hashed(0, change, (P, false), had);
        assert!(!guard.is_right(0, next, P), "that was before");
        guard.hashed(0, next, (P, false), had);
        guard.hashed(0, next, (Q, true), had);
        assert_eq!(guard.judge(0, C), Verdict::Same);
    }

    #[test]
    fn a_write_finds_a_change_before_it_and_keeps_the_doubt() {
        let guard = Guard::new(1);
        assert_eq!(guard.judge(0, A), Verdict::Same);
        guard.begin_write(0, look(B));
        assert_eq!(guard.take_news(), [0]);
        assert_eq!(guard.judge(0, B), Verdict::Doubt);
        guard.committed(0, P);
        guard.end_write(0, look(C));
        let change = guard.check(0, look(C)).unwrap();
        assert!(guard.is_right(0, change, P) && !guard.is_right(0, change, Q));
    }
}
