//! Web seeds (BEP 19, GetRight style): HTTP servers that have the torrent's files.
//!
//! ```text
//!   tick ─ fill_web ─► gap (which pieces) ─► Fetch ─► Action::WebFetch(url, range)
//!   driver ─ handle_web_head ─► head (is it what was asked?)
//!          ─ web_due, web_advance ─► one block after another ─► assembly
//!          ─ handle_web_end ─► the range of the next file, or the next run of pieces
//! ```
//!
//! A web seed is a source of blocks like a peer, and all that is not about asking is the same: the buffers, the
//! budgets, the hashes, and who is to blame. A *fetch* is a run of consecutive pieces that it is asked for; its
//! blocks come in order. The piece it is at is open, and its blocks are owed; those after it are *reserved*:
//! peers leave them alone, unless they have nothing else and the web seed takes its time.
//!
//! Invariants:
//! - a reserved piece is wanted, not open, no candidate, and reserved once;
//! - each block in `owed` is counted as asked in the assembly.
//!
//! Deliberately absent: HTTP, redirects, which addresses may be connected to (the driver's client).

mod body;
mod drive;
mod ends;
mod fetch;
mod gap;
mod head;
mod relief;
#[cfg(test)]
mod tests;
mod url;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use torr_base::{Bitfield, Block, Instant, Key, PieceIndex, Slab};
use torr_metainfo::{FileIndex, FileMap, Info};

pub use body::WebDue;
pub(crate) use fetch::Fetch;
pub use head::{WebFault, WebHead, judge};
pub use url::file_url;

use crate::rates::Rate;

/// Web seeds of a torrent that are used; what more there are is left out.
pub(crate) const WEB_SEEDS_MAX: usize = 32;
/// Failures in a row after which a web seed is given up: with the doubling, about ten minutes.
const FAILURES_MAX: u32 = 8;
/// Runs that one web seed is asked for at the same time, and all of them.
const FETCHES_MAX: usize = 4;
const FETCHES_IN_ALL: usize = 16;
/// Files in a row that a server may lack before it counts as one that has nothing.
const ABSENT_MAX: u32 = 64;

/// Marks the keys of fetches.
#[derive(Debug)]
pub struct FetchMark;
/// A run of pieces that a web seed is asked for.
pub type FetchKey = Key<FetchMark>;

/// The web seeds of a torrent, and what is needed to ask them.
#[derive(Clone, Debug)]
pub struct WebInit {
    /// As they stand in the torrent's `url-list` or in a link's `ws`.
    pub urls: Vec<String>,
    pub files: WebFiles,
}

/// Where a web seed has the torrent's bytes.
#[derive(Clone, Debug)]
pub enum WebFiles {
    /// Under the names of the torrent.
    Torrent(Arc<Info>),
    /// In one file, whose URL is the web seed's.
    One(Arc<FileMap>),
}

impl WebFiles {
    pub(crate) fn map(&self) -> &FileMap {
        match self {
            Self::Torrent(info) => info.map(),
            Self::One(map) => map,
        }
    }

    /// `None` where no URL leads to that file.
    fn url(&self, base: &str, file: FileIndex) -> Option<String> {
        match self {
            Self::Torrent(info) => url::of_file(base, info, file),
            Self::One(_) => Some(base.to_owned()),
        }
    }

    /// Whether the lack of one file says nothing about the others.
    fn are_many(&self) -> bool {
        self.map().file_count() > 1
    }
}

/// A GET for a range of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebRequest {
    /// May hold a password.
    pub url: String,
    /// Bytes of the file, from and to; the last one is not among them.
    pub range: (u64, u64),
    /// Counts the requests of a fetch; the answer names it.
    pub part: u32,
}

/// What is told of a web seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WebEvent {
    /// A request failed; it is asked again after that time.
    Failed { why: WebFault, retry: Duration },
    /// It is not asked any more in this run.
    GaveUp { why: WebFault },
    /// It sent wrong data, and is not asked any more.
    Banned,
}

impl fmt::Display for WebEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed { why, retry } => {
                write!(f, "{why}; asked again in {} s", retry.as_secs())
            }
            Self::GaveUp { why } => write!(f, "{why}; it is not used any more"),
            Self::Banned => f.write_str("sent wrong data; it is not used any more"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It may be asked from then on.
    Good {
        from: Instant,
    },
    GivenUp,
    Banned,
}

