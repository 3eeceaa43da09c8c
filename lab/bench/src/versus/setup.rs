//! What happens while there is still a network: rivals are installed and torr is built.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::options::Options;
use super::root;

pub(crate) fn before(options: &Options) -> Result<()> {
    if !options.no_install {
        run(Command::new(root()?.join(".ci/rivals")), ".ci/rivals")?;
    }
    if options.builds() {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.args(["build", "--release", "--locked", "-p", "torr-cli"]);
        run(command, "cargo build")?;
    }
    let torr = options.torr()?;
    ensure!(torr.is_file(), "no program at {}", torr.display());
    std::fs::create_dir_all(options.scratch()).context("making the output folder")?;
    Ok(())
}

fn run(mut command: Command, name: &str) -> Result<()> {
    let status = command.current_dir(root()?).status();
    let status = status.with_context(|| format!("running {name}"))?;
    ensure!(status.success(), "{name} failed: {status}");
    Ok(())
}
