//! What a peer says, and what follows from it.

use std::ops::ControlFlow;
use std::time::Duration;

use torr_base::{BLOCK_LEN, Bitfield, Block, Instant, PieceIndex, RawBlock};
use torr_store::BufSource;
use torr_wire::{Landing, Message, WireSink};

use crate::action::{CloseReason, Misbehaved, Outbox, PeerKey};
use crate::assembly::Placed;
use crate::peer::requests::Arrival;
use crate::peer::upload::{Cancelled, REQUESTS_MAX};
use crate::swarm::Swarm;

/// BEP 6: how many requests in a minute a choked peer may send.
const CHOKED_REQUESTS_MAX: u32 = 50;
const MINUTE: Duration = Duration::from_secs(60);
/// Pieces that a peer may offer as allowed fast; more are ignored.
pub(super) const ALLOWED_FAST_MAX: usize = 64;
/// `have`s beyond twice the number of pieces and this are a flood.
const HAVES_FREE: u32 = 1_000;
/// Cancels and rejects beyond those that requests of either side account for.
pub(crate) const VAIN_MAX: u32 = 5_000;
/// Control bytes that may wait for a peer that keeps talking and does not read.
const OUT_MAX: usize = 256 * 1024;

/// One peer, lent to its reader: hears its messages and takes its blocks.
pub struct PeerCx<'a, B> {
    pub(crate) swarm: &'a mut Swarm<B>,
    pub(crate) key: PeerKey,
    pub(crate) now: Instant,
    pub(crate) bufs: &'a mut dyn BufSource<B>,
    pub(crate) out: &'a mut Outbox<B>,
    pub(crate) fault: Option<Misbehaved>,
    pub(crate) starved: bool,
}

impl<B> std::fmt::Debug for PeerCx<'_, B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerCx")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl<B> WireSink<B> for PeerCx<'_, B> {
    fn begin_block(&mut self, raw: RawBlock, ready: Option<B>) -> Landing<B> {
        if !self.is_wanted(raw) {
            ready.into_iter().for_each(|buf| self.bufs.put(buf));
            return Landing::Discard;
        }
        match ready.or_else(|| self.bufs.take()) {
            Some(buf) => Landing::Into(buf),
            None => {
                self.starved = true;
                Landing::Wait
            }
        }
    }

    fn end_block(&mut self, raw: RawBlock, buf: B) -> ControlFlow<()> {
        let Some(block) = self.swarm.geometry.block(raw) else {
            self.bufs.put(buf);
            return self.misbehaved(Misbehaved::BlockOutOfRange);
        };
        self.block(block, buf);
        ControlFlow::Continue(())
    }

    fn message(&mut self, message: Message<'_>) -> ControlFlow<()> {
        if self.fault.is_some() {
            return ControlFlow::Break(());
        }
        match self.handle(message) {
            Ok(()) => ControlFlow::Continue(()),
            Err(why) => self.misbehaved(why),
        }
    }

    fn spare(&mut self, buf: B) {
        self.bufs.put(buf);
    }
}

