//! All clients in one swarm at once: one seed at a bounded rate, so that the others must trade.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::client::{Client, Job, Options, Role};
use crate::matrix::multi;
use crate::metafile::Metafile;
use crate::payload::Empty;
use crate::process::wait_for;
use crate::runner::{Cell, Context};
use crate::tracker::{self, Kind, Tracker, Transport};
use crate::world::{Family, World};

const SEED_RATE: u64 = 2 * 1024 * 1024;
const LIMIT: Duration = Duration::from_secs(150);

/// One cell for each of the given seeds; everybody leeches, the seed's kind too.
pub fn cells(seeds: &[Client], leeches: &'static [Client], prefix: &str) -> Vec<Cell> {
    seeds
        .iter()
        .map(|&seed| {
            let name = format!("{prefix}swarm/all-from-{}", seed.name());
            Cell::new(
                name,
                LIMIT + Duration::from_secs(60),
                move |context, dir| run(context, dir, seed, leeches),
            )
        })
        .collect()
}

fn run(context: &Context, dir: &Path, seed: Client, leeches: &[Client]) -> Result<String> {
    let mut world = World::new(dir)?;
    let tracker_node = world.node("tracker")?;
    let seed_node = world.node("seed")?;
    let payload = multi("swarm");
    let original = dir.join("original");
    payload.write(&original)?;
    payload.write(&seed_node.data())?;
    let urls = Transport::ALL.map(|transport| tracker::url(&tracker_node, transport, Family::V4));
    let torrent = Metafile::write(&payload, &original, 64 * 1024, &urls, dir)?;
    let mut tracker = Tracker::start(
        tracker_node,
        Kind::Opentracker,
        Family::V4,
        &[&torrent],
        &context.tools,
    )?;

    let options = Options {
        upload_limit: Some(SEED_RATE),
        ..Options::default()
    };
    let job = Job {
        torrent: &torrent,
        dir: seed_node.data(),
        role: Role::Seed,
        options,
    };
    let mut seed = seed.start(&seed_node, &job, &context.tools)?;
    seed.wait_done(&seed_node, LIMIT)?;
    tracker.wait_seeds(&torrent, 1, LIMIT)?;

    let start = std::time::Instant::now();
    let mut running = Vec::new();
    for client in leeches {
        let node = world.node(&format!("leech-{}", client.name()))?;
        let job = Job {
            torrent: &torrent,
            dir: node.data(),
            role: Role::Stay,
            options: Options::default(),
        };
        let peer = client.start(&node, &job, &context.tools)?;
        running.push((node, peer, client.empty_files()));
    }
    for (node, peer, _) in &mut running {
        let what = format!("{} to have everything", peer.proc.name);
        let left = LIMIT
            .saturating_sub(start.elapsed())
            .max(Duration::from_secs(1));
        wait_for(&what, left, || peer.is_done(node))?;
    }
    let seconds = start.elapsed().as_secs_f64();
    for (node, peer, empty) in &mut running {
        peer.proc.terminate()?;
        payload
            .compare(&original, &node.data(), *empty)
            .with_context(|| format!("what {} has", node.name))?;
    }
    payload
        .compare(&original, &seed_node.data(), Empty::Required)
        .context("what the seed has")?;
    Ok(format!(
        "{} clients, {:.1} MB each in {seconds:.1} s",
        leeches.len(),
        payload.total() as f64 / 1e6
    ))
}
