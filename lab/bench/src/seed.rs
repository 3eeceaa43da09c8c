//! What it costs the `torr` program to seed: processor seconds for each GiB that it sends over loopback
//! to sinks which ask far ahead and throw away what comes.
//!
//! The program runs on one processor, the sinks on another, where `taskset` is there to see to it. The
//! payload is kept between runs, so that its file is old enough for the fast path.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use sha1::{Digest, Sha1};
use torr_base::Rng;
use torr_metainfo::{Draft, DraftFiles, Metainfo};

use crate::memory::wait_for;

const BLOCK: u64 = 16 << 10;
const PIECE: u64 = 1 << 20;
/// Requests that a sink has under way.
const DEPTH: u64 = 256;
/// A run that takes longer has failed.
const TIME_MAX: Duration = Duration::from_secs(300);

/// What to measure.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) torr: PathBuf,
    /// The payload is made here, once.
    pub(crate) folder: PathBuf,
    pub(crate) payload_mib: u64,
    pub(crate) sent_mib: u64,
    pub(crate) peers: u64,
    pub(crate) runs: u32,
}

/// Prints one line for each run.
pub(crate) fn measure(plan: &Plan) -> Result<()> {
    let torrent = payload(plan)?;
    let hash = Metainfo::parse(&fs::read(&torrent)?)?.info().info_hash().0;
    // What was written a moment ago counts as being changed still.
    let made = fs::metadata(plan.folder.join("data/payload"))?;
    let age = made.modified()?.elapsed().unwrap_or_default();
    std::thread::sleep(Duration::from_secs(62).saturating_sub(age));
    for _ in 0..plan.runs {
        run(plan, &torrent, hash)?;
    }
    Ok(())
}

fn payload(plan: &Plan) -> Result<PathBuf> {
    let torrent = plan.folder.join(format!("{}.torrent", plan.payload_mib));
    let data = plan.folder.join("data");
    let total = plan.payload_mib << 20;
    fs::create_dir_all(&data)?;
    let file = data.join("payload");
    if torrent.exists() && file.metadata().is_ok_and(|meta| meta.len() == total) {
        // Into the page cache, if it is not there.
        std::io::copy(&mut File::open(&file)?, &mut std::io::sink())?;
        return Ok(torrent);
    }
    let mut out = File::create(&file)?;
    let (mut rng, mut hashes) = (Rng::new(7), Vec::new());
    let mut piece = vec![0; usize::try_from(PIECE)?];
    for _ in 0..total / PIECE {
        rng.fill(&mut piece);
        hashes.extend(Sha1::digest(&piece));
        out.write_all(&piece)?;
    }
    out.sync_all()?;
    let draft = Draft {
        name: "payload".into(),
        files: DraftFiles::Single(total),
        piece_len: u32::try_from(PIECE)?,
        hashes,
        ..Draft::default()
    };
    fs::write(&torrent, draft.encode()?)?;
    Ok(torrent)
}

fn run(plan: &Plan, torrent: &Path, hash: [u8; 20]) -> Result<()> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut seed = start(plan, torrent, port)?;
    let result = (|| {
        wait_for(&mut seed, "\"t\":\"seeding\"")?;
        let began = Instant::now();
        let (user, system) = spent(seed.id())?;
        let sent = sink_all(plan, port, hash)?;
        let (user_after, system_after) = spent(seed.id())?;
        let gib = sent as f64 / f64::from(1 << 30);
        println!(
            "{} peers: {:.3} CPU s/GiB ({:.3} user, {:.3} system), {gib:.2} GiB in {:.1} s",
            plan.peers,
            (user_after - user + system_after - system) / gib,
            (user_after - user) / gib,
            (system_after - system) / gib,
            began.elapsed().as_secs_f64(),
        );
        Ok(())
    })();
    seed.kill().ok();
    seed.wait().ok();
    fs::remove_dir_all(plan.folder.join("state")).ok();
    result
}

fn start(plan: &Plan, torrent: &Path, port: u16) -> Result<Child> {
    let pin = Command::new("taskset").arg("-V").output().is_ok();
    let mut command = if pin {
        let mut command = Command::new("taskset");
        command.args(["-c", "0"]).arg(&plan.torr);
        // This process and the threads that it starts from here on.
        let own = std::process::id().to_string();
        Command::new("taskset")
            .args(["-a", "-p", "-c", "1", &own])
            .output()
            .ok();
        command
    } else {
        Command::new(&plan.torr)
    };
    command
        .arg(torrent)
        .arg("-d")
        .arg(plan.folder.join("data"))
        .arg("--state")
        .arg(plan.folder.join("state"))
        .args(["--json", "--quiet", "--trust", "--seed"])
        .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .with_context(|| format!("cannot start {}: build it first", plan.torr.display()))
}

