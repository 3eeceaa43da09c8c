//! `torr-survive RIG`: each rig ends with a line of figures, and with status 1 where a guarantee was broken.
#![allow(clippy::print_stdout)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use torr_interop::sandbox;
use torr_survive::{flip, flipper, flood, ground, power, restart, term};

const USAGE: &str = "\
usage: torr-survive RIG [OPTIONS]

  power-cut    a download whose disk loses its power at random moments (needs root and FUSE)
  store-flip   every byte of a small state directory flipped, every file cut off at every length
  flipper      files changed and cut off under twenty peers that read them
  restart      a seed set of 1 TiB killed: what a start reads before it is ready
  term         thousands of torrents told to end: when their state is safe
  flood        thousands of hostile clients around a torr that seeds (many networks need root)
  all          every rig, short

  --long             the long variant
  --seed N           other choices [default: 1]
  --strict           flood: what is promised on a machine that does nothing else; --long has it too
  --scene NAME       flood: this one alone
  --cuts N           power-cut: how many
  --client NAME      power-cut: torr, libtorrent or rqbit [default: torr]
  --torr PATH        the program [default: torr beside this one]
";

#[derive(Clone, Debug)]
struct Options {
    rig: String,
    long: bool,
    strict: bool,
    scene: Option<String>,
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
        strict: false,
        scene: None,
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
            "--strict" => options.strict = true,
            "--scene" => options.scene = Some(value()?.clone()),
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
        "store-flip" => store_flip(options),
        "flipper" => flipper(options),
        "restart" => restart(options),
        "term" => term(options),
        "flood" => flood(options),
        "all" => {
            // The first goes into a sandbox, and begins again in there.
            let rigs: [fn(&Options) -> Result<()>; 6] =
                [power_cut, store_flip, flipper, restart, term, flood];
            rigs.iter().try_for_each(|rig| rig(options))
        }
        other => bail!("no rig {other:?}; see --help"),
    }
}

/// Every bit of every byte takes eight times as long as one of them.
fn store_flip(options: &Options) -> Result<()> {
    let base = std::path::Path::new("/dev/shm");
    let base = match base.is_dir() {
        true => base.to_owned(),
        false => std::env::temp_dir(),
    };
    let dir = base.join(format!("torr-survive-{}", std::process::id()));
    let bits = if options.long { 8 } else { 1 };
    let mut faults = 0;
    for bit in 0..bits {
        let made = std::fs::create_dir_all(&dir).map_err(anyhow::Error::from);
        let mask = 1u8.rotate_left(bit + options.seed as u32);
        let sum = made.and_then(|()| flip::run(&dir, mask));
        std::fs::remove_dir_all(&dir).ok();
        let sum = sum?;
        sum.faults
            .iter()
            .take(20)
            .for_each(|fault| println!("  {fault}"));
        println!("{sum}");
        faults += sum.faults.len();
    }
    ensure!(faults == 0, "{faults} faults");
    Ok(())
}

fn flipper(options: &Options) -> Result<()> {
    let dir = std::env::temp_dir().join(format!("torr-flipper-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let span = Duration::from_secs(if options.long { 60 } else { 10 });
    let sum = flipper::run(&dir, &options.torr, span, options.long, options.seed);
    std::fs::remove_dir_all(&dir).ok();
    let sum = sum?;
    println!("{sum}");
    flipper::verdict(&sum)
}

fn restart(options: &Options) -> Result<()> {
    let dir = std::env::temp_dir().join(format!("torr-restart-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let (kills, new_pieces) = if options.long { (20, 16) } else { (2, 3) };
    let plan = restart::Plan {
        kills,
        new_pieces,
        seed: options.seed,
    };
    let sum = restart::run(&dir, &options.torr, plan);
    std::fs::remove_dir_all(&dir).ok();
    println!("{}", sum?);
    Ok(())
}

fn term(options: &Options) -> Result<()> {
    let dir = std::env::temp_dir().join(format!("torr-term-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let torrents = if options.long { 10_000 } else { 1_000 };
    let sum = term::run(&dir, &options.torr, torrents, options.long);
    std::fs::remove_dir_all(&dir).ok();
    println!("{}", sum?);
    Ok(())
}

fn flood(options: &Options) -> Result<()> {
    let networks = is_root();
    let dir = match networks {
        true => {
            let dir = sandbox::enter()?;
            ground::loopback_up()?;
            dir
        }
        false => std::env::temp_dir(),
    };
    let dir = dir.join(format!("torr-flood-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let plan = flood::Options {
        long: options.long,
        strict: options.strict || options.long,
        networks,
        seed: options.seed,
    };
    let only = options.scene.as_deref();
    let sum = flood::run(&dir, &options.torr, only, plan, &|line| println!("{line}"));
    std::fs::remove_dir_all(&dir).ok();
    sum
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
    println!("{}: {sum}", options.client.name());
    sum.verdict()
}
