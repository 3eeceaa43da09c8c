//! The decisions of an [`Announcer`]: who is asked next, with which event, and when to look again.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use torr_base::Instant;

use super::round::Round;
use super::tracker::{Attempt, Failure};
use super::types::{Stats, TrackerAction};
use super::udp::resolve;
use super::{Announcer, Phase, RequestId};
use crate::announce::{AnnounceRequest, Event};
use crate::http::announce_url;
use crate::url::Scheme;

/// A GET that the driver has not answered by then has been forgotten. It has time-outs of its own, which
/// are shorter, and makes requests to one host wait for each other.
const HTTP_PATIENCE: Duration = Duration::from_secs(360);
/// More peers than this are never asked for at once.
const NUMWANT_MAX: u32 = 200;

impl Announcer {
    /// Makes every request that is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant, stats: &Stats, out: &mut Vec<TrackerAction>) {
        let cancels = self.cancels.drain(..);
        out.extend(cancels.map(|request| TrackerAction::Cancel { request }));
        match self.phase {
            Phase::Idle | Phase::Stopped => {}
            Phase::Running => {
                self.saw_incomplete |= stats.left > 0;
                self.drop_forgotten(now, out);
                for tier in 0..self.tiers.len() {
                    self.drive_tier(tier, now, stats, out);
                }
                self.tell_completed(now, stats, out);
            }
            Phase::Stopping { until } => self.drive_stop(until, now, stats, out),
        }
        for index in 0..self.trackers.len() {
            self.drive_round(index, now, stats, out);
        }
        if matches!(self.phase, Phase::Stopping { .. }) && self.is_quiet() {
            self.phase = Phase::Stopped;
        }
        self.next = self.plan(now);
    }

    /// Gives up requests that nobody will answer any more.
    fn drop_forgotten(&mut self, now: Instant, out: &mut Vec<TrackerAction>) {
        for index in 0..self.trackers.len() {
            if let Some(Attempt::Http { request, since, .. }) = self.trackers[index].attempt
                && now >= since + HTTP_PATIENCE
            {
                out.push(TrackerAction::Cancel { request });
                let failure = Failure::Transport("no answer".to_owned());
                self.fail(index, now, &failure, out);
            }
        }
    }

    fn drive_tier(
        &mut self,
        tier: usize,
        now: Instant,
        stats: &Stats,
        out: &mut Vec<TrackerAction>,
    ) {
        let index = match self.tiers[tier].serving {
            Some(index) => {
                let tracker = &self.trackers[index];
                Some(index).filter(|_| tracker.due <= now && self.may_be_asked(index, now))
            }
            None if self.has_fresh_attempt(tier, now) => None,
            None => {
                let order = &self.tiers[tier].order;
                let mut order = order.iter().copied();
                order.find(|index| self.may_be_asked(*index, now))
            }
        };
        if let Some(index) = index {
            if self.one_at_a_time {
                self.drop_others(index, now, out);
            }
            let tracker = &self.trackers[index];
            let event = if !tracker.registered {
                Event::Started
            } else if self.owes_completed(index) {
                Event::Completed
            } else {
                Event::None
            };
            self.begin(index, event, now, stats, out);
        }
    }

    /// BEP 27: whoever has not answered by now is given up before another one is asked.
    fn drop_others(&mut self, index: usize, now: Instant, out: &mut Vec<TrackerAction>) {
        for other in (0..self.trackers.len()).filter(|other| *other != index) {
            let busy = self.trackers[other].is_busy();
            let Some(attempt) = self.trackers[other].attempt.take() else {
                continue;
            };
            let request = attempt.request();
            out.extend(request.map(|request| TrackerAction::Cancel { request }));
            if busy {
                let failure = Failure::Transport("no answer".to_owned());
                self.fail(other, now, &failure, out);
            }
        }
    }

    /// Trackers that have accepted a `started` but serve no tier hear of the completion as well, once.
    fn tell_completed(&mut self, now: Instant, stats: &Stats, out: &mut Vec<TrackerAction>) {
        for index in 0..self.trackers.len() {
            if self.owes_completed(index) && self.may_be_asked(index, now) {
                self.begin(index, Event::Completed, now, stats, out);
            }
        }
    }

    fn drive_stop(
        &mut self,
        until: Instant,
        now: Instant,
        stats: &Stats,
        out: &mut Vec<TrackerAction>,
    ) {
        for index in 0..self.trackers.len() {
            let tracker = &mut self.trackers[index];
            if now >= until {
                let request = tracker.attempt.take().and_then(|it| it.request());
                out.extend(request.map(|request| TrackerAction::Cancel { request }));
                tracker.stop_wanted = false;
            } else if tracker.stop_wanted && tracker.attempt.is_none() {
                self.begin(index, Event::Stopped, now, stats, out);
            }
        }
    }

    /// Whether somebody of the tier was asked so lately that an answer may be waited for.
    fn has_fresh_attempt(&self, tier: usize, now: Instant) -> bool {
        let mut order = self.tiers[tier].order.iter();
        order.any(|index| {
            let tracker = &self.trackers[*index];
            let attempt = tracker.attempt.as_ref().filter(|_| tracker.is_busy());
            attempt.is_some_and(|it| now < it.since() + self.hedge_after())
        })
    }

    fn may_be_asked(&self, index: usize, now: Instant) -> bool {
        let tracker = &self.trackers[index];
        tracker.is_usable() && !tracker.is_busy() && self.ready_at(index) <= now
    }

    /// Before this the tracker is left alone, whoever wants to ask it: because it failed, or because it
    /// has nothing new to hear so soon after its last answer.
    fn ready_at(&self, index: usize) -> Instant {
        let tracker = &self.trackers[index];
        let has_news = !tracker.registered || self.owes_completed(index);
        let last = tracker.last_ok.filter(|_| !has_news);
        let regular = last.map_or(Instant::ZERO, |at| at + tracker.min_interval);
        tracker.not_before.max(regular)
    }

    pub(super) fn owes_completed(&self, index: usize) -> bool {
        let tracker = &self.trackers[index];
        self.completed && tracker.registered && !tracker.completed_done
    }

    fn begin(
        &mut self,
        index: usize,
        event: Event,
        now: Instant,
        stats: &Stats,
        out: &mut Vec<TrackerAction>,
    ) {
        let request = self.new_request();
        let announce = self.request(index, event, stats);
        let tracker = &mut self.trackers[index];
        let Some(url) = &tracker.url else { return };
        let old = tracker.attempt.take().and_then(|it| it.request());
        out.extend(old.map(|request| TrackerAction::Cancel { request }));
        tracker.last_try = Some(now);
        match url.scheme() {
            Scheme::Http | Scheme::Https => {
                let url = announce_url(url, &announce);
                let since = now;
                tracker.attempt = Some(Attempt::Http {
                    request,
                    event,
                    since,
                });
                out.push(TrackerAction::HttpGet { request, url });
            }
            Scheme::Udp => {
                let mut round = Round::new(event, now);
                if event == Event::Stopped {
                    let registered = tracker.endpoints.iter().filter(|it| it.registered);
                    round.set_addresses(&registered.map(|it| it.addr).collect::<Vec<_>>());
                    tracker.attempt = Some(Attempt::Udp(round));
                } else if let Ok(ip) = url.host().parse::<IpAddr>() {
                    let addr = SocketAddr::new(ip, url.port());
                    tracker.attempt = Some(Attempt::Udp(round));
                    self.take_addresses(index, now, Ok(vec![addr]), out);
                } else {
                    round.resolve = Some(request);
                    out.push(resolve(request, url));
                    tracker.attempt = Some(Attempt::Udp(round));
                }
            }
        }
    }

    pub(super) fn request(&self, index: usize, event: Event, stats: &Stats) -> AnnounceRequest {
        let wanted = if event == Event::Stopped {
            0
        } else {
            stats.peers_wanted
        };
        // BEP 21: in each announce. Those that have a word of their own keep it.
        let event = match event {
            Event::None if stats.partial_seed => Event::Paused,
            Event::None | Event::Completed | Event::Started | Event::Stopped | Event::Paused => {
                event
            }
        };
        AnnounceRequest {
            info_hash: self.config.info_hash,
            peer_id: self.config.peer_id,
            port: self.config.port,
            uploaded: stats.uploaded,
            downloaded: stats.downloaded,
            left: stats.left,
            corrupt: stats.corrupt,
            event,
            key: self.key,
            numwant: Some(wanted.min(NUMWANT_MAX)),
            tracker_id: self.trackers[index].tracker_id.clone(),
            ipv4: self.config.ipv4,
            ipv6: self.config.ipv6,
        }
    }

    pub(super) fn new_request(&mut self) -> RequestId {
        self.next_request += 1;
        RequestId(self.next_request - 1)
    }

    /// When something is due next.
    fn plan(&self, now: Instant) -> Option<Instant> {
        let attempts = self
            .trackers
            .iter()
            .filter_map(|it| match it.attempt.as_ref()? {
                Attempt::Udp(round) => round.next_timeout(now),
                Attempt::Http { since, .. } => Some(*since + HTTP_PATIENCE),
            });
        let other = match self.phase {
            Phase::Idle | Phase::Stopped => return None,
            Phase::Stopping { until } => Some(until),
            Phase::Running => {
                let tiers = (0..self.tiers.len()).filter_map(|tier| self.plan_tier(tier, now));
                let owed = (0..self.trackers.len()).filter(|index| self.owes_completed(*index));
                let owed = owed.map(|index| &self.trackers[index]);
                let owed = owed
                    .filter(|it| !it.is_busy() && it.is_usable())
                    .map(|it| it.not_before);
                tiers.chain(owed).min()
            }
        };
        attempts.chain(other).min()
    }

    fn plan_tier(&self, tier: usize, now: Instant) -> Option<Instant> {
        let tier = &self.tiers[tier];
        if let Some(index) = tier.serving {
            let tracker = &self.trackers[index];
            return (!tracker.is_busy()).then_some(tracker.due.max(self.ready_at(index)));
        }
        let mut idle = None::<Instant>;
        let mut fresh_until = now;
        for index in tier.order.iter().copied() {
            let tracker = &self.trackers[index];
            if let Some(attempt) = tracker.attempt.as_ref().filter(|_| tracker.is_busy()) {
                fresh_until = fresh_until.max(attempt.since() + self.hedge_after());
            } else if tracker.is_usable() {
                let at = self.ready_at(index);
                idle = Some(idle.map_or(at, |idle| idle.min(at)));
            }
        }
        idle.map(|at| at.max(fresh_until))
    }
}
