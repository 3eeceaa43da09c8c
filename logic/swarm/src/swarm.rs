//! The swarm itself: its state, its commands, and where each input goes.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use torr_base::{Bitfield, Geometry, InfoHash, Instant, PeerId, PieceIndex, RawBlock, Rng, Slab};
use torr_store::{BufSource, DiskTask, JobId};

use crate::action::{
    Action, CloseReason, Idle, Incompatible, Misbehaved, Notice, Outbox, PeerKey, PeerMark,
};
use crate::assembly::{Assembly, Stage};
use crate::blame::Blame;
use crate::choker::Choker;
use crate::closing::Closing;
use crate::dialer::{Dialer, Parted};
use crate::doubt::Doubt;
use crate::halt::Halt;
use crate::init::{FilePieces, SwarmInit};
use crate::metadata::Metadata;
use crate::peer::{NewPeer, Peer, PeerCx};
use crate::picker::Picker;
use crate::priority::Seen;
use crate::superseed::SuperSeed;
use crate::web::WebSeeds;

/// Three fifths: one piece comes in while another is at the disk.
const LARGE: (usize, usize) = (3, 5);
/// Blocks of a large piece that are written together: 1 MiB.
const SPILL_BLOCKS: u32 = 64;

/// What a swarm is told once.
#[derive(Clone, Debug)]
pub struct SwarmConfig {
    pub peer_id: PeerId,
    /// Told to peers on our own network (BEP 10); 0 for none.
    pub listen_port: u16,
    /// Told to all others: the same, unless a gateway maps another port to it.
    pub public_port: u16,
    /// Of our node of the DHT, told to peers that have one (BEP 5); 0 for none.
    pub dht_port: u16,
    /// Name and version, told to peers (BEP 10).
    pub client: String,
    pub upload: bool,
    /// Peers may tell each other of peers (BEP 11).
    pub pex: bool,
    pub sequential: bool,
    /// Give each piece once, and see that it is passed on (BEP 16), if all of them are here at the start.
    pub super_seed: bool,
    /// Connections of this torrent, accepted ones included.
    pub peers_max: usize,
    /// Connections up to which the swarm dials on its own.
    pub dial_until: usize,
    /// Whether a disk that says no is waited for, instead of being the end.
    pub waits: bool,
    /// Blocks that unfinished pieces may hold, with those of other swarms; what is beyond goes to the disk unverified.
    /// See [`Swarm::set_assembly_room`].
    pub assembly_blocks: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Active,
    /// The disk said no, and is looked at until it says yes; no peers meanwhile.
    Halted,
    /// Flushing; no peers any more.
    Stopping,
    Stopped,
    /// The disk said no, for good.
    Failed,
}

/// What an answer of the disk is awaited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Job {
    Commit,
    Hash,
    Load { peer: PeerKey },
    Spill,
    Verify,
    Recheck,
    Sync,
    Probe,
    Close,
}

/// One torrent's swarm, as this node sees it.
///
/// - Inputs: `add_peer`, `peer` (a [`PeerCx`] that hears one peer), `handle_peer_closed`,
///   `handle_dial_failed`, `handle_disk`, `handle_timeout`.
/// - Commands: `add_candidate`, `set_wanted`, `stop`.
/// - Pulls: `poll_transmit`.
/// - Getters: `have`, `phase`, `stats`, `next_timeout` …
///
/// Every input may push [`Action`]s; they are to be carried out in order.
#[derive(Debug)]
pub struct Swarm<B> {
    pub(crate) config: SwarmConfig,
    pub(crate) info_hash: InfoHash,
    /// Until it is known there are no pieces.
    pub(crate) metadata: Metadata,
    pub(crate) geometry: Geometry,
    pub(crate) phase: Phase,
    /// Peers come from the torrent's trackers only (BEP 27), as far as is known.
    pub(crate) private: bool,

    pub(crate) have: Bitfield,
    /// Pieces verified in this run, in order: what peers are to be told.
    pub(crate) have_log: Vec<PieceIndex>,
    /// Empty between two calls: buffers that are filled at one go.
    pub(crate) run: Vec<B>,
    pub(crate) wanted: Bitfield,
    /// Pieces wanted and not had.
    pub(crate) left: u32,
    pub(crate) files: Vec<FilePieces>,
    /// Pieces of each file that are not had.
    pub(crate) file_left: Vec<u32>,

