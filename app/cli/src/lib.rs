//! The `torr` program as a function: arguments and streams in, exit status out.
//!
//! ```text
//!   Env ── first::arrange ── clap ──► Low ── settings over each other, checked ──► High ──► cmd, download
//! ```
//!
//! - Results go to standard output, all talk to standard error; a reader who leaves stops nobody's download
//!   but that of `--json`, whose output is the reader's alone.
//! - What went wrong is one line and perhaps a hint ([`Failure`]), and one of few statuses ([`Exit`]).
//! - Names, comments and URLs out of torrents are printed only after what could trick a terminal was
//!   replaced and what may be a passkey masked.
//!
//! Deliberately absent: everything about BitTorrent; that is the library `torr`.
#![forbid(unsafe_code)]

mod args;
mod cmd;
mod confine;
mod download;
mod env;
mod failure;
mod input;
mod select;
mod terminal;
mod units;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, FromArgMatches as _};

pub use env::{Env, Input, Output};
pub use failure::{Exit, Failure};

use args::low::{Command, ConfigCommand, Low};
use args::{first, mistake};
use env::State;

/// Runs torr to its end.
#[must_use]
pub fn run(env: &mut Env) -> Exit {
    let exit = match parse(env) {
        Ok(Some(low)) => dispatch(env, low),
        Ok(None) => Ok(Exit::Done),
        Err(failure) => Err(failure),
    };
    let exit = exit.unwrap_or_else(|failure| {
        env.err.line(&failure);
        failure.exit
    });
    match env.out.state() {
        State::Open | State::Left => exit,
        State::Failed(why) => {
            let failure = Failure::new(Exit::Storage, "standard output", why);
            env.err.line(&failure);
            if exit == Exit::Done {
                failure.exit
            } else {
                exit
            }
        }
    }
}

/// `None` where help or the version was asked for, and shown.
fn parse(env: &Env) -> Result<Option<Low>, Failure> {
    let mut command = Low::command();
    let args = first::arrange(env, &command)?;
    let low = command
        .try_get_matches_from_mut(args)
        .and_then(|mut matches| Low::from_arg_matches_mut(&mut matches));
    let error = match low {
        Ok(low) => return Ok(Some(low)),
        Err(error) => error,
    };
    if !matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    ) {
        return Err(mistake::from_clap(&error));
    }
    let text = error.render();
    let colours = env.out.is_tty() && env.var("NO_COLOR").is_none();
    let text = if colours {
        text.ansi().to_string()
    } else {
        text.to_string()
    };
    env.out.write(text.as_bytes());
    Ok(None)
}

fn dispatch(env: &mut Env, low: Low) -> Result<Exit, Failure> {
    match low.command.unwrap_or(Command::Download(low.download)) {
        Command::Download(args) => download::run(env, *args),
        Command::Info(args) => cmd::info::run(env, &args),
        Command::Create(args) => cmd::create::run(env, &args),
        Command::Check(args) => cmd::check::run(env, &args),
        Command::Magnet(args) => cmd::magnet::run(env, &args),
        Command::Tracker(args) => cmd::tracker::run(env, &args),
        Command::Sandbox(args) => cmd::sandbox::run(env, args),
        Command::Demo(args) => cmd::demo::run(env, &args),
        Command::Config(ConfigCommand::Show) => cmd::config::show(env),
        Command::Completions { shell } => cmd::manual::completions(env, shell),
        Command::Man => cmd::manual::man(env),
    }
}
