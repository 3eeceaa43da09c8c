//! Who is taken in, and who makes way where there is no more room.

use std::net::SocketAddr;
use std::time::Duration;

use torr_base::{Instant, PeerId};
use torr_store::BufSource;

use crate::action::{CloseReason, Idle, Incompatible, Outbox, PeerKey};
use crate::choker::is_idle;
use crate::peer::Peer;
use crate::priority::priority;
use crate::swarm::{Phase, Swarm};

/// How long a peer may show what it is good for before it makes room for another.
pub(crate) const GRACE: Duration = Duration::from_secs(60);
/// … and how long if it has shown nothing at all: some round trips of a slow line.
const STRANGER: Duration = Duration::from_secs(1);
/// … and how long if it wants something and had no slot yet.
const WAITS: Duration = Duration::from_secs(10);

impl<B> Swarm<B> {
    /// Whether a connection with that peer would be of use.
    ///
    /// # Errors
    /// Why not.
    pub fn admits(&self, addr: SocketAddr, id: PeerId) -> Result<(), CloseReason> {
        if self.phase != Phase::Active {
            return Err(CloseReason::Local);
        }
        if id == self.config.peer_id {
            return Err(CloseReason::Incompatible(Incompatible::OwnId));
        }
        if self.blame.is_banned(addr.ip(), id) {
            return Err(CloseReason::Incompatible(Incompatible::Banned));
        }
        if self
            .peers
            .values()
            .any(|peer| peer.id == id || peer.addr == addr)
        {
            return Err(CloseReason::Duplicate);
        }
        if self.is_crowded() {
            return Err(CloseReason::Local);
        }
        Ok(())
    }

    /// Before a handshake's end: where both sides dialled each other at the same time, both keep the
    /// connection that the greater peer id dialled. An earlier one makes way for it; if each side kept
    /// its first, none might remain.
    pub fn settle_crossing(
        &mut self,
        now: Instant,
        (addr, id): (SocketAddr, PeerId),
        dialled: bool,
        bufs: &mut dyn BufSource<B>,
        out: &mut Outbox<B>,
    ) {
        if dialled != (self.config.peer_id > id) {
            return;
        }
        let crosses = |peer: &Peer<B>| peer.id == id && peer.is_reverse_of(addr, dialled);
        let rival = self.peers.iter().find(|(_, peer)| crosses(peer));
        if let Some((key, _)) = rival {
            self.part(now, key, CloseReason::Duplicate, bufs, out);
        }
    }

    /// Whether a newcomer would have to take somebody's place.
    #[must_use]
    pub fn is_crowded(&self) -> bool {
        self.phase == Phase::Active && self.peers.len() >= self.peers_max()
    }

    /// Where there is no room for a newcomer whom the swarm would take otherwise: whoever has been of
    /// least use makes way, if it had its time and neither side wants anything of the other.
    pub fn make_room(
        &mut self,
        now: Instant,
        (addr, id): (SocketAddr, PeerId),
        bufs: &mut dyn BufSource<B>,
        out: &mut Outbox<B>,
    ) {
        if !self.is_crowded() || self.admits(addr, id) != Err(CloseReason::Local) {
            return;
        }
        let idle = self.peers.iter().filter(|(key, peer)| {
            let waits = peer.wanting_since.is_some_and(|at| now.since(at) >= GRACE);
            let gives = peer.interesting_told && !waits || self.metadata.is_from(*key);
            now.since(peer.joined) >= GRACE && !gives && !peer.interested_in_us
        });
        let least = idle.min_by_key(|(_, peer)| (peer.down.total() + peer.up.total(), peer.joined));
        let least = least.map(|(key, _)| key);
        let least = least.or_else(|| self.stranger(now));
        let least = least.or_else(|| self.of_lower_rank(now, addr));
        if let Some(key) = least {
            self.part(now, key, CloseReason::Idle(Idle::Useless), bufs, out);
        }
    }

    /// The one who has been there longest and is of no use to anybody so far: no block went either way, and it has none
    /// that we want. Who wants none of ours goes first, then who made nothing of its slot; who has one for a moment only
    /// stays, and for some time who waits for one. Whoever comes while the swarm is full may ask at once
    /// ([`Self::choke_newcomer`]), and is no stranger as soon as it has a block.
    fn stranger(&self, now: Instant) -> Option<PeerKey> {
        let strangers = self.peers.iter().filter(|(key, peer)| {
            let moved = peer.down.total() + peer.up.total() > 0;
            let gives = peer.interesting_told || self.metadata.is_from(*key);
            let tries = !peer.choked_by_us && now.since(peer.choke_changed) < STRANGER;
            let never_tried = peer.choked_by_us && peer.choked_at.is_none();
            let waits = peer.interested_in_us && never_tried && now.since(peer.joined) < WAITS;
            now.since(peer.joined) >= STRANGER && !moved && !gives && !tries && !waits
        });
        let longest = strangers.min_by_key(|(_, peer)| {
            let had_its_chance = is_idle(peer, now);
            (peer.interested_in_us, !had_its_chance, peer.joined)
        });
        longest.map(|(key, _)| key)
    }

    /// BEP 40: of those who give us nothing just now the one of the lowest rank, if the newcomer's is higher.
    fn of_lower_rank(&self, now: Instant, newcomer: SocketAddr) -> Option<PeerKey> {
        let own = self.seen.agreed(newcomer.is_ipv4())?;
        let own = SocketAddr::new(own, self.config.public_port);
        let idle = self.peers.iter().filter(|(key, peer)| {
            let gives = peer.requests.len() > 0 && peer.requests.answers(now);
            now.since(peer.joined) >= GRACE && !gives && !self.metadata.is_from(*key)
        });
        let ranks = idle.map(|(key, peer)| (priority(own, peer.addr), key));
        let (rank, key) = ranks.min()?;
        (priority(own, newcomer) > rank).then_some(key)
    }
}
