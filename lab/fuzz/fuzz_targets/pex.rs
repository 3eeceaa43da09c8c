//! Any bytes as a message of `ut_pex` (BEP 11).
#![no_main]

use libfuzzer_sys::fuzz_target;
use torr_wire::{PEX_PEERS_MAX, PexMessage};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(message) = PexMessage::parse(bytes) {
        assert!(message.added.len() <= PEX_PEERS_MAX && message.dropped.len() <= PEX_PEERS_MAX);
        // One family comes before the other, which is all that writing it changes.
        let again = PexMessage::parse(&message.encode());
        assert_eq!(again, Ok(message));
    }
});
