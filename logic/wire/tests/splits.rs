//! However the stream is cut and whatever the sink answers, the same items come out.
#![allow(clippy::unwrap_used, reason = "all of this is test code")]

mod common;

use std::ops::ControlFlow;

use common::{Item, Phantom, Recorder, Seen, expected, items, stream};
use proptest::prelude::*;
use torr_base::{BLOCK_LEN, RawBlock};
use torr_wire::{Counts, Landing, Limits, Message, Progress, WireError, WireReader, WireSink};

/// Puts `bytes` into what the reader offers; how many fitted.
fn fill(reader: &mut WireReader<Vec<u8>>, bytes: &[u8]) -> usize {
    let n = reader.read_bufs().put(bytes);
    reader.advance(n);
    n
}

/// What is expected before a read: so many blocks, but for the first so many of those that come next.
type Guess = (usize, usize);

/// Expects blocks as guessed, where `done` of them are done with.
fn expect(
    reader: &mut WireReader<Vec<u8>>,
    blocks: &[RawBlock],
    done: usize,
    (count, off): Guess,
) -> usize {
    if !reader.may_expect() {
        return 0;
    }
    let next = done + usize::from(reader.block_in_progress().is_some());
    let guessed = blocks.iter().skip(next + off).take(count);
    let guessed = guessed.inspect(|raw| reader.expect(**raw, vec![0xee; BLOCK_LEN as usize]));
    guessed.count()
}

fn blocks_of(items: &[Item]) -> Vec<RawBlock> {
    let mut blocks = Vec::new();
    for item in items {
        if let Item::Piece(raw) = item {
            blocks.push(*raw);
        }
    }
    blocks
}

/// Reads of at most the given sizes, and guesses, gone round again and again.
fn read_by_bytes(
    mut bytes: &[u8],
    sizes: &[usize],
    (blocks, guesses): (&[RawBlock], &[Guess]),
    sink: &mut Recorder,
) -> Counts {
    let mut guesses = guesses.iter().cycle();
    let mut reader = WireReader::new(Limits::new(Some(200_000)));
    let mut reads = sizes.iter().cycle();
    loop {
        match reader.process(sink).unwrap() {
            Progress::Broke => continue,
            Progress::Waiting => {
                assert!(reader.is_waiting());
                continue;
            }
            Progress::NeedMore if bytes.is_empty() => break,
            Progress::NeedMore => {}
        }
        assert_eq!(sink.given, 0, "what was not needed is given back");
        if let Some(guess) = guesses.next() {
            sink.given = expect(&mut reader, blocks, sink.blocks(), *guess);
        }
        assert!(reader.read_bufs().room() > 0);
        let n = (*reads.next().unwrap()).min(bytes.len());
        let n = fill(&mut reader, &bytes[..n]);
        bytes = &bytes[n..];
        // Nobody is to read twice before processing, but no byte may move for it.
        if n.is_multiple_of(3) {
            let n = fill(&mut reader, &bytes[..bytes.len().min(100)]);
            bytes = &bytes[n..];
        }
    }
    assert_eq!(reader.block_in_progress(), None);
    assert_eq!((sink.given, reader.blocks_held()), (0, 0));
    reader.take_counts()
}

fn feed(bytes: &[u8], sizes: &[usize], sink: &mut Recorder) -> Counts {
    let mut reader = WireReader::<Phantom>::new(Limits::new(Some(200_000)));
    let mut parts = sizes.iter().cycle();
    let mut bytes = bytes;
    while !bytes.is_empty() {
        let (mut part, rest) = bytes.split_at((*parts.next().unwrap()).min(bytes.len()));
        bytes = rest;
        loop {
            let progress = reader.feed(&mut part, sink).unwrap();
            if progress != Progress::NeedMore {
                continue;
            }
            if reader.block_in_progress().is_none() {
                assert!(part.is_empty());
                break;
            }
            let mark = |block: Option<&mut Phantom>| {
                if let Some(block) = block {
                    block.marked = true;
                }
            };
            let _ = reader.finish_block_with(mark, sink).unwrap();
        }
    }
    reader.take_counts()
}

fn count(items: &[Item]) -> Counts {
    let mut counts = Counts::default();
    for item in items {
        if let Item::Piece(raw) = item {
            match Recorder::mood(*raw) {
                common::Mood::Discard => counts.discarded += u64::from(raw.len),
                common::Mood::Take | common::Mood::Wait => counts.payload += u64::from(raw.len),
            }
        }
    }
    counts.overhead = stream(items, false).len() as u64;
    counts
}

fn sizes() -> impl Strategy<Value = Vec<usize>> {
    let size = prop_oneof![
        3 => 1..20_usize,
        2 => 200..300_usize,
        2 => 1000..5000_usize,
        1 => Just(100_000_usize)
    ];
    proptest::collection::vec(size, 1..8)
}

fn guesses() -> impl Strategy<Value = Vec<Guess>> {
    proptest::collection::vec(
        (0..6_usize, prop_oneof![3 => Just(0), 1 => 1..3_usize]),
        0..5,
    )
}

