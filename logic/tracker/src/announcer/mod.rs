//! When one torrent talks to which tracker, and what it says.
//!
//! Tiers (BEP 12) are announced to side by side, so that a dead first tracker costs the others nothing.
//! Inside a tier one tracker *serves*: it is announced to at its interval. Where none does, they are
//! tried in order, the next one as soon as one fails or has not answered within [`HEDGE_AFTER`]; the
//! first to answer serves and moves to the front.
//!
//! Invariants:
//! - A tracker hears `started` first, `completed` at most once and only after bytes were missing in this
//!   session, and `stopped` only if it had accepted a `started`.
//! - It is asked no more often than once a minute, but for events and retries on the way (G15).
//! - All that waits has an end: [`Announcer::next_timeout`] is `Some` as long as anything does.
//!
//! Deliberately absent: sockets, names, TLS, redirects, and scrapes on a schedule: an announce brings the same counts.

mod drive;
mod outcome;
mod round;
#[cfg(test)]
mod tests;
mod tracker;
mod types;
mod udp;

use std::net::SocketAddr;
use std::time::Duration;

use torr_base::{Instant, Rng};

pub use types::{
    AnnouncerConfig, RequestId, Stats, TrackerAction, TrackerEvent, TrackerId, TrackerState,
    TrackerStatus,
};

use crate::announce::HttpReply;
use tracker::{Attempt, Failure, Tracker};

/// Trackers of one torrent; further ones are left out.
const TRACKERS_MAX: usize = 200;
/// A tracker that takes longer than this is given company by the next of its tier.
const HEDGE_AFTER: Duration = Duration::from_secs(5);
/// The same where only one tracker may be used at a time: then the slow one is given up for the next.
const SWITCH_AFTER: Duration = Duration::from_secs(60);
/// How long a `stopped` may take.
const STOP_PATIENCE: Duration = Duration::from_secs(5);
/// How far the announces after a change of the network are spread (G17).
const NETWORK_JITTER: Duration = Duration::from_secs(3);
/// Least time between two tries that a person asks for, where the tracker does not answer.
const RETRY_MIN: Duration = Duration::from_secs(5);

/// The trackers of one torrent.
///
/// Methods: `handle_*` are inputs, verbs are commands, nouns are getters. Inputs and commands only change
/// state; requests are made by [`Self::handle_timeout`], so after each call the driver looks at
/// [`Self::next_timeout`], which may be the present moment.
#[derive(Debug)]
pub struct Announcer {
    config: AnnouncerConfig,
    /// BEP 7: one for all addresses and all of the session.
    key: u32,
    rng: Rng,
    trackers: Vec<Tracker>,
    tiers: Vec<Tier>,
    /// BEP 27: all trackers are one tier, and only one of them is asked at a time.
    one_at_a_time: bool,
    phase: Phase,
    /// The torrent was completed in this session.
    completed: bool,
    /// Bytes were missing in this session.
    saw_incomplete: bool,
    next_request: u64,
    /// Requests to be taken back.
    cancels: Vec<RequestId>,
    next: Option<Instant>,
}

#[derive(Debug, Default)]
struct Tier {
    /// Indices into the trackers, the one to be tried first in front.
    order: Vec<usize>,
    serving: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    Running,
    Stopping { until: Instant },
    Stopped,
}

impl Announcer {
    /// `tiers` as BEP 12's `announce-list`; each is shuffled. A URL named twice counts once.
    #[must_use]
    pub fn new(config: AnnouncerConfig, tiers: &[Vec<String>], mut rng: Rng) -> Self {
        let mut announcer = Self {
            config,
            key: rng.next_u64() as u32,
            rng,
            trackers: Vec::new(),
            tiers: Vec::new(),
            one_at_a_time: false,
            phase: Phase::Idle,
            completed: false,
            saw_incomplete: false,
            next_request: 0,
            cancels: Vec::new(),
            next: None,
        };
        let mut named: Vec<&str> = Vec::new();
        for (tier, urls) in tiers.iter().enumerate() {
            for url in urls {
                let url = url.trim();
                if !url.is_empty() && !named.contains(&url) && named.len() < TRACKERS_MAX {
                    named.push(url);
                    announcer.insert_tracker(tier, url);
                }
            }
        }
        for tier in &mut announcer.tiers {
            announcer.rng.shuffle(&mut tier.order);
        }
        announcer
    }

