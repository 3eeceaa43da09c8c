//! One torrent of a run: how far it is, and what becomes of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use std::net::SocketAddr;

use serde_json::{Value, json};
use torr::{AddTorrent, Choose, CloseReason, StorageError, Torrent, TorrentState, TorrentStats};

use crate::download::Facts;
use crate::download::news::waits_for;
use crate::download::view::{Phase, Summary, View, ratio};
use crate::failure::Exit;

/// Without a byte for this long, a person wants to know why.
const STALLED_AFTER: Duration = Duration::from_secs(3);
/// How much the newest figure counts in the rate that foretells the end: it should not jump about.
const RATE_WEIGHT: f64 = 0.1;

/// A torrent that is to be downloaded.
#[derive(Debug)]
pub(crate) struct Planned {
    /// As it was named on the command line; for messages.
    pub(crate) word: String,
    /// As it will be called on disk, or as its link calls it.
    pub(crate) name: String,
    pub(crate) hash: String,
    pub(crate) magnet: String,
    pub(crate) add: AddTorrent,
    /// The files that are wanted, where that is to be found out.
    pub(crate) choose: Option<Choose>,
    /// `None` where only a link is known.
    pub(crate) facts: Option<Facts>,
}

pub(crate) struct Job {
    pub(crate) name: String,
    pub(crate) hash: String,
    pub(crate) magnet: String,
    pub(crate) private: bool,
    pub(crate) size: u64,
    pub(crate) choose: Option<Choose>,
    /// Another name than the torrent's own.
    pub(crate) own_name: Option<String>,
    /// Nothing but the metadata is wanted.
    pub(crate) metadata_only: bool,
    /// The .torrent, in that case.
    pub(crate) metadata: Option<Arc<[u8]>>,
    /// `None` before it is in the session, and for good if it never gets there.
    pub(crate) torrent: Option<Torrent>,
    pub(crate) stage: Stage,
    /// The pieces that were hashed, and those that are to be.
    pub(crate) checking: Option<(u64, u64)>,
    /// Why nothing comes.
    pub(crate) stalled: Option<String>,
    /// Why its storage is waited for.
    pub(crate) halted: Option<StorageError>,
    /// What a web seed last did wrong.
    pub(super) web_failure: Option<String>,
    /// Somebody was sent to find out why.
    pub(crate) asking: bool,
    /// What went wrong.
    pub(crate) failed: Option<Exit>,
    pub(crate) summary: Option<Summary>,
    /// The last peer that was refused, or refused us, as it was told.
    refused: Option<(SocketAddr, CloseReason)>,
    began: Instant,
    downloaded: u64,
    last_byte: Instant,
    rate: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Its metadata is looked for.
    Seeking,
    Opening,
    Active,
    /// All is here, but a power cut might take it.
    Complete,
    /// All is here and stays.
    Done {
        at: Instant,
    },
    Stopping,
    Ended,
}

impl Job {
    pub(crate) fn new(planned: &Planned, now: Instant) -> Self {
        Self {
            name: planned.name.clone(),
            hash: planned.hash.clone(),
            magnet: planned.magnet.clone(),
            private: planned.facts.as_ref().is_some_and(|facts| facts.private),
            size: planned.facts.as_ref().map_or(0, |facts| facts.bytes_wanted),
            choose: planned.choose.clone(),
            own_name: planned.add.name.clone(),
            metadata_only: planned.add.metadata_only,
            metadata: None,
            torrent: None,
            stage: match planned.facts {
                Some(_) => Stage::Opening,
                None => Stage::Seeking,
            },
            checking: None,
            stalled: None,
            halted: None,
            web_failure: None,
            asking: false,
            failed: None,
            summary: None,
            refused: None,
            began: now,
            downloaded: 0,
            last_byte: now,
            rate: 0.0,
        }
    }

    /// Takes the newest figures in; to be called every so often.
    pub(crate) fn tick(&mut self, now: Instant) {
        let Some(stats) = self.stats() else { return };
        let here = stats.downloaded + stats.metadata.map_or(0, |metadata| metadata.done);
        let waits = self.halted.is_some();
        if here != self.downloaded || waits || !matches!(self.stage, Stage::Seeking | Stage::Active)
        {
            self.downloaded = here;
            self.last_byte = now;
            self.stalled = None;
        }
        let newest = stats.down_rate as f64;
        self.rate = match self.rate {
            0.0 => newest,
            rate => rate + (newest - rate) * RATE_WEIGHT,
        };
    }

    /// Who did not become a peer since the last call, and why.
    pub(crate) fn news_of_refusal(&mut self) -> Option<(SocketAddr, CloseReason)> {
        let latest = self.stats()?.last_failure;
        let before = std::mem::replace(&mut self.refused, latest);
        latest.filter(|_| latest != before)
    }

