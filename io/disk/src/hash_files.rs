//! Files into piece hashes, for a new torrent.

use std::collections::VecDeque;
use std::fs;
use std::ops::{ControlFlow, Range};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use torr_hash::LANES;
use torr_metainfo::{FILES_MAX, PATH_DEPTH_MAX};
use torr_store::{StorageError, StorageErrorKind, StorageOp};

use crate::errno::{failed, failed_at, refused};
use crate::hash::{Ranges, hash_ranges};
use crate::open::cancelled;
use crate::storage::lock;
use crate::tree::retry;

/// A regular file in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalkedFile {
    pub path: PathBuf,
    /// From the folder on; none where the path given is itself a file.
    pub components: Vec<String>,
    /// Bytes.
    pub len: u64,
    /// Whether its owner may execute it.
    pub executable: bool,
}

/// What a folder holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Walked {
    /// Sorted by their components, byte by byte, so that the same folder always gives the same torrent.
    pub files: Vec<WalkedFile>,
    /// Symbolic links, pipes and the like, which were left out.
    pub left_out: Vec<PathBuf>,
}

/// All regular files of a folder and its folders, or the one file that `path` is. Symbolic links in it
/// are not followed; `path` itself may be one.
///
/// # Errors
/// Where something cannot be read, a name is not UTF-8, or there are more files or folders in folders than
/// a torrent may have.
pub fn walk(path: &Path) -> Result<Walked, StorageError> {
    let mut found = Walked::default();
    let meta = fs::metadata(path).map_err(|error| unreadable(path, &error))?;
    if meta.is_file() {
        found.files.push(walked(path, Vec::new(), &meta));
        return Ok(found);
    }
    let mut folders = vec![(path.to_owned(), Vec::new())];
    while let Some((folder, components)) = folders.pop() {
        let entries = fs::read_dir(&folder).map_err(|error| unreadable(&folder, &error))?;
        for entry in entries {
            let entry = entry.map_err(|error| unreadable(&folder, &error))?;
            let path = entry.path();
            let meta = fs::symlink_metadata(&path).map_err(|error| unreadable(&path, &error))?;
            let Ok(name) = entry.file_name().into_string() else {
                return Err(not_possible(&path, "its name is not UTF-8"));
            };
            let mut components = components.clone();
            components.push(name);
            if components.len() > PATH_DEPTH_MAX {
                return Err(not_possible(&path, "it is in too many folders"));
            }
            if meta.is_dir() {
                folders.push((path, components));
            } else if meta.is_file() {
                found.files.push(walked(&path, components, &meta));
            } else {
                found.left_out.push(path);
            }
            if found.files.len() > FILES_MAX as usize {
                return Err(not_possible(&folder, "it has too many files for a torrent"));
            }
        }
    }
    found.files.sort_by(|a, b| a.components.cmp(&b.components));
    found.left_out.sort();
    Ok(found)
}

fn walked(path: &Path, components: Vec<String>, meta: &fs::Metadata) -> WalkedFile {
    use std::os::unix::fs::PermissionsExt;
    WalkedFile {
        path: path.to_owned(),
        components,
        len: meta.len(),
        executable: meta.permissions().mode() & 0o100 != 0,
    }
}

/// The SHA-1 of each piece of files that lie end to end: `files` are paths and bytes, `piece_len` bytes.
///
/// Reads on `threads` threads, each with 1 MiB of memory. `progress` is told how many bytes are done,
/// from all of them, and may end it.
///
/// # Errors
/// Where a file cannot be read or is shorter or longer than said, or `progress` ended it.
pub fn hash_files(
    files: &[(PathBuf, u64)],
    piece_len: u32,
    threads: usize,
    progress: &(dyn Fn(u64) -> ControlFlow<()> + Sync),
) -> Result<Vec<[u8; 20]>, StorageError> {
    let mut starts = vec![0_u64];
    for (path, len) in files {
        let end = starts.last().copied().unwrap_or_default();
        let end = end.checked_add(*len);
        starts.push(end.ok_or_else(|| not_possible(path, "it makes the torrent too long"))?);
    }
    let total = starts.last().copied().unwrap_or_default();
    let pieces = total.div_ceil(u64::from(piece_len.max(1))) as usize;
    let run = Run {
        files,
        starts,
        piece_len: u64::from(piece_len.max(1)),
        pieces,
        next: AtomicUsize::new(0),
        done: AtomicU64::new(0),
        stop: AtomicBool::new(false),
        hashes: Mutex::new(vec![[0; 20]; pieces]),
        error: Mutex::new(None),
        progress,
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.min(pieces) {
            scope.spawn(|| run.work());
        }
        run.work();
    });
    if let Some(error) = lock(&run.error).take() {
        return Err(error);
    }
    let hashes = std::mem::take(&mut *lock(&run.hashes));
    Ok(hashes)
}

