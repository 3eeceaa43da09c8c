//! The addresses that a torrent knows of, and which to dial when.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use torr_base::{Instant, Rng};

use crate::action::CloseReason;

/// Known addresses of a torrent. Beyond it, those that failed most make room.
const CANDIDATES_MAX: usize = 2_000;
/// Of those, what the peers at one address may have told of: a fifth.
const RUMOURS_MAX: usize = CANDIDATES_MAX / 5;
/// First wait after a failed dial; doubled each time.
const RETRY_FIRST: Duration = Duration::from_secs(15);
const RETRY_DOUBLINGS_MAX: u32 = 8;
/// The same for an address that the user named: both sides may be starting just now, and it is kept
/// however long it takes.
const NAMED_RETRY_FIRST: Duration = Duration::from_secs(2);
const NAMED_DOUBLINGS_MAX: u32 = 5;
/// After so many failures in a row an address is forgotten, until somebody names it again.
const FAILURES_MAX: u8 = 6;
/// A peer that left us, or that we let go as useless, is tried again after this.
const REDIAL: Duration = Duration::from_secs(60);
/// One that hung up at once on one of two connections, the first time.
const REDIAL_SOON: Duration = Duration::from_secs(2);
/// One that had nothing for us, nor we for it, or that did nothing.
const USELESS: Duration = Duration::from_secs(1_800);
/// One that broke the protocol is not dialled for an hour.
const MISBEHAVED: Duration = Duration::from_secs(3_600);

#[derive(Debug)]
struct Candidate {
    failures: u8,
    not_before: Instant,
    state: State,
    /// It waits only because it was of no use.
    useless: bool,
    /// It waits because it broke the protocol.
    shunned: bool,
    /// By the user, and not by a tracker or a peer.
    named: bool,
    /// Since when it hangs up at once on two connections, if it did the last time.
    hangs_up_since: Option<Instant>,
    /// It wants no pieces, a peer says (BEP 11).
    only_gives: bool,
    /// It did not answer an encrypted handshake the last time.
    plain: bool,
    /// A peer at that address told of it.
    rumour_of: Option<IpAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Dialling,
    Connected,
    /// Ourselves, or banned.
    Never,
}

/// Why a connection to a candidate ended, as far as dialling it again goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parted {
    /// It could not be reached, or hung up before the handshake.
    Failed,
    /// It was a peer, and left or was let go.
    Left,
    /// Both ends dialled each other, and it hung up before anything came of this connection. It may have closed either for the
    /// other's sake: libtorrent, whose peer id is another one on each connection, does.
    AtOnce,
    /// It was a peer, and neither side had a use for the other.
    Useless,
    Misbehaved,
    /// Ourselves, or banned.
    Never,
}

#[derive(Debug)]
pub(crate) struct Dialer {
    candidates: BTreeMap<SocketAddr, Candidate>,
    dialling: usize,
    /// Nobody is due before then; `None` where that has to be found out.
    quiet_until: Option<Instant>,
    rng: Rng,
    /// The last address that answered and did not become a peer, and why; `None` since one became a peer.
    pub(crate) last_failure: Option<(SocketAddr, CloseReason)>,
}

/// How long nobody is looked for where nobody waits.
const QUIET_MAX: Duration = Duration::from_secs(3_600);

impl Dialer {
    pub(crate) fn new(rng: Rng) -> Self {
        Self {
            candidates: BTreeMap::new(),
            dialling: 0,
            quiet_until: None,
            rng,
            last_failure: None,
        }
    }

    /// Learns of an address. Those that cannot be dialled are dropped.
    pub(crate) fn add(&mut self, addr: SocketAddr, now: Instant) {
        if addr.port() == 0 || addr.ip().is_unspecified() || addr.ip().is_multicast() {
            return;
        }
        if !self.candidates.contains_key(&addr) {
            if self.candidates.len() >= CANDIDATES_MAX && !self.make_room() {
                return;
            }
            let fresh = Candidate {
                failures: 0,
                not_before: now,
                state: State::Idle,
                useless: false,
                shunned: false,
                named: false,
                hangs_up_since: None,
                only_gives: false,
                plain: false,
                rumour_of: None,
            };
            self.candidates.insert(addr, fresh);
            self.quiet_until = None;
        }
    }

