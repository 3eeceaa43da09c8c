//! What a storage is opened with, and what opening it tells.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use torr_base::{Bitfield, PieceIndex};
use torr_metainfo::Info;

use crate::hook::Hook;
use crate::serve::Served;

/// How whole pieces are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IoMode {
    /// Past the page cache, but for what is likely to be read again soon.
    #[default]
    Auto,
    /// Past the page cache, wherever that can be.
    Direct,
    /// Through the page cache.
    Buffered,
}

impl IoMode {
    pub(crate) fn is_direct(self, soon: bool) -> bool {
        match self {
            Self::Auto => !soon,
            Self::Direct => true,
            Self::Buffered => false,
        }
    }
}

/// How a [`crate::Disk`] works.
#[derive(Clone, Debug)]
pub struct DiskConfig {
    /// Worker threads; at least two are started, so that one torrent never holds all of them.
    pub workers: usize,
    /// Files of torrents open at once, for all storages together.
    pub open_files_max: usize,
    /// Finished pieces wait at most about this long for their commit mark (G3: 5 s with the sync itself).
    pub mark_after: Duration,
    /// Group commits begin when this many bytes of finished pieces wait for them, in all storages together.
    pub mark_bytes: u64,
    /// Commits wait for the disk rather than let more than this many bytes go unmarked, in all storages
    /// together (G3, G4: 64 MiB).
    pub unmarked_bytes_max: u64,
    pub io: IoMode,
    /// How long a file must have been left alone to be sent from without passing through memory (G10).
    pub settled_after: Duration,
    /// Sees, and may fail, every system call. For tests.
    pub hook: Hook,
}

impl Default for DiskConfig {
    fn default() -> Self {
        Self {
            workers: 4,
            open_files_max: 256,
            mark_after: Duration::from_secs(3),
            mark_bytes: 32 << 20,
            unmarked_bytes_max: 64 << 20,
            io: IoMode::default(),
            settled_after: Duration::from_secs(60),
            hook: Hook::default(),
        }
    }
}

/// What to do with a file that is there, has a name of the torrent, and is not known to be ours (G7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnExisting {
    /// Take it over if it is no longer than it should be and a piece in it is right, or it is empty or all
    /// holes; refuse otherwise.
    #[default]
    Adopt,
    /// Take it over whatever is in it; cut it if it is too long.
    Overwrite,
}

/// One torrent in one download folder.
#[derive(Clone, Debug)]
pub struct StorageSpec {
    pub info: Arc<Info>,
    /// The download folder; made if it is not there.
    pub root: PathBuf,
    /// Another name for the top-level file or folder.
    pub name: Option<String>,
    /// Where the states of all torrents are kept.
    pub state_dir: PathBuf,
    /// The .torrent, kept with the state; empty where there is none.
    pub torrent_bytes: Arc<[u8]>,
    /// For each file, counting those for padding, whether it is wanted. Empty: all are.
    pub wanted: Vec<bool>,
    /// Reserve the space of wanted files before anything else.
    pub preallocate: bool,
    pub on_existing: OnExisting,
    /// Hash everything that is there, whatever the log says.
    pub recheck: bool,
    /// Take files of the right length for right without hashing them.
    pub trust: bool,
}

/// How far opening has come. Told every so often while pieces are hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenProgress {
    /// Pieces hashed, right or wrong.
    pub pieces_done: u32,
    /// Pieces to hash.
    pub pieces: u32,
    /// Of those done, how many were right.
    pub pieces_right: u32,
}

/// Something that a person should know, though it stops nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenWarning {
    /// Records of the have-log were damaged, or are gone from its end: how many. What they told has to be found out anew.
    LogDamaged { path: String, records: u64 },
    /// The have-log could not be read at all; it was put aside under that path, and the files checked.
    LogUnreadable { path: String, why: String },
    /// The .torrent that is kept with the state, its checksum, or the length of the have-log was damaged, and was
    /// written anew.
    StateDamaged { path: String },
    /// A file with finished pieces is gone, or shorter than it was.
    FileLost { path: String },
    /// A file changed since torr last wrote it; its pieces were hashed again.
    FileChanged { path: String },
    /// A file could not be read while it was checked; its pieces count as missing.
    Unreadable { path: String, why: String },
    /// A symbolic link of the torrent was left out.
    LinkLeftOut { path: String, why: String },
}

/// A storage that is open.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The pieces that are there and right.
    pub have: Bitfield,
    /// Unfinished pieces, in order, and which of their blocks lie on the disk unverified.
    pub partial: Vec<(PieceIndex, Vec<u32>)>,
    /// Files taken over that torr did not make.
    pub adopted: u32,
    /// Pieces that were hashed.
    pub checked: u32,
    /// Bytes that were read to hash them.
    pub checked_bytes: u64,
    pub warnings: Vec<OpenWarning>,
    /// For a [`crate::Server`].
    pub served: Option<Served>,
}
