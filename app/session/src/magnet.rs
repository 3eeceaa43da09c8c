//! From an info-hash to a torrent like any other: its metadata comes from peers, then its storage is opened.
//!
//! ```text
//!   Session::add ─► Seeking ─► Node::add_magnet … Notice::Metadata
//!        │ kept by an earlier run       │ a thread of its own: parse, choose, open
//!        └──────────► Opening ◄─────────┘ ─► SessionHost::join ─► Node::begin
//! ```

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::timeout;
use torr_metainfo::{FilePriorities, Info, Magnet, Metainfo, Node as Place};
use torr_node::InfoBytes;

use crate::config::AddTorrent;
use crate::events::{Event, Refused, lock};
use crate::opening::Opening;
use crate::session::Inner;
use crate::torrent::{Known, Shared, Stage, Torrent};

/// Names of peers in a link that are looked up, and how long each may take.
const NAMES_MAX: usize = 16;
const LOOK_UP: Duration = Duration::from_secs(10);

/// A torrent that waits for its metadata.
#[derive(Debug)]
pub(crate) struct Seeking {
    /// Weak: who waits does not keep the session alive.
    pub(crate) session: Weak<Inner>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) magnet: Magnet,
    /// The link's and those beside it.
    pub(crate) trackers: Vec<Vec<String>>,
    /// Its folder is absolute.
    pub(crate) add: AddTorrent,
    pub(crate) state_dir: PathBuf,
}

impl Seeking {
    /// The addresses of peers that are known from the start.
    pub(crate) fn peers(&self) -> Vec<SocketAddr> {
        let link = literal_peers(&self.magnet);
        link.chain(self.add.peers.iter().copied()).collect()
    }

    /// The metadata came. What follows may take longer than the shard has time for.
    pub(crate) fn found(self, bytes: InfoBytes) {
        let thread = std::thread::Builder::new().name("torr-meta".to_owned());
        let shared = Arc::clone(&self.shared);
        if thread.spawn(move || self.open(&bytes)).is_err() {
            // As after a crash: it is found anew.
            shared.hub.close();
        }
    }

    fn open(self, bytes: &InfoBytes) {
        let Some(session) = self.session.upgrade() else {
            return;
        };
        let (known, wanted) = match self.understand(bytes) {
            Ok(understood) => understood,
            Err(why) => {
                self.shared.hub.emit(&Event::Refused(why));
                return session.give_up(&self.shared);
            }
        };
        self.shared.know(known);
        self.shared.hub.emit(&Event::Metadata);
        if self.add.metadata_only {
            return;
        }
        let Self {
            shared,
            trackers,
            add,
            state_dir,
            ..
        } = self;
        if let Some(opening) = Opening::new(&shared, add, wanted, trackers, state_dir) {
            session.open_found(opening);
        }
    }

    fn understand(&self, bytes: &InfoBytes) -> Result<(Known, FilePriorities), Refused> {
        let info = Arc::new(Info::parse(&bytes.0)?);
        let wanted = choose(&self.add, &self.magnet, &info)?;
        let meta = Metainfo::from_info(Arc::clone(&info), &self.trackers, &self.magnet.web_seeds);
        let web_seeds = self.magnet.web_seeds.clone();
        let known = Known::new(info, meta.to_bytes().into(), web_seeds, &self.add);
        Ok((known, wanted))
    }
}

/// The files that are wanted of a torrent that a link led to.
pub(crate) fn choose(
    add: &AddTorrent,
    magnet: &Magnet,
    info: &Info,
) -> Result<FilePriorities, Refused> {
    let count = info.map().file_count();
    if let Some(choose) = &add.choose {
        return choose.of(info).map_err(Refused::Selection);
    }
    let wanted = magnet.priorities(count);
    if wanted.wanted_pieces(info.map()).is_empty() && info.geometry().piece_count() > 0 {
        let why = format!("the link selects none of its {count} files");
        return Err(Refused::Selection(why));
    }
    Ok(wanted)
}

/// Trackers of a torrent and those that are named beside it, each once.
pub(crate) fn join_trackers(
    mut tiers: Vec<Vec<String>>,
    more: impl IntoIterator<Item = String>,
) -> Vec<Vec<String>> {
    for url in more {
        if !tiers.iter().flatten().any(|known| *known == url) {
            tiers.push(vec![url]);
        }
    }
    tiers
}

/// Peers that a link names by their addresses.
pub(crate) fn literal_peers(magnet: &Magnet) -> impl Iterator<Item = SocketAddr> + '_ {
    magnet.peers.iter().filter_map(address)
}

fn address(place: &Place) -> Option<SocketAddr> {
    let ip = place.host.parse().ok()?;
    Some(SocketAddr::new(ip, place.port))
}

/// Looks up those peers of a link that are names, beside everything else.
pub(crate) fn look_up_names(torrent: &Torrent, peers: &[Place]) {
    let names = peers.iter().filter(|place| address(place).is_none());
    let names: Vec<Place> = names.take(NAMES_MAX).cloned().collect();
    if names.is_empty() {
        return;
    }
    let torrent = torrent.clone();
    tokio::spawn(async move {
        for place in names {
            let found = tokio::net::lookup_host((place.host.as_str(), place.port));
            if let Ok(Ok(found)) = timeout(LOOK_UP, found).await {
                torrent.add_peers(found.collect()).await;
            }
        }
    });
}

impl Inner {
    /// A torrent that is in its swarm, and can be of no use there.
    pub(crate) fn give_up(&self, shared: &Shared) {
        let key = match *lock(&shared.stage) {
            Stage::Seeking(key) | Stage::Found { key, .. } | Stage::Joined(key) => key,
            Stage::Opening { .. } | Stage::Over => return,
        };
        // If it is gone, so is everything else.
        let _ = self
            .shard
            .post(move |node, _, now| node.stop_torrent(now, key));
    }
}
