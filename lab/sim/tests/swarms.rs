//! Small swarms of both fidelities that must simply work.

use std::time::Duration;

use torr_base::{Bitfield, Instant};
use torr_node::{Bootstrap, DhtConfig, DhtInit, Encryption};
use torr_sim::{
    Bytes, Fidelity, LinkProfile, Messages, NodePlan, Torrent, Trace, Weather, World, addr_of,
};

/// Watches the host that the environment names, to look into a failure.
fn trace() -> Trace {
    let watched = std::env::var("TRACE")
        .ok()
        .and_then(|host| host.parse().ok());
    let mut trace = Trace::new(watched);
    trace.set_live();
    trace
}

/// A seed and some leechers that all know each other; when the last was done, and the trace.
fn swarm<F: Fidelity>(seed: u64, leechers: usize, total: u64) -> (Duration, u64) {
    let torrent = Torrent::new(seed, total, 64 * 1024, F::BYTES);
    let pieces = torrent.geometry.piece_count();
    let mut world: World<F> = World::new(seed, torrent, Weather::default(), trace());
    let mut plan = NodePlan::new(Bitfield::full(pieces));
    plan.peers = (0..=leechers).map(addr_of).collect();
    world.add_node(plan.clone());
    plan.have = Bitfield::new(pieces);
    for _ in 0..leechers {
        world.add_node(plan.clone());
    }
    let mut last = Duration::ZERO;
    world.run_until(Instant::ZERO + Duration::from_secs(120));
    for host in 1..=leechers {
        let done = world.node(host).and_then(|node| node.news().complete);
        let done = done.unwrap_or_else(|| panic!("host {host} did not finish"));
        last = last.max(done.since(Instant::ZERO));
    }
    world.stop_all();
    (last, world.trace.hash())
}

#[test]
fn one_leecher_of_bytes() {
    let (last, _) = swarm::<Bytes>(1, 1, 1_000_000);
    assert!(last < Duration::from_secs(5), "{last:?}");
}

#[test]
fn one_leecher_of_messages() {
    let (last, _) = swarm::<Messages>(1, 1, 1_000_000);
    assert!(last < Duration::from_secs(5), "{last:?}");
}

#[test]
fn a_few_leechers_share() {
    // The seed alone would need eight times as long as for one.
    let (last, _) = swarm::<Messages>(2, 8, 8_000_000);
    assert!(last < Duration::from_secs(30), "{last:?}");
    let (last, _) = swarm::<Bytes>(3, 4, 2_000_000);
    assert!(last < Duration::from_secs(12), "{last:?}");
}

#[test]
fn a_fast_seed_is_asked_for_pieces_side_by_side() {
    let torrent = Torrent::new(4, 256 << 20, 2 << 20, false);
    let pieces = torrent.geometry.piece_count();
    let weather = Weather {
        check_always: true,
        ..Weather::default()
    };
    let mut world: World<Messages> = World::new(4, torrent, weather, trace());
    let mut plan = NodePlan::new(Bitfield::full(pieces));
    plan.link = LinkProfile {
        up: 200_000_000,
        down: 200_000_000,
        latency: Duration::from_millis(1),
    };
    plan.blocks = 2_600;
    plan.disk.rate = 2_000_000_000;
    plan.disk.latency = Duration::from_micros(50);
    plan.peers = (0..2).map(addr_of).collect();
    world.add_node(plan.clone());
    plan.have = Bitfield::new(pieces);
    world.add_node(plan);
    world.run_until(Instant::ZERO + Duration::from_secs(10));
    let node = world.node(1).expect("the leecher");
    let done = node.news().complete.expect("it is complete");
    assert!(
        done.since(Instant::ZERO) < Duration::from_secs(4),
        "{done:?}"
    );
    // Most of what came was hashed beside other pieces, before its own was whole.
    let early = node.disk().hashed_early();
    assert!(early > u64::from(pieces) * 128 / 2, "{early}");
    let stats = node.stats().expect("it is in its swarm");
    assert_eq!(stats.swarm.wasted, 0);
    assert!(node.gauge().most.get() < 2_300, "{:?}", node.gauge());
    world.stop_all();
}

