//! What a node answers, and what it keeps to itself.

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::{HASH, at, config, node, query, query_with, secs, tell};
use torr_base::{InfoHash, Instant, Rng};
use torr_dht::message::{Body, ErrorCode, Message, Method, Response, Want};
use torr_dht::{
    BLOOM_LEN, Bloom, Dht, DhtAction, DhtConfig, Family, NodeId, REPLY_BYTES_PER_SEC_MAX,
    REPLY_LEN_MAX,
};

fn response(bytes: &[u8]) -> Response<'_> {
    let message = Message::decode(bytes).expect("a message");
    let Body::Response(response) = message.body else {
        panic!("{message:?}");
    };
    response
}

fn error(bytes: &[u8]) -> i64 {
    let message = Message::decode(bytes).expect("a message");
    let Body::Error { code, .. } = message.body else {
        panic!("{message:?}");
    };
    code
}

fn get_peers(scrape: bool) -> Method<'static> {
    Method::GetPeers {
        info_hash: HASH,
        noseed: false,
        scrape,
    }
}

fn token_for(dht: &mut Dht, now: Instant, from: SocketAddr) -> Vec<u8> {
    let sent = tell(dht, now, from, &query(b"t", get_peers(false)));
    response(&sent[0]).token.expect("a token").to_vec()
}

fn announce(
    dht: &mut Dht,
    now: Instant,
    from: SocketAddr,
    token: &[u8],
    seed: bool,
) -> Vec<Vec<u8>> {
    let method = Method::AnnouncePeer {
        info_hash: HASH,
        port: 7_777,
        implied_port: false,
        seed,
        token,
    };
    tell(dht, now, from, &query(b"a", method))
}

#[test]
fn a_ping_is_answered_with_the_askers_address() {
    let mut dht = node(config(), 1);
    let sent = tell(
        &mut dht,
        secs(1),
        at("60.1.1.1:5000"),
        &query(b"xy", Method::Ping),
    );
    let message = Message::decode(&sent[0]).unwrap();
    assert_eq!(
        (message.transaction, message.ip),
        (&b"xy"[..], Some(at("60.1.1.1:5000")))
    );
    assert_eq!(response(&sent[0]).id, dht.id(Family::V4));
}

#[test]
fn only_who_shows_its_token_is_kept() {
    let mut dht = node(config(), 1);
    let (a, b) = (at("60.1.1.1:5000"), at("60.2.1.1:5000"));
    let token = token_for(&mut dht, secs(1), a);
    assert_eq!(
        error(&announce(&mut dht, secs(2), b, &token, false)[0]),
        ErrorCode::Protocol as i64
    );
    assert_eq!(
        error(&announce(&mut dht, secs(2), a, b"wrong", false)[0]),
        ErrorCode::Protocol as i64
    );
    assert_eq!(dht.stats(secs(2)).peers, 0);
    response(&announce(&mut dht, secs(2), a, &token, false)[0]);
    assert_eq!(dht.stats(secs(2)).peers, 1);
    let sent = tell(&mut dht, secs(3), b, &query(b"t", get_peers(false)));
    let peers: Vec<_> = response(&sent[0]).values.peers().collect();
    assert_eq!(peers, [at("60.1.1.1:7777")], "the port that it named");
    assert_eq!(
        error(&announce(&mut dht, secs(700), a, &token, false)[0]),
        ErrorCode::Protocol as i64
    );
}

#[test]
fn an_implied_port_is_the_one_it_came_from() {
    let mut dht = node(config(), 1);
    let a = at("60.1.1.1:5000");
    let token = token_for(&mut dht, secs(1), a);
    let method = Method::AnnouncePeer {
        info_hash: HASH,
        port: 1,
        implied_port: true,
        seed: true,
        token: &token,
    };
    tell(&mut dht, secs(1), a, &query(b"a", method));
    let sent = tell(
        &mut dht,
        secs(2),
        at("60.2.1.1:1"),
        &query(b"t", get_peers(true)),
    );
    let read = response(&sent[0]);
    assert_eq!(read.values.peers().collect::<Vec<_>>(), [a]);
    let mut filter = Bloom::new();
    filter.insert(a.ip());
    assert_eq!(read.scrape, Some((&filter.0, &[0; BLOOM_LEN])));
}

