//! The download: what torr does without a command.

mod facts;
mod hook;
mod job;
mod metadata;
mod news;
mod run;
mod screen;
mod signals;
mod stall;
mod view;

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use torr::{AddTorrent, Dht, PortChoice, SessionConfig, Source};

use crate::args::high::{High, Talk};
use crate::args::low::{DownloadArgs, Mode};
use crate::cmd::info;
use crate::confine::{Needs, Taken, confine, describe};
use crate::env::Env;
use crate::failure::{Exit, Failure};
use crate::input::{self, Named, Torrent, Web};
use torr_base::printable;

pub(crate) use facts::Facts;
pub(crate) use hook::Hooks;
pub(crate) use job::Planned;
pub(crate) use metadata::fetch_one;
pub(crate) use news::storage as storage_failure;
pub(crate) use run::{Outcome, Plan, run as run_plan};
pub(crate) use screen::Screen;
pub(crate) use signals::{Wish, Wishes};
pub(crate) use view::{Phase, View};

/// A list of inputs that is longer is no list of inputs.
const LIST_LEN_MAX: usize = 16 << 20;
const LOOK_UP: Duration = Duration::from_secs(10);

pub(crate) fn run(env: &mut Env, low: DownloadArgs) -> Result<Exit, Failure> {
    let high = High::from_low(env, low)?;
    let words = words(env, &high)?;
    if high.name.is_some() && words.len() > 1 {
        return Err(Failure::usage(
            "--output",
            "it names one torrent, but there are several",
        ));
    }
    let mut taken = shut_in(env, &high, needs(env, &high, &words))?;
    let _tidier = std::mem::take(&mut taken.tidier);
    let mut problems = Problems::new(env, &high);
    let torrents = find_all(env, &high, &words, &mut problems);
    if high.list {
        let (torrents, stopped) =
            metadata::fetch_missing(env, &high, torrents, &mut problems, taken)?;
        let good = list(env, &high, &torrents, &mut problems);
        return Ok(stopped.unwrap_or_else(|| problems.exit(good)));
    }
    let planned: Vec<Planned> = torrents
        .into_iter()
        .filter_map(|torrent| match plan_one(&high, torrent) {
            Ok(planned) => Some(planned),
            Err(failure) => {
                problems.add(&failure);
                None
            }
        })
        .collect();
    if planned.is_empty() {
        let exit = problems.exit(0);
        problems.end(exit);
        return Ok(exit);
    }
    if let Some((folder, error)) = taken.unmade.take() {
        let option = match folder == high.dir {
            true => "--dir",
            false => "--state",
        };
        let failure = storage_failure(option, &error);
        problems.add(&failure);
        problems.end(failure.exit);
        return Ok(failure.exit);
    }
    let count = planned.len();
    let outcome = runtime()?.block_on(async {
        let mut plan = plan(env, &high, planned, taken);
        let peers = look_up(&problems).await;
        for planned in &mut plan.torrents {
            planned.add.peers.clone_from(&peers);
        }
        run_plan(env, plan).await
    });
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(failure) => {
            problems.add(&failure);
            problems.end(failure.exit);
            return Ok(failure.exit);
        }
    };
    let exit = problems.with(&outcome, count);
    problems.end(exit);
    Ok(exit)
}

/// What a run has to touch, as far as the command line tells.
fn needs(env: &Env, high: &High, words: &[OsString]) -> Needs {
    let files = words.iter().map(|word| env.path(word));
    let files: Vec<PathBuf> = files.filter(|path| path.exists()).collect();
    // Of what cannot be there nothing is downloaded, and no folder is made for it.
    let hopeful = words.iter().any(|word| input::may_be_there(env, word));
    let wants_peers = match high.list {
        false => hopeful,
        true => words.iter().any(|word| input::is_link(env, word)),
    };
    let mut write = Vec::new();
    if wants_peers {
        write.push(high.disk.state.clone());
    }
    if wants_peers && !high.list {
        write.push(high.dir.clone());
    }
    Needs {
        read: files,
        write,
        session: wants_peers.then(|| session_config(high)),
        exec: high.exec.clone().filter(|_| !high.list),
    }
}

/// Enters the sandbox, unless it is not wanted.
pub(crate) fn shut_in(env: &Env, high: &High, needs: Needs) -> Result<Taken, Failure> {
    let taken = confine(env, high.sandbox, needs)?;
    if let (Some(entered), Talk::Verbose) = (&taken.entered, high.show.talk) {
        env.err.line(describe(entered));
    }
    Ok(taken)
}

/// One thread: the session has its own.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.map_err(|error| Failure::io("torr", &error))
}

/// What went wrong with inputs, each told at once.
struct Problems {
    err: crate::env::Output,
    out: crate::env::Output,
    json: bool,
    quiet: bool,
    peers: Vec<String>,
    failed: Vec<Exit>,
}

