//! One transfer between one client in the middle (torr; or libtorrent, to prove the lab itself) and another, in every
//! combination of direction, payload, transport of the announce and address family.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use crate::client::{Client, Job, Options, Role};
use crate::metafile::Metafile;
use crate::payload::{Empty, Payload};
use crate::runner::{Cell, Context};
use crate::tracker::{self, Kind, Tracker, Transport};
use crate::world::{Family, World};

const SEED_LIMIT: Duration = Duration::from_secs(40);
const TRANSFER_LIMIT: Duration = Duration::from_secs(90);
const CELL_LIMIT: Duration = Duration::from_secs(180);

/// Seen from the client in the middle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    LeechesFrom,
    SeedsTo,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Single,
    Multi,
}

#[derive(Clone, Copy, Debug)]
struct Transfer {
    seed: Client,
    leech: Client,
    shape: Shape,
    transport: Transport,
    family: Family,
    tracker: Kind,
}

/// All combinations that the other client can do.
pub fn cells(middle: Client, prefix: &str) -> Vec<Cell> {
    let mut cells = Vec::new();
    for other in Client::FOREIGN {
        for direction in [Direction::LeechesFrom, Direction::SeedsTo] {
            for shape in [Shape::Single, Shape::Multi] {
                for transport in Transport::ALL {
                    for family in Family::ALL {
                        if other.can(transport, family) {
                            cells.push(cell(
                                middle, prefix, other, direction, shape, transport, family,
                            ));
                        }
                    }
                }
            }
        }
    }
    cells
}

/// The others meet at `torr tracker`: each as a seed for libtorrent.
pub fn torr_tracker_cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    for seed in Client::FOREIGN {
        for transport in Transport::ALL {
            for family in Family::ALL {
                if seed.can(transport, family) {
                    let (leech, shape, tracker) = (Client::Libtorrent, Shape::Single, Kind::Torr);
                    let transfer = Transfer {
                        seed,
                        leech,
                        shape,
                        transport,
                        family,
                        tracker,
                    };
                    let name = format!(
                        "torr-tracker/{}/{}/{}",
                        seed.name(),
                        transport.name(),
                        family.name()
                    );
                    cells.push(Cell::new(name, CELL_LIMIT, move |context, dir| {
                        run(context, dir, transfer)
                    }));
                }
            }
        }
    }
    cells
}

fn cell(
    middle: Client,
    prefix: &str,
    other: Client,
    direction: Direction,
    shape: Shape,
    transport: Transport,
    family: Family,
) -> Cell {
    let (word, seed, leech) = match direction {
        Direction::LeechesFrom => ("leeches-from", other, middle),
        Direction::SeedsTo => ("seeds-to", middle, other),
    };
    let shape_name = match shape {
        Shape::Single => "single",
        Shape::Multi => "multi",
    };
    let name = format!(
        "{prefix}{word}/{}/{shape_name}/{}/{}",
        other.name(),
        transport.name(),
        family.name()
    );
    let tracker = Kind::independent(family);
    let transfer = Transfer {
        seed,
        leech,
        shape,
        transport,
        family,
        tracker,
    };
    Cell::new(name, CELL_LIMIT, move |context, dir| {
        run(context, dir, transfer)
    })
}

/// Odd sizes on purpose: the last piece and the last block are short.
fn payload(shape: Shape) -> (Payload, usize) {
    match shape {
        Shape::Single => (
            Payload::single("single.bin", 16 * 1024 * 1024 + 12_345),
            256 * 1024,
        ),
        Shape::Multi => (multi("multi"), 64 * 1024),
    }
}

/// Sub-folders, files that end inside pieces, one of 1 byte, one of none, and one of exactly a piece.
pub(crate) fn multi(name: &str) -> Payload {
    Payload::multi(
        name,
        &[
            ("a/first.bin", 3_000_001),
            ("a/empty.txt", 0),
            ("a/b/one.byte", 1),
            ("a/b/second.bin", 5_242_880),
            ("c with spaces/ünïcode.bin", 777_777),
            ("piece.bin", 65_536),
            ("z-last.bin", 2_500_000),
        ],
    )
}

fn run(context: &Context, dir: &Path, transfer: Transfer) -> Result<String> {
    let mut world = World::new(dir)?;
    let tracker_node = world.node("tracker")?;
    let seed_node = world.node("seed")?;
    let leech_node = world.node("leech")?;
    let (payload, piece_len) = payload(transfer.shape);
    let original = dir.join("original");
    payload.write(&original)?;
    payload.write(&seed_node.data())?;
    let url = tracker::url(&tracker_node, transfer.transport, transfer.family);
    let torrent = Metafile::write(&payload, &original, piece_len, &[url], dir)?;
    let mut tracker = Tracker::start(
        tracker_node,
        transfer.tracker,
        transfer.family,
        &[&torrent],
        &context.tools,
    )?;

    let job = |node: &crate::world::Node, role| Job {
        torrent: &torrent,
        dir: node.data(),
        role,
        options: Options::default(),
    };
    let mut seed = transfer
        .seed
        .start(&seed_node, &job(&seed_node, Role::Seed), &context.tools)?;
    seed.wait_done(&seed_node, SEED_LIMIT)?;
    tracker.wait_seeds(&torrent, 1, SEED_LIMIT)?;
    let start = std::time::Instant::now();
    let mut leech =
        transfer
            .leech
            .start(&leech_node, &job(&leech_node, Role::Leech), &context.tools)?;
    leech.wait_done(&leech_node, TRANSFER_LIMIT)?;
    let seconds = start.elapsed().as_secs_f64();
    leech.proc.terminate()?;
    payload.compare(&original, &leech_node.data(), transfer.leech.empty_files())?;
    payload.compare(&original, &seed_node.data(), Empty::Required)?;
    Ok(format!(
        "{:.1} MB in {seconds:.1} s",
        payload.total() as f64 / 1e6
    ))
}
