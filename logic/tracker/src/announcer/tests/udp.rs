mod lies;

use super::*;
use crate::announce::{AnnounceReply, Event};
use crate::udp::{UdpReply, UdpRequest};

const V4: &str = "192.0.2.1:80";
const V6: &str = "[2001:db8::1]:80";

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

impl World<'_> {
    /// Takes out what was sent since the last call.
    fn sent(&mut self) -> Vec<(SocketAddr, UdpRequest)> {
        let (sent, rest) = std::mem::take(&mut self.rest)
            .into_iter()
            .partition(|action| matches!(action, TrackerAction::Datagram { .. }));
        self.rest = rest;
        let sent: Vec<TrackerAction> = sent;
        let decode = |action| match action {
            TrackerAction::Datagram { to, bytes } => (to, UdpRequest::decode(&bytes).unwrap()),
            _ => unreachable!(),
        };
        sent.into_iter().map(decode).collect()
    }

    fn resolved(&mut self, addrs: &[&str]) {
        let request = self.rest.iter().rev().find_map(|action| match action {
            TrackerAction::Resolve { request, .. } => Some(*request),
            _ => None,
        });
        let addrs = addrs.iter().map(|text| addr(text)).collect();
        let mut out = Vec::new();
        self.announcer
            .handle_resolved(self.now, request.unwrap(), Ok(addrs), &mut out);
        self.act(out);
    }

    fn reply(&mut self, from: SocketAddr, reply: &UdpReply) -> bool {
        let mut out = Vec::new();
        let known = self
            .announcer
            .handle_datagram(self.now, from, &reply.encode(), &mut out);
        self.act(out);
        known
    }

    /// Answers everything that was sent as a good tracker does; returns the events that were announced.
    fn serve(&mut self) -> Vec<(SocketAddr, Event)> {
        let mut events = Vec::new();
        loop {
            self.run(Duration::from_millis(1));
            let sent = self.sent();
            if sent.is_empty() {
                return events;
            }
            for (to, request) in sent {
                let transaction = request.transaction();
                let reply = match request {
                    UdpRequest::Connect { .. } => UdpReply::Connect {
                        transaction,
                        connection: 77,
                    },
                    UdpRequest::Announce {
                        announce,
                        connection,
                        ..
                    } => {
                        assert_eq!(connection, 77);
                        events.push((to, announce.event));
                        good_reply(transaction)
                    }
                    UdpRequest::Scrape { .. } => panic!("nobody scrapes"),
                };
                assert!(self.reply(to, &reply));
            }
        }
    }
}

fn good_reply(transaction: u32) -> UdpReply {
    UdpReply::Announce {
        transaction,
        reply: AnnounceReply {
            interval_secs: Some(1800),
            seeds: Some(1),
            leechers: Some(2),
            ..AnnounceReply::default()
        },
    }
}

#[test]
fn connects_then_announces_through_both_families() {
    let mut world = World::new(&[&["udp://t.example:80/announce?k=v"]]);
    world.start();
    world.run(secs(0));
    assert!(matches!(
        &world.rest[..],
        [TrackerAction::Resolve { host, port: 80, .. }] if host == "t.example"
    ));
    world.resolved(&[V4, V6, "192.0.2.2:80"]);
    world.run(secs(0));
    let connects = world.sent();
    assert_eq!(connects.len(), 2);
    for (to, request) in connects {
        let UdpRequest::Connect { transaction } = request else {
            panic!("{request:?}");
        };
        let reply = UdpReply::Connect {
            transaction,
            connection: 5,
        };
        assert!(!world.reply(addr("192.0.2.9:80"), &reply), "from elsewhere");
        assert!(!world.reply(
            to,
            &UdpReply::Connect {
                transaction: !transaction,
                connection: 5
            }
        ));
        assert!(world.reply(to, &reply));
    }
    world.run(secs(0));
    let announces = world.sent();
    assert_eq!(announces.len(), 2);
    let mut keys = Vec::new();
    for (to, request) in announces {
        let UdpRequest::Announce {
            connection,
            transaction,
            announce,
            url_data,
        } = request
        else {
            panic!("{request:?}");
        };
        assert_eq!(
            (connection, announce.event, announce.left),
            (5, Event::Started, 100)
        );
        assert_eq!(
            (announce.numwant, &url_data[..]),
            (Some(50), &b"/announce?k=v"[..])
        );
        keys.push(announce.key);
        assert!(world.reply(to, &good_reply(transaction)));
    }
    assert_eq!(keys[0], keys[1]);
    assert_eq!(world.states(), [TrackerState::Working]);
    let status = world.announcer.trackers().next().unwrap();
    assert_eq!((status.seeds, status.leechers), (Some(1), Some(2)));
    assert_eq!(status.url, "udp://t.example:80/announce?k=***");
}

#[test]
fn connection_ids_live_a_minute() {
    let mut world = World::new(&[&["udp://192.0.2.1:80"]]);
    world.start();
    world.run(secs(0));
    assert_eq!(world.serve(), [(addr(V4), Event::Started)]);
    world.run(secs(50));
    world.announcer.completed(world.now);
    world.run(secs(0));
    let sent = world.sent();
    assert!(
        matches!(sent[..], [(_, UdpRequest::Announce { .. })]),
        "{sent:?}"
    );
    assert!(world.reply(addr(V4), &good_reply(sent[0].1.transaction())));
    world.run(secs(15));
    world.announcer.stop(world.now);
    world.run(secs(0));
    let sent = world.sent();
    assert!(
        matches!(sent[..], [(_, UdpRequest::Connect { .. })]),
        "{sent:?}"
    );
}

