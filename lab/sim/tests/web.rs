//! Web seeds: alone, beside peers, and hostile ones.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use torr_base::{Bitfield, Instant};
use torr_node::{SwarmStats, WebEvent};
use torr_sim::{
    Bytes, Fidelity, HostId, Messages, NodePlan, Torrent, Trace, Weather, WebManners, World,
    addr_of,
};

const LATENCY: Duration = Duration::from_millis(20);
const PIECE: u64 = 64 * 1024;

/// One node that asks such web servers, at so many bytes a second, and as many peers that have everything.
fn world<F: Fidelity>(
    total: u64,
    servers: &[(WebManners, u64)],
    seeds: usize,
) -> (World<F>, HostId) {
    let torrent = Torrent::new(7, total, PIECE, F::BYTES);
    let pieces = torrent.geometry.piece_count();
    let mut trace = Trace::new(std::env::var("TRACE").ok().and_then(|it| it.parse().ok()));
    trace.set_live();
    let mut world: World<F> = World::new(7, torrent, Weather::default(), trace);
    let mut plan = NodePlan::new(Bitfield::new(pieces));
    for (manners, rate) in servers {
        plan.web
            .push(world.add_web_server(*manners, *rate, LATENCY));
    }
    plan.peers = (1..=seeds).map(addr_of).collect();
    let host = world.add_node(plan);
    for _ in 0..seeds {
        world.add_node(NodePlan::new(Bitfield::full(pieces)));
    }
    (world, host)
}

/// When it was done, and its figures then.
fn run<F: Fidelity>(world: &mut World<F>, host: HostId, within: u64) -> (Duration, SwarmStats) {
    let end = Instant::ZERO + Duration::from_secs(within);
    while world.node(host).unwrap().news().complete.is_none() {
        assert!(
            world.now() < end,
            "not done: {:#?}",
            world.node(host).unwrap().stats()
        );
        let next = world.now() + Duration::from_millis(500);
        world.run_until(next);
    }
    let news = world.node(host).unwrap().news();
    let at = news.complete.unwrap().since(Instant::ZERO);
    let stats = world.node(host).unwrap().stats().unwrap().swarm;
    world.stop_all();
    (at, stats)
}

fn done<F: Fidelity>(world: &mut World<F>, host: HostId, within: u64) -> Duration {
    run(world, host, within).0
}

#[test]
fn a_web_seed_is_enough() {
    for (total, limit) in [(1, 2), (PIECE * 3 - 5, 2), (20_000_000, 15)] {
        let (mut world, host) = world::<Messages>(total, &[(WebManners::Honest, 1_000_000)], 0);
        let at = done(&mut world, host, 60);
        assert!(at < Duration::from_secs(limit), "{total} bytes: {at:?}");
    }
    let (mut world, host) = world::<Bytes>(1_500_000, &[(WebManners::Honest, 500_000)], 0);
    done(&mut world, host, 60);
}

#[test]
fn several_runs_at_once_fill_the_line() {
    // Each answer brings 1 MB a second; four at once bring four.
    let (mut world, host) = world::<Messages>(40_000_000, &[(WebManners::Honest, 1_000_000)], 0);
    let at = done(&mut world, host, 60);
    assert!(at < Duration::from_secs(14), "{at:?}");
}

#[test]
fn peers_and_a_web_seed_share_the_work() {
    let (mut world, host) = world::<Messages>(30_000_000, &[(WebManners::Honest, 300_000)], 2);
    let (_, stats) = run(&mut world, host, 60);
    let from_peers = stats.downloaded - stats.web_downloaded;
    assert!(stats.web_downloaded > 3_000_000, "{stats:#?}");
    assert!(from_peers > 3_000_000, "{stats:#?}");
    assert!(stats.wasted < 1_000_000, "{stats:#?}");
}

#[test]
fn a_slow_web_seed_holds_nobody_up() {
    let (mut slow, host) = world::<Messages>(20_000_000, &[(WebManners::Honest, 1_700)], 2);
    let with = done(&mut slow, host, 120);
    let (mut none, host) = world::<Messages>(20_000_000, &[], 2);
    let without = done(&mut none, host, 120);
    assert!(
        with < without + Duration::from_secs(10),
        "{with:?} instead of {without:?}"
    );
}

#[test]
fn a_faster_web_seed_takes_over_from_a_slow_one() {
    let servers = [(WebManners::Honest, 5_000), (WebManners::Honest, 2_000_000)];
    let (mut world, host) = world::<Messages>(20_000_000, &servers, 0);
    let at = done(&mut world, host, 120);
    assert!(at < Duration::from_secs(20), "{at:?}");
}

#[test]
fn hostile_ones_are_given_up_and_stop_nobody() {
    for hostile in WebManners::HOSTILE {
        for seeds in [0, 1] {
            let mut servers = vec![(hostile, 1_000_000)];
            if seeds == 0 {
                servers.push((WebManners::Honest, 300_000));
            }
            let (mut world, host) = world::<Messages>(6_000_000, &servers, seeds);
            let at = done(&mut world, host, 120);
            assert!(at < Duration::from_secs(60), "{hostile:?}: {at:?}");
            let news = world.node(host).unwrap().news();
            let banned = news.web.iter().any(|(_, event)| *event == WebEvent::Banned);
            assert_eq!(
                banned,
                hostile == WebManners::Forges,
                "{hostile:?}: {:?}",
                news.web
            );
        }
    }
}

#[test]
fn alone_they_are_given_up_in_the_end() {
    for hostile in WebManners::HOSTILE {
        if matches!(
            hostile,
            WebManners::Short | WebManners::Endless | WebManners::Stalls
        ) {
            // Each answer brings something, and so the torrent is done with patience.
            continue;
        }
        let (mut world, host) = world::<Messages>(6_000_000, &[(hostile, 1_000_000)], 0);
        world.run_until(Instant::ZERO + Duration::from_secs(2_000));
        let node = world.node(host).unwrap();
        assert_eq!(node.stats().unwrap().swarm.web_seeds, 0, "{hostile:?}");
        let news = &node.news().web;
        assert!(news.len() <= 8, "{hostile:?}: {news:?}");
        let last = news.last().map(|(_, event)| event);
        assert!(
            matches!(last, Some(WebEvent::GaveUp { .. } | WebEvent::Banned)),
            "{last:?}"
        );
        world.stop_all();
    }
}

#[test]
fn a_forger_wastes_two_pieces_at_most() {
    let (mut world, host) = world::<Messages>(6_000_000, &[(WebManners::Forges, 1_000_000)], 1);
    let (_, stats) = run(&mut world, host, 120);
    // G16, and what was under way when it was caught.
    assert!(stats.wasted <= 6 * PIECE, "{stats:#?}");
}

#[test]
fn a_rate_limit_and_few_buffers_hold_for_web_seeds_too() {
    let torrent = Torrent::new(7, 2_000_000, PIECE, false);
    let pieces = torrent.geometry.piece_count();
    let mut world: World<Messages> = World::new(7, torrent, Weather::default(), Trace::new(None));
    let server = world.add_web_server(WebManners::Honest, 4_000_000, LATENCY);
    let mut plan = NodePlan::new(Bitfield::new(pieces));
    plan.web.push(server);
    plan.down_rate = Some(200_000);
    plan.blocks = 6;
    let host = world.add_node(plan);
    let at = done(&mut world, host, 60);
    assert!(
        at > Duration::from_secs(9) && at < Duration::from_secs(14),
        "{at:?}"
    );
}
