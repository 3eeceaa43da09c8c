//! Any bytes as an extension handshake (BEP 10).
#![no_main]

use libfuzzer_sys::fuzz_target;
use torr_wire::ExtendedHandshake;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(hello) = ExtendedHandshake::parse(bytes) {
        let again = ExtendedHandshake::parse(&hello.encode());
        assert_eq!(again.ok(), Some(hello));
    }
});
