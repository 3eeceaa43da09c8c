//! Jobs that hash, taken together: their pieces go side by side.

use std::cmp::Reverse;
use std::ops::Range;

use torr_base::BLOCK_LEN;
use torr_hash::{LANES, Sha1Message, Sha1State, sha1_each};
use torr_store::{BlockBuf, DiskResult, DiskTask, HashRun, HashState, JobId, PieceCommit};

use crate::storage::Storage;

/// A job that hashes.
#[derive(Debug)]
pub(crate) enum Hashing {
    Hash {
        job: JobId,
        runs: Vec<HashRun<BlockBuf>>,
        joined: bool,
    },
    Commit {
        job: JobId,
        pieces: Vec<PieceCommit<BlockBuf>>,
        soon: bool,
    },
}

impl Hashing {
    /// The task as such a job, or as it was.
    pub(crate) fn new(job: JobId, task: DiskTask<BlockBuf>) -> Result<Self, DiskTask<BlockBuf>> {
        match task {
            DiskTask::Hash { runs, joined } => Ok(Self::Hash { job, runs, joined }),
            DiskTask::Commit { pieces, soon } => Ok(Self::Commit { job, pieces, soon }),
            DiskTask::Load { .. }
            | DiskTask::Spill { .. }
            | DiskTask::Verify { .. }
            | DiskTask::Recheck { .. }
            | DiskTask::Sync
            | DiskTask::Probe { .. }
            | DiskTask::Close => Err(task),
        }
    }

    pub(crate) fn is_of(task: &DiskTask<BlockBuf>) -> bool {
        matches!(task, DiskTask::Hash { .. } | DiskTask::Commit { .. })
    }

    pub(crate) fn into_task(self) -> (JobId, DiskTask<BlockBuf>) {
        match self {
            Self::Hash { job, runs, joined } => (job, DiskTask::Hash { runs, joined }),
            Self::Commit { job, pieces, soon } => (job, DiskTask::Commit { pieces, soon }),
        }
    }

    /// Pieces that it hashes.
    fn width(&self) -> usize {
        match self {
            Self::Hash { runs, .. } => runs.len(),
            Self::Commit { pieces, .. } => pieces.len(),
        }
    }
}

/// Whether one more job would have lanes left.
pub(crate) fn has_room(jobs: &[Hashing]) -> bool {
    jobs.iter().map(Hashing::width).sum::<usize>() < LANES
}

/// Does the jobs; `answer` hears of each when it is done, those that only hash before anything is written.
pub(crate) fn perform(
    storage: &Storage,
    jobs: Vec<Hashing>,
    answer: &mut dyn FnMut(JobId, DiskResult<BlockBuf>),
) {
    let states = hash(storage, &jobs);
    let mut states = states.into_iter();
    let mut commits = Vec::new();
    for job in jobs {
        match job {
            Hashing::Hash { job, mut runs, .. } => {
                for (run, state) in runs.iter_mut().zip(&mut states) {
                    run.hashed = keep(state);
                }
                answer(job, DiskResult::Hashed { runs });
            }
            Hashing::Commit { job, pieces, soon } => {
                let hashes = states.by_ref().take(pieces.len());
                let hashes: Vec<_> = hashes.map(|state| state.hash()).collect();
                commits.push((job, pieces, hashes, soon));
            }
        }
    }
    for (job, pieces, hashes, soon) in commits {
        let pieces = storage.commit(pieces, &hashes, soon);
        answer(job, DiskResult::Committed { pieces });
    }
}

/// How far each run and each piece is then, in the order of the jobs.
fn hash(storage: &Storage, jobs: &[Hashing]) -> Vec<Sha1State> {
    // The blocks of all messages, one after another, and which of them are whose.
    let mut blocks: Vec<&[u8]> = Vec::new();
    let mut messages: Vec<(Sha1State, Range<usize>, bool)> = Vec::new();
    for job in jobs {
        match job {
            Hashing::Hash { runs, .. } => {
                for run in runs {
                    let begin = blocks.len();
                    blocks.extend(run.blocks.iter().map(AsRef::as_ref));
                    messages.push((restore(run.hashed), begin..blocks.len(), false));
                }
            }
            Hashing::Commit { pieces, .. } => {
                for commit in pieces {
                    let begin = blocks.len();
                    let all = storage.slices(commit.piece, &commit.blocks);
                    blocks.extend(all.iter().skip(commit.hashed.blocks as usize));
                    messages.push((restore(commit.hashed), begin..blocks.len(), true));
                }
            }
        }
    }
    // The longest first: what is short then fills the lanes that become free.
    let mut order: Vec<usize> = (0..messages.len()).collect();
    order.sort_by_key(|index| Reverse(messages[*index].1.len()));
    let parts = order.iter().map(|index| {
        let (from, range, last) = &messages[*index];
        Sha1Message {
            from: *from,
            parts: &blocks[range.clone()],
            last: *last,
        }
    });
    let mut out = vec![Sha1State::default(); messages.len()];
    sha1_each(parts, |place, state| out[order[place]] = state);
    out
}

fn restore(state: HashState) -> Sha1State {
    if state.blocks == 0 {
        return Sha1State::default();
    }
    let bytes = u64::from(state.blocks) * u64::from(BLOCK_LEN);
    Sha1State::from_parts(state.words, bytes)
}

fn keep(state: Sha1State) -> HashState {
    let (words, bytes) = state.to_parts();
    HashState {
        blocks: (bytes / u64::from(BLOCK_LEN)) as u32,
        words,
    }
}
