//! libtorrent, through its Python binding.

use std::net::SocketAddr;
use std::process::Command;

use super::{Done, Job, PORT, Start, Tools};
use crate::world::{Family, Node};

/// A node of the DHT and nothing else.
pub fn plain_node(
    node: &Node,
    family: Family,
    start: Option<SocketAddr>,
    tools: &Tools,
) -> Command {
    let mut command = node.command(&tools.python);
    command.arg("-u").arg(tools.scripts.join("lt_peer.py"));
    command.arg("none").arg(node.data());
    command.args(["--port", &PORT.to_string()]);
    command.args(["--bind", &node.address(family).to_string()]);
    let start = start.map(|start| format!("{}/{}", start.ip(), start.port()));
    command.args(["--dht", start.as_deref().unwrap_or("none")]);
    command
}

pub(super) fn command(node: &Node, job: &Job<'_>, tools: &Tools) -> Start {
    let mut command = node.command(&tools.python);
    command.arg("-u").arg(tools.scripts.join("lt_peer.py"));
    match &job.options.link {
        Some(link) => command.arg(link),
        None => command.arg(&job.torrent.path),
    };
    command.arg(&job.dir).args(["--port", &PORT.to_string()]);
    if let Some(limit) = job.options.upload_limit {
        command.args(["--upload-limit", &limit.to_string()]);
    }
    if let Some(encryption) = job.options.encryption {
        command.args(["--encryption", encryption.name()]);
    }
    if let Some((host, port)) = job.options.peer {
        command.args(["--peer", &format!("{host}/{port}")]);
    }
    if let Some(start) = job.options.dht {
        command.args(["--dht", &format!("{}/{}", start.ip(), start.port())]);
        command.args(["--bind", &node.address(Family::of(start)).to_string()]);
    }
    if job.options.lsd {
        command.arg("--lsd");
    }
    if job.options.pex {
        command.arg("--pex");
    }
    if let Some(limit) = job.options.download_limit {
        command.args(["--download-limit", &limit.to_string()]);
    }
    if job.options.trust {
        command.arg("--trust");
    }
    if job.options.long_line {
        command.arg("--long-line");
    }
    (command, Done::Line("COMPLETE"))
}
