//! The memory that a block travels in, and the pool that bounds how much of it there is.

use std::fmt;

use bytes::BytesMut;
use torr_base::BLOCK_LEN;

/// Where blocks come from and go back to. An empty source is the back-pressure: the reader stops its
/// socket instead of growing.
pub trait BufSource<B> {
    /// A buffer, or `None` while all are in use.
    fn take(&mut self) -> Option<B>;
    /// Gives one back.
    fn put(&mut self, buf: B);
    /// How many [`Self::take`] would give in a row.
    fn free(&self) -> usize;
    /// How many there are in all, in use or not.
    fn total(&self) -> usize;
}

/// Direct I/O asks for 512 or less of most devices, but a page is what they transfer: from memory that begins within one
/// a device makes several transfers of one, or copies, and takes up to six times as long.
const ALIGN: usize = 4096;
const LEN: usize = BLOCK_LEN as usize;
/// Blocks that are allocated at a time: one by one, each would take another page for the allocator's own.
const SLAB_BLOCKS: usize = 64;

/// 16 KiB of owned memory, aligned to a page of 4096 bytes. It moves; it is never copied.
///
/// Boxed, since it moves many times in its life and its handle is four words long: 330 instructions a block.
pub struct BlockBuf(Box<BytesMut>);

impl AsRef<[u8]> for BlockBuf {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl AsMut<[u8]> for BlockBuf {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl fmt::Debug for BlockBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BlockBuf")
    }
}

/// At most `total` blocks, made when first needed and then used again, last returned first (it is the
/// one whose memory is warm).
#[derive(Debug)]
pub struct BlockPool {
    idle: Vec<BlockBuf>,
    /// What is left of the newest slab.
    slab: BytesMut,
    made: usize,
    total: usize,
}

impl BlockPool {
    /// A pool of at most `bytes`, and at least one block.
    #[must_use]
    pub fn with_bytes(bytes: u64) -> Self {
        let total = usize::try_from(bytes / u64::from(BLOCK_LEN)).unwrap_or(usize::MAX);
        Self {
            idle: Vec::new(),
            slab: BytesMut::new(),
            made: 0,
            total: total.max(1),
        }
    }

    /// The next block of the slab, or of a new one. Its memory is not touched before it is used.
    fn make(&mut self) -> BlockBuf {
        if self.slab.len() < LEN {
            let blocks = SLAB_BLOCKS.min(self.total - self.made);
            self.slab = BytesMut::zeroed(blocks * LEN + ALIGN);
            let before = self.slab.as_ptr().addr().wrapping_neg() % ALIGN;
            drop(self.slab.split_to(before));
        }
        self.made += 1;
        BlockBuf(Box::new(self.slab.split_to(LEN)))
    }
}

impl BufSource<BlockBuf> for BlockPool {
    fn take(&mut self) -> Option<BlockBuf> {
        if let Some(buf) = self.idle.pop() {
            return Some(buf);
        }
        if self.made == self.total {
            return None;
        }
        Some(self.make())
    }

    fn put(&mut self, buf: BlockBuf) {
        debug_assert!(self.idle.len() < self.made, "a block came back twice");
        self.idle.push(buf);
    }

    fn free(&self) -> usize {
        self.total - self.made + self.idle.len()
    }

    fn total(&self) -> usize {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_is_bounded_and_used_again() {
        for count in [1, 3, SLAB_BLOCKS, 2 * SLAB_BLOCKS + 1] {
            let mut pool = BlockPool::with_bytes(count as u64 * u64::from(BLOCK_LEN));
            assert_eq!((pool.free(), pool.total()), (count, count));
            let mut taken: Vec<_> = std::iter::from_fn(|| pool.take()).collect();
            assert_eq!((taken.len(), pool.free()), (count, 0));
            for (buf, fill) in taken.iter_mut().zip(0..) {
                assert_eq!(buf.as_ref().len(), LEN);
                assert!(buf.as_ref().as_ptr().addr().is_multiple_of(ALIGN));
                buf.as_mut().fill(fill);
            }
            for (buf, fill) in taken.iter().zip(0..) {
                assert!(
                    buf.as_ref().iter().all(|byte| *byte == fill),
                    "two share memory"
                );
            }
            for buf in taken {
                pool.put(buf);
            }
            assert_eq!((pool.free(), pool.made), (count, count));
        }
    }
}
