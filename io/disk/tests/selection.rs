//! Files that are not wanted, that are not stored, that have no bytes, and that are many.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use common::{F, Rig, Sample, TempDir, lazy, numbers, spec, state_of};
use torr_disk::{Call, DiskConfig, Hook, OpenWarning, StorageSpec};

const PIECE: u32 = 16_384;

fn some(sample: &Sample, dir: &TempDir, wanted: &[bool]) -> StorageSpec {
    StorageSpec {
        wanted: wanted.to_vec(),
        ..spec(sample, dir)
    }
}

/// `b` lies between `a` and `c` and shares a piece with each.
fn three() -> Sample {
    Sample::folder(
        &[
            F::Plain("a", 20_000),
            F::Plain("x/b", 40_000),
            F::Plain("c", 20_000),
        ],
        PIECE,
    )
}

/// Two workers need the file of edges at once, and one of them is faster.
#[test]
fn the_file_of_edges_may_be_made_by_another_worker() {
    let (dir, sample) = (TempDir::new(), three());
    let state = dir.join("state/torrents");
    let hook = Hook::new(move |call, name| {
        if call == Call::Create && name == "parts" {
            let own = fs::read_dir(&state).unwrap().next().unwrap().unwrap();
            fs::write(own.path().join(name), b"").unwrap();
        }
        None
    });
    let mut rig = Rig::new(DiskConfig { hook, ..lazy() });
    rig.open(some(&sample, &dir, &[true, false, true])).unwrap();
    rig.commit(&sample, &[1]).unwrap();
    assert!(rig.load_piece(&sample, 1).unwrap() == sample.piece(1));
    rig.close().unwrap();
}

#[test]
fn an_unwanted_file_is_not_made_and_its_edges_are_kept() {
    let (dir, sample) = (TempDir::new(), three());
    let mut rig = Rig::new(lazy());
    rig.open(some(&sample, &dir, &[true, false, true])).unwrap();
    rig.commit(&sample, &[0, 1, 3, 4]).unwrap();
    assert!(!dir.join("out/top/x").exists());
    for piece in [0, 1, 3, 4] {
        assert!(rig.load_piece(&sample, piece).unwrap() == sample.piece(piece));
    }
    rig.close().unwrap();
    let names: Vec<_> = sample.files();
    for n in [0, 2] {
        assert!(fs::read(dir.join("out").join(&names[n].0)).unwrap() == names[n].1);
    }
    // Still unwanted: nothing is hashed, nothing lost.
    let opened = rig.open(some(&sample, &dir, &[true, false, true])).unwrap();
    assert_eq!(
        (numbers(&opened.have), opened.checked),
        (vec![0, 1, 3, 4], 0)
    );
    rig.close().unwrap();
    // Wanted now: its edges are in place at once.
    let opened = rig.open(some(&sample, &dir, &[true; 3])).unwrap();
    assert_eq!(
        (numbers(&opened.have), opened.checked),
        (vec![0, 1, 3, 4], 0)
    );
    let b = fs::read(dir.join("out/top/x/b")).unwrap();
    assert!(b[..12_000] == sample.bytes[20_000..32_000]);
    assert!(b[30_000..] == sample.bytes[50_000..60_000]);
    rig.commit(&sample, &[2]).unwrap();
    rig.close().unwrap();
    sample.assert_complete(&dir.join("out"));
    let opened = rig.open(some(&sample, &dir, &[true, false, true])).unwrap();
    assert!(opened.have.is_full() && opened.checked == 0);
}

