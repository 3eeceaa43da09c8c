//! The contenders: where each program lies, and how it is told to do a task.

mod aria2;
mod find;
mod makers;
mod rqbit;
mod rtorrent;
mod script;
mod torr;
mod transmission;

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};

use anyhow::Result;

pub(crate) use find::{all, lab};

/// Where the client under test listens, if it seeds.
pub(crate) const LISTEN: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 18, 0, 1), 51413);
/// More peers than any case has.
const PEERS_MAX: u32 = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Torr,
    Floor,
    Libtorrent,
    Rqbit,
    Aria2,
    Transmission,
    Rtorrent,
    Mktorrent,
    Imdl,
}

/// A program in one version, with the settings that it runs with.
#[derive(Clone, Debug)]
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// Its version, or why it cannot be had.
    pub(crate) version: Result<String, String>,
    program: PathBuf,
    /// It lives in a system tree of its own.
    root: Option<PathBuf>,
    /// Torr's `--memory`, where it is not the default.
    memory: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// From the peers that the tracker names; leaves when done, where it can.
    Leech,
    /// What lies in `data` already.
    Seed,
    /// Hash what lies in `data`, all of which is right.
    Check,
    /// Make a torrent of what lies in `data`.
    Create,
}

/// What a contender is to do.
#[derive(Clone, Debug)]
pub(crate) struct Job<'a> {
    pub(crate) task: Task,
    pub(crate) torrent: &'a Path,
    /// Holds the payload, or gets it.
    pub(crate) data: &'a Path,
    /// The payload's file or folder in there.
    pub(crate) name: &'a str,
    pub(crate) piece_len: u32,
    /// A fresh folder for settings, state and logs.
    pub(crate) home: &'a Path,
    /// Where the raw source listens, for the floor.
    pub(crate) raw: SocketAddrV4,
    /// Encrypt everything, and take nothing else.
    pub(crate) rc4: bool,
}

/// A command line, and what shows that the task is done.
#[derive(Debug)]
pub(crate) struct Launch {
    pub(crate) argv: Vec<OsString>,
    pub(crate) done: Done,
    /// How to talk to a daemon that verifies only when told to; it understands `--verify` and `--info`.
    pub(crate) verify: Option<Vec<OsString>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    /// It ends with status 0.
    Exit,
    /// It makes this file.
    Marker(PathBuf),
    /// Its standard output has a line with this.
    Said(Word),
    /// It shows all pieces to whoever connects.
    Seeds,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) text: &'static str,
    /// The last such line counts, and the program ends by itself later.
    pub(crate) ends: bool,
}

impl Contender {
    /// None if it cannot do such a task.
    pub(crate) fn launch(&self, job: &Job<'_>) -> Result<Option<Launch>> {
        Ok(match self.kind {
            Kind::Torr => Some(torr::launch(self, job)),
            Kind::Floor => torr::floor(self, job),
            Kind::Libtorrent => Some(script::launch(self, job)?),
            // It knows no encryption.
            Kind::Rqbit if job.rc4 => None,
            Kind::Rqbit => rqbit::launch(self, job),
            Kind::Aria2 => aria2::launch(self, job),
            Kind::Transmission => Some(transmission::launch(self, job)?),
            Kind::Rtorrent => rtorrent::launch(self, job)?,
            Kind::Mktorrent => makers::mktorrent(self, job),
            Kind::Imdl => makers::imdl(self, job),
        })
    }

    /// The start of its command line: `program` lies where the contender itself does.
    fn argv(&self, program: &Path) -> Vec<OsString> {
        let mut argv: Vec<OsString> = Vec::new();
        if let Some(root) = &self.root {
            argv.extend(["chroot".into(), root.into()]);
        }
        argv.push(program.into());
        argv
    }
}

impl Launch {
    fn new(argv: Vec<OsString>, done: Done) -> Self {
        let verify = None;
        Self { argv, done, verify }
    }
}

impl Job<'_> {
    fn payload(&self) -> PathBuf {
        self.data.join(self.name)
    }

    fn new_torrent(&self) -> PathBuf {
        self.home.join("new.torrent")
    }
}

/// Adds `args` to a command line.
fn push<const N: usize>(argv: &mut Vec<OsString>, args: [&str; N]) {
    argv.extend(args.map(OsString::from));
}

/// A script that makes `marker`, for clients that call a program when done.
fn marker_script(home: &Path, marker: &Path) -> Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let script = home.join("done.sh");
    std::fs::write(&script, format!("#!/bin/sh\n: >'{}'\n", marker.display()))?;
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))?;
    Ok(script)
}
