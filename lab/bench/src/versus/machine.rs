//! The machine: what it is, which CPU does what, and memory that costs nobody a surprise.

use std::fs;
use std::hint::black_box;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::thread::{CpuSet, sched_setaffinity};
use serde_json::{Value, json};

/// The client under test has this CPU for itself …
pub(crate) const CLIENT_CPUS: &str = "0";
/// … and everything that serves it this one.
const HARNESS_CPU: usize = 1;
/// Memory that the warm-up leaves alone.
const SPARE_KIB: u64 = 512 << 10;
const PAGE: usize = 4096;

#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cpus: usize,
    pub(crate) memory_gib: f64,
    pub(crate) kernel: String,
    /// Which hash instructions it has.
    pub(crate) avx512: bool,
    pub(crate) sha_ni: bool,
    /// CPUs that were busy in the last moments before the first run: with more than 0.5 the figures are noise.
    pub(crate) load: f64,
}

impl Machine {
    pub(crate) fn look() -> Result<Self> {
        let info = fs::read_to_string("/proc/cpuinfo").context("reading cpuinfo")?;
        let field = |name: &str| {
            let line = info.lines().find(|line| line.starts_with(name));
            let value = line.and_then(|line| Some(line.split_once(':')?.1.trim().to_owned()));
            value.unwrap_or_default()
        };
        let flags = field("flags");
        let has = |flag: &str| flags.split_whitespace().any(|word| word == flag);
        let cpus = info
            .lines()
            .filter(|line| line.starts_with("processor"))
            .count();
        Ok(Self {
            cpu: field("model name"),
            cpus,
            memory_gib: memory_kib("MemTotal:")? as f64 / f64::from(1 << 20),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?
                .trim()
                .to_owned(),
            avx512: has("avx512f") && has("avx512bw"),
            sha_ni: has("sha_ni"),
            load: busy_share()? * cpus as f64,
        })
    }

    /// For tasks that may take the whole machine.
    pub(crate) fn all_cpus(&self) -> String {
        // A figure for two CPUs is comparable between machines.
        (if self.cpus > 1 { "0,1" } else { "0" }).to_owned()
    }

    /// Whether that is what [`Self::json`] told of this machine, but for what else it was doing.
    pub(crate) fn is_that_of(&self, told: &Value) -> bool {
        let mut own = self.json();
        own["load"] = told["load"].clone();
        own == *told
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "cpu": self.cpu, "cpus": self.cpus, "memory_gib": self.memory_gib, "kernel": self.kernel,
            "avx512": self.avx512, "sha_ni": self.sha_ni, "load": self.load,
        })
    }
}

/// How much of all CPUs is in use, over two seconds. The kernel's load would still tell of the build before.
fn busy_share() -> Result<f64> {
    let before = cpu_time()?;
    std::thread::sleep(Duration::from_secs(2));
    let after = cpu_time()?;
    let (all, idle) = (after.0 - before.0, after.1 - before.1);
    Ok(1.0 - idle as f64 / all.max(1) as f64)
}

/// Ticks of all CPUs so far, and those in which there was nothing to do or nothing but waiting for a disk.
fn cpu_time() -> Result<(u64, u64)> {
    let text = fs::read_to_string("/proc/stat").context("reading /proc/stat")?;
    let line = text.lines().next().unwrap_or_default();
    let ticks = line
        .split_whitespace()
        .skip(1)
        .map_while(|word| word.parse().ok());
    let ticks: Vec<u64> = ticks.collect();
    Ok((ticks.iter().sum(), ticks.iter().skip(3).take(2).sum()))
}

/// Moves the harness, with all threads that it starts from now on, off the client's CPU.
pub(crate) fn pin_harness(machine: &Machine) -> Result<()> {
    if machine.cpus > HARNESS_CPU {
        let mut set = CpuSet::new();
        set.set(HARNESS_CPU);
        sched_setaffinity(None, &set).context("pinning the harness")?;
    }
    Ok(())
}

/// Touches up to `bytes` of free memory and lets it go again: on a virtual machine the first touch of a page that the
/// host had taken back is dear, and would be charged to whichever client comes first.
pub(crate) fn warm_memory(bytes: u64) -> Result<()> {
    let free = memory_kib("MemFree:")?.saturating_sub(SPARE_KIB) << 10;
    let mut memory = vec![0u8; usize::try_from(bytes.min(free))?];
    for page in memory.chunks_mut(PAGE) {
        if let Some(first) = page.first_mut() {
            *first = 1;
        }
    }
    black_box(&memory);
    Ok(())
}

fn memory_kib(name: &str) -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo").context("reading meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let word = line.and_then(|line| line.split_whitespace().next());
    word.and_then(|word| word.parse().ok())
        .with_context(|| format!("no {name} in meminfo"))
}
