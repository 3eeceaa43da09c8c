//! Tracker packets over UDP (BEP 15) with URL data (BEP 41): bytes there and back.
//!
//! Both directions for both sides, since torr is client and server. Reading asks for at least the
//! bytes that the BEP names and ignores what follows them.
#![warn(clippy::indexing_slicing)]

use std::net::SocketAddr;

use torr_base::{InfoHash, PeerId};

use crate::announce::{
    AnnounceReply, AnnounceRequest, Event, PEERS_MAX, ScrapeEntry, compact_peers, push_compact,
};
use crate::text::clean;

/// BEP 15: what a connect request begins with.
const PROTOCOL_ID: u64 = 0x0417_2710_1980;

/// BEP 15: about 74 torrents fit a scrape request.
pub const SCRAPE_TORRENTS_MAX: usize = 74;

const CONNECT: u32 = 0;
const ANNOUNCE: u32 = 1;
const SCRAPE: u32 = 2;
const ERROR: u32 = 3;

/// What a client sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UdpRequest {
    Connect {
        transaction: u32,
    },
    Announce {
        connection: u64,
        transaction: u32,
        announce: AnnounceRequest,
        /// BEP 41: path and query of the tracker's URL; empty for none.
        url_data: Vec<u8>,
    },
    Scrape {
        connection: u64,
        transaction: u32,
        /// At most [`SCRAPE_TORRENTS_MAX`].
        torrents: Vec<InfoHash>,
    },
}

/// What a server sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UdpReply {
    Connect {
        transaction: u32,
        connection: u64,
    },
    /// Carries interval, counts and peers; the rest of the reply has no place in UDP.
    Announce {
        transaction: u32,
        reply: AnnounceReply,
    },
    Scrape {
        transaction: u32,
        entries: Vec<ScrapeEntry>,
    },
    Error {
        transaction: u32,
        /// Cleaned when read.
        message: String,
    },
}

impl UdpRequest {
    #[must_use]
    pub fn transaction(&self) -> u32 {
        match self {
            Self::Connect { transaction }
            | Self::Announce { transaction, .. }
            | Self::Scrape { transaction, .. } => *transaction,
        }
    }

    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        let (first, action) = match self {
            Self::Connect { .. } => (PROTOCOL_ID, CONNECT),
            Self::Announce { connection, .. } => (*connection, ANNOUNCE),
            Self::Scrape { connection, .. } => (*connection, SCRAPE),
        };
        out.extend_from_slice(&first.to_be_bytes());
        out.extend_from_slice(&action.to_be_bytes());
        out.extend_from_slice(&self.transaction().to_be_bytes());
        match self {
            Self::Connect { .. } => {}
            Self::Announce {
                announce, url_data, ..
            } => {
                push_announce(&mut out, announce);
                for part in url_data.chunks(255) {
                    out.extend_from_slice(&[2, u8::try_from(part.len()).unwrap_or(255)]);
                    out.extend_from_slice(part);
                }
            }
            Self::Scrape { torrents, .. } => {
                for torrent in torrents.iter().take(SCRAPE_TORRENTS_MAX) {
                    out.extend_from_slice(&torrent.0);
                }
            }
        }
        out
    }

    /// `None` for what is no request; such packets get no answer.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut input = Input(bytes);
        let first = input.u64()?;
        let action = input.u32()?;
        let transaction = input.u32()?;
        match action {
            CONNECT if first == PROTOCOL_ID => Some(Self::Connect { transaction }),
            ANNOUNCE => Some(Self::Announce {
                connection: first,
                transaction,
                announce: read_announce(&mut input)?,
                url_data: read_url_data(&mut input),
            }),
            SCRAPE => {
                let mut torrents = Vec::new();
                while let Some(hash) = input.array() {
                    torrents.push(InfoHash(hash));
                    if torrents.len() == SCRAPE_TORRENTS_MAX {
                        break;
                    }
                }
                Some(Self::Scrape {
                    connection: first,
                    transaction,
                    torrents,
                })
            }
            _ => None,
        }
    }
}

impl UdpReply {
    #[must_use]
    pub fn transaction(&self) -> u32 {
        match self {
            Self::Connect { transaction, .. }
            | Self::Announce { transaction, .. }
            | Self::Scrape { transaction, .. }
            | Self::Error { transaction, .. } => *transaction,
        }
    }

