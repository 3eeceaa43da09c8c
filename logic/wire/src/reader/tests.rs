use super::by_bytes::{IDLE_SPILL_LEN, LONG_STEP};
use super::*;
use crate::{WireError, piece_header};

const RAW: RawBlock = RawBlock {
    piece: 2,
    offset: 0x4000,
    len: 1000,
};

/// Keeps what comes, and has `buffers` to give.
#[derive(Default)]
struct Sink {
    buffers: usize,
    discard: bool,
    asked: usize,
    spared: usize,
    blocks: Vec<(RawBlock, Vec<u8>)>,
    messages: usize,
    last: String,
}

impl WireSink<Vec<u8>> for Sink {
    fn begin_block(&mut self, raw: RawBlock, ready: Option<Vec<u8>>) -> Landing<Vec<u8>> {
        self.asked += 1;
        if let Some(buf) = ready {
            return Landing::Into(buf);
        }
        if self.discard {
            return Landing::Discard;
        }
        if self.buffers == 0 {
            return Landing::Wait;
        }
        self.buffers -= 1;
        Landing::Into(vec![0; raw.len as usize])
    }

    fn end_block(&mut self, raw: RawBlock, buf: Vec<u8>) -> ControlFlow<()> {
        self.blocks.push((raw, buf));
        ControlFlow::Continue(())
    }

    fn message(&mut self, message: Message<'_>) -> ControlFlow<()> {
        self.messages += 1;
        self.last = format!("{message:?}");
        ControlFlow::Continue(())
    }

    fn spare(&mut self, _: Vec<u8>) {
        self.spared += 1;
    }
}

fn reader() -> WireReader<Vec<u8>> {
    WireReader::new(Limits::new(Some(100_000)))
}

/// One `readv`, and what it brought processed; how many bytes that were.
fn read(reader: &mut WireReader<Vec<u8>>, bytes: &[u8], sink: &mut Sink) -> usize {
    let n = reader.read_bufs().put(bytes);
    reader.advance(n);
    assert_eq!(reader.process(sink), Ok(Progress::NeedMore));
    n
}

/// How many `readv`s it takes when all of it waits in the socket.
fn reads(reader: &mut WireReader<Vec<u8>>, mut bytes: &[u8], sink: &mut Sink) -> usize {
    let mut count = 0;
    while !bytes.is_empty() {
        let n = read(reader, bytes, sink);
        bytes = &bytes[n..];
        count += 1;
    }
    count
}

