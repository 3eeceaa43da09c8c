//! Blocks that go out: sent from their files, read from memory, loaded from the disk; and files that change.
#![allow(clippy::unwrap_used)]

mod common;

use common::{BLOCK, Rig, Said, Setup};
use torr_base::{PieceIndex, RawBlock};
use torr_node::Notice;
use torr_store::{DiskTask, Found, StorageId};
use torr_wire::{ExtendedHandshake, Extension, ExtensionIds, Message};

fn block(piece: u32, index: u32) -> RawBlock {
    RawBlock {
        piece,
        offset: index * BLOCK,
        len: BLOCK,
    }
}

/// A seed and a peer that it gives to, which has asked for so many blocks of piece 0.
fn asked(blocks: u32, found: Found, reads: bool) -> (Rig, usize) {
    let mut rig = Rig::new(&Setup {
        have: (0..8).collect(),
        ..Setup::default()
    });
    rig.disk_at_once = false;
    rig.files.found = found;
    rig.files.reads = reads;
    let peer = rig.connect(true);
    rig.say(peer, &Message::Interested);
    let said = rig.hear(peer);
    assert!(said.contains(&Said::Unchoke), "{said:?}");
    for index in 0..blocks {
        rig.say(peer, &Message::Request(block(0, index)));
    }
    (rig, peer)
}

fn blocks(said: &[Said]) -> Vec<RawBlock> {
    let blocks = said.iter().filter_map(|said| match said {
        Said::Block(raw) => Some(*raw),
        Said::Choke
        | Said::Unchoke
        | Said::Interested
        | Said::NotInterested
        | Said::Have(_)
        | Said::Request(_)
        | Said::Cancel(_)
        | Said::Reject(_)
        | Said::AllowedFast(_)
        | Said::Extended(_)
        | Said::Other(_) => None,
    });
    blocks.collect()
}

#[test]
fn what_can_be_sent_from_its_file_needs_neither_disk_nor_buffer() {
    let (mut rig, peer) = asked(4, Found::Sendable, false);
    let (free, _) = rig.node.buffers();
    let said = rig.hear(peer);
    assert_eq!(
        blocks(&said),
        (0..4).map(|n| block(0, n)).collect::<Vec<_>>()
    );
    assert!(rig.jobs.is_empty(), "{:?}", rig.jobs);
    assert_eq!(rig.node.buffers().0, free);
    let stats = rig.node.stats(rig.key).unwrap();
    assert_eq!(stats.swarm.uploaded, 4 * u64::from(BLOCK));
}

#[test]
fn what_is_in_memory_is_read_at_once() {
    let (mut rig, peer) = asked(4, Found::Resident, true);
    assert_eq!(blocks(&rig.hear(peer)).len(), 4);
    assert!(rig.jobs.is_empty());
    assert_eq!(rig.node.buffers().0, rig.node.buffers().1);
}

#[test]
fn what_is_cold_is_loaded_in_a_run_and_keeps_its_order() {
    for (found, reads) in [(Found::Cold, false), (Found::Resident, false)] {
        let (mut rig, peer) = asked(4, found, reads);
        assert_eq!(blocks(&rig.hear(peer)), []);
        rig.act();
        let wanted = if found == Found::Cold { 4 } else { 1 };
        assert_eq!(rig.jobs.len(), wanted);
        let mut got = Vec::new();
        while rig.serve() {
            rig.act();
            got.extend(blocks(&rig.hear(peer)));
            rig.act();
        }
        assert_eq!(got, (0..4).map(|n| block(0, n)).collect::<Vec<_>>());
    }
}

#[test]
fn a_changed_file_is_looked_at_again_and_what_is_lost_is_wanted_again() {
    let (mut rig, peer) = asked(2, Found::Sendable, false);
    assert_eq!(blocks(&rig.hear(peer)).len(), 2);
    rig.spoilt = vec![PieceIndex::new(3)];
    let now = rig.now;
    rig.node.handle_file_changed(now, StorageId(1), 0);
    rig.act();
    assert!(
        rig.peers[peer].closed.is_some(),
        "blocks were under way to it"
    );
    let mut looked = Vec::new();
    while let Some(job) = rig.jobs.front() {
        let DiskTask::Recheck { piece } = job.task else {
            panic!("{job:?}");
        };
        looked.push(piece.get());
        rig.serve();
        rig.act();
    }
    assert_eq!(looked, (0..8).collect::<Vec<_>>());
    let swarm = rig.node.swarm(rig.key).unwrap();
    assert!(!swarm.have().get(PieceIndex::new(3)));
    assert_eq!(swarm.have().count(), 7);
    assert!(!swarm.is_complete());
    assert!(rig.notices.contains(&Notice::Lost { pieces: 1 }));
    rig.node.check_invariants();
}

#[test]
fn who_got_nothing_from_a_file_stays_unless_it_believes_in_what_is_lost() {
    let (mut rig, peer) = asked(1, Found::Resident, true);
    assert_eq!(blocks(&rig.hear(peer)).len(), 1);
    let now = rig.now;
    rig.node.handle_file_changed(now, StorageId(1), 0);
    rig.act();
    while rig.serve() {
        rig.act();
    }
    assert!(rig.peers[peer].closed.is_none());
    rig.spoilt = vec![PieceIndex::new(0)];
    rig.node.handle_file_changed(now, StorageId(1), 0);
    rig.act();
    while rig.serve() {
        rig.act();
    }
    assert!(rig.peers[peer].closed.is_some());
}

#[test]
fn who_understands_that_a_piece_is_lost_stays() {
    let (mut rig, peer) = asked(1, Found::Resident, true);
    let hello = ExtendedHandshake {
        extensions: ExtensionIds::own(&[Extension::DontHave]),
        ..ExtendedHandshake::default()
    };
    let payload = &hello.encode();
    rig.say(peer, &Message::Extended { id: 0, payload });
    assert_eq!(blocks(&rig.hear(peer)).len(), 1);
    let now = rig.now;
    rig.spoilt = vec![PieceIndex::new(0), PieceIndex::new(5)];
    rig.node.handle_file_changed(now, StorageId(1), 0);
    rig.act();
    while rig.serve() {
        rig.act();
    }
    assert!(rig.peers[peer].closed.is_none());
    let said = rig.hear(peer);
    // It also hears that we want pieces again.
    let dont_have = |said: &&Said| matches!(said, Said::Extended(payload) if payload.len() == 4);
    let taken_back = said.iter().filter(dont_have);
    assert_eq!(taken_back.count(), 2, "{said:?}");
    rig.node.check_invariants();
}
