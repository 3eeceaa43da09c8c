//! A stream as a list of items, how to write it, and a sink that turns it back into the list.
#![allow(dead_code, reason = "each test uses a part of it")]
#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "the rest is told by another match here"
)]

use std::ops::ControlFlow;

use proptest::prelude::*;
use torr_base::{BLOCK_LEN, RawBlock};
use torr_wire::{Landing, Message, WireSink, piece_header};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    KeepAlive,
    Choke,
    Unchoke,
    Interested,
    NotInterested,
    Have(u32),
    Bitfield(Vec<u8>),
    Request(RawBlock),
    Cancel(RawBlock),
    Port(u16),
    Suggest(u32),
    HaveAll,
    HaveNone,
    Reject(RawBlock),
    AllowedFast(u32),
    Extended(u8, Vec<u8>),
    /// Id, and a body that the reader must skip.
    Unknown(u8, Vec<u8>),
    /// The payload follows from the numbers, see [`payload`].
    Piece(RawBlock),
}

/// Differs from block to block and from byte to byte.
pub(crate) fn payload(raw: RawBlock) -> impl Iterator<Item = u8> {
    let seed = raw.piece.wrapping_mul(31).wrapping_add(raw.offset);
    (0..raw.len).map(move |i| (seed.wrapping_add(i).wrapping_mul(2_654_435_761) >> 24) as u8)
}

impl Item {
    pub(crate) fn message(&self) -> Option<Message<'_>> {
        Some(match self {
            Self::KeepAlive => Message::KeepAlive,
            Self::Choke => Message::Choke,
            Self::Unchoke => Message::Unchoke,
            Self::Interested => Message::Interested,
            Self::NotInterested => Message::NotInterested,
            Self::Have(piece) => Message::Have(*piece),
            Self::Bitfield(bits) => Message::Bitfield(bits),
            Self::Request(raw) => Message::Request(*raw),
            Self::Cancel(raw) => Message::Cancel(*raw),
            Self::Port(port) => Message::Port(*port),
            Self::Suggest(piece) => Message::Suggest(*piece),
            Self::HaveAll => Message::HaveAll,
            Self::HaveNone => Message::HaveNone,
            Self::Reject(raw) => Message::Reject(*raw),
            Self::AllowedFast(piece) => Message::AllowedFast(*piece),
            Self::Extended(id, payload) => Message::Extended { id: *id, payload },
            Self::Unknown(id, _) => Message::Unknown { id: *id },
            Self::Piece(_) => return None,
        })
    }

    pub(crate) fn from_message(message: Message<'_>) -> Self {
        match message {
            Message::KeepAlive => Self::KeepAlive,
            Message::Choke => Self::Choke,
            Message::Unchoke => Self::Unchoke,
            Message::Interested => Self::Interested,
            Message::NotInterested => Self::NotInterested,
            Message::Have(piece) => Self::Have(piece),
            Message::Bitfield(bits) => Self::Bitfield(bits.to_vec()),
            Message::Request(raw) => Self::Request(raw),
            Message::Cancel(raw) => Self::Cancel(raw),
            Message::Port(port) => Self::Port(port),
            Message::Suggest(piece) => Self::Suggest(piece),
            Message::HaveAll => Self::HaveAll,
            Message::HaveNone => Self::HaveNone,
            Message::Reject(raw) => Self::Reject(raw),
            Message::AllowedFast(piece) => Self::AllowedFast(piece),
            Message::Extended { id, payload } => Self::Extended(id, payload.to_vec()),
            Message::Unknown { id } => Self::Unknown(id, Vec::new()),
        }
    }

    /// As it stands on the wire; without the payload where `with_payload` is false.
    pub(crate) fn write_to(&self, out: &mut Vec<u8>, with_payload: bool) {
        match self {
            Self::Piece(raw) => {
                out.extend(piece_header(*raw));
                if with_payload {
                    out.extend(payload(*raw));
                }
            }
            Self::Unknown(id, body) => {
                out.extend((1 + body.len() as u32).to_be_bytes());
                out.push(*id);
                out.extend(body);
            }
            item => item.message().unwrap().write_to(out),
        }
    }

    /// As the sink gets to see it.
    pub(crate) fn seen(&self) -> Self {
        match self {
            Self::Unknown(id, _) => Self::Unknown(*id, Vec::new()),
            item => item.clone(),
        }
    }
}

