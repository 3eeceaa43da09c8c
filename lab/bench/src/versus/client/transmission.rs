//! transmission-daemon, whose torrent lies in its settings folder from the start; transmission-create.

use anyhow::{Context, Result};
use serde_json::json;

use super::{Contender, Done, Job, LISTEN, Launch, PEERS_MAX, Task, marker_script, push};

pub(super) fn launch(contender: &Contender, job: &Job<'_>) -> Result<Launch> {
    if job.task == Task::Create {
        let mut argv = contender.argv(&contender.program.with_file_name("transmission-create"));
        push(&mut argv, ["-s", &(job.piece_len >> 10).to_string(), "-o"]);
        argv.extend([job.new_torrent().into(), job.payload().into()]);
        return Ok(Launch::new(argv, Done::Exit));
    }
    let config = job.home.join("transmission");
    let torrents = config.join("torrents");
    std::fs::create_dir_all(&torrents).context("making its folders")?;
    std::fs::copy(job.torrent, torrents.join("payload.torrent")).context("copying the torrent")?;
    let marker = job.home.join("done");
    let script = marker_script(job.home, &marker)?;
    let settings = json!({
        "dht-enabled": false,
        "download-dir": job.data,
        "download-queue-enabled": false,
        "encryption": if job.rc4 { 2 } else { 0 },
        "lpd-enabled": false,
        "message-level": 2,
        "peer-limit-global": PEERS_MAX,
        "peer-limit-per-torrent": PEERS_MAX,
        "peer-port": LISTEN.port(),
        "pex-enabled": false,
        "port-forwarding-enabled": false,
        "ratio-limit-enabled": false,
        "rename-partial-files": false,
        "rpc-bind-address": "127.0.0.1",
        "rpc-enabled": true,
        "script-torrent-done-enabled": true,
        "script-torrent-done-filename": script,
        "speed-limit-down-enabled": false,
        "speed-limit-up-enabled": false,
        "start-added-torrents": true,
        "upload-slots-per-torrent": PEERS_MAX,
        "utp-enabled": false,
    });
    std::fs::write(config.join("settings.json"), settings.to_string())
        .context("writing settings.json")?;
    let mut argv = contender.argv(&contender.program);
    push(&mut argv, ["--foreground", "--config-dir"]);
    argv.push(config.into());
    let done = match job.task {
        Task::Leech => Done::Marker(marker),
        // Version 3 verifies what it finds when a torrent is new, and then takes peers; later ones do so piece by piece
        // before they upload, or when told to.
        Task::Seed | Task::Check | Task::Create => Done::Seeds,
    };
    let mut launch = Launch::new(argv, done);
    let old = contender
        .version
        .as_ref()
        .is_ok_and(|version| version.starts_with("3."));
    if job.task == Task::Check && !old {
        let mut remote = contender.argv(&contender.program.with_file_name("transmission-remote"));
        push(&mut remote, ["127.0.0.1:9091", "--torrent", "1"]);
        launch.verify = Some(remote);
    }
    Ok(launch)
}
