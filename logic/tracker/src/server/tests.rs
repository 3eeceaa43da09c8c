//! The tracker asked by the client's own codecs, and its tables against a plain model.
#![allow(clippy::indexing_slicing)]

use proptest::prelude::*;
use torr_base::{PeerId, Rng};

use super::*;
use crate::announce::TrackerError;
use crate::http::{announce_url, scrape_url};
use crate::http_reply::{parse_announce, parse_scrape};
use crate::udp::SCRAPE_TORRENTS_MAX;
use crate::url::TrackerUrl;

const NOW: Instant = Instant::from_nanos(1_000_000_000_000);

fn server(config: ServerConfig) -> Server {
    Server::new(config, [3; 16], Rng::new(5))
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// The announce of peer number `n`, which listens on that port.
fn announce(n: u16, left: u64, event: Event) -> AnnounceRequest {
    let mut id = *b"-TR0100-00 &%\0\xff\xfe/=..";
    id[8..10].copy_from_slice(&n.to_be_bytes());
    AnnounceRequest {
        info_hash: InfoHash(std::array::from_fn(|i| (i * 13) as u8)),
        peer_id: PeerId(id),
        port: n,
        uploaded: 0,
        downloaded: 0,
        left,
        corrupt: 0,
        event,
        key: u32::from(n) << 16,
        numwant: None,
        tracker_id: None,
        ipv4: None,
        ipv6: None,
    }
}

fn target(url: &str) -> String {
    url.strip_prefix("http://t").unwrap().to_owned()
}

fn over_http(
    server: &mut Server,
    from: &str,
    request: &AnnounceRequest,
) -> Result<AnnounceReply, TrackerError> {
    let url = TrackerUrl::parse("http://t/announce").unwrap();
    let target = target(&announce_url(&url, request));
    parse_announce(&server.handle_http(NOW, addr(from), &target))
}

fn connect(server: &mut Server, now: Instant, from: SocketAddr) -> u64 {
    let bytes = UdpRequest::Connect { transaction: 1 }.encode();
    let reply = server.handle_datagram(now, from, &bytes).unwrap();
    match UdpReply::decode(&reply, from) {
        Some(UdpReply::Connect { connection, .. }) => connection,
        other => panic!("{other:?}"),
    }
}

fn over_udp(server: &mut Server, from: &str, request: &AnnounceRequest) -> AnnounceReply {
    let from = addr(from);
    let connection = connect(server, NOW, from);
    let request = UdpRequest::Announce {
        connection,
        transaction: 2,
        announce: request.clone(),
        url_data: Vec::new(),
    };
    let reply = server
        .handle_datagram(NOW, from, &request.encode())
        .unwrap();
    match UdpReply::decode(&reply, from) {
        Some(UdpReply::Announce { reply, .. }) => reply,
        other => panic!("{other:?}"),
    }
}

#[test]
fn peers_find_each_other_over_both_protocols_and_families() {
    let mut server = server(ServerConfig::default());
    let started = |n| announce(n, 9, Event::Started);
    assert_eq!(
        over_http(&mut server, "192.0.2.1:999", &started(1))
            .unwrap()
            .peers,
        []
    );
    let reply = over_http(&mut server, "[2001:db8::2]:999", &started(2)).unwrap();
    assert_eq!(reply.peers, [addr("192.0.2.1:1")]);
    assert_eq!(reply.external_ip, Some("2001:db8::2".parse().unwrap()));
    let mut reply = over_http(&mut server, "[::ffff:192.0.2.3]:999", &started(3)).unwrap();
    reply.peers.sort_unstable();
    assert_eq!(reply.peers, [addr("192.0.2.1:1"), addr("[2001:db8::2]:2")]);
    assert_eq!(
        (reply.seeds, reply.leechers, reply.interval_secs),
        (Some(0), Some(3), Some(1800))
    );
    assert_eq!(reply.external_ip, Some("192.0.2.3".parse().unwrap()));
    // UDP answers in the family it is asked in.
    let reply = over_udp(&mut server, "[2001:db8::4]:999", &started(4));
    assert_eq!(reply.peers, [addr("[2001:db8::2]:2")]);
    let mut reply = over_udp(&mut server, "192.0.2.5:999", &started(5));
    reply.peers.sort_unstable();
    assert_eq!(reply.peers, [addr("192.0.2.1:1"), addr("192.0.2.3:3")]);
    assert_eq!((reply.seeds, reply.leechers), (Some(0), Some(5)));
}

#[test]
fn lists_with_names_for_those_who_want_no_compact_ones() {
    let mut server = server(ServerConfig::default());
    let first = announce(1, 9, Event::Started);
    over_http(&mut server, "192.0.2.1:999", &first).unwrap();
    over_http(
        &mut server,
        "[2001:db8::2]:999",
        &announce(2, 9, Event::Started),
    )
    .unwrap();
    let url = TrackerUrl::parse("http://t/announce").unwrap();
    let asks = target(&announce_url(&url, &announce(3, 9, Event::Started)));
    let asks = asks.replace("compact=1", "compact=0");
    let reply = server.handle_http(NOW, addr("192.0.2.3:9"), &asks);
    let mut peers = parse_announce(&reply).unwrap().peers;
    peers.sort_unstable();
    assert_eq!(peers, [addr("192.0.2.1:1"), addr("[2001:db8::2]:2")]);
    let body = reply
        .body
        .windows(20)
        .any(|window| window == first.peer_id.0);
    assert!(body, "the peer id is told");
}

#[test]
fn seeds_are_not_told_of_seeds_and_counts_follow_the_events() {
    let mut server = server(ServerConfig::default());
    for n in 1..=3 {
        over_http(
            &mut server,
            "192.0.2.1:999",
            &announce(n, 0, Event::Started),
        )
        .unwrap();
    }
    over_http(
        &mut server,
        "192.0.2.1:999",
        &announce(4, 5, Event::Started),
    )
    .unwrap();
    let reply = over_http(&mut server, "192.0.2.1:999", &announce(1, 0, Event::None)).unwrap();
    assert_eq!(reply.peers, [addr("192.0.2.1:4")]);
    assert_eq!(
        (reply.seeds, reply.leechers, reply.downloaded),
        (Some(3), Some(1), Some(0))
    );
    // Completed counts once, whatever is said.
    for _ in 0..3 {
        let reply = over_http(
            &mut server,
            "192.0.2.1:999",
            &announce(4, 0, Event::Completed),
        );
        let reply = reply.unwrap();
        assert_eq!((reply.seeds, reply.downloaded), (Some(4), Some(1)));
    }
    let stopped = announce(4, 0, Event::Stopped);
    let reply = over_http(&mut server, "192.0.2.1:999", &stopped).unwrap();
    assert_eq!(
        (reply.peers.len(), reply.seeds, reply.leechers),
        (0, Some(3), Some(0))
    );
    let hash = stopped.info_hash;
    let url = TrackerUrl::parse("http://t/announce").unwrap();
    let scrape = target(&scrape_url(&url, &[hash, InfoHash([0; 20])]).unwrap());
    let entries = parse_scrape(&server.handle_http(NOW, addr("192.0.2.9:1"), &scrape)).unwrap();
    let entry = ScrapeEntry {
        seeds: 3,
        completed: 1,
        leechers: 0,
    };
    assert_eq!(entries[&hash], entry);
    assert_eq!(entries[&InfoHash([0; 20])], ScrapeEntry::default());
    let from = addr("[2001:db8::1]:7");
    let request = UdpRequest::Scrape {
        connection: connect(&mut server, NOW, from),
        transaction: 3,
        torrents: vec![hash; SCRAPE_TORRENTS_MAX],
    };
    let reply = server
        .handle_datagram(NOW, from, &request.encode())
        .unwrap();
    let entries = vec![entry; SCRAPE_TORRENTS_MAX];
    assert_eq!(
        UdpReply::decode(&reply, from),
        Some(UdpReply::Scrape {
            transaction: 3,
            entries
        })
    );
}

#[test]
fn nobody_can_remove_a_peer_without_its_key() {
    let mut server = server(ServerConfig::default());
    over_http(
        &mut server,
        "192.0.2.1:999",
        &announce(1, 5, Event::Started),
    )
    .unwrap();
    let mut stopped = announce(1, 5, Event::Stopped);
    stopped.key ^= 1;
    over_http(&mut server, "192.0.2.66:999", &stopped).unwrap();
    assert_eq!(server.stats().peers, 1);
    // The same address under a new id is the same peer, started again.
    let mut again = announce(1, 5, Event::Started);
    (again.peer_id.0[0], again.key) = (b'x', 77);
    let reply = over_http(&mut server, "192.0.2.1:999", &again).unwrap();
    assert_eq!((reply.peers.len(), server.stats().peers), (0, 1));
}

#[test]
fn tables_are_bounded_and_expire() {
    let config = ServerConfig {
        interval_secs: 60,
        torrents_max: 2,
        peers_per_torrent_max: 3,
        peers_max: 4,
        ..ServerConfig::default()
    };
    let mut server = server(config);
    let add = |server: &mut Server, torrent: u8, n: u16, secs: u64| {
        let request = AnnounceRequest {
            info_hash: InfoHash([torrent; 20]),
            ..announce(n, 5, Event::Started)
        };
        let now = NOW + Duration::from_secs(secs);
        let answer = server.announce(now, addr("192.0.2.1:9"), &request, true);
        answer.map(|answer| answer.v4.len())
    };
    for n in 1..=3 {
        add(&mut server, 1, n, 0).unwrap();
    }
    assert_eq!(
        add(&mut server, 1, 4, 0),
        Err(Refusal::Peers),
        "of the torrent"
    );
    assert_eq!(add(&mut server, 1, 3, 100), Ok(2), "who is in stays in");
    assert_eq!(add(&mut server, 2, 1, 100), Ok(0));
    assert_eq!(add(&mut server, 2, 2, 100), Err(Refusal::Peers), "in all");
    assert_eq!(add(&mut server, 3, 1, 100), Err(Refusal::Torrents));
    // One and a half of the interval, and a minute.
    assert_eq!(add(&mut server, 1, 3, 149), Ok(2));
    assert_eq!(add(&mut server, 1, 3, 150), Ok(0));
    assert_eq!(add(&mut server, 2, 2, 150), Ok(1));
    assert_eq!(add(&mut server, 3, 1, 300), Ok(0), "room after the sweep");
    server.handle_timeout(NOW + Duration::from_secs(10_000));
    assert_eq!((server.stats().torrents, server.stats().peers), (0, 0));
    assert_eq!(server.next_timeout(), None);
}

#[test]
fn a_reply_holds_a_random_choice_within_the_limits() {
    let mut server = server(ServerConfig::default());
    for n in 1..=1000 {
        over_http(
            &mut server,
            "192.0.2.1:999",
            &announce(n, 5, Event::Started),
        )
        .unwrap();
    }
    let mut asks = announce(1, 5, Event::None);
    let mut seen = std::collections::BTreeSet::new();
    for (numwant, expected) in [
        (None, 50),
        (Some(0), 0),
        (Some(7), 7),
        (Some(u32::MAX), 200),
    ] {
        asks.numwant = numwant;
        let peers = over_http(&mut server, "192.0.2.1:999", &asks)
            .unwrap()
            .peers;
        assert_eq!(peers.len(), expected);
        assert!(!peers.contains(&addr("192.0.2.1:1")), "not whoever asks");
        seen.extend(peers);
    }
    for _ in 0..50 {
        seen.extend(
            over_http(&mut server, "192.0.2.1:999", &asks)
                .unwrap()
                .peers,
        );
    }
    assert!(seen.len() > 990, "{}", seen.len());
    asks.numwant = None;
    for n in 1..=300 {
        over_udp(
            &mut server,
            "[2001:db8::1]:9",
            &announce(n, 5, Event::Started),
        );
    }
    asks.numwant = Some(200);
    assert_eq!(
        over_udp(&mut server, "[2001:db8::9]:9", &asks).peers.len(),
        UDP_V6_PEERS_MAX
    );
}

#[test]
fn without_a_connection_id_nobody_gets_more_than_he_sent() {
    let mut server = server(ServerConfig::default());
    for n in 1..=300 {
        over_udp(&mut server, "192.0.2.1:9", &announce(n, 5, Event::Started));
    }
    let victim = addr("192.0.2.7:9");
    let stolen = connect(&mut server, NOW, addr("192.0.2.8:9"));
    for connection in [0, 1, u64::MAX, stolen] {
        for request in [
            UdpRequest::Announce {
                connection,
                transaction: 5,
                announce: announce(500, 5, Event::Started),
                url_data: Vec::new(),
            },
            UdpRequest::Scrape {
                connection,
                transaction: 5,
                torrents: vec![InfoHash([0; 20])],
            },
        ] {
            let bytes = request.encode();
            let reply = server.handle_datagram(NOW, victim, &bytes).unwrap();
            assert!(reply.len() <= bytes.len());
            assert!(matches!(
                UdpReply::decode(&reply, victim),
                Some(UdpReply::Error { .. })
            ));
        }
    }
    assert_eq!(server.stats().peers, 300);
    for rubbish in [
        &b""[..],
        b"x",
        &[0; 16],
        &[0xff; 98],
        b"d1:ad2:id20:aaaaaaaaaaaaaaaaaaaae",
    ] {
        assert_eq!(server.handle_datagram(NOW, victim, rubbish), None);
    }
}

#[test]
fn bad_requests_are_told_why() {
    let mut server = server(ServerConfig::default());
    let url = TrackerUrl::parse("http://t/announce").unwrap();
    let good = target(&announce_url(&url, &announce(1, 5, Event::Started)));
    let reason = |server: &mut Server, target: &str| match parse_announce(&server.handle_http(
        NOW,
        addr("192.0.2.1:9"),
        target,
    )) {
        Err(TrackerError::Refused { reason, .. }) => reason,
        other => panic!("{target}: {other:?}"),
    };
    for (target, expected) in [
        ("/announce".to_owned(), "info_hash is missing"),
        (
            "/announce?info_hash=short".to_owned(),
            "info_hash is not 20 bytes",
        ),
        (
            good.replace("peer_id=", "peer_id=x"),
            "peer_id is not 20 bytes",
        ),
        (good.replace("peer_id=", "p="), "peer_id is missing"),
        (
            good.replace("port=1", "port=0"),
            "no peer can be at that port",
        ),
        (good.replace("port=1", "port=65536"), "port is no number"),
        (good.replace("port=1", "port=-1"), "port is no number"),
        (good.replace("left=5", "left=x"), "left is no number"),
        (format!("/announce?{}", "a".repeat(9000)), "too long"),
        ("/scrape".to_owned(), "info_hash is missing"),
        (
            "/scrape?info_hash=%4".to_owned(),
            "info_hash is not 20 bytes",
        ),
    ] {
        let told = reason(&mut server, &target);
        assert!(told.contains(expected), "{target}: {told}");
    }
    assert_eq!(
        server.handle_http(NOW, addr("192.0.2.1:9"), "/").status,
        404
    );
    assert_eq!(
        server
            .handle_http(NOW, addr("192.0.2.1:9"), "/announcer?x")
            .status,
        404
    );
    assert_eq!(server.stats().peers, 0);
}

proptest! {
    #[test]
    fn nothing_panics(target in "/(announce|scrape)?\\?[ -~]{0,200}", bytes: Vec<u8>) {
        let mut server = server(ServerConfig::default());
        server.handle_http(NOW, addr("192.0.2.1:9"), &target);
        server.handle_datagram(NOW, addr("192.0.2.1:9"), &bytes);
    }

    #[test]
    fn http_requests_there_and_back(
        (hash, id) in any::<([u8; 20], [u8; 20])>(),
        port in 1..u16::MAX,
        (uploaded, downloaded, left, key) in any::<(u64, u64, u64, u32)>(),
        (numwant, event) in (any::<Option<u32>>(), 0..4_usize),
    ) {
        let announce = AnnounceRequest {
            info_hash: InfoHash(hash),
            peer_id: PeerId(id),
            port,
            uploaded,
            downloaded,
            left,
            key,
            numwant,
            event: [Event::None, Event::Started, Event::Completed, Event::Stopped][event],
            ..announce(1, 1, Event::None)
        };
        let url = TrackerUrl::parse("http://t/announce").unwrap();
        let read = query::parse(&target(&announce_url(&url, &announce)));
        prop_assert_eq!(read, Ok(HttpRequest::Announce { announce, compact: true }));
    }

    #[test]
    fn tables_keep_their_invariants(
        ops in proptest::collection::vec((0..6_u16, 0..4_u16, any::<bool>(), 0..5_u8, 0..3_u64), 1..80),
    ) {
        let mut table = Table::default();
        let mut now = NOW;
        for (who, at, v6, op, wait) in ops {
            now = now + Duration::from_secs(wait);
            let ip = if v6 { "2001:db8::1" } else { "192.0.2.1" };
            let addr = SocketAddr::new(ip.parse().unwrap(), at + 1);
            let announce = announce(who, u64::from(op % 2), Event::None);
            match op {
                0..=2 => {
                    table.upsert(&announce, addr, now + Duration::from_secs(5));
                    let mut rng = Rng::new(1);
                    let other = self::announce(99, 1, Event::None);
                    let picked = table.pick(&other, v6, 100, &mut rng);
                    prop_assert!(picked.iter().any(|peer| peer.addr == addr && peer.id == announce.peer_id));
                }
                3 => table.remove(&announce),
                _ => table.expire(now),
            }
            table.check_invariants();
        }
        table.expire(now + Duration::from_secs(5));
        prop_assert!(table.is_empty());
        table.check_invariants();
    }
}
