//! A few nodes together: finding each other and what was announced.

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::{HASH, Net, at, config, node, secs};
use torr_base::{InfoHash, Instant, Rng};
use torr_dht::message::{Body, Message, Method, Response};
use torr_dht::{Announce, Bootstrap, Dht, DhtAction, DhtConfig, Family, NodeId, WELL_KNOWN};

const ANNOUNCE: Announce = Announce {
    port: 6_000,
    implied: false,
    seed: false,
};

fn with_start(name: &str) -> DhtConfig {
    DhtConfig {
        bootstrap: Bootstrap::Hosts(vec![(name.to_owned(), 6881)]),
        ..config()
    }
}

fn public(n: u8) -> SocketAddr {
    SocketAddr::from(([60, n, 7, 1], 6881))
}

/// `n` nodes that all start from the first one.
fn net(n: u8) -> Net {
    let mut net = Net::default();
    net.names.insert("start".to_owned(), vec![public(1)]);
    for i in 1..=n {
        net.add(&[public(i)], node(with_start("start"), i));
    }
    net
}

#[test]
fn two_nodes_are_enough() {
    let mut net = Net::default();
    let (a, b) = (at("127.0.0.1:7001"), at("127.0.0.1:7002"));
    net.add(&[a], node(config(), 1));
    net.add(&[b], node(config(), 2));
    net.nodes[1].add_node(Instant::ZERO, a);
    net.run(Duration::from_secs(5));
    let announced = net.nodes[0].search(net.now, HASH, Some(ANNOUNCE), false);
    net.run(Duration::from_secs(5));
    let [(0, id, outcome)] = net.done[..] else {
        panic!("{:?}", net.done);
    };
    assert_eq!((Some(id), outcome.stored), (announced, 1));
    let looked = net.nodes[0].search(net.now, HASH, None, false).unwrap();
    net.run(Duration::from_secs(5));
    assert_eq!(net.peers[&(0, looked)], [at("127.0.0.1:6000")]);
}

#[test]
fn a_search_that_begins_with_the_node_itself_waits_for_its_turn() {
    let mut net = Net::default();
    net.names.insert("start".to_owned(), vec![public(1)]);
    net.add(&[public(1)], node(config(), 1));
    // Both look for their neighbours and for peers at once, and there is one node to ask.
    for i in 2..=3 {
        let host = net.add(&[public(i)], node(with_start("start"), i));
        net.nodes[host].search(net.now, HASH, Some(ANNOUNCE), true);
        net.nodes[host].search(net.now, InfoHash([9; 20]), Some(ANNOUNCE), true);
        net.run(Duration::from_secs(2));
        let [first, second] = &net.done[net.done.len() - 2..] else {
            panic!("{:?}", net.done);
        };
        for (of, _, outcome) in [first, second] {
            assert!(*of == host && outcome.stored > 0, "{outcome:?}");
        }
    }
    assert_eq!(net.peers.len(), 2);
}

#[test]
fn thirty_nodes_find_each_other_and_what_was_announced() {
    let mut net = net(30);
    net.run(Duration::from_secs(120));
    for dht in &net.nodes {
        let stats = dht.stats(net.now);
        assert!(stats.good[0] >= 12, "{stats:?}");
    }
    // Where others see it, each has learnt, and taken an id that fits.
    for (host, dht) in net.nodes.iter().enumerate() {
        let ip = public(host as u8 + 1).ip();
        assert!(net.external.contains(&(host, ip)), "{host}");
        assert!(dht.id(Family::V4).fits(ip));
    }
    let seeker = net.nodes[20].search(net.now, HASH, None, false).unwrap();
    net.run(Duration::from_secs(10));
    assert!(!net.peers.contains_key(&(20, seeker)));
    let id = net.nodes[4]
        .search(net.now, HASH, Some(ANNOUNCE), true)
        .unwrap();
    net.run(Duration::from_secs(10));
    let of_four = |(host, it, _): &&(usize, _, _)| (*host, *it) == (4, id);
    let (_, _, outcome) = net.done.iter().find(of_four).expect("a round");
    assert!((8..=14).contains(&outcome.stored), "{outcome:?}");
    assert!(outcome.next.is_some());
    let seeker = net.nodes[20].search(net.now, HASH, None, false).unwrap();
    let started = net.now;
    net.run(Duration::from_secs(10));
    assert_eq!(
        net.peers[&(20, seeker)],
        [SocketAddr::from(([60, 5, 7, 1], 6_000))]
    );
    assert!(net.now.since(started) <= Duration::from_secs(10));
    // It is announced again before anybody forgets it.
    net.run(Duration::from_secs(60 * 60));
    let rounds = net.done.iter().filter(of_four).count();
    assert!((4..=6).contains(&rounds), "{rounds}");
    let seeker = net.nodes[21].search(net.now, HASH, None, false).unwrap();
    net.run(Duration::from_secs(10));
    assert!(net.peers.contains_key(&(21, seeker)));
    net.nodes[4].cancel(id);
    net.run(Duration::from_secs(60 * 60));
    let seeker = net.nodes[21].search(net.now, HASH, None, false).unwrap();
    net.run(Duration::from_secs(10));
    assert!(
        !net.peers.contains_key(&(21, seeker)),
        "forgotten after half an hour"
    );
}

