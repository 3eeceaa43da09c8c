//! The decisions of an [`Announcer`]: who is asked next, and what an answer changes.

use std::net::{IpAddr, SocketAddr};

use torr_base::Instant;

use super::round::{Patience, Round, Step};
use super::tracker::{Attempt, Failure};
use super::types::{Stats, TrackerAction, TrackerEvent};
use super::{Announcer, HEDGE_AFTER, Phase, RequestId};
use crate::announce::{AnnounceReply, AnnounceRequest, Event, TrackerError};
use crate::http::announce_url;
use crate::policy::{Hop, Purpose, allowed_address, allowed_peer};
use crate::udp::{UdpReply, UdpRequest, transaction_of_reply};
use crate::url::{Scheme, TrackerUrl};

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
                Some(index).filter(|_| tracker.due <= now && tracker.may_be_asked(now))
            }
            None if self.has_fresh_attempt(tier, now) => None,
            None => {
                let order = &self.tiers[tier].order;
                let mut order = order.iter().copied();
                order.find(|index| self.trackers[*index].may_be_asked(now))
            }
        };
        if let Some(index) = index {
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

    /// Trackers that have accepted a `started` but serve no tier hear of the completion as well, once.
    fn tell_completed(&mut self, now: Instant, stats: &Stats, out: &mut Vec<TrackerAction>) {
        for index in 0..self.trackers.len() {
            if self.owes_completed(index) && self.trackers[index].may_be_asked(now) {
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
            attempt.is_some_and(|it| now < it.since() + HEDGE_AFTER)
        })
    }

    fn owes_completed(&self, index: usize) -> bool {
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

    fn request(&self, index: usize, event: Event, stats: &Stats) -> AnnounceRequest {
        let wanted = if event == Event::Stopped {
            0
        } else {
            stats.peers_wanted
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

    /// The look-up for the UDP round of this tracker has ended.
    pub(super) fn take_addresses(
        &mut self,
        index: usize,
        now: Instant,
        result: Result<Vec<SocketAddr>, String>,
        out: &mut Vec<TrackerAction>,
    ) {
        let tracker = &mut self.trackers[index];
        let (Some(url), Some(Attempt::Udp(round))) = (&tracker.url, &mut tracker.attempt) else {
            return;
        };
        round.resolve = None;
        let result = result.and_then(|addrs| allowed(url, &addrs));
        match result {
            Ok(addrs) => round.set_addresses(&addrs),
            // A look-up in the middle of a conversation changes nothing by failing.
            Err(_) if !round.conversations.is_empty() => {}
            Err(error) => self.fail(index, now, &Failure::Transport(error), out),
        }
    }

    /// Sends what the UDP round of this tracker has to send, and ends it where it is over.
    fn drive_round(
        &mut self,
        index: usize,
        now: Instant,
        stats: &Stats,
        out: &mut Vec<TrackerAction>,
    ) {
        if !matches!(self.trackers[index].attempt, Some(Attempt::Udp(_))) {
            return;
        }
        let Some(Attempt::Udp(mut round)) = self.trackers[index].attempt.take() else {
            return;
        };
        let stopping = matches!(self.phase, Phase::Stopping { .. });
        let tier = self.trackers[index].tier;
        let serving = self.tiers[tier].serving;
        let last_try = stopping || round.answered || serving.is_some_and(|it| it != index);
        let (mut late, mut again) = (false, false);
        for at in 0..round.conversations.len() {
            match round.conversations[at].check_patience(now, last_try) {
                Patience::Left => {}
                Patience::Over => late = true,
                Patience::Retry { resolve } => (late, again) = (true, again || resolve),
            }
            if round.conversations[at].step == Step::Ready {
                self.send(index, &mut round, at, now, stats, out);
            }
        }
        if late && !round.answered {
            self.trackers[index].last_error = Some("no answer so far".to_owned());
            if serving == Some(index) {
                self.tiers[tier].serving = None;
            }
        }
        let url = self.trackers[index].url.as_ref();
        let url = url.filter(|url| url.host().parse::<IpAddr>().is_err());
        if let Some(url) = url.filter(|_| again && round.resolve.is_none()) {
            let request = RequestId(self.next_request);
            self.next_request += 1;
            round.resolve = Some(request);
            out.push(resolve(request, url));
        }
        if !round.is_over() {
            self.trackers[index].attempt = Some(Attempt::Udp(round));
        } else if stopping {
            self.stop_done(index);
        } else if !round.answered {
            let failure = match round.refusal {
                Some(reason) => Failure::Tracker(TrackerError::Refused {
                    reason,
                    retry: None,
                }),
                None => Failure::Transport("no answer".to_owned()),
            };
            self.fail(index, now, &failure, out);
        }
    }

    /// Sends the announce of one conversation, or the connect that must come before it.
    fn send(
        &mut self,
        index: usize,
        round: &mut Round,
        at: usize,
        now: Instant,
        stats: &Stats,
        out: &mut Vec<TrackerAction>,
    ) {
        let transaction = self.rng.next_u64() as u32;
        let tracker = &self.trackers[index];
        let conversation = &mut round.conversations[at];
        let (to, until) = (conversation.addr(), conversation.until(now));
        let packet = match tracker.connection(to, now) {
            None => {
                conversation.step = Step::Connecting { transaction, until };
                UdpRequest::Connect { transaction }
            }
            Some(connection) => {
                // Each family is a tracker of its own to the tracker: it must hear `started` first.
                let event = match round.event {
                    Event::Completed | Event::None if tracker.is_registered_at(to) => round.event,
                    Event::Completed | Event::None | Event::Started => Event::Started,
                    Event::Stopped => Event::Stopped,
                };
                conversation.step = Step::Announcing {
                    transaction,
                    until,
                    event,
                };
                let url_data = tracker.url.as_ref().map_or("", TrackerUrl::path_and_query);
                UdpRequest::Announce {
                    connection,
                    transaction,
                    announce: self.request(index, event, stats),
                    url_data: url_data.as_bytes().to_vec(),
                }
            }
        };
        let bytes = packet.encode();
        out.push(TrackerAction::Datagram { to, bytes });
    }

    pub(super) fn take_datagram(
        &mut self,
        now: Instant,
        from: SocketAddr,
        bytes: &[u8],
        out: &mut Vec<TrackerAction>,
    ) -> bool {
        let Some(id) = transaction_of_reply(bytes) else {
            return false;
        };
        for index in 0..self.trackers.len() {
            let Some(Attempt::Udp(round)) = &mut self.trackers[index].attempt else {
                continue;
            };
            let Some(conversation) = round.asked(from, id) else {
                continue;
            };
            let (addr, step) = (conversation.addr(), conversation.step);
            match (UdpReply::decode(bytes, from), step) {
                (Some(UdpReply::Connect { connection, .. }), Step::Connecting { .. }) => {
                    conversation.step = Step::Ready;
                    self.trackers[index].endpoint(addr).connection = Some((connection, now));
                }
                (Some(UdpReply::Announce { reply, .. }), Step::Announcing { event, .. }) => {
                    conversation.step = Step::Over;
                    round.answered = true;
                    let endpoint = self.trackers[index].endpoint(addr);
                    endpoint.registered = event != Event::Stopped;
                    let loopback = from.ip().to_canonical().is_loopback();
                    self.accept(index, now, &reply, event, loopback, out);
                }
                (Some(UdpReply::Error { message, .. }), _) => {
                    conversation.step = Step::Over;
                    round.refusal = Some(message);
                    // The connection id may be what it did not like.
                    self.trackers[index].endpoint(addr).connection = None;
                }
                // Cut short, or an answer to something else: as if it had not come.
                (
                    None
                    | Some(
                        UdpReply::Connect { .. }
                        | UdpReply::Announce { .. }
                        | UdpReply::Scrape { .. },
                    ),
                    _,
                ) => {}
            }
            return true;
        }
        false
    }

    /// An announce of this tracker was answered.
    pub(super) fn accept(
        &mut self,
        index: usize,
        now: Instant,
        reply: &AnnounceReply,
        event: Event,
        loopback: bool,
        out: &mut Vec<TrackerAction>,
    ) {
        if event == Event::Stopped {
            return;
        }
        let tracker = &mut self.trackers[index];
        tracker.registered = true;
        tracker.completed_done |= event == Event::Completed;
        let warning_before = tracker.warning().map(str::to_owned);
        let next = tracker.answered(now, reply, loopback);
        let from = tracker.id;
        let warning = tracker.warning().map(str::to_owned);
        if self.owes_completed(index) {
            self.trackers[index].due = now;
        }
        let tier = &mut self.tiers[self.trackers[index].tier];
        if tier.serving.is_none() {
            tier.serving = Some(index);
            tier.order.retain(|it| *it != index);
            tier.order.insert(0, index);
        }
        let mut peers = reply.peers.clone();
        peers.retain(|peer| allowed_peer(*peer, loopback));
        let event = TrackerEvent::Announced {
            peers: peers.len(),
            seeds: reply.seeds,
            leechers: reply.leechers,
            next,
        };
        if !peers.is_empty() {
            out.push(TrackerAction::Peers { from, peers });
        }
        if let Some(ip) = reply.external_ip {
            out.push(TrackerAction::ExternalIp { from, ip });
        }
        out.push(TrackerAction::Status { from, event });
        if let Some(warning) = warning.filter(|it| Some(it) != warning_before.as_ref()) {
            let event = TrackerEvent::Warning(warning);
            out.push(TrackerAction::Status { from, event });
        }
    }

    /// An announce of this tracker failed: its tier goes on to the next.
    pub(super) fn fail(
        &mut self,
        index: usize,
        now: Instant,
        failure: &Failure,
        out: &mut Vec<TrackerAction>,
    ) {
        if matches!(self.phase, Phase::Stopping { .. }) {
            return self.stop_done(index);
        }
        let gives_up = self.owes_completed(index);
        let tracker = &mut self.trackers[index];
        let (error, retry) = tracker.failed(now, failure, &mut self.rng);
        let (from, fails) = (tracker.id, tracker.fails);
        let tier = &mut self.tiers[tracker.tier];
        let served = tier.serving == Some(index);
        if served {
            tier.serving = None;
        } else if gives_up && tier.serving.is_some() {
            // It serves nobody, so nobody will ask it again.
            tracker.completed_done = true;
        }
        let event = TrackerEvent::Failed {
            error,
            fails,
            retry,
        };
        out.push(TrackerAction::Status { from, event });
    }

    pub(super) fn stop_done(&mut self, index: usize) {
        let tracker = &mut self.trackers[index];
        tracker.attempt = None;
        (tracker.stop_wanted, tracker.registered) = (false, false);
    }

    fn new_request(&mut self) -> RequestId {
        self.next_request += 1;
        RequestId(self.next_request - 1)
    }

    /// When something is due next.
    fn plan(&self, now: Instant) -> Option<Instant> {
        let rounds = self.trackers.iter().filter_map(|it| match &it.attempt {
            Some(Attempt::Udp(round)) => round.next_timeout(now),
            Some(Attempt::Http { .. }) | None => None,
        });
        let other = match self.phase {
            Phase::Idle | Phase::Stopped => return None,
            Phase::Stopping { until } => Some(until),
            Phase::Running => {
                let tiers = (0..self.tiers.len()).filter_map(|tier| self.plan_tier(tier, now));
                let owed = (0..self.trackers.len()).filter(|index| self.owes_completed(*index));
                let owed = owed.map(|index| &self.trackers[index]);
                let owed = owed
                    .filter(|it| !it.is_busy() && !it.never)
                    .map(|it| it.not_before);
                tiers.chain(owed).min()
            }
        };
        rounds.chain(other).min()
    }

    fn plan_tier(&self, tier: usize, now: Instant) -> Option<Instant> {
        let tier = &self.tiers[tier];
        if let Some(index) = tier.serving {
            let tracker = &self.trackers[index];
            return (!tracker.is_busy()).then_some(tracker.due.max(tracker.not_before));
        }
        let mut idle = None::<Instant>;
        let mut fresh_until = now;
        for tracker in tier.order.iter().map(|index| &self.trackers[*index]) {
            if let Some(attempt) = tracker.attempt.as_ref().filter(|_| tracker.is_busy()) {
                fresh_until = fresh_until.max(attempt.since() + HEDGE_AFTER);
            } else if tracker.url.is_some() && !tracker.never {
                let at = tracker.not_before;
                idle = Some(idle.map_or(at, |idle| idle.min(at)));
            }
        }
        idle.map(|at| at.max(fresh_until))
    }
}

/// The addresses of a UDP tracker that may be connected to, mapped ones as the IPv4 ones that they are.
fn allowed(url: &TrackerUrl, addrs: &[SocketAddr]) -> Result<Vec<SocketAddr>, String> {
    let hop = Hop {
        purpose: Purpose::Tracker,
        // Over UDP a path is optional, and nothing but a tracker reads it.
        path: match url.path() {
            "" | "/" => "/announce",
            path => path,
        },
        query: url.query(),
        redirected_by: None,
        allow_private: false,
    };
    let mut refused = "the name has no address".to_owned();
    let mut out = Vec::new();
    for addr in addrs {
        let addr = SocketAddr::new(addr.ip().to_canonical(), addr.port());
        match allowed_address(addr.ip(), &hop) {
            Ok(()) => out.push(addr),
            Err(why) => refused = why.to_string(),
        }
    }
    if out.is_empty() {
        Err(refused)
    } else {
        Ok(out)
    }
}

fn resolve(request: RequestId, url: &TrackerUrl) -> TrackerAction {
    TrackerAction::Resolve {
        request,
        host: url.host().to_owned(),
        port: url.port(),
    }
}
