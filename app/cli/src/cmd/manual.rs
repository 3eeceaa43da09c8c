//! Completions and the manual page, from the definition of the command line itself.

use clap::CommandFactory as _;
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::args::low::Low;
use crate::args::settings::{SETTINGS, variable_name};
use crate::env::Env;
use crate::failure::{Exit, Failure};

pub(crate) fn completions(env: &Env, shell: Shell) -> Result<Exit, Failure> {
    let mut bytes = Vec::new();
    clap_complete::generate(shell, &mut Low::command(), "torr", &mut bytes);
    env.out.write(&bytes);
    Ok(Exit::Done)
}

pub(crate) fn man(env: &Env) -> Result<Exit, Failure> {
    let bytes = page().map_err(|error| Failure::io("torr.1", &error))?;
    env.out.write(&bytes);
    Ok(Exit::Done)
}

fn page() -> std::io::Result<Vec<u8>> {
    let mut command = Low::command();
    command.build();
    let mut out = Vec::new();
    let man = Man::new(command.clone())
        .source("torr")
        .manual("User Commands");
    man.render_title(&mut out)?;
    man.render_name_section(&mut out)?;
    man.render_synopsis_section(&mut out)?;
    man.render_description_section(&mut out)?;
    man.render_options_section(&mut out)?;
    let mut roff = Roff::new();
    commands(&mut roff, &command);
    exit_status(&mut roff);
    environment(&mut roff);
    files(&mut roff);
    examples(&mut roff);
    out.extend(roff.render().into_bytes());
    Ok(out)
}

fn commands(roff: &mut Roff, command: &clap::Command) {
    roff.control("SH", ["COMMANDS"]);
    for sub in command.get_subcommands() {
        let about = sub.get_about().map(ToString::to_string).unwrap_or_default();
        let mut usage = sub.clone().render_usage().to_string();
        usage = usage.trim_start_matches("Usage: ").to_owned();
        item(roff, &usage, &about);
        if sub.get_name() == "download" {
            continue;
        }
        roff.control("RS", []);
        let args = sub
            .get_arguments()
            .filter(|arg| !arg.is_positional() && arg.get_id() != "help");
        for arg in args {
            let value = arg.get_value_names().and_then(|names| names.first());
            let value = value
                .filter(|_| arg.get_action().takes_values())
                .map(|name| format!(" {name}"));
            let short = arg
                .get_short()
                .map(|short| format!("-{short}, "))
                .unwrap_or_default();
            let long = arg.get_long().unwrap_or_default();
            let name = format!("{short}--{long}{}", value.unwrap_or_default());
            item(
                roff,
                &name,
                &arg.get_help().map(ToString::to_string).unwrap_or_default(),
            );
        }
        roff.control("RE", []);
    }
}

fn exit_status(roff: &mut Roff) {
    roff.control("SH", ["EXIT STATUS"]);
    for exit in Exit::ALL {
        item(roff, &exit.code().to_string(), exit.meaning());
    }
}

fn environment(roff: &mut Roff) {
    roff.control("SH", ["ENVIRONMENT"]);
    item(
        roff,
        "TORR_*",
        "Settings, weaker than options and stronger than the configuration file, under the names of the options:",
    );
    let names: Vec<String> = SETTINGS
        .iter()
        .map(|(name, _)| variable_name(name))
        .collect();
    roff.control("IP", []);
    roff.text([roman(names.join(", "))]);
    item(roff, "NO_COLOR", "If set, nothing is coloured.");
    item(roff, "TERM", "If it is dumb, there is no progress bar.");
    item(
        roff,
        "XDG_STATE_HOME, XDG_CONFIG_HOME",
        "Where state and settings are; ~/.local/state and ~/.config if not set.",
    );
}

fn files(roff: &mut Roff) {
    roff.control("SH", ["FILES"]);
    item(
        roff,
        "~/.config/torr/config.toml, /etc/torr/config.toml",
        "Settings as NAME = VALUE; the first file that is there counts. `torr config show` prints all of them.",
    );
    item(
        roff,
        "~/.local/state/torr",
        "What is needed to resume: one folder for each torrent and download folder. Nothing is put beside the data.",
    );
}

fn examples(roff: &mut Roff) {
    roff.control("SH", ["EXAMPLES"]);
    let examples = [
        (
            "torr debian.torrent -d /data",
            "Download into /data and exit. The same command again goes on where it stopped.",
        ),
        (
            "torr 'magnet:?xt=urn:btih:...' -d /data",
            "The same with a magnet link: peers give the metadata first. An info-hash or the URL of a .torrent will do too.",
        ),
        (
            "torr magnet 'magnet:?xt=urn:btih:...' --save file.torrent --timeout 5m",
            "Only the metadata, as a .torrent.",
        ),
        (
            "torr show.torrent -s '*.mkv,!sample*'",
            "Only some of the files.",
        ),
        (
            "torr file.torrent --ratio 2 --up 5M",
            "Seed until twice the size was uploaded, at no more than 5 MB a second.",
        ),
        (
            "torr create photos -t https://tracker.example/announce",
            "Make photos.torrent.",
        ),
        (
            "torr check file.torrent -d /data",
            "Which files are bad or missing?",
        ),
    ];
    for (command, about) in examples {
        item(roff, command, about);
    }
}

fn item(roff: &mut Roff, head: &str, text: &str) {
    roff.control("TP", []);
    roff.text([bold(head)]);
    roff.text([roman(text)]);
}
