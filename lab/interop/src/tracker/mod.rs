//! Trackers of a world: opentracker for IPv4, the lab's own for IPv6; and torr's own, where it is what is tested.
//!
//! Debian's opentracker is built for IPv4 alone and serves only listed torrents. No packaged tracker at hand announces
//! over UDP and IPv6, hence [`small`], which knows nothing of torr's code.

pub mod small;

use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::client::Tools;
use crate::metafile::Metafile;
use crate::process::{Proc, output, wait_for};
use crate::world::{Family, Node};

const PORT: u16 = 6969;
const START: Duration = Duration::from_secs(10);

/// How clients reach a tracker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Http,
    Udp,
}

impl Transport {
    pub const ALL: [Self; 2] = [Self::Http, Self::Udp];

    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Udp => "udp",
        }
    }
}

/// Which program answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Opentracker,
    Small,
    /// `torr tracker`, to test it.
    Torr,
}

impl Kind {
    /// opentracker where it can, the lab's own where it cannot.
    pub fn independent(family: Family) -> Self {
        match family {
            Family::V4 => Self::Opentracker,
            Family::V6 => Self::Small,
        }
    }
}

/// A running tracker on a node of its own.
#[derive(Debug)]
pub struct Tracker {
    node: Node,
    family: Family,
    proc: Proc,
}

/// The announce URL of the tracker that will run on `node`.
pub fn url(node: &Node, transport: Transport, family: Family) -> String {
    let host = match family {
        Family::V4 => node.v4.to_string(),
        Family::V6 => format!("[{}]", node.v6),
    };
    match transport {
        Transport::Http => format!("http://{host}:{PORT}/announce"),
        Transport::Udp => format!("udp://{host}:{PORT}/announce"),
    }
}

impl Tracker {
    pub fn start(
        node: Node,
        kind: Kind,
        family: Family,
        torrents: &[&Metafile],
        tools: &Tools,
    ) -> Result<Self> {
        let address = node.address(family);
        let command = match kind {
            Kind::Opentracker => {
                let list: String = torrents
                    .iter()
                    .map(|torrent| torrent.hex() + "\n")
                    .collect();
                std::fs::write(node.dir.join("data/whitelist"), list)
                    .context("writing the whitelist")?;
                // It insists on leaving root behind, and opens its list from inside its folder.
                let mut command = node.command("opentracker");
                command.arg("-i").arg(address.to_string());
                command.args([
                    "-p",
                    &PORT.to_string(),
                    "-P",
                    &PORT.to_string(),
                    "-u",
                    "nobody",
                    "-w",
                    "whitelist",
                ]);
                command.arg("-d").arg(node.data()).current_dir(node.data());
                command
            }
            Kind::Small => {
                let mut command = node.command(std::env::current_exe()?);
                command.args(["helper", "tracker", &address.to_string(), &PORT.to_string()]);
                command
            }
            Kind::Torr => {
                let mut command = node.command(&tools.torr);
                let listen = std::net::SocketAddr::new(address, PORT);
                command.args(["tracker", "--listen", &listen.to_string()]);
                command
            }
        };
        let proc = Proc::spawn(&node, "tracker", command)?;
        let mut tracker = Self { node, family, proc };
        let Some(first) = torrents.first() else {
            bail!("a tracker without torrents")
        };
        wait_for("the tracker to answer", START, || {
            tracker.proc.check_alive()?;
            Ok(tracker.scrape(first)?.is_some())
        })?;
        Ok(tracker)
    }

    /// Seeds and leeches it knows; None while it does not answer.
    pub fn scrape(&self, torrent: &Metafile) -> Result<Option<(u64, u64)>> {
        let mut command = self.node.command(std::env::current_exe()?);
        command.args([
            "helper",
            "scrape",
            &self.node.address(self.family).to_string(),
            &PORT.to_string(),
        ]);
        command.arg(torrent.hex());
        let out = output(command, Duration::from_secs(10))?;
        let text = String::from_utf8_lossy(&out.stdout);
        let mut words = text.split_whitespace().map(str::parse);
        Ok(match (words.next(), words.next()) {
            (Some(Ok(seeds)), Some(Ok(leeches))) => Some((seeds, leeches)),
            _ => None,
        })
    }

    /// Waits until that many seeds have announced themselves.
    pub fn wait_seeds(&mut self, torrent: &Metafile, seeds: u64, limit: Duration) -> Result<()> {
        wait_for(&format!("{seeds} announced seeds"), limit, || {
            self.proc.check_alive()?;
            Ok(self
                .scrape(torrent)?
                .is_some_and(|(found, _)| found >= seeds))
        })
    }
}
