//! The handle on one torrent.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;
use torr_base::{InfoHash, Instant};
use torr_metainfo::{FileIndex, Info};
use torr_node::{Node, PeerStats, TorrentKey};
use torr_store::{BlockBuf, StorageId};

use crate::SessionError;
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
    pub(crate) info: Arc<Info>,
    /// The top-level file or folder.
    pub(crate) path: PathBuf,
    pub(crate) hub: Hub,
    pub(crate) stats: watch::Sender<TorrentStats>,
    pub(crate) stage: Mutex<Stage>,
}

/// How far a torrent has come in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// `stop`: it is to be stopped as soon as the disk lets go of it.
    Opening {
        stop: bool,
    },
    Joined(TorrentKey),
    Over,
}

impl Shared {
    pub(crate) fn new(id: StorageId, info: Arc<Info>, path: PathBuf) -> Self {
        let geometry = info.geometry();
        let stats = TorrentStats::opening(geometry.total(), geometry.piece_count());
        Self {
            id,
            info,
            path,
            hub: Hub::default(),
            stats: watch::Sender::new(stats),
            stage: Mutex::new(Stage::Opening { stop: false }),
        }
    }

    /// The end of it: the last figures and the last event.
    pub(crate) fn end(&self) {
        *lock(&self.stage) = Stage::Over;
        self.stats.send_modify(|stats| {
            stats.state = TorrentState::Stopped;
            (stats.down_rate, stats.up_rate) = (0, 0);
            (stats.peers, stats.seeds, stats.half_open) = (0, 0, 0);
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

    #[must_use]
    pub fn info_hash(&self) -> InfoHash {
        self.shared.info.info_hash()
    }

    #[must_use]
    pub fn info(&self) -> &Arc<Info> {
        &self.shared.info
    }

    /// What it is called on disk: the last part of [`Self::path`].
    #[must_use]
    pub fn name(&self) -> String {
        let name = self.shared.path.file_name();
        name.map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    }

    /// The top-level file or folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// Where a file is; `None` for padding, which is nowhere.
    #[must_use]
    pub fn file_path(&self, file: FileIndex) -> Option<PathBuf> {
        let below = self.shared.info.layout().below_root(file)?;
        Some(match below {
            "" => self.shared.path.clone(),
            below => self.shared.path.join(below),
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
                Event::Stopped => return Err(SessionError::Stopped),
                Event::Checking { .. }
                | Event::FileDone { .. }
                | Event::Complete
                | Event::Synced
                | Event::Tracker { .. }
                | Event::PeerBanned { .. }
                | Event::Warning(_) => {}
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
                Event::Stopped => return Err(SessionError::Stopped),
                Event::Checking { .. }
                | Event::Added
                | Event::FileDone { .. }
                | Event::Complete
                | Event::Tracker { .. }
                | Event::PeerBanned { .. }
                | Event::Warning(_) => {}
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
        let Stage::Joined(key) = *lock(&self.shared.stage) else {
            return None;
        };
        let asked = self
            .session
            .shard
            .call(move |node, _, now| ask(node, key, now));
        asked.await.ok()
    }
}
