//! torr and another client with every pair of opinions about encryption, both ways: those that should connect
//! do, the others do not, and torr says why.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use crate::client::{Client, Encryption, Job, Options, Peer, Role, torr};
use crate::metafile::Metafile;
use crate::payload::{Empty, Payload};
use crate::runner::{Cell, Context};
use crate::tracker::{self, Kind, Tracker, Transport};
use crate::world::{Family, Node, World};

const ALL: [Encryption; 3] = [Encryption::Off, Encryption::Prefer, Encryption::Require];
const SEED_LIMIT: Duration = Duration::from_secs(40);
/// Both sides may have to try a second time, and Transmission unchokes every 10 s.
const TRANSFER_LIMIT: Duration = Duration::from_secs(90);
/// So long nothing may come through where nothing should.
const PATIENCE: Duration = Duration::from_secs(25);
const CELL_LIMIT: Duration = Duration::from_secs(180);
const SIZE: u64 = 2 * 1024 * 1024 + 12_345;

#[derive(Clone, Copy, Debug)]
struct Pair {
    /// torr's, and the other's.
    ours: Encryption,
    theirs: Encryption,
    other: Client,
    torr_leeches: bool,
}

pub fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    for other in Client::FOREIGN {
        for ours in ALL {
            for theirs in ALL {
                for torr_leeches in [true, false] {
                    let pair = Pair {
                        ours,
                        theirs,
                        other,
                        torr_leeches,
                    };
                    cells.extend(can(other, theirs).then(|| cell(pair)));
                }
            }
        }
    }
    cells
}

/// aria2 has one setting for both: it answers an encrypted handshake always.
fn can(client: Client, policy: Encryption) -> bool {
    client != Client::Aria2 || policy != Encryption::Off
}

/// Whether the two can agree, once each has dialled the other in its way and, if that is its way, in another.
fn agree(pair: Pair) -> bool {
    match (pair.ours, pair.theirs) {
        (Encryption::Off, Encryption::Require) => false,
        // Transmission's "off" only means that it does not begin with it; and a seed hears of the leech at its
        // next announce, half an hour later.
        (Encryption::Require, Encryption::Off) => {
            pair.other == Client::Transmission && pair.torr_leeches
        }
        (Encryption::Off, Encryption::Off | Encryption::Prefer)
        | (Encryption::Prefer, _)
        | (Encryption::Require, Encryption::Prefer | Encryption::Require) => true,
    }
}

fn cell(pair: Pair) -> Cell {
    let word = match pair.torr_leeches {
        true => "leeches-from",
        false => "seeds-to",
    };
    let (ours, theirs) = (pair.ours.name(), pair.theirs.name());
    let name = format!("encryption/{word}/{}/{ours}-{theirs}", pair.other.name());
    Cell::new(name, CELL_LIMIT, move |context, dir| {
        run(context, dir, pair)
    })
}

fn run(context: &Context, dir: &Path, pair: Pair) -> Result<String> {
    let mut world = World::new(dir)?;
    let tracker_node = world.node("tracker")?;
    let seed_node = world.node("seed")?;
    let leech_node = world.node("leech")?;
    let payload = Payload::single("encrypted.bin", SIZE);
    payload.write(&seed_node.data())?;
    let url = tracker::url(&tracker_node, Transport::Http, Family::V4);
    let torrent = Metafile::write(&payload, &seed_node.data(), 64 * 1024, &[url], dir)?;
    let mut tracker = Tracker::start(
        tracker_node,
        Kind::Opentracker,
        Family::V4,
        &[&torrent],
        &context.tools,
    )?;
    let start = |node: &Node, role, is_torr| {
        let (client, policy) = match is_torr {
            true => (Client::Torr, pair.ours),
            false => (pair.other, pair.theirs),
        };
        let options = Options {
            encryption: Some(policy),
            ..Options::default()
        };
        let job = Job {
            torrent: &torrent,
            dir: node.data(),
            role,
            options,
        };
        client.start(node, &job, &context.tools)
    };
    let mut seed = start(&seed_node, Role::Seed, !pair.torr_leeches)?;
    seed.wait_done(&seed_node, SEED_LIMIT)?;
    tracker.wait_seeds(&torrent, 1, SEED_LIMIT)?;
    let begun = Instant::now();
    let mut leech = start(&leech_node, Role::Leech, pair.torr_leeches)?;
    if agree(pair) {
        leech.wait_done(&leech_node, TRANSFER_LIMIT)?;
        let seconds = begun.elapsed().as_secs_f64();
        leech.proc.terminate()?;
        payload.compare(&seed_node.data(), &leech_node.data(), Empty::Required)?;
        return Ok(format!("{seconds:.1} s"));
    }
    refused(&mut seed, &mut leech, &leech_node, pair)
}

/// Nothing comes, and torr names the peer and the reason.
fn refused(seed: &mut Peer, leech: &mut Peer, node: &Node, pair: Pair) -> Result<String> {
    let begun = Instant::now();
    let mut told = None;
    while begun.elapsed() < PATIENCE && (told.is_none() || begun.elapsed() < PATIENCE / 3) {
        ensure!(!leech.is_done(node)?, "they should not have connected");
        let ours = if pair.torr_leeches { &*leech } else { &*seed };
        let events = torr::events(&ours.proc);
        let mut events = events.iter().filter(|event| event["t"] == "refused");
        told = told.or_else(|| events.find_map(|event| Some(event["why"].as_str()?.to_owned())));
        std::thread::sleep(Duration::from_millis(200));
    }
    match told {
        Some(why) if why.contains("encrypt") => Ok(format!("refused: {why}")),
        Some(why) => bail!("refused for another reason: {why}"),
        None => bail!("nothing came, and torr did not say why"),
    }
}
