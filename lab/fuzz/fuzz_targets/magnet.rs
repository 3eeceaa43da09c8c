//! Any text as a magnet link; what is read can be written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use torr_metainfo::Magnet;

fuzz_target!(|text: &str| {
    if let Ok(magnet) = Magnet::parse(text) {
        let again = Magnet::parse(&magnet.to_string());
        assert_eq!(again.as_ref().ok(), Some(&magnet));
    }
});