#[derive(Debug)]
struct WebSeed {
    url: String,
    standing: Standing,
    /// In a row.
    failures: u32,
    /// Files in a row that it does not have.
    absent: u32,
    /// It has answered rightly: it may be asked for several runs at once.
    proven: bool,
    /// How many; fewer where it failed while others were under way.
    width: usize,
    /// Pieces that it cannot give.
    lacks: Option<Bitfield>,
    down: Rate,
    /// The piece after the last run.
    cursor: u32,
}

impl WebSeed {
    fn may_give(&self, piece: PieceIndex) -> bool {
        self.lacks.as_ref().is_none_or(|lacks| !lacks.get(piece))
    }

    fn is_used(&self) -> bool {
        matches!(self.standing, Standing::Good { .. })
    }

    fn may_be_asked(&self, now: Instant) -> bool {
        matches!(self.standing, Standing::Good { from } if from <= now)
    }
}

/// All web seeds of a swarm, and what they are asked for.
#[derive(Debug)]
pub(crate) struct WebSeeds<B> {
    files: Option<WebFiles>,
    seeds: Vec<WebSeed>,
    fetches: Slab<Fetch<B>, FetchMark>,
    /// Payload bytes of all of them.
    downloaded: u64,
}

impl<B> WebSeeds<B> {
    pub(crate) fn new(init: Option<WebInit>, now: Instant) -> Self {
        let (urls, files) = match init {
            Some(init) => (init.urls, Some(init.files)),
            None => (Vec::new(), None),
        };
        let mut seeds: Vec<WebSeed> = Vec::new();
        for url in urls {
            let known = seeds.iter().any(|seed| seed.url == url);
            if !known && url::is_web(&url) && seeds.len() < WEB_SEEDS_MAX {
                seeds.push(WebSeed {
                    url,
                    standing: Standing::Good { from: now },
                    failures: 0,
                    absent: 0,
                    proven: false,
                    width: FETCHES_MAX,
                    lacks: None,
                    down: Rate::new(now),
                    cursor: 0,
                });
            }
        }
        Self {
            files,
            seeds,
            fetches: Slab::new(),
            downloaded: 0,
        }
    }

    /// Somebody brought the block: the web seeds that owe it need not, and its bytes will be skipped.
    pub(crate) fn forgo(&mut self, block: Block) {
        for fetch in self.fetches.values_mut() {
            fetch.forgo(block);
        }
    }

    /// Pieces that are left to web seeds and not begun.
    pub(crate) fn reserved(&self) -> impl Iterator<Item = PieceIndex> + '_ {
        let runs = self.fetches.values();
        runs.flat_map(|fetch| fetch.reserved.clone().map(PieceIndex::new))
    }

    pub(crate) fn has_reserved(&self) -> bool {
        self.fetches
            .values()
            .any(|fetch| !fetch.reserved.is_empty())
    }

    /// Blocks that they owe, by fetch.
    pub(crate) fn owed(&self) -> impl Iterator<Item = (PieceIndex, u32)> + '_ {
        self.fetches.values().flat_map(Fetch::owed)
    }

    /// Blocks that are being filled.
    pub(crate) fn landing(&self) -> usize {
        let landing = |fetch: &&Fetch<B>| fetch.landing.is_some();
        self.fetches.values().filter(landing).count()
    }

    /// How many are used.
    pub(crate) fn used(&self) -> u32 {
        self.seeds.iter().filter(|seed| seed.is_used()).count() as u32
    }

    /// How many give us something just now.
    pub(crate) fn active(&self) -> u32 {
        self.fetches.len() as u32
    }

    pub(crate) fn downloaded(&self) -> u64 {
        self.downloaded
    }

    pub(crate) fn rate(&self) -> u64 {
        self.seeds.iter().map(|seed| seed.down.per_second()).sum()
    }

    pub(crate) fn rate_at_best(&self, now: Instant) -> u64 {
        self.seeds.iter().map(|seed| seed.down.at_best(now)).sum()
    }

    fn of_seed(&self, place: u16) -> impl Iterator<Item = (FetchKey, &Fetch<B>)> {
        let all = self.fetches.iter();
        all.filter(move |(_, fetch)| fetch.seed == place)
    }
}
