//! The node: torrents, connections, and which input is whose.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use torr_base::{BLOCK_LEN, InfoHash, Instant, Rng, Slab, TokenBucket};
use torr_store::{BufSource, DiskDone, DiskJob, StorageId};
use torr_swarm::{CloseReason, ConnKey, ConnMark, Notice, Outbox, Swarm, SwarmConfig, SwarmInit};
use torr_tracker::{Announcer, AnnouncerConfig};
use torr_wire::{Limits, SecretSource, TorrentToken, torrent_token};

use crate::conn::{Conn, Stage, Tx};
use crate::dht::{DhtPart, Search};
use crate::local::Local;
use crate::network::Network;
use crate::portmap::PortMap;
use crate::types::{
    Action, MagnetInit, News, NodeConfig, TorrentInit, TorrentKey, TorrentMark, TorrentStats,
    TrackerLine, WebFetch,
};

/// One torrent of the node.
#[derive(Debug)]
pub(crate) struct Torrent<B> {
    pub(crate) info_hash: InfoHash,
    pub(crate) storage: StorageId,
    pub(crate) swarm: Swarm<B>,
    pub(crate) announcer: Announcer,
    /// Blocks that its unfinished pieces held at most of late.
    pub(crate) claim: usize,
    /// In the DHT.
    pub(crate) search: Option<Search>,
    /// `stop` was said: what is left are answers and farewells.
    pub(crate) stopping: bool,
    /// The swarm is through with stopping; the notice waits for the announcer.
    pub(crate) flushed: bool,
    /// Set once the last notice went out.
    pub(crate) stopped: bool,
}

/// Everything that one peer on the network decides: its torrents, its connections, what it tells
/// trackers, and how memory and bandwidth are shared.
///
/// It performs no I/O. A driver owns sockets, disks and clocks, feeds `handle_*`, and carries out the
/// [`Action`]s in order after every input. All `now`s come from one clock that never goes back.
///
/// - Commands: `add_torrent`, `add_magnet`, `begin`, `stop_torrent`, `remove_torrent`, `add_peers`, `set_wanted`, `set_rates`,
///   `reannounce`.
/// - Inputs: `handle_accept`, `handle_connected`, `handle_closed`, `handle_read`, `handle_written`,
///   `handle_network_changed`, `handle_disk`, `handle_http`, `handle_resolved`, `handle_datagram`, `handle_local`,
///   `handle_timeout`; `handle_web_head` and what follows it.
/// - Pulls: `poll_action`, `read_bufs`, `write_bufs`; `poll_frame` and friends where payload has no
///   bytes.
/// - Getters: `stats`, `dht_stats`, `save_dht`, `peers`, `trackers`, `next_timeout` …
pub struct Node<B> {
    pub(crate) config: NodeConfig,
    pub(crate) bufs: Box<dyn BufSource<B>>,
    pub(crate) rng: Rng,
    pub(crate) torrents: Slab<Torrent<B>, TorrentMark>,
    pub(crate) by_hash: BTreeMap<InfoHash, TorrentKey>,
    pub(crate) by_storage: BTreeMap<StorageId, TorrentKey>,
    /// For encrypted handshakes, which do not say the info-hash.
    pub(crate) by_token: BTreeMap<TorrentToken, InfoHash>,
    pub(crate) secrets: SecretSource,
    /// The last one that was refused before it said which torrent it came for.
    pub(crate) refused: Option<(SocketAddr, CloseReason)>,
    pub(crate) conns: Slab<Conn<B>, ConnMark>,
    pub(crate) half_open: usize,
    pub(crate) down: TokenBucket,
    pub(crate) up: TokenBucket,
    /// Connections whose next block has no buffer.
    pub(crate) starved: Vec<ConnKey>,
    /// Connections that a rate limit holds back.
    pub(crate) throttled: Vec<ConnKey>,
    /// Answers of web seeds that wait for a buffer, and those that wait for a rate limit.
    pub(crate) web_starved: Vec<WebFetch>,
    pub(crate) web_throttled: Vec<WebFetch>,
    pub(crate) actions: VecDeque<Action<B>>,
    /// The swarms' outbox; empty between two inputs, kept for its memory.
    pub(crate) outbox: Outbox<B>,
    pub(crate) announced: Vec<torr_tracker::TrackerAction>,
    /// Jobs at the disk.
    pub(crate) disk_jobs: usize,
    pub(crate) swept: Instant,
    /// When the memory for unfinished pieces was divided.
    pub(crate) shared: Instant,
    pub(crate) dht: Option<DhtPart>,
    pub(crate) local: Option<Local>,
    pub(crate) port_map: Option<PortMap>,
    pub(crate) network: Network,
}

