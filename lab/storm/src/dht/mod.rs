//! A DHT of thousands of real nodes in virtual time: do lookups find what was announced, how fast, and
//! at what price, while nodes come and go and some mean ill.
//!
//! ```text
//! torr-storm dht --nodes 10000           what the figures in BENCHMARKS.md are of
//! torr-storm dht --nodes 500 --seed 7    a minute's worth
//! ```

mod hostile;
mod report;
#[cfg(test)]
mod tests;
mod world;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

pub(crate) use report::Report;
use world::World;

const USAGE: &str = "\
usage: torr-storm dht [--nodes N] [--seed N] [--hostile PERCENT] [--dead PERCENT] [--churn PERCENT]
                      [--loss PERCENT] [--minutes N] [--lookups N] [--no-flood]

  --nodes N      real nodes, hostile ones among them (1000)
  --hostile P    of them that mean ill, of seven kinds (10)
  --dead P       of them that vanish when measuring begins, and still stand in all tables (10)
  --churn P      of them that leave in an hour while as many come (10)
  --loss P       of the datagrams that are lost (1)
  --minutes N    of virtual time that are measured, after all have joined (30)
  --lookups N    in that time (2000)

Fails where fewer than 99 % of the lookups succeed, or the median is above 1.5 s, or the replies to a flood
of 50,000 packets a second are above 8 KB/s.
";

#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) nodes: usize,
    pub(crate) seed: u64,
    pub(crate) hostile: u64,
    pub(crate) dead: u64,
    pub(crate) churn: u64,
    pub(crate) loss: u64,
    pub(crate) measured: Duration,
    pub(crate) lookups: usize,
    pub(crate) flood: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            nodes: 1_000,
            seed: 1,
            hostile: 10,
            dead: 10,
            churn: 10,
            loss: 1,
            measured: Duration::from_secs(30 * 60),
            lookups: 2_000,
            flood: true,
        }
    }
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Options> {
    let mut out = Options::default();
    while let Some(arg) = args.next() {
        let mut value = || args.next().with_context(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--nodes" => out.nodes = value()?.parse::<usize>()?.max(20),
            "--seed" => out.seed = value()?.parse()?,
            "--hostile" => out.hostile = value()?.parse()?,
            "--dead" => out.dead = value()?.parse()?,
            "--churn" => out.churn = value()?.parse()?,
            "--loss" => out.loss = value()?.parse()?,
            "--minutes" => out.measured = Duration::from_secs(60 * value()?.parse::<u64>()?),
            "--lookups" => out.lookups = value()?.parse::<usize>()?.max(1),
            "--no-flood" => out.flood = false,
            "--help" | "-h" => {
                print!("{USAGE}");
                std::process::exit(0);
            }
            _ => bail!("unknown option {arg}\n{USAGE}"),
        }
    }
    Ok(out)
}

/// Builds the network, measures it, and floods one of its nodes.
pub(crate) fn run(options: &Options) -> Report {
    let mut world = World::new(options.clone());
    world.join_all();
    world.measure();
    let flood = options.flood.then(|| world.flood());
    world.report(flood)
}

/// The subcommand.
pub(crate) fn main(args: impl Iterator<Item = String>) -> Result<ExitCode> {
    let options = parse(args)?;
    let started = std::time::Instant::now();
    let report = run(&options);
    println!("{report}");
    println!("{:.0} s of real time", started.elapsed().as_secs_f64());
    Ok(match report.fault() {
        None => ExitCode::SUCCESS,
        Some(fault) => {
            println!("FAILED: {fault}");
            ExitCode::FAILURE
        }
    })
}
