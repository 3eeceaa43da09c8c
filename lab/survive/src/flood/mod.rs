//! Clients that mean harm, in numbers, around a torr that seeds (G14, and section 4 of the guarantees).
//!
//! torr runs as it would for anyone, shut in, with `--memory 200M`. First the hostile ones take what places they can get,
//! and come again a second after they were thrown out; then one honest peer comes. It must be in within five seconds, and get
//! most of the 20 MB/s that it asks for. torr must be there at the end, within its memory: a cgroup of 256 MiB where
//! that is to be had, and its peak by the kernel's count everywhere.
//!
//! On the loopback no address stands for a network, so all limits are those of the swarm and the node. In a network namespace
//! where all of 198.18.0.0/15 is ours, each hostile one has a /24 of its own as long as there are any.

mod cage;
mod honest;
mod hostile;

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Resource, Signal, getrlimit, setrlimit};
use torr_interop::payload::Payload;
use torr_interop::process::high_water;

use crate::child::Program;
use crate::ground::{Ground, PATIENCE};
use crate::mounted;
use cage::Cage;
use honest::{Honest, Served};
use hostile::{Crowd, Kind};

const PIECE: usize = 256 * 1024;
const SIZE: u64 = 64 << 20;
const PORT: u16 = 4201;
/// What torr is told, and what it must stay below.
const MEMORY: &str = "200M";
const MEMORY_MAX: u64 = 256 << 20;
/// What the honest peer asks for, in bytes a second.
pub const RATE: u64 = 20_000_000;
const IN_WITHIN: Duration = Duration::from_secs(5);
/// How long the hostile ones are among themselves.
const ALONE: Duration = Duration::from_secs(2);
/// torr's address where networks count. Nobody else is in its /24.
const APART: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 10);

/// How it is run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub long: bool,
    /// What is promised on a machine that does nothing else.
    pub strict: bool,
    /// In a network of our own, where addresses can be had.
    pub networks: bool,
    pub seed: u64,
}

/// Who comes, and from where.
#[derive(Clone, Copy, Debug)]
struct Scene {
    name: &'static str,
    kinds: &'static [Kind],
    count: usize,
    networks: bool,
    span: Duration,
    long: Duration,
}

const fn scene(name: &'static str, kinds: &'static [Kind], count: usize) -> Scene {
    Scene {
        name,
        kinds,
        count,
        networks: false,
        span: Duration::from_secs(5),
        long: Duration::from_secs(60),
    }
}

const SCENES: [Scene; 8] = [
    scene("idle", &[Kind::Idle], 400),
    scene("requests", &[Kind::Requests], 400),
    scene("never-reads", &[Kind::NeverReads], 400),
    scene("slow handshakes", &[Kind::Slow], 800),
    scene("wants and never asks", &[Kind::Interested], 400),
    Scene {
        networks: true,
        ..scene("slow handshakes from many networks", &[Kind::Slow], 1_500)
    },
    Scene {
        networks: true,
        ..scene("all of it from many networks", &Kind::ALL, 2_000)
    },
    Scene {
        span: Duration::from_secs(10),
        long: Duration::from_secs(600),
        ..scene("all of it", &Kind::ALL, 2_000)
    },
];

/// What one scene came to.
#[derive(Debug)]
pub struct Outcome {
    name: &'static str,
    served: Served,
    /// Connections that hostile ones made, and that torr ended.
    connects: u64,
    thrown_out: u64,
    peak: u64,
    caged: bool,
    faults: Vec<String>,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let entered = self.served.entered.map(|took| took.as_secs_f64());
        write!(
            f,
            "flood, {}: in after {} ({} tries), {:.1} MB/s of {}, {} of {} hostile connections ended, peak {} MiB{}",
            self.name,
            entered.map_or("never".to_owned(), |secs| format!("{secs:.2} s")),
            self.served.tries,
            self.served.rate() / 1e6,
            RATE / 1_000_000,
            self.thrown_out,
            self.connects,
            self.peak >> 20,
            if self.caged { " in a cgroup" } else { "" },
        )
    }
}

