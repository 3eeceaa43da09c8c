//! What super-seeding (BEP 16) is for: a seed that sends little more than one copy before others have all
//! pieces, and is never waited for in vain.

use std::collections::BTreeSet;
use std::time::Duration;

use torr_base::{Bitfield, Instant, PieceIndex};
use torr_sim::{LinkProfile, Messages, NodePlan, Torrent, Trace, Weather, World, addr_of};

/// A seed, host 0, and those that come to it; all know each other.
struct Swarm {
    total: u64,
    piece_len: u64,
    /// Bytes a second that the seed can send; each of the others sends 1 MB and takes 8 MB.
    up: u64,
    leechers: usize,
    private: bool,
    /// Whether that leecher gives anything.
    gives: fn(usize) -> bool,
    /// Whether that leecher is gone by the second.
    gone: fn(usize, u64) -> bool,
    /// Whether that leecher wants the piece.
    wants: fn(usize, u32) -> bool,
}

const USUAL: Swarm = Swarm {
    total: 32 << 20,
    piece_len: 256 << 10,
    up: 1_000_000,
    leechers: 12,
    private: false,
    gives: |_| true,
    gone: |_, _| false,
    wants: |_, _| true,
};

/// How a swarm went.
#[derive(Debug)]
struct Course {
    /// Copies that the seed had sent when all pieces were somewhere else.
    spread: f64,
    /// … and when all that stayed had finished.
    sent: f64,
    done_at: Duration,
}

fn watch() -> Trace {
    let host = std::env::var("TRACE").ok();
    let mut trace = Trace::new(host.and_then(|host| host.parse().ok()));
    trace.set_live();
    trace
}

impl Swarm {
    fn world(&self, seed: u64, super_seed: bool) -> World<Messages> {
        let torrent = Torrent::new(seed, self.total, self.piece_len, false);
        let pieces = torrent.geometry.piece_count();
        let mut world = World::new(seed, torrent, Weather::default(), watch());
        let mut plan = NodePlan::new(Bitfield::full(pieces));
        plan.link = LinkProfile {
            up: self.up,
            down: 8_000_000,
            latency: Duration::from_millis(30),
        };
        plan.private = self.private;
        plan.super_seed = super_seed;
        plan.peers = (0..=self.leechers).map(addr_of).collect();
        world.add_node(plan.clone());
        plan.link.up = 1_000_000;
        plan.have = Bitfield::new(pieces);
        for leecher in 1..=self.leechers {
            plan.tune = match (self.gives)(leecher) {
                true => |_| {},
                false => |config| config.upload = false,
            };
            let mut wanted = Bitfield::new(pieces);
            for piece in (0..pieces).filter(|piece| (self.wants)(leecher, *piece)) {
                wanted.set(PieceIndex::new(piece));
            }
            plan.wanted = Some(wanted);
            world.add_node(plan.clone());
        }
        world
    }

    /// Lets it run until all that stay have what they want.
    fn run(&self, seed: u64, super_seed: bool) -> Course {
        let mut world = self.world(seed, super_seed);
        let pieces = world.torrent().geometry.piece_count();
        let sent = |world: &World<Messages>| {
            let stats = world.node(0).and_then(|node| node.stats());
            stats.map_or(0, |stats| stats.swarm.uploaded) as f64 / self.total as f64
        };
        let mut spread = None;
        let mut there: Vec<_> = (1..=self.leechers).collect();
        let mut somewhere = BTreeSet::new();
        for quarter in 1..=4 * 3_600 {
            let now = Instant::ZERO + Duration::from_millis(250 * quarter);
            world.run_until(now);
            for leecher in &there {
                let news = world.node(*leecher).map(|node| node.news().pieces.clone());
                somewhere.extend(news.into_iter().flatten());
            }
            if spread.is_none() && somewhere.len() == pieces as usize {
                spread = Some(sent(&world));
            }
            let gone = |leecher: &mut usize| (self.gone)(*leecher, quarter / 4);
            for leecher in there.extract_if(.., gone) {
                world.kill(leecher);
            }
            let done = |leecher: &usize| {
                let news = world.node(*leecher).map(|node| node.news());
                news.is_some_and(|news| news.complete.is_some())
            };
            if there.iter().all(done) {
                let course = Course {
                    spread: spread.unwrap_or(f64::NAN),
                    sent: sent(&world),
                    done_at: now.since(Instant::ZERO),
                };
                world.stop_all();
                return course;
            }
        }
        panic!("it stalls");
    }
}

