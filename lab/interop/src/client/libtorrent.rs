//! libtorrent, through its Python binding.

use super::{Done, Job, PORT, Start, Tools};
use crate::world::Node;

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
    if job.options.trust {
        command.arg("--trust");
    }
    if job.options.long_line {
        command.arg("--long-line");
    }
    (command, Done::Line("COMPLETE"))
}
