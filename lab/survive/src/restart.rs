//! A seed set of a tebibyte, killed again and again, and what a start reads before it is ready (G4).
//!
//! ```text
//!   16 torrents of 64 GiB, all of it a hole       ┐ told to be right once (--trust),
//!    4 of them lack a file, which a peer sends    ┘ then never read again
//!
//!   fetch from the peer ──► SIGKILL at a random moment ──► start without the peer ──► SIGKILL ──► fetch …
//!                                                          ready: how much was read?
//! ```
//!
//! What a process has read is counted by the kernel. Holes need not be read to be hashed, so what a start says that it
//! has to check counts as well. One that reads too much is ended there and then.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use rustix::process::Signal;
use torr_base::Rng;
use torr_interop::process::read_by;

use crate::child::Program;
use crate::ground::{PATIENCE, local};
use crate::zeros::Zeros;

const TORRENTS: u32 = 16;
/// Those that are being downloaded.
const ACTIVE: u32 = 4;
const PIECE: u32 = 16 << 20;
/// What is there, of each.
const OLD: u64 = 64 << 30;
/// G4: what a start may read, for each active torrent.
const READ_MAX: u64 = 64 << 20;
const PORT: u16 = 4_121;

/// How much of it.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub kills: u32,
    /// Pieces that come from the peer, of each active torrent.
    pub new_pieces: u32,
    pub seed: u64,
}

/// What was counted.
#[derive(Debug, Default)]
pub struct Sum {
    pub starts: u32,
    /// Bytes that a start read by system calls, at most.
    pub read: u64,
    /// The same from a device.
    pub from_device: u64,
    /// Bytes of the pieces that it hashed, holes among them, at most.
    pub checked: u64,
    pub ready: Duration,
    /// Starts that had something to hash.
    pub hashed: u32,
    bytes: u64,
}

impl std::fmt::Display for Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} starts of {} GiB after SIGKILL, {} with pieces to hash; at most {:.1} MiB read ({:.1} from a \
             device) and {:.1} MiB hashed of {} allowed, ready in at most {:.2} s",
            self.starts,
            self.bytes >> 30,
            self.hashed,
            mib(self.read),
            mib(self.from_device),
            mib(self.checked),
            limit() >> 20,
            self.ready.as_secs_f64()
        )
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / (1 << 20) as f64
}

fn limit() -> u64 {
    u64::from(ACTIVE) * READ_MAX
}

/// Runs it in `dir`.
///
/// # Errors
/// Where G4 was broken, a piece lost, or something else went wrong.
pub fn run(dir: &Path, torr: &Path, plan: Plan) -> Result<Sum> {
    let set = Set::make(dir, torr, plan.new_pieces)?;
    let _source = set.source()?;
    let mut sum = Sum {
        bytes: set.torrents.iter().map(Zeros::total).sum(),
        ..Sum::default()
    };
    let mut rng = Rng::new(plan.seed).fork("kills", 0);
    let new = u64::from(plan.new_pieces) * u64::from(PIECE) * u64::from(ACTIVE);
    let mut done = 0;
    for kill in 0..plan.kills {
        let fetching = set.start("fetch", true)?;
        let share = new * u64::from(kill + 1) / u64::from(plan.kills);
        set.fetch_until(fetching, share / 2 + rng.below(share / 2))?;
        let had = set
            .restart(&mut sum)
            .with_context(|| format!("start {kill}"))?;
        ensure!(
            had >= done,
            "{had} pieces after a kill, and {done} before it"
        );
        done = had;
    }
    let mut last = set.start("fetch", true)?;
    last.until(PATIENCE, |torr| said(torr, "seeding") == TORRENTS as usize)?;
    drop(last);
    let had = set.restart(&mut sum).context("the start of all of it")?;
    ensure!(had == set.pieces(), "{had} of {} pieces", set.pieces());
    // Few kills may each fall right behind a mark.
    ensure!(
        sum.hashed > 0 || plan.kills < 10,
        "no kill left anything to be hashed"
    );
    Ok(sum)
}

struct Set {
    dir: PathBuf,
    torr: PathBuf,
    torrents: Vec<Zeros>,
}

impl Set {
    fn make(dir: &Path, torr: &Path, new_pieces: u32) -> Result<Self> {
        let new = u64::from(new_pieces) * u64::from(PIECE);
        let torrents: Result<Vec<Zeros>> = (0..TORRENTS)
            .map(|number| {
                let all = [("old", OLD), ("new", new)];
                let files = if number < ACTIVE { &all[..] } else { &all[..1] };
                let torrent = Zeros::make(dir, &format!("set-{number}"), PIECE, files)?;
                torrent.lay(&dir.join("source"), |_| true)?;
                torrent.lay(&dir.join("out"), |name| name == "old")?;
                Ok(torrent)
            })
            .collect();
        Ok(Self {
            dir: dir.to_owned(),
            torr: torr.to_owned(),
            torrents: torrents?,
        })
    }

