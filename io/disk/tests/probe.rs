//! G8: a storage that failed is looked at without harm, and goes on where it was.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use std::time::Duration;

use common::{Rig, Sample, TempDir, failing, flip, lazy, numbers, spec};
use torr_base::PieceIndex;
use torr_disk::{Call, DiskConfig, Hook};
use torr_store::{DiskResult, DiskTask, Room, StorageError, StorageErrorKind, StorageOp};

const PIECE: u32 = 16_384;
const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const EDQUOT: i32 = 122;

fn probe(rig: &Rig, needs: u64) -> Result<Vec<u32>, StorageError> {
    let DiskResult::Probed(result) = rig.ask(DiskTask::Probe { needs }) else {
        panic!("the answer to something else");
    };
    result.map(|lost| lost.into_iter().map(PieceIndex::get).collect())
}

fn files_under(dir: &Path) -> usize {
    let entries = std::fs::read_dir(dir).unwrap().map(Result::unwrap);
    entries
        .map(|entry| match entry.file_type().unwrap().is_dir() {
            true => files_under(&entry.path()),
            false => 1,
        })
        .sum()
}

#[test]
fn a_probe_says_what_is_wrong_and_leaves_nothing_behind() {
    let (dir, sample) = (TempDir::new(), Sample::single("one", 100_000, PIECE));
    let armed = Arc::new(AtomicI32::new(0));
    let mut rig = Rig::new(failing(Call::Write, &armed));
    rig.open(spec(&sample, &dir)).unwrap();
    rig.commit(&sample, &[0]).unwrap();
    let files = files_under(&dir.join("."));
    for (errno, kind) in [
        (EIO, StorageErrorKind::Io),
        (ENOSPC, StorageErrorKind::NoSpace),
        (EDQUOT, StorageErrorKind::NoSpace),
    ] {
        armed.store(errno, Ordering::SeqCst);
        let error = probe(&rig, 84_000).unwrap_err();
        assert_eq!((error.kind, error.op), (kind, StorageOp::Probe), "{error}");
        assert!(error.path.contains("/out"), "{error}");
    }
    armed.store(0, Ordering::SeqCst);
    assert_eq!(probe(&rig, 84_000), Ok(Vec::new()));
    // More than any disk has.
    let needs = 1 << 60;
    let error = probe(&rig, needs).unwrap_err();
    assert_eq!(error.kind, StorageErrorKind::NoSpace);
    let Some(Room { needs: told, free }) = error.room else {
        panic!("{error:?}");
    };
    assert!(told == needs && free < needs);
    assert_eq!(files_under(&dir.join(".")), files);
    rig.commit(&sample, &sample.all()).unwrap();
    rig.close().unwrap();
}

/// Of what was recorded and not synced only what is on the disk is believed, and it goes on with marks.
#[test]
fn after_a_failed_sync_a_probe_finds_out_what_is_there() {
    let (dir, sample) = (TempDir::new(), Sample::single("one", 160_000, PIECE));
    let armed = Arc::new(AtomicI32::new(0));
    let mut rig = Rig::new(failing(Call::Sync, &armed));
    rig.open(spec(&sample, &dir)).unwrap();
    rig.commit(&sample, &[0, 1]).unwrap();
    rig.sync().unwrap();
    rig.commit(&sample, &[2, 3, 4]).unwrap();
    armed.store(EIO, Ordering::SeqCst);
    assert!(rig.sync().is_err());
    assert!(probe(&rig, 1).is_err(), "it cannot be synced");
    armed.store(0, Ordering::SeqCst);
    assert!(rig.commit(&sample, &[5]).is_err(), "nobody looked yet");
    // As if the disk had lost it; and what a mark covers is not hashed again.
    flip(&dir.join("out/one"), u64::from(3 * PIECE) + 7);
    flip(&dir.join("out/one"), 7);
    assert_eq!(probe(&rig, 1), Ok(vec![3]));
    assert_eq!(probe(&rig, 1), Ok(vec![]));
    flip(&dir.join("out/one"), 7);
    rig.commit(&sample, &[3, 5]).unwrap();
    rig.sync().unwrap();
    rig.close().unwrap();
    let opened = rig.open(spec(&sample, &dir)).unwrap();
    assert_eq!(numbers(&opened.have), [0, 1, 2, 3, 4, 5]);
    rig.close().unwrap();
}

/// What could not be read is read again before all is well.
#[test]
fn a_place_that_cannot_be_read_is_looked_at_again() {
    let (dir, sample) = (TempDir::new(), Sample::single("one", 100_000, PIECE));
    let armed = Arc::new(AtomicI32::new(0));
    let mut rig = Rig::new(failing(Call::Read, &armed));
    rig.open(spec(&sample, &dir)).unwrap();
    rig.commit(&sample, &sample.all()).unwrap();
    armed.store(EIO, Ordering::SeqCst);
    assert!(rig.load_piece(&sample, 2).is_err());
    let error = probe(&rig, 0).unwrap_err();
    assert_eq!((error.op, error.errno), (StorageOp::Read, Some("EIO")));
    armed.store(0, Ordering::SeqCst);
    assert_eq!(probe(&rig, 0), Ok(vec![]));
    assert!(rig.load_piece(&sample, 2).unwrap() == sample.piece(2));
    rig.close().unwrap();
}

/// A device that failed is let alone: jobs are answered without asking it again and again.
#[test]
fn a_failing_device_is_not_hammered() {
    let (dir, sample) = (TempDir::new(), Sample::single("one", 100 * 16_384, PIECE));
    let writes = Arc::new(AtomicU32::new(0));
    let broken = Arc::new(AtomicBool::new(true));
    let (count, fails) = (Arc::clone(&writes), Arc::clone(&broken));
    let hook = Hook::new(move |call, _| {
        if call != Call::Write || !fails.load(Ordering::SeqCst) {
            return None;
        }
        count.fetch_add(1, Ordering::SeqCst);
        // As devices do it.
        std::thread::sleep(Duration::from_millis(50));
        Some(EIO)
    });
    let mut rig = Rig::new(DiskConfig { hook, ..lazy() });
    rig.open(spec(&sample, &dir)).unwrap();
    let begun = std::time::Instant::now();
    for piece in 0..100 {
        assert!(rig.commit(&sample, &[piece]).is_err());
    }
    let tries = 4 + begun.elapsed().as_secs() as u32;
    let asked = writes.load(Ordering::SeqCst);
    assert!(asked <= tries, "{asked} writes in {:?}", begun.elapsed());
    broken.store(false, Ordering::SeqCst);
    assert_eq!(probe(&rig, 1), Ok(vec![]));
    rig.commit(&sample, &sample.all()).unwrap();
    rig.close().unwrap();
}
