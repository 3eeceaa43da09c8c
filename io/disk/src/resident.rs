//! What the page cache has, asked without ever waiting for a disk.

use std::io::IoSliceMut;
use std::os::fd::{AsFd, OwnedFd};

#[cfg(target_os = "linux")]
use rustix::io::Errno;

use crate::errno::Sys;

/// Whether all pages under a range of a file are in memory. `None` where the kernel cannot tell.
#[cfg(target_os = "linux")]
pub(crate) fn is_resident(fd: &OwnedFd, offset: u64, len: u64) -> Option<bool> {
    use std::os::fd::AsRawFd;

    /// The same on every architecture, since Linux 6.5.
    const CACHESTAT: libc::c_long = 451;
    #[repr(C)]
    struct Range {
        offset: u64,
        len: u64,
    }
    #[repr(C)]
    #[derive(Default)]
    struct Counts {
        cached: u64,
        dirty: u64,
        writeback: u64,
        evicted: u64,
        recently_evicted: u64,
    }
    let range = Range { offset, len };
    let mut counts = Counts::default();
    // SAFETY: `fd` is open for as long as it is borrowed, and both structures are laid out as cachestat(2)
    // has them and outlive the call, which keeps no pointer.
    let result = unsafe {
        libc::syscall(
            CACHESTAT,
            fd.as_raw_fd(),
            std::ptr::from_ref(&range),
            std::ptr::from_mut(&mut counts),
            0,
        )
    };
    let page = rustix::param::page_size() as u64;
    let pages = (offset + len).div_ceil(page) - offset / page;
    (result == 0).then_some(counts.cached == pages)
}

/// Fills all of `bufs` if that needs no disk. False where it does, and at the end of the file.
#[cfg(target_os = "linux")]
pub(crate) fn read_now(fd: impl AsFd, bufs: &mut [IoSliceMut<'_>], offset: u64) -> Sys<bool> {
    use rustix::io::{ReadWriteFlags, preadv2};

    let len: usize = bufs.iter().map(|buf| buf.len()).sum();
    match preadv2(fd, bufs, offset, ReadWriteFlags::NOWAIT) {
        Ok(n) => Ok(n == len),
        // Not in memory, or a file system that cannot tell.
        Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INTR) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Has the kernel begin to read a range, which it may already have.
#[cfg(target_os = "linux")]
pub(crate) fn read_soon(fd: &OwnedFd, offset: u64, len: u64) {
    let len = std::num::NonZeroU64::new(len);
    // A hint: without it the read takes longer.
    let _ = rustix::fs::fadvise(fd, offset, len, rustix::fs::Advice::WillNeed);
}

/// Has the kernel let go of what it has in memory of a range.
#[cfg(target_os = "linux")]
pub(crate) fn forget(fd: &OwnedFd, offset: u64, len: u64) {
    let len = std::num::NonZeroU64::new(len);
    // Advice: where it is not taken, what is in memory is what is read.
    let _ = rustix::fs::fadvise(fd, offset, len, rustix::fs::Advice::DontNeed);
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn is_resident(_: &OwnedFd, _: u64, _: u64) -> Option<bool> {
    None
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn read_now(_: impl AsFd, _: &mut [IoSliceMut<'_>], _: u64) -> Sys<bool> {
    Ok(false)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn read_soon(_: &OwnedFd, _: u64, _: u64) {}

#[cfg(not(target_os = "linux"))]
pub(crate) fn forget(_: &OwnedFd, _: u64, _: u64) {}
