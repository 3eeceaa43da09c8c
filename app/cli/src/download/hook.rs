//! `--exec`: what a person wants to be run when a torrent is done.
//!
//! In the sandbox nothing can be run. So the command is run by a process that stayed outside of it. That one was
//! given the command before; all that it takes from this process is what a torrent is called, how large it is and
//! where it is:
//!
//! ```text
//!   request   index: u32, then four times length: u32, bytes       hash, name, path, size
//!   reply     index: u32, kind: u32, number: i32                   0: wait status, 1: errno
//! ```

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;
use torr_sandbox::Beside;

use crate::download::run::News;

/// Names are shorter than 256 bytes, paths than 4 KiB.
const VALUE_LEN_MAX: u32 = 64 << 10;

/// Who runs the command.
#[derive(Debug, Default)]
pub(crate) enum Hooks {
    #[default]
    None,
    /// This process.
    Own(OsString),
    /// Another one.
    Beside(Beside),
}

/// What the command is told of a torrent: the variables `TORR_HASH`, `TORR_NAME`, `TORR_PATH`, `TORR_SIZE`.
pub(super) struct Told([OsString; 4]);

const NAMES: [&str; 4] = ["TORR_HASH", "TORR_NAME", "TORR_PATH", "TORR_SIZE"];

impl Told {
    pub(super) fn new(hash: &str, name: &str, path: &OsStr, size: u64) -> Self {
        Self([
            hash.into(),
            name.into(),
            path.to_owned(),
            size.to_string().into(),
        ])
    }
}

impl Hooks {
    /// A process beside this one, to be called while this one has a single thread and nothing open.
    ///
    /// # Errors
    /// Where there can be none.
    pub(crate) fn beside(command: OsString) -> io::Result<Self> {
        torr_sandbox::beside(move |line| serve(&command, line)).map(Self::Beside)
    }
}

/// Hooks that can be started: each is answered once by [`News::Hook`].
pub(super) enum Runner {
    None,
    Own(OsString, mpsc::Sender<News>),
    Beside {
        line: Beside,
        running: Arc<Mutex<BTreeSet<usize>>>,
    },
}

impl Runner {
    pub(super) fn new(hooks: Hooks, news: mpsc::Sender<News>) -> Self {
        match hooks {
            Hooks::None => Self::None,
            Hooks::Own(command) => Self::Own(command, news),
            Hooks::Beside(line) => {
                let running = Arc::new(Mutex::new(BTreeSet::new()));
                if let Ok(replies) = line.line().try_clone() {
                    let running = Arc::clone(&running);
                    // Not joined: it ends with the line, and the process does not wait for it.
                    std::thread::spawn(move || pass_on(replies, &running, &news));
                }
                Self::Beside { line, running }
            }
        }
    }

    /// True if there is a command, and it was started.
    pub(super) fn start(&self, index: usize, told: Told) -> bool {
        match self {
            Self::None => return false,
            Self::Own(command, news) => {
                let (command, news) = (command.clone(), news.clone());
                tokio::spawn(async move {
                    let ran = tokio::task::spawn_blocking(move || run(&command, &told)).await;
                    let ran = ran.unwrap_or_else(|error| Err(io::Error::other(error)));
                    let _ = news.send(News::Hook(index, in_words(ran))).await;
                });
            }
            Self::Beside { line, running } => {
                lock(running).insert(index);
                let request = request(index, &told);
                // If nobody reads it any more, whoever waits for replies finds that out as well.
                let _ = line.line().write_all(&request);
            }
        }
        true
    }
}

fn lock(running: &Mutex<BTreeSet<usize>>) -> std::sync::MutexGuard<'_, BTreeSet<usize>> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells what commands came to, until the other process is gone.
fn pass_on(mut line: UnixStream, running: &Mutex<BTreeSet<usize>>, news: &mpsc::Sender<News>) {
    let mut reply = [0; 12];
    while line.read_exact(&mut reply).is_ok() {
        let (index, ran) = read_reply(reply);
        lock(running).remove(&index);
        if news
            .blocking_send(News::Hook(index, in_words(ran)))
            .is_err()
        {
            return;
        }
    }
    let left = std::mem::take(&mut *lock(running));
    for index in left {
        let why = "the process that runs it is gone".to_owned();
        let _ = news.blocking_send(News::Hook(index, Err(why)));
    }
}

