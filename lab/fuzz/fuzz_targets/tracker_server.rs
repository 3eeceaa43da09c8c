//! Anything a client sends to the small tracker: requests for HTTP where the text starts with a slash,
//! datagrams otherwise. It answers or not, and stays within its bounds.
#![no_main]

use std::net::SocketAddr;

use libfuzzer_sys::fuzz_target;
use torr_base::{Instant, Rng};
use torr_tracker::server::{Server, ServerConfig};

fuzz_target!(|inputs: Vec<(u8, Vec<u8>)>| {
    let config = ServerConfig { torrents_max: 3, peers_max: 20, ..ServerConfig::default() };
    let mut server = Server::new(config, [7; 16], Rng::new(1));
    for (n, bytes) in inputs {
        let now = Instant::from_nanos(u64::from(n) * 1_000_000_000);
        let from = SocketAddr::from(([198, 18, 0, n], 1_000));
        match std::str::from_utf8(&bytes) {
            Ok(text) if text.starts_with('/') => {
                let _ = server.handle_http(now, from, text);
            }
            Ok(_) | Err(_) => {
                let reply = server.handle_datagram(now, from, &bytes);
                // Until an address is proven, little more comes back than went out.
                assert!(reply.is_none_or(|reply| reply.len() <= 3 * bytes.len().max(16)));
            }
        }
    }
    let stats = server.stats();
    assert!(stats.torrents <= 3 && stats.peers <= 20);
});
