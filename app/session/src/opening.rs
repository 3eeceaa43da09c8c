//! From an added torrent to one that is in its swarm: what the disk's threads tell while they open it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use torr_disk::{Disk, OnExisting, OpenProgress, OpenWarning, StorageSpec};
use torr_metainfo::{FilePriorities, FilePriority};
use torr_net::ShardHandle;
use torr_node::storage_wait;
use torr_store::StorageError;

use crate::config::AddTorrent;
use crate::events::{Event, lock};
use crate::host::{Joining, Registry, SessionHost};
use crate::torrent::{Shared, Stage};

#[derive(Clone)]
pub(crate) struct Opening {
    pub(crate) shared: Arc<Shared>,
    pub(crate) spec: StorageSpec,
    pub(crate) wanted: FilePriorities,
    pub(crate) trackers: Vec<Vec<String>>,
    pub(crate) peers: Vec<SocketAddr>,
    /// Nodes of the DHT that the torrent names.
    pub(crate) nodes: Vec<(String, u16)>,
    pub(crate) sequential: bool,
    pub(crate) super_seed: bool,
    pub(crate) waits: bool,
}

impl Opening {
    /// Of a torrent that is known. The folder in `add` is absolute.
    pub(crate) fn new(
        shared: &Arc<Shared>,
        add: AddTorrent,
        wanted: FilePriorities,
        trackers: Vec<Vec<String>>,
        state_dir: PathBuf,
    ) -> Option<Self> {
        let known = shared.known()?;
        let is_wanted = |file| wanted.get(file) != FilePriority::Skip;
        let spec = StorageSpec {
            info: Arc::clone(&known.info),
            root: add.dir,
            name: add.name,
            state_dir,
            torrent_bytes: Arc::clone(&known.torrent),
            wanted: known.info.map().files().map(is_wanted).collect(),
            preallocate: add.preallocate,
            on_existing: match add.overwrite {
                true => OnExisting::Overwrite,
                false => OnExisting::Adopt,
            },
            recheck: add.recheck,
            trust: add.trust,
        };
        Some(Self {
            shared: Arc::clone(shared),
            spec,
            wanted,
            trackers,
            peers: add.peers,
            nodes: Vec::new(),
            sequential: add.sequential,
            super_seed: add.super_seed,
            waits: add.waits,
        })
    }
}

/// Has the disk open the storage and, when that is done, the shard join the swarm.
pub(crate) fn open(
    disk: &Arc<Disk>,
    shard: &ShardHandle<SessionHost>,
    registry: &Arc<Registry>,
    opening: Opening,
) {
    open_again(disk, shard, registry, opening, 0);
}

/// The same after so many times in vain.
fn open_again(
    disk: &Arc<Disk>,
    shard: &ShardHandle<SessionHost>,
    registry: &Arc<Registry>,
    opening: Opening,
    tries: u32,
) {
    let again = opening
        .waits
        .then(|| (Arc::downgrade(disk), opening.clone()));
    let (id, shared) = (opening.shared.id, Arc::clone(&opening.shared));
    let progress = move |progress: OpenProgress| {
        shared.hub.emit(&Event::Checking {
            done: progress.pieces_done.into(),
            total: progress.pieces.into(),
        });
    };
    let (shard, registry) = (shard.clone(), Arc::clone(registry));
    let Opening {
        shared,
        spec,
        wanted,
        trackers,
        peers,
        nodes,
        sequential,
        super_seed,
        waits,
    } = opening;
    disk.open(id, spec, progress, move |opened| {
        let opened = match opened {
            Ok(opened) => opened,
            Err(error) => match again.filter(|_| error.kind.may_pass()) {
                Some((disk, opening)) => {
                    return wait(shard, registry, disk, opening, error, tries);
                }
                None => return failed(&shard, &registry, &shared, error),
            },
        };
        if tries > 0 {
            shared.hub.emit(&Event::Resumed);
        }
        for warning in &opened.warnings {
            shared.hub.emit(&Event::Warning(text(warning)));
        }
        let joining = Joining {
            shared: Arc::clone(&shared),
            opened,
            wanted,
            trackers,
            peers,
            nodes,
            sequential,
            super_seed,
            waits,
        };
        if shard
            .post(move |node, host, now| host.join(node, now, joining))
            .is_err()
        {
            shared.hub.close();
        }
    });
}

