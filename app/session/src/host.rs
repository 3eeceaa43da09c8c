//! What the shard calls: jobs go to the disk, news and figures to those who listen.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex};

use tokio::sync::watch;
use torr_base::{InfoHash, Instant, RawBlock};
use torr_disk::{Disk, Opened, Served, Server};
use torr_metainfo::{FileIndex, FilePriorities};
use torr_net::{Files, Host};
use torr_node::{
    AddError, MagnetInit, News, Node, Notice, PortStatus, SwarmInit, TorrentInit, TorrentKey,
};
use torr_store::{BlockBuf, DiskJob, FileSource, Found, StorageId};

use crate::dht::Saves;
use crate::events::{Event, lock};
use crate::magnet::Seeking;
use crate::stats::TorrentStats;
use crate::torrent::{Shared, Stage};

/// Every torrent of a session, from its opening to its end.
#[derive(Debug)]
pub(crate) struct Registry {
    torrents: Mutex<BTreeMap<InfoHash, Arc<Shared>>>,
    /// How many there are.
    count: watch::Sender<usize>,
}

impl Registry {
    pub(crate) fn new() -> Self {
        Self {
            torrents: Mutex::default(),
            count: watch::Sender::new(0),
        }
    }

    /// False where the torrent is there already.
    pub(crate) fn insert(&self, shared: &Arc<Shared>) -> bool {
        let mut torrents = lock(&self.torrents);
        let info_hash = shared.info_hash;
        if torrents.contains_key(&info_hash) {
            return false;
        }
        torrents.insert(info_hash, Arc::clone(shared));
        self.count.send_replace(torrents.len());
        true
    }

    pub(crate) fn remove(&self, info_hash: InfoHash) {
        let mut torrents = lock(&self.torrents);
        torrents.remove(&info_hash);
        self.count.send_replace(torrents.len());
    }

    pub(crate) fn all(&self) -> Vec<Arc<Shared>> {
        lock(&self.torrents).values().cloned().collect()
    }

    /// Waits until there is none.
    pub(crate) async fn empty(&self) {
        // The sender is ours, so there is always one.
        let _ = self.count.subscribe().wait_for(|count| *count == 0).await;
    }
}

/// Lives on the shard's thread.
#[derive(Debug)]
pub(crate) struct SessionHost {
    disk: Arc<Disk>,
    /// What is in memory of their files.
    files: FilesOnDisk,
    registry: Arc<Registry>,
    /// Those that are in their swarms.
    torrents: BTreeMap<TorrentKey, Arc<Shared>>,
    /// What is in memory of their files, to be looked at again when a halted one goes on.
    served: BTreeMap<StorageId, Served>,
    /// Of those the ones that wait for their metadata.
    seeking: BTreeMap<TorrentKey, Seeking>,
    saves: Saves,
    /// How it stands with the gateway.
    port: watch::Sender<Option<PortStatus>>,
}

/// Joins what the shard asks of files to what the disk offers; neither knows the other.
#[derive(Debug)]
pub(crate) struct FilesOnDisk(Server);

impl FileSource<BlockBuf> for FilesOnDisk {
    fn look(&mut self, storage: StorageId, range: RawBlock) -> Found {
        self.0.look(storage, range)
    }

    fn read(&mut self, storage: StorageId, range: RawBlock, buf: &mut BlockBuf) -> bool {
        self.0.read(storage, range, buf)
    }

    fn read_run(&mut self, id: StorageId, ranges: &[RawBlock], bufs: &mut [BlockBuf]) -> bool {
        self.0.read_run(id, ranges, bufs)
    }
}

impl Files for FilesOnDisk {
    fn place(&self, storage: StorageId, range: RawBlock) -> Option<(BorrowedFd<'_>, u64)> {
        self.0.place(storage, range)
    }

    fn never_send(&mut self) {
        self.0.never_send();
    }
}

