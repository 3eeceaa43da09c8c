//! The handle on one torrent.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;
use torr_base::{InfoHash, Instant};
use torr_metainfo::{FileIndex, Info};
use torr_node::{Node, PeerStats, TorrentKey, WebFiles, WebInit};
use torr_store::{BlockBuf, StorageId};

use crate::SessionError;
use crate::config::AddTorrent;
use crate::events::{Event, Events, Hub, lock};
use crate::session::Inner;
use crate::stats::{TorrentState, TorrentStats, TrackerStatus};

/// A torrent of a session. Clones are handles on the same one; dropping them changes nothing for the
/// torrent, which goes on as long as its session.
#[derive(Clone)]
pub struct Torrent {
    session: Arc<Inner>,
    shared: Arc<Shared>,
}

/// What the handles and the shard's thread share of a torrent.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) id: StorageId,
    pub(crate) info_hash: InfoHash,
    /// What a link calls it.
    label: Option<String>,
    known: OnceLock<Known>,
    pub(crate) hub: Hub,
    pub(crate) stats: watch::Sender<TorrentStats>,
    pub(crate) stage: Mutex<Stage>,
}

/// What the metadata tells.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) info: Arc<Info>,
    /// The .torrent.
    pub(crate) torrent: Arc<[u8]>,
    /// Of the torrent, and of the link that led to it (BEP 19).
    pub(crate) web_seeds: Vec<String>,
    /// The top-level file or folder.
    path: PathBuf,
}

impl Known {
    /// The folder in `add` is absolute.
    pub(crate) fn new(
        info: Arc<Info>,
        torrent: Arc<[u8]>,
        web_seeds: Vec<String>,
        add: &AddTorrent,
    ) -> Self {
        let name = add.name.as_deref().unwrap_or(info.layout().root());
        Self {
            path: add.dir.join(name),
            info,
            torrent,
            web_seeds,
        }
    }
}

impl Known {
    /// What the swarm needs to ask web seeds.
    pub(crate) fn web(&self) -> Option<WebInit> {
        let any = !self.web_seeds.is_empty();
        any.then(|| WebInit {
            urls: self.web_seeds.clone(),
            files: WebFiles::Torrent(Arc::clone(&self.info)),
        })
    }
}

/// How far a torrent has come in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// In its swarm, for the sake of the metadata.
    Seeking(TorrentKey),
    /// Still there, while its storage is being opened; `stop` as below.
    Found {
        key: TorrentKey,
        stop: bool,
    },
    /// `stop`: it is to be stopped as soon as the disk lets go of it.
    Opening {
        stop: bool,
    },
    Joined(TorrentKey),
    Over,
}

impl Shared {
    pub(crate) fn new(id: StorageId, known: Known) -> Self {
        let geometry = known.info.geometry();
        let stats = TorrentStats::opening(geometry.total(), geometry.piece_count());
        let shared = Self::unknown(id, known.info.info_hash(), None);
        shared.know(known);
        shared.stats.send_replace(stats);
        shared
    }

    /// Of which only the info-hash is known.
    pub(crate) fn unknown(id: StorageId, info_hash: InfoHash, label: Option<String>) -> Self {
        Self {
            id,
            info_hash,
            label,
            known: OnceLock::new(),
            hub: Hub::default(),
            stats: watch::Sender::new(TorrentStats::opening(0, 0)),
            stage: Mutex::new(Stage::Opening { stop: false }),
        }
    }

    /// The metadata is there.
    pub(crate) fn know(&self, known: Known) {
        let before = self.known.set(known);
        debug_assert!(before.is_ok(), "metadata never changes");
    }

    pub(crate) fn known(&self) -> Option<&Known> {
        self.known.get()
    }

    /// The end of it: the last figures and the last event.
    pub(crate) fn end(&self) {
        *lock(&self.stage) = Stage::Over;
        self.stats.send_modify(|stats| {
            stats.state = TorrentState::Stopped;
            (stats.down_rate, stats.up_rate) = (0, 0);
            (stats.peers, stats.seeds, stats.half_open) = (0, 0, 0);
            stats.web_seeds = 0;
        });
        self.hub.emit(&Event::Stopped);
    }
}

impl fmt::Debug for Torrent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Torrent").field(&self.info_hash()).finish()
    }
}

impl Torrent {
    pub(crate) fn new(session: Arc<Inner>, shared: Arc<Shared>) -> Self {
        Self { session, shared }
    }

    pub(crate) fn warn(&self, text: String) {
        self.shared.hub.emit(&Event::Warning(text));
    }

    #[must_use]
    pub fn info_hash(&self) -> InfoHash {
        self.shared.info_hash
    }

    /// `None` while it has yet to come from peers.
    #[must_use]
    pub fn info(&self) -> Option<&Arc<Info>> {
        Some(&self.shared.known()?.info)
    }

    /// The bytes of the .torrent, likewise. One that came from peers has the trackers and web seeds of its
    /// link.
    #[must_use]
    pub fn torrent_bytes(&self) -> Option<Arc<[u8]>> {
        Some(Arc::clone(&self.shared.known()?.torrent))
    }

    /// What it is called on disk: the last part of [`Self::path`]. Until that is known, what its link calls
    /// it, which anyone may have made up, or its info-hash.
    #[must_use]
    pub fn name(&self) -> String {
        match (self.path(), &self.shared.label) {
            (Some(path), _) => {
                let name = path.file_name();
                name.map_or_else(String::new, |name| name.to_string_lossy().into_owned())
            }
            (None, Some(label)) => label.clone(),
            (None, None) => self.shared.info_hash.to_string(),
        }
    }

