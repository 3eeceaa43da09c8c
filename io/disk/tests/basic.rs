//! The ordinary life of a storage.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{F, Rig, Sample, TempDir, flip, lazy, numbers, spec, state_of};
use torr_base::{BLOCK_LEN, RawBlock};
use torr_disk::DiskConfig;
use torr_store::{CommitError, DiskTask, StorageErrorKind};

#[test]
fn a_torrent_is_written_read_closed_and_opened_again() {
    let dir = TempDir::new();
    let sample = Sample::folder(
        &[
            F::Plain("a.bin", 100_000),
            F::Plain("sub/b.bin", 70_001),
            F::Plain("sub/deep/c.bin", 3),
            F::Plain("d.bin", 200_000),
        ],
        65_536,
    );
    let mut rig = Rig::new(DiskConfig::default());
    let opened = rig.open(spec(&sample, &dir)).unwrap();
    assert!(opened.have.is_empty() && opened.warnings.is_empty());
    assert_eq!(opened.checked, 0);
    rig.commit(&sample, &sample.all()).unwrap();
    sample.assert_complete(&dir.join("out"));
    for piece in sample.all() {
        assert!(rig.load_piece(&sample, piece).unwrap() == sample.piece(piece));
    }
    rig.close().unwrap();

    let opened = rig.open(spec(&sample, &dir)).unwrap();
    assert!(opened.have.is_full());
    assert_eq!(
        (opened.checked, opened.checked_bytes, opened.adopted),
        (0, 0, 0)
    );
    assert_eq!(opened.warnings, []);
    let odd = RawBlock {
        piece: 1,
        offset: 17,
        len: 5000,
    };
    assert!(rig.load(odd).unwrap() == sample.piece(1)[17..5017]);
    rig.close().unwrap();
    let kept = std::fs::read(state_of(&dir).join("torrent")).unwrap();
    assert!(kept == *sample.torrent);
}

#[test]
fn a_wrong_piece_comes_back_unwritten_with_a_digest_for_each_block() {
    let dir = TempDir::new();
    let sample = Sample::single("one", 3 * 40_000, 40_000);
    let mut rig = Rig::new(lazy());
    rig.open(spec(&sample, &dir)).unwrap();
    let mut wrong = sample.piece(1).to_vec();
    wrong[20_000] ^= 1;
    let done = rig.commit_bytes(
        &[(0, sample.piece(0)), (1, &wrong), (2, sample.piece(2))],
        false,
    );
    assert_eq!(done[0].result, Ok(()));
    assert_eq!(done[1].result, Err(CommitError::HashMismatch));
    assert_eq!(done[2].result, Ok(()));
    assert_eq!((done[0].digests.len(), done[1].digests.len()), (0, 3));
    let right = rig.commit_bytes(&[(1, sample.piece(1))], true);
    assert_eq!(right[0].result, Ok(()));
    let same = |i: usize| done[1].digests[i] == right[0].digests[i];
    assert!(same(0) && !same(1) && same(2));
    sample.assert_complete(&dir.join("out"));
}

#[test]
fn every_job_of_a_storage_that_is_not_open_is_answered() {
    let dir = TempDir::new();
    let sample = Sample::single("one", 40_000, 40_000);
    let mut rig = Rig::new(lazy());
    let missing = |error: CommitError| match error {
        CommitError::Storage(error) => error.kind == StorageErrorKind::Missing,
        CommitError::HashMismatch => false,
    };
    assert!(missing(rig.commit(&sample, &[0]).unwrap_err()));
    assert!(rig.load_piece(&sample, 0).is_err() && rig.sync().is_err());
    assert!(rig.spill(&sample, 0, &[0]).is_err() && rig.close().is_ok());
    assert!(missing(rig.verify(0, false).result.unwrap_err()));
    rig.open(spec(&sample, &dir)).unwrap();
    rig.close().unwrap();
    assert!(missing(rig.commit(&sample, &[0]).unwrap_err()));
}

#[test]
fn the_barrier_comes_after_everything_before_it() {
    let slow = torr_disk::Hook::new(|call, _| {
        if call == torr_disk::Call::Write {
            std::thread::sleep(std::time::Duration::from_millis(30));
        }
        None
    });
    let sample = Sample::single("one", 8 * u64::from(BLOCK_LEN), BLOCK_LEN);
    let verify = || DiskTask::Verify {
        piece: torr_base::PieceIndex::new(3),
        digests: false,
    };
    for barrier in [verify(), DiskTask::Sync, DiskTask::Close] {
        let dir = TempDir::new();
        let mut rig = Rig::new(DiskConfig {
            workers: 16,
            hook: slow.clone(),
            ..lazy()
        });
        rig.open(spec(&sample, &dir)).unwrap();
        for piece in 0..8 {
            let pieces = vec![torr_store::PieceCommit {
                piece: torr_base::PieceIndex::new(piece),
                hashed: torr_store::HashState::default(),
                blocks: rig.blocks(sample.piece(piece)),
                digests: false,
            }];
            rig.submit(DiskTask::Commit { pieces, soon: true });
        }
        let last = rig.submit(barrier);
        for n in 0..9 {
            assert_eq!(rig.answer().job == last, n == 8);
        }
        sample.assert_complete(&dir.join("out"));
    }
}

