//! One tracker: what is known of it, and when it may be asked again.

use std::net::SocketAddr;
use std::time::Duration;

use torr_base::{Instant, Rng};

use super::round::Round;
use super::types::{RequestId, TrackerId, TrackerState, TrackerStatus};
use crate::announce::{AnnounceReply, Event, Retry, TrackerError};
use crate::mask::{mask, mask_reply, mask_text};
use crate::policy::is_tracker_path;
use crate::url::{Scheme, TrackerUrl};

/// G15: no tracker is asked more often than this, whatever it says.
const INTERVAL_MIN: Duration = Duration::from_secs(60);
/// Where the tracker says nothing, or nothing sensible.
const INTERVAL_DEFAULT: Duration = Duration::from_secs(30 * 60);
/// A longer one would take the tracker out of use; who asks every three hours disturbs nobody.
const INTERVAL_MAX: Duration = Duration::from_secs(3 * 60 * 60);
/// `min interval` above this is cut, so that `reannounce` works within the hour.
const MIN_INTERVAL_MAX: Duration = Duration::from_secs(60 * 60);
/// A loopback tracker's `min interval` counts as it stands, down to this: tests want it short.
const INTERVAL_MIN_LOOPBACK: Duration = Duration::from_secs(1);

/// First wait after a failure on the way; doubled each time. BEP 15 begins with the same number.
const BACKOFF: Duration = Duration::from_secs(15);
const BACKOFF_MAX: Duration = Duration::from_secs(30 * 60);
/// First wait after the tracker itself refused.
const BACKOFF_REFUSED_MAX: Duration = Duration::from_secs(60 * 60);

/// BEP 15: a client may use a connection id for a minute.
const CONNECTION_LIFE: Duration = Duration::from_secs(60);
/// Addresses of a UDP tracker of which anything is remembered.
const ENDPOINTS_MAX: usize = 8;

#[derive(Debug)]
pub(super) struct Tracker {
    pub(super) id: TrackerId,
    pub(super) tier: usize,
    /// The tier that it was named in, for people.
    named_tier: usize,
    /// `None` where it can not be used; `last_error` says why.
    pub(super) url: Option<TrackerUrl>,
    masked: String,
    pub(super) attempt: Option<Attempt>,
    /// The next regular announce, where this tracker serves its tier.
    pub(super) due: Instant,
    /// Back-off: nothing before this.
    pub(super) not_before: Instant,
    /// BEP 31: the tracker said so.
    pub(super) never: bool,
    pub(super) fails: u32,
    /// It has accepted a `started` and no `stopped` since.
    pub(super) registered: bool,
    /// It has heard of the completion, or will not hear of it any more.
    pub(super) completed_done: bool,
    /// A `stopped` is still to be sent.
    pub(super) stop_wanted: bool,
    pub(super) tracker_id: Option<Vec<u8>>,
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) last_try: Option<Instant>,
    pub(super) last_ok: Option<Instant>,
    /// Time between two announces that may not be undercut.
    pub(super) min_interval: Duration,
    pub(super) last_error: Option<String>,
    warning: Option<String>,
    seeds: Option<u32>,
    leechers: Option<u32>,
    downloaded: Option<u32>,
    peers: usize,
}

/// An announce under way.
#[derive(Debug)]
pub(super) enum Attempt {
    Http {
        request: RequestId,
        event: Event,
        since: Instant,
    },
    Udp(Round),
}

/// One address of a UDP tracker.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) addr: SocketAddr,
    /// Connection id and when it came.
    pub(super) connection: Option<(u64, Instant)>,
    /// It has accepted a `started` and no `stopped` since.
    pub(super) registered: bool,
}

/// Why an announce failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// On the way: name, connection, time-out.
    Transport(String),
    Tracker(TrackerError),
}

impl Attempt {
    pub(super) fn since(&self) -> Instant {
        match self {
            Self::Http { since, .. } => *since,
            Self::Udp(round) => round.since,
        }
    }