    /// Peers must be of one family: the one whose socket sends this.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        let action = match self {
            Self::Connect { .. } => CONNECT,
            Self::Announce { .. } => ANNOUNCE,
            Self::Scrape { .. } => SCRAPE,
            Self::Error { .. } => ERROR,
        };
        out.extend_from_slice(&action.to_be_bytes());
        out.extend_from_slice(&self.transaction().to_be_bytes());
        match self {
            Self::Connect { connection, .. } => out.extend_from_slice(&connection.to_be_bytes()),
            Self::Announce { reply, .. } => {
                for number in [reply.interval_secs, reply.leechers, reply.seeds] {
                    out.extend_from_slice(&number.unwrap_or(0).to_be_bytes());
                }
                for peer in &reply.peers {
                    push_compact(&mut out, *peer);
                }
            }
            Self::Scrape { entries, .. } => {
                for entry in entries {
                    for number in [entry.seeds, entry.completed, entry.leechers] {
                        out.extend_from_slice(&number.to_be_bytes());
                    }
                }
            }
            Self::Error { message, .. } => out.extend_from_slice(message.as_bytes()),
        }
        out
    }

    /// `from` is who sent it: the family of its address gives the width of the peers (BEP 15).
    #[must_use]
    pub fn decode(bytes: &[u8], from: SocketAddr) -> Option<Self> {
        let mut input = Input(bytes);
        let action = input.u32()?;
        let transaction = input.u32()?;
        match action {
            CONNECT => Some(Self::Connect {
                transaction,
                connection: input.u64()?,
            }),
            ANNOUNCE => {
                let interval = input.u32()?;
                let (leechers, seeds) = (input.u32()?, input.u32()?);
                let v6 = from.ip().to_canonical().is_ipv6();
                Some(Self::Announce {
                    transaction,
                    reply: AnnounceReply {
                        // The field is signed in several trackers: a set high bit is a −1.
                        interval_secs: Some(interval).filter(|s| (1..1 << 31).contains(s)),
                        seeds: Some(seeds),
                        leechers: Some(leechers),
                        peers: compact_peers(input.0, v6).take(PEERS_MAX).collect(),
                        ..AnnounceReply::default()
                    },
                })
            }
            SCRAPE => {
                let mut entries = Vec::new();
                while entries.len() < SCRAPE_TORRENTS_MAX {
                    let (Some(seeds), Some(completed), Some(leechers)) =
                        (input.u32(), input.u32(), input.u32())
                    else {
                        break;
                    };
                    entries.push(ScrapeEntry {
                        seeds,
                        completed,
                        leechers,
                    });
                }
                Some(Self::Scrape {
                    transaction,
                    entries,
                })
            }
            ERROR => Some(Self::Error {
                transaction,
                message: clean(input.0),
            }),
            _ => None,
        }
    }
}

/// The transaction of a request's bytes. With [`transaction_of_reply`] a node that has many torrents
/// behind one socket finds the one that a reply belongs to.
#[must_use]
pub fn transaction_of_request(bytes: &[u8]) -> Option<u32> {
    let mut input = Input(bytes.get(12..)?);
    input.u32()
}

/// The transaction of a reply's bytes; `None` for what can not be a reply of a tracker.
#[must_use]
pub fn transaction_of_reply(bytes: &[u8]) -> Option<u32> {
    let mut input = Input(bytes);
    (input.u32()? <= ERROR).then_some(())?;
    input.u32()
}

fn push_announce(out: &mut Vec<u8>, announce: &AnnounceRequest) {
    out.extend_from_slice(&announce.info_hash.0);
    out.extend_from_slice(&announce.peer_id.0);
    for number in [announce.downloaded, announce.left, announce.uploaded] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    // The address stays 0: the tracker takes the packet's own, in either family.
    let numwant = announce
        .numwant
        .map_or(u32::MAX, |n| n.min(i32::MAX as u32));
    for number in [announce.event.number(), 0, announce.key, numwant] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    out.extend_from_slice(&announce.port.to_be_bytes());
}

fn read_announce(input: &mut Input<'_>) -> Option<AnnounceRequest> {
    let info_hash = InfoHash(input.array()?);
    let peer_id = PeerId(input.array()?);
    let (downloaded, left, uploaded) = (input.u64()?, input.u64()?, input.u64()?);
    let event = match input.u32()? {
        1 => Event::Completed,
        2 => Event::Started,
        3 => Event::Stopped,
        // BEP 15 has no others; BEP 21's `paused` (4) is a regular announce to us.
        _ => Event::None,
    };
    let _address = input.u32()?;
    let key = input.u32()?;
    let numwant = Some(input.u32()?).filter(|n| *n <= i32::MAX as u32);
    let port = u16::from_be_bytes(input.array()?);
    Some(AnnounceRequest {
        info_hash,
        peer_id,
        port,
        uploaded,
        downloaded,
        left,
        corrupt: 0,
        event,
        key,
        numwant,
        tracker_id: None,
        ipv4: None,
        ipv6: None,
    })
}

