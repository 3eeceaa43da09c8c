//! Random swarms by seed: a time of faults in which nothing may go wrong, then a time without in which
//! everybody must finish.
//!
//! ```text
//! torr-storm --seeds 1..200 --twice          each seed twice, with equal traces
//! torr-storm --seed 17 --trace peer=3        what host 3 says, hears and does
//! torr-storm --seeds 1..50 --peers 200 --hostile 0 --report
//! torr-storm dht --nodes 10000               a DHT of real nodes, some hostile
//! torr-storm liars --seeds 1..5              twenty liars among a hundred peers
//! ```
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "a program for people")]

mod dht;
mod liars;
mod plan;
mod run;

use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use plan::Options;
use run::Outcome;

const USAGE: &str = "\
usage: torr-storm [--seed N | --seeds A..B] [--peers N] [--hostile PERCENT] [--fair] [--twice]
                  [--report] [--ratio-max X] [--until SECS] [--trace peer=N] [--threads N] [--verbose]
       torr-storm dht --help
       torr-storm liars --help

  --seeds A..B   A to B, both included
  --peers N      N nodes and a torrent of 16 MiB in pieces of 256 KiB, instead of what the seed says
  --fair         no faults: what remains is economics
  --report       as --fair, and tells times and ratios
  --ratio-max X  as --report, and fails where the median of last completion over capacity is above X
  --twice        runs each seed twice and compares the traces
";

#[derive(Clone, Debug, Default)]
struct Args {
    first: u64,
    last: u64,
    twice: bool,
    report: bool,
    ratio_max: Option<f64>,
    verbose: bool,
    threads: Option<usize>,
    options: Options,
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Args> {
    let mut out = Args {
        first: 1,
        last: 200,
        ..Args::default()
    };
    while let Some(arg) = args.next() {
        let mut value = || args.next().with_context(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--seed" => {
                out.first = value()?.parse()?;
                out.last = out.first;
            }
            "--seeds" => (out.first, out.last) = range(&value()?)?,
            "--peers" => out.options.peers = Some(value()?.parse::<usize>()?.max(2)),
            "--hostile" => out.options.hostile = Some(value()?.parse()?),
            "--fair" => out.options.fair = true,
            "--report" => (out.report, out.options.fair) = (true, true),
            "--ratio-max" => {
                out.ratio_max = Some(value()?.parse()?);
                (out.report, out.options.fair) = (true, true);
            }
            "--twice" => out.twice = true,
            "--verbose" => out.verbose = true,
            "--threads" => out.threads = Some(value()?.parse()?),
            "--until" => {
                let secs: f64 = value()?.trim_end_matches('s').parse()?;
                out.options.until = Some(Duration::from_secs_f64(secs));
            }
            "--trace" => {
                let peer = value()?;
                let peer = peer.strip_prefix("peer=").context("--trace peer=N")?;
                out.options.trace = Some(peer.parse()?);
            }
            "--help" | "-h" => {
                print!("{USAGE}");
                std::process::exit(0);
            }
            _ => bail!("unknown option {arg}\n{USAGE}"),
        }
    }
    Ok(out)
}

/// `A..B`, both included.
fn range(text: &str) -> Result<(u64, u64)> {
    let (first, last) = text.split_once("..").context("--seeds A..B")?;
    Ok((first.parse()?, last.parse()?))
}

thread_local! {
    /// Where and why this thread panicked last.
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// What a run comes to, or what it panicked with.
fn caught<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    let run = std::panic::AssertUnwindSafe(run);
    std::panic::catch_unwind(run).map_err(|_| PANIC.with_borrow(String::clone))
}

/// Runs the seeds on so many threads, or on all cores; the results in the order of seeds.
fn each_seed<T: Send>(
    seeds: RangeInclusive<u64>,
    threads: Option<usize>,
    run: impl Fn(u64) -> T + Sync,
) -> Vec<(u64, T)> {
    if seeds.start() == seeds.end() {
        std::panic::set_hook(Box::new(|info| {
            PANIC.set(info.to_string());
            eprintln!("{info}\n{}", std::backtrace::Backtrace::capture())
        }));
    } else {
        std::panic::set_hook(Box::new(|info| PANIC.set(info.to_string())));
    }
    let next = AtomicU64::new(*seeds.start());
    let results = Mutex::new(Vec::new());
    let threads = threads
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed > *seeds.end() {
                        return;
                    }
                    let result = run(seed);
                    if let Ok(mut results) = results.lock() {
                        results.push((seed, result));
                    }
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_default();
    results.sort_by_key(|(seed, _)| *seed);
    results
}

