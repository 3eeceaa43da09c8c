//! When blocks go to the disk to be hashed, and whole pieces to be written.
//!
//! Hashing several pieces side by side costs little more than hashing one. So every 4 MiB, what has come of
//! all open pieces is hashed, as far as it fills the lanes evenly; whole pieces wait a moment for that, or
//! small ones for each other, where much comes at once anyway. One batch is hashed at a time: what comes
//! meanwhile makes the next one wider. Nobody waits where somebody may wait for the piece: at the end, when
//! read in order, when memory is short.

use std::time::Duration;

use torr_base::{BLOCK_LEN, Instant, PieceIndex};
use torr_store::{DiskTask, HashRun};

use crate::action::Outbox;
use crate::assembly::Stage;
use crate::swarm::{Job, Phase, Swarm};

/// Pieces that are hashed side by side, at most.
pub(crate) const SIDE_BY_SIDE: usize = 16;
/// Blocks after which what has come is hashed: 4 MiB, sixteen for each lane.
const BATCH_BLOCKS: u32 = 256;
/// Pieces of no more blocks than this are hashed when they are whole.
pub(crate) const SMALL_BLOCKS: u32 = 16;
/// Unfinished pieces are hashed without a whole one only where so many of them go side by side.
const LANES_MIN: usize = 4;
/// Of the lanes that are at work at the begin of a batch, so many are to be busy on average.
const FILL: (u64, u64) = (7, 8);
/// How long a whole piece waits for company.
const WAIT: Duration = Duration::from_millis(20);
/// It waits only where a batch, or so many more pieces, are to be expected in that time.
const COMPANY: u64 = 2;

/// Whole pieces that wait to be handed to the disk, and when the next batch is due.
#[derive(Debug, Default)]
pub(crate) struct Closing {
    pieces: Vec<PieceIndex>,
    since: Option<Instant>,
    /// Blocks that came since the last batch.
    fresh: u32,
    /// Jobs that hash unfinished pieces and are not answered.
    hashing: u32,
    /// Empty between batches; kept for their memory.
    ready: Vec<(u32, PieceIndex)>,
    lengths: Vec<u32>,
}

impl Closing {
    pub(crate) fn due(&self) -> Option<Instant> {
        self.since.map(|since| since + WAIT)
    }

    /// Nothing waits any more; gives what did.
    pub(crate) fn take(&mut self) -> Vec<PieceIndex> {
        self.since = None;
        self.fresh = 0;
        std::mem::take(&mut self.pieces)
    }
}

impl<B> Swarm<B> {
    /// A block is here, and its piece is not whole.
    pub(crate) fn hash_ahead(&mut self, out: &mut Outbox<B>) {
        self.closing.fresh += 1;
        if self.is_batch() {
            self.hand_over(out);
        }
    }

    /// The last block of a piece is here: to the disk with it, now or soon.
    pub(crate) fn close_piece(&mut self, now: Instant, piece: PieceIndex, out: &mut Outbox<B>) {
        if !self.assembly.begin_commit(piece) {
            self.spill(piece, out);
            self.verify_if_on_disk(piece, out);
            return;
        }
        self.closing.fresh += 1;
        self.closing.pieces.push(piece);
        self.closing.since.get_or_insert(now);
        let full = self.closing.pieces.len() >= SIDE_BY_SIDE;
        if full || self.is_batch() || !self.company_comes() {
            self.hand_over(out);
        }
    }

    /// A piece is to be handed over with the next ones though the disk did not take it before. False where
    /// it is not whole.
    pub(crate) fn commit_again(&mut self, piece: PieceIndex) -> bool {
        let whole = self.assembly.begin_commit(piece);
        if whole {
            self.closing.pieces.push(piece);
        }
        whole
    }

    /// Hands the waiting pieces to the disk, and before them what has come of others. True if there was
    /// any whole one.
    pub(crate) fn commit_closing(&mut self, out: &mut Outbox<B>) -> bool {
        let any = !self.closing.pieces.is_empty();
        if any {
            self.hand_over(out);
        }
        any
    }

    fn hand_over(&mut self, out: &mut Outbox<B>) {
        let mut whole = self.closing.take();
        // Those that lie one after another are written together.
        whole.sort_unstable();
        let runs = self.runs(&whole);
        let commit = |piece: PieceIndex| {
            let digests = self.blame.is_suspect(piece);
            self.assembly.commit(piece, digests)
        };
        let pieces: Vec<_> = whole.drain(..).filter_map(commit).collect();
        self.closing.pieces = whole;
        if !runs.is_empty() {
            self.closing.hashing += 1;
            let joined = !pieces.is_empty();
            self.job(Job::Hash, DiskTask::Hash { runs, joined }, out);
        }
        if !pieces.is_empty() {
            let soon = self.is_asked_for();
            self.job(Job::Commit, DiskTask::Commit { pieces, soon }, out);
        }
    }

