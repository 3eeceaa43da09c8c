//! How long the have-log was when it was last made durable (G13).
//!
//! A log that was cut off between two records looks like one that never had more. So its length stands beside it, in
//! `log.end`: the log's inode, its frames, and a CRC-32C, little-endian. It is written after the log was synced and
//! never synced itself: a power cut leaves an older length, which is no longer than the log. A log that was written
//! anew has another inode, and what is said of the old one means nothing.

use std::os::fd::OwnedFd;

use rustix::fs::{self, Mode, OFlags};

use crate::errno::Sys;
use crate::root::Root;
use crate::state::write_all;
use crate::tree::retry;

pub(crate) const END_NAME: &str = "log.end";
const LEN: usize = 20;

/// What is known of a log's length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Unknown,
    /// It is not what was written.
    Damaged,
    /// The log had at least so many frames.
    Frames(u64),
}

/// Reads what `log.end` says of that log.
pub(crate) fn read_end(state: &Root, log: &OwnedFd) -> End {
    let Ok(file) = state.open_file(END_NAME, false) else {
        return End::Unknown;
    };
    let mut bytes = [0; LEN + 1];
    let len = retry(|| rustix::io::pread(&file, &mut bytes[..], 0));
    let known = len.ok().and_then(|len| bytes.get(..len));
    match known {
        // What a power cut leaves of a file that nobody synced.
        None | Some([]) => End::Unknown,
        Some(bytes) if bytes.iter().all(|byte| *byte == 0) => End::Unknown,
        Some(bytes) => match decode(bytes) {
            None => End::Damaged,
            Some((inode, frames)) if inode_of(log) == Ok(inode) => End::Frames(frames),
            Some(_) => End::Unknown,
        },
    }
}

/// Notes that the log has so many frames, durably. What goes wrong here costs only the knowledge.
pub(crate) fn write_end(state: &Root, log: &OwnedFd, frames: u64) {
    let write = || -> Sys<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mode = Mode::from_bits_retain(0o600);
        let file = fs::openat(state.dir()?, END_NAME, flags, mode)?;
        let bytes = encode(inode_of(log)?, frames);
        write_all(&file, &bytes, 0)?;
        if fs::fstat(&file)?.st_size as usize != LEN {
            fs::ftruncate(&file, LEN as u64)?;
        }
        Ok(())
    };
    let _ = write();
}

fn inode_of(log: &OwnedFd) -> Sys<u64> {
    Ok(fs::fstat(log)?.st_ino)
}

fn encode(inode: u64, frames: u64) -> [u8; LEN] {
    let mut bytes = [0; LEN];
    bytes[..8].copy_from_slice(&inode.to_le_bytes());
    bytes[8..16].copy_from_slice(&frames.to_le_bytes());
    let sum = crc32c::crc32c(&bytes[..16]);
    bytes[16..].copy_from_slice(&sum.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<(u64, u64)> {
    let (body, sum) = bytes.split_last_chunk::<4>()?;
    if crc32c::crc32c(body) != u32::from_le_bytes(*sum) {
        return None;
    }
    let (inode, frames) = body.split_first_chunk::<8>()?;
    let frames = u64::from_le_bytes(frames.try_into().ok()?);
    Some((u64::from_le_bytes(*inode), frames))
}
