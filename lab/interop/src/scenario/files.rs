//! Unusual torrents: torr downloads part of each, is stopped, resumes, has everything, and checks it.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::{ASSEMBLY_BUDGET, GIB, MIB, Stage};
use crate::client::Tools;
use crate::matrix::multi;
use crate::payload::{Empty, Payload};
use crate::process::{output, wait_for};
use crate::runner::{Cell, Context};
use crate::world::Node;

const LIMIT: Duration = Duration::from_secs(300);
/// For 50 GiB, written and read several times.
const LONG_LIMIT: Duration = Duration::from_secs(3600);
/// Interrupted and terminated, as a shell shows it.
const TERMINATED: i32 = 143;
const VERIFICATION_FAILED: i32 = 8;

struct Plan {
    payload: Payload,
    piece_len: usize,
    /// Of the seed, where the payload would arrive before it can be interrupted.
    rate: Option<u64>,
    interrupt: bool,
    limit: Duration,
}

pub(super) fn cells() -> Vec<Cell> {
    type Make = fn(bool) -> Plan;
    let plans: [(&str, Make); 5] = [
        ("files-20000", |_| {
            plan(
                Payload::many("many", 20_000, 4 * 1024, 64 * 1024),
                256 * 1024,
            )
        }),
        ("files-odd", |_| Plan {
            rate: Some(3 * MIB),
            ..plan(multi("odd"), 64 * 1024)
        }),
        ("one-byte", |_| Plan {
            interrupt: false,
            ..plan(Payload::single("one", 1), 16 * 1024)
        }),
        ("sparse", |full| {
            let size = if full { 50 * GIB } else { 5 * GIB };
            let limit = if full { LONG_LIMIT } else { LIMIT };
            Plan {
                limit,
                ..plan(Payload::sparse("sparse", size, GIB), 4 * 1024 * 1024)
            }
        }),
        ("pieces-16m", |_| {
            plan(
                Payload::single("large-pieces", 600 * MIB + 4321),
                16 * 1024 * 1024,
            )
        }),
    ];
    plans
        .into_iter()
        .map(|(name, make)| {
            Cell::new(
                format!("scenario/{name}"),
                LONG_LIMIT,
                move |context, dir| run(context, dir, &make(context.full)),
            )
        })
        .collect()
}

fn plan(payload: Payload, piece_len: usize) -> Plan {
    Plan {
        payload,
        piece_len,
        rate: None,
        interrupt: true,
        limit: LIMIT,
    }
}

fn run(context: &Context, dir: &Path, plan: &Plan) -> Result<String> {
    let mut stage = Stage::new(context, dir, &plan.payload, plan.piece_len, plan.rate)?;
    let total = plan.payload.total();
    if plan.interrupt {
        interrupt(context, &stage, total, plan.limit)?;
    }
    let start = Instant::now();
    let mut torr = stage.torr(context)?;
    torr.wait_done(&stage.leech, plan.limit)?;
    let seconds = start.elapsed().as_secs_f64();
    let received = stage.leech.received()?;
    // Two runs may have lost what was in assembly, and headers come on top.
    let most = total + total / 20 + ASSEMBLY_BUDGET + 2 * MIB;
    ensure!(
        received <= most,
        "received {received} bytes for {total}, more than {most}"
    );
    plan.payload.compare(
        &stage.seed_node.data(),
        &stage.leech.data(),
        Empty::Required,
    )?;

    // A further run finds everything, with nobody to ask.
    stage.seed.proc.terminate()?;
    let start = Instant::now();
    stage
        .torr(context)?
        .wait_done(&stage.leech, plan.limit)
        .context("running again with everything there")?;
    let again = start.elapsed().as_secs_f64();
    check(&context.tools, &stage, plan)?;
    Ok(format!(
        "{:.1} MB, second part in {seconds:.1} s, again in {again:.1} s",
        total as f64 / 1e6
    ))
}

/// Stops torr politely at about two fifths.
fn interrupt(context: &Context, stage: &Stage, total: u64, limit: Duration) -> Result<()> {
    let mut torr = stage.torr(context)?;
    wait_for("two fifths of the data", limit, || {
        ensure!(
            torr.proc.status()?.is_none(),
            "{} ended before it could be interrupted",
            torr.proc.name
        );
        Ok(stage.leech.received()? >= total / 5 * 2)
    })?;
    let start = Instant::now();
    let code = torr.proc.terminate()?;
    ensure!(
        code == TERMINATED,
        "exit status {code} after TERM instead of {TERMINATED}"
    );
    let seconds = start.elapsed().as_secs_f64();
    ensure!(seconds < 5.5, "TERM took {seconds:.1} s");
    Ok(())
}

/// `torr check` finds all of it right, and one byte that is not.
fn check(tools: &Tools, stage: &Stage, plan: &Plan) -> Result<()> {
    let code = check_status(tools, stage, plan.limit)?;
    ensure!(code == Some(0), "torr check says {code:?} of right data");
    let Some(last) = plan.payload.files.iter().rfind(|file| file.len > 0) else {
        return Ok(());
    };
    let path = plan.payload.path(&stage.leech.data(), last);
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .open(&path)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, last.len - 1)?;
    byte.iter_mut().for_each(|byte| *byte ^= 1);
    file.write_all_at(&byte, last.len - 1)?;
    let code = check_status(tools, stage, plan.limit)?;
    ensure!(
        code == Some(VERIFICATION_FAILED),
        "torr check says {code:?} of a flipped bit"
    );
    Ok(())
}

fn check_status(tools: &Tools, stage: &Stage, limit: Duration) -> Result<Option<i32>> {
    let node: &Node = &stage.leech;
    let mut command = node.command(&tools.torr);
    command
        .arg("check")
        .arg(&stage.torrent.path)
        .arg("-d")
        .arg(node.data());
    let out = output(command, limit)?;
    let log = node.dir.join("log/torr-check.err");
    std::fs::write(log, [out.stdout, out.stderr].concat())
        .context("keeping what torr check said")?;
    Ok(out.status.code())
}
