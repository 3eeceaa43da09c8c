//! What one peer asked us for: queued as twelve bytes each, had only when it can be sent.
//!
//! A request leaves the queue when its block can be sent at once, or for the disk if it is cold.

use std::collections::VecDeque;

use torr_base::{BLOCK_LEN, Geometry, RawBlock};

/// Requests that wait at one peer; told to it as `reqq` (BEP 10). 12 bytes each.
pub(crate) const REQUESTS_MAX: usize = 2_000;
/// Blocks being loaded or loaded and not sent: at most 1 MiB for a peer.
const LOADED_MAX: usize = 64;
/// Queued requests that a new one is compared with: with 64, that was half of what a block costs the seeding node.
const LOOK_BACK: usize = 8;

#[derive(Debug)]
pub(crate) struct Upload<B> {
    /// Not asked of the disk yet.
    queue: VecDeque<RawBlock>,
    /// Asked of the disk. `false` where it was cancelled meanwhile.
    loading: Vec<(RawBlock, bool)>,
    ready: VecDeque<(RawBlock, B)>,
}

/// What became of a `cancel`.
#[derive(Debug)]
pub(crate) enum Cancelled<B> {
    Queued,
    Loading,
    Ready(B),
    Unknown,
}

impl<B> Upload<B> {
    pub(crate) fn new() -> Self {
        Self {
            queue: VecDeque::new(),
            loading: Vec::new(),
            ready: VecDeque::new(),
        }
    }

    /// Requests not sent yet.
    pub(crate) fn len(&self) -> usize {
        self.queue.len() + self.loading.len() + self.ready.len()
    }

    /// Blocks in memory for it.
    pub(crate) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Blocks at the disk for it.
    pub(crate) fn loading(&self) -> usize {
        self.loading.len()
    }

    /// Queues a request; true if it is new, false for one that waits already, as far as a short look
    /// back shows: who repeats older ones is served twice. `Err` where the peer has more waiting than it
    /// may.
    pub(crate) fn push(&mut self, range: RawBlock) -> Result<bool, ()> {
        let waits = self.queue.iter().rev().take(LOOK_BACK).any(|r| *r == range)
            || self.loading.iter().any(|(r, live)| *live && *r == range)
            || self.ready.iter().any(|(r, _)| *r == range);
        if waits {
            return Ok(false);
        }
        if self.len() >= REQUESTS_MAX {
            return Err(());
        }
        self.queue.push_back(range);
        Ok(true)
    }

    /// The next request that nothing was done about.
    pub(crate) fn front(&self) -> Option<RawBlock> {
        self.queue.front().copied()
    }

    /// The next requests that follow on each other in the torrent, `most` of them at most, each but the last
    /// one for a whole block.
    pub(crate) fn front_run(&self, most: usize, geometry: &Geometry) -> &[RawBlock] {
        let (queue, _) = self.queue.as_slices();
        let follows = |pair: &&[RawBlock]| match **pair {
            [a, b] => {
                let next = (b.piece, b.offset) == (a.piece, a.offset + a.len);
                let end = a.offset + a.len == geometry.piece_len_max();
                a.len == BLOCK_LEN && (next || end && (b.piece, b.offset) == (a.piece + 1, 0))
            }
            _ => false,
        };
        let rest = queue.windows(2).take(most.saturating_sub(1));
        let count = rest.take_while(follows).count() + 1;
        queue.get(..count.min(most)).unwrap_or_default()
    }

    /// Those requests were read, and are ready to be sent.
    pub(crate) fn take_run(&mut self, bufs: &mut Vec<B>) {
        for buf in bufs.drain(..) {
            if let Some(range) = self.queue.pop_front() {
                self.ready.push_back((range, buf));
            }
        }
    }

    /// Its block is being sent.
    pub(crate) fn pop_front(&mut self) {
        self.queue.pop_front();
    }

