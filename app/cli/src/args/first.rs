//! The first argument that is not an option decides what torr does.
//!
//! A command's name wins; then whatever can be an input, which is downloaded. The word is moved, or
//! `download` put, to where clap looks for a command; the rest is clap's.

use std::ffi::{OsStr, OsString};

use clap::Command;

use crate::args::mistake::nearest;
use crate::env::Env;
use crate::failure::Failure;

/// The arguments with the command in the first place. Left as they are where there is no word at all and
/// help or the version is asked for.
pub(crate) fn arrange(env: &Env, command: &Command) -> Result<Vec<OsString>, Failure> {
    let mut args = env.args.clone();
    let program = if args.is_empty() {
        OsString::from("torr")
    } else {
        args.remove(0)
    };
    let download = OsString::from("download");
    match first_word(&args, command) {
        First::Word(at) => {
            let word = args.get(at).cloned().unwrap_or_default();
            if is_command(command, &word) {
                args.remove(at);
                args.insert(0, word);
            } else if can_be_input(env, &word) {
                args.insert(0, download);
            } else {
                return Err(neither(command, &word));
            }
        }
        First::Input => args.insert(0, download),
        First::Nothing if asks_for_help(&args) => {}
        First::Nothing => args.insert(0, download),
    }
    args.insert(0, program);
    Ok(args)
}

enum First {
    /// The word at this place.
    Word(usize),
    /// What stands behind `--`, which is no command.
    Input,
    Nothing,
}

fn first_word(args: &[OsString], command: &Command) -> First {
    let mut at = 0;
    while let Some(arg) = args.get(at) {
        let text = arg.to_string_lossy();
        if text == "--" {
            return if args.len() > at + 1 {
                First::Input
            } else {
                First::Nothing
            };
        }
        if text == "-" || !text.starts_with('-') {
            return First::Word(at);
        }
        at += if value_follows(&text, command) { 2 } else { 1 };
    }
    First::Nothing
}

/// Whether the next word is this option's value. An option of that name takes one with every command or
/// with none.
fn value_follows(option: &str, command: &Command) -> bool {
    let commands = || std::iter::once(command).chain(command.get_subcommands());
    let takes = |test: &dyn Fn(&clap::Arg) -> bool| {
        let mut args = commands().flat_map(Command::get_arguments);
        args.any(|arg| test(arg) && arg.get_action().takes_values())
    };
    if let Some(long) = option.strip_prefix("--") {
        return !long.contains('=') && takes(&|arg| arg.get_long() == Some(long));
    }
    // `-qd DIR`: the first one that takes a value takes what is left of the word, if there is anything.
    let mut letters = option.chars().skip(1);
    letters
        .find(|letter| takes(&|arg| arg.get_short() == Some(*letter)))
        .is_some()
        && letters.next().is_none()
}

fn asks_for_help(args: &[OsString]) -> bool {
    let help = ["-h", "--help", "-V", "--version"];
    args.iter().any(|arg| help.iter().any(|word| arg == word))
}

fn is_command(command: &Command, word: &OsStr) -> bool {
    let word = word.to_str();
    word.is_some_and(|word| command.find_subcommand(word).is_some())
}

/// What may be meant as something to download, whether or not it can be.
fn can_be_input(env: &Env, word: &OsStr) -> bool {
    let Some(text) = word.to_str() else {
        return true;
    };
    let is_hash = matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_hexdigit())
        || text.len() == 32 && text.bytes().all(|b| b.is_ascii_alphanumeric());
    text == "-"
        || text
            .get(..7)
            .is_some_and(|start| start.eq_ignore_ascii_case("magnet:"))
        || text.contains('/')
        || text.to_ascii_lowercase().ends_with(".torrent")
        || is_hash
        || env.path(text).exists()
}

fn neither(command: &Command, word: &OsStr) -> Failure {
    let word = word.to_string_lossy();
    let names = command.get_subcommands().map(Command::get_name);
    let hint = match nearest(&word, names) {
        Some(near) => format!("did you mean `torr {near}`?"),
        None => "`torr --help` shows what there is".to_owned(),
    };
    let shown = word.escape_debug().to_string();
    Failure::usage(shown, "neither a command nor a file that is there").hint(hint)
}
