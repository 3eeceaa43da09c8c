//! What a seed means: how many peers, on what lines, with which faults. Half of the faults are off in
//! any one run, so that none hides another.

use std::time::Duration;

use torr_base::{Bitfield, Instant, PieceIndex, Rng};
use torr_sim::{
    DiskProfile, Fidelity, HostId, LinkProfile, Mood, NodePlan, StorageErrorKind, Torrent, Trace,
    Tracker, Villain, Weather, WebManners, World, addr_of,
};

/// What the command line says of all seeds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    /// Nodes, instead of what the seed says; the torrent is then 16 MiB in pieces of 256 KiB.
    pub(crate) peers: Option<usize>,
    /// Hostile peers of 100.
    pub(crate) hostile: Option<u64>,
    /// No faults, no trackers that lie: what remains is economics.
    pub(crate) fair: bool,
    /// The host of which lines are wanted.
    pub(crate) trace: Option<usize>,
    /// Stop there and tell how things stand.
    pub(crate) until: Option<Duration>,
}

/// One swarm.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) bytes: bool,
    pub(crate) total: u64,
    pub(crate) piece_len: u64,
    /// The first so many have everything; 0 where the pieces are scattered over all.
    pub(crate) seeds: usize,
    /// Bytes of metadata, where some come without it.
    pub(crate) metadata_len: Option<usize>,
    pub(crate) nodes: Vec<Member>,
    pub(crate) villains: Vec<(Villain, LinkProfile)>,
    pub(crate) trackers: Vec<(Mood, bool)>,
    /// Web servers, with bytes a second of each answer and their latency.
    pub(crate) web: Vec<(WebManners, u64, Duration)>,
    pub(crate) weather: Weather,
    /// When the faults stop.
    pub(crate) storm: Duration,
}

/// One honest node.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) link: LinkProfile,
    pub(crate) disk: DiskProfile,
    /// It waits for its disk when that says no.
    pub(crate) waits: bool,
    pub(crate) blocks: usize,
    pub(crate) rates: (Option<u64>, Option<u64>),
    pub(crate) sequential: bool,
    /// It has all pieces and gives each once.
    pub(crate) super_seed: bool,
    /// It knows the info-hash only.
    pub(crate) magnet: bool,
    /// It asks the web servers.
    pub(crate) web: bool,
    pub(crate) start: Instant,
    pub(crate) fate: Fate,
}

/// What becomes of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It must finish.
    Stays,
    /// It may not: its disk fails, and it does not wait.
    Fails,
    /// It vanishes.
    Dies(Instant),
    /// It leaves in good order.
    Leaves(Instant),
}

const KIB: u64 = 1_024;

/// Evenly by magnitude, from `low` to `high`.
fn spread(rng: &mut Rng, low: u64, high: u64) -> u64 {
    let doublings = (high / low).ilog2();
    let step = rng.below(u64::from(doublings) + 1) as u32;
    let base = low << step;
    (base + rng.below(base)).min(high)
}

fn millis(rng: &mut Rng, low: u64, high: u64) -> Duration {
    Duration::from_millis(low + rng.below(high - low + 1))
}

