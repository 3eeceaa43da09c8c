//! Open files, least recently used closed first, so that no torrent needs more descriptors than the
//! process may have.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};

use rustix::fs::Stat;
use torr_store::StorageId;

use crate::errno::Sys;
use crate::reserve::Reserved;
use crate::root::Root;
use crate::storage::lock;

/// A file that somebody may be using while the cache has long forgotten it.
#[derive(Debug)]
pub(crate) struct OpenFile {
    pub(crate) fd: OwnedFd,
    pub(crate) writable: bool,
    /// The same file past the page cache, once it was asked for; `None` where that cannot be.
    direct: OnceLock<Option<OwnedFd>>,
    /// It was opened, but does not serve.
    no_direct: AtomicBool,
    pub(crate) reserved: Reserved,
}

impl OpenFile {
    pub(crate) fn new(fd: OwnedFd, writable: bool) -> Self {
        Self {
            fd,
            writable,
            direct: OnceLock::new(),
            no_direct: AtomicBool::new(false),
            reserved: Reserved::default(),
        }
    }

    /// The descriptor that goes past the page cache; the first time, `open` makes it.
    pub(crate) fn direct(&self, open: impl FnOnce() -> Sys<OwnedFd>) -> Option<&OwnedFd> {
        if self.no_direct.load(Ordering::Relaxed) {
            return None;
        }
        self.direct.get_or_init(|| open().ok()).as_ref()
    }

    pub(crate) fn give_up_direct(&self) {
        self.no_direct.store(true, Ordering::Relaxed);
    }
}

/// A file of one storage. The parts file has [`PARTS`] for a number.
type FileKey = (StorageId, u32);

/// The number of the parts file, which no file of a torrent can have.
pub(crate) const PARTS: u32 = u32::MAX;

/// However few descriptors there are.
const OPEN_LEAST: usize = 8;

/// At most `max` open files, for all storages together; fewer once the process had no descriptor left.
#[derive(Debug)]
pub(crate) struct FileCache {
    inner: Mutex<Inner>,
    max: AtomicUsize,
    folders: Mutex<BTreeMap<Folder, Weak<OwnedFd>>>,
}

/// A download folder: its path, and the device and inode that were found there.
type Folder = (PathBuf, u64, u64);

#[derive(Debug, Default)]
struct Inner {
    open: BTreeMap<FileKey, (Arc<OpenFile>, u64)>,
    by_age: BTreeMap<u64, FileKey>,
    tick: u64,
}

impl FileCache {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            inner: Mutex::default(),
            max: AtomicUsize::new(max.max(1)),
            folders: Mutex::default(),
        }
    }

    /// Lets all torrents of one download folder, which looks like that, hold one descriptor of it among them.
    #[allow(clippy::unnecessary_cast, reason = "other widths on other systems")]
    pub(crate) fn share_folder(&self, root: &Root, stat: &Stat) -> Sys<()> {
        let dir = root.dir()?;
        let key = (
            root.path().to_owned(),
            stat.st_dev as u64,
            stat.st_ino as u64,
        );
        let mut folders = lock(&self.folders);
        match folders.get(&key).and_then(Weak::upgrade) {
            Some(shared) => root.set_dir(Some(shared)),
            None => {
                folders.retain(|_, dir| dir.strong_count() > 0);
                folders.insert(key, Arc::downgrade(&dir));
            }
        }
        Ok(())
    }

    /// The file, if it is open in a way that serves: for writing, if `write` is asked for.
    pub(crate) fn get(&self, key: FileKey, write: bool) -> Option<Arc<OpenFile>> {
        let mut inner = self.lock();
        inner.tick += 1;
        let tick = inner.tick;
        let (file, used) = inner.open.get_mut(&key)?;
        if write && !file.writable {
            return None;
        }
        let (file, before) = (Arc::clone(file), std::mem::replace(used, tick));
        inner.by_age.remove(&before);
        inner.by_age.insert(tick, key);
        Some(file)
    }

    /// Keeps a file that was just opened, in the place of one of the same key.
    pub(crate) fn put(&self, key: FileKey, file: OpenFile) -> Arc<OpenFile> {
        let file = Arc::new(file);
        let mut closed = Vec::new();
        let mut inner = self.lock();
        inner.tick += 1;
        let tick = inner.tick;
        if let Some((old, used)) = inner.open.insert(key, (Arc::clone(&file), tick)) {
            inner.by_age.remove(&used);
            closed.push(old);
        }
        inner.by_age.insert(tick, key);
        while inner.open.len() > self.max.load(Ordering::Relaxed) {
            closed.extend(inner.evict());
        }
        // Closing a file may take the kernel a while.
        drop(inner);
        drop(closed);
        file
    }

    /// Forgets one file: who opens it next gets what has its name then.
    pub(crate) fn forget(&self, key: FileKey) {
        let mut inner = self.lock();
        let gone = inner.open.remove(&key);
        if let Some((_, used)) = &gone {
            inner.by_age.remove(used);
        }
        // Closing a file may take the kernel a while.
        drop(inner);
        drop(gone);
    }

    /// Closes half of what is open, and keeps no more open from now on: the process has no descriptors left.
    pub(crate) fn relieve(&self) {
        let mut inner = self.lock();
        let goal = inner.open.len() / 2;
        self.max.fetch_min(goal.max(OPEN_LEAST), Ordering::Relaxed);
        let mut closed = Vec::new();
        while inner.open.len() > goal {
            closed.extend(inner.evict());
        }
        drop(inner);
    }

    /// Closes all files of a storage.
    pub(crate) fn close(&self, storage: StorageId) {
        let mut inner = self.lock();
        let keys = inner.open.range((storage, 0)..=(storage, u32::MAX));
        let keys: Vec<FileKey> = keys.map(|(key, _)| *key).collect();
        let mut closed = Vec::new();
        for key in keys {
            if let Some((file, used)) = inner.open.remove(&key) {
                inner.by_age.remove(&used);
                closed.push(file);
            }
        }
        drop(inner);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }
}

impl Inner {
    fn evict(&mut self) -> Option<Arc<OpenFile>> {
        let (_, key) = self.by_age.pop_first()?;
        self.open.remove(&key).map(|(file, _)| file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(writable: bool) -> OpenFile {
        let fd = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        OpenFile::new(fd, writable)
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let cache = FileCache::new(3);
        let key = |n| (StorageId(1), n);
        for n in 0..3 {
            cache.put(key(n), file(n != 1));
        }
        assert!(cache.get(key(0), true).is_some());
        assert!(cache.get(key(1), true).is_none(), "it cannot be written");
        cache.put(key(3), file(true));
        assert!(cache.get(key(1), false).is_none());
        for n in [0, 2, 3] {
            assert!(cache.get(key(n), false).is_some(), "{n}");
        }
        cache.put((StorageId(2), 0), file(true));
        cache.close(StorageId(1));
        assert!(cache.get(key(3), false).is_none());
        assert!(cache.get((StorageId(2), 0), false).is_some());
        cache.relieve();
        let inner = cache.lock();
        assert_eq!((inner.open.len(), inner.by_age.len()), (0, 0));
    }
}
