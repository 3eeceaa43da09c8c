//! The command line of the interop lab; see lab/README.md.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use torr_interop::client::{Client, Tools};
use torr_interop::runner::{self, Cell, Context};
use torr_interop::{
    dht, encryption, gossip, helper, magnet, matrix, portmap, private, sandbox, scenario, swarm,
    web,
};

const USAGE: &str = "\
usage: torr-interop list                 the cells of `run` and of `foreign`
       torr-interop foreign [OPTIONS]    the lab's check of itself: the other clients among themselves
       torr-interop run [OPTIONS]        torr with the others, and torr's scenarios

  --client NAME   only cells with this client
  --cell TEXT     only cells whose name contains this
  --torr PATH     the torr to test (default: the one built beside this program)
  --jobs N        cells at a time (default: 2)
  --full          the long variants: 50 kills, 50 GiB
  --keep DIR      logs of failed cells stay here";

/// The names of all cells, so that a cell cannot be lost unnoticed.
const EXPECTED: &str = include_str!("../cells.txt");

fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            writeln!(std::io::stderr(), "torr-interop: {error:#}").ok();
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> Result<()> {
    let Some((verb, rest)) = args.split_first() else {
        bail!("what to do?\n{USAGE}")
    };
    match verb.as_str() {
        "helper" => helper::run(rest),
        "list" => {
            for cell in all_cells() {
                writeln!(std::io::stdout(), "{}", cell.name)?;
            }
            Ok(())
        }
        "run" | "foreign" => {
            let options = Options::parse(rest)?;
            let foreign = verb == "foreign";
            let wanted = |name: &str| name.starts_with(FOREIGN) == foreign && options.wants(name);
            let cells = all_cells()
                .into_iter()
                .filter(|cell| wanted(&cell.name))
                .collect();
            let expected = EXPECTED
                .lines()
                .filter(|name| wanted(name))
                .map(str::to_owned)
                .collect::<BTreeSet<_>>();
            let tools = options.tools(foreign)?;
            let scratch = sandbox::enter()?;
            let context = Context {
                tools,
                scratch,
                full: options.full,
                keep: options.keep,
            };
            runner::run(&context, cells, &expected, options.jobs)
        }
        _ => bail!("unknown command {verb}\n{USAGE}"),
    }
}

/// Cells without torr are named so.
const FOREIGN: &str = "foreign/";

const EVERYBODY: &[Client] = &[
    Client::Torr,
    Client::Transmission,
    Client::Aria2,
    Client::Libtorrent,
    Client::Rtorrent,
];

fn all_cells() -> Vec<Cell> {
    let mut cells = matrix::cells(Client::Torr, "");
    cells.extend(matrix::torr_tracker_cells());
    cells.extend(encryption::cells());
    cells.extend(magnet::cells());
    cells.extend(dht::cells());
    cells.extend(gossip::cells());
    cells.extend(private::cells());
    cells.extend(portmap::cells());
    cells.extend(web::cells());
    cells.extend(swarm::cells(
        &[Client::Torr, Client::Libtorrent],
        EVERYBODY,
        "",
    ));
    cells.extend(swarm::super_seed_cells(EVERYBODY));
    cells.extend(scenario::cells());
    cells.extend(matrix::cells(Client::Libtorrent, FOREIGN));
    cells.extend(swarm::cells(
        &[Client::Libtorrent],
        &Client::FOREIGN,
        FOREIGN,
    ));
    cells.extend(scenario::foreign_cells(FOREIGN));
    cells
}

#[derive(Debug)]
struct Options {
    client: Option<String>,
    cell: Option<String>,
    torr: PathBuf,
    jobs: usize,
    full: bool,
    keep: Option<PathBuf>,
}

impl Options {
    fn parse(args: &[String]) -> Result<Self> {
        let mut options = Self {
            client: None,
            cell: None,
            torr: beside_me()?,
            jobs: 2,
            full: false,
            keep: None,
        };
        let mut args = args.iter();
        while let Some(flag) = args.next() {
            if flag == "--full" {
                options.full = true;
                continue;
            }
            let value = args
                .next()
                .with_context(|| format!("{flag} needs a value\n{USAGE}"))?;
            match flag.as_str() {
                "--client" => {
                    Client::from_name(value).with_context(|| format!("no client {value}"))?;
                    options.client = Some(value.clone());
                }
                "--cell" => options.cell = Some(value.clone()),
                "--torr" => options.torr = PathBuf::from(value),
                "--jobs" => options.jobs = value.parse().context("--jobs wants a number")?,
                "--keep" => options.keep = Some(PathBuf::from(value)),
                _ => bail!("unknown option {flag}\n{USAGE}"),
            }
        }
        Ok(options)
    }

    fn wants(&self, name: &str) -> bool {
        self.client
            .as_ref()
            .is_none_or(|client| name.split(['/', '-']).any(|part| part == client))
            && self.cell.as_ref().is_none_or(|text| name.contains(text))
    }

    fn tools(&self, foreign: bool) -> Result<Tools> {
        let torr = if foreign {
            self.torr.clone()
        } else {
            self.torr
                .canonicalize()
                .with_context(|| format!("no torr at {}; see --torr", self.torr.display()))?
        };
        let cache = lab_cache()?;
        let python = cache.join("venv/bin/python");
        if !python.exists() {
            bail!("{} is missing: run .ci/install", python.display());
        }
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
        Ok(Tools {
            torr,
            python,
            scripts,
        })
    }
}

/// Both come out of one build.
fn beside_me() -> Result<PathBuf> {
    let me = std::env::current_exe().context("finding the harness's own path")?;
    Ok(me.with_file_name("torr"))
}

/// Where .ci/install puts what is not a Debian package.
fn lab_cache() -> Result<PathBuf> {
    let variable = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    variable("TORR_LAB_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|dir| dir.join("torr-lab")))
        .or_else(|| variable("HOME").map(|dir| dir.join(".cache/torr-lab")))
        .context("neither TORR_LAB_CACHE nor HOME is set")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_txt_names_every_cell() {
        let cells: BTreeSet<String> = all_cells().into_iter().map(|cell| cell.name).collect();
        let expected: BTreeSet<String> = EXPECTED.lines().map(str::to_owned).collect();
        assert_eq!(
            cells, expected,
            "write `torr-interop list | sort` to cells.txt when this is meant"
        );
    }
}
