//! rtorrent as a daemon, configured by a file; its events make the marker.

use std::fmt::Write as _;

use anyhow::{Context, Result};

use super::{Done, Encryption, Job, PORT, Role, Start, fresh_marker, marker_script};
use crate::world::Node;

pub(super) fn command(node: &Node, job: &Job<'_>) -> Result<Start> {
    let session = node.dir.join("home/rtorrent");
    std::fs::create_dir_all(&session).context("making the session folder")?;
    let marker = fresh_marker(node);
    let hook = marker_script(node, &marker)?;
    let event = match job.role {
        Role::Seed => "hash_done",
        Role::Leech | Role::Stay => "finished",
    };
    let mut config = String::new();
    let log = node.dir.join("log/rtorrent.log");
    writeln!(config, "system.daemon.set = true")?;
    writeln!(config, "session.path.set = {}", session.display())?;
    writeln!(config, "directory.default.set = {}", job.dir.display())?;
    writeln!(config, "network.port_range.set = {PORT}-{PORT}")?;
    writeln!(config, "network.port_random.set = no")?;
    let encryption = match job.options.encryption {
        None => "allow_incoming",
        Some(Encryption::Off) => "none",
        Some(Encryption::Prefer) => "allow_incoming,try_outgoing,enable_retry",
        Some(Encryption::Require) => "allow_incoming,try_outgoing,require,require_rc4",
    };
    writeln!(config, "protocol.encryption.set = {encryption}")?;
    let pex = if job.options.pex { "yes" } else { "no" };
    writeln!(config, "protocol.pex.set = {pex}")?;
    match job.options.dht {
        Some(start) => {
            writeln!(config, "dht.port.set = {PORT}")?;
            writeln!(config, "dht.mode.set = on")?;
            writeln!(
                config,
                "schedule2 = lab_dht, 1, 0, ((dht.add_node, \"{}:{}\"))",
                start.ip(),
                start.port()
            )?;
        }
        None => writeln!(config, "dht.mode.set = disable")?,
    }
    writeln!(config, "trackers.use_udp.set = yes")?;
    writeln!(config, "pieces.hash.on_completion.set = no")?;
    writeln!(config, "log.open_file = \"log\", \"{}\"", log.display())?;
    for group in ["info", "tracker_info", "connection_info", "torrent_info"] {
        writeln!(config, "log.add_output = \"{group}\", \"log\"")?;
    }
    if let Some(limit) = job.options.upload_limit {
        writeln!(
            config,
            "throttle.global_up.max_rate.set_kb = {}",
            limit / 1024
        )?;
    }
    writeln!(
        config,
        "method.set_key = event.download.{event}, lab_done, \"execute.nothrow={}\"",
        hook.display()
    )?;
    match &job.options.link {
        Some(link) => writeln!(config, "load.start = \"{link}\"")?,
        None => writeln!(config, "load.start = {}", job.torrent.path.display())?,
    }
    let path = node.dir.join("home/rtorrent.rc");
    std::fs::write(&path, config).context("writing rtorrent.rc")?;
    let mut command = node.command("rtorrent");
    command
        .arg("-n")
        .arg("-o")
        .arg(format!("import={}", path.display()));
    Ok((command, Done::Marker(marker)))
}
