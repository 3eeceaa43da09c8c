//! rtorrent as a daemon, configured by a file; its events make the marker.

use std::fmt::Write as _;

use anyhow::{Context, Result};

use super::{Contender, Done, Job, LISTEN, Launch, PEERS_MAX, Task, marker_script, push};

pub(super) fn launch(contender: &Contender, job: &Job<'_>) -> Result<Option<Launch>> {
    let event = match job.task {
        Task::Leech => "finished",
        Task::Seed | Task::Check => "hash_done",
        Task::Create => return Ok(None),
    };
    let session = job.home.join("session");
    std::fs::create_dir_all(&session).context("making the session folder")?;
    let marker = job.home.join("done");
    let hook = marker_script(job.home, &marker)?;
    let port = LISTEN.port();
    let mut config = String::new();
    writeln!(config, "system.daemon.set = true")?;
    writeln!(config, "session.path.set = {}", session.display())?;
    writeln!(config, "directory.default.set = {}", job.data.display())?;
    writeln!(config, "network.port_range.set = {port}-{port}")?;
    writeln!(config, "network.port_random.set = no")?;
    let encryption = match job.rc4 {
        false => "none",
        true => "allow_incoming,try_outgoing,require,require_rc4",
    };
    writeln!(config, "protocol.encryption.set = {encryption}")?;
    writeln!(config, "protocol.pex.set = no")?;
    writeln!(config, "dht.mode.set = disable")?;
    writeln!(config, "pieces.hash.on_completion.set = no")?;
    writeln!(config, "throttle.max_uploads.set = {PEERS_MAX}")?;
    writeln!(config, "throttle.max_uploads.global.set = {PEERS_MAX}")?;
    writeln!(config, "throttle.max_peers.normal.set = {PEERS_MAX}")?;
    writeln!(config, "throttle.max_peers.seed.set = {PEERS_MAX}")?;
    writeln!(
        config,
        "method.set_key = event.download.{event}, lab_done, \"execute.nothrow={}\"",
        hook.display()
    )?;
    writeln!(config, "load.start = {}", job.torrent.display())?;
    let path = job.home.join("rtorrent.rc");
    std::fs::write(&path, config).context("writing rtorrent.rc")?;
    let mut argv = contender.argv(&contender.program);
    push(
        &mut argv,
        ["-n", "-o", &format!("import={}", path.display())],
    );
    let done = match job.task {
        Task::Leech | Task::Check => Done::Marker(marker),
        Task::Seed | Task::Create => Done::Seeds,
    };
    Ok(Some(Launch::new(argv, done)))
}
