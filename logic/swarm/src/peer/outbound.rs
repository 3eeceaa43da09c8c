//! What is said to a peer: the greeting, chokes, interest. Blocks are in `transmit`.

use torr_base::{Instant, PieceIndex, RawBlock, is_near};
use torr_store::BufSource;
use torr_wire::{ExtendedHandshake, Extension, ExtensionIds, Message, allowed_fast_set};

use crate::action::{Outbox, PeerKey};
use crate::peer::Peer;
use crate::peer::upload::REQUESTS_MAX;
use crate::superseed::Revealed;
use crate::swarm::Swarm;

/// How many pieces a peer may ask for while choked (BEP 6), and how few pieces it must have for that.
const ALLOWED_FAST: usize = 10;
/// BEP 10: the id under which a side's own handshake goes.
const EXTENDED_HANDSHAKE: u8 = 0;

impl<B> Swarm<B> {
    /// The first words: extension handshake, what we have, allowed fast pieces.
    pub(crate) fn greet(&mut self, key: PeerKey, out: &mut Outbox<B>) {
        let again = self.changing_hello();
        let pieces = self.geometry.piece_count();
        let one_by_one = self.is_super_seeding();
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        peer.revealed = one_by_one.then(|| Revealed::new(pieces));
        if peer.extended {
            let port = match is_near(peer.addr.ip().to_canonical()) {
                true => self.config.listen_port,
                false => self.config.public_port,
            };
            let hello = ExtendedHandshake {
                port: (port > 0).then_some(port),
                client: Some(self.config.client.clone()),
                your_ip: Some(peer.addr.ip()),
                reqq: Some(REQUESTS_MAX as u32),
                ..again
            };
            peer.send_hello(&hello, out);
        }
        if self.have.is_empty() || one_by_one {
            if peer.fast {
                peer.send(Message::HaveNone, out);
            }
        } else if peer.fast && self.have.is_full() {
            peer.send(Message::HaveAll, out);
        } else {
            peer.send(Message::Bitfield(&self.have.to_bytes()), out);
        }
        self.tell_node(key, out);
        self.allow_fast(key, out);
    }

    /// Where our node of the DHT is (BEP 5), which is never said where the torrent is private or may be.
    fn tell_node(&mut self, key: PeerKey, out: &mut Outbox<B>) {
        let port = self.config.dht_port;
        let may = port > 0 && self.is_known() && !self.private;
        if may
            && let Some(peer) = self.peers.get_mut(key)
            && peer.node_unknown
        {
            peer.send(Message::Port(port), out);
        }
    }

    /// What peers may send us, and under which ids. What is not wanted any more has an id of 0.
    fn own_extensions(&self) -> ExtensionIds {
        let mut ids = ExtensionIds::own(&[
            Extension::Metadata,
            Extension::DontHave,
            Extension::UploadOnly,
        ]);
        match (self.config.pex, self.private) {
            (true, false) => ids.set(Extension::Pex, Extension::Pex.own_id()),
            (true, true) => ids.set(Extension::Pex, 0),
            (false, _) => {}
        }
        ids
    }

    /// What an extension handshake says that may be another thing later. Each says all of it: BEP 10 lets
    /// a later one speak of changes only, but libtorrent takes an id that is missing as withdrawn.
    fn changing_hello(&self) -> ExtendedHandshake {
        ExtendedHandshake {
            extensions: self.own_extensions(),
            metadata_size: self.metadata_size(),
            upload_only: self.is_upload_only().then_some(true),
            ..ExtendedHandshake::default()
        }
    }

    /// Whether peers are told that we want no more pieces (BEP 21).
    fn is_upload_only(&self) -> bool {
        // Whoever has all that it was told of would leave us (BEP 16).
        self.is_complete() && !self.is_super_seeding()
    }

    /// Something changed of what peers may ask for or send.
    pub(crate) fn announce_extensions(&mut self, out: &mut Outbox<B>) {
        let hello = self.changing_hello();
        for peer in self.peers.values_mut().filter(|peer| peer.extended) {
            peer.send_hello(&hello, out);
        }
    }

