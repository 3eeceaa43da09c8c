//! Systems without Landlock and seccomp: everything stays open, and [`Entered`](crate::Entered) says so.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::{Entered, Sandbox, SandboxError, Tried};

/// Never made here.
#[derive(Debug)]
pub struct Beside(UnixStream);

impl Beside {
    #[must_use]
    pub fn line(&self) -> &UnixStream {
        &self.0
    }

    /// # Errors
    /// None here.
    pub fn end(self) -> io::Result<bool> {
        Ok(true)
    }
}

/// # Errors
/// Always: where there is no sandbox nothing has to stay outside of it.
pub fn beside(_work: impl FnOnce(UnixStream)) -> io::Result<Beside> {
    Err(io::ErrorKind::Unsupported.into())
}

/// # Errors
/// Always.
pub fn probe<T>(
    _sandbox: Option<&Sandbox>,
    _home: &Path,
    _before: impl FnOnce() -> T,
) -> io::Result<(Option<Entered>, Vec<Tried>)> {
    Err(io::ErrorKind::Unsupported.into())
}

impl Sandbox {
    /// # Errors
    /// None here.
    pub fn enter(&self) -> Result<Entered, SandboxError> {
        Ok(Entered {
            landlock: 0,
            seccomp: false,
        })
    }
}
