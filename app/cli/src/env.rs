//! Everything of the outside world that a run may touch as text: arguments, streams, environment.
//!
//! Tests hand in their own, so that a whole run can be looked at without a process.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// What a run is given.
#[derive(Debug)]
pub struct Env {
    /// The first one is the program.
    pub args: Vec<OsString>,
    pub vars: BTreeMap<OsString, OsString>,
    pub cwd: PathBuf,
    pub stdin: Input,
    /// Results, and nothing else.
    pub out: Output,
    /// All talk.
    pub err: Output,
    /// The process is there for this run alone, which may take rights away from it for good.
    pub own_process: bool,
}

/// Standard input.
pub struct Input {
    reader: Box<dyn Read + Send>,
    /// Someone may sit there.
    pub tty: bool,
    /// It is the process's own, from which keys can be had as they are pressed.
    pub(crate) is_process: bool,
}

/// Standard output or error. Cheap to clone; all clones write to the same place.
#[derive(Clone)]
pub struct Output {
    inner: Arc<Mutex<Inner>>,
    /// The width of the terminal, if it is one.
    width: Option<fn() -> u16>,
}

struct Inner {
    sink: Box<dyn Write + Send>,
    /// The first error. Nothing is written after it.
    error: Option<io::Error>,
}

impl Env {
    /// That of this process.
    #[must_use]
    pub fn of_process() -> Self {
        use crate::terminal;
        Self {
            args: std::env::args_os().collect(),
            vars: std::env::vars_os().collect(),
            cwd: std::env::current_dir().unwrap_or_else(|_| PathBuf::from(".")),
            stdin: Input::of_process(),
            out: Output::new(io::stdout(), terminal::width_of_stdout()),
            err: Output::new(io::stderr(), terminal::width_of_stderr()),
            own_process: true,
        }
    }

    /// A variable that is set and not empty.
    pub(crate) fn var(&self, name: &str) -> Option<&OsStr> {
        let value = self.vars.get(OsStr::new(name)).map(OsString::as_os_str);
        value.filter(|value| !value.is_empty())
    }

    /// Where a path of the command line is.
    pub(crate) fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        if path.as_os_str() == "." {
            return self.cwd.clone();
        }
        self.cwd.join(path)
    }

    /// A folder of the XDG base directories: `variable`, or `below_home` in the home folder.
    pub(crate) fn xdg(&self, variable: &str, below_home: &str) -> Option<PathBuf> {
        // The specification has relative paths ignored.
        let set = self.var(variable).map(PathBuf::from);
        set.filter(|path| path.is_absolute()).or_else(|| {
            let home = self.var("HOME").map(PathBuf::from);
            home.map(|home| home.join(below_home))
        })
    }
}

impl Input {
    pub fn new(reader: impl Read + Send + 'static, tty: bool) -> Self {
        Self {
            reader: Box::new(reader),
            tty,
            is_process: false,
        }
    }

    fn of_process() -> Self {
        let tty = crate::terminal::is_terminal(&io::stdin());
        Self {
            is_process: true,
            ..Self::new(io::stdin(), tty)
        }
    }

    /// All of it, but at most `max` + 1 bytes: one more than `max` says that there is more.
    pub(crate) fn read_all(&mut self, max: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
        self.reader.by_ref().take(limit).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Input")
            .field("tty", &self.tty)
            .finish_non_exhaustive()
    }
}

impl Output {
    pub fn new(sink: impl Write + Send + 'static, width: Option<fn() -> u16>) -> Self {
        let inner = Inner {
            sink: Box::new(sink),
            error: None,
        };
        Self {
            inner: Arc::new(Mutex::new(inner)),
            width,
        }
    }

    pub(crate) fn is_tty(&self) -> bool {
        self.width.is_some()
    }

    /// Columns of the terminal; 80 where there is none.
    pub(crate) fn width(&self) -> u16 {
        self.width.map_or(80, |width| width())
    }

    /// Writes a line. What happens to it, [`Self::state`] tells.
    pub(crate) fn line(&self, line: impl fmt::Display) {
        self.write(format!("{line}\n").as_bytes());
    }

    /// Writes at once, so that lines of several threads do not mix.
    pub(crate) fn write(&self, bytes: &[u8]) {
        let mut inner = self.lock();
        if inner.error.is_none() {
            let written = inner
                .sink
                .write_all(bytes)
                .and_then(|()| inner.sink.flush());
            inner.error = written.err();
        }
    }

    pub(crate) fn state(&self) -> State {
        match &self.lock().error {
            None => State::Open,
            Some(error) if error.kind() == io::ErrorKind::BrokenPipe => State::Left,
            Some(error) => State::Failed(crate::failure::plain_io(error)),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output")
            .field("tty", &self.is_tty())
            .finish_non_exhaustive()
    }
}

/// How a stream fared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Open,
    /// Its reader left (EPIPE), as `head` does when it has enough. No fault of anyone.
    Left,
    Failed(String),
}