#[test]
fn what_cannot_be_served_is_told_so() {
    let mut dht = node(config(), 1);
    let from = at("60.1.1.1:5000");
    let sent = tell(
        &mut dht,
        secs(1),
        from,
        b"d1:ad2:id20:abcdefghij0123456789e1:q4:vote1:t2:aa1:y1:qe",
    );
    assert_eq!(error(&sent[0]), ErrorCode::MethodUnknown as i64);
    let sent = tell(&mut dht, secs(1), from, b"d1:ade1:q4:ping1:t2:aa1:y1:qe");
    assert_eq!(error(&sent[0]), ErrorCode::Protocol as i64);
    for rubbish in [
        &b"d"[..],
        b"d1:y1:qe",
        b"",
        b"d1:rde1:t2:aa1:y1:re",
        b"\xff\xff\xff\xff",
    ] {
        assert!(tell(&mut dht, secs(1), from, rubbish).is_empty());
    }
}

#[test]
fn a_read_only_node_says_nothing_and_one_that_says_so_is_not_asked() {
    let mut quiet = node(
        DhtConfig {
            read_only: true,
            ..config()
        },
        1,
    );
    let from = at("60.1.1.1:5000");
    assert!(tell(&mut quiet, secs(1), from, &query(b"t", Method::Ping)).is_empty());
    assert!(tell(&mut quiet, secs(1), from, b"d1:ade1:q4:ping1:t2:aa1:y1:qe").is_empty());
    let mut out = Vec::new();
    quiet.add_node(secs(1), from);
    quiet.handle_timeout(secs(1), &mut out);
    let DhtAction::Send { bytes, .. } = &out[0] else {
        panic!("{out:?}");
    };
    assert!(Message::decode(bytes).unwrap().read_only);

    // Whoever asks becomes a rumour, and is asked back in time; a read-only one is not.
    for (read_only, asked) in [(false, true), (true, false)] {
        let mut dht = node(config(), 2);
        let bytes = query_with(b"t", Method::Ping, Want::default(), read_only);
        assert_eq!(tell(&mut dht, secs(1), from, &bytes).len(), 1);
        let mut out = Vec::new();
        for n in 2..30 {
            dht.handle_timeout(secs(n), &mut out);
        }
        let back = out
            .iter()
            .any(|it| matches!(it, DhtAction::Send { to, .. } if *to == from));
        assert_eq!(back, asked);
    }
}

/// A node that many know and that knows many of both families.
fn full_node() -> Dht {
    let dual = DhtConfig {
        ipv6: true,
        ..config()
    };
    let mut dht = node(dual, 3);
    let mut rng = Rng::new(3);
    for n in 0..200_u64 {
        let (a, b) = ((n / 200) as u8, n as u8);
        let four = SocketAddr::from(([60, a, b, 1], 5_000));
        let six = at(&format!("[2a01:{:x}::1]:5000", n + 1));
        for from in [four, six] {
            let half = Duration::from_millis(if from.is_ipv6() { 500 } else { 0 });
            let now = secs(10 + n) + half;
            let token = token_for(&mut dht, now, from);
            announce(&mut dht, now, from, &token, n % 2 == 0);
            // It answers what it is asked, so that it gets a place.
            let mut out = Vec::new();
            dht.add_node(now, from);
            dht.handle_timeout(now, &mut out);
            for action in out {
                let DhtAction::Send { to, bytes } = action else {
                    continue;
                };
                let t = Message::decode(&bytes)
                    .expect("a question")
                    .transaction
                    .to_vec();
                let mut random = [0; 20];
                rng.fill(&mut random);
                let message = Message {
                    transaction: &t,
                    body: Body::Response(Response::new(NodeId::for_ip(to.ip(), random))),
                    version: None,
                    ip: None,
                    read_only: false,
                };
                dht.handle_datagram(now, to, &message.encode(), &mut Vec::new());
            }
        }
    }
    dht
}

