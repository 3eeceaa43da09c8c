//! What goes into a node and what comes out of it.

use std::net::SocketAddr;

use torr_base::{InfoHash, Key, PeerId, RawBlock};
use torr_dht::ResolveId;
use torr_store::{DiskJob, Payload, StorageId};
use torr_swarm::{CloseReason, ConnKey, FetchKey, Notice, SwarmInit, SwarmStats};
use torr_tracker::portmap::MapAction;
use torr_tracker::{RequestId, TrackerEvent};

use crate::conn::Rest;
use crate::dht::{DhtInit, SearchStats};
use crate::encryption::Encryption;

/// Marks the keys of torrents.
#[derive(Debug)]
pub struct TorrentMark;
/// A torrent of the node.
pub type TorrentKey = Key<TorrentMark>;

/// What a node is told once.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    pub peer_id: PeerId,
    /// Told to trackers and peers; 0 for none.
    pub listen_port: u16,
    /// Name and version, told to peers (BEP 10).
    pub client: String,
    /// Bytes a second of all connections together; `None` for no limit.
    pub down_rate: Option<u64>,
    pub up_rate: Option<u64>,
    pub upload: bool,
    /// Peers may tell each other of peers (BEP 11), but for private torrents.
    pub pex: bool,
    /// Connections in all.
    pub conns_max: usize,
    /// Connections of one torrent.
    pub conns_per_torrent_max: usize,
    /// Connections up to which a torrent dials on its own.
    pub dial_until: usize,
    /// Connections whose handshake is not through.
    pub half_open_max: usize,
    /// Bytes of memory for blocks of unfinished pieces of one torrent.
    pub assembly_bytes: u64,
    /// Off where payload has no bytes.
    pub encryption: Encryption,
    /// From the operating system's randomness, for this process alone: what the keys of encrypted
    /// connections are made of.
    pub secret: [u8; 32],
    /// Torrents are announced to those on the same network (BEP 14), but for private ones.
    pub lsd: bool,
    /// `None`: no part in the DHT.
    pub dht: Option<DhtInit>,
    /// Have the gateway map the port. From the operating system's randomness, for this run alone.
    pub map_port: Option<[u8; 32]>,
}

impl NodeConfig {
    /// The usual limits (guarantees: 2,000 connections, 200 a torrent, 200 half open, 40 MiB), no
    /// encryption, DHT or local discovery.
    #[must_use]
    pub fn new(peer_id: PeerId, listen_port: u16, client: String) -> Self {
        Self {
            peer_id,
            listen_port,
            client,
            down_rate: None,
            up_rate: None,
            upload: true,
            pex: true,
            conns_max: 2_000,
            conns_per_torrent_max: 200,
            dial_until: 60,
            half_open_max: 200,
            assembly_bytes: 40 << 20,
            encryption: Encryption::Off,
            secret: [0; 32],
            lsd: false,
            dht: None,
            map_port: None,
        }
    }
}

/// A torrent whose storage is open.
#[derive(Clone, Debug)]
pub struct TorrentInit {
    pub storage: StorageId,
    pub swarm: SwarmInit,
    /// Announce URLs in tiers (BEP 12).
    pub trackers: Vec<Vec<String>>,
    /// Addresses that the user names.
    pub peers: Vec<SocketAddr>,
    /// Nodes of the DHT that it names (BEP 5).
    pub nodes: Vec<(String, u16)>,
    pub sequential: bool,
    /// Peers are told of pieces one by one, until they have them all among them (BEP 16). Means nothing where
    /// pieces are missing.
    pub super_seed: bool,
    /// Whether a disk that says no is waited for, instead of being the torrent's end.
    pub waits: bool,
}

/// A torrent of which only the info-hash is known: its metadata comes from peers (BEP 9).
#[derive(Clone, Debug)]
pub struct MagnetInit {
    /// The storage that will be opened once the metadata is there.
    pub storage: StorageId,
    pub info_hash: InfoHash,
    /// Announce URLs in tiers (BEP 12).
    pub trackers: Vec<Vec<String>>,
    /// Addresses that the user names.
    pub peers: Vec<SocketAddr>,
    pub sequential: bool,
    /// As in [`TorrentInit`].
    pub waits: bool,
}

/// A question to a tracker that is under way: which torrent's, and which of its announcer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TrackerRequest {
    pub torrent: TorrentKey,
    pub request: RequestId,
}

