//! What the network thread can have of files without waiting, and what it sees of changes (G10).
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

use common::{F, Rig, Sample, TempDir, lazy, spec};
use torr_base::{BLOCK_LEN, RawBlock};
use torr_disk::{DiskConfig, Server};
use torr_store::{BlockPool, BufSource, FileSource, Found, LoadError};

fn sample() -> Sample {
    let files = [
        F::Plain("a", 100_000),
        F::Pad(31_072),
        F::Plain("b", 65_536 + 5_000),
        F::Plain("c", 3),
        F::Plain("d", 200_000),
    ];
    Sample::folder(&files, 65_536)
}

/// Everything is there and open.
fn served(dir: &TempDir, sample: &Sample, settled_after: Duration) -> (Rig, Server) {
    for (name, bytes) in sample.files() {
        let path = dir.join("out").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    let mut rig = Rig::new(DiskConfig {
        settled_after,
        ..lazy()
    });
    let opened = rig.open(spec(sample, dir)).unwrap();
    assert!(opened.have.is_full());
    let mut server = rig.disk.server();
    server.add(rig.id(), &opened.served.unwrap());
    (rig, server)
}

fn blocks(sample: &Sample) -> Vec<RawBlock> {
    let g = sample.geometry();
    let blocks = g.pieces().flat_map(|piece| {
        let all = 0..g.block_count(piece);
        all.map(move |index| g.block_at(piece, index).raw())
    });
    blocks.collect()
}

fn right(sample: &Sample, range: RawBlock) -> &[u8] {
    &sample.piece(range.piece)[range.offset as usize..][..range.len as usize]
}

#[test]
fn every_block_can_be_read_and_those_of_one_file_sent() {
    let (dir, sample) = (TempDir::new(), sample());
    for settled in [true, false] {
        let after = if settled { 0 } else { 3_600 };
        let (rig, mut server) = served(&dir, &sample, Duration::from_secs(after));
        let mut pool = BlockPool::with_bytes(1 << 20);
        let mut buf = pool.take().unwrap();
        let mut sendable = 0;
        for range in blocks(&sample) {
            let found = server.look(rig.id(), range);
            assert_ne!(found, Found::Cold, "{range:?}");
            if found == Found::Sendable {
                sendable += 1;
                let (file, at) = server.place(rig.id(), range).unwrap();
                let mut bytes = vec![0; range.len as usize];
                let n = rustix::io::pread(file, &mut bytes, at).unwrap();
                assert_eq!(n, bytes.len());
                assert!(bytes == right(&sample, range), "{range:?}");
            }
            assert!(server.read(rig.id(), range, &mut buf), "{range:?}");
            let bytes = &buf.as_ref()[..range.len as usize];
            assert!(bytes == right(&sample, range), "{range:?}");
        }
        // All but those with padding or an end of a file in them, and none of files that are new.
        assert_eq!(sendable > blocks(&sample).len() / 2, settled, "{sendable}");
        let none = |storage, file| panic!("{storage:?} {file} was not changed");
        server.changes(none);
        drop(rig);
    }
}

#[test]
fn a_run_is_read_at_one_go_as_long_as_its_file_is_what_it_was() {
    let (dir, sample) = (TempDir::new(), sample());
    let (rig, mut server) = served(&dir, &sample, Duration::from_secs(3_600));
    let mut pool = BlockPool::with_bytes(1 << 20);
    let mut bufs: Vec<_> = (0..8).map(|_| pool.take().unwrap()).collect();
    let all = blocks(&sample);
    let (mut good, mut bad) = (0, 0);
    for run in all.windows(8) {
        let read = server.read_run(rig.id(), run, &mut bufs);
        for (range, buf) in run.iter().zip(&bufs).filter(|_| read) {
            assert!(buf.as_ref()[..range.len as usize] == *right(&sample, *range));
        }
        good += u32::from(read);
        bad += u32::from(!read);
    }
    assert!(
        good >= 4 && bad >= 4,
        "those over an end of a file are not: {good} {bad}"
    );
    let last = all.len() - 8;
    assert!(server.read_run(rig.id(), &all[last..], &mut bufs));
    let path = dir.join("out/top/d");
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(&[0], 199_999).unwrap();
    assert!(
        !server.read_run(rig.id(), &all[last..], &mut bufs),
        "it looks different"
    );
}

#[test]
fn a_change_is_seen_and_each_piece_is_hashed_before_it_is_read_again() {
    let (dir, sample) = (TempDir::new(), sample());
    let (rig, mut server) = served(&dir, &sample, Duration::ZERO);
    let mut pool = BlockPool::with_bytes(1 << 20);
    let mut buf = pool.take().unwrap();
    let g = sample.geometry();
    let first = g.block_at(g.piece(0).unwrap(), 0).raw();
    assert_eq!(server.look(rig.id(), first), Found::Sendable);
    // Piece 0 stays right, piece 1 does not.
    let path = dir.join("out/top/a");
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    let wrong = !sample.piece(1)[7];
    file.write_all_at(&[wrong], 65_536 + 7).unwrap();
    assert!(
        !server.read(rig.id(), first, &mut buf),
        "it looks different"
    );
    assert_eq!(server.look(rig.id(), first), Found::Cold);
    let mut changed = Vec::new();
    server.changes(|storage, file| changed.push((storage, file)));
    assert_eq!(changed, [(rig.id(), 0)]);
    assert!(rig.load(first).unwrap() == right(&sample, first));
    assert_eq!(rig.recheck(1), Err(LoadError::Lost));
    assert_eq!(rig.recheck(0), Ok(()));
    // All of it was looked at: it is as good as any file.
    assert_eq!(server.look(rig.id(), first), Found::Sendable);
    drop((rig, server));
    // And the record says what is lost.
    let mut rig = Rig::new(lazy());
    let opened = rig.open(spec(&sample, &dir)).unwrap();
    let missing = g.pieces().filter(|piece| !opened.have.get(*piece));
    assert_eq!(missing.map(|p| p.get()).collect::<Vec<_>>(), [1]);
}

#[test]
fn our_own_writes_are_no_changes() {
    let (dir, sample) = (TempDir::new(), Sample::single("one", 40 * 65_536, 65_536));
    let mut rig = Rig::new(lazy());
    let opened = rig.open(spec(&sample, &dir)).unwrap();
    let mut server = rig.disk.server();
    server.add(rig.id(), &opened.served.unwrap());
    for piece in sample.all() {
        rig.commit(&sample, &[piece]).unwrap();
        // What is there is read all the while.
        for earlier in [0, piece / 2, piece] {
            assert!(rig.load_piece(&sample, earlier).unwrap() == sample.piece(earlier));
        }
        server.changes(|_, _| panic!("nobody changed it"));
    }
}

/// A writer and several readers of one file at the same time.
#[test]
fn reads_beside_our_own_writes_see_no_change() {
    let (dir, sample) = (TempDir::new(), Sample::single("one", 64 * 65_536, 65_536));
    let mut rig = Rig::new(lazy());
    let opened = rig.open(spec(&sample, &dir)).unwrap();
    let mut server = rig.disk.server();
    server.add(rig.id(), &opened.served.unwrap());
    rig.commit(&sample, &[0]).unwrap();
    let g = sample.geometry();
    let range = g.block_at(g.piece(0).unwrap(), 1).raw();
    let began = Instant::now();
    let mut jobs = 0;
    for piece in 1..64 {
        let commit = torr_store::PieceCommit {
            hashed: torr_store::HashState::default(),
            piece: g.piece(piece).unwrap(),
            blocks: rig.blocks(sample.piece(piece)),
            digests: false,
        };
        rig.submit(torr_store::DiskTask::Commit {
            soon: true,
            pieces: vec![commit],
        });
        let buf = rig.blocks(&[0; BLOCK_LEN as usize]).remove(0);
        rig.submit(torr_store::DiskTask::Load { range, buf });
        jobs += 2;
    }
    for _ in 0..jobs {
        match rig.answer().result {
            torr_store::DiskResult::Committed { pieces } => {
                assert!(pieces.iter().all(|piece| piece.result.is_ok()));
            }
            torr_store::DiskResult::Loaded { result, buf, .. } => {
                assert_eq!(result, Ok(()));
                assert!(buf.as_ref() == right(&sample, range));
            }
            torr_store::DiskResult::Hashed { .. }
            | torr_store::DiskResult::Spilled { .. }
            | torr_store::DiskResult::Verified(_)
            | torr_store::DiskResult::Rechecked { .. }
            | torr_store::DiskResult::Synced(_)
            | torr_store::DiskResult::Probed(_)
            | torr_store::DiskResult::Closed(_) => panic!("the answer to something else"),
        }
        server.changes(|_, _| panic!("nobody changed it"));
    }
    assert!(began.elapsed() < Duration::from_secs(60));
}