/// Killed at each system call while the edges move into place: never a piece claimed that is not there,
/// never a file refused.
#[test]
fn a_kill_while_edges_are_moved_costs_nothing() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    for stop_at in 0..40 {
        let (dir, sample) = (TempDir::new(), three());
        let mut rig = Rig::new(lazy());
        rig.open(some(&sample, &dir, &[true, false, true])).unwrap();
        rig.commit(&sample, &[0, 1, 3, 4]).unwrap();
        rig.close().unwrap();
        let count = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&count);
        let mut failing = Rig::new(DiskConfig {
            hook: Hook::new(move |_, _| {
                (counted.fetch_add(1, Ordering::Relaxed) >= stop_at).then_some(5)
            }),
            ..lazy()
        });
        let failed = failing.open(some(&sample, &dir, &[true; 3])).is_err();
        drop(failing);
        let opened = rig.open(some(&sample, &dir, &[true; 3])).unwrap();
        assert_eq!(numbers(&opened.have), [0, 1, 3, 4], "stopped at {stop_at}");
        rig.commit(&sample, &[2]).unwrap();
        rig.close().unwrap();
        sample.assert_complete(&dir.join("out"));
        if !failed {
            assert!(stop_at > 5);
            return;
        }
    }
    panic!("opening takes more calls than this test can count");
}

#[test]
fn a_lost_parts_file_is_noticed() {
    let (dir, sample) = (TempDir::new(), three());
    let mut rig = Rig::new(lazy());
    rig.open(some(&sample, &dir, &[true, false, true])).unwrap();
    rig.commit(&sample, &[0, 1, 3, 4]).unwrap();
    rig.close().unwrap();
    fs::remove_file(state_of(&dir).join("parts")).unwrap();
    let opened = rig.open(some(&sample, &dir, &[true, false, true])).unwrap();
    assert_eq!(numbers(&opened.have), [0, 4]);
}

#[test]
fn a_foreign_file_in_the_place_of_an_unwanted_one_is_left_alone() {
    let (dir, sample) = (TempDir::new(), three());
    fs::create_dir_all(dir.join("out/top/x")).unwrap();
    fs::write(dir.join("out/top/x/b"), b"mine").unwrap();
    let mut rig = Rig::new(lazy());
    rig.open(some(&sample, &dir, &[true, false, true])).unwrap();
    rig.commit(&sample, &[0, 1, 3, 4]).unwrap();
    rig.close().unwrap();
    let opened = rig.open(some(&sample, &dir, &[true, false, true])).unwrap();
    assert_eq!(
        (numbers(&opened.have), opened.checked),
        (vec![0, 1, 3, 4], 0)
    );
    rig.close().unwrap();
    assert!(rig.open(some(&sample, &dir, &[true; 3])).is_err());
    assert_eq!(fs::read(dir.join("out/top/x/b")).unwrap(), b"mine");
}

/// `--overwrite` is no leave to touch what was not chosen.
#[test]
fn an_unwanted_file_is_not_overwritten_either() {
    let (dir, sample) = (TempDir::new(), three());
    fs::create_dir_all(dir.join("out/top/x")).unwrap();
    for len in [4, 50_000] {
        let mine = vec![5; len];
        fs::write(dir.join("out/top/x/b"), &mine).unwrap();
        let mut rig = Rig::new(lazy());
        rig.open(StorageSpec {
            on_existing: torr_disk::OnExisting::Overwrite,
            ..some(&sample, &dir, &[true, false, true])
        })
        .unwrap();
        rig.commit(&sample, &[0, 1, 3, 4]).unwrap();
        rig.close().unwrap();
        assert!(fs::read(dir.join("out/top/x/b")).unwrap() == mine);
    }
}

#[test]
fn padding_is_neither_stored_nor_missed() {
    let dir = TempDir::new();
    let sample = Sample::folder(
        &[
            F::Plain("a", 20_000),
            F::Pad(12_768),
            F::Plain("b", 5),
            F::Pad(16_379),
            F::Plain("c", 30_000),
        ],
        PIECE,
    );
    let mut rig = Rig::new(lazy());
    rig.open(spec(&sample, &dir)).unwrap();
    rig.commit(&sample, &sample.all()).unwrap();
    for piece in sample.all() {
        assert!(rig.load_piece(&sample, piece).unwrap() == sample.piece(piece));
    }
    rig.close().unwrap();
    sample.assert_complete(&dir.join("out"));
    assert!(!dir.join("out/top/.pad").exists());
    let again = StorageSpec {
        recheck: true,
        ..spec(&sample, &dir)
    };
    assert!(rig.open(again).unwrap().have.is_full());
}