pub(crate) fn stream(items: &[Item], with_payload: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for item in items {
        item.write_to(&mut out, with_payload);
    }
    out
}

/// What the reader brought, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Message(Item),
    Landed(RawBlock),
    Discarded(RawBlock),
}

/// What one call of the sink answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Take,
    Discard,
    Wait,
}

/// Answers from lists that are gone round again and again. What becomes of a block depends on the
/// block alone, so that two runs over one stream can be compared.
pub(crate) struct Recorder {
    pub(crate) seen: Vec<Seen>,
    /// `Wait` comes before the block's own mood, and only once in a row.
    waits: Vec<bool>,
    breaks: Vec<bool>,
    calls: usize,
    just_waited: bool,
    /// Buffers of expected blocks that the reader has.
    pub(crate) given: usize,
}

impl Recorder {
    pub(crate) fn new(waits: Vec<bool>, breaks: Vec<bool>) -> Self {
        Self {
            seen: Vec::new(),
            waits,
            breaks,
            calls: 0,
            just_waited: false,
            given: 0,
        }
    }

    /// Blocks that are done with.
    pub(crate) fn blocks(&self) -> usize {
        let blocks = self.seen.iter();
        blocks
            .filter(|seen| !matches!(seen, Seen::Message(_)))
            .count()
    }

    /// A block that was expected never waits.
    fn ready<B>(&mut self, raw: RawBlock, buf: B) -> Landing<B> {
        self.given -= 1;
        match Self::mood(raw) {
            Mood::Discard => {
                self.seen.push(Seen::Discarded(raw));
                Landing::Discard
            }
            Mood::Take | Mood::Wait => Landing::Into(buf),
        }
    }

    pub(crate) fn mood(raw: RawBlock) -> Mood {
        if raw.piece % 4 == 3 {
            Mood::Discard
        } else {
            Mood::Take
        }
    }

    fn turn(list: &[bool], calls: usize) -> bool {
        !list.is_empty() && list[calls % list.len()]
    }

    fn flow(&mut self) -> ControlFlow<()> {
        self.calls += 1;
        if Self::turn(&self.breaks, self.calls) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    pub(crate) fn landing<B>(&mut self, raw: RawBlock, make: impl FnOnce() -> B) -> Landing<B> {
        self.calls += 1;
        if !self.just_waited && Self::turn(&self.waits, self.calls) {
            self.just_waited = true;
            return Landing::Wait;
        }
        self.just_waited = false;
        match Self::mood(raw) {
            Mood::Discard => {
                self.seen.push(Seen::Discarded(raw));
                Landing::Discard
            }
            Mood::Take | Mood::Wait => Landing::Into(make()),
        }
    }
}

impl WireSink<Vec<u8>> for Recorder {
    fn begin_block(&mut self, raw: RawBlock, ready: Option<Vec<u8>>) -> Landing<Vec<u8>> {
        assert!((1..=BLOCK_LEN).contains(&raw.len));
        match ready {
            Some(buf) => self.ready(raw, buf),
            None => self.landing(raw, || vec![0xee; BLOCK_LEN as usize]),
        }
    }

    fn end_block(&mut self, raw: RawBlock, buf: Vec<u8>) -> ControlFlow<()> {
        let (block, rest) = buf.split_at(raw.len as usize);
        assert!(payload(raw).eq(block.iter().copied()), "payload of {raw:?}");
        assert!(rest.iter().all(|byte| *byte == 0xee), "past {raw:?}");
        self.seen.push(Seen::Landed(raw));
        self.flow()
    }

