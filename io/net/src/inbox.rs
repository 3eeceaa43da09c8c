//! Where the disk's threads leave their answers for the shard.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use torr_store::{BlockBuf, DiskDone};

/// Answers of the disk on their way to the shard. Cloned: the disk pushes, the shard drains.
///
/// Not a channel, because the shard takes all that wait in one move, and is woken only when nothing
/// waited before. It holds at most one answer for each job under way, and the node bounds those.
#[derive(Clone, Default)]
pub struct DiskInbox(Arc<Inner>);

#[derive(Default)]
struct Inner {
    waiting: Mutex<Vec<DiskDone<BlockBuf>>>,
    wake: Notify,
}

impl fmt::Debug for DiskInbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DiskInbox")
    }
}

impl DiskInbox {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Leaves an answer. Never waits for the shard; callable from any thread.
    pub fn push(&self, done: DiskDone<BlockBuf>) {
        let mut waiting = self
            .0
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let was_empty = waiting.is_empty();
        waiting.push(done);
        drop(waiting);
        if was_empty {
            self.0.wake.notify_one();
        }
    }

    /// Waits until something is there.
    pub(crate) async fn ready(&self) {
        self.0.wake.notified().await;
    }

    /// Everything that waits, in the order in which it came. `into` is empty; its memory is used again.
    pub(crate) fn take(&self, into: &mut Vec<DiskDone<BlockBuf>>) {
        debug_assert!(into.is_empty());
        let mut waiting = self
            .0
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut *waiting, into);
    }
}

#[cfg(test)]
mod tests {
    use torr_store::{DiskResult, JobId, StorageId};

    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn a_batch_wakes_once_and_keeps_its_order() {
        let inbox = DiskInbox::new();
        let disk = inbox.clone();
        let pushes = std::thread::spawn(move || {
            for n in 0..100 {
                disk.push(DiskDone {
                    storage: StorageId(0),
                    job: JobId(n),
                    result: DiskResult::Synced(Ok(())),
                });
            }
        });
        let (mut seen, mut batch) = (Vec::new(), Vec::new());
        while seen.len() < 100 {
            inbox.ready().await;
            inbox.take(&mut batch);
            seen.extend(batch.drain(..).map(|done| done.job.0));
        }
        pushes.join().unwrap();
        assert!(seen.iter().copied().eq(0..100));
    }
}
