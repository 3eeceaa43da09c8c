//! The project's own checks. `cargo xtask ci` runs all of them, as the gate does.
#![allow(clippy::print_stdout)]

mod ci;
mod layers;
mod proofs;
mod tidy;

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};

const USAGE: &str = "\
usage: cargo xtask COMMAND

  tidy     file and function sizes, directions between crates, lints of the layers, names of tests in lab/README.md
  check    tidy, rustfmt, clippy, docs, the wasm32 build of logic/, cargo deny
  test     unit, property, scenario and command-line tests
  sim [ARG...]    random swarms; arguments as of torr-storm (default: 200 seeds, each twice)
  fuzz [SECS]     every fuzz target for that long (default 60)
  bench    allocation and memory figures, asserted
  interop  transfers with other clients, asserted
  survive  power cuts, damaged state, files changed under readers, asserted
  ci       all of the above and `torr demo`; ends with a count
";

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> Result<bool> {
    let root = root()?;
    let (command, rest) = args
        .split_first()
        .map_or(("", args), |(c, rest)| (c.as_str(), rest));
    match command {
        "tidy" => tidy::run(&root),
        "check" | "test" | "sim" | "fuzz" | "bench" | "interop" | "survive" | "ci" => {
            ci::run(&root, command, rest)
        }
        _ => {
            print!("{USAGE}");
            Ok(command == "help" || command == "--help")
        }
    }
}

/// The workspace's folder.
fn root() -> Result<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent()
        .map(Path::to_path_buf)
        .context("xtask has no parent folder")
}
