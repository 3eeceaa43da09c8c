//! A small tracker, HTTP and UDP on one address: enough of BEP 3, 7, 15, 23 and 48 for a test network.
//!
//! Peers are kept until the process ends. No limits, no checks of connection ids: never for use outside the lab.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};

const INTERVAL_SECS: u32 = 1800;
const PEERS_MAX: usize = 50;

type Hash = [u8; 20];

/// Per torrent: each address, and whether it has everything.
#[derive(Debug, Default)]
struct Swarms(BTreeMap<Hash, BTreeMap<SocketAddr, bool>>);

struct Announce {
    hash: Hash,
    peer: SocketAddr,
    left: u64,
    stopped: bool,
}

impl Swarms {
    fn announce(&mut self, announce: &Announce) -> Vec<SocketAddr> {
        let peers = self.0.entry(announce.hash).or_default();
        if announce.stopped {
            peers.remove(&announce.peer);
        } else {
            peers.insert(announce.peer, announce.left == 0);
        }
        peers
            .keys()
            .filter(|peer| **peer != announce.peer)
            .take(PEERS_MAX)
            .copied()
            .collect()
    }

    /// Seeds, leeches.
    fn count(&self, hash: &Hash) -> (u32, u32) {
        let mut count = (0, 0);
        for seed in self.0.get(hash).into_iter().flat_map(BTreeMap::values) {
            if *seed { count.0 += 1 } else { count.1 += 1 }
        }
        count
    }
}

/// Serves until it is killed.
pub fn serve(address: IpAddr, port: u16) -> Result<()> {
    let swarms = Arc::new(Mutex::new(Swarms::default()));
    let udp = UdpSocket::bind((address, port)).context("binding UDP")?;
    let tcp = TcpListener::bind((address, port)).context("binding TCP")?;
    let shared = Arc::clone(&swarms);
    std::thread::spawn(move || serve_udp(&udp, &shared));
    for stream in tcp.incoming() {
        let Ok(stream) = stream else { continue };
        let shared = Arc::clone(&swarms);
        std::thread::spawn(move || serve_http(stream, &shared));
    }
    Ok(())
}

fn serve_udp(socket: &UdpSocket, swarms: &Mutex<Swarms>) {
    let mut buffer = [0; 2048];
    while let Ok((len, from)) = socket.recv_from(&mut buffer) {
        if let Some(reply) = buffer
            .get(..len)
            .and_then(|packet| reply_udp(packet, from, swarms))
        {
            socket.send_to(&reply, from).ok();
        }
    }
}

fn reply_udp(packet: &[u8], from: SocketAddr, swarms: &Mutex<Swarms>) -> Option<Vec<u8>> {
    let action = u32_at(packet, 8)?;
    let mut reply = action.to_be_bytes().to_vec();
    reply.extend_from_slice(packet.get(12..16)?);
    match action {
        0 => reply.extend_from_slice(b"labtrack"),
        1 => {
            let event = u32_at(packet, 80)?;
            let port = u16::from_be_bytes(packet.get(96..98)?.try_into().ok()?);
            let announce = Announce {
                hash: packet.get(16..36)?.try_into().ok()?,
                peer: SocketAddr::new(from.ip(), port),
                left: u64::from_be_bytes(packet.get(64..72)?.try_into().ok()?),
                stopped: event == 3,
            };
            println_log(&format!(
                "udp announce {} left {} event {event}",
                announce.peer, announce.left
            ));
            let mut swarms = swarms.lock().unwrap_or_else(PoisonError::into_inner);
            let peers = swarms.announce(&announce);
            let (seeds, leeches) = swarms.count(&announce.hash);
            for value in [INTERVAL_SECS, leeches, seeds] {
                reply.extend_from_slice(&value.to_be_bytes());
            }
            reply.extend_from_slice(&compact(&peers));
        }
        2 => {
            let swarms = swarms.lock().unwrap_or_else(PoisonError::into_inner);
            let (hashes, _) = packet.get(16..)?.as_chunks::<20>();
            for hash in hashes {
                let (seeds, leeches) = swarms.count(hash);
                for value in [seeds, 0, leeches] {
                    reply.extend_from_slice(&value.to_be_bytes());
                }
            }
        }
        _ => return None,
    }
    Some(reply)
}

