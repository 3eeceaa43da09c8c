//! Any bytes as a message of `ut_metadata` (BEP 9).
#![no_main]

use libfuzzer_sys::fuzz_target;
use torr_wire::MetadataMessage;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(message) = MetadataMessage::parse(bytes) {
        let again = message.encode();
        assert_eq!(MetadataMessage::parse(&again), Ok(message));
    }
});
