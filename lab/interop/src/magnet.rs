//! Magnet links (BEP 9): the seed has the torrent file, the leech nothing but a link. The metadata is of several
//! blocks, and so may come from several peers.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use crate::client::{Client, Job, Options, PORT, Role};
use crate::metafile::Metafile;
use crate::payload::{Empty, Payload};
use crate::process::wait_for;
use crate::runner::{Cell, Context};
use crate::tracker::{self, Kind, Tracker, Transport};
use crate::world::{Family, World};

const SEED_LIMIT: Duration = Duration::from_secs(40);
const TRANSFER_LIMIT: Duration = Duration::from_secs(120);
const CELL_LIMIT: Duration = Duration::from_secs(220);
/// 1,536 pieces: metadata of two blocks.
const PIECE_LEN: usize = 16 * 1024;
const PAYLOAD_LEN: u64 = 24 * 1024 * 1024 + 12_345;

/// How the leech finds the seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// `tr`
    Tracker,
    /// `x.pe`
    Peer,
    /// Local service discovery (BEP 14).
    Lsd,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Tracker => "tracker",
            Self::Peer => "peer",
            Self::Lsd => "lsd",
        }
    }
}

/// torr follows a link to each of the others, and each of the others to torr. Of the others only libtorrent
/// knows `x.pe` (not Transmission 3.00, aria2 1.36, rtorrent 0.9.8), and rtorrent has no local discovery.
pub fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    for other in Client::FOREIGN {
        for way in [Way::Tracker, Way::Peer, Way::Lsd] {
            if way == Way::Lsd && other == Client::Rtorrent {
                continue;
            }
            let name = format!("magnet/leeches-from/{}/{}", other.name(), way.name());
            cells.push(cell(name, other, Client::Torr, way));
            if way != Way::Peer || other == Client::Libtorrent {
                let name = format!("magnet/seeds-to/{}/{}", other.name(), way.name());
                cells.push(cell(name, Client::Torr, other, way));
            }
        }
    }
    cells
}

fn cell(name: String, seed: Client, leech: Client, way: Way) -> Cell {
    Cell::new(name, CELL_LIMIT, move |context, dir| {
        run(context, dir, seed, leech, way)
    })
}

fn run(context: &Context, dir: &Path, seed: Client, leech: Client, way: Way) -> Result<String> {
    let mut world = World::new(dir)?;
    let tracker_node = world.node("tracker")?;
    let seed_node = world.node("seed")?;
    let leech_node = world.node("leech")?;
    let payload = Payload::single("linked.bin", PAYLOAD_LEN);
    payload.write(&seed_node.data())?;
    let url = tracker::url(&tracker_node, Transport::Http, Family::V4);
    let torrent = Metafile::write(
        &payload,
        &seed_node.data(),
        PIECE_LEN,
        std::slice::from_ref(&url),
        dir,
    )?;
    let mut tracker = Tracker::start(
        tracker_node,
        Kind::Opentracker,
        Family::V4,
        &[&torrent],
        &context.tools,
    )?;
    let job = Job {
        torrent: &torrent,
        dir: seed_node.data(),
        role: Role::Seed,
        options: Options {
            lsd: way == Way::Lsd,
            ..Options::default()
        },
    };
    let mut seeding = seed.start(&seed_node, &job, &context.tools)?;
    seeding.wait_done(&seed_node, SEED_LIMIT)?;
    tracker.wait_seeds(&torrent, 1, SEED_LIMIT)?;

    let seed_addr = SocketAddr::new(IpAddr::V4(seed_node.v4), PORT);
    let link = match way {
        Way::Tracker => format!("&tr={}", escaped(&url)),
        Way::Peer => format!("&x.pe={seed_addr}"),
        Way::Lsd => String::new(),
    };
    let options = Options {
        link: Some(format!(
            "magnet:?xt=urn:btih:{}&dn=linked.bin{link}",
            torrent.hex()
        )),
        lsd: way == Way::Lsd,
        ..Options::default()
    };
    let job = Job {
        torrent: &torrent,
        dir: leech_node.data(),
        role: Role::Leech,
        options,
    };
    let start = std::time::Instant::now();
    let mut leeching = leech.start(&leech_node, &job, &context.tools)?;
    // Some say that they are done when they have the metadata.
    let what = format!("{} to have everything", leeching.proc.name);
    wait_for(&what, TRANSFER_LIMIT, || {
        let done = leeching.is_done(&leech_node)?;
        let same = || payload.compare(&seed_node.data(), &leech_node.data(), Empty::Required);
        Ok(done && same().is_ok())
    })?;
    let seconds = start.elapsed().as_secs_f64();
    leeching.proc.terminate()?;
    Ok(format!(
        "{:.1} MB in {seconds:.1} s",
        payload.total() as f64 / 1e6
    ))
}

fn escaped(url: &str) -> String {
    url.replace(':', "%3A").replace('/', "%2F")
}
