//! The cable is pulled for twenty seconds, and put in again (G17): the download goes on within thirty seconds, and nobody
//! is asked more often than it has to be.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use super::{MIB, Stage};
use crate::client::{Client, Job, Options, Role};
use crate::payload::{Empty, Payload};
use crate::process::wait_for;
use crate::runner::{Cell, Context};

const CELL_LIMIT: Duration = Duration::from_secs(240);
const PIECE_LEN: usize = 256 * 1024;
/// Bytes a second, and how many there are: a minute.
const RATE: u64 = 1_000_000;
const SIZE: u64 = 60 * MIB;
const GONE: Duration = Duration::from_secs(20);
/// G17.
const BACK_WITHIN: Duration = Duration::from_secs(30);
/// Both trackers, in the minute in which it is over: once because the line is back, and at the end.
const ANNOUNCES_MAX: usize = 6;

pub(super) fn cells() -> Vec<Cell> {
    vec![Cell::new(
        "scenario/network-loss".to_owned(),
        CELL_LIMIT,
        run,
    )]
}

fn run(context: &Context, dir: &Path) -> Result<String> {
    let payload = Payload::single("line.bin", SIZE);
    let stage = Stage::new(context, dir, &payload, PIECE_LEN, Some(RATE))?;
    let job = Job {
        torrent: &stage.torrent,
        dir: stage.leech.data(),
        role: Role::Leech,
        options: Options {
            verbose: true,
            ..Options::default()
        },
    };
    let mut torr = Client::Torr.start(&stage.leech, &job, &context.tools)?;
    let received = || stage.leech.received();
    wait_for("the download to run", BACK_WITHIN, || {
        Ok(received()? > 5 * MIB)
    })?;
    stage.world.set_line(&stage.leech, false)?;
    std::thread::sleep(GONE);
    let before = received()?;
    let announced = announces(&torr.proc.stderr)?;
    stage.world.set_line(&stage.leech, true)?;
    let back = Instant::now();
    wait_for("the download to go on", BACK_WITHIN, || {
        Ok(received()? > before + MIB)
    })?;
    let took = back.elapsed();
    torr.wait_done(&stage.leech, Duration::from_secs(120))?;
    payload.compare(
        &stage.seed_node.data(),
        &stage.leech.data(),
        Empty::Required,
    )?;
    let more = announces(&torr.proc.stderr)? - announced;
    ensure!(
        more <= ANNOUNCES_MAX,
        "{more} announces after the line was back"
    );
    Ok(format!(
        "on after {:.1} s, {more} announces",
        took.as_secs_f64()
    ))
}

/// What torr told of announces, good and bad.
fn announces(stderr: &Path) -> Result<usize> {
    let text = std::fs::read_to_string(stderr)?;
    let count = text
        .lines()
        .filter(|line| line.contains("/announce: "))
        .count();
    if count == 0 {
        bail!("no announce is told of: {text}");
    }
    Ok(count)
}
