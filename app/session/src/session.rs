//! A session: one node, its disk, and the torrents in it.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::timeout;
use torr_base::Rng;
use torr_disk::{Disk, DiskConfig, Kept, Server, kept_torrent};
use torr_metainfo::{FilePriorities, Magnet, Metainfo};
use torr_net::http::HttpClient;
use torr_net::{DiskInbox, Ending, ShardConfig, ShardGone, ShardHandle, Sockets};
use torr_node::{DhtStats, NodeConfig, PortStatus};
use torr_store::{StorageError, StorageErrorKind, StorageId, StorageOp};
use torr_wire::own_peer_id;

use crate::config::{AddTorrent, SessionConfig, Source};
use crate::descriptors;
use crate::dht::{self, Keeper, Saves};
use crate::error::SessionError;
use crate::events::{Refused, lock};
use crate::host::{Registry, SessionHost};
use crate::magnet::{Seeking, choose, join_trackers, literal_peers, look_up_names};
use crate::opening::{Opening, open};
use crate::torrent::{Known, Shared, Stage, Torrent};

/// Of the memory that a session may take: what all else than blocks needs.
const MEMORY_BESIDE_BLOCKS: u64 = 13 << 20;
/// How often is looked whether the gateway took a mapping back.
const PORT_LOOK: Duration = Duration::from_millis(20);
/// With less memory for blocks there is no downloading at a good rate.
const POOL_BYTES_MIN: u64 = 4 << 20;
/// Blocks of unfinished pieces take no more of the pool than so many eighths; the rest is on its way to
/// the disk or to peers. With less of a rest downloads would starve uploads.
const ASSEMBLY_EIGHTHS: u64 = 5;

/// Torrents that share a port, memory, and limits. Clones are handles on the same session.
///
/// A session has threads of its own: one for the network, some for the disk. What is called here may be
/// called from any tokio runtime. When the last handle on it or its torrents is dropped the session ends
/// as if it was killed, which loses nothing; [`Self::shutdown`] is the polite way.
#[derive(Clone)]
pub struct Session(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) shard: ShardHandle<SessionHost>,
    /// `None` once shut down.
    disk: Mutex<Option<Arc<Disk>>>,
    registry: Arc<Registry>,
    /// Of the table of the DHT; `None` once shut down, or where another session is it.
    keeper: Mutex<Option<Keeper>>,
    closing: AtomicBool,
    next_storage: AtomicU64,
    listen: Vec<SocketAddr>,
    port_status: watch::Receiver<Option<PortStatus>>,
    state_dir: PathBuf,
    warnings: Vec<String>,
}

/// The port of a session to come.
#[derive(Debug)]
pub struct Listener(Sockets);

impl Listener {
    /// Takes the port, and joins local discovery, as `config` has it. Needs no runtime, and starts nothing.
    ///
    /// # Errors
    /// [`SessionError::Listen`].
    pub fn bind(config: &SessionConfig) -> Result<Self, SessionError> {
        let mut sockets = Sockets::bind(config.port, config.bind)?;
        if config.lsd {
            sockets.join_lsd(config.bind)?;
        }
        Ok(Self(sockets))
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("listen", &self.0.listen)
            .finish_non_exhaustive()
    }
}

impl Session {
    /// Takes a port and starts the threads.
    ///
    /// # Errors
    /// [`SessionError::Listen`] where no port can be had, [`SessionError::Start`] where there is no
    /// thread, [`SessionError::Storage`] where the path of the state directory is none.
    pub async fn start(config: SessionConfig) -> Result<Self, SessionError> {
        let listener = Listener::bind(&config)?;
        Self::start_on(listener, config).await
    }