    /// Learns of an address from a peer at `from`, which must not fill the table on its own. `only_gives`:
    /// who is there wants no pieces.
    pub(crate) fn hear(&mut self, addr: SocketAddr, from: IpAddr, only_gives: bool, now: Instant) {
        let its = |c: &&Candidate| c.rumour_of == Some(from);
        let known = self.candidates.contains_key(&addr);
        if known || self.candidates.values().filter(its).count() >= RUMOURS_MAX {
            return;
        }
        self.add(addr, now);
        if let Some(candidate) = self.candidates.get_mut(&addr) {
            candidate.rumour_of = Some(from);
            candidate.only_gives = only_gives;
        }
    }

    /// No peer had any business to tell of others.
    pub(crate) fn forget_rumours(&mut self) {
        self.candidates
            .retain(|_, c| c.rumour_of.is_none() || c.state != State::Idle);
        self.quiet_until = None;
    }

    /// Learns of an address from the user: it is tried sooner, and never given up.
    pub(crate) fn name(&mut self, addr: SocketAddr, now: Instant) {
        self.add(addr, now);
        if let Some(candidate) = self.candidates.get_mut(&addr) {
            candidate.named = true;
        }
    }

    /// Known addresses that are neither connected nor given up.
    pub(crate) fn idle(&self) -> usize {
        let idle = self.candidates.values().filter(|c| c.state == State::Idle);
        idle.count()
    }

    /// Whether there is one.
    pub(crate) fn has_idle(&self) -> bool {
        self.candidates.values().any(|c| c.state == State::Idle)
    }

    /// Dials under way.
    pub(crate) fn dialling(&self) -> usize {
        self.dialling
    }

    /// The next address to dial: the one with the fewest failures, by chance among equals.
    pub(crate) fn next(&mut self, now: Instant) -> Option<SocketAddr> {
        if self.quiet_until.is_some_and(|until| now < until) {
            return None;
        }
        let due = |c: &Candidate| c.state == State::Idle && c.not_before <= now;
        let all_due = self.candidates.values().filter(|c| due(c));
        let Some(least) = all_due.map(|c| c.failures).min() else {
            let soonest = self.next_due().unwrap_or(now + QUIET_MAX);
            self.quiet_until = Some(soonest);
            return None;
        };
        let fits = |c: &Candidate| due(c) && c.failures == least;
        let count = self.candidates.values().filter(|c| fits(c)).count();
        let choice = self.rng.index(count);
        let mut fitting = self.candidates.iter_mut().filter(|(_, c)| fits(c));
        let (addr, candidate) = fitting.nth(choice)?;
        candidate.state = State::Dialling;
        self.dialling += 1;
        Some(*addr)
    }

    /// Whether a plaintext handshake is the better one to begin with.
    pub(crate) fn is_plain(&self, addr: &SocketAddr) -> bool {
        self.candidates.get(addr).is_some_and(|c| c.plain)
    }

    /// With which handshake to begin the next time; see [`Self::is_plain`].
    pub(crate) fn set_plain(&mut self, addr: &SocketAddr, plain: bool) {
        if let Some(candidate) = self.candidates.get_mut(addr) {
            candidate.plain = plain;
        }
    }

    /// A handshake came through with a peer that listens there.
    pub(crate) fn connected(&mut self, addr: SocketAddr, now: Instant) {
        self.last_failure = None;
        self.add(addr, now);
        self.set_state(addr, State::Connected);
        if let Some(candidate) = self.candidates.get_mut(&addr) {
            candidate.failures = 0;
            // It will say so itself.
            candidate.only_gives = false;
        }
    }

    /// The dial or the connection is over.
    pub(crate) fn parted(&mut self, addr: SocketAddr, how: Parted, now: Instant) {
        self.quiet_until = None;
        let state = if how == Parted::Never {
            State::Never
        } else {
            State::Idle
        };
        self.set_state(addr, state);
        let Some(candidate) = self.candidates.get_mut(&addr) else {
            return;
        };
        if how == Parted::AtOnce {
            candidate.hangs_up_since.get_or_insert(now);
        }
        // Every other time, and however the other of the two connections ends.
        let since = candidate.hangs_up_since;
        let soon = since.is_some_and(|since| now.since(since) < REDIAL_SOON);
        let wait = match how {
            Parted::Failed => {
                candidate.failures = candidate.failures.saturating_add(1);
                let (first, most) = if candidate.named {
                    (NAMED_RETRY_FIRST, NAMED_DOUBLINGS_MAX)
                } else {
                    (RETRY_FIRST, RETRY_DOUBLINGS_MAX)
                };
                let doublings = u32::from(candidate.failures - 1).min(most);
                first * 2_u32.pow(doublings)
            }
            Parted::AtOnce | Parted::Left if soon => REDIAL_SOON,
            Parted::AtOnce | Parted::Left => REDIAL,
            Parted::Useless => USELESS,
            Parted::Misbehaved => MISBEHAVED,
            Parted::Never => Duration::ZERO,
        };
        // Up to a quarter more, so that a swarm that lost its network does not return as one.
        let jitter = wait.as_millis() as u64 / 4;
        if how == Parted::Useless || how == Parted::Left && !soon {
            candidate.hangs_up_since = None;
        }
        candidate.useless = how == Parted::Useless;
        candidate.shunned = how == Parted::Misbehaved;
        candidate.not_before = now + wait + Duration::from_millis(self.rng.below(jitter + 1));
        if candidate.failures >= FAILURES_MAX && !candidate.named {
            self.candidates.remove(&addr);
        }
    }

