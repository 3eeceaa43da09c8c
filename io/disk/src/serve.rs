//! The files of torrents as the network thread sees them: what can be sent without waiting for a disk.
//!
//! A [`Server`] belongs to one thread. It opens nothing and waits for nothing: it uses files that the
//! workers have opened, and asks the kernel what is in memory before anything is read or sent.
//!
//! - A range is *sendable* if it lies in one file that looks as it did when its pieces were verified, was
//!   not changed for a minute, and whose pages are in memory (G10).
//! - What is read is used only if the file looks the same after the read.
//! - The look at a file that is being sent from is at most [`LOOK_EVERY`] old, and goes on for as long as
//!   something of it may be under way.
//!
//! In steady state a block costs no lock, no allocation, and one system call beside those that send it.

use std::collections::BTreeMap;
use std::io::IoSliceMut;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::Stat;
use torr_base::RawBlock;
use torr_metainfo::Segment;
use torr_store::{BlockBuf, FileSource, Found, StorageId};

use crate::cache::OpenFile;
use crate::guard::{Verdict, look_at};
use crate::plan::file_of;
use crate::resident::{is_resident, read_now};
use crate::storage::Storage;
use crate::tree::Place;

/// Files that are kept at hand.
const SLOTS: usize = 32;
/// How old the look at a file may be that is sent from.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// What was cold so recently may be on its way into memory still, where a send would wait for it …
const WARMING: Duration = Duration::from_secs(2);
/// … and so may what follows it so closely: more than anybody reads ahead.
const WARMING_LEN: u64 = 2 << 20;
/// Cold places that are remembered of a file.
const COLD_PLACES: usize = 8;
/// Blocks that are read at one go.
const SLICES: usize = 64;
/// What was sent so long ago has left the machine.
const UNDER_WAY: Duration = Duration::from_secs(60);

/// An open storage, for a [`Server`]. Who keeps it does not keep the storage from being closed.
#[derive(Clone, Debug)]
pub struct Served(pub(crate) Weak<Storage>);

/// Serves blocks of open storages out of the page cache.
#[derive(Debug)]
pub struct Server {
    storages: BTreeMap<StorageId, Arc<Storage>>,
    /// The last one used comes first.
    slots: Vec<Slot>,
    /// How long a file must have been left alone to be sent from: what was changed a moment ago may well
    /// be changed again, with blocks of it on their way.
    settled_after: Duration,
    /// The kernel said once that it cannot send from a file.
    reads_only: bool,
}

/// A file at hand.
#[derive(Debug)]
struct Slot {
    storage: StorageId,
    file: u32,
    /// Its first byte, and that after its last, in bytes of the torrent.
    start: u64,
    end: u64,
    open: Arc<OpenFile>,
    looked: Instant,
    sound: bool,
    settled: bool,
    cold: ColdPlaces,
    /// When something of it was last said to be sendable.
    sent: Option<Instant>,
}

impl Server {
    /// Files that it keeps open beside those of the disk.
    pub const FILES_MAX: usize = SLOTS;

    /// `settled_after`: see [`crate::DiskConfig::settled_after`].
    #[must_use]
    pub fn new(settled_after: Duration) -> Self {
        Self {
            storages: BTreeMap::new(),
            slots: Vec::with_capacity(SLOTS),
            settled_after,
            reads_only: false,
        }
    }

    /// Blocks of that storage can be had from now on.
    pub fn add(&mut self, id: StorageId, storage: &Served) {
        if let Some(storage) = storage.0.upgrade() {
            self.storages.insert(id, storage);
        }
    }

    /// … and no longer.
    pub fn remove(&mut self, id: StorageId) {
        self.storages.remove(&id);
        self.slots.retain(|slot| slot.storage != id);
    }

    /// Files can be read, but not sent from.
    pub fn never_send(&mut self) {
        self.reads_only = true;
    }

    /// The file of a range that was found to be sendable in this turn, and where in it the range starts.
    pub fn place(&self, storage: StorageId, range: RawBlock) -> Option<(BorrowedFd<'_>, u64)> {
        let (start, end) = self.bytes(storage, range)?;
        let slot = self
            .slots
            .iter()
            .find(|slot| slot.holds(storage, start, end))?;
        Some((slot.open.fd.as_fd(), start - slot.start))
    }

    /// Looks again at the files that something may be under way of, and tells of those that changed:
    /// whoever noticed it. To be called a few times a second.
    pub fn changes(&mut self, mut tell: impl FnMut(StorageId, u32)) {
        let now = Instant::now();
        let under_way = |slot: &Slot| slot.sent.is_some_and(|at| now - at < UNDER_WAY);
        for slot in self.slots.iter_mut().filter(|slot| under_way(slot)) {
            if let Some(storage) = self.storages.get(&slot.storage) {
                slot.look(storage, self.settled_after, now);
            }
        }
        self.slots.retain(|slot| slot.sound);
        for (id, storage) in &self.storages {
            for file in storage.guard.take_news() {
                self.slots
                    .retain(|slot| (slot.storage, slot.file) != (*id, file));
                tell(*id, file);
            }
        }
    }