    /// The same on a port that was taken before, for a process that gives up the right to take one.
    ///
    /// # Errors
    /// As [`Self::start`], but for the port.
    pub async fn start_on(
        Listener(sockets): Listener,
        config: SessionConfig,
    ) -> Result<Self, SessionError> {
        let state_dir = absolute(&config.state_dir)?;
        let [seed, secret, dht_secret, map_secret] = [secret()?, secret()?, secret()?, secret()?];
        let seed = u64::from_le_bytes(*seed.first_chunk().expect("32 are more than 8"));
        let disk_config = DiskConfig {
            io: config.io,
            settled_after: config.settled_after,
            ..DiskConfig::default()
        };
        let conns_max = descriptors::share(
            config.conns_max,
            disk_config.open_files_max + Server::FILES_MAX,
        );
        let listen = sockets.addrs();
        let (dht, keeper, damage) = match dht::prepare(&config, &state_dir, &sockets, dht_secret) {
            Some(prepared) => (Some(prepared.init), prepared.keeper, prepared.damage),
            None => (None, None, None),
        };
        let pool_bytes = config.memory.saturating_sub(MEMORY_BESIDE_BLOCKS);
        let pool_bytes = pool_bytes.max(POOL_BYTES_MIN);
        let mut rng = Rng::new(seed);
        let client = format!("torr/{}", env!("CARGO_PKG_VERSION"));
        let node = NodeConfig {
            down_rate: config.down_rate,
            up_rate: config.up_rate,
            upload: config.allow_upload,
            encryption: config.encryption,
            secret,
            pex: config.pex,
            lsd: config.lsd,
            dht,
            map_port: config.map_port.then_some(map_secret),
            conns_max,
            conns_per_torrent_max: config.conns_per_torrent_max,
            assembly_bytes: pool_bytes / 8 * ASSEMBLY_EIGHTHS,
            ..NodeConfig::new(own_peer_id(&mut rng), sockets.port(), client)
        };
        let inbox = DiskInbox::new();
        let answers = inbox.clone();
        let disk = Disk::start(disk_config, move |done| answers.push(done));
        let disk = Arc::new(disk);
        let registry = Arc::new(Registry::new());
        let saves = Saves::new(keeper.as_ref());
        let (port, port_status) = watch::channel(None);
        let host = SessionHost::new(Arc::clone(&disk), Arc::clone(&registry), saves, port);
        let shard = ShardConfig {
            node,
            sockets,
            bind: config.bind,
            http: HttpClient::bound(config.allow_private, config.bind),
            pool_bytes,
            seed: rng.next_u64(),
            inbox,
        };
        let shard = ShardHandle::start(shard, host).map_err(SessionError::Start)?;
        Ok(Self(Arc::new(Inner {
            shard,
            disk: Mutex::new(Some(disk)),
            registry,
            keeper: Mutex::new(keeper),
            closing: AtomicBool::new(false),
            next_storage: AtomicU64::new(0),
            listen,
            port_status,
            state_dir,
            warnings: damage.into_iter().collect(),
        })))
    }

