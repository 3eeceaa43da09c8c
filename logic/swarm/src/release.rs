//! What was asked of a peer, or left to it, is taken back.

use std::time::Duration;

use torr_base::{Block, Instant, PieceIndex};

use crate::action::{PeerKey, Source};
use crate::ask::{WHOLE_PIECE_SECS, brings_whole};
use crate::swarm::Swarm;

/// What a peer brings is known so long after it was first asked.
const RATE_KNOWN: Duration = Duration::from_secs(3);

impl<B> Swarm<B> {
    /// Takes back everything that the peer was asked for: it choked us, is too slow, or left.
    pub(crate) fn release_requests(&mut self, now: Instant, key: PeerKey) {
        let Self {
            peers, assembly, ..
        } = self;
        let Some(peer) = peers.get_mut(key) else {
            return;
        };
        peer.turns.clear();
        let mut empty = Vec::new();
        peer.requests.cancel_all(now, |block| {
            if assembly.release(block) {
                empty.push(block.piece);
            }
        });
        self.disown_all(key.into());
        empty.into_iter().for_each(|piece| self.abandon(piece));
    }

    /// Takes back one request.
    pub(crate) fn release_request(&mut self, block: Block) {
        if self.assembly.release(block) {
            self.abandon(block.piece);
        }
    }

    /// Closes a piece of which nothing is here or owed; it may be opened again.
    pub(crate) fn abandon(&mut self, piece: PieceIndex) {
        self.assembly.close(piece);
        if self.wants(piece) {
            self.picker.availability.insert(piece);
        }
    }

    /// Lets others help with the pieces that were left to that one.
    pub(crate) fn disown_all(&mut self, owner: Source) {
        for piece in self.assembly.owned_by(owner) {
            self.disown(owner, piece);
        }
    }

    /// Lets others help with what is left to peers that turn out to be slow.
    pub(crate) fn disown_slow(&mut self, now: Instant) {
        let slow = self.assembly.iter().filter_map(|(piece, open)| {
            let Some(Source::Peer(key)) = open.owner.filter(|_| !open.parole) else {
                return None;
            };
            let while_whole = match self.blame.suspects(key.into()) {
                true => Duration::from_secs(WHOLE_PIECE_SECS),
                false => RATE_KNOWN,
            };
            let late = now.since(open.opened) >= while_whole;
            let peer = self.peers.get(key).filter(|_| late)?;
            (!brings_whole(peer, self.geometry.piece_len(piece))).then_some((key.into(), piece))
        });
        let slow: Vec<_> = slow.collect();
        for (owner, piece) in slow {
            self.disown(owner, piece);
        }
    }

    pub(crate) fn disown(&mut self, owner: Source, piece: PieceIndex) {
        let Some(open) = self.assembly.get_mut(piece) else {
            return;
        };
        if open.owner == Some(owner) {
            open.owner = None;
            open.parole = false;
        }
    }
}
