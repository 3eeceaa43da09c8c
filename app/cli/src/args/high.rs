//! What a download is to do, understood and checked.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use torr::{Encryption, IoMode};

use crate::args::low::{DownloadArgs, Field, Mode};
use crate::args::settings::Settings;
use crate::env::Env;
use crate::failure::Failure;
use crate::select::Selection;
use crate::units;

/// Below this no torrent can be moved at a good rate, nor its buffers be had.
const MEMORY_MIN: u64 = 20 << 20;

/// A download as it was asked for.
#[derive(Debug)]
pub(crate) struct High {
    pub(crate) inputs: Vec<OsString>,
    /// A list of more inputs; `-` for standard input.
    pub(crate) list_of_inputs: Option<OsString>,
    pub(crate) dir: PathBuf,
    pub(crate) name: Option<String>,
    pub(crate) select: Option<Selection>,
    pub(crate) list: bool,
    pub(crate) sequential: bool,
    pub(crate) super_seed: bool,
    pub(crate) goal: Goal,
    pub(crate) timeout: Option<Duration>,
    pub(crate) stall_timeout: Option<Duration>,
    pub(crate) network: Network,
    pub(crate) disk: Disk,
    pub(crate) exec: Option<OsString>,
    pub(crate) sandbox: bool,
    pub(crate) show: Show,
}

/// When a torrent that is complete may stop.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Goal {
    /// Only when someone stops it.
    pub(crate) seed: bool,
    pub(crate) ratio: Option<f64>,
    pub(crate) seed_time: Option<Duration>,
}

impl Goal {
    /// Whether it stays after the last byte is there.
    pub(crate) fn seeds(&self) -> bool {
        self.seed || self.ratio.is_some() || self.seed_time.is_some()
    }

    /// Which goal is reached: the first of those that are set counts.
    pub(crate) fn reached(
        &self,
        uploaded: u64,
        size: u64,
        seeding: Duration,
    ) -> Option<&'static str> {
        let ratio = |wanted: f64| uploaded as f64 >= wanted * size as f64;
        if !self.seeds() {
            return Some("complete");
        }
        if self.ratio.is_some_and(ratio) {
            return Some("ratio");
        }
        if self.seed_time.is_some_and(|wanted| seeding >= wanted) {
            return Some("seed-time");
        }
        None
    }
}

#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) down: Option<u64>,
    pub(crate) up: Option<u64>,
    /// `HOST:PORT`, not looked up yet.
    pub(crate) peers: Vec<String>,
    pub(crate) trackers: Vec<String>,
    pub(crate) port: Option<(u16, u16)>,
    pub(crate) bind: Option<IpAddr>,
    pub(crate) encryption: Encryption,
    pub(crate) upload: bool,
    pub(crate) pex: bool,
    pub(crate) lsd: bool,
    pub(crate) map_port: bool,
    pub(crate) dht: bool,
    pub(crate) dht_nodes: Vec<(String, u16)>,
    pub(crate) allow_private: bool,
}

#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) overwrite: bool,
    pub(crate) recheck: bool,
    pub(crate) trust: bool,
    pub(crate) preallocate: bool,
    /// A disk that says no is waited for.
    pub(crate) waits: bool,
    pub(crate) state: PathBuf,
    pub(crate) memory: u64,
    pub(crate) io: IoMode,
}

/// How much is said, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Show {
    pub(crate) mode: Mode,
    pub(crate) talk: Talk,
    /// What to print of each torrent that is done.
    pub(crate) print: Option<Field>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Talk {
    /// Only what went wrong.
    Quiet,
    Usual,
    Verbose,
}

