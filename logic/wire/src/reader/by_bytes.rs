//! Driving the reader with bytes off a socket.

use torr_base::RawBlock;

use super::ahead::HEADER_LEN;
use super::machine::Step;
use super::{Landing, Progress, ReadBufs, State, WireReader, WireSink, copy_to};
use crate::WireError;

/// What is offered while no block is in progress, once a read has filled the spill: a seed takes a
/// stream of 17-byte requests, and a block to be skipped has to go somewhere. With 256 bytes that costs
/// 16 times the system calls and half the rate; 16 KiB is no faster. Only a peer that sends in bursts
/// takes the memory.
pub(super) const IDLE_SPILL_LEN: usize = 4096;

/// The least that is offered for the rest of a long message; from there on as much again as has come.
pub(super) const LONG_STEP: usize = 1024;

impl<B: AsMut<[u8]>> WireReader<B> {
    /// Whether [`Self::expect`] is of use: what is read next begins with the rest of a block, or a header.
    #[must_use]
    pub fn may_expect(&self) -> bool {
        let begins = match self.state {
            State::Header | State::Block { .. } => self.start == self.end,
            State::Discard { .. } | State::Skip { .. } | State::Long { .. } => false,
        };
        begins && self.ahead.held() == 0
    }

    /// This block is likely to come next, after those that were named before: where it does, it lands in
    /// `buf` by the same read. The buffers that were not needed are given to [`WireSink::spare`] by
    /// [`Self::process`].
    pub fn expect(&mut self, raw: RawBlock, buf: B) {
        self.ahead.push(raw, buf);
    }