impl<B> std::fmt::Debug for Node<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node")
            .field("torrents", &self.torrents.len())
            .field("conns", &self.conns.len())
            .finish_non_exhaustive()
    }
}

/// Why a torrent cannot be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddError {
    /// That info-hash is there already.
    Exists(TorrentKey),
}

impl<B> Node<B> {
    #[must_use]
    pub fn new(
        mut config: NodeConfig,
        bufs: Box<dyn BufSource<B>>,
        rng: Rng,
        now: Instant,
    ) -> Self {
        let dht = config.dht.take();
        Self {
            local: config.lsd.then(|| Local::new(rng.fork("local", 0), now)),
            network: Network::new(rng.fork("network", 0)),
            port_map: PortMap::new(&config, dht.as_ref(), &rng, now),
            dht: dht.map(|init| DhtPart::new(init, rng.fork("dht", 0), now)),
            down: TokenBucket::new(config.down_rate, now),
            up: TokenBucket::new(config.up_rate, now),
            secrets: SecretSource::new(config.secret),
            config,
            bufs,
            rng,
            torrents: Slab::new(),
            by_hash: BTreeMap::new(),
            by_storage: BTreeMap::new(),
            by_token: BTreeMap::new(),
            refused: None,
            conns: Slab::new(),
            half_open: 0,
            starved: Vec::new(),
            throttled: Vec::new(),
            web_starved: Vec::new(),
            web_throttled: Vec::new(),
            actions: VecDeque::new(),
            outbox: Vec::new(),
            announced: Vec::new(),
            disk_jobs: 0,
            swept: now,
            shared: now,
        }
    }

    // ---- commands

    /// Joins a swarm.
    ///
    /// # Errors
    /// Where the torrent is there already.
    pub fn add_torrent(&mut self, now: Instant, init: TorrentInit) -> Result<TorrentKey, AddError> {
        let (rng, mut config) = self.fresh(init.swarm.info_hash, init.sequential)?;
        config.super_seed = init.super_seed;
        config.waits = init.waits;
        let private = init.swarm.private;
        let swarm = Swarm::new(config, init.swarm, &rng, now);
        let key = self.enter(swarm, init.storage, &init.trackers, &rng);
        if private {
            self.keep_to_trackers(key);
        }
        self.set_out(now, key, &init.peers);
        self.begin_search(now, key, &init.nodes);
        self.begin_local(now, key);
        Ok(key)
    }

    /// Looks for the metadata of a torrent. Once it is there the swarm says [`Notice::Metadata`], and waits
    /// for [`Self::begin`].
    ///
    /// # Errors
    /// Where the torrent is there already.
    pub fn add_magnet(&mut self, now: Instant, init: MagnetInit) -> Result<TorrentKey, AddError> {
        let (rng, mut config) = self.fresh(init.info_hash, init.sequential)?;
        config.waits = init.waits;
        let swarm = Swarm::seek(config, init.info_hash, &rng, now);
        let key = self.enter(swarm, init.storage, &init.trackers, &rng);
        self.set_out(now, key, &init.peers);
        self.begin_search(now, key, &[]);
        self.begin_local(now, key);
        Ok(key)
    }

    /// The metadata of a torrent was understood, and its storage is open: it becomes one like any other.
    pub fn begin(&mut self, now: Instant, key: TorrentKey, init: SwarmInit) {
        if init.private {
            self.keep_to_trackers(key);
        }
        let limits = Limits::new(Some(init.geometry.piece_count()));
        for conn in self.conns.values_mut() {
            if let Stage::Live {
                torrent, reader, ..
            } = &mut conn.stage
                && *torrent == key
            {
                reader.set_limits(limits);
            }
        }
        self.with_swarm(now, key, |swarm, bufs, out| {
            swarm.begin(now, init, bufs, out);
        });
        self.update_search(key);
    }

    /// What a new torrent's swarm is made of.
    fn fresh(
        &mut self,
        info_hash: InfoHash,
        sequential: bool,
    ) -> Result<(Rng, SwarmConfig), AddError> {
        if let Some(key) = self.by_hash.get(&info_hash) {
            return Err(AddError::Exists(*key));
        }
        let rng = self.rng.fork("torrent", self.rng.clone().next_u64());
        let _ = self.rng.next_u64();
        let config = SwarmConfig {
            peer_id: self.config.peer_id,
            listen_port: self.config.listen_port,
            public_port: self.public_port(),
            client: self.config.client.clone(),
            dht_port: self.public_dht_port(),
            upload: self.config.upload,
            pex: self.config.pex,
            sequential,
            super_seed: false,
            waits: false,
            peers_max: self.config.conns_per_torrent_max,
            dial_until: self.config.dial_until,
            assembly_blocks: self.assembly_blocks(),
        };
        Ok((rng, config))
    }