    /// A range in bytes of the torrent.
    fn bytes(&self, storage: StorageId, range: RawBlock) -> Option<(u64, u64)> {
        let geometry = self.storages.get(&storage)?.tree.plan.geometry();
        let start = geometry.piece_start(geometry.piece(range.piece)?) + u64::from(range.offset);
        Some((start, start + u64::from(range.len)))
    }

    /// The file that all of those bytes lie in, if it is at hand or can be had, and as it should be.
    fn slot(&mut self, id: StorageId, start: u64, end: u64, now: Instant) -> Option<&mut Slot> {
        let storage = self.storages.get(&id)?;
        let place = self
            .slots
            .iter()
            .position(|slot| slot.holds(id, start, end));
        match place {
            // In steady state it is the first.
            Some(place) => self.slots.get_mut(..=place)?.rotate_right(1),
            None => {
                let slot = Slot::take(storage, id, start..end)?;
                self.slots.truncate(SLOTS - 1);
                self.slots.insert(0, slot);
            }
        }
        let slot = self.slots.first_mut()?;
        if place.is_none() || now - slot.looked >= LOOK_EVERY {
            slot.look(storage, self.settled_after, now);
        }
        if !slot.sound {
            self.slots.remove(0);
            return None;
        }
        self.slots.first_mut()
    }

    /// Fills `bufs` from one file, if all of it is in memory and the file as it should be.
    fn read_from(
        &mut self,
        id: StorageId,
        start: u64,
        bufs: &mut [IoSliceMut<'_>],
        now: Instant,
    ) -> bool {
        let end = start + bufs.iter().map(|buf| buf.len() as u64).sum::<u64>();
        let Some(slot) = self.slot(id, start, end, now) else {
            return false;
        };
        let read = read_now(&slot.open.fd, bufs, start - slot.start);
        if read != Ok(true) {
            slot.cold.add(start, now);
            return false;
        }
        let Some(storage) = self.storages.get(&id) else {
            return false;
        };
        // After the read: what changed before it shows.
        let settled_after = self.settled_after;
        let slot = self.slots.first_mut();
        slot.is_some_and(|slot| {
            slot.look(storage, settled_after, now);
            slot.sound
        })
    }
}

impl FileSource<BlockBuf> for Server {
    fn look(&mut self, storage: StorageId, range: RawBlock) -> Found {
        let Some((start, end)) = self.bytes(storage, range) else {
            return Found::Cold;
        };
        let (now, reads_only) = (Instant::now(), self.reads_only);
        let Some(slot) = self.slot(storage, start, end, now) else {
            let apart = self.storages.get(&storage).is_some_and(|storage| {
                let mut segments = storage.tree.plan.segments(start..end);
                let first = segments.next();
                first.is_some_and(|first| first.pad || first.len < end - start)
            });
            // Padding is always here; and which of several files is cold, reading them tells.
            return if apart { Found::Resident } else { Found::Cold };
        };
        match is_resident(&slot.open.fd, start - slot.start, end - start) {
            Some(true) => {}
            Some(false) => {
                slot.cold.add(start, now);
                return Found::Cold;
            }
            None => return Found::Resident,
        }
        if reads_only || !slot.settled || slot.cold.is_near(start, now) {
            return Found::Resident;
        }
        slot.sent = Some(now);
        Found::Sendable
    }

    fn read(&mut self, id: StorageId, range: RawBlock, buf: &mut BlockBuf) -> bool {
        let Some((start, end)) = self.bytes(id, range) else {
            return false;
        };
        let now = Instant::now();
        let Some(buf) = buf.as_mut().get_mut(..range.len as usize) else {
            return false;
        };
        if self
            .slots
            .first()
            .is_some_and(|slot| slot.holds(id, start, end))
        {
            return self.read_from(id, start, &mut [IoSliceMut::new(buf)], now);
        }
        let Some(storage) = self.storages.get(&id).map(Arc::clone) else {
            return false;
        };
        let (mut at, mut rest) = (start, buf);
        for segment in storage.tree.plan.segments(start..end) {
            let (part, later) = rest.split_at_mut(segment.len as usize);
            rest = later;
            if segment.pad {
                part.fill(0);
            } else if !self.read_from(id, at, &mut [IoSliceMut::new(part)], now) {
                return false;
            }
            at += segment.len;
        }
        true
    }

