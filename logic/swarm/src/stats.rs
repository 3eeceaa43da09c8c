//! Figures about a swarm, for people.

use std::net::SocketAddr;

use torr_base::{BLOCK_LEN, PeerId};

use crate::action::CloseReason;
use crate::metadata::MetadataStats;
use crate::swarm::{Phase, Swarm};

/// All in bytes, and bytes a second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwarmStats {
    pub phase: Phase,
    /// While it is not known there are no pieces, and nothing is wanted.
    pub metadata: Option<MetadataStats>,
    /// Verified bytes of what is wanted.
    pub done: u64,
    pub wanted: u64,
    /// Verified bytes of the whole torrent, and its length.
    pub have: u64,
    pub total: u64,
    pub pieces_have: u32,
    pub pieces: u32,
    /// Payload received and sent in this run, and what of it nobody needed or was wrong.
    pub downloaded: u64,
    pub uploaded: u64,
    pub wasted: u64,
    pub down_rate: u64,
    pub up_rate: u64,
    pub peers: u32,
    /// Of the peers: those that have everything, or what they have and want nothing more (BEP 21).
    pub seeds: u32,
    /// Peers are told of pieces one by one, until they have them all among them (BEP 16).
    pub super_seeding: bool,
    /// Of the peers: those that let us ask.
    pub unchoking: u32,
    /// Web seeds that are used, and payload received from them; it is part of `downloaded`.
    pub web_seeds: u32,
    pub web_downloaded: u64,
    /// Addresses known and not connected.
    pub candidates: u32,
    /// Blocks asked for and not here.
    pub outstanding: u32,
    /// Copies of the rarest wanted piece among the peers.
    pub rarest: u32,
    /// The last address that answered and did not become a peer, and why; `None` since one became a peer.
    pub last_failure: Option<(SocketAddr, CloseReason)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStats {
    pub addr: SocketAddr,
    pub id: PeerId,
    pub client: String,
    pub dialled: bool,
    /// Pieces that it has.
    pub pieces: u32,
    pub down_rate: u64,
    pub up_rate: u64,
    pub downloaded: u64,
    pub uploaded: u64,
    pub chokes_us: bool,
    pub choked_by_us: bool,
    pub interested_in_us: bool,
    pub interesting: bool,
    pub snubbed: bool,
    /// Blocks it owes us, and blocks we owe it.
    pub requests: u32,
    pub queued: u32,
    pub depth: u32,
}

impl<B> Swarm<B> {
    #[must_use]
    pub fn stats(&self) -> SwarmStats {
        let geometry = self.geometry;
        let pieces = geometry.piece_count();
        let bytes = |count: u32, last: bool| {
            let full = u64::from(count) * u64::from(geometry.piece_len_max());
            let short = geometry
                .pieces()
                .next_back()
                .filter(|_| last)
                .map_or(0, |piece| {
                    u64::from(geometry.piece_len_max() - geometry.piece_len(piece))
                });
            full - short
        };
        let last = geometry.pieces().next_back();
        let has = |field: &torr_base::Bitfield| last.is_some_and(|piece| field.get(piece));
        let wanted = bytes(self.wanted.count(), has(&self.wanted));
        let done = self.have.count_and(&self.wanted);
        let count = |f: fn(&crate::peer::Peer<B>) -> bool| {
            self.peers.values().filter(|peer| f(peer)).count() as u32
        };
        SwarmStats {
            phase: self.phase,
            metadata: self.metadata_stats(),
            done: bytes(done, has(&self.have) && has(&self.wanted)),
            wanted,
            have: bytes(self.have.count(), has(&self.have)),
            total: geometry.total(),
            pieces_have: self.have.count(),
            pieces,
            downloaded: self.downloaded,
            uploaded: self.uploaded,
            wasted: self.wasted,
            down_rate: self
                .peers
                .values()
                .map(|peer| peer.down.per_second())
                .sum::<u64>()
                + self.web.rate(),
            up_rate: self.peers.values().map(|peer| peer.up.per_second()).sum(),
            peers: self.peers.len() as u32,
            seeds: count(|peer| peer.seed || peer.upload_only && !peer.have.is_empty()),
            super_seeding: self.is_super_seeding(),
            unchoking: count(|peer| !peer.chokes_us),
            web_seeds: self.web.used(),
            web_downloaded: self.web.downloaded(),
            candidates: self.dialer.idle() as u32,
            outstanding: self
                .peers
                .values()
                .map(|peer| peer.requests.len() as u32)
                .sum(),
            rarest: self.picker.availability.rarest(),
            last_failure: self.dialer.last_failure,
        }
    }

    #[must_use]
    pub fn peer_stats(&self) -> Vec<PeerStats> {
        let one = |peer: &crate::peer::Peer<B>| PeerStats {
            addr: peer.addr,
            id: peer.id,
            client: peer.client.clone(),
            dialled: peer.dialled,
            pieces: peer.have.count(),
            down_rate: peer.down.per_second(),
            up_rate: peer.up.per_second(),
            downloaded: peer.down.total(),
            uploaded: peer.up.total(),
            chokes_us: peer.chokes_us,
            choked_by_us: peer.choked_by_us,
            interested_in_us: peer.interested_in_us,
            interesting: peer.interesting_told,
            snubbed: peer.requests.snubbed,
            requests: peer.requests.len() as u32,
            queued: peer.upload.len() as u32,
            depth: peer.requests.depth() as u32,
        };
        self.peers.values().map(one).collect()
    }

    /// Payload bytes received, sent, and still to come: what a tracker is told (BEP 3).
    #[must_use]
    pub fn totals(&self) -> (u64, u64, u64) {
        if !self.metadata.is_known() {
            // Who has nothing left is told of no seeds.
            return (self.downloaded, self.uploaded, u64::from(BLOCK_LEN));
        }
        // Of all pieces, as BEP 21 has it: with a selection nobody would be told apart from a seed.
        let missing = self.geometry.piece_count() - self.have.count();
        let left = u64::from(missing) * u64::from(self.geometry.piece_len_max());
        let left = left.min(self.geometry.total());
        (self.downloaded, self.uploaded, left)
    }

    /// Whether all that is wanted is here, and not all of the torrent (BEP 21).
    #[must_use]
    pub fn is_partial_seed(&self) -> bool {
        self.is_complete() && !self.have.is_full()
    }

    /// Bytes of memory in blocks of unfinished pieces.
    #[must_use]
    pub fn assembly_bytes(&self) -> u64 {
        self.assembly.here() as u64 * u64::from(BLOCK_LEN)
    }
}
