//! Space that is reserved before it is written, so that what belongs together lies together on the device.
//!
//! Pieces come in no order, and each direct write into a hole makes the file system look for room at once:
//! 1 GiB in pieces of 4 MiB ends up in 126 extents. With windows of 64 MiB reserved first it is 16, and the
//! writes cost a little less.

use std::os::fd::AsFd;
use std::sync::Mutex;

use rustix::fs::{self, FallocateFlags};
use rustix::io::Errno;

use crate::errno::Sys;
use crate::storage::lock;

/// What is reserved at a time.
pub(crate) const WINDOW: u64 = 64 << 20;
/// With less left on the file system nothing is taken before it is needed: another torrent may need it now.
const FREE_MIN: u64 = 1 << 30;

/// The windows of one file that were asked for.
#[derive(Debug, Default)]
pub(crate) struct Reserved(Mutex<Asked>);

#[derive(Debug, Default)]
struct Asked {
    /// A bit for each window.
    windows: Vec<u64>,
    /// It cannot be done there.
    never: bool,
}

impl Reserved {
    /// Reserves the windows in which `len` bytes at `offset` of a file of `file_len` bytes lie, where that was
    /// not done yet. What cannot be reserved is written without.
    pub(crate) fn reserve(&self, fd: &impl AsFd, offset: u64, len: u64, file_len: u64) {
        if len == 0 {
            return;
        }
        // A window that another worker is reserving is worth waiting for: the write would do the same work.
        let mut asked = lock(&self.0);
        for window in offset / WINDOW..=(offset + len - 1) / WINDOW {
            if asked.never || !asked.mark(window) {
                continue;
            }
            let start = window * WINDOW;
            let end = file_len.min(start + WINDOW);
            // What is written at one go gets its room at one go.
            let all_of_it = offset <= start && end <= offset + len;
            if all_of_it || start >= end || !has_room(fd) {
                continue;
            }
            asked.never = keeping_size(fd, start, end - start).is_err();
        }
    }
}

impl Asked {
    /// True if it was not marked before.
    fn mark(&mut self, window: u64) -> bool {
        let (word, bit) = ((window / 64) as usize, 1 << (window % 64));
        if self.windows.len() <= word {
            self.windows.resize(word + 1, 0);
        }
        let before = self.windows[word] & bit;
        self.windows[word] |= bit;
        before == 0
    }
}

fn has_room(fd: &impl AsFd) -> bool {
    free_bytes(fd).is_ok_and(|free| free >= FREE_MIN)
}

/// What is free on the file system, for whoever has no privileges.
pub(crate) fn free_bytes(fd: &impl AsFd) -> Sys<u64> {
    let found = fs::fstatvfs(fd)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
fn keeping_size(fd: &impl AsFd, start: u64, len: u64) -> Sys<()> {
    fs::fallocate(fd, FallocateFlags::KEEP_SIZE, start, len)
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
fn keeping_size(_: &impl AsFd, _: u64, _: u64) -> Sys<()> {
    let _ = FallocateFlags::KEEP_SIZE;
    Err(Errno::OPNOTSUPP)
}

/// A whole file, at its full size (`--preallocate`).
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
pub(crate) fn whole(fd: &impl AsFd, len: u64) -> Result<(), Errno> {
    fs::fallocate(fd, FallocateFlags::empty(), 0, len)
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
pub(crate) fn whole(fd: &impl AsFd, len: u64) -> Result<(), Errno> {
    fs::ftruncate(fd, len)
}