    /// There is nothing to fetch: who wants nothing either is of no use for now.
    pub(crate) fn defer_givers(&mut self, now: Instant) {
        let idle = |c: &&mut Candidate| c.only_gives && !c.useless && c.state == State::Idle;
        for candidate in self.candidates.values_mut().filter(idle) {
            candidate.useless = true;
            candidate.not_before = candidate.not_before.max(now + USELESS);
        }
    }

    /// There is something to fetch again: who was of no use may be now.
    pub(crate) fn reconsider(&mut self, now: Instant) {
        self.quiet_until = None;
        for candidate in self.candidates.values_mut().filter(|c| c.useless) {
            candidate.useless = false;
            candidate.not_before = candidate.not_before.min(now);
        }
    }

    /// The network came back: who could not be reached may have been without fault.
    pub(crate) fn network_changed(&mut self, now: Instant) {
        self.quiet_until = None;
        let waits = |c: &&mut Candidate| !c.useless && !c.shunned && c.state == State::Idle;
        for candidate in self.candidates.values_mut().filter(waits) {
            candidate.failures = 0;
            candidate.not_before = candidate.not_before.min(now);
        }
    }

    /// Somebody was let go only to come again: it is not kept waiting.
    pub(crate) fn hurry(&mut self, addr: SocketAddr, now: Instant) {
        self.quiet_until = None;
        if let Some(candidate) = self.candidates.get_mut(&addr) {
            candidate.not_before = candidate.not_before.min(now);
        }
    }

