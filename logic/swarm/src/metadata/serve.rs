//! Giving the metadata to others (BEP 9): a block at a time, within the limit of uploads, and to nobody
//! without end.

use std::collections::VecDeque;

use torr_base::BLOCK_LEN;
use torr_wire::{Extension, Message, MetadataMessage};

use crate::action::{Misbehaved, Outbox, PeerKey};
use crate::swarm::Swarm;

/// Requests of one peer that wait; more are rejected.
const WAITING_MAX: usize = 64;
/// How often one peer may have the whole.
const TIMES_MAX: u32 = 3;
/// Requests beyond what that takes, all of them rejected, before it is let go.
const VAIN_MAX: u32 = 2_000;

/// What a peer asked of the metadata.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    waiting: VecDeque<u32>,
    taken: u32,
    refused: u32,
}

impl Asked {
    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }
}

impl<B> Swarm<B> {
    /// A peer asks for a block of it.
    pub(crate) fn metadata_requested(
        &mut self,
        key: PeerKey,
        block: u32,
        out: &mut Outbox<B>,
    ) -> Result<(), Misbehaved> {
        let blocks = self.metadata_size().unwrap_or(0).div_ceil(BLOCK_LEN);
        let Some(peer) = self.peers.get_mut(key) else {
            return Ok(());
        };
        let asked = &mut peer.metadata_asked;
        let gives = block < blocks
            && asked.waiting.len() < WAITING_MAX
            && asked.taken < blocks.saturating_mul(TIMES_MAX);
        if gives {
            asked.taken += 1;
            asked.waiting.push_back(block);
            peer.wake(out);
            return Ok(());
        }
        asked.refused += 1;
        if asked.refused > VAIN_MAX {
            return Err(Misbehaved::RequestFlood);
        }
        if let Some(id) = peer.extensions.get(Extension::Metadata) {
            let payload = MetadataMessage::Reject { block }.encode();
            let payload = &payload;
            peer.send(Message::Extended { id, payload }, out);
        }
        Ok(())
    }

    /// Appends the next block of metadata that the peer waits for; false where it waits for none.
    pub(crate) fn write_metadata(&mut self, key: PeerKey, control: &mut Vec<u8>) -> bool {
        let Some(bytes) = self.metadata.bytes() else {
            return false;
        };
        let Some(peer) = self.peers.get_mut(key) else {
            return false;
        };
        let Some(block) = peer.metadata_asked.waiting.pop_front() else {
            return false;
        };
        let Some(id) = peer.extensions.get(Extension::Metadata) else {
            return false;
        };
        let rest = bytes.chunks(BLOCK_LEN as usize).nth(block as usize);
        let data = MetadataMessage::Data {
            block,
            total: u32::try_from(bytes.len()).ok(),
            bytes: rest.unwrap_or_default(),
        };
        let payload = &data.encode();
        Message::Extended { id, payload }.write_to(control);
        true
    }
}
