//! From a job to its answer.

use torr_store::{
    BlockBuf, CommitError, Committed, DiskResult, DiskTask, LoadError, PieceCommit, StorageError,
    StorageErrorKind, StorageOp,
};

use crate::errno::refused;
use crate::storage::Storage;

pub(crate) fn perform(storage: &Storage, task: DiskTask<BlockBuf>) -> DiskResult<BlockBuf> {
    match task {
        // Those that hash go together, by `batch`.
        DiskTask::Commit { .. } | DiskTask::Hash { .. } => {
            debug_assert!(false, "{task:?} goes in a batch");
            not_open(task)
        }
        DiskTask::Load { range, mut buf } => DiskResult::Loaded {
            range,
            result: storage.load(range, &mut buf),
            buf,
        },
        DiskTask::Spill { blocks } => DiskResult::Spilled {
            result: storage.spill(&blocks),
            blocks,
        },
        DiskTask::Verify { piece, digests } => DiskResult::Verified(storage.verify(piece, digests)),
        DiskTask::Recheck { piece } => DiskResult::Rechecked {
            piece,
            result: storage.recheck(piece),
        },
        DiskTask::Sync => DiskResult::Synced(storage.mark()),
        DiskTask::Probe { needs } => DiskResult::Probed(storage.probe(needs)),
        DiskTask::Close => DiskResult::Closed(storage.close()),
    }
}

/// The answer to a job for a storage that is not open; a `Close` of one has nothing to do.
pub(crate) fn not_open(task: DiskTask<BlockBuf>) -> DiskResult<BlockBuf> {
    match task {
        DiskTask::Commit { pieces, .. } => DiskResult::Committed {
            pieces: pieces.into_iter().map(unwritten).collect(),
        },
        DiskTask::Hash { runs, .. } => DiskResult::Hashed { runs },
        DiskTask::Load { range, buf } => DiskResult::Loaded {
            range,
            buf,
            result: Err(LoadError::Storage(closed(StorageOp::Read))),
        },
        DiskTask::Recheck { piece } => DiskResult::Rechecked {
            piece,
            result: Err(LoadError::Storage(closed(StorageOp::Check))),
        },
        DiskTask::Spill { blocks } => DiskResult::Spilled {
            blocks,
            result: Err(closed(StorageOp::Write)),
        },
        DiskTask::Verify { piece, .. } => DiskResult::Verified(Committed {
            piece,
            blocks: Vec::new(),
            result: Err(CommitError::Storage(closed(StorageOp::Check))),
            digests: Vec::new(),
        }),
        DiskTask::Sync => DiskResult::Synced(Err(closed(StorageOp::Sync))),
        DiskTask::Probe { .. } => DiskResult::Probed(Err(closed(StorageOp::Probe))),
        DiskTask::Close => DiskResult::Closed(Ok(())),
    }
}

fn unwritten(commit: PieceCommit<BlockBuf>) -> Committed<BlockBuf> {
    Committed {
        piece: commit.piece,
        blocks: commit.blocks,
        result: Err(CommitError::Storage(closed(StorageOp::Write))),
        digests: Vec::new(),
    }
}

fn closed(op: StorageOp) -> StorageError {
    refused(
        StorageErrorKind::Missing,
        op,
        "the torrent's files",
        "they are not open",
    )
}
