//! A stream cut by its first byte, with blocks expected that come, or do not. Nothing panics, every buffer
//! comes back, and any way of cutting and of expecting gives the same messages.
#![no_main]

use std::ops::ControlFlow;

use libfuzzer_sys::fuzz_target;
use torr_base::RawBlock;
use torr_wire::{Landing, Limits, Message, Progress, WireReader, WireSink};

#[derive(Default)]
struct Sink {
    said: Vec<String>,
    taken: usize,
    begun: Vec<RawBlock>,
}

impl WireSink<Vec<u8>> for Sink {
    fn begin_block(&mut self, raw: RawBlock, ready: Option<Vec<u8>>) -> Landing<Vec<u8>> {
        self.begun.push(raw);
        if raw.piece % 3 == 1 {
            self.taken -= usize::from(ready.is_some());
            return Landing::Discard;
        }
        Landing::Into(ready.unwrap_or_else(|| {
            self.taken += 1;
            vec![0; raw.len as usize]
        }))
    }

    fn end_block(&mut self, raw: RawBlock, buf: Vec<u8>) -> ControlFlow<()> {
        self.taken -= 1;
        self.said.push(format!("{raw:?} {buf:?}"));
        ControlFlow::Continue(())
    }

    fn message(&mut self, message: Message<'_>) -> ControlFlow<()> {
        self.said.push(format!("{message:?}"));
        ControlFlow::Continue(())
    }

    fn spare(&mut self, _: Vec<u8>) {
        self.taken -= 1;
    }
}

/// What was said, whether it ended with an error, and the blocks that began. `expected`: blocks by their
/// order in the stream, of which four are named before each read.
fn hear(mut bytes: &[u8], step: usize, expected: &[RawBlock]) -> (Vec<String>, bool, Vec<RawBlock>) {
    let mut reader = WireReader::new(Limits::new(Some(100)));
    let mut sink = Sink::default();
    while !bytes.is_empty() {
        if reader.may_expect() {
            for raw in expected.iter().skip(sink.begun.len()).take(4) {
                reader.expect(*raw, vec![0; raw.len as usize]);
                sink.taken += 1;
            }
        }
        let n = reader.read_bufs().put(&bytes[..step.min(bytes.len())]);
        assert!(n > 0, "nothing waits, so there is room");
        bytes = &bytes[n..];
        reader.advance(n);
        match reader.process(&mut sink) {
            Ok(progress) => assert_eq!(progress, Progress::NeedMore),
            Err(_) => return (sink.said, true, sink.begun),
        }
    }
    if reader.take_block().is_some() {
        sink.taken -= 1;
    }
    assert_eq!(sink.taken, 0);
    assert_eq!(reader.blocks_held(), 0);
    (sink.said, false, sink.begun)
}

fuzz_target!(|bytes: &[u8]| {
    let Some((step, stream)) = bytes.split_first() else { return };
    let step = usize::from(*step) + 1;
    let small = hear(stream, step, &[]);
    let large = hear(stream, usize::MAX, &[]);
    assert_eq!(small, large);
    let mut blocks = small.2.clone();
    assert_eq!(small, hear(stream, step, &blocks));
    assert_eq!(small, hear(stream, usize::MAX, &blocks));
    // Each second one is another than was expected.
    blocks.chunks_mut(2).for_each(|two| two.reverse());
    assert_eq!(small, hear(stream, usize::MAX, &blocks));
});
