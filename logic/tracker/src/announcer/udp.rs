//! Announces to UDP trackers: what a [`Round`] sends, and what comes back.

use std::net::{IpAddr, SocketAddr};

use torr_base::Instant;

use super::round::{Patience, Round, Step};
use super::tracker::{Attempt, Failure};
use super::types::{Stats, TrackerAction};
use super::{Announcer, Phase, RequestId};
use crate::announce::{Event, NO_REASON, TrackerError};
use crate::policy::{Hop, Purpose, allowed_address};
use crate::udp::{UdpReply, UdpRequest, transaction_of_reply};
use crate::url::TrackerUrl;

impl Announcer {
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
    pub(super) fn drive_round(
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
                self.stop_serving(index);
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
                    Event::Completed | Event::None | Event::Paused
                        if tracker.is_registered_at(to) =>
                    {
                        round.event
                    }
                    Event::Completed | Event::None | Event::Paused | Event::Started => {
                        Event::Started
                    }
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
                    round.refusal = Some(match message.is_empty() {
                        true => NO_REASON.to_owned(),
                        false => message,
                    });
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

pub(super) fn resolve(request: RequestId, url: &TrackerUrl) -> TrackerAction {
    TrackerAction::Resolve {
        request,
        host: url.host().to_owned(),
        port: url.port(),
    }
}
