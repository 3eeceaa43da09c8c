//! The world: hosts, lines between them, time. One event after the other, each followed by everything
//! that it causes at the same moment, and then by the checks.

mod apps;
mod net;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use torr_base::{Bitfield, Instant, PeerId, Rng, Slab};
use torr_node::{MagnetInit, Node, NodeConfig, TorrentInit, TorrentStats, WebFetch};
use torr_store::{DiskDone, StorageId};

use crate::agenda::Agenda;
use crate::check::RateCheck;
use crate::conn::{EndId, Wire, WireKey, WireMark};
use crate::disk::Disk;
use crate::fidelity::{Chunk, Fidelity, PoolGauge};
use crate::host::{Host, HostId, Kind, NodeHost, NodeNews, NodePlan, PuppetHost, addr_of};
use crate::link::{Link, LinkProfile};
use crate::manners::Manners;
use crate::puppet::Note;
use crate::torrent::Torrent;
use crate::trace::Trace;
use crate::tracker::{Answer, Tracker};
use crate::web::{self, Step, Stream, StreamKey, WebServer};

/// What the world does to everybody, and how closely it looks.
#[derive(Clone, Debug)]
pub struct Weather {
    /// Bytes that a sender may have in flight and unread on one connection.
    pub window: usize,
    /// Bytes that an application may have written ahead of the line.
    pub send_buffer: usize,
    /// A dial is refused once in so many; 0 for never.
    pub refuse_one_in: u64,
    /// A connection is reset after about so long; `None` for never.
    pub reset_after: Option<Duration>,
    /// Datagrams lost, of 100.
    pub udp_loss: u64,
    /// Datagrams sent twice, of 100.
    pub udp_twice: u64,
    /// Checks the touched nodes after every event, instead of all once a second.
    pub check_always: bool,
    /// Listens to what nodes say.
    pub tap: bool,
}

impl Default for Weather {
    fn default() -> Self {
        Self {
            window: 1 << 20,
            send_buffer: 48 * 1024,
            refuse_one_in: 0,
            reset_after: None,
            udp_loss: 0,
            udp_twice: 0,
            check_always: true,
            tap: true,
        }
    }
}

#[derive(Debug)]
pub(crate) enum Event<B> {
    /// A dial reaches its target.
    Syn(WireKey),
    /// … and its answer the dialler.
    Answer {
        wire: WireKey,
        accepted: bool,
    },
    /// A large chunk has left its host.
    Sent {
        end: EndId,
        chunk: Chunk,
        buf: Option<B>,
    },
    /// A chunk reaches the line down of the end it is for.
    Arrive {
        to: EndId,
        host: HostId,
        chunk: Chunk,
    },
    /// A chunk is through the line down.
    Deliver {
        to: EndId,
        host: HostId,
        chunk: Chunk,
    },
    /// The end hears that the connection is no more.
    Reset(EndId),
    Timer(HostId),
    Start(HostId),
    /// The storage of a torrent whose metadata came from peers is open.
    Begin(HostId),
    Disk {
        host: HostId,
        done: DiskDone<B>,
    },
    /// A tracker's answer reaches a host.
    Tracker {
        host: HostId,
        answer: Answer,
    },
    /// A datagram reaches a tracker.
    ToTracker {
        tracker: usize,
        host: HostId,
        from: SocketAddr,
        bytes: Vec<u8>,
    },
    /// A web server's answer goes on.
    Web {
        host: HostId,
        fetch: WebFetch,
        step: Step,
    },
    /// A puppet dials.
    Dial {
        host: HostId,
        to: SocketAddr,
    },
    /// The world breaks a connection.
    Break(WireKey),
    EverySecond,
}

/// What has to be done before time goes on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Work {
    /// Carry out what a node wants done.
    Drain(HostId),
    /// A node was woken: what it reads and writes may go on.
    Wake(EndId),
    Write(EndId),
    Read(EndId),
}

