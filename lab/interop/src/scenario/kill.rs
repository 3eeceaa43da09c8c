//! `kill -9` at random moments of a download: each run goes on where the last was, without reading it all again.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::{ASSEMBLY_BUDGET, GIB, MIB, Stage};
use crate::client::{Peer, torr};
use crate::payload::{Empty, Payload, Random};
use crate::process::{read_by, wait_for};
use crate::runner::{Cell, Context};

const LIMIT: Duration = Duration::from_secs(600);
/// What a start after a kill may read: G4 of the guarantees, and a little for the program itself.
const READ_BEFORE_READY: u64 = 64 * MIB + 8 * MIB;

pub(super) fn cells() -> Vec<Cell> {
    vec![Cell::new("scenario/kill-9".to_owned(), LIMIT * 2, run).alone()]
}

#[derive(Default)]
struct Worst {
    read: u64,
    ready: Duration,
}

fn run(context: &Context, dir: &Path) -> Result<String> {
    let (kills, size): (u64, u64) = match context.full {
        true => (200, 4 * GIB),
        false => (10, 2 * GIB),
    };
    // About a second of transfer between two kills.
    let rate = size / kills;
    let payload = Payload::single("kill", size);
    let stage = Stage::new(context, dir, &payload, 1024 * 1024, Some(rate))?;
    let mut random = Random::new("moments", 0);
    let mut worst = Worst::default();
    let mut done = 0;
    for number in 0..kills {
        let before = stage.leech.received()?;
        let mut torr = stage.torr(context)?;
        if random.next().is_multiple_of(8) {
            // Some fall into the start, before anything is read.
            std::thread::sleep(Duration::from_millis(random.next() % 200));
        } else {
            wait_ready(&stage, &mut torr, before, &mut worst)
                .with_context(|| format!("start {number}"))?;
            let share = 2 * size.saturating_sub(done) / (kills + 2 - number);
            let target = before + random.next() % share.max(1);
            wait_for("the moment of a kill", LIMIT, || {
                ensure!(
                    torr.proc.status()?.is_none(),
                    "{} ended by itself",
                    torr.proc.name
                );
                Ok(stage.leech.received()? >= target)
            })?;
        }
        torr.proc.signal("KILL")?;
        torr.proc.wait(Duration::from_secs(10))?;
        done = stage.leech.received()?;
    }
    let before = stage.leech.received()?;
    let mut torr = stage.torr(context)?;
    wait_ready(&stage, &mut torr, before, &mut worst).context("the last start")?;
    torr.wait_done(&stage.leech, LIMIT)?;
    payload.compare(
        &stage.seed_node.data(),
        &stage.leech.data(),
        Empty::Required,
    )?;

    let received = stage.leech.received()?;
    let most = (size + kills * ASSEMBLY_BUDGET) / 100 * 103;
    ensure!(
        received <= most,
        "received {received} bytes for {size} and {kills} kills, more than {most}"
    );
    Ok(format!(
        "{kills} kills, received {:.3} x size, read at most {:.1} MiB before ready, ready in {:.2} s",
        received as f64 / size as f64,
        worst.read as f64 / MIB as f64,
        worst.ready.as_secs_f64()
    ))
}

/// Waits for the event `added` and looks at what was read until then.
fn wait_ready(stage: &Stage, torr: &mut Peer, before: u64, worst: &mut Worst) -> Result<()> {
    let start = Instant::now();
    wait_for("torr to be ready", Duration::from_secs(60), || {
        torr.proc.check_alive()?;
        Ok(torr::events(&torr.proc)
            .iter()
            .any(|event| event["t"] == "added"))
    })?;
    worst.ready = worst.ready.max(start.elapsed());
    // Sockets may count as reads too, depending on the call; by then they have brought this much.
    let network = stage.leech.received()?.saturating_sub(before);
    let read = read_by(torr.proc.id())?.0.saturating_sub(network);
    worst.read = worst.read.max(read);
    ensure!(
        read <= READ_BEFORE_READY,
        "read {} MiB before it was ready",
        read / MIB
    );
    Ok(())
}
