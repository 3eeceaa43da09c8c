//! What a person may name as a torrent, and the torrent in it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::time::Duration;

use crate::download::runtime;
use crate::env::Env;
use crate::failure::{Exit, Failure};
use crate::units;
use torr::metainfo::{
    self, Magnet, MagnetError, Metainfo, MetainfoError, Refusal, TORRENT_LEN_MAX, parse_info_hash,
};
use torr::{FetchError, InfoHash};
use torr_base::printable;

/// A torrent file that was read.
#[derive(Debug)]
pub(crate) struct Torrent {
    /// As a person wrote it; for messages and for the command that resumes.
    pub(crate) word: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) meta: Metainfo,
}

/// A torrent of which only a link is known.
#[derive(Debug)]
pub(crate) struct Link {
    /// For messages.
    pub(crate) word: String,
    pub(crate) magnet: Magnet,
}

/// What a person named.
#[derive(Debug)]
pub(crate) enum Named {
    Torrent(Torrent),
    Link(Link),
}

impl Named {
    pub(crate) fn info_hash(&self) -> InfoHash {
        match self {
            Self::Torrent(torrent) => torrent.meta.info().info_hash(),
            Self::Link(link) => link.magnet.info_hash,
        }
    }

    pub(crate) fn word(&self) -> &str {
        match self {
            Self::Torrent(torrent) => &torrent.word,
            Self::Link(link) => &link.word,
        }
    }
}

/// How a web server may be asked.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Web {
    pub(crate) bind: Option<IpAddr>,
    pub(crate) timeout: Option<Duration>,
}

/// Finds what `word` names: a link or an info-hash, a URL, `-`, or a file. A file that has the very name of
/// a hash wins.
pub(crate) fn find(env: &mut Env, word: &OsStr, web: &Web) -> Result<Named, Failure> {
    if let Some(link) = as_link(env, word)? {
        return Ok(Named::Link(link));
    }
    let text = word.to_str().unwrap_or_default();
    let shown = shown(word);
    let bytes = if word == "-" {
        env.stdin
            .read_all(TORRENT_LEN_MAX)
            .map_err(|error| Failure::io("standard input", &error))?
    } else if is_url(text) {
        fetch(text, &shown, web)?
    } else {
        read_file(env, word)?
    };
    let meta = Metainfo::parse(&bytes).map_err(|error| refused(&shown, &bytes, &error))?;
    Ok(Named::Torrent(Torrent {
        word: shown,
        bytes,
        meta,
    }))
}

/// The torrent that `word` names, where one is needed and a link is not enough.
pub(crate) fn load(env: &mut Env, word: &OsStr) -> Result<Torrent, Failure> {
    match find(env, word, &Web::default())? {
        Named::Torrent(torrent) => Ok(torrent),
        Named::Link(link) => Err(Failure::new(
            Exit::Metadata,
            link.word,
            "what is in it is known to its peers only",
        )
        .hint("`torr magnet LINK --save FILE` fetches the .torrent")),
    }
}

/// Whether `word` may come to something: all but the path of a file that is not there.
pub(crate) fn may_be_there(env: &Env, word: &OsStr) -> bool {
    let is_elsewhere = word == "-" || word.to_str().is_some_and(is_url);
    is_elsewhere || is_link(env, word) || env.path(word).exists()
}

pub(crate) fn is_link(env: &Env, word: &OsStr) -> bool {
    matches!(as_link(env, word), Ok(Some(_)))
}

fn starts(text: &str, start: &str) -> bool {
    text.get(..start.len())
        .is_some_and(|s| s.eq_ignore_ascii_case(start))
}

fn is_url(text: &str) -> bool {
    starts(text, "http://") || starts(text, "https://")
}

/// `None` where it is neither a magnet link nor a hash.
fn as_link(env: &Env, word: &OsStr) -> Result<Option<Link>, Failure> {
    let Some(text) = word.to_str() else {
        return Ok(None);
    };
    if starts(text.trim(), "magnet:") {
        let magnet = Magnet::parse(text).map_err(|error| {
            Failure::new(Exit::Metadata, "magnet link", printable(&error.to_string()))
        })?;
        let word = magnet.name.as_deref().map_or_else(
            || "magnet link".to_owned(),
            |name| printable(name).into_owned(),
        );
        return Ok(Some(Link { word, magnet }));
    }
    if env.path(text).exists() {
        return Ok(None);
    }
    if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        let why = MagnetError::V2Only.to_string();
        return Err(Failure::new(Exit::Metadata, text, why));
    }
    Ok(parse_info_hash(text).map(|hash| Link {
        word: text.to_owned(),
        magnet: Magnet::new(hash),
    }))
}

