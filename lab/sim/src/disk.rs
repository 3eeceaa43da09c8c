//! A disk: takes jobs, takes its time, and fails as it was told to.

use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;
use std::rc::Rc;
use std::time::Duration;

use torr_base::{BLOCK_LEN, Bitfield, Instant, PieceIndex, RawBlock, Rng};
use torr_store::{
    CommitError, Committed, DiskDone, DiskJob, DiskResult, DiskTask, FileSource, Found, HashRun,
    LoadError, PieceCommit, Room, StorageError, StorageErrorKind, StorageId, StorageOp,
};

use crate::fidelity::{Fidelity, Stored, is_right};
use crate::host::HostId;
use crate::torrent::Torrent;

/// How a disk behaves.
#[derive(Clone, Copy, Debug)]
pub struct DiskProfile {
    /// From a job to its answer, at least.
    pub latency: Duration,
    /// Bytes a second of hashing and writing.
    pub rate: u64,
    /// No space after so many bytes written.
    pub full_after: Option<u64>,
    /// The job of this number, counted from 1, fails; with `heals_after` so does all that follows.
    pub fails_at: Option<u64>,
    /// As what it fails.
    pub fails_as: StorageErrorKind,
    /// So long after it first said no there is room again, and everything works. `None`: when the world is
    /// calm.
    pub heals_after: Option<Duration>,
    /// Looks go well even while all else fails, as they may where it is one file that cannot be written.
    pub looks_well: bool,
}

impl Default for DiskProfile {
    fn default() -> Self {
        Self {
            latency: Duration::from_millis(2),
            rate: 500_000_000,
            full_after: None,
            fails_at: None,
            fails_as: StorageErrorKind::Io,
            heals_after: None,
            looks_well: false,
        }
    }
}

/// One torrent's storage on one host.
#[derive(Debug)]
pub struct Disk<F> {
    torrent: Rc<Torrent>,
    profile: DiskProfile,
    /// Written and right.
    have: Bitfield,
    /// … and the node was told so.
    told: Bitfield,
    spilled: BTreeMap<(PieceIndex, u32), Stored>,
    busy_until: Instant,
    /// When the last job ends that a barrier has to wait for.
    last: Instant,
    jobs: u64,
    written: u64,
    /// Answers that are still to be given.
    pub(crate) open_jobs: usize,
    /// Blocks that the open jobs hold.
    pub(crate) open_blocks: usize,
    closed: bool,
    /// When it first said no.
    trouble: Option<Instant>,
    /// Nothing works just now.
    down: bool,
    /// Blocks that were hashed before their piece was whole.
    hashed_early: u64,
    /// Who made what was wrong in pieces that failed.
    forgers: BTreeSet<HostId>,
    /// How many pieces failed.
    spoiled: u32,
    /// Which blocks are in memory at a moment.
    rng: Rng,
    of: PhantomData<F>,
}

impl<F: Fidelity> Disk<F> {
    pub(crate) fn new(
        torrent: Rc<Torrent>,
        have: Bitfield,
        profile: DiskProfile,
        rng: Rng,
    ) -> Self {
        Self {
            torrent,
            profile,
            told: have.clone(),
            have,
            spilled: BTreeMap::new(),
            busy_until: Instant::ZERO,
            last: Instant::ZERO,
            jobs: 0,
            written: 0,
            open_jobs: 0,
            open_blocks: 0,
            closed: false,
            trouble: None,
            down: false,
            hashed_early: 0,
            forgers: BTreeSet::new(),
            spoiled: 0,
            rng,
            of: PhantomData,
        }
    }

    /// The hosts that sent what was wrong in pieces that failed, where blocks have no bytes.
    #[must_use]
    pub fn forgers(&self) -> &BTreeSet<HostId> {
        &self.forgers
    }

    /// Pieces that failed.
    #[must_use]
    pub fn spoiled(&self) -> u32 {
        self.spoiled
    }

    /// Pieces of which the node was told that they are verified and written: what it may say it has.
    #[must_use]
    pub fn told(&self) -> &Bitfield {
        &self.told
    }

    /// Blocks that were hashed before their piece was whole.
    #[must_use]
    pub fn hashed_early(&self) -> u64 {
        self.hashed_early
    }