impl High {
    pub(crate) fn from_low(env: &Env, low: DownloadArgs) -> Result<Self, Failure> {
        let settings = Settings::read(env, &low)?;
        if low.torrents.is_empty() && low.input.is_none() {
            return Err(Failure::usage("torr", "there is nothing to download")
                .hint("give a .torrent file or a magnet link; `torr --help` shows what there is"));
        }
        let dash = |word: &OsString| word == "-";
        let dashes = low
            .torrents
            .iter()
            .chain(&low.input)
            .filter(|word| dash(word));
        if dashes.count() > 1 {
            return Err(Failure::usage("-", "standard input can be read once only"));
        }
        if let Some(name) = &low.output {
            check_name(name)?;
        }
        let goal = Goal {
            seed: settings.flag("seed")?,
            ratio: settings.parse("ratio", units::parse_ratio)?,
            seed_time: settings.parse("seed-time", units::parse_time)?,
        };
        if low.super_seed {
            check_super_seed(&goal, settings.flag("no-upload")?)?;
        }
        Ok(Self {
            dir: env.path(settings.path("dir").unwrap_or(".".as_ref())),
            select: selection(&low.select)?,
            goal,
            timeout: settings.parse("timeout", units::parse_time)?,
            stall_timeout: settings.parse("stall-timeout", units::parse_time)?,
            network: network(&settings, low.peer, low.tracker)?,
            disk: Disk {
                overwrite: low.overwrite,
                recheck: low.recheck,
                trust: low.trust,
                preallocate: settings.flag("preallocate")?,
                waits: settings.flag("wait-for-space")? || goal.seeds(),
                state: state_dir(env, &settings)?,
                memory: settings.parse("memory", parse_memory)?.unwrap_or(64 << 20),
                io: settings.parse("io", parse_io)?.unwrap_or_default(),
            },
            sandbox: !settings.flag("no-sandbox")?,
            exec: settings.text("exec").map(ToOwned::to_owned),
            show: show(env, &settings, low.json, low.print.as_ref())?,
            inputs: low.torrents,
            list_of_inputs: low.input,
            name: low.output,
            list: low.list,
            sequential: low.sequential,
            super_seed: low.super_seed,
        })
    }
}

/// Who leaves at once, or sends nothing, seeds nothing.
fn check_super_seed(goal: &Goal, no_upload: bool) -> Result<(), Failure> {
    if no_upload {
        return Err(Failure::usage(
            "--super-seed",
            "it cannot be used with --no-upload",
        ));
    }
    if !goal.seeds() {
        let why = "it says how to seed, and nothing says to seed";
        return Err(Failure::usage("--super-seed", why)
            .hint("add --seed, or --ratio or --seed-time, for a torrent that is complete"));
    }
    Ok(())
}

/// `-o` names what lies directly in the download folder.
fn check_name(name: &str) -> Result<(), Failure> {
    let fits = !name.is_empty()
        && name.len() <= 240
        && !matches!(name, "." | "..")
        && !name.contains(['/', '\0']);
    match fits {
        true => Ok(()),
        false => Err(
            Failure::usage("--output", "it must be a name without a slash")
                .hint("the folder to put it in is chosen with --dir"),
        ),
    }
}

fn selection(specs: &[String]) -> Result<Option<Selection>, Failure> {
    if specs.is_empty() {
        return Ok(None);
    }
    let selection = Selection::parse(&specs.join(","));
    selection
        .map(Some)
        .map_err(|why| Failure::usage("--select", why))
}

fn network(
    settings: &Settings,
    peers: Vec<String>,
    trackers: Vec<String>,
) -> Result<Network, Failure> {
    for peer in &peers {
        parse_place(peer).map_err(|why| Failure::usage("--peer", why))?;
    }
    for tracker in &trackers {
        let scheme = tracker
            .split_once("://")
            .map(|(scheme, _)| scheme.to_ascii_lowercase());
        if !matches!(scheme.as_deref(), Some("http" | "https" | "udp")) {
            return Err(Failure::usage(
                "--tracker",
                "a tracker's URL is http, https or udp",
            ));
        }
    }
    Ok(Network {
        down: settings.parse("down", units::parse_rate)?.flatten(),
        up: settings.parse("up", units::parse_rate)?.flatten(),
        peers,
        trackers,
        port: settings.parse("port", parse_port)?,
        bind: settings.parse("bind", parse_ip)?,
        encryption: settings
            .parse("encrypt", parse_encryption)?
            .unwrap_or_default(),
        upload: !settings.flag("no-upload")?,
        pex: !settings.flag("no-pex")?,
        lsd: settings.flag("lsd")?,
        map_port: settings.flag("map-port")?,
        dht: !settings.flag("no-dht")?,
        dht_nodes: settings
            .parse("dht-node", parse_places)?
            .unwrap_or_default(),
        allow_private: settings.flag("allow-private")?,
    })
}

/// `HOST:PORT`, with brackets around an IPv6 address, which are not part of the host.
fn parse_place(text: &str) -> Result<(String, u16), String> {
    let place = text.rsplit_once(':').and_then(|(host, port)| {
        let port = port.parse::<u16>().ok().filter(|port| *port > 0)?;
        let bare = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
        let host = bare.unwrap_or(host);
        (!host.is_empty()).then(|| (host.to_owned(), port))
    });
    place.ok_or_else(|| format!("`{}` is not HOST:PORT", text.escape_debug()))
}

/// Several of them, with commas between.
fn parse_places(text: &str) -> Result<Vec<(String, u16)>, String> {
    text.split(',').map(str::trim).map(parse_place).collect()
}

