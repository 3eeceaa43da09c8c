//! Understands a stream without being a node: for puppets, and for those who check what nodes say.

use std::ops::ControlFlow;

use torr_base::RawBlock;
use torr_wire::{Handshake, HandshakeReader, Landing, Limits, Message, WireReader, WireSink};

use crate::fidelity::Chunk;

/// What was said.
#[derive(Debug)]
pub(crate) enum Heard<'a> {
    /// The first 68 bytes.
    Hello(Handshake),
    /// Anything but a block.
    Message(Message<'a>),
    /// A block's header; what its payload is does not matter to ears.
    Block(RawBlock),
    /// Nothing after this can be understood.
    Nonsense,
}

/// No buffer: ears let payload pass.
#[derive(Debug)]
struct NoBuf;

impl AsMut<[u8]> for NoBuf {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut []
    }
}

struct Sink<'a, F>(&'a mut F);

impl<F: FnMut(Heard<'_>)> WireSink<NoBuf> for Sink<'_, F> {
    fn begin_block(&mut self, raw: RawBlock, _: Option<NoBuf>) -> Landing<NoBuf> {
        (self.0)(Heard::Block(raw));
        Landing::Discard
    }

    fn end_block(&mut self, _: RawBlock, _: NoBuf) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    fn message(&mut self, message: Message<'_>) -> ControlFlow<()> {
        (self.0)(Heard::Message(message));
        ControlFlow::Continue(())
    }

    fn spare(&mut self, _: NoBuf) {}
}

/// Listens to one direction of a connection.
#[derive(Debug)]
pub(crate) struct Ear {
    hello: HandshakeReader,
    reader: WireReader<NoBuf>,
    deaf: bool,
    bytes: bool,
}

impl Ear {
    /// `bytes`: whether payload has bytes.
    #[must_use]
    pub(crate) fn new(pieces: u32, bytes: bool) -> Self {
        Self {
            hello: HandshakeReader::new(),
            reader: WireReader::new(Limits::new(Some(pieces))),
            deaf: false,
            bytes,
        }
    }

    /// Hears a chunk; `f` is told what was said.
    pub(crate) fn hear(&mut self, chunk: &Chunk, mut f: impl FnMut(Heard<'_>)) {
        let mut rest = chunk.bytes.as_slice();
        if self.deaf {
            return;
        }
        let room = self.hello.read_buf();
        if !room.is_empty() {
            let n = room.len().min(rest.len());
            let (head, tail) = rest.split_at(n);
            room[..n].copy_from_slice(head);
            rest = tail;
            if self.hello.advance(n).is_err() {
                self.deaf = true;
                f(Heard::Nonsense);
                return;
            }
            match self.hello.handshake() {
                Some(hello) => f(Heard::Hello(hello)),
                None => return,
            }
        }
        let understood = if self.bytes {
            self.hear_bytes(rest, &mut f)
        } else {
            self.hear_messages(rest, chunk.payload.is_some(), &mut f)
        };
        if !understood {
            self.deaf = true;
            f(Heard::Nonsense);
        }
    }

    fn hear_messages(
        &mut self,
        mut rest: &[u8],
        payload: bool,
        f: &mut impl FnMut(Heard<'_>),
    ) -> bool {
        let fed = self.reader.feed(&mut rest, &mut Sink(f));
        let done = match fed {
            Ok(_) if payload => self.reader.finish_block_with(|_| {}, &mut Sink(f)),
            fed => fed,
        };
        done.is_ok()
    }

    fn hear_bytes(&mut self, mut rest: &[u8], f: &mut impl FnMut(Heard<'_>)) -> bool {
        while !rest.is_empty() {
            let taken = self.reader.read_bufs().put(rest);
            rest = &rest[taken..];
            self.reader.advance(taken);
            if taken == 0 || self.reader.process(&mut Sink(f)).is_err() {
                return false;
            }
        }
        true
    }
}