    pub(crate) fn stats(&self) -> Option<TorrentStats> {
        Some(self.torrent.as_ref()?.stats())
    }

    /// Since when nothing came though something is wanted.
    pub(crate) fn silent(&self, now: Instant) -> Duration {
        now.duration_since(self.last_byte)
    }

    pub(crate) fn is_stalled(&self, now: Instant) -> bool {
        matches!(self.stage, Stage::Seeking | Stage::Active) && self.silent(now) >= STALLED_AFTER
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.stage == Stage::Ended
    }

    /// Whether bytes are still to come.
    pub(crate) fn is_wanting(&self) -> bool {
        match self.stage {
            Stage::Seeking | Stage::Opening | Stage::Active | Stage::Complete => {
                self.failed.is_none()
            }
            Stage::Done { .. } | Stage::Stopping | Stage::Ended => false,
        }
    }

    pub(crate) fn took(&self, now: Instant) -> Duration {
        now.duration_since(self.began)
    }

    pub(crate) fn view(&self) -> View {
        let stats = self.stats();
        let mut view = View {
            name: self.name.clone(),
            total: self.size,
            stalled: match &self.halted {
                Some(error) => Some(waits_for(error)),
                None => self.stalled.clone(),
            },
            phase: self.phase(stats.as_ref()),
            ..View::default()
        };
        let Some(stats) = stats else { return view };
        (view.done, view.total) = match (view.phase, self.checking) {
            (Phase::Metadata, _) => {
                let metadata = stats.metadata;
                (
                    metadata.map_or(0, |it| it.done),
                    metadata.and_then(|it| it.size).unwrap_or(0),
                )
            }
            (Phase::Checking, checking) => self.checked_bytes(checking),
            _ => (stats.done.min(stats.wanted), stats.wanted),
        };
        (view.down, view.up) = (stats.down_rate, stats.up_rate);
        (view.peers, view.seeds) = (stats.peers, stats.seeds);
        view.web_seeds = stats.web_seeds;
        view.uploaded = stats.uploaded;
        let left = view.total.saturating_sub(view.done);
        view.eta = (self.rate >= 1.0 && view.phase == Phase::Downloading)
            .then(|| (left as f64 / self.rate).ceil() as u64);
        view
    }

    fn phase(&self, stats: Option<&TorrentStats>) -> Phase {
        let waits = self.halted.is_some();
        match self.stage {
            Stage::Stopping | Stage::Ended => Phase::Stopping,
            _ if waits => Phase::Waiting,
            Stage::Seeking => Phase::Metadata,
            Stage::Opening => Phase::Checking,
            Stage::Active if stats.is_some_and(|s| s.state == TorrentState::Seeding) => {
                Phase::Syncing
            }
            Stage::Active => Phase::Downloading,
            Stage::Complete => Phase::Syncing,
            Stage::Done { .. } => Phase::Seeding,
        }
    }

    /// Pieces as bytes: people think of sizes.
    pub(crate) fn checked_bytes(&self, checking: Option<(u64, u64)>) -> (u64, u64) {
        let info = self.torrent.as_ref().and_then(Torrent::info);
        let info = info.map(|info| info.geometry());
        match (checking, info) {
            (Some((done, pieces)), Some(geometry)) => {
                let piece = u64::from(geometry.piece_len_max());
                let total = (pieces * piece).min(geometry.total());
                ((done * piece).min(total), total)
            }
            _ => (0, self.size),
        }
    }

    /// Fields that every object of `--json` about it has.
    pub(crate) fn json(&self, more: Value) -> Value {
        let mut fields = json!({ "hash": self.hash, "name": self.name });
        if let (Some(fields), Value::Object(more)) = (fields.as_object_mut(), more) {
            fields.extend(more);
        }
        fields
    }

    pub(crate) fn metadata_json(&self) -> Value {
        let view = self.view();
        self.json(json!({
            "done": view.done,
            "total": Some(view.total).filter(|total| *total > 0),
            "peers": view.peers,
            "stalled": view.stalled,
        }))
    }

    pub(crate) fn progress_json(&self) -> Value {
        let view = self.view();
        self.json(json!({
            "done": view.done,
            "total": view.total,
            "down": view.down,
            "up": view.up,
            "uploaded": view.uploaded,
            "ratio": ratio(view.uploaded, view.total),
            "peers": view.peers,
            "seeds": view.seeds,
            "web_seeds": view.web_seeds,
            "eta": view.eta,
            "stalled": view.stalled,
        }))
    }
}