    /// Whether there is something to send, or to see about.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.ready.is_empty() || !self.queue.is_empty()
    }

    /// The next request to load, if more may be in memory.
    pub(crate) fn next_load(&mut self) -> Option<RawBlock> {
        if self.loading.len() + self.ready.len() >= LOADED_MAX {
            return None;
        }
        let range = self.queue.pop_front()?;
        self.loading.push((range, true));
        Some(range)
    }

    pub(crate) fn wants_load(&self) -> bool {
        !self.queue.is_empty() && self.loading.len() + self.ready.len() < LOADED_MAX
    }

    /// The disk's answer: gives the buffer back if nobody wants it any more.
    pub(crate) fn loaded(&mut self, range: RawBlock, buf: B) -> Option<B> {
        let place = self.loading.iter().position(|(r, _)| *r == range);
        match place.map(|place| self.loading.swap_remove(place)) {
            Some((_, true)) => {
                self.ready.push_back((range, buf));
                None
            }
            Some((_, false)) | None => Some(buf),
        }
    }

    /// The next block to send, and how many bytes of it.
    pub(crate) fn next_ready(&mut self) -> Option<(RawBlock, B)> {
        self.ready.pop_front()
    }

    pub(crate) fn cancel(&mut self, range: RawBlock) -> Cancelled<B> {
        if let Some(place) = self.queue.iter().position(|r| *r == range) {
            self.queue.remove(place);
            return Cancelled::Queued;
        }
        if let Some(entry) = self
            .loading
            .iter_mut()
            .find(|(r, live)| *live && *r == range)
        {
            entry.1 = false;
            return Cancelled::Loading;
        }
        match self.ready.iter().position(|(r, _)| *r == range) {
            Some(place) => match self.ready.remove(place) {
                Some((_, buf)) => Cancelled::Ready(buf),
                None => Cancelled::Unknown,
            },
            None => Cancelled::Unknown,
        }
    }

    /// Drops every request that `keep` does not name: `dropped` hears of each that will not be
    /// answered, `free` gets the buffers.
    pub(crate) fn retain(
        &mut self,
        keep: impl Fn(RawBlock) -> bool,
        mut dropped: impl FnMut(RawBlock),
        mut free: impl FnMut(B),
    ) {
        self.queue.retain(|range| {
            let kept = keep(*range);
            if !kept {
                dropped(*range);
            }
            kept
        });
        for (range, live) in &mut self.loading {
            if *live && !keep(*range) {
                *live = false;
                dropped(*range);
            }
        }
        for _ in 0..self.ready.len() {
            let Some((range, buf)) = self.ready.pop_front() else {
                break;
            };
            if keep(range) {
                self.ready.push_back((range, buf));
            } else {
                dropped(range);
                free(buf);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(piece: u32) -> RawBlock {
        RawBlock {
            piece,
            offset: 0,
            len: 16_384,
        }
    }

    #[test]
    fn what_follows_on_each_other_is_a_run() {
        let geometry = Geometry::new(3 * 65_536 + 100, 65_536).unwrap();
        let block = |piece, index: u32, len| RawBlock {
            piece,
            offset: index * BLOCK_LEN,
            len,
        };
        let whole = |piece, index| block(piece, index, BLOCK_LEN);
        let mut up: Upload<u32> = Upload::new();
        assert!(up.front_run(32, &geometry).is_empty());
        let asked = [
            whole(1, 2),
            whole(1, 3),
            whole(2, 0),
            whole(2, 1),
            whole(2, 3),
            block(3, 0, 100),
            whole(0, 0),
            block(0, 1, 5),
            whole(0, 2),
        ];
        asked
            .iter()
            .for_each(|range| assert!(up.push(*range).is_ok()));
        assert_eq!(up.front_run(3, &geometry), &asked[..3]);
        for run in [4, 2, 2, 1] {
            assert_eq!(up.front_run(32, &geometry).len(), run, "{:?}", up.front());
            (0..run).for_each(|_| up.pop_front());
        }
        assert!(up.front_run(0, &geometry).is_empty());
    }

    #[test]
    fn a_cancelled_load_gives_its_buffer_back() {
        let mut up = Upload::new();
        assert_eq!(up.push(range(1)), Ok(true));
        assert_eq!(up.push(range(1)), Ok(false));
        assert_eq!(up.next_load(), Some(range(1)));
        assert!(matches!(up.cancel(range(1)), Cancelled::Loading));
        assert_eq!(up.loaded(range(1), 'b'), Some('b'));
        assert_eq!(up.len(), 0);
    }

    #[test]
    fn queue_and_memory_are_bounded() {
        let mut up: Upload<char> = Upload::new();
        for piece in 0..REQUESTS_MAX as u32 {
            assert_eq!(up.push(range(piece)), Ok(true));
        }
        assert_eq!(up.push(range(9_999)), Err(()));
        assert_eq!(std::iter::from_fn(|| up.next_load()).count(), LOADED_MAX);
        assert!(!up.wants_load());
    }
}
