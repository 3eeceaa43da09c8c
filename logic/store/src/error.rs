//! What a disk can say no with.

use std::fmt;

/// What went wrong at the disk, in a form that a person can act on.
///
/// Cheap to clone enough: it is made when something fails, never per block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageError {
    pub kind: StorageErrorKind,
    pub op: StorageOp,
    /// The file, as the user would name it; a folder or the state directory where no file is meant.
    pub path: String,
    /// Bytes from the start of the file, where it matters.
    pub offset: Option<u64>,
    /// The operating system's words, or ours.
    pub detail: String,
    /// The operating system's name for it, such as `ENOSPC`; `None` where the refusal is ours.
    pub errno: Option<&'static str>,
    /// How much room there is and how much is needed, where somebody looked.
    pub room: Option<Room>,
}

/// Bytes on a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// To go on.
    pub needs: u64,
    pub free: u64,
}

/// Sorted by what the user can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageErrorKind {
    /// ENOSPC, EDQUOT: make room.
    NoSpace,
    /// EROFS, EACCES, EPERM: mend the rights.
    Denied,
    /// ENOENT where a file must be, a file shorter than it was, a folder that vanished.
    Missing,
    /// Another file system than the torrent's is where its folder was (G9): mount the right one.
    Absent,
    /// Something else is there: a foreign file (G7), a symlink, a folder in place of a file.
    Occupied,
    /// Another process holds the state directory.
    Locked,
    /// EMFILE, ENFILE: too many open files.
    TooManyFiles,
    /// EIO and everything else.
    Io,
}

/// What was being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageOp {
    Create,
    Open,
    Read,
    Write,
    Sync,
    Allocate,
    Check,
    Lock,
    Log,
    /// Look whether it works again.
    Probe,
}

impl fmt::Display for StorageOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "create",
            Self::Open => "open",
            Self::Read => "read",
            Self::Write => "write",
            Self::Sync => "sync",
            Self::Allocate => "reserve space for",
            Self::Check => "check",
            Self::Lock => "lock",
            Self::Log => "keep the record of",
            Self::Probe => "write to",
        })
    }
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {}", self.op, self.path)?;
        if let Some(offset) = self.offset {
            write!(f, " at byte {offset}")?;
        }
        write!(f, ": {}", self.detail)
    }
}

impl std::error::Error for StorageError {}

impl StorageErrorKind {
    /// Whether the cause may go away without anybody deciding anything about the torrent: a disk that is
    /// full is emptied, a file system is mounted again.
    #[must_use]
    pub fn may_pass(self) -> bool {
        match self {
            Self::NoSpace
            | Self::Denied
            | Self::Missing
            | Self::Absent
            | Self::TooManyFiles
            | Self::Io => true,
            Self::Occupied | Self::Locked => false,
        }
    }
}

impl StorageError {
    /// What the user can do, in one sentence; `None` where we know nothing better than the message.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self.kind {
            StorageErrorKind::NoSpace => {
                Some("make room on that file system and run the same command again: it resumes")
            }
            StorageErrorKind::Denied => {
                Some("check the owner and mode of that path, or choose another folder with -d")
            }
            StorageErrorKind::Missing => {
                Some("it was moved or changed by another program; run again to check the files")
            }
            StorageErrorKind::Absent => Some(
                "mount it and run the same command again; to start anew in this folder: --recheck",
            ),
            StorageErrorKind::Occupied => {
                Some("move it away, choose another folder with -d, or permit it with --overwrite")
            }
            StorageErrorKind::Locked => Some("stop the other torr, or choose another folder"),
            StorageErrorKind::TooManyFiles => Some("raise the limit of open files (ulimit -n)"),
            StorageErrorKind::Io => None,
        }
    }
}
