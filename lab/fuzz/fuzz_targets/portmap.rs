//! A gateway that says anything, at any time: datagrams, answers to searches, answers over HTTP. What is sent goes to the
//! gateway only, it ends within a second of being told to, and never asks without a pause.
#![no_main]

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use torr_base::{Instant, Rng};
use torr_tracker::portmap::{Gateway, MapAction, PortMapper, END_PATIENCE};

const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);

struct World {
    mapper: PortMapper,
    now: Instant,
    /// The last datagram and the last call that went out.
    asked: Vec<u8>,
    request: u64,
}

impl World {
    fn settle(&mut self, out: Vec<MapAction>) -> usize {
        let count = out.len();
        for action in out {
            match action {
                MapAction::FindGateway | MapAction::Search { .. } => {}
                MapAction::Send { to, bytes } => {
                    assert_eq!(*to.ip(), GATEWAY);
                    self.asked = bytes;
                }
                MapAction::Http { request, place, .. } => {
                    assert_eq!(*place.addr.ip(), GATEWAY);
                    self.request = request;
                }
            }
        }
        self.mapper.check_invariants();
        count
    }
}

fuzz_target!(|bytes: &[u8]| {
    let now = Instant::ZERO;
    let secret = std::array::from_fn(|n| n as u8);
    let mapper = PortMapper::new(6881, true, secret, Rng::new(1), now);
    let mut world = World { mapper, now, asked: Vec::new(), request: 0 };
    let from = SocketAddr::from((GATEWAY, 5351));
    let (mut stream, mut sent, mut inputs) = (bytes, 0, 0);
    while let Some((step, rest)) = stream.split_first() {
        let n = usize::from(step >> 3);
        let (part, rest) = rest.split_at(rest.len().min(n * 8));
        stream = rest;
        inputs += 1;
        let mut out = Vec::new();
        match step & 7 {
            0 => {
                let due = world.mapper.next_timeout().unwrap_or(world.now);
                world.now = world.now.max(due) + Duration::from_millis(n as u64);
                world.mapper.handle_timeout(world.now, &mut out);
            }
            1 => {
                let gateway = Gateway { addr: GATEWAY, local: Ipv4Addr::new(192, 168, 1, 20) };
                let found = if n == 31 { Err("none".to_owned()) } else { Ok(gateway) };
                world.mapper.handle_gateway(world.now, found, &mut out);
            }
            2 => world.mapper.handle_datagram(world.now, from, part, &mut out),
            // The answer to what was asked, with some bytes of its head another.
            3 => {
                let mut answer = world.asked.clone();
                if answer.len() == 12 {
                    answer.resize(16, 0);
                    answer.copy_within(4..6, 8);
                }
                for (at, byte) in answer.iter_mut().take(24).enumerate() {
                    *byte ^= part.get(at).copied().unwrap_or(0);
                }
                if let Some(opcode) = answer.get_mut(1) {
                    *opcode |= 0x80;
                }
                world.mapper.handle_datagram(world.now, from, &answer, &mut out);
            }
            4 => world.mapper.handle_search(world.now, from, part, &mut out),
            5 => {
                let body = String::from_utf8_lossy(part).into_owned();
                let answer = if n == 0 { Err("gone".to_owned()) } else { Ok((if n & 1 == 0 { 200 } else { 500 }, body)) };
                world.mapper.handle_http(world.now, world.request, answer, &mut out);
            }
            6 => world.mapper.handle_unreachable(world.now, &mut out),
            _ => world.mapper.network_changed(world.now),
        }
        sent += world.settle(out);
    }
    // An input brings a round of questions at most, and a round is three.
    assert!(sent <= inputs * 4, "{sent} after {inputs}");
    let (began, mut out) = (world.now, Vec::new());
    world.mapper.end(world.now, &mut out);
    while !world.mapper.is_ended() {
        world.now = world.mapper.next_timeout().expect("an end");
        world.mapper.handle_timeout(world.now, &mut out);
    }
    assert!(world.now.since(began) <= END_PATIENCE);
    world.settle(out);
});