#[test]
fn a_read_only_node_finds_what_others_announce() {
    let mut net = net(12);
    let quiet = DhtConfig {
        read_only: true,
        ..with_start("start")
    };
    let host = net.add(&[public(99)], node(quiet, 99));
    net.run(Duration::from_secs(60));
    net.nodes[3].search(net.now, HASH, Some(ANNOUNCE), false);
    net.run(Duration::from_secs(10));
    let id = net.nodes[host]
        .search(net.now, HASH, Some(ANNOUNCE), false)
        .unwrap();
    net.run(Duration::from_secs(10));
    assert_eq!(net.peers[&(host, id)].len(), 1);
    let (_, _, outcome) = net.done.iter().find(|(of, ..)| *of == host).unwrap();
    assert!(outcome.stored >= 5, "it announces like others: {outcome:?}");
    // Nobody takes it into a table: once it is gone, nobody asks for it.
    net.run(Duration::from_secs(3_600));
    let sent_to = net
        .lost
        .iter()
        .filter(|(_, to, _)| *to == public(99))
        .count();
    assert_eq!(sent_to, 0);
    let known = net.nodes[..12]
        .iter()
        .map(|it| it.stats(net.now).nodes[0])
        .max();
    assert!(known <= Some(11));
}

#[test]
fn the_next_run_starts_where_the_last_one_ended() {
    let mut net = net(20);
    net.run(Duration::from_secs(180));
    let saved = net.nodes[7].save();
    let id = net.nodes[7].id(Family::V4);
    let asked = net.resolved;
    let again = Dht::new(
        with_start("start"),
        Rng::new(8),
        [8; 32],
        Some(&saved),
        net.now,
    );
    net.replace(7, again);
    assert_eq!(net.nodes[7].id(Family::V4), id);
    net.nodes[3].search(net.now, HASH, Some(ANNOUNCE), false);
    net.run(Duration::from_secs(5));
    let search = net.nodes[7].search(net.now, HASH, None, false).unwrap();
    net.run(Duration::from_secs(5));
    assert!(net.peers.contains_key(&(7, search)));
    assert_eq!(net.resolved, asked, "no name was needed");
    let other = DhtConfig {
        new_id: true,
        ..with_start("start")
    };
    let other = Dht::new(other, Rng::new(9), [9; 32], Some(&saved), net.now);
    assert_ne!(other.id(Family::V4), id);
    let mut torn = saved;
    torn[50] ^= 1;
    let again = Dht::new(
        with_start("start"),
        Rng::new(8),
        [8; 32],
        Some(&torn),
        net.now,
    );
    net.replace(7, again);
    net.run(Duration::from_secs(5));
    assert!(net.resolved > asked);
    assert!(net.nodes[7].stats(net.now).nodes[0] > 0);
}

#[test]
fn nodes_of_a_torrent_lead_in_by_name_and_by_address() {
    let mut net = net(12);
    net.run(Duration::from_secs(60));
    net.names
        .insert("named.example".to_owned(), vec![public(4)]);
    let there = public(5).ip().to_string();
    for (n, (name, port)) in [("named.example", 1), (there.as_str(), public(5).port())]
        .into_iter()
        .zip(0..)
        .map(|(place, n)| (n, place))
    {
        let mut stray = node(config(), 90 + n);
        stray.add_host(net.now, name, port);
        let host = net.add(&[public(70 + n)], stray);
        net.run(Duration::from_secs(20));
        assert!(net.nodes[host].stats(net.now).nodes[0] > 3, "{name}");
    }
    // However many there are, few are looked up at a time, and few wait.
    let mut flooded = node(config(), 99);
    (0..1_000).for_each(|n| flooded.add_host(net.now, &format!("{n}.example"), 1));
    let mut out = Vec::new();
    flooded.handle_timeout(net.now, &mut out);
    let resolves = |it: &&DhtAction| matches!(it, DhtAction::Resolve { .. });
    assert_eq!(out.iter().filter(resolves).count(), torr_dht::HOSTS_MAX);
    flooded.check_invariants();
}

