//! aria2c.

use anyhow::Result;

use super::{Done, Encryption, Job, PORT, Role, Start, fresh_marker, marker_script};
use crate::world::Node;

pub(super) fn command(node: &Node, job: &Job<'_>) -> Result<Start> {
    let mut command = node.command("aria2c");
    command.args([
        "--no-conf",
        // Its UDP tracker client lives on the DHT's socket; mostly the DHT itself has nobody to talk to.
        "--enable-dht=true",
        "--file-allocation=none",
        "--summary-interval=5",
        "--show-console-readout=false",
        "--console-log-level=notice",
        "--disable-ipv6=false",
        "--allow-overwrite=true",
        "--seed-ratio=0.0",
    ]);
    command
        .arg(format!("--listen-port={PORT}"))
        .arg(format!("--dht-listen-port={PORT}"));
    command.arg(format!(
        "--dht-file-path={}",
        node.dir.join("home/dht.dat").display()
    ));
    command.arg(format!("--enable-peer-exchange={}", job.options.pex));
    command.arg(format!("--bt-enable-lpd={}", job.options.lsd));
    match job.options.dht {
        Some(start) if start.is_ipv6() => {
            command.arg("--enable-dht6=true");
            command.arg(format!("--dht-listen-addr6={}", node.v6));
            command.arg(format!("--dht-entry-point6={start}"));
            let file = node.dir.join("home/dht6.dat");
            command.arg(format!("--dht-file-path6={}", file.display()));
        }
        Some(start) => {
            command.arg("--enable-dht6=false");
            command.arg(format!("--dht-entry-point={start}"));
        }
        None => {
            command.arg("--enable-dht6=false");
        }
    }
    command.arg(format!("--dir={}", job.dir.display()));
    // It cannot be told to refuse encryption.
    command.args(match job.options.encryption {
        None | Some(Encryption::Off | Encryption::Prefer) => {
            ["--bt-require-crypto=false", "--bt-min-crypto-level=plain"]
        }
        Some(Encryption::Require) => ["--bt-require-crypto=true", "--bt-min-crypto-level=arc4"],
    });
    if let Some(limit) = job.options.upload_limit {
        command.arg(format!("--max-overall-upload-limit={limit}"));
    }
    // Its reasons for closing a connection are in there.
    command
        .arg(format!(
            "--log={}",
            node.dir.join("log/aria2.log").display()
        ))
        .arg("--log-level=info");
    let marker = fresh_marker(node);
    let hook = marker_script(node, &marker)?;
    let done = match job.role {
        Role::Seed => {
            command.args(["--check-integrity=true", "--seed-time=600"]);
            command.arg(format!("--on-bt-download-complete={}", hook.display()));
            Done::Marker(marker)
        }
        Role::Leech => {
            command.arg("--seed-time=0");
            Done::Exit
        }
        Role::Stay => {
            command.arg("--seed-time=600");
            command.arg(format!("--on-bt-download-complete={}", hook.display()));
            Done::Marker(marker)
        }
    };
    match &job.options.link {
        Some(link) => command.arg(link),
        None => command.arg(&job.torrent.path),
    };
    Ok((command, done))
}