#[test]
fn repeats_after_15_times_2_to_the_n() {
    let mut world = World::new(&[&["udp://192.0.2.1:80"]]);
    world.start();
    let mut times = Vec::new();
    for second in 0..8000_u64 {
        world.run(secs(0));
        world.sent().iter().for_each(|_| times.push(second));
        world.run(secs(1));
        if world.states() == [TrackerState::Failing] {
            break;
        }
    }
    assert_eq!(times, [0, 15, 45, 105, 225, 465, 945, 1905, 3825]);
    assert_eq!(world.failures(), ["no answer"]);
    let now = world.now.as_nanos() / 1_000_000_000 - 1000;
    assert_eq!(now, 3825 + 3840, "gives up after n = 8");
}

#[test]
fn an_announce_without_answer_goes_on_as_in_bep_15() {
    // "Announce times out": t = 2 is 0 here.
    let mut world = World::new(&[&["udp://192.0.2.1:80"]]);
    world.start();
    world.run(secs(0));
    let transaction = world.sent()[0].1.transaction();
    world.reply(
        addr(V4),
        &UdpReply::Connect {
            transaction,
            connection: 1,
        },
    );
    let mut seen = Vec::new();
    for second in 0..230_u64 {
        world.run(secs(0));
        for (_, request) in world.sent() {
            seen.push((second, matches!(request, UdpRequest::Connect { .. })));
        }
        world.run(secs(1));
    }
    let expected = [
        (0, false),
        (15, false),
        (45, false),
        (105, true),
        (225, true),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn a_silent_family_delays_nothing_and_hears_started_when_it_wakes() {
    let mut world = World::new(&[&["udp://t.example:80"]]);
    world.start();
    world.run(secs(0));
    world.resolved(&[V4, V6]);
    world.run(secs(0));
    let v6_silent = |world: &mut World<'_>| {
        let mut events = Vec::new();
        for _ in 0..4 {
            world.run(Duration::from_millis(1));
            for (to, request) in world.sent() {
                let transaction = request.transaction();
                match request {
                    _ if to.is_ipv6() => continue,
                    UdpRequest::Announce { announce, .. } => {
                        events.push(announce.event);
                        world.reply(to, &good_reply(transaction));
                    }
                    _ => {
                        world.reply(
                            to,
                            &UdpReply::Connect {
                                transaction,
                                connection: 77,
                            },
                        );
                    }
                }
            }
        }
        events
    };
    assert_eq!(v6_silent(&mut world), [Event::Started]);
    world.run(secs(1799));
    assert_eq!(
        world.sent().len(),
        0,
        "no repetition once the other family has answered"
    );
    world.run(secs(2));
    world.resolved(&[V4, V6]);
    let events = world.serve();
    assert!(events.contains(&(addr(V4), Event::None)), "{events:?}");
    assert!(events.contains(&(addr(V6), Event::Started)), "{events:?}");
    world.announcer.stop(world.now);
    let events = world.serve();
    assert_eq!(events.len(), 2, "{events:?}");
    assert!(events.iter().all(|(_, event)| *event == Event::Stopped));
    assert!(world.announcer.is_stopped());
}

#[test]
fn errors_are_shown_and_the_next_of_the_tier_follows() {
    let mut world = World::new(&[&["udp://192.0.2.1:80"]]).tracker("b", |_| good());
    world
        .announcer
        .add_tracker(world.now, 0, "http://b/a")
        .unwrap();
    world.start();
    world.run(secs(0));
    let transaction = world.sent()[0].1.transaction();
    let message = "torrent not registered".to_owned();
    assert!(world.reply(
        addr(V4),
        &UdpReply::Error {
            transaction,
            message
        }
    ));
    world.run(secs(1));
    assert_eq!(world.failures(), ["torrent not registered"]);
    assert_eq!(world.times("b"), [0]);
}

#[test]
fn a_silent_one_gets_company_and_then_falls_silent_itself() {
    let mut world = World::new(&[&["udp://192.0.2.1:80"]]).tracker("b", |_| good());
    world
        .announcer
        .add_tracker(world.now, 0, "http://b/a")
        .unwrap();
    world.start();
    world.run(secs(14));
    assert_eq!(world.times("b"), [5]);
    assert_eq!(world.sent().len(), 1);
    world.run(secs(1000));
    assert_eq!(world.sent().len(), 0, "the tier is served");
}

#[test]
fn a_silent_tracker_is_looked_up_again() {
    let mut world = World::new(&[&["udp://t.example:80"]]);
    world.start();
    world.run(secs(0));
    world.resolved(&[V4]);
    world.run(secs(46));
    let lookups = world
        .rest
        .iter()
        .filter(|it| matches!(it, TrackerAction::Resolve { .. }));
    assert_eq!(lookups.count(), 2);
    world.sent();
    world.resolved(&["192.0.2.7:80"]);
    world.run(secs(60));
    let sent = world.sent();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].0, addr("192.0.2.7:80"));
}

#[test]
fn addresses_that_are_never_allowed_are_not_sent_to() {
    for bad in [
        "169.254.169.254:80",
        "[::ffff:169.254.169.254]:80",
        "0.0.0.0:80",
        "224.0.0.1:80",
    ] {
        let mut world = World::new(&[&["udp://t.example:80"]]);
        world.start();
        world.run(secs(0));
        world.resolved(&[bad]);
        world.run(secs(1));
        assert!(world.sent().is_empty(), "{bad}");
        assert_eq!(world.failures().len(), 1, "{bad}");
    }
    // A name that leads to this machine must look like a tracker.
    let mut world = World::new(&[&["udp://t.example:80/admin"]]);
    world.start();
    world.run(secs(0));
    world.resolved(&["127.0.0.1:80"]);
    world.run(secs(1));
    assert!(world.sent().is_empty());
}
