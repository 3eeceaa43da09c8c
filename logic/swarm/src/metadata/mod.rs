//! The info dictionary of a torrent that was added by its info-hash alone: fetched from peers, and given to
//! peers (BEP 9).
//!
//! ```text
//!   Swarm::seek ─► Wanted ── verified ──► Opening ── Swarm::begin ──► Known ◄── Swarm::new
//!                    │    Notice::Metadata    │   (the storage is open)
//!                    └── fetch ───────────────┴── serve ────────────────►
//! ```
//!
//! Until it is known nothing can be asked for or given but the metadata itself; what peers say that they have
//! is kept in a bounded form (`peer/early.rs`) and understood in [`Swarm::begin`].

mod fetch;
mod serve;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use torr_base::{BLOCK_LEN, Geometry, InfoHash, Instant, Rng};
use torr_store::BufSource;
use torr_wire::{Extension, METADATA_PIECES_MAX, Message, MetadataMessage};

use fetch::{Fetch, Outcome};
pub(crate) use serve::Asked;

use crate::action::{Action, CloseReason, Idle, Misbehaved, Notice, Outbox, PeerKey};
use crate::init::SwarmInit;
use crate::swarm::{Phase, Swarm, SwarmConfig};

/// Connections while the metadata is not known: each may hold a bitfield of unknown length, and a few that
/// have the metadata are enough.
const SEEKING_PEERS_MAX: usize = 60;
/// A peer that has no metadata to give makes room after so long, if others wait.
const USELESS: Duration = Duration::from_secs(60);
/// Pieces of an earlier run that peers are told of one by one. Where there are more, those who lack any are
/// let go, and hear it in one message when they come again.
const HAVES_MAX: u32 = 1_000;

/// The exact bytes of an info dictionary.
#[derive(Clone, PartialEq, Eq)]
pub struct InfoBytes(pub Arc<[u8]>);

impl fmt::Debug for InfoBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InfoBytes({} bytes)", self.0.len())
    }
}

/// How far the metadata has come; for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetadataStats {
    /// It is here and verified; the storage is being opened.
    pub found: bool,
    /// Bytes here, of the attempt that has come furthest.
    pub done: u64,
    /// Bytes in all, as peers say.
    pub size: Option<u64>,
    /// Peers that say that they have it.
    pub sources: u32,
    /// The length that peers named, where none named one that is fetched.
    pub too_large: Option<u32>,
}

#[derive(Debug)]
pub(crate) enum Metadata {
    Wanted(Box<Fetch>),
    /// Verified; [`Swarm::begin`] is awaited.
    Opening(InfoBytes),
    /// `None` where it is not given to others: it is too long, or the simulator's torrent has none.
    Known(Option<InfoBytes>),
}

impl Metadata {
    pub(crate) fn is_known(&self) -> bool {
        matches!(self, Self::Known(_))
    }

    /// Whether it is wanted of that peer.
    pub(crate) fn is_from(&self, peer: PeerKey) -> bool {
        match self {
            Self::Wanted(fetch) => fetch.is_source(peer),
            Self::Opening(_) | Self::Known(_) => false,
        }
    }

    /// What others can have of it.
    pub(crate) fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Wanted(_) | Self::Known(None) => None,
            Self::Opening(bytes) | Self::Known(Some(bytes)) => Some(&bytes.0),
        }
    }
}

impl<B> Swarm<B> {
    /// A swarm about which nothing is known but the info-hash. Once peers gave the metadata it says
    /// [`Notice::Metadata`], and waits for [`Self::begin`].
    #[must_use]
    pub fn seek(config: SwarmConfig, info_hash: InfoHash, rng: &Rng, now: Instant) -> Self {
        let nothing = Geometry::new(0, BLOCK_LEN.into()).expect("no pieces are a geometry");
        let mut swarm = Self::new(config, SwarmInit::empty(info_hash, nothing), rng, now);
        swarm.metadata = Metadata::Wanted(Box::new(Fetch::new(info_hash)));
        swarm
    }

