//! What time brings: rates, snubs, keep-alives, chokes, dials.

use std::time::Duration;

use torr_base::Instant;
use torr_store::BufSource;
use torr_wire::Message;

use crate::action::{Action, CloseReason, Idle, Outbox, PeerKey};
use crate::admission::GRACE;
use crate::assembly::Stage;
use crate::swarm::{Phase, Swarm};

/// How often [`Swarm::handle_timeout`] wants to be called.
const TICK: Duration = Duration::from_millis(100);
/// BEP 3: keep-alives go out after two minutes of silence; a little sooner, so that they arrive in time.
const KEEP_ALIVE: Duration = Duration::from_secs(110);
/// … and whoever is silent for longer than that and then some is gone.
const SILENT: Duration = Duration::from_secs(150);
/// A peer that keeps us choked so long while others wait for its place is let go.
const NEVER_UNCHOKES: Duration = Duration::from_secs(600);
/// Blocks of a piece that nobody adds to any more are written to the disk, to free their memory.
const STALLED: Duration = Duration::from_secs(30);
/// How long a piece is left to one peer, to see who lies, without a block coming; and in all.
const PAROLE: Duration = Duration::from_secs(30);
const PAROLE_MAX: Duration = Duration::from_secs(120);
/// Unfinished pieces that wait on the disk for somebody who has them; beyond it, the one of which least
/// is there is forgotten.
const DORMANT_MAX: usize = 4_096;
/// Dials begun in one tick; 30 a second.
const DIALS_PER_TICK: usize = 3;

impl<B> Swarm<B> {
    /// Does what is due. To be called at [`Self::next_timeout`], and no more than every tick.
    pub fn handle_timeout(
        &mut self,
        now: Instant,
        bufs: &mut dyn BufSource<B>,
        out: &mut Outbox<B>,
    ) {
        match self.phase {
            Phase::Active => {}
            Phase::Halted => return self.look_if_due(now, out),
            Phase::Stopping | Phase::Stopped | Phase::Failed => return,
        }
        self.commit_if_due(now, out);
        if self.is_alone() {
            // The first peers are not kept waiting for a tick.
            self.dial(now, out);
        }
        if now < self.ticked + TICK {
            return;
        }
        self.ticked = now;
        // Before a peer that has everything is let go.
        self.super_seed(now, out);
        let keys: Vec<_> = self.peers.keys().collect();
        for key in keys {
            self.tick_peer(now, key, bufs, out);
        }
        self.metadata_timeout(now, bufs, out);
        self.tick_web(now, bufs, out);
        self.gossip(now, out);
        self.sum_rates(now);
        self.choke_round(now, bufs, out);
        self.spill_stalled(now, out);
        self.end_paroles(now);
        self.disown_slow(now);
        self.dial(now, out);
    }