    /// Hands over what has waited long enough.
    pub(crate) fn commit_if_due(&mut self, now: Instant, out: &mut Outbox<B>) {
        if self.closing.due().is_some_and(|due| due <= now) {
            self.commit_closing(out);
        }
    }

    /// A job of runs is answered: what came meanwhile may be enough for the next.
    pub(crate) fn runs_hashed(&mut self, out: &mut Outbox<B>) {
        self.closing.hashing = self.closing.hashing.saturating_sub(1);
        if self.phase == Phase::Active && self.is_batch() {
            self.hand_over(out);
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
            Phase::Active | Phase::Halted | Phase::Stopped | Phase::Failed => {}
        }
        free
    }

    /// Whether more pieces will soon be whole.
    fn company_comes(&self) -> bool {
        let asked_all = self.assembly.missing() == 0
            && self.picker.availability.candidates() == 0
            && !self.web.has_reserved();
        let last = self.left as usize <= self.closing.pieces.len() || asked_all;
        let in_time = self.down_rate * WAIT.as_millis() as u64 / 1_000;
        let pieces = COMPANY * u64::from(self.geometry.piece_len_max());
        let batch = u64::from(BATCH_BLOCKS) * u64::from(BLOCK_LEN);
        !last && !self.config.sequential && in_time >= pieces.min(batch)
    }

    /// Whether enough has come to be hashed, and nothing is being hashed.
    fn is_batch(&self) -> bool {
        if self.closing.fresh < BATCH_BLOCKS || self.closing.hashing > 0 {
            return false;
        }
        let small = self.geometry.block_count_max() <= SMALL_BLOCKS;
        !small && !self.has_large_pieces()
    }

    /// What is to be hashed of unfinished pieces beside whole ones: of as many as there are lanes for, those
    /// with most first, and of each so much that few lanes end before the others. The rest waits for the
    /// next time.
    fn runs(&mut self, whole: &[PieceIndex]) -> Vec<HashRun<B>> {
        let lanes = SIDE_BY_SIDE.saturating_sub(whole.len());
        let filling = self
            .assembly
            .iter()
            .filter(|(_, open)| open.stage == Stage::Filling);
        let ready = filling.map(|(piece, _)| (self.assembly.ready(piece), piece));
        let ready = ready.filter(|(count, _)| *count > 0);
        let Closing {
            ready: best,
            lengths,
            ..
        } = &mut self.closing;
        best.clear();
        best.extend(ready);
        best.sort_unstable_by(|a, b| b.cmp(a));
        best.truncate(lanes);
        if whole.is_empty() && best.len() < LANES_MIN {
            return Vec::new();
        }
        let ends = whole.iter().map(|piece| self.assembly.unhashed(*piece));
        let longest = ends.clone().max().unwrap_or(0);
        lengths.clear();
        lengths.extend(ends.chain(best.iter().map(|(count, _)| *count)));
        lengths.sort_unstable_by(|a, b| b.cmp(a));
        let most = even(lengths).max(longest);
        let mut runs = Vec::with_capacity(best.len());
        runs.extend(
            best.iter()
                .filter_map(|(_, piece)| self.assembly.hash(*piece, most)),
        );
        runs
    }

    /// Whether a peer lacks pieces and may get them from us.
    fn is_asked_for(&self) -> bool {
        self.may_upload() && self.peers.values().any(|peer| !peer.only_gives())
    }
}

/// The length to cut runs to, so that as much as possible is hashed while at least [`FILL`] of the lanes are
/// busy on average. `lengths` are sorted, the longest first.
fn even(lengths: &[u32]) -> u32 {
    let lanes = lengths.len() as u64;
    let busy = |most: u32| -> u64 { lengths.iter().map(|n| u64::from(*n.min(&most))).sum() };
    let full = |most: &u32| busy(*most) * FILL.1 >= lanes * u64::from(*most) * FILL.0;
    lengths.iter().copied().find(full).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::even;

    #[test]
    fn runs_are_cut_where_lanes_would_idle() {
        assert_eq!(even(&[]), 0);
        assert_eq!(even(&[9]), 9);
        assert_eq!(even(&[16, 16, 15, 14]), 16);
        // One that is far ahead waits for the others, and one that has hardly begun holds nobody up.
        assert_eq!(even(&[200, 12, 12, 12]), 12);
        assert_eq!(even(&[16, 16, 16, 16, 16, 16, 16, 1]), 16);
        assert_eq!(even(&[40, 20, 10, 5]), 10);
    }
}
