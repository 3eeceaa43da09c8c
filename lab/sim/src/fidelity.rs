//! How much of a block exists: all of its bytes, or only what it claims to be.
//!
//! The world is the same for both, and so is the node. With [`Bytes`], streams are cut anywhere, pieces
//! are hashed, and tens of peers are a crowd. With [`Messages`], a block is a dozen bytes that say which
//! one it is and who forged it, and thousands of peers fit.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;

use sha1::{Digest as _, Sha1};
use torr_base::{Instant, PieceIndex, RawBlock, Rng};
use torr_node::{ConnKey, Node, Rest};
use torr_store::{BlockBuf, BlockPool, BufSource, Digest};

use crate::disk::Disk;
use crate::torrent::Torrent;

/// Who made the content of a block, if it is not the right one. 0 for honest content.
pub type Taint = u32;

/// A part of a stream: control bytes, then at most the payload of a block without bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chunk {
    /// What has bytes; a block's header is the end of it.
    pub bytes: Vec<u8>,
    /// What has none.
    pub payload: Option<Payload>,
    /// How much of `bytes` was read.
    pub(crate) read: usize,
    /// The stream ends here.
    pub(crate) end: bool,
}

/// A block on its way, without bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payload {
    /// Which it is said to be.
    pub raw: RawBlock,
    /// Whose content it is.
    pub taint: Taint,
}

impl Chunk {
    /// Control bytes only.
    #[must_use]
    pub fn control(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            ..Self::default()
        }
    }

    /// Bytes on the line.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len() + self.payload.map_or(0, |payload| payload.raw.len as usize)
    }

    /// Whether it takes no time on the line.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What a disk keeps of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// What a phantom said it is.
    Phantom(Payload),
    /// All of it.
    Bytes(Vec<u8>),
}

impl Stored {
    /// As a real disk computes it where there are bytes.
    #[must_use]
    pub fn digest(&self) -> Digest {
        match self {
            Self::Phantom(Payload { raw, taint }) => {
                let id = u64::from(raw.piece) << 40 ^ u64::from(raw.offset) << 8;
                Digest(Rng::new(id ^ u64::from(*taint) << 32).next_u64())
            }
            Self::Bytes(bytes) => {
                let hash: [u8; 20] = Sha1::digest(bytes).into();
                let first = hash.first_chunk().copied().unwrap_or_default();
                Digest(u64::from_be_bytes(first))
            }
        }
    }
}

/// Whether these parts are the piece.
pub(crate) fn is_right(torrent: &Torrent, piece: PieceIndex, parts: &[Stored]) -> bool {
    let due: Vec<_> = torrent.blocks(piece).collect();
    if due.len() != parts.len() {
        return false;
    }
    let mut hasher = Sha1::new();
    for (part, raw) in parts.iter().zip(due) {
        match part {
            Stored::Phantom(payload) if payload.taint != 0 || payload.raw != raw => return false,
            Stored::Phantom(_) => {}
            Stored::Bytes(bytes) => hasher.update(bytes),
        }
    }
    match torrent.hash(piece) {
        Some(hash) => <[u8; 20]>::from(hasher.finalize()) == *hash,
        None => true,
    }
}

/// What went through a node's connection when it was written to or read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Moved {
    /// This; go on.
    Some(Chunk),
    /// Not now; the node will say when.
    Nothing,
}

/// How blocks are, and how a node's connections are read and written.
pub trait Fidelity: fmt::Debug + 'static {
    /// What the node moves.
    type Block: fmt::Debug + 'static;
    /// Whether payload is part of [`Chunk::bytes`].
    const BYTES: bool;

    /// A pool of so many blocks.
    fn pool(blocks: usize, gauge: Rc<PoolGauge>) -> Box<dyn BufSource<Self::Block>>;
    /// What the node writes next, some of it from its files, and the buffer that is to be given back when it is through.
    fn write(
        node: &mut Node<Self::Block>,
        disk: &mut Disk<Self>,
        now: Instant,
        conn: ConnKey,
    ) -> Option<(Chunk, Option<Self::Block>)>
    where
        Self: Sized;
    /// Gives the node what is first in `rx`, or a part of it.
    fn read(
        node: &mut Node<Self::Block>,
        now: Instant,
        conn: ConnKey,
        rx: &mut VecDeque<Chunk>,
        rng: &mut Rng,
    ) -> Moved;
    /// The buffer of a chunk that has left goes back.
    fn give_back(node: &mut Node<Self::Block>, now: Instant, conn: ConnKey, block: Self::Block);
    /// The node was told that it may go on where it had no buffer.
    fn resume(node: &mut Node<Self::Block>, now: Instant, conn: ConnKey);
    /// What a disk writes.
    fn store(block: &Self::Block, raw: RawBlock) -> Stored;
    /// What a disk reads: the right content, or what `taint` made of it.
    fn load(torrent: &Torrent, raw: RawBlock, taint: Taint, block: &mut Self::Block);
}