    /// Where the next bytes go: the rest of what is in progress, then the expected blocks, or the spill. Read
    /// into them in this order, as `readv` does, and only after [`Progress::NeedMore`] or on a new reader:
    /// then there is at least one. At other times there may be none, and reading nothing looks like the end
    /// of the stream.
    pub fn read_bufs(&mut self) -> ReadBufs<'_, B> {
        if self.waiting {
            return ReadBufs::plain([&mut [], &mut []]);
        }
        if self.ahead.held() == 0 {
            return ReadBufs::plain(self.plain_bufs());
        }
        let rest = match &mut self.state {
            State::Block { raw, buf, filled } if !self.ahead.has_bytes() => {
                rest_of(buf, *raw, *filled)
            }
            State::Header
            | State::Block { .. }
            | State::Discard { .. }
            | State::Skip { .. }
            | State::Long { .. } => Default::default(),
        };
        ReadBufs::ahead(rest, &mut self.ahead)
    }

    /// The rest of what is in progress, and the spill.
    fn plain_bufs(&mut self) -> [&mut [u8]; 2] {
        let room = self.make_room();
        let spill = self.spill.get_mut(self.end..room).unwrap_or_default();
        let rest = match &mut self.state {
            State::Header | State::Discard { .. } | State::Skip { .. } => Default::default(),
            State::Block { raw, buf, filled } => rest_of(buf, *raw, *filled),
            // What is in the spill comes first.
            State::Long { .. } if self.end > 0 => Default::default(),
            State::Long {
                len, body, filled, ..
            } => {
                if body.len() == *filled {
                    let more = LONG_STEP.max(*filled).min(*len as usize - *filled);
                    body.reserve_exact(more);
                    body.resize(*filled + more, 0);
                }
                body.get_mut(*filled..).unwrap_or_default()
            }
        };
        [rest, spill]
    }

    /// `n` bytes were read into [`Self::read_bufs`], and decrypted there if the stream is encrypted.
    pub fn advance(&mut self, n: usize) {
        if self.ahead.held() > 0 {
            let rest = match self.state {
                State::Block { raw, filled, .. } if !self.ahead.has_bytes() => raw.len - filled,
                State::Header
                | State::Block { .. }
                | State::Discard { .. }
                | State::Skip { .. }
                | State::Long { .. } => 0,
            };
            let direct = n.min(rest as usize);
            self.arrived(direct);
            self.ahead.arrived(n - direct);
            return;
        }
        let [rest, spill] = self.plain_bufs().map(|buf| buf.len());
        debug_assert!(n <= rest + spill, "more than was offered");
        let direct = n.min(rest);
        self.arrived(direct);
        let spilled = (n - direct).min(spill);
        self.end += spilled;
        // More is probably waiting in the socket.
        let full = spilled == spill && !matches!(self.state, State::Block { .. });
        if full && self.spill.len() < IDLE_SPILL_LEN {
            self.spill.resize(IDLE_SPILL_LEN, 0);
        }
    }

    /// So many bytes of what is in progress are where they belong.
    fn arrived(&mut self, n: usize) {
        match &mut self.state {
            State::Header | State::Discard { .. } | State::Skip { .. } => {}
            State::Block { filled, .. } => {
                *filled += n as u32;
                self.counts.payload += n as u64;
            }
            State::Long { filled, .. } => {
                *filled += n;
                self.counts.overhead += n as u64;
            }
        }
    }

    /// Gives what has arrived to the sink.
    ///
    /// # Errors
    /// [`WireError`] where no further byte can be understood; the same again if called again.
    ///
    /// # Panics
    /// If a buffer that the sink gave is shorter than its block.
    pub fn process(&mut self, sink: &mut impl WireSink<B>) -> Result<Progress, WireError> {
        let progress = self.process_all(sink);
        while let Some(buf) = self.ahead.take_spare() {
            sink.spare(buf);
        }
        progress
    }

    fn process_all(&mut self, sink: &mut impl WireSink<B>) -> Result<Progress, WireError> {
        loop {
            let step = match self.take_landed(sink) {
                Some(step) => step,
                None => match self.step(sink)? {
                    Step::Payload => self.take_payload(sink),
                    step @ (Step::Done | Step::Stop(_)) => step,
                },
            };
            match step {
                Step::Done => {}
                Step::Payload | Step::Stop(Progress::NeedMore) => {
                    if !self.take_strayed(sink) {
                        return Ok(Progress::NeedMore);
                    }
                }
                Step::Stop(progress @ (Progress::Waiting | Progress::Broke)) => {
                    return Ok(progress);
                }
            }
        }
    }

    /// The next block, where it lies in the slot that was meant for it.
    fn take_landed(&mut self, sink: &mut impl WireSink<B>) -> Option<Step> {
        if self.start < self.end || !matches!(self.state, State::Header) {
            return None;
        }
        let (raw, buf, filled) = self.ahead.landed()?;
        self.counts.overhead += HEADER_LEN as u64;
        let landing = sink.begin_block(raw, Some(buf));
        debug_assert!(!matches!(landing, Landing::Wait), "it has its buffer");
        match landing {
            Landing::Into(buf) => {
                self.counts.payload += u64::from(filled);
                self.state = State::Block { raw, buf, filled };
            }
            Landing::Discard | Landing::Wait => {
                self.counts.discarded += u64::from(filled);
                self.state = State::Discard { raw, filled };
            }
        }
        Some(match filled == raw.len {
            true => self.end_block(sink),
            false => Step::Done,
        })
    }

    /// Copies what lies in a slot and is not what was expected there to where it belongs. False if there is
    /// nothing.
    fn take_strayed(&mut self, sink: &mut impl WireSink<B>) -> bool {
        if !self.ahead.has_bytes() {
            return false;
        }
        let into_block = matches!(self.state, State::Block { .. }) && self.start == self.end;
        let n = match &mut self.state {
            State::Block { raw, buf, filled } if into_block => {
                let n = copy_to(rest_of(buf, *raw, *filled), self.ahead.bytes());
                *filled += n as u32;
                self.counts.payload += n as u64;
                n
            }
            State::Header
            | State::Block { .. }
            | State::Discard { .. }
            | State::Skip { .. }
            | State::Long { .. } => {
                let room = self.make_room();
                let spill = self.spill.get_mut(self.end..room).unwrap_or_default();
                let n = copy_to(spill, self.ahead.bytes());
                self.end += n;
                n
            }
        };
        debug_assert!(n > 0, "there is room");
        if let Some(buf) = self.ahead.consume(n) {
            sink.spare(buf);
        }
        n > 0
    }

    /// Moves payload from the spill to the block in progress, and the block to the sink.
    fn take_payload(&mut self, sink: &mut impl WireSink<B>) -> Step {
        let arrived = self.spill.get(self.start..self.end).unwrap_or_default();
        let (n, whole) = match &mut self.state {
            State::Header | State::Skip { .. } | State::Long { .. } => return Step::Done,
            State::Block { raw, buf, filled } => {
                let n = copy_to(rest_of(buf, *raw, *filled), arrived);
                *filled += n as u32;
                self.counts.payload += n as u64;
                (n, *filled == raw.len)
            }
            State::Discard { raw, filled } => {
                let n = arrived.len().min((raw.len - *filled) as usize);
                *filled += n as u32;
                self.counts.discarded += n as u64;
                (n, *filled == raw.len)
            }
        };
        self.start += n;
        if whole {
            self.end_block(sink)
        } else {
            Step::Payload
        }
    }
}

/// The part of the buffer that the block has yet to fill.
pub(super) fn rest_of<B: AsMut<[u8]>>(buf: &mut B, raw: RawBlock, filled: u32) -> &mut [u8] {
    buf.as_mut()
        .get_mut(filled as usize..raw.len as usize)
        .expect("the buffer that the sink gave holds the block")
}
