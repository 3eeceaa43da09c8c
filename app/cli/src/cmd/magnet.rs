//! `torr magnet`: from a torrent to its link, what a link says, and from the link to a torrent.

use std::ffi::OsStr;

use serde_json::json;

use crate::args::high::High;
use crate::args::low::{DownloadArgs, MagnetArgs};
use crate::cmd::create;
use crate::download::fetch_one;
use crate::env::{Env, Output};
use crate::failure::{Exit, Failure};
use crate::input::{self, Link, Named, Web};
use torr::mask;
use torr::metainfo::Magnet;
use torr_base::printable;

pub(crate) fn run(env: &mut Env, args: &MagnetArgs) -> Result<Exit, Failure> {
    match input::find(env, &args.torrent, &Web::default())? {
        Named::Link(link) => match &args.save {
            Some(file) => save(env, args, link, file),
            None => {
                match args.json {
                    true => env.out.line(as_json(&link.magnet)),
                    false => show(&env.out, &link.magnet),
                }
                Ok(Exit::Done)
            }
        },
        Named::Torrent(torrent) => {
            if args.save.is_some() {
                return Err(Failure::usage("--save", "this is a .torrent already"));
            }
            let magnet = torrent.meta.magnet();
            match args.json {
                true => env.out.line(as_json(&magnet)),
                // The link is the result: it has to work, so nothing in it is masked.
                false => env.out.line(&magnet),
            }
            Ok(Exit::Done)
        }
    }
}

/// Has peers give what the link stands for, and keeps it as a .torrent.
fn save(env: &mut Env, args: &MagnetArgs, link: Link, file: &OsStr) -> Result<Exit, Failure> {
    let target = (file != "-").then(|| env.path(file));
    if let Some(path) = target.as_deref().filter(|_| !args.overwrite) {
        create::refuse_existing(path)?;
    }
    let low = DownloadArgs {
        torrents: vec![args.torrent.clone()],
        timeout: args.timeout.clone(),
        peer: args.peer.clone(),
        tracker: args.tracker.clone(),
        port: args.port.clone(),
        bind: args.bind.clone(),
        no_dht: args.no_dht,
        dht_node: args.dht_node.clone(),
        no_sandbox: args.no_sandbox,
        quiet: args.quiet,
        ..DownloadArgs::default()
    };
    let high = High::from_low(env, low)?;
    let torrent = match fetch_one(env, &high, link, target.as_deref())? {
        Ok(torrent) => torrent,
        Err(exit) => return Ok(exit),
    };
    match target {
        None => env.out.write(&torrent.bytes),
        Some(path) => {
            create::save(&path, &torrent.bytes, args.overwrite)?;
            let shown = path.strip_prefix(&env.cwd).unwrap_or(&path);
            env.out.line(shown.display());
        }
    }
    Ok(Exit::Done)
}

fn as_json(magnet: &Magnet) -> serde_json::Value {
    let peers: Vec<String> = magnet.peers.iter().map(ToString::to_string).collect();
    let select: Vec<[u32; 2]> = magnet
        .select
        .iter()
        .map(|range| [*range.start(), *range.end()])
        .collect();
    json!({
        "name": magnet.name,
        "info_hash": {
            "v1": magnet.info_hash.to_string(),
            "v2": magnet.info_hash_v2.map(|hash| hash.to_string()),
        },
        "trackers": magnet.trackers,
        "web_seeds": magnet.web_seeds,
        "peers": peers,
        "select": select,
        "magnet": magnet.to_string(),
    })
}

fn show(out: &Output, magnet: &Magnet) {
    let row = |key: &str, value: &str| out.line(format_args!("{key:<13}{value}"));
    if let Some(name) = &magnet.name {
        row("name", &printable(name));
    }
    row("info-hash", &magnet.info_hash.to_string());
    if let Some(hash) = magnet.info_hash_v2 {
        row("", &format!("{hash} (v2)"));
    }
    for url in &magnet.trackers {
        row("tracker", &mask(url));
    }
    for url in &magnet.web_seeds {
        row("web seed", &mask(url));
    }
    for peer in &magnet.peers {
        row("peer", &printable(&peer.to_string()));
    }
    if !magnet.select.is_empty() {
        // Links count from 0, torr from 1.
        let ranges = magnet
            .select
            .iter()
            .map(|range| match (range.start() + 1, range.end() + 1) {
                (first, last) if first == last => first.to_string(),
                (first, last) => format!("{first}-{last}"),
            });
        row("files", &ranges.collect::<Vec<_>>().join(","));
    }
}
