//! A torrent out of files.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use torr_base::InfoHash;
use torr_disk::{WalkedFile, hash_files, walk};
use torr_metainfo::{
    Draft, DraftError, DraftFile, DraftFiles, FileAttrs, Metainfo, MetainfoError, piece_length_for,
};
use torr_store::StorageError;

/// What a new torrent is made of. [`CreateTorrent::new`] has what most want.
#[derive(Clone, Debug)]
pub struct CreateTorrent {
    /// A file, or a folder with everything in it.
    pub path: PathBuf,
    /// `None`: the name of `path`.
    pub name: Option<String>,
    /// Bytes in a piece; `None`: as fits the size.
    pub piece_len: Option<u32>,
    /// In tiers.
    pub trackers: Vec<Vec<String>>,
    pub web_seeds: Vec<String>,
    /// Peers from the trackers only.
    pub private: bool,
    pub comment: Option<String>,
    pub source: Option<String>,
    /// The program and its version; `None` leaves it out.
    pub created_by: Option<String>,
    /// Seconds since 1970; `None` leaves it out.
    pub creation_date: Option<u64>,
    /// Threads that read and hash.
    pub threads: usize,
}

impl CreateTorrent {
    /// A public torrent without a tracker, hashed on every CPU there is.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let threads = std::thread::available_parallelism();
        Self {
            path: path.into(),
            name: None,
            piece_len: None,
            trackers: Vec::new(),
            web_seeds: Vec::new(),
            private: false,
            comment: None,
            source: None,
            created_by: Some(concat!("torr/", env!("CARGO_PKG_VERSION")).to_owned()),
            creation_date: None,
            threads: threads.map_or(1, usize::from),
        }
    }
}

/// A new torrent.
#[derive(Clone, Debug)]
pub struct Created {
    /// The bytes of the .torrent.
    pub torrent: Vec<u8>,
    pub info_hash: InfoHash,
    pub name: String,
    pub piece_len: u32,
    /// Bytes of all files.
    pub total: u64,
    pub files: usize,
    /// Symbolic links, pipes and the like, which are not in it.
    pub left_out: Vec<PathBuf>,
}

/// Why there is no new torrent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// The files cannot be read, or changed meanwhile, or `progress` ended it.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Names or sizes that no torrent can have.
    #[error(transparent)]
    Draft(#[from] DraftError),
    /// The path has no name that a torrent could have, as `/` has none.
    #[error("{0} has no name for a torrent: give it one")]
    NoName(PathBuf),
    /// What was made does not read back.
    #[error("the new torrent cannot be read: {0}")]
    Unreadable(#[from] MetainfoError),
}

/// Hashes files and makes the torrent of them. Works in the caller's thread and some more: in async code it
/// belongs on a blocking thread. `progress` is told bytes done and bytes in all, from several threads, and
/// may end it.
///
/// # Errors
/// See [`CreateError`].
pub fn create(
    create: &CreateTorrent,
    progress: &(dyn Fn(u64, u64) -> ControlFlow<()> + Sync),
) -> Result<Created, CreateError> {
    let walked = walk(&create.path)?;
    let total = walked.files.iter().map(|file| file.len).sum();
    let piece_len = create.piece_len.unwrap_or_else(|| piece_length_for(total));
    let name = match &create.name {
        Some(name) => name.clone(),
        None => name_of(&create.path)?,
    };
    let mut draft = Draft {
        name: name.clone(),
        files: shape(&walked.files),
        piece_len,
        hashes: Vec::new(),
        private: create.private,
        source: create.source.clone(),
        trackers: create.trackers.clone(),
        web_seeds: create.web_seeds.clone(),
        comment: create.comment.clone(),
        created_by: create.created_by.clone(),
        creation_date: create.creation_date,
    };
    let files: Vec<_> = walked
        .files
        .iter()
        .map(|file| (file.path.clone(), file.len))
        .collect();
    let tell = |done| progress(done, total);
    draft.hashes = hash_files(&files, piece_len, create.threads.max(1), &tell)?.concat();
    let torrent = draft.encode()?;
    let info_hash = Metainfo::parse(&torrent)?.info().info_hash();
    Ok(Created {
        torrent,
        info_hash,
        name,
        piece_len,
        total,
        files: files.len(),
        left_out: walked.left_out,
    })
}

/// The last part of the path, wherever it leads: `.` has one too.
fn name_of(path: &Path) -> Result<String, CreateError> {
    let name = |path: &Path| Some(path.file_name()?.to_str()?.to_owned());
    let whole = || name(&path.canonicalize().ok()?);
    name(path)
        .or_else(whole)
        .ok_or_else(|| CreateError::NoName(path.to_owned()))
}

fn shape(files: &[WalkedFile]) -> DraftFiles {
    match files {
        [only] if only.components.is_empty() => DraftFiles::Single(only.len),
        files => DraftFiles::Folder(files.iter().map(draft_file).collect()),
    }
}

fn draft_file(file: &WalkedFile) -> DraftFile {
    DraftFile {
        path: file.components.clone(),
        len: file.len,
        attrs: FileAttrs {
            executable: file.executable,
            ..FileAttrs::default()
        },
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn what_was_made_is_found_right_by_a_check() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("top");
        fs::create_dir_all(top.join("sub")).unwrap();
        fs::write(top.join("b"), vec![1; 100_000]).unwrap();
        fs::write(top.join("sub/a"), vec![2; 50_000]).unwrap();
        fs::write(top.join("empty"), "").unwrap();
        let last = AtomicU64::new(0);
        let made = create(&CreateTorrent::new(&top), &|done, total| {
            assert_eq!(total, 150_000);
            last.fetch_max(done, Ordering::Relaxed);
            ControlFlow::Continue(())
        });
        let made = made.unwrap();
        assert_eq!(last.into_inner(), 150_000);
        assert_eq!(
            (made.files, made.total, made.name.as_str()),
            (3, 150_000, "top")
        );
        let info = Arc::clone(Metainfo::parse(&made.torrent).unwrap().info());
        assert_eq!(info.info_hash(), made.info_hash);
        let check = || {
            let go_on = |_| ControlFlow::Continue(());
            torr_disk::check(&info, dir.path(), None, 2, &go_on).unwrap()
        };
        assert!(check().is_right());
        fs::write(top.join("b"), vec![3; 100_000]).unwrap();
        assert!(!check().is_right());
    }

    #[test]
    fn nothing_and_nowhere_are_refused() {
        let go_on = |_, _| ControlFlow::Continue(());
        let missing = create(&CreateTorrent::new("/nowhere/at/all"), &go_on);
        assert!(matches!(missing, Err(CreateError::Storage(_))));
        let dir = tempfile::tempdir().unwrap();
        let empty = create(&CreateTorrent::new(dir.path()), &go_on);
        assert!(matches!(
            empty,
            Err(CreateError::Draft(DraftError::NoFiles))
        ));
    }
}