/// Sixteen seeds fill a line of 250 kB/s, and memory for a few pieces is owed all of it: each block is owed for
/// seconds, and nobody else could bring it sooner.
#[test]
fn on_a_full_line_little_memory_makes_no_block_come_twice() {
    for blocks in (48..=128).step_by(8) {
        let torrent = Torrent::new(6, 8 << 20, 256 * 1024, false);
        let pieces = torrent.geometry.piece_count();
        let mut world: World<Messages> = World::new(6, torrent, Weather::default(), trace());
        let mut plan = NodePlan::new(Bitfield::full(pieces));
        for _ in 0..16 {
            world.add_node(plan.clone());
        }
        plan.have = Bitfield::new(pieces);
        plan.link.down = 250_000;
        plan.link.latency = Duration::from_millis(40);
        plan.blocks = blocks;
        plan.peers = (0..16).map(addr_of).collect();
        let host = world.add_node(plan);
        world.run_until(Instant::ZERO + Duration::from_secs(90));
        let node = world.node(host).expect("the leecher");
        assert!(node.is_complete(), "with {blocks} blocks");
        let wasted = node.stats().expect("it is in its swarm").swarm.wasted;
        assert!(
            wasted < (8 << 20) / 20,
            "{wasted} bytes with {blocks} blocks"
        );
        world.stop_all();
    }
}

/// Streams that are cut anywhere and encrypted, with every opinion about it in one swarm. Who has it off
/// cannot speak to the seed, and has to get everything from those that prefer it.
#[test]
fn encryption_is_agreed_on_by_each_pair() {
    let torrent = Torrent::new(5, 2_000_000, 64 * 1024, true);
    let pieces = torrent.geometry.piece_count();
    // What goes over an encrypted line, no tap can read.
    let weather = Weather {
        tap: false,
        ..Weather::default()
    };
    let mut world: World<Bytes> = World::new(5, torrent, weather, trace());
    let mut plan = NodePlan::new(Bitfield::full(pieces));
    plan.peers = (0..6).map(addr_of).collect();
    plan.tune = |config| config.encryption = Encryption::Require;
    world.add_node(plan.clone());
    plan.have = Bitfield::new(pieces);
    world.add_node(plan.clone());
    plan.tune = |config| config.encryption = Encryption::Prefer;
    for _ in 2..5 {
        world.add_node(plan.clone());
    }
    plan.tune = |config| config.encryption = Encryption::Off;
    world.add_node(plan);
    world.run_until(Instant::ZERO + Duration::from_secs(120));
    for host in 1..6 {
        let done = world.node(host).and_then(|node| node.news().complete);
        assert!(done.is_some(), "host {host} did not finish");
    }
    world.stop_all();
}

#[test]
fn equal_seeds_give_equal_traces() {
    assert_eq!(
        swarm::<Messages>(7, 5, 2_000_000),
        swarm::<Messages>(7, 5, 2_000_000)
    );
    assert_eq!(swarm::<Bytes>(7, 3, 500_000), swarm::<Bytes>(7, 3, 500_000));
    assert_ne!(
        swarm::<Messages>(7, 5, 2_000_000).1,
        swarm::<Messages>(8, 5, 2_000_000).1
    );
}

/// Nodes that know nobody but the first one's DHT node: a seed, and those that know only the info-hash.
fn by_dht(seed: u64, private: bool) -> (World<Messages>, usize) {
    const NODES: usize = 12;
    let torrent = Torrent::new(seed, 2_000_000, 64 * 1024, false);
    let pieces = torrent.geometry.piece_count();
    let mut world: World<Messages> = World::new(seed, torrent, Weather::default(), trace());
    let mut plan = NodePlan::new(Bitfield::new(pieces));
    plan.tune = |config| {
        let first = addr_of(0);
        config.dht = Some(DhtInit {
            config: DhtConfig {
                ipv6: false,
                bootstrap: Bootstrap::Hosts(vec![(first.ip().to_string(), first.port())]),
                ..DhtConfig::default()
            },
            secret: [config.peer_id.0.iter().fold(0, |sum, byte| sum ^ byte); 32],
            saved: None,
            port: first.port(),
            guest: false,
        });
    };
    plan.private = private;
    for host in 0..NODES {
        let mut plan = plan.clone();
        if host == 4 {
            plan.have = Bitfield::full(pieces);
        }
        plan.magnet = host > 8 && !private;
        plan.start = Instant::ZERO + Duration::from_millis(700 * host as u64);
        world.add_node(plan);
    }
    (world, NODES)
}

