//! transmission-daemon, watched through transmission-remote.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use super::{Done, Encryption, Job, PORT, Remote, Start};
use crate::process::{output, wait_for};
use crate::world::Node;

const RPC_PORT: u16 = 9091;
const ADD_LIMIT: Duration = Duration::from_secs(20);

pub(super) fn command(node: &Node, job: &Job<'_>) -> Result<Start> {
    let config = node.dir.join("home/transmission");
    let watch = node.dir.join("watch");
    for dir in [&config, &watch] {
        std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    }
    // A link is added once it runs: version 3.00 does not watch for them.
    if job.options.link.is_none() {
        let file = job.torrent.path.file_name();
        let file = file.context("a torrent file has a name")?;
        std::fs::copy(&job.torrent.path, watch.join(file)).context("copying the torrent file")?;
    }
    // Its unit is 1000 bytes per second.
    let limit = job.options.upload_limit.map(|limit| limit / 1000);
    // It cannot be told to refuse encryption, only not to begin with it.
    let encryption = match job.options.encryption {
        None | Some(Encryption::Off) => 0,
        Some(Encryption::Prefer) => 1,
        Some(Encryption::Require) => 2,
    };
    if let Some(start) = job.options.dht {
        // What it asks when it knows nobody, before its own well-known node.
        let line = format!("{} {}\n", start.ip(), start.port());
        std::fs::write(config.join("dht.bootstrap"), line).context("writing dht.bootstrap")?;
    }
    let settings = json!({
        "bind-address-ipv4": "0.0.0.0",
        "bind-address-ipv6": "::",
        // So that the files are whole when it says so.
        "cache-size-mb": 0,
        "dht-enabled": job.options.dht.is_some(),
        "download-dir": job.dir,
        "encryption": encryption,
        "incomplete-dir-enabled": false,
        "lpd-enabled": job.options.lsd,
        "message-level": 3,
        "peer-port": PORT,
        "pex-enabled": job.options.pex,
        "port-forwarding-enabled": false,
        "ratio-limit-enabled": false,
        "rename-partial-files": false,
        "rpc-bind-address": "127.0.0.1",
        "rpc-enabled": true,
        "rpc-port": RPC_PORT,
        "rpc-whitelist-enabled": false,
        "speed-limit-up": limit.unwrap_or(0),
        "speed-limit-up-enabled": limit.is_some(),
        "start-added-torrents": true,
        "trash-original-torrent-files": false,
        "utp-enabled": false,
        "watch-dir": watch,
        "watch-dir-enabled": true,
    });
    std::fs::write(config.join("settings.json"), settings.to_string())
        .context("writing settings.json")?;
    let mut command = node.command("transmission-daemon");
    command
        .args(["--foreground", "--log-info", "--config-dir"])
        .arg(&config);
    Ok((command, Done::Remote(remote("--list"))))
}

fn remote(verb: &str) -> Remote {
    Remote {
        program: "transmission-remote".to_owned(),
        args: vec![format!("127.0.0.1:{RPC_PORT}"), verb.to_owned()],
    }
}

/// Has a running daemon follow a link.
pub(super) fn add(node: &Node, link: &str) -> Result<()> {
    let add = remote("--add");
    wait_for("transmission to take the link", ADD_LIMIT, || {
        let mut command = node.command(&add.program);
        command.args(&add.args).arg(link);
        let out = output(command, Duration::from_secs(10))?;
        Ok(String::from_utf8_lossy(&out.stdout).contains("success"))
    })
}