impl Problems {
    fn new(env: &Env, high: &High) -> Self {
        Self {
            err: env.err.clone(),
            out: env.out.clone(),
            json: high.show.mode == Mode::Json,
            quiet: high.show.talk == Talk::Quiet,
            peers: high.network.peers.clone(),
            failed: Vec::new(),
        }
    }

    fn add(&mut self, failure: &Failure) {
        self.err.line(failure);
        if self.json {
            let mut fields = json!({ "hash": null, "name": null });
            if let (Some(fields), Value::Object(more)) = (fields.as_object_mut(), failure.json()) {
                fields.extend(more);
            }
            self.out.line(screen::object("error", fields));
        }
        self.failed.push(failure.exit);
    }

    fn warn(&self, text: &str) {
        if !self.quiet {
            self.err.line(format_args!("warning: {text}"));
        }
    }

    /// The status when so many inputs went well: of several that failed, that of the first.
    fn exit(&self, good: usize) -> Exit {
        match (self.failed.first(), good) {
            (None, _) => Exit::Done,
            (Some(exit), 0) => *exit,
            (Some(_), _) => Exit::Partly,
        }
    }

    fn with(&mut self, outcome: &Outcome, count: usize) -> Exit {
        let failed: Vec<Exit> = outcome.failed.iter().copied().flatten().collect();
        let good = count - failed.len();
        self.failed.extend(failed);
        outcome.stopped.unwrap_or_else(|| self.exit(good))
    }

    fn end(&self, exit: Exit) {
        if self.json {
            self.out.line(json!({
                "v": 1, "t": "end", "code": exit.code(), "failed": self.failed.len(),
            }));
        }
    }
}

/// All inputs in order, those of `--input` last.
fn words(env: &mut Env, high: &High) -> Result<Vec<OsString>, Failure> {
    let mut words = high.inputs.clone();
    let Some(list) = &high.list_of_inputs else {
        return Ok(words);
    };
    let what = input::shown(list);
    let bytes = match list == "-" {
        true => env.stdin.read_all(LIST_LEN_MAX),
        false => std::fs::read(env.path(list)),
    };
    let bytes = bytes.map_err(|error| Failure::io(what.clone(), &error))?;
    if bytes.len() > LIST_LEN_MAX {
        return Err(Failure::usage(
            what,
            "it is too long for a list of torrents",
        ));
    }
    let lines = bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with(b"#"));
    words.extend(lines.map(|line| OsStr::from_bytes(line).to_owned()));
    match words.is_empty() {
        true => Err(Failure::usage(what, "it names no torrent")),
        false => Ok(words),
    }
}

/// Whatever can be read, each torrent once.
fn find_all(env: &mut Env, high: &High, words: &[OsString], problems: &mut Problems) -> Vec<Named> {
    let mut all = Vec::new();
    let mut seen = BTreeSet::new();
    let web = Web {
        bind: high.network.bind,
        timeout: high.timeout,
    };
    for word in words {
        match input::find(env, word, &web) {
            Ok(named) if seen.insert(named.info_hash()) => all.push(named),
            Ok(named) => problems.warn(&format!(
                "{}: the same torrent is there twice",
                named.word()
            )),
            Err(failure) => problems.add(&failure),
        }
    }
    all
}

/// Tells how many could be shown.
fn list(env: &Env, high: &High, torrents: &[Torrent], problems: &mut Problems) -> usize {
    let mut good = 0;
    for torrent in torrents {
        let info = torrent.meta.info();
        let wanted = match high
            .select
            .as_ref()
            .map(|select| facts::chosen(select, info))
        {
            None => None,
            Some(Ok(wanted)) => Some(wanted),
            Some(Err(why)) => {
                problems.add(&not_selected(&why));
                continue;
            }
        };
        if torrents.len() > 1 {
            env.out
                .line(format_args!("{}:", input::name(&torrent.meta)));
        }
        info::list(&env.out, info, |file| {
            wanted.as_ref().is_none_or(|wanted| {
                info.map()
                    .file(file - 1)
                    .is_some_and(|file| wanted.get(file) != torr::metainfo::FilePriority::Skip)
            })
        });
        good += 1;
    }
    good
}

/// `--select` does not fit the torrent.
pub(crate) fn not_selected(why: &str) -> Failure {
    Failure::usage("--select", why).hint("`torr --list` shows the files with their numbers")
}