    pub(crate) fn torrent(&self) -> &Torrent {
        &self.torrent
    }

    fn must_know(&self, range: RawBlock) {
        assert!(
            self.told.get(PieceIndex::new(range.piece)),
            "{range:?} is read from a piece that was never committed"
        );
    }

    /// The faults are over.
    pub(crate) fn heal(&mut self) {
        self.profile.full_after = None;
        self.profile.fails_at = None;
        self.down = false;
    }

    /// Whether this job fails, now that it is its turn.
    fn fails(&mut self, now: Instant) -> bool {
        let over = self.trouble.zip(self.profile.heals_after);
        if over.is_some_and(|(since, span)| now >= since + span) {
            self.heal();
        }
        let fails = self.down || self.profile.fails_at == Some(self.jobs);
        if fails {
            self.trouble.get_or_insert(now);
            self.down = self.profile.heals_after.is_some();
        }
        fails
    }

    /// Does the job; the answer is to be given at that time.
    pub(crate) fn run(
        &mut self,
        now: Instant,
        job: DiskJob<F::Block>,
    ) -> (Instant, DiskDone<F::Block>) {
        assert!(
            !self.closed,
            "a job after the storage was let go of: {job:?}"
        );
        self.jobs += 1;
        self.open_jobs += 1;
        let fails = self.fails(now);
        let (blocks, bytes, barrier) = self.weigh(&job.task);
        self.open_blocks += blocks;
        let spent = Duration::from_nanos(bytes * 1_000_000_000 / self.profile.rate.max(1));
        self.busy_until = self.busy_until.max(now) + spent;
        let mut done_at = self.busy_until + self.profile.latency;
        if barrier {
            done_at = done_at.max(self.last);
        }
        self.last = self.last.max(done_at);
        let result = self.answer(now, job.task, fails);
        let done = DiskDone {
            storage: job.storage,
            job: job.job,
            result,
        };
        (done_at, done)
    }

    /// The answer is about to be given.
    pub(crate) fn answered(&mut self, done: &DiskDone<F::Block>) {
        self.open_jobs -= 1;
        let committed: &[Committed<F::Block>] = match &done.result {
            DiskResult::Committed { pieces } => pieces,
            DiskResult::Verified(piece) => std::slice::from_ref(piece),
            DiskResult::Loaded { .. }
            | DiskResult::Hashed { .. }
            | DiskResult::Rechecked { .. }
            | DiskResult::Spilled { .. }
            | DiskResult::Synced(_)
            | DiskResult::Probed(_)
            | DiskResult::Closed(_) => &[],
        };
        for piece in committed.iter().filter(|piece| piece.result.is_ok()) {
            self.told.set(piece.piece);
        }
        self.open_blocks -= match &done.result {
            DiskResult::Committed { pieces } => pieces.iter().map(|p| p.blocks.len()).sum(),
            DiskResult::Hashed { runs } => runs.iter().map(|run| run.blocks.len()).sum(),
            DiskResult::Loaded { .. } => 1,
            DiskResult::Spilled { blocks, .. } => blocks.len(),
            DiskResult::Verified(_)
            | DiskResult::Rechecked { .. }
            | DiskResult::Synced(_)
            | DiskResult::Probed(_)
            | DiskResult::Closed(_) => 0,
        };
    }

    /// Blocks it holds, bytes it moves, and whether it comes after all before it.
    fn weigh(&self, task: &DiskTask<F::Block>) -> (usize, u64, bool) {
        let piece_len = |piece| u64::from(self.torrent.geometry.piece_len(piece));
        match task {
            DiskTask::Commit { pieces, .. } => (
                pieces.iter().map(|p| p.blocks.len()).sum(),
                pieces.iter().map(|p| piece_len(p.piece)).sum(),
                false,
            ),
            DiskTask::Hash { runs, .. } => {
                let blocks = runs.iter().map(|run| run.blocks.len()).sum();
                (blocks, blocks as u64 * u64::from(BLOCK_LEN) / 8, false)
            }
            DiskTask::Load { range, .. } => (1, u64::from(range.len), false),
            DiskTask::Spill { blocks } => {
                let bytes = blocks.iter().map(|b| u64::from(b.block.len)).sum();
                (blocks.len(), bytes, false)
            }
            DiskTask::Verify { piece, .. } => (0, piece_len(*piece), true),
            DiskTask::Recheck { piece } => (0, piece_len(*piece), false),
            DiskTask::Sync | DiskTask::Probe { .. } | DiskTask::Close => (0, 0, true),
        }
    }