impl<B> PeerCx<'_, B> {
    /// What the peer did wrong, if it did: its connection must end.
    #[must_use]
    pub fn fault(&self) -> Option<CloseReason> {
        self.fault.map(CloseReason::Misbehaved)
    }

    /// Whether a block waits for a buffer.
    #[must_use]
    pub fn is_starved(&self) -> bool {
        self.starved
    }

    /// To be called when everything that arrived is heard: asks for more.
    pub fn finish(self) {
        if self.fault.is_none() {
            let Self {
                swarm,
                key,
                now,
                out,
                ..
            } = self;
            swarm.fill_requests(now, key, out);
        }
    }

    fn misbehaved(&mut self, why: Misbehaved) -> ControlFlow<()> {
        self.fault = Some(why);
        ControlFlow::Break(())
    }

    fn handle(&mut self, message: Message<'_>) -> Result<(), Misbehaved> {
        let Some(peer) = self.swarm.peers.get_mut(self.key) else {
            return Ok(());
        };
        peer.heard = self.now;
        // Our own bitfield may be longer than that.
        let greeting = self.swarm.geometry.piece_count() as usize / 8;
        if peer.out.len() > OUT_MAX + greeting {
            return Err(Misbehaved::RequestFlood);
        }
        let first = !peer.spoke;
        let fast = peer.fast;
        // BEP 10 lets its handshake come at any time, also before the bitfield.
        if !matches!(
            message,
            Message::Extended { .. }
                | Message::KeepAlive
                | Message::Port(_)
                | Message::Unknown { .. }
        ) {
            peer.spoke = true;
        }
        let known = self.swarm.is_known();
        match message {
            Message::Port(port) => self.node_at(port),
            Message::KeepAlive | Message::Unknown { .. } => Ok(()),
            Message::Choke => self.choked(),
            Message::Unchoke => self.unchoked(),
            Message::Interested => self.interested(true),
            Message::NotInterested => self.interested(false),
            Message::Have(piece) if !known => self.early_have(piece),
            Message::Have(piece) => self.have(piece),
            Message::HaveAll | Message::HaveNone if !first => Err(Misbehaved::LateBitfield),
            Message::HaveAll
            | Message::HaveNone
            | Message::Suggest(_)
            | Message::Reject(_)
            | Message::AllowedFast(_)
                if !fast =>
            {
                Err(Misbehaved::FastNotAgreed)
            }
            Message::Bitfield(bytes) if !known => self.early_bits(bytes, 0, true),
            Message::Bitfield(bytes) if !first => self.late_bitfield(bytes),
            Message::Bitfield(bytes) => {
                let pieces = self.swarm.geometry.piece_count();
                let field = Bitfield::from_bytes(bytes, pieces);
                self.swarm
                    .set_peer_have(self.key, field.map_err(|_| Misbehaved::Bitfield)?);
                self.interest_changed()
            }
            Message::Request(range) if !known => self.refuse(range),
            Message::Request(range) => self.request(range),
            Message::Cancel(range) => self.cancel(range),
            Message::Extended { id, payload } => self.extended(id, payload),
            Message::HaveAll if !known => self.early_all(),
            Message::HaveAll => {
                let pieces = self.swarm.geometry.piece_count();
                self.swarm.set_peer_have(self.key, Bitfield::full(pieces));
                self.interest_changed()
            }
            Message::HaveNone => Ok(()),
            Message::Suggest(_) if !known => Ok(()),
            Message::Suggest(piece) => self.piece(piece).map(|_| ()),
            Message::Reject(_) if !known => self.early_reject(),
            Message::Reject(range) => self.rejected(range),
            Message::AllowedFast(piece) if !known => self.early_fast(piece),
            Message::AllowedFast(piece) => self.allowed_fast(piece),
        }
    }

    fn piece(&self, raw: u32) -> Result<PieceIndex, Misbehaved> {
        self.swarm
            .geometry
            .piece(raw)
            .ok_or(Misbehaved::PieceOutOfRange)
    }

    pub(super) fn choked(&mut self) -> Result<(), Misbehaved> {
        let Some(peer) = self.swarm.peers.get_mut(self.key) else {
            return Ok(());
        };
        peer.chokes_us = true;
        peer.requests.restart();
        if !peer.fast {
            // BEP 3: a choke drops every request. With BEP 6 each is answered by a reject.
            self.swarm.release_requests(self.now, self.key);
        }
        self.swarm.tell_interest(self.now, self.key, self.out);
        Ok(())
    }

    pub(super) fn unchoked(&mut self) -> Result<(), Misbehaved> {
        if let Some(peer) = self.swarm.peers.get_mut(self.key) {
            peer.chokes_us = false;
            peer.barren_at = None;
            peer.wanting_since = None;
        }
        Ok(())
    }

    pub(super) fn interested(&mut self, interested: bool) -> Result<(), Misbehaved> {
        let Some(peer) = self.swarm.peers.get_mut(self.key) else {
            return Ok(());
        };
        let news = peer.interested_in_us != interested;
        peer.interested_in_us = interested;
        if interested && news {
            // The last word counts, whatever it said before (BEP 21).
            self.upload_only(false);
            self.swarm.choke_newcomer(self.now, self.key, self.out);
        }
        Ok(())
    }

    fn have(&mut self, raw: u32) -> Result<(), Misbehaved> {
        let piece = self.piece(raw)?;
        let wanted = self.swarm.wants(piece);
        let Some(peer) = self.swarm.peers.get_mut(self.key) else {
            return Ok(());
        };
        peer.haves_heard += 1;
        if peer.haves_heard > 2 * self.swarm.geometry.piece_count() + HAVES_FREE {
            return Err(Misbehaved::HaveFlood);
        }
        if peer.seed || !peer.have.set(piece) {
            return Ok(());
        }
        peer.barren_at = None;
        self.swarm.picker.availability.add(piece);
        if wanted {
            peer.interesting += 1;
        }
        if peer.have.is_full() {
            self.swarm.peer_became_seed(self.key);
        }
        self.interest_changed()
    }

    /// One more message about what it has.
    pub(crate) fn count_have(&mut self, pieces: u32) -> Result<(), Misbehaved> {
        let Some(peer) = self.swarm.peers.get_mut(self.key) else {
            return Ok(());
        };
        peer.haves_heard += 1;
        match peer.haves_heard > 2 * pieces + HAVES_FREE {
            true => Err(Misbehaved::HaveFlood),
            false => Ok(()),
        }
    }

    /// BEP 3 wants it first, but aria2 sends one in mid-stream where that is shorter than its `have`s.
    /// It says what they would: pieces are added, none is taken back.
    fn late_bitfield(&mut self, bytes: &[u8]) -> Result<(), Misbehaved> {
        let pieces = self.swarm.geometry.piece_count();
        let field = Bitfield::from_bytes(bytes, pieces).map_err(|_| Misbehaved::Bitfield)?;
        let Some(peer) = self.swarm.peers.get_mut(self.key) else {
            return Ok(());
        };
        peer.haves_heard += 1;
        if peer.haves_heard > 2 * pieces + HAVES_FREE {
            return Err(Misbehaved::HaveFlood);
        }
        let new: Vec<PieceIndex> = field.iter_and_not(&peer.have).collect();
        new.into_iter().try_for_each(|piece| self.have(piece.get()))
    }

    fn interest_changed(&mut self) -> Result<(), Misbehaved> {
        self.swarm.tell_interest(self.now, self.key, self.out);
        Ok(())
    }

    fn request(&mut self, range: RawBlock) -> Result<(), Misbehaved> {
        let piece = self
            .piece(range.piece)
            .map_err(|_| Misbehaved::RequestOutOfRange)?;
        if !self.swarm.geometry.contains(range, BLOCK_LEN) {
            return Err(Misbehaved::RequestOutOfRange);
        }
        let has = self.swarm.have.get(piece) && self.swarm.may_upload();
        let idle = self.swarm.has_free_slot();
        let Some(peer) = self.swarm.peers.get_mut(self.key) else {
            return Ok(());
        };
        let has = has && peer.was_told(piece);
        let fast_piece = peer.fast && peer.fast_for_it.contains(&piece);
        if has && peer.choked_by_us && fast_piece && !idle {
            // A slow seed that gave ten pieces to each of fifty choked peers would have none of them
            // complete for minutes.
            peer.send(Message::Reject(range), self.out);
            return Ok(());
        }
        if !has || (peer.choked_by_us && !fast_piece) {
            return self.refuse(range);
        }
        match peer.upload.push(range) {
            Ok(_) => {
                // It may be taken back once.
                peer.vain = peer.vain.saturating_sub(1);
                peer.wake(self.out);
                Ok(())
            }
            Err(()) => Err(Misbehaved::RequestFlood),
        }
    }

    /// It asks for what it may not have, or what is not here.
    pub(super) fn refuse(&mut self, range: RawBlock) -> Result<(), Misbehaved> {
        let Some(peer) = self.swarm.peers.get_mut(self.key) else {
            return Ok(());
        };
        if self.now.since(peer.choked_minute) >= MINUTE {
            peer.choked_minute = self.now;
            peer.choked_requests = 0;
        }
        // Requests that crossed our choke on the way are forgiven: up to what was allowed.
        let crossed = peer
            .choked_at
            .is_some_and(|at| self.now.since(at) < Duration::from_secs(10));
        let forgiven = if crossed { REQUESTS_MAX as u32 } else { 0 };
        peer.choked_requests += 1;
        if peer.choked_requests > CHOKED_REQUESTS_MAX + forgiven {
            return Err(Misbehaved::RequestsWhileChoked);
        }
        if peer.fast {
            peer.send(Message::Reject(range), self.out);
        }
        Ok(())
    }

    pub(super) fn cancel(&mut self, range: RawBlock) -> Result<(), Misbehaved> {
        let Some(peer) = self.swarm.peers.get_mut(self.key) else {
            return Ok(());
        };
        peer.vain += 1;
        if peer.vain > VAIN_MAX {
            return Err(Misbehaved::CancelFlood);
        }
        let found = match peer.upload.cancel(range) {
            Cancelled::Ready(buf) => {
                self.bufs.put(buf);
                true
            }
            Cancelled::Queued | Cancelled::Loading => true,
            Cancelled::Unknown => false,
        };
        if found && peer.fast {
            // BEP 6: a cancelled request is still answered.
            peer.send(Message::Reject(range), self.out);
        }
        Ok(())
    }

    fn rejected(&mut self, range: RawBlock) -> Result<(), Misbehaved> {
        let block = self
            .swarm
            .geometry
            .block(range)
            .ok_or(Misbehaved::BlockOutOfRange)?;
        let Some(peer) = self.swarm.peers.get_mut(self.key) else {
            return Ok(());
        };
        match peer.requests.reject(block, self.now) {
            Arrival::NeverAsked => {
                peer.vain += 1;
                if peer.vain > VAIN_MAX {
                    return Err(Misbehaved::CancelFlood);
                }
            }
            Arrival::Late => {}
            Arrival::Asked => {
                // A piece that it rejects while choked is no longer allowed fast.
                if peer.chokes_us {
                    peer.fast_for_us.retain(|piece| *piece != block.piece);
                } else {
                    peer.reject(block.piece, self.now);
                }
                self.swarm.disown(self.key.into(), block.piece);
                self.swarm.release_request(block);
            }
        }
        Ok(())
    }

    fn allowed_fast(&mut self, raw: u32) -> Result<(), Misbehaved> {
        let piece = self.piece(raw)?;
        let Some(peer) = self.swarm.peers.get_mut(self.key) else {
            return Ok(());
        };
        if peer.fast_for_us.len() < ALLOWED_FAST_MAX && !peer.fast_for_us.contains(&piece) {
            peer.fast_for_us.push(piece);
            peer.barren_at = None;
        }
        Ok(())
    }

    /// Whether a block that begins to arrive is of use.
    fn is_wanted(&mut self, raw: RawBlock) -> bool {
        let Some(block) = self.swarm.geometry.block(raw) else {
            self.fault = Some(Misbehaved::BlockOutOfRange);
            return false;
        };
        let Some(peer) = self.swarm.peers.get(self.key) else {
            return false;
        };
        let arrival = peer.requests.arrival(block);
        if arrival == Arrival::NeverAsked {
            self.fault = Some(Misbehaved::Unrequested);
            return false;
        }
        let asked = arrival == Arrival::Asked;
        let wanted = self.swarm.assembly.wants(block, self.key.into(), asked);
        if !wanted {
            // It came from somebody else, or its piece is done or left to somebody else: skip it, and
            // settle the request now.
            self.settle(block);
        }
        wanted
    }

    /// The request for a block that will not be used is answered.
    fn settle(&mut self, block: Block) {
        let Some(arrival) = self.arrived(block) else {
            return;
        };
        if arrival == Arrival::Asked {
            self.swarm.release_request(block);
        }
        self.swarm.wasted += u64::from(block.len);
    }

    /// Counts a block, of use or not; what it is to the requests of its peer, if that is still known.
    fn arrived(&mut self, block: Block) -> Option<Arrival> {
        let swarm = &mut *self.swarm;
        let peer = swarm.peers.get_mut(self.key)?;
        peer.brought(block.len, self.now);
        swarm.downloaded += u64::from(block.len);
        let arrival = peer.requests.complete(block, self.now);
        if arrival == Arrival::Asked {
            let took = peer.requests.took();
            swarm.block_took(took);
        }
        Some(arrival)
    }

    /// A block is here, whole.
    fn block(&mut self, block: Block, buf: B) {
        let Some(arrival) = self.arrived(block) else {
            self.bufs.put(buf);
            return;
        };
        let swarm = &mut *self.swarm;
        let askers = swarm.assembly.asked(block);
        let others = askers > u8::from(arrival == Arrival::Asked);
        match swarm.assembly.place(block, buf, self.key.into(), self.now) {
            Placed::Unwanted(buf) => {
                swarm.wasted += u64::from(block.len);
                self.bufs.put(buf);
                return;
            }
            Placed::Kept => {
                swarm.spill_if_large(block.piece, self.out);
                swarm.hash_ahead(self.out);
            }
            Placed::Last => swarm.close_piece(self.now, block.piece, self.out),
        }
        if others {
            swarm.cancel_at_others(self.now, block, self.key.into(), self.out);
        }
    }
}
