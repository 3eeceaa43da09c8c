//! `torr-survive RIG`: each rig ends with a line of figures, and with status 1 where a guarantee was broken.
#![allow(clippy::print_stdout)]

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use torr_interop::sandbox;
use torr_survive::{ground, power};

const USAGE: &str = "\
usage: torr-survive RIG [OPTIONS]

  power-cut    a download whose disk loses its power at random moments (needs root and FUSE)
  all          every rig, short

  --long             the long variant
  --seed N           other choices [default: 1]
  --cuts N           power-cut: how many
  --client NAME      power-cut: torr, libtorrent or rqbit [default: torr]
  --torr PATH        the program [default: torr beside this one]
";

#[derive(Clone, Debug)]
struct Options {
    rig: String,
    long: bool,
    seed: u64,
    cuts: Option<usize>,
    client: power::Client,
    torr: PathBuf,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match parse(&args).and_then(|options| options.map_or(Ok(()), |options| run(&options))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("FAILED: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn parse(args: &[String]) -> Result<Option<Options>> {
    let me = std::env::current_exe().context("this program's own path")?;
    let mut options = Options {
        rig: String::new(),
        long: false,
        seed: 1,
        cuts: None,
        client: power::Client::Torr,
        torr: me.with_file_name("torr"),
    };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().with_context(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--long" => options.long = true,
            "--seed" => options.seed = value()?.parse()?,
            "--cuts" => options.cuts = Some(value()?.parse()?),
            "--torr" => options.torr = std::path::absolute(value()?)?,
            "--client" => {
                options.client = match value()?.as_str() {
                    "torr" => power::Client::Torr,
                    "libtorrent" => power::Client::Libtorrent,
                    "rqbit" => power::Client::Rqbit,
                    other => bail!("no client {other}"),
                }
            }
            "--help" | "help" => {
                print!("{USAGE}");
                return Ok(None);
            }
            rig if options.rig.is_empty() && !rig.starts_with('-') => options.rig = rig.to_owned(),
            other => bail!("{other} means nothing here; see --help"),
        }
    }
    Ok(Some(options))
}

fn run(options: &Options) -> Result<()> {
    match options.rig.as_str() {
        "power-cut" => power_cut(options),
        "all" => power_cut(options),
        other => bail!("no rig {other:?}; see --help"),
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn power_cut(options: &Options) -> Result<()> {
    if !is_root() || !std::path::Path::new("/dev/fuse").exists() {
        println!("power-cut: skipped: it needs root, and a kernel with FUSE");
        return Ok(());
    }
    let dir = sandbox::enter()?;
    ground::loopback_up()?;
    let plan = power::Options {
        client: options.client,
        cuts: options.cuts.unwrap_or(if options.long { 1000 } else { 25 }),
        seed: options.seed,
    };
    let sum = power::run(&dir, &options.torr, &plan, &|line| println!("{line}"))?;
    println!("{sum}");
    sum.verdict()
}
