//! A place to watch, and to fail, what is asked of the operating system.

use std::fmt;
use std::sync::Arc;

use rustix::io::Errno;

use crate::errno::Sys;

/// What is about to be asked of the operating system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Open a file that exists.
    Open,
    /// Make a file or a folder.
    Create,
    Read,
    Write,
    /// Reserve or cut.
    Resize,
    /// Sync one file or folder.
    Sync,
    /// Sync a whole file system.
    SyncAll,
    /// Ask how much room there is.
    Room,
    /// Append to the have-log.
    LogWrite,
    LogSync,
}

type Watch = dyn Fn(Call, &str) -> Option<i32> + Send + Sync;

/// Called before each [`Call`] with the path as errors show it; an error number as the answer makes the
/// call fail with it. For tests: in production there is none, which costs one branch a system call.
#[derive(Clone, Default)]
pub struct Hook(Option<Arc<Watch>>);

impl Hook {
    pub fn new(watch: impl Fn(Call, &str) -> Option<i32> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(watch)))
    }

    pub(crate) fn ask(&self, call: Call, path: &str) -> Sys<()> {
        match self.0.as_ref().and_then(|watch| watch(call, path)) {
            None => Ok(()),
            Some(errno) => Err(Errno::from_raw_os_error(errno)),
        }
    }

    /// The same where it costs something to say the path.
    pub(crate) fn ask_with(&self, call: Call, path: impl FnOnce() -> String) -> Sys<()> {
        if self.0.is_none() {
            return Ok(());
        }
        self.ask(call, &path())
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Hook" } else { "no hook" })
    }
}
