//! Jobs for the disk and their answers.

use torr_base::{Block, PieceIndex, RawBlock};

use crate::StorageError;

/// Which torrent's storage a job is for. Given out by whoever opens the storage, never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StorageId(pub u64);

/// Which job an answer is for. Given out by the swarm, unique within its storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct JobId(pub u64);

/// The first eight bytes of a block's SHA-1: enough to see which block of a piece has changed between
/// two attempts, and so who sent the wrong one (G16).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest(pub u64);

/// How far the hash of a piece has come. Only the disk makes and reads it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HashState {
    /// Blocks taken in, from the piece's first on; all of 16 KiB.
    pub blocks: u32,
    /// The hash's inner words after them; of no meaning where there are none.
    pub words: [u32; 5],
}

/// A piece whose blocks are all in memory.
#[derive(Debug)]
pub struct PieceCommit<B> {
    pub piece: PieceIndex,
    /// All blocks of the piece, in order.
    pub blocks: Vec<B>,
    /// How many of them were hashed before.
    pub hashed: HashState,
    /// Whether the answer shall hold the digests although the hash agrees: an earlier attempt failed.
    pub digests: bool,
}

/// The next blocks of an unfinished piece, to be hashed while others are.
#[derive(Debug)]
pub struct HashRun<B> {
    pub piece: PieceIndex,
    /// Before them; in the answer, after them.
    pub hashed: HashState,
    /// Index of the first of them: the first that is not hashed.
    pub first: u32,
    /// In order; all of 16 KiB.
    pub blocks: Vec<B>,
}

/// A block to be written before its piece is verified.
#[derive(Debug)]
pub struct SpillBlock<B> {
    pub block: Block,
    pub buf: B,
}

/// One thing for the disk to do. Jobs of one storage may overtake each other, except that a `Verify`,
/// `Sync`, `Probe` or `Close` comes after every job of its storage that was handed over before it.
#[derive(Debug)]
pub struct DiskJob<B> {
    pub storage: StorageId,
    pub job: JobId,
    pub task: DiskTask<B>,
}

#[derive(Debug)]
pub enum DiskTask<B> {
    /// Hash each piece from memory; write and record those that are right; give all buffers back.
    Commit {
        pieces: Vec<PieceCommit<B>>,
        /// Somebody is likely to ask for them soon: they are better kept where reading is cheap.
        soon: bool,
    },
    /// Hash what has come of unfinished pieces, and give it back.
    Hash {
        runs: Vec<HashRun<B>>,
        /// A `Commit` follows at once, with which they are hashed side by side.
        joined: bool,
    },
    /// Read `range` (at most 16 KiB, inside its piece) of a piece that was committed into the start of
    /// `buf`.
    Load { range: RawBlock, buf: B },
    /// Write blocks of an unfinished piece and record them in the block map. They do not count.
    Spill { blocks: Vec<SpillBlock<B>> },
    /// Hash a piece from disk, all of whose blocks were spilled; record it if it is right, forget its
    /// block map if it is not.
    Verify { piece: PieceIndex, digests: bool },
    /// Hash a piece from disk that was recorded and whose files somebody changed since; strike it from the
    /// record if it is not what it was.
    Recheck { piece: PieceIndex },
    /// Make everything committed so far durable, and set the commit mark.
    Sync,
    /// Something failed: look whether the storage works again and has room for so many bytes. Changes no
    /// file; what is recorded and perhaps not on the disk is hashed again.
    Probe { needs: u64 },
    /// As `Sync`, then let go of files, log and lock. No job of this storage follows.
    Close,
}

/// Why a piece did not get to the disk: the peer's fault or the world's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommitError {
    HashMismatch,
    Storage(StorageError),
}

/// Why a block that was committed cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadError {
    /// Its files were changed, and its piece is not right any more. The record says so already.
    Lost,
    Storage(StorageError),
}

/// What became of one piece of a `Commit` or of a `Verify`.
#[derive(Debug)]
pub struct Committed<B> {
    pub piece: PieceIndex,
    /// All blocks in order, as they came; none for a `Verify`.
    pub blocks: Vec<B>,
    pub result: Result<(), CommitError>,
    /// One for each block, on a mismatch or where they were asked for; else empty.
    pub digests: Vec<Digest>,
}

/// The answer to a [`DiskJob`].
#[derive(Debug)]
pub struct DiskDone<B> {
    pub storage: StorageId,
    pub job: JobId,
    pub result: DiskResult<B>,
}

#[derive(Debug)]
pub enum DiskResult<B> {
    Committed {
        pieces: Vec<Committed<B>>,
    },
    /// As they came, with how far their hashes are now.
    Hashed {
        runs: Vec<HashRun<B>>,
    },
    Loaded {
        range: RawBlock,
        buf: B,
        result: Result<(), LoadError>,
    },
    Spilled {
        blocks: Vec<SpillBlock<B>>,
        result: Result<(), StorageError>,
    },
    Verified(Committed<B>),
    Rechecked {
        piece: PieceIndex,
        result: Result<(), LoadError>,
    },
    Synced(Result<(), StorageError>),
    /// It works. The pieces are not what was recorded, and were struck from the record; of those that were not
    /// finished, the spilled blocks.
    Probed(Result<Vec<PieceIndex>, StorageError>),
    Closed(Result<(), StorageError>),
}
