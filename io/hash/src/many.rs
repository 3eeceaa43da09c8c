//! Messages into lanes: which of them go on together, and for how many blocks.

use crate::kernel::{Chosen, Function};
use crate::lanes::{BLOCK, LANES_MAX};

/// A hash on its way: what whole blocks have been taken in so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Running<const N: usize> {
    pub(crate) words: [u32; N],
    /// Bytes taken in; a multiple of 64.
    pub(crate) bytes: u64,
}

/// A message, or a part of one, that has a lane.
struct Lane<'a, const N: usize> {
    /// Where its result goes.
    index: usize,
    running: Running<N>,
    /// What is being taken in.
    now: &'a [u8],
    /// What comes after it.
    rest: std::slice::Iter<'a, &'a [u8]>,
    /// A block that lies in several parts, and what follows the last part.
    tail: [u8; 2 * BLOCK],
    /// Bytes in `tail`.
    held: usize,
    /// How much of `tail` is to be taken in now: 0, or whole blocks.
    ready: usize,
    /// Whether the end of the message is to be taken in too, and whether that was done.
    finish: bool,
    finished: bool,
}

impl<'a, const N: usize> Lane<'a, N> {
    fn new(index: usize, start: Running<N>, parts: &'a [&'a [u8]], finish: bool) -> Self {
        Self {
            index,
            running: start,
            now: &[],
            rest: parts.iter(),
            tail: [0; 2 * BLOCK],
            held: 0,
            ready: 0,
            finish,
            finished: false,
        }
    }

    /// Sees to it that a whole block is there to be taken in; false at the end.
    fn prepare(&mut self) -> bool {
        loop {
            if self.ready > 0 || (self.held == 0 && self.now.len() >= BLOCK) {
                return true;
            }
            // What is short of a block waits for the next part.
            let take = self.now.len().min(BLOCK - self.held);
            let (head, tail) = self.now.split_at(take);
            self.tail[self.held..self.held + take].copy_from_slice(head);
            self.held += take;
            self.now = tail;
            if self.held == BLOCK {
                (self.ready, self.held) = (BLOCK, 0);
            } else if let Some(next) = self.rest.next() {
                self.now = next;
            } else if self.finish && !self.finished {
                self.pad();
            } else {
                debug_assert!(
                    self.finish || self.held == 0,
                    "a message goes on only after whole blocks"
                );
                return false;
            }
        }
    }

    /// FIPS 180-4, section 5.1.1: a one, zeros, and the length in bits.
    fn pad(&mut self) {
        let bits = (self.running.bytes + self.held as u64) * 8;
        let end = if self.held < BLOCK - 8 {
            BLOCK
        } else {
            2 * BLOCK
        };
        self.tail[self.held] = 0x80;
        self.tail[self.held + 1..end - 8].fill(0);
        self.tail[end - 8..end].copy_from_slice(&bits.to_be_bytes());
        (self.ready, self.held, self.finished) = (end, 0, true);
    }

    /// What can be taken in now, as far as it lies together.
    fn due(&self) -> &[u8] {
        if self.ready > 0 {
            &self.tail[..self.ready]
        } else {
            self.now
        }
    }

    fn took(&mut self, blocks: usize) {
        let bytes = blocks * BLOCK;
        self.running.bytes += bytes as u64;
        if self.ready > 0 {
            self.tail.copy_within(bytes..self.ready, 0);
            self.ready -= bytes;
        } else {
            self.now = &self.now[bytes..];
        }
    }
}

/// One message: from where it goes on, its parts one after another, and whether it ends with them. One that
/// does not end must be a multiple of 64 bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part<'a, const N: usize> {
    pub(crate) start: Running<N>,
    pub(crate) parts: &'a [&'a [u8]],
    pub(crate) finish: bool,
}

/// Takes all of them in, as many side by side as there are lanes, and tells what became of each.
pub(crate) fn run<'a, const N: usize, F: Function<N>>(
    chosen: &Chosen<N>,
    messages: impl ExactSizeIterator<Item = Part<'a, N>>,
    mut done: impl FnMut(usize, Running<N>),
) {
    let mut waiting = messages.enumerate();
    let mut lanes: Vec<Lane<'a, N>> = Vec::with_capacity(LANES_MAX.min(waiting.len()));
    loop {
        while lanes.len() < LANES_MAX
            && let Some((index, part)) = waiting.next()
        {
            lanes.push(Lane::new(index, part.start, part.parts, part.finish));
        }
        lanes.retain_mut(|lane| {
            let goes_on = lane.prepare();
            if !goes_on {
                done(lane.index, lane.running);
            }
            goes_on
        });
        if lanes.is_empty() && waiting.len() == 0 {
            return;
        }
        if lanes.len() < LANES_MAX && waiting.len() > 0 {
            continue;
        }
        step(chosen, &mut lanes);
    }
}

/// As many blocks of all lanes as each has lying together.
fn step<const N: usize>(chosen: &Chosen<N>, lanes: &mut [Lane<'_, N>]) {
    let lengths = lanes.iter().map(|lane| lane.due().len() / BLOCK);
    let blocks = lengths.min().unwrap_or(0);
    let kernel = chosen.kernel(lanes.len());
    for group in lanes.chunks_mut(kernel.lanes) {
        let mut words = [[0; N]; LANES_MAX];
        let mut data: [&[u8]; LANES_MAX] = [&[]; LANES_MAX];
        for ((lane, words), data) in group.iter().zip(&mut words).zip(&mut data) {
            *words = lane.running.words;
            *data = lane.due();
        }
        let count = group.len();
        let mut states = words.each_mut();
        kernel.run(&mut states[..count], &data[..count], blocks);
        for (lane, words) in group.iter_mut().zip(words) {
            lane.running.words = words;
            lane.took(blocks);
        }
    }
}
