//! Two nodes joined by a pipe of bytes: one has everything, the other gets it.
#![allow(clippy::unwrap_used)]

mod bytes;

use std::time::Duration;

use bytes::{PIECE, Side, addr};
use torr_base::{Instant, Rng};
use torr_node::{Encryption, Notice};

#[test]
fn a_whole_torrent_crosses() {
    let mut rng = Rng::new(9);
    let mut original = vec![0; 3 * PIECE as usize + 12_345];
    rng.fill(&mut original);
    let mut seed = Side::new(1, &original, true, Vec::new(), Encryption::Off);
    let mut leech = Side::new(2, &original, false, vec![addr(1)], Encryption::Off);
    let key = leech.key;
    let mut now = Instant::ZERO;
    for _ in 0..10_000 {
        now = now + Duration::from_millis(20);
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
    assert_eq!(leech.disk.written.len(), 4);
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
}
