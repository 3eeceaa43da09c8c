//! One client as a process: started on its CPUs, watched, counted by the kernel, and gone when dropped.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use torr_interop::process::high_water;

use super::client::{Done, Launch};
use super::poll::readable;

/// How often memory, markers and stalls are looked at; an end is seen at once.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// A client that is asked to leave gets this long.
const LEAVE: Duration = Duration::from_secs(10);
/// Linux counts CPU time for programs in hundredths of a second, whatever its own clock.
const TICKS_PER_SEC: f64 = 100.0;

/// CPU seconds of a process and of those of its children that have ended.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cpu {
    pub(crate) user: f64,
    pub(crate) sys: f64,
}

impl Cpu {
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            user: self.user - earlier.user,
            sys: self.sys - earlier.sys,
        }
    }
}

/// What the harness itself has used so far: the source or the sink, and the watching.
pub(crate) fn own_cpu() -> Cpu {
    // Without its children, which are the clients.
    read_cpu(std::process::id(), false).unwrap_or_default()
}

/// How a wait ended.
#[derive(Debug)]
pub(crate) enum Waited {
    /// After so long from the start, with what it had used by then.
    Done(Duration, Cpu),
    Failed(String),
    /// No progress for too long, or too long altogether.
    Stalled,
}

/// When to give up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    pub(crate) whole: Duration,
    pub(crate) silence: Duration,
}

#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    handle: OwnedFd,
    began: Instant,
    done: Done,
    /// When its output last said the word that `done` waits for.
    said: Arc<Mutex<Option<Instant>>>,
    listener: Option<JoinHandle<()>>,
    log: std::path::PathBuf,
    peak_bytes: u64,
}

impl Running {
    /// `cpus` as taskset knows them. Output goes to `log`, but for standard output where `done` reads it.
    pub(crate) fn start(launch: Launch, cpus: &str, home: &Path) -> Result<Self> {
        let log = home.join("log");
        let open = || {
            File::options()
                .create(true)
                .append(true)
                .open(&log)
                .with_context(|| format!("opening {}", log.display()))
        };
        let reads = matches!(launch.done, Done::Said(_));
        let mut command = Command::new("taskset");
        command
            .args(["-c", cpus])
            .args(&launch.argv)
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .envs([("LANG", "C.UTF-8"), ("TERM", "dumb")])
            .env("HOME", home)
            .env("XDG_CONFIG_HOME", home)
            .env("XDG_STATE_HOME", home)
            .env("XDG_CACHE_HOME", home)
            .env("XDG_DATA_HOME", home)
            // Torr alone knows it; the others are told in their own ways.
            .env("TORR_NO_DHT", "true")
            .current_dir(home)
            .stdin(Stdio::null())
            .stdout(if reads {
                Stdio::piped()
            } else {
                open()?.into()
            })
            .stderr(open()?);
        let began = Instant::now();
        let mut child = command.spawn().context("starting taskset")?;
        let pid = Pid::from_child(&child);
        let handle = pidfd_open(pid, PidfdFlags::empty()).context("watching a process")?;
        let said = Arc::default();
        let mut listener = None;
        if let (Some(out), Done::Said(word)) = (child.stdout.take(), &launch.done) {
            let (word, said) = (*word, Arc::clone(&said));
            // Ends with the process, which holds the pipe's other end.
            listener = Some(std::thread::spawn(move || listen(out, word, &said)));
        }
        Ok(Self {
            child,
            handle,
            began,
            done: launch.done,
            said,
            listener,
            log,
            peak_bytes: 0,
        })
    }

