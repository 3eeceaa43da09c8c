//! What surrounds a shard: the disk, and the people.

use torr_base::Instant;
use torr_node::{News, Node, TorrentKey};
use torr_store::{BlockBuf, DiskJob};

/// Whoever embeds a shard. It lives on the shard's thread and is called in the middle of turns: nothing
/// here may block.
pub trait Host: Send + 'static {
    /// Hands a job to the disk, whose answer goes to the [`DiskInbox`](crate::DiskInbox).
    fn disk(&mut self, job: DiskJob<BlockBuf>);

    /// News of a torrent. The node may be looked at, and told things; what it wants done in turn is done
    /// next.
    fn tell(&mut self, node: &mut Node<BlockBuf>, now: Instant, torrent: TorrentKey, news: News);

    /// Called four times a second, for figures.
    fn observe(&mut self, node: &Node<BlockBuf>, now: Instant);
}