struct Run<'a> {
    files: &'a [(PathBuf, u64)],
    /// Bytes before each file, and the total.
    starts: Vec<u64>,
    piece_len: u64,
    pieces: usize,
    next: AtomicUsize,
    done: AtomicU64,
    stop: AtomicBool,
    hashes: Mutex<Vec<[u8; 20]>>,
    /// The first one.
    error: Mutex<Option<StorageError>>,
    progress: &'a (dyn Fn(u64) -> ControlFlow<()> + Sync),
}

/// Files that a thread has open: pieces that go side by side are mostly in different ones, and each of
/// them goes on into its next.
const OPEN_MAX: usize = 2 * LANES;

/// The files that a thread has open, oldest first.
type Current = VecDeque<(usize, OwnedFd)>;

/// The pieces that one thread takes, one after another.
struct Share<'a, 'b> {
    run: &'a Run<'b>,
    current: Current,
}

impl Ranges for Share<'_, '_> {
    type Error = StorageError;

    fn next(&mut self) -> Option<(usize, Range<u64>)> {
        if self.run.stop.load(Ordering::Relaxed) {
            return None;
        }
        let piece = self.run.next.fetch_add(1, Ordering::Relaxed);
        let total = self.run.starts.last().copied().unwrap_or_default();
        let start = piece as u64 * self.run.piece_len;
        let end = total.min(start + self.run.piece_len);
        (piece < self.run.pieces).then_some((piece, start..end))
    }

    fn read(&mut self, at: u64, buf: &mut [u8]) -> Result<(), StorageError> {
        if self.run.stop.load(Ordering::Relaxed) {
            return Err(cancelled());
        }
        self.run.fill(at, buf, &mut self.current)?;
        let len = buf.len() as u64;
        let done = self.run.done.fetch_add(len, Ordering::Relaxed) + len;
        if (self.run.progress)(done).is_break() {
            return Err(cancelled());
        }
        Ok(())
    }

    fn done(&mut self, piece: usize, hash: Result<[u8; 20], StorageError>) {
        match hash {
            Ok(hash) => lock(&self.run.hashes)[piece] = hash,
            Err(error) => {
                self.run.stop.store(true, Ordering::Relaxed);
                lock(&self.run.error).get_or_insert(error);
            }
        }
    }
}

impl Run<'_> {
    fn work(&self) {
        hash_ranges(&mut Share {
            run: self,
            current: VecDeque::new(),
        });
    }

    /// Fills `buf` from byte `at` of all files together.
    fn fill(
        &self,
        mut at: u64,
        mut buf: &mut [u8],
        current: &mut Current,
    ) -> Result<(), StorageError> {
        // The first file that does not end before that byte.
        let mut file = self.starts[1..].partition_point(|start| *start <= at);
        while !buf.is_empty() {
            let len = (self.starts[file + 1] - at).min(buf.len() as u64) as usize;
            let (now, later) = buf.split_at_mut(len);
            if len > 0 {
                self.read(file, at - self.starts[file], now, current)?;
            }
            (buf, at, file) = (later, at + len as u64, file + 1);
        }
        Ok(())
    }

    fn read(
        &self,
        file: usize,
        offset: u64,
        buf: &mut [u8],
        current: &mut Current,
    ) -> Result<(), StorageError> {
        let (path, len) = &self.files[file];
        let show = || path.to_string_lossy().into_owned();
        let known = current.iter().position(|(open, _)| *open == file);
        let place = match known {
            Some(place) => place,
            None => {
                if current.len() == OPEN_MAX {
                    current.pop_front();
                }
                current.push_back((file, open(path, *len)?));
                current.len() - 1
            }
        };
        let fd = &current[place].1;
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done as u64;
            match retry(|| rustix::io::pread(fd, &mut buf[done..], at)) {
                Ok(0) => return Err(not_possible(path, "it became shorter meanwhile")),
                Ok(got) => done += got,
                Err(errno) => return Err(failed_at(StorageOp::Read, &show(), at, errno)),
            }
        }
        Ok(())
    }
}

fn open(path: &Path, len: u64) -> Result<OwnedFd, StorageError> {
    let fail = |errno| failed(StorageOp::Open, &path.to_string_lossy(), errno);
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(rustix::fs::CWD, path, flags, Mode::empty()).map_err(fail)?;
    if rustix::fs::fstat(&fd).map_err(fail)?.st_size as u64 != len {
        return Err(not_possible(path, "its length changed meanwhile"));
    }
    Ok(fd)
}

fn unreadable(path: &Path, error: &std::io::Error) -> StorageError {
    let errno = Errno::from_io_error(error).unwrap_or(Errno::IO);
    failed(StorageOp::Read, &path.to_string_lossy(), errno)
}

fn not_possible(path: &Path, why: &str) -> StorageError {
    let path = path.to_string_lossy();
    refused(StorageErrorKind::Io, StorageOp::Read, &path, why)
}