    /// The top-level file or folder; `None` while its name is not known.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        Some(&self.shared.known()?.path)
    }

    /// Where a file is; `None` for padding, which is nowhere, and while nothing is known.
    #[must_use]
    pub fn file_path(&self, file: FileIndex) -> Option<PathBuf> {
        let known = self.shared.known()?;
        Some(match known.info.layout().below_root(file)? {
            "" => known.path.clone(),
            below => known.path.join(below),
        })
    }

    /// The latest figures; they are renewed four times a second, and before each event.
    #[must_use]
    pub fn stats(&self) -> TorrentStats {
        *self.shared.stats.borrow()
    }

    /// The milestones that were, and all events from now on.
    #[must_use]
    pub fn events(&self) -> Events {
        self.shared.hub.listen()
    }

    /// Waits until the metadata is known.
    ///
    /// # Errors
    /// [`SessionError::Refused`] where it cannot be used; [`SessionError::Stopped`].
    pub async fn metadata(&self) -> Result<&Arc<Info>, SessionError> {
        let mut events = self.events();
        loop {
            if let Some(info) = self.info() {
                return Ok(info);
            }
            match events.next().await {
                Some(Event::Refused(why)) => return Err(why.into()),
                Some(Event::Stopped) => return Err(SessionError::Stopped),
                None => return Err(self.session.gone()),
                Some(_) => {}
            }
        }
    }

    /// Waits until the storage is open and the torrent in its swarm.
    ///
    /// # Errors
    /// [`SessionError::Storage`] where the storage cannot be opened; [`SessionError::Stopped`].
    pub async fn joined(&self) -> Result<(), SessionError> {
        let mut events = self.events();
        while let Some(event) = events.next().await {
            match event {
                Event::Added => return Ok(()),
                Event::Failed(error) => return Err(error.into()),
                Event::Refused(why) => return Err(why.into()),
                Event::Stopped => return Err(SessionError::Stopped),
                Event::Metadata
                | Event::Checking { .. }
                | Event::FileDone { .. }
                | Event::Complete
                | Event::Synced
                | Event::Tracker { .. }
                | Event::Dht(_)
                | Event::PeerBanned { .. }
                | Event::WebSeed { .. }
                | Event::Warning(_)
                | Event::Halted(_)
                | Event::Resumed => {}
            }
        }
        Err(self.session.gone())
    }

    /// Waits until everything wanted is verified and durable.
    ///
    /// # Errors
    /// [`SessionError::Storage`] where the storage says no; [`SessionError::Stopped`].
    pub async fn synced(&self) -> Result<(), SessionError> {
        let mut events = self.events();
        while let Some(event) = events.next().await {
            match event {
                Event::Synced => return Ok(()),
                Event::Failed(error) => return Err(error.into()),
                Event::Refused(why) => return Err(why.into()),
                Event::Stopped => return Err(SessionError::Stopped),
                Event::Metadata
                | Event::Checking { .. }
                | Event::Added
                | Event::FileDone { .. }
                | Event::Complete
                | Event::Tracker { .. }
                | Event::Dht(_)
                | Event::PeerBanned { .. }
                | Event::WebSeed { .. }
                | Event::Warning(_)
                | Event::Halted(_)
                | Event::Resumed => {}
            }
        }
        Err(self.session.gone())
    }

    /// Leaves the swarm: stops requests, keeps what is unfinished, makes everything durable, tells the
    /// trackers, lets go of the files. Waits for the end of that at most `grace`.
    ///
    /// # Errors
    /// [`SessionError::TimedOut`] after `grace`; stopping goes on. [`SessionError::Closed`] or
    /// [`SessionError::Crashed`] where there is no session any more.
    pub async fn stop(&self, grace: Duration) -> Result<(), SessionError> {
        let mut events = self.events();
        let stopped = async {
            self.session.ask_stop(&self.shared).await?;
            while let Some(event) = events.next().await {
                if matches!(event, Event::Stopped) {
                    return Ok(());
                }
            }
            Err(self.session.gone())
        };
        let stopped = timeout(grace, stopped).await;
        stopped.unwrap_or(Err(SessionError::TimedOut))
    }

    /// The connected peers; none where the torrent is not in its swarm.
    pub async fn peers(&self) -> Vec<PeerStats> {
        let peers = self.ask(|node, key, _| node.peers(key)).await;
        peers.unwrap_or_default()
    }

    /// The trackers; none where the torrent is not in its swarm.
    pub async fn trackers(&self) -> Vec<TrackerStatus> {
        let lines = self.ask(|node, key, now| {
            let lines = node.trackers(key).into_iter();
            lines.map(|line| TrackerStatus::new(line, now)).collect()
        });
        lines.await.unwrap_or_default()
    }

    /// Names peers to be dialled; does nothing where the torrent is not in its swarm.
    pub async fn add_peers(&self, peers: Vec<SocketAddr>) {
        let added = self.ask(move |node, key, now| node.add_peers(now, key, &peers));
        added.await.unwrap_or_default();
    }

    /// Asks the trackers again, as soon as they allow; does nothing where the torrent is not in its swarm.
    pub async fn reannounce(&self) {
        let asked = self.ask(|node, key, now| node.reannounce(now, key));
        asked.await.unwrap_or_default();
    }

    /// `None` where the torrent is not in its swarm.
    async fn ask<R: Send + 'static>(
        &self,
        ask: impl FnOnce(&mut Node<BlockBuf>, TorrentKey, Instant) -> R + Send + 'static,
    ) -> Option<R> {
        let key = match *lock(&self.shared.stage) {
            Stage::Seeking(key) | Stage::Found { key, .. } | Stage::Joined(key) => key,
            Stage::Opening { .. } | Stage::Over => return None,
        };
        let asked = self
            .session
            .shard
            .call(move |node, _, now| ask(node, key, now));
        asked.await.ok()
    }
}
