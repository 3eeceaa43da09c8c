//! Small swarms of both fidelities that must simply work.

use std::time::Duration;

use torr_base::{Bitfield, Instant};
use torr_node::Encryption;
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
