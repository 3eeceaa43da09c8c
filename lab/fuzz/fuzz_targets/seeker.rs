//! The same as `node` of a torrent of which only the info-hash is known: peers give metadata, right or wrong,
//! and say what they have before and after it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use torr_base::InfoHash;
use torr_fuzz::World;
use torr_node::MagnetInit;
use torr_store::StorageId;

const METADATA: &[u8] = b"twenty bytes of info";
/// Its SHA-1.
const INFO_HASH: InfoHash = InfoHash([
    0xf7, 0x36, 0xbe, 0xda, 0xc9, 0x44, 0x9d, 0xb8, 0xc5, 0xea,
    0xfc, 0x7c, 0xf9, 0xe3, 0x67, 0x27, 0x8b, 0x34, 0x27, 0x1f,
]);

fuzz_target!(|bytes: &[u8]| {
    let mut world = World::new(INFO_HASH, 4, Some(METADATA));
    let init = MagnetInit {
        storage: StorageId(1),
        info_hash: INFO_HASH,
        trackers: Vec::new(),
        peers: Vec::new(),
        sequential: false,
        waits: false,
    };
    let key = world.node.add_magnet(world.now, init).expect("the first torrent");
    world.run(key, bytes);
});
