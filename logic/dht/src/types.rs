//! What goes into a [`Dht`](crate::Dht) and what comes out of it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use torr_base::Key;

/// Names and ports that the field starts from; asked only when no node is known.
pub const WELL_KNOWN: &[(&str, u16)] = &[
    ("router.bittorrent.com", 6881),
    ("dht.transmissionbt.com", 6881),
    ("router.utorrent.com", 6881),
    ("dht.libtorrent.org", 25401),
];

/// How a node takes part.
#[derive(Clone, Debug)]
pub struct DhtConfig {
    pub ipv4: bool,
    pub ipv6: bool,
    /// Asks, but answers nobody and is in nobody's table (BEP 43): for short runs and behind a NAT.
    pub read_only: bool,
    pub bootstrap: Bootstrap,
    /// Takes a new id where an old one was saved: another process goes by that one.
    pub new_id: bool,
    /// What others see as `v`: two letters and a version.
    pub version: [u8; 4],
}

/// Where to start from when no node is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bootstrap {
    /// [`WELL_KNOWN`]. These serve everybody, so they are asked but not kept in the table.
    WellKnown,
    /// Names or addresses with ports, instead of those; nodes like others. At most [`HOSTS_MAX`].
    Hosts(Vec<(String, u16)>),
}

/// Hosts to start from; further ones are left out.
pub const HOSTS_MAX: usize = 32;

impl Default for DhtConfig {
    fn default() -> Self {
        Self {
            ipv4: true,
            ipv6: true,
            read_only: false,
            bootstrap: Bootstrap::WellKnown,
            new_id: false,
            version: *b"tr\0\x01",
        }
    }
}

/// What a search tells the nodes that it ends at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announce {
    /// Where we take connections.
    pub port: u16,
    /// The nodes shall take the port that our datagrams come from instead: uTP is spoken there, and a
    /// NAT may have changed it.
    pub implied: bool,
    /// Nothing is missing (BEP 33); then peers that are no seeds are preferred as well.
    pub seed: bool,
}

/// Marks the keys of searches.
#[derive(Clone, Copy, Debug)]
#[expect(unnameable_types, reason = "only marks keys")]
pub struct SearchMark;

/// One search for the peers of one torrent. Never used twice.
pub type SearchId = Key<SearchMark>;

/// A name that is being looked up. Never used twice by one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResolveId(pub(crate) u64);

impl ResolveId {
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }
}

/// What the driver must do, in this order.
#[derive(Clone, PartialEq, Eq)]
pub enum DhtAction {
    /// Send from the UDP socket of this family, the same one always (BEP 45). If it can not be sent, it
    /// counts as lost.
    Send { to: SocketAddr, bytes: Vec<u8> },
    /// Look the name up, both families, and answer with `handle_resolved`.
    Resolve {
        request: ResolveId,
        host: String,
        port: u16,
    },
    /// Peers that nodes name, each once in a lookup; some may be made up, some our own.
    Peers {
        search: SearchId,
        peers: Vec<SocketAddr>,
    },
    /// A round of a search is over, in all families.
    Done { search: SearchId, outcome: Outcome },
    /// Our address as several networks see it.
    ExternalIp { ip: IpAddr },
}

/// What a round of a search brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Peers that were handed on.
    pub peers: u32,
    /// Nodes that were asked, announces apart.
    pub queries: u32,
    /// Nodes that answered.
    pub answers: u32,
    /// Nodes that took the announce.
    pub stored: u32,
    /// When the next round begins; `None` for a search that is over and forgotten.
    pub next: Option<Duration>,
}

/// What people may want to see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DhtStats {
    /// Nodes in the tables: IPv4, IPv6.
    pub nodes: [usize; 2],
    /// Those of them that are good (BEP 5).
    pub good: [usize; 2],
    /// Torrents and peers that others announced here.
    pub torrents: usize,
    pub peers: usize,
    pub searches: usize,
    pub lookups: usize,
    pub queries_under_way: usize,
    /// After this long another node is asked instead.
    pub patience: Duration,
    pub sent: u64,
    pub sent_bytes: u64,
    /// Queries that got no answer because of a limit.
    pub refused: u64,
    /// Datagrams that answer nothing that was asked, or are no messages.
    pub unasked: u64,
}

impl fmt::Debug for DhtAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Send { to, bytes } => write!(f, "Send({to}, {})", bytes.escape_ascii()),
            Self::Resolve {
                request,
                host,
                port,
            } => write!(f, "Resolve({}, {host}:{port})", request.0),
            Self::Peers { search, peers } => write!(f, "Peers({search:?}, {peers:?})"),
            Self::Done { search, outcome } => write!(f, "Done({search:?}, {outcome:?})"),
            Self::ExternalIp { ip } => write!(f, "ExternalIp({ip})"),
        }
    }
}
