//! Which files of a torrent on disk are as they should be, without any state and without changing anything.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;
use torr_base::Bitfield;
use torr_metainfo::{FileIndex, Info};
use torr_store::{StorageError, StorageId, StorageOp};

use crate::cache::FileCache;
use crate::check::{Checked, check_pieces};
use crate::errno::failed;
use crate::hook::Hook;
use crate::open::{Stop, cancelled};
use crate::plan::{Kind, Plan};
use crate::root::Root;
use crate::spec::OpenProgress;
use crate::survey::list;
use crate::tree::{Place, Tree};

/// Files that a check holds open.
const OPEN_FILES_MAX: usize = 64;

/// What is wrong with a file, if anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileState {
    Right,
    Missing,
    /// A folder, a symbolic link, or something else that is no file; for a symbolic link of the torrent:
    /// anything but that link.
    NotAFile,
    /// It has `len` bytes. `bad_pieces` of its pieces are wrong or missing.
    WrongLength {
        len: u64,
        bad_pieces: u32,
    },
    /// Some of its pieces are wrong. A piece that reaches into another file is wrong in both.
    Bad {
        pieces: u32,
    },
    Unreadable {
        why: String,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileReport {
    pub file: FileIndex,
    /// Below the download folder.
    pub path: String,
    pub state: FileState,
}

#[derive(Clone, Debug)]
pub struct CheckReport {
    /// The pieces that are right.
    pub have: Bitfield,
    /// All files in torrent order, but those for padding.
    pub files: Vec<FileReport>,
}

impl CheckReport {
    /// Whether every file is as it should be.
    #[must_use]
    pub fn is_right(&self) -> bool {
        let mut files = self.files.iter();
        files.all(|report| report.state == FileState::Right)
    }
}

/// Looks at the files of a torrent in a download folder; `name` is another name for the top-level one.
/// Reads on `threads` threads. `progress` may end it.
///
/// # Errors
/// Where the folder cannot be opened, `name` is none, or `progress` ended it. What is wrong with files is in
/// the report.
pub fn check(
    info: &Arc<Info>,
    root: &Path,
    name: Option<&str>,
    threads: usize,
    progress: &(dyn Fn(OpenProgress) -> ControlFlow<()> + Sync),
) -> Result<CheckReport, StorageError> {
    let plan = Plan::new(Arc::clone(info), name, None)?;
    let root = Root::open(root, Hook::default())?;
    let cache = Arc::new(FileCache::new(OPEN_FILES_MAX));
    let tree = Tree::new(StorageId(0), plan, root, None, cache);
    let mut looks = tree.root.looks();
    let stats: Vec<Result<Option<Stat>, Errno>> = (0..tree.plan.file_count())
        .map(|file| match tree.plan.kind(file) {
            Kind::Pad => Ok(None),
            Kind::Plain | Kind::Executable | Kind::Link => looks.stat(&tree.plan.name(file)),
        })
        .collect();
    for file in tree.plan.files() {
        if let Ok(Some(stat)) = &stats[file as usize]
            && is_regular(stat)
        {
            tree.set_place(file, Place::File);
        }
    }
    let mut pieces = Bitfield::full(tree.plan.geometry().piece_count());
    for file in tree
        .plan
        .files()
        .filter(|file| tree.place(*file) != Place::File)
    {
        for piece in tree.plan.pieces_of(file) {
            pieces.clear(piece);
        }
    }
    let stop = Stop::default();
    let tell = |so_far| {
        if progress(so_far).is_break() {
            stop.set();
        }
    };
    let checked = check_pieces(&tree, &list(&pieces), threads, &tell, &stop);
    let checked = checked.ok_or_else(cancelled)?;
    let report = |file: u32| FileReport {
        file: FileIndex::new(file),
        path: tree.plan.name(file),
        state: state(&tree, file, &stats[file as usize], &checked),
    };
    let files = tree.plan.files().map(report).collect();
    Ok(CheckReport {
        have: checked.right,
        files,
    })
}

fn state(
    tree: &Tree,
    file: u32,
    stat: &Result<Option<Stat>, Errno>,
    checked: &Checked,
) -> FileState {
    let name = tree.plan.name(file);
    let stat = match stat {
        Err(Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => return FileState::NotAFile,
        Err(errno) => {
            let why = failed(StorageOp::Check, &name, *errno).detail;
            return FileState::Unreadable { why };
        }
        Ok(None) => return FileState::Missing,
        Ok(Some(stat)) => stat,
    };
    if tree.plan.kind(file) == Kind::Link {
        let said = tree.root.link_text(&name).ok();
        return if said.is_some() && said == tree.plan.link_text(file) {
            FileState::Right
        } else {
            FileState::NotAFile
        };
    }
    if !is_regular(stat) {
        return FileState::NotAFile;
    }
    let show = tree.show(file);
    if let Some(error) = checked.errors.iter().find(|error| error.path == show)
        && error.kind != torr_store::StorageErrorKind::Missing
    {
        let why = error.detail.clone();
        return FileState::Unreadable { why };
    }
    let bad = tree
        .plan
        .pieces_of(file)
        .filter(|piece| !checked.right.get(*piece));
    let bad_pieces = bad.count() as u32;
    let len = stat.st_size as u64;
    if len != tree.plan.len(file) {
        return FileState::WrongLength { len, bad_pieces };
    }
    match bad_pieces {
        0 => FileState::Right,
        pieces => FileState::Bad { pieces },
    }
}

fn is_regular(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}