impl Plan {
    pub(crate) fn draw(seed: u64, options: &Options) -> Self {
        let mut rng = Rng::new(seed).fork("plan", 0);
        let count = options.peers.unwrap_or_else(|| 2 + rng.index(49));
        let bytes = options.peers.is_none() && count <= 12 && rng.one_in(3);
        let (total, piece_len) = match options.peers {
            Some(_) => (16 << 20, 256 * KIB),
            None => size(&mut rng, count, bytes),
        };
        let storm = if options.fair {
            Duration::ZERO
        } else {
            millis(&mut rng, 10_000, 90_000)
        };
        let seeds = match options.peers {
            Some(_) => 1,
            None if options.fair => 1,
            None if count > 3 && rng.one_in(4) => 0,
            None => 1 + rng.index((count - 1).min(3)),
        };
        let mut lines = rng.fork("lines", 0);
        let equal = rng.one_in(3).then(|| draw_link(&mut lines));
        let mut nodes: Vec<_> = (0..count)
            .map(|_| Member {
                link: equal.unwrap_or_else(|| draw_link(&mut lines)),
                disk: DiskProfile::default(),
                waits: false,
                blocks: 2_560,
                rates: (None, None),
                sequential: false,
                super_seed: false,
                magnet: false,
                web: false,
                start: Instant::ZERO,
                fate: Fate::Stays,
            })
            .collect();
        if !options.fair {
            let mut faults = rng.fork("faults", 0);
            draw_members(&mut faults, &mut nodes, seeds, piece_len, storm);
        }
        if !options.fair && rng.fork("storage", 0).one_in(2) {
            draw_storage(&mut rng.fork("storage", 1), &mut nodes, piece_len);
        }
        if !options.fair && rng.fork("super seeds", 0).one_in(4) {
            nodes.iter_mut().for_each(|member| member.super_seed = true);
        }
        let percent = options.hostile.unwrap_or_else(|| match rng.below(3) {
            0 => 0,
            1 => 10,
            _ => rng.below(40),
        });
        let evil = (count as u64 * percent).div_ceil(100) as usize;
        let mut cast = rng.fork("cast", 0);
        let only = cast.one_in(2).then(|| pick_villain(&mut cast));
        let villains = (0..evil).map(|_| {
            let villain = only.unwrap_or_else(|| pick_villain(&mut cast));
            (villain, draw_link(&mut cast))
        });
        let mut villains: Vec<_> = villains.collect();
        let mut magnets = rng.fork("magnets", 0);
        let metadata_len = if options.peers.is_none() && seeds > 0 && magnets.one_in(3) {
            draw_magnets(&mut magnets, &mut nodes[seeds..], &mut villains);
            Some(spread(&mut magnets, 1, 400_000) as usize)
        } else {
            None
        };
        let web = if options.fair || options.peers.is_some() {
            Vec::new()
        } else {
            draw_web(&mut rng.fork("web", 0), &mut nodes)
        };
        Self {
            seed,
            bytes,
            total,
            piece_len,
            seeds,
            metadata_len,
            villains,
            nodes,
            web,
            trackers: draw_trackers(&mut rng.fork("trackers", 0), options.fair),
            weather: draw_weather(&mut rng.fork("weather", 0), options.fair, count),
            storm,
        }
    }

    /// The world that the plan describes; its nodes are the first hosts.
    pub(crate) fn build<F: Fidelity>(&self, options: &Options) -> World<F> {
        let mut torrent = Torrent::new(self.seed, self.total, self.piece_len, F::BYTES);
        if let Some(len) = self.metadata_len {
            torrent = torrent.with_metadata(self.seed, len);
        }
        let pieces = torrent.geometry.piece_count();
        let mut trace = Trace::new(options.trace);
        trace.set_live();
        let mut world = World::new(self.seed, torrent, self.weather.clone(), trace);
        let hosts = self.nodes.len() + self.villains.len();
        let mut urls = Vec::new();
        for (mood, udp) in &self.trackers {
            let mut tracker = Tracker::new(*mood, *udp);
            for villain in self.nodes.len()..hosts {
                tracker.introduce(addr_of(villain), true);
            }
            urls.push(vec![world.add_tracker(tracker)]);
        }
        let servers = self.web.iter();
        let servers = servers.map(|(how, rate, late)| world.add_web_server(*how, *rate, *late));
        let servers: Vec<_> = servers.collect();
        let haves = self.haves(pieces);
        for (member, have) in self.nodes.iter().zip(haves) {
            let mut plan = NodePlan::new(have);
            plan.link = member.link;
            plan.disk = member.disk;
            plan.waits = member.waits;
            plan.blocks = member.blocks;
            plan.trackers = urls.clone();
            plan.sequential = member.sequential;
            plan.super_seed = member.super_seed;
            plan.magnet = member.magnet;
            if member.web {
                plan.web.clone_from(&servers);
            }
            plan.start = member.start;
            (plan.down_rate, plan.up_rate) = member.rates;
            if self.trackers.is_empty() {
                plan.peers = (0..hosts).map(addr_of).collect();
            }
            world.add_node(plan);
        }
        let mut rng = Rng::new(self.seed).fork("villains", 0);
        for (villain, link) in &self.villains {
            let have = if villain.has_all() {
                Bitfield::full(pieces)
            } else {
                Bitfield::new(pieces)
            };
            let dials: Vec<_> = (0..6)
                .map(|_| {
                    let when = Instant::ZERO + millis(&mut rng, 500, 20_000);
                    (when, addr_of(rng.index(self.nodes.len())))
                })
                .collect();
            world.add_puppet(villain.manners(), have, *link, &dials);
        }
        world
    }

    /// Who has what at the start. Together they have everything, and those that stay do.
    fn haves(&self, pieces: u32) -> Vec<Bitfield> {
        let mut haves: Vec<_> = (0..self.nodes.len())
            .map(|host| {
                if host < self.seeds {
                    Bitfield::full(pieces)
                } else {
                    Bitfield::new(pieces)
                }
            })
            .collect();
        if self.seeds > 0 {
            return haves;
        }
        let mut rng = Rng::new(self.seed).fork("haves", 0);
        let staying: Vec<HostId> = (0..self.nodes.len())
            .filter(|host| self.nodes[*host].fate == Fate::Stays)
            .collect();
        for piece in 0..pieces {
            let copies = 1 + rng.index(2);
            for _ in 0..copies {
                let host = staying[rng.index(staying.len())];
                haves[host].set(PieceIndex::new(piece));
            }
        }
        haves
    }