    fn message(&mut self, message: Message<'_>) -> ControlFlow<()> {
        self.seen.push(Seen::Message(Item::from_message(message)));
        self.flow()
    }

    fn spare(&mut self, _: Vec<u8>) {
        self.given -= 1;
    }
}

/// A block without bytes, as the simulator has it.
#[derive(Debug)]
pub(crate) struct Phantom {
    pub(crate) marked: bool,
}

impl WireSink<Phantom> for Recorder {
    fn begin_block(&mut self, raw: RawBlock, _: Option<Phantom>) -> Landing<Phantom> {
        self.landing(raw, || Phantom { marked: false })
    }

    fn end_block(&mut self, raw: RawBlock, block: Phantom) -> ControlFlow<()> {
        assert!(block.marked);
        self.seen.push(Seen::Landed(raw));
        self.flow()
    }

    fn message(&mut self, message: Message<'_>) -> ControlFlow<()> {
        WireSink::<Vec<u8>>::message(self, message)
    }

    fn spare(&mut self, _: Phantom) {}
}

/// What a perfect reader brings.
pub(crate) fn expected(items: &[Item]) -> Vec<Seen> {
    let see = |item: &Item| match item {
        Item::Piece(raw) if Recorder::mood(*raw) == Mood::Discard => Seen::Discarded(*raw),
        Item::Piece(raw) => Seen::Landed(*raw),
        other => Seen::Message(other.seen()),
    };
    items.iter().map(see).collect()
}

pub(crate) fn raw_block() -> impl Strategy<Value = RawBlock> {
    (any::<u32>(), any::<u32>(), any::<u32>()).prop_map(|(piece, offset, len)| RawBlock {
        piece,
        offset,
        len,
    })
}

fn block_len() -> impl Strategy<Value = u32> {
    prop_oneof![3 => Just(BLOCK_LEN), 2 => 1..600_u32, 1 => 1..=BLOCK_LEN]
}

pub(crate) fn piece() -> impl Strategy<Value = Item> {
    (0..64_u32, 0..64_u32, block_len()).prop_map(|(piece, block, len)| {
        Item::Piece(RawBlock {
            piece,
            offset: block * BLOCK_LEN,
            len,
        })
    })
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    let len = prop_oneof![4 => 0..40_usize, 2 => 200..300_usize, 1 => 0..20_000_usize];
    len.prop_flat_map(|len| proptest::collection::vec(any::<u8>(), len))
}

pub(crate) fn item() -> impl Strategy<Value = Item> {
    prop_oneof![
        6 => piece(),
        3 => any::<u32>().prop_map(Item::Have),
        2 => raw_block().prop_map(Item::Request),
        1 => raw_block().prop_map(Item::Cancel),
        1 => raw_block().prop_map(Item::Reject),
        1 => any::<u32>().prop_map(Item::Suggest),
        1 => any::<u32>().prop_map(Item::AllowedFast),
        1 => any::<u16>().prop_map(Item::Port),
        1 => body().prop_map(Item::Bitfield),
        2 => (any::<u8>(), body()).prop_map(|(id, payload)| Item::Extended(id, payload)),
        1 => (prop_oneof![10..13_u8, 18..20_u8, 21..=255_u8], body())
            .prop_map(|(id, body)| Item::Unknown(id, body)),
        3 => prop_oneof![
            Just(Item::KeepAlive),
            Just(Item::Choke),
            Just(Item::Unchoke),
            Just(Item::Interested),
            Just(Item::NotInterested),
            Just(Item::HaveAll),
            Just(Item::HaveNone),
        ],
    ]
}

pub(crate) fn items() -> impl Strategy<Value = Vec<Item>> {
    proptest::collection::vec(item(), 0..20)
}
