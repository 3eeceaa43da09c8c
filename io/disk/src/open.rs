//! Opening a storage: lock, log, survey, hash what is in doubt, settle what is ours, and only then
//! change anything.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use torr_base::Bitfield;
use torr_store::{Damage, LogImage, Record, StorageError, StorageErrorKind, StorageId, StorageOp};

use crate::cache::FileCache;
use crate::check::{Checked, check_pieces};
use crate::errno::{failed, refused};
use crate::gate::Gates;
use crate::home::{absent, is_same};
use crate::hook::Hook;
use crate::kept::keep_torrent;
use crate::log_file::{Found, LOG_NAME, LogFile, find};
use crate::plan::{Plan, header};
use crate::root::Root;
use crate::settle::Settle;
use crate::spec::{DiskConfig, OpenProgress, OpenWarning, Opened, StorageSpec};
use crate::state::{enter, resolve, state_path};
use crate::storage::{Limits, Storage};
use crate::survey::{list, survey};
use crate::tree::Tree;

pub(crate) type Done = Box<dyn FnOnce(Result<Opened, StorageError>) + Send>;

/// What [`crate::Disk::open`] was asked for.
pub(crate) struct OpenRequest {
    pub(crate) id: StorageId,
    pub(crate) spec: StorageSpec,
    pub(crate) progress: Box<dyn Fn(OpenProgress) + Send + Sync>,
    pub(crate) done: Done,
    pub(crate) stop: Stop,
}

/// A wish to come to an end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

pub(crate) fn cancelled() -> StorageError {
    refused(
        StorageErrorKind::Io,
        StorageOp::Open,
        "the torrent's files",
        "torr was told to stop",
    )
}

pub(crate) fn open(
    request: OpenRequest,
    config: &DiskConfig,
    limits: &Limits,
    (cache, gates): (&Arc<FileCache>, &Gates),
) -> (Done, Result<(Storage, Opened), StorageError>) {
    let OpenRequest {
        id,
        spec,
        progress,
        done,
        stop,
    } = request;
    let opened = try_open(id, &spec, config, limits, (cache, gates), &*progress, &stop);
    if opened.is_err() {
        cache.close(id);
    }
    (done, opened)
}

fn try_open(
    id: StorageId,
    spec: &StorageSpec,
    config: &DiskConfig,
    limits: &Limits,
    (cache, gates): (&Arc<FileCache>, &Gates),
    progress: &(dyn Fn(OpenProgress) + Send + Sync),
    stop: &Stop,
) -> Result<(Storage, Opened), StorageError> {
    if stop.is_set() {
        return Err(cancelled());
    }
    let folder = resolve(&spec.root)?;
    let hash = spec.info.info_hash();
    let path = state_path(&spec.state_dir, hash, &folder, spec.name.as_deref());
    let (state, lock) = enter(&path, &config.hook)?;
    let kept = keep_torrent(&state, &spec.torrent_bytes)?;
    let (image, damage, mut warnings) = read_log(&state, spec)?;
    warnings.extend(kept.map(|path| OpenWarning::StateDamaged { path }));

    let plan = Plan::new(Arc::clone(&spec.info), spec.name.as_deref(), Some(&image))?;
    let moved = is_elsewhere(&folder, &plan, &image, spec, &config.hook)?;
    let root = Root::create(&folder, config.hook.clone())?;
    let fail = |errno| failed(StorageOp::Open, &folder.to_string_lossy(), errno);
    let identity = root.identity().map_err(fail)?;
    let stat = root.dir().and_then(rustix::fs::fstat).map_err(fail)?;
    cache.share_folder(&root, &stat).map_err(fail)?;
    let log = LogFile::new(image.clone(), &state, identity);
    let place = (identity, gates.of(stat.st_dev));
    let mut tree = Tree::new(id, plan, root, Some(state), Arc::clone(cache));
    tree.set_io(config.io);

    let mut found = survey(&tree, &image, damage, spec, spec.recheck || moved)?;
    warnings.append(&mut found.warnings);
    let mut doubtful = found.doubtful.clone();
    for piece in list(&found.doubtful) {
        if !found.covers(&tree, tree.plan.piece_range(piece)) {
            doubtful.clear(piece);
        }
    }
    let checked = check_pieces(&tree, &list(&doubtful), config.workers, progress, stop);
    let mut checked = checked.ok_or_else(cancelled)?;
    warn_unreadable(&mut checked, &mut warnings);

    let have = have(&tree, &image, &found, &checked);
    let storage = Storage::new(tree, lock, log, limits.clone(), place);
    // Whoever changed a file while it was hashed is found out by its first reader.
    found
        .looks
        .iter()
        .for_each(|(file, mark)| storage.guard.put(*file, *mark));
    let settle = Settle {
        storage: &storage,
        spec,
        found,
        have,
        warnings,
        adopted: 0,
    };
    let opened = settle.run(&checked)?;
    storage.state().keep_by_path();
    storage.rest();
    Ok((storage, opened))
}

