//! Peer exchange (BEP 11): seed and leech know a third peer and not each other. The seed announces to one tracker,
//! the leech to another, and the peer between them, which gives nothing, to both.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::client::{Client, Job, Options, Peer, Role};
use crate::metafile::Metafile;
use crate::payload::{Empty, Payload};
use crate::process::wait_for;
use crate::runner::{Cell, Context};
use crate::tracker::{self, Kind, Tracker, Transport};
use crate::world::{Family, Node, World};

const SEED_LIMIT: Duration = Duration::from_secs(40);
/// Peers tell of others once a minute.
const FIND_LIMIT: Duration = Duration::from_secs(180);
const CELL_LIMIT: Duration = Duration::from_secs(280);
const PIECE_LEN: usize = 16 * 1024;
const PAYLOAD_LEN: u64 = 8 * 1024 * 1024 + 12_345;
/// At this rate it would take a quarter of an hour.
const SLOW: u64 = 10_000;

/// torr hears of each of the others from libtorrent, and each of the others hears of torr from torr.
pub fn cells() -> Vec<Cell> {
    let cell = |name: String, seed: Client, between: Client, leech: Client| {
        Cell::new(name, CELL_LIMIT, move |context, dir| {
            run(context, dir, seed, between, leech)
        })
    };
    let mut cells = Vec::new();
    for other in Client::FOREIGN {
        let name = format!("pex/leeches-from/{}", other.name());
        cells.push(cell(name, other, Client::Libtorrent, Client::Torr));
        let name = format!("pex/seeds-to/{}", other.name());
        cells.push(cell(name, Client::Torr, Client::Torr, other));
    }
    cells
}

fn run(
    context: &Context,
    dir: &Path,
    seed: Client,
    between: Client,
    leech: Client,
) -> Result<String> {
    let mut world = World::new(dir)?;
    let payload = Payload::single("told.bin", PAYLOAD_LEN);
    let original = dir.join("original");
    payload.write(&original)?;
    let tracker_nodes = [world.node("tracker-a")?, world.node("tracker-b")?];
    let urls = tracker_nodes
        .each_ref()
        .map(|node| tracker::url(node, Transport::Http, Family::V4));
    let sub = |name: &str| -> Result<std::path::PathBuf> {
        let path = dir.join(name);
        std::fs::create_dir_all(&path)?;
        Ok(path)
    };
    let write = |urls: &[String], name: &str| {
        Metafile::write(&payload, &original, PIECE_LEN, urls, &sub(name)?)
    };
    let [first, _] = &urls;
    let for_seed = write(std::slice::from_ref(first), "for-seed")?;
    let for_between = write(&urls, "for-between")?;
    let mut trackers = Vec::new();
    for node in tracker_nodes {
        let torrents = [&for_seed];
        let tracker = Tracker::start(
            node,
            Kind::Opentracker,
            Family::V4,
            &torrents,
            &context.tools,
        )?;
        trackers.push(tracker);
    }
    let seed_node = world.node("seed")?;
    payload.write(&seed_node.data())?;
    let mut seeding = start(
        context,
        seed,
        &seed_node,
        &for_seed,
        Role::Seed,
        Options::default(),
    )?;
    seeding.wait_done(&seed_node, SEED_LIMIT)?;
    if let [first, _] = &mut trackers[..] {
        first.wait_seeds(&for_seed, 1, SEED_LIMIT)?;
    }
    let between_node = world.node("between")?;
    let slow = Options {
        upload_limit: Some(SLOW),
        download_limit: Some(SLOW),
        ..Options::default()
    };
    let _between = start(
        context,
        between,
        &between_node,
        &for_between,
        Role::Stay,
        slow,
    )?;
    let leech_node = world.node("leech")?;
    let [_, second] = &urls;
    let link = Options {
        link: Some(format!(
            "magnet:?xt=urn:btih:{}&tr={}",
            for_seed.hex(),
            second.replace(':', "%3A").replace('/', "%2F")
        )),
        ..Options::default()
    };
    let began = Instant::now();
    let mut leeching = start(context, leech, &leech_node, &for_seed, Role::Leech, link)?;
    wait_for("the leech to have everything", FIND_LIMIT, || {
        let done = leeching.is_done(&leech_node)?;
        let same = || payload.compare(&original, &leech_node.data(), Empty::Required);
        Ok(done && same().is_ok())
    })?;
    Ok(format!("{:.0} s", began.elapsed().as_secs_f64()))
}

fn start(
    context: &Context,
    client: Client,
    node: &Node,
    torrent: &Metafile,
    role: Role,
    options: Options,
) -> Result<Peer> {
    let job = Job {
        torrent,
        dir: node.data(),
        role,
        options: Options {
            pex: true,
            ..options
        },
    };
    client.start(node, &job, &context.tools)
}
