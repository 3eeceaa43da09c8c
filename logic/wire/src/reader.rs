//! Reads messages off a stream that may be cut anywhere.
//!
//! ```text
//!                    ┌ spill ────────────────┐
//!   socket ─ readv ─►│ headers and messages  ├─► WireSink::message
//!        │           └──────────┬────────────┘
//!        │                13-byte header ─────► WireSink::begin_block ─► Landing
//!        ├──────────► rest of the block (B) ──► WireSink::end_block
//!        └──────────► expected blocks (B)
//! ```
//!
//! Invariants:
//!
//! - what comes out does not depend on how the stream was cut;
//! - at most [`SPILL_LEN`] bytes of a block are copied when it follows another block, and none of one that
//!   was expected;
//! - after [`Progress::NeedMore`] there is room to read into;
//! - a message is given to the sink exactly once, however often the sink breaks;
//! - nothing is allocated for a block, and for a long message never more than twice what has come.

mod ahead;
mod by_bytes;
mod by_messages;
mod machine;

use std::ops::ControlFlow;

use torr_base::RawBlock;

use crate::{Limits, Message};
use ahead::Ahead;
pub use ahead::ReadBufs;

/// How much of the next messages one `readv` may bring along with a block: a `piece` header (13 bytes)
/// and a few `have`s. More would be copied twice, less would cost a system call for each header: with
/// eight `have`s between blocks, 64 bytes take two calls a block over loopback, and 256 or 4096 take one.
const SPILL_LEN: usize = 256;

/// What the reader calls as things come in.
pub trait WireSink<B> {
    /// A block's header has arrived: say where its payload goes. Its length is between 1 and
    /// [`BLOCK_LEN`](torr_base::BLOCK_LEN). `ready` is the buffer of a block that was expected
    /// ([`WireReader::expect`]) and has landed there, at least in part: it is the one to go on with, or, with
    /// [`Landing::Discard`], the sink's again.
    fn begin_block(&mut self, raw: RawBlock, ready: Option<B>) -> Landing<B>;

    /// `buf[..raw.len]` holds the payload. Break stops the reader.
    fn end_block(&mut self, raw: RawBlock, buf: B) -> ControlFlow<()>;

    /// Any other message. Break stops the reader.
    fn message(&mut self, message: Message<'_>) -> ControlFlow<()>;

    /// The buffer of an expected block that did not come.
    fn spare(&mut self, buf: B);
}

/// Where the payload of a block goes.
#[derive(Debug)]
pub enum Landing<B> {
    /// Into this, which must hold at least the length of the block.
    Into(B),
    /// Nobody wants it: skip the bytes, spend no buffer.
    Discard,
    /// No buffer is free: stop reading this peer and let TCP push back. The header stays unread and
    /// [`WireSink::begin_block`] is called again with it.
    Wait,
}

/// Why [`WireReader::process`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Progress {
    /// All that has arrived is processed: read on.
    NeedMore,
    /// The sink said [`Landing::Wait`]: do not read; process again when there may be a buffer.
    Waiting,
    /// The sink broke. Process again, without reading, to go on with what follows.
    Broke,
}

/// Bytes that were processed since they were last taken. The three add up to all bytes of the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Payload of blocks that landed, or are landing, in a buffer.
    pub payload: u64,
    /// Payload of blocks that nobody wanted.
    pub discarded: u64,
    /// All the rest: headers, and messages other than `piece`.
    pub overhead: u64,
}

/// Turns a stream into calls of a [`WireSink`], holding the block in progress and at most one message.
///
/// One reader is driven in one of two ways, by the same machine underneath:
///
/// - by bytes: [`Self::read_bufs`], [`Self::advance`], [`Self::process`], where `B` is a buffer;
/// - by messages: [`Self::feed`] and [`Self::finish_block_with`], where `B` is whatever a simulator
///   takes for a block and no payload exists.
///
/// What comes out does not depend on how the stream was cut.
#[derive(Debug)]
pub struct WireReader<B> {
    limits: Limits,
    state: State<B>,
    /// Bytes that have arrived and are not processed: `spill[start..end]`.
    spill: Vec<u8>,
    start: usize,
    end: usize,
    /// What is expected after the state, or has arrived there; after the spill in any case.
    ahead: Ahead<B>,
    waiting: bool,
    counts: Counts,
}