#[test]
fn what_a_kill_leaves_is_hashed_again_and_only_that() {
    let dir = TempDir::new();
    let sample = Sample::single("one", 10 * 65_536, 65_536);
    let mut rig = Rig::new(lazy());
    rig.open(spec(&sample, &dir)).unwrap();
    rig.commit(&sample, &[0, 1, 2, 3]).unwrap();
    rig.sync().unwrap();
    rig.commit(&sample, &[5, 6, 7]).unwrap();
    // As a kill does: nothing is closed. The lock goes with the process; here, with the disk.
    drop(rig);
    // What was marked is believed; what was not is looked at.
    flip(&dir.join("out/one"), 6 * 65_536 + 5);
    let mut rig = Rig::new(lazy());
    let opened = rig.open(spec(&sample, &dir)).unwrap();
    assert_eq!(numbers(&opened.have), [0, 1, 2, 3, 5, 7]);
    assert_eq!(opened.checked, 3);
    assert_eq!(opened.checked_bytes, 3 * 65_536);
    drop(rig);
    let mut rig = Rig::new(lazy());
    let opened = rig.open(spec(&sample, &dir)).unwrap();
    assert_eq!(numbers(&opened.have), [0, 1, 2, 3, 5, 7]);
    rig.commit(&sample, &[4, 6, 8, 9]).unwrap();
    rig.close().unwrap();
    sample.assert_complete(&dir.join("out"));
}

#[test]
fn progress_is_told_and_an_opening_can_be_ended() {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::{Arc, mpsc};
    let dir = TempDir::new();
    let sample = Sample::single("one", 64 * u64::from(BLOCK_LEN), BLOCK_LEN);
    std::fs::create_dir(dir.join("out")).unwrap();
    std::fs::write(dir.join("out/one"), &**sample.bytes).unwrap();
    let rig = Rig::new(lazy());
    let open = |id: u64, slow: bool| {
        let (sender, receiver) = mpsc::channel();
        let seen = Arc::new(AtomicU32::new(0));
        let told = Arc::clone(&seen);
        let progress = move |so_far: torr_disk::OpenProgress| {
            assert!(so_far.pieces_done <= 64 && so_far.pieces == 64);
            told.store(so_far.pieces_right + 1, Ordering::SeqCst);
            if slow {
                std::thread::sleep(std::time::Duration::from_millis(300));
            }
        };
        let id = torr_store::StorageId(id);
        rig.disk
            .open(id, spec(&sample, &dir), progress, move |opened| {
                let _ = sender.send(opened);
            });
        (id, seen, receiver)
    };
    let (id, seen, receiver) = open(100, true);
    while seen.load(Ordering::SeqCst) == 0 {
        std::thread::yield_now();
    }
    rig.disk.cancel_open(id);
    assert!(receiver.recv().unwrap().is_err());
    // The lock went with it.
    let (_, seen, receiver) = open(101, false);
    assert!(receiver.recv().unwrap().unwrap().have.is_full());
    assert_eq!(seen.load(Ordering::SeqCst), 65);
}

/// The names that files were given are kept: a later torr that would map them otherwise finds them.
#[test]
fn names_on_disk_are_kept() {
    use torr_store::{FRAME_LEN, NamePart, Record, encode_record};
    let dir = TempDir::new();
    let sample = Sample::folder(
        &[F::Plain("a:b\u{202e}c", 10), F::Plain("plain", 20)],
        16_384,
    );
    let mapped = sample.files()[0].0.clone();
    assert!(!mapped.contains('\u{202e}'));
    let mut rig = Rig::new(lazy());
    rig.open(spec(&sample, &dir)).unwrap();
    rig.commit(&sample, &[0]).unwrap();
    rig.close().unwrap();
    let log = state_of(&dir).join("log");
    let mut bytes = std::fs::read(&log).unwrap();
    let mut add = |name: &str| {
        for part in NamePart::split(0, name) {
            let frame = (bytes.len() / FRAME_LEN) as u64;
            encode_record(&Record::Name(part), frame, &mut bytes);
        }
        std::fs::write(&log, &bytes).unwrap();
    };
    // As if an earlier version had called it so.
    add("another name");
    std::fs::rename(
        dir.join("out").join(&mapped),
        dir.join("out/top/another name"),
    )
    .unwrap();
    let opened = rig.open(spec(&sample, &dir)).unwrap();
    assert!(opened.have.is_full());
    rig.close().unwrap();
    // A name that leads out is not one of ours.
    add("../../etc/passwd");
    let opened = rig.open(spec(&sample, &dir)).unwrap();
    assert!(opened.have.is_empty());
}