/// Everything there is, and what will happen to it.
#[derive(Debug)]
pub struct World<F: Fidelity> {
    pub(crate) agenda: Agenda<Event<F::Block>>,
    pub(crate) torrent: Rc<Torrent>,
    pub(crate) hosts: Vec<Host<F>>,
    pub(crate) by_ip: BTreeMap<IpAddr, HostId>,
    pub(crate) wires: Slab<Wire<F::Block>, WireMark>,
    pub(crate) trackers: Vec<Tracker>,
    pub(crate) web_servers: Vec<WebServer>,
    pub(crate) streams: BTreeMap<StreamKey, Stream>,
    pub(crate) work: VecDeque<Work>,
    /// Reads, which come after everything that earlier ones caused.
    pub(crate) reads: VecDeque<EndId>,
    pub(crate) touched: Vec<HostId>,
    pub(crate) weather: Weather,
    pub(crate) rng: Rng,
    /// What happened.
    pub trace: Trace,
}

impl<F: Fidelity> World<F> {
    /// An empty world about one torrent.
    #[must_use]
    pub fn new(seed: u64, torrent: Torrent, weather: Weather, trace: Trace) -> Self {
        let mut agenda = Agenda::new();
        agenda.at(Instant::ZERO + Duration::from_secs(1), Event::EverySecond);
        Self {
            agenda,
            torrent: Rc::new(torrent),
            hosts: Vec::new(),
            by_ip: BTreeMap::new(),
            wires: Slab::new(),
            trackers: Vec::new(),
            web_servers: Vec::new(),
            streams: BTreeMap::new(),
            work: VecDeque::new(),
            reads: VecDeque::new(),
            touched: Vec::new(),
            weather,
            rng: Rng::new(seed).fork("world", 0),
            trace,
        }
    }

    // ---- making it

    /// A tracker; its URL.
    pub fn add_tracker(&mut self, tracker: Tracker) -> String {
        let url = tracker.url(self.trackers.len());
        self.trackers.push(tracker);
        url
    }

    /// A node, which starts at its time.
    pub fn add_node(&mut self, plan: NodePlan) -> HostId {
        let host = self.hosts.len();
        let addr = addr_of(host);
        let rng = self.rng.fork("node", host as u64);
        let memory = rng.fork("memory", 0);
        let mut id = *b"-RR0000-............";
        rng.fork("id", 0).fill(&mut id[8..]);
        let mut config = NodeConfig::new(PeerId(id), addr.port(), "torr sim".to_owned());
        // Unfinished pieces leave room for uploads, as in the program.
        config.assembly_bytes = plan.blocks as u64 * u64::from(torr_base::BLOCK_LEN) / 8 * 5;
        config.down_rate = plan.down_rate;
        config.up_rate = plan.up_rate;
        (plan.tune)(&mut config);
        let gauge = Rc::new(PoolGauge::default());
        let pool = F::pool(plan.blocks, Rc::clone(&gauge));
        self.agenda.at(plan.start, Event::Start(host));
        let node = NodeHost {
            node: Node::new(config, pool, rng, self.agenda.now()),
            torrent: None,
            disk: Disk::new(
                Rc::clone(&self.torrent),
                plan.have.clone(),
                plan.disk,
                memory,
            ),
            gauge,
            id: PeerId(id),
            ends: BTreeMap::new(),
            armed: None,
            touched: false,
            lent: 0,
            up: RateCheck::new(plan.up_rate),
            down: RateCheck::new(plan.down_rate),
            news: NodeNews::default(),
            plan,
        };
        let link = node.plan.link;
        self.add_host(addr, link, Kind::Node(node))
    }

    /// A puppet that has these pieces, dials these addresses, and listens.
    pub fn add_puppet(
        &mut self,
        manners: Manners,
        have: Bitfield,
        link: LinkProfile,
        dials: &[(Instant, SocketAddr)],
    ) -> HostId {
        let host = self.hosts.len();
        let rng = self.rng.fork("puppet", host as u64);
        let mut puppet = PuppetHost::new(manners, have, host, rng);
        puppet.dials = dials.iter().map(|(_, addr)| *addr).collect();
        for (when, to) in dials {
            self.agenda.at(*when, Event::Dial { host, to: *to });
        }
        self.add_host(addr_of(host), link, Kind::Puppet(puppet))
    }

    fn add_host(&mut self, addr: SocketAddr, link: LinkProfile, kind: Kind<F>) -> HostId {
        let host = self.hosts.len();
        self.by_ip.insert(addr.ip(), host);
        self.hosts.push(Host {
            addr,
            link: Link::new(link),
            kind,
            dead: false,
            cut: false,
            next_port: 20_000,
        });
        host
    }