/// A torrent whose storage is open, on its way into its swarm.
#[derive(Debug)]
pub(crate) struct Joining {
    pub(crate) shared: Arc<Shared>,
    pub(crate) opened: Opened,
    pub(crate) wanted: FilePriorities,
    pub(crate) trackers: Vec<Vec<String>>,
    pub(crate) peers: Vec<SocketAddr>,
    pub(crate) nodes: Vec<(String, u16)>,
    pub(crate) sequential: bool,
    pub(crate) super_seed: bool,
    pub(crate) waits: bool,
}

impl SessionHost {
    pub(crate) fn new(
        disk: Arc<Disk>,
        registry: Arc<Registry>,
        saves: Saves,
        port: watch::Sender<Option<PortStatus>>,
    ) -> Self {
        Self {
            files: FilesOnDisk(disk.server()),
            disk,
            registry,
            torrents: BTreeMap::new(),
            served: BTreeMap::new(),
            seeking: BTreeMap::new(),
            saves,
            port,
        }
    }

    /// Has the node look for a torrent's metadata.
    pub(crate) fn seek(&mut self, node: &mut Node<BlockBuf>, now: Instant, seeking: Seeking) {
        let shared = Arc::clone(&seeking.shared);
        let init = MagnetInit {
            storage: shared.id,
            info_hash: shared.info_hash,
            trackers: seeking.trackers.clone(),
            peers: seeking.peers(),
            sequential: seeking.add.sequential,
            waits: seeking.add.waits,
        };
        let added = node.add_magnet(now, init);
        let Some(key) = self.added(added, &shared) else {
            return;
        };
        self.seeking.insert(key, seeking);
        *lock(&shared.stage) = Stage::Seeking(key);
        publish(node, key, &shared);
    }

    /// The storage of a torrent is open.
    pub(crate) fn join(&mut self, node: &mut Node<BlockBuf>, now: Instant, joining: Joining) {
        let Joining { shared, opened, .. } = joining;
        if let Some(served) = opened.served {
            self.files.0.add(shared.id, &served);
            self.served.insert(shared.id, served);
        }
        let known = shared.known().expect("what is open is known");
        let mut swarm = SwarmInit::new(&known.info, &joining.wanted, opened.have, opened.partial);
        swarm.web = known.web();
        let stage = *lock(&shared.stage);
        let late = matches!(stage, Stage::Found { .. });
        if joining.super_seed && (late || !swarm.have.is_full()) {
            let text = "super-seeding is for who has all pieces at the start: seeding as usual";
            shared.hub.emit(&Event::Warning(text.to_owned()));
        }
        if let Stage::Found { key, .. } = stage {
            node.begin(now, key, swarm);
            self.joined(node, now, key, &shared);
            return;
        }
        let init = TorrentInit {
            storage: shared.id,
            swarm,
            trackers: joining.trackers,
            peers: joining.peers,
            nodes: joining.nodes,
            sequential: joining.sequential,
            super_seed: joining.super_seed,
            waits: joining.waits,
        };
        let added = node.add_torrent(now, init);
        if let Some(key) = self.added(added, &shared) {
            self.joined(node, now, key, &shared);
        }
    }

    /// A torrent is in the node, or cannot be, which is its end.
    fn added(
        &mut self,
        added: Result<TorrentKey, AddError>,
        shared: &Arc<Shared>,
    ) -> Option<TorrentKey> {
        match added {
            Ok(key) => {
                self.torrents.insert(key, Arc::clone(shared));
                Some(key)
            }
            Err(AddError::Exists(_)) => {
                debug_assert!(false, "the registry holds every info-hash once");
                self.over(shared);
                None
            }
        }
    }

