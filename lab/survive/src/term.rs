//! Thousands of torrents in one process that is told to end (G5).
//!
//! Each is small and complete, and announces to a tracker that answers everything but `stopped`, at which it hangs.
//! After TERM nothing may be written to any have-log later than two seconds; the process ends by itself, with what
//! `stopped` may cost. Started again it has everything, and hashes nothing. The second time it is killed while it is
//! about to end, and the third start finds the same.

mod tracker;

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use torr_interop::process::read_by;

use crate::child::{Program, ended_by};
use crate::ground::local;
use crate::restart::said;
use crate::zeros::Zeros;
use tracker::Tracker;

const PIECE: u32 = 16 * 1024;
const PORT: u16 = 4_131;
/// G5.
const SAFE_WITHIN: Duration = Duration::from_secs(2);
/// G5, and a little for the process itself.
const GONE_WITHIN: Duration = Duration::from_millis(5_500);
/// Beside a lock for each torrent: files in the cache, connections, and what a process has.
const DESCRIPTORS: usize = 600;
/// What a start may read of each torrent: itself twice, its log, its sums, whose process it was.
const READ_MAX: u64 = 8 * 1024;
/// A start of all of them on a busy machine.
const PATIENCE: Duration = Duration::from_secs(400);

/// What was measured.
#[derive(Debug, Default)]
pub struct Sum {
    torrents: u32,
    ready: Duration,
    /// From TERM until nothing was written to a have-log any more.
    safe: Duration,
    /// From TERM until the process was gone.
    gone: Duration,
    descriptors: usize,
    again: Duration,
    /// Bytes that a start read by system calls, at most.
    read: u64,
    stopped: u64,
}

impl std::fmt::Display for Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} torrents seeded after {:.1} s with {} descriptors; safe {:.2} s after TERM, gone after {:.2} s with \
             {} words of goodbye unanswered; again after {:.1} s, {} KiB read, nothing hashed",
            self.torrents,
            self.ready.as_secs_f64(),
            self.descriptors,
            self.safe.as_secs_f64(),
            self.gone.as_secs_f64(),
            self.stopped,
            self.again.as_secs_f64(),
            self.read >> 10
        )
    }
}

/// Runs it in `dir`. `strict`: the limits on time hold, for a machine that does nothing else.
///
/// # Errors
/// Where G5 was broken, or something else went wrong.
pub fn run(dir: &Path, torr: &Path, torrents: u32, strict: bool) -> Result<Sum> {
    let tracker = Tracker::start()?;
    let house = House::make(dir, torr, torrents, tracker.port())?;
    let mut sum = Sum {
        torrents,
        ..Sum::default()
    };
    let began = Instant::now();
    let mut first = house.start("first", &["--trust"])?;
    house.wait_all(&mut first)?;
    sum.ready = began.elapsed();
    let files = std::fs::read_dir(format!("/proc/{}/fd", first.id()))?;
    sum.descriptors = files.count();
    ensure!(
        sum.descriptors <= torrents as usize + DESCRIPTORS,
        "{} descriptors for {torrents} torrents that do nothing",
        sum.descriptors
    );
    let before = house.mark("before")?;
    let told = Instant::now();
    first.signal(Signal::TERM)?;
    let status = first.wait(PATIENCE)?;
    sum.gone = told.elapsed();
    sum.stopped = tracker.stopped();
    ensure!(status.code() == Some(143), "{status}\n{}", first.said());
    sum.safe = house.last_write()?.saturating_sub(before);

    for (name, kill) in [("second", true), ("third", false)] {
        let began = Instant::now();
        let mut torr = house.start(name, &[])?;
        house.wait_all(&mut torr).context(name)?;
        sum.again = sum.again.max(began.elapsed());
        let read = read_by(torr.id())?.0;
        sum.read = sum.read.max(read);
        let most = READ_MAX * u64::from(torrents) + (8 << 20);
        ensure!(read <= most, "{name}: {read} bytes read, more than {most}");
        ensure!(!torr.has_said("checking"), "{name}: hashed again");
        ensure!(!torr.has_said("error"), "{name}: {}", torr.said());
        torr.signal(Signal::TERM)?;
        if kill {
            std::thread::sleep(Duration::from_millis(50));
            torr.signal(Signal::KILL)?;
            let status = torr.wait(PATIENCE)?;
            ensure!(ended_by(status, Signal::KILL), "{status}");
        } else {
            torr.wait(PATIENCE)?;
        }
    }
    if strict {
        ensure!(sum.safe <= SAFE_WITHIN, "{sum}: that is too late");
        ensure!(sum.gone <= GONE_WITHIN, "{sum}: that is too late");
    }
    Ok(sum)
}

struct House {
    dir: PathBuf,
    torr: PathBuf,
    torrents: u32,
    tracker: u16,
}

impl House {
    fn make(dir: &Path, torr: &Path, torrents: u32, tracker: u16) -> Result<Self> {
        let mut list = String::new();
        for number in 0..torrents {
            let name = format!("small-{number}");
            let torrent = Zeros::make(dir, &name, PIECE, &[("file", PIECE.into())])?;
            torrent.lay(&dir.join("out"), |_| true)?;
            list.push_str(&format!("{}\n", torrent.path.display()));
        }
        std::fs::write(dir.join("list"), list)?;
        Ok(Self {
            dir: dir.to_owned(),
            torr: torr.to_owned(),
            torrents,
            tracker,
        })
    }

    fn start(&self, name: &str, more: &[&str]) -> Result<Program> {
        let mut command = Command::new(&self.torr);
        command.arg("-i").arg(self.dir.join("list"));
        command.arg("-d").arg(self.dir.join("out"));
        command.arg("--state").arg(self.dir.join("state"));
        command.args([
            "--quiet",
            "--json",
            "--progress",
            "none",
            "--seed",
            "--no-dht",
        ]);
        command.args([
            "--no-pex",
            "--bind",
            "127.0.0.1",
            "--port",
            &PORT.to_string(),
        ]);
        let tracker = format!("http://{}/announce", local(self.tracker));
        command.args(["--tracker", &tracker]).args(more);
        Program::start(name, &self.dir, &mut command)
    }

    fn wait_all(&self, torr: &mut Program) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        // Looked at seldom, since it says a lot.
        loop {
            let seeding = said(torr, "seeding");
            if seeding == self.torrents as usize {
                return Ok(());
            }
            let status = torr.status()?;
            ensure!(status.is_none(), "ended early\n{}", torr.said());
            ensure!(!torr.has_said("error"), "{}", torr.said());
            ensure!(Instant::now() < end, "{seeding} seed\n{}", torr.said());
            std::thread::sleep(Duration::from_millis(250));
        }
    }

    /// Now, as files are stamped.
    fn mark(&self, name: &str) -> Result<Duration> {
        let path = self.dir.join(name);
        std::fs::write(&path, name)?;
        modified(&path)
    }

    /// When a have-log was last written to.
    fn last_write(&self) -> Result<Duration> {
        let mut last = Duration::ZERO;
        let mut logs = 0;
        for entry in std::fs::read_dir(self.dir.join("state/torrents"))? {
            let folder = entry?.path();
            for name in ["log", "log.end"] {
                last = last.max(modified(&folder.join(name))?);
                logs += 1;
            }
        }
        ensure!(logs == 2 * self.torrents, "{logs} logs");
        Ok(last)
    }
}

fn modified(path: &Path) -> Result<Duration> {
    let file = path
        .metadata()
        .with_context(|| path.display().to_string())?;
    Ok(Duration::new(file.mtime() as u64, file.mtime_nsec() as u32))
}
