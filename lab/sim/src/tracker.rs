//! Trackers, true and false, over HTTP and UDP.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use torr_base::Instant;
use torr_bencode::encode_dict;
use torr_node::{HttpReply, LookUp, TrackerRequest};
use torr_tracker::udp::{UdpReply, UdpRequest};
use torr_tracker::{AnnounceReply, Event as Announced};

use crate::fidelity::Fidelity;
use crate::host::{Host, HostId};
use crate::world::{Event, Work, World};

/// What a tracker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// Answers as it should.
    True,
    /// Never answers.
    Stalls,
    /// Answers rubbish.
    Rubbish,
    /// Always fails.
    Fails,
    /// Asks to be asked again at once, or never.
    OddInterval(i64),
    /// Names peers that do not exist.
    FalsePeers,
    /// Answers well until then, and then never again.
    Vanishes(Instant),
}

/// One tracker.
#[derive(Clone, Debug)]
pub struct Tracker {
    /// What it does.
    pub mood: Mood,
    /// BEP 15 instead of HTTP.
    pub udp: bool,
    /// Seconds between announces.
    pub interval: u32,
    /// Peers it knows: whether they are complete.
    pub(crate) peers: BTreeMap<SocketAddr, bool>,
    /// Announces it got, by host.
    pub(crate) asked: BTreeMap<HostId, Vec<Instant>>,
}

/// What reaches a host that asked.
#[derive(Debug)]
pub(crate) enum Answer {
    Http {
        request: TrackerRequest,
        reply: Result<HttpReply, String>,
    },
    Resolved {
        request: LookUp,
        addrs: Result<Vec<SocketAddr>, String>,
    },
    Datagram {
        from: SocketAddr,
        bytes: Vec<u8>,
    },
    /// To a group that it listens to.
    Local {
        from: SocketAddr,
        bytes: Vec<u8>,
    },
}

/// One way between a host and a tracker.
const WAY: Duration = Duration::from_millis(40);
/// When a driver gives up on a tracker that does not answer.
const HTTP_TIMEOUT: Duration = Duration::from_secs(30);
/// Peers in one answer.
const NUMWANT: usize = 50;

impl Tracker {
    /// A tracker of that mood.
    #[must_use]
    pub fn new(mood: Mood, udp: bool) -> Self {
        Self {
            mood,
            udp,
            interval: 1_800,
            peers: BTreeMap::new(),
            asked: BTreeMap::new(),
        }
    }

    /// It knows of a peer that never announced itself.
    pub fn introduce(&mut self, peer: SocketAddr, complete: bool) {
        self.peers.insert(peer, complete);
    }

    pub(crate) fn url(&self, number: usize) -> String {
        let addr = addr_of(number);
        if self.udp {
            format!("udp://{addr}/announce")
        } else {
            format!("http://{addr}/announce")
        }
    }

    /// Notes the announce; what is answered, if anything.
    fn announce(
        &mut self,
        now: Instant,
        from: SocketAddr,
        left: u64,
        event: Announced,
        rng: &mut torr_base::Rng,
    ) -> Option<AnnounceReply> {
        let mut reply = AnnounceReply {
            interval_secs: Some(self.interval),
            ..AnnounceReply::default()
        };
        match self.mood {
            Mood::Stalls => return None,
            Mood::Vanishes(when) if now >= when => return None,
            Mood::True | Mood::Vanishes(_) | Mood::Rubbish | Mood::Fails => {}
            Mood::OddInterval(secs) => reply.interval_secs = Some(secs as u32),
            Mood::FalsePeers => {
                let fake = (1..=NUMWANT as u8).map(|n| SocketAddr::from(([11, 255, n, 1], 6881)));
                reply.peers = fake.collect();
                return Some(reply);
            }
        }
        match event {
            Announced::Stopped => {
                self.peers.remove(&from);
            }
            Announced::None | Announced::Started | Announced::Completed | Announced::Paused => {
                self.peers.insert(from, left == 0);
            }
        }
        let others = self.peers.iter().filter(|(peer, _)| **peer != from);
        // Seeds have no use for seeds.
        let useful = others.filter(|(_, complete)| left > 0 || !**complete);
        let mut peers: Vec<_> = useful.map(|(peer, _)| *peer).collect();
        rng.shuffle(&mut peers);
        peers.truncate(NUMWANT);
        reply.peers = peers;
        reply.seeds = Some(self.peers.values().filter(|complete| **complete).count() as u32);
        reply.leechers = Some(self.peers.values().filter(|complete| !**complete).count() as u32);
        Some(reply)
    }
}