    fn start(&mut self, host: HostId) {
        let now = self.now();
        let torrent = Rc::clone(&self.torrent);
        let Some(home) = self.hosts.get_mut(host).and_then(Host::node_mut) else {
            return;
        };
        if home.plan.magnet {
            let init = MagnetInit {
                storage: StorageId(host as u64),
                info_hash: torrent.info_hash,
                trackers: home.plan.trackers.clone(),
                peers: home.plan.peers.clone(),
                sequential: home.plan.sequential,
                waits: home.plan.waits,
            };
            home.torrent = home.node.add_magnet(now, init).ok();
            self.work.push_back(Work::Drain(host));
            return;
        }
        let mut swarm = torrent.init(home.plan.have.clone());
        swarm.private = home.plan.private;
        swarm.web = web::init(&torrent, &home.plan.web);
        if let Some(wanted) = &home.plan.wanted {
            swarm.wanted = wanted.clone();
        }
        let init = TorrentInit {
            storage: StorageId(host as u64),
            swarm,
            trackers: home.plan.trackers.clone(),
            peers: home.plan.peers.clone(),
            nodes: Vec::new(),
            sequential: home.plan.sequential,
            waits: home.plan.waits,
            super_seed: home.plan.super_seed,
        };
        home.torrent = home.node.add_torrent(now, init).ok();
        self.work.push_back(Work::Drain(host));
    }

    fn begin(&mut self, host: HostId) {
        let now = self.now();
        let torrent = Rc::clone(&self.torrent);
        let Some(home) = self.hosts.get_mut(host).and_then(Host::node_mut) else {
            return;
        };
        let mut swarm = torrent.init(home.plan.have.clone());
        swarm.private = home.plan.private;
        swarm.web = web::init(&torrent, &home.plan.web);
        if let Some(wanted) = &home.plan.wanted {
            swarm.wanted = wanted.clone();
        }
        if let Some(key) = home.torrent {
            home.node.begin(now, key, swarm);
        }
        self.work.push_back(Work::Drain(host));
    }

    // ---- time

