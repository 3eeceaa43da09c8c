//! Any bytes as a .torrent: refused or read; a read one has safe names and survives being written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use torr_metainfo::Metainfo;

fuzz_target!(|bytes: &[u8]| {
    let Ok(torrent) = Metainfo::parse(bytes) else { return };
    let info = torrent.info();
    for file in info.files() {
        let Some(components) = info.layout().components(file.index) else { continue };
        for name in components {
            assert!(!name.is_empty() && name != "." && name != ".." && name.len() <= 255);
            assert!(!name.contains(['/', '\\', '\0']));
        }
    }
    let again = Metainfo::parse(&torrent.to_bytes()).expect("what was written can be read");
    assert_eq!(again.info().info_hash(), info.info_hash());
    assert_eq!(again.trackers(), torrent.trackers());
});
