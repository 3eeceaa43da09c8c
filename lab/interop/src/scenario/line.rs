//! One connection over a long fast line: a relay with 100 ms round trip and 1 Gbit/s between seed and leech.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use super::GIB;
use crate::client::{Client, Job, Options, PORT, Role};
use crate::metafile::Metafile;
use crate::payload::{Empty, Payload};
use crate::process::{Proc, wait_for};
use crate::relay::Line;
use crate::runner::{Cell, Context};
use crate::world::{Node, World};

const LINE: Line = Line {
    round_trip: Duration::from_millis(100),
    bits_per_sec: 1_000_000_000,
};
const SIZE: u64 = GIB;
const LIMIT: Duration = Duration::from_secs(120);
/// Of the line, from the first byte to the last.
const LEAST_SHARE: f64 = 0.80;

pub(super) fn torr_cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    for (name, seed, leech) in [
        ("line-torr-leeches", Client::Libtorrent, Client::Torr),
        ("line-torr-seeds", Client::Torr, Client::Libtorrent),
    ] {
        let least = if leech == Client::Torr {
            LEAST_SHARE
        } else {
            0.0
        };
        let run =
            move |context: &Context, dir: &Path| transfer(context, dir, seed, leech, least, true);
        cells.push(Cell::new(format!("scenario/{name}"), LIMIT * 2, run).alone());
    }
    cells
}

/// The relay's own proof, and a figure to compare with.
pub(super) fn foreign_cells(prefix: &str) -> Vec<Cell> {
    let plain = Cell::new(format!("{prefix}scenario/line-plain"), LIMIT * 2, plain).alone();
    let libtorrent = [
        ("line-libtorrent-default", false),
        ("line-libtorrent-tuned", true),
    ]
    .map(|(name, tuned)| {
        let run = move |context: &Context, dir: &Path| {
            transfer(
                context,
                dir,
                Client::Libtorrent,
                Client::Libtorrent,
                0.0,
                tuned,
            )
        };
        Cell::new(format!("{prefix}scenario/{name}"), LIMIT * 2, run).alone()
    });
    [plain].into_iter().chain(libtorrent).collect()
}

struct Ends {
    seed: Node,
    relay: Node,
    leech: Node,
    world: World,
}

impl Ends {
    fn new(dir: &Path) -> Result<Self> {
        let mut world = World::new(dir)?;
        Ok(Self {
            seed: world.node("seed")?,
            relay: world.node("relay")?,
            leech: world.node("leech")?,
            world,
        })
    }

    /// Starts the relay towards the seed.
    fn relay(&self) -> Result<Proc> {
        let mut command = self.relay.command(std::env::current_exe()?);
        command.args([
            "helper",
            "relay",
            &format!("{}:{PORT}", self.relay.v4),
            &format!("{}:{PORT}", self.seed.v4),
        ]);
        command.args([
            LINE.round_trip.as_millis().to_string(),
            LINE.bits_per_sec.to_string(),
        ]);
        Proc::spawn(&self.relay, "relay", command)
    }
}

/// TCP alone must fill the line, and not more than it.
fn plain(_: &Context, dir: &Path) -> Result<String> {
    let ends = Ends::new(dir)?;
    let me = std::env::current_exe()?;
    let mut source = ends.seed.command(&me);
    source.args([
        "helper",
        "source",
        &format!("{}:{PORT}", ends.seed.v4),
        &SIZE.to_string(),
    ]);
    let _source = Proc::spawn(&ends.seed, "source", source)?;
    let _relay = ends.relay()?;
    std::thread::sleep(Duration::from_millis(500));
    let mut sink = ends.leech.command(&me);
    sink.args(["helper", "sink", &format!("{}:{PORT}", ends.relay.v4)]);
    let mut sink = Proc::spawn(&ends.leech, "sink", sink)?;
    sink.wait_success(LIMIT)?;
    let text = std::fs::read_to_string(&sink.stdout)?;
    let (bytes, seconds) = text.trim().split_once(' ').context("the sink's figures")?;
    let (bytes, seconds): (u64, f64) = (bytes.parse()?, seconds.parse()?);
    ensure!(bytes == SIZE, "{bytes} bytes arrived instead of {SIZE}");
    let share = share(bytes, seconds);
    ensure!(
        (0.90..=1.02).contains(&share),
        "the relay carried {:.1} % of its line",
        share * 100.0
    );
    drop(ends.world);
    Ok(format!("{:.1} % of the line", share * 100.0))
}

/// `tuned`: both ends with long queues, where they are not so by themselves.
fn transfer(
    context: &Context,
    dir: &Path,
    seed: Client,
    leech: Client,
    least: f64,
    tuned: bool,
) -> Result<String> {
    let ends = Ends::new(dir)?;
    let payload = Payload::single("line", SIZE);
    payload.write(&ends.seed.data())?;
    let torrent = Metafile::write(&payload, &ends.seed.data(), 1024 * 1024, &[], dir)?;
    let options = Options {
        trust: true,
        long_line: true,
        ..Options::default()
    };
    let job = Job {
        torrent: &torrent,
        dir: ends.seed.data(),
        role: Role::Seed,
        options,
    };
    let mut seeding = seed.start(&ends.seed, &job, &context.tools)?;
    seeding.wait_done(&ends.seed, LIMIT)?;
    let _relay = ends.relay()?;
    std::thread::sleep(Duration::from_millis(500));

    let options = Options {
        peer: Some((ends.relay.v4.into(), PORT)),
        long_line: tuned,
        ..Options::default()
    };
    let job = Job {
        torrent: &torrent,
        dir: ends.leech.data(),
        role: Role::Leech,
        options,
    };
    let before = ends.leech.received()?;
    let mut leeching = leech.start(&ends.leech, &job, &context.tools)?;
    let mut samples: Vec<(Instant, u64)> = Vec::new();
    wait_for("the whole payload over the line", LIMIT, || {
        let received = ends.leech.received()? - before;
        if received > 64 * 1024 {
            samples.push((Instant::now(), received));
        }
        leeching.is_done(&ends.leech)
    })?;
    leeching.proc.terminate()?;
    payload.compare(&ends.seed.data(), &ends.leech.data(), Empty::Required)?;

    let all = share_between(&samples, 0, SIZE).context("no samples")?;
    let steady = share_between(&samples, SIZE / 4, SIZE / 10 * 9).context("no samples")?;
    let figures = format!(
        "{:.1} % of the line, {:.1} % once it runs",
        all * 100.0,
        steady * 100.0
    );
    if all < least {
        bail!("{figures}; {:.0} % were asked for", least * 100.0);
    }
    drop(ends.world);
    Ok(figures)
}

/// How full the line was between two counts of bytes.
fn share_between(samples: &[(Instant, u64)], from: u64, to: u64) -> Option<f64> {
    let first = samples.iter().find(|(_, bytes)| *bytes >= from)?;
    let last = samples
        .iter()
        .find(|(_, bytes)| *bytes >= to)
        .or(samples.last())?;
    Some(share(
        last.1 - first.1,
        last.0.duration_since(first.0).as_secs_f64(),
    ))
}

fn share(bytes: u64, seconds: f64) -> f64 {
    bytes as f64 * 8.0 / seconds.max(1e-3) / LINE.bits_per_sec as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_line_is_one() {
        assert!((share(125 * 1_000_000, 1.0) - 1.0).abs() < 1e-9);
        assert!(LINE.bandwidth_delay() < 16 * 1024 * 1024);
    }
}