    /// The metadata was understood, and the storage is open: from here on it is a torrent like any other.
    /// Does nothing where it was not awaited, or is not of this torrent.
    pub fn begin(
        &mut self,
        now: Instant,
        init: SwarmInit,
        bufs: &mut dyn BufSource<B>,
        out: &mut Outbox<B>,
    ) {
        let Metadata::Opening(bytes) = &self.metadata else {
            debug_assert!(false, "a swarm began twice");
            return;
        };
        if init.info_hash != self.info_hash || self.phase != Phase::Active {
            debug_assert!(
                false,
                "a swarm began with another torrent, or after its end"
            );
            return;
        }
        self.metadata = Metadata::Known(Some(bytes.clone()));
        self.install(init, now);
        if self.private {
            self.dialer.forget_rumours();
            self.announce_extensions(out);
        }
        let had: Vec<_> = self.have.iter().collect();
        let many = self.have.count() > HAVES_MAX;
        if !many {
            self.have_log.extend(had);
        }
        let keys: Vec<_> = self.peers.keys().collect();
        for key in keys {
            match self.settle_early(key) {
                Ok(true) => {}
                Ok(false) => self.part_to_return(now, key, bufs, out),
                Err(why) => self.part(now, key, CloseReason::Misbehaved(why), bufs, out),
            }
            let lacks = self
                .peers
                .get(key)
                .is_some_and(|peer| self.have.any_and_not(&peer.have));
            if many && lacks {
                self.part_to_return(now, key, bufs, out);
            }
        }
        self.start(now, out);
        let keys: Vec<_> = self.peers.keys().collect();
        for key in keys {
            self.allow_fast(key, out);
            self.tell_interest(now, key, out);
            self.fill_requests(now, key, out);
            if let Some(peer) = self.peers.get_mut(key) {
                peer.wake(out);
            }
        }
    }

    /// Lets a peer go that is to be dialled again at once.
    fn part_to_return(
        &mut self,
        now: Instant,
        key: PeerKey,
        bufs: &mut dyn BufSource<B>,
        out: &mut Outbox<B>,
    ) {
        let addr = self.peers.get(key).and_then(crate::peer::Peer::listen_addr);
        self.part(now, key, CloseReason::Local, bufs, out);
        if let Some(addr) = addr {
            self.dialer.hurry(addr, now);
        }
    }