fn serve_http(stream: TcpStream, swarms: &Mutex<Swarms>) -> Option<()> {
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .ok()?;
    let from = stream.peer_addr().ok()?;
    let mut reader = BufReader::new(&stream);
    let mut request = String::new();
    reader.read_line(&mut request).ok()?;
    // A reset would take the answer with it if the headers stayed unread.
    let mut line = String::new();
    while reader.read_line(&mut line).ok()? > 2 {
        line.clear();
    }
    println_log(&format!("http {from} {}", request.trim()));
    let body = reply_http(&request, from, swarms)
        .unwrap_or_else(|| b"d14:failure reason11:bad requeste".to_vec());
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    (&stream).write_all(&[head.as_bytes(), &body].concat()).ok()
}

fn reply_http(request: &str, from: SocketAddr, swarms: &Mutex<Swarms>) -> Option<Vec<u8>> {
    let target = request.split_whitespace().nth(1)?;
    let (path, query) = target.split_once('?')?;
    let values: BTreeMap<&str, Vec<u8>> = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (key, unescape(value)))
        .collect();
    let number = |key: &str| {
        std::str::from_utf8(values.get(key)?)
            .ok()?
            .parse::<u64>()
            .ok()
    };
    let hash: Hash = values.get("info_hash")?.as_slice().try_into().ok()?;
    let mut swarms = swarms.lock().unwrap_or_else(PoisonError::into_inner);
    let mut body;
    if path == "/scrape" {
        let (seeds, leeches) = swarms.count(&hash);
        body = b"d5:filesd20:".to_vec();
        body.extend_from_slice(&hash);
        body.extend_from_slice(
            format!("d8:completei{seeds}e10:downloadedi0e10:incompletei{leeches}eeee").as_bytes(),
        );
    } else {
        let peer = SocketAddr::new(from.ip(), u16::try_from(number("port")?).ok()?);
        let stopped = values.get("event").is_some_and(|event| event == b"stopped");
        let announce = Announce {
            hash,
            peer,
            left: number("left").unwrap_or(u64::MAX),
            stopped,
        };
        let peers = compact(&swarms.announce(&announce));
        let (seeds, leeches) = swarms.count(&hash);
        body = format!("d8:completei{seeds}e10:incompletei{leeches}e8:intervali{INTERVAL_SECS}e")
            .into_bytes();
        let (four, six) = if from.is_ipv4() {
            (peers, Vec::new())
        } else {
            (Vec::new(), peers)
        };
        for (key, peers) in [("5:peers", four), ("6:peers6", six)] {
            body.extend_from_slice(format!("{key}{}:", peers.len()).as_bytes());
            body.extend_from_slice(&peers);
        }
        body.push(b'e');
    }
    Some(body)
}

fn compact(peers: &[SocketAddr]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for peer in peers {
        match peer.ip() {
            IpAddr::V4(ip) => bytes.extend_from_slice(&ip.octets()),
            IpAddr::V6(ip) => bytes.extend_from_slice(&ip.octets()),
        }
        bytes.extend_from_slice(&peer.port().to_be_bytes());
    }
    bytes
}

fn u32_at(packet: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(packet.get(at..at + 4)?.try_into().ok()?))
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next().unwrap_or(b'0'), rest.next().unwrap_or(b'0')];
        let digits = std::str::from_utf8(&digits).unwrap_or("0");
        bytes.push(u8::from_str_radix(digits, 16).unwrap_or(0));
    }
    bytes
}

/// To the log of the process; a full disk is no reason to stop.
fn println_log(line: &str) {
    writeln!(std::io::stdout(), "{line}").ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_an_announce_over_http() {
        let swarms = Mutex::new(Swarms::default());
        let hash = "%00%01".to_owned() + &"a".repeat(18);
        let request = |port: u16, left: u64| {
            format!("GET /announce?info_hash={hash}&port={port}&left={left} HTTP/1.1")
        };
        let from = |host: &str| SocketAddr::new(host.parse().unwrap(), 1);
        reply_http(&request(7000, 0), from("2001:2::1"), &swarms).unwrap();
        let reply = reply_http(&request(7001, 5), from("2001:2::2"), &swarms).unwrap();
        let head = b"d8:completei1e10:incompletei1e8:intervali1800e5:peers0:6:peers618:";
        assert_eq!(&reply[..head.len()], head);
        assert_eq!(&reply[head.len() + 16..], b"\x1b\x58e");
    }
}
