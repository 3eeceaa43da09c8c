//! What the swarm asks of the disk and what the disk answers, the blocks that travel between them, and
//! the records of the have-log.
//!
//! A block is in exactly one place at any time: pool, socket reader, assembly, disk job, or upload
//! queue. A job takes its blocks along and its answer brings them back, in success and in failure, so a
//! lost answer is a leak that the simulator finds: **every job is answered exactly once**.
//!
//! Deliberately absent: files, paths on this machine, threads. Those are `io/disk`.
#![forbid(unsafe_code)]

mod block;
mod error;
mod files;
mod job;
mod log;

pub use block::{BlockBuf, BlockPool, BufSource};
pub use error::{Room, StorageError, StorageErrorKind, StorageOp};
pub use files::{FileSource, Found, NoFiles, Payload};
pub use job::{
    CommitError, Committed, Digest, DiskDone, DiskJob, DiskResult, DiskTask, HashRun, HashState,
    JobId, LoadError, PieceCommit, SpillBlock, StorageId,
};
pub use log::{
    BITS, Bits, Damage, FRAME_LEN, FileStamp, LogError, LogHeader, LogImage, NAME_PART_LEN,
    NamePart, Record, add_record, bits_of, encode_record, iter_bits, read_log,
};