/// How often whoever waits for a storage looks whether it is to stop.
const STOP_LOOK: Duration = Duration::from_millis(100);

/// The storage cannot be opened, and may another time.
fn wait(
    shard: ShardHandle<SessionHost>,
    registry: Arc<Registry>,
    disk: Weak<Disk>,
    opening: Opening,
    error: StorageError,
    tries: u32,
) {
    let shared = Arc::clone(&opening.shared);
    if is_to_stop(&shared) {
        return failed(&shard, &registry, &shared, error);
    }
    shared.hub.emit(&Event::Halted(error.clone()));
    let (end, handle) = (Instant::now() + storage_wait(tries), shard.clone());
    let waits = async move {
        while Instant::now() < end && !is_to_stop(&opening.shared) {
            tokio::time::sleep(STOP_LOOK).await;
        }
        let stop = is_to_stop(&opening.shared);
        match disk.upgrade().filter(|_| !stop) {
            Some(disk) => open_again(&disk, &handle, &registry, opening, tries + 1),
            None => {
                let end = move || failed(&handle, &registry, &opening.shared, error);
                // It waits for the shard, which must not wait for it.
                let _ = tokio::task::spawn_blocking(end).await;
            }
        }
    };
    if shard
        .post(move |_, _, _| drop(tokio::spawn(waits)))
        .is_err()
    {
        shared.hub.close();
    }
}

fn is_to_stop(shared: &Shared) -> bool {
    matches!(
        *lock(&shared.stage),
        Stage::Opening { stop: true } | Stage::Found { stop: true, .. }
    )
}

fn failed(
    shard: &ShardHandle<SessionHost>,
    registry: &Registry,
    shared: &Shared,
    error: StorageError,
) {
    let stage = *lock(&shared.stage);
    match stage {
        Stage::Opening { stop } => {
            // It never was in its swarm, so nothing is left to be done. First: who hears of it may add it
            // again at once.
            registry.remove(shared.info_hash);
            if !stop {
                shared.hub.emit(&Event::Failed(error));
            }
            shared.end();
        }
        Stage::Found { key, stop } => {
            if !stop {
                shared.hub.emit(&Event::Failed(error));
            }
            let posted = shard.post(move |node, _, now| node.stop_torrent(now, key));
            if posted.is_err() {
                shared.hub.close();
            }
        }
        Stage::Seeking(_) | Stage::Joined(_) | Stage::Over => {
            debug_assert!(false, "nothing was being opened");
        }
    }
}

fn text(warning: &OpenWarning) -> String {
    match warning {
        OpenWarning::LogDamaged { path, records } => {
            format!(
                "{path}: {records} records were damaged or lost; what they told of is found out anew"
            )
        }
        OpenWarning::StateDamaged { path } => format!("{path} was damaged; it was written anew"),
        OpenWarning::LogUnreadable { path, why } => {
            format!(
                "the state could not be read ({why}) and was put aside as {path}; the files were checked"
            )
        }
        OpenWarning::FileLost { path } => {
            format!("{path} is gone or shorter than it was; it is downloaded again")
        }
        OpenWarning::FileChanged { path } => {
            // Somebody else wrote to it; or our own record of the last write found no room on a full disk.
            format!("{path} is not as the record of the last run has it; it was checked again")
        }
        OpenWarning::Unreadable { path, why } => {
            format!("{path} could not be read ({why}); its pieces count as missing")
        }
        OpenWarning::LinkLeftOut { path, why } => {
            format!("the symbolic link {path} was left out: {why}")
        }
    }
}
