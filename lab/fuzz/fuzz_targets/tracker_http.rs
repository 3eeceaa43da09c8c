//! Any body as an HTTP tracker's reply, under any status.
#![no_main]

use libfuzzer_sys::fuzz_target;
use torr_tracker::{HttpReply, PEERS_MAX, http_reply};

fuzz_target!(|input: (u16, Vec<u8>)| {
    let (status, body) = input;
    let reply = HttpReply { status, body, from: None };
    if let Ok(announce) = http_reply::parse_announce(&reply) {
        assert!(announce.peers.len() <= PEERS_MAX);
    }
    let _ = http_reply::parse_scrape(&reply);
});
