//! Writing past the page cache, and what is done where that cannot be.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use common::{F, Rig, Sample, TempDir, lazy, spec};
use rustix::io::Errno;
use torr_disk::{Call, DiskConfig, Hook, IoMode};
use torr_store::{CommitError, StorageErrorKind};

/// How often a file of that name is opened, and written to; each write may be failed.
fn counting(
    name: &'static str,
    fail: impl Fn(u32) -> Option<i32> + Send + Sync + 'static,
) -> (Hook, Arc<AtomicU32>) {
    let (opens, writes) = (Arc::new(AtomicU32::new(0)), AtomicU32::new(0));
    let seen = Arc::clone(&opens);
    let hook = Hook::new(move |call, path| {
        if !path.ends_with(name) {
            return None;
        }
        match call {
            Call::Open => {
                seen.fetch_add(1, Ordering::Relaxed);
                None
            }
            Call::Write => fail(writes.fetch_add(1, Ordering::Relaxed)),
            Call::Create
            | Call::Read
            | Call::Resize
            | Call::Sync
            | Call::SyncAll
            | Call::Room
            | Call::LogWrite
            | Call::LogSync => None,
        }
    });
    (hook, opens)
}

fn config(io: IoMode, hook: Hook) -> DiskConfig {
    DiskConfig { io, hook, ..lazy() }
}

/// Three whole pieces and one that ends in the middle of a block.
fn single() -> Sample {
    Sample::single("one.bin", (3 << 20) + 70_001, 1 << 20)
}

fn write_all(dir: &TempDir, sample: &Sample, config: DiskConfig) -> Result<(), CommitError> {
    let mut rig = Rig::new(config);
    rig.open(spec(sample, dir)).unwrap();
    rig.commit(sample, &sample.all())?;
    for piece in sample.all() {
        assert!(rig.load_piece(sample, piece).unwrap() == sample.piece(piece));
    }
    rig.sync().unwrap();
    rig.close().unwrap();
    sample.assert_complete(&dir.join("out"));
    Ok(())
}

#[test]
fn every_way_writes_the_same() {
    for io in [IoMode::Direct, IoMode::Auto, IoMode::Buffered] {
        for dir in [TempDir::new(), TempDir::in_memory()] {
            write_all(&dir, &single(), config(io, Hook::default())).unwrap();
        }
    }
}

#[test]
fn what_may_go_past_the_cache_does() {
    // The second descriptor is what is seen of it. What is asked for soon stays where it is cheap to read.
    for (io, opens) in [
        (IoMode::Direct, 1),
        (IoMode::Auto, 0),
        (IoMode::Buffered, 0),
    ] {
        let (dir, (hook, seen)) = (TempDir::new(), counting("one.bin", |_| None));
        write_all(&dir, &single(), config(io, hook)).unwrap();
        assert_eq!(seen.load(Ordering::Relaxed), opens, "{io:?}");
    }
}

#[test]
fn room_is_reserved_around_what_goes_past_the_cache() {
    use std::os::unix::fs::MetadataExt;
    let sample = Sample::single("one.bin", (66 << 20) + 5, 1 << 20);
    for (io, reserved) in [(IoMode::Direct, 64 << 20), (IoMode::Buffered, 0)] {
        let dir = TempDir::new();
        let mut rig = Rig::new(config(io, Hook::default()));
        rig.open(spec(&sample, &dir)).unwrap();
        rig.commit(&sample, &[7]).unwrap();
        let before = std::fs::metadata(dir.join("out/one.bin")).unwrap();
        let room = before.blocks() * 512;
        assert!(
            room >= reserved && room <= reserved + (2 << 20),
            "{room} {io:?}"
        );
        assert_eq!(before.len(), 8 << 20, "the size says what was written");
        rig.commit(&sample, &[65]).unwrap();
        rig.close().unwrap();
        // What is only reserved is nothing that anybody has.
        let opened = rig.open(spec(&sample, &dir)).unwrap();
        assert_eq!(
            opened
                .have
                .iter()
                .map(|piece| piece.get())
                .collect::<Vec<_>>(),
            [7, 65]
        );
        rig.close().unwrap();
    }
}

#[test]
fn files_that_are_not_aligned_are_written_all_the_same() {
    let files = [
        F::Plain("a", 1_500_001),
        F::Plain("b", 2_000_000),
        F::Pad(1_262_143),
        F::Plain("c", 1 << 21),
        F::Plain("d/small", 5),
        F::Plain("e", (1 << 20) + 4_096),
    ];
    for piece_len in [1 << 18, 1 << 20] {
        let sample = Sample::folder(&files, piece_len);
        let dir = TempDir::new();
        write_all(&dir, &sample, config(IoMode::Direct, Hook::default())).unwrap();
    }
}

#[test]
fn where_it_is_refused_the_page_cache_serves() {
    let refused = |n| (n == 0).then_some(Errno::INVAL.raw_os_error());
    let (dir, (hook, _)) = (TempDir::new(), counting("one.bin", refused));
    write_all(&dir, &single(), config(IoMode::Direct, hook)).unwrap();
}

#[test]
fn what_is_really_wrong_is_told() {
    let full = |n| (n == 1).then_some(Errno::NOSPC.raw_os_error());
    let (dir, (hook, _)) = (TempDir::new(), counting("one.bin", full));
    let error = write_all(&dir, &single(), config(IoMode::Direct, hook)).unwrap_err();
    let CommitError::Storage(error) = error else {
        panic!("{error:?}");
    };
    assert_eq!(error.kind, StorageErrorKind::NoSpace);
    assert!(error.path.ends_with("one.bin"), "{error}");
}
