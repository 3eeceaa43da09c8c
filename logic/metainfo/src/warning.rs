//! Oddities of a torrent that do not keep it from being used.

use std::fmt;

use crate::limits::WARNINGS_MAX;
use crate::{FileIndex, PathFaults};

/// Something about a torrent that a person may want to know. Shown in one line by `Display`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// Keys are not in the order of BEP 3.
    KeysOutOfOrder,
    /// So many bytes follow the end of the torrent.
    TrailingBytes(usize),
    /// A key's value was left out of account.
    Ignored {
        /// The key, with its way from the top.
        key: String,
        /// What is wrong with it: "not a string".
        why: &'static str,
    },
    /// The torrent has both `files` and `length`; the files count.
    FilesAndLength,
    /// The torrent has no name and is called by its info-hash.
    NameMissing,
    /// `private` is not 0 or 1; the torrent counts as private.
    PrivateOdd,
    /// A later `meta version` than torr knows; its v1 part is used.
    UnknownVersion(i64),
    /// A name that is not on disk as it is in the torrent.
    NameOnDisk {
        /// Whose name; the torrent's if it is none.
        file: Option<FileIndex>,
        /// The path below the download folder that it has on disk.
        path: String,
        /// Why.
        faults: PathFaults,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KeysOutOfOrder => f.write_str("keys are not in order"),
            Self::TrailingBytes(count) => write!(f, "{count} bytes after the end are ignored"),
            Self::Ignored { key, why } => write!(f, "`{key}` is ignored: {why}"),
            Self::FilesAndLength => f.write_str("`info.length` is ignored: there are `files`"),
            Self::NameMissing => f.write_str("the torrent has no name"),
            Self::PrivateOdd => f.write_str("`info.private` is odd, and counts as 1"),
            Self::UnknownVersion(version) => {
                write!(f, "only the v1 part is used: `meta version` is {version}")
            }
            Self::NameOnDisk { file, path, faults } => {
                match file {
                    Some(file) => write!(f, "file {file}")?,
                    None => f.write_str("the torrent")?,
                }
                write!(f, " is called `{path}` on disk: {faults}")
            }
        }
    }
}

/// Warnings while they are collected.
#[derive(Debug, Default)]
pub(crate) struct Warnings(Vec<Warning>);

impl Warnings {
    /// Keeps the first ones: a torrent with a thousand is past helping.
    pub(crate) fn push(&mut self, warning: Warning) {
        if self.0.len() < WARNINGS_MAX {
            self.0.push(warning);
        }
    }

    pub(crate) fn ignored(&mut self, key: impl Into<String>, why: &'static str) {
        self.push(Warning::Ignored {
            key: key.into(),
            why,
        });
    }

    pub(crate) fn into_vec(self) -> Vec<Warning> {
        self.0
    }
}
