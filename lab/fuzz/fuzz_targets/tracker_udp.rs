//! Any datagram, as a request and as a reply (BEP 15); what is read is written the same.
#![no_main]

use std::net::SocketAddr;

use libfuzzer_sys::fuzz_target;
use torr_tracker::udp;

fuzz_target!(|bytes: &[u8]| {
    if let Some(request) = udp::UdpRequest::decode(bytes) {
        let again = udp::UdpRequest::decode(&request.encode());
        assert_eq!(again, Some(request));
    }
    for from in ["198.18.0.1:80", "[2001:2::1]:80"] {
        let from: SocketAddr = from.parse().expect("an address");
        let _ = udp::UdpReply::decode(bytes, from);
    }
    let _ = udp::transaction_of_request(bytes);
    let _ = udp::transaction_of_reply(bytes);
});