/// What the next byte of the stream is part of.
#[derive(Debug)]
enum State<B> {
    /// A length prefix, a header, or a message that fits the spill.
    Header,
    /// The payload of a block, of which `filled` bytes are there.
    Block { raw: RawBlock, buf: B, filled: u32 },
    /// The payload of a block that nobody wants.
    Discard { raw: RawBlock, filled: u32 },
    /// The body of a message that is not known here.
    Skip { left: u32 },
    /// The body of a message too long for the spill: `body[..filled]` of `len`.
    Long {
        id: u8,
        len: u32,
        body: Vec<u8>,
        filled: usize,
    },
}

impl<B> WireReader<B> {
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            state: State::Header,
            spill: vec![0; SPILL_LEN],
            start: 0,
            end: 0,
            ahead: Ahead::new(),
            waiting: false,
            counts: Counts::default(),
        }
    }

    /// For when the metadata has come and the number of pieces is known. Holds from the next header on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Whether the sink last said [`Landing::Wait`].
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.waiting
    }

    /// The block whose payload is due, be it for a buffer or to be skipped.
    #[must_use]
    pub fn block_in_progress(&self) -> Option<RawBlock> {
        match self.state {
            State::Header | State::Skip { .. } | State::Long { .. } => None,
            State::Block { raw, .. } | State::Discard { raw, .. } => Some(raw),
        }
    }

    /// How many buffers are held: for the block in progress, and those that are expected.
    #[must_use]
    pub fn blocks_held(&self) -> usize {
        usize::from(matches!(self.state, State::Block { .. })) + self.ahead.held()
    }

    /// How many bytes of the block in progress have arrived.
    #[must_use]
    pub fn block_bytes(&self) -> Option<u32> {
        match self.state {
            State::Header | State::Skip { .. } | State::Long { .. } => None,
            State::Block { filled, .. } | State::Discard { filled, .. } => Some(filled),
        }
    }

    /// Takes the buffer of the block in progress, whose remaining payload will be skipped: because the
    /// connection ends, or the block came from elsewhere.
    pub fn take_block(&mut self) -> Option<B> {
        match std::mem::replace(&mut self.state, State::Header) {
            State::Block { raw, buf, filled } => {
                self.state = State::Discard { raw, filled };
                Some(buf)
            }
            state @ (State::Header
            | State::Discard { .. }
            | State::Skip { .. }
            | State::Long { .. }) => {
                self.state = state;
                None
            }
        }
    }

    /// Takes the buffer of an expected block, whatever has arrived in it; `None` where none is left. In the
    /// middle of a stream only where nothing was read since [`Self::process`].
    pub fn take_expected(&mut self) -> Option<B> {
        self.ahead.take_any()
    }

    /// What was processed since this was last called.
    pub fn take_counts(&mut self) -> Counts {
        std::mem::take(&mut self.counts)
    }

    /// Moves unprocessed bytes to the front of the spill; up to where it may be filled.
    fn make_room(&mut self) -> usize {
        if self.start > 0 {
            self.spill.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        match self.state {
            State::Block { .. } | State::Long { .. } => SPILL_LEN,
            State::Header | State::Discard { .. } | State::Skip { .. } => self.spill.len(),
        }
    }
}

/// As much as fits; how much that was.
fn copy_to(to: &mut [u8], from: &[u8]) -> usize {
    let n = to.len().min(from.len());
    if let (Some(to), Some(from)) = (to.get_mut(..n), from.get(..n)) {
        to.copy_from_slice(from);
    }
    n
}

#[cfg(test)]
mod tests;