    pub(crate) peers: Slab<Peer<B>, PeerMark>,
    pub(crate) picker: Picker,
    pub(crate) assembly: Assembly<B>,
    pub(crate) closing: Closing,
    pub(crate) choker: Choker,
    pub(crate) dialer: Dialer,
    pub(crate) web: WebSeeds<B>,
    pub(crate) blame: Blame,
    pub(crate) doubt: Doubt,
    pub(crate) halt: Halt,
    /// Until others have all pieces, if that was asked for.
    pub(crate) super_seed: Option<SuperSeed>,
    /// Where peers see us.
    pub(crate) seen: Seen,

    /// Answers that are due; a job's id is its key here.
    pub(crate) jobs: Slab<Job>,

    /// Payload bytes of this run.
    pub(crate) downloaded: u64,
    pub(crate) uploaded: u64,
    /// Of those downloaded: what nobody needed, or was wrong.
    pub(crate) wasted: u64,
    pub(crate) ticked: Instant,
    /// Bytes a second from all peers, and how many of them send, at the last tick.
    pub(crate) down_rate: u64,
    pub(crate) senders: u32,
    /// From the request of a block until it comes, as of late.
    pub(crate) block_takes: Duration,
    /// Of [`SwarmConfig::assembly_blocks`], what is this swarm's part for now.
    pub(crate) assembly_room: usize,
    rng: Rng,
}

impl<B> Swarm<B> {
    #[must_use]
    pub fn new(config: SwarmConfig, init: SwarmInit, rng: &Rng, now: Instant) -> Self {
        let assembly_room = config.assembly_blocks;
        let mut swarm = Self {
            config,
            info_hash: init.info_hash,
            metadata: Metadata::Known(init.metadata.clone()),
            geometry: init.geometry,
            phase: Phase::Active,
            private: init.private,
            have: Bitfield::new(0),
            have_log: Vec::new(),
            run: Vec::new(),
            wanted: Bitfield::new(0),
            left: 0,
            file_left: Vec::new(),
            files: Vec::new(),
            peers: Slab::new(),
            picker: Picker::new(0, rng),
            assembly: Assembly::new(init.geometry),
            closing: Closing::default(),
            choker: Choker::new(now, rng.fork("choker", 0)),
            dialer: Dialer::new(rng.fork("dialer", 0)),
            web: WebSeeds::new(None, now),
            blame: Blame::default(),
            doubt: Doubt::default(),
            halt: Halt::default(),
            super_seed: None,
            seen: Seen::default(),
            jobs: Slab::new(),
            downloaded: 0,
            uploaded: 0,
            wasted: 0,
            ticked: now,
            down_rate: 0,
            senders: 0,
            block_takes: Duration::ZERO,
            assembly_room,
            rng: rng.clone(),
        };
        swarm.install(init, now);
        if swarm.config.super_seed && swarm.config.upload && swarm.have.is_full() {
            let rng = rng.fork("super-seed", 0);
            swarm.super_seed = Some(SuperSeed::new(swarm.have.len(), now, rng));
        }
        swarm
    }

    /// Takes in what the pieces are, and which of them are here.
    pub(crate) fn install(&mut self, init: SwarmInit, now: Instant) {
        let pieces = init.geometry.piece_count();
        assert_eq!(
            init.have.len(),
            pieces,
            "the disk speaks of another torrent"
        );
        assert_eq!(
            init.wanted.len(),
            pieces,
            "the selection is of another torrent"
        );
        self.geometry = init.geometry;
        self.private = init.private;
        self.have = init.have;
        self.web = WebSeeds::new(init.web, now);
        self.files = init.files;
        self.picker = Picker::new(pieces, &self.rng);
        self.assembly = Assembly::new(init.geometry);
        for piece in init.high {
            self.picker.availability.set_high(piece, true);
        }
        for (piece, blocks) in init.partial {
            let open = self.assembly.is_open(piece) || self.have.get(piece);
            if init.geometry.piece(piece.get()).is_some() && !open {
                self.assembly.open_partial(piece, &blocks, now);
            }
        }
        self.apply_wanted(&init.wanted);
        let missing = |file: &FilePieces| {
            let pieces = file.pieces.clone().map(PieceIndex::new);
            pieces.filter(|piece| !self.have.get(*piece)).count() as u32
        };
        self.file_left = self.files.iter().map(missing).collect();
    }

