//! What an announce says and what comes back, in whatever protocol it travels.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use torr_base::{InfoHash, PeerId};

/// Peers kept of one reply. BEP 3 has trackers send 50; more than this is a flood.
pub const PEERS_MAX: usize = 400;

/// What happened that the tracker should count (BEP 3 `event`; BEP 15 gives the numbers).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A regular announce at the interval.
    None,
    Completed,
    Started,
    Stopped,
    /// A regular announce of a partial seed (BEP 21); over UDP it is one like any other.
    Paused,
}

/// One announce, as client and server both see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnounceRequest {
    pub info_hash: InfoHash,
    pub peer_id: PeerId,
    /// Where the peer listens.
    pub port: u16,
    /// Payload bytes since `started`.
    pub uploaded: u64,
    /// Payload bytes since `started`.
    pub downloaded: u64,
    /// Bytes still missing: 0 for a seed.
    pub left: u64,
    /// Bytes that failed the hash check; told to HTTP trackers only, and only if there are any.
    pub corrupt: u64,
    pub event: Event,
    /// Stays the same for a session, so that a tracker knows the peer again at another address.
    pub key: u32,
    /// How many peers are wanted; `None` leaves it to the tracker.
    pub numwant: Option<u32>,
    /// HTTP: what the tracker named itself last time.
    pub tracker_id: Option<Vec<u8>>,
    /// HTTP: an address of the other family where the peer can be reached as well (BEP 7).
    pub ipv4: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Addr>,
}

/// A tracker's answer to an announce.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnnounceReply {
    /// Seconds until the next regular announce; `None` where nothing sensible was said.
    pub interval_secs: Option<u32>,
    /// Seconds within which no other announce is wanted.
    pub min_interval_secs: Option<u32>,
    /// To be sent back from now on.
    pub tracker_id: Option<Vec<u8>>,
    pub warning: Option<String>,
    pub seeds: Option<u32>,
    pub leechers: Option<u32>,
    /// How many have completed the torrent.
    pub downloaded: Option<u32>,
    /// At most [`PEERS_MAX`], each with a port and a host's address.
    pub peers: Vec<SocketAddr>,
    /// Our address as the tracker sees it (BEP 24).
    pub external_ip: Option<IpAddr>,
}

/// One torrent in a scrape (BEP 48, BEP 15).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrapeEntry {
    pub seeds: u32,
    pub completed: u32,
    pub leechers: u32,
}

/// Why an announce or scrape brought nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrackerError {
    /// The tracker refused and said why (`failure reason`, or the UDP error packet).
    Refused {
        /// Cleaned, but not yet masked.
        reason: String,
        retry: Option<Retry>,
    },
    /// What came is no answer to what was asked.
    Malformed(String),
}

/// What is told where it did not say.
pub(crate) const NO_REASON: &str = "refused without a reason";

/// BEP 31: when a tracker that refused may be asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    After(Duration),
    Never,
}

impl std::fmt::Display for TrackerError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused { reason, retry: _ } => write!(f, "{reason}"),
            Self::Malformed(what) => write!(f, "{what}"),
        }
    }
}

impl std::error::Error for TrackerError {}

/// What a tracker's HTTP server answered, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpReply {
    pub status: u16,
    /// At most 1 MiB.
    pub body: Vec<u8>,
    /// Who answered, after redirects; `None` where the transport does not know.
    pub from: Option<IpAddr>,
}

impl HttpReply {
    #[must_use]
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            body: body.into(),
            from: None,
        }
    }
}

impl Event {
    /// BEP 15's number.
    #[must_use]
    pub fn number(self) -> u32 {
        match self {
            Self::None | Self::Paused => 0,
            Self::Completed => 1,
            Self::Started => 2,
            Self::Stopped => 3,
        }
    }

    /// BEP 3's word; `None` for a regular announce, which names no event.
    #[must_use]
    pub fn word(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Completed => Some("completed"),
            Self::Started => Some("started"),
            Self::Stopped => Some("stopped"),
            Self::Paused => Some("paused"),
        }
    }
}

/// Whether a peer may be at this address at all: a port, and a host that is no group and no wildcard.
#[must_use]
pub fn is_peer_address(addr: SocketAddr) -> bool {
    let host = match addr.ip().to_canonical() {
        IpAddr::V4(ip) => !(ip.octets()[0] == 0 || ip.octets()[0] >= 224),
        IpAddr::V6(ip) => !(ip.is_unspecified() || ip.is_multicast()),
    };
    host && addr.port() != 0
}

/// A port and address from compact form (BEP 23: 6 bytes, BEP 7: 18 bytes), in network order. A rest
/// that is no whole entry is left out.
pub(crate) fn compact_peers(bytes: &[u8], v6: bool) -> impl Iterator<Item = SocketAddr> + '_ {
    let stride = if v6 { 18 } else { 6 };
    bytes.chunks_exact(stride).filter_map(move |entry| {
        let (ip, port) = entry.split_at_checked(stride - 2)?;
        let port = u16::from_be_bytes(port.try_into().ok()?);
        let ip = if v6 {
            IpAddr::from(<[u8; 16]>::try_from(ip).ok()?).to_canonical()
        } else {
            IpAddr::from(<[u8; 4]>::try_from(ip).ok()?)
        };
        Some(SocketAddr::new(ip, port)).filter(|addr| is_peer_address(*addr))
    })
}

/// Appends the compact form of `addr`: 6 or 18 bytes.
pub(crate) fn push_compact(out: &mut Vec<u8>, addr: SocketAddr) {
    match addr.ip() {
        IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
        IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
    }
    out.extend_from_slice(&addr.port().to_be_bytes());
}
