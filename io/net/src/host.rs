//! What surrounds a shard: the disk, and the people.

use std::os::fd::BorrowedFd;

use torr_base::{Instant, RawBlock};
use torr_node::{News, Node, TorrentKey};
use torr_store::{BlockBuf, DiskJob, FileSource, StorageId};

/// Whoever embeds a shard. It lives on the shard's thread and is called in the middle of turns: nothing
/// here may block.
pub trait Host: Send + 'static {
    /// Where blocks can be had from without a disk job.
    type Files: Files;

    fn files(&mut self) -> &mut Self::Files;

    /// Hands a job to the disk, whose answer goes to the [`DiskInbox`](crate::DiskInbox).
    fn disk(&mut self, job: DiskJob<BlockBuf>);

    /// News of a torrent. The node may be looked at, and told things; what it wants done in turn is done
    /// next.
    fn tell(&mut self, node: &mut Node<BlockBuf>, now: Instant, torrent: TorrentKey, news: News);

    /// Called four times a second, for figures, and for what has to be looked after. What the node wants
    /// done in turn is done next.
    fn observe(&mut self, node: &mut Node<BlockBuf>, now: Instant);
}

/// Files that a socket can be written from.
pub trait Files: FileSource<BlockBuf> {
    /// The file of a range that was found to be sendable, and where in it the range starts.
    fn place(&self, storage: StorageId, range: RawBlock) -> Option<(BorrowedFd<'_>, u64)>;

    /// The kernel cannot send from a file: nothing is to be found sendable from now on.
    fn never_send(&mut self);
}

impl Files for torr_store::NoFiles {
    fn place(&self, _: StorageId, _: RawBlock) -> Option<(BorrowedFd<'_>, u64)> {
        None
    }

    fn never_send(&mut self) {}
}