#[test]
fn who_knows_nobody_finds_them_in_the_dht() {
    let (mut world, nodes) = by_dht(11, false);
    // The first round is over before anybody has announced: what is forlorn looks again in a minute.
    world.run_until(Instant::ZERO + Duration::from_secs(150));
    for host in (0..nodes).filter(|host| *host != 4) {
        let news = world.node(host).unwrap().news();
        assert!(news.complete.is_some(), "host {host} did not finish");
        // Somebody may have found it before it found anybody.
        assert!(!news.searches.is_empty(), "host {host}");
    }
    world.stop_all();
}

/// Nodes of one network that announce to it, and know nothing of each other.
fn by_lsd(seed: u64, private: bool) -> World<Messages> {
    let torrent = Torrent::new(seed, 2_000_000, 64 * 1024, false);
    let pieces = torrent.geometry.piece_count();
    let mut world: World<Messages> = World::new(seed, torrent, Weather::default(), trace());
    for host in 0..5 {
        let mut plan = NodePlan::new(Bitfield::new(pieces));
        plan.tune = |config| config.lsd = true;
        plan.private = private;
        plan.magnet = host == 4 && !private;
        if host == 0 {
            plan.have = Bitfield::full(pieces);
        }
        plan.start = Instant::ZERO + Duration::from_millis(700 * host as u64);
        world.add_node(plan);
    }
    world
}

#[test]
fn who_is_on_one_network_is_heard_of_unless_it_is_private() {
    let mut world = by_lsd(13, false);
    world.run_until(Instant::ZERO + Duration::from_secs(60));
    for host in 1..5 {
        let news = world.node(host).unwrap().news();
        assert!(news.complete.is_some(), "host {host} did not finish");
    }
    world.stop_all();
    let mut world = by_lsd(14, true);
    world.run_until(Instant::ZERO + Duration::from_secs(600));
    for host in 0..5 {
        let stats = world.node(host).unwrap().stats().unwrap();
        assert_eq!((stats.swarm.peers, stats.swarm.candidates), (0, 0));
    }
    world.stop_all();
}

#[test]
fn of_a_private_torrent_the_dht_hears_nothing() {
    let (mut world, nodes) = by_dht(12, true);
    world.run_until(Instant::ZERO + Duration::from_secs(600));
    for host in 0..nodes {
        let node = world.node(host).unwrap();
        assert_eq!(node.news().searches, []);
        let stats = node.stats().unwrap();
        assert_eq!((stats.dht, stats.swarm.peers), (None, 0), "host {host}");
    }
    world.stop_all();
}

/// A disk that cannot be written although every look at it goes well: that is believed only once what is still
/// in memory was written, and no more than 8 MiB of that are kept meanwhile.
#[test]
fn a_look_that_went_well_is_not_believed_before_a_write() {
    let total = 128 << 20;
    let torrent = Torrent::new(7, total, 1 << 20, false);
    let pieces = torrent.geometry.piece_count();
    let mut world: World<Messages> = World::new(7, torrent, Weather::default(), trace());
    let mut plan = NodePlan::new(Bitfield::full(pieces));
    plan.link = LinkProfile {
        up: 20_000_000,
        down: 20_000_000,
        latency: Duration::from_millis(10),
    };
    plan.blocks = 2_600;
    plan.peers = (0..2).map(addr_of).collect();
    world.add_node(plan.clone());
    plan.have = Bitfield::new(pieces);
    plan.waits = true;
    // So slow that more than that is in memory when it fails.
    plan.disk.latency = Duration::from_secs(1);
    plan.disk.fails_at = Some(40);
    plan.disk.heals_after = Some(Duration::from_secs(60));
    plan.disk.looks_well = true;
    world.add_node(plan);
    world.run_until(Instant::ZERO + Duration::from_secs(30));
    let node = world.node(1).expect("the leecher");
    assert!(node.news().halted.is_some(), "it waits");
    assert_eq!(node.news().resumed, 0);
    let gauge = node.gauge();
    assert!(
        gauge.most.get() > 512 && gauge.used.get() <= 512,
        "{gauge:?}"
    );
    world.run_until(Instant::ZERO + Duration::from_secs(180));
    let node = world.node(1).expect("the leecher");
    assert!(node.news().complete.is_some() && node.news().resumed == 1);
    let downloaded = node.stats().expect("it is in its swarm").swarm.downloaded;
    assert!(downloaded <= total + (40 << 20), "{downloaded}");
    world.stop_all();
}
