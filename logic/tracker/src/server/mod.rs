//! A small tracker: which peers there are, and what each announce and scrape is answered.
//!
//! One state answers HTTP (BEP 3, 7, 23, 24, 48) and UDP (BEP 15) alike; whoever drives it hands in
//! requests and sends the answers.
//!
//! - Memory is bounded by [`ServerConfig`]: what comes when the tables are full is refused with a reason,
//!   and what is not announced again expires.
//! - A peer's address is the one its request came from. Addresses that a request claims (`ip`, `ipv4`,
//!   `ipv6`) are ignored: they would let anybody point a swarm at a stranger.
//! - Over UDP an address gets no more bytes than it sent until it has shown that packets reach it.
//!
//! Deliberately absent: accounts, passkeys, lists of allowed torrents, and files: a restart forgets.
#![warn(clippy::indexing_slicing)]

mod connection;
mod query;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use torr_base::{InfoHash, Instant, Rng};

use crate::announce::{
    AnnounceReply, AnnounceRequest, Event, HttpReply, ScrapeEntry, is_peer_address, push_compact,
};
use crate::udp::{UdpReply, UdpRequest};
use connection::ConnectionIds;
use query::HttpRequest;
use table::Table;

/// Peers in a UDP reply over IPv6, so that it fits one packet of the smallest path that IPv6 allows.
const UDP_V6_PEERS_MAX: usize = 66;
/// How often expired peers of torrents that nobody asks about are removed.
const SWEEP: Duration = Duration::from_secs(60);

/// Limits and tone of a tracker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerConfig {
    /// Seconds that peers are told to wait between announces; they expire after one and a half of that,
    /// and a minute. At least 1.
    pub interval_secs: u32,
    /// Told as well, if there is one.
    pub min_interval_secs: Option<u32>,
    pub torrents_max: usize,
    pub peers_per_torrent_max: usize,
    /// In all torrents together; each takes about 300 bytes.
    pub peers_max: usize,
    /// Peers in a reply, where the request does not say.
    pub numwant_default: u32,
    /// Peers of each address family in a reply, whatever the request says.
    pub numwant_max: u32,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            interval_secs: 1800,
            min_interval_secs: None,
            torrents_max: 10_000,
            peers_per_torrent_max: 5_000,
            peers_max: 100_000,
            numwant_default: 50,
            numwant_max: 200,
        }
    }
}

/// The tracker's state. `handle_*` are inputs and answer at once.
#[derive(Debug)]
pub struct Server {
    config: ServerConfig,
    rng: Rng,
    connections: ConnectionIds,
    torrents: BTreeMap<InfoHash, Torrent>,
    /// In all torrents.
    peers: usize,
    next_sweep: Option<Instant>,
    announces: u64,
    scrapes: u64,
}

#[derive(Debug, Default)]
struct Torrent {
    table: Table,
    /// How many have said `completed`.
    completed: u32,
}

/// What a tracker has and has done, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerStats {
    pub torrents: usize,
    pub peers: usize,
    pub announces: u64,
    pub scrapes: u64,
}

/// Why an announce is refused; the text goes to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Refusal {
    #[error("no peer can be at that port")]
    Address,
    #[error("this tracker has no room for another torrent")]
    Torrents,
    #[error("this tracker has no room for another peer")]
    Peers,
}

impl Server {
    /// `secret` keys the connection ids of UDP; it comes from the operating system's random numbers.
    #[must_use]
    pub fn new(config: ServerConfig, secret: [u8; 16], rng: Rng) -> Self {
        Self {
            config,
            rng,
            connections: ConnectionIds::new(secret),
            torrents: BTreeMap::new(),
            peers: 0,
            next_sweep: None,
            announces: 0,
            scrapes: 0,
        }
    }

    /// A GET of `target` (path and query as in the request line) by `from`. Whatever is wrong with an
    /// announce is said in bencode under status 200, as clients expect it.
    pub fn handle_http(&mut self, now: Instant, from: SocketAddr, target: &str) -> HttpReply {
        match query::parse(target) {
            Ok(HttpRequest::Announce { announce, compact }) => {
                match self.announce(now, from, &announce, true) {
                    Ok(answer) => self.http_announce(from, &answer, compact),
                    Err(refusal) => failure(&refusal.to_string()),
                }
            }
            Ok(HttpRequest::Scrape { torrents }) => self.http_scrape(&torrents),
            Ok(HttpRequest::Elsewhere) => HttpReply::new(404, "not found\n"),
            Err(why) => failure(why),
        }
    }

