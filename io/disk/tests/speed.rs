//! How fast pieces get to the disk and back. Not a gate: run it by hand, in a release build.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::time::Instant;

use common::{Rig, Sample, TempDir, lazy, spec};
use torr_base::PieceIndex;
use torr_disk::{DiskConfig, StorageSpec};
use torr_store::{DiskResult, DiskTask, PieceCommit};

const LEN: u64 = 512 << 20;
/// Jobs on the way at once.
const JOBS: usize = 6;

fn seconds_of_cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    let ticks: f64 = fields[11..13]
        .iter()
        .map(|t| t.parse::<f64>().unwrap())
        .sum();
    ticks / 100.0
}

fn measure(what: &str, work: impl FnOnce()) {
    let (begun, cpu) = (Instant::now(), seconds_of_cpu());
    work();
    let (wall, cpu) = (begun.elapsed().as_secs_f64(), seconds_of_cpu() - cpu);
    let gib = LEN as f64 / f64::from(1 << 30);
    eprintln!(
        "{what}: {:.2} GiB/s, {:.2} CPU s/GiB",
        gib / wall,
        cpu / gib
    );
}

fn commit_all(rig: &Rig, sample: &Sample) {
    let count = sample.geometry().piece_count();
    let (mut next, mut answered) = (0, 0);
    while answered < count {
        while next < count && (next - answered) < JOBS as u32 {
            let pieces = vec![PieceCommit {
                piece: PieceIndex::new(next),
                hashed: torr_store::HashState::default(),
                blocks: rig.blocks(sample.piece(next)),
                digests: false,
            }];
            rig.submit(DiskTask::Commit { pieces, soon: true });
            next += 1;
        }
        let DiskResult::Committed { pieces } = rig.answer().result else {
            panic!("the answer to something else");
        };
        for piece in pieces {
            assert_eq!(piece.result, Ok(()));
            rig.put_back(piece.blocks);
        }
        answered += 1;
    }
}

#[test]
#[ignore = "a measurement"]
fn commit_load_recheck() {
    for piece_len in [256 << 10, 4 << 20] {
        let sample = Sample::single("one", LEN, piece_len);
        for (how, config) in [("no marks", lazy()), ("marks", DiskConfig::default())] {
            let dir = TempDir::new();
            let mut rig = Rig::new(config);
            rig.open(spec(&sample, &dir)).unwrap();
            let kib = piece_len >> 10;
            let copy = Instant::now();
            for piece in sample.all() {
                rig.put_back(rig.blocks(sample.piece(piece)));
            }
            eprintln!(
                "of which the test's copying takes {:.2} s",
                copy.elapsed().as_secs_f64()
            );
            measure(&format!("commit {kib} KiB, {how}"), || {
                commit_all(&rig, &sample)
            });
            measure("sync", || rig.sync().unwrap());
            if how == "marks" {
                measure("load", || {
                    for piece in sample.all() {
                        rig.load_piece(&sample, piece).unwrap();
                    }
                });
                rig.close().unwrap();
                let again = StorageSpec {
                    recheck: true,
                    ..spec(&sample, &dir)
                };
                measure("recheck", || drop(rig.open(again).unwrap()));
            }
        }
    }
}
