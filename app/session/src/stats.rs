//! Figures about a torrent, for people.

use std::net::SocketAddr;
use std::time::Duration;

use torr_base::Instant;
use torr_node::{CloseReason, MetadataStats, Phase, SearchStats, TrackerLine, TrackerState};

/// A snapshot of a torrent. Bytes, and bytes a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TorrentStats {
    pub state: TorrentState,
    /// While it is not known there are no pieces, and sizes are 0.
    pub metadata: Option<MetadataStats>,
    /// Verified bytes of what is wanted.
    pub done: u64,
    pub wanted: u64,
    /// Verified bytes of the whole torrent, and its length.
    pub have: u64,
    pub total: u64,
    pub pieces_have: u32,
    pub pieces: u32,
    /// Payload received and sent by this session, and what of it was of no use.
    pub downloaded: u64,
    pub uploaded: u64,
    pub wasted: u64,
    pub down_rate: u64,
    pub up_rate: u64,
    /// Connected, and of those the ones that have everything, or want no more than they have.
    pub peers: u32,
    pub seeds: u32,
    /// Peers are told of pieces one by one, until all are out.
    pub super_seeding: bool,
    /// Web seeds that are used, and what of the payload received came from them.
    pub web_seeds: u32,
    pub web_downloaded: u64,
    /// Connections whose handshake is not through.
    pub half_open: u32,
    /// Addresses known and not connected.
    pub candidates: u32,
    /// The most that any tracker speaks of.
    pub tracker_seeds: Option<u32>,
    pub tracker_leechers: Option<u32>,
    /// What the DHT does for it; `None` where it is not asked.
    pub dht: Option<SearchStats>,
    /// The last address that answered and did not become a peer, and why; `None` since one became a peer.
    pub last_failure: Option<(SocketAddr, CloseReason)>,
}

/// What a torrent is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TorrentState {
    /// Peers are looked for that give its metadata.
    Metadata,
    /// Its storage is being opened, and what is there hashed.
    Opening,
    Downloading,
    /// Everything wanted is there.
    Seeding,
    /// The storage said no, and is waited for; the event says why.
    Halted,
    /// Flushing, and saying farewell.
    Stopping,
    Stopped,
    /// The storage said no; the event says why.
    Failed,
}

impl TorrentStats {
    pub(crate) fn opening(total: u64, pieces: u32) -> Self {
        Self {
            state: TorrentState::Opening,
            metadata: None,
            done: 0,
            wanted: total,
            have: 0,
            total,
            pieces_have: 0,
            pieces,
            downloaded: 0,
            uploaded: 0,
            wasted: 0,
            down_rate: 0,
            up_rate: 0,
            peers: 0,
            seeds: 0,
            super_seeding: false,
            web_seeds: 0,
            web_downloaded: 0,
            half_open: 0,
            candidates: 0,
            tracker_seeds: None,
            tracker_leechers: None,
            dht: None,
            last_failure: None,
        }
    }
}

impl From<torr_node::TorrentStats> for TorrentStats {
    fn from(node: torr_node::TorrentStats) -> Self {
        let swarm = node.swarm;
        let state = match swarm.phase {
            Phase::Active if swarm.metadata.is_some_and(|it| it.found) => TorrentState::Opening,
            Phase::Active if swarm.metadata.is_some() => TorrentState::Metadata,
            Phase::Active if swarm.done == swarm.wanted => TorrentState::Seeding,
            Phase::Active => TorrentState::Downloading,
            Phase::Halted => TorrentState::Halted,
            Phase::Stopping => TorrentState::Stopping,
            Phase::Stopped => TorrentState::Stopped,
            Phase::Failed => TorrentState::Failed,
        };
        Self {
            state,
            metadata: swarm.metadata,
            done: swarm.done,
            wanted: swarm.wanted,
            have: swarm.have,
            total: swarm.total,
            pieces_have: swarm.pieces_have,
            pieces: swarm.pieces,
            downloaded: swarm.downloaded,
            uploaded: swarm.uploaded,
            wasted: swarm.wasted,
            down_rate: swarm.down_rate,
            up_rate: swarm.up_rate,
            peers: swarm.peers,
            seeds: swarm.seeds,
            super_seeding: swarm.super_seeding,
            web_seeds: swarm.web_seeds,
            web_downloaded: swarm.web_downloaded,
            half_open: node.half_open,
            candidates: swarm.candidates,
            tracker_seeds: node.tracker_seeds,
            tracker_leechers: node.tracker_leechers,
            dht: node.dht,
            last_failure: swarm.last_failure.or(node.refused),
        }
    }
}

/// One tracker of a torrent.
#[derive(Clone, Debug)]
pub struct TrackerStatus {
    /// Counted from 0.
    pub tier: usize,
    /// Masked: fit for any eye.
    pub url: String,
    pub state: TrackerState,
    /// Of the last announce, if it failed.
    pub last_error: Option<String>,
    /// Of the last reply.
    pub warning: Option<String>,
    pub seeds: Option<u32>,
    pub leechers: Option<u32>,
    /// Peers in the last reply.
    pub peers: usize,
    /// Until the next announce; `None` while one is under way, or where none is planned.
    pub next_announce: Option<Duration>,
}

impl TrackerStatus {
    pub(crate) fn new(line: TrackerLine, now: Instant) -> Self {
        Self {
            tier: line.tier,
            url: line.url,
            state: line.state,
            last_error: line.last_error,
            warning: line.warning,
            seeds: line.seeds,
            leechers: line.leechers,
            peers: line.peers,
            next_announce: line.next_announce.map(|next| next.since(now)),
        }
    }
}