    /// For private torrents (BEP 27): the tiers are tried one after the other, and one tracker is used at
    /// a time. To be called before the first start.
    pub fn use_one_at_a_time(&mut self) {
        let order = self.tiers.drain(..).flat_map(|tier| tier.order).collect();
        let serving = None;
        self.tiers.push(Tier { order, serving });
        for tracker in &mut self.trackers {
            tracker.tier = 0;
        }
        self.one_at_a_time = true;
    }

    /// One more tracker, at the end of its tier; a tier past the last one makes a new one. `None` where
    /// it is known already or there are too many.
    pub fn add_tracker(&mut self, now: Instant, tier: usize, url: &str) -> Option<TrackerId> {
        let text = url.trim();
        let known = |it: &Tracker| it.url.as_ref().is_some_and(|url| url.as_str() == text);
        if self.trackers.len() >= TRACKERS_MAX || self.trackers.iter().any(known) {
            return None;
        }
        let id = self.insert_tracker(tier, text);
        if self.phase == Phase::Running {
            self.next = Some(now);
        }
        Some(id)
    }

    /// Begins a session: `started` to every tier.
    pub fn start(&mut self, now: Instant) {
        if self.phase == Phase::Running {
            return;
        }
        self.drop_attempts();
        for tracker in &mut self.trackers {
            tracker.reset(now);
        }
        (self.completed, self.saw_incomplete) = (false, false);
        self.phase = Phase::Running;
        self.next = Some(now);
    }

    /// All that was wanted has been downloaded. Trackers hear of it only if an earlier
    /// [`Self::handle_timeout`] of this session saw bytes missing, and only once.
    pub fn completed(&mut self, now: Instant) {
        if self.phase != Phase::Running || self.completed || !self.saw_incomplete {
            return;
        }
        self.completed = true;
        for tracker in self.trackers.iter_mut().filter(|it| it.registered) {
            tracker.due = now;
        }
        self.next = Some(now);
    }

    /// Ends the session: `stopped` to every tracker that accepted a `started`. What has not been answered
    /// after five seconds is given up; see [`Self::is_stopped`].
    pub fn stop(&mut self, now: Instant) {
        match self.phase {
            Phase::Running => {}
            Phase::Idle => self.phase = Phase::Stopped,
            Phase::Stopping { .. } | Phase::Stopped => {}
        }
        if self.phase != Phase::Running {
            return;
        }
        self.drop_attempts();
        for tracker in &mut self.trackers {
            tracker.stop_wanted = tracker.registered;
        }
        let until = now + STOP_PATIENCE;
        self.phase = Phase::Stopping { until };
        self.next = Some(now);
    }

    /// A person wants peers now: every tier is announced to as soon as its tracker's `min interval`
    /// (at least a minute) allows, and trackers that failed are tried again.
    pub fn reannounce(&mut self, now: Instant) {
        for tracker in &mut self.trackers {
            tracker.never = false;
            let earliest = |last: Option<Instant>, gap| last.map_or(now, |at| now.max(at + gap));
            let regular = earliest(tracker.last_ok, tracker.min_interval);
            tracker.due = tracker.due.min(regular);
            let retry = earliest(tracker.last_try, RETRY_MIN);
            tracker.not_before = tracker.not_before.min(retry);
        }
        self.wake(now);
    }

    /// The network came back or changed (G17): what waited for lost packets or for a back-off is tried
    /// again within three seconds, spread so that a thousand torrents make no storm.
    pub fn network_changed(&mut self, now: Instant) {
        if self.phase != Phase::Running {
            return;
        }
        for tracker in &mut self.trackers {
            let spread = u64::try_from(NETWORK_JITTER.as_nanos()).unwrap_or(u64::MAX);
            let soon = now + Duration::from_nanos(self.rng.below(spread));
            let regular = tracker
                .last_ok
                .map_or(soon, |at| soon.max(at + tracker.min_interval));
            tracker.due = tracker.due.min(regular);
            if tracker.is_busy() {
                self.cancels
                    .extend(tracker.attempt.take().and_then(|it| it.request()));
                (tracker.due, tracker.not_before) = (regular, soon);
            }
            if tracker.fails > 0 && !tracker.never {
                tracker.fails = 0;
                tracker.not_before = soon;
            }
        }
        self.next = Some(now);
    }

    /// Where we listen from now on; told at the next announce.
    pub fn set_port(&mut self, port: u16) {
        self.config.port = port;
    }

