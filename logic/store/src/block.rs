//! The memory that a block travels in, and the pool that bounds how much of it there is.

use std::fmt;

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

/// The alignment that direct I/O asks for, mostly. With 4096 an allocator would put a page of its own
/// between any two.
#[repr(C, align(512))]
struct Page([u8; BLOCK_LEN as usize]);

/// 16 KiB of owned memory, aligned to 512 bytes. It moves; it is never copied.
pub struct BlockBuf(Box<Page>);

impl BlockBuf {
    fn new() -> Self {
        Self(Box::new(Page([0; BLOCK_LEN as usize])))
    }
}

impl AsRef<[u8]> for BlockBuf {
    fn as_ref(&self) -> &[u8] {
        &self.0.0
    }
}

impl AsMut<[u8]> for BlockBuf {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.0.0
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
            made: 0,
            total: total.max(1),
        }
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
        self.made += 1;
        Some(BlockBuf::new())
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
        let mut pool = BlockPool::with_bytes(3 * u64::from(BLOCK_LEN));
        let taken: Vec<_> = std::iter::from_fn(|| pool.take()).collect();
        assert_eq!((taken.len(), pool.free()), (3, 0));
        assert!(
            taken
                .iter()
                .all(|buf| buf.as_ref().as_ptr().addr() % 512 == 0)
        );
        for buf in taken {
            pool.put(buf);
        }
        assert_eq!((pool.free(), pool.made), (3, 3));
    }
}
