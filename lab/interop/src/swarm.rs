//! Several clients in one swarm at once: one seed at a bounded rate, so that the others must trade.

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
/// rtorrent takes up to half a minute to come back each time it has all that it was told of.
const SUPER_SEED_LIMIT: Duration = Duration::from_secs(300);

/// Leeches of one kind that get what a torr gives piece by piece.
const LEECHES_OF_A_KIND: usize = 3;

/// Who gives to whom.
#[derive(Clone, Debug)]
struct Gathering {
    seed: Client,
    /// It gives each piece once (torr).
    super_seed: bool,
    leeches: Vec<Client>,
}

impl Gathering {
    fn limit(&self) -> Duration {
        match self.super_seed {
            true => SUPER_SEED_LIMIT,
            false => LIMIT,
        }
    }
}

/// One cell for each of the given seeds; everybody leeches, the seed's kind too.
pub fn cells(seeds: &[Client], leeches: &'static [Client], prefix: &str) -> Vec<Cell> {
    seeds
        .iter()
        .map(|&seed| {
            let gathering = Gathering {
                seed,
                super_seed: false,
                leeches: leeches.to_vec(),
            };
            cell(format!("{prefix}swarm/all-from-{}", seed.name()), gathering)
        })
        .collect()
}

/// A super-seeding torr (BEP 16): to several of each kind, to one alone, and to all kinds at once.
pub fn super_seed_cells(everybody: &'static [Client]) -> Vec<Cell> {
    let to = |name: String, leeches| {
        let gathering = Gathering {
            seed: Client::Torr,
            super_seed: true,
            leeches,
        };
        cell(format!("super-seed/to-{name}"), gathering)
    };
    let mut cells = vec![to("all".to_owned(), everybody.to_vec())];
    for client in everybody {
        let name = client.name();
        cells.push(to(format!("one-{name}"), vec![*client]));
        let several = vec![*client; LEECHES_OF_A_KIND];
        cells.push(to(format!("several-{name}"), several));
    }
    cells
}

fn cell(name: String, gathering: Gathering) -> Cell {
    let limit = gathering.limit() + Duration::from_secs(60);
    Cell::new(name, limit, move |context, dir| {
        run(context, dir, &gathering)
    })
}

fn run(context: &Context, dir: &Path, gathering: &Gathering) -> Result<String> {
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
        super_seed: gathering.super_seed,
        ..Options::default()
    };
    let job = Job {
        torrent: &torrent,
        dir: seed_node.data(),
        role: Role::Seed,
        options,
    };
    let mut seed = gathering.seed.start(&seed_node, &job, &context.tools)?;
    seed.wait_done(&seed_node, LIMIT)?;
    tracker.wait_seeds(&torrent, 1, LIMIT)?;

    let start = std::time::Instant::now();
    let mut running = Vec::new();
    for (number, client) in (1..).zip(&gathering.leeches) {
        let node = world.node(&format!("leech-{number}-{}", client.name()))?;
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
        let left = gathering
            .limit()
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
        gathering.leeches.len(),
        payload.total() as f64 / 1e6
    ))
}
