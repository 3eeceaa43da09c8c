//! A torrent, a seed that has all of it, and the loopback between them.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use torr_interop::metafile::Metafile;
use torr_interop::payload::Payload;
use torr_metainfo::{Info, Metainfo};

use crate::child::Program;
use crate::mounted::run;

/// What a start may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A torrent on this machine.
#[derive(Debug)]
pub struct Ground {
    pub dir: PathBuf,
    pub torr: PathBuf,
    pub torrent: PathBuf,
    pub info: Arc<Info>,
    payload: Payload,
}

impl Ground {
    /// Writes the payload below `dir`.
    pub fn new(dir: &Path, torr: &Path, payload: Payload, piece_len: usize) -> Result<Self> {
        let data = dir.join("seed");
        payload.write(&data)?;
        let metafile = Metafile::write(&payload, &data, piece_len, &[], dir)?;
        let meta = Metainfo::parse(&std::fs::read(&metafile.path)?)
            .map_err(|error| anyhow::anyhow!("the torrent: {error}"))?;
        Ok(Self {
            dir: dir.to_owned(),
            torr: torr.to_owned(),
            torrent: metafile.path,
            info: Arc::clone(meta.info()),
            payload,
        })
    }

    /// Where the seed has it.
    pub fn seed_dir(&self) -> PathBuf {
        self.dir.join("seed")
    }

    /// A torr that has everything.
    pub fn seed(&self, port: u16) -> Result<Program> {
        let mut command = self.command(&self.seed_dir(), &self.dir.join("seed-state"));
        command.args(["--seed", "--trust", "--port", &port.to_string()]);
        let mut seed = Program::start("seed", &self.dir, &mut command)?;
        seed.until(PATIENCE, |seed| seed.has_said("seeding"))
            .context("the seed")?;
        Ok(seed)
    }

    /// torr on this torrent, alone on the loopback.
    pub fn command(&self, folder: &Path, state: &Path) -> Command {
        let mut command = Command::new(&self.torr);
        command.arg(&self.torrent).arg("-d").arg(folder);
        command.arg("--state").arg(state);
        command.args(["--json", "--progress", "none", "--no-dht", "--no-pex"]);
        command.args(["--bind", "127.0.0.1"]);
        command
    }

    /// Fails unless `folder` holds the payload, byte for byte.
    pub fn compare(&self, folder: &Path) -> Result<()> {
        let empty = torr_interop::payload::Empty::Required;
        self.payload.compare(&self.seed_dir(), folder, empty)
    }
}

pub fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// In a network namespace of its own the loopback is down at first.
pub fn loopback_up() -> Result<()> {
    run(Command::new("ip").args(["link", "set", "lo", "up"]))
}
