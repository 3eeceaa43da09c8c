//! Settings that may stand in a file, the environment or the command line, each stronger than the one
//! before it, under one name: `stall-timeout`, `TORR_STALL_TIMEOUT`, `--stall-timeout`.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::args::low::DownloadArgs;
use crate::args::mistake::nearest;
use crate::env::Env;
use crate::failure::{Failure, plain_io};

/// Where settings for all users are.
const SYSTEM_FILE: &str = "/etc/torr/config.toml";

/// Name and default of every setting; an empty default is "not set".
pub(crate) const SETTINGS: [(&str, &str); 28] = [
    ("dir", "."),
    ("state", ""),
    ("memory", "64MiB"),
    ("io", "auto"),
    ("preallocate", "false"),
    ("wait-for-space", "false"),
    ("down", "none"),
    ("up", "none"),
    ("port", ""),
    ("bind", ""),
    ("encrypt", "prefer"),
    ("no-upload", "false"),
    ("no-dht", "false"),
    ("dht-node", ""),
    ("lsd", "false"),
    ("map-port", "false"),
    ("no-pex", "false"),
    ("allow-private", "false"),
    ("seed", "false"),
    ("ratio", ""),
    ("seed-time", ""),
    ("timeout", ""),
    ("stall-timeout", ""),
    ("exec", ""),
    ("no-sandbox", "false"),
    ("quiet", "false"),
    ("verbose", "false"),
    ("progress", ""),
];

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Default,
    File(PathBuf),
    Variable(String),
    Flag,
}

/// A setting's value, and who says so.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    name: &'static str,
    value: OsString,
    origin: Origin,
}

/// All settings, laid over each other.
#[derive(Debug)]
pub(crate) struct Settings(Vec<Setting>);

impl Settings {
    /// `flags` are the settings that the command line gives.
    pub(crate) fn read(env: &Env, flags: &DownloadArgs) -> Result<Self, Failure> {
        let file = read_file(env)?;
        let flags = given(flags);
        let one = |(name, default): (&'static str, &str)| {
            let flag = flags.iter().find(|(flag, _)| *flag == name);
            let variable = variable_name(name);
            let (value, origin) = if let Some((_, value)) = flag {
                (value.clone(), Origin::Flag)
            } else if let Some(value) = env.var(&variable) {
                (expand(env, value), Origin::Variable(variable))
            } else if let Some((path, value)) = file.as_ref().and_then(|f| f.get(name)) {
                (
                    expand(env, OsStr::new(value)),
                    Origin::File(path.to_owned()),
                )
            } else if name == "state" {
                (default_state(env), Origin::Default)
            } else {
                (OsString::from(default), Origin::Default)
            };
            Setting {
                name,
                value,
                origin,
            }
        };
        Ok(Self(SETTINGS.into_iter().map(one).collect()))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Setting> {
        self.0.iter()
    }

    fn get(&self, name: &str) -> &Setting {
        let found = self.0.iter().find(|setting| setting.name == name);
        found.expect("settings are asked for by names of the table")
    }

    pub(crate) fn path(&self, name: &str) -> Option<&Path> {
        let value = &self.get(name).value;
        (!value.is_empty()).then(|| Path::new(value))
    }

    pub(crate) fn text(&self, name: &str) -> Option<&OsStr> {
        let value = &self.get(name).value;
        (!value.is_empty()).then_some(value)
    }

    /// The value as `parse` understands it; `None` where it is not set.
    pub(crate) fn parse<T>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Failure> {
        let setting = self.get(name);
        if setting.value.is_empty() {
            return Ok(None);
        }
        let text = setting.value.to_str();
        let parsed = text
            .ok_or_else(|| "it is not UTF-8".to_owned())
            .and_then(parse);
        parsed
            .map(Some)
            .map_err(|why| Failure::usage(setting.place(), why))
    }

    pub(crate) fn flag(&self, name: &str) -> Result<bool, Failure> {
        let value = self.parse(name, |text| match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Ok(true),
            "false" | "no" | "off" | "0" => Ok(false),
            _ => Err(format!("`{text}` is neither true nor false")),
        })?;
        Ok(value.unwrap_or(false))
    }
}

impl Setting {
    /// For messages: where to mend it.
    fn place(&self) -> String {
        match &self.origin {
            Origin::Default | Origin::Flag => format!("--{}", self.name),
            Origin::Variable(variable) => variable.clone(),
            Origin::File(path) => format!("{}: {}", path.display(), self.name),
        }
    }
}

/// `name = "value"  # where it came from`
impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.value.to_string_lossy();
        let value = match text.as_ref() {
            "" => "(not set)".to_owned(),
            plain @ ("true" | "false") => plain.to_owned(),
            text => format!("{text:?}"),
        };
        write!(f, "{:<14} = {value:<20} # {}", self.name, self.origin)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::Flag => f.write_str("command line"),
        }
    }
}

