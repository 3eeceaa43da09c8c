//! Torrents of nothing but zeros: as large as one likes, and made without reading or writing any of it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use sha1::{Digest as _, Sha1};
use torr_metainfo::{Draft, DraftFile, DraftFiles, Info, Metainfo};

/// A torrent that is a folder of zeros.
#[derive(Debug)]
pub struct Zeros {
    /// The .torrent.
    pub path: PathBuf,
    pub info: Arc<Info>,
    name: String,
    files: Vec<(String, u64)>,
}

impl Zeros {
    /// Writes `NAME.torrent` in `dir`. `files` are named and have whole pieces.
    ///
    /// # Errors
    /// Where the file cannot be written, or those numbers make no torrent.
    pub fn make(dir: &Path, name: &str, piece_len: u32, files: &[(&str, u64)]) -> Result<Self> {
        let total: u64 = files.iter().map(|(_, len)| len).sum();
        ensure!(
            files
                .iter()
                .all(|(_, len)| len.is_multiple_of(piece_len.into())),
            "files of whole pieces"
        );
        let hash = Sha1::digest(vec![0; piece_len as usize]);
        let draft = Draft {
            name: name.to_owned(),
            files: DraftFiles::Folder(
                files
                    .iter()
                    .map(|(path, len)| DraftFile {
                        path: vec![(*path).to_owned()],
                        len: *len,
                        ..DraftFile::default()
                    })
                    .collect(),
            ),
            piece_len,
            hashes: hash.repeat((total / u64::from(piece_len)) as usize),
            ..Draft::default()
        };
        let bytes = draft.encode()?;
        let path = dir.join(format!("{name}.torrent"));
        fs::write(&path, &bytes).with_context(|| format!("writing {}", path.display()))?;
        let meta = Metainfo::parse(&bytes).map_err(|error| anyhow::anyhow!("{error}"))?;
        Ok(Self {
            path,
            info: Arc::clone(meta.info()),
            name: name.to_owned(),
            files: files
                .iter()
                .map(|(path, len)| ((*path).to_owned(), *len))
                .collect(),
        })
    }

    pub fn total(&self) -> u64 {
        self.files.iter().map(|(_, len)| len).sum()
    }

    /// Where a file of it is.
    pub fn file(&self, folder: &Path, name: &str) -> PathBuf {
        folder.join(&self.name).join(name)
    }

    /// Makes files as one long hole each: those that `wanted` says.
    ///
    /// # Errors
    /// What the file system says.
    pub fn lay(&self, folder: &Path, wanted: impl Fn(&str) -> bool) -> Result<()> {
        fs::create_dir_all(folder.join(&self.name))?;
        for (name, len) in self.files.iter().filter(|(name, _)| wanted(name)) {
            let path = self.file(folder, name);
            let made = File::create(&path).and_then(|file| file.set_len(*len));
            made.with_context(|| format!("making {}", path.display()))?;
        }
        Ok(())
    }
}