    /// When the next address becomes due, for the timer; `None` if there is none.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let idle = self.candidates.values().filter(|c| c.state == State::Idle);
        idle.map(|c| c.not_before).min()
    }

    fn set_state(&mut self, addr: SocketAddr, state: State) {
        let Some(candidate) = self.candidates.get_mut(&addr) else {
            return;
        };
        if candidate.state == State::Dialling {
            self.dialling -= 1;
        }
        candidate.state = state;
    }

    fn make_room(&mut self) -> bool {
        let idle = self
            .candidates
            .iter()
            .filter(|(_, c)| c.state == State::Idle && !c.named);
        let worst = idle
            .max_by_key(|(_, c)| c.failures)
            .filter(|(_, c)| c.failures > 0);
        let Some(worst) = worst.map(|(addr, _)| *addr) else {
            return false;
        };
        self.candidates.remove(&worst);
        true
    }

    pub(crate) fn check_invariants(&self) {
        let dialling = self
            .candidates
            .values()
            .filter(|c| c.state == State::Dialling)
            .count();
        assert_eq!(self.dialling, dialling);
        assert!(self.candidates.len() <= CANDIDATES_MAX);
        if let (Some(until), Some(due)) = (self.quiet_until, self.next_due()) {
            assert!(until <= due, "somebody is due and not looked for");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(n: u16) -> SocketAddr {
        SocketAddr::from(([198, 18, 0, 1], n))
    }

    #[test]
    fn failures_back_off_and_then_forget() {
        let mut dialer = Dialer::new(Rng::new(1));
        let mut now = Instant::ZERO;
        dialer.add(addr(1), now);
        dialer.add(addr(0), now);
        let mut waits = Vec::new();
        while let Some(due) = dialer.next_due() {
            waits.push(due.since(now).as_secs());
            now = due;
            assert_eq!(dialer.next(now), Some(addr(1)));
            assert_eq!(dialer.next(now), None);
            dialer.parted(addr(1), Parted::Failed, now);
            dialer.check_invariants();
        }
        assert_eq!(waits.len(), usize::from(FAILURES_MAX));
        assert!(waits.windows(2).all(|w| w[0] < w[1]), "{waits:?}");
    }

    #[test]
    fn who_hangs_up_at_once_is_tried_again_soon_every_other_time() {
        let mut dialer = Dialer::new(Rng::new(1));
        let mut now = Instant::ZERO;
        dialer.add(addr(1), now);
        let mut waits = Vec::new();
        for how in [
            Parted::AtOnce,
            Parted::AtOnce,
            Parted::AtOnce,
            Parted::Left,
            Parted::AtOnce,
        ] {
            assert_eq!(dialer.next(now), Some(addr(1)));
            dialer.connected(addr(1), now);
            dialer.parted(addr(1), how, now);
            if how == Parted::AtOnce {
                // The other of two connections, a moment later.
                dialer.parted(addr(1), Parted::Left, now + Duration::from_millis(50));
            }
            let due = dialer.next_due().unwrap();
            waits.push(due.since(now).as_secs() >= REDIAL.as_secs());
            now = due;
        }
        assert_eq!(waits, [false, true, false, true, false]);
    }

    #[test]
    fn the_useless_wait_until_there_is_something_to_fetch() {
        let mut dialer = Dialer::new(Rng::new(1));
        let now = Instant::ZERO;
        dialer.add(addr(1), now);
        dialer.next(now);
        dialer.connected(addr(1), now);
        dialer.parted(addr(1), Parted::Useless, now);
        assert_eq!(dialer.next(now + Duration::from_secs(600)), None);
        dialer.reconsider(now);
        assert_eq!(dialer.next(now), Some(addr(1)));
    }

    #[test]
    fn a_network_that_is_back_ends_waits_but_those_that_are_deserved() {
        let mut dialer = Dialer::new(Rng::new(1));
        let now = Instant::ZERO;
        let ends = [
            Parted::Failed,
            Parted::Left,
            Parted::Useless,
            Parted::Misbehaved,
            Parted::Never,
        ];
        for (n, how) in (1..).zip(ends) {
            dialer.add(addr(n), now);
            dialer.next(now);
            dialer.parted(addr(n), how, now);
        }
        assert_eq!(dialer.next(now), None);
        dialer.network_changed(now);
        dialer.check_invariants();
        let mut dialled: Vec<_> = std::iter::from_fn(|| dialer.next(now)).collect();
        dialled.sort();
        assert_eq!(dialled, [addr(1), addr(2)]);
    }

    #[test]
    fn an_address_that_the_user_named_is_tried_soon_and_never_forgotten() {
        let mut dialer = Dialer::new(Rng::new(1));
        let mut now = Instant::ZERO;
        dialer.name(addr(1), now);
        for failures in 0..50 {
            let due = dialer.next_due().unwrap();
            let most = if failures == 1 { 3 } else { 80 };
            assert!(due.since(now).as_secs() < most, "{:?}", due.since(now));
            now = due;
            assert_eq!(dialer.next(now), Some(addr(1)));
            dialer.parted(addr(1), Parted::Failed, now);
        }
    }

    #[test]
    fn the_peers_of_one_address_fill_no_more_than_a_fifth() {
        let mut dialer = Dialer::new(Rng::new(1));
        let ips = [IpAddr::from([198, 18, 1, 1]), IpAddr::from([198, 18, 1, 2])];
        for (ip, base) in ips.into_iter().zip([0, 2_000]) {
            for n in 1..=1_000 {
                dialer.hear(addr(base + n), ip, false, Instant::ZERO);
            }
        }
        assert_eq!(dialer.idle(), 2 * RUMOURS_MAX);
        // Who else knows of it makes it no more than it is; and of a private torrent all are forgotten.
        dialer.add(addr(1), Instant::ZERO);
        dialer.add(addr(5_000), Instant::ZERO);
        let dialled = dialer.next(Instant::ZERO).unwrap();
        dialer.forget_rumours();
        dialer.check_invariants();
        let left = if dialled == addr(5_000) { 0 } else { 1 };
        assert_eq!((dialer.idle(), dialer.dialling()), (left, 1));
    }

    #[test]
    fn ourselves_and_the_banned_are_never_dialled() {
        let mut dialer = Dialer::new(Rng::new(1));
        dialer.add(addr(1), Instant::ZERO);
        dialer.next(Instant::ZERO);
        dialer.parted(addr(1), Parted::Never, Instant::ZERO);
        dialer.add(addr(1), Instant::ZERO);
        assert_eq!(
            (dialer.next_due(), dialer.idle(), dialer.dialling()),
            (None, 0, 0)
        );
    }
}
