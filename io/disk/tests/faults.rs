//! G8, G11: a disk that says no, at every call and in every way. Blocks always come back, what was
//! answered with `Ok` is there, and opening again goes on from it.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

use common::{F, Rig, Sample, TempDir, failing, lazy, numbers, spec};
use torr_disk::{Call, DiskConfig, Hook, StorageSpec};
use torr_store::{
    BufSource, CommitError, DiskResult, DiskTask, LoadError, StorageError, StorageErrorKind,
    StorageOp,
};

const PIECE: u32 = 16_384;
const EIO: i32 = 5;
const EMFILE: i32 = 24;
const ENOSPC: i32 = 28;
const EROFS: i32 = 30;
const EDQUOT: i32 = 122;

fn sample() -> Sample {
    Sample::folder(
        &[
            F::Plain("a", 70_000),
            F::Plain("e", 0),
            F::Plain("x/c", 90_000),
        ],
        PIECE,
    )
}

fn storage_error(error: CommitError) -> StorageError {
    match error {
        CommitError::Storage(error) => error,
        CommitError::HashMismatch => panic!("the hash was right"),
    }
}

#[test]
fn every_reason_is_named_with_file_and_place_and_passes() {
    let none: Option<u64> = None;
    for (call, errno, kind, op, offset) in [
        (
            Call::Write,
            ENOSPC,
            StorageErrorKind::NoSpace,
            StorageOp::Write,
            Some(PIECE.into()),
        ),
        (
            Call::Write,
            EDQUOT,
            StorageErrorKind::NoSpace,
            StorageOp::Write,
            Some(PIECE.into()),
        ),
        (
            Call::Write,
            EIO,
            StorageErrorKind::Io,
            StorageOp::Write,
            Some(PIECE.into()),
        ),
        (
            Call::Write,
            EROFS,
            StorageErrorKind::Denied,
            StorageOp::Write,
            Some(PIECE.into()),
        ),
        (
            Call::Open,
            EMFILE,
            StorageErrorKind::TooManyFiles,
            StorageOp::Open,
            none,
        ),
        (
            Call::LogWrite,
            ENOSPC,
            StorageErrorKind::NoSpace,
            StorageOp::Log,
            none,
        ),
    ] {
        let (dir, sample) = (TempDir::new(), sample());
        let armed = Arc::new(AtomicI32::new(0));
        let mut rig = Rig::new(DiskConfig {
            open_files_max: 1,
            ..failing(call, &armed)
        });
        rig.open(spec(&sample, &dir)).unwrap();
        rig.commit(&sample, &[0]).unwrap();
        // Pushes the first file out of the cache.
        rig.commit(&sample, &[9]).unwrap();
        armed.store(errno, Ordering::SeqCst);
        let error = storage_error(rig.commit(&sample, &[1]).unwrap_err());
        assert_eq!(
            (error.kind, error.op, error.offset),
            (kind, op, offset),
            "{error}"
        );
        let place = if op == StorageOp::Log {
            "/log"
        } else {
            "out/top/a"
        };
        assert!(error.path.ends_with(place), "{error}");
        armed.store(0, Ordering::SeqCst);
        rig.commit(&sample, &sample.all()).unwrap();
        rig.close().unwrap();
        sample.assert_complete(&dir.join("out"));
    }
}

/// A failed sync may have lost what it was to save: no mark is set any more, and the next one hashes.
#[test]
fn after_a_failed_sync_nothing_is_called_durable() {
    let (dir, sample) = (TempDir::new(), sample());
    let armed = Arc::new(AtomicI32::new(0));
    let mut rig = Rig::new(failing(Call::Sync, &armed));
    rig.open(spec(&sample, &dir)).unwrap();
    rig.commit(&sample, &[0, 1]).unwrap();
    rig.sync().unwrap();
    rig.commit(&sample, &[2, 3]).unwrap();
    armed.store(EIO, Ordering::SeqCst);
    let error = rig.sync().unwrap_err();
    assert_eq!(
        (error.kind, error.op),
        (StorageErrorKind::Io, StorageOp::Sync)
    );
    armed.store(0, Ordering::SeqCst);
    assert!(rig.sync().is_err());
    assert!(rig.commit(&sample, &[4]).is_err());
    assert!(rig.close().is_err());
    let opened = rig.open(spec(&sample, &dir)).unwrap();
    assert_eq!(
        (numbers(&opened.have), opened.checked),
        (vec![0, 1, 2, 3], 2)
    );
    rig.commit(&sample, &sample.all()).unwrap();
    rig.close().unwrap();
}

