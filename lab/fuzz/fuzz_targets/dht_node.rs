//! A node of the DHT among datagrams and time: every invariant holds after each, and nothing that it
//! sends is longer or goes further than it may.
//!
//! The input is steps of one byte: what to do, to whom; `n` bytes follow where a datagram is told raw.
#![no_main]

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use torr_base::{InfoHash, Instant, Rng};
use torr_dht::message::{Body, Message, Method, Response, Values};
use torr_dht::{Announce, Bootstrap, Contact, Dht, DhtAction, DhtConfig, NodeId, REPLY_LEN_MAX};

struct World {
    dht: Dht,
    now: Instant,
    /// Questions that wait for an answer, as sent.
    asked: VecDeque<(SocketAddr, Vec<u8>)>,
    out: Vec<DhtAction>,
    resolves: Vec<torr_dht::ResolveId>,
}

impl World {
    fn act(&mut self) {
        for action in std::mem::take(&mut self.out) {
            match action {
                DhtAction::Send { to, bytes } => {
                    assert!(bytes.len() <= REPLY_LEN_MAX && to.port() != 0);
                    let message = Message::decode(&bytes).expect("what is sent can be read");
                    if let Body::Query(_) = message.body {
                        self.asked.push_back((to, bytes));
                        self.asked.truncate(256);
                    }
                }
                DhtAction::Resolve { request, .. } => self.resolves.push(request),
                DhtAction::Peers { peers, .. } => assert!(!peers.is_empty()),
                DhtAction::Done { .. } | DhtAction::ExternalIp { .. } => {}
            }
        }
        self.dht.check_invariants();
    }

    /// The oldest question is answered, truly or not, with nodes and peers made of `seed`.
    fn answer(&mut self, seed: u8, rest: &[u8]) {
        let Some((to, bytes)) = self.asked.pop_front() else {
            return;
        };
        let Ok(message) = Message::decode(&bytes) else {
            return;
        };
        let target = match message.body {
            Body::Query(query) => match query.method {
                Method::GetPeers { info_hash, .. } => NodeId::from(info_hash),
                Method::FindNode { target } => target,
                Method::Ping | Method::AnnouncePeer { .. } => NodeId([seed; 20]),
            },
            Body::Response(_) | Body::Error { .. } => return,
        };
        let mut rng = Rng::new(u64::from(seed) ^ self.now.as_nanos());
        let mut nodes = Vec::new();
        let mut peers = Vec::new();
        for _ in 0..rng.below(20) {
            let mut random = [0; 20];
            rng.fill(&mut random);
            nodes.extend(target.sharing(rng.index(100), random).0);
            let addr = [20 + rng.below(4) as u8, rng.below(8) as u8, rng.below(40) as u8, 1];
            nodes.extend(addr);
            nodes.extend([0x20, rng.below(3) as u8]);
            peers.push(SocketAddr::from((addr, 1_000 + rng.below(100) as u16)));
        }
        let mut random = [seed; 20];
        rng.fill(&mut random);
        let id = match seed % 3 {
            0 => NodeId::for_ip(to.ip(), random),
            1 => target.sharing(rng.index(160), random),
            _ => NodeId([seed; 20]),
        };
        let mut response = Response::new(id);
        response.nodes = Some(&nodes);
        response.nodes6 = Some(rest);
        response.token = Some(b"token");
        response.values = Values::Peers(&peers);
        let answer = Message {
            transaction: message.transaction,
            body: if seed == 7 { Body::Error { code: 202, text: rest } } else { Body::Response(response) },
            version: None,
            ip: Some(SocketAddr::from(([30, 30, seed & 1, 30], 6881))),
            read_only: false,
        };
        let from = if seed == 9 { SocketAddr::from(([9, 9, 9, 9], 9)) } else { to };
        self.dht.handle_datagram(self.now, from, &answer.encode(), &mut self.out);
    }
}

fuzz_target!(|bytes: &[u8]| {
    let config = DhtConfig {
        ipv6: bytes.len() % 2 == 0,
        bootstrap: Bootstrap::Hosts(vec![("start.example".to_owned(), 6881)]),
        ..DhtConfig::default()
    };
    // The input as a saved table as well: it is none, or a true one.
    let now = Instant::ZERO;
    let dht = Dht::new(config.clone(), Rng::new(1), [1; 32], Some(bytes), now);
    let mut world = World { dht, now, asked: VecDeque::new(), out: Vec::new(), resolves: Vec::new() };
    let mut searches = Vec::new();
    let mut stream = bytes;
    while let Some((step, rest)) = stream.split_first() {
        stream = rest;
        let n = step >> 3;
        let (part, rest) = stream.split_at(stream.len().min(usize::from(n)));
        match step & 7 {
            0 => {
                let due = world.dht.next_timeout().unwrap_or(world.now);
                world.now = world.now.max(due).max(world.now + Duration::from_millis(u64::from(n)));
                world.dht.handle_timeout(world.now, &mut world.out);
            }
            1 => world.answer(n, part),
            2 => {
                let from = SocketAddr::from(([40 + (n & 3), 1, n, 1], 6881));
                stream = rest;
                world.dht.handle_datagram(world.now, from, part, &mut world.out);
            }
            3 => {
                let announce = Announce { port: 6881, implied: n & 1 == 0, seed: n & 2 == 0 };
                let hash = InfoHash([n; 20]);
                searches.extend(world.dht.search(world.now, hash, (n & 4 == 0).then_some(announce), n & 8 == 0));
            }
            4 => {
                if let Some(search) = searches.pop() {
                    world.dht.cancel(search);
                }
            }
            5 => world.dht.add_node(world.now, SocketAddr::from(([20 + (n & 3), n, 3, 1], 6881))),
            6 => {
                let id = NodeId([n; 20]);
                let contact = Contact { id, addr: SocketAddr::from(([50, n, 1, 1], 6881)) };
                if let Some(request) = world.resolves.pop() {
                    let found = Ok(vec![contact.addr]);
                    world.dht.handle_resolved(world.now, request, found, &mut world.out);
                } else {
                    world.now = world.now + Duration::from_secs(60 * u64::from(n));
                }
            }
            _ => {
                let saved = world.dht.save();
                let again = Dht::new(config.clone(), Rng::new(2), [2; 32], Some(&saved), world.now);
                again.check_invariants();
                world.dht.network_changed(world.now);
            }
        }
        world.act();
    }
});
