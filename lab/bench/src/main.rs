//! Figures that hold on a noisy machine: allocations per block, memory, ratios; and torr against others.
#![allow(clippy::print_stdout)]

mod counter;
mod floor;
mod instructions;
mod memory;
mod meter;
mod parse;
mod pipe;
mod seed;
mod versus;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};

#[global_allocator]
static ALLOCATOR: counter::Counting = counter::Counting;

/// What a block may allocate, both ends together: nothing; the tolerance is for tables that grow once.
const PER_BLOCK_MAX: f64 = 0.01;

fn main() -> Result<ExitCode> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (command, rest) = match args.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        None => ("", args.as_slice()),
    };
    match command {
        "gate" => gate()?,
        "pipe" => {
            print_cost("4 MiB", pipe::transfer(1 << 30, 4 << 20)?);
            print_cost("256 KiB", pipe::transfer(1 << 30, 256 << 10)?);
        }
        "parse" => parse::check()?,
        "memory" => memory()?,
        "seed" => seed()?,
        "instructions" => instructions::main(rest)?,
        "workload" => instructions::workload(rest)?,
        "versus" => return versus::main(rest),
        "floor-leech" => floor::leech(rest)?,
        "floor-seed" => floor::seed(rest)?,
        _ => bail!(
            "usage: torr-bench gate | pipe | parse | memory | instructions [--record] | versus [OPTIONS]\n\
             or torr-bench seed [PEERS [RUNS [MIB-SENT [MIB-PAYLOAD]]]]"
        ),
    }
    Ok(ExitCode::SUCCESS)
}

fn print_cost(name: &str, cost: pipe::Cost) {
    println!(
        "{name} pieces: {} blocks, {:.0} ns a block, {} allocations ({:.2} a piece, {} bytes)",
        cost.blocks,
        cost.took.as_nanos() as f64 / cost.blocks as f64,
        cost.allocations,
        cost.allocations as f64 / cost.pieces as f64,
        cost.bytes,
    );
}

fn seed() -> Result<()> {
    let number = |n, default| {
        let given = std::env::args().nth(n);
        given.map_or(Ok(default), |text| text.parse::<u64>())
    };
    let folder = std::env::temp_dir().join("torr-bench-seed");
    seed::measure(&seed::Plan {
        torr: program()?,
        folder,
        peers: number(2, 1)?,
        runs: u32::try_from(number(3, 3)?)?,
        sent_mib: number(4, 4_096)?,
        payload_mib: number(5, 512)?,
    })
}

/// Asserts what must hold in every run.
fn gate() -> Result<()> {
    allocations()?;
    parse::check()?;
    memory()?;
    println!("{} passed, 0 failed", 2 + memory::CASES.len());
    Ok(())
}

fn allocations() -> Result<()> {
    // A piece may allocate; a block may not. Two piece lengths tell them apart.
    let large = pipe::transfer(256 << 20, 4 << 20)?;
    let small = pipe::transfer(256 << 20, 1 << 20)?;
    print_cost("4 MiB", large);
    print_cost("1 MiB", small);
    let per_piece = |cost: pipe::Cost| cost.allocations as f64 / cost.pieces as f64;
    let blocks = |cost: pipe::Cost| cost.blocks as f64 / cost.pieces as f64;
    let per_block = (per_piece(large) - per_piece(small)) / (blocks(large) - blocks(small));
    println!("allocations a block, seed and leech together: {per_block:.4}");
    ensure!(
        per_block <= PER_BLOCK_MAX,
        "a block allocates: {per_block:.4} > {PER_BLOCK_MAX}"
    );
    Ok(())
}

/// The program beside this one, as `cargo build --release` puts it there; or the one that `TORR` names.
fn program() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("TORR") {
        return Ok(path.into());
    }
    let own = std::env::current_exe()?;
    Ok(own.parent().context("no folder")?.join("torr"))
}

fn memory() -> Result<()> {
    let torr = program()?;
    let folder = std::env::temp_dir().join(format!("torr-bench-{}", std::process::id()));
    for case in memory::CASES {
        let result = memory::measure(&torr, &folder, *case);
        std::fs::remove_dir_all(&folder).ok();
        let peak = result.with_context(|| case.name)?;
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        println!(
            "{}: {:.1} MiB leeching (at most {:.1}), {:.1} MiB seeding, {:.1} s",
            case.name,
            mib(peak.leech),
            mib(peak.allowed),
            mib(peak.seed),
            peak.took.as_secs_f64(),
        );
        ensure!(
            peak.leech <= peak.allowed,
            "{} takes too much memory",
            case.name
        );
    }
    Ok(())
}
