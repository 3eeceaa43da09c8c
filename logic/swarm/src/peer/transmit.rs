//! What is written to a peer: control messages, haves, and blocks from wherever they can be had.
//!
//! A block is taken from memory if the disk brought it. For a fast peer it is read from the cache of the machine
//! with those that follow; else it is sent from its file, or read alone, or asked of the disk, where a run of
//! those that follow is asked for with it. So many requests cost twelve bytes each, and none of them a buffer
//! before it can be sent.

use torr_base::{BLOCK_LEN, Instant, PieceIndex, RawBlock};
use torr_store::{BufSource, DiskTask, FileSource, Found, Payload, StorageId};
use torr_wire::{Message, piece_header};

use crate::action::{Outbox, PeerKey};
use crate::peer::Peer;
use crate::swarm::{Job, Swarm};

/// Blocks in memory for a peer whose rate is not known.
const WINDOW_MIN: usize = 4;
/// Blocks that are read at one go: as many as the peer takes in this time, within these bounds.
const RUN_MILLIS: u64 = 50;
const RUN_MIN: usize = 4;
const RUN_MAX: u64 = 32;
/// Buffers that uploads leave for what comes in.
const RESERVE_IDLE: usize = 8;

/// What blocks that go out are taken from.
pub struct Sources<'a, B> {
    pub storage: StorageId,
    pub files: &'a mut dyn FileSource<B>,
    /// The connection can send from a file: nothing has to be done to the bytes on their way.
    pub takes_files: bool,
    pub bufs: &'a mut dyn BufSource<B>,
}

impl<B> std::fmt::Debug for Sources<'_, B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sources")
            .field("storage", &self.storage)
            .finish_non_exhaustive()
    }
}

impl<B> Swarm<B> {
    /// Appends what is to be written to the peer now to `control`. A block, if one is due and
    /// `may_upload`, is written after it: its header stands at the end of `control` already, and its
    /// payload is told. The caller gives the buffer back to the pool.
    pub fn poll_transmit(
        &mut self,
        now: Instant,
        key: PeerKey,
        may_upload: bool,
        control: &mut Vec<u8>,
        from: &mut Sources<'_, B>,
        out: &mut Outbox<B>,
    ) -> Option<(RawBlock, Payload<B>)> {
        let peer = self.peers.get_mut(key)?;
        peer.woken = false;
        let before = control.len();
        control.append(&mut peer.out);
        if !peer.upload_only {
            for piece in self.have_log.iter().skip(peer.haves_told) {
                // Who has the piece need not know that we have it too (BEP 3 leaves it open).
                if !peer.have.get(*piece) && self.have.get(*piece) {
                    Message::Have(piece.get()).write_to(control);
                }
            }
            peer.haves_told = self.have_log.len();
        }
        // A block of metadata is as long as one of the torrent: one of the two at a time.
        let block = if may_upload && !self.write_metadata(key, control) {
            self.block_for(now, key, from, out)
        } else {
            None
        };
        let peer = self.peers.get_mut(key)?;
        if let Some((range, _)) = &block {
            control.extend_from_slice(&piece_header(*range));
            peer.up.add(u64::from(range.len));
            peer.took = Some(now);
            self.uploaded += u64::from(range.len);
            let piece = PieceIndex::new(range.piece);
            peer.sent_of(piece, self.geometry.block_count(piece));
        }
        if control.len() > before {
            peer.spoken = now;
        }
        if let Some((range, _)) = &block {
            self.sent_of_revealed(key, PieceIndex::new(range.piece), now);
        }
        block
    }

    /// The next block that can be sent without waiting. What has to be waited for is asked for.
    fn block_for(
        &mut self,
        now: Instant,
        key: PeerKey,
        from: &mut Sources<'_, B>,
        out: &mut Outbox<B>,
    ) -> Option<(RawBlock, Payload<B>)> {
        let peer = self.peers.get_mut(key)?;
        if let Some((range, buf)) = peer.upload.next_ready() {
            self.load_ahead(key, from, out);
            return Some((range, Payload::Memory(buf)));
        }
        if peer.upload.loading() > 0 {
            // What comes after it would overtake it, and more often than not is as cold.
            self.load_ahead(key, from, out);
            return None;
        }
        if self.read_run(key, from) {
            let ready = self.peers.get_mut(key)?.upload.next_ready();
            return ready.map(|(range, buf)| (range, Payload::Memory(buf)));
        }
        let peer = self.peers.get_mut(key)?;
        let range = peer.upload.front()?;
        let found = from.files.look(from.storage, range);
        if found == Found::Sendable && from.takes_files {
            peer.upload.pop_front();
            peer.file_sent = Some(now);
            return Some((range, Payload::File));
        }
        if found != Found::Cold
            && from.bufs.free() > self.reserve_least(from.bufs)
            && let Some(mut buf) = from.bufs.take()
        {
            if from.files.read(from.storage, range, &mut buf) {
                let peer = self.peers.get_mut(key)?;
                peer.upload.pop_front();
                return Some((range, Payload::Memory(buf)));
            }
            from.bufs.put(buf);
        }
        self.load(key, range, from.bufs, out);
        self.load_ahead(key, from, out);
        None
    }