    /// A datagram from `from`, and what to send back there; nothing for what is no request.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        from: SocketAddr,
        bytes: &[u8],
    ) -> Option<Vec<u8>> {
        let request = UdpRequest::decode(bytes)?;
        let ip = from.ip().to_canonical();
        let reply = match request {
            UdpRequest::Connect { transaction } => UdpReply::Connect {
                transaction,
                connection: self.connections.id(now, ip),
            },
            UdpRequest::Announce {
                connection,
                transaction,
                ..
            }
            | UdpRequest::Scrape {
                connection,
                transaction,
                ..
            } if !self.connections.is_known(now, ip, connection) => UdpReply::Error {
                transaction,
                message: "no such connection".to_owned(),
            },
            UdpRequest::Announce {
                transaction,
                announce,
                ..
            } => match self.announce(now, from, &announce, false) {
                Ok(answer) => self.udp_announce(transaction, ip.is_ipv6(), answer),
                Err(refusal) => UdpReply::Error {
                    transaction,
                    message: refusal.to_string(),
                },
            },
            UdpRequest::Scrape {
                transaction,
                torrents,
                ..
            } => {
                self.scrapes += 1;
                let entries = torrents.iter().map(|it| self.entry(it)).collect();
                UdpReply::Scrape {
                    transaction,
                    entries,
                }
            }
        };
        Some(reply.encode())
    }

    /// Removes what has expired.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.next_sweep.is_none_or(|at| now < at) {
            return;
        }
        let mut peers = 0;
        self.torrents.retain(|_, torrent| {
            torrent.table.expire(now);
            peers += torrent.table.len();
            !torrent.table.is_empty()
        });
        self.peers = peers;
        self.next_sweep = (!self.torrents.is_empty()).then_some(now + SWEEP);
    }

    /// When [`Self::handle_timeout`] is to be called next.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        self.next_sweep
    }

    #[must_use]
    pub fn stats(&self) -> ServerStats {
        ServerStats {
            torrents: self.torrents.len(),
            peers: self.peers,
            announces: self.announces,
            scrapes: self.scrapes,
        }
    }

    /// Takes in an announce; what to answer. Peers of the other family than `from`'s are added if `both`.
    fn announce(
        &mut self,
        now: Instant,
        from: SocketAddr,
        announce: &AnnounceRequest,
        both: bool,
    ) -> Result<Answer, Refusal> {
        self.announces += 1;
        let addr = SocketAddr::new(from.ip().to_canonical(), announce.port);
        if !is_peer_address(addr) && announce.event != Event::Stopped {
            return Err(Refusal::Address);
        }
        self.make_room(now, &announce.info_hash)?;
        let torrent = self.torrents.entry(announce.info_hash).or_default();
        let table = &mut torrent.table;
        let before = table.len();
        table.expire(now);
        let room = self.peers + table.len() < self.config.peers_max + before
            && table.len() < self.config.peers_per_torrent_max;
        if announce.event == Event::Stopped {
            table.remove(announce);
        } else if room || table.contains(announce) {
            let life = Duration::from_secs(u64::from(self.config.interval_secs)) * 3 / 2;
            let until = now + life + Duration::from_secs(60);
            if table.upsert(announce, addr, until) {
                torrent.completed = torrent.completed.saturating_add(1);
            }
        } else {
            return Err(Refusal::Peers);
        }
        let table = &torrent.table;
        self.peers = self.peers + table.len() - before;
        let wanted = announce.numwant.unwrap_or(self.config.numwant_default);
        let wanted = match announce.event {
            Event::Stopped => 0,
            Event::None | Event::Completed | Event::Started | Event::Paused => {
                wanted.min(self.config.numwant_max)
            }
        };
        let mut pick = |v6| table.pick(announce, v6, wanted as usize, &mut self.rng);
        let answer = Answer {
            v4: if both || addr.is_ipv4() {
                pick(false)
            } else {
                Vec::new()
            },
            v6: if both || addr.is_ipv6() {
                pick(true)
            } else {
                Vec::new()
            },
            entry: entry_of(torrent),
        };
        if torrent.table.is_empty() {
            self.torrents.remove(&announce.info_hash);
        }
        self.next_sweep = self.next_sweep.or(Some(now + SWEEP));
        Ok(answer)
    }

    fn make_room(&mut self, now: Instant, torrent: &InfoHash) -> Result<(), Refusal> {
        let full = self.torrents.len() >= self.config.torrents_max;
        if full && !self.torrents.contains_key(torrent) {
            self.handle_timeout(now);
            if self.torrents.len() >= self.config.torrents_max {
                return Err(Refusal::Torrents);
            }
        }
        Ok(())
    }

    fn entry(&self, torrent: &InfoHash) -> ScrapeEntry {
        self.torrents
            .get(torrent)
            .map_or_else(ScrapeEntry::default, entry_of)
    }

    fn http_announce(&self, from: SocketAddr, answer: &Answer, compact: bool) -> HttpReply {
        let body = torr_bencode::encode_dict(|dict| {
            dict.uint("interval", u64::from(self.config.interval_secs));
            if let Some(secs) = self.config.min_interval_secs {
                dict.uint("min interval", u64::from(secs));
            }
            dict.uint("complete", u64::from(answer.entry.seeds));
            dict.uint("incomplete", u64::from(answer.entry.leechers));
            dict.uint("downloaded", u64::from(answer.entry.completed));
            let mut address = Vec::new();
            push_compact(&mut address, SocketAddr::new(from.ip().to_canonical(), 0));
            address.truncate(address.len().saturating_sub(2));
            dict.bytes("external ip", address);
            if compact {
                dict.bytes("peers", compact_list(&answer.v4));
                if !answer.v6.is_empty() {
                    dict.bytes("peers6", compact_list(&answer.v6));
                }
                return;
            }
            dict.list("peers", |list| {
                for peer in answer.v4.iter().chain(&answer.v6) {
                    list.dict(|dict| {
                        dict.bytes("peer id", peer.id.0);
                        dict.bytes("ip", peer.addr.ip().to_string());
                        dict.uint("port", u64::from(peer.addr.port()));
                    });
                }
            });
        });
        HttpReply::new(200, body)
    }

    fn http_scrape(&mut self, torrents: &[InfoHash]) -> HttpReply {
        self.scrapes += 1;
        let body = torr_bencode::encode_dict(|dict| {
            dict.dict("files", |files| {
                for torrent in torrents {
                    let entry = self.entry(torrent);
                    files.dict(torrent.0, |file| {
                        file.uint("complete", u64::from(entry.seeds));
                        file.uint("downloaded", u64::from(entry.completed));
                        file.uint("incomplete", u64::from(entry.leechers));
                    });
                }
            });
        });
        HttpReply::new(200, body)
    }

    fn udp_announce(&self, transaction: u32, v6: bool, answer: Answer) -> UdpReply {
        let mut peers = if v6 { answer.v6 } else { answer.v4 };
        peers.truncate(if v6 { UDP_V6_PEERS_MAX } else { peers.len() });
        UdpReply::Announce {
            transaction,
            reply: AnnounceReply {
                interval_secs: Some(self.config.interval_secs),
                seeds: Some(answer.entry.seeds),
                leechers: Some(answer.entry.leechers),
                peers: peers.into_iter().map(|peer| peer.addr).collect(),
                ..AnnounceReply::default()
            },
        }
    }
}

/// What an announce is answered, in either protocol.
#[derive(Debug)]
struct Answer {
    v4: Vec<table::Picked>,
    v6: Vec<table::Picked>,
    entry: ScrapeEntry,
}

fn entry_of(torrent: &Torrent) -> ScrapeEntry {
    ScrapeEntry {
        seeds: torrent.table.seeds(),
        completed: torrent.completed,
        leechers: torrent.table.leechers(),
    }
}

fn compact_list(peers: &[table::Picked]) -> Vec<u8> {
    let mut out = Vec::new();
    for peer in peers {
        push_compact(&mut out, peer.addr);
    }
    out
}

fn failure(reason: &str) -> HttpReply {
    let body = torr_bencode::encode_dict(|dict| {
        dict.bytes("failure reason", reason);
    });
    HttpReply::new(200, body)
}
