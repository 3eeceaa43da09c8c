//! G15: UDP trackers that lie, a datagram each, beside a good HTTP tracker, for hours.

use super::*;

/// When a lie is told: to a connect or, after an honest connect, to an announce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Connect,
    Announce,
}

/// What is made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    /// It was no answer: the question is repeated as BEP 15 says, 15 s and twice that and so on.
    Ignored,
    /// A failure, which is told.
    Failed,
    /// An announce like any other.
    Accepted,
}

use At::{Announce, Connect};
use Effect::{Accepted, Failed, Ignored};

const CONNECT: u32 = 0;
const ANNOUNCE: u32 = 1;
const SCRAPE: u32 = 2;
const ERROR: u32 = 3;

/// Action, the transaction as it was asked, and more.
fn packet(action: u32, transaction: u32, more: &[u8]) -> Vec<u8> {
    [&action.to_be_bytes(), &transaction.to_be_bytes(), more].concat()
}

/// An announce reply with that interval and those bytes for peers.
fn reply(transaction: u32, interval: u32, peers: &[u8]) -> Vec<u8> {
    let numbers = [interval, 1, 1].map(u32::to_be_bytes).concat();
    packet(ANNOUNCE, transaction, &[&numbers, peers].concat())
}

type Lie = (&'static str, At, Effect, fn(u32) -> Vec<u8>);

fn connect_lies() -> Vec<Lie> {
    vec![
        ("connect-empty", Connect, Ignored, |_| Vec::new()),
        ("connect-one-byte", Connect, Ignored, |_| vec![0]),
        ("connect-short", Connect, Ignored, |t| {
            packet(CONNECT, t, &[0; 7])
        }),
        ("connect-no-id", Connect, Ignored, |t| {
            packet(CONNECT, t, &[])
        }),
        ("connect-other-transaction", Connect, Ignored, |t| {
            packet(CONNECT, !t, &[0; 8])
        }),
        ("connect-other-error", Connect, Ignored, |t| {
            packet(ERROR, t ^ 1, b"go away")
        }),
        ("connect-unknown-action", Connect, Ignored, |t| {
            packet(77, t, &[0; 8])
        }),
        ("connect-rubbish", Connect, Ignored, |_| vec![0xa5; 1500]),
        ("connect-answers-announce", Connect, Ignored, |t| {
            reply(t, 1800, b"\x08\x08\x08\x08\x1a\xe1")
        }),
        ("connect-error", Connect, Failed, |t| {
            packet(ERROR, t, b"no")
        }),
    ]
}

fn announce_lies() -> Vec<Lie> {
    vec![
        ("empty", Announce, Ignored, |_| Vec::new()),
        ("short", Announce, Ignored, |t| {
            packet(ANNOUNCE, t, &[0; 11])
        }),
        ("header-only", Announce, Ignored, |t| {
            packet(ANNOUNCE, t, &[])
        }),
        ("other-transaction", Announce, Ignored, |t| {
            reply(t.wrapping_add(1), 1800, &[])
        }),
        ("transaction-zero", Announce, Ignored, |_| {
            reply(0, 1800, &[])
        }),
        ("answers-connect", Announce, Ignored, |t| {
            packet(CONNECT, t, &[0; 8])
        }),
        ("answers-scrape", Announce, Ignored, |t| {
            packet(SCRAPE, t, &[0; 12])
        }),
        ("http", Announce, Ignored, |_| {
            b"HTTP/1.1 200 OK\r\n\r\nd8:intervali1ee".to_vec()
        }),
        ("rubbish", Announce, Ignored, |_| vec![0x5a; 65_000]),
        ("interval-zero", Announce, Accepted, |t| reply(t, 0, &[])),
        ("interval-one", Announce, Accepted, |t| reply(t, 1, &[])),
        ("interval-minus-one", Announce, Accepted, |t| {
            reply(t, u32::MAX, &[])
        }),
        ("interval-2-31", Announce, Accepted, |t| {
            reply(t, 1 << 31, &[])
        }),
        ("peers-odd", Announce, Accepted, |t| {
            reply(t, 1, b"\x08\x08\x08\x08\x1a\xe1\x08")
        }),
        ("peers-one-byte", Announce, Accepted, |t| reply(t, 1, &[8])),
        ("peers-flood", Announce, Accepted, |t| {
            let peer = |n: u16| [&[8, 8], &n.to_be_bytes()[..], &[0, 9]].concat();
            let peers: Vec<u8> = (0..10_000).flat_map(peer).collect();
            reply(t, 1, &peers)
        }),
        ("peers-near", Announce, Accepted, |t| {
            reply(
                t,
                1,
                b"\x7f\0\0\x01\0\x16\xa9\xfe\xa9\xfe\0\x50\0\0\0\0\0\0",
            )
        }),
        ("error-empty", Announce, Failed, |t| packet(ERROR, t, &[])),
        ("error-escape", Announce, Failed, |t| {
            packet(ERROR, t, b"a\x1b]0;x\x07b\xff\xfe")
        }),
        ("error-long", Announce, Failed, |t| {
            packet(ERROR, t, &[b'x'; 60_000])
        }),
    ]
}

/// The seconds at which it was asked something, and at which it was announced to.
fn told_for_hours(lie: Lie, world: &mut World<'_>) -> (Vec<u64>, Vec<u64>) {
    let (_, at, _, make) = lie;
    let (mut asked, mut announced) = (Vec::new(), Vec::new());
    for second in 0..6 * 3600 {
        world.run(secs(1));
        for (to, request) in world.sent() {
            asked.push(second);
            let transaction = request.transaction();
            let is_connect = matches!(request, UdpRequest::Connect { .. });
            announced.extend((!is_connect).then_some(second));
            let bytes = match (is_connect, at) {
                (true, Announce) => packet(CONNECT, transaction, &[7; 8]),
                (true, Connect) | (false, Announce) => make(transaction),
                (false, Connect) => panic!("announced without a connection"),
            };
            let mut out = Vec::new();
            world
                .announcer
                .handle_datagram(world.now, to, &bytes, &mut out);
            world.act(out);
        }
    }
    (asked, announced)
}

fn gaps(times: &[u64]) -> Vec<u64> {
    times.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

#[test]
fn lies_in_datagrams_delay_nobody_and_none_is_asked_too_often() {
    let lies = [connect_lies(), announce_lies()].concat();
    assert!(lies.len() >= 30);
    for lie in lies {
        let (name, _, effect, _) = lie;
        let mut world = World::new(&[&["udp://192.0.2.1:80"], &["http://honest/a"]])
            .tracker("honest", |_| good());
        world.start();
        let (asked, announced) = told_for_hours(lie, &mut world);
        assert_eq!(world.times("honest").len(), 12, "{name}");
        assert!(asked.len() >= 2, "{name} is not given up: {asked:?}");
        // A connect and its announce count as one.
        let rounds = match effect {
            Accepted => &announced,
            Ignored | Failed => &asked,
        };
        let gaps: Vec<u64> = gaps(rounds).into_iter().filter(|gap| *gap > 1).collect();
        let least = match effect {
            Accepted => 60,
            Failed => 10,
            Ignored => 14,
        };
        assert!(gaps.iter().all(|gap| *gap >= least), "{name}: {gaps:?}");
        assert!(asked.len() <= 6 * 60 * 2, "{name}: {}", asked.len());

        let status = world.announcer.trackers().next().unwrap();
        match effect {
            Accepted => assert_eq!(status.state, TrackerState::Working, "{name}"),
            Ignored | Failed => assert_ne!(status.state, TrackerState::Working, "{name}"),
        }
        let error = status.last_error.unwrap_or_default();
        assert!(
            error.len() < 1300 && !error.chars().any(char::is_control),
            "{name}: {error}"
        );
        assert_eq!(error.is_empty(), effect == Accepted, "{name}: {error}");
        let peers = world.peers();
        for peer in &peers {
            assert!(
                crate::policy::allowed_peer(*peer, false) && peer.port() != 0,
                "{name}"
            );
        }
        // The honest one's are among them, a dozen times.
        assert!(peers.len() <= 12 + 360 * crate::PEERS_MAX, "{name}");
        let bound = |action: &TrackerAction| match action {
            TrackerAction::Peers { peers, .. } => peers.len() <= crate::PEERS_MAX,
            _ => true,
        };
        assert!(world.rest.iter().all(bound), "{name}");
    }
}
