//! What a driver can take from files without waiting for a disk.

use torr_base::RawBlock;

use crate::StorageId;

/// How a range of a torrent can be had at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The driver can have it sent from where it lies: whole, in one file, in memory, and long unchanged.
    Sendable,
    /// [`FileSource::read`] gives it, most likely.
    Resident,
    /// Only a [`DiskTask::Load`](crate::DiskTask::Load) brings it.
    Cold,
}

/// Files as they are in the memory of the machine. Nothing here waits; what would have to is said to be
/// cold. Only ranges of pieces that were verified are asked for.
pub trait FileSource<B> {
    /// Where the range is. What is found to be sendable is so until the driver has sent it in the same
    /// turn.
    fn look(&mut self, storage: StorageId, range: RawBlock) -> Found;

    /// Reads the range into the start of `buf`. False where that is not possible at once.
    fn read(&mut self, storage: StorageId, range: RawBlock, buf: &mut B) -> bool;

    /// The same for ranges that follow on each other in the torrent, each but the last one a whole block,
    /// into a buffer each. False where not all of them can be had at once; the buffers then hold anything.
    fn read_run(&mut self, storage: StorageId, ranges: &[RawBlock], bufs: &mut [B]) -> bool;
}

/// Has no files: everything is loaded by a disk job.
#[derive(Clone, Copy, Debug)]
pub struct NoFiles;

impl<B> FileSource<B> for NoFiles {
    fn look(&mut self, _: StorageId, _: RawBlock) -> Found {
        Found::Cold
    }

    fn read(&mut self, _: StorageId, _: RawBlock, _: &mut B) -> bool {
        false
    }

    fn read_run(&mut self, _: StorageId, _: &[RawBlock], _: &mut [B]) -> bool {
        false
    }
}

/// The payload of a block on its way to a peer.
#[derive(Debug)]
pub enum Payload<B> {
    /// At the start of this buffer, which is to be given back.
    Memory(B),
    /// In its file.
    File,
}