/// BEP 41: the options after byte 98; those that are unknown are stepped over.
fn read_url_data(input: &mut Input<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some([option]) = input.array() {
        match option {
            0 => break,
            1 => continue,
            _ => {
                let Some([len]) = input.array() else { break };
                let Some(data) = input.take(usize::from(len)) else {
                    break;
                };
                if option == 2 {
                    out.extend_from_slice(data);
                }
            }
        }
    }
    out
}

/// What is left to read of a packet.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const V4: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);
    const V6: SocketAddr = SocketAddr::new(std::net::IpAddr::V6(std::net::Ipv6Addr::LOCALHOST), 1);

    fn announce() -> AnnounceRequest {
        AnnounceRequest {
            info_hash: InfoHash([0xaa; 20]),
            peer_id: PeerId(*b"-TR0100-abcdefghijkl"),
            port: 0x1ae1,
            uploaded: 3,
            downloaded: 1,
            left: 2,
            corrupt: 0,
            event: Event::Started,
            key: 0x0102_0304,
            numwant: None,
            tracker_id: None,
            ipv4: None,
            ipv6: None,
        }
    }

    #[test]
    fn requests_are_the_bytes_of_bep_15() {
        let connect = UdpRequest::Connect {
            transaction: 0x1122_3344,
        };
        assert_eq!(
            connect.encode(),
            b"\x00\x00\x04\x17\x27\x10\x19\x80\0\0\0\0\x11\x22\x33\x44"
        );
        let mut expected = b"\x01\x02\x03\x04\x05\x06\x07\x08\0\0\0\x01\x11\x22\x33\x44".to_vec();
        expected.extend_from_slice(&[0xaa; 20]);
        expected.extend_from_slice(b"-TR0100-abcdefghijkl");
        expected.extend_from_slice(b"\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x03");
        expected.extend_from_slice(b"\0\0\0\x02\0\0\0\0\x01\x02\x03\x04\xff\xff\xff\xff\x1a\xe1");
        assert_eq!(expected.len(), 98);
        let mut request = UdpRequest::Announce {
            connection: 0x0102_0304_0506_0708,
            transaction: 0x1122_3344,
            announce: announce(),
            url_data: Vec::new(),
        };
        assert_eq!(request.encode(), expected);
        // BEP 41's example.
        if let UdpRequest::Announce { url_data, .. } = &mut request {
            *url_data = b"/dir?a=b&c=d".to_vec();
        }
        expected.extend_from_slice(b"\x02\x0c/dir?a=b&c=d");
        assert_eq!(request.encode(), expected);
        assert_eq!(transaction_of_request(&expected), Some(0x1122_3344));
        expected.extend_from_slice(b"\x01\x01\x00\x02\x01x");
        assert_eq!(UdpRequest::decode(&expected), Some(request));
    }

    #[test]
    fn url_data_options() {
        let url_data = |options: &[u8]| {
            let request = UdpRequest::Announce {
                connection: 1,
                transaction: 2,
                announce: announce(),
                url_data: Vec::new(),
            };
            let mut bytes = request.encode();
            bytes.extend_from_slice(options);
            match UdpRequest::decode(&bytes) {
                Some(UdpRequest::Announce { url_data, .. }) => url_data,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(url_data(b"\x02\x00"), b"");
        assert_eq!(url_data(b"\x02\x01a\x07\x02zz\x02\x01b"), b"ab");
        assert_eq!(url_data(b"\x02\x05abc"), b"");
        assert_eq!(url_data(b"\x09"), b"");
    }

    #[test]
    fn replies() {
        let bytes = b"\0\0\0\x01\0\0\0\x07\0\0\x07\x08\0\0\0\x02\0\0\0\x03\x7f\0\0\x01\x1a\xe1\x0a\0\0\x01\0\0xx";
        let Some(UdpReply::Announce { transaction, reply }) = UdpReply::decode(bytes, V4) else {
            panic!("no announce reply");
        };
        assert_eq!((transaction, reply.interval_secs), (7, Some(1800)));
        assert_eq!((reply.leechers, reply.seeds), (Some(2), Some(3)));
        // The second has no port, the third is cut short.
        assert_eq!(reply.peers, ["127.0.0.1:6881".parse().unwrap()]);
        let mut bytes = bytes[..20].to_vec();
        bytes[8..12].fill(0xff);
        bytes.extend_from_slice(
            &V6.ip()
                .to_canonical()
                .to_string()
                .parse::<std::net::Ipv6Addr>()
                .unwrap()
                .octets(),
        );
        bytes.extend_from_slice(&[0, 9]);
        let Some(UdpReply::Announce { reply, .. }) = UdpReply::decode(&bytes, V6) else {
            panic!("no announce reply");
        };
        assert_eq!(reply.interval_secs, None, "-1");
        assert_eq!(reply.peers, ["[::1]:9".parse().unwrap()]);
        assert_eq!(
            UdpReply::decode(b"\0\0\0\x03\0\0\0\x07no\x1b[31m", V4),
            Some(UdpReply::Error {
                transaction: 7,
                message: "no[31m".to_owned()
            })
        );
        assert_eq!(UdpReply::decode(b"\0\0\0\x04\0\0\0\x07", V4), None);
        assert_eq!(
            UdpReply::decode(b"\0\0\0\x00\0\0\0\x07\0\0\0\0\0\0\0", V4),
            None
        );
        assert_eq!(transaction_of_reply(b"\0\0\0\x02\0\0\0\x07"), Some(7));
        assert_eq!(transaction_of_reply(b"\0\0\0\x04\0\0\0\x07"), None);
    }

    #[test]
    fn a_flood_of_peers_is_cut() {
        let mut bytes = b"\0\0\0\x01\0\0\0\x07\0\0\x07\x08\0\0\0\x02\0\0\0\x03".to_vec();
        (0..10_000).for_each(|_| bytes.extend_from_slice(b"\x08\x08\x08\x08\0\x09"));
        let Some(UdpReply::Announce { reply, .. }) = UdpReply::decode(&bytes, V4) else {
            panic!("no announce reply");
        };
        assert_eq!(reply.peers.len(), PEERS_MAX);
    }

    fn any_announce() -> impl Strategy<Value = AnnounceRequest> {
        let numbers = (any::<u64>(), any::<u64>(), any::<u64>(), any::<u32>());
        (any::<[u8; 20]>(), any::<u16>(), numbers, 0..4, 0..100_u32).prop_map(
            |(hash, port, (uploaded, downloaded, left, key), event, numwant)| AnnounceRequest {
                info_hash: InfoHash(hash),
                port,
                uploaded,
                downloaded,
                left,
                key,
                event: [
                    Event::None,
                    Event::Completed,
                    Event::Started,
                    Event::Stopped,
                ][event as usize],
                numwant: Some(numwant).filter(|n| *n > 0),
                ..announce()
            },
        )
    }

    proptest! {
        #[test]
        fn decoding_never_panics(bytes: Vec<u8>) {
            let _ = (UdpRequest::decode(&bytes), UdpReply::decode(&bytes, V4));
            let _ = (transaction_of_request(&bytes), transaction_of_reply(&bytes));
        }

        #[test]
        fn requests_there_and_back(
            announce in any_announce(),
            (connection, transaction) in any::<(u64, u32)>(),
            url_data in proptest::collection::vec(any::<u8>(), 0..700),
            torrents in proptest::collection::vec(any::<[u8; 20]>(), 0..70),
        ) {
            let torrents = torrents.into_iter().map(InfoHash).collect();
            for request in [
                UdpRequest::Connect { transaction },
                UdpRequest::Announce { connection, transaction, announce, url_data },
                UdpRequest::Scrape { connection, transaction, torrents },
            ] {
                prop_assert_eq!(UdpRequest::decode(&request.encode()), Some(request));
            }
        }

        #[test]
        fn replies_there_and_back(
            (connection, transaction) in any::<(u64, u32)>(),
            (seeds, completed, leechers) in any::<(u32, u32, u32)>(),
            interval in 1..0x7fff_ffff_u32,
            v6 in any::<bool>(),
            port in 1..u16::MAX,
        ) {
            let from = if v6 { V6 } else { V4 };
            let reply = AnnounceReply {
                interval_secs: Some(interval),
                seeds: Some(seeds),
                leechers: Some(leechers),
                peers: vec![SocketAddr::new(from.ip(), port); 5],
                ..AnnounceReply::default()
            };
            let entries = vec![ScrapeEntry { seeds, completed, leechers }; 3];
            for reply in [
                UdpReply::Connect { transaction, connection },
                UdpReply::Announce { transaction, reply },
                UdpReply::Scrape { transaction, entries },
                UdpReply::Error { transaction, message: "no".to_owned() },
            ] {
                prop_assert_eq!(UdpReply::decode(&reply.encode(), from), Some(reply));
            }
        }
    }
}
