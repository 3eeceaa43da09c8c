//! A process that stays outside.

use std::fs;
use std::io;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rustix::process::{Pid, WaitOptions, waitpid};

/// A process that was started by [`beside()`], and the line to it. When this is dropped, it finds the line at
/// its end; it is not waited for.
#[derive(Debug)]
pub struct Beside {
    line: UnixStream,
    process: Pid,
}

impl Beside {
    #[must_use]
    pub fn line(&self) -> &UnixStream {
        &self.line
    }

    /// Lets go of the line and waits for its end. True if it ended well.
    ///
    /// # Errors
    /// Where there is no such process.
    pub fn end(self) -> io::Result<bool> {
        drop(self.line);
        loop {
            match waitpid(Some(self.process), WaitOptions::empty()) {
                Ok(Some((_, status))) => return Ok(status.exit_status() == Some(0)),
                Ok(None) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Starts a process that does `work` with its end of a line to this one, and ends with it: a copy of this
/// process, which has everything that is open here. So it is started before anything is opened, and of
/// course before a sandbox is entered.
///
/// # Errors
/// Where there are other threads, whose locks would stay locked in the copy for ever; where the kernel has
/// no room for it.
pub fn beside(work: impl FnOnce(UnixStream)) -> io::Result<Beside> {
    if threads() != Some(1) {
        return Err(io::Error::other("a process with threads cannot be copied"));
    }
    let (line, theirs) = UnixStream::pair()?;
    // SAFETY: after a fork in a process with threads only few functions may be called; this one has a single
    // thread, which was asked for above, and none can start in between: this is that thread.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            drop(line);
            let ended = catch_unwind(AssertUnwindSafe(|| work(theirs)));
            // Neither what the other process left in its buffers nor its exit handlers are ours to run.
            // SAFETY: it takes a number and does not return.
            unsafe { libc::_exit(i32::from(ended.is_err())) }
        }
        pid => Ok(Beside {
            line,
            process: Pid::from_raw(pid).expect("a child has a number above 0"),
        }),
    }
}

/// How many threads this process has; `None` where there is no `/proc`.
pub(crate) fn threads() -> Option<usize> {
    let tasks = fs::read_dir("/proc/self/task").ok()?;
    Some(tasks.count())
}