/// One seed, once or twice; the error is what a person must know.
fn try_seed(seed: u64, args: &Args) -> Result<Outcome, String> {
    let once = || caught(|| run::run(seed, &args.options));
    let first = once()?;
    if args.twice {
        let second = once()?;
        if (first.trace, first.events) != (second.trace, second.events) {
            return Err(format!(
                "two runs differ: {:016x} of {} events and {:016x} of {}",
                first.trace, first.events, second.trace, second.events
            ));
        }
    }
    Ok(first)
}

fn main() -> Result<ExitCode> {
    let mut own = std::env::args().skip(1).peekable();
    if own.next_if(|arg| arg == "dht").is_some() {
        return dht::main(own);
    }
    if own.next_if(|arg| arg == "liars").is_some() {
        return liars::main(own);
    }
    let args = parse(own)?;
    let results = each_seed(args.first..=args.last, args.threads, |seed| {
        let result = try_seed(seed, &args);
        tell(seed, &result, &args);
        result
    });
    Ok(summary(&results, &args))
}

fn tell(seed: u64, result: &Result<Outcome, String>, args: &Args) {
    match result {
        Err(why) => eprintln!("seed {seed} FAILED: {why}"),
        Ok(outcome) if args.verbose || args.first == args.last => println!(
            "seed {seed}: last at {:.1} s, bound {:.1} s, ratio {:.2}, wasted {} of {} bytes, \
             {} events in {:.2} s, trace {:016x}",
            outcome.last.as_secs_f64(),
            outcome.bound.as_secs_f64(),
            outcome.ratio(),
            outcome.wasted,
            outcome.received,
            outcome.events,
            outcome.real.as_secs_f64(),
            outcome.trace,
        ),
        Ok(_) => {}
    }
}

fn summary(results: &[(u64, Result<Outcome, String>)], args: &Args) -> ExitCode {
    let good: Vec<_> = results
        .iter()
        .filter_map(|(_, result)| result.as_ref().ok())
        .collect();
    let failed: Vec<_> = (results.iter())
        .filter(|(_, result)| result.is_err())
        .map(|(seed, _)| *seed)
        .collect();
    let real: f64 = good.iter().map(|outcome| outcome.real.as_secs_f64()).sum();
    let events: u64 = good.iter().map(|outcome| outcome.events).sum();
    println!(
        "{} seeds, {} failed {failed:?}; {events} events in {real:.1} s of one core",
        results.len(),
        failed.len()
    );
    let median = args.report.then(|| economics(&good)).flatten();
    let slow = args
        .ratio_max
        .is_some_and(|most| median.is_none_or(|median| median > most));
    if slow {
        println!("the median is above {:?}", args.ratio_max);
    }
    if failed.is_empty() && !slow {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Tells what the swarms made of their lines; the median of last completion over capacity.
fn economics(good: &[&Outcome]) -> Option<f64> {
    let mut ratios: Vec<_> = good.iter().map(|outcome| outcome.ratio()).collect();
    ratios.sort_by(f64::total_cmp);
    let at = |share: usize| ratios.get((ratios.len().max(1) - 1) * share / 100).copied();
    let wasted: u64 = good.iter().map(|outcome| outcome.wasted).sum();
    let received: u64 = good.iter().map(|outcome| outcome.received).sum();
    println!(
        "last completion over capacity: median {:.3}, 10% {:.3}, 90% {:.3}, worst {:.3}; \
         wasted {:.2} %",
        at(50)?,
        at(10)?,
        at(90)?,
        at(100)?,
        wasted as f64 * 100.0 / received.max(1) as f64,
    );
    at(50)
}
