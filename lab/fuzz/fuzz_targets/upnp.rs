//! Any answer to a search for gateways, any description of a device, any answer to a call: whatever is read of them is at
//! the gateway, and fit to stand in a request.
#![no_main]

use std::net::Ipv4Addr;

use libfuzzer_sys::fuzz_target;
use torr_tracker::portmap::upnp::{
    Place, read_address, read_description, read_fault, read_search_answer,
};

const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);

fn check(place: &Place) {
    assert_eq!(*place.addr.ip(), GATEWAY);
    assert!(place.addr.port() > 0);
    assert!(place.path.starts_with('/') && place.path.bytes().all(|byte| byte.is_ascii_graphic()));
    let url = format!("http://{}{}", place.addr, place.path);
    assert_eq!(Place::parse(&url, GATEWAY).as_ref(), Some(place));
}

fuzz_target!(|bytes: &[u8]| {
    if let Some(place) = read_search_answer(bytes, GATEWAY) {
        check(&place);
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let from = Place::parse("http://192.168.1.1:5000/igd/root.xml", GATEWAY).expect("a place");
    if let Some(service) = read_description(text, &from) {
        check(&service.place);
    }
    if let Some(place) = Place::parse(text, GATEWAY) {
        check(&place);
    }
    let _ = (read_address(text), read_fault(text));
});
