//! G7 and G6: what is there already, and what appears meanwhile.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::fs;
use std::os::unix::fs::symlink;

use common::{F, Rig, Sample, TempDir, flip, lazy, numbers, spec, state_of};
use torr_disk::{OnExisting, OpenWarning, StorageSpec};
use torr_store::{CommitError, StorageError, StorageErrorKind, StorageOp};

const PIECE: u32 = 16_384;

/// Three pieces in one file.
fn one() -> Sample {
    Sample::single("one", 40_000, PIECE)
}

fn overwriting(sample: &Sample, dir: &TempDir) -> StorageSpec {
    StorageSpec {
        on_existing: OnExisting::Overwrite,
        ..spec(sample, dir)
    }
}

fn put(dir: &TempDir, name: &str, bytes: &[u8]) {
    let path = dir.join("out").join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Opening is refused, by that file's name, and the file is as it was.
fn assert_refused(sample: &Sample, dir: &TempDir, name: &str) -> StorageError {
    let path = dir.join("out").join(name);
    let before = fs::read(&path).unwrap();
    let error = Rig::new(lazy()).open(spec(sample, dir)).unwrap_err();
    assert_eq!(error.kind, StorageErrorKind::Occupied, "{error}");
    assert_eq!(error.path, path.to_str().unwrap());
    assert!(fs::read(&path).unwrap() == before);
    error
}

/// What the disk says to a piece that it does not take.
fn refusal(rig: &mut Rig, sample: &Sample, piece: u32) -> StorageError {
    match rig.commit(sample, &[piece]).unwrap_err() {
        CommitError::Storage(error) => error,
        other => panic!("{other:?}"),
    }
}

/// Opening goes well, and the download comes to its end.
fn assert_adopted(sample: &Sample, dir: &TempDir, spec: StorageSpec, have: &[u32]) {
    let mut rig = Rig::new(lazy());
    let opened = rig.open(spec).unwrap();
    assert_eq!(numbers(&opened.have), have);
    let rest: Vec<u32> = sample
        .all()
        .into_iter()
        .filter(|p| !have.contains(p))
        .collect();
    rig.commit(sample, &rest).unwrap();
    rig.close().unwrap();
    sample.assert_complete(&dir.join("out"));
}

#[test]
fn a_foreign_file_is_refused_and_left_alone() {
    let (dir, sample) = (TempDir::new(), one());
    put(&dir, "one", &[7; 30_000]);
    assert_refused(&sample, &dir, "one");
    // Nor does a second attempt take it for ours.
    assert_refused(&sample, &dir, "one");
    assert_adopted(&sample, &dir, overwriting(&sample, &dir), &[]);
}

#[test]
fn a_longer_file_is_refused_even_if_it_begins_right_and_cut_only_on_demand() {
    let (dir, sample) = (TempDir::new(), one());
    let mut longer = sample.bytes.to_vec();
    longer.push(0);
    put(&dir, "one", &longer);
    assert_refused(&sample, &dir, "one");
    assert_adopted(&sample, &dir, overwriting(&sample, &dir), &[0, 1, 2]);
    let len = fs::metadata(dir.join("out/one")).unwrap().len();
    assert_eq!(len, 40_000);
}

#[test]
fn a_file_with_one_right_piece_is_taken_over() {
    let (dir, sample) = (TempDir::new(), one());
    let mut part = sample.bytes[..33_000].to_vec();
    part[3] ^= 1;
    put(&dir, "one", &part);
    assert_adopted(&sample, &dir, spec(&sample, &dir), &[1]);
}

#[test]
fn empty_files_and_holes_are_taken_over() {
    for len in [0, 40_000] {
        let (dir, sample) = (TempDir::new(), one());
        put(&dir, "one", b"");
        let file = fs::OpenOptions::new().write(true).open(dir.join("out/one"));
        file.unwrap().set_len(len).unwrap();
        assert_adopted(&sample, &dir, spec(&sample, &dir), &[]);
    }
    // Zeros that somebody wrote are no hole.
    let (dir, sample) = (TempDir::new(), one());
    put(&dir, "one", &[0; 40_000]);
    assert_refused(&sample, &dir, "one");
}

#[test]
fn a_complete_copy_is_found_and_read_once() {
    let (dir, sample) = (TempDir::new(), one());
    put(&dir, "one", &sample.bytes);
    let mut rig = Rig::new(lazy());
    let opened = rig.open(spec(&sample, &dir)).unwrap();
    assert!(opened.have.is_full());
    assert_eq!((opened.adopted, opened.checked_bytes), (1, 40_000));
    rig.close().unwrap();
    let opened = rig.open(spec(&sample, &dir)).unwrap();
    assert_eq!((opened.adopted, opened.checked_bytes), (0, 0));
    rig.close().unwrap();
}

#[test]
fn trust_believes_the_length_and_nothing_else() {
    let (dir, sample) = (TempDir::new(), one());
    put(&dir, "one", &sample.bytes);
    let trusting = StorageSpec {
        trust: true,
        ..spec(&sample, &dir)
    };
    let mut rig = Rig::new(lazy());
    let opened = rig.open(trusting).unwrap();
    assert!(opened.have.is_full() && opened.checked == 0);
}

#[test]
fn a_file_with_other_names_is_read_but_not_written() {
    let (dir, sample) = (TempDir::new(), one());
    put(&dir, "one", &sample.bytes);
    fs::hard_link(dir.join("out/one"), dir.join("other")).unwrap();
    let mut rig = Rig::new(lazy());
    assert!(rig.open(spec(&sample, &dir)).unwrap().have.is_full());
    rig.close().unwrap();

    let (dir, sample) = (TempDir::new(), one());
    put(&dir, "one", &sample.bytes[..20_000]);
    fs::hard_link(dir.join("out/one"), dir.join("other")).unwrap();
    assert_refused(&sample, &dir, "one");
    assert_adopted(&sample, &dir, overwriting(&sample, &dir), &[0]);
}

#[test]
fn a_link_made_after_adoption_stops_the_writing() {
    let (dir, sample) = (TempDir::new(), one());
    put(&dir, "one", &sample.bytes[..20_000]);
    let mut rig = Rig::new(lazy());
    rig.open(spec(&sample, &dir)).unwrap();
    fs::hard_link(dir.join("out/one"), dir.join("other")).unwrap();
    let error = refusal(&mut rig, &sample, 1);
    assert_eq!(error.kind, StorageErrorKind::Occupied);
    assert!(fs::read(dir.join("other")).unwrap() == sample.bytes[..20_000]);
}

#[test]
fn our_own_file_may_be_linked_and_is_written_on() {
    let (dir, sample) = (TempDir::new(), one());
    let mut rig = Rig::new(lazy());
    rig.open(spec(&sample, &dir)).unwrap();
    rig.commit(&sample, &[0]).unwrap();
    rig.close().unwrap();
    fs::hard_link(dir.join("out/one"), dir.join("other")).unwrap();
    drop(rig);
    // The link changes the file's ctime, not its stamp.
    assert_adopted(&sample, &dir, spec(&sample, &dir), &[0]);
}

#[test]
fn a_file_that_appears_meanwhile_is_not_touched() {
    let (dir, sample) = (TempDir::new(), one());
    let mut rig = Rig::new(lazy());
    rig.open(spec(&sample, &dir)).unwrap();
    put(&dir, "one", b"mine");
    let error = refusal(&mut rig, &sample, 0);
    let what = (error.kind, error.op);
    assert_eq!(what, (StorageErrorKind::Occupied, StorageOp::Create));
    rig.close().unwrap();
    assert_refused(&sample, &dir, "one");
    drop(rig);
    assert_refused(&sample, &dir, "one");
}

#[test]
fn among_files_made_at_once_a_strangers_is_left_alone_and_the_others_are_ours() {
    let names = [
        "00", "01", "02", "03", "04", "05", "06", "07", "08", "09", "10", "11", "12",
    ];
    let files = names.map(|name| F::Plain(name, 1_000));
    for closes in [true, false] {
        let (dir, sample) = (TempDir::new(), Sample::folder(&files, PIECE));
        let mut rig = Rig::new(lazy());
        rig.open(spec(&sample, &dir)).unwrap();
        put(&dir, "top/11", b"mine");
        let error = refusal(&mut rig, &sample, 0);
        assert_eq!(error.kind, StorageErrorKind::Occupied);
        assert!(error.path.ends_with("/top/11"), "{}", error.path);
        assert_eq!(fs::read(dir.join("out/top/11")).unwrap(), b"mine");
        if closes {
            rig.close().unwrap();
        }
        drop(rig);
        fs::remove_file(dir.join("out/top/11")).unwrap();
        assert_adopted(&sample, &dir, spec(&sample, &dir), &[]);
    }
}

#[test]
fn whatever_is_no_file_is_refused() {
    let (dir, sample) = (TempDir::new(), one());
    fs::create_dir_all(dir.join("out/one")).unwrap();
    let refused = |dir: &TempDir| {
        let error = Rig::new(lazy()).open(spec(&sample, dir)).unwrap_err();
        assert_eq!(error.kind, StorageErrorKind::Occupied, "{error}");
    };
    refused(&dir);
    fs::remove_dir(dir.join("out/one")).unwrap();
    // A link, even to a complete copy: writing through it would leave the folder.
    fs::write(dir.join("copy"), &**sample.bytes).unwrap();
    symlink(dir.join("copy"), dir.join("out/one")).unwrap();
    refused(&dir);
    fs::remove_file(dir.join("out/one")).unwrap();
    let status = std::process::Command::new("mkfifo")
        .arg(dir.join("out/one"))
        .status();
    assert!(status.unwrap().success());
    refused(&dir);
    // A file where a folder must be.
    let sample = Sample::folder(&[F::Plain("a/b", 40_000)], PIECE);
    put(&dir, "top/a", b"x");
    let error = Rig::new(lazy()).open(spec(&sample, &dir)).unwrap_err();
    assert_eq!(error.kind, StorageErrorKind::Occupied, "{error}");
}

/// G6: somebody swaps a folder for a link out of the download folder, again and again.
#[test]
fn a_racing_link_leads_nowhere() {
    let dir = TempDir::new();
    let files: Vec<String> = (0..400).map(|n| format!("d/{n}")).collect();
    let files: Vec<F> = files
        .into_iter()
        .map(|name| F::Plain(Box::leak(name.into_boxed_str()), 1000))
        .collect();
    let sample = Sample::folder(&files, PIECE);
    let outside = dir.join("outside");
    fs::create_dir(&outside).unwrap();
    let mut rig = Rig::new(torr_disk::DiskConfig {
        open_files_max: 2,
        ..lazy()
    });
    rig.open(spec(&sample, &dir)).unwrap();
    rig.commit(&sample, &[0]).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            use rustix::fs::{CWD, RenameFlags, renameat_with};
            let (real, link) = (dir.join("out/top/d"), dir.join("link"));
            symlink(&outside, &link).unwrap();
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                renameat_with(CWD, &real, CWD, &link, RenameFlags::EXCHANGE).unwrap();
            }
        });
        for _ in 0..20 {
            for piece in 1..sample.geometry().piece_count() {
                // Many of them fail, and that is well.
                let _ = rig.commit(&sample, &[piece]);
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn a_file_that_vanished_shrank_or_changed_is_noticed() {
    let dir = TempDir::new();
    let sample = Sample::folder(
        &[
            F::Plain("a", 40_000),
            F::Plain("b", 40_000),
            F::Plain("c", 40_000),
            F::Plain("d", 40_000),
        ],
        PIECE,
    );
    let mut rig = Rig::new(lazy());
    rig.open(spec(&sample, &dir)).unwrap();
    rig.commit(&sample, &sample.all()).unwrap();
    rig.close().unwrap();
    let path = |name: &str| dir.join("out/top").join(name);
    fs::remove_file(path("a")).unwrap();
    let b = fs::OpenOptions::new().write(true).open(path("b")).unwrap();
    b.set_len(30_000).unwrap();
    flip(&path("c"), 30_000);
    let opened = rig.open(spec(&sample, &dir)).unwrap();
    // Bytes 0..40000, 70000..80000 and one piece around 110000 are lost.
    assert_eq!(numbers(&opened.have), [3, 5, 7, 8, 9]);
    let text = |name| path(name).to_str().unwrap().to_owned();
    assert_eq!(
        opened.warnings,
        [
            OpenWarning::FileLost { path: text("a") },
            OpenWarning::FileLost { path: text("b") },
            OpenWarning::FileChanged { path: text("b") },
            OpenWarning::FileChanged { path: text("c") },
        ]
    );
    rig.commit(&sample, &[0, 1, 2, 4, 6]).unwrap();
    rig.close().unwrap();
    sample.assert_complete(&dir.join("out"));
    let opened = rig.open(spec(&sample, &dir)).unwrap();
    assert!(opened.have.is_full() && opened.warnings.is_empty() && opened.checked == 0);
    rig.close().unwrap();
    // What has grown is somebody else's doing.
    let d = fs::OpenOptions::new().append(true).open(path("d"));
    std::io::Write::write_all(&mut d.unwrap(), b"x").unwrap();
    assert_refused(&sample, &dir, "top/d");
}

#[test]
fn a_recheck_believes_nothing() {
    let (dir, sample) = (TempDir::new(), one());
    let mut rig = Rig::new(lazy());
    rig.open(spec(&sample, &dir)).unwrap();
    rig.commit(&sample, &sample.all()).unwrap();
    rig.close().unwrap();
    let path = dir.join("out/one");
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    flip(&path, 20_000);
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_modified(modified).unwrap();
    // Same length, same time, same inode: without a recheck nobody can know.
    assert!(rig.open(spec(&sample, &dir)).unwrap().have.is_full());
    rig.close().unwrap();
    let again = StorageSpec {
        recheck: true,
        ..spec(&sample, &dir)
    };
    let opened = rig.open(again).unwrap();
    assert_eq!(numbers(&opened.have), [0, 2]);
    drop(rig);
    // And what it found is remembered, kill or not.
    let mut rig = Rig::new(lazy());
    let opened = rig.open(spec(&sample, &dir)).unwrap();
    assert_eq!(numbers(&opened.have), [0, 2]);
}

#[test]
fn a_second_one_is_told_who_has_it() {
    let (dir, sample) = (TempDir::new(), one());
    let mut first = Rig::new(lazy());
    first.open(spec(&sample, &dir)).unwrap();
    let mut second = Rig::new(lazy());
    let error = second.open(spec(&sample, &dir)).unwrap_err();
    assert_eq!(error.kind, StorageErrorKind::Locked);
    let pid = format!("pid {}", std::process::id());
    assert!(error.detail.contains(&pid), "{error}");
    // Another folder, or another name, is another download.
    let elsewhere = StorageSpec {
        root: dir.join("elsewhere"),
        ..spec(&sample, &dir)
    };
    second.open(elsewhere).unwrap();
    second.close().unwrap();
    let renamed = StorageSpec {
        name: Some("two".to_owned()),
        ..spec(&sample, &dir)
    };
    second.open(renamed).unwrap();
    second.commit(&sample, &[0]).unwrap();
    assert!(dir.join("out/two").exists() && !dir.join("out/one").exists());
    second.close().unwrap();
    // The same folder by another path is the same.
    symlink(dir.join("out"), dir.join("alias")).unwrap();
    let alias = StorageSpec {
        root: dir.join("alias/../out/."),
        ..spec(&sample, &dir)
    };
    assert!(second.open(alias).is_err());
    first.close().unwrap();
    second.open(spec(&sample, &dir)).unwrap();
    let bad = StorageSpec {
        name: Some("../x".to_owned()),
        ..spec(&sample, &dir)
    };
    assert!(first.open(bad).is_err());
}

/// G9: nothing is made where the disk with the data is not.
#[test]
fn a_download_folder_on_another_file_system_is_absent() {
    let (dir, sample) = (TempDir::new(), one());
    let mut rig = Rig::new(lazy());
    rig.open(spec(&sample, &dir)).unwrap();
    rig.commit(&sample, &[0]).unwrap();
    rig.close().unwrap();
    // As if it had been written on another one.
    let log = state_of(&dir).join("log");
    let mut bytes = fs::read(&log).unwrap();
    let root = torr_store::Record::Root {
        file_system: 12_345,
        inode: 2,
    };
    let frames = bytes.len() / torr_store::FRAME_LEN;
    torr_store::encode_record(&root, frames as u64, &mut bytes);
    fs::write(&log, &bytes).unwrap();
    // The torrent is there all the same: believed once it was hashed.
    let opened = rig.open(spec(&sample, &dir)).unwrap();
    assert_eq!((numbers(&opened.have), opened.checked), (vec![0], 1));
    rig.close().unwrap();
    fs::write(&log, &bytes).unwrap();
    fs::rename(dir.join("out"), dir.join("gone")).unwrap();
    for exists in [false, true] {
        if exists {
            fs::create_dir(dir.join("out")).unwrap();
        }
        let error = rig.open(spec(&sample, &dir)).unwrap_err();
        assert_eq!(error.kind, StorageErrorKind::Absent, "{error}");
        let made = fs::read_dir(dir.join("out")).map(Iterator::count);
        assert_eq!(made.unwrap_or(0), 0);
    }
    let anew = StorageSpec {
        recheck: true,
        ..spec(&sample, &dir)
    };
    assert!(rig.open(anew).unwrap().have.is_empty());
}

/// A power cut can take the record of a file's making and leave the file. What we said that we would make
/// is ours then; after an end in good order, or without a new boot between, it is not.
#[test]
fn an_announced_file_is_ours_after_a_power_cut_only() {
    use torr_store::{FRAME_LEN, Record, encode_record};
    let other_boot = Record::Session { boot: [0xab; 16] };
    let intent = Record::Intent { first: 0, count: 1 };
    for (records, ours) in [
        (&[other_boot, intent][..], true),
        (&[other_boot, intent, Record::Closed], false),
        (&[other_boot], false),
        (&[], false),
    ] {
        let (dir, sample) = (TempDir::new(), one());
        let mut rig = Rig::new(lazy());
        rig.open(spec(&sample, &dir)).unwrap();
        drop(rig);
        let log = state_of(&dir).join("log");
        let mut bytes = fs::read(&log).unwrap();
        for record in records {
            encode_record(record, (bytes.len() / FRAME_LEN) as u64, &mut bytes);
        }
        fs::write(&log, &bytes).unwrap();
        // Its length came to the disk, its bytes did not.
        put(&dir, "one", &[0; 40_000]);
        if ours {
            assert_adopted(&sample, &dir, spec(&sample, &dir), &[]);
        } else {
            assert_refused(&sample, &dir, "one");
        }
    }
}
