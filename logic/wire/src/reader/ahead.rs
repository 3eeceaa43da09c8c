//! Blocks that are expected next, and what is done when something else comes.
//!
//! ```text
//!   readv ─► rest of the block │ header, payload │ header, payload │ …
//!                              └─ slot ──────────┴─ slot ──────────┘
//! ```
//!
//! A peer answers requests in the order of asking, mostly, so the next headers are known. Each expected block
//! is a slot: room for its header, and a buffer for its payload. Where the header that arrives is the one
//! that was expected, the block lies where it stays. Where it is not, all that lies in slots is a piece of the
//! stream like any other, and is copied to where it belongs.

use std::collections::{VecDeque, vec_deque};

use torr_base::{BLOCK_LEN, RawBlock};

use super::by_bytes::rest_of;
use crate::piece_header;

pub(super) const HEADER_LEN: usize = 13;

#[derive(Debug)]
struct Slot<B> {
    raw: RawBlock,
    /// What arrives where its header should be.
    header: [u8; HEADER_LEN],
    buf: B,
}

impl<B> Slot<B> {
    fn len(&self) -> usize {
        HEADER_LEN + self.raw.len as usize
    }
}

/// The slots, of which the bytes `at..at + len` have arrived and are not processed; `at` is in the first.
#[derive(Debug)]
pub(super) struct Ahead<B> {
    slots: VecDeque<Slot<B>>,
    at: usize,
    len: usize,
}

impl<B> Ahead<B> {
    pub(super) fn new() -> Self {
        Self {
            slots: VecDeque::new(),
            at: 0,
            len: 0,
        }
    }

    pub(super) fn push(&mut self, raw: RawBlock, buf: B) {
        debug_assert!((1..=BLOCK_LEN).contains(&raw.len), "no block is so long");
        let header = [0; HEADER_LEN];
        self.slots.push_back(Slot { raw, header, buf });
    }

    /// How many buffers it holds.
    pub(super) fn held(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn has_bytes(&self) -> bool {
        self.len > 0
    }

    /// So many more bytes are in the slots.
    pub(super) fn arrived(&mut self, n: usize) {
        self.len += n;
        debug_assert!(
            self.at + self.len <= self.slots.iter().map(Slot::len).sum(),
            "more than was offered"
        );
    }

    /// The next block, if it is the expected one: its buffer, and how many bytes of it are there.
    pub(super) fn landed(&mut self) -> Option<(RawBlock, B, u32)> {
        let slot = self.slots.front()?;
        if self.at > 0 || self.len < HEADER_LEN || slot.header != piece_header(slot.raw) {
            return None;
        }
        let Slot { raw, buf, .. } = self.slots.pop_front()?;
        let filled = (self.len - HEADER_LEN).min(raw.len as usize);
        self.len -= HEADER_LEN + filled;
        Some((raw, buf, filled as u32))
    }

    /// A buffer that nothing has arrived in, or whose bytes are of no more use.
    pub(super) fn take_spare(&mut self) -> Option<B> {
        if self.len == 0 {
            self.at = 0;
            // In the order in which they would be taken from a stack again.
            return self.slots.pop_back().map(|slot| slot.buf);
        }
        let before: usize = self.slots.iter().rev().skip(1).map(Slot::len).sum();
        let idle = self.at + self.len <= before;
        idle.then(|| self.slots.pop_back().map(|slot| slot.buf))?
    }

    /// The same, whatever is in it: the connection ends.
    pub(super) fn take_any(&mut self) -> Option<B> {
        (self.at, self.len) = (0, 0);
        self.take_spare()
    }
}

impl<B: AsMut<[u8]>> Ahead<B> {
    /// The next bytes that lie side by side.
    pub(super) fn bytes(&mut self) -> &[u8] {
        let (at, len) = (self.at, self.len);
        let Some(Slot { raw, header, buf }) = self.slots.front_mut() else {
            return &[];
        };
        let part = match at.checked_sub(HEADER_LEN) {
            None => header.get(at..).unwrap_or_default(),
            Some(at) => rest_of(buf, *raw, at as u32),
        };
        part.get(..len.min(part.len())).unwrap_or_default()
    }

    /// So many of [`Self::bytes`] were copied. Returns the buffer that became empty by it.
    pub(super) fn consume(&mut self, n: usize) -> Option<B> {
        debug_assert!(n <= self.len);
        self.at += n;
        self.len -= n;
        let whole = self.slots.front()?.len();
        if self.at < whole {
            return None;
        }
        self.at = 0;
        self.slots.pop_front().map(|slot| slot.buf)
    }
}

/// Where the next bytes of a stream go, one buffer after another, none of them empty.
#[derive(Debug)]
pub struct ReadBufs<'a, B> {
    first: &'a mut [u8],
    slots: vec_deque::IterMut<'a, Slot<B>>,
    payload: &'a mut [u8],
    last: &'a mut [u8],
    /// Bytes of the slots that have arrived.
    skip: usize,
    limit: usize,
}

impl<'a, B> ReadBufs<'a, B> {
    /// These two.
    #[must_use]
    pub fn plain(bufs: [&'a mut [u8]; 2]) -> Self {
        let [first, last] = bufs;
        Self {
            first,
            slots: vec_deque::IterMut::default(),
            payload: &mut [],
            last,
            skip: 0,
            limit: usize::MAX,
        }
    }

    /// This one, and what of the slots has not arrived.
    pub(super) fn ahead(first: &'a mut [u8], ahead: &'a mut Ahead<B>) -> Self {
        Self {
            skip: ahead.at + ahead.len,
            slots: ahead.slots.iter_mut(),
            ..Self::plain([first, &mut []])
        }
    }

    /// No more than so many bytes.
    #[must_use]
    pub fn limit(self, bytes: usize) -> Self {
        Self {
            limit: bytes,
            ..self
        }
    }
}

impl<'a, B: AsMut<[u8]>> ReadBufs<'a, B> {
    /// How many bytes there is room for.
    #[must_use]
    pub fn room(self) -> usize {
        self.map(|buf| buf.len()).sum()
    }

    /// Copies as much of `bytes` as there is room for; how much that was.
    pub fn put(self, bytes: &[u8]) -> usize {
        let mut n = 0;
        for buf in self {
            n += super::copy_to(buf, bytes.get(n..).unwrap_or_default());
        }
        n
    }

    fn whole(&mut self) -> Option<&'a mut [u8]> {
        if !self.first.is_empty() {
            return Some(std::mem::take(&mut self.first));
        }
        if !self.payload.is_empty() {
            return Some(std::mem::take(&mut self.payload));
        }
        if let Some(Slot { raw, header, buf }) = self.slots.next() {
            self.payload = rest_of(buf, *raw, 0);
            return Some(header);
        }
        let last = std::mem::take(&mut self.last);
        (!last.is_empty()).then_some(last)
    }
}

impl<'a, B: AsMut<[u8]>> Iterator for ReadBufs<'a, B> {
    type Item = &'a mut [u8];

    fn next(&mut self) -> Option<&'a mut [u8]> {
        loop {
            if self.limit == 0 {
                return None;
            }
            let whole = self.whole()?;
            let skipped = self.skip.min(whole.len());
            self.skip -= skipped;
            let (_, rest) = whole.split_at_mut(skipped);
            let n = rest.len().min(self.limit);
            self.limit -= n;
            if n > 0 {
                return rest.get_mut(..n);
            }
        }
    }
}
