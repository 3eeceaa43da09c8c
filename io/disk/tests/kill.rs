//! G1, G2: the real thing, a process killed in the middle of its work.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{F, Rig, Sample, TempDir, lazy, spec};
use torr_base::{Bitfield, Rng};
use torr_disk::{DiskConfig, IoMode, check};

const KILLS: u32 = 25;

fn sample() -> Sample {
    let mut files = vec![F::Plain("big", 20 << 20), F::Plain("empty", 0)];
    let names = (0..300).map(|n| &*Box::leak(format!("many/{n}").into_boxed_str()));
    files.extend(names.map(|name| F::Plain(name, 30_001)));
    Sample::folder(&files, 65_536)
}

fn config() -> DiskConfig {
    DiskConfig {
        mark_after: Duration::from_millis(20),
        mark_bytes: 2 << 20,
        unmarked_bytes_max: 4 << 20,
        open_files_max: 16,
        io: IoMode::Direct,
        ..DiskConfig::default()
    }
}

#[test]
fn kill_after_kill_the_download_goes_on() {
    let (dir, sample, mut rng) = (TempDir::new(), sample(), Rng::new(9));
    let (test, ready) = (std::env::current_exe().unwrap(), dir.join("ready"));
    let (mut before, mut kills) = (Bitfield::new(sample.geometry().piece_count()), 0);
    while kills < KILLS {
        let mut child = Command::new(&test)
            .args(["--exact", "downloading", "--ignored"])
            .env("TORR_TEST_DIR", &dir.0)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // Some while it opens, most while it writes.
        let begun = Instant::now();
        while kills % 4 != 0 && !ready.exists() {
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "the child does not open"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(rng.below(150)));
        child.kill().unwrap();
        child.wait().unwrap();
        let _ = std::fs::remove_file(&ready);
        kills += 1;
        // What is claimed is there, by the word of somebody who never saw the log.
        let mut rig = Rig::new(lazy());
        let opened = rig.open(spec(&sample, &dir)).unwrap();
        let go = |_| ControlFlow::Continue(());
        let truth = check(&sample.info, &dir.join("out"), None, 2, &go).unwrap();
        assert!(
            !opened.have.any_and_not(&truth.have),
            "a false claim after kill {kills}"
        );
        // And what was found once is not lost by a later kill.
        assert!(
            !before.any_and_not(&opened.have),
            "a loss after kill {kills}"
        );
        assert!(
            opened.checked_bytes <= 5 << 20,
            "{} bytes hashed",
            opened.checked_bytes
        );
        before = opened.have;
        // As a kill leaves it, too.
        drop(rig);
        if before.is_full() {
            break;
        }
    }
    assert!(before.count() > 0, "no child came to write anything");
    let mut rig = Rig::new(lazy());
    let opened = rig.open(spec(&sample, &dir)).unwrap();
    let all = Bitfield::full(opened.have.len());
    let rest: Vec<u32> = all.iter_and_not(&opened.have).map(|p| p.get()).collect();
    rig.commit(&sample, &rest).unwrap();
    rig.close().unwrap();
    sample.assert_complete(&dir.join("out"));
}

#[test]
#[ignore = "run and killed by the test above"]
fn downloading() {
    let dir = std::mem::ManuallyDrop::new(TempDir(PathBuf::from(
        std::env::var("TORR_TEST_DIR").unwrap(),
    )));
    let sample = sample();
    let mut rig = Rig::new(config());
    let opened = rig.open(spec(&sample, &dir)).unwrap();
    std::fs::write(dir.join("ready"), b"").unwrap();
    let all = Bitfield::full(opened.have.len());
    for piece in all.iter_and_not(&opened.have) {
        rig.commit(&sample, &[piece.get()]).unwrap();
        // A line that is not too fast, so that there is something left to kill.
        std::thread::sleep(Duration::from_millis(2));
    }
    rig.close().unwrap();
}