/// Nothing, where there is no home folder.
fn default_state(env: &Env) -> OsString {
    let folder = env.xdg("XDG_STATE_HOME", ".local/state");
    folder.map_or_else(OsString::new, |folder| folder.join("torr").into_os_string())
}

/// What the command line sets.
fn given(args: &DownloadArgs) -> Vec<(&'static str, OsString)> {
    let texts = [
        ("dir", &args.dir),
        ("state", &args.state),
        ("memory", &args.memory),
        ("io", &args.io),
        ("down", &args.down),
        ("up", &args.up),
        ("port", &args.port),
        ("bind", &args.bind),
        ("encrypt", &args.encrypt),
        ("ratio", &args.ratio),
        ("seed-time", &args.seed_time),
        ("timeout", &args.timeout),
        ("stall-timeout", &args.stall_timeout),
        ("exec", &args.exec),
        ("progress", &args.progress),
    ];
    let flags = [
        ("preallocate", args.preallocate),
        ("wait-for-space", args.wait_for_space),
        ("no-upload", args.no_upload),
        ("no-dht", args.no_dht),
        ("lsd", args.lsd),
        ("map-port", args.map_port),
        ("no-pex", args.no_pex),
        ("allow-private", args.allow_private),
        ("no-sandbox", args.no_sandbox),
        ("seed", args.seed),
        ("quiet", args.quiet),
        ("verbose", args.verbose),
    ];
    let texts = texts
        .into_iter()
        .filter_map(|(name, value)| Some((name, value.clone()?)));
    let flags = flags.into_iter().filter(|(_, set)| *set);
    let nodes = args.dht_node.join(",");
    let nodes = (!nodes.is_empty()).then(|| ("dht-node", OsString::from(nodes)));
    texts
        .chain(nodes)
        .chain(flags.map(|(name, _)| (name, OsString::from("true"))))
        .collect()
}

pub(crate) fn variable_name(name: &str) -> String {
    format!("TORR_{}", name.to_ascii_uppercase().replace('-', "_"))
}

/// `~/x` as shells have it: no shell reads files and most variables.
fn expand(env: &Env, value: &OsStr) -> OsString {
    let below_home = value.to_str().and_then(|text| text.strip_prefix("~/"));
    match (below_home, env.var("HOME")) {
        (Some(below), Some(home)) => Path::new(home).join(below).into_os_string(),
        _ => value.to_owned(),
    }
}

struct File {
    path: PathBuf,
    values: BTreeMap<String, String>,
}

impl File {
    fn get(&self, name: &str) -> Option<(&Path, &str)> {
        let value = self.values.get(name)?;
        Some((&self.path, value))
    }
}

/// The user's file, or that of the system if there is none.
fn read_file(env: &Env) -> Result<Option<File>, Failure> {
    let own = env.xdg("XDG_CONFIG_HOME", ".config");
    let own = own.map(|folder| folder.join("torr/config.toml"));
    for path in own.into_iter().chain([PathBuf::from(SYSTEM_FILE)]) {
        match std::fs::read_to_string(&path) {
            Ok(text) => return parse_file(path, &text).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                let what = path.display().to_string();
                return Err(Failure::usage(what, plain_io(&error)));
            }
        }
    }
    Ok(None)
}

fn parse_file(path: PathBuf, text: &str) -> Result<File, Failure> {
    let what = path.display().to_string();
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map(|span| line_of(text, span.start));
        let what = line.map_or(what.clone(), |line| format!("{what}:{line}"));
        Failure::usage(what, error.message().replace('\n', " "))
    })?;
    let mut values = BTreeMap::new();
    for (name, value) in table {
        if !SETTINGS.iter().any(|(known, _)| *known == name) {
            let names = SETTINGS.iter().map(|(known, _)| *known);
            let hint = nearest(&name, names).map(|near| format!("did you mean `{near}`?"));
            let why = format!("there is no setting `{}`", name.escape_debug());
            return Err(Failure::usage(what, why).maybe_hint(hint));
        }
        let value = match value {
            toml::Value::String(text) => text,
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Float(number) => number.to_string(),
            toml::Value::Boolean(is_set) => is_set.to_string(),
            toml::Value::Datetime(_) | toml::Value::Array(_) | toml::Value::Table(_) => {
                let why = format!("`{name}` is neither text nor a number");
                return Err(Failure::usage(what, why));
            }
        };
        values.insert(name, value);
    }
    Ok(File { path, values })
}

fn line_of(text: &str, at: usize) -> usize {
    let before = text.as_bytes().get(..at).unwrap_or_default();
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}
