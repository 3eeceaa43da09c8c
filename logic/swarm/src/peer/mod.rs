//! One peer of the swarm: what it has, what each side told the other, what is under way between them.
//!
//! `inbound` hears it, `outbound` speaks to it, [`Requests`] holds what it owes us and [`Upload`] what
//! we owe it.

mod early;
mod extensions;
mod inbound;
mod outbound;
pub(crate) mod requests;
mod transmit;
pub(crate) mod turns;
pub(crate) mod upload;

use std::net::SocketAddr;
use std::time::Duration;

use torr_base::{Bitfield, Instant, PeerId, PieceIndex};
use torr_wire::{ExtensionIds, Message};

use early::Claim;
pub use inbound::PeerCx;
pub(crate) use inbound::VAIN_MAX;
pub(crate) use requests::Requests;
pub use transmit::Sources;
use turns::Turns;
pub(crate) use upload::Upload;

use crate::action::{Action, ConnKey, Outbox};
use crate::metadata::Asked;
use crate::pex::Gossip;
use crate::rates::Rate;
use crate::superseed::Revealed;

/// A peer that rejects requests for so many pieces is not asked for anything for a while.
pub(crate) const REJECTED_MAX: usize = 32;

/// How long a peer is not asked for pieces that it rejected without choking us: this at first, since some do so
/// now and then for no lasting reason; twice as long each time after that, until a block comes …
const REJECTED_FOR: Duration = Duration::from_secs(5);
/// … and at most so long.
const REJECTED_FOR_MAX: Duration = Duration::from_secs(60);

/// Pieces that a peer fetches from us at a time, as far as we care.
const BEGUN_MAX: usize = 8;
/// Whoever leaves sooner than that, and without a block, hung up at once.
const BRIEF: Duration = Duration::from_secs(5);

/// What the node knows of a peer when its handshake is through.
#[derive(Clone, Copy, Debug)]
pub struct NewPeer {
    pub conn: ConnKey,
    pub addr: SocketAddr,
    /// We dialled it, so that `addr` is where it listens.
    pub dialled: bool,
    pub id: PeerId,
    /// Both sides speak the fast extension (BEP 6).
    pub fast: bool,
    /// Both sides speak the extension protocol (BEP 10).
    pub extended: bool,
    /// Both sides have a node of the DHT (BEP 5).
    pub dht: bool,
}

#[derive(Debug)]
pub(crate) struct Peer<B> {
    pub(crate) conn: ConnKey,
    pub(crate) addr: SocketAddr,
    pub(crate) dialled: bool,
    /// There was a connection the other way with who may be the same peer, and that one has ended.
    pub(crate) crossed: bool,
    pub(crate) id: PeerId,
    pub(crate) fast: bool,
    pub(crate) extended: bool,
    /// It has a node of the DHT, and did not say yet where.
    pub(crate) node_unknown: bool,
    /// What it calls its extensions.
    pub(crate) extensions: ExtensionIds,

    /// What it said that it has before the metadata was known.
    pub(crate) claim: Claim,
    pub(crate) have: Bitfield,
    /// It has everything, and is counted as a seed in the availability instead of piece by piece.
    pub(crate) seed: bool,
    /// A message that tells what it has may only come first (BEP 3, BEP 6).
    pub(crate) spoke: bool,
    /// It wants no pieces, it says (BEP 21).
    pub(crate) upload_only: bool,
    /// Pieces that it has and we want.
    pub(crate) interesting: u32,
    pub(crate) chokes_us: bool,
    pub(crate) interested_in_us: bool,
    /// Pieces that we may ask for while choked (BEP 6).
    pub(crate) fast_for_us: Vec<PieceIndex>,
    /// Pieces that it rejected requests for although it does not choke us: it is not asked for them
    /// again for a while, or it could hold the last blocks of a torrent for ever.
    pub(crate) rejected: Vec<PieceIndex>,
    pub(crate) rejected_since: Instant,
    pub(crate) rejected_for: Duration,
    /// Before then it found no block that others owe us too long.
    pub(crate) looks_at_owed: Instant,
    /// Where it listens, as its extension handshake says.
    pub(crate) listens: Option<u16>,
    pub(crate) client: String,

