//! Any bytes as a have-log: no panic, and nothing claimed that the header does not allow.
#![no_main]

use libfuzzer_sys::fuzz_target;
use torr_base::InfoHash;
use torr_store::{LogHeader, read_log};

fuzz_target!(|bytes: &[u8]| {
    let header = LogHeader {
        info_hash: InfoHash([7; 20]),
        pieces: 1_000,
        piece_len: 65_536,
        total: 1_000 * 65_536,
        files: 3,
    };
    if let Ok((image, _)) = read_log(bytes, &header) {
        assert_eq!(image.have().len(), header.pieces);
        assert_eq!(image.durable().count_and(image.have()), image.durable().count());
    }
});
