//! Random words of random peers, valid and not: the node stays whole, honest peers stay, liars go.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod common;

use std::time::Duration;

use common::{BLOCK, Rig, Said, Setup};
use proptest::prelude::*;
use torr_base::{Bitfield, PieceIndex, RawBlock, Rng};
use torr_node::{CloseReason, Misbehaved};
use torr_wire::Message;

fn any_range(rng: &mut Rng, pieces: u32) -> RawBlock {
    let odd = rng.one_in(40);
    RawBlock {
        piece: rng.below(u64::from(pieces) + u64::from(odd)) as u32,
        offset: rng.below(4) as u32 * BLOCK + u32::from(odd && rng.one_in(2)),
        len: if odd && rng.one_in(2) {
            2 * BLOCK
        } else {
            BLOCK
        },
    }
}

fn any_word(rig: &mut Rig, n: usize, rng: &mut Rng) {
    let pieces = rig.geometry.piece_count();
    let piece = rng.below(u64::from(pieces)) as u32;
    let range = any_range(rng, pieces);
    let field = {
        let mut field = Bitfield::new(pieces);
        (0..pieces).filter(|_| rng.one_in(2)).for_each(|p| {
            field.set(PieceIndex::new(p));
        });
        field.to_bytes()
    };
    let reqq = b"d4:reqqi3ee";
    let message = match rng.below(20) {
        0 => Message::Choke,
        1..4 => Message::Unchoke,
        4 => Message::Interested,
        5 => Message::NotInterested,
        6 | 7 => Message::Have(piece),
        8 => Message::Bitfield(&field),
        9..12 => Message::Request(range),
        12 => Message::Cancel(range),
        13 => Message::HaveAll,
        14 => Message::HaveNone,
        15 => Message::Reject(range),
        16 => Message::AllowedFast(piece),
        17 => Message::Suggest(piece),
        18 => Message::Extended {
            id: 0,
            payload: reqq,
        },
        _ => Message::KeepAlive,
    };
    rig.say(n, &message);
}

/// Hears the peer and answers some of what it is asked for.
fn answer_some(rig: &mut Rig, n: usize, content: u64, rng: &mut Rng) {
    for raw in rig.requests(n) {
        match rng.below(8) {
            0 => rig.say(n, &Message::Reject(raw)),
            1 => {}
            _ => rig.send(n, raw, content),
        }
    }
}

fn storm(seed: u64) {
    let mut rng = Rng::new(seed);
    let pieces = 1 + rng.below(24) as u32;
    let setup = Setup {
        pieces,
        have: (0..pieces).filter(|_| rng.one_in(4)).collect(),
        partial: (0..pieces)
            .filter(|_| rng.one_in(6))
            .map(|piece| (piece, vec![0, 2]))
            .collect(),
        buffers: 6 + rng.index(60),
        assembly_blocks: 8 + rng.below(40),
        seed,
        ..Setup::default()
    };
    let mut rig = Rig::new(&setup);
    rig.disk_at_once = rng.one_in(2);
    for _ in 0..400 {
        let n = rng.index(rig.peers.len().max(1));
        let open = rig.peers.get(n).is_some_and(|peer| peer.closed.is_none());
        match rng.below(12) {
            0 | 1 => {
                rig.connect(rng.one_in(2));
            }
            2 if open && rng.one_in(4) => rig.close(n),
            3 => {
                let span = Duration::from_millis(100 * (1 + rng.below(20)));
                rig.pass(span);
            }
            4 if rng.one_in(20) => rig.pass(Duration::from_secs(65)),
            5 | 6 => {
                rig.serve();
                rig.act();
            }
            7 | 8 if open => answer_some(&mut rig, n, 0, &mut rng),
            9 if open && n.is_multiple_of(5) => answer_some(&mut rig, n, n as u64 + 1, &mut rng),
            _ if open => any_word(&mut rig, n, &mut rng),
            _ => {}
        }
    }
    for addr in rig.banned() {
        let liar = rig.peers.iter().position(|peer| peer.addr == addr).unwrap();
        assert!(liar.is_multiple_of(5), "peer {liar} sent no wrong block");
    }
    while rig.serve() {
        rig.act();
    }
    // Whatever they did: with one good seed it comes to its end.
    rig.disk_at_once = true;
    let seed = rig.connect_seed();
    for _ in 0..1_500 {
        rig.pass(Duration::from_millis(100));
        for n in 0..seed {
            rig.hear(n);
        }
        rig.answer_all(&[(seed, 0)]);
        if rig.is_complete() {
            break;
        }
    }
    assert!(rig.is_complete(), "{:?}", rig.node.stats(rig.key));
    rig.stop();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn nothing_is_lost_whatever_peers_say(seed: u64) {
        storm(seed);
    }

    /// Liars among honest seeds, all served in random order: the liars are caught, nobody else is, and
    /// the rest comes to its end.
    #[test]
    fn liars_are_caught_and_only_they(seed: u64) {
        let mut rng = Rng::new(seed);
        let pieces = 10 + rng.below(30) as u32;
        let mut rig = Rig::new(&Setup { pieces, seed, ..Setup::default() });
        let peers = 3 + rng.index(8);
        let liars = 1 + rng.index(peers - 1);
        for _ in 0..peers {
            rig.connect_seed();
        }
        let mut owed: Vec<Vec<RawBlock>> = vec![Vec::new(); peers];
        let mut lied = vec![false; peers];
        for _ in 0..200_000 {
            if rig.is_complete() {
                break;
            }
            let n = rng.index(peers);
            if rig.peers[n].closed.is_some() {
                continue;
            }
            for said in rig.hear(n) {
                match said {
                    Said::Request(raw) => owed[n].push(raw),
                    Said::Cancel(raw) => owed[n].retain(|other| *other != raw),
                    _ => {}
                }
            }
            if owed[n].is_empty() {
                rig.pass(Duration::from_millis(100));
                continue;
            }
            let at = rng.index(owed[n].len());
            let raw = owed[n].remove(at);
            let lie = n < liars && rng.one_in(3);
            lied[n] |= lie;
            rig.send(n, raw, if lie { n as u64 + 1 } else { 0 });
        }
        prop_assert!(rig.is_complete(), "{:?}", rig.node.stats(rig.key));
        for addr in rig.banned() {
            let n = rig.peers.iter().position(|peer| peer.addr == addr).unwrap();
            prop_assert!(lied[n], "peer {n} never lied");
        }
        // They lie in several pieces at once, each of which is lost, and in the end game blocks come twice.
        let wasted = rig.node.stats(rig.key).unwrap().swarm.wasted / u64::from(BLOCK);
        let most = (8 * 4 * liars + 8 * peers) as u64;
        prop_assert!(wasted <= most, "{wasted} of {most} blocks");
        rig.stop();
    }
}

#[test]
fn a_block_that_nobody_asked_for_ends_the_connection() {
    let mut rig = Rig::new(&Setup::default());
    let n = rig.connect_seed();
    let asked = rig.requests(n);
    rig.send(n, asked[0], 0);
    rig.send(n, asked[0], 0);
    let why = CloseReason::Misbehaved(Misbehaved::Unrequested);
    assert_eq!(rig.peers[n].closed, Some(why));
    rig.stop();
}