    /// Whether the metadata is known and the storage open.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.metadata.is_known()
    }

    /// The most pieces that the torrent may have, as far as is known.
    #[must_use]
    pub fn pieces_max(&self) -> u32 {
        match self.metadata.is_known() {
            true => self.geometry.piece_count(),
            false => METADATA_PIECES_MAX,
        }
    }

    /// Connections that it may have now.
    pub(crate) fn peers_max(&self) -> usize {
        match self.metadata.is_known() {
            true => self.config.peers_max,
            false => self.config.peers_max.min(SEEKING_PEERS_MAX),
        }
    }

    /// Figures about the metadata; `None` once it is known.
    pub(crate) fn metadata_stats(&self) -> Option<MetadataStats> {
        match &self.metadata {
            Metadata::Known(_) => None,
            Metadata::Opening(bytes) => Some(MetadataStats {
                found: true,
                done: bytes.0.len() as u64,
                size: Some(bytes.0.len() as u64),
                sources: 0,
                too_large: None,
            }),
            Metadata::Wanted(fetch) => {
                let progress = fetch.progress();
                Some(MetadataStats {
                    found: false,
                    done: progress.map_or(0, |(done, _)| done),
                    size: progress.map(|(_, size)| size),
                    sources: fetch.sources() as u32,
                    too_large: fetch.too_large(),
                })
            }
        }
    }

    /// A peer says how long the metadata is that it has.
    pub(crate) fn metadata_offered(
        &mut self,
        now: Instant,
        key: PeerKey,
        size: u32,
        out: &mut Outbox<B>,
    ) -> Result<(), Misbehaved> {
        if let Metadata::Wanted(fetch) = &mut self.metadata {
            fetch.offer(key, size, now)?;
            self.ask_metadata(now, key, out);
        }
        Ok(())
    }

    /// Asks a peer for as much metadata as may be asked of it now.
    pub(crate) fn ask_metadata(&mut self, now: Instant, key: PeerKey, out: &mut Outbox<B>) {
        let Metadata::Wanted(fetch) = &mut self.metadata else {
            return;
        };
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        let Some(id) = peer.extensions.get(Extension::Metadata) else {
            return;
        };
        while let Some(block) = fetch.next(key, now) {
            let payload = MetadataMessage::Request { block }.encode();
            let payload = &payload;
            peer.send(Message::Extended { id, payload }, out);
        }
    }

    /// Once a tick, while it is wanted.
    pub(crate) fn metadata_timeout(
        &mut self,
        now: Instant,
        bufs: &mut dyn BufSource<B>,
        out: &mut Outbox<B>,
    ) {
        let Metadata::Wanted(fetch) = &mut self.metadata else {
            return;
        };
        fetch.handle_timeout(now);
        let useless = self
            .peers
            .iter()
            .filter(|(key, peer)| now.since(peer.joined) >= USELESS && !fetch.is_source(*key));
        let useless = useless.map(|(key, _)| key).next();
        if let Some(key) = useless.filter(|_| self.others_wait()) {
            self.part(now, key, CloseReason::Idle(Idle::Useless), bufs, out);
        }
        let keys: Vec<_> = self.peers.keys().collect();
        for key in keys {
            self.ask_metadata(now, key, out);
        }
    }

    /// A message of `ut_metadata` came.
    pub(crate) fn metadata_message(
        &mut self,
        now: Instant,
        key: PeerKey,
        payload: &[u8],
        bufs: &mut dyn BufSource<B>,
        out: &mut Outbox<B>,
    ) -> Result<(), Misbehaved> {
        let message = MetadataMessage::parse(payload).map_err(|_| Misbehaved::Metadata)?;
        match message {
            MetadataMessage::Unknown => return Ok(()),
            MetadataMessage::Request { block } => return self.metadata_requested(key, block, out),
            MetadataMessage::Reject { block } => {
                if let Metadata::Wanted(fetch) = &mut self.metadata {
                    fetch.rejected(key, block, now);
                }
            }
            MetadataMessage::Data {
                block,
                total,
                bytes,
            } => {
                // What was asked of several comes again after the end.
                if let Metadata::Wanted(fetch) = &mut self.metadata {
                    let outcome = fetch.data(key, block, total, bytes, now)?;
                    self.metadata_came(now, outcome, bufs, out);
                }
            }
        }
        self.ask_metadata(now, key, out);
        Ok(())
    }

    fn metadata_came(
        &mut self,
        now: Instant,
        outcome: Outcome,
        bufs: &mut dyn BufSource<B>,
        out: &mut Outbox<B>,
    ) {
        let why = Misbehaved::BadMetadata;
        match outcome {
            Outcome::More => {}
            Outcome::Guilty(key) => self.convict(now, key, why, bufs, out),
            Outcome::Found { bytes, guilty } => {
                self.metadata = Metadata::Opening(bytes.clone());
                for key in guilty {
                    self.convict(now, key, why, bufs, out);
                }
                self.announce_extensions(out);
                out.push(Action::Tell(Notice::Metadata(bytes)));
            }
        }
    }

    pub(crate) fn metadata_size(&self) -> Option<u32> {
        let bytes = self.metadata.bytes().filter(|_| self.config.upload)?;
        u32::try_from(bytes.len()).ok()
    }
}
