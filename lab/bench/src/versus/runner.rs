//! One run of one contender in one case.

use std::ffi::OsString;
use std::fs;
use std::net::{SocketAddrV4, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use torr_metainfo::Metainfo;

use super::case::Case;
use super::client::{Contender, Done, Job, Kind, LISTEN, Launch, Task};
use super::ground::{self, RAW, Stage, TRACKER, seed_address, verify};
use super::machine::{CLIENT_CPUS, Machine};
use super::process::{Cpu, Patience, Running, Waited, own_cpu};
use super::sink;
use super::source::Source;
use super::tracker::Tracker;

/// A daemon that is to verify has begun by then.
const VERIFY_STARTS: Duration = Duration::from_secs(1);
const ASK_EVERY: Duration = Duration::from_millis(100);

/// A seed that is not through by then is cut off; what it cost is counted for the bytes that came.
const SEED_MAX: Duration = Duration::from_secs(60);

/// It stopped in the middle, or was too slow by far.
#[derive(Debug)]
pub(crate) struct Stalled(String);

impl std::error::Error for Stalled {}

impl std::fmt::Display for Stalled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What one run cost.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) cpu: Cpu,
    /// To the last verified byte, or the last one sent.
    pub(crate) wall: f64,
    /// To the end of the program, where it ends by itself: torr has synced by then.
    pub(crate) exit: Option<f64>,
    pub(crate) peak_bytes: u64,
    pub(crate) bytes: u64,
    /// What serving it cost the harness: more than the client's own share would make the harness the bottleneck.
    pub(crate) harness: Cpu,
}

/// The fresh folders of a run.
struct Place<'a> {
    case: &'a Case,
    stage: &'a Stage,
    cpus: String,
    data: std::path::PathBuf,
    home: std::path::PathBuf,
}

/// None if the contender cannot do this.
pub(crate) fn run(
    case: &Case,
    stage: &Stage,
    contender: &Contender,
    machine: &Machine,
    work: &Path,
) -> Result<Option<Figures>> {
    let folder = work.join("run");
    ground::set_aside(&folder, work)?;
    let wide = matches!(case.task, Task::Check | Task::Create);
    let place = Place {
        case,
        stage,
        cpus: if wide {
            machine.all_cpus()
        } else {
            CLIENT_CPUS.to_owned()
        },
        data: folder.join("data"),
        home: folder.join("home"),
    };
    for folder in [&place.data, &place.home] {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    }
    let result = place.run(contender);
    ground::set_aside(&folder, work)?;
    result
}

