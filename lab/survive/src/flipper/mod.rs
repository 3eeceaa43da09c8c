//! Files that somebody writes to and cuts off while peers read them (G10, G11).
//!
//! One torr has everything, and a second one that it may fetch again from. Peers read from the first, each block compared
//! with what it should be, while bytes of its files are flipped, and files cut off. A wrong block is forgiven if a change
//! of its bytes was less than a second old when it was asked for, or younger. What is changed or cut off is fetched again;
//! that torr ends is a fault (G11).

mod reader;

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::Signal;
use torr_base::Rng;
use torr_interop::payload::Payload;

use crate::child::Program;
use crate::ground::{Ground, PATIENCE, local};
use reader::Reader;

const PEERS: usize = 20;
const PIECE: usize = 256 * 1024;
const PORT: u16 = 4101;
const FILES: &[(&str, u64)] = &[
    ("a", 12 << 20),
    ("b", (9 << 20) + 12_345),
    ("c", 7 << 20),
    ("d", (3 << 20) + 1),
];
/// G10: a change that is older must not show.
const SEEN_AFTER: Duration = Duration::from_secs(1);
/// What the readers take in a second, together.
const RATE: u64 = 60 << 20;
/// How long a file has to be left alone before it is sent from without passing through memory, and a little.
const SETTLED: Duration = Duration::from_secs(62);

/// What was read.
#[derive(Debug, Default)]
pub struct Sum {
    pub flips: u64,
    pub truncations: u64,
    pub blocks: u64,
    /// Wrong ones that G10 forgives.
    pub young: u64,
    /// Wrong ones that it does not.
    pub bad: u64,
    pub readers: usize,
}

impl std::fmt::Display for Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} flips and {} truncations under {} readers, {} blocks, {} bad ones, {} wrong within a second",
            self.flips, self.truncations, self.readers, self.blocks, self.bad, self.young
        )
    }
}

/// Changes of the torrent's bytes: from, to, when it was done.
#[derive(Debug, Default)]
struct Changes(Mutex<Vec<(u64, u64, Instant)>>);

impl Changes {
    /// Makes a change and notes it; nobody judges in between.
    fn make<T>(&self, from: u64, to: u64, change: impl FnOnce() -> T) -> T {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let done = change();
        all.push((from, to, Instant::now()));
        done
    }

    /// Whether a wrong block that was asked for at `asked` is forgiven.
    fn forgives(&self, from: u64, to: u64, asked: Instant) -> bool {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter()
            .any(|(a, b, when)| *a < to && from < *b && *when + SEEN_AFTER >= asked)
    }
}

/// Runs it for `span` in `dir`; with `settle` the files are left alone for a minute before.
pub fn run(dir: &Path, torr: &Path, span: Duration, settle: bool, seed: u64) -> Result<Sum> {
    let payload = Payload::multi("flipped", FILES);
    let ground = Ground::new(dir, torr, payload, PIECE)?;
    let mut truth = Vec::new();
    for (name, _) in FILES {
        truth.extend(std::fs::read(ground.seed_dir().join("flipped").join(name))?);
    }
    let source = ground.seed(PORT)?;
    // Fetched by itself, so that it has a record of its files.
    let (folder, state) = (dir.join("out"), dir.join("state"));
    let mut victim = Victim::start(&ground, &folder, &state)?;
    victim
        .program
        .until(PATIENCE, |torr| torr.has_said("seeding"))?;
    if settle {
        std::thread::sleep(SETTLED);
    }
    let changes = Changes::default();
    let sum = Mutex::new(Sum::default());
    let stop = AtomicBool::new(false);
    let changed = std::thread::scope(|scope| {
        for number in 0..PEERS {
            let reader = Reader {
                addr: local(PORT + 1),
                info_hash: ground.info.info_hash().0,
                geometry: ground.info.geometry(),
                truth: &truth,
                changes: &changes,
                number,
                sum: &sum,
            };
            let rng = Rng::new(seed).fork("reader", number as u64);
            let stop = &stop;
            scope.spawn(move || reader.run(stop, rng));
        }
        let changed = change(&mut victim, &truth, span, &changes, seed);
        stop.store(true, Ordering::Relaxed);
        changed
    });
    let mut sum = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    (sum.flips, sum.truncations) = changed?;
    let mut last = victim.program;
    if last.status()?.is_none() {
        last.signal(Signal::TERM)?;
        let (status, said) = (last.wait(PATIENCE)?, last.said());
        ensure!(
            status.code() == Some(143),
            "torr ended with {status}\n{said}"
        );
    }
    drop(source);
    Ok(sum)
}

/// # Errors
/// Where a guarantee was broken, or too little happened to tell.
pub fn verdict(sum: &Sum) -> Result<()> {
    ensure!(sum.bad == 0, "{} bad blocks", sum.bad);
    ensure!(sum.blocks > 1_000, "only {} blocks were read", sum.blocks);
    ensure!(
        sum.readers >= PEERS / 2,
        "only {} readers got any",
        sum.readers
    );
    Ok(())
}

/// The torr whose files are changed.
struct Victim<'a> {
    folder: &'a Path,
    program: Program,
}

impl<'a> Victim<'a> {
    fn start(ground: &Ground, folder: &'a Path, state: &Path) -> Result<Self> {
        let mut command = ground.command(folder, state);
        command.args(["--seed", "--port", &(PORT + 1).to_string()]);
        command.args(["--up", &RATE.to_string()]);
        command.args(["--peer", &local(PORT).to_string()]);
        let program = Program::start("victim", &ground.dir, &mut command)?;
        Ok(Self { folder, program })
    }

    fn look_after(&mut self) -> Result<()> {
        match self.program.status()? {
            None => Ok(()),
            Some(status) => bail!("torr ended with {status}\n{}", self.program.said()),
        }
    }
}

fn change(
    victim: &mut Victim<'_>,
    truth: &[u8],
    span: Duration,
    changes: &Changes,
    seed: u64,
) -> Result<(u64, u64)> {
    let mut rng = Rng::new(seed).fork("changes", 0);
    let (mut flips, mut truncations) = (0, 0);
    let end = Instant::now() + span;
    while Instant::now() < end {
        std::thread::sleep(Duration::from_millis(10 + rng.below(80)));
        victim.look_after()?;
        let number = rng.index(FILES.len());
        let (name, len) = FILES.get(number).context("a file")?;
        let start: u64 = FILES.iter().take(number).map(|(_, len)| len).sum();
        let path = victim.folder.join("flipped").join(name);
        let file = File::options().write(true).open(path)?;
        let at = rng.below(*len);
        if rng.one_in(40) {
            truncations += 1;
            changes.make(start + at, start + len, || file.set_len(at))?;
        } else {
            flips += 1;
            let right = truth.get((start + at) as usize).context("a byte")?;
            let wrong = [!right];
            changes.make(start + at, start + at + 1, || file.write_all_at(&wrong, at))?;
        }
    }
    Ok((flips, truncations))
}
