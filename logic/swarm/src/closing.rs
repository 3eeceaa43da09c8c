//! When whole pieces go to the disk, and what goes with them.
//!
//! Hashing several pieces side by side costs little more than hashing one. So what has come of other pieces
//! goes along with a whole one, and small pieces wait a moment for company where more of them come at
//! once anyway. Nobody waits where somebody may wait for the piece: at the end, when read in order, when
//! memory is short.

use std::time::Duration;

use torr_base::{Instant, PieceIndex};
use torr_store::{DiskTask, HashRun};

use crate::action::Outbox;
use crate::assembly::Stage;
use crate::swarm::{Job, Phase, Swarm};

/// Pieces that are hashed side by side, at most.
pub(crate) const SIDE_BY_SIDE: usize = 16;
/// Blocks that are enough work to be handed over: 2 MiB.
const BATCH_BLOCKS: u32 = 128;
/// How long a whole piece waits for company.
const WAIT: Duration = Duration::from_millis(20);
/// It waits only where so many more are to be expected in that time.
const COMPANY: u64 = 2;

/// Whole pieces that wait to be handed to the disk.
#[derive(Debug, Default)]
pub(crate) struct Closing {
    pieces: Vec<PieceIndex>,
    since: Option<Instant>,
}

impl Closing {
    pub(crate) fn due(&self) -> Option<Instant> {
        self.since.map(|since| since + WAIT)
    }

    pub(crate) fn clear(&mut self) {
        self.pieces.clear();
        self.since = None;
    }
}

impl<B> Swarm<B> {
    /// The last block of a piece is here: to the disk with it, now or soon.
    pub(crate) fn close_piece(&mut self, now: Instant, piece: PieceIndex, out: &mut Outbox<B>) {
        if !self.assembly.begin_commit(piece) {
            self.spill(piece, out);
            self.verify_if_on_disk(piece, out);
            return;
        }
        self.closing.pieces.push(piece);
        self.closing.since.get_or_insert(now);
        if !self.company_comes() || self.is_batch() {
            self.commit_closing(out);
        }
    }

    /// Hands the waiting pieces to the disk, and before them what has come of others. True if there was
    /// any.
    pub(crate) fn commit_closing(&mut self, out: &mut Outbox<B>) -> bool {
        if self.closing.pieces.is_empty() {
            return false;
        }
        let whole = std::mem::take(&mut self.closing.pieces);
        self.closing.since = None;
        let runs = self.runs(SIDE_BY_SIDE.saturating_sub(whole.len()));
        if !runs.is_empty() {
            self.job(Job::Hash, DiskTask::Hash { runs }, out);
        }
        let commit = |piece: PieceIndex| {
            let digests = self.blame.is_suspect(piece);
            self.assembly.commit(piece, digests)
        };
        let pieces: Vec<_> = whole.into_iter().filter_map(commit).collect();
        let soon = self.is_asked_for();
        self.job(Job::Commit, DiskTask::Commit { pieces, soon }, out);
        true
    }

    /// Hands over what has waited long enough.
    pub(crate) fn commit_if_due(&mut self, now: Instant, out: &mut Outbox<B>) {
        if self.closing.due().is_some_and(|due| due <= now) {
            self.commit_closing(out);
        }
    }

    /// A run is back; its piece may have become whole meanwhile. Gives the buffers that are free.
    pub(crate) fn run_hashed(
        &mut self,
        now: Instant,
        run: HashRun<B>,
        out: &mut Outbox<B>,
    ) -> Vec<B> {
        let piece = run.piece;
        let free = self.assembly.hashed(run);
        match self.phase {
            Phase::Active if self.assembly.is_whole(piece) => self.close_piece(now, piece, out),
            // The others of its piece were spilled when the end began.
            Phase::Stopping => {
                self.spill(piece, out);
            }
            Phase::Active | Phase::Stopped | Phase::Failed => {}
        }
        free
    }

    /// Whether more pieces will soon be whole.
    fn company_comes(&self) -> bool {
        let last = self.left as usize <= self.closing.pieces.len() || self.assembly.missing() == 0;
        let in_time = self.down_rate * WAIT.as_millis() as u64 / 1_000;
        let enough = COMPANY * u64::from(self.geometry.piece_len_max());
        !last && !self.config.sequential && in_time >= enough
    }

    /// Whether there is work enough.
    fn is_batch(&self) -> bool {
        let closing = &self.closing.pieces;
        let whole: u32 = closing.iter().map(|p| self.assembly.unhashed(*p)).sum();
        if closing.len() >= SIDE_BY_SIDE || whole >= BATCH_BLOCKS {
            return true;
        }
        let others = self.assembly.iter().map(|(p, _)| self.assembly.ready(p));
        whole + others.sum::<u32>() >= BATCH_BLOCKS
    }

    /// What can be hashed of unfinished pieces, of as many as there are lanes for; those with most first.
    fn runs(&mut self, lanes: usize) -> Vec<HashRun<B>> {
        let filling = self
            .assembly
            .iter()
            .filter(|(_, open)| open.stage == Stage::Filling);
        let ready = filling.map(|(piece, _)| (self.assembly.ready(piece), piece));
        let mut ready: Vec<_> = ready.filter(|(count, _)| *count > 0).collect();
        ready.sort_unstable_by(|a, b| b.cmp(a));
        ready.truncate(lanes);
        let runs = ready.into_iter();
        runs.filter_map(|(_, piece)| self.assembly.hash(piece))
            .collect()
    }

    /// Whether a peer lacks pieces and may get them from us.
    fn is_asked_for(&self) -> bool {
        let lacks = |peer: &crate::peer::Peer<B>| !peer.seed && !peer.upload_only;
        self.may_upload() && self.peers.values().any(lacks)
    }
}