impl Place<'_> {
    fn run(&self, contender: &Contender) -> Result<Option<Figures>> {
        let task = self.case.task;
        // A leech starts with nothing; the others work on what is there.
        let data = if task == Task::Leech {
            &self.data
        } else {
            &self.stage.folder
        };
        let job = Job {
            task,
            torrent: &self.stage.torrent,
            data,
            name: &self.stage.payload.name,
            piece_len: self.case.piece_len,
            home: &self.home,
            raw: RAW,
            rc4: self.case.rc4,
        };
        if contender.kind == Kind::Floor && (self.case.peers > 1 || self.case.rc4) {
            return Ok(None);
        }
        // The floor knows no files.
        if contender.kind == Kind::Floor && !self.stage.payload.is_single() {
            return Ok(None);
        }
        let Some(launch) = contender.launch(&job)? else {
            return Ok(None);
        };
        match task {
            Task::Leech => self.leech(launch, contender.kind == Kind::Floor),
            Task::Seed if contender.kind == Kind::Floor => self.floor_seed(launch),
            Task::Seed => self.seed(launch),
            Task::Check => self.check(launch),
            Task::Create => self.create(launch),
        }
        .map(Some)
    }

    fn patience(&self) -> Patience {
        let gib = self.stage.shape.total.div_ceil(1 << 30);
        Patience {
            whole: Duration::from_secs(30 + 30 * gib),
            silence: Duration::from_secs(30),
        }
    }

    fn leech(&self, launch: Launch, raw: bool) -> Result<Figures> {
        let peers: Vec<SocketAddrV4> = match raw {
            true => vec![RAW],
            false => (0..self.case.peers).map(seed_address).collect(),
        };
        let shape = self.stage.shape;
        let before = own_cpu();
        let source = Source::start(&self.stage.image, shape, &peers, raw, self.case.rc4)?;
        let tracker = Tracker::start(TRACKER, &peers)?;
        let ends = launch.done != Done::Exit;
        let mut running = Running::start(launch, &self.cpus, &self.home)?;
        let waited = running.wait(self.patience(), || source.sent());
        let exit = running.elapsed().as_secs_f64();
        let ended = ends && running.check_alive().is_err();
        let (wall, cpu) = good(waited, &running, source.sent())?;
        let peak_bytes = running.peak_bytes();
        drop(running);
        drop((source, tracker));
        let harness = own_cpu().since(before);
        verify(self.stage, &self.data)?;
        Ok(Figures {
            cpu,
            wall,
            exit: ended.then_some(exit),
            peak_bytes,
            bytes: shape.total,
            harness,
        })
    }

    fn seed(&self, launch: Launch) -> Result<Figures> {
        let patience = self.patience();
        let shape = self.stage.shape;
        let mut running = Running::start(launch, &self.cpus, &self.home)?;
        sink::wait_full(LISTEN, shape, self.case.rc4, patience.whole, || {
            running.check_alive()
        })?;
        let mut leeches = sink::connect(LISTEN, shape, self.case.rc4, self.case.peers)?;
        let (before, own) = (running.cpu(), own_cpu());
        let began = Instant::now();
        let limit = SEED_MAX.min(patience.whole);
        let bytes = sink::drain(&mut leeches, shape.total, limit, patience.silence)?;
        // As if a slow one had gone on to the end.
        let wall = began.elapsed().as_secs_f64() * shape.total as f64 / bytes as f64;
        let cpu = running.cpu().since(before);
        running.sample();
        Ok(Figures {
            cpu,
            wall,
            exit: None,
            peak_bytes: running.peak_bytes(),
            bytes,
            harness: own_cpu().since(own),
        })
    }

    fn floor_seed(&self, launch: Launch) -> Result<Figures> {
        let patience = self.patience();
        let mut running = Running::start(launch, &self.cpus, &self.home)?;
        let mut stream = loop {
            running.check_alive()?;
            match TcpStream::connect(LISTEN) {
                Ok(stream) => break stream,
                Err(error) if running.elapsed() > patience.silence => return Err(error.into()),
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        stream.set_read_timeout(Some(patience.silence))?;
        let began = Instant::now();
        let mut buffer = vec![0; 256 << 10];
        while std::io::Read::read(&mut stream, &mut buffer)? > 0 {}
        let wall = began.elapsed().as_secs_f64();
        let waited = running.wait(patience, || 0);
        let (_, cpu) = good(waited, &running, 0)?;
        Ok(Figures {
            cpu,
            wall,
            exit: None,
            peak_bytes: running.peak_bytes(),
            bytes: self.stage.shape.total,
            harness: Cpu::default(),
        })
    }

    fn check(&self, launch: Launch) -> Result<Figures> {
        let mut patience = self.patience();
        // Nobody outside sees how far it is.
        patience.silence = patience.whole;
        let shape = self.stage.shape;
        let seeds = launch.done == Done::Seeds;
        let verify = launch.verify.clone();
        let mut running = Running::start(launch, &self.cpus, &self.home)?;
        let (wall, cpu) = if seeds {
            sink::wait_full(LISTEN, shape, self.case.rc4, patience.whole, || {
                running.check_alive()
            })?;
            match verify {
                Some(remote) => verify_again(&mut running, &remote, patience)?,
                None => (running.elapsed().as_secs_f64(), running.cpu()),
            }
        } else {
            let waited = running.wait(patience, || 0);
            good(waited, &running, 0)?
        };
        running.sample();
        Ok(Figures {
            cpu,
            wall,
            exit: None,
            peak_bytes: running.peak_bytes(),
            bytes: shape.total,
            harness: Cpu::default(),
        })
    }

    fn create(&self, launch: Launch) -> Result<Figures> {
        let figures = self.check(launch)?;
        let read = |path: &Path| -> Result<Metainfo> { Ok(Metainfo::parse(&fs::read(path)?)?) };
        let made = read(&self.home.join("new.torrent")).context("reading the new torrent")?;
        let known = read(&self.stage.torrent)?;
        ensure!(
            made.info().hashes() == known.info().hashes(),
            "the new torrent has other hashes"
        );
        Ok(figures)
    }
}

/// Has a daemon verify what it took on trust, and watches until it is through.
fn verify_again(
    running: &mut Running,
    remote: &[OsString],
    patience: Patience,
) -> Result<(f64, Cpu)> {
    let (program, args) = remote.split_first().context("an empty command")?;
    let ask = |word: &str| -> Result<bool> {
        let mut command = Command::new(program);
        let output = command.args(args).arg(word).output();
        let output = output.context("asking the daemon")?;
        Ok(String::from_utf8_lossy(&output.stdout).contains("Verifying"))
    };
    let (before, began) = (running.cpu(), Instant::now());
    ask("--verify")?;
    let mut seen = false;
    while began.elapsed() < patience.whole {
        running.check_alive()?;
        let busy = ask("--info")?;
        seen |= busy;
        // A small check may be over before the first look.
        if !busy && (seen || began.elapsed() > VERIFY_STARTS) {
            let took = if seen { began.elapsed() } else { VERIFY_STARTS };
            return Ok((took.as_secs_f64(), running.cpu().since(before)));
        }
        std::thread::sleep(ASK_EVERY);
    }
    bail!("stalled while it verified");
}

fn good(waited: Waited, running: &Running, bytes: u64) -> Result<(f64, Cpu)> {
    match waited {
        Waited::Done(took, cpu) => Ok((took.as_secs_f64(), cpu)),
        Waited::Failed(why) => bail!(why),
        Waited::Stalled => {
            let why = running.complaint(&format!("stalled after {bytes} bytes"));
            Err(Stalled(why).into())
        }
    }
}