fn plan_one(high: &High, named: Named) -> Result<Planned, Failure> {
    let add = AddTorrent {
        name: high.name.clone(),
        sequential: high.sequential,
        super_seed: high.super_seed,
        extra_trackers: high.network.trackers.clone(),
        preallocate: high.disk.preallocate,
        waits: high.disk.waits,
        overwrite: high.disk.overwrite,
        recheck: high.disk.recheck,
        trust: high.disk.trust,
        ..AddTorrent::new(Vec::new(), high.dir.clone())
    };
    match named {
        Named::Torrent(torrent) => {
            let info = torrent.meta.info();
            let wanted = high
                .select
                .as_ref()
                .map(|select| facts::chosen(select, info));
            let wanted = wanted.transpose().map_err(|why| not_selected(&why))?;
            let facts = Facts::of(&torrent.meta, wanted.as_ref(), high.name.as_deref());
            Ok(Planned {
                word: torrent.word,
                name: facts.name.clone(),
                hash: info.info_hash().to_string(),
                magnet: torrent.meta.magnet().to_string(),
                choose: None,
                add: AddTorrent {
                    wanted,
                    source: Source::Torrent(torrent.bytes),
                    ..add
                },
                facts: Some(facts),
            })
        }
        Named::Link(link) => {
            let label = link.magnet.name.as_deref();
            let label = label.map(|name| printable(name).into_owned());
            let hash = link.magnet.info_hash.to_string();
            let choose = metadata::choose(high.select.clone(), &link.magnet);
            Ok(Planned {
                word: link.word,
                name: high.name.clone().or(label).unwrap_or_else(|| hash.clone()),
                hash,
                magnet: link.magnet.to_string(),
                choose: Some(choose.clone()),
                add: AddTorrent {
                    choose: Some(choose),
                    source: Source::Magnet(Box::new(link.magnet)),
                    ..add
                },
                facts: None,
            })
        }
    }
}

pub(crate) fn session_config(high: &High) -> SessionConfig {
    let port = match high.network.port {
        None => PortChoice::Usual,
        Some((first, last)) if first == last => PortChoice::Exact(first),
        Some((first, last)) => PortChoice::Range(first, last),
    };
    SessionConfig {
        port,
        bind: high.network.bind,
        down_rate: high.network.down,
        up_rate: high.network.up,
        memory: high.disk.memory,
        io: high.disk.io,
        encryption: high.network.encryption,
        allow_upload: high.network.upload,
        pex: high.network.pex,
        lsd: high.network.lsd,
        map_port: high.network.map_port,
        dht: match (high.network.dht, high.goal.seeds()) {
            (false, _) => Dht::Off,
            (true, true) => Dht::Node,
            (true, false) => Dht::Guest,
        },
        dht_nodes: high.network.dht_nodes.clone(),
        allow_private: high.network.allow_private,
        ..SessionConfig::new(high.disk.state.clone())
    }
}

fn plan(env: &Env, high: &High, torrents: Vec<Planned>, taken: Taken) -> Plan {
    Plan {
        session: session_config(high),
        listener: taken.listener,
        torrents,
        goal: high.goal,
        timeout: high.timeout,
        stall_timeout: high.stall_timeout,
        show: high.show,
        hooks: taken.hooks,
        resume: Some(resume(env)),
    }
}

/// The peers of `--peer`; what cannot be found is warned of, as there may be others.
async fn look_up(problems: &Problems) -> Vec<SocketAddr> {
    let mut peers = Vec::new();
    for peer in &problems.peers {
        let shown = printable(peer);
        match tokio::time::timeout(LOOK_UP, tokio::net::lookup_host(peer)).await {
            Ok(Ok(found)) => peers.extend(found),
            Ok(Err(error)) => problems.warn(&format!(
                "--peer {shown}: {}",
                crate::failure::plain_io(&error)
            )),
            Err(_) => problems.warn(&format!(
                "--peer {shown}: its name could not be looked up in time"
            )),
        }
    }
    peers
}

/// The same command once more. A file that standard error goes to may be read by others: there, keys in
/// URLs are masked.
fn resume(env: &Env) -> String {
    let masked = env.args.iter().map(|arg| match arg.to_str() {
        Some(text) if text.contains("://") => OsString::from(torr::mask_text(text)),
        Some(_) | None => arg.clone(),
    });
    match env.err.is_tty() {
        true => command_line(&env.args),
        false => command_line(&masked.collect::<Vec<_>>()),
    }
}

/// The words as a shell takes them.
fn command_line(args: &[OsString]) -> String {
    let words = args.iter().map(|arg| {
        let text = arg.to_string_lossy();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
        match !text.is_empty() && text.chars().all(plain) {
            true => text.into_owned(),
            false => format!("'{}'", text.replace('\'', r"'\''")),
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_can_be_pasted() {
        let args = ["torr", "a b.torrent", "-d", "/data", "it's", ""];
        let args: Vec<OsString> = args.iter().map(OsString::from).collect();
        assert_eq!(
            command_line(&args),
            r"torr 'a b.torrent' -d /data 'it'\''s' ''"
        );
    }
}
