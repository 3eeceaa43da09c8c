//! From the operating system's errors to those that a person can act on.

use rustix::io::Errno;
use torr_store::{StorageError, StorageErrorKind, StorageOp};

/// A failed system call, on the way to becoming a [`StorageError`].
pub(crate) type Sys<T> = Result<T, Errno>;

/// Says what was being done, and to which file.
pub(crate) fn failed(op: StorageOp, path: &str, errno: Errno) -> StorageError {
    StorageError {
        kind: kind_of(errno),
        op,
        path: path.to_owned(),
        offset: None,
        detail: describe(errno),
        errno: name_of(errno),
        room: None,
    }
}

/// The same with a place in the file, in bytes.
pub(crate) fn failed_at(op: StorageOp, path: &str, offset: u64, errno: Errno) -> StorageError {
    StorageError {
        offset: Some(offset),
        ..failed(op, path, errno)
    }
}

/// A refusal in our own words.
pub(crate) fn refused(
    kind: StorageErrorKind,
    op: StorageOp,
    path: &str,
    detail: impl Into<String>,
) -> StorageError {
    StorageError {
        kind,
        op,
        path: path.to_owned(),
        offset: None,
        detail: detail.into(),
        errno: None,
        room: None,
    }
}

fn kind_of(errno: Errno) -> StorageErrorKind {
    match errno {
        Errno::NOSPC | Errno::DQUOT => StorageErrorKind::NoSpace,
        Errno::ROFS | Errno::ACCESS | Errno::PERM => StorageErrorKind::Denied,
        Errno::NOENT | Errno::STALE => StorageErrorKind::Missing,
        Errno::NODEV | Errno::NXIO => StorageErrorKind::Absent,
        // A symbolic link where none may be, a file where a folder must be, and the reverse.
        Errno::EXIST | Errno::LOOP | Errno::NOTDIR | Errno::ISDIR | Errno::XDEV => {
            StorageErrorKind::Occupied
        }
        Errno::MFILE | Errno::NFILE => StorageErrorKind::TooManyFiles,
        _ => StorageErrorKind::Io,
    }
}

/// As programs know it; those that a disk may answer with.
fn name_of(errno: Errno) -> Option<&'static str> {
    Some(match errno {
        Errno::NOSPC => "ENOSPC",
        Errno::DQUOT => "EDQUOT",
        Errno::FBIG => "EFBIG",
        Errno::IO => "EIO",
        Errno::ROFS => "EROFS",
        Errno::ACCESS => "EACCES",
        Errno::PERM => "EPERM",
        Errno::MFILE => "EMFILE",
        Errno::NFILE => "ENFILE",
        Errno::NOENT => "ENOENT",
        Errno::STALE => "ESTALE",
        Errno::NODEV => "ENODEV",
        Errno::NXIO => "ENXIO",
        Errno::NOMEM => "ENOMEM",
        Errno::EXIST => "EEXIST",
        Errno::LOOP => "ELOOP",
        Errno::NOTDIR => "ENOTDIR",
        Errno::ISDIR => "EISDIR",
        Errno::XDEV => "EXDEV",
        Errno::INVAL => "EINVAL",
        Errno::TIMEDOUT => "ETIMEDOUT",
        _ => return None,
    })
}

fn describe(errno: Errno) -> String {
    match errno {
        Errno::LOOP => "there is a symbolic link in the way".to_owned(),
        Errno::XDEV => "the path leaves the download folder".to_owned(),
        Errno::NOTDIR => "there is a file where a folder must be".to_owned(),
        Errno::ISDIR => "there is a folder where a file must be".to_owned(),
        other => {
            let text = std::io::Error::from(other).to_string();
            // The number in parentheses helps nobody who reads the sentence.
            match text.find(" (os error") {
                Some(at) => text[..at].to_owned(),
                None => text,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_that_an_errno_can_mean_is_reached() {
        for (errno, kind) in [
            (Errno::NOSPC, StorageErrorKind::NoSpace),
            (Errno::DQUOT, StorageErrorKind::NoSpace),
            (Errno::ROFS, StorageErrorKind::Denied),
            (Errno::ACCESS, StorageErrorKind::Denied),
            (Errno::NOENT, StorageErrorKind::Missing),
            (Errno::LOOP, StorageErrorKind::Occupied),
            (Errno::MFILE, StorageErrorKind::TooManyFiles),
            (Errno::IO, StorageErrorKind::Io),
        ] {
            let error = failed_at(StorageOp::Write, "a/b", 7, errno);
            assert_eq!((error.kind, error.offset), (kind, Some(7)));
            assert!(!error.detail.contains("os error"), "{error}");
        }
    }
}
