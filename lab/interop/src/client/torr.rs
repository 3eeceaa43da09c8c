//! torr, by its command line alone.

use super::{Done, Job, PORT, Role, Start, Tools};
use crate::world::Node;

/// Where a node's torr keeps its state.
pub fn state_dir(node: &Node) -> std::path::PathBuf {
    node.dir.join("torr-state")
}

pub(super) fn command(node: &Node, job: &Job<'_>, tools: &Tools) -> Start {
    let mut command = node.command(&tools.torr);
    command.arg(&job.torrent.path).arg("-d").arg(&job.dir);
    command.args(["--port", &PORT.to_string(), "--json", "--progress", "none"]);
    command.arg("--state").arg(state_dir(node));
    if let Some(limit) = job.options.upload_limit {
        command.args(["--up", &limit.to_string()]);
    }
    if let Some((host, port)) = job.options.peer {
        command.args(["--peer", &std::net::SocketAddr::new(host, port).to_string()]);
    }
    match job.role {
        Role::Seed => {
            command.arg("--seed");
            (command, Done::Line(r#"{"v":1,"t":"seeding""#))
        }
        Role::Leech => (command, Done::Exit),
        Role::Stay => {
            command.arg("--seed");
            (command, Done::Line(r#"{"v":1,"t":"done""#))
        }
    }
}