/// How many buffers of a pool are in use.
#[derive(Debug, Default)]
pub struct PoolGauge {
    /// Taken and not given back.
    pub used: Cell<usize>,
    /// The most there ever were.
    pub most: Cell<usize>,
    /// All there are.
    pub total: Cell<usize>,
    /// The next so many requests are refused, as if others had taken all.
    pub refuse: Cell<u32>,
}

/// A pool that counts.
#[derive(Debug)]
struct CountingPool<P> {
    inner: P,
    gauge: Rc<PoolGauge>,
}

impl<B, P: BufSource<B>> BufSource<B> for CountingPool<P> {
    fn take(&mut self) -> Option<B> {
        let buf = self.inner.take()?;
        self.gauge.used.set(self.gauge.used.get() + 1);
        let most = self.gauge.most.get().max(self.gauge.used.get());
        self.gauge.most.set(most);
        Some(buf)
    }

    fn put(&mut self, buf: B) {
        let used = self.gauge.used.get().checked_sub(1);
        self.gauge
            .used
            .set(used.expect("a block came back that was never taken"));
        self.inner.put(buf);
    }

    fn free(&self) -> usize {
        self.inner.free()
    }

    fn total(&self) -> usize {
        self.inner.total()
    }
}

/// Blocks with all their bytes, streams that are cut anywhere.
#[derive(Debug)]
pub struct Bytes;

/// The most that one write of a real socket takes here.
const WRITE_MAX: usize = 24 * 1024;

impl Fidelity for Bytes {
    type Block = BlockBuf;
    const BYTES: bool = true;

    fn pool(blocks: usize, gauge: Rc<PoolGauge>) -> Box<dyn BufSource<BlockBuf>> {
        gauge.total.set(blocks);
        let inner = BlockPool::with_bytes(blocks as u64 * u64::from(torr_base::BLOCK_LEN));
        Box::new(CountingPool { inner, gauge })
    }

    fn write(
        node: &mut Node<BlockBuf>,
        disk: &mut Disk<Self>,
        now: Instant,
        conn: ConnKey,
    ) -> Option<(Chunk, Option<BlockBuf>)> {
        let out = node.poll_send(now, conn, disk);
        let (mut bytes, file) = match out.block {
            Rest::Bytes(_) => (
                node.waiting(conn).flatten().flatten().copied().collect(),
                false,
            ),
            Rest::File { range, from } => {
                let mut bytes = out.control.to_vec();
                let begin = bytes.len();
                bytes.resize(begin + (range.len - from) as usize, 0);
                let rest = bytes.get_mut(begin..).unwrap_or_default();
                disk.torrent().fill(range.piece, range.offset + from, rest);
                (bytes, true)
            }
        };
        bytes.truncate(WRITE_MAX);
        if bytes.is_empty() {
            return None;
        }
        node.handle_written(now, conn, bytes.len());
        if file && bytes.len() == WRITE_MAX {
            // As a driver whose socket is full; where it does not work out, the file is there still.
            node.keep_block(conn, disk);
        }
        Some((Chunk::control(bytes), None))
    }

    fn read(
        node: &mut Node<BlockBuf>,
        now: Instant,
        conn: ConnKey,
        rx: &mut VecDeque<Chunk>,
        rng: &mut Rng,
    ) -> Moved {
        if !node.wants_read(now, conn) {
            return Moved::Nothing;
        }
        let Some(chunk) = rx.front_mut() else {
            return Moved::Nothing;
        };
        // Mostly all that is there, and now and then a few bytes: any cut must do.
        let left = chunk.bytes.len() - chunk.read;
        let n = match rng.below(4) {
            0 => 1 + rng.index(left.min(40)),
            1 => 1 + rng.index(left),
            _ => left,
        };
        let rest = chunk
            .bytes
            .get(chunk.read..chunk.read + n.min(left))
            .unwrap_or_default();
        let taken = node.read_bufs(now, conn).put(rest);
        if taken == 0 {
            return Moved::Nothing;
        }
        let end = chunk.read + taken;
        let part = chunk
            .bytes
            .get(chunk.read..end)
            .unwrap_or_default()
            .to_vec();
        chunk.read = end;
        if end == chunk.bytes.len() {
            rx.pop_front();
        }
        node.handle_read(now, conn, taken);
        Moved::Some(Chunk::control(part))
    }

    fn give_back(node: &mut Node<BlockBuf>, now: Instant, conn: ConnKey, block: BlockBuf) {
        node.handle_frame_sent(now, conn, torr_store::Payload::Memory(block));
    }

    fn resume(node: &mut Node<BlockBuf>, now: Instant, conn: ConnKey) {
        node.resume(now, conn);
    }

    fn store(block: &BlockBuf, raw: RawBlock) -> Stored {
        let bytes = block.as_ref().get(..raw.len as usize);
        Stored::Bytes(bytes.unwrap_or_default().to_vec())
    }

    fn load(torrent: &Torrent, raw: RawBlock, taint: Taint, block: &mut BlockBuf) {
        if let Some(out) = block.as_mut().get_mut(..raw.len as usize) {
            torrent.fill(raw.piece, raw.offset, out);
            spoil(out, taint);
        }
    }
}

