//! Tries to get out of the sandbox, really.
//!
//! ```text
//!   this process: makes a file outside, a socket    ──fork──►   the probe: enters the sandbox, tries
//!                 reads what came of it, clears up   ◄──line──
//! ```
//!
//! What would do harm if it worked is asked for with arguments that the kernel cannot take: it then says so, where
//! seccomp says that the call as such is denied.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::ptr;
use std::time::Duration;

use libc::{c_long, c_void};
use rustix::process::{Pid, getpid, test_kill_process};

use crate::{Entered, Outcome, Part, Sandbox, Tried, beside};

/// Nothing that is tried waits for anybody.
const PATIENCE: Duration = Duration::from_secs(30);

/// Enters the sandbox, if any, in a process of its own, and tries everything there. `before` is done before
/// that, and what it gives is kept, as a port that is to be listened on. `home` is a folder whose
/// files are none of the sandbox's business; where it is inside of one of its folders, those for temporary
/// files are taken instead.
///
/// # Errors
/// Where the other process could not be started, or the sandbox not be entered.
pub fn probe<T>(
    sandbox: Option<&Sandbox>,
    home: &Path,
    before: impl FnOnce() -> T,
) -> io::Result<(Option<Entered>, Vec<Tried>)> {
    let ground = Ground::new(sandbox, home)?;
    let beside = beside(|line| {
        let _kept = before();
        in_the_probe(sandbox, &ground, line);
    })?;
    beside.line().set_read_timeout(Some(PATIENCE))?;
    let lines = BufReader::new(beside.line()).lines();
    let lines = lines.collect::<io::Result<Vec<String>>>();
    beside.end()?;
    let mut lines = lines?.into_iter();
    let entered = read_entered(&lines.next().unwrap_or_default())?;
    let tried = TRIES.iter().map(|(what, part, _)| Tried {
        what,
        part: *part,
        outcome: read_outcome(lines.next().as_deref()),
    });
    Ok((entered, tried.collect()))
}

/// What the probe is to lay hands on.
struct Ground {
    /// Removed with all that is in it when this is dropped.
    outside: Option<PathBuf>,
    /// A TCP port that is free.
    port: u16,
    /// An abstract Unix socket of the other process.
    name: Vec<u8>,
    _listener: UnixListener,
    other: Pid,
}

impl Ground {
    fn new(sandbox: Option<&Sandbox>, home: &Path) -> io::Result<Self> {
        let roots = sandbox.map_or(&[][..], |sandbox| &sandbox.write);
        let name = format!("torr-sandbox-probe-{}", std::process::id());
        let places = [home.to_owned(), "/var/tmp".into(), std::env::temp_dir()];
        let outside = places.iter().find_map(|place| {
            let place = place.canonicalize().ok()?;
            let is_inside = |root: &PathBuf| {
                root.canonicalize()
                    .is_ok_and(|root| place.starts_with(root))
            };
            let dir = place.join(format!(".{name}"));
            if roots.iter().any(is_inside) || fs::create_dir(&dir).is_err() {
                return None;
            }
            Some(dir)
        });
        if let Some(dir) = &outside {
            fs::write(dir.join(SECRET), b"private")?;
            fs::write(dir.join("removed"), b"")?;
            fs::create_dir(dir.join("mount"))?;
        }
        let address = SocketAddr::from_abstract_name(name.as_bytes())?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        Ok(Self {
            outside,
            port: port.local_addr()?.port(),
            name: name.into_bytes(),
            _listener: UnixListener::bind_addr(&address)?,
            other: getpid(),
        })
    }

    fn outside(&self, name: &str) -> Result<PathBuf, Outcome> {
        let dir = self.outside.as_ref().ok_or_else(|| {
            Outcome::Untried("no folder outside that files can be made in".to_owned())
        })?;
        Ok(dir.join(name))
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if let Some(dir) = &self.outside {
            // Best effort: what is left is an empty file in a folder that says whose it is.
            let _ = fs::remove_dir_all(dir);
        }
    }
}

const SECRET: &str = "private";

