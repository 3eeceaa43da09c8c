//! A stream cut by the first byte of each part; landings and waits by another. Nothing panics, every
//! buffer comes back, and two ways of cutting give the same messages.
#![no_main]

use std::ops::ControlFlow;

use libfuzzer_sys::fuzz_target;
use torr_base::RawBlock;
use torr_wire::{Landing, Limits, Message, Progress, WireReader, WireSink};

#[derive(Default)]
struct Sink {
    said: Vec<String>,
    taken: usize,
}

impl WireSink<Vec<u8>> for Sink {
    fn begin_block(&mut self, raw: RawBlock) -> Landing<Vec<u8>> {
        if raw.piece % 3 == 1 {
            return Landing::Discard;
        }
        self.taken += 1;
        Landing::Into(vec![0; raw.len as usize])
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
}

fn hear(mut bytes: &[u8], step: usize) -> (Vec<String>, bool) {
    let mut reader = WireReader::new(Limits::new(Some(100)));
    let mut sink = Sink::default();
    while !bytes.is_empty() {
        let [a, b] = reader.read_bufs();
        let n = step.min(a.len() + b.len()).min(bytes.len());
        assert!(n > 0, "nothing waits, so there is room");
        for (slot, byte) in a.iter_mut().chain(b).zip(bytes).take(n) {
            *slot = *byte;
        }
        bytes = &bytes[n..];
        reader.advance(n);
        match reader.process(&mut sink) {
            Ok(progress) => assert_eq!(progress, Progress::NeedMore),
            Err(_) => return (sink.said, true),
        }
    }
    if reader.take_block().is_some() {
        sink.taken -= 1;
    }
    assert_eq!(sink.taken, 0);
    (sink.said, false)
}

fuzz_target!(|bytes: &[u8]| {
    let Some((step, stream)) = bytes.split_first() else { return };
    let small = hear(stream, usize::from(*step) + 1);
    let large = hear(stream, usize::MAX);
    assert_eq!(small, large);
});