    /// One address family has answered; the other may still.
    pub(super) fn is_answered(&self) -> bool {
        match self {
            Self::Http { .. } => false,
            Self::Udp(round) => round.answered,
        }
    }

    pub(super) fn request(&self) -> Option<RequestId> {
        match self {
            Self::Http { request, .. } => Some(*request),
            Self::Udp(round) => round.resolve,
        }
    }
}

impl Tracker {
    pub(super) fn new(id: TrackerId, tier: usize, named_tier: usize, text: &str) -> Self {
        let (url, last_error) = match usable(text) {
            Ok(url) => (Some(url), None),
            Err(why) => (None, Some(why)),
        };
        Self {
            id,
            tier,
            named_tier,
            url,
            masked: mask(text),
            attempt: None,
            due: Instant::ZERO,
            not_before: Instant::ZERO,
            never: false,
            fails: 0,
            registered: false,
            completed_done: false,
            stop_wanted: false,
            tracker_id: None,
            endpoints: Vec::new(),
            last_try: None,
            last_ok: None,
            min_interval: INTERVAL_MIN,
            last_error,
            warning: None,
            seeds: None,
            leechers: None,
            downloaded: None,
            peers: 0,
        }
    }

    /// Waiting for an answer without which it is not known to work.
    pub(super) fn is_busy(&self) -> bool {
        self.attempt.as_ref().is_some_and(|it| !it.is_answered())
    }

    /// Worth asking at some time.
    pub(super) fn is_usable(&self) -> bool {
        self.url.is_some() && !self.never
    }

    /// Begins a new session with it.
    pub(super) fn reset(&mut self, now: Instant) {
        (self.registered, self.completed_done, self.stop_wanted) = (false, false, false);
        (self.fails, self.never) = (0, false);
        (self.due, self.not_before) = (now, now);
        (self.last_ok, self.last_error) =
            (None, self.last_error.take().filter(|_| self.url.is_none()));
        for endpoint in &mut self.endpoints {
            endpoint.registered = false;
        }
    }

    /// Takes in a reply; the time until the next announce.
    pub(super) fn answered(
        &mut self,
        now: Instant,
        reply: &AnnounceReply,
        on_loopback: bool,
    ) -> Duration {
        let secs = |secs: u32| Duration::from_secs(u64::from(secs));
        let asked_min = reply.min_interval_secs.map(secs);
        let floor = match asked_min {
            Some(min) if on_loopback => min.clamp(INTERVAL_MIN_LOOPBACK, INTERVAL_MIN),
            _ => INTERVAL_MIN,
        };
        self.min_interval = asked_min.unwrap_or(floor).clamp(floor, MIN_INTERVAL_MAX);
        let asked = reply.interval_secs.map_or(INTERVAL_DEFAULT, secs);
        let interval = asked.clamp(self.min_interval, INTERVAL_MAX);
        (self.fails, self.last_error) = (0, None);
        (self.last_ok, self.not_before) = (Some(now), now);
        self.due = now + interval;
        if reply.tracker_id.is_some() {
            self.tracker_id.clone_from(&reply.tracker_id);
        }
        self.warning = reply.warning.as_ref().map(|text| self.mask_reply(text));
        self.seeds = reply.seeds.or(self.seeds);
        self.leechers = reply.leechers.or(self.leechers);
        self.downloaded = reply.downloaded.or(self.downloaded);
        self.peers = reply.peers.len();
        interval
    }