    fn answer(
        &mut self,
        now: Instant,
        task: DiskTask<F::Block>,
        fails: bool,
    ) -> DiskResult<F::Block> {
        match task {
            DiskTask::Hash { mut runs, .. } => {
                for run in &mut runs {
                    self.hash(run);
                }
                DiskResult::Hashed { runs }
            }
            DiskTask::Commit { pieces, .. } => DiskResult::Committed {
                pieces: pieces
                    .into_iter()
                    .map(|piece| self.commit(now, piece, fails))
                    .collect(),
            },
            DiskTask::Load { range, mut buf } => {
                self.must_know(range);
                F::load(&self.torrent, range, 0, &mut buf);
                let result = self.outcome(fails, StorageOp::Read);
                let result = result.map_err(LoadError::Storage);
                DiskResult::Loaded { range, buf, result }
            }
            DiskTask::Spill { blocks } => {
                let bytes = blocks.iter().map(|b| u64::from(b.block.len)).sum();
                let result = self.write(now, bytes, fails);
                if result.is_ok() {
                    for spilled in &blocks {
                        let stored = F::store(&spilled.buf, spilled.block.raw());
                        let place = (spilled.block.piece, spilled.block.index);
                        self.spilled.insert(place, stored);
                    }
                }
                DiskResult::Spilled { blocks, result }
            }
            DiskTask::Verify { piece, digests } => {
                DiskResult::Verified(self.verify(piece, digests, fails))
            }
            DiskTask::Recheck { piece } => {
                let result = self.outcome(fails, StorageOp::Read);
                let result = result.map_err(LoadError::Storage);
                DiskResult::Rechecked { piece, result }
            }
            DiskTask::Sync => {
                let result = self.outcome(fails, StorageOp::Sync);
                DiskResult::Synced(result)
            }
            DiskTask::Probe { needs } => DiskResult::Probed(self.probe(needs, fails)),
            DiskTask::Close => {
                self.closed = true;
                DiskResult::Closed(Ok(()))
            }
        }
    }

    /// Goes on with the hash of a piece, of which only the number of blocks is kept: what they are is
    /// looked at when the piece is whole.
    fn hash(&mut self, run: &mut HashRun<F::Block>) {
        self.hashed_early += run.blocks.len() as u64;
        assert_eq!(
            run.first, run.hashed.blocks,
            "a run begins where the last ended"
        );
        let count = self.torrent.geometry.block_count(run.piece);
        run.hashed.blocks += run.blocks.len() as u32;
        run.hashed.words = [run.piece.get(), run.hashed.blocks, 0, 0, 0];
        assert!(
            run.hashed.blocks < count,
            "the last block is for the commit"
        );
    }

    fn commit(
        &mut self,
        now: Instant,
        commit: PieceCommit<F::Block>,
        fails: bool,
    ) -> Committed<F::Block> {
        let PieceCommit {
            piece,
            blocks,
            hashed,
            digests,
        } = commit;
        assert!(
            hashed.blocks == 0 || hashed.words[..2] == [piece.get(), hashed.blocks],
            "{piece:?} goes on from another hash"
        );
        assert!(!self.have.get(piece), "{piece:?} is committed twice");
        let due: Vec<RawBlock> = self.torrent.blocks(piece).collect();
        assert_eq!(due.len(), blocks.len(), "{piece:?} is committed in part");
        let pairs = blocks.iter().zip(due);
        let parts: Vec<_> = pairs.map(|(block, raw)| F::store(block, raw)).collect();
        let result = if !is_right(&self.torrent, piece, &parts) {
            Err(CommitError::HashMismatch)
        } else {
            let bytes = u64::from(self.torrent.geometry.piece_len(piece));
            self.write(now, bytes, fails).map_err(CommitError::Storage)
        };
        self.committed(piece, blocks, parts, digests, result)
    }

