//! Who is in the world: nodes under test, and puppets.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use torr_base::{Bitfield, Instant, PeerId, PieceIndex, Rng};
use torr_node::{ConnKey, Node, NodeConfig, TorrentKey};
use torr_store::StorageError;

use crate::check::RateCheck;
use crate::conn::EndId;
use crate::disk::{Disk, DiskProfile};
use crate::fidelity::{Fidelity, PoolGauge};
use crate::link::{Link, LinkProfile};
use crate::manners::Manners;
use crate::puppet::Puppet;

/// A host by its number, in the order in which they were added.
pub type HostId = usize;

/// How a node starts.
#[derive(Clone, Debug)]
pub struct NodePlan {
    /// Its line.
    pub link: LinkProfile,
    /// What it has at the start.
    pub have: Bitfield,
    /// Its disk.
    pub disk: DiskProfile,
    /// Buffers in its pool.
    pub blocks: usize,
    /// Addresses that it is told of by its user.
    pub peers: Vec<SocketAddr>,
    /// Web servers that it is told of.
    pub web: Vec<usize>,
    /// Its trackers, in tiers.
    pub trackers: Vec<Vec<String>>,
    /// In torrent order instead of rarest first.
    pub sequential: bool,
    /// Gives each piece once (BEP 16), if it has them all.
    pub super_seed: bool,
    /// Waits for a disk that says no.
    pub waits: bool,
    /// Pieces that it wants; all if `None`.
    pub wanted: Option<Bitfield>,
    /// Changes to the usual configuration.
    pub tune: fn(&mut NodeConfig),
    /// Its own rate limits.
    pub down_rate: Option<u64>,
    /// Its own rate limits.
    pub up_rate: Option<u64>,
    /// It knows the info-hash and nothing else, and has no piece.
    pub magnet: bool,
    /// The torrent is private (BEP 27).
    pub private: bool,
    /// When it starts.
    pub start: Instant,
}

impl NodePlan {
    /// A usual node that has these pieces.
    #[must_use]
    pub fn new(have: Bitfield) -> Self {
        Self {
            link: LinkProfile::default(),
            have,
            disk: DiskProfile::default(),
            blocks: 1_024,
            peers: Vec::new(),
            web: Vec::new(),
            trackers: Vec::new(),
            sequential: false,
            super_seed: false,
            waits: false,
            wanted: None,
            tune: |_| {},
            down_rate: None,
            up_rate: None,
            magnet: false,
            private: false,
            start: Instant::ZERO,
        }
    }
}

/// A node and what belongs to it.
#[derive(Debug)]
pub struct NodeHost<F: Fidelity> {
    pub(crate) node: Node<F::Block>,
    pub(crate) torrent: Option<TorrentKey>,
    pub(crate) disk: Disk<F>,
    pub(crate) gauge: Rc<PoolGauge>,
    pub(crate) plan: NodePlan,
    pub(crate) id: PeerId,
    pub(crate) ends: BTreeMap<ConnKey, EndId>,
    /// When it is to be woken.
    pub(crate) armed: Option<Instant>,
    /// In this step.
    pub(crate) touched: bool,
    /// Buffers whose chunks are written and have not left.
    pub(crate) lent: usize,
    /// What it wrote and read, against its own rate limits.
    pub(crate) up: RateCheck,
    pub(crate) down: RateCheck,
    /// What it told people.
    pub(crate) news: NodeNews,
}

/// What a node told people so far.
#[derive(Clone, Debug, Default)]
pub struct NodeNews {
    /// When the metadata was there.
    pub metadata: Option<Instant>,
    /// When everything wanted was there.
    pub complete: Option<Instant>,
    /// … and durable.
    pub synced: Option<Instant>,
    /// Pieces in the order in which they were done.
    pub pieces: Vec<PieceIndex>,
    /// Files in the order in which they were done.
    pub files: Vec<u32>,
    /// Whom it banned.
    pub banned: Vec<SocketAddr>,
    /// What it said of web servers.
    pub web: Vec<(usize, torr_node::WebEvent)>,
    /// Connections that it closed, and why.
    pub closes: Vec<(Instant, SocketAddr, torr_node::CloseReason)>,
    /// Since when it waits for its disk, and the bytes that it had received by then.
    pub halted: Option<(Instant, u64)>,
    /// How often it went on.
    pub resumed: u32,
    /// The disk failed.
    pub failed: Option<StorageError>,
    /// `stop` is through.
    pub stopped: Option<Instant>,
    /// Announces that went well, and that did not.
    pub announces: (u32, u32),
    /// Rounds of its search in the DHT.
    pub searches: Vec<torr_node::SearchStats>,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one for each host, never moved")]
pub(crate) enum Kind<F: Fidelity> {
    Node(NodeHost<F>),
    Puppet(PuppetHost),
}

/// A puppet and when it acts.
#[derive(Debug)]
pub(crate) struct PuppetHost {
    pub(crate) puppet: Puppet,
    pub(crate) armed: Option<Instant>,
    /// Whom it dials.
    pub(crate) dials: Vec<SocketAddr>,
    pub(crate) touched: bool,
}

#[derive(Debug)]
pub(crate) struct Host<F: Fidelity> {
    pub(crate) addr: SocketAddr,
    pub(crate) link: Link,
    pub(crate) kind: Kind<F>,
    /// Nothing from it or to it arrives any more.
    pub(crate) dead: bool,
    /// The same, and datagrams and trackers too, until it is back.
    pub(crate) cut: bool,
    /// Its next ephemeral port.
    pub(crate) next_port: u16,
}

impl<F: Fidelity> Host<F> {
    pub(crate) fn node(&self) -> Option<&NodeHost<F>> {
        match &self.kind {
            Kind::Node(host) => Some(host),
            Kind::Puppet(_) => None,
        }
    }

    pub(crate) fn node_mut(&mut self) -> Option<&mut NodeHost<F>> {
        match &mut self.kind {
            Kind::Node(host) => Some(host),
            Kind::Puppet(_) => None,
        }
    }

    pub(crate) fn puppet(&self) -> Option<&Puppet> {
        match &self.kind {
            Kind::Puppet(host) => Some(&host.puppet),
            Kind::Node(_) => None,
        }
    }

    /// Whether it forged a block that somebody may have read.
    pub(crate) fn lied(&self) -> bool {
        self.puppet().is_some_and(|puppet| puppet.lied)
    }
}

impl PuppetHost {
    pub(crate) fn new(manners: Manners, have: Bitfield, host: HostId, rng: Rng) -> Self {
        Self {
            puppet: Puppet::new(manners, have, host as u32 + 1, rng),
            armed: None,
            dials: Vec::new(),
            touched: false,
        }
    }

    /// How long it waits before it dials again.
    pub(crate) fn redial(&self) -> Option<Duration> {
        self.puppet.manners.redials
    }
}

/// The address of a host: each in a network of its own, since nodes limit connections by network.
#[must_use]
pub fn addr_of(host: HostId) -> SocketAddr {
    let [_, _, high, low] = (host as u32).to_be_bytes();
    SocketAddr::from(([11, high, low, 1], 6881))
}