#[test]
fn a_super_seed_sends_one_copy_before_the_others_have_all() {
    for (leechers, up) in [(10, 1_000_000), (20, 1_000_000), (16, 300_000)] {
        let swarm = Swarm {
            leechers,
            up,
            ..USUAL
        };
        let (plain, once) = (swarm.run(11, false), swarm.run(11, true));
        let both = format!("{leechers} leechers, {up} B/s: {plain:?}, super {once:?}");
        assert!(once.spread < 1.1 && once.spread < plain.spread, "{both}");
        assert!(once.sent < 1.2 && once.sent < plain.sent, "{both}");
        assert!(once.done_at <= plain.done_at, "{both}");
    }
}

#[test]
fn one_alone_is_not_kept_waiting() {
    for (total, piece_len) in [
        (16 << 20, 256 << 10),
        (8 << 20, 16 << 10),
        (32 << 20, 8 << 20),
    ] {
        let swarm = Swarm {
            total,
            piece_len,
            up: 4_000_000,
            leechers: 1,
            ..USUAL
        };
        let (plain, once) = (swarm.run(3, false), swarm.run(3, true));
        let both = format!("pieces of {piece_len}: {plain:?}, super {once:?}");
        assert!(once.done_at < 2 * plain.done_at, "{both}");
        assert!(once.sent < 1.01, "{both}");
    }
}

#[test]
fn those_who_pass_nothing_on_finish_all_the_same() {
    let few = Swarm {
        gives: |leecher| leecher % 3 != 0,
        ..USUAL
    };
    let (plain, once) = (few.run(5, false), few.run(5, true));
    let both = format!("{plain:?}, super {once:?}");
    assert!(once.done_at < plain.done_at * 3 / 2, "{both}");
    let nobody = Swarm {
        total: 8 << 20,
        leechers: 6,
        gives: |_| false,
        ..USUAL
    };
    let (plain, once) = (nobody.run(5, false), nobody.run(5, true));
    let both = format!("{plain:?}, super {once:?}");
    assert!(once.done_at < 2 * plain.done_at, "{both}");
}

#[test]
fn who_goes_takes_no_piece_away_for_good() {
    let swarm = Swarm {
        // One after another dies, with what it was given.
        gone: |leecher, second| leecher > 3 && second >= 4 * leecher as u64,
        ..USUAL
    };
    let (plain, once) = (swarm.run(7, false), swarm.run(7, true));
    let both = format!("{plain:?}, super {once:?}");
    assert!(once.done_at < plain.done_at * 3 / 2, "{both}");
}

#[test]
fn those_who_want_some_of_it_get_that() {
    let swarm = Swarm {
        wants: |leecher, piece| leecher > 8 || piece % 4 == leecher as u32 % 4,
        leechers: 9,
        private: true,
        ..USUAL
    };
    let (plain, once) = (swarm.run(9, false), swarm.run(9, true));
    let both = format!("{plain:?}, super {once:?}");
    assert!(once.done_at < 2 * plain.done_at, "{both}");
    // Nobody wants most of it.
    let swarm = Swarm {
        wants: |_, piece| piece % 16 == 3,
        leechers: 4,
        ..USUAL
    };
    let (plain, once) = (swarm.run(9, false), swarm.run(9, true));
    let both = format!("{plain:?}, super {once:?}");
    assert!(once.done_at < 5 * plain.done_at, "{both}");
}