    /// What has to be said or done at once when the torrent starts.
    pub fn start(&mut self, now: Instant, out: &mut Outbox<B>) {
        if !self.metadata.is_known() {
            return;
        }
        let pieces: Vec<_> = self.assembly.iter().map(|(piece, _)| piece).collect();
        for piece in pieces {
            self.verify_if_on_disk(piece, out);
        }
        if self.left == 0 {
            self.complete(now, out);
        }
    }

    // ---- peers

    /// Where peers outside reach us, and our node of the DHT, from now on; 0 for nowhere.
    pub fn set_public_ports(&mut self, port: u16, dht_port: u16) {
        (self.config.public_port, self.config.dht_port) = (port, dht_port);
    }

    /// Whether anybody at that address would be spoken to at all.
    #[must_use]
    pub fn is_banned(&self, ip: IpAddr) -> bool {
        self.blame.is_banned_address(ip)
    }

    /// A handshake is through. The peer must have been admitted by [`Self::admits`].
    pub fn add_peer(&mut self, now: Instant, new: NewPeer, out: &mut Outbox<B>) -> PeerKey {
        debug_assert!(self.admits(new.addr, new.id).is_ok());
        if new.dialled {
            self.dialer.connected(new.addr, now);
        }
        let pieces = self.geometry.piece_count();
        let key = self
            .peers
            .insert(Peer::new(new, pieces, self.have_log.len(), now));
        self.greet(key, out);
        key
    }