fn in_words(ran: io::Result<ExitStatus>) -> Result<(), String> {
    match ran {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(status.to_string()),
        Err(error) => Err(crate::failure::plain_io(&error)),
    }
}

fn run(command: &OsStr, told: &Told) -> io::Result<ExitStatus> {
    let mut shell = Command::new("/bin/sh");
    shell
        .arg(OsStr::new("-c"))
        .arg(command)
        .stdin(Stdio::null())
        .envs(NAMES.iter().zip(&told.0));
    shell.status()
}

/// The other process: commands side by side, as they are asked for, until there is nobody left to ask.
fn serve(command: &OsStr, line: UnixStream) {
    let mut requests = &line;
    std::thread::scope(|scope| {
        while let Ok((index, told)) = read_request(&mut requests) {
            let mut replies = &line;
            scope.spawn(move || {
                // One write, so that replies do not mix.
                let _ = replies.write_all(&reply(index, run(command, &told)));
            });
        }
    });
}

fn request(index: usize, told: &Told) -> Vec<u8> {
    let mut out = number(index).to_vec();
    for value in &told.0 {
        let bytes = value.as_bytes();
        let bytes = bytes.get(..VALUE_LEN_MAX as usize).unwrap_or(bytes);
        out.extend(number(bytes.len()));
        out.extend(bytes);
    }
    out
}

fn read_request(line: &mut impl Read) -> io::Result<(u32, Told)> {
    let index = read_number(line)?;
    let mut told = Told(Default::default());
    for value in &mut told.0 {
        let len = read_number(line)?;
        if len > VALUE_LEN_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut bytes = vec![0; len as usize];
        line.read_exact(&mut bytes)?;
        *value = OsString::from_vec(bytes);
    }
    Ok((index, told))
}

fn reply(index: u32, ran: io::Result<ExitStatus>) -> [u8; 12] {
    let (kind, value) = match ran {
        Ok(status) => (0_u32, status.into_raw()),
        // A NUL in a name, for one, has no number.
        Err(error) => (1, error.raw_os_error().unwrap_or(22)),
    };
    let mut out = [0; 12];
    out[..4].copy_from_slice(&index.to_le_bytes());
    out[4..8].copy_from_slice(&kind.to_le_bytes());
    out[8..].copy_from_slice(&value.to_le_bytes());
    out
}

fn read_reply(bytes: [u8; 12]) -> (usize, io::Result<ExitStatus>) {
    let [a, b, c, d, k, _, _, _, v0, v1, v2, v3] = bytes;
    let index = u32::from_le_bytes([a, b, c, d]) as usize;
    let value = i32::from_le_bytes([v0, v1, v2, v3]);
    match k {
        0 => (index, Ok(ExitStatus::from_raw(value))),
        _ => (index, Err(io::Error::from_raw_os_error(value))),
    }
}

/// There are fewer torrents, and shorter values.
fn number(value: usize) -> [u8; 4] {
    u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes()
}

fn read_number(line: &mut impl Read) -> io::Result<u32> {
    let mut bytes = [0; 4];
    line.read_exact(&mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_heard() {
        let path = OsStr::from_bytes(b"/a\xffb\n");
        let told = Told::new("ab", "name", path, 7);
        let bytes = request(3, &told);
        let (index, heard) = read_request(&mut bytes.as_slice()).unwrap();
        assert_eq!((index, heard.0), (3, told.0));
        let (index, ran) = read_reply(reply(9, Ok(ExitStatus::from_raw(3 << 8))));
        assert_eq!((index, ran.unwrap().code()), (9, Some(3)));
        let (_, ran) = read_reply(reply(9, Err(io::Error::from_raw_os_error(2))));
        assert_eq!(ran.unwrap_err().raw_os_error(), Some(2));
    }

    #[test]
    fn no_value_is_too_long_for_the_other_process() {
        let mut bytes = number(0).to_vec();
        bytes.extend(number(VALUE_LEN_MAX as usize + 1));
        assert!(read_request(&mut bytes.as_slice()).is_err());
        let long = "x".repeat(VALUE_LEN_MAX as usize + 1);
        let request = request(0, &Told::new("", &long, OsStr::new(""), 0));
        assert!(read_request(&mut request.as_slice()).is_ok());
    }
}
