//! Any datagram as a message of the DHT (BEP 5); what is read is written the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use torr_dht::Family;
use torr_dht::message::{Body, MESSAGE_LEN_MAX, Message};

fuzz_target!(|bytes: &[u8]| {
    let Ok(message) = Message::decode(bytes) else {
        return;
    };
    if let Body::Response(response) = &message.body {
        let nodes = response.nodes(Family::V4).count() + response.nodes(Family::V6).count();
        assert!((nodes + response.values.peers().count()) * 6 <= bytes.len());
    }
    let again = message.encode();
    if again.len() <= MESSAGE_LEN_MAX {
        assert_eq!(Message::decode(&again), Ok(message));
    }
});
