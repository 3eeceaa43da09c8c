//! Peers that want no pieces, and what it means to be one (BEP 21).
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::{Rig, Said, Setup};
use torr_base::{Bitfield, PieceIndex};
use torr_node::CloseReason;
use torr_wire::{ExtendedHandshake, Extension, ExtensionIds, Message, PexFlags, PexMessage};

const TICK: Duration = Duration::from_millis(200);

fn hello(extensions: &[Extension], upload_only: Option<bool>) -> Vec<u8> {
    ExtendedHandshake {
        extensions: ExtensionIds::own(extensions),
        upload_only,
        ..ExtendedHandshake::default()
    }
    .encode()
}

fn extended(rig: &mut Rig, n: usize, id: u8, payload: &[u8]) {
    rig.say(n, &Message::Extended { id, payload });
}

fn said_upload_only(said: &[Said]) -> Vec<bool> {
    let word = |said: &Said| match said {
        Said::Extended(payload) => match payload.as_slice() {
            [flag] => Some(*flag != 0),
            text => ExtendedHandshake::parse(text).unwrap().upload_only,
        },
        _ => None,
    };
    said.iter().filter_map(word).collect()
}

fn select(rig: &mut Rig, pieces: &[u32]) {
    let mut wanted = Bitfield::new(rig.geometry.piece_count());
    for piece in pieces {
        wanted.set(PieceIndex::new(*piece));
    }
    rig.node.set_wanted(rig.now, rig.key, &wanted);
    rig.act();
}

/// A node that has the first four of eight pieces, and wants no others.
fn partial_seed() -> Rig {
    let mut rig = Rig::new(&Setup {
        have: (0..4).collect(),
        ..Setup::default()
    });
    select(&mut rig, &[0, 1, 2, 3]);
    assert!(rig.is_complete());
    rig
}

#[test]
fn a_partial_seed_says_so_and_takes_it_back() {
    let mut rig = partial_seed();
    let by_message = rig.connect(true);
    extended(
        &mut rig,
        by_message,
        0,
        &hello(&[Extension::UploadOnly], None),
    );
    let by_handshake = rig.connect(true);
    extended(&mut rig, by_handshake, 0, &hello(&[], None));
    for n in [by_message, by_handshake] {
        rig.say(n, &Message::HaveNone);
        assert_eq!(said_upload_only(&rig.hear(n)), [true]);
    }
    select(&mut rig, &[0, 1, 2, 3, 4]);
    for n in [by_message, by_handshake] {
        assert_eq!(said_upload_only(&rig.hear(n)), [false]);
    }
    select(&mut rig, &[0, 1, 2]);
    assert_eq!(said_upload_only(&rig.hear(by_message)), [true]);
    // Who forgets what a handshake does not repeat would send us nothing of these any more.
    let again = rig.hear(by_handshake);
    let Said::Extended(text) = again.first().unwrap() else {
        panic!("{again:?}");
    };
    let again = ExtendedHandshake::parse(text).unwrap();
    assert_eq!(again.upload_only, Some(true));
    assert!(again.extensions.get(Extension::Pex).is_some());
    assert!(again.extensions.get(Extension::UploadOnly).is_some());
}

#[test]
fn who_gives_only_and_has_nothing_for_us_is_let_go() {
    let mut rig = Rig::new(&Setup {
        have: vec![0],
        ..Setup::default()
    });
    let gives = rig.connect_with(&[0, 1]);
    let useless = rig.connect_with(&[0]);
    let silent = rig.connect_with(&[0]);
    for n in [gives, useless] {
        extended(&mut rig, n, 0, &hello(&[], Some(true)));
    }
    let seeds = |rig: &Rig| rig.node.stats(rig.key).unwrap().swarm.seeds;
    assert_eq!(seeds(&rig), 2);
    // More may come: what it has need not be told at once.
    let pass = |rig: &mut Rig, secs| {
        for _ in 0..secs {
            rig.pass(Duration::from_secs(1));
            (0..3).for_each(|n| drop(rig.hear(n)));
        }
    };
    pass(&mut rig, 50);
    assert_eq!(rig.peers[useless].closed, None);
    pass(&mut rig, 11);
    assert_eq!(rig.peers[useless].closed, Some(CloseReason::Redundant));
    assert_eq!(rig.peers[gives].closed, None);
    assert_eq!(rig.peers[silent].closed, None);
    assert_eq!(seeds(&rig), 1);
}

#[test]
fn two_that_only_give_part_and_the_last_word_counts() {
    let mut rig = partial_seed();
    let gives = rig.connect_with(&[5]);
    let wants = rig.connect(true);
    rig.say(wants, &Message::HaveNone);
    for n in [gives, wants] {
        extended(&mut rig, n, 0, &hello(&[], Some(true)));
    }
    rig.say(wants, &Message::Interested);
    rig.pass(TICK);
    assert_eq!(rig.peers[gives].closed, Some(CloseReason::Redundant));
    assert_eq!(rig.peers[wants].closed, None);
    assert!(rig.hear(wants).contains(&Said::Unchoke));
    let own_id = Extension::UploadOnly.own_id();
    extended(&mut rig, wants, own_id, &[1]);
    rig.pass(TICK);
    assert_eq!(rig.peers[wants].closed, Some(CloseReason::Redundant));
}

#[test]
fn who_wants_no_pieces_is_told_of_none_until_it_does() {
    let mut rig = Rig::new(&Setup::default());
    let giver = rig.connect_with(&[3]);
    let n = rig.connect_with(&[5]);
    extended(&mut rig, n, 0, &hello(&[], Some(true)));
    rig.pass(TICK);
    rig.answer_all(&[(giver, 0)]);
    rig.pass(TICK);
    assert_eq!(rig.have(), 1);
    assert!(!rig.hear(n).contains(&Said::Have(3)));
    let own_id = Extension::UploadOnly.own_id();
    extended(&mut rig, n, own_id, &[0]);
    assert!(rig.hear(n).contains(&Said::Have(3)));
    extended(&mut rig, n, own_id, &[0, 0]);
    assert_eq!(
        rig.peers[n].closed,
        Some(CloseReason::Misbehaved(torr_node::Misbehaved::Malformed))
    );
}

#[test]
fn a_seed_does_not_dial_those_that_only_give() {
    let others = [1, 2].map(|n| SocketAddr::from(([11, 0, 99, n], 7_001)));
    let told = |flags: PexFlags| PexMessage {
        added: vec![(others[0], flags), (others[1], PexFlags::default())],
        dropped: Vec::new(),
    };
    for complete in [true, false] {
        let mut rig = match complete {
            true => partial_seed(),
            false => Rig::new(&Setup::default()),
        };
        let n = rig.connect(true);
        rig.say(n, &Message::HaveNone);
        let payload = told(PexFlags::UPLOAD_ONLY).encode();
        extended(&mut rig, n, Extension::Pex.own_id(), &payload);
        rig.pass(Duration::from_secs(2));
        let dialled = |addr| rig.dials.iter().any(|(_, to)| *to == addr);
        assert_eq!([dialled(others[0]), dialled(others[1])], [!complete, true]);
        if complete {
            select(&mut rig, &[7]);
            rig.pass(Duration::from_secs(2));
            assert!(rig.dials.iter().any(|(_, to)| *to == others[0]));
        }
    }
}
