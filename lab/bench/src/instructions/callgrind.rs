//! One workload under valgrind's callgrind: the instructions that it executes, for each block.

use std::fs;
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::meter;

/// A workload takes seconds under callgrind; one that takes longer has got stuck.
const TIME_MAX: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(20);
const MISSING: &str = "valgrind is not installed, and nothing else counts instructions: \
     run `.ci/install` as root, or `apt-get install valgrind`";
/// Has the C library copy as it would on the plainest x86-64, so that the count is the same on all of them.
/// Also, valgrind takes `rep movsb` byte by byte, which made the harness ten times as slow.
const PLAIN_CPU: (&str, &str) = (
    "GLIBC_TUNABLES",
    "glibc.cpu.hwcaps=-AVX2,-AVX_Fast_Unaligned_Load,-ERMS,-FSRM",
);

/// Instructions for each block of `workload`, which this program knows by that name. Writes into `folder`.
pub(super) fn per_block(workload: &str, folder: &Path) -> Result<f64> {
    let out = folder.join(workload);
    let mut command = Command::new("valgrind");
    command
        .args(["--tool=callgrind", "--quiet", "--vgdb=no", meter::TOGGLE])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(std::env::current_exe()?)
        .args(["workload", workload])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env(torr_hash::SWITCH, "portable")
        .env(PLAIN_CPU.0, PLAIN_CPU.1);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) if error.kind() == ErrorKind::NotFound => bail!(MISSING),
        Err(error) => return Err(error).context("starting valgrind"),
    };
    let status = wait(&mut child).with_context(|| format!("{workload} under callgrind"))?;
    ensure!(status.success(), "{workload} under callgrind: {status}");
    let mut said = String::new();
    let stdout = child.stdout.as_mut().context("its output is taken")?;
    stdout.read_to_string(&mut said)?;
    let blocks: u64 = said.trim().parse().context("reading how many blocks")?;
    ensure!(blocks > 0, "{workload} was of no block");
    let text = fs::read_to_string(&out).context("reading what callgrind wrote")?;
    let counted = total(&text).context("callgrind gives no total")?;
    ensure!(counted > 0, "callgrind counted nothing of {workload}");
    Ok(counted as f64 / blocks as f64)
}

/// What it prints is one short line, which nobody needs to read meanwhile.
fn wait(child: &mut Child) -> Result<ExitStatus> {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if began.elapsed() > TIME_MAX {
            child.kill().ok();
            child.wait().ok();
            bail!("it did not end within {} s", TIME_MAX.as_secs());
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// The sum over all functions, out of a file in callgrind's format.
fn total(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("totals:"));
    line?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_found() {
        let text = "# callgrind format\nevents: Ir\nsummary: 7\n\nfn=(1) f\n3 12\n\ntotals: 12\n";
        assert_eq!(total(text), Some(12));
        assert_eq!(total("events: Ir\nfn=(1) f\n3 12\n"), None);
        assert_eq!(total("totals: many\n"), None);
    }
}