    pub(crate) choked_by_us: bool,
    pub(crate) interesting_told: bool,
    /// Pieces that it may ask for while choked (BEP 6).
    pub(crate) fast_for_it: Vec<PieceIndex>,
    /// What it was told of, while that is not all that we have.
    pub(crate) revealed: Option<Revealed>,
    /// Our pieces up to here in the log of haves were told.
    pub(crate) haves_told: usize,

    pub(crate) requests: Requests,
    /// The pieces it is asked for just now.
    pub(crate) turns: Turns,
    /// The piece that was last opened for it.
    pub(crate) opened: Option<PieceIndex>,
    /// The state of the candidates in which the picker found none for it.
    pub(crate) barren_at: Option<u64>,
    pub(crate) upload: Upload<B>,
    pub(crate) metadata_asked: Asked,
    pub(crate) gossip: Gossip,
    /// When a block was last handed to the kernel where it lies in its file.
    pub(crate) file_sent: Option<Instant>,
    /// Control messages that wait to be written.
    pub(crate) out: Vec<u8>,
    /// The node was told that there is something to write.
    pub(crate) woken: bool,

    pub(crate) down: Rate,
    pub(crate) up: Rate,
    pub(crate) joined: Instant,
    pub(crate) heard: Instant,
    pub(crate) spoken: Instant,
    /// When we last took its slot away; `None` while it never had one.
    pub(crate) choked_at: Option<Instant>,
    /// When we last changed whether it is choked.
    pub(crate) choke_changed: Instant,
    /// Pieces of which it got some blocks from us in this turn and not all, with how many.
    pub(crate) begun: Vec<(PieceIndex, u32)>,
    /// Its turn is over since then; it is choked when it has the piece that it is on.
    pub(crate) leaves: Option<Instant>,
    /// Payload that it had got when it was last unchoked.
    pub(crate) up_at_unchoke: u64,
    /// When it was last given a block.
    pub(crate) took: Option<Instant>,
    /// Since when it keeps us choked while we want something.
    pub(crate) wanting_since: Option<Instant>,
    /// Requests since `choked_minute` that came while choked (BEP 6).
    pub(crate) choked_requests: u32,
    pub(crate) choked_minute: Instant,
    pub(crate) haves_heard: u32,
    /// Cancels and rejects that spoke of nothing known, since each costs a look through a queue.
    pub(crate) vain: u32,
    /// Pieces that passed with blocks of this peer.
    pub(crate) good_pieces: u32,
}

impl<B> Peer<B> {
    pub(crate) fn new(new: NewPeer, pieces: u32, haves_told: usize, now: Instant) -> Self {
        Self {
            conn: new.conn,
            addr: new.addr,
            dialled: new.dialled,
            crossed: false,
            id: new.id,
            fast: new.fast,
            extended: new.extended,
            node_unknown: new.dht,
            extensions: ExtensionIds::default(),
            claim: Claim::default(),
            have: Bitfield::new(pieces),
            seed: false,
            spoke: false,
            upload_only: false,
            interesting: 0,
            chokes_us: true,
            interested_in_us: false,
            fast_for_us: Vec::new(),
            rejected: Vec::new(),
            rejected_since: now,
            rejected_for: REJECTED_FOR,
            looks_at_owed: now,
            listens: new.dialled.then_some(new.addr.port()),
            client: torr_wire::client_name(&new.id),
            choked_by_us: true,
            interesting_told: false,
            fast_for_it: Vec::new(),
            revealed: None,
            haves_told,
            requests: Requests::new(now),
            turns: Turns::default(),
            opened: None,
            barren_at: None,
            upload: Upload::new(),
            metadata_asked: Asked::default(),
            gossip: Gossip::new(now),
            file_sent: None,
            out: Vec::new(),
            woken: false,
            down: Rate::new(now),
            up: Rate::new(now),
            joined: now,
            heard: now,
            spoken: now,
            choke_changed: now,
            begun: Vec::new(),
            leaves: None,
            up_at_unchoke: 0,
            took: None,
            choked_at: None,
            wanting_since: None,
            choked_requests: 0,
            choked_minute: now,
            haves_heard: 0,
            vain: 0,
            good_pieces: 0,
        }
    }