    /// The peer, to hear what it said.
    pub fn peer<'a>(
        &'a mut self,
        now: Instant,
        key: PeerKey,
        bufs: &'a mut dyn BufSource<B>,
        out: &'a mut Outbox<B>,
    ) -> PeerCx<'a, B> {
        if let Some(peer) = self.peers.get_mut(key) {
            peer.heard = now;
        }
        PeerCx {
            swarm: self,
            key,
            now,
            bufs,
            out,
            fault: None,
            starved: false,
        }
    }

    /// How many bytes of the peer should have come before they are worth a turn; 1 where each is.
    pub fn read_goal(&mut self, now: Instant, key: PeerKey) -> usize {
        let peer = self.peers.get_mut(key);
        peer.map_or(1, |peer| {
            peer.requests.read_goal(peer.down.at_best(now), now)
        })
    }

    /// The blocks that the peer is likely to send next, `due` being the one that is arriving: as many as may
    /// have come by its next turn, and none of a slow one.
    pub fn expected(&self, key: PeerKey, due: Option<RawBlock>) -> impl Iterator<Item = RawBlock> {
        let peer = self.peers.get(key).into_iter();
        peer.flat_map(move |peer| peer.requests.expected(due))
    }

    /// The connection is gone, for whatever reason.
    pub fn handle_peer_closed(
        &mut self,
        now: Instant,
        key: PeerKey,
        why: CloseReason,
        bufs: &mut dyn BufSource<B>,
        out: &mut Outbox<B>,
    ) {
        self.release_requests(now, key);
        let Some(mut peer) = self.peers.remove(key) else {
            return;
        };
        if let Metadata::Wanted(fetch) = &mut self.metadata {
            fetch.gone(key);
        }
        peer.upload.retain(|_| false, |_| {}, |buf| bufs.put(buf));
        if let (Some(state), Some(revealed)) = (&mut self.super_seed, &peer.revealed) {
            state.gone(revealed);
        }
        if peer.seed {
            self.picker.availability.sub_seed();
        } else {
            self.picker.availability.sub_all(&peer.have);
        }
        self.blame.remember(key, peer.addr, peer.id);
        let mut crossed = peer.crossed;
        for (_, other) in self.peers.iter_mut() {
            if other.is_reverse_of(peer.addr, peer.dialled) {
                crossed = true;
                other.crossed = true;
            }
        }
        let how = match why {
            CloseReason::Misbehaved(Misbehaved::BadBlock | Misbehaved::BadMetadata) => {
                Parted::Never
            }
            CloseReason::Misbehaved(_) => Parted::Misbehaved,
            CloseReason::Incompatible(Incompatible::OwnId | Incompatible::Banned) => Parted::Never,
            CloseReason::Incompatible(_) => Parted::Failed,
            // The line to it may have been cut: that says nothing of its use.
            CloseReason::Idle(Idle::Silent) => Parted::Left,
            CloseReason::Redundant | CloseReason::Idle(_) => Parted::Useless,
            CloseReason::Transport if crossed && peer.came_to_nothing(now) => Parted::AtOnce,
            CloseReason::Duplicate | CloseReason::Local | CloseReason::Transport => Parted::Left,
        };
        if let Some(addr) = peer
            .dialled
            .then_some(peer.addr)
            .or_else(|| peer.listen_addr())
        {
            if !peer.dialled && how != Parted::Never {
                self.dialer.add(addr, now);
            }
            self.dialer.parted(addr, how, now);
        }
        // What it owed is asked of others at the next tick, for all who left until then.
        out.push(Action::BufsFree);
    }

    /// A dialled connection ended before it became a peer.
    pub fn handle_dial_failed(&mut self, now: Instant, addr: SocketAddr, why: CloseReason) {
        let how = match why {
            CloseReason::Incompatible(Incompatible::OwnId | Incompatible::Banned) => Parted::Never,
            CloseReason::Duplicate | CloseReason::Local => Parted::Left,
            CloseReason::Misbehaved(_)
            | CloseReason::Incompatible(_)
            | CloseReason::Redundant
            | CloseReason::Idle(_)
            | CloseReason::Transport => Parted::Failed,
        };
        if how == Parted::Failed && why != CloseReason::Transport {
            self.note_failure(addr, why);
        }
        let connected = |peer: &Peer<B>| peer.listen_addr() == Some(addr);
        if how != Parted::Never && self.peers.values().any(connected) {
            // It dialled us meanwhile.
            self.dialer.connected(addr, now);
        } else {
            self.dialer.parted(addr, how, now);
        }
    }

    /// A connection did not become a peer of this torrent.
    pub fn note_failure(&mut self, addr: SocketAddr, why: CloseReason) {
        self.dialer.last_failure = Some((addr, why));
    }

    /// Whether to greet that candidate in plaintext, because it did not take to an encrypted handshake.
    #[must_use]
    pub fn greets_in_plaintext(&self, addr: &SocketAddr) -> bool {
        self.dialer.is_plain(addr)
    }

    /// What was learned of that candidate; see [`Self::greets_in_plaintext`].
    pub fn set_greets_in_plaintext(&mut self, addr: &SocketAddr, plain: bool) {
        self.dialer.set_plain(addr, plain);
    }

    /// A tracker tells of an address.
    pub fn add_candidate(&mut self, now: Instant, addr: SocketAddr) {
        if !self.blame.is_banned_address(addr.ip()) {
            self.dialer.add(addr, now);
        }
    }

    /// The user names an address: it is tried sooner, and never given up.
    pub fn name_candidate(&mut self, now: Instant, addr: SocketAddr) {
        if !self.blame.is_banned_address(addr.ip()) {
            self.dialer.name(addr, now);
        }
    }

    /// Ends the connection with a peer from our side.
    pub(crate) fn part(
        &mut self,
        now: Instant,
        key: PeerKey,
        why: CloseReason,
        bufs: &mut dyn BufSource<B>,
        out: &mut Outbox<B>,
    ) {
        if let Some(conn) = self.peers.get(key).map(|peer| peer.conn) {
            self.handle_peer_closed(now, key, why, bufs, out);
            out.push(Action::Close { conn, why });
        }
    }

    /// A peer says what it has, in its first message.
    pub(crate) fn set_peer_have(&mut self, key: PeerKey, have: Bitfield) {
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        debug_assert!(peer.have.is_empty() && !peer.seed);
        peer.seed = have.is_full();
        if peer.seed {
            self.picker.availability.add_seed();
        } else {
            self.picker.availability.add_all(&have);
        }
        peer.have = have;
        peer.interesting = count_wanted(&self.wanted, &self.have, &peer.have);
    }

    /// Its last `have` made it complete: it counts as one seed instead of piece by piece.
    pub(crate) fn peer_became_seed(&mut self, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        peer.seed = true;
        self.picker.availability.sub_all(&peer.have);
        self.picker.availability.add_seed();
    }

    // ---- pieces

    /// Whether the piece is still to be fetched.
    pub(crate) fn wants(&self, piece: PieceIndex) -> bool {
        self.wanted.get(piece) && !self.have.get(piece)
    }

    /// Which pieces are to be fetched from now on.
    pub fn set_wanted(&mut self, now: Instant, wanted: &Bitfield, out: &mut Outbox<B>) {
        if !self.metadata.is_known() {
            return;
        }
        let was_complete = self.left == 0;
        self.apply_wanted(wanted);
        let keys: Vec<_> = self.peers.keys().collect();
        for key in keys {
            if let Some(peer) = self.peers.get_mut(key) {
                peer.interesting = count_wanted(&self.wanted, &self.have, &peer.have);
            }
            self.tell_interest(now, key, out);
            self.fill_requests(now, key, out);
        }
        if self.left == 0 && !was_complete {
            self.complete(now, out);
        }
        if self.left > 0 && was_complete {
            self.dialer.reconsider(now);
            self.tell_upload_only(out);
        }
    }

    fn apply_wanted(&mut self, wanted: &Bitfield) {
        self.unreserve_all();
        self.wanted = wanted.clone();
        self.left = wanted.iter_and_not(&self.have).count() as u32;
        for piece in self.geometry.pieces() {
            if self.wants(piece) && !self.assembly.is_open(piece) {
                self.picker.availability.insert(piece);
            } else {
                self.picker.availability.remove(piece);
            }
        }
    }

    pub(crate) fn verify_if_on_disk(&mut self, piece: PieceIndex, out: &mut Outbox<B>) {
        if self.assembly.begin_verify(piece) {
            let digests = self.blame.is_suspect(piece);
            self.job(Job::Verify, DiskTask::Verify { piece, digests }, out);
        }
    }

    /// Writes what is in memory of an unfinished piece.
    pub(crate) fn spill(&mut self, piece: PieceIndex, out: &mut Outbox<B>) -> bool {
        let blocks = self.assembly.spill(piece);
        let any = !blocks.is_empty();
        if any {
            self.job(Job::Spill, DiskTask::Spill { blocks }, out);
        }
        any
    }

    /// Whether a piece takes more than [`LARGE`] of the memory for unfinished ones. Such pieces are spilled as they come in,
    /// and read again for their hash.
    pub(crate) fn has_large_pieces(&self) -> bool {
        let (more, than) = LARGE;
        self.geometry.block_count_max() as usize * than > self.config.assembly_blocks * more
    }

    pub(crate) fn spill_if_large(&mut self, piece: PieceIndex, out: &mut Outbox<B>) {
        if self.has_large_pieces()
            && self
                .assembly
                .get(piece)
                .is_some_and(|open| open.here() >= SPILL_BLOCKS)
        {
            self.spill(piece, out);
        }
    }

    /// No buffer is free and no job will bring one back: writes the unfinished piece that holds most.
    /// False where nothing can be spilled.
    pub fn spill_largest(&mut self, out: &mut Outbox<B>) -> bool {
        if self.commit_closing(out) {
            return true;
        }
        let filling = self
            .assembly
            .iter()
            .filter(|(_, open)| open.stage == Stage::Filling);
        let largest = filling
            .max_by_key(|(_, open)| open.here())
            .map(|(piece, _)| piece);
        largest.is_some_and(|piece| self.spill(piece, out))
    }

    /// Hands a job to the disk.
    pub(crate) fn job(&mut self, job: Job, task: DiskTask<B>, out: &mut Outbox<B>) {
        let id = JobId(self.jobs.insert(job).unique());
        out.push(Action::Disk { job: id, task });
    }

    /// Everything wanted is here: says so, and has it made durable.
    pub(crate) fn complete(&mut self, now: Instant, out: &mut Outbox<B>) {
        out.push(Action::Tell(Notice::Complete));
        self.tell_upload_only(out);
        self.dialer.defer_givers(now);
        self.job(Job::Sync, DiskTask::Sync, out);
    }

    // ---- the end

    /// Stops: no more peers, unfinished pieces to the disk, then the storage is let go of. The notice
    /// [`Notice::Stopped`] comes when all is answered.
    pub fn stop(&mut self, now: Instant, bufs: &mut dyn BufSource<B>, out: &mut Outbox<B>) {
        if matches!(self.phase, Phase::Stopping | Phase::Stopped) {
            return;
        }
        let failed = matches!(self.phase, Phase::Failed | Phase::Halted);
        if !failed {
            self.commit_closing(out);
        }
        self.phase = Phase::Stopping;
        self.part_all(now, bufs, out);
        self.end_fetches(bufs, out);
        let pieces: Vec<_> = self.assembly.iter().map(|(piece, _)| piece).collect();
        if !failed {
            for piece in pieces {
                self.spill(piece, out);
            }
        }
        self.close_if_idle(out);
    }

    pub(crate) fn part_all(
        &mut self,
        now: Instant,
        bufs: &mut dyn BufSource<B>,
        out: &mut Outbox<B>,
    ) {
        let keys: Vec<_> = self.peers.keys().collect();
        for key in keys {
            self.part(now, key, CloseReason::Local, bufs, out);
        }
    }

    /// The last job before the storage is let go of.
    pub(crate) fn close_if_idle(&mut self, out: &mut Outbox<B>) {
        if self.phase != Phase::Stopping || !self.jobs.is_empty() {
            return;
        }
        if self.metadata.is_known() {
            self.job(Job::Close, DiskTask::Close, out);
        } else {
            // No storage was opened.
            self.phase = Phase::Stopped;
            out.push(Action::Tell(Notice::Stopped));
        }
    }

    // ---- getters

    #[must_use]
    pub fn info_hash(&self) -> InfoHash {
        self.info_hash
    }

    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    #[must_use]
    pub fn have(&self) -> &Bitfield {
        &self.have
    }

    /// Everything wanted is verified.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.left == 0 && self.metadata.is_known()
    }

    /// BEP 27, as far as is known.
    #[must_use]
    pub fn is_private(&self) -> bool {
        self.private
    }

    /// Whether something is wanted and there is no peer to ask for it.
    #[must_use]
    pub fn is_forlorn(&self) -> bool {
        self.phase == Phase::Active && !self.is_complete() && self.peers.is_empty()
    }

    /// Whether blocks are asked for.
    #[must_use]
    pub fn is_downloading(&self) -> bool {
        self.phase == Phase::Active && self.left > 0
    }

    pub(crate) fn may_upload(&self) -> bool {
        self.config.upload && self.phase == Phase::Active
    }

    /// Whether an answer is due that brings buffers back.
    #[must_use]
    pub fn has_jobs(&self) -> bool {
        !self.jobs.is_empty()
    }

    /// Blocks of unfinished pieces in memory.
    #[must_use]
    pub fn blocks_here(&self) -> usize {
        self.assembly.here()
    }

    /// The same, with those that are at the disk.
    #[must_use]
    pub fn assembly_memory(&self) -> usize {
        self.assembly.memory()
    }

    /// How many blocks its unfinished pieces may hold from now on, since others hold some too. What is there
    /// already stays.
    pub fn set_assembly_room(&mut self, blocks: usize) {
        self.assembly_room = blocks.min(self.config.assembly_blocks);
    }
}

fn count_wanted(wanted: &Bitfield, have: &Bitfield, theirs: &Bitfield) -> u32 {
    let new = theirs.iter_and_not(have);
    new.filter(|piece| wanted.get(*piece)).count() as u32
}
