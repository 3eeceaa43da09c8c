//! What both ways of driving the reader have in common: one step at a time over what is in the spill.

use std::ops::ControlFlow;

use super::{Landing, Progress, SPILL_LEN, State, WireReader, WireSink};
use crate::message::{Message, id, piece_raw};
use crate::{Limits, WireError};

/// What one step of the machine came to.
pub(super) enum Step {
    Done,
    /// The payload of a block is due.
    Payload,
    Stop(Progress),
}

impl Step {
    fn from_sink(flow: ControlFlow<()>) -> Self {
        match flow {
            ControlFlow::Continue(()) => Self::Done,
            ControlFlow::Break(()) => Self::Stop(Progress::Broke),
        }
    }
}

impl<B> WireReader<B> {
    /// Does one thing with what is in the spill.
    pub(super) fn step(&mut self, sink: &mut impl WireSink<B>) -> Result<Step, WireError> {
        self.waiting = false;
        let arrived = self.spill.get(self.start..self.end).unwrap_or_default();
        match &mut self.state {
            State::Header => self.header(sink),
            State::Block { .. } | State::Discard { .. } => Ok(Step::Payload),
            State::Skip { left } => {
                let n = arrived.len().min(*left as usize);
                *left -= n as u32;
                let whole = *left == 0;
                self.consume(n);
                if !whole {
                    return Ok(Step::Stop(Progress::NeedMore));
                }
                self.state = State::Header;
                Ok(Step::Done)
            }
            State::Long {
                id,
                len,
                body,
                filled,
            } => {
                let n = arrived.len().min(*len as usize - *filled);
                // The spill is read into only once what was offered of the body is full.
                debug_assert!(n == 0 || body.len() == *filled);
                body.extend_from_slice(arrived.get(..n).unwrap_or_default());
                *filled += n;
                if *filled < *len as usize {
                    self.consume(n);
                    return Ok(Step::Stop(Progress::NeedMore));
                }
                let (id, body) = (*id, std::mem::take(body));
                self.consume(n);
                self.state = State::Header;
                deliver(&self.limits, id, &body, sink)
            }
        }
    }

    /// Reads the header at the front of the spill, and the message with it if it is all there.
    fn header(&mut self, sink: &mut impl WireSink<B>) -> Result<Step, WireError> {
        let arrived = self.spill.get(self.start..self.end).unwrap_or_default();
        let Some((len, rest)) = arrived.split_first_chunk::<4>() else {
            return Ok(Step::Stop(Progress::NeedMore));
        };
        let len = u32::from_be_bytes(*len);
        if len == 0 {
            self.consume(4);
            return Ok(Step::from_sink(sink.message(Message::KeepAlive)));
        }
        let Some((&id, rest)) = rest.split_first() else {
            return Ok(Step::Stop(Progress::NeedMore));
        };
        self.limits.check(id, len)?;
        if id == id::PIECE {
            return Ok(self.piece(sink));
        }
        let body_len = len - 1;
        if !Message::is_known(id) {
            self.consume(5);
            self.state = State::Skip { left: body_len };
            return Ok(Step::from_sink(sink.message(Message::Unknown { id })));
        }
        if let Some(body) = rest.get(..body_len as usize) {
            let step = deliver(&self.limits, id, body, sink)?;
            self.consume(5 + body.len());
            return Ok(step);
        }
        if 5 + body_len as usize <= SPILL_LEN {
            return Ok(Step::Stop(Progress::NeedMore));
        }
        self.consume(5);
        self.state = State::Long {
            id,
            len: body_len,
            body: Vec::new(),
            filled: 0,
        };
        Ok(Step::Done)
    }

    /// Asks the sink where the payload goes, once all of the header is there.
    fn piece(&mut self, sink: &mut impl WireSink<B>) -> Step {
        let arrived = self.spill.get(self.start..self.end).unwrap_or_default();
        let Some(raw) = arrived.first_chunk().and_then(piece_raw) else {
            return Step::Stop(Progress::NeedMore);
        };
        self.state = match sink.begin_block(raw, None) {
            Landing::Into(buf) => State::Block {
                raw,
                buf,
                filled: 0,
            },
            Landing::Discard => State::Discard { raw, filled: 0 },
            Landing::Wait => {
                self.waiting = true;
                return Step::Stop(Progress::Waiting);
            }
        };
        self.consume(13);
        Step::Done
    }

    /// All of the payload is there.
    pub(super) fn end_block(&mut self, sink: &mut impl WireSink<B>) -> Step {
        match std::mem::replace(&mut self.state, State::Header) {
            State::Block { raw, buf, .. } => Step::from_sink(sink.end_block(raw, buf)),
            State::Header | State::Discard { .. } | State::Skip { .. } | State::Long { .. } => {
                Step::Done
            }
        }
    }

    /// Bytes of the spill that are no payload are done with.
    fn consume(&mut self, n: usize) {
        debug_assert!(self.start + n <= self.end);
        self.start += n;
        self.counts.overhead += n as u64;
    }
}

fn deliver<B>(
    limits: &Limits,
    id: u8,
    body: &[u8],
    sink: &mut impl WireSink<B>,
) -> Result<Step, WireError> {
    match Message::parse(id, body) {
        Some(message) => Ok(Step::from_sink(sink.message(message))),
        None => Err(limits.wrong(id, 1 + body.len() as u32)),
    }
}