    /// What a person should know of the start, though it stops nothing. Of a torrent, its events tell.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.0.warnings
    }

    /// Where peers are listened for: one address for each family, all with the same port.
    #[must_use]
    pub fn listen_addrs(&self) -> Vec<SocketAddr> {
        self.0.listen.clone()
    }

    /// How it stands with the gateway; `None` where it is not asked ([`SessionConfig::map_port`]). What is new can be
    /// waited for, until the session ends.
    #[must_use]
    pub fn port_status(&self) -> watch::Receiver<Option<PortStatus>> {
        self.0.port_status.clone()
    }

    /// Adds a torrent. Its storage is opened, and what is there checked, while it is here already:
    /// [`Torrent::joined`] waits for that, and its events tell of it. Of a link, the metadata is fetched
    /// first ([`Torrent::metadata`]), unless an earlier run kept it.
    ///
    /// # Errors
    /// [`SessionError::Metainfo`], [`SessionError::AlreadyAdded`], [`SessionError::WrongFileCount`],
    /// [`SessionError::Closed`], [`SessionError::Storage`] where the path of the folder is none. That the
    /// storage cannot be opened is an event of the torrent.
    pub async fn add(&self, mut add: AddTorrent) -> Result<Torrent, SessionError> {
        add.dir = absolute(&add.dir)?;
        let nothing = Source::Torrent(Vec::new());
        match std::mem::replace(&mut add.source, nothing) {
            Source::Torrent(bytes) => self.add_torrent(bytes, add, None),
            Source::Magnet(magnet) => {
                let (state_dir, hash) = (self.0.state_dir.clone(), magnet.info_hash);
                let wants_files = !add.metadata_only;
                let look = move || match wants_files {
                    true => kept_torrent(&state_dir, hash),
                    false => Kept::default(),
                };
                let kept = tokio::task::spawn_blocking(look).await;
                let kept = kept.unwrap_or_default();
                let torrent = match kept.torrent {
                    Some(bytes) => self.add_torrent(bytes, add, Some(&magnet))?,
                    None => self.seek(&magnet, add).await?,
                };
                for path in kept.damaged {
                    let text = format!("{} is damaged and was not used", path.display());
                    torrent.warn(text);
                }
                look_up_names(&torrent, &magnet.peers);
                Ok(torrent)
            }
        }
    }

    /// `magnet`: what led to it.
    fn add_torrent(
        &self,
        bytes: Vec<u8>,
        mut add: AddTorrent,
        magnet: Option<&Magnet>,
    ) -> Result<Torrent, SessionError> {
        let metainfo = Metainfo::parse(&bytes)?;
        let info = metainfo.info();
        let files = info.map().file_count();
        let wanted = match (add.wanted.take(), &add.choose, magnet) {
            (Some(wanted), _, _) => wanted,
            (None, _, Some(magnet)) => choose(&add, magnet, info)?,
            (None, Some(choose), None) => choose.of(info).map_err(Refused::Selection)?,
            (None, None, None) => FilePriorities::all(files),
        };
        if wanted.file_count() != files {
            let given = wanted.file_count();
            return Err(SessionError::WrongFileCount { given, files });
        }
        let link = magnet.map(|magnet| magnet.trackers.clone());
        let more = link.unwrap_or_default().into_iter();
        let more = more.chain(std::mem::take(&mut add.extra_trackers));
        let trackers = join_trackers(metainfo.trackers().to_vec(), more);
        if let Some(magnet) = magnet {
            add.peers.extend(literal_peers(magnet));
        }
        let mut web_seeds = metainfo.web_seeds().to_vec();
        web_seeds.extend(magnet.into_iter().flat_map(|it| it.web_seeds.clone()));
        let known = Known::new(Arc::clone(info), bytes.into(), web_seeds, &add);
        let shared = Arc::new(Shared::new(self.0.fresh_storage(), known));
        let state_dir = self.0.state_dir.clone();
        let opening = Opening::new(&shared, add, wanted, trackers, state_dir);
        let nodes = metainfo.nodes().iter();
        let nodes = nodes.map(|node| (node.host.clone(), node.port)).collect();
        let opening = opening.map(|opening| Opening { nodes, ..opening });
        self.0
            .open(opening.expect("what is in a .torrent is known"))
    }

    async fn seek(&self, magnet: &Magnet, add: AddTorrent) -> Result<Torrent, SessionError> {
        let label = magnet.name.clone();
        let shared = Shared::unknown(self.0.fresh_storage(), magnet.info_hash, label);
        let shared = Arc::new(shared);
        if self.0.closing.load(Ordering::SeqCst) {
            return Err(SessionError::Closed);
        }
        if !self.0.registry.insert(&shared) {
            return Err(SessionError::AlreadyAdded(magnet.info_hash));
        }
        let more = magnet.trackers.iter().chain(&add.extra_trackers).cloned();
        let seeking = Seeking {
            session: Arc::downgrade(&self.0),
            shared: Arc::clone(&shared),
            trackers: join_trackers(Vec::new(), more),
            magnet: magnet.clone(),
            add,
            state_dir: self.0.state_dir.clone(),
        };
        let call = self
            .0
            .shard
            .call(move |node, host, now| host.seek(node, now, seeking));
        call.await
            .map_err(|gone| SessionError::gone(&self.0.shard, gone))?;
        Ok(Torrent::new(Arc::clone(&self.0), shared))
    }

    /// The torrents that are there, those that are being opened too.
    #[must_use]
    pub fn torrents(&self) -> Vec<Torrent> {
        let all = self.0.registry.all().into_iter();
        all.map(|shared| Torrent::new(Arc::clone(&self.0), shared))
            .collect()
    }

    /// The part in the DHT; `None` where the session has none, or has ended.
    pub async fn dht_stats(&self) -> Option<DhtStats> {
        let stats = self.0.shard.call(|node, _, now| node.dht_stats(now));
        stats.await.ok().flatten()
    }

    /// Bytes a second of all torrents together, protocol included; `None` for no limit.
    ///
    /// # Errors
    /// Where the session has ended.
    pub async fn set_rates(&self, down: Option<u64>, up: Option<u64>) -> Result<(), SessionError> {
        let set = self
            .0
            .shard
            .call(move |node, _, now| node.set_rates(now, down, up));
        set.await
            .map_err(|gone| SessionError::gone(&self.0.shard, gone))
    }

    /// Stops every torrent as [`Torrent::stop`] does, at most for `grace`, then ends the threads. Torrents
    /// that have not stopped by then are left as a kill would leave them, which is safe.
    ///
    /// # Errors
    /// [`SessionError::Crashed`] where the session had ended by a fault of its own.
    pub async fn shutdown(self, grace: Duration) -> Result<(), SessionError> {
        self.0.closing.store(true, Ordering::SeqCst);
        let stopped = async {
            // A gateway that does not answer is waited for no longer than a second.
            let given_back = self.0.give_port_back();
            for shared in self.0.registry.all() {
                self.0.ask_stop(&shared).await?;
            }
            let (_, ()) = tokio::join!(given_back, self.0.registry.empty());
            Ok::<(), SessionError>(())
        };
        let crashed = self.0.shard.ended();
        tokio::select! {
            // Whatever went wrong with stopping, the end of the shard tells.
            _ = timeout(grace, stopped) => {}
            _ = crashed => {}
        }
        let save = self.0.shard.call(|node, _, _| node.save_dht());
        let table = save.await.ok().flatten();
        let ending = self.0.shard.quit().await;
        let disk = lock(&self.0.disk).take();
        let keeper = lock(&self.0.keeper).take();
        let (told, ended) = oneshot::channel();
        let wait = std::thread::Builder::new().name("torr-end".to_owned());
        // Waits for the disk's threads, which may be in the middle of a slow write.
        let waiting = wait.spawn(move || {
            drop(disk);
            if let Some(keeper) = keeper {
                keeper.end(table);
            }
            let _ = told.send(());
        });
        if waiting.is_ok() {
            let _ = ended.await;
        }
        for shared in self.0.registry.all() {
            shared.hub.close();
        }
        match ending {
            Ending::Quit => Ok(()),
            Ending::Crashed(why) => Err(SessionError::Crashed(why)),
        }
    }
}

