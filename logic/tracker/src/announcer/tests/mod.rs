//! Schedules in virtual time: a world in which every tracker's behaviour is one closure.
#![allow(clippy::wildcard_enum_match_arm)]

mod events;
mod hostile;
mod model;
mod tiers;
mod udp;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use torr_base::{InfoHash, Instant, PeerId, Rng};

use super::{
    Announcer, AnnouncerConfig, RequestId, Stats, TrackerAction, TrackerEvent, TrackerState,
};
use crate::announce::HttpReply;

pub(super) const GOOD: &[u8] =
    b"d8:completei3e10:incompletei4e8:intervali1800e5:peers6:\x08\x08\x08\x08\x1a\xe1e";

/// How a tracker answers a GET: after how long, and what; `None` is never.
pub(super) type Answer = Option<(Duration, Result<HttpReply, String>)>;
type Tracker<'w> = Box<dyn FnMut(&str) -> Answer + 'w>;
/// When, what it answers, and the answer.
type Pending = (Instant, RequestId, Result<HttpReply, String>);

/// Drives an announcer whose HTTP trackers are told apart by host.
pub(super) struct World<'w> {
    pub(super) announcer: Announcer,
    pub(super) now: Instant,
    pub(super) stats: Stats,
    trackers: BTreeMap<String, Tracker<'w>>,
    pending: Vec<Pending>,
    /// Second and URL of every GET.
    pub(super) gets: Vec<(u64, String)>,
    /// What nobody answers here: datagrams, look-ups, cancellations, news.
    pub(super) rest: Vec<TrackerAction>,
}

pub(super) fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub(super) fn good() -> Answer {
    Some((Duration::from_millis(50), Ok(HttpReply::new(200, GOOD))))
}

pub(super) fn refused() -> Answer {
    Some((Duration::from_millis(5), Err("connection refused".into())))
}

pub(super) fn says(body: impl Into<Vec<u8>>) -> Answer {
    Some((Duration::from_millis(50), Ok(HttpReply::new(200, body))))
}

pub(super) fn announcer(tiers: &[&[&str]]) -> Announcer {
    let own = |urls: &&[&str]| urls.iter().map(|url| (*url).to_owned()).collect();
    let tiers: Vec<Vec<String>> = tiers.iter().map(own).collect();
    let config = AnnouncerConfig {
        info_hash: InfoHash([0x41; 20]),
        peer_id: PeerId(*b"-TR0100-abcdefghijkl"),
        port: 6881,
        ipv4: None,
        ipv6: None,
    };
    Announcer::new(config, &tiers, Rng::new(1))
}

impl<'w> World<'w> {
    pub(super) fn new(tiers: &[&[&str]]) -> Self {
        Self {
            announcer: announcer(tiers),
            now: Instant::ZERO + secs(1000),
            stats: Stats {
                left: 100,
                peers_wanted: 50,
                ..Stats::default()
            },
            trackers: BTreeMap::new(),
            pending: Vec::new(),
            gets: Vec::new(),
            rest: Vec::new(),
        }
    }

    pub(super) fn tracker(mut self, host: &str, answer: impl FnMut(&str) -> Answer + 'w) -> Self {
        self.trackers.insert(host.to_owned(), Box::new(answer));
        self
    }

    pub(super) fn start(&mut self) {
        self.announcer.start(self.now);
    }

    /// Lets `span` pass, with everything that happens meanwhile.
    pub(super) fn run(&mut self, span: Duration) {
        let end = self.now + span;
        let mut steps = 0;
        loop {
            steps += 1;
            assert!(steps < 100_000, "time does not pass");
            let reply = self.pending.iter().map(|(at, _, _)| *at).min();
            let due = [self.announcer.next_timeout(), reply];
            let Some(at) = due.into_iter().flatten().min().filter(|at| *at <= end) else {
                break;
            };
            self.now = self.now.max(at);
            let mut out = Vec::new();
            if let Some(i) = self.pending.iter().position(|(at, _, _)| *at <= self.now) {
                let (_, request, result) = self.pending.remove(i);
                self.announcer
                    .handle_http(self.now, request, result, &mut out);
            }
            if self
                .announcer
                .next_timeout()
                .is_some_and(|at| at <= self.now)
            {
                self.announcer
                    .handle_timeout(self.now, &self.stats, &mut out);
            }
            self.act(out);
        }
        self.now = end;
    }

    fn act(&mut self, actions: Vec<TrackerAction>) {
        for action in actions {
            if let TrackerAction::HttpGet { request, url } = &action {
                let host = url
                    .split("://")
                    .nth(1)
                    .unwrap()
                    .split(['/', ':'])
                    .next()
                    .unwrap();
                self.gets
                    .push((self.now.as_nanos() / 1_000_000_000, url.clone()));
                let tracker = self
                    .trackers
                    .get_mut(host)
                    .expect("every tracker is played");
                if let Some((after, result)) = tracker(url) {
                    self.pending.push((self.now + after, *request, result));
                }
            } else {
                if let TrackerAction::Cancel { request } = &action {
                    self.pending.retain(|(_, id, _)| id != request);
                }
                self.rest.push(action);
            }
        }
    }

    /// Host and event of each GET so far.
    pub(super) fn events(&self) -> Vec<(String, String)> {
        self.gets
            .iter()
            .map(|(_, url)| (host(url), argument(url, "event")))
            .collect()
    }

    /// The seconds, since the world began, at which `name` was asked.
    pub(super) fn times(&self, name: &str) -> Vec<u64> {
        let of = self.gets.iter().filter(|(_, url)| host(url) == name);
        of.map(|(at, _)| at - 1000).collect()
    }

    pub(super) fn peers(&self) -> Vec<SocketAddr> {
        let peers = self.rest.iter().filter_map(|action| match action {
            TrackerAction::Peers { peers, .. } => Some(peers.clone()),
            _ => None,
        });
        peers.flatten().collect()
    }

    pub(super) fn states(&self) -> Vec<TrackerState> {
        self.announcer.trackers().map(|it| it.state).collect()
    }

    pub(super) fn failures(&self) -> Vec<String> {
        let failures = self.rest.iter().filter_map(|action| match action {
            TrackerAction::Status {
                event: TrackerEvent::Failed { error, .. },
                ..
            } => Some(error.clone()),
            _ => None,
        });
        failures.collect()
    }
}

pub(super) fn host(url: &str) -> String {
    url.split("://")
        .nth(1)
        .unwrap()
        .split(['/', ':'])
        .next()
        .unwrap()
        .to_owned()
}

pub(super) fn argument(url: &str, name: &str) -> String {
    let (_, query) = url.split_once('?').unwrap();
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .find(|(key, _)| *key == name)
        .map_or_else(String::new, |(_, value)| value.to_owned())
}