    /// Takes in a failure: what to tell people, and the time until the next try, if there is to be one.
    pub(super) fn failed(
        &mut self,
        now: Instant,
        failure: &Failure,
        rng: &mut Rng,
    ) -> (String, Option<Duration>) {
        self.attempt = None;
        self.fails = self.fails.saturating_add(1);
        let error = match failure {
            Failure::Transport(text) => mask_text(text),
            Failure::Tracker(error) => self.mask_reply(&error.to_string()),
        };
        self.last_error = Some(error.clone());
        let doublings = (self.fails - 1).min(12);
        let wait = match failure {
            Failure::Tracker(TrackerError::Refused {
                retry: Some(Retry::Never),
                ..
            }) => {
                self.never = true;
                return (error, None);
            }
            Failure::Tracker(TrackerError::Refused {
                retry: Some(Retry::After(wait)),
                ..
            }) => (*wait).max(INTERVAL_MIN),
            Failure::Tracker(_) => (INTERVAL_MIN * (1 << doublings)).min(BACKOFF_REFUSED_MAX),
            // A quarter less at the least, and so spread over half of its length.
            Failure::Transport(_) => (BACKOFF * (1 << doublings)).min(BACKOFF_MAX) * 3 / 4,
        };
        let wait = wait + random_part(wait / 2, rng);
        self.not_before = now + wait;
        (error, Some(wait))
    }

    pub(super) fn endpoint(&mut self, addr: SocketAddr) -> &mut Endpoint {
        let at = self.endpoints.iter().position(|it| it.addr == addr);
        let at = at.unwrap_or_else(|| {
            if self.endpoints.len() >= ENDPOINTS_MAX {
                let old = self.endpoints.iter().position(|it| !it.registered);
                self.endpoints.remove(old.unwrap_or(0));
            }
            self.endpoints.push(Endpoint {
                addr,
                connection: None,
                registered: false,
            });
            self.endpoints.len() - 1
        });
        &mut self.endpoints[at]
    }

    /// The connection id for `addr`, if it still holds.
    pub(super) fn connection(&self, addr: SocketAddr, now: Instant) -> Option<u64> {
        let endpoint = self.endpoints.iter().find(|it| it.addr == addr)?;
        let (id, since) = endpoint.connection?;
        (now < since + CONNECTION_LIFE).then_some(id)
    }

    pub(super) fn is_registered_at(&self, addr: SocketAddr) -> bool {
        let mut endpoints = self.endpoints.iter();
        endpoints.any(|it| it.addr == addr && it.registered)
    }

    pub(super) fn mask_reply(&self, text: &str) -> String {
        mask_reply(self.url.as_ref().map_or("", TrackerUrl::as_str), text)
    }

    pub(super) fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    pub(super) fn status(&self, serves: bool, running: bool) -> TrackerStatus<'_> {
        let busy = self.is_busy();
        let state = if !self.is_usable() {
            TrackerState::Unusable
        } else if self.fails == 0 && self.last_ok.is_some() {
            TrackerState::Working
        } else if busy {
            TrackerState::Announcing
        } else if self.fails > 0 {
            TrackerState::Failing
        } else {
            TrackerState::Standby
        };
        let planned = match state {
            TrackerState::Unusable | TrackerState::Standby | TrackerState::Announcing => None,
            TrackerState::Working => serves.then_some(self.due),
            TrackerState::Failing => Some(self.not_before),
        };
        TrackerStatus {
            id: self.id,
            tier: self.named_tier,
            url: &self.masked,
            state,
            last_error: self.last_error.as_deref(),
            warning: self.warning(),
            seeds: self.seeds,
            leechers: self.leechers,
            downloaded: self.downloaded,
            peers: self.peers,
            next_announce: planned.filter(|_| running && !busy),
            fails: self.fails,
        }
    }
}

/// The URL, if it is one that may be announced to; else why not, for people.
fn usable(text: &str) -> Result<TrackerUrl, String> {
    let url = TrackerUrl::parse(text).map_err(|error| error.to_string())?;
    // The transport judges the address that it really connects to; this is for the query, which there
    // can no longer be told from what the announce adds.
    if url.names_loopback() {
        let bare_udp = url.scheme() == Scheme::Udp && matches!(url.path(), "" | "/");
        if !bare_udp && !is_tracker_path(url.path()) {
            return Err(crate::policy::Refused::LoopbackPath.to_string());
        }
        if url.query().is_some() {
            return Err(crate::policy::Refused::LoopbackQuery.to_string());
        }
    }
    Ok(url)
}

fn random_part(span: Duration, rng: &mut Rng) -> Duration {
    let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(rng.below(nanos))
}