    /// Waits until the client is done in its way. `progress` is any number that grows while it works.
    pub(crate) fn wait(&mut self, patience: Patience, mut progress: impl FnMut() -> u64) -> Waited {
        let (mut last, mut moved) = (progress(), Instant::now());
        loop {
            let ended = !readable(std::slice::from_ref(&self.handle), LOOK_EVERY).is_empty();
            self.sample();
            let word = *self.said.lock().unwrap_or_else(PoisonError::into_inner);
            match (&self.done, ended) {
                (Done::Exit, true) => return self.ended(None),
                (Done::Said(_), true) => {
                    self.let_listener_catch_up();
                    let word = *self.said.lock().unwrap_or_else(PoisonError::into_inner);
                    return self.ended(word);
                }
                (Done::Marker(_) | Done::Seeds, true) => {
                    return Waited::Failed(self.complaint("it ended early"));
                }
                (Done::Marker(path), false) if path.exists() => {
                    return Waited::Done(self.began.elapsed(), self.cpu());
                }
                (Done::Said(word_wanted), false) if !word_wanted.ends && word.is_some() => {
                    let at = word.unwrap_or(self.began);
                    return Waited::Done(at - self.began, self.cpu());
                }
                (Done::Exit | Done::Said(_) | Done::Marker(_) | Done::Seeds, false) => {}
            }
            let now = progress();
            if now != last {
                (last, moved) = (now, Instant::now());
            }
            if moved.elapsed() > patience.silence || self.began.elapsed() > patience.whole {
                return Waited::Stalled;
            }
        }
    }

    /// The last words before the end may still be in the pipe.
    fn let_listener_catch_up(&self) {
        let deadline = Instant::now() + LOOK_EVERY;
        let listener = self.listener.as_ref();
        while listener.is_some_and(|thread| !thread.is_finished()) && Instant::now() < deadline {
            std::thread::yield_now();
        }
    }

    /// At the end of the process, from its remains: the kernel keeps the figures until it is waited for.
    fn ended(&mut self, word: Option<Instant>) -> Waited {
        let took = word.unwrap_or_else(Instant::now) - self.began;
        let cpu = self.cpu();
        match self.child.wait() {
            Ok(status) if status.success() => Waited::Done(took, cpu),
            Ok(status) => Waited::Failed(self.complaint(&status.to_string())),
            Err(error) => Waited::Failed(error.to_string()),
        }
    }

    /// Fails once it has ended.
    pub(crate) fn check_alive(&mut self) -> Result<()> {
        self.sample();
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => anyhow::bail!(self.complaint(&status.to_string())),
        }
    }

    pub(crate) fn cpu(&self) -> Cpu {
        read_cpu(self.child.id(), true).unwrap_or_default()
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// The most resident memory seen so far.
    pub(crate) fn peak_bytes(&self) -> u64 {
        self.peak_bytes
    }

    pub(crate) fn sample(&mut self) {
        let seen = high_water(self.child.id()).unwrap_or(0);
        self.peak_bytes = self.peak_bytes.max(seen);
    }

    /// `what`, and the last line that the client said.
    pub(crate) fn complaint(&self, what: &str) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let last = text.lines().rev().find(|line| !line.trim().is_empty());
        match last {
            Some(line) => format!(
                "{what}: {}",
                line.trim().chars().take(160).collect::<String>()
            ),
            None => what.to_owned(),
        }
    }

    fn leave(&mut self) -> Result<Option<ExitStatus>> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(Some(status));
        }
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        readable(std::slice::from_ref(&self.handle), LEAVE);
        Ok(self.child.try_wait()?)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !matches!(self.leave(), Ok(Some(_))) {
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }
}

fn listen(out: impl std::io::Read, word: super::client::Word, said: &Mutex<Option<Instant>>) {
    let mut lines = BufReader::new(out);
    let mut line = Vec::new();
    while matches!(lines.read_until(b'\n', &mut line), Ok(1..)) {
        let now = Instant::now();
        if line
            .windows(word.text.len())
            .any(|part| part == word.text.as_bytes())
        {
            *said.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
        }
        line.clear();
    }
}

/// Its own time, and that of reaped children if wanted, out of `/proc/PID/stat`, which a process keeps until it is waited for.
fn read_cpu(process: u32, children: bool) -> Option<Cpu> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name, in brackets, may hold anything; numbers follow it.
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |number: usize| -> Option<f64> { fields.get(number)?.parse().ok() };
    let reaped = if children { 1.0 } else { 0.0 };
    Some(Cpu {
        user: (ticks(11)? + reaped * ticks(13)?) / TICKS_PER_SEC,
        sys: (ticks(12)? + reaped * ticks(14)?) / TICKS_PER_SEC,
    })
}