/// Where the tracker of that number is.
fn addr_of(number: usize) -> SocketAddr {
    SocketAddr::from(([12, 0, number as u8, 1], 8_000))
}

fn number_of(addr: SocketAddr) -> Option<usize> {
    match addr.ip() {
        IpAddr::V4(ip) if ip.octets().starts_with(&[12, 0]) => Some(ip.octets()[2].into()),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    }
}

fn http_body(reply: &AnnounceReply, odd: Option<i64>) -> Vec<u8> {
    encode_dict(|d| {
        let interval = reply.interval_secs.unwrap_or_default();
        d.int("interval", odd.unwrap_or_else(|| interval.into()));
        let mut peers = Vec::new();
        for peer in &reply.peers {
            if let IpAddr::V4(ip) = peer.ip() {
                peers.extend_from_slice(&ip.octets());
                peers.extend_from_slice(&peer.port().to_be_bytes());
            }
        }
        d.bytes("peers", peers);
    })
}

impl<F: Fidelity> World<F> {
    /// A node asks a tracker over HTTP.
    pub(crate) fn http(&mut self, host: HostId, request: TrackerRequest, url: &str) {
        let now = self.now();
        let rest = url.split_once("://").map_or("", |(_, rest)| rest);
        let (place, query) = rest.split_once('/').unwrap_or((rest, ""));
        let number = place.parse().ok().and_then(number_of);
        let query = query.split_once('?').map_or("", |(_, query)| query);
        let param = |name: &str| {
            let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs
                .clone()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value)
        };
        let number_param = |name| param(name).and_then(|value| value.parse::<u64>().ok());
        let port = number_param("port").unwrap_or_default() as u16;
        let event = match param("event") {
            Some("stopped") => Announced::Stopped,
            Some("completed") => Announced::Completed,
            Some("started") => Announced::Started,
            Some(_) | None => Announced::None,
        };
        let from = SocketAddr::new(self.hosts[host].addr.ip(), port);
        let rng = &mut self.rng;
        let tracker = number.and_then(|number| self.trackers.get_mut(number));
        let reply = match tracker {
            None => Err("no such host".to_owned()),
            Some(_) if self.hosts[host].cut => Err("timed out".to_owned()),
            Some(tracker) => {
                tracker.asked.entry(host).or_default().push(now);
                let left = number_param("left").unwrap_or_default();
                let mood = tracker.mood;
                let reply = tracker.announce(now, from, left, event, rng);
                let odd = if let Mood::OddInterval(secs) = mood {
                    Some(secs)
                } else {
                    None
                };
                match (mood, reply) {
                    (Mood::Rubbish, _) => Ok(HttpReply::new(200, "<html>".repeat(10_000))),
                    (Mood::Fails, _) => Ok(HttpReply::new(500, "")),
                    (_, Some(reply)) => Ok(HttpReply::new(200, http_body(&reply, odd))),
                    (_, None) => Err("timed out".to_owned()),
                }
            }
        };
        let wait = if reply.is_err() {
            HTTP_TIMEOUT
        } else {
            WAY * 4
        };
        let answer = Answer::Http { request, reply };
        self.agenda.at(now + wait, Event::Tracker { host, answer });
    }

    /// A node sends a datagram.
    pub(crate) fn datagram(&mut self, host: HostId, to: SocketAddr, bytes: Vec<u8>) {
        let from = self.hosts[host].addr;
        if self.hosts[host].cut {
            return;
        }
        let Some(tracker) = number_of(to) else {
            self.datagram_to_node(from, to, &bytes);
            return;
        };
        for when in self.udp_arrivals() {
            let bytes = bytes.clone();
            let event = Event::ToTracker {
                tracker,
                host,
                from,
                bytes,
            };
            self.agenda.at(when, event);
        }
    }

    /// … to another node.
    fn datagram_to_node(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let Some(host) = self.hosts.iter().position(|host| host.addr == to) else {
            return;
        };
        for when in self.udp_arrivals() {
            let bytes = bytes.to_vec();
            let answer = Answer::Datagram { from, bytes };
            self.agenda.at(when, Event::Tracker { host, answer });
        }
    }

    /// … to everybody, itself too, as groups are here.
    pub(crate) fn multicast(&mut self, host: HostId, group: SocketAddr, bytes: &[u8]) {
        let from = self.hosts[host].addr;
        if from.is_ipv4() != group.is_ipv4() {
            return;
        }
        for host in 0..self.hosts.len() {
            for when in self.udp_arrivals() {
                let bytes = bytes.to_vec();
                let answer = Answer::Local { from, bytes };
                self.agenda.at(when, Event::Tracker { host, answer });
            }
        }
    }

    /// When copies of a datagram arrive: none, one, or two, in any order.
    fn udp_arrivals(&mut self) -> Vec<Instant> {
        let now = self.now();
        let copies = 1 + usize::from(self.rng.below(100) < self.weather.udp_twice);
        let mut arrivals = Vec::new();
        for _ in 0..copies {
            if self.rng.below(100) >= self.weather.udp_loss {
                arrivals.push(now + WAY + Duration::from_millis(self.rng.below(30)));
            }
        }
        arrivals
    }

    pub(crate) fn reach_tracker(
        &mut self,
        number: usize,
        host: HostId,
        from: SocketAddr,
        bytes: &[u8],
    ) {
        let now = self.now();
        let rng = &mut self.rng;
        let Some(tracker) = self.trackers.get_mut(number).filter(|tracker| tracker.udp) else {
            return;
        };
        let silent = match tracker.mood {
            Mood::Stalls => true,
            Mood::Vanishes(when) => now >= when,
            Mood::True | Mood::Rubbish | Mood::Fails | Mood::OddInterval(_) | Mood::FalsePeers => {
                false
            }
        };
        let Some(request) = UdpRequest::decode(bytes).filter(|_| !silent) else {
            return;
        };
        let transaction = request.transaction();
        let connection = 0x7065_6572 ^ host as u64;
        let reply = match request {
            UdpRequest::Connect { .. } => UdpReply::Connect {
                transaction,
                connection,
            },
            UdpRequest::Announce {
                announce,
                connection: said,
                ..
            } => {
                tracker.asked.entry(host).or_default().push(now);
                let from = SocketAddr::new(from.ip(), announce.port);
                let reply = tracker.announce(now, from, announce.left, announce.event, rng);
                match (reply, tracker.mood) {
                    (Some(reply), Mood::True | Mood::OddInterval(_) | Mood::FalsePeers)
                    | (Some(reply), Mood::Vanishes(_))
                        if said == connection =>
                    {
                        UdpReply::Announce { transaction, reply }
                    }
                    (_, _) => UdpReply::Error {
                        transaction,
                        message: "no".to_owned(),
                    },
                }
            }
            UdpRequest::Scrape { .. } => UdpReply::Error {
                transaction,
                message: "no scrape".to_owned(),
            },
        };
        let mut bytes = reply.encode();
        if tracker.mood == Mood::Rubbish {
            rng.fill(&mut bytes);
        }
        for when in self.udp_arrivals() {
            let answer = Answer::Datagram {
                from: addr_of(number),
                bytes: bytes.clone(),
            };
            self.agenda.at(when, Event::Tracker { host, answer });
        }
    }

    pub(crate) fn tracker_answer(&mut self, host: HostId, answer: Answer) {
        let now = self.now();
        self.trace.note(now, host, b'T', 0, 0);
        let arrives = match &answer {
            Answer::Http { .. } | Answer::Resolved { .. } => true,
            Answer::Datagram { .. } | Answer::Local { .. } => !self.hosts[host].cut,
        };
        let home = self.hosts.get_mut(host).and_then(Host::node_mut);
        let Some(home) = home.filter(|_| arrives) else {
            return;
        };
        match answer {
            Answer::Http { request, reply } => home.node.handle_http(now, request, reply),
            Answer::Resolved { request, addrs } => home.node.handle_resolved(now, request, addrs),
            Answer::Datagram { from, bytes } => home.node.handle_datagram(now, from, &bytes),
            Answer::Local { from, bytes } => home.node.handle_local(now, from, &bytes),
        }
        self.work.push_back(Work::Drain(host));
    }
}
