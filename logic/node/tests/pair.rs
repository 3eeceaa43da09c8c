//! Two nodes joined by a pipe of bytes: one has everything, the other gets it.
#![allow(clippy::unwrap_used)]

mod bytes;

use std::time::Duration;

use bytes::{PIECE, Side, addr};
use torr_base::{Instant, Rng};
use torr_node::{Encryption, Notice};

#[test]
fn a_whole_torrent_crosses() {
    let leech = cross(3, Duration::from_millis(20), Encryption::Off);
    assert_eq!(leech.widest, 2, "a block and the spill");
}

/// Several blocks a read, wherever a read ends.
#[test]
fn a_fast_peer_s_blocks_land_together() {
    for encryption in [Encryption::Off, Encryption::Require] {
        let leech = cross(60, Duration::from_millis(1), encryption);
        assert!(leech.widest > 10, "{}", leech.widest);
    }
}

/// Carries so many pieces and a bit across, a step of time for each exchange.
fn cross(pieces: usize, step: Duration, encryption: Encryption) -> Side {
    let mut rng = Rng::new(9);
    let mut original = vec![0; pieces * PIECE as usize + 12_345];
    rng.fill(&mut original);
    let mut seed = Side::new(1, &original, true, Vec::new(), encryption);
    let mut leech = Side::new(2, &original, false, vec![addr(1)], encryption);
    let key = leech.key;
    let mut now = Instant::ZERO;
    for _ in 0..10_000 {
        now = now + step;
        for side in [&mut seed, &mut leech] {
            side.node.handle_timeout(now);
        }
        if leech.act(now) {
            seed.conn = seed.node.handle_accept(now, addr(2));
            assert!(seed.conn.is_some());
        }
        seed.act(now);
        leech.write(now, &mut rng);
        let mut wire = std::mem::take(&mut leech.out);
        seed.read(now, &mut wire, &mut rng);
        leech.out = wire;
        seed.write(now, &mut rng);
        let mut wire = std::mem::take(&mut seed.out);
        leech.read(now, &mut wire, &mut rng);
        seed.out = wire;
        leech.act(now);
        if leech.notices.contains(&Notice::Synced) {
            break;
        }
    }
    assert!(
        leech.notices.contains(&Notice::Complete),
        "{:?}",
        leech.node.peers(key)
    );
    assert!(leech.notices.contains(&Notice::FileDone { file: 0 }));
    assert_eq!(leech.disk.written.len(), pieces + 1);
    let stats = leech.node.stats(key).unwrap();
    assert_eq!(
        (stats.swarm.done, stats.swarm.wasted),
        (original.len() as u64, 0)
    );
    leech.node.stop_torrent(now, key);
    leech.act(now);
    assert_eq!(leech.notices.last(), Some(&Notice::Stopped));
    assert!(leech.node.remove_torrent(key));
    let (free, total) = leech.node.buffers();
    assert_eq!(free, total, "every block is back");
    leech
}