/// EIO at call n, for every n of a whole download: what was said to be done is found again, no file is
/// refused, and the download comes to its end.
#[test]
fn an_error_at_any_call_loses_nothing() {
    for only in [None, Some(Call::LogWrite), Some(Call::Create)] {
        let mut n = 0;
        loop {
            let (dir, sample) = (TempDir::new(), sample());
            let count = Arc::new(AtomicU32::new(0));
            let counted = Arc::clone(&count);
            let hook = Hook::new(move |call, _| {
                let counts = only.is_none_or(|only| only == call);
                (counts && counted.fetch_add(1, Ordering::SeqCst) == n).then_some(EIO)
            });
            let mut rig = Rig::new(DiskConfig { hook, ..lazy() });
            let mut done = Vec::new();
            if rig.open(spec(&sample, &dir)).is_ok() {
                for piece in sample.all() {
                    if rig.commit(&sample, &[piece]).is_ok() {
                        done.push(piece);
                    }
                    let _ = (piece % 4 == 3).then(|| rig.sync());
                }
                let _ = rig.close();
            }
            assert_eq!(rig.pool.lock().unwrap().free(), (1 << 30) / PIECE as usize);
            drop(rig);
            let mut rig = Rig::new(lazy());
            let opened = rig
                .open(spec(&sample, &dir))
                .unwrap_or_else(|e| panic!("call {n}: {e}"));
            let have = numbers(&opened.have);
            assert!(
                done.iter().all(|p| have.contains(p)),
                "call {n}: {have:?}, not {done:?}"
            );
            rig.commit(&sample, &sample.all()).unwrap();
            rig.close().unwrap();
            sample.assert_complete(&dir.join("out"));
            if count.load(Ordering::SeqCst) <= n {
                assert!(n > 2);
                break;
            }
            n += 1;
        }
    }
}

/// G11.
#[test]
fn what_is_cut_off_a_file_is_lost_and_nothing_else() {
    let (dir, sample) = (TempDir::new(), sample());
    let mut rig = Rig::new(lazy());
    rig.open(spec(&sample, &dir)).unwrap();
    rig.commit(&sample, &sample.all()).unwrap();
    let file = fs::OpenOptions::new()
        .write(true)
        .open(dir.join("out/top/a"));
    file.unwrap().set_len(40_000).unwrap();
    assert!(rig.load_piece(&sample, 0).is_ok());
    for piece in sample.all() {
        let cut = (2..=4).contains(&piece);
        let expected = if cut { Err(LoadError::Lost) } else { Ok(()) };
        assert_eq!(rig.recheck(piece), expected, "{piece}");
    }
}

/// A file that was taken away is not made anew behind its owner's back.
#[test]
fn a_file_taken_away_is_missing() {
    let (dir, sample) = (TempDir::new(), sample());
    let mut rig = Rig::new(DiskConfig {
        open_files_max: 1,
        ..lazy()
    });
    rig.open(spec(&sample, &dir)).unwrap();
    rig.commit(&sample, &[0, 9]).unwrap();
    fs::remove_file(dir.join("out/top/a")).unwrap();
    let error = storage_error(rig.commit(&sample, &[1]).unwrap_err());
    assert_eq!(error.kind, StorageErrorKind::Missing);
    assert_eq!(
        rig.load_piece(&sample, 0).unwrap_err().kind,
        StorageErrorKind::Missing
    );
    assert!(!dir.join("out/top/a").exists());
}

/// A torrent whose disk hangs leaves a worker to the others.
#[test]
fn one_hanging_torrent_does_not_stop_another() {
    let dir = TempDir::new();
    let slow = Sample::single("slow", 64 * 16_384, PIECE);
    let quick = Sample::single("quick", 64 * 16_384, PIECE);
    let hang = Arc::new(AtomicI32::new(1));
    let held = Arc::clone(&hang);
    let hook = Hook::new(move |call, name| {
        let begun = std::time::Instant::now();
        let hangs = || held.load(Ordering::SeqCst) == 1 && begun.elapsed().as_secs() < 90;
        while call == Call::Write && name == "slow" && hangs() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        None
    });
    for workers in [1, 2, 5] {
        hang.store(1, Ordering::SeqCst);
        let _ = fs::remove_dir_all(dir.join("out"));
        let _ = fs::remove_dir_all(dir.join("state"));
        let mut rig = Rig::new(DiskConfig {
            workers,
            hook: hook.clone(),
            ..lazy()
        });
        rig.open(spec(&slow, &dir)).unwrap();
        for piece in 0..10 {
            let pieces = vec![torr_store::PieceCommit {
                piece: torr_base::PieceIndex::new(piece),
                hashed: torr_store::HashState::default(),
                blocks: rig.blocks(slow.piece(piece)),
                digests: false,
            }];
            rig.submit(DiskTask::Commit { pieces, soon: true });
        }
        rig.open(spec(&quick, &dir)).unwrap();
        rig.commit(&quick, &quick.all()).unwrap();
        rig.close().unwrap();
        hang.store(0, Ordering::SeqCst);
        for _ in 0..10 {
            let DiskResult::Committed { pieces } = rig.answer().result else {
                panic!("the answer to something else");
            };
            assert_eq!(pieces[0].result, Ok(()));
        }
    }
}

