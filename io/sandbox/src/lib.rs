//! What a process takes away from itself before it meets the world.
//!
//! A [`Sandbox`] says which folders and files a process goes on needing; [`Sandbox::enter`] gives up everything
//! else, for good:
//!
//! - **files** (Landlock): what is not named can be neither opened nor made, whatever path, link or
//!   descriptor of a folder leads there; nothing can be executed;
//! - **TCP** (Landlock): no port can be bound but those named and 0, which lets the kernel choose. To connect
//!   stays possible: peers and trackers are anywhere;
//! - **others** (Landlock): no signal, and no abstract Unix socket, of a process outside;
//! - **system calls** (seccomp): see `calls`;
//! - **privileges**: no program that is run gets more than this one has (no-new-privs).
//!
//! Invariants:
//!
//! - It holds for the calling thread and all that it starts, so it is entered while there is no other
//!   ([`SandboxError::Threads`]).
//! - An older kernel closes less, and that is no error: [`Entered`] tells what is left open.
//! - Nothing here decides what a process needs; that is the caller's.
//!
//! What has to stay outside, a command of the user above all, runs in a process [`beside()`].
//!
//! Sources: landlock(7), seccomp(2), and the kernel's `userspace-api/landlock`.

#[cfg(target_os = "linux")]
mod beside;
#[cfg(target_os = "linux")]
mod calls;
#[cfg(not(target_os = "linux"))]
mod elsewhere;
#[cfg(target_os = "linux")]
mod files;
#[cfg(test)]
mod names;
#[cfg(target_os = "linux")]
mod probe;
#[cfg(all(test, target_os = "linux"))]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests;

use std::fmt;
use std::path::PathBuf;

#[cfg(target_os = "linux")]
pub use beside::{Beside, beside};
#[cfg(not(target_os = "linux"))]
pub use elsewhere::{Beside, beside, probe};
#[cfg(target_os = "linux")]
pub use probe::probe;

/// What a process goes on needing. What every program needs (libraries, the resolver's files, certificates,
/// `/dev/null`) needs not be named.
#[derive(Clone, Debug, Default)]
pub struct Sandbox {
    read: Vec<PathBuf>,
    write: Vec<PathBuf>,
    ports: Vec<u16>,
}

/// Why there is no sandbox. What the kernel lacks is none of it.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// They would stay outside, and with them everything that the sandbox is for.
    #[error("there are {0} threads, and it has to be entered while there is one")]
    Threads(usize),
    #[error("{what}: {source}")]
    Refused {
        what: &'static str,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A part of the world that can be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    Files,
    /// Cutting files that may not be written.
    Truncation,
    /// Commands to devices.
    Devices,
    TcpPorts,
    /// Signals, and abstract Unix sockets, of processes outside.
    Processes,
    SystemCalls,
}

/// A sandbox that was entered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entered {
    /// The version of Landlock that is in force; 0 where there is none.
    pub landlock: u32,
    pub seccomp: bool,
}

/// What became of one try to get out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    pub what: &'static str,
    /// What would close it.
    pub part: Part,
    pub outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It worked.
    Open,
    /// The kernel said no, with this error (an errno).
    Refused(i32),
    /// It could not be tried, and why.
    Untried(String),
}

impl Sandbox {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A file, or a folder with all below it, to read. What is not there is left out.
    #[must_use]
    pub fn read(mut self, path: impl Into<PathBuf>) -> Self {
        self.read.push(path.into());
        self
    }

    /// The same to read, write, make and remove in. It has to be there: what is made later is not let in.
    #[must_use]
    pub fn write(mut self, path: impl Into<PathBuf>) -> Self {
        self.write.push(path.into());
        self
    }

    /// A TCP port to bind, besides those that are bound already and 0.
    #[must_use]
    pub fn bind(mut self, port: u16) -> Self {
        self.ports.push(port);
        self
    }

    /// Gives up everything else, for good.
    ///
    /// # Errors
    /// [`SandboxError`]. Part of it may be in force then.
    #[cfg(target_os = "linux")]
    pub fn enter(&self) -> Result<Entered, SandboxError> {
        match beside::threads() {
            Some(1) => self.enter_thread(),
            Some(threads) => Err(SandboxError::Threads(threads)),
            // Without /proc nobody can tell; whoever calls this knows what was started.
            None => self.enter_thread(),
        }
    }

    /// For this thread, whatever others there are.
    #[cfg(target_os = "linux")]
    pub(crate) fn enter_thread(&self) -> Result<Entered, SandboxError> {
        let landlock = files::close(self)?;
        // After the other: it leaves what is needed for neither.
        let seccomp = calls::close()?;
        Ok(Entered { landlock, seccomp })
    }
}

impl Entered {
    /// What this kernel cannot close.
    #[must_use]
    pub fn left_open(&self) -> Vec<Part> {
        Part::ALL
            .into_iter()
            .filter(|part| !self.closes(*part))
            .collect()
    }

    #[must_use]
    pub fn closes(&self, part: Part) -> bool {
        match part.landlock_since() {
            Some((version, _)) => self.landlock >= version,
            None => self.seccomp,
        }
    }
}

impl Part {
    pub const ALL: [Self; 6] = [
        Self::Files,
        Self::Truncation,
        Self::Devices,
        Self::TcpPorts,
        Self::Processes,
        Self::SystemCalls,
    ];

    /// The version of Landlock that can close it, and the Linux that has it; `None` where it is seccomp.
    #[must_use]
    pub fn landlock_since(self) -> Option<(u32, &'static str)> {
        match self {
            Self::Files => Some((1, "5.13")),
            Self::Truncation => Some((3, "6.2")),
            Self::TcpPorts => Some((4, "6.7")),
            Self::Devices => Some((5, "6.10")),
            Self::Processes => Some((6, "6.12")),
            Self::SystemCalls => None,
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Files => "files",
            Self::Truncation => "cutting files",
            Self::Devices => "commands to devices",
            Self::TcpPorts => "TCP ports",
            Self::Processes => "other processes",
            Self::SystemCalls => "system calls",
        })?;
        match self.landlock_since() {
            Some((version, linux)) => write!(f, " (Landlock {version}, Linux {linux})"),
            None => f.write_str(" (seccomp)"),
        }
    }
}