    /// The least time in which the swarm could finish: by the line of the one that has all, by the
    /// slowest line down, by all lines up together.
    pub(crate) fn capacity_bound(&self) -> Duration {
        let size = self.total as f64;
        let leechers = &self.nodes[self.seeds.min(self.nodes.len())..];
        let up = |member: &Member| {
            member
                .rates
                .1
                .map_or(member.link.up, |r| r.min(member.link.up))
        };
        let down = |member: &Member| {
            member
                .rates
                .0
                .map_or(member.link.down, |r| r.min(member.link.down))
        };
        let all_up: u64 = self.nodes.iter().map(up).sum();
        let seed_up: u64 = self.nodes[..self.seeds.max(1)].iter().map(up).sum();
        let slowest = leechers.iter().map(down).min().unwrap_or(u64::MAX);
        let by_seed = if self.seeds > 0 {
            size / seed_up as f64
        } else {
            let least = self.nodes.iter().map(up).min().unwrap_or(1);
            size / least as f64
        };
        let by_all = leechers.len() as f64 * size / all_up as f64;
        let secs = by_seed.max(by_all).max(size / slowest as f64);
        Duration::from_secs_f64(secs)
    }

    /// Until when everybody that stays must have finished, after the faults stopped.
    pub(crate) fn deadline(&self) -> Duration {
        // Hostile peers cost time-outs of a minute, failed dials back-offs of several; a slow optimistic
        // unchoke may be the only way to a piece.
        let patience = if self.villains.is_empty() { 240 } else { 600 };
        self.capacity_bound() * 6 + self.disk_bound() * 2 + Duration::from_secs(patience)
    }

    /// The least time that the slowest disk takes, where all that goes to it must fit the node's few
    /// buffers: each filling of them waits for one write, and each piece for being read and verified.
    fn disk_bound(&self) -> Duration {
        let blocks = self.total.div_ceil(16 * KIB);
        let pieces = self.total.div_ceil(self.piece_len);
        let of = |member: &Member| {
            let waits = blocks.div_ceil(member.blocks.max(1) as u64) + pieces;
            let moved = Duration::from_secs_f64(2.0 * self.total as f64 / member.disk.rate as f64);
            member.disk.latency * waits as u32 + moved
        };
        self.nodes.iter().map(of).max().unwrap_or_default()
    }
}

/// Bytes in all and in a piece: more for few peers.
fn size(rng: &mut Rng, count: usize, bytes: bool) -> (u64, u64) {
    let piece_len = match rng.below(6) {
        // Not a multiple of the block's length.
        0 => 16 * KIB + rng.below(100_000),
        1 => 1 + rng.below(16 * KIB),
        _ => (16 * KIB) << rng.below(6),
    };
    let most = if bytes {
        2 << 20
    } else {
        (400 << 20) / count as u64
    };
    let pieces = 1 + rng.below((most / piece_len).clamp(1, 120));
    let total = pieces * piece_len - rng.below(piece_len);
    (total, piece_len)
}

fn draw_link(rng: &mut Rng) -> LinkProfile {
    let up = spread(rng, 60_000, 4_000_000);
    LinkProfile {
        up,
        down: (up * (1 + rng.below(8))).max(250_000),
        latency: millis(rng, 2, 80),
    }
}

fn pick_villain(rng: &mut Rng) -> Villain {
    Villain::ALL[rng.index(Villain::ALL.len())]
}

/// Leechers that come with a magnet link, and some who lie to them.
fn draw_magnets(rng: &mut Rng, leechers: &mut [Member], villains: &mut [(Villain, LinkProfile)]) {
    for member in leechers {
        member.magnet = rng.one_in(2);
    }
    for (villain, _) in villains {
        if rng.one_in(3) {
            let liars = Villain::ABOUT_METADATA;
            *villain = liars[rng.index(liars.len())];
        }
    }
}