    fn read_run(&mut self, id: StorageId, ranges: &[RawBlock], bufs: &mut [BlockBuf]) -> bool {
        let Some((start, _)) = ranges.first().and_then(|first| self.bytes(id, *first)) else {
            return false;
        };
        let mut slices: [_; SLICES] = std::array::from_fn(|_| IoSliceMut::new(&mut []));
        let mut count = 0;
        for (slice, (range, buf)) in slices.iter_mut().zip(ranges.iter().zip(bufs)) {
            let Some(buf) = buf.as_mut().get_mut(..range.len as usize) else {
                return false;
            };
            *slice = IoSliceMut::new(buf);
            count += 1;
        }
        // More than one file, or more than fits: they are had one by one.
        count == ranges.len() && self.read_from(id, start, &mut slices[..count], Instant::now())
    }
}

impl Slot {
    /// The file under those bytes, if they are in one and a worker has opened it.
    fn take(storage: &Storage, id: StorageId, range: std::ops::Range<u64>) -> Option<Self> {
        let tree = &storage.tree;
        let len = range.end - range.start;
        let first: Segment = tree.plan.segments(range).next()?;
        let file = file_of(first);
        if first.len < len || tree.place(file) != Place::File {
            return None;
        }
        let begin = tree.plan.start(file);
        let slot = Self {
            storage: id,
            file,
            start: begin,
            end: begin + tree.plan.len(file),
            open: tree.open_already(file)?,
            looked: Instant::now(),
            sound: false,
            settled: false,
            cold: ColdPlaces::default(),
            sent: None,
        };
        Some(slot)
    }

    fn holds(&self, storage: StorageId, start: u64, end: u64) -> bool {
        self.storage == storage && self.start <= start && end <= self.end
    }

    /// Sees whether the file is what it should be.
    fn look(&mut self, storage: &Storage, settled_after: Duration, now: Instant) {
        self.looked = now;
        let Ok((mark, stat)) = look_at(&self.open.fd) else {
            self.sound = false;
            return;
        };
        let verdict = storage.guard.judge(self.file, mark);
        self.sound = match verdict {
            Verdict::Same | Verdict::Writing => true,
            Verdict::Changed => !storage.is_doubtful(self.file, &self.open),
            Verdict::Doubt => false,
        };
        self.settled = verdict == Verdict::Same && age(&stat) >= settled_after;
    }
}

/// Where a file was found to be cold of late.
#[derive(Debug, Default)]
struct ColdPlaces {
    places: [Option<(u64, Instant)>; COLD_PLACES],
    /// The one that is forgotten next.
    next: usize,
}

impl ColdPlaces {
    fn add(&mut self, start: u64, now: Instant) {
        if let Some(place) = self.places.get_mut(self.next) {
            *place = Some((start, now));
        }
        self.next = (self.next + 1) % COLD_PLACES;
    }

    /// Whether what is at `start` may be on its way into memory. All of a file may be of which more was
    /// cold than is remembered.
    fn is_near(&self, start: u64, now: Instant) -> bool {
        let mut fresh = 0;
        for (cold, at) in self.places.iter().flatten() {
            if now - *at < WARMING {
                fresh += 1;
                if (*cold..*cold + WARMING_LEN).contains(&start) {
                    return true;
                }
            }
        }
        fresh == COLD_PLACES
    }
}

/// How long ago a file was last changed in any way; nothing where that is in the future.
#[allow(clippy::unnecessary_cast, reason = "other widths on other systems")]
fn age(stat: &Stat) -> Duration {
    static START: OnceLock<(Duration, Instant)> = OnceLock::new();
    let changed = Duration::new(stat.st_ctime.max(0) as u64, stat.st_ctime_nsec as u32);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.unwrap_or_default();
    let (then, start) = START.get_or_init(|| (now, Instant::now()));
    age_at(changed, now, *then + start.elapsed())
}

/// The clock on the wall may have been set since the file was changed, either way (G12): `steady` is what it would
/// show if nobody had. The younger of both is believed, since it only costs speed.
fn age_at(changed: Duration, wall: Duration, steady: Duration) -> Duration {
    wall.min(steady).saturating_sub(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_makes_no_file_older() {
        let (second, years) = (
            Duration::from_secs(1),
            Duration::from_secs(10 * 365 * 86_400),
        );
        let then = 5 * years;
        assert_eq!(age_at(then, then + second, then + second), second);
        // Changed, and then the clock was set forward; set back, and then changed; the other two.
        assert_eq!(age_at(then, then + years + second, then + second), second);
        assert_eq!(age_at(then - years, then - years, then), Duration::ZERO);
        assert_eq!(age_at(then + years, then + years, then), Duration::ZERO);
        assert_eq!(age_at(then, then - years, then + second), Duration::ZERO);
    }

    #[test]
    fn what_follows_a_cold_place_is_not_sent_from_for_a_while() {
        let (mut cold, now) = (ColdPlaces::default(), Instant::now());
        assert!(!cold.is_near(0, now));
        cold.add(10 << 20, now);
        assert!(cold.is_near(10 << 20, now) && cold.is_near(11 << 20, now));
        assert!(!cold.is_near(9 << 20, now) && !cold.is_near(12 << 20, now));
        assert!(!cold.is_near(10 << 20, now + WARMING));
        for n in 0..COLD_PLACES as u64 {
            cold.add(n << 30, now);
        }
        assert!(cold.is_near(500 << 20, now), "nobody knows any more");
    }
}