    fn verify(&mut self, piece: PieceIndex, digests: bool, fails: bool) -> Committed<F::Block> {
        let count = self.torrent.geometry.block_count(piece);
        if let Err(error) = self.outcome(fails, StorageOp::Read) {
            return Committed {
                piece,
                blocks: Vec::new(),
                result: Err(CommitError::Storage(error)),
                digests: Vec::new(),
            };
        }
        let parts = (0..count).map(|index| self.spilled.remove(&(piece, index)));
        let parts: Option<Vec<_>> = parts.collect();
        let parts = parts.expect("a piece is verified once all its blocks are on the disk");
        let result = match is_right(&self.torrent, piece, &parts) {
            true => Ok(()),
            false => Err(CommitError::HashMismatch),
        };
        self.committed(piece, Vec::new(), parts, digests, result)
    }

    fn committed(
        &mut self,
        piece: PieceIndex,
        blocks: Vec<F::Block>,
        parts: Vec<Stored>,
        digests: bool,
        result: Result<(), CommitError>,
    ) -> Committed<F::Block> {
        if result.is_ok() {
            self.have.set(piece);
        }
        let forged = parts.iter().filter_map(|part| match part {
            Stored::Phantom(payload) => (payload.taint as HostId).checked_sub(1),
            Stored::Bytes(_) => None,
        });
        self.forgers.extend(forged);
        self.spoiled += u32::from(result == Err(CommitError::HashMismatch));
        let digests = digests || result == Err(CommitError::HashMismatch);
        Committed {
            piece,
            blocks,
            result,
            digests: parts
                .iter()
                .filter(|_| digests)
                .map(Stored::digest)
                .collect(),
        }
    }

    fn write(&mut self, now: Instant, bytes: u64, fails: bool) -> Result<(), StorageError> {
        self.outcome(fails, StorageOp::Write)?;
        if self.room() < bytes {
            self.trouble.get_or_insert(now);
            return Err(error(StorageOp::Write, StorageErrorKind::NoSpace));
        }
        self.written += bytes;
        Ok(())
    }
}

impl<F> Disk<F> {
    fn probe(&self, needs: u64, fails: bool) -> Result<Vec<PieceIndex>, StorageError> {
        self.outcome(fails && !self.profile.looks_well, StorageOp::Probe)?;
        let free = self.room();
        if free >= needs {
            return Ok(Vec::new());
        }
        Err(StorageError {
            room: Some(Room { needs, free }),
            ..error(StorageOp::Probe, StorageErrorKind::NoSpace)
        })
    }

    /// Bytes that may still be written.
    fn room(&self) -> u64 {
        let most = self.profile.full_after.unwrap_or(u64::MAX);
        most.saturating_sub(self.written)
    }

    fn outcome(&self, fails: bool, op: StorageOp) -> Result<(), StorageError> {
        match fails {
            true => Err(error(op, self.profile.fails_as)),
            false => Ok(()),
        }
    }
}

/// Every way of having a block comes up, in no order.
impl<F: Fidelity> FileSource<F::Block> for Disk<F> {
    fn look(&mut self, _: StorageId, range: RawBlock) -> Found {
        self.must_know(range);
        if self.down {
            return Found::Cold;
        }
        match self.rng.below(4) {
            0 => Found::Cold,
            1 => Found::Resident,
            _ => Found::Sendable,
        }
    }

    fn read(&mut self, _: StorageId, range: RawBlock, buf: &mut F::Block) -> bool {
        self.must_know(range);
        let here = !self.rng.one_in(8);
        if here {
            F::load(&self.torrent, range, 0, buf);
        }
        here
    }

    fn read_run(&mut self, id: StorageId, ranges: &[RawBlock], bufs: &mut [F::Block]) -> bool {
        let mut each = ranges.iter().zip(bufs);
        each.all(|(range, buf)| self.read(id, *range, buf))
    }
}

fn error(op: StorageOp, kind: StorageErrorKind) -> StorageError {
    StorageError {
        kind,
        op,
        path: "simulated".to_owned(),
        offset: None,
        detail: "as the seed has it".to_owned(),
        errno: None,
        room: None,
    }
}
