//! Processes of a node: logged, bounded in time, and gone when dropped.

use std::fs::File;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::world::Node;

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(50);
/// A process that is asked to leave gets this long.
const LEAVE: Duration = Duration::from_secs(10);

/// A running program in a process group of its own, its output in files.
#[derive(Debug)]
pub struct Proc {
    pub name: String,
    pub stdout: PathBuf,
    pub stderr: PathBuf,
    child: Child,
    status: Option<ExitStatus>,
}

impl Proc {
    /// `command` comes from [`Node::command`].
    pub fn spawn(node: &Node, name: &str, mut command: Command) -> Result<Self> {
        let log = node.dir.join("log");
        // A program that is started again gets logs of its own.
        let again = |n: u32| {
            if n == 1 {
                name.to_owned()
            } else {
                format!("{name}-{n}")
            }
        };
        let free = (1..=1000)
            .map(again)
            .find(|name| !log.join(format!("{name}.out")).exists());
        let name = free.context("too many runs of one program")?;
        let stdout = log.join(format!("{name}.out"));
        let stderr = log.join(format!("{name}.err"));
        let open = |path: &Path| {
            File::options()
                .create(true)
                .append(true)
                .open(path)
                .with_context(|| format!("opening {}", path.display()))
        };
        command
            .stdout(open(&stdout)?)
            .stderr(open(&stderr)?)
            .process_group(0);
        let child = command
            .spawn()
            .with_context(|| format!("starting {name} on {}", node.name))?;
        Ok(Self {
            name: format!("{}/{name}", node.name),
            stdout,
            stderr,
            child,
            status: None,
        })
    }

    /// The program's own id: `ip netns exec` becomes the program.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// None while it runs.
    pub fn status(&mut self) -> Result<Option<ExitStatus>> {
        if self.status.is_none() {
            self.status = self
                .child
                .try_wait()
                .with_context(|| format!("asking after {}", self.name))?;
        }
        Ok(self.status)
    }

    /// Fails if it has ended.
    pub fn check_alive(&mut self) -> Result<()> {
        match self.status()? {
            None => Ok(()),
            Some(status) => bail!("{} ended early: {status}", self.name),
        }
    }

    /// Waits for its end.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.status()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("{} still runs after {} s", self.name, limit.as_secs());
            }
            std::thread::sleep(POLL);
        }
    }

    /// Waits for an end with exit status 0.
    pub fn wait_success(&mut self, limit: Duration) -> Result<()> {
        let status = self.wait(limit)?;
        if !status.success() {
            bail!("{} failed: {status}", self.name);
        }
        Ok(())
    }

    /// Sends `signal` (a name that kill knows) to the whole group.
    pub fn signal(&mut self, signal: &str) -> Result<()> {
        if self.status()?.is_some() {
            return Ok(());
        }
        kill_group(signal, self.child.id())
    }

    /// Asks it to leave and waits; kills it when it does not. Returns the exit status as a shell would show it.
    pub fn terminate(&mut self) -> Result<i32> {
        self.signal("TERM")?;
        let status = match self.wait(LEAVE) {
            Ok(status) => status,
            Err(_) => {
                self.signal("KILL")?;
                self.wait(LEAVE)?
            }
        };
        Ok(status
            .code()
            .unwrap_or_else(|| 128 + status.signal().unwrap_or(0)))
    }

    /// Whether a line of its standard output starts with `prefix`.
    pub fn said(&self, prefix: &str) -> bool {
        std::fs::read_to_string(&self.stdout)
            .is_ok_and(|text| text.lines().any(|line| line.starts_with(prefix)))
    }
}

impl Drop for Proc {
    fn drop(&mut self) {
        self.signal("KILL").ok();
        self.child.wait().ok();
    }
}

/// By the shell's own `kill`: the program of that name takes a small group number for a signal.
fn kill_group(signal: &str, group: u32) -> Result<()> {
    let line = format!("kill -s {signal} -- -{group}");
    Command::new("sh")
        .args(["-c", &line])
        .stderr(Stdio::null())
        .status()
        .context("running kill")?;
    Ok(())
}

/// Polls until `done` says so. The message names what was waited for.
pub fn wait_for(what: &str, limit: Duration, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        if done().with_context(|| format!("waiting for {what}"))? {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("waited {} s for {what}", limit.as_secs());
        }
        std::thread::sleep(POLL);
    }
}

/// What a process has read by system calls, from the page cache too, and what of that came from a device; bytes.
///
/// # Errors
/// Where it is gone.
pub fn read_by(id: u32) -> Result<(u64, u64)> {
    let text = std::fs::read_to_string(format!("/proc/{id}/io"))
        .context("reading the counters of a process")?;
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let value = line.with_context(|| format!("no {name}"))?;
        value
            .trim()
            .parse()
            .with_context(|| format!("{name} is no number"))
    };
    Ok((value("rchar: ")?, value("read_bytes: ")?))
}

/// The kernel's high-water mark of a process's resident memory, in bytes.
pub fn high_water(id: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Runs to the end and returns what it printed; killed after `limit`.
pub fn output(mut command: Command, limit: Duration) -> Result<std::process::Output> {
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()?;
    let id = child.id();
    let (send, receive) = std::sync::mpsc::channel();
    let waiter = std::thread::spawn(move || send.send(child.wait_with_output()));
    let result = receive.recv_timeout(limit);
    if result.is_err() {
        kill_group("KILL", id)?;
    }
    waiter.join().ok();
    match result {
        Ok(output) => Ok(output?),
        Err(_) => bail!("still running after {} s", limit.as_secs()),
    }
}

/// The last lines of every log below `dir`, for a failure's message.
pub fn log_tails(dir: &Path, lines: usize) -> String {
    let mut files = Vec::new();
    collect_logs(dir, &mut files);
    files.sort();
    let mut text = String::new();
    for file in files {
        let Ok(bytes) = std::fs::read(&file) else {
            continue;
        };
        let content = String::from_utf8_lossy(&bytes);
        let all: Vec<&str> = content.lines().collect();
        if all.is_empty() {
            continue;
        }
        let shown = file.strip_prefix(dir).unwrap_or(&file);
        text.push_str(&format!(
            "--- {} (last of {} lines)\n",
            shown.display(),
            all.len()
        ));
        for line in all.iter().skip(all.len().saturating_sub(lines)) {
            text.push_str(&format!(
                "    {}\n",
                line.chars().take(400).collect::<String>()
            ));
        }
    }
    text
}

/// Logs are the files in folders named `log`.
fn collect_logs(dir: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            if entry.file_name() != "data" {
                collect_logs(&path, files);
            }
        } else if dir.file_name().is_some_and(|name| name == "log") {
            files.push(path);
        }
    }
}
