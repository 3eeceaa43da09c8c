//! Cells beyond a plain transfer: unusual torrents, kills, a long fast line.

mod files;
mod kill;
pub mod liar;
mod line;
mod network;

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use crate::client::{Client, Job, Options, Peer, Role};
use crate::metafile::Metafile;
use crate::payload::Payload;
use crate::runner::{Cell, Context};
use crate::tracker::{self, Kind, Tracker, Transport};
use crate::world::{Family, Node, World};

const MIB: u64 = 1024 * 1024;
const GIB: u64 = 1024 * MIB;
/// What torr holds of unfinished pieces by default, and so what a kill may cost.
const ASSEMBLY_BUDGET: u64 = 40 * MIB;

pub fn cells() -> Vec<Cell> {
    let mut cells = files::cells();
    cells.extend(kill::cells());
    cells.extend(line::torr_cells());
    cells.extend(network::cells());
    cells.extend(liar::cells());
    cells
}

pub fn foreign_cells(prefix: &str) -> Vec<Cell> {
    line::foreign_cells(prefix)
}

/// A payload with a libtorrent seed, a tracker and a node for torr.
struct Stage {
    torrent: Metafile,
    leech: Node,
    seed: Peer,
    seed_node: Node,
    // Held for their drop, after the processes on them.
    _tracker: Tracker,
    world: World,
}

impl Stage {
    fn new(
        context: &Context,
        dir: &Path,
        payload: &Payload,
        piece_len: usize,
        rate: Option<u64>,
    ) -> Result<Self> {
        let mut world = World::new(dir)?;
        let tracker_node = world.node("tracker")?;
        let seed_node = world.node("seed")?;
        let leech = world.node("leech")?;
        payload.write(&seed_node.data())?;
        let urls =
            Transport::ALL.map(|transport| tracker::url(&tracker_node, transport, Family::V4));
        let torrent = Metafile::write(payload, &seed_node.data(), piece_len, &urls, dir)?;
        let mut tracker = Tracker::start(
            tracker_node,
            Kind::Opentracker,
            Family::V4,
            &[&torrent],
            &context.tools,
        )?;
        // The hashes were made from these very files a moment ago.
        let options = Options {
            upload_limit: rate,
            trust: true,
            ..Options::default()
        };
        let job = Job {
            torrent: &torrent,
            dir: seed_node.data(),
            role: Role::Seed,
            options,
        };
        let mut seed = Client::Libtorrent.start(&seed_node, &job, &context.tools)?;
        seed.wait_done(&seed_node, Duration::from_secs(60))?;
        tracker.wait_seeds(&torrent, 1, Duration::from_secs(30))?;
        Ok(Self {
            torrent,
            leech,
            seed,
            seed_node,
            _tracker: tracker,
            world,
        })
    }

    /// torr, once more.
    fn torr(&self, context: &Context) -> Result<Peer> {
        let job = Job {
            torrent: &self.torrent,
            dir: self.leech.data(),
            role: Role::Leech,
            options: Options::default(),
        };
        Client::Torr.start(&self.leech, &job, &context.tools)
    }
}