    /// When [`Self::handle_timeout`] should be called next; `None` while only an input can change
    /// anything.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        match self.phase {
            Phase::Active => {}
            Phase::Halted => return self.look_due(),
            Phase::Stopping | Phase::Stopped | Phase::Failed => return None,
        }
        let tick = self.ticked + TICK;
        let closing = self.closing.due();
        let other = if !self.peers.is_empty() {
            Some(tick)
        } else if self.wants_dials() {
            let soonest = if self.is_alone() { self.ticked } else { tick };
            self.dialer.next_due().map(|due| due.max(soonest))
        } else {
            None
        };
        let web = self.web_due_at(tick);
        [closing, other, web].into_iter().flatten().min()
    }

    fn sum_rates(&mut self, now: Instant) {
        let sends = |peer: &&crate::peer::Peer<B>| peer.requests.answers(now);
        let (mut rate, mut senders) = (0_u64, 0);
        for peer in self.peers.values().filter(sends) {
            rate += peer.down.at_best(now);
            senders += u32::from(peer.requests.len() > 0);
        }
        self.down_rate = rate + self.web.rate_at_best(now);
        self.senders = senders + self.web.active();
    }

    fn tick_peer(
        &mut self,
        now: Instant,
        key: PeerKey,
        bufs: &mut dyn BufSource<B>,
        out: &mut Outbox<B>,
    ) {
        let (known, complete) = (self.is_known(), self.is_complete());
        let peer = self.peers.get(key);
        match peer.and_then(|peer| parting(peer, now, known, complete)) {
            Some(CloseReason::Idle(Idle::NeverUnchokes)) if !self.others_wait() => {}
            Some(why) => {
                self.part(now, key, why, bufs, out);
                return;
            }
            None => {}
        }
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        peer.up.tick(now);
        if peer.upload.is_waiting() && peer.upload.loading() + peer.upload.ready() == 0 {
            // There may have been no buffer for it, and the one that is free now may be another torrent's.
            peer.wake(out);
        }
        if peer.down.tick(now) {
            peer.requests
                .adapt(peer.down.per_second(), peer.down.latest());
        }
        if peer.requests.is_short_of_goal(now) {
            peer.wake(out);
        }
        if now.since(peer.spoken) >= KEEP_ALIVE {
            peer.send(Message::KeepAlive, out);
            peer.spoken = now;
        }
        peer.forgive_rejects(now);
        if peer.requests.is_overdue(now) {
            peer.requests.snubbed = true;
            // Without the cancels it would still owe us what we may soon ask it for again.
            let owed: Vec<_> = peer.requests.blocks().collect();
            for block in owed {
                peer.send(Message::Cancel(block.raw()), out);
            }
            self.release_requests(now, key);
            // What it did not bring is for others first; they get their turn before its next.
        } else {
            self.fill_requests(now, key, out);
        }
    }

    /// There is a way into the network again, or another one.
    pub fn handle_network_changed(
        &mut self,
        now: Instant,
        bufs: &mut dyn BufSource<B>,
        out: &mut Outbox<B>,
    ) {
        if self.phase != Phase::Active {
            return;
        }
        let stuck = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.requests.len() > 0 && peer.requests.is_quiet(now));
        let stuck: Vec<_> = stuck.map(|(key, _)| key).collect();
        for key in stuck {
            self.part(now, key, CloseReason::Transport, bufs, out);
        }
        self.dialer.network_changed(now);
        self.dial(now, out);
    }

    fn spill_stalled(&mut self, now: Instant, out: &mut Outbox<B>) {
        let stalled = self.assembly.iter().filter(|(_, open)| {
            let filling = open.stage == Stage::Filling && open.here() > 0;
            filling && now.since(open.touched) >= STALLED
        });
        let pieces: Vec<_> = stalled.map(|(piece, _)| piece).collect();
        for piece in pieces {
            self.spill(piece, out);
        }
        if let Some(piece) = self.assembly.dormant_beyond(DORMANT_MAX) {
            self.abandon(piece);
        }
    }

    /// A peer on parole that takes its time does not get to hold the piece up.
    fn end_paroles(&mut self, now: Instant) {
        let late = self.assembly.iter().filter_map(|(piece, open)| {
            let idle = now.since(open.touched) >= PAROLE;
            let slow = open.parole && (idle || now.since(open.opened) >= PAROLE_MAX);
            open.owner.filter(|_| slow).map(|owner| (owner, piece))
        });
        let late: Vec<_> = late.collect();
        for (owner, piece) in late {
            self.blame.too_slow(piece, owner);
            self.disown(owner, piece);
        }
    }

    /// Whether there are others for the place of a peer that is of no use.
    pub(crate) fn others_wait(&self) -> bool {
        self.peers.len() >= self.config.dial_until && self.dialer.has_idle()
    }

    /// No peer is there, and none on the way.
    fn is_alone(&self) -> bool {
        self.peers.is_empty() && self.dialer.dialling() == 0
    }

    fn wants_dials(&self) -> bool {
        let until = self.config.dial_until.min(self.peers_max());
        self.peers.len() + self.dialer.dialling() < until
    }

    fn dial(&mut self, now: Instant, out: &mut Outbox<B>) {
        for _ in 0..DIALS_PER_TICK {
            if !self.wants_dials() {
                return;
            }
            let Some(addr) = self.dialer.next(now) else {
                return;
            };
            out.push(Action::Dial { addr });
        }
    }

    /// Buffers came back to the pool: who waits for one may have its block loaded.
    pub fn handle_bufs_free(&mut self, out: &mut Outbox<B>) {
        for peer in self.peers.values_mut() {
            if peer.upload.wants_load() {
                peer.wake(out);
            }
        }
    }
}

/// Why to let the peer go, if there is a reason.
fn parting<B>(
    peer: &crate::peer::Peer<B>,
    now: Instant,
    known: bool,
    complete: bool,
) -> Option<CloseReason> {
    if now.since(peer.heard) >= SILENT {
        return Some(CloseReason::Idle(Idle::Silent));
    }
    // Who wants no pieces gets no new ones for us to want. Yet what it has may come after that word, or be
    // told bit by bit.
    let nothing = known && peer.interesting == 0 && now.since(peer.joined) >= GRACE;
    if peer.only_gives() && (complete || nothing) {
        return Some(CloseReason::Redundant);
    }
    let choked_for = peer.wanting_since.map(|since| now.since(since));
    let useless = choked_for.is_some_and(|span| span >= NEVER_UNCHOKES);
    useless.then_some(CloseReason::Idle(Idle::NeverUnchokes))
}
