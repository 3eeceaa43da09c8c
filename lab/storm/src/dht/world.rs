//! Hosts, datagrams and time.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use torr_base::{InfoHash, Instant, Rng};
use torr_dht::message::Message;
use torr_dht::{Announce, Bootstrap, Dht, DhtAction, DhtConfig, Outcome, SearchId};
use torr_sim::Agenda;

use super::Options;
use super::hostile::{HOSTILE, Role, Scene, is_victim, lies, with_false_address};
use super::report::{Flood, Report, Sample};

/// All hosts come in this time.
const JOINS: Duration = Duration::from_secs(10 * 60);
/// Then they have this to find their places.
const SETTLES: Duration = Duration::from_secs(6 * 60);
/// Hosts that announce each of the torrents that everybody knows.
const ANNOUNCERS: usize = 5;
/// One way: 50 ms in the mean.
const LATENCY_MILLIS: std::ops::Range<u64> = 30..70;
/// Hosts that a name leads to.
const NAMED: usize = 4;

struct Host {
    addr: SocketAddr,
    role: Role,
    /// `None` before it joins and after it left.
    dht: Option<Box<Dht>>,
    /// The wake that counts; others are stale.
    wake: Instant,
}

enum Event {
    Join(usize),
    Leave(usize),
    Wake(usize),
    Packet {
        from: SocketAddr,
        to: SocketAddr,
        bytes: Vec<u8>,
    },
    Resolved {
        host: usize,
        request: torr_dht::ResolveId,
    },
    Announce(usize),
    /// Begins one of the lookups that count.
    Lookup,
}

/// A lookup that counts.
struct Trial {
    info_hash: InfoHash,
    started: Instant,
    first: Option<Instant>,
    /// Where it announces: the host whose turn it is to find that afterwards.
    announces: bool,
    bytes: u64,
    victims: u32,
}

pub(crate) struct World {
    options: Options,
    rng: Rng,
    agenda: Agenda<Event>,
    hosts: Vec<Host>,
    by_addr: BTreeMap<SocketAddr, usize>,
    /// Hosts that are there, in no order that means anything.
    live: Vec<usize>,
    sybils: Vec<SocketAddr>,
    /// Who announces what: each torrent has several.
    announcers: BTreeMap<InfoHash, Vec<SocketAddr>>,
    hashes: Vec<InfoHash>,
    trials: BTreeMap<(usize, SearchId), Trial>,
    samples: Vec<Sample>,
    measuring: bool,
    events: u64,
    packets: u64,
    bytes: u64,
    out: Vec<DhtAction>,
}

impl World {
    pub(crate) fn new(options: Options) -> Self {
        let rng = Rng::new(options.seed).fork("dht", options.nodes as u64);
        let mut world = Self {
            rng,
            agenda: Agenda::new(),
            hosts: Vec::new(),
            by_addr: BTreeMap::new(),
            live: Vec::new(),
            sybils: Vec::new(),
            announcers: BTreeMap::new(),
            hashes: Vec::new(),
            trials: BTreeMap::new(),
            samples: Vec::new(),
            measuring: false,
            events: 0,
            packets: 0,
            bytes: 0,
            out: Vec::new(),
            options,
        };
        let nodes = world.options.nodes;
        for n in 0..nodes {
            let host = world.new_host();
            // The first ones are there from the start.
            let at = JOINS.mul_f64(n.saturating_sub(NAMED) as f64 / nodes as f64);
            world.agenda.at(Instant::ZERO + at, Event::Join(host));
        }
        world
    }

    /// Lets all hosts come and settle, and some of them announce.
    pub(crate) fn join_all(&mut self) {
        let ready = Instant::ZERO + JOINS + SETTLES;
        let torrents = (self.options.nodes / 50).clamp(4, 200);
        for _ in 0..torrents {
            let mut hash = [0; 20];
            self.rng.fill(&mut hash);
            self.hashes.push(InfoHash(hash));
        }
        for n in 0..torrents * ANNOUNCERS {
            let wait = self.rng.below(SETTLES.as_nanos() as u64 / 2);
            let at = Instant::ZERO + JOINS + Duration::from_nanos(wait);
            self.agenda.at(at, Event::Announce(n % torrents));
        }
        self.run_until(ready);
    }