#[test]
fn answers_are_of_at_most_a_thousand_bytes_and_use_them() {
    let mut dht = full_node();
    let stats = dht.stats(secs(220));
    assert!(stats.nodes.iter().all(|n| *n >= 16), "{stats:?}");
    assert_eq!(stats.peers, 400);
    let both = Want { n4: true, n6: true };
    let mut largest = 0;
    for (n, (want, scrape, six)) in [
        (Want::default(), false, false),
        (Want::default(), true, false),
        (both, false, false),
        (both, true, false),
        (Want::default(), false, true),
        (Want::default(), true, true),
        (both, false, true),
        (both, true, true),
    ]
    .into_iter()
    .enumerate()
    {
        let from = match six {
            false => SocketAddr::from(([90, n as u8, 1, 1], 1)),
            true => at(&format!("[2a02:{}::1]:1", n + 1)),
        };
        let bytes = query_with(&[b't'; 32], get_peers(scrape), want, false);
        let sent = tell(&mut dht, secs(300 + n as u64), from, &bytes);
        let len = sent[0].len();
        assert!(len <= REPLY_LEN_MAX, "{len}");
        largest = largest.max(len);
        let read = response(&sent[0]);
        assert_eq!(read.scrape.is_some(), scrape);
        let nodes = [Family::V4, Family::V6].map(|family| read.nodes(family).count());
        let own = usize::from(six);
        assert_eq!(nodes[own], 8);
        assert_eq!(nodes[1 - own], if want == both && !scrape { 8 } else { 0 });
        assert!(read.values.peers().all(|it| it.is_ipv6() == six));
        if !scrape {
            let peers = read.values.peers().count();
            assert!(peers >= 8, "{peers}");
            assert!(want == both || len > 900, "{len}");
        }
    }
    assert!(largest > 900);
}

#[test]
fn peers_without_seeds_are_given_to_those_who_ask_for_them() {
    let mut dht = full_node();
    let method = Method::GetPeers {
        info_hash: HASH,
        noseed: true,
        scrape: false,
    };
    let sent = tell(&mut dht, secs(300), at("90.1.1.1:1"), &query(b"t", method));
    let peers: Vec<_> = response(&sent[0]).values.peers().collect();
    assert!(peers.len() > 20);
    let odd =
        |it: &SocketAddr| matches!(it.ip(), std::net::IpAddr::V4(ip) if ip.octets()[2] % 2 == 1);
    assert!(peers.iter().all(odd), "seeds had even numbers");
}

#[test]
fn a_flood_gets_no_more_than_its_share_and_those_we_know_are_still_served() {
    let mut dht = full_node();
    let mut rng = Rng::new(5);
    let mut bytes_in = [0; 4];
    for n in 0..200_000_u64 {
        let now = secs(400) + Duration::from_micros(n * 20);
        let [a, b, c, d, e, ..] = rng.next_u64().to_be_bytes();
        let from = SocketAddr::from(([1 + a % 220, b, c, d], 1_024 + u16::from(e)));
        let info_hash = InfoHash([e; 20]);
        let method = Method::GetPeers {
            info_hash,
            noseed: false,
            scrape: true,
        };
        let mut out = Vec::new();
        dht.handle_datagram(now, from, &query(b"tt", method), &mut out);
        for action in out {
            if let DhtAction::Send { bytes, .. } = action {
                bytes_in[(n / 50_000) as usize] += bytes.len() as u64;
            }
        }
    }
    dht.check_invariants();
    assert!(
        bytes_in.iter().all(|n| *n <= REPLY_BYTES_PER_SEC_MAX),
        "{bytes_in:?}"
    );
    assert!(
        bytes_in.iter().sum::<u64>() > 10_000,
        "and it is not simply dead: {bytes_in:?}"
    );
    assert!(dht.stats(secs(404)).refused > 195_000);
}
