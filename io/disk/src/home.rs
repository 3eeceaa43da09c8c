//! Whether the download folder is still where it was (G9): a file system may be unmounted under us, or
//! another one mounted in its place.
//!
//! Everything is done relative to a descriptor of the folder, so nothing ever goes to a bare mount point;
//! but whoever went on writing to a file system that is mounted nowhere would write where nobody looks, and
//! keep it from being taken away. Such a folder is let go of, and taken up again when it is back.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::fs;
use rustix::io::Errno;
use torr_store::{StorageError, StorageErrorKind, StorageOp};

use crate::errno::{Sys, refused};
use crate::root::{Root, open_folder};

/// File system and inode of a folder.
pub(crate) type Identity = (u64, u64);

/// An identity that two file systems may share: some have no id of their own.
const NO_ID: u64 = 0;

/// Whether a folder of the identity `now` is the one that it was. `st_dev` says the same only until the next
/// mount; the id of the file system and the inode outlive it.
pub(crate) fn is_same(before: Identity, now: Identity) -> bool {
    before.0 == now.0 && (before.0 != NO_ID || before.1 == now.1)
}

pub(crate) fn identity_of(dir: impl AsFd) -> Sys<Identity> {
    let inode = fs::fstat(&dir)?.st_ino;
    Ok((fs::fstatvfs(&dir)?.f_fsid, inode))
}

/// What a person is told who finds another file system than the torrent's.
pub(crate) fn absent(folder: &Path, expected: Identity, found: Option<Identity>) -> StorageError {
    let detail = match found {
        Some(found) => format!(
            "the file system that holds the torrent ({:016x}) is not mounted there; {:016x} is",
            expected.0, found.0
        ),
        None => format!(
            "the file system that holds the torrent ({:016x}) is not mounted any more",
            expected.0
        ),
    };
    let path = folder.to_string_lossy();
    refused(StorageErrorKind::Absent, StorageOp::Open, &path, detail)
}

impl Root {
    /// Sees to it that the folder is where it was; takes it up again if it was let go of and is back. A
    /// folder that was moved within its file system is what it was.
    ///
    /// # Errors
    /// `Absent`, and the folder is let go of.
    pub(crate) fn find(&self, home: Identity) -> Result<(), StorageError> {
        let there = open_folder(self.path());
        let held = self.dir().ok();
        let found = match (held, there) {
            (Some(held), Ok(there)) => match (fs::fstat(&held), fs::fstat(&there)) {
                (Ok(a), Ok(b)) if a.st_dev == b.st_dev => return Ok(()),
                _ => identity_of(&there).ok(),
            },
            (Some(held), Err(errno)) if !is_gone(errno) || is_mounted(&held) => return Ok(()),
            (None, Ok(there)) => match identity_of(&there) {
                // The very folder: another one of that file system has other files.
                Ok(found) if found == home => {
                    self.set_dir(Some(Arc::new(there)));
                    return Ok(());
                }
                found => found.ok(),
            },
            (Some(_) | None, Err(_)) => None,
        };
        self.set_dir(None);
        Err(absent(self.path(), home, found))
    }
}

/// Whether that answer may come of a file system that is not there.
fn is_gone(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::NOENT | Errno::NOTDIR | Errno::STALE | Errno::NODEV | Errno::NXIO | Errno::IO
    )
}

/// Whether the mount that a folder was reached through is in the list of mounts; true where nobody tells.
#[cfg(target_os = "linux")]
fn is_mounted(dir: &OwnedFd) -> bool {
    use rustix::fs::{AtFlags, StatxFlags, statx};
    let Ok(found) = statx(dir, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID) else {
        return true;
    };
    let Ok(list) = std::fs::read_to_string("/proc/self/mountinfo") else {
        return true;
    };
    if found.stx_mask & StatxFlags::MNT_ID.bits() == 0 {
        return true;
    }
    let id = found.stx_mnt_id.to_string();
    list.lines().any(|line| line.split(' ').next() == Some(&id))
}

#[cfg(not(target_os = "linux"))]
fn is_mounted(_: &OwnedFd) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_of_zero_says_nothing() {
        assert!(is_same((7, 1), (7, 2)), "a folder that was made anew");
        assert!(!is_same((7, 1), (8, 1)));
        assert!(is_same((0, 1), (0, 1)));
        assert!(!is_same((0, 1), (0, 2)));
    }
}