    /// Blocks that the unfinished pieces of all torrents may hold together.
    pub(crate) fn assembly_blocks(&self) -> usize {
        let blocks = self.config.assembly_bytes / u64::from(BLOCK_LEN);
        usize::try_from(blocks).unwrap_or(usize::MAX)
    }

    fn enter(
        &mut self,
        swarm: Swarm<B>,
        storage: StorageId,
        trackers: &[Vec<String>],
        rng: &Rng,
    ) -> TorrentKey {
        let info_hash = swarm.info_hash();
        let announcer = AnnouncerConfig {
            info_hash,
            peer_id: self.config.peer_id,
            port: self.public_port(),
            ipv4: None,
            ipv6: None,
        };
        let announcer = Announcer::new(announcer, trackers, rng.fork("announcer", 0));
        let key = self.torrents.insert(Torrent {
            info_hash,
            storage,
            swarm,
            announcer,
            claim: 0,
            search: None,
            stopping: false,
            flushed: false,
            stopped: false,
        });
        self.by_hash.insert(info_hash, key);
        self.by_storage.insert(storage, key);
        self.by_token.insert(torrent_token(&info_hash), info_hash);
        key
    }

    /// BEP 27.
    fn keep_to_trackers(&mut self, key: TorrentKey) {
        if let Some(torrent) = self.torrents.get_mut(key) {
            torrent.announcer.use_one_at_a_time();
        }
        self.end_search(key);
        self.end_local(key);
    }

    fn set_out(&mut self, now: Instant, key: TorrentKey, peers: &[SocketAddr]) {
        self.add_peers(now, key, peers);
        self.with_swarm(now, key, |swarm, _, out| swarm.start(now, out));
        if let Some(torrent) = self.torrents.get_mut(key) {
            torrent.announcer.start(now);
        }
        self.announce(now, key);
    }

    /// Leaves the swarm: flushes, says farewell to trackers and peers, lets go of the storage. Ends
    /// with [`Notice::Stopped`].
    pub fn stop_torrent(&mut self, now: Instant, key: TorrentKey) {
        let Some(torrent) = self.torrents.get_mut(key) else {
            return;
        };
        if torrent.stopping {
            return;
        }
        torrent.stopping = true;
        torrent.announcer.stop(now);
        self.end_search(key);
        self.end_local(key);
        let conns = self
            .conns
            .iter()
            .filter(|(_, c)| c.is_half_open() && c.torrent() == Some(key));
        let half_open: Vec<_> = conns.map(|(conn, _)| conn).collect();
        for conn in half_open {
            self.close(now, conn, CloseReason::Local);
        }
        self.with_swarm(now, key, |swarm, bufs, out| swarm.stop(now, bufs, out));
        self.announce(now, key);
    }

    /// Forgets a torrent that has stopped; false if it has not.
    pub fn remove_torrent(&mut self, key: TorrentKey) -> bool {
        let stopped = self
            .torrents
            .get(key)
            .is_some_and(|torrent| torrent.stopped);
        if stopped && let Some(torrent) = self.torrents.remove(key) {
            self.by_hash.remove(&torrent.info_hash);
            self.by_storage.remove(&torrent.storage);
            self.by_token.remove(&torrent_token(&torrent.info_hash));
        }
        stopped
    }

    /// Dials addresses that the user names.
    pub fn add_peers(&mut self, now: Instant, key: TorrentKey, addrs: &[SocketAddr]) {
        if let Some(torrent) = self.torrents.get_mut(key) {
            for addr in addrs {
                torrent.swarm.name_candidate(now, *addr);
            }
        }
    }

    /// Which pieces are to be fetched from now on.
    pub fn set_wanted(&mut self, now: Instant, key: TorrentKey, wanted: &torr_base::Bitfield) {
        self.with_swarm(now, key, |swarm, _, out| swarm.set_wanted(now, wanted, out));
    }

    /// Bytes a second; `None` for no limit.
    pub fn set_rates(&mut self, now: Instant, down: Option<u64>, up: Option<u64>) {
        self.down.set_rate(down, now);
        self.up.set_rate(up, now);
        self.wake_throttled();
    }

    /// Asks the trackers again, as soon as they allow.
    pub fn reannounce(&mut self, now: Instant, key: TorrentKey) {
        if let Some(torrent) = self.torrents.get_mut(key) {
            torrent.announcer.reannounce(now);
        }
        self.announce(now, key);
    }