    /// Kills some, lets others come and go, and looks for what was announced.
    pub(crate) fn measure(&mut self) {
        let dead = self.options.nodes as u64 * self.options.dead / 100;
        for _ in 0..dead {
            let at = self.rng.index(self.live.len());
            self.leave(self.live[at]);
        }
        let (start, time) = (self.agenda.now(), self.options.measured);
        let hours = time.as_secs_f64() / 3_600.0;
        let leaving = self.options.nodes as f64 * self.options.churn as f64 / 100.0 * hours;
        for _ in 0..leaving as usize {
            let at = start + Duration::from_nanos(self.rng.below(time.as_nanos() as u64));
            let gone = self.rng.index(self.hosts.len());
            self.agenda.at(at, Event::Leave(gone));
            let host = self.new_host();
            self.agenda.at(at, Event::Join(host));
        }
        for n in 0..self.options.lookups {
            let at = start + time.mul_f64(n as f64 / self.options.lookups as f64);
            self.agenda.at(at, Event::Lookup);
        }
        (self.measuring, self.packets, self.bytes) = (true, 0, 0);
        self.run_until(start + time + Duration::from_secs(20));
        self.measuring = false;
    }

    /// 50,000 queries a second from made-up addresses, for ten seconds, at one honest node; others that
    /// it knows ask it ten times a second meanwhile.
    pub(crate) fn flood(&mut self) -> Flood {
        let honest = |at: &&usize| self.hosts[**at].role == Role::Honest;
        let host = *self.live.iter().find(honest).expect("an honest node");
        let mut rng = self.rng.fork("flood", 0);
        let mut flood = Flood::default();
        // A second of rest, so that what it did before does not count.
        let start = self.agenda.now() + Duration::from_secs(1);
        let id = self.hosts[host]
            .dht
            .as_ref()
            .map(|dht| dht.id(torr_dht::Family::V4));
        let id = id.expect("it is there");
        for n in 0..500_000_u64 {
            let now = start + Duration::from_micros(n * 20);
            let [a, b, c, d, e, f, g, ..] = rng.next_u64().to_be_bytes();
            let from =
                SocketAddr::from(([1 + a % 220, b, c, d], u16::from_be_bytes([e, f]) | 1_024));
            let mut random = [g; 20];
            rng.fill(&mut random);
            let method = match g % 3 {
                0 => torr_dht::message::Method::Ping,
                1 => torr_dht::message::Method::FindNode { target: id },
                _ => torr_dht::message::Method::GetPeers {
                    info_hash: InfoHash(random),
                    noseed: false,
                    scrape: g & 4 != 0,
                },
            };
            let bytes = query(&random, method);
            let Some(dht) = &mut self.hosts[host].dht else {
                break;
            };
            dht.handle_datagram(now, from, &bytes, &mut self.out);
            let second = (n / 50_000) as usize;
            for action in self.out.drain(..) {
                if let DhtAction::Send { to, bytes } = action {
                    let reply = to == from;
                    flood.add(second, bytes.len(), reply);
                }
            }
            flood.packets += 1;
            if n % 5_000 == 0 {
                dht.check_invariants();
            }
        }
        flood
    }

    pub(crate) fn report(mut self, flood: Option<Flood>) -> Report {
        let mut nodes = 0;
        for at in &self.live {
            if let Some(dht) = &self.hosts[*at].dht {
                dht.check_invariants();
                nodes += dht.stats(self.agenda.now()).nodes[0];
            }
        }
        let live = self.live.len().max(1);
        let seconds = self.options.measured.as_secs_f64().max(1.0);
        Report::new(
            std::mem::take(&mut self.samples),
            flood,
            nodes as f64 / live as f64,
            self.packets as f64 / live as f64 / seconds * 3_600.0,
            self.bytes as f64 / live as f64 / seconds,
            self.events,
        )
    }