#[test]
fn names_are_asked_for_again_and_again_but_ever_more_rarely() {
    let mut dht = node(
        DhtConfig {
            ipv6: false,
            ..DhtConfig::default()
        },
        1,
    );
    let mut rounds = Vec::new();
    let mut now = Instant::ZERO;
    while now < secs(4 * 3_600) {
        now = dht.next_timeout().unwrap();
        let mut out = Vec::new();
        dht.handle_timeout(now, &mut out);
        let mut asked = 0;
        for action in out {
            if let DhtAction::Resolve { request, .. } = action {
                asked += 1;
                dht.handle_resolved(now, request, Err("nothing".to_owned()), &mut Vec::new());
            }
        }
        if asked > 0 {
            assert_eq!(asked, WELL_KNOWN.len());
            rounds.push(now);
        }
        dht.check_invariants();
    }
    assert!((20..40).contains(&rounds.len()), "{}", rounds.len());
    let gaps: Vec<_> = rounds
        .windows(2)
        .map(|it| it[1].since(it[0]).as_secs())
        .collect();
    assert!(
        gaps[0] < 10 && gaps.iter().all(|it| *it <= 12 * 60),
        "{gaps:?}"
    );
}

#[test]
fn a_search_without_anybody_to_ask_ends_or_waits() {
    let mut net = Net::default();
    net.add(&[public(1)], node(config(), 1));
    let single = net.nodes[0].search(net.now, HASH, None, false).unwrap();
    let standing = net.nodes[0]
        .search(net.now, InfoHash([1; 20]), None, true)
        .unwrap();
    net.run(Duration::from_secs(120));
    assert_eq!(net.done.len(), 1);
    assert_eq!((net.done[0].1, net.done[0].2.next), (single, None));
    net.add(&[public(2)], node(config(), 2));
    net.nodes[0].add_node(net.now, public(2));
    net.run(Duration::from_secs(60));
    assert!(
        net.done
            .iter()
            .any(|(_, id, outcome)| *id == standing && outcome.answers == 1)
    );
}

#[test]
fn the_well_known_ones_help_but_get_no_place() {
    let mut net = net(12);
    net.run(Duration::from_secs(60));
    net.names
        .insert(WELL_KNOWN[0].0.to_owned(), vec![public(1)]);
    let dht = node(
        DhtConfig {
            ipv6: false,
            ..DhtConfig::default()
        },
        77,
    );
    let host = net.add(&[public(77)], dht);
    net.run(Duration::from_secs(120));
    assert_eq!(
        net.nodes[host].stats(net.now).nodes[0],
        11,
        "all but the one that serves everybody"
    );
}

#[test]
fn both_families_help_each_other() {
    let mut net = Net::default();
    let six = |n: u8| at(&format!("[2a01:{n}::1]:6881"));
    net.names.insert("start".to_owned(), vec![public(1)]);
    for n in 1..=12 {
        let dual = DhtConfig {
            ipv6: true,
            ..with_start("start")
        };
        net.add(&[public(n), six(n)], node(dual, n));
        // The first two know each other over IPv6; the rest starts from a name that has none.
        if n == 2 {
            net.nodes[1].add_node(Instant::ZERO, six(1));
        }
    }
    net.run(Duration::from_secs(600));
    for dht in &net.nodes {
        let stats = dht.stats(net.now);
        assert!(stats.nodes[1] >= 8, "{stats:?}");
        assert_ne!(dht.id(Family::V4), dht.id(Family::V6));
    }
    net.nodes[3].search(net.now, HASH, Some(ANNOUNCE), false);
    net.run(Duration::from_secs(10));
    let id = net.nodes[9].search(net.now, HASH, None, false).unwrap();
    net.run(Duration::from_secs(10));
    let mut peers = net.peers[&(9, id)].clone();
    peers.sort();
    assert_eq!(peers, [at("60.4.7.1:6000"), at("[2a01:4::1]:6000")]);
}

/// The first question that a fresh node sends to `addr`.
fn question(dht: &mut Dht, now: Instant, addr: SocketAddr) -> Vec<u8> {
    dht.add_node(now, addr);
    let mut out = Vec::new();
    dht.handle_timeout(now, &mut out);
    let mut sent = out.into_iter().filter_map(|action| {
        let DhtAction::Send { to, bytes } = action else {
            return None;
        };
        (to == addr).then_some(bytes)
    });
    sent.next().expect("a question")
}

fn answer(t: &[u8], id: NodeId, nodes: &[u8]) -> Vec<u8> {
    let mut response = Response::new(id);
    response.nodes = Some(nodes);
    let message = Message {
        transaction: t,
        body: Body::Response(response),
        version: None,
        ip: None,
        read_only: false,
    };
    message.encode()
}