    fn command(&self, folder: &str, port: u16) -> Command {
        let mut command = Command::new(&self.torr);
        command.args(self.torrents.iter().map(|torrent| &torrent.path));
        command.arg("-d").arg(self.dir.join(folder));
        command
            .arg("--state")
            .arg(self.dir.join(format!("{folder}-state")));
        command.args([
            "--json",
            "--progress",
            "json",
            "--no-dht",
            "--no-pex",
            "--seed",
        ]);
        command.args([
            "--trust",
            "--bind",
            "127.0.0.1",
            "--port",
            &port.to_string(),
        ]);
        command
    }

    /// A torr that has everything.
    fn source(&self) -> Result<Program> {
        let mut command = self.command("source", PORT);
        let mut source = Program::start("source", &self.dir, &mut command)?;
        source
            .until(PATIENCE, |torr| said(torr, "seeding") == TORRENTS as usize)
            .context("the peer")?;
        Ok(source)
    }

    /// The torr under test.
    fn start(&self, name: &str, with_peer: bool) -> Result<Program> {
        let mut command = self.command("out", PORT + 1);
        if with_peer {
            command.args(["--peer", &local(PORT).to_string()]);
        }
        Program::start(name, &self.dir, &mut command)
    }

    /// Lets it fetch until so many bytes have come to the files, and kills it.
    fn fetch_until(&self, mut torr: Program, bytes: u64) -> Result<()> {
        torr.until(PATIENCE, |_| self.written() >= bytes)?;
        torr.signal(Signal::KILL)?;
        torr.wait(PATIENCE)?;
        Ok(())
    }

    /// What the new files hold; holes do not count.
    fn written(&self) -> u64 {
        let active = self.torrents.iter().take(ACTIVE as usize);
        active
            .filter_map(|torrent| torrent.file(&self.dir.join("out"), "new").metadata().ok())
            .map(|file| file.blocks() * 512)
            .sum()
    }

    /// Starts it without a peer, looks at what it read until it was ready, kills it; how many pieces there are.
    fn restart(&self, sum: &mut Sum) -> Result<u64> {
        let began = Instant::now();
        let mut torr = self.start("restart", false)?;
        let mut read = (0, 0);
        let mut fault = None;
        torr.until(PATIENCE, |torr| {
            // In this order: what is read later does not count.
            let now = read_by(torr.id());
            let ready = said(torr, "added") == TORRENTS as usize;
            match now {
                Ok(now) => read = now,
                Err(error) => fault = Some(error),
            }
            if read.0 > limit() {
                fault = Some(anyhow!(
                    "{:.0} MiB were read before it was ready, more than {} MiB",
                    mib(read.0),
                    limit() >> 20
                ));
            }
            ready || fault.is_some()
        })?;
        let ready = began.elapsed();
        if let Some(error) = fault {
            return Err(error);
        }
        let mut had = 0;
        torr.until(PATIENCE, |torr| {
            let all = self.progress(torr);
            had = all.unwrap_or(0);
            all.is_some()
        })?;
        torr.signal(Signal::KILL)?;
        torr.wait(PATIENCE)?;
        let checked = self.checked(&torr);
        ensure!(
            checked <= limit(),
            "{:.0} MiB were hashed before it was ready, more than {} MiB",
            mib(checked),
            limit() >> 20
        );
        sum.starts += 1;
        sum.hashed += u32::from(checked > 0);
        sum.checked = sum.checked.max(checked);
        sum.read = sum.read.max(read.0);
        sum.from_device = sum.from_device.max(read.1);
        sum.ready = sum.ready.max(ready);
        Ok(had)
    }

    /// The pieces of all torrents together, once each has told of itself.
    fn progress(&self, torr: &Program) -> Option<u64> {
        let mut done = 0;
        let events = torr.events();
        for torrent in &self.torrents {
            let hash = torrent.info.info_hash().to_string();
            let mine = events.iter().rev().filter(|event| event["hash"] == hash);
            let mut told = mine.filter_map(|event| match event["t"].as_str()? {
                "progress" => event["done"].as_u64(),
                "done" => event["size"].as_u64(),
                _ => None,
            });
            let bytes = told.next()?;
            done += bytes / u64::from(PIECE);
        }
        Some(done)
    }

    /// What it said that it had to check, of all torrents together.
    fn checked(&self, torr: &Program) -> u64 {
        let events = torr.events();
        let of = |torrent: &Zeros| {
            let hash = torrent.info.info_hash().to_string();
            let mine = events
                .iter()
                .filter(|event| event["t"] == "checking" && event["hash"] == hash);
            mine.filter_map(|event| event["total"].as_u64()).max()
        };
        self.torrents.iter().filter_map(of).sum()
    }

    fn pieces(&self) -> u64 {
        let all = self.torrents.iter().map(|torrent| torrent.total());
        all.sum::<u64>() / u64::from(PIECE)
    }
}

/// How many torrents it has said that of.
pub(crate) fn said(torr: &Program, event: &str) -> usize {
    let events = torr.events();
    events.iter().filter(|value| value["t"] == event).count()
}