fn in_the_probe(sandbox: Option<&Sandbox>, ground: &Ground, mut line: UnixStream) {
    let first = match sandbox.map(Sandbox::enter) {
        None => "none".to_owned(),
        Some(Ok(entered)) => format!("{} {}", entered.landlock, entered.seccomp),
        Some(Err(error)) => format!("error {error}"),
    };
    let mut text = format!("{first}\n");
    if !first.starts_with("error") {
        for (_, _, attempt) in TRIES {
            text += &match attempt(ground) {
                Ok(()) => "open\n".to_owned(),
                Err(Outcome::Open) => "open\n".to_owned(),
                Err(Outcome::Refused(errno)) => format!("refused {errno}\n"),
                Err(Outcome::Untried(why)) => format!("untried {why}\n"),
            };
        }
    }
    // If nobody reads it, nobody wants to know.
    let _ = line.write_all(text.as_bytes());
}

fn read_entered(line: &str) -> io::Result<Option<Entered>> {
    if line == "none" {
        return Ok(None);
    }
    let entered = line.split_once(' ').and_then(|(landlock, seccomp)| {
        Some(Entered {
            landlock: landlock.parse().ok()?,
            seccomp: seccomp.parse().ok()?,
        })
    });
    let why = line.strip_prefix("error ").unwrap_or("the probe ended");
    entered.map(Some).ok_or_else(|| io::Error::other(why))
}

fn read_outcome(line: Option<&str>) -> Outcome {
    match line.unwrap_or_default().split_once(' ') {
        Some(("refused", errno)) => Outcome::Refused(errno.parse().unwrap_or(libc::EPERM)),
        Some((_, why)) => Outcome::Untried(why.to_owned()),
        None if line == Some("open") => Outcome::Open,
        None => Outcome::Untried("the probe ended before".to_owned()),
    }
}

type Try = Result<(), Outcome>;
type Attempt = fn(&Ground) -> Try;

