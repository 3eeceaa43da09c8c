//! Super-seeding (BEP 16): which pieces peers hear of, and when.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use common::{BLOCK, Rig, Said, Setup};
use torr_base::RawBlock;
use torr_store::Found;
use torr_wire::Message;

const TICK: Duration = Duration::from_millis(200);
/// Pieces of 1 MiB: smaller ones go several at a time.
const BLOCKS: u32 = 64;
const SECOND: Duration = Duration::from_secs(1);

fn super_seed(pieces: u32) -> Rig {
    let mut rig = Rig::new(&Setup {
        pieces,
        blocks_per_piece: BLOCKS,
        have: (0..pieces).collect(),
        super_seed: true,
        ..Setup::default()
    });
    (rig.files.found, rig.files.reads) = (Found::Resident, true);
    rig
}

fn haves(said: &[Said]) -> Vec<u32> {
    let have = |said: &Said| match said {
        Said::Have(piece) => Some(*piece),
        _ => None,
    };
    said.iter().filter_map(have).collect()
}

/// A leecher that has nothing, and what it hears of.
fn leecher(rig: &mut Rig) -> (usize, u32) {
    let n = rig.connect(true);
    rig.say(n, &Message::HaveNone);
    rig.pass(TICK);
    let said = rig.hear(n);
    // No `have_all`, no bitfield, nothing allowed fast.
    assert!(said.contains(&Said::Other(Some(15))), "{said:?}");
    assert!(
        !said
            .iter()
            .any(|word| matches!(word, Said::AllowedFast(_) | Said::Other(Some(5 | 14)))),
        "{said:?}"
    );
    let [piece] = haves(&said)[..] else {
        panic!("{said:?}")
    };
    (n, piece)
}

fn block(piece: u32, index: u32) -> RawBlock {
    RawBlock {
        piece,
        offset: index * BLOCK,
        len: BLOCK,
    }
}

/// Takes a whole piece; what else is said meanwhile.
fn take(rig: &mut Rig, n: usize, piece: u32) -> Vec<Said> {
    rig.say(n, &Message::Interested);
    for index in 0..BLOCKS {
        rig.say(n, &Message::Request(block(piece, index)));
    }
    let said = rig.hear(n);
    let blocks = said.iter().filter(|word| matches!(word, Said::Block(_)));
    assert_eq!(blocks.count() as u32, BLOCKS, "{said:?}");
    said
}

#[test]
fn each_peer_hears_of_another_piece_and_gets_no_other() {
    let mut rig = super_seed(8);
    let told: Vec<_> = (0..4).map(|_| leecher(&mut rig)).collect();
    let pieces: BTreeSet<_> = told.iter().map(|(_, piece)| *piece).collect();
    assert_eq!(pieces.len(), 4);
    let (n, piece) = told[0];
    take(&mut rig, n, piece);
    let other = told[1].1;
    rig.say(n, &Message::Request(block(other, 0)));
    assert_eq!(rig.hear(n), [Said::Reject(block(other, 0))]);
    assert_eq!(rig.peers[n].closed, None);
}

#[test]
fn the_next_piece_comes_when_the_last_was_passed_on() {
    let mut rig = super_seed(8);
    let (n, piece) = leecher(&mut rig);
    let (m, others) = leecher(&mut rig);
    // Somebody keeps our line busy, or whoever asks would be given more.
    rig.say(m, &Message::Interested);
    rig.say(m, &Message::Request(block(others, 0)));
    rig.say(n, &Message::Interested);
    for index in 0..BLOCKS {
        rig.say(n, &Message::Request(block(piece, index)));
        assert!(rig.hear(n).contains(&Said::Block(block(piece, index))));
        rig.pass(TICK);
    }
    rig.say(n, &Message::Have(piece));
    for _ in 0..10 {
        rig.pass(TICK);
        assert_eq!(haves(&rig.hear(n)), []);
    }
    rig.say(m, &Message::Have(piece));
    rig.pass(TICK);
    let next = haves(&rig.hear(n));
    assert_eq!(next.len(), 1, "{next:?}");
    assert!(next[0] != piece && next[0] != others);
}

#[test]
fn who_leaves_a_piece_hears_of_others() {
    let mut rig = super_seed(40);
    let (n, first) = leecher(&mut rig);
    let _company = leecher(&mut rig);
    let mut told = BTreeSet::from([first]);
    // It wants none of them so far, and hears of more and more.
    let mut counts = Vec::new();
    for _ in 0..8 {
        rig.pass(SECOND);
        told.extend(haves(&rig.hear(n)));
        rig.hear(1);
        counts.push(told.len());
    }
    assert_eq!(counts, [1, 3, 3, 7, 7, 15, 15, 31]);
    // Once it takes one, it is told of one at a time again.
    let wanted = *told.last().unwrap();
    take(&mut rig, n, wanted);
    rig.pass(TICK);
    told.extend(haves(&rig.hear(n)));
    assert!(told.len() <= 33, "{told:?}");
}

#[test]
fn it_ends_when_others_have_all_of_it() {
    let mut rig = super_seed(8);
    let (n, first) = leecher(&mut rig);
    let (m, second) = leecher(&mut rig);
    let halves: [Vec<u32>; 2] = [(0..5).collect(), (5..8).collect()];
    for (peer, half) in [n, m].into_iter().zip(halves) {
        for piece in half {
            rig.say(peer, &Message::Have(piece));
        }
    }
    assert!(rig.node.stats(rig.key).unwrap().swarm.super_seeding);
    for _ in 0..30 {
        rig.pass(TICK);
    }
    assert!(!rig.node.stats(rig.key).unwrap().swarm.super_seeding);
    for (peer, has) in [(n, 0..5), (m, 5..8)] {
        let said = rig.hear(peer);
        let mut told: BTreeSet<_> = haves(&said).into_iter().collect();
        told.extend([first, second]);
        told.extend(has);
        assert_eq!(told, (0..8).collect());
        let upload_only = |word: &Said| match word {
            Said::Extended(text) => text.windows(11).any(|part| part == b"upload_only"),
            _ => false,
        };
        // Rig peers announced no extensions; a later handshake tells.
        assert!(said.iter().any(upload_only), "{said:?}");
        assert!(said.iter().any(|word| matches!(word, Said::AllowedFast(_))));
    }
    // Whoever comes now hears all at once.
    let late = rig.connect(true);
    let said = rig.hear(late);
    assert!(said.contains(&Said::Other(Some(14))), "{said:?}");
}

#[test]
fn a_second_seed_ends_it_and_missing_pieces_forbid_it() {
    let mut rig = super_seed(8);
    let (n, _) = leecher(&mut rig);
    rig.connect_seed();
    rig.pass(TICK);
    assert!(!rig.node.stats(rig.key).unwrap().swarm.super_seeding);
    assert_eq!(haves(&rig.hear(n)).len(), 7);

    let mut rig = Rig::new(&Setup {
        have: vec![0, 1],
        super_seed: true,
        ..Setup::default()
    });
    let n = rig.connect(true);
    assert!(rig.hear(n).contains(&Said::Other(Some(5))));
    assert!(!rig.node.stats(rig.key).unwrap().swarm.super_seeding);
}