/// Whose question a name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LookUp {
    Tracker(TrackerRequest),
    Dht(ResolveId),
}

/// A request to a web seed: which torrent's, of which run of its pieces, and the how-manieth of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WebFetch {
    pub torrent: TorrentKey,
    pub fetch: FetchKey,
    pub part: u32,
}

/// What becomes of the bytes of a web seed's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebFlow {
    /// They were taken; more is due.
    More,
    /// Not now; an [`Action::WebWake`] follows when it may go on.
    Wait,
    /// That was all: `handle_web_end` is to follow.
    Done,
    /// Nobody wants it any more.
    Gone,
}

/// What the driver must do, in this order. To be drained after every input.
#[derive(Debug)]
pub enum Action<B> {
    /// Connect; the answer is `handle_connected` or `handle_closed`.
    Dial {
        conn: ConnKey,
        remote: SocketAddr,
    },
    /// Drop the socket. The key is dead; no answer.
    Close {
        conn: ConnKey,
        why: CloseReason,
    },
    /// It has something to write, or may be read again.
    Wake {
        conn: ConnKey,
    },
    Disk(DiskJob<B>),
    /// GET as a tracker request; the answer is `handle_http`. The URL may hold a passkey.
    Http {
        request: TrackerRequest,
        url: String,
    },
    /// Look up; the answer is `handle_resolved`.
    Resolve {
        request: LookUp,
        host: String,
        port: u16,
    },
    /// Nobody waits for the answer any more.
    CancelRequest {
        request: TrackerRequest,
    },
    Datagram {
        to: SocketAddr,
        bytes: Vec<u8>,
    },
    /// To a group of local discovery, where there is a socket of its family.
    Multicast {
        group: SocketAddr,
        bytes: Vec<u8>,
    },
    /// GET a range of a file from a web seed; the answers are `handle_web_head` and what follows it, or
    /// `handle_web_failed`. The URL may hold a password.
    WebFetch {
        fetch: WebFetch,
        url: String,
        /// From and to; the last byte is not among them.
        range: (u64, u64),
    },
    /// What made it wait may be over: go on with the body.
    WebWake {
        fetch: WebFetch,
    },
    /// Nobody waits for it any more.
    WebCancel {
        torrent: TorrentKey,
        fetch: FetchKey,
    },
    /// Of the way through the gateway; the answers are `handle_gateway` and what follows it.
    PortMap(MapAction),
    /// For people.
    Tell {
        torrent: TorrentKey,
        news: News,
    },
}

/// News about a torrent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    Swarm(Notice),
    /// `url` is masked.
    Tracker {
        url: String,
        event: TrackerEvent,
    },
    /// A round of its search in the DHT is over.
    Dht(SearchStats),
}

/// One line of the table of trackers, owned; see [`torr_tracker::TrackerStatus`].
#[derive(Clone, Debug)]
pub struct TrackerLine {
    pub tier: usize,
    /// Masked.
    pub url: String,
    pub state: torr_tracker::TrackerState,
    pub last_error: Option<String>,
    pub warning: Option<String>,
    pub seeds: Option<u32>,
    pub leechers: Option<u32>,
    pub peers: usize,
    pub next_announce: Option<torr_base::Instant>,
}

/// Figures about a torrent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TorrentStats {
    pub swarm: SwarmStats,
    /// The most that any tracker speaks of.
    pub tracker_seeds: Option<u32>,
    pub tracker_leechers: Option<u32>,
    /// Connections dialled or accepted whose handshake is not through.
    pub half_open: u32,
    /// The last one that was refused before it said which torrent it came for, and why.
    pub refused: Option<(SocketAddr, CloseReason)>,
    /// `None` for a torrent that the DHT is not asked for.
    pub dht: Option<SearchStats>,
}

/// What one write brings, whole: for a world in which payload has no bytes.
#[derive(Debug)]
pub struct Frame<B> {
    /// Control bytes; where a block follows, its header is the end of them.
    pub control: Vec<u8>,
    pub block: Option<(RawBlock, Payload<B>)>,
}

/// What a connection has to write: `control`, then what is left of a block.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    pub control: &'a [u8],
    pub block: Rest<'a>,
    /// Where the block's file is.
    pub storage: StorageId,
}

impl Outgoing<'_> {
    /// What a connection has that has nothing.
    pub(crate) const NOTHING: Self = Self {
        control: &[],
        block: Rest::Bytes(&[]),
        storage: StorageId(u64::MAX),
    };
}
