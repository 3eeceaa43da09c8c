//! Two peers that say anything, at any pace. The first byte is the memory, in blocks beyond four; the rest is
//! steps, see `torr_fuzz`. Every invariant of the node holds after every event, and every block is back at the end.
#![no_main]

use libfuzzer_sys::fuzz_target;
use torr_base::InfoHash;
use torr_fuzz::{World, torrent};
use torr_node::TorrentInit;
use torr_store::StorageId;

const INFO_HASH: InfoHash = InfoHash([7; 20]);

fuzz_target!(|bytes: &[u8]| {
    let Some((more, steps)) = bytes.split_first() else { return };
    let mut world = World::new(INFO_HASH, 4 + more % 32, None);
    let init = TorrentInit {
        storage: StorageId(1),
        swarm: torrent(INFO_HASH),
        trackers: Vec::new(),
        peers: Vec::new(),
        nodes: Vec::new(),
        sequential: false,
        waits: false,
        super_seed: false,
    };
    let key = world.node.add_torrent(world.now, init).expect("the first torrent");
    world.run(key, steps);
});
