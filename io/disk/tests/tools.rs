//! What `torr create` and `torr check` stand on.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::fs;
use std::ops::ControlFlow;

use common::{F, Rig, Sample, TempDir, flip, lazy, spec};
use torr_base::PieceIndex;
use torr_disk::{FileState, check, hash_files, walk};
use torr_store::StorageErrorKind;

fn go<T>(_: T) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

const FILES: [F; 6] = [
    F::Plain("a", 100_000),
    F::Plain("b/empty", 0),
    F::Plain("b/c", 1),
    F::Plain("b/d/e", 300_000),
    F::Exec("f", 65_536),
    F::Plain("g", 7),
];

fn on_disk(dir: &TempDir) -> Sample {
    let sample = Sample::folder(&FILES, 16_384);
    let mut rig = Rig::new(lazy());
    rig.open(spec(&sample, dir)).unwrap();
    rig.commit(&sample, &sample.all()).unwrap();
    rig.close().unwrap();
    sample
}

#[test]
fn a_folder_is_walked_in_order_and_hashed_to_the_same_pieces() {
    let dir = TempDir::new();
    let sample = on_disk(&dir);
    let top = dir.join("out/top");
    std::os::unix::fs::symlink("/etc", top.join("link")).unwrap();
    let walked = walk(&top).unwrap();
    assert_eq!(walked.left_out, [top.join("link")]);
    let names: Vec<_> = walked
        .files
        .iter()
        .map(|f| f.components.join("/"))
        .collect();
    assert_eq!(names, ["a", "b/c", "b/d/e", "b/empty", "f", "g"]);
    let executable: Vec<_> = walked.files.iter().map(|f| f.executable).collect();
    assert_eq!(executable, [false, false, false, false, true, false]);

    let files: Vec<_> = sample
        .files()
        .into_iter()
        .map(|(name, bytes)| (dir.join("out").join(name), bytes.len() as u64))
        .collect();
    for threads in [1, 4] {
        let hashes = hash_files(&files, 16_384, threads, &go).unwrap();
        let right = sample.geometry().pieces().map(|p| sample.info.hash(p));
        assert!(hashes.into_iter().eq(right));
    }
    let stopped = hash_files(&files, 16_384, 2, &|_| ControlFlow::Break(()));
    assert!(stopped.is_err());
    let mut short = files.clone();
    short[0].1 += 1;
    assert!(hash_files(&short, 16_384, 2, &go).is_err());
    short[0].0 = dir.join("nowhere");
    let error = hash_files(&short, 16_384, 2, &go).unwrap_err();
    assert_eq!(error.kind, StorageErrorKind::Missing);
    assert_eq!(
        hash_files(&[], 16_384, 2, &go).unwrap(),
        Vec::<[u8; 20]>::new()
    );
    assert_eq!(walk(&top.join("f")).unwrap().files.len(), 1);
}

#[test]
fn a_check_tells_what_is_wrong_with_each_file() {
    let dir = TempDir::new();
    let sample = on_disk(&dir);
    let out = dir.join("out");
    let report = check(&sample.info, &out, None, 2, &go).unwrap();
    assert!(report.is_right() && report.have.is_full());

    flip(&out.join("top/b/d/e"), 150_000);
    fs::remove_file(out.join("top/b/empty")).unwrap();
    fs::remove_file(out.join("top/b/c")).unwrap();
    fs::create_dir(out.join("top/b/c")).unwrap();
    let grown = fs::OpenOptions::new()
        .write(true)
        .open(out.join("top/g"))
        .unwrap();
    grown.set_len(9).unwrap();
    let report = check(&sample.info, &out, None, 2, &go).unwrap();
    let states: Vec<_> = report.files.into_iter().map(|f| f.state).collect();
    let at = |n: u64| PieceIndex::new((n / 16_384) as u32);
    assert_eq!(
        states,
        [
            // The piece at its end cannot be told from its neighbour.
            FileState::Bad { pieces: 1 },
            FileState::Missing,
            FileState::NotAFile,
            FileState::Bad { pieces: 2 },
            FileState::Right,
            FileState::WrongLength {
                len: 9,
                bad_pieces: 0
            },
        ]
    );
    assert!(!report.have.get(at(250_001)) && !report.have.get(at(100_000)));
    assert_eq!(report.have.count() + 2, sample.geometry().piece_count());
    let moved = out.join("elsewhere");
    fs::rename(out.join("top"), moved).unwrap();
    let report = check(&sample.info, &out, Some("elsewhere"), 2, &go).unwrap();
    assert_eq!(report.files[4].state, FileState::Right);
    assert_eq!(report.files[4].path, "elsewhere/f");
    assert!(check(&sample.info, &dir.join("nowhere"), None, 2, &go).is_err());
    let stopped = check(&sample.info, &out, Some("elsewhere"), 2, &|_| {
        ControlFlow::Break(())
    });
    assert!(stopped.is_err());
}