/// Runs every scene in `dir`, telling of each.
///
/// # Errors
/// Where a promise was broken.
pub fn run(
    dir: &Path,
    torr: &Path,
    only: Option<&str>,
    options: Options,
    say: &dyn Fn(&str),
) -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let most = rustix::process::Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, most).context("descriptors for thousands of connections")?;
    if options.networks {
        let route = ["route", "add", "local", "198.18.0.0/15", "dev", "lo"];
        mounted::run(Command::new("ip").args(route))?;
    } else {
        say("flood: from many networks: skipped: it needs root");
    }
    let ground = Ground::new(dir, torr, Payload::single("flooded.bin", SIZE), PIECE)?;
    let truth = fs::read(ground.seed_dir().join("flooded.bin"))?;
    let mut faults = Vec::new();
    for scene in SCENES {
        let named = only.is_none_or(|only| only == scene.name);
        if !named || (scene.networks && !options.networks) {
            continue;
        }
        let outcome = play(&ground, &truth, scene, options)?;
        say(&outcome.to_string());
        let told = outcome.faults.iter();
        faults.extend(told.map(|fault| format!("{}: {fault}", scene.name)));
    }
    ensure!(faults.is_empty(), "{}", faults.join("; "));
    Ok(())
}

fn play(ground: &Ground, truth: &[u8], scene: Scene, options: Options) -> Result<Outcome> {
    let ip = match scene.networks {
        true => APART,
        false => Ipv4Addr::LOCALHOST,
    };
    let addr = SocketAddr::new(IpAddr::V4(ip), PORT);
    let cage = Cage::new(MEMORY_MAX);
    let mut torr = start(ground, ip, cage.as_ref())?;
    let info_hash = ground.info.info_hash().0;
    let stop = AtomicBool::new(false);
    let span = if options.long { scene.long } else { scene.span };
    let (served, crowd) = std::thread::scope(|scope| {
        let crowd = scope.spawn(|| {
            let mut crowd = Crowd::new(addr, info_hash, scene.kinds, scene.count, options.seed);
            crowd.run(&stop);
            crowd
        });
        std::thread::sleep(ALONE);
        let honest = Honest {
            addr,
            // From a network that no hostile one is in.
            from: scene.networks.then_some(Ipv4Addr::new(198, 19, 255, 10)),
            info_hash,
            truth,
            rate: RATE,
            patience: IN_WITHIN * 6,
        };
        let served = honest.run(span);
        stop.store(true, Ordering::Relaxed);
        (served, crowd.join())
    });
    let crowd = crowd.map_err(|_| anyhow::anyhow!("the hostile ones panicked"))?;
    let mut faults = Vec::new();
    if let Some(status) = torr.status()? {
        faults.push(format!("torr ended with {status}: {}", torr.said()));
    }
    let peak = high_water(torr.id()).unwrap_or_default();
    if cage.as_ref().is_some_and(Cage::killed) {
        faults.push("killed for its memory".to_owned());
    }
    judge(&served, peak, options, &mut faults);
    if torr.status()?.is_none() {
        torr.signal(Signal::TERM)?;
        torr.wait(PATIENCE)?;
    }
    Ok(Outcome {
        name: scene.name,
        served,
        connects: crowd.connects,
        thrown_out: crowd.thrown_out,
        peak,
        caged: cage.is_some(),
        faults,
    })
}

fn judge(served: &Served, peak: u64, options: Options, faults: &mut Vec<String>) {
    let within = match options.strict {
        true => IN_WITHIN,
        false => IN_WITHIN * 2,
    };
    match served.entered {
        None => faults.push("the honest peer never came in".to_owned()),
        Some(took) if took > within => {
            faults.push(format!(
                "the honest peer waited {:.1} s",
                took.as_secs_f64()
            ));
        }
        Some(_) => {}
    }
    // A machine that does other things as well is slow for everybody.
    let share = if options.strict { 0.9 } else { 0.5 };
    if served.rate() < share * RATE as f64 {
        faults.push(format!("it got {:.1} MB/s", served.rate() / 1e6));
    }
    if served.wrong > 0 {
        faults.push(format!("{} wrong blocks", served.wrong));
    }
    if peak > MEMORY_MAX {
        faults.push(format!("{} MiB of memory", peak >> 20));
    }
}

/// A torr that seeds, in its cage where there is one.
fn start(ground: &Ground, ip: Ipv4Addr, cage: Option<&Cage>) -> Result<Program> {
    let mut command = match cage {
        Some(cage) => cage.command(&ground.torr),
        None => Command::new(&ground.torr),
    };
    command
        .arg(&ground.torrent)
        .arg("-d")
        .arg(ground.seed_dir());
    command.arg("--state").arg(ground.dir.join("flood-state"));
    command.args([
        "--seed",
        "--trust",
        "--json",
        "--progress",
        "none",
        "--no-dht",
    ]);
    command.args(["--memory", MEMORY, "--port", &PORT.to_string()]);
    command.args(["--bind", &ip.to_string()]);
    let mut torr = Program::start("flooded", &ground.dir, &mut command)?;
    torr.until(PATIENCE, |torr| torr.has_said("seeding"))?;
    Ok(torr)
}