fn fetch(url: &str, shown: &str, web: &Web) -> Result<Vec<u8>, Failure> {
    let reply = runtime()?.block_on(async {
        let reply = torr::fetch_torrent(url, web.bind, false);
        match web.timeout {
            None => Some(reply.await),
            Some(limit) => tokio::time::timeout(limit, reply).await.ok(),
        }
    });
    let error = match reply {
        Some(Ok(bytes)) => return Ok(bytes),
        Some(Err(error)) => error,
        None => {
            let limit = units::time(web.timeout.unwrap_or_default());
            let why = format!("gave up: it did not come within {limit}");
            return Err(Failure::new(Exit::GaveUp, shown, why));
        }
    };
    let exit = match error {
        FetchError::Unreachable(_) => Exit::Network,
        FetchError::TooLong => Exit::Metadata,
        FetchError::Status(_) => Exit::Other,
    };
    let failure = Failure::new(exit, shown, error.to_string());
    Err(failure.maybe_hint(match error {
        FetchError::Status(401 | 403) => Some("the site may want you to log in"),
        FetchError::Status(404 | 410) => Some("is the address right?"),
        FetchError::Status(_) | FetchError::Unreachable(_) | FetchError::TooLong => None,
    }))
}

/// A path or link for messages, without what could trick a terminal.
pub(crate) fn shown(word: &OsStr) -> String {
    match word.to_str() {
        Some("-") => "standard input".to_owned(),
        // It may hold a passkey.
        Some(text) if is_url(text) => torr::mask(text),
        Some(_) | None => printable(&word.to_string_lossy()).into_owned(),
    }
}

fn read_file(env: &Env, word: &OsStr) -> Result<Vec<u8>, Failure> {
    let fail = |error: &std::io::Error| Failure::io(shown(word), error);
    let path = env.path(word);
    let file = File::open(&path).map_err(|error| fail(&error))?;
    if file.metadata().is_ok_and(|metadata| metadata.is_dir()) {
        return Err(
            Failure::new(Exit::Metadata, shown(word), "it is a folder, not a torrent")
                .hint("`torr create` makes a torrent of a folder"),
        );
    }
    // A file that is too long is refused by its first bytes, not read to its end.
    let mut bytes = Vec::new();
    let limit = TORRENT_LEN_MAX as u64 + 1;
    file.take(limit)
        .read_to_end(&mut bytes)
        .map_err(|error| fail(&error))?;
    Ok(bytes)
}

fn refused(shown: &str, bytes: &[u8], error: &MetainfoError) -> Failure {
    let why = printable(&error.to_string()).into_owned();
    match error.refusal() {
        Refusal::Unsupported => Failure::new(Exit::Metadata, shown, why),
        Refusal::NotATorrent => {
            let failure = Failure::new(Exit::Metadata, shown, format!("not a torrent: {why}"));
            failure.maybe_hint(guess(bytes))
        }
    }
}

/// What people take for torrents most often.
fn guess(bytes: &[u8]) -> Option<&'static str> {
    let start = bytes.trim_ascii_start();
    let starts = |text: &[u8]| {
        start
            .get(..text.len())
            .is_some_and(|s| s.eq_ignore_ascii_case(text))
    };
    if start.is_empty() {
        return Some("it is empty: download it again");
    }
    if starts(b"<!doctype") || starts(b"<html") {
        return Some("it is a web page: the site may want you to log in");
    }
    starts(b"magnet:").then_some("it is a magnet link: `torr magnet` shows what it says")
}

/// The name that a torrent has on disk and on screen.
pub(crate) fn name(meta: &Metainfo) -> &str {
    meta.info().layout().root()
}

/// The path below the torrent's folder, for people and for globs; of a single file its name.
pub(crate) fn path_inside(info: &metainfo::Info, file: metainfo::FileIndex) -> Option<&str> {
    let path = info.layout().below_root(file)?;
    Some(if path.is_empty() {
        info.layout().root()
    } else {
        path
    })
}