    /// The answer to [`TrackerAction::HttpGet`]; the error is a sentence for people. An answer to a
    /// request that was cancelled is ignored.
    pub fn handle_http(
        &mut self,
        now: Instant,
        request: RequestId,
        result: Result<HttpReply, String>,
        out: &mut Vec<TrackerAction>,
    ) {
        let asked = |it: &Tracker| match it.attempt {
            Some(Attempt::Http { request: id, .. }) => id == request,
            Some(Attempt::Udp(_)) | None => false,
        };
        let Some(index) = self.trackers.iter().position(asked) else {
            return;
        };
        self.wake(now);
        let tracker = &mut self.trackers[index];
        let Some(Attempt::Http { event, .. }) = tracker.attempt.take() else {
            return;
        };
        if matches!(self.phase, Phase::Stopping { .. }) {
            return self.stop_done(index);
        }
        let named = tracker.url.as_ref().is_some_and(|url| url.names_loopback());
        let result = match result {
            Err(error) => Err(Failure::Transport(error)),
            Ok(reply) => {
                let loopback = reply
                    .from
                    .map_or(named, |ip| ip.to_canonical().is_loopback());
                let reply = crate::http_reply::parse_announce(&reply);
                reply
                    .map(|reply| (reply, loopback))
                    .map_err(Failure::Tracker)
            }
        };
        match result {
            Ok((reply, loopback)) => self.accept(index, now, &reply, event, loopback, out),
            Err(failure) => self.fail(index, now, &failure, out),
        }
    }

    /// The answer to [`TrackerAction::Resolve`], with the port that was asked for.
    pub fn handle_resolved(
        &mut self,
        now: Instant,
        request: RequestId,
        result: Result<Vec<SocketAddr>, String>,
        out: &mut Vec<TrackerAction>,
    ) {
        let asked = |it: &Tracker| match &it.attempt {
            Some(Attempt::Udp(round)) => round.resolve == Some(request),
            Some(Attempt::Http { .. }) | None => false,
        };
        let Some(index) = self.trackers.iter().position(asked) else {
            return;
        };
        self.wake(now);
        self.take_addresses(index, now, result, out);
    }

    /// A datagram that is neither uTP nor DHT. False if it answers nothing that was asked here: a reply
    /// counts only from the address that was asked, under the transaction id that was sent there.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        from: SocketAddr,
        bytes: &[u8],
        out: &mut Vec<TrackerAction>,
    ) -> bool {
        let known = self.take_datagram(now, from, bytes, out);
        if known {
            self.wake(now);
        }
        known
    }

    /// When [`Self::handle_timeout`] is to be called next.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        self.next
    }

    /// Whether every `stopped` is answered or given up; true before the first start as well.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        match self.phase {
            Phase::Idle | Phase::Stopped => true,
            Phase::Running => false,
            Phase::Stopping { .. } => self.is_quiet(),
        }
    }

    /// The table of trackers, in the order in which they were named.
    pub fn trackers(&self) -> impl Iterator<Item = TrackerStatus<'_>> {
        let running = self.phase == Phase::Running;
        self.trackers.iter().enumerate().map(move |(i, tracker)| {
            let serves = self.tiers[tracker.tier].serving == Some(i);
            tracker.status(serves, running)
        })
    }

    fn is_quiet(&self) -> bool {
        let mut all = self.trackers.iter();
        self.cancels.is_empty() && all.all(|it| !it.stop_wanted && it.attempt.is_none())
    }

    fn insert_tracker(&mut self, tier: usize, url: &str) -> TrackerId {
        let index = self.trackers.len();
        let named_tier = tier.min(self.tiers.len());
        let tier = if self.one_at_a_time { 0 } else { named_tier };
        if tier == self.tiers.len() {
            self.tiers.push(Tier::default());
        }
        let id = TrackerId(u32::try_from(index).expect("at most TRACKERS_MAX"));
        self.trackers.push(Tracker::new(id, tier, named_tier, url));
        self.tiers[tier].order.push(index);
        id
    }

    /// How long an answer may take before the next of the tier is asked.
    fn hedge_after(&self) -> Duration {
        if self.one_at_a_time {
            SWITCH_AFTER
        } else {
            HEDGE_AFTER
        }
    }

    fn drop_attempts(&mut self) {
        for tracker in &mut self.trackers {
            self.cancels
                .extend(tracker.attempt.take().and_then(|it| it.request()));
        }
        for tier in &mut self.tiers {
            tier.serving = None;
        }
    }

    /// Something changed: have the driver call `handle_timeout` at once.
    fn wake(&mut self, now: Instant) {
        match self.phase {
            Phase::Running | Phase::Stopping { .. } => self.next = Some(now),
            Phase::Idle | Phase::Stopped => {}
        }
    }
}
