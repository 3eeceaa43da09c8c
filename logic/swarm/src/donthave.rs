//! `lt_donthave` (BEP 54): a `have` is taken back, by a peer or by us.

use torr_base::{Bitfield, PieceIndex};
use torr_wire::{Extension, Message};

use crate::action::{Misbehaved, Outbox};
use crate::peer::{Peer, PeerCx, VAIN_MAX};

/// What a seed that is none any more costs of what a peer may do in vain: a hundred times is too often.
const SEED_NO_MORE: u32 = VAIN_MAX / 100;

impl<B> PeerCx<'_, B> {
    /// A peer lost a piece.
    pub(crate) fn dont_have(&mut self, payload: &[u8]) -> Result<(), Misbehaved> {
        let raw = payload.try_into().map_err(|_| Misbehaved::Malformed)?;
        let raw = u32::from_be_bytes(raw);
        if !self.swarm.is_known() {
            return self.early_dont_have(raw);
        }
        let geometry = self.swarm.geometry;
        let piece = geometry.piece(raw).ok_or(Misbehaved::PieceOutOfRange)?;
        let wanted = self.swarm.wants(piece);
        self.count_have(geometry.piece_count())?;
        let swarm = &mut *self.swarm;
        let Some(peer) = swarm.peers.get_mut(self.key) else {
            return Ok(());
        };
        if std::mem::take(&mut peer.seed) {
            // Each time costs a look at every piece.
            peer.vain += SEED_NO_MORE;
            if peer.vain > VAIN_MAX {
                return Err(Misbehaved::HaveFlood);
            }
            swarm.picker.availability.sub_seed();
            let all = Bitfield::full(geometry.piece_count());
            swarm.picker.availability.add_all(&all);
        }
        if !peer.have.clear(piece) {
            return Ok(());
        }
        swarm.picker.availability.sub(piece);
        peer.barren_at = None;
        peer.fast_for_us.retain(|fast| *fast != piece);
        if wanted {
            peer.interesting -= 1;
        }
        // They will not come; if they do after all, they are late and no lie.
        let owed = peer.requests.blocks().filter(|block| block.piece == piece);
        let owed: Vec<_> = owed.collect();
        peer.turns.remove(piece);
        for block in &owed {
            peer.requests.cancel(*block, self.now);
        }
        for block in owed {
            swarm.release_request(block);
        }
        swarm.disown(self.key.into(), piece);
        swarm.tell_interest(self.now, self.key, self.out);
        Ok(())
    }
}

impl<B> Peer<B> {
    /// Takes a `have` back; false where the peer does not understand that.
    pub(crate) fn take_back(&mut self, piece: PieceIndex, out: &mut Outbox<B>) -> bool {
        let Some(id) = self.extensions.get(Extension::DontHave) else {
            return false;
        };
        let payload = &piece.get().to_be_bytes();
        self.send(Message::Extended { id, payload }, out);
        true
    }
}
