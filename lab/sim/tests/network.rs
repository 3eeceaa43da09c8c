//! A line that is gone for a while (G17).

use std::time::Duration;

use torr_base::{Bitfield, Instant};
use torr_sim::{LinkProfile, Messages, Mood, NodePlan, Torrent, Trace, Tracker, Weather, World};

const LEECH: usize = 2;
const HOUR: Duration = Duration::from_secs(3_600);
/// When the line is cut: not near the half hours at which the seeds hear of the leech anew, and dial it.
const CUT: u64 = 600;

fn at(secs: u64) -> Instant {
    Instant::ZERO + Duration::from_secs(secs)
}

/// Two seeds that a tracker knows, and one who would need some twenty minutes to get it all.
fn world(seed: u64, udp: bool) -> World<Messages> {
    let torrent = Torrent::new(seed, 32 << 20, 64 * 1024, false);
    let pieces = torrent.geometry.piece_count();
    let mut world: World<Messages> =
        World::new(seed, torrent, Weather::default(), Trace::new(None));
    let url = world.add_tracker(Tracker::new(Mood::True, udp));
    let mut plan = NodePlan::new(Bitfield::full(pieces));
    plan.trackers = vec![vec![url]];
    plan.link = LinkProfile::default();
    world.add_node(plan.clone());
    world.add_node(plan.clone());
    plan.have = Bitfield::new(pieces);
    plan.down_rate = Some(25_000);
    world.add_node(plan);
    world
}

fn pieces(world: &World<Messages>) -> u32 {
    world.node(LEECH).expect("a node").have().count()
}

fn announces(world: &World<Messages>) -> u32 {
    let (good, bad) = world.node(LEECH).expect("a node").news().announces;
    good + bad
}

/// Downloads, loses the line for `gone`, has it back: pieces and announces in the thirty seconds after.
fn after_a_loss(seed: u64, udp: bool, gone: Duration, told: bool) -> (u32, u32) {
    let mut world = world(seed, udp);
    world.run_until(at(CUT));
    let before = pieces(&world);
    assert!(before > 10, "{before}");
    world.cut(LEECH);
    let asked = announces(&world);
    let back = at(CUT) + gone;
    world.run_until(back);
    let (had, tried) = (pieces(&world), announces(&world) - asked);
    assert!(had <= before + 16, "the line was not cut: {before} {had}");
    // A try in a minute would be none too few for an hour.
    assert!(
        u64::from(tried) <= 1 + gone.as_secs() / 60,
        "{tried} announces without a line"
    );
    world.mend(LEECH, told);
    world.run_until(back + Duration::from_secs(30));
    let result = (pieces(&world) - had, announces(&world) - asked - tried);
    world.run_until(back + Duration::from_secs(1_500));
    let (left, stats) = (
        world.node(LEECH).expect("a node"),
        world.node(LEECH).expect("a node").stats(),
    );
    assert!(
        left.is_complete(),
        "after {gone:?}: {} {stats:?}",
        left.have().count()
    );
    world.stop_all();
    result
}

#[test]
fn after_an_hour_without_a_line_it_goes_on_within_thirty_seconds() {
    for udp in [false, true] {
        for seed in 1..=2 {
            let (pieces, announces) = after_a_loss(seed, udp, HOUR, true);
            assert!(pieces >= 5, "seed {seed}: {pieces} pieces");
            assert!(announces <= 2, "seed {seed}: {announces} announces");
        }
    }
}

#[test]
fn after_a_minute_or_five_as_well() {
    for gone in [20, 60, 300] {
        let (pieces, announces) = after_a_loss(7, false, Duration::from_secs(gone), true);
        assert!(pieces >= 5, "{gone} s: {pieces} pieces");
        assert!(announces <= 2, "{gone} s: {announces} announces");
    }
}

#[test]
fn a_line_that_comes_and_goes_makes_no_storm() {
    let mut world = world(8, false);
    world.run_until(at(60));
    let asked = announces(&world);
    for n in 0..60 {
        world.cut(LEECH);
        world.run_until(at(60) + Duration::from_millis(2_000 * n + 1_000));
        world.mend(LEECH, true);
        world.run_until(at(60) + Duration::from_millis(2_000 * n + 2_000));
    }
    // In two minutes; its tracker wants to hear of it every half an hour.
    let more = announces(&world) - asked;
    assert!(more <= 10, "{more} announces");
    world.run_until(at(1_800));
    assert!(world.node(LEECH).expect("a node").is_complete());
    world.stop_all();
}