/// From the operating system's randomness.
fn secret() -> Result<[u8; 32], SessionError> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret)
        .map_err(|error| SessionError::Start(std::io::Error::other(error.to_string())))?;
    Ok(secret)
}

/// Where a path leads from here, wherever the process goes later.
fn absolute(path: &Path) -> Result<PathBuf, StorageError> {
    std::path::absolute(path).map_err(|error| StorageError {
        kind: StorageErrorKind::Missing,
        op: StorageOp::Open,
        path: path.to_string_lossy().into_owned(),
        offset: None,
        detail: error.to_string(),
        errno: None,
        room: None,
    })
}

impl Inner {
    /// Takes the port's mapping back, and waits for the gateway's answer, at most a second.
    async fn give_port_back(&self) {
        let begin = self.shard.call(|node, _, now| {
            node.give_port_back(now);
            node.is_port_given_back()
        });
        let mut over = begin.await.unwrap_or(true);
        while !over {
            tokio::time::sleep(PORT_LOOK).await;
            let look = self.shard.call(|node, _, _| node.is_port_given_back());
            over = look.await.unwrap_or(true);
        }
    }

    fn open(self: &Arc<Self>, opening: Opening) -> Result<Torrent, SessionError> {
        let shared = Arc::clone(&opening.shared);
        let disk = lock(&self.disk);
        let Some(disk) = disk
            .as_ref()
            .filter(|_| !self.closing.load(Ordering::SeqCst))
        else {
            return Err(SessionError::Closed);
        };
        if !self.registry.insert(&shared) {
            return Err(SessionError::AlreadyAdded(shared.info_hash));
        }
        open(disk, &self.shard, &self.registry, opening);
        Ok(Torrent::new(Arc::clone(self), shared))
    }

    /// The same for one that is in its swarm already; not to be called in a runtime.
    pub(crate) fn open_found(&self, opening: Opening) {
        let shared = Arc::clone(&opening.shared);
        let stopped = {
            let mut stage = lock(&shared.stage);
            match *stage {
                Stage::Seeking(key) => {
                    *stage = Stage::Found { key, stop: false };
                    false
                }
                Stage::Opening { .. } | Stage::Found { .. } | Stage::Joined(_) | Stage::Over => {
                    true
                }
            }
        };
        let disk = lock(&self.disk);
        match disk.as_ref().filter(|_| !stopped) {
            Some(disk) => open(disk, &self.shard, &self.registry, opening),
            None => self.give_up(&shared),
        }
    }

    fn fresh_storage(&self) -> StorageId {
        StorageId(self.next_storage.fetch_add(1, Ordering::Relaxed))
    }

    /// Has a torrent stop, wherever it is in its life.
    pub(crate) async fn ask_stop(&self, shared: &Shared) -> Result<(), SessionError> {
        let key = {
            let mut stage = lock(&shared.stage);
            match &mut *stage {
                Stage::Opening { stop } | Stage::Found { stop, .. } => {
                    *stop = true;
                    None
                }
                Stage::Seeking(key) | Stage::Joined(key) => Some(*key),
                Stage::Over => return Ok(()),
            }
        };
        let Some(key) = key else {
            if let Some(disk) = lock(&self.disk).as_ref() {
                disk.cancel_open(shared.id);
            }
            return Ok(());
        };
        let stop = self
            .shard
            .call(move |node, _, now| node.stop_torrent(now, key));
        stop.await
            .map_err(|gone| SessionError::gone(&self.shard, gone))
    }

    /// Why the session does not answer.
    pub(crate) fn gone(&self) -> SessionError {
        SessionError::gone(&self.shard, ShardGone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PortChoice;

    #[tokio::test]
    async fn a_crash_is_told_and_nobody_waits_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = SessionConfig::new(dir.path());
        config.port = PortChoice::Exact(0);
        let session = Session::start(config).await.unwrap();
        let call = session.0.shard.call(|_, _, _| panic!("on purpose"));
        assert!(call.await.is_err());
        let set = session.set_rates(None, None).await;
        assert!(set.is_err());
        let end = session.shutdown(Duration::from_secs(60)).await;
        assert!(matches!(end, Err(SessionError::Crashed(why)) if why == "on purpose"));
    }
}
