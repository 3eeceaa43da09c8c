//! The .torrent that is kept with the state, and its checksum (G13).
//!
//! Its info-hash tells whether the info dictionary is right, and nothing of what is around it: a changed letter in
//! an announce URL would go unnoticed. Hence a file beside it with the SHA-1 of all of it, in hexadecimal digits. One
//! without a checksum is believed as far as its info-hash goes.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use rustix::fs::AtFlags;
use rustix::io::Errno;
use torr_base::{InfoHash, hex};
use torr_metainfo::{Metainfo, TORRENT_LEN_MAX};
use torr_store::{StorageError, StorageOp};

use crate::errno::{Sys, failed};
use crate::hash::hash_one;
use crate::root::Root;
use crate::state::{TORRENTS, read_all, replace};

const TORRENT_NAME: &str = "torrent";
const SUM_NAME: &str = "torrent.sum";
/// Bytes of a checksum file.
const SUM_LEN: usize = 41;

/// What an earlier run kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// The .torrent, as it was.
    pub torrent: Option<Vec<u8>>,
    /// Files that were meant to be it, and are no longer what was written.
    pub damaged: Vec<PathBuf>,
}

/// Looks for the .torrent of that info-hash, of whatever download folder. Reads files, and may take as long as that
/// does.
#[must_use]
pub fn kept_torrent(state_dir: &Path, info_hash: InfoHash) -> Kept {
    let mut kept = Kept::default();
    let prefix = format!("{info_hash}-");
    let Ok(folders) = fs::read_dir(state_dir.join(TORRENTS)) else {
        return kept;
    };
    let names = folders
        .filter_map(Result::ok)
        .map(|folder| folder.file_name());
    let mut names: Vec<_> = names
        .filter(|name| name.to_str().is_some_and(|name| name.starts_with(&prefix)))
        .collect();
    names.sort_unstable();
    for name in names {
        let folder = state_dir.join(TORRENTS).join(name);
        let Some(bytes) = read_file(&folder.join(TORRENT_NAME)) else {
            continue;
        };
        let whole = match read_file(&folder.join(SUM_NAME)) {
            Some(sum) => sum == sum_of(&bytes),
            None => true,
        };
        let is_of = |meta: Metainfo| meta.info().info_hash() == info_hash;
        if whole && Metainfo::parse(&bytes).is_ok_and(is_of) {
            kept.torrent = Some(bytes);
            break;
        }
        kept.damaged.push(folder.join(TORRENT_NAME));
    }
    kept
}

fn read_file(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path).ok()?;
    let read = file.take(TORRENT_LEN_MAX as u64).read_to_end(&mut bytes);
    read.ok()?;
    Some(bytes)
}

/// Keeps the .torrent, unless it is there already. Tells the path of what turned out damaged.
pub(crate) fn keep_torrent(root: &Root, bytes: &[u8]) -> Result<Option<String>, StorageError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let there = read(root, TORRENT_NAME, bytes.len().max(TORRENT_LEN_MAX))?;
    let sum = read(root, SUM_NAME, SUM_LEN)?;
    let wanted = sum_of(bytes);
    if there.as_deref() == Some(bytes) {
        let damaged = sum.as_ref().is_some_and(|sum| *sum != wanted);
        if sum.as_ref() != Some(&wanted) {
            replace(root, SUM_NAME, &wanted)?;
        }
        return Ok(damaged.then(|| root.show(SUM_NAME)));
    }
    // Another .torrent of the same info-hash, with other trackers perhaps, or one that is not what it was.
    let both = there.zip(sum);
    let damaged = both.is_some_and(|(there, sum)| sum_of(&there) != sum);
    // First: with the old one beside it, the new .torrent would look damaged after a crash.
    remove(root, SUM_NAME)?;
    replace(root, TORRENT_NAME, bytes)?;
    replace(root, SUM_NAME, &wanted)?;
    Ok(damaged.then(|| root.show(TORRENT_NAME)))
}

fn sum_of(bytes: &[u8]) -> Vec<u8> {
    format!("{}\n", hex(&hash_one(&[bytes]))).into_bytes()
}

/// A file of the state, or as much of it as tells that it is too long; `None` where there is none.
fn read(root: &Root, name: &str, len_max: usize) -> Result<Option<Vec<u8>>, StorageError> {
    let fail = |errno| failed(StorageOp::Log, &root.show(name), errno);
    let file = match root.open_file(name, false) {
        Err(Errno::NOENT) => return Ok(None),
        other => other.map_err(fail)?,
    };
    let bytes = read_all(&file, len_max as u64 + 1);
    bytes.map(Some).map_err(fail)
}

fn remove(root: &Root, name: &str) -> Result<(), StorageError> {
    let unlink = |dir| rustix::fs::unlinkat(dir, name, AtFlags::empty());
    let removed: Sys<()> = match root.dir().and_then(unlink) {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    };
    removed.map_err(|errno| failed(StorageOp::Log, &root.show(name), errno))
}