    /// Queues a control message and wakes the node once.
    pub(crate) fn send(&mut self, message: Message<'_>, out: &mut Outbox<B>) {
        message.write_to(&mut self.out);
        self.wake(out);
    }

    pub(crate) fn wake(&mut self, out: &mut Outbox<B>) {
        if !self.woken {
            self.woken = true;
            out.push(Action::Wake { conn: self.conn });
        }
    }

    /// Whether a request for the piece may go out now.
    pub(crate) fn may_ask(&self, piece: PieceIndex) -> bool {
        (!self.chokes_us || self.fast_for_us.contains(&piece)) && !self.rejected.contains(&piece)
    }

    /// Whether it can be asked for anything at all.
    pub(crate) fn can_be_asked(&self) -> bool {
        self.interesting > 0
            && (!self.chokes_us || !self.fast_for_us.is_empty())
            && self.rejected.len() < REJECTED_MAX
    }

    /// It was sent a block of a piece of so many.
    pub(crate) fn sent_of(&mut self, piece: PieceIndex, blocks: u32) {
        let place = self.begun.iter().position(|(begun, _)| *begun == piece);
        let sent = place.map_or(0, |place| self.begun.swap_remove(place).1) + 1;
        if sent < blocks {
            if self.begun.len() == BEGUN_MAX {
                self.begun.remove(0);
            }
            self.begun.push((piece, sent));
        }
    }

    /// It rejected a request that it should have served.
    pub(crate) fn reject(&mut self, piece: PieceIndex, now: Instant) {
        if self.rejected.is_empty() {
            self.rejected_since = now;
        }
        if self.rejected.len() < REJECTED_MAX && !self.rejected.contains(&piece) {
            self.rejected.push(piece);
        }
    }

    /// Whether it may be asked again for what it rejected.
    pub(crate) fn forgive_rejects(&mut self, now: Instant) {
        if !self.rejected.is_empty() && now.since(self.rejected_since) >= self.rejected_for {
            self.rejected.clear();
            self.rejected_for = (2 * self.rejected_for).min(REJECTED_FOR_MAX);
            self.barren_at = None;
        }
    }

    /// It sent so many bytes of payload.
    pub(crate) fn brought(&mut self, bytes: u32, now: Instant) {
        self.heard = now;
        self.rejected_for = REJECTED_FOR;
        self.down.add(u64::from(bytes));
    }

    /// Whether it wants nothing of anybody: it has all, or all that it wants.
    pub(crate) fn only_gives(&self) -> bool {
        self.seed || self.upload_only
    }

    /// Where it can be dialled.
    pub(crate) fn listen_addr(&self) -> Option<SocketAddr> {
        self.listens
            .map(|port| SocketAddr::new(self.addr.ip(), port))
    }

    /// Whether a connection that `dialled` or not with that address may be with the same peer, and is the other way.
    pub(crate) fn is_reverse_of(&self, addr: SocketAddr, dialled: bool) -> bool {
        self.dialled != dialled && self.addr.ip() == addr.ip()
    }

    /// Whether it came a moment ago and no block went either way since.
    pub(crate) fn came_to_nothing(&self, now: Instant) -> bool {
        now.since(self.joined) < BRIEF && self.down.total() + self.up.total() == 0
    }
}
