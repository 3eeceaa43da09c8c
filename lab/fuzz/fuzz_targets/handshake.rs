//! A handshake that arrives in parts: never more than 68 bytes are taken.
#![no_main]

use libfuzzer_sys::fuzz_target;
use torr_wire::{HANDSHAKE_LEN, HandshakeReader};

fuzz_target!(|bytes: &[u8]| {
    let Some((step, mut stream)) = bytes.split_first() else { return };
    let mut reader = HandshakeReader::new();
    let mut taken = 0;
    while !stream.is_empty() {
        let room = reader.read_buf();
        let n = room.len().min(stream.len()).min(usize::from(*step) + 1);
        if n == 0 {
            break;
        }
        room[..n].copy_from_slice(&stream[..n]);
        stream = &stream[n..];
        taken += n;
        if reader.advance(n).is_err() {
            return;
        }
    }
    assert!(taken <= HANDSHAKE_LEN);
    if let Some(heard) = reader.handshake() {
        assert_eq!(taken, HANDSHAKE_LEN);
        assert_eq!(heard.encode()[28..], bytes[1..][28..HANDSHAKE_LEN]);
    }
});