    // ---- the disk

    /// The answer to [`Action::Disk`].
    pub fn handle_disk(&mut self, now: Instant, done: DiskDone<B>) {
        self.disk_jobs -= 1;
        let Some(key) = self.by_storage.get(&done.storage).copied() else {
            debug_assert!(false, "an answer for a storage that is gone");
            return;
        };
        self.with_swarm(now, key, |swarm, bufs, out| {
            swarm.handle_disk(now, done, bufs, out)
        });
    }

    /// Somebody changed a file of that storage, and it was not us.
    pub fn handle_file_changed(&mut self, now: Instant, storage: StorageId, file: u32) {
        if let Some(key) = self.by_storage.get(&storage).copied() {
            self.with_swarm(now, key, |swarm, bufs, out| {
                swarm.handle_file_changed(now, file, bufs, out);
            });
        }
    }

    // ---- routing

    /// Lends the swarm to `f`, then does what it wants done.
    pub(crate) fn with_swarm(
        &mut self,
        now: Instant,
        key: TorrentKey,
        f: impl FnOnce(&mut Swarm<B>, &mut dyn BufSource<B>, &mut Outbox<B>),
    ) {
        let Self {
            torrents,
            bufs,
            outbox,
            ..
        } = self;
        let Some(torrent) = torrents.get_mut(key) else {
            return;
        };
        f(&mut torrent.swarm, bufs.as_mut(), outbox);
        self.settle(now, key);
    }

    /// Carries out what a swarm wants done, until it wants no more.
    pub(crate) fn settle(&mut self, now: Instant, key: TorrentKey) {
        while !self.outbox.is_empty() {
            let mut wanted = std::mem::take(&mut self.outbox);
            for action in wanted.drain(..) {
                self.carry_out(now, key, action);
            }
            if self.outbox.is_empty() {
                // Nothing came after it: keep the larger memory.
                self.outbox = wanted;
                return;
            }
        }
    }

    fn carry_out(&mut self, now: Instant, key: TorrentKey, action: torr_swarm::Action<B>) {
        match action {
            torr_swarm::Action::Dial { addr } => self.dial(now, key, addr),
            torr_swarm::Action::Close { conn, why } => {
                self.drop_conn(conn);
                self.actions.push_back(Action::Close { conn, why });
            }
            torr_swarm::Action::Disk { job, task } => {
                let Some(torrent) = self.torrents.get(key) else {
                    return;
                };
                self.disk_jobs += 1;
                let storage = torrent.storage;
                self.actions
                    .push_back(Action::Disk(DiskJob { storage, job, task }));
            }
            torr_swarm::Action::Wake { conn } => {
                if self.conns.contains(conn) {
                    self.actions.push_back(Action::Wake { conn });
                }
            }
            torr_swarm::Action::HasNode { addr } => self.peer_has_node(now, key, addr),
            torr_swarm::Action::BufsFree => self.bufs_free(key),
            torr_swarm::Action::WebFetch { fetch, request } => self.web_fetch(key, fetch, request),
            torr_swarm::Action::WebCancel { fetch } => self.web_cancel(key, fetch),
            torr_swarm::Action::Tell(notice) => self.tell(now, key, notice),
        }
    }

    fn tell(&mut self, now: Instant, key: TorrentKey, mut notice: Notice) {
        let Some(torrent) = self.torrents.get_mut(key) else {
            return;
        };
        match &mut notice {
            Notice::WebSeed { url, .. } => *url = torr_tracker::mask(url),
            // Trackers count whole copies.
            Notice::Complete if torrent.swarm.have().is_full() => {
                torrent.announcer.completed(now);
            }
            Notice::Stopped => {
                torrent.flushed = true;
                self.tell_if_stopped(key);
                return;
            }
            Notice::Complete
            | Notice::PieceDone { .. }
            | Notice::FileDone { .. }
            | Notice::Synced
            | Notice::Metadata(_)
            | Notice::Lost { .. }
            | Notice::Halted(_)
            | Notice::Resumed
            | Notice::Failed(_)
            | Notice::Banned { .. } => {}
        }
        let complete = notice == Notice::Complete;
        let news = News::Swarm(notice);
        self.actions.push_back(Action::Tell { torrent: key, news });
        if complete {
            self.update_search(key);
        }
    }

