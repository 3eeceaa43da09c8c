//! The clients: how each is started as a seed or a leech, and how it shows that it is done.

mod aria2;
pub mod libtorrent;
mod rtorrent;
pub mod torr;
mod transmission;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::metafile::Metafile;
use crate::payload::Empty;
use crate::process::{Proc, output, wait_for};
use crate::tracker::Transport;
use crate::world::{Family, Node};

/// Every client listens here, on its own node.
pub const PORT: u16 = 51413;

/// A BitTorrent client that the lab can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    Torr,
    Transmission,
    Aria2,
    Libtorrent,
    Rtorrent,
}

/// What a client is to do.
#[derive(Clone, Debug)]
pub struct Job<'a> {
    pub torrent: &'a Metafile,
    /// The torrent's name lies or comes in here.
    pub dir: PathBuf,
    pub role: Role,
    pub options: Options,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Seed,
    /// Leaves when done, where the client can.
    Leech,
    /// Goes on as a seed.
    Stay,
}

/// What most jobs leave as it is.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Bytes per second; all clients know it.
    pub upload_limit: Option<u64>,
    /// HOST and PORT to connect to without a tracker (libtorrent and torr).
    pub peer: Option<(std::net::IpAddr, u16)>,
    /// Seed without hashing first (libtorrent).
    pub trust: bool,
    /// Have the gateway map the port (torr).
    pub map_port: bool,
    /// Say more (torr).
    pub verbose: bool,
    /// Give each piece once (torr).
    pub super_seed: bool,
    /// Queues for a long fast line (libtorrent).
    pub long_line: bool,
    /// A magnet link instead of the torrent file.
    pub link: Option<String>,
    /// With the DHT, in the family of this node of it; none starts without one.
    pub dht: Option<SocketAddr>,
    /// Local service discovery.
    pub lsd: bool,
    /// Peer exchange.
    pub pex: bool,
    /// Bytes per second, down (libtorrent and torr).
    pub download_limit: Option<u64>,
    /// What the client usually has, where it is not said.
    pub encryption: Option<Encryption>,
}

/// What a client makes of encryption, in torr's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// As little of it as the client can be told.
    Off,
    Prefer,
    Require,
}

impl Encryption {
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Prefer => "prefer",
            Self::Require => "require",
        }
    }
}

/// Where programs lie that are not on the path.
#[derive(Clone, Debug)]
pub struct Tools {
    pub torr: PathBuf,
    /// The Python that has libtorrent.
    pub python: PathBuf,
    pub scripts: PathBuf,
}

/// A running client.
#[derive(Debug)]
pub struct Peer {
    pub proc: Proc,
    done: Done,
}

/// What shows that a client has everything.
#[derive(Debug)]
enum Done {
    /// It ends with exit status 0.
    Exit,
    /// It makes this file.
    Marker(PathBuf),
    /// Its standard output has a line that starts so.
    Line(&'static str),
    /// Its standard output has a JSON object of this kind (its `t`).
    Json(&'static str),
    /// `transmission-remote --list` shows 100 %.
    Remote(Remote),
}

#[derive(Debug)]
struct Remote {
    program: String,
    args: Vec<String>,
}

impl Client {
    pub const FOREIGN: [Self; 4] = [
        Self::Transmission,
        Self::Aria2,
        Self::Libtorrent,
        Self::Rtorrent,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Torr => "torr",
            Self::Transmission => "transmission",
            Self::Aria2 => "aria2",
            Self::Libtorrent => "libtorrent",
            Self::Rtorrent => "rtorrent",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Torr]
            .into_iter()
            .chain(Self::FOREIGN)
            .find(|client| client.name() == name)
    }

    /// Whether the packaged version can announce this way over this family. Each `false` was tried: of the foreign
    /// clients only libtorrent sends a UDP announce to an IPv6 tracker (not Transmission 3.00, aria2 1.36, rtorrent 0.9.8).
    pub fn can(self, transport: Transport, family: Family) -> bool {
        match self {
            Self::Torr | Self::Libtorrent => true,
            Self::Transmission | Self::Aria2 | Self::Rtorrent => {
                (transport, family) != (Transport::Udp, Family::V6)
            }
        }
    }

    /// Transmission 3.00 makes no file of no bytes when it leeches.
    pub fn empty_files(self) -> Empty {
        match self {
            Self::Torr | Self::Aria2 | Self::Libtorrent | Self::Rtorrent => Empty::Required,
            Self::Transmission => Empty::MayLack,
        }
    }

    pub fn start(self, node: &Node, job: &Job<'_>, tools: &Tools) -> Result<Peer> {
        let log = format!("{}-{}", self.name(), job.role.name());
        let (command, done) = match self {
            Self::Torr => torr::command(node, job, tools),
            Self::Transmission => transmission::command(node, job)?,
            Self::Aria2 => aria2::command(node, job)?,
            Self::Libtorrent => libtorrent::command(node, job, tools),
            Self::Rtorrent => rtorrent::command(node, job)?,
        };
        let proc = Proc::spawn(node, &log, command)?;
        if let (Self::Transmission, Some(link)) = (self, &job.options.link) {
            transmission::add(node, link)?;
        }
        Ok(Peer { proc, done })
    }
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Seed => "seed",
            Self::Leech | Self::Stay => "leech",
        }
    }
}

impl Peer {
    /// Fails when the client has ended without its data.
    pub fn is_done(&mut self, node: &Node) -> Result<bool> {
        if matches!(self.done, Done::Exit) {
            let status = self.proc.status()?;
            return match status {
                None => Ok(false),
                Some(status) if status.success() => Ok(true),
                Some(status) => bail!("{} failed: {status}", self.proc.name),
            };
        }
        self.proc.check_alive()?;
        match &self.done {
            Done::Exit => Ok(false),
            Done::Marker(path) => Ok(path.exists()),
            Done::Line(prefix) => Ok(self.proc.said(prefix)),
            Done::Json(kind) => Ok(torr::events(&self.proc)
                .iter()
                .any(|event| event["t"] == *kind)),
            Done::Remote(remote) => remote.is_done(node),
        }
    }

    pub fn wait_done(&mut self, node: &Node, limit: Duration) -> Result<()> {
        let name = self.proc.name.clone();
        wait_for(&format!("{name} to have everything"), limit, || {
            self.is_done(node)
        })
    }
}

impl Remote {
    fn is_done(&self, node: &Node) -> Result<bool> {
        let mut command = node.command(&self.program);
        command.args(&self.args);
        let out = output(command, Duration::from_secs(10))?;
        let text = String::from_utf8_lossy(&out.stdout);
        // "   1   100%   …": the first column is the torrent's number.
        Ok(text
            .lines()
            .any(|line| line.split_whitespace().nth(1) == Some("100%")))
    }
}

/// A script that makes `marker`, for clients that call a program when done.
fn marker_script(node: &Node, marker: &Path) -> Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let script = node.dir.join("done.sh");
    std::fs::write(&script, format!("#!/bin/sh\n: >'{}'\n", marker.display()))
        .context("writing the hook")?;
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))?;
    Ok(script)
}

/// The marker of a job, not there yet.
fn fresh_marker(node: &Node) -> PathBuf {
    let marker = node.dir.join("done");
    std::fs::remove_file(&marker).ok();
    marker
}

type Start = (Command, Done);