    // ---- time

    fn run_until(&mut self, end: Instant) {
        while let Some(event) = self.agenda.next(end) {
            self.events += 1;
            self.handle(event);
        }
        self.agenda.pass_to(end);
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Join(host) => self.join(host),
            Event::Leave(host) => self.leave(host),
            Event::Wake(host) => {
                if self.hosts[host].wake == self.agenda.now() {
                    self.with(host, |dht, now, out| dht.handle_timeout(now, out));
                }
            }
            Event::Packet { from, to, bytes } => self.deliver(from, to, &bytes),
            Event::Resolved { host, request } => {
                let named = (0..NAMED).map(|_| self.live[self.rng.index(self.live.len())]);
                let named: Vec<_> = named.collect();
                let mut addrs: Vec<_> = named.iter().map(|at| self.hosts[*at].addr).collect();
                addrs.retain(|addr| *addr != self.hosts[host].addr);
                self.with(host, |dht, now, out| {
                    dht.handle_resolved(now, request, Ok(addrs), out);
                });
            }
            Event::Announce(torrent) => self.announce(torrent),
            Event::Lookup => self.look_up(),
        }
    }

    // ---- hosts

    fn new_host(&mut self) -> usize {
        let share = self.rng.below(100) < self.options.hostile && self.hosts.len() > NAMED;
        let role = match share {
            true => HOSTILE[self.rng.index(HOSTILE.len())],
            false => Role::Honest,
        };
        let addr = loop {
            let [a, b, c, d, e, f, ..] = self.rng.next_u64().to_be_bytes();
            let addr =
                SocketAddr::from(([11 + a % 80, b, c, d], u16::from_be_bytes([e, f]) | 1_024));
            if !self.by_addr.contains_key(&addr) {
                break addr;
            }
        };
        let at = self.hosts.len();
        self.by_addr.insert(addr, at);
        if role == Role::Sybil {
            self.sybils.push(addr);
        }
        self.hosts.push(Host {
            addr,
            role,
            dht: None,
            wake: Instant::ZERO,
        });
        at
    }

    fn join(&mut self, host: usize) {
        let config = DhtConfig {
            ipv6: false,
            bootstrap: Bootstrap::Hosts(vec![("start.example".to_owned(), 1)]),
            ..DhtConfig::default()
        };
        let rng = self.rng.fork("node", host as u64);
        let mut secret = [0; 32];
        self.rng.fork("secret", host as u64).fill(&mut secret);
        let dht = Dht::new(config, rng, secret, None, self.agenda.now());
        self.hosts[host].dht = Some(Box::new(dht));
        self.live.push(host);
        self.with(host, |dht, now, out| dht.handle_timeout(now, out));
    }

    /// Without a word.
    fn leave(&mut self, host: usize) {
        self.hosts[host].dht = None;
        self.live.retain(|at| *at != host);
        self.trials.retain(|(of, _), _| *of != host);
    }

    fn with(&mut self, host: usize, f: impl FnOnce(&mut Dht, Instant, &mut Vec<DhtAction>)) {
        let mut out = std::mem::take(&mut self.out);
        if let Some(dht) = &mut self.hosts[host].dht {
            f(dht, self.agenda.now(), &mut out);
        }
        for action in out.drain(..) {
            self.act(host, action);
        }
        self.out = out;
        self.plan_wake(host);
    }

    fn plan_wake(&mut self, at: usize) {
        let Some(dht) = &self.hosts[at].dht else {
            return;
        };
        let Some(next) = dht.next_timeout() else {
            return;
        };
        let next = next.max(self.agenda.now());
        let host = &mut self.hosts[at];
        if host.wake != next || next == self.agenda.now() {
            host.wake = next;
            self.agenda.at(next, Event::Wake(at));
        }
    }

    fn act(&mut self, host: usize, action: DhtAction) {
        match action {
            DhtAction::Send { to, bytes } => {
                let from = self.hosts[host].addr;
                self.count(host, to, &bytes);
                self.send(from, to, bytes);
            }
            DhtAction::Resolve { request, .. } => {
                let at = self.agenda.now() + Duration::from_millis(50);
                self.agenda.at(at, Event::Resolved { host, request });
            }
            DhtAction::Peers { search, peers } => {
                let hosts = &self.hosts;
                let by_addr = &self.by_addr;
                let live = |addr| by_addr.get(addr).is_some_and(|at| hosts[*at].dht.is_some());
                if let Some(trial) = self.trials.get_mut(&(host, search)) {
                    let right = self.announcers.get(&trial.info_hash);
                    let found = peers
                        .iter()
                        .any(|it| right.is_some_and(|all| all.contains(it)) && live(it));
                    if found && trial.first.is_none() {
                        trial.first = Some(self.agenda.now());
                    }
                }
            }
            DhtAction::Done { search, outcome } => {
                if let Some(trial) = self.trials.remove(&(host, search)) {
                    self.finish(host, &trial, outcome);
                }
            }
            DhtAction::ExternalIp { ip } => {
                assert_eq!(ip, self.hosts[host].addr.ip(), "liars never win the vote");
            }
        }
    }

    // ---- datagrams

    fn send(&mut self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        if self.rng.below(100) < self.options.loss {
            return;
        }
        let span = LATENCY_MILLIS.end - LATENCY_MILLIS.start;
        let micros = LATENCY_MILLIS.start * 1_000 + self.rng.below(span * 1_000);
        let at = self.agenda.now() + Duration::from_micros(micros);
        self.agenda.at(at, Event::Packet { from, to, bytes });
    }

    fn deliver(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let Some(host) = self.by_addr.get(&to).copied() else {
            return;
        };
        let role = self.hosts[host].role;
        if self.hosts[host].dht.is_none() {
            return;
        }
        if role != Role::Honest && self.lie(host, role, from, bytes) {
            return;
        }
        if !self.trials.is_empty() && bytes.windows(7).any(|it| it == b"5:token") {
            let mine = self.trials.range_mut((host, SearchId::from_unique(0))..);
            if let Some(((of, _), trial)) = mine.into_iter().next()
                && *of == host
            {
                trial.bytes += bytes.len() as u64;
            }
        }
        self.with(host, |dht, now, out| {
            dht.handle_datagram(now, from, bytes, out);
        });
    }

    /// Whether a hostile node dealt with a datagram its own way.
    fn lie(&mut self, host: usize, role: Role, from: SocketAddr, bytes: &[u8]) -> bool {
        let Ok(message) = Message::decode(bytes) else {
            return false;
        };
        let me = self.hosts[host].addr;
        if role == Role::LiesAboutAddress {
            let mut out = Vec::new();
            if let Some(dht) = &mut self.hosts[host].dht {
                dht.handle_datagram(self.agenda.now(), from, bytes, &mut out);
            }
            for action in out {
                if let DhtAction::Send { to, bytes } = action {
                    let bytes = with_false_address(&bytes).unwrap_or(bytes);
                    self.send(me, to, bytes);
                } else {
                    self.act(host, action);
                }
            }
            self.plan_wake(host);
            return true;
        }
        let everybody: Vec<_> = (0..8)
            .map(|_| self.hosts[self.rng.index(self.hosts.len())].addr)
            .collect();
        let scene = Scene {
            me,
            asker: from,
            accomplices: &self.sybils,
            everybody: &everybody,
        };
        let Some(lies) = lies(role, &scene, &message, &mut self.rng) else {
            return false;
        };
        for (as_if_from, bytes) in lies {
            self.send(as_if_from, from, bytes);
        }
        true
    }

    // ---- what is measured

    fn count(&mut self, host: usize, to: SocketAddr, bytes: &[u8]) {
        if !self.measuring {
            return;
        }
        self.packets += 1;
        self.bytes += bytes.len() as u64;
        if self.trials.is_empty() || !bytes.windows(11).any(|it| it == b"9:get_peers") {
            return;
        }
        let mine = self.trials.range_mut((host, SearchId::from_unique(0))..);
        if let Some(((of, _), trial)) = mine.into_iter().next()
            && *of == host
        {
            trial.bytes += bytes.len() as u64;
            trial.victims += u32::from(is_victim(to));
        }
    }

    /// An honest host that is there.
    fn anybody(&mut self) -> usize {
        loop {
            let at = self.live[self.rng.index(self.live.len())];
            if self.hosts[at].role == Role::Honest {
                return at;
            }
        }
    }

    fn announce(&mut self, torrent: usize) {
        let host = self.anybody();
        let hash = self.hashes[torrent];
        let addr = self.hosts[host].addr;
        self.announcers.entry(hash).or_default().push(addr);
        self.with(host, |dht, now, _| {
            let announce = Announce {
                port: addr.port(),
                implied: true,
                seed: false,
            };
            dht.search(now, hash, Some(announce), true);
        });
    }

    /// Half of the lookups are for what several have announced; the others announce something new, which
    /// somebody else then looks for.
    fn look_up(&mut self) {
        if self.rng.one_in(2) {
            let host = self.anybody();
            let hash = self.hashes[self.rng.index(self.hashes.len())];
            let alive = |addr: &SocketAddr| self.hosts[self.by_addr[addr]].dht.is_some();
            if self
                .announcers
                .get(&hash)
                .is_some_and(|all| all.iter().any(alive))
            {
                self.begin(host, hash, false);
            }
            return;
        }
        let host = self.anybody();
        let mut hash = [0; 20];
        self.rng.fill(&mut hash);
        let hash = InfoHash(hash);
        self.announcers.insert(hash, vec![self.hosts[host].addr]);
        self.begin(host, hash, true);
    }

    fn begin(&mut self, host: usize, info_hash: InfoHash, announces: bool) {
        let port = self.hosts[host].addr.port();
        let announce = announces.then_some(Announce {
            port,
            implied: true,
            seed: false,
        });
        let started = self.agenda.now();
        let mut search = None;
        self.with(host, |dht, now, _| {
            search = dht.search(now, info_hash, announce, false);
        });
        if let Some(search) = search {
            let trial = Trial {
                info_hash,
                started,
                first: None,
                announces,
                bytes: 0,
                victims: 0,
            };
            self.trials.insert((host, search), trial);
        }
    }

    fn finish(&mut self, host: usize, trial: &Trial, outcome: Outcome) {
        if trial.announces {
            // The rest of the trial is whether somebody else finds it.
            let other = self.anybody();
            if other != host {
                self.begin(other, trial.info_hash, false);
            }
        }
        self.samples.push(Sample {
            announces: trial.announces,
            took: self.agenda.now().since(trial.started),
            first: trial.first.map(|at| at.since(trial.started)),
            queries: outcome.queries,
            answers: outcome.answers,
            stored: outcome.stored,
            bytes: trial.bytes,
            victims: trial.victims,
        });
    }
}

fn query(random: &[u8; 20], method: torr_dht::message::Method<'_>) -> Vec<u8> {
    let mut id = *random;
    id.reverse();
    let message = Message {
        transaction: &random[..2],
        body: torr_dht::message::Body::Query(torr_dht::message::Query {
            id: torr_dht::NodeId(id),
            want: torr_dht::message::Want::default(),
            method,
        }),
        version: None,
        ip: None,
        read_only: false,
    };
    message.encode()
}