fn written(messages: &[Message<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    for message in messages {
        message.write_to(&mut out);
    }
    out
}

#[test]
fn without_a_buffer_the_header_stays_and_nothing_is_read() {
    let mut reader = reader();
    let mut sink = Sink::default();
    let header = piece_header(RAW);
    assert_eq!(reader.read_bufs().put(&header), 13);
    reader.advance(13);
    for asked in 1..4 {
        assert_eq!(reader.process(&mut sink), Ok(Progress::Waiting));
        assert_eq!(sink.asked, asked);
        assert!(reader.is_waiting());
        assert_eq!(reader.block_in_progress(), None);
        assert_eq!(reader.take_counts(), Counts::default());
        assert_eq!(reader.read_bufs().room(), 0);
    }
    sink.buffers = 1;
    assert_eq!(reader.process(&mut sink), Ok(Progress::NeedMore));
    assert!(!reader.is_waiting());
    assert_eq!(reader.block_in_progress(), Some(RAW));
    assert_eq!(reads(&mut reader, &[7; 1000], &mut sink), 1);
    assert_eq!(sink.blocks, [(RAW, vec![7; 1000])]);
}

#[test]
fn blocks_in_a_row_take_one_read_each() {
    let raw = RawBlock { len: 16_384, ..RAW };
    let mut stream = Vec::new();
    for _ in 0..50 {
        stream.extend(piece_header(raw));
        stream.extend([1; 16_384]);
    }
    let mut reader = reader();
    let mut sink = Sink {
        buffers: 50,
        ..Sink::default()
    };
    assert_eq!(reads(&mut reader, &stream, &mut sink), 51);
    assert_eq!(sink.blocks.len(), 50);
    let counts = reader.take_counts();
    assert_eq!(counts.payload, 50 * 16_384);
    assert_eq!(counts.overhead, 50 * 13);
}

#[test]
fn blocks_that_are_expected_take_one_read_in_all() {
    let raws: Vec<_> = (0..50).map(|piece| RawBlock { piece, ..RAW }).collect();
    let stream: Vec<u8> = raws
        .iter()
        .flat_map(|raw| [&piece_header(*raw)[..], &[raw.piece as u8; 1000]].concat())
        .collect();
    let (mut reader, mut sink) = (reader(), Sink::default());
    let expect = |reader: &mut WireReader<Vec<u8>>, raws: &[RawBlock]| {
        assert!(reader.may_expect());
        raws.iter()
            .for_each(|raw| reader.expect(*raw, vec![0; 1000]));
    };
    expect(&mut reader, &raws[..40]);
    assert_eq!(read(&mut reader, &stream, &mut sink), 40 * 1013);
    assert_eq!(
        (sink.blocks.len(), sink.spared, reader.blocks_held()),
        (40, 0, 0)
    );
    // In the middle of one, and more than come.
    expect(&mut reader, &raws[40..]);
    let part = &stream[40 * 1013..43 * 1013 + 500];
    assert_eq!(read(&mut reader, part, &mut sink), part.len());
    assert_eq!(
        (sink.blocks.len(), sink.spared, reader.blocks_held()),
        (43, 6, 1)
    );
    assert_eq!(reader.block_bytes(), Some(487));
    // Something comes between: nothing is lost, and the buffers come back.
    sink.buffers = 10;
    expect(&mut reader, &raws[44..]);
    let between = [
        &stream[43 * 1013 + 500..46 * 1013],
        &written(&[Message::Have(7)]),
    ]
    .concat();
    let last = [&between, &stream[46 * 1013..]].concat();
    let n = read(&mut reader, &last, &mut sink);
    assert_eq!(read(&mut reader, &last[n..], &mut sink), last.len() - n);
    assert_eq!((sink.messages, sink.last.as_str()), (1, "Have(7)"));
    assert_eq!((sink.spared, sink.buffers), (6 + 4, 6));
    assert_eq!(sink.blocks.len(), 50);
    for (at, (raw, buf)) in sink.blocks.iter().enumerate() {
        assert_eq!((raw, buf), (&raws[at], &vec![at as u8; 1000]));
    }
    let counts = reader.take_counts();
    assert_eq!((counts.payload, counts.overhead), (50_000, 50 * 13 + 9));
}

#[test]
fn a_burst_of_requests_takes_few_reads_and_a_quiet_peer_little_memory() {
    let mut reader = reader();
    let mut sink = Sink::default();
    assert_eq!(
        reads(&mut reader, &written(&[Message::Have(1); 20]), &mut sink),
        1
    );
    assert_eq!(reader.spill.len(), SPILL_LEN);
    let requests = written(&[Message::Request(RAW); 2000]);
    let limit = requests.len() / IDLE_SPILL_LEN + 3;
    assert!(reads(&mut reader, &requests, &mut sink) <= limit);
    assert_eq!(sink.messages, 2020);
    assert_eq!(reader.spill.len(), IDLE_SPILL_LEN);
}

#[test]
fn with_a_block_in_progress_little_is_read_past_it() {
    let mut reader = reader();
    let mut sink = Sink {
        buffers: 1,
        ..Sink::default()
    };
    reads(&mut reader, &written(&[Message::Have(1); 2000]), &mut sink);
    read(&mut reader, &piece_header(RAW), &mut sink);
    read(&mut reader, &[1; 300], &mut sink);
    assert_eq!(reader.block_bytes(), Some(300));
    let lens: Vec<usize> = reader.read_bufs().map(|buf| buf.len()).collect();
    assert_eq!(lens, [700, SPILL_LEN]);
}

#[test]
fn an_unwanted_block_spends_no_buffer() {
    let mut reader = reader();
    let mut sink = Sink {
        discard: true,
        ..Sink::default()
    };
    let raw = RawBlock { len: 16_384, ..RAW };
    let have = written(&[Message::Have(5)]);
    let stream = [piece_header(raw).as_slice(), &[1; 16_384], &have].concat();
    assert!(reads(&mut reader, &stream, &mut sink) <= 6);
    assert_eq!(sink.last, "Have(5)");
    let counts = reader.take_counts();
    assert_eq!((counts.payload, counts.discarded), (0, 16_384));
    assert_eq!(counts.overhead, 13 + 9);
}

#[test]
fn a_buffer_taken_back_leaves_the_stream_in_step() {
    let mut reader = reader();
    let mut sink = Sink {
        buffers: 1,
        ..Sink::default()
    };
    assert_eq!(reader.take_block(), None);
    read(&mut reader, &piece_header(RAW), &mut sink);
    read(&mut reader, &[9; 400], &mut sink);
    assert_eq!(reader.take_block().map(|buf| buf[399]), Some(9));
    assert_eq!(reader.take_block(), None);
    assert_eq!(reader.block_in_progress(), Some(RAW));
    assert_eq!(reader.block_bytes(), Some(400));
    let rest = [[9; 600].as_slice(), &written(&[Message::Unchoke])].concat();
    reads(&mut reader, &rest, &mut sink);
    assert_eq!(sink.last, "Unchoke");
    assert!(sink.blocks.is_empty());
    let counts = reader.take_counts();
    assert_eq!((counts.payload, counts.discarded), (400, 600));
}

#[test]
fn a_block_finished_at_once_counts_what_was_missing() {
    let mut reader = reader();
    let mut sink = Sink {
        buffers: 1,
        ..Sink::default()
    };
    read(&mut reader, &piece_header(RAW), &mut sink);
    read(&mut reader, &[9; 400], &mut sink);
    let mut asked = 0;
    let progress = reader.finish_block_with(|buf| asked += buf.map_or(0, |b| b.len()), &mut sink);
    assert_eq!((progress, asked), (Ok(Progress::NeedMore), 1000));
    assert_eq!(sink.blocks.len(), 1);
    assert_eq!(reader.take_counts().payload, 1000);
    let progress = reader.finish_block_with(|_| panic!("no block"), &mut sink);
    assert_eq!(progress, Ok(Progress::NeedMore));
}

#[test]
fn memory_follows_what_has_come_not_what_was_announced() {
    let mut reader = reader();
    let mut sink = Sink::default();
    let bits = [0xff; 12_500];
    let stream = written(&[Message::Bitfield(&bits)]);
    let mut done = 0;
    for part in stream.chunks(100) {
        assert_eq!(read(&mut reader, part, &mut sink), part.len());
        done += part.len();
        let kept = match &reader.state {
            State::Long { body, .. } => body.capacity(),
            State::Header => 0,
            State::Block { .. } | State::Discard { .. } | State::Skip { .. } => unreachable!(),
        };
        assert!(kept <= 2 * (done + LONG_STEP), "{kept} kept of {done}");
    }
    assert_eq!(sink.messages, 1);
    assert!(sink.last.starts_with("Bitfield([255, 255, "));
}

#[test]
fn a_skipped_body_is_not_kept() {
    let mut reader = reader();
    let mut sink = Sink::default();
    let mut stream = 30_001_u32.to_be_bytes().to_vec();
    stream.push(99);
    stream.extend([1; 30_000]);
    stream.extend(written(&[Message::Choke]));
    reads(&mut reader, &stream, &mut sink);
    assert_eq!((sink.messages, sink.last.as_str()), (2, "Choke"));
    assert_eq!(reader.spill.len(), IDLE_SPILL_LEN);
}

#[test]
fn what_just_fits_the_spill_and_what_just_does_not() {
    for len in SPILL_LEN - 12..SPILL_LEN + 4 {
        let payload = vec![3; len];
        let message = Message::Extended {
            id: 1,
            payload: &payload,
        };
        let stream = written(&[message, Message::Choke]);
        for cut in 1..stream.len() {
            let (mut reader, mut sink) = (reader(), Sink::default());
            reads(&mut reader, &stream[..cut], &mut sink);
            reads(&mut reader, &stream[cut..], &mut sink);
            assert_eq!((sink.messages, sink.last.as_str()), (2, "Choke"), "{len}");
            let mut reader = WireReader::<Vec<u8>>::new(Limits::new(None));
            let mut sink = Sink::default();
            for mut part in [&stream[..cut], &stream[cut..]] {
                assert_eq!(reader.feed(&mut part, &mut sink), Ok(Progress::NeedMore));
            }
            assert_eq!((sink.messages, sink.last.as_str()), (2, "Choke"), "{len}");
        }
    }
}

#[test]
fn a_broken_stream_stays_broken() {
    let mut reader = reader();
    let mut sink = Sink::default();
    let mut stream = written(&[Message::Choke]);
    stream.extend([0, 0, 0, 4, 4, 0, 0, 0]);
    let n = reader.read_bufs().put(&stream);
    reader.advance(n);
    let error = WireError::Length {
        name: "have",
        min: 5,
        max: 5,
        got: 4,
    };
    assert_eq!(reader.process(&mut sink), Err(error));
    assert_eq!(reader.process(&mut sink), Err(error));
    assert_eq!(sink.messages, 1);
    let text = "`have` message of 4 bytes; 5 to 5 are allowed";
    assert_eq!(error.to_string(), text);
}

#[test]
#[should_panic(expected = "the buffer that the sink gave holds the block")]
fn a_buffer_too_short_is_a_bug() {
    struct Short;
    impl WireSink<Vec<u8>> for Short {
        fn begin_block(&mut self, _: RawBlock, _: Option<Vec<u8>>) -> Landing<Vec<u8>> {
            Landing::Into(vec![0; 999])
        }
        fn spare(&mut self, _: Vec<u8>) {}
        fn end_block(&mut self, _: RawBlock, _: Vec<u8>) -> ControlFlow<()> {
            ControlFlow::Continue(())
        }
        fn message(&mut self, _: Message<'_>) -> ControlFlow<()> {
            ControlFlow::Continue(())
        }
    }
    let mut reader = reader();
    let n = reader.read_bufs().put(&piece_header(RAW));
    reader.advance(n);
    let _ = reader.process(&mut Short);
}