/// The real thing: a file system of 4 MiB, in a mount namespace of a child process. Needs root; says so
/// where it is not.
#[test]
fn a_full_disk_and_one_gone_read_only() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("left out: mounting a small file system needs root");
        return;
    }
    let dir = TempDir::new();
    let mount = dir.join("mount");
    fs::create_dir(&mount).unwrap();
    let test = std::env::current_exe().unwrap();
    let script = "mount -t tmpfs -o size=4m tmpfs \"$1\" && TORR_TEST_MOUNT=\"$1\" exec \"$2\" \
                  --exact inside_the_small_file_system --ignored --nocapture";
    let child = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh"])
        .args([&mount, &test])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&child.stdout).into_owned()
        + &String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success(), "{text}");
    assert!(text.contains("1 passed"), "{text}");
}

#[test]
#[ignore = "run by the test above, in a mount namespace of its own"]
fn inside_the_small_file_system() {
    let mount = PathBuf::from(std::env::var("TORR_TEST_MOUNT").unwrap());
    let dir = TempDir::new();
    let small = Sample::single("big", 6 << 20, PIECE);
    let at = |name: &str| StorageSpec {
        root: mount.join(name),
        ..spec(&small, &dir)
    };
    let mut rig = Rig::new(lazy());
    // Asked for at once, it is refused at once.
    let reserving = StorageSpec {
        preallocate: true,
        ..at("reserved")
    };
    let error = rig.open(reserving).unwrap_err();
    assert_eq!(
        (error.kind, error.op),
        (StorageErrorKind::NoSpace, StorageOp::Allocate)
    );
    fs::remove_dir_all(mount.join("reserved")).unwrap();

    let ballast = mount.join("ballast");
    fs::write(&ballast, vec![1; 1 << 20]).unwrap();
    rig.open(at("out")).unwrap();
    let error = storage_error(rig.commit(&small, &small.all()).unwrap_err());
    assert_eq!(
        (error.kind, error.op),
        (StorageErrorKind::NoSpace, StorageOp::Write)
    );
    assert!(
        error.path.ends_with("out/big") && error.offset.is_some(),
        "{error}"
    );
    // Other torrents go on.
    let (other_dir, other) = (TempDir::new(), sample());
    let mut elsewhere = Rig::new(lazy());
    elsewhere.open(spec(&other, &other_dir)).unwrap();
    elsewhere.commit(&other, &other.all()).unwrap();
    // Room again: goes on by itself, without opening anew, and nothing is lost.
    fs::remove_file(&ballast).unwrap();
    rig.commit(&small, &[383]).unwrap();
    rig.close().unwrap();
    let opened = rig.open(at("out")).unwrap();
    assert!(opened.have.count() > 150 && opened.checked == 0);
    let have = numbers(&opened.have);

    // Read-only from here on.
    rig.close().unwrap();
    let status = Command::new("mount")
        .args(["-o", "remount,ro"])
        .arg(&mount)
        .status();
    assert!(status.unwrap().success());
    let opened = rig.open(at("out")).unwrap();
    assert_eq!(numbers(&opened.have), have);
    assert!(rig.load_piece(&small, have[0]).unwrap() == small.piece(have[0]));
    let missing = small.all().into_iter().find(|p| !have.contains(p)).unwrap();
    let error = storage_error(rig.commit(&small, &[missing]).unwrap_err());
    assert_eq!(error.kind, StorageErrorKind::Denied, "{error}");
    rig.close().unwrap();
    let error = rig.open(at("new")).unwrap_err();
    let what = (error.kind, error.op);
    assert_eq!(what, (StorageErrorKind::Denied, StorageOp::Create));
    // Unmounted: the torrent is absent, and nothing is put in its place (G9).
    let status = Command::new("umount").arg(&mount).status();
    assert!(status.unwrap().success());
    let error = rig.open(at("out")).unwrap_err();
    assert_eq!(error.kind, StorageErrorKind::Absent, "{error}");
    assert_eq!(fs::read_dir(&mount).unwrap().count(), 0);
}

#[test]
fn out_of_descriptors_for_a_moment_is_no_error() {
    let (dir, sample) = (TempDir::new(), sample());
    let left = Arc::new(AtomicI32::new(0));
    let count = Arc::clone(&left);
    let hook = Hook::new(move |call, name| {
        let fails = call == Call::Open && name.starts_with("top/");
        (fails && count.fetch_sub(1, Ordering::SeqCst) > 0).then_some(EMFILE)
    });
    let mut rig = Rig::new(DiskConfig {
        open_files_max: 1,
        hook,
        ..lazy()
    });
    rig.open(spec(&sample, &dir)).unwrap();
    rig.commit(&sample, &[0, 9]).unwrap();
    left.store(1, Ordering::SeqCst);
    assert!(rig.load_piece(&sample, 0).unwrap() == sample.piece(0));
    assert!(left.load(Ordering::SeqCst) < 1);
}