fn flags() -> impl Strategy<Value = Vec<bool>> {
    // Never always: that would be a sink that nothing gets past.
    proptest::collection::vec(any::<bool>(), 0..6)
}

proptest! {
    #[test]
    fn any_split_gives_the_same_items(
        items in items(), sizes in sizes(), guesses in guesses(), waits in flags(), breaks in flags(),
    ) {
        let mut sink = Recorder::new(waits, breaks);
        let guesses = (&*blocks_of(&items), &*guesses);
        let counts = read_by_bytes(&stream(&items, true), &sizes, guesses, &mut sink);
        prop_assert_eq!(sink.seen, expected(&items));
        prop_assert_eq!(counts, count(&items));
    }

    #[test]
    fn messages_without_payload_give_the_same_as_bytes(
        items in items(), sizes in sizes(), waits in flags(), breaks in flags(),
    ) {
        let mut sink = Recorder::new(waits, breaks);
        let counts = feed(&stream(&items, false), &sizes, &mut sink);
        prop_assert_eq!(sink.seen, expected(&items));
        prop_assert_eq!(counts, count(&items));
    }

    #[test]
    fn a_damaged_stream_ends_the_same_however_it_is_cut(
        items in items(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
        sizes in sizes(), guesses in guesses(),
    ) {
        let blocks = blocks_of(&items);
        let mut bytes = stream(&items, true);
        if !bytes.is_empty() {
            for (at, byte) in damage {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes.truncate(1 + cut.index(bytes.len()));
        }
        let plain = |sizes: &[usize]| read_anything(&bytes, sizes, (&[], &[]));
        let whole = plain(&[usize::MAX]);
        prop_assert_eq!(&whole, &plain(&sizes));
        prop_assert_eq!(&whole, &plain(&[1]));
        for sizes in [&*sizes, &[usize::MAX], &[1]] {
            prop_assert_eq!(&whole, &read_anything(&bytes, sizes, (&blocks, &guesses)));
        }
    }

    #[test]
    fn headers_of_any_kind_and_length_never_panic(
        heads in proptest::collection::vec((0..400_u32, any::<u8>(), 0..40_usize), 0..60),
        sizes in sizes(),
    ) {
        let mut bytes = Vec::new();
        for (len, id, body) in heads {
            bytes.extend(len.to_be_bytes());
            bytes.push(id);
            bytes.extend(vec![id; body]);
        }
        let plain = |sizes: &[usize]| read_anything(&bytes, sizes, (&[], &[]));
        prop_assert_eq!(plain(&[usize::MAX]), plain(&sizes));
    }
}

/// All that can be told of a stream that nobody vouches for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    seen: Vec<Seen>,
    payloads: Vec<Vec<u8>>,
    counts: Counts,
    in_progress: Option<(RawBlock, u32)>,
    error: Option<WireError>,
}

impl WireSink<Vec<u8>> for Told {
    fn begin_block(&mut self, raw: RawBlock, ready: Option<Vec<u8>>) -> Landing<Vec<u8>> {
        if raw.offset.is_multiple_of(3) {
            self.seen.push(Seen::Discarded(raw));
            return Landing::Discard;
        }
        Landing::Into(ready.unwrap_or_else(|| vec![0; raw.len as usize]))
    }

    fn end_block(&mut self, raw: RawBlock, buf: Vec<u8>) -> ControlFlow<()> {
        self.seen.push(Seen::Landed(raw));
        self.payloads.push(buf[..raw.len as usize].to_vec());
        ControlFlow::Continue(())
    }

    fn message(&mut self, message: Message<'_>) -> ControlFlow<()> {
        self.seen.push(Seen::Message(Item::from_message(message)));
        ControlFlow::Continue(())
    }

    fn spare(&mut self, _: Vec<u8>) {}
}

fn read_anything(
    mut bytes: &[u8],
    sizes: &[usize],
    (blocks, guesses): (&[RawBlock], &[Guess]),
) -> Told {
    let mut guesses = guesses.iter().cycle();
    let mut reader = WireReader::new(Limits::new(Some(5000)));
    let mut told = Told::default();
    let mut reads = sizes.iter().cycle();
    loop {
        match reader.process(&mut told) {
            Ok(progress) => assert_eq!(progress, Progress::NeedMore),
            Err(error) => {
                told.error = Some(error);
                break;
            }
        }
        if bytes.is_empty() {
            break;
        }
        let seen = told.seen.iter();
        let done = seen.filter(|seen| !matches!(seen, Seen::Message(_)));
        if let Some(guess) = guesses.next() {
            expect(&mut reader, blocks, done.count(), *guess);
        }
        let n = (*reads.next().unwrap()).min(bytes.len());
        let n = fill(&mut reader, &bytes[..n]);
        assert!(n > 0);
        bytes = &bytes[n..];
    }
    told.in_progress = reader.block_in_progress().zip(reader.block_bytes());
    told.counts = reader.take_counts();
    told
}
