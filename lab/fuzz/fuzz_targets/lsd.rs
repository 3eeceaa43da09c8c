//! Any datagram to the group of local discovery (BEP 14); what is read is read the same when it is written.
#![no_main]

use std::net::SocketAddr;

use libfuzzer_sys::fuzz_target;
use torr_tracker::lsd::{GROUP_V4, LocalAnnounce, MESSAGE_LEN_MAX, PORT, TORRENTS_MAX};

fuzz_target!(|bytes: &[u8]| {
    let Some(heard) = LocalAnnounce::decode(bytes) else {
        return;
    };
    assert!(heard.port > 0 && (1..=TORRENTS_MAX).contains(&heard.torrents.len()));
    let again = heard.encode(SocketAddr::from((GROUP_V4, PORT)));
    assert!(again.len() <= MESSAGE_LEN_MAX);
    assert_eq!(LocalAnnounce::decode(&again), Some(heard));
});