fn parse_port(text: &str) -> Result<(u16, u16), String> {
    let bad = || format!("`{text}` is not a port; write it as 6881 or 6881-6889");
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let port = |text: &str| text.trim().parse::<u16>().map_err(|_| bad());
    let (first, last) = (port(first)?, port(last)?);
    // 0 alone asks for any port.
    let fits = first <= last && (first > 0 || last == 0);
    fits.then_some((first, last)).ok_or_else(bad)
}

fn parse_ip(text: &str) -> Result<IpAddr, String> {
    let plain = text.trim_start_matches('[').trim_end_matches(']');
    plain.parse().map_err(|_| {
        format!("`{text}` is not an address of this machine; names of interfaces come later")
    })
}

fn parse_memory(text: &str) -> Result<u64, String> {
    let memory = units::parse_size(text)?;
    match memory < MEMORY_MIN {
        true => Err(format!("at least {} are needed", units::binary(MEMORY_MIN))),
        false => Ok(memory),
    }
}

fn parse_encryption(text: &str) -> Result<Encryption, String> {
    match text {
        "prefer" => Ok(Encryption::Prefer),
        "require" => Ok(Encryption::Require),
        "off" => Ok(Encryption::Off),
        _ => Err(format!("`{text}` is not prefer, require or off")),
    }
}

fn parse_io(text: &str) -> Result<IoMode, String> {
    match text {
        "auto" => Ok(IoMode::Auto),
        "direct" => Ok(IoMode::Direct),
        "buffered" => Ok(IoMode::Buffered),
        _ => Err(format!("`{text}` is not auto, direct or buffered")),
    }
}

/// Where the state is: as set, else `$XDG_STATE_HOME/torr`.
pub(crate) fn state_dir(env: &Env, settings: &Settings) -> Result<PathBuf, Failure> {
    let state = settings.path("state").map(|path| env.path(path));
    state.ok_or_else(|| {
        Failure::usage("--state", "there is no home folder to keep the state in")
            .hint("name a folder with --state, or set HOME")
    })
}

fn show(
    env: &Env,
    settings: &Settings,
    json: bool,
    print: Option<&OsString>,
) -> Result<Show, Failure> {
    let mode = settings.parse("progress", parse_mode)?;
    let mode = match (json, mode) {
        (true, _) => Mode::Json,
        (false, Some(mode)) => mode,
        (false, None) => default_mode(env),
    };
    let talk = match (settings.flag("quiet")?, settings.flag("verbose")?) {
        (true, _) => Talk::Quiet,
        (false, true) => Talk::Verbose,
        (false, false) => Talk::Usual,
    };
    let print = print
        .map(|word| parse_field(&word.to_string_lossy()))
        .transpose();
    let print = print.map_err(|why| Failure::usage("--print", why))?;
    Ok(Show {
        mode,
        talk,
        print: Some(print.unwrap_or(Field::Path)),
    })
}

pub(crate) fn default_mode(env: &Env) -> Mode {
    let dumb = env.var("TERM").is_some_and(|term| term == "dumb");
    match env.err.is_tty() && !dumb {
        true => Mode::Bar,
        false => Mode::Line,
    }
}

pub(crate) fn parse_mode(text: &str) -> Result<Mode, String> {
    Mode::from_str(text, true).map_err(|_| format!("`{text}` is none of bar, line, json, none"))
}

fn parse_field(text: &str) -> Result<Field, String> {
    let known = "path, name, hash, size, magnet, files";
    Field::from_str(text, true).map_err(|_| format!("`{text}` is none of {known}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports() {
        assert_eq!(parse_port("6881"), Ok((6881, 6881)));
        assert_eq!(parse_port("6881-6889"), Ok((6881, 6889)));
        assert_eq!(parse_port("0"), Ok((0, 0)));
        for text in ["", "x", "2-1", "0-5", "70000", "1-2-3"] {
            assert!(parse_port(text).is_err(), "{text}");
        }
    }

    #[test]
    fn goals() {
        let secs = Duration::from_secs;
        let none = Goal::default();
        assert_eq!(none.reached(0, 10, secs(0)), Some("complete"));
        let ratio = Goal {
            ratio: Some(1.5),
            ..none
        };
        assert_eq!(ratio.reached(14, 10, secs(9)), None);
        assert_eq!(ratio.reached(15, 10, secs(9)), Some("ratio"));
        let time = Goal {
            seed: true,
            seed_time: Some(secs(5)),
            ..none
        };
        assert_eq!(time.reached(99, 10, secs(4)), None);
        assert_eq!(time.reached(0, 10, secs(5)), Some("seed-time"));
    }

    #[test]
    fn names_stay_in_the_folder() {
        assert!(check_name("a b.iso").is_ok());
        for name in ["", ".", "..", "a/b", "/a"] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }
}