#[test]
fn files_without_bytes_folders_and_execute_bits_are_made() {
    let dir = TempDir::new();
    let sample = Sample::folder(
        &[
            F::Plain("empty", 0),
            F::Plain("deep/in/empty", 0),
            F::Exec("run", 1),
            F::Plain("end", 0),
        ],
        PIECE,
    );
    let mut rig = Rig::new(lazy());
    rig.open(spec(&sample, &dir)).unwrap();
    assert!(dir.join("out/top/deep/in/empty").exists());
    rig.commit(&sample, &[0]).unwrap();
    rig.close().unwrap();
    sample.assert_complete(&dir.join("out"));
    let mode = |name| {
        fs::metadata(dir.join("out/top").join(name))
            .unwrap()
            .permissions()
            .mode()
    };
    assert!(mode("run") & 0o100 != 0 && mode("empty") & 0o100 == 0);
    let opened = rig.open(spec(&sample, &dir)).unwrap();
    assert!(opened.have.is_full() && opened.warnings.is_empty());
    rig.close().unwrap();
    // An empty file that is not empty is somebody else's.
    fs::write(dir.join("out/top/end"), b"x").unwrap();
    assert!(rig.open(spec(&sample, &dir)).is_err());
    // Nothing but empty files: complete from the start.
    let dir = TempDir::new();
    let sample = Sample::folder(&[F::Plain("a", 0), F::Plain("b", 0)], PIECE);
    let opened = rig.open(spec(&sample, &dir)).unwrap();
    assert!(opened.have.is_full() && opened.have.is_empty());
    rig.close().unwrap();
    sample.assert_complete(&dir.join("out"));
}

#[test]
fn one_byte_is_a_torrent() {
    let dir = TempDir::new();
    let sample = Sample::single("tiny", 1, PIECE);
    let mut rig = Rig::new(lazy());
    rig.open(spec(&sample, &dir)).unwrap();
    rig.commit(&sample, &[0]).unwrap();
    rig.close().unwrap();
    sample.assert_complete(&dir.join("out"));
}

/// BEP 47 `l`. A link that would lead out is left out, and said so.
#[test]
fn links_are_made_if_they_stay_inside() {
    let dir = TempDir::new();
    let file = |path: &[&str], len: u64| {
        let path: String = path.iter().map(|p| format!("{}:{p}", p.len())).collect();
        format!("d6:lengthi{len}e4:pathl{path}ee")
    };
    let target = |parts: &[&str]| {
        let parts: String = parts.iter().map(|p| format!("{}:{p}", p.len())).collect();
        format!("12:symlink pathl{parts}e")
    };
    let bytes = vec![9; 10];
    let hash: [u8; 20] = <sha1::Sha1 as sha1::Digest>::digest(&bytes).into();
    // Keys in order: attr, length, path, symlink path.
    let link = |path: &[&str], to: &[&str]| {
        let path: String = path.iter().map(|p| format!("{}:{p}", p.len())).collect();
        format!("d4:attr1:l6:lengthi0e4:pathl{path}e{}e", target(to))
    };
    let mut torrent = Vec::new();
    torrent.extend_from_slice(b"d4:infod5:filesl");
    torrent.extend_from_slice(file(&["d", "real"], 10).as_bytes());
    torrent.extend_from_slice(link(&["d", "e", "link"], &["d", "real"]).as_bytes());
    torrent.extend_from_slice(link(&["out"], &["..", "..", "etc", "passwd"]).as_bytes());
    torrent.extend_from_slice(b"e4:name3:top12:piece lengthi16384e6:pieces20:");
    torrent.extend_from_slice(&hash);
    torrent.extend_from_slice(b"ee");
    let sample = Sample::from_torrent(&torrent, bytes);
    let mut rig = Rig::new(lazy());
    for _ in 0..2 {
        let opened = rig.open(spec(&sample, &dir)).unwrap();
        rig.commit(&sample, &[0]).unwrap();
        rig.close().unwrap();
        let link = dir.join("out/top/d/e/link");
        assert_eq!(fs::read_link(&link).unwrap().to_str(), Some("../../d/real"));
        assert!(fs::read(&link).unwrap() == [9; 10]);
        // Whatever became of the other: it does not lead out.
        if let Ok(text) = fs::read_link(dir.join("out/top/out")) {
            assert!(!text.to_str().unwrap().contains(".."), "{text:?}");
        }
        assert_eq!(opened.warnings, []);
    }
    fs::remove_file(dir.join("out/top/d/e/link")).unwrap();
    fs::write(dir.join("out/top/d/e/link"), b"mine").unwrap();
    let opened = rig.open(spec(&sample, &dir)).unwrap();
    assert!(matches!(
        opened.warnings[..],
        [OpenWarning::LinkLeftOut { .. }]
    ));
}

