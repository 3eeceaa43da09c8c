//! `torr magnet`: from a torrent to its link, and what a link says.

use serde_json::json;

use crate::args::low::MagnetArgs;
use crate::env::{Env, Output};
use crate::failure::{Exit, Failure};
use crate::input;
use torr::mask;
use torr::metainfo::{Magnet, printable};

pub(crate) fn run(env: &mut Env, args: &MagnetArgs) -> Result<Exit, Failure> {
    let text = args.torrent.to_str().unwrap_or_default();
    let is_link = text
        .get(..7)
        .is_some_and(|start| start.eq_ignore_ascii_case("magnet:"));
    if !is_link {
        let torrent = input::load(env, &args.torrent)?;
        let magnet = torrent.meta.magnet();
        match args.json {
            true => env.out.line(as_json(&magnet)),
            // The link is the result: it has to work, so nothing in it is masked.
            false => env.out.line(&magnet),
        }
        return Ok(Exit::Done);
    }
    let magnet = Magnet::parse(text);
    let magnet = magnet.map_err(|error| {
        Failure::new(Exit::Metadata, "magnet link", printable(&error.to_string()))
    })?;
    match args.json {
        true => env.out.line(as_json(&magnet)),
        false => show(&env.out, &magnet),
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
