//! What a person may name as a torrent, and the torrent in it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;

use crate::env::Env;
use crate::failure::{Exit, Failure};
use torr::metainfo::{
    self, Magnet, Metainfo, MetainfoError, Refusal, TORRENT_LEN_MAX, parse_info_hash, printable,
};

/// A torrent file that was read.
#[derive(Debug)]
pub(crate) struct Torrent {
    /// As a person wrote it; for messages and for the command that resumes.
    pub(crate) word: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) meta: Metainfo,
}

/// Reads the torrent that `word` names.
pub(crate) fn load(env: &mut Env, word: &OsStr) -> Result<Torrent, Failure> {
    let shown = shown(word);
    if let Some(text) = word.to_str() {
        refuse_what_has_no_file(env, text)?;
    }
    let bytes = match word == "-" {
        true => env
            .stdin
            .read_all(TORRENT_LEN_MAX)
            .map_err(|error| Failure::io("standard input", &error))?,
        false => read_file(env, word)?,
    };
    let meta = Metainfo::parse(&bytes).map_err(|error| refused(&shown, &bytes, &error))?;
    Ok(Torrent {
        word: shown,
        bytes,
        meta,
    })
}

/// A path or link for messages, without what could trick a terminal.
pub(crate) fn shown(word: &OsStr) -> String {
    match word == "-" {
        true => "standard input".to_owned(),
        false => printable(&word.to_string_lossy()).into_owned(),
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

/// Magnet links, URLs and hashes, unless a file has that very name.
fn refuse_what_has_no_file(env: &Env, text: &str) -> Result<(), Failure> {
    let starts = |start: &str| {
        text.get(..start.len())
            .is_some_and(|s| s.eq_ignore_ascii_case(start))
    };
    let (what, why) = if starts("magnet:") {
        let magnet = Magnet::parse(text)
            .map_err(|error| Failure::new(Exit::Metadata, "magnet link", error.to_string()))?;
        let what = magnet.name.map_or_else(
            || "magnet link".to_owned(),
            |name| printable(&name).into_owned(),
        );
        (what, "downloading by magnet link is not supported yet")
    } else if starts("http://") || starts("https://") {
        (
            "URL".to_owned(),
            "fetching a torrent from a URL is not supported yet",
        )
    } else if parse_info_hash(text).is_some() && !env.path(text).exists() {
        (
            text.to_owned(),
            "downloading by info-hash is not supported yet",
        )
    } else {
        return Ok(());
    };
    Err(Failure::new(Exit::Metadata, what, why)
        .hint("get the .torrent file, and give that to torr"))
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