    /// The last notice: flushed, and the trackers told or given up.
    pub(crate) fn tell_if_stopped(&mut self, key: TorrentKey) {
        let Some(torrent) = self.torrents.get_mut(key) else {
            return;
        };
        if torrent.flushed && !torrent.stopped && torrent.announcer.is_stopped() {
            torrent.stopped = true;
            let news = News::Swarm(Notice::Stopped);
            self.actions.push_back(Action::Tell { torrent: key, news });
        }
    }

    /// Whoever waits for a buffer tries again.
    pub(crate) fn wake_starved(&mut self) {
        for fetch in self.web_starved.drain(..) {
            self.actions.push_back(Action::WebWake { fetch });
        }
        for conn in self.starved.drain(..) {
            if let Some(entry) = self.conns.get_mut(conn) {
                entry.parked = false;
                self.actions.push_back(Action::Wake { conn });
            }
        }
    }

    /// Buffers came back: whoever waits for one goes on.
    pub(crate) fn bufs_free(&mut self, key: TorrentKey) {
        self.wake_starved();
        if let Some(torrent) = self.torrents.get_mut(key) {
            torrent.swarm.handle_bufs_free(&mut self.outbox);
        }
    }

    fn dial(&mut self, now: Instant, torrent: TorrentKey, addr: SocketAddr) {
        let plain = self.dials_in_plaintext(torrent, &addr);
        self.dial_as(now, torrent, addr, plain);
    }

    /// Dials, to greet in plaintext or to exchange keys first.
    pub(crate) fn dial_as(
        &mut self,
        now: Instant,
        torrent: TorrentKey,
        addr: SocketAddr,
        plain: bool,
    ) {
        let full = self.conns.len() >= self.config.conns_max
            || self.half_open >= self.config.half_open_max;
        if full || !self.network_has_room(addr.ip()) {
            if let Some(torrent) = self.torrents.get_mut(torrent) {
                torrent
                    .swarm
                    .handle_dial_failed(now, addr, CloseReason::Local);
            }
            return;
        }
        self.half_open += 1;
        let conn = self.conns.insert(Conn {
            remote: addr,
            dialled: true,
            stage: Stage::Dialling { torrent, plain },
            opened: now,
            tx: Tx::new(now),
            ciphers: None,
            parked: false,
        });
        self.actions.push_back(Action::Dial { conn, remote: addr });
    }

    // ---- getters

    /// What the driver must do next.
    pub fn poll_action(&mut self) -> Option<Action<B>> {
        self.actions.pop_front()
    }

    #[must_use]
    pub fn stats(&self, key: TorrentKey) -> Option<TorrentStats> {
        let torrent = self.torrents.get(key)?;
        let half_open = self.conns.values().filter(|c| c.is_half_open());
        let half_open = half_open.filter(|c| c.torrent() == Some(key)).count() as u32;
        Some(TorrentStats {
            swarm: torrent.swarm.stats(),
            tracker_seeds: torrent
                .announcer
                .trackers()
                .filter_map(|line| line.seeds)
                .max(),
            tracker_leechers: torrent
                .announcer
                .trackers()
                .filter_map(|line| line.leechers)
                .max(),
            half_open,
            refused: self.refused,
            dht: torrent.search.as_ref().map(|search| search.stats),
        })
    }

    #[must_use]
    pub fn peers(&self, key: TorrentKey) -> Vec<torr_swarm::PeerStats> {
        self.torrents
            .get(key)
            .map_or_else(Vec::new, |torrent| torrent.swarm.peer_stats())
    }

    #[must_use]
    pub fn trackers(&self, key: TorrentKey) -> Vec<TrackerLine> {
        let Some(torrent) = self.torrents.get(key) else {
            return Vec::new();
        };
        let lines = torrent.announcer.trackers().map(|line| TrackerLine {
            tier: line.tier,
            url: line.url.to_owned(),
            state: line.state,
            last_error: line.last_error.map(str::to_owned),
            warning: line.warning.map(str::to_owned),
            seeds: line.seeds,
            leechers: line.leechers,
            peers: line.peers,
            next_announce: line.next_announce,
        });
        lines.collect()
    }

    /// The swarm of a torrent, to look at.
    #[must_use]
    pub fn swarm(&self, key: TorrentKey) -> Option<&Swarm<B>> {
        self.torrents.get(key).map(|torrent| &torrent.swarm)
    }

    #[must_use]
    pub fn torrents(&self) -> Vec<TorrentKey> {
        self.torrents.keys().collect()
    }

    #[must_use]
    pub fn conn_count(&self) -> usize {
        self.conns.len()
    }

    /// Buffers in the pool, and in all.
    #[must_use]
    pub fn buffers(&self) -> (usize, usize) {
        (self.bufs.free(), self.bufs.total())
    }
}
