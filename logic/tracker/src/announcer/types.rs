//! What goes into an [`Announcer`](super::Announcer) and what comes out of it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use torr_base::{InfoHash, Instant, PeerId};

use crate::mask;

/// What one torrent says about itself to every tracker.
#[derive(Clone, Debug)]
pub struct AnnouncerConfig {
    pub info_hash: InfoHash,
    pub peer_id: PeerId,
    /// Where we listen for peers.
    pub port: u16,
    /// Public addresses of ours to be told to HTTP trackers (BEP 7), if they are known and may be told.
    pub ipv4: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Addr>,
}

/// The torrent's counters at the time of an announce.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Payload bytes since the start of the session.
    pub uploaded: u64,
    /// Payload bytes since the start of the session.
    pub downloaded: u64,
    /// Bytes still missing, wanted or not. Where the size is not known yet, any number above 0.
    pub left: u64,
    /// Bytes are missing, and none of them is wanted (BEP 21).
    pub partial_seed: bool,
    /// Bytes thrown away because their piece was wrong.
    pub corrupt: u64,
    /// How many more peers would be of use; 0 asks for none.
    pub peers_wanted: u32,
}

/// One tracker of one torrent. Stays the same for as long as the torrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrackerId(pub(super) u32);

impl TrackerId {
    /// Counted from 0 in the order in which the trackers were named.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }
}

/// Something asked of the driver; its answer names it. Never used twice by one announcer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub(super) u64);

impl RequestId {
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }
}

/// What the driver must do, in this order.
#[derive(Clone, PartialEq, Eq)]
pub enum TrackerAction {
    /// GET `url` as a tracker request and answer with `handle_http`. The URL may hold a passkey.
    HttpGet { request: RequestId, url: String },
    /// Look the name up and answer with `handle_resolved`.
    Resolve {
        request: RequestId,
        host: String,
        port: u16,
    },
    /// Send from the UDP socket of this family; replies go to `handle_datagram`. If it can not be sent,
    /// it counts as lost.
    Datagram { to: SocketAddr, bytes: Vec<u8> },
    /// Nobody waits for this answer any more.
    Cancel { request: RequestId },
    /// Addresses of peers, our own perhaps among them.
    Peers {
        from: TrackerId,
        peers: Vec<SocketAddr>,
    },
    /// Our address as a tracker sees it (BEP 24). A rumour: trackers lie.
    ExternalIp { from: TrackerId, ip: IpAddr },
    /// For people: logs and alerts.
    Status {
        from: TrackerId,
        event: TrackerEvent,
    },
}

/// A change that a person may want to see. Text is cleaned and masked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrackerEvent {
    Announced {
        peers: usize,
        seeds: Option<u32>,
        leechers: Option<u32>,
        next: Duration,
    },
    Warning(String),
    Failed {
        error: String,
        /// How many times in a row.
        fails: u32,
        /// `None` where the tracker said never to come back.
        retry: Option<Duration>,
    },
}

/// One line of the table of trackers.
#[derive(Clone, Copy, Debug)]
pub struct TrackerStatus<'a> {
    pub id: TrackerId,
    /// Counted from 0.
    pub tier: usize,
    /// Masked: fit for any eye.
    pub url: &'a str,
    pub state: TrackerState,
    /// Of the last announce, if it failed.
    pub last_error: Option<&'a str>,
    /// Of the last reply.
    pub warning: Option<&'a str>,
    pub seeds: Option<u32>,
    pub leechers: Option<u32>,
    /// How many have completed the torrent, as the tracker counts.
    pub downloaded: Option<u32>,
    /// Peers in the last reply.
    pub peers: usize,
    /// `None` while one is under way, or where none is planned.
    pub next_announce: Option<Instant>,
    /// Failures in a row.
    pub fails: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrackerState {
    /// Never to be asked: `last_error` says why.
    Unusable,
    /// Not needed so far: another one of the tier answers.
    Standby,
    /// Asked for the first time, or again after a failure.
    Announcing,
    /// The last announce was answered.
    Working,
    /// The last announce failed; another will follow.
    Failing,
}

impl fmt::Debug for TrackerAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HttpGet { request, url } => {
                write!(f, "HttpGet({}, {})", request.0, mask(url))
            }
            Self::Resolve {
                request,
                host,
                port,
            } => write!(f, "Resolve({}, {host}:{port})", request.0),
            // The bytes may hold a passkey (BEP 41).
            Self::Datagram { to, bytes } => write!(f, "Datagram({to}, {} bytes)", bytes.len()),
            Self::Cancel { request } => write!(f, "Cancel({})", request.0),
            Self::Peers { from, peers } => write!(f, "Peers({}, {peers:?})", from.0),
            Self::ExternalIp { from, ip } => write!(f, "ExternalIp({}, {ip})", from.0),
            Self::Status { from, event } => write!(f, "Status({}, {event:?})", from.0),
        }
    }
}
