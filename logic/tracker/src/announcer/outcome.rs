//! What an answer, or the lack of one, changes.

use torr_base::Instant;

use super::tracker::Failure;
use super::types::{TrackerAction, TrackerEvent};
use super::{Announcer, Phase};
use crate::announce::{AnnounceReply, Event};
use crate::policy::allowed_peer;

impl Announcer {
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
        let serving = self.tiers[tracker.tier].serving;
        let served = serving == Some(index);
        if served {
            self.stop_serving(index);
        } else if gives_up && serving.is_some() {
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

    /// The tracker at `index` no longer serves its tier. Another one that accepted a `started` and has not
    /// failed since takes over, at the time that it set itself; else the tier is without one.
    pub(super) fn stop_serving(&mut self, index: usize) {
        let tier = &mut self.tiers[self.trackers[index].tier];
        let next = tier.order.iter().copied().find(|other| {
            let tracker = &self.trackers[*other];
            let good = tracker.registered && tracker.fails == 0 && !tracker.never;
            *other != index && good && !tracker.is_busy()
        });
        tier.serving = next;
    }

    pub(super) fn stop_done(&mut self, index: usize) {
        let tracker = &mut self.trackers[index];
        tracker.attempt = None;
        (tracker.stop_wanted, tracker.registered) = (false, false);
    }
}
