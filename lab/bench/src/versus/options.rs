//! The command line of `torr-bench versus`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Parser;

use super::root;

/// What cases are of, as they stand and with `--quick`.
pub(crate) const FULL: u64 = 4 << 30;
const QUICK: u64 = 1 << 30;
const QUICK_RUNS: u32 = 3;

/// Measure torr against other clients and write the table.
#[derive(Clone, Debug, Parser)]
#[command(name = "torr-bench versus")]
pub(crate) struct Options {
    /// Runs of each contender in each case [default: 5]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: Option<u32>,
    /// 1 GiB instead of 4, and 3 runs
    #[arg(long)]
    pub(crate) quick: bool,
    /// The basic amount of data: 64M, 2G (recheck and create take twice as much)
    #[arg(long, value_name = "BYTES", value_parser = parse_size)]
    pub(crate) size: Option<u64>,
    /// Only this case (repeatable)
    #[arg(long, value_name = "NAME")]
    case: Vec<String>,
    /// Only this client; torr itself always runs (repeatable)
    #[arg(long, value_name = "NAME")]
    client: Vec<String>,
    /// The program to measure, instead of building it
    #[arg(long, value_name = "PATH")]
    torr: Option<PathBuf>,
    /// Do not install what is missing
    #[arg(long)]
    pub(crate) no_install: bool,
    /// Put the table into BENCHMARKS.md and the plots into docs/bench as well
    #[arg(long)]
    pub(crate) publish: bool,
    /// Keep the cases that a run which was cut off left in the output folder
    #[arg(long)]
    pub(crate) resume: bool,
    /// Where the table and the plots go [default: target/versus]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl Options {
    pub(crate) fn read(args: &[String]) -> Result<Self> {
        let name = std::iter::once("torr-bench versus".to_owned());
        let mut options = match Self::try_parse_from(name.chain(args.iter().cloned())) {
            Ok(options) => options,
            Err(error) => error.exit(),
        };
        let out = match options.out.take() {
            Some(out) => out,
            None => root()?.join("target/versus"),
        };
        // Clients run in other folders.
        options.out = Some(std::path::absolute(out).context("finding the output folder")?);
        Ok(options)
    }

    pub(crate) fn out(&self) -> &Path {
        self.out.as_deref().unwrap_or(Path::new("."))
    }

    pub(crate) fn runs(&self) -> u32 {
        self.runs.unwrap_or(if self.quick { QUICK_RUNS } else { 5 })
    }

    /// Bytes that most cases are of.
    pub(crate) fn basic_size(&self) -> u64 {
        self.size.unwrap_or(if self.quick { QUICK } else { FULL })
    }

    pub(crate) fn wants_case(&self, name: &str) -> bool {
        self.case.is_empty() || self.case.iter().any(|case| case == name)
    }

    pub(crate) fn wants_client(&self, name: &str) -> bool {
        name == "torr" || self.client.is_empty() || self.client.iter().any(|client| client == name)
    }

    /// On the same disk as the output, which is a real one where /tmp may be memory.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.out().join("scratch")
    }

    /// True if the program has to be built first.
    pub(crate) fn builds(&self) -> bool {
        self.torr.is_none()
    }

    pub(crate) fn torr(&self) -> Result<PathBuf> {
        let path = match &self.torr {
            Some(path) => path.clone(),
            None => {
                let own = std::env::current_exe().context("finding this program")?;
                own.with_file_name("torr")
            }
        };
        std::path::absolute(path).context("finding torr")
    }
}

fn parse_size(text: &str) -> Result<u64> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'K') => (&text[..text.len() - 1], 10),
        Some(b'M') => (&text[..text.len() - 1], 20),
        Some(b'G') => (&text[..text.len() - 1], 30),
        Some(_) => (text, 0),
        None => bail!("an empty size"),
    };
    let number: u64 = digits.parse().context("not a size")?;
    number.checked_shl(shift).context("too much")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(parse_size("64M").unwrap(), 64 << 20);
        assert_eq!(parse_size("7").unwrap(), 7);
        assert!(parse_size("M").is_err());
    }
}
