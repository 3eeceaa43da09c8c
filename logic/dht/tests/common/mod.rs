//! A few nodes and the time between them.
#![allow(dead_code, reason = "each test uses its part")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use torr_base::{InfoHash, Instant, Rng};
use torr_dht::message::{Body, Message, Method, Query, Want};
use torr_dht::{Bootstrap, Dht, DhtAction, DhtConfig, NodeId, Outcome, SearchId};

/// One way.
pub(crate) const LATENCY: Duration = Duration::from_millis(50);

pub(crate) const HASH: InfoHash = InfoHash([0x5a; 20]);

pub(crate) fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

pub(crate) fn secs(n: u64) -> Instant {
    Instant::ZERO + Duration::from_secs(n)
}

/// An IPv4 node without anybody to start from.
pub(crate) fn config() -> DhtConfig {
    DhtConfig {
        ipv6: false,
        bootstrap: Bootstrap::Hosts(Vec::new()),
        ..DhtConfig::default()
    }
}

pub(crate) fn node(config: DhtConfig, seed: u8) -> Dht {
    Dht::new(
        config,
        Rng::new(seed.into()),
        [seed; 32],
        None,
        Instant::ZERO,
    )
}

/// Hosts by address; a host of both families has two.
#[derive(Default)]
pub(crate) struct Net {
    pub(crate) now: Instant,
    pub(crate) nodes: Vec<Dht>,
    addrs: Vec<Vec<SocketAddr>>,
    by_addr: BTreeMap<SocketAddr, usize>,
    packets: BTreeMap<(Instant, u64), (SocketAddr, SocketAddr, Vec<u8>)>,
    seq: u64,
    /// What names lead to.
    pub(crate) names: BTreeMap<String, Vec<SocketAddr>>,
    pub(crate) peers: BTreeMap<(usize, SearchId), Vec<SocketAddr>>,
    pub(crate) done: Vec<(usize, SearchId, Outcome)>,
    pub(crate) resolved: u64,
    pub(crate) external: Vec<(usize, std::net::IpAddr)>,
    /// Packets to addresses where nobody is.
    pub(crate) lost: Vec<(Instant, SocketAddr, Vec<u8>)>,
}

impl Net {
    pub(crate) fn add(&mut self, addrs: &[SocketAddr], dht: Dht) -> usize {
        let host = self.nodes.len();
        self.nodes.push(dht);
        self.addrs.push(addrs.to_vec());
        for addr in addrs {
            self.by_addr.insert(*addr, host);
        }
        host
    }

    /// The host stays, its node is another.
    pub(crate) fn replace(&mut self, host: usize, dht: Dht) -> Dht {
        std::mem::replace(&mut self.nodes[host], dht)
    }

    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let packet = self.packets.first_key_value().map(|((at, _), _)| *at);
            let timers = self.nodes.iter().enumerate();
            let timer = timers
                .filter_map(|(i, it)| Some((it.next_timeout()?, i)))
                .min();
            let next = packet.into_iter().chain(timer.map(|(at, _)| at)).min();
            let Some(next) = next.filter(|it| *it <= end) else {
                break;
            };
            self.now = self.now.max(next);
            let mut out = Vec::new();
            let host = if packet == Some(next) {
                let (_, (from, to, bytes)) = self.packets.pop_first().expect("a packet");
                let Some(host) = self.by_addr.get(&to).copied() else {
                    self.lost.push((self.now, to, bytes));
                    continue;
                };
                self.nodes[host].handle_datagram(self.now, from, &bytes, &mut out);
                host
            } else {
                let (_, host) = timer.expect("a timer");
                self.nodes[host].handle_timeout(self.now, &mut out);
                host
            };
            self.act(host, out);
            self.nodes[host].check_invariants();
        }
        self.now = end;
    }

    pub(crate) fn act(&mut self, host: usize, actions: Vec<DhtAction>) {
        for action in actions {
            match action {
                DhtAction::Send { to, bytes } => {
                    let of_family = |it: &&SocketAddr| it.is_ipv4() == to.is_ipv4();
                    let from = self.addrs[host].iter().find(of_family);
                    let from = *from.expect("a socket of that family");
                    self.seq += 1;
                    self.packets
                        .insert((self.now + LATENCY, self.seq), (from, to, bytes));
                }
                DhtAction::Resolve {
                    request,
                    host: name,
                    ..
                } => {
                    self.resolved += 1;
                    let found = self
                        .names
                        .get(&name)
                        .cloned()
                        .ok_or("no such name".to_owned());
                    let mut out = Vec::new();
                    self.nodes[host].handle_resolved(self.now, request, found, &mut out);
                    self.act(host, out);
                }
                DhtAction::Peers { search, peers } => {
                    self.peers.entry((host, search)).or_default().extend(peers);
                }
                DhtAction::Done { search, outcome } => self.done.push((host, search, outcome)),
                DhtAction::ExternalIp { ip } => self.external.push((host, ip)),
            }
        }
    }
}

/// A question as others send it.
pub(crate) fn query(transaction: &[u8], method: Method<'_>) -> Vec<u8> {
    query_with(transaction, method, Want::default(), false)
}

pub(crate) fn query_with(t: &[u8], method: Method<'_>, want: Want, read_only: bool) -> Vec<u8> {
    let message = Message {
        transaction: t,
        body: Body::Query(Query {
            id: NodeId([9; 20]),
            want,
            method,
        }),
        version: None,
        ip: None,
        read_only,
    };
    message.encode()
}

/// Puts one datagram into a node; what it sends back.
pub(crate) fn tell(dht: &mut Dht, now: Instant, from: SocketAddr, bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    dht.handle_datagram(now, from, bytes, &mut out);
    dht.check_invariants();
    let sent = out.into_iter().filter_map(|action| match action {
        DhtAction::Send { to, bytes } => (to == from).then_some(bytes),
        DhtAction::Resolve { .. }
        | DhtAction::Peers { .. }
        | DhtAction::Done { .. }
        | DhtAction::ExternalIp { .. } => None,
    });
    sent.collect()
}