/// Faults of single nodes, each kind on in half of the runs.
fn draw_members(
    rng: &mut Rng,
    nodes: &mut [Member],
    seeds: usize,
    piece_len: u64,
    storm: Duration,
) {
    let moment = |rng: &mut Rng| Instant::ZERO + millis(rng, 0, storm.as_millis() as u64);
    let [late, tight, limits, slow, fail, die, leave, sequential] =
        std::array::from_fn(|_| rng.one_in(2));
    // The last one always stays, so that there is somebody to wait for.
    let last = nodes.len() - 1;
    for (host, member) in nodes.iter_mut().enumerate() {
        if late && rng.one_in(2) {
            member.start = moment(rng);
        }
        if tight && rng.one_in(3) {
            let blocks = piece_len.div_ceil(16 * KIB) as usize;
            // Room for a few pieces, and now and then for not even one.
            let least = if rng.one_in(8) { 4 } else { 3 * blocks + 8 };
            member.blocks = least + rng.index(2 * blocks + 12);
        }
        if limits && rng.one_in(3) {
            let down = rng.one_in(2).then(|| spread(rng, 50_000, 1_000_000));
            let up = rng.one_in(2).then(|| spread(rng, 50_000, 1_000_000));
            member.rates = (down, up);
        }
        if slow && rng.one_in(4) {
            member.disk.latency = millis(rng, 10, 2_000);
            member.disk.rate = spread(rng, 500_000, 50_000_000);
        }
        member.sequential = sequential && rng.one_in(3);
        if host < seeds || host == last {
            continue;
        }
        if fail && rng.one_in(6) {
            member.fate = Fate::Fails;
            if rng.one_in(2) {
                member.disk.full_after = Some(rng.below(10 * piece_len));
            } else {
                member.disk.fails_at = Some(1 + rng.below(30));
            }
        } else if die && rng.one_in(6) {
            member.fate = Fate::Dies(moment(rng));
        } else if leave && rng.one_in(6) {
            member.fate = Fate::Leaves(moment(rng));
        }
    }
}

/// Disks that say no for a while, of nodes that wait for them: full, failing, or gone.
fn draw_storage(rng: &mut Rng, nodes: &mut [Member], piece_len: u64) {
    let staying = nodes.iter_mut().filter(|node| node.fate == Fate::Stays);
    for member in staying {
        if !rng.one_in(3) {
            continue;
        }
        member.waits = true;
        let kinds = [
            StorageErrorKind::Io,
            StorageErrorKind::Absent,
            StorageErrorKind::Denied,
        ];
        let heals = millis(rng, 0, 40_000);
        member.disk.heals_after = rng.one_in(3).then_some(heals);
        match rng.one_in(2) {
            true => member.disk.full_after = Some(rng.below(10 * piece_len)),
            false => {
                member.disk.fails_at = Some(1 + rng.below(30));
                member.disk.fails_as = kinds[rng.index(kinds.len())];
            }
        }
    }
}

/// In a third of the runs: web servers good and bad, and who asks them.
fn draw_web(rng: &mut Rng, nodes: &mut [Member]) -> Vec<(WebManners, u64, Duration)> {
    if !rng.one_in(3) {
        return Vec::new();
    }
    for member in nodes {
        member.web = rng.one_in(2);
    }
    let servers = (0..1 + rng.below(3)).map(|_| {
        let manners = match rng.one_in(2) {
            true => WebManners::Honest,
            false => WebManners::HOSTILE[rng.index(WebManners::HOSTILE.len())],
        };
        let rate = spread(rng, 20_000, 4_000_000);
        (manners, rate, millis(rng, 1, 200))
    });
    servers.collect()
}

/// One that is true, and others that are not; or none, and everybody knows everybody.
fn draw_trackers(rng: &mut Rng, fair: bool) -> Vec<(Mood, bool)> {
    if fair {
        return vec![(Mood::True, false)];
    }
    if rng.one_in(3) {
        return Vec::new();
    }
    let mut trackers = vec![(Mood::True, rng.one_in(2))];
    for _ in 0..rng.below(3) {
        let moods = [
            Mood::Stalls,
            Mood::Rubbish,
            Mood::Fails,
            Mood::OddInterval(-1),
            Mood::OddInterval(0),
            Mood::OddInterval(i64::MAX),
            Mood::FalsePeers,
            Mood::Vanishes(Instant::ZERO + Duration::from_secs(15)),
        ];
        trackers.push((moods[rng.index(moods.len())], rng.one_in(2)));
    }
    rng.shuffle(&mut trackers);
    trackers
}

fn draw_weather(rng: &mut Rng, fair: bool, count: usize) -> Weather {
    let mut weather = Weather {
        check_always: count <= 20,
        tap: count <= 50,
        ..Weather::default()
    };
    if fair {
        return weather;
    }
    let [refuse, reset, udp] = std::array::from_fn(|_| rng.one_in(2));
    if refuse {
        weather.refuse_one_in = 2 + rng.below(8);
    }
    if reset {
        weather.reset_after = Some(millis(rng, 5_000, 120_000));
    }
    if udp {
        weather.udp_loss = rng.below(60);
        weather.udp_twice = rng.below(20);
    }
    weather.send_buffer = spread(rng, 16_384, 262_144) as usize;
    weather.window = spread(rng, 65_536, 4 << 20) as usize;
    weather
}
