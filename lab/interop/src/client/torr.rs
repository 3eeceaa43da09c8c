//! torr, by its command line alone.

use std::path::PathBuf;

use serde_json::Value;

use super::{Done, Job, PORT, Role, Start, Tools};
use crate::process::Proc;
use crate::world::{Family, Node};

/// Where a node's torr keeps its state.
pub fn state_dir(node: &Node) -> PathBuf {
    node.dir.join("torr-state")
}

pub(super) fn command(node: &Node, job: &Job<'_>, tools: &Tools) -> Start {
    let mut command = node.command(&tools.torr);
    match &job.options.link {
        Some(link) => command.arg(link),
        None => command.arg(&job.torrent.path),
    };
    command.arg("-d").arg(&job.dir);
    command.args(["--port", &PORT.to_string(), "--json", "--progress", "none"]);
    command.arg("--state").arg(state_dir(node));
    if let Some(limit) = job.options.upload_limit {
        command.args(["--up", &limit.to_string()]);
    }
    match job.options.dht {
        None => {
            command.arg("--no-dht");
        }
        Some(start) => {
            command.args(["--dht-node", &start.to_string()]);
            // One socket, so that nothing comes by the other family.
            let family = Family::of(start);
            command.args(["--bind", &node.address(family).to_string()]);
        }
    }
    if job.options.lsd {
        command.arg("--lsd");
    }
    if job.options.map_port {
        command.arg("--map-port");
    }
    if job.options.verbose {
        command.arg("--verbose");
    }
    if !job.options.pex {
        command.arg("--no-pex");
    }
    if let Some(limit) = job.options.download_limit {
        command.args(["--down", &limit.to_string()]);
    }
    if job.options.super_seed {
        command.arg("--super-seed");
    }
    if let Some(encryption) = job.options.encryption {
        command.args(["--encrypt", encryption.name()]);
    }
    if let Some((host, port)) = job.options.peer {
        command.args(["--peer", &std::net::SocketAddr::new(host, port).to_string()]);
    }
    match job.role {
        Role::Seed => {
            command.arg("--seed");
            (command, Done::Json("seeding"))
        }
        Role::Leech => (command, Done::Exit),
        Role::Stay => {
            command.arg("--seed");
            (command, Done::Json("done"))
        }
    }
}

/// What a run with `--json` has said so far; a line that is not whole yet is left out.
pub fn events(proc: &Proc) -> Vec<Value> {
    let text = std::fs::read_to_string(&proc.stdout).unwrap_or_default();
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}