#[test]
fn space_is_reserved_only_on_demand() {
    let dir = TempDir::new();
    let sample = Sample::single("one", 1 << 20, PIECE);
    let mut rig = Rig::new(lazy());
    rig.open(spec(&sample, &dir)).unwrap();
    rig.commit(&sample, &[63]).unwrap();
    let blocks = |dir: &TempDir| fs::metadata(dir.join("out/one")).unwrap().blocks() * 512;
    assert!(blocks(&dir) < 100_000);
    rig.close().unwrap();
    let reserving = StorageSpec {
        preallocate: true,
        ..spec(&sample, &dir)
    };
    rig.open(reserving).unwrap();
    assert!(blocks(&dir) >= 1 << 20);
    rig.commit(&sample, &sample.all()).unwrap();
    rig.close().unwrap();
    sample.assert_complete(&dir.join("out"));
}

#[test]
fn twenty_thousand_files_need_few_descriptors_and_few_syncs() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    let dir = TempDir::in_memory();
    let names: Vec<&'static str> = (0..20_000)
        .map(|n| &*Box::leak(format!("{}/{n}", n % 50).into_boxed_str()))
        .collect();
    let files: Vec<F> = names.iter().map(|name| F::Plain(name, 700)).collect();
    let sample = Sample::folder(&files, 1 << 18);
    let syncs = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&syncs);
    let config = DiskConfig {
        open_files_max: 32,
        hook: Hook::new(move |call, _| {
            if matches!(call, Call::Sync | Call::SyncAll) {
                counted.fetch_add(1, Ordering::Relaxed);
            }
            None
        }),
        ..DiskConfig::default()
    };
    let mut rig = Rig::new(config);
    let begun = std::time::Instant::now();
    rig.open(spec(&sample, &dir)).unwrap();
    let open = begun.elapsed();
    rig.commit(&sample, &sample.all()).unwrap();
    let open_now = fs::read_dir("/proc/self/fd").unwrap().count();
    assert!(open_now < 200, "{open_now} descriptors");
    let written = begun.elapsed();
    rig.close().unwrap();
    let closed = begun.elapsed();
    sample.assert_complete(&dir.join("out"));
    let syncs = syncs.load(Ordering::Relaxed);
    assert!(syncs < 40, "{syncs} syncs");
    let again = std::time::Instant::now();
    let opened = rig.open(spec(&sample, &dir)).unwrap();
    assert!(opened.have.is_full() && opened.checked == 0);
    let reopened = again.elapsed();
    eprintln!(
        "20,000 files: open {open:?}, written {written:?}, closed {closed:?}, {syncs} syncs, reopened in {reopened:?}"
    );
    assert!(reopened < std::time::Duration::from_secs(2));
}
