//! The .torrent that an earlier run kept, looked for by its info-hash.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use torr_base::InfoHash;
use torr_metainfo::{Metainfo, TORRENT_LEN_MAX};

use crate::state::{TORRENT_NAME, TORRENTS};

/// The .torrent of that info-hash, of whatever download folder, if one was kept and is still what it was.
/// Reads files, and may take as long as that does.
#[must_use]
pub fn kept_torrent(state_dir: &Path, info_hash: InfoHash) -> Option<Vec<u8>> {
    let prefix = format!("{info_hash}-");
    let folders = fs::read_dir(state_dir.join(TORRENTS)).ok()?;
    let names = folders
        .filter_map(Result::ok)
        .map(|folder| folder.file_name());
    let mut names: Vec<_> = names
        .filter(|name| name.to_str().is_some_and(|name| name.starts_with(&prefix)))
        .collect();
    names.sort_unstable();
    names.into_iter().find_map(|name| {
        let path = state_dir.join(TORRENTS).join(name).join(TORRENT_NAME);
        let mut bytes = Vec::new();
        let file = File::open(path).ok()?;
        let read = file.take(TORRENT_LEN_MAX as u64).read_to_end(&mut bytes);
        read.ok()?;
        let right = Metainfo::parse(&bytes).is_ok_and(|meta| meta.info().info_hash() == info_hash);
        right.then_some(bytes)
    })
}