/// In this order: what changes the probe itself comes last.
const TRIES: &[(&str, Part, Attempt)] = &[
    ("read a file in the home folder", Part::Files, |ground| {
        io(File::open(ground.outside(SECRET)?))
    }),
    ("list a folder outside", Part::Files, |ground| {
        io(fs::read_dir(ground.outside("")?))
    }),
    ("make a file outside", Part::Files, |ground| {
        io(File::create(ground.outside("new")?))
    }),
    ("remove a file outside", Part::Files, |ground| {
        io(fs::remove_file(ground.outside("removed")?))
    }),
    (
        "change the mode of a file outside",
        Part::SystemCalls,
        |ground| {
            let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
            let changed = rustix::fs::chmod(ground.outside(SECRET)?, mode);
            io(changed.map_err(io::Error::from))
        },
    ),
    ("cut a file outside", Part::Truncation, |ground| {
        let path = c_path(&ground.outside(SECRET)?)?;
        // SAFETY: the path ends in NUL and lives until the call returns.
        call(|| unsafe { libc::truncate(path.as_ptr(), 0) }.into())
    }),
    ("start a program", Part::SystemCalls, |_| {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", ":"]).stdin(Stdio::null());
        io(shell.status())
    }),
    ("become another program", Part::SystemCalls, |_| {
        let (path, nothing) = (c"".as_ptr(), ptr::null());
        // SAFETY: the path ends in NUL; no arguments and no environment are allowed. No program has that
        // name, which the kernel says.
        raw(|| unsafe { libc::execve(path, nothing, nothing) }.into())
    }),
    ("bind another TCP port", Part::TcpPorts, |ground| {
        io(TcpListener::bind((Ipv4Addr::LOCALHOST, ground.port)))
    }),
    ("signal another process", Part::Processes, |ground| {
        io(test_kill_process(ground.other).map_err(io::Error::from))
    }),
    (
        "connect to another's abstract socket",
        Part::Processes,
        |ground| {
            let address = SocketAddr::from_abstract_name(&ground.name);
            io(address.and_then(|address| UnixStream::connect_addr(&address)))
        },
    ),
    (
        "read another process's memory",
        Part::SystemCalls,
        |ground| {
            let other = ground.other.as_raw_pid();
            // SAFETY: no ranges are given, so nothing is read or written.
            call(
                || unsafe { libc::process_vm_readv(other, ptr::null(), 0, ptr::null(), 0, 0) }
                    as c_long,
            )
        },
    ),
    ("mount a file system", Part::SystemCalls, |ground| {
        let path = c_path(&ground.outside("mount")?)?;
        let kind = c"tmpfs".as_ptr();
        // SAFETY: the texts end in NUL and live until the calls return; no data is given.
        let mounted =
            call(|| unsafe { libc::mount(kind, path.as_ptr(), kind, 0, ptr::null()) }.into());
        if mounted.is_ok() {
            // SAFETY: as above. It is the one that was mounted a moment ago.
            let _ = unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
        }
        mounted
    }),
    ("load a module into the kernel", Part::SystemCalls, |_| {
        // SAFETY: of no bytes nothing is read.
        raw(|| unsafe { libc::syscall(libc::SYS_init_module, NOTHING, 0, NOTHING) })
    }),
    (
        "load a program into the kernel (bpf)",
        Part::SystemCalls,
        |_| {
            const PROG_LOAD: c_long = 5;
            // SAFETY: of no bytes nothing is read.
            raw(|| unsafe { libc::syscall(libc::SYS_bpf, PROG_LOAD, NOTHING, 0) })
        },
    ),
    ("use the kernel's keys", Part::SystemCalls, |_| {
        const GET_KEYRING_ID: c_long = 0;
        const SESSION: c_long = -3;
        // SAFETY: it takes numbers only, and makes nothing.
        raw(|| unsafe { libc::syscall(libc::SYS_keyctl, GET_KEYRING_ID, SESSION, 0) })
    }),
    ("use io_uring", Part::SystemCalls, |_| {
        // SAFETY: the parameters cannot be read at this address, which the kernel says.
        raw(|| unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, NOTHING) })
    }),
    (
        "watch performance (perf_event_open)",
        Part::SystemCalls,
        |_| {
            // SAFETY: the attributes cannot be read at this address, which the kernel says.
            raw(|| unsafe { libc::syscall(libc::SYS_perf_event_open, NOTHING, 0, -1, -1, 0) })
        },
    ),
    (
        "handle page faults (userfaultfd)",
        Part::SystemCalls,
        |_| {
            const UNKNOWN_FLAG: c_long = 1 << 20;
            // SAFETY: it takes a number only.
            raw(|| unsafe { libc::syscall(libc::SYS_userfaultfd, UNKNOWN_FLAG) })
        },
    ),
    ("open a packet socket", Part::SystemCalls, |_| {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        // SAFETY: it takes numbers only. The descriptor ends with the probe.
        call(|| unsafe { libc::socket(libc::AF_PACKET, kind, 0) }.into())
    }),
    (
        "type into the terminal (TIOCSTI)",
        Part::SystemCalls,
        |_| {
            // SAFETY: there is no such descriptor, so nothing is read.
            raw(|| unsafe { libc::ioctl(-1, libc::TIOCSTI, NOTHING) }.into())
        },
    ),
    ("be traced (ptrace)", Part::SystemCalls, |_| {
        // SAFETY: it changes nothing but who may stop the probe.
        raw(|| unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, NOTHING, NOTHING) })
    }),
    ("make a namespace", Part::SystemCalls, |_| {
        // SAFETY: it takes a number only.
        call(|| unsafe { libc::unshare(libc::CLONE_NEWUSER) }.into())
    }),
];

fn c_path(path: &Path) -> Result<CString, Outcome> {
    let path = CString::new(path.as_os_str().as_bytes());
    path.map_err(|_| Outcome::Untried("a NUL in its path".to_owned()))
}

const NOTHING: *mut c_void = ptr::null_mut();

fn io<T>(done: io::Result<T>) -> Try {
    done.map(drop).map_err(|error| match error.raw_os_error() {
        Some(errno) => Outcome::Refused(errno),
        None => Outcome::Untried(error.to_string()),
    })
}

/// A call whose arguments are right: it works, or is refused.
fn call(call: impl FnOnce() -> c_long) -> Try {
    match call() {
        -1 => io(Err::<(), _>(io::Error::last_os_error())),
        _ => Ok(()),
    }
}

/// A call whose arguments are wrong: what the kernel says of them, it says because it would have done it.
fn raw(call: impl FnOnce() -> c_long) -> Try {
    let refused = [libc::EPERM, libc::EACCES, libc::ENOSYS];
    match self::call(call) {
        Err(Outcome::Refused(errno)) if !refused.contains(&errno) => Ok(()),
        other => other,
    }
}