    /// Says which pieces it may ask for while choked (BEP 6).
    pub(crate) fn allow_fast(&mut self, key: PeerKey, out: &mut Outbox<B>) {
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        if peer.fast && self.config.upload && peer.revealed.is_none() {
            let pieces = self.geometry.piece_count();
            let set = allowed_fast_set(peer.addr.ip(), &self.info_hash, pieces, ALLOWED_FAST);
            for piece in &set {
                if self.have.get(*piece) {
                    peer.send(Message::AllowedFast(piece.get()), out);
                }
            }
            peer.fast_for_it = set;
        }
    }

    /// All that is wanted is here, or no longer is (BEP 21). Peers that have a piece are not told of ours, so
    /// two that finish at the same time would never see that the other is of no more use. Who knows the
    /// message for it gets that, since libtorrent does not take the word back in a handshake.
    pub(crate) fn tell_upload_only(&mut self, out: &mut Outbox<B>) {
        let keys: Vec<_> = self.peers.keys().collect();
        for key in keys {
            self.say_upload_only(key, out);
        }
    }

    /// The same to one peer. Who was not told of all pieces would think too little of us.
    pub(crate) fn say_upload_only(&mut self, key: PeerKey, out: &mut Outbox<B>) {
        let flag = self.is_upload_only();
        let hello = self.changing_hello();
        let peer = self.peers.get_mut(key);
        let Some(peer) = peer.filter(|peer| peer.extended && peer.revealed.is_none()) else {
            return;
        };
        match peer.extensions.get(Extension::UploadOnly) {
            Some(id) => {
                let payload = &[u8::from(flag)];
                peer.send(Message::Extended { id, payload }, out);
            }
            None => {
                let upload_only = Some(flag);
                let hello = ExtendedHandshake {
                    upload_only,
                    ..hello
                };
                peer.send_hello(&hello, out);
            }
        }
    }

    pub(crate) fn choke(
        &mut self,
        now: Instant,
        key: PeerKey,
        bufs: &mut dyn BufSource<B>,
        out: &mut Outbox<B>,
    ) {
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        if peer.choked_by_us {
            return;
        }
        peer.choked_by_us = true;
        peer.choke_changed = now;
        peer.choked_at = Some(now);
        peer.choked_requests = 0;
        peer.send(Message::Choke, out);
        let mut dropped = Vec::new();
        let Peer {
            upload,
            fast_for_it,
            fast,
            ..
        } = &mut *peer;
        let keep = |range: RawBlock| *fast && fast_for_it.contains(&PieceIndex::new(range.piece));
        upload.retain(keep, |range| dropped.push(range), |buf| bufs.put(buf));
        if peer.fast {
            // BEP 6: every request is answered, by its block or by a reject.
            for range in dropped {
                peer.send(Message::Reject(range), out);
            }
        }
    }

    pub(crate) fn unchoke(&mut self, now: Instant, key: PeerKey, out: &mut Outbox<B>) {
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        if peer.choked_by_us {
            peer.choked_by_us = false;
            peer.choke_changed = now;
            peer.up_at_unchoke = peer.up.total();
            peer.begun.clear();
            peer.leaves = None;
            peer.send(Message::Unchoke, out);
        }
    }

    /// Tells the peer whether we are interested, if that changed.
    pub(crate) fn tell_interest(&mut self, now: Instant, key: PeerKey, out: &mut Outbox<B>) {
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        let interested = peer.interesting > 0 && self.left > 0;
        if interested != peer.interesting_told {
            peer.interesting_told = interested;
            let message = if interested {
                Message::Interested
            } else {
                Message::NotInterested
            };
            peer.send(message, out);
        }
        peer.wanting_since = match peer.wanting_since {
            _ if !interested || !peer.chokes_us => None,
            None => Some(now),
            since => since,
        };
    }
}

impl<B> Peer<B> {
    fn send_hello(&mut self, hello: &ExtendedHandshake, out: &mut Outbox<B>) {
        let message = Message::Extended {
            id: EXTENDED_HANDSHAKE,
            payload: &hello.encode(),
        };
        self.send(message, out);
    }
}
