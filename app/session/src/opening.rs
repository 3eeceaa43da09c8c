//! From an added torrent to one that is in its swarm: what the disk's threads tell while they open it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use torr_disk::{Disk, OnExisting, OpenProgress, OpenWarning, StorageSpec};
use torr_metainfo::{FilePriorities, FilePriority};
use torr_net::ShardHandle;
use torr_store::StorageError;

use crate::config::AddTorrent;
use crate::events::{Event, lock};
use crate::host::{Joining, Registry, SessionHost};
use crate::torrent::{Shared, Stage};

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
        })
    }
}

/// Has the disk open the storage and, when that is done, the shard join the swarm.
pub(crate) fn open(
    disk: &Disk,
    shard: &ShardHandle<SessionHost>,
    registry: &Arc<Registry>,
    opening: Opening,
) {
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
    } = opening;
    disk.open(id, spec, progress, move |opened| {
        let opened = match opened {
            Ok(opened) => opened,
            Err(error) => return failed(&shard, &registry, &shared, error),
        };
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
        };
        if shard
            .post(move |node, host, now| host.join(node, now, joining))
            .is_err()
        {
            shared.hub.close();
        }
    });
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
            format!("{path} was changed by another program; it was checked again")
        }
        OpenWarning::Unreadable { path, why } => {
            format!("{path} could not be read ({why}); its pieces count as missing")
        }
        OpenWarning::LinkLeftOut { path, why } => {
            format!("the symbolic link {path} was left out: {why}")
        }
    }
}