/// User and system seconds of a process and its threads, those that ended too.
fn spent(process: u32) -> Result<(f64, f64)> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').context("no such line")?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut next = || -> Result<f64> {
        let ticks: u64 = fields.next().context("a short line")?.parse()?;
        // USER_HZ, which is 100 wherever Linux runs.
        Ok(ticks as f64 / 100.0)
    };
    Ok((next()?, next()?))
}

/// All sinks at once, until they got what was planned together; bytes of blocks.
fn sink_all(plan: &Plan, port: u16, hash: [u8; 20]) -> Result<u64> {
    let (got, goal) = (AtomicU64::new(0), plan.sent_mib << 20);
    let blocks = (plan.payload_mib << 20) / BLOCK;
    std::thread::scope(|scope| {
        let sinks = (0..plan.peers).map(|n| {
            let sink = Sink {
                got: &got,
                goal,
                blocks,
                next: n * blocks / plan.peers,
                owed: 0,
            };
            scope.spawn(move || sink.run(port, hash, n))
        });
        let sinks: Vec<_> = sinks.collect();
        for sink in sinks {
            let Ok(result) = sink.join() else {
                bail!("a sink panicked")
            };
            result?;
        }
        Ok(got.load(Ordering::Relaxed))
    })
}

struct Sink<'a> {
    got: &'a AtomicU64,
    goal: u64,
    blocks: u64,
    /// Asked for next.
    next: u64,
    owed: u64,
}

impl Sink<'_> {
    fn run(mut self, port: u16, hash: [u8; 20], n: u64) -> Result<()> {
        let began = Instant::now();
        let mut socket = TcpStream::connect(("127.0.0.1", port))?;
        // Choked ones look at the time now and then.
        socket.set_read_timeout(Some(Duration::from_millis(500)))?;
        let mut hello = b"\x13BitTorrent protocol\0\0\0\0\0\0\0\0".to_vec();
        hello.extend(hash);
        hello.extend(format!("-SI0000-{n:012}").as_bytes());
        // Interested.
        hello.extend([0, 0, 0, 1, 2]);
        socket.write_all(&hello)?;
        let mut buf = vec![0; 256 << 10];
        let (mut len, mut skip, mut greeted) = (0, 0, false);
        while self.got.load(Ordering::Relaxed) < self.goal {
            ensure!(began.elapsed() < TIME_MAX, "it takes too long");
            let n = match socket.read(&mut buf[len..]) {
                Ok(0) => bail!("the seed closed the connection"),
                Ok(n) => n,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error.into()),
            };
            len += n;
            let mut at = 0;
            if !greeted && len >= 68 {
                greeted = true;
                at = 68;
            }
            if greeted {
                at = self.hear(&mut socket, &buf[..len], at, &mut skip)?;
            }
            buf.copy_within(at..len, 0);
            len -= at;
        }
        Ok(())
    }

    /// Takes whole messages, and of blocks what is there; tells how far it came.
    fn hear(
        &mut self,
        socket: &mut TcpStream,
        bytes: &[u8],
        mut at: usize,
        skip: &mut usize,
    ) -> Result<usize> {
        loop {
            let now = (*skip).min(bytes.len() - at);
            at += now;
            *skip -= now;
            let Some(head) = bytes.get(at..at + 5) else {
                break;
            };
            let size = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
            *skip = size + 4;
            match head[4] {
                _ if size == 0 => {}
                // Choke: what was asked for is dropped.
                0 => self.owed = 0,
                1 => self.ask(socket)?,
                7 => {
                    let payload = size as u64 - 9;
                    self.got.fetch_add(payload, Ordering::Relaxed);
                    self.owed = self.owed.saturating_sub(1);
                    if self.owed <= DEPTH * 3 / 4 {
                        self.ask(socket)?;
                    }
                }
                _ => {}
            }
        }
        Ok(at)
    }

    fn ask(&mut self, socket: &mut TcpStream) -> Result<()> {
        let mut out = Vec::with_capacity(DEPTH as usize * 17);
        while self.owed < DEPTH {
            let at = self.next % self.blocks * BLOCK;
            out.extend([0, 0, 0, 13, 6]);
            for word in [at / PIECE, at % PIECE, BLOCK] {
                out.extend(u32::try_from(word)?.to_be_bytes());
            }
            self.next += 1;
            self.owed += 1;
        }
        socket.write_all(&out)?;
        Ok(())
    }
}