    fn joined(&self, node: &mut Node<BlockBuf>, now: Instant, key: TorrentKey, shared: &Shared) {
        let before = std::mem::replace(&mut *lock(&shared.stage), Stage::Joined(key));
        publish(node, key, shared);
        shared.hub.emit(&Event::Added);
        let stop = matches!(
            before,
            Stage::Opening { stop: true } | Stage::Found { stop: true, .. }
        );
        if stop {
            node.stop_torrent(now, key);
        }
    }

    /// The end of a torrent. Who hears of it may add it again at once.
    fn over(&self, shared: &Shared) {
        self.registry.remove(shared.info_hash);
        shared.end();
    }
}

impl Host for SessionHost {
    type Files = FilesOnDisk;

    fn files(&mut self) -> &mut FilesOnDisk {
        &mut self.files
    }

    fn disk(&mut self, job: DiskJob<BlockBuf>) {
        self.disk.submit(job);
    }

    fn tell(&mut self, node: &mut Node<BlockBuf>, _now: Instant, key: TorrentKey, news: News) {
        let Some(shared) = self.torrents.get(&key) else {
            return;
        };
        let notice = match news {
            News::Swarm(notice) => notice,
            News::Tracker { url, event } => {
                shared.hub.emit(&Event::Tracker { url, event });
                return;
            }
            News::Dht(search) => {
                shared.hub.emit(&Event::Dht(search));
                return;
            }
        };
        let event = match notice {
            // Too many to tell, and the figures say the same.
            Notice::PieceDone { .. } => return,
            Notice::FileDone { file } => Event::FileDone {
                file: FileIndex::new(
                    u32::try_from(file).expect("a torrent has at most 2^20 files"),
                ),
            },
            Notice::WebSeed { url, event } => Event::WebSeed { url, event },
            Notice::Banned { addr, why } => Event::PeerBanned {
                addr,
                why: why.to_string(),
            },
            Notice::Metadata(bytes) => {
                publish(node, key, shared);
                if let Some(seeking) = self.seeking.remove(&key) {
                    seeking.found(bytes);
                }
                return;
            }
            Notice::Complete => Event::Complete,
            Notice::Synced => Event::Synced,
            Notice::Lost { pieces } => Event::Warning(format!(
                "{pieces} pieces were changed by another program; they are not shared any more"
            )),
            Notice::Halted(error) => {
                // A file system that is to go away shall not be held.
                self.files.0.remove(shared.id);
                Event::Halted(error)
            }
            Notice::Resumed => {
                if let Some(served) = self.served.get(&shared.id) {
                    self.files.0.add(shared.id, served);
                }
                Event::Resumed
            }
            Notice::Failed(error) => Event::Failed(error),
            Notice::Stopped => {
                publish(node, key, shared);
                self.files.0.remove(shared.id);
                self.served.remove(&shared.id);
                self.seeking.remove(&key);
                node.remove_torrent(key);
                if let Some(shared) = self.torrents.remove(&key) {
                    self.over(&shared);
                }
                return;
            }
        };
        publish(node, key, shared);
        shared.hub.emit(&event);
    }

    fn observe(&mut self, node: &mut Node<BlockBuf>, now: Instant) {
        self.files
            .0
            .changes(|storage, file| node.handle_file_changed(now, storage, file));
        self.saves.observe(node, now);
        self.port.send_if_modified(|known| {
            let status = node.port_status();
            let changed = known.as_ref() != status;
            if changed {
                *known = status.cloned();
            }
            changed
        });
        for (key, shared) in &self.torrents {
            publish(node, *key, shared);
        }
    }
}

/// So that figures are never older than the event that follows.
fn publish(node: &Node<BlockBuf>, key: TorrentKey, shared: &Shared) {
    if let Some(stats) = node.stats(key) {
        shared.stats.send_replace(TorrentStats::from(stats));
    }
}

impl Drop for SessionHost {
    fn drop(&mut self) {
        // The shard is gone, in order or not: nobody shall wait for news that cannot come.
        for shared in self.torrents.values() {
            shared.hub.close();
        }
    }
}