fn read_log(
    state: &Root,
    spec: &StorageSpec,
) -> Result<(LogImage, Damage, Vec<OpenWarning>), StorageError> {
    let header = header(&spec.info);
    let none = || (LogImage::new(header), Damage::default());
    let mut warnings = Vec::new();
    let (found, end_damaged) = find(state, &header)?;
    warnings.extend(end_damaged.map(|path| OpenWarning::StateDamaged { path }));
    let (image, damage) = match found {
        Found::Nothing => none(),
        Found::Rubbish(why, name) => {
            let (path, why) = (state.show(name), why.to_string());
            warnings.push(OpenWarning::LogUnreadable { path, why });
            none()
        }
        Found::Log(image, damage) => {
            if damage.any() {
                let (path, records) = (state.show(LOG_NAME), damage.frames + damage.cut_frames);
                warnings.push(OpenWarning::LogDamaged { path, records });
            }
            (*image, damage)
        }
    };
    Ok((image, damage, warnings))
}

/// G9: whether the download folder is on another file system than it was. True if the torrent is there
/// all the same, and has to be hashed before anything of it is believed.
///
/// # Errors
/// `Absent` where nothing of the torrent is there: a mount is missing or another one in its place, and
/// starting anew would fill the wrong disk. Nothing has been created by then.
fn is_elsewhere(
    folder: &Path,
    plan: &Plan,
    image: &LogImage,
    spec: &StorageSpec,
    hook: &Hook,
) -> Result<bool, StorageError> {
    // Where torr has made nothing there is nothing to be missed.
    let known = !image.have().is_empty() || plan.files().any(|file| image.made(file));
    let Some(before) = image.root().filter(|_| known) else {
        return Ok(false);
    };
    let Some(there) = folder.ancestors().find(|path| path.is_dir()) else {
        return Ok(false);
    };
    let root = Root::open(there, hook.clone())?;
    let fail = |errno| failed(StorageOp::Open, &folder.to_string_lossy(), errno);
    let now = root.identity().map_err(fail)?;
    if is_same(before, now) {
        return Ok(false);
    }
    let is_there = there == folder && root.stat(plan.top()).map_err(fail)?.is_some();
    if is_there || spec.recheck {
        return Ok(true);
    }
    Err(absent(folder, before, Some(now)))
}

fn warn_unreadable(checked: &mut Checked, warnings: &mut Vec<OpenWarning>) {
    for error in checked.errors.drain(..) {
        // A file that is not there or too short is no news: its pieces are missing.
        if error.kind != StorageErrorKind::Missing {
            let (path, why) = (error.path, error.detail);
            warnings.push(OpenWarning::Unreadable { path, why });
        }
    }
}

/// The pieces that are there and right.
fn have(
    tree: &Tree,
    image: &LogImage,
    found: &crate::survey::Survey,
    checked: &Checked,
) -> Bitfield {
    let mut have = Bitfield::new(tree.plan.geometry().piece_count());
    let believed = image.have().iter_and_not(&found.doubtful);
    for piece in believed.chain(found.trusted.iter_and_not(&found.doubtful)) {
        if found.covers(tree, tree.plan.piece_range(piece)) {
            have.set(piece);
        }
    }
    for piece in checked.right.iter() {
        have.set(piece);
    }
    have
}

/// Records for what changed between the log and what is there.
pub(crate) fn difference(image: &LogImage, have: &Bitfield) -> Vec<Record> {
    let gone = image.have().iter_and_not(have);
    let mut out: Vec<Record> = gone.map(|piece| Record::Forget { piece }).collect();
    for piece in have.iter_and_not(image.have()) {
        crate::commit::add_piece(&mut out, piece);
    }
    out
}