/// Makes content wrong in a way that tells whose it is.
pub(crate) fn spoil(bytes: &mut [u8], taint: Taint) {
    if let Some(first) = bytes.first_mut().filter(|_| taint != 0) {
        *first ^= 1 + (taint % 255) as u8;
    }
}

/// A block without bytes: which it is, and whether it is what it says.
#[derive(Debug)]
pub struct PhantomBlock {
    /// Which block of the torrent, and who forged it.
    pub payload: Payload,
}

/// Blocks without bytes, moved whole.
#[derive(Debug)]
pub struct Messages;

/// Phantoms are made when needed and cost nothing; only their number is bounded.
#[derive(Debug)]
struct PhantomPool {
    free: usize,
    total: usize,
}

/// No block of any torrent, which no disk takes for right.
const NOTHING: Payload = Payload {
    raw: RawBlock {
        piece: u32::MAX,
        offset: 0,
        len: 0,
    },
    taint: Taint::MAX,
};

impl BufSource<PhantomBlock> for PhantomPool {
    fn take(&mut self) -> Option<PhantomBlock> {
        self.free = self.free.checked_sub(1)?;
        Some(PhantomBlock { payload: NOTHING })
    }

    fn put(&mut self, _: PhantomBlock) {
        self.free += 1;
        assert!(self.free <= self.total, "a block came back twice");
    }

    fn free(&self) -> usize {
        self.free
    }

    fn total(&self) -> usize {
        self.total
    }
}

impl Fidelity for Messages {
    type Block = PhantomBlock;
    const BYTES: bool = false;

    fn pool(blocks: usize, gauge: Rc<PoolGauge>) -> Box<dyn BufSource<PhantomBlock>> {
        gauge.total.set(blocks);
        let inner = PhantomPool {
            free: blocks,
            total: blocks,
        };
        Box::new(CountingPool { inner, gauge })
    }

    fn write(
        node: &mut Node<PhantomBlock>,
        disk: &mut Disk<Self>,
        now: Instant,
        conn: ConnKey,
    ) -> Option<(Chunk, Option<PhantomBlock>)> {
        let frame = node.poll_frame(now, conn, disk)?;
        let payload = frame.block.as_ref().map(|(raw, from)| Payload {
            raw: *raw,
            taint: match from {
                torr_store::Payload::Memory(block) => block.payload.taint,
                torr_store::Payload::File => 0,
            },
        });
        let chunk = Chunk {
            bytes: frame.control,
            payload,
            ..Chunk::default()
        };
        let block = match frame.block {
            Some((_, torr_store::Payload::Memory(block))) => Some(block),
            Some((_, file @ torr_store::Payload::File)) => {
                node.handle_frame_sent(now, conn, file);
                None
            }
            None => None,
        };
        Some((chunk, block))
    }

    fn read(
        node: &mut Node<PhantomBlock>,
        now: Instant,
        conn: ConnKey,
        rx: &mut VecDeque<Chunk>,
        _: &mut Rng,
    ) -> Moved {
        let Some(chunk) = rx.front_mut() else {
            return Moved::Nothing;
        };
        let from = chunk.read;
        if !node.wants_read(now, conn) {
            return Moved::Nothing;
        }
        if from < chunk.bytes.len() {
            let mut rest = chunk.bytes.get(from..).unwrap_or_default();
            let before = rest.len();
            node.handle_bytes(now, conn, &mut rest);
            chunk.read += before - rest.len();
        }
        let whole = chunk.read == chunk.bytes.len();
        // Without a buffer for it the payload has to wait; `resume` asks again.
        let due = whole.then_some(chunk.payload).flatten();
        let due = due.filter(|payload| node.block_due(conn) == Some(payload.raw));
        if !whole || due != chunk.payload {
            let part = chunk.bytes.get(from..chunk.read).unwrap_or_default();
            return match part {
                [] => Moved::Nothing,
                part => Moved::Some(Chunk::control(part.to_vec())),
            };
        }
        let Some(mut chunk) = rx.pop_front() else {
            return Moved::Nothing;
        };
        if let Some(payload) = chunk.payload {
            node.handle_payload(now, conn, |block| {
                if let Some(block) = block {
                    block.payload = payload;
                }
            });
        }
        chunk.bytes.drain(..from);
        Moved::Some(chunk)
    }

    fn give_back(node: &mut Node<PhantomBlock>, now: Instant, conn: ConnKey, block: PhantomBlock) {
        node.handle_frame_sent(now, conn, torr_store::Payload::Memory(block));
    }

    fn resume(node: &mut Node<PhantomBlock>, now: Instant, conn: ConnKey) {
        node.handle_bytes(now, conn, &mut [].as_slice());
    }

    fn store(block: &PhantomBlock, _: RawBlock) -> Stored {
        Stored::Phantom(block.payload)
    }

    fn load(_: &Torrent, raw: RawBlock, taint: Taint, block: &mut PhantomBlock) {
        block.payload = Payload { raw, taint };
    }
}
