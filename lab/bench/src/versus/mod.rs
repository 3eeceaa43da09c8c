//! torr against other clients and against floor programs, in one run on one machine.
//!
//! - [`client`] knows how each contender is told to do a task, and which of them this machine has.
//! - [`case`] is the table of cases and goals.
//! - [`ground`] is a network namespace with a loopback device, and the data; [`machine`] the CPUs and the memory.
//! - [`source`], [`sink`] and [`tracker`] serve the clients, at a cost that is no bottleneck.
//! - [`process`] runs one client and counts what it used; [`runner`] does one run.
//! - [`report`] and [`plot`] say what came out; [`earlier`] reads it again, for a run that goes on where one was cut off.
//!
//! Contenders are interleaved (A B C A B C …), so that whatever the machine does meanwhile meets all of them. The least
//! of the runs decides, since noise only adds.

mod case;
mod cipher;
mod client;
mod earlier;
mod ground;
mod machine;
mod options;
mod parser;
mod plot;
mod poll;
mod process;
mod report;
mod result;
mod runner;
mod setup;
mod sink;
mod source;
mod tracker;
mod wire;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use torr_interop::sandbox;

use case::{CASES, Case};
use client::Contender;
use ground::Stage;
use machine::Machine;
use options::Options;
use result::{CaseResult, Outcome, Row, is_decided};

/// `args` without the program's and the command's name.
pub(crate) fn main(args: &[String]) -> Result<ExitCode> {
    let options = Options::read(args)?;
    let Some(scratch) = sandbox::inside() else {
        setup::before(&options)?;
        sandbox::enter_in(&options.scratch())?;
        return Ok(ExitCode::FAILURE);
    };
    let machine = Machine::look()?;
    let contenders = client::all(&options.torr()?)?;
    let work = ground::prepare(&scratch, &client::lab()?.join("unstable"))?;
    machine::pin_harness(&machine)?;
    machine::warm_memory(u64::MAX)?;
    for contender in &contenders {
        match &contender.version {
            Ok(version) => println!("{}: {version}", contender.name),
            Err(why) => println!("{}: not there: {why}", contender.name),
        }
    }
    let mut results = if options.resume {
        earlier::read(&options, &machine, &contenders)?
    } else {
        Vec::new()
    };
    let mut kept = None;
    for case in CASES.iter().filter(|case| options.wants_case(case.name)) {
        if results.iter().any(|result| result.case.name == case.name) {
            println!("{}: kept", case.name);
            continue;
        }
        let data = case.amount.data(&options);
        let payload = match kept.take() {
            Some((of, payload)) if of == data => payload,
            Some(_) | None => ground::make_data(&work, data)?,
        };
        let stage = ground::stage(&work, &payload, case.piece_len)?;
        results.push(run_case(
            case,
            &stage,
            &contenders,
            &machine,
            &options,
            &work,
        )?);
        kept = Some((data, payload));
        let place = |result: &CaseResult| CASES.iter().position(|it| it.name == result.case.name);
        results.sort_by_key(place);
        // After each case, so that an early end loses little.
        report::write(&options, &machine, &contenders, &results)?;
    }
    ensure!(!results.is_empty(), "no case of that name");
    println!(
        "{}",
        report::markdown(&machine, &contenders, &results, None)
    );
    if options.publish {
        report::publish(&machine, &contenders, &results)?;
    }
    println!("written to {}", options.out().display());
    Ok(ExitCode::SUCCESS)
}

fn run_case(
    case: &'static Case,
    stage: &Stage,
    contenders: &[Contender],
    machine: &Machine,
    options: &Options,
    work: &Path,
) -> Result<CaseResult> {
    println!("{}: {}", case.name, case.title);
    let takes_part = |contender: &&Contender| match case.only {
        Some(only) => only.contains(&contender.name),
        None => contender.name != "torr-24m" && options.wants_client(contender.name),
    };
    let chosen: Vec<&Contender> = contenders.iter().filter(takes_part).collect();
    let mut rows: Vec<Row> = chosen.iter().map(|contender| Row::new(contender)).collect();
    for run in 1..=options.runs() {
        for (at, contender) in chosen.iter().enumerate() {
            if rows[at].sits_out() || is_decided(case, &rows, at) {
                continue;
            }
            machine::warm_memory(stage.shape.total + (1 << 30))?;
            let outcome = match runner::run(case, stage, contender, machine, work) {
                Ok(None) => Outcome::Cannot,
                Ok(Some(figures)) => Outcome::Good(figures),
                Err(error) => Outcome::Bad(error),
            };
            if !matches!(outcome, Outcome::Cannot) {
                println!("  {run} {}: {}", contender.name, outcome.line());
            }
            rows[at].push(outcome);
        }
    }
    // Who cannot do such a task does not show; who could not be had does.
    rows.retain(|row| !row.is_empty());
    Ok(CaseResult::new(case, stage.shape.total, rows))
}

/// Where the repository is, from this crate's own place in it.
fn root() -> Result<&'static Path> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.ancestors()
        .nth(2)
        .context("no repository above lab/bench")
}
