//! G1, G3, G4, G13: what is left after a kill, a power cut, or a damaged byte.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{F, Rig, Sample, TempDir, lazy, numbers, spec, state_of};
use torr_base::Bitfield;
use torr_disk::{Call, DiskConfig, Hook, OpenWarning, StorageSpec};
use torr_store::{FRAME_LEN, LogHeader, read_log};

const PIECE: u32 = 16_384;
/// What comes by itself comes in this time on the busiest machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Contents by path below a folder.
type Tree = BTreeMap<String, Vec<u8>>;

fn read_tree(folder: &Path) -> Tree {
    let mut out = Tree::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(at) = folders.pop() {
        for entry in fs::read_dir(at).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap();
                out.insert(name.to_str().unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    out
}

fn write_tree(folder: &Path, tree: &Tree) {
    let _ = fs::remove_dir_all(folder);
    for (name, bytes) in tree {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// What is on the disk for certain, and every moment at which the power may fail.
#[derive(Default)]
struct Power {
    synced: Tree,
    cuts: Vec<(Tree, Tree)>,
}

/// G1. A disk that keeps nothing but what was synced, and a log that is kept to its last byte (the worst
/// case: the claim survives, the bytes do not). The power fails before every system call.
#[test]
fn no_power_cut_leaves_a_piece_claimed_that_is_not_there() {
    let dir = TempDir::new();
    let sample = Sample::folder(
        &[
            F::Plain("a", 70_000),
            F::Plain("b", 3),
            F::Plain("x/c", 90_000),
        ],
        PIECE,
    );
    let power = Arc::new(Mutex::new(Power::default()));
    let (shared, out, state) = (Arc::clone(&power), dir.join("out"), dir.join("state"));
    let hook = Hook::new(move |call, name| {
        let mut power = shared.lock().unwrap();
        let state = read_tree(&state);
        // Some disks lose what was not synced, others keep its length and lose its bytes.
        let mut zeros = power.synced.clone();
        for (path, bytes) in read_tree(&out) {
            let len = bytes.len();
            zeros.entry(path).or_default().resize(len, 0);
        }
        power.cuts.push((zeros, state.clone()));
        let cut = (power.synced.clone(), state);
        power.cuts.push(cut);
        // What is synced now will be there at the next call, and not before.
        match call {
            Call::SyncAll => power.synced = read_tree(&out),
            Call::Sync => {
                let path = format!("top/{}", name.trim_start_matches("top/"));
                if let Ok(bytes) = fs::read(out.join(&path)) {
                    power.synced.insert(path, bytes);
                }
            }
            Call::Open
            | Call::Create
            | Call::Read
            | Call::Write
            | Call::Resize
            | Call::Room
            | Call::LogWrite
            | Call::LogSync => {}
        }
        None
    });
    let mut rig = Rig::new(DiskConfig { hook, ..lazy() });
    rig.open(spec(&sample, &dir)).unwrap();
    for piece in sample.all() {
        rig.commit(&sample, &[piece]).unwrap();
        if piece % 3 == 2 {
            rig.sync().unwrap();
        }
    }
    rig.close().unwrap();
    drop(rig);
    let cuts = std::mem::take(&mut power.lock().unwrap().cuts);
    assert!(cuts.len() > 40);
    let mut most = 0;
    for (n, (data, state)) in cuts.iter().enumerate() {
        write_tree(&dir.join("out"), data);
        write_tree(&dir.join("state"), state);
        let mut rig = Rig::new(lazy());
        // A file that has lost its length may look like a stranger's; then nothing is claimed.
        let opened = rig
            .open(spec(&sample, &dir))
            .unwrap_or_else(|e| panic!("cut {n}: {e}"));
        assert_all_there(&sample, &dir, &opened.have, n);
        most = most.max(opened.have.count());
        let rest = Bitfield::full(opened.have.len());
        let rest: Vec<u32> = rest.iter_and_not(&opened.have).map(|p| p.get()).collect();
        rig.commit(&sample, &rest).unwrap();
        rig.close().unwrap();
        sample.assert_complete(&dir.join("out"));
    }
    assert_eq!(most, sample.geometry().piece_count());
}

fn assert_all_there(sample: &Sample, dir: &TempDir, have: &Bitfield, n: usize) {
    let go = |_| std::ops::ControlFlow::Continue(());
    let report = torr_disk::check(&sample.info, &dir.join("out"), None, 1, &go).unwrap();
    assert!(!have.any_and_not(&report.have), "cut {n}: a false claim");
}

/// G3: the mark comes by itself, and soon: a time after what it is about was recorded, or once that is much.
#[test]
fn finished_pieces_are_marked_in_time_and_by_amount() {
    let sample = Sample::single("one", 64 * 16_384, PIECE);
    let marked = |dir: &TempDir| {
        let bytes = fs::read(state_of(dir).join("log")).unwrap();
        let (image, _) = read_log(&bytes, &header(&sample)).unwrap();
        image.durable().count()
    };
    let wait_for = |dir: &TempDir, count: u32| {
        let begun = Instant::now();
        while marked(dir) < count {
            let marked = marked(dir);
            assert!(begun.elapsed() < PATIENCE, "{marked} marked");
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    let open = |dir: &TempDir, mark_after: Duration| {
        let mut rig = Rig::new(DiskConfig {
            mark_after,
            mark_bytes: 20 * 16_384,
            unmarked_bytes_max: 40 * 16_384,
            ..DiskConfig::default()
        });
        rig.open(spec(&sample, dir)).unwrap();
        rig
    };
    // A little: after the time since it was recorded, not since the last mark or the start.
    let (dir, after) = (TempDir::new(), Duration::from_millis(500));
    let rig = open(&dir, after);
    std::thread::sleep(after + after / 4);
    let begun = Instant::now();
    rig.commit(&sample, &[0, 1]).unwrap();
    wait_for(&dir, 2);
    assert!(begun.elapsed() >= after, "{:?}", begun.elapsed());
    // Much: at once, however long the time is.
    let dir = TempDir::new();
    let rig = open(&dir, Duration::from_secs(86_400));
    rig.commit(&sample, &(0..10).collect::<Vec<_>>()).unwrap();
    rig.commit(&sample, &(10..30).collect::<Vec<_>>()).unwrap();
    wait_for(&dir, 20);
}

/// G3 is about a device: what several torrents have waiting adds up.
#[test]
fn what_waits_is_counted_over_all_torrents() {
    let (one, two) = (TempDir::new(), TempDir::new());
    let sample = Sample::single("one", 64 * 16_384, PIECE);
    let mut rig = Rig::new(DiskConfig {
        mark_bytes: 20 * 16_384,
        ..lazy()
    });
    rig.open(spec(&sample, &one)).unwrap();
    rig.commit(&sample, &(0..15).collect::<Vec<_>>()).unwrap();
    rig.open(spec(&sample, &two)).unwrap();
    rig.commit(&sample, &(0..8).collect::<Vec<_>>()).unwrap();
    let begun = Instant::now();
    for (dir, count) in [(&one, 15), (&two, 8)] {
        loop {
            let bytes = fs::read(state_of(dir).join("log")).unwrap();
            let (image, _) = read_log(&bytes, &header(&sample)).unwrap();
            if image.durable().count() == count {
                break;
            }
            assert!(begun.elapsed() < PATIENCE);
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// However slow the disk is at syncing, no more than the bound goes unmarked.
#[test]
fn commits_wait_rather_than_outrun_the_disk() {
    let (dir, sample) = (TempDir::new(), Sample::single("one", 64 * 16_384, PIECE));
    let slow = Hook::new(|call, _| {
        if call == Call::Sync {
            std::thread::sleep(Duration::from_millis(50));
        }
        None
    });
    let mut rig = Rig::new(DiskConfig {
        mark_bytes: 4 * 16_384,
        unmarked_bytes_max: 8 * 16_384,
        hook: slow,
        ..DiskConfig::default()
    });
    rig.open(spec(&sample, &dir)).unwrap();
    for piece in sample.all() {
        rig.commit(&sample, &[piece]).unwrap();
        let bytes = fs::read(state_of(&dir).join("log")).unwrap();
        let (image, _) = read_log(&bytes, &header(&sample)).unwrap();
        let open = image.have().count() - image.durable().count();
        assert!(open <= 8, "{open} pieces unmarked");
    }
}

fn header(sample: &Sample) -> LogHeader {
    LogHeader {
        info_hash: sample.info.info_hash(),
        pieces: sample.geometry().piece_count(),
        piece_len: sample.geometry().piece_len_max(),
        total: sample.geometry().total(),
        files: sample.info.map().file_count(),
    }
}

/// G13: each frame damaged in turn, and the log cut at each frame and inside it.
#[test]
fn damage_to_the_log_is_named_and_costs_that_record() {
    let (dir, sample) = (
        TempDir::new(),
        Sample::folder(
            &[
                F::Plain("a", 70_000),
                F::Plain("b", 50_000),
                F::Plain("c", 90_000),
            ],
            PIECE,
        ),
    );
    let some = || StorageSpec {
        wanted: vec![true, false, true],
        ..spec(&sample, &dir)
    };
    let mut rig = Rig::new(lazy());
    rig.open(some()).unwrap();
    for piece in [0, 1, 2, 3, 4, 7, 8] {
        rig.commit(&sample, &[piece]).unwrap();
    }
    rig.sync().unwrap();
    rig.commit(&sample, &[9]).unwrap();
    rig.commit(&sample, &[10]).unwrap();
    rig.close().unwrap();
    drop(rig);
    let all = [0, 1, 2, 3, 4, 7, 8, 9, 10];
    let (log, end) = (state_of(&dir).join("log"), state_of(&dir).join("log.end"));
    let (whole, length) = (fs::read(&log).unwrap(), fs::read(&end).unwrap());
    // The same file every time: its length is known by its inode.
    let kept = dir.join("kept");
    fs::hard_link(&log, &kept).unwrap();
    let put = |bytes: &[u8]| {
        fs::write(&kept, bytes).unwrap();
        fs::remove_file(&log).unwrap();
        fs::hard_link(&kept, &log).unwrap();
        fs::write(&end, &length).unwrap();
    };
    for at in (5..whole.len()).step_by(FRAME_LEN) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        put(&bytes);
        let opened = Rig::new(lazy()).open(some()).unwrap();
        let path = log.to_string_lossy().into_owned();
        let named = OpenWarning::LogDamaged { path, records: 1 };
        assert_eq!(opened.warnings, [named]);
        assert_all_there(&sample, &dir, &only(&opened.have, &[0, 1, 2, 3, 9, 10]), at);
        let lost = all.iter().filter(|p| !numbers(&opened.have).contains(p));
        assert!(
            lost.count() <= 1,
            "byte {at}: {:?} left",
            numbers(&opened.have)
        );
    }
    for len in (0..whole.len()).step_by(FRAME_LEN / 2) {
        put(&whole[..len]);
        let mut rig = Rig::new(lazy());
        match rig.open(some()) {
            Ok(opened) => {
                assert_eq!(opened.warnings.len(), 1, "cut at {len}");
                assert!(numbers(&opened.have).iter().all(|p| all.contains(p)));
                if len < FRAME_LEN {
                    assert!(matches!(
                        opened.warnings[0],
                        OpenWarning::LogUnreadable { .. }
                    ));
                }
                assert_all_there(
                    &sample,
                    &dir,
                    &only(&opened.have, &[0, 1, 2, 3, 9, 10]),
                    len,
                );
            }
            Err(error) => panic!("cut at {len}: {error}"),
        }
        drop(rig);
        // It was mended, and is told of once.
        let again = Rig::new(lazy()).open(some()).unwrap();
        assert_eq!(again.warnings, [], "cut at {len}");
    }
}

/// G13: the .torrent that is kept, its checksum and the length of the log, each damaged in turn.
#[test]
fn damage_beside_the_log_is_named_and_mended() {
    let (dir, sample) = (
        TempDir::new(),
        Sample::folder(&[F::Plain("a", 70_000)], PIECE),
    );
    let bytes: Arc<[u8]> = b"d4:infoe".to_vec().into();
    let known = || StorageSpec {
        torrent_bytes: Arc::clone(&bytes),
        ..spec(&sample, &dir)
    };
    let mut rig = Rig::new(lazy());
    rig.open(known()).unwrap();
    rig.commit(&sample, &[0, 1]).unwrap();
    rig.close().unwrap();
    drop(rig);
    for name in ["torrent", "torrent.sum", "log.end"] {
        let path = state_of(&dir).join(name);
        let whole = fs::read(&path).unwrap();
        let flipped = |at: usize| {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            bytes
        };
        let flips = (0..whole.len()).map(flipped);
        let cuts = (1..whole.len()).map(|len| whole[..len].to_vec());
        for (number, bytes) in flips.chain(cuts).enumerate() {
            fs::write(&path, &bytes).unwrap();
            let opened = Rig::new(lazy()).open(known()).unwrap();
            let path = path.to_string_lossy().into_owned();
            let named = OpenWarning::StateDamaged { path };
            assert_eq!(opened.warnings, [named], "{name}, damage {number}");
            assert_eq!(numbers(&opened.have), [0, 1]);
            let again = Rig::new(lazy()).open(known()).unwrap();
            assert_eq!(again.warnings, [], "{name}, damage {number}");
        }
        assert_eq!(fs::read(&path).unwrap().len(), whole.len());
    }
    // Another .torrent of the same torrent is no damage.
    let other = StorageSpec {
        torrent_bytes: b"d4:infoi1e".to_vec().into(),
        ..known()
    };
    let opened = Rig::new(lazy()).open(other).unwrap();
    assert_eq!(opened.warnings, []);
    assert_eq!(
        fs::read(state_of(&dir).join("torrent")).unwrap(),
        b"d4:infoi1e"
    );
}

/// The record of where a file's bytes are is lost, and the file is no longer wanted: its pieces are not
/// looked for in the parts file, where there are holes in their place.
#[test]
fn a_lost_place_does_not_make_holes_into_pieces() {
    let (dir, sample) = (
        TempDir::new(),
        Sample::folder(
            &[
                F::Plain("a", 70_000),
                F::Plain("b", 50_000),
                F::Plain("c", 50_000),
                F::Plain("d", 50_000),
            ],
            PIECE,
        ),
    );
    let some = |b| StorageSpec {
        wanted: vec![true, b, true, false],
        ..spec(&sample, &dir)
    };
    let mut rig = Rig::new(lazy());
    rig.open(some(true)).unwrap();
    rig.commit(&sample, &(0..11).collect::<Vec<_>>()).unwrap();
    rig.close().unwrap();
    drop(rig);
    let log = state_of(&dir).join("log");
    let whole = fs::read(&log).unwrap();
    for at in (5..whole.len()).step_by(FRAME_LEN) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        fs::write(&log, &bytes).unwrap();
        let mut rig = Rig::new(lazy());
        let opened = rig.open(some(false)).unwrap();
        for piece in numbers(&opened.have) {
            let found = rig.load_piece(&sample, piece).unwrap();
            assert!(found == sample.piece(piece), "byte {at}: piece {piece}");
        }
    }
}

/// Those of `have` that lie in wanted files alone, which is all that a check without state can see.
fn only(have: &Bitfield, pieces: &[u32]) -> Bitfield {
    let mut out = Bitfield::new(have.len());
    for piece in have.iter().filter(|p| pieces.contains(&p.get())) {
        out.set(piece);
    }
    out
}

/// The log of a torrent that is worked on for long does not grow without end.
#[test]
fn the_log_stays_short() {
    let (dir, sample) = (TempDir::new(), Sample::single("one", 64 * 16_384, PIECE));
    let mut rig = Rig::new(lazy());
    rig.open(spec(&sample, &dir)).unwrap();
    for _ in 0..200 {
        rig.commit(&sample, &sample.all()).unwrap();
        rig.spill(&sample, 5, &[0]).unwrap();
    }
    for _ in 0..5000 {
        rig.commit(&sample, &[3]).unwrap();
    }
    let log = state_of(&dir).join("log");
    let long = fs::metadata(&log).unwrap().len();
    rig.sync().unwrap();
    let short = fs::metadata(&log).unwrap().len();
    assert!(long > 300_000 && short < 2000, "{long} to {short}");
    drop(rig);
    let opened = Rig::new(lazy()).open(spec(&sample, &dir)).unwrap();
    assert!(opened.have.is_full() && opened.checked == 0);
}

/// Spilled blocks are known after a kill, are never counted, and are verified or forgotten.
#[test]
fn spilled_blocks_outlive_a_kill_and_count_only_once_verified() {
    let (dir, sample) = (TempDir::new(), Sample::single("one", 3 * 50_000, 50_000));
    let mut rig = Rig::new(lazy());
    rig.open(spec(&sample, &dir)).unwrap();
    rig.spill(&sample, 1, &[0, 1, 3]).unwrap();
    rig.spill(&sample, 2, &[2]).unwrap();
    drop(rig);
    let mut rig = Rig::new(lazy());
    let opened = rig.open(spec(&sample, &dir)).unwrap();
    assert!(opened.have.is_empty());
    let partial: Vec<_> = opened
        .partial
        .iter()
        .map(|(p, b)| (p.get(), b.clone()))
        .collect();
    assert_eq!(partial, [(1, vec![0, 1, 3]), (2, vec![2])]);
    // Not all there yet: the hash says so, and the blocks are forgotten.
    let done = rig.verify(1, false);
    assert_eq!(done.result, Err(torr_store::CommitError::HashMismatch));
    assert_eq!(done.digests.len(), 4);
    rig.spill(&sample, 1, &[0, 1, 2, 3]).unwrap();
    let done = rig.verify(1, true);
    assert_eq!((done.result, done.digests.len()), (Ok(()), 4));
    assert!(rig.load_piece(&sample, 1).unwrap() == sample.piece(1));
    rig.close().unwrap();
    let opened = rig.open(spec(&sample, &dir)).unwrap();
    assert_eq!(numbers(&opened.have), [1]);
    let partial: Vec<_> = opened
        .partial
        .iter()
        .map(|(p, b)| (p.get(), b.clone()))
        .collect();
    assert_eq!(partial, [(2, vec![2])]);
}

/// Killed at a random moment, again and again, by giving up the process's side of it: what was answered
/// stays, and nothing is hashed twice that was marked.
#[test]
fn work_goes_on_after_many_kills() {
    let (dir, sample) = (TempDir::new(), Sample::single("one", 200 * 16_384, PIECE));
    let mut done = 0;
    while done < 200 {
        let mut rig = Rig::new(DiskConfig {
            mark_bytes: 5 * 16_384,
            unmarked_bytes_max: 13 * 16_384,
            ..DiskConfig::default()
        });
        let opened = rig.open(spec(&sample, &dir)).unwrap();
        assert_eq!(opened.have.count(), done);
        assert!(opened.checked <= 20, "{} hashed", opened.checked);
        let next = (done + 13).min(200);
        rig.commit(&sample, &(done..next).collect::<Vec<_>>())
            .unwrap();
        done = next;
    }
    sample.assert_complete(&dir.join("out"));
}

/// A mark speaks for what was recorded before its sync began, not for what came while it ran.
#[test]
fn what_is_committed_during_a_sync_is_not_covered_by_its_mark() {
    use std::sync::atomic::{AtomicU32, Ordering};
    let (dir, sample) = (TempDir::new(), Sample::single("one", 4 * 16_384, PIECE));
    // 0: do not hold syncs; 1: hold the next; 2: it is held; 3: let it go.
    let gate = Arc::new(AtomicU32::new(0));
    let held = Arc::clone(&gate);
    let hook = Hook::new(move |call, name| {
        if call == Call::Sync && name == "one" && held.load(Ordering::SeqCst) == 1 {
            held.store(2, Ordering::SeqCst);
            let begun = Instant::now();
            while held.load(Ordering::SeqCst) != 3 && begun.elapsed() < Duration::from_secs(10) {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        None
    });
    let mut rig = Rig::new(DiskConfig { hook, ..lazy() });
    rig.open(spec(&sample, &dir)).unwrap();
    rig.commit(&sample, &[0]).unwrap();
    gate.store(1, Ordering::SeqCst);
    let sync = rig.submit(torr_store::DiskTask::Sync);
    let begun = Instant::now();
    while gate.load(Ordering::SeqCst) != 2 {
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "nothing is synced"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
    rig.commit(&sample, &[1]).unwrap();
    gate.store(3, Ordering::SeqCst);
    assert_eq!(rig.answer().job, sync);
    drop(rig);
    let opened = Rig::new(lazy()).open(spec(&sample, &dir)).unwrap();
    assert_eq!((numbers(&opened.have), opened.checked), (vec![0, 1], 1));
}

/// A file that is durable under no name is lost all the same.
#[test]
fn new_names_are_synced_with_the_files() {
    let (dir, sample) = (
        TempDir::new(),
        Sample::folder(&[F::Plain("x/y/a", 10), F::Plain("b", 10)], PIECE),
    );
    let names = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&names);
    let hook = Hook::new(move |call, name| {
        if call == Call::Sync {
            seen.lock().unwrap().push(name.to_owned());
        }
        None
    });
    let mut rig = Rig::new(DiskConfig { hook, ..lazy() });
    rig.open(spec(&sample, &dir)).unwrap();
    rig.commit(&sample, &[0]).unwrap();
    names.lock().unwrap().clear();
    rig.sync().unwrap();
    let mut names = std::mem::take(&mut *names.lock().unwrap());
    names.sort();
    assert_eq!(names, ["", "top", "top/b", "top/x", "top/x/y", "top/x/y/a"]);
}

/// A piece that was forgotten does not come back when the record of it is damaged or cut off.
#[test]
fn a_forgotten_piece_stays_forgotten() {
    let (dir, sample) = (TempDir::new(), Sample::single("one", 6 * 16_384, PIECE));
    let mut rig = Rig::new(lazy());
    rig.open(spec(&sample, &dir)).unwrap();
    rig.commit(&sample, &sample.all()).unwrap();
    rig.close().unwrap();
    common::flip(&dir.join("out/one"), 3 * 16_384);
    let opened = rig.open(spec(&sample, &dir)).unwrap();
    assert_eq!(numbers(&opened.have), [0, 1, 2, 4, 5]);
    drop(rig);
    let log = state_of(&dir).join("log");
    let whole = fs::read(&log).unwrap();
    for at in (0..whole.len()).step_by(16) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        let (image, _) = read_log(&bytes, &header(&sample)).unwrap();
        assert!(!numbers(image.have()).contains(&3));
        if let Ok((image, _)) = read_log(&whole[..at], &header(&sample)) {
            assert!(!numbers(image.have()).contains(&3));
        }
    }
}
