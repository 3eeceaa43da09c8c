//! Driving the reader with bytes off a socket.

use torr_base::RawBlock;

use super::machine::Step;
use super::{Progress, State, WireReader, WireSink, copy_to};
use crate::WireError;

/// What is offered while no block is in progress, once a read has filled the spill: a seed takes a
/// stream of 17-byte requests, and a block to be skipped has to go somewhere. With 256 bytes that costs
/// 16 times the system calls and half the rate; 16 KiB is no faster. Only a peer that sends in bursts
/// takes the memory.
pub(super) const IDLE_SPILL_LEN: usize = 4096;

/// The least that is offered for the rest of a long message; from there on as much again as has come.
pub(super) const LONG_STEP: usize = 1024;

impl<B: AsMut<[u8]>> WireReader<B> {
    /// Where the next bytes go: the rest of what is in progress, then the spill. Read into them in this
    /// order, as `readv` does, and only after [`Progress::NeedMore`] or on a new reader: then at least
    /// one of them is not empty. At other times both may be, and reading nothing looks like the end of
    /// the stream.
    pub fn read_bufs(&mut self) -> [&mut [u8]; 2] {
        if self.waiting {
            return [&mut [], &mut []];
        }
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
        let [rest, spill] = self.read_bufs().map(|buf| buf.len());
        debug_assert!(n <= rest + spill, "more than was offered");
        let direct = n.min(rest);
        match &mut self.state {
            State::Header | State::Discard { .. } | State::Skip { .. } => {}
            State::Block { filled, .. } => {
                *filled += direct as u32;
                self.counts.payload += direct as u64;
            }
            State::Long { filled, .. } => {
                *filled += direct;
                self.counts.overhead += direct as u64;
            }
        }
        let spilled = (n - direct).min(spill);
        self.end += spilled;
        // More is probably waiting in the socket.
        let full = spilled == spill && !matches!(self.state, State::Block { .. });
        if full && self.spill.len() < IDLE_SPILL_LEN {
            self.spill.resize(IDLE_SPILL_LEN, 0);
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
        loop {
            let step = match self.step(sink)? {
                Step::Payload => self.take_payload(sink),
                step @ (Step::Done | Step::Stop(_)) => step,
            };
            match step {
                Step::Done => {}
                Step::Payload => return Ok(Progress::NeedMore),
                Step::Stop(progress) => return Ok(progress),
            }
        }
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
fn rest_of<B: AsMut<[u8]>>(buf: &mut B, raw: RawBlock, filled: u32) -> &mut [u8] {
    buf.as_mut()
        .get_mut(filled as usize..raw.len as usize)
        .expect("the buffer that the sink gave holds the block")
}