#[test]
fn an_answer_from_elsewhere_or_to_nothing_is_none() {
    let mut dht = node(config(), 1);
    let asked = question(&mut dht, secs(1), public(1));
    let t = Message::decode(&asked).unwrap().transaction.to_vec();
    let mut out = Vec::new();
    let right = answer(&t, NodeId([3; 20]), &[]);
    let mut guessed = t.clone();
    guessed[0] ^= 1;
    let wrong = answer(&guessed, NodeId([3; 20]), &[]);
    assert!(!dht.handle_datagram(secs(1), public(2), &right, &mut out));
    let mut port = public(1);
    port.set_port(1);
    assert!(!dht.handle_datagram(secs(1), port, &right, &mut out));
    assert!(!dht.handle_datagram(secs(1), public(1), &wrong, &mut out));
    assert_eq!(dht.stats(secs(1)).nodes, [0, 0]);
    assert!(dht.handle_datagram(secs(1), public(1), &right, &mut out));
    assert_eq!(dht.stats(secs(1)).nodes, [1, 0]);
    assert!(
        !dht.handle_datagram(secs(1), public(1), &right, &mut out),
        "once"
    );
    assert_eq!(dht.stats(secs(1)).unasked, 4);
}

/// Answers every question of `dht` but those to `victim`'s network with nodes that are all there; how
/// many questions went there.
fn aim(dht: &mut Dht, start: Instant, lookups: u8) -> usize {
    let mut rng = Rng::new(9);
    let mut now = start;
    let mut hits = 0;
    let mut hash = [0; 20];
    let mut queue: Vec<DhtAction> = Vec::new();
    for n in 0..lookups {
        hash[0] = n.wrapping_mul(37);
        dht.search(now, InfoHash(hash), None, false);
        for _ in 0..400 {
            now = now + Duration::from_millis(50);
            dht.handle_timeout(now, &mut queue);
            for action in std::mem::take(&mut queue) {
                let DhtAction::Send { to, bytes } = action else {
                    continue;
                };
                if to.ip().to_string().starts_with("198.51.100.") {
                    hits += 1;
                    continue;
                }
                let message = Message::decode(&bytes).expect("a question");
                let Body::Query(query) = message.body else {
                    continue;
                };
                let target = match query.method {
                    Method::FindNode { target } => target,
                    Method::GetPeers { info_hash, .. } => info_hash.into(),
                    Method::Ping | Method::AnnouncePeer { .. } => NodeId([1; 20]),
                };
                let mut nodes = Vec::new();
                for _ in 0..40 {
                    let mut random = [0; 20];
                    rng.fill(&mut random);
                    nodes.extend(target.sharing(50 + rng.index(60), random).0);
                    nodes.extend([198, 51, 100, rng.below(256) as u8]);
                    nodes.extend((1_024 + rng.below(60_000) as u16).to_be_bytes());
                }
                let mut random = [0; 20];
                rng.fill(&mut random);
                let bytes = answer(message.transaction, NodeId(random), &nodes);
                dht.handle_datagram(now, to, &bytes, &mut queue);
            }
            dht.check_invariants();
        }
    }
    hits
}

#[test]
fn nobody_can_be_aimed_at() {
    let mut dht = node(config(), 1);
    for n in 1..20 {
        dht.add_node(Instant::ZERO, public(n));
    }
    let first = aim(&mut dht, secs(1), 1);
    // Two of the lookup, and two of the one for our own neighbours.
    assert!((1..=4).contains(&first), "{first}");
    let more = aim(&mut dht, secs(60), 20);
    assert!(more <= 4, "twenty lookups in as many minutes: {more}");
}

#[test]
fn strangers_cannot_name_our_own_network() {
    let mut dht = node(config(), 1);
    let asked = question(&mut dht, secs(1), public(1));
    let t = Message::decode(&asked).unwrap().transaction.to_vec();
    let mut nodes = Vec::new();
    for host in 1..=8_u8 {
        nodes.extend([host; 20]);
        nodes.extend([192, 168, 1, host, 0x1a, 0xe1]);
    }
    let mut out = Vec::new();
    dht.handle_datagram(
        secs(1),
        public(1),
        &answer(&t, NodeId([3; 20]), &nodes),
        &mut out,
    );
    dht.search(secs(1), HASH, None, false);
    for n in 1..120 {
        dht.handle_timeout(secs(n), &mut out);
    }
    let local = out.iter().filter(
        |it| matches!(it, DhtAction::Send { to, .. } if to.ip().to_string().starts_with("192.")),
    );
    assert_eq!(local.count(), 0);
}

#[test]
fn while_nobody_answers_nodes_keep_their_places() {
    let mut net = net(15);
    net.run(Duration::from_secs(120));
    let before = net.nodes[5].stats(net.now).nodes[0];
    let mut lone = net.nodes.remove(5);
    let mut now = net.now;
    // Two hours without a network.
    for _ in 0..1_440 {
        now = now + Duration::from_secs(5);
        lone.handle_timeout(now, &mut Vec::new());
    }
    assert_eq!(lone.stats(now).nodes[0], before);
    lone.network_changed(now);
    lone.check_invariants();
    assert!(lone.next_timeout() <= Some(now));
}
