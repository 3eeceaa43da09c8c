//! Programs under test: their output in a file, an end in bounded time, and gone when dropped.

use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const POLL: Duration = Duration::from_millis(10);

/// A running program.
#[derive(Debug)]
pub struct Program {
    child: Child,
    name: String,
    out: PathBuf,
    err: PathBuf,
}

impl Program {
    /// Starts it; what it says is in `NAME.out` and `NAME.err` in `dir`.
    pub fn start(name: &str, dir: &Path, command: &mut Command) -> Result<Self> {
        let (out, err) = (
            dir.join(format!("{name}.out")),
            dir.join(format!("{name}.err")),
        );
        let child = command
            .stdin(Stdio::null())
            .stdout(File::create(&out)?)
            .stderr(File::create(&err)?)
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        let name = name.to_owned();
        Ok(Self {
            child,
            name,
            out,
            err,
        })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn status(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(self.id().cast_signed()).context("a process has an id")?;
        kill_process(pid, signal).with_context(|| format!("sending a signal to {}", self.name))
    }

    /// Waits for its end.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = self.status()? {
                return Ok(status);
            }
            if Instant::now() > end {
                bail!("{} still runs after {limit:?}\n{}", self.name, self.said());
            }
            std::thread::sleep(POLL);
        }
    }

    /// Waits for an end with status 0.
    pub fn wait_success(&mut self, limit: Duration) -> Result<()> {
        let status = self.wait(limit)?;
        if !status.success() {
            bail!("{} ended with {status}\n{}", self.name, self.said());
        }
        Ok(())
    }

    /// Waits until `done` says so; fails if the program ends before.
    pub fn until(&mut self, limit: Duration, mut done: impl FnMut(&Self) -> bool) -> Result<()> {
        let end = Instant::now() + limit;
        while !done(self) {
            if let Some(status) = self.status()? {
                bail!("{} ended early with {status}\n{}", self.name, self.said());
            }
            if Instant::now() > end {
                bail!("{}: nothing after {limit:?}\n{}", self.name, self.said());
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// What torr said with `--json`.
    pub fn events(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.out).unwrap_or_default();
        let lines = text.lines();
        lines
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    pub fn has_said(&self, event: &str) -> bool {
        self.events().iter().any(|value| value["t"] == event)
    }

    pub fn output(&self) -> String {
        std::fs::read_to_string(&self.out).unwrap_or_default()
    }

    /// The last of what it said, for a message.
    pub fn said(&self) -> String {
        let mut text = std::fs::read_to_string(&self.err).unwrap_or_default();
        text.push_str(&self.output());
        let lines: Vec<&str> = text.lines().collect();
        lines
            .get(lines.len().saturating_sub(12)..)
            .unwrap_or_default()
            .join("\n")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether it was ended by that signal.
pub fn ended_by(status: ExitStatus, signal: Signal) -> bool {
    status.signal() == Some(signal.as_raw())
}