    /// Reads what a fast peer gets next out of the cache of the machine, as far as its requests follow on each
    /// other. Blocks that are read and written by the dozen cost half of what each costs that is sent from
    /// its file: the fewer the packets and the wake-ups, the less there is to do for each.
    fn read_run(&mut self, key: PeerKey, from: &mut Sources<'_, B>) -> bool {
        let free = from.bufs.free().saturating_sub(self.reserve(from.bufs));
        let Self {
            peers,
            run,
            geometry,
            ..
        } = self;
        let Some(peer) = peers.get_mut(key) else {
            return false;
        };
        let soon = peer.up.per_second() * RUN_MILLIS / 1_000 / u64::from(BLOCK_LEN);
        let most = (soon.min(RUN_MAX) as usize).min(free);
        let ranges = peer.upload.front_run(most, geometry);
        if ranges.len() < RUN_MIN {
            return false;
        }
        while run.len() < ranges.len() {
            let Some(buf) = from.bufs.take() else { break };
            run.push(buf);
        }
        let read = run.len() == ranges.len() && from.files.read_run(from.storage, ranges, run);
        if read {
            peer.upload.take_run(run);
        } else {
            run.drain(..).for_each(|buf| from.bufs.put(buf));
        }
        read
    }

    /// Buffers that stay for what comes in: half of them while anything does.
    fn reserve(&self, bufs: &dyn BufSource<B>) -> usize {
        if self.left > 0 {
            bufs.total() / 2
        } else {
            self.reserve_least(bufs)
        }
    }

    /// Asks the disk for the blocks that follow a cold one, as far as they are cold themselves.
    fn load_ahead(&mut self, key: PeerKey, from: &mut Sources<'_, B>, out: &mut Outbox<B>) {
        while let Some(range) = self.peers.get(key).and_then(|peer| peer.upload.front()) {
            let cold = from.files.look(from.storage, range) == Found::Cold;
            if !cold || !self.load(key, range, from.bufs, out) {
                return;
            }
        }
    }

    /// Buffers that stay for what comes in, whatever is asked of us.
    fn reserve_least(&self, bufs: &dyn BufSource<B>) -> usize {
        RESERVE_IDLE.min(bufs.total() / 4)
    }

    /// Asks the disk for the block that the peer shall get next; false where that has to wait.
    fn load(
        &mut self,
        key: PeerKey,
        next: RawBlock,
        bufs: &mut dyn BufSource<B>,
        out: &mut Outbox<B>,
    ) -> bool {
        let (least, most) = (self.reserve_least(bufs), self.reserve(bufs));
        let Some(peer) = self.peers.get_mut(key) else {
            return false;
        };
        let window = peer.up.per_second() / 2 / u64::from(BLOCK_LEN);
        let window = usize::try_from(window)
            .unwrap_or(usize::MAX)
            .max(WINDOW_MIN);
        let in_memory = peer.upload.loading() + peer.upload.ready();
        // While downloading, half of the memory is left to what comes in. Yet nobody gives to one who
        // gives nothing: a few blocks may always be on their way.
        let reserve = if in_memory >= WINDOW_MIN { most } else { least };
        if in_memory >= window || !peer.upload.wants_load() || bufs.free() <= reserve {
            return false;
        }
        let Some(buf) = bufs.take() else { return false };
        let Some(range) = peer.upload.next_load() else {
            bufs.put(buf);
            return false;
        };
        debug_assert_eq!(range, next, "loads are in the order of requests");
        self.job(Job::Load { peer: key }, DiskTask::Load { range, buf }, out);
        true
    }

    /// A block got out, and its buffer, if it had one, is back in the pool.
    pub fn handle_sent(&mut self, key: PeerKey, bufs: &mut dyn BufSource<B>, out: &mut Outbox<B>) {
        let leaves = |peer: &Peer<B>| peer.leaves.is_some() && peer.begun.is_empty();
        if self.peers.get(key).is_some_and(leaves) {
            self.choke(self.ticked, key, bufs, out);
        }
    }

    /// Whether a block for the peer is in memory already.
    #[must_use]
    pub fn has_ready_for(&self, key: PeerKey) -> bool {
        self.peers
            .get(key)
            .is_some_and(|peer| peer.upload.ready() > 0)
    }

    /// Whether the peer waits for a block that may be had, of the torrent or of its metadata.
    #[must_use]
    pub fn has_block_for(&self, key: PeerKey) -> bool {
        self.peers
            .get(key)
            .is_some_and(|peer| peer.upload.is_waiting() || peer.metadata_asked.is_waiting())
    }
}
