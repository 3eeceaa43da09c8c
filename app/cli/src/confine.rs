//! What torr takes away from itself before it reads what comes from elsewhere.
//!
//! ```text
//!   arguments, settings, list of inputs      trusted
//!   process for --exec                       outside for good
//!   folders made, and a process outside that removes them if they stay empty
//!   port taken
//!   ───────────────── the sandbox is entered: one thread so far ─────────────────
//!   torrents, web servers, trackers, peers
//! ```

use std::ffi::OsString;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use torr::{Listener, SessionConfig, SessionError, StorageError};
use torr_sandbox::{Beside, Entered, Sandbox, SandboxError};

use crate::download::Hooks;
use crate::env::Env;
use crate::failure::{Exit, Failure};

/// What a run may touch.
#[derive(Debug, Default)]
pub(crate) struct Needs {
    /// Files to read.
    pub(crate) read: Vec<PathBuf>,
    /// Folders to write in; made if they are not there.
    pub(crate) write: Vec<PathBuf>,
    /// What to listen with.
    pub(crate) session: Option<SessionConfig>,
    pub(crate) exec: Option<OsString>,
}

/// What was taken before the right to take it was given up.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    pub(crate) listener: Option<Result<Listener, SessionError>>,
    pub(crate) hooks: Hooks,
    pub(crate) tidier: Tidier,
    /// A folder that could not be made, and why.
    pub(crate) unmade: Option<(PathBuf, StorageError)>,
    /// What the kernel leaves open; `None` where there is no sandbox.
    pub(crate) entered: Option<Entered>,
}

/// Removes what folders were made, as far as they are empty, when this is dropped: of what never came nothing
/// is left behind. The process itself may not remove them, as they are in folders that are not its own.
#[derive(Debug, Default)]
pub(crate) struct Tidier(Option<Beside>);

impl Tidier {
    /// `made`: those deepest in come first.
    fn start(made: Vec<PathBuf>) -> Self {
        if made.is_empty() {
            return Self(None);
        }
        let work = move |mut line: std::os::unix::net::UnixStream| {
            // What ends the run at the terminal does not end this before it is done.
            let _ = rustix::process::setsid();
            let _ = line.read_to_end(&mut Vec::new());
            for folder in &made {
                let _ = std::fs::remove_dir(folder);
            }
        };
        // Without it an empty folder is left.
        Self(torr_sandbox::beside(work).ok())
    }
}

impl Drop for Tidier {
    fn drop(&mut self) {
        if let Some(process) = self.0.take() {
            let _ = process.end();
        }
    }
}

/// Confines this process to what it needs. Where that is not wanted, or the process is not torr's own, nothing
/// is taken and nothing closed.
///
/// # Errors
/// Where the kernel has a sandbox and refuses it.
pub(crate) fn confine(env: &Env, wanted: bool, needs: Needs) -> Result<Taken, Failure> {
    if !wanted || !env.own_process {
        return Ok(Taken {
            hooks: needs.exec.map_or(Hooks::None, Hooks::Own),
            ..Taken::default()
        });
    }
    let mut taken = Taken::default();
    if let Some(command) = needs.exec {
        // First of all: it has a copy of all that is open.
        let hooks = Hooks::beside(command).map_err(|error| Failure::io("--exec", &error))?;
        taken.hooks = hooks;
    }
    let mut made = Vec::new();
    for folder in &needs.write {
        let missing = folder.ancestors().take_while(|path| !path.exists());
        let mut missing: Vec<PathBuf> = missing.map(Path::to_owned).collect();
        if let Err(error) = torr::make_folder(folder) {
            taken.unmade.get_or_insert((folder.clone(), error));
        }
        missing.append(&mut made);
        made = missing;
    }
    taken.tidier = Tidier::start(made);
    taken.listener = needs.session.as_ref().map(Listener::bind);
    let sandbox = sandbox(&needs.read, &needs.write);
    taken.entered = Some(sandbox.enter().map_err(|error| refused(&error))?);
    Ok(taken)
}

pub(crate) fn sandbox(read: &[PathBuf], write: &[PathBuf]) -> Sandbox {
    let sandbox = read.iter().fold(Sandbox::new(), Sandbox::read);
    write.iter().fold(sandbox, Sandbox::write)
}

pub(crate) fn refused(error: &SandboxError) -> Failure {
    Failure::new(Exit::Other, "sandbox", error.to_string())
        .hint("--no-sandbox goes without; `torr sandbox` shows what it is for")
}

/// One line: that it is on, and what this kernel leaves open.
pub(crate) fn describe(entered: &Entered) -> String {
    let open = entered.left_open();
    if open.is_empty() {
        return "sandbox: on".to_owned();
    }
    let open: Vec<String> = open.iter().map(ToString::to_string).collect();
    format!(
        "sandbox: on, but this kernel cannot close {}",
        open.join(", ")
    )
}

/// Where a file is that somebody writes later: its folder.
pub(crate) fn folder_of(path: &Path) -> PathBuf {
    path.parent().map_or_else(|| path.into(), Path::to_owned)
}