    /// Now.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.agenda.now()
    }

    /// Lets everything happen that is due by `end`.
    pub fn run_until(&mut self, end: Instant) {
        while self.step(end) {}
        self.agenda.pass_to(end);
    }

    /// The next event, if it is due by `end`.
    pub fn step(&mut self, end: Instant) -> bool {
        let Some(event) = self.agenda.next(end) else {
            return false;
        };
        self.happen(event);
        self.finish_work();
        true
    }

    // ---- changing it

    /// The faults are over: from now on lines, trackers and disks do what they should. Puppets stay as
    /// they are.
    pub fn calm(&mut self) {
        self.weather.refuse_one_in = 0;
        self.weather.reset_after = None;
        self.weather.udp_loss = 0;
        self.weather.udp_twice = 0;
        for host in &mut self.hosts {
            if let Some(home) = host.node_mut() {
                home.disk.heal();
            }
        }
    }

    /// A host vanishes without a word: nothing from it or to it arrives any more.
    pub fn kill(&mut self, host: HostId) {
        self.hosts[host].dead = true;
    }

    /// A host's line is cut: nothing from it or to it arrives, and nobody is told.
    pub fn cut(&mut self, host: HostId) {
        self.hosts[host].dead = true;
        self.hosts[host].cut = true;
    }

    /// Its line is there again, and it hears of that where `told`. What connections there still are, are not.
    pub fn mend(&mut self, host: HostId, told: bool) {
        let now = self.now();
        self.hosts[host].dead = false;
        self.hosts[host].cut = false;
        let wires = self.wires.iter();
        let its = wires.filter(|(_, wire)| [0, 1].iter().any(|side| wire.end(*side).host == host));
        let its: Vec<_> = its.map(|(wire, _)| wire).collect();
        for wire in its {
            for side in [0, 1] {
                self.agenda.at(now, Event::Reset(EndId { wire, side }));
            }
        }
        if let Some(home) = self.hosts[host].node_mut().filter(|_| told) {
            home.node.handle_network_changed(now);
            self.work.push_back(Work::Drain(host));
            self.finish_work();
        }
    }

    /// A node leaves in good order.
    pub fn leave(&mut self, host: HostId) {
        let now = self.now();
        if let Some(home) = self.hosts[host].node_mut()
            && let Some(key) = home.torrent
        {
            home.node.stop_torrent(now, key);
            self.work.push_back(Work::Drain(host));
            self.finish_work();
        }
    }

    /// Does what has to be done before time goes on, and checks what was touched.
    pub(crate) fn finish_work(&mut self) {
        let mut turns = 0_u32;
        loop {
            let work = self.work.pop_front();
            let Some(work) = work.or_else(|| self.reads.pop_front().map(Work::Read)) else {
                break;
            };
            turns += 1;
            assert!(turns < 2_000_000, "livelock at {:?}: {work:?}", self.now());
            match work {
                Work::Drain(host) => self.drain(host),
                Work::Wake(end) => self.wake(end),
                Work::Write(end) => self.write(end),
                Work::Read(end) => self.read(end),
            }
        }
        self.check_touched();
        while let Some(host) = self.touched.pop() {
            self.arm(host);
        }
    }

    fn happen(&mut self, event: Event<F::Block>) {
        match event {
            Event::Syn(wire) => self.syn(wire),
            Event::Answer { wire, accepted } => self.answer(wire, accepted),
            Event::Sent { end, chunk, buf } => self.sent(end, chunk, buf),
            Event::Arrive { to, host, chunk } => self.arrive(to, host, chunk),
            Event::Deliver { to, host, chunk } => self.deliver(to, host, chunk),
            Event::Reset(end) => self.reset(end),
            Event::Timer(host) => self.timer(host),
            Event::Start(host) => self.start(host),
            Event::Begin(host) => self.begin(host),
            Event::Disk { host, done } => self.disk_done(host, done),
            Event::Tracker { host, answer } => self.tracker_answer(host, answer),
            Event::ToTracker {
                tracker,
                host,
                from,
                bytes,
            } => self.reach_tracker(tracker, host, from, &bytes),
            Event::Web { host, fetch, step } => self.web_step(host, fetch, step),
            Event::Dial { host, to } => self.puppet_dials(host, to),
            // What was planned in a storm does not happen after it.
            Event::Break(_) if self.weather.reset_after.is_none() => {}
            Event::Break(wire) => {
                for side in [0, 1] {
                    let end = EndId { wire, side };
                    self.agenda.at(self.agenda.now(), Event::Reset(end));
                }
            }
            Event::EverySecond => {
                self.check_world();
                let next = self.now() + Duration::from_secs(1);
                self.agenda.at(next, Event::EverySecond);
            }
        }
    }

    /// Marks a host, so that its timer is set and it is checked when all is done.
    pub(crate) fn touch(&mut self, host: HostId) {
        let touched = match &mut self.hosts[host].kind {
            Kind::Node(node) => &mut node.touched,
            Kind::Puppet(puppet) => &mut puppet.touched,
        };
        if !*touched {
            *touched = true;
            self.touched.push(host);
        }
    }

    fn arm(&mut self, host: HostId) {
        let now = self.now();
        let (armed, next) = match &mut self.hosts[host].kind {
            Kind::Node(node) => {
                node.touched = false;
                (&mut node.armed, node.node.next_timeout())
            }
            Kind::Puppet(puppet) => {
                puppet.touched = false;
                (&mut puppet.armed, puppet.puppet.next_timeout())
            }
        };
        let Some(next) = next.map(|next| next.max(now)) else {
            return;
        };
        if armed.is_none_or(|armed| next < armed) {
            *armed = Some(next);
            self.agenda.at(next, Event::Timer(host));
        }
    }

    fn timer(&mut self, host: HostId) {
        let now = self.now();
        self.touch(host);
        match &mut self.hosts[host].kind {
            Kind::Node(node) => {
                if node.armed != Some(now) {
                    return;
                }
                node.armed = None;
                if node.node.next_timeout().is_some_and(|due| due <= now) {
                    self.trace.note(now, host, b't', 0, 0);
                    node.node.handle_timeout(now);
                    self.work.push_back(Work::Drain(host));
                }
            }
            Kind::Puppet(puppet) => {
                if puppet.armed == Some(now) {
                    puppet.armed = None;
                    self.with_puppet(host, |puppet, stage| puppet.handle_timeout(stage));
                }
            }
        }
    }

    fn disk_done(&mut self, host: HostId, done: DiskDone<F::Block>) {
        let now = self.now();
        let Some(home) = self.hosts[host].node_mut() else {
            return;
        };
        home.disk.answered(&done);
        self.trace.note(now, host, b'd', done.job.0, 0);
        self.trace
            .line(now, host, || format!("disk {:?}", done.result));
        home.node.handle_disk(now, done);
        self.work.push_back(Work::Drain(host));
    }

    // ---- looking at it

    /// The torrent of this world.
    #[must_use]
    pub fn torrent(&self) -> &Torrent {
        &self.torrent
    }

    /// How many hosts there are.
    #[must_use]
    pub fn host_count(&self) -> usize {
        self.hosts.len()
    }

    /// A node's host; `None` for puppets.
    #[must_use]
    pub fn node(&self, host: HostId) -> Option<&NodeHost<F>> {
        self.hosts.get(host)?.node()
    }

    /// Where a host listens.
    #[must_use]
    pub fn addr(&self, host: HostId) -> SocketAddr {
        addr_of(host)
    }

    /// Bytes that went through a host's line, up and down.
    #[must_use]
    pub fn line_bytes(&self, host: HostId) -> (u64, u64) {
        let link = self.hosts.get(host).map(|host| &host.link);
        link.map_or((0, 0), |link| (link.bytes_up, link.bytes_down))
    }

    /// What a puppet of a scenario heard.
    #[must_use]
    pub fn notes(&self, host: HostId) -> &[(Instant, Note)] {
        let puppet = self.hosts.get(host).and_then(Host::puppet);
        puppet.and_then(|p| p.notes.as_deref()).unwrap_or_default()
    }

    /// Lets a puppet remember what it hears.
    pub fn take_notes(&mut self, host: HostId) {
        if let Some(Kind::Puppet(puppet)) = self.hosts.get_mut(host).map(|host| &mut host.kind) {
            puppet.puppet.notes = Some(Vec::new());
        }
    }

    /// Whether a puppet sent a forged block.
    #[must_use]
    pub fn lied(&self, host: HostId) -> bool {
        self.hosts.get(host).is_some_and(Host::lied)
    }

    /// What a host calls itself.
    #[must_use]
    pub fn peer_id(&self, host: HostId) -> Option<PeerId> {
        match &self.hosts.get(host)?.kind {
            Kind::Node(home) => Some(home.id),
            Kind::Puppet(home) => Some(home.puppet.id),
        }
    }

    /// A puppet says a message, sends a block or hangs up, on each of its connections. False where the
    /// words mean nothing.
    pub fn puppet_does(&mut self, host: HostId, words: &str) -> bool {
        let mut known = true;
        self.with_puppet(host, |puppet, stage| {
            let ends: Vec<_> = puppet.lines.keys().copied().collect();
            for end in ends {
                known &= puppet.does(stage, end, words);
            }
        });
        self.finish_work();
        known
    }
}

impl<F: Fidelity> NodeHost<F> {
    /// What it told people.
    #[must_use]
    pub fn news(&self) -> &NodeNews {
        &self.news
    }

    /// Whether everything it wants is there.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let swarm = self.torrent.and_then(|key| self.node.swarm(key));
        swarm.is_some_and(torr_swarm::Swarm::is_complete)
    }

    /// Pieces that its disk has.
    #[must_use]
    pub fn have(&self) -> &Bitfield {
        self.disk.told()
    }

    /// Its figures.
    #[must_use]
    pub fn stats(&self) -> Option<TorrentStats> {
        self.node.stats(self.torrent?)
    }

    /// The node itself.
    #[must_use]
    pub fn inner(&self) -> &Node<F::Block> {
        &self.node
    }

    /// Its pool.
    #[must_use]
    pub fn gauge(&self) -> &PoolGauge {
        &self.gauge
    }

    /// Where its pieces are.
    #[must_use]
    pub fn disk(&self) -> &Disk<F> {
        &self.disk
    }

    /// How it was to start.
    #[must_use]
    pub fn plan(&self) -> &NodePlan {
        &self.plan
    }
}
