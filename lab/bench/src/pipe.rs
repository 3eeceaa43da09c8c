//! Two nodes in one thread, joined by a pipe of bytes, with a disk that agrees to everything: what a
//! block costs in the logic alone.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant as Clock};

use anyhow::{Context, Result, bail, ensure};
use torr_base::{BLOCK_LEN, Bitfield, Geometry, InfoHash, Instant, PeerId, RawBlock, Rng};
use torr_node::{
    Action, ConnKey, FilePieces, News, Node, NodeConfig, Notice, Rest, SwarmInit, TorrentInit,
};
use torr_store::{
    BlockBuf, BlockPool, BufSource, Committed, DiskDone, DiskJob, DiskResult, DiskTask, FileSource,
    Found, StorageId,
};

use crate::{counter, meter};

/// What a transfer cost, once it ran steadily.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    pub(crate) blocks: u64,
    pub(crate) pieces: u64,
    pub(crate) allocations: u64,
    pub(crate) bytes: u64,
    pub(crate) took: Duration,
}

/// Bytes that wait in one direction, at most: a socket buffer's worth.
const PIPE: usize = 1 << 20;
/// Buffers that one read fills, at most.
const BUFS_MAX: usize = 130;
/// A transfer that takes more turns has got stuck: the longest here takes a few thousand.
const TURNS_MAX: u64 = 10_000_000;

struct Side {
    node: Node<BlockBuf>,
    conn: Option<ConnKey>,
    wire: VecDeque<u8>,
    done: u64,
    synced: bool,
    /// Bytes of blocks that went into the pipe.
    payload: u64,
    /// Whether callgrind is to count what the node does.
    counted: bool,
}

impl Side {
    fn new(n: u8, geometry: Geometry, seed: bool) -> Result<Self> {
        let pieces = geometry.piece_count();
        let config = NodeConfig::new(PeerId([n; 20]), 6881, "torr bench".into());
        let mut pool = Box::new(BlockPool::with_bytes(48 << 20));
        // All of its blocks are made now, not when the pieces under way first need them.
        let blocks: Vec<_> = std::iter::from_fn(|| pool.take()).collect();
        blocks.into_iter().for_each(|block| pool.put(block));
        let mut node = Node::new(config, pool, Rng::new(u64::from(n)), Instant::ZERO);
        let have = if seed {
            Bitfield::full(pieces)
        } else {
            Bitfield::new(pieces)
        };
        let swarm = SwarmInit {
            info_hash: InfoHash([7; 20]),
            geometry,
            private: false,
            have,
            partial: Vec::new(),
            wanted: Bitfield::full(pieces),
            metadata: None,
            web: None,
            high: Vec::new(),
            files: vec![FilePieces {
                file: 0,
                pieces: 0..pieces,
            }],
        };
        let other = SocketAddr::from(([127, 0, 0, 3 - n], 6881));
        let init = TorrentInit {
            storage: StorageId(1),
            swarm,
            trackers: Vec::new(),
            peers: if seed { Vec::new() } else { vec![other] },
            nodes: Vec::new(),
            sequential: false,
            waits: false,
            super_seed: false,
        };
        let added = node.add_torrent(Instant::ZERO, init);
        ensure!(added.is_ok(), "the node takes no torrent");
        let wire = VecDeque::with_capacity(2 * PIPE);
        Ok(Self {
            node,
            conn: None,
            wire,
            done: 0,
            synced: false,
            payload: 0,
            counted: false,
        })
    }

    /// Carries out what the node wants; true if it dialled.
    fn act(&mut self, now: Instant) -> bool {
        let (node, counted) = (&mut self.node, self.counted);
        let mut dialled = false;
        while let Some(action) = meter::call(counted, || node.poll_action()) {
            match action {
                Action::Dial { conn, .. } => {
                    self.conn = Some(conn);
                    meter::call(counted, || node.handle_connected(now, conn));
                    dialled = true;
                }
                Action::Wake { conn } => meter::call(counted, || node.resume(now, conn)),
                Action::Disk(job) => {
                    let done = agree(job);
                    meter::call(counted, || node.handle_disk(now, done));
                }
                Action::Tell {
                    news: News::Swarm(Notice::PieceDone { .. }),
                    ..
                } => self.done += 1,
                Action::Tell {
                    news: News::Swarm(Notice::Synced),
                    ..
                } => self.synced = true,
                Action::Tell { .. }
                | Action::Close { .. }
                | Action::Http { .. }
                | Action::Resolve { .. }
                | Action::CancelRequest { .. }
                | Action::Datagram { .. }
                | Action::Multicast { .. }
                | Action::PortMap(_)
                | Action::WebFetch { .. }
                | Action::WebWake { .. }
                | Action::WebCancel { .. } => {}
            }
        }
        dialled
    }

    fn write(&mut self, now: Instant) {
        let Some(conn) = self.conn else { return };
        while self.wire.len() < PIPE {
            let (node, counted) = (&mut self.node, self.counted);
            let out = meter::call(counted, || node.poll_send(now, conn, &mut InMemory));
            let before = self.wire.len();
            if let Rest::File { range, from } = out.block {
                let block = &ZEROS[from as usize..range.len as usize];
                self.wire.extend(out.control);
                self.wire.extend(block);
                self.payload += block.len() as u64;
            }
            for [control, block] in self.node.waiting(conn) {
                self.wire.extend(control);
                self.wire.extend(block);
                self.payload += block.len() as u64;
            }
            let n = self.wire.len() - before;
            if n == 0 {
                return;
            }
            meter::call(counted, || self.node.handle_written(now, conn, n));
            self.act(now);
        }
    }

    fn read(&mut self, now: Instant, wire: &mut VecDeque<u8>) {
        let Some(conn) = self.conn else { return };
        meter::call(self.counted, || self.node.read_goal(now, conn));
        while !wire.is_empty() {
            let (node, counted) = (&mut self.node, self.counted);
            let mut n = 0;
            let mut bufs: [_; BUFS_MAX] = std::array::from_fn(|_| Default::default());
            meter::call(counted, || offer(node, now, conn, &mut bufs));
            for buf in bufs {
                // Reading from a VecDeque copies what is there and never fails.
                n += std::io::Read::read(wire, buf).unwrap_or(0);
            }
            if n == 0 {
                return;
            }
            meter::call(counted, || self.node.handle_read(now, conn, n));
            self.act(now);
        }
    }
}

/// What a driver hands to the system: where the next bytes go.
fn offer<'a>(
    node: &'a mut Node<BlockBuf>,
    now: Instant,
    conn: ConnKey,
    bufs: &mut [&'a mut [u8]; BUFS_MAX],
) {
    for (to, buf) in bufs.iter_mut().zip(node.read_bufs(now, conn)) {
        *to = buf;
    }
}

static ZEROS: [u8; BLOCK_LEN as usize] = [0; BLOCK_LEN as usize];

/// Files of zeros, which can be sent from, and read in runs; what a buffer holds is of no account.
struct InMemory;

impl FileSource<BlockBuf> for InMemory {
    fn look(&mut self, _: StorageId, _: RawBlock) -> Found {
        Found::Sendable
    }

    fn read(&mut self, _: StorageId, _: RawBlock, _: &mut BlockBuf) -> bool {
        false
    }

    fn read_run(&mut self, _: StorageId, _: &[RawBlock], _: &mut [BlockBuf]) -> bool {
        true
    }
}

fn agree(job: DiskJob<BlockBuf>) -> DiskDone<BlockBuf> {
    let result = match job.task {
        DiskTask::Hash { runs, .. } => DiskResult::Hashed { runs },
        DiskTask::Commit { pieces, .. } => {
            let pieces = pieces.into_iter().map(|commit| Committed {
                piece: commit.piece,
                blocks: commit.blocks,
                result: Ok(()),
                digests: Vec::new(),
            });
            DiskResult::Committed {
                pieces: pieces.collect(),
            }
        }
        DiskTask::Load { range, buf } => DiskResult::Loaded {
            range,
            buf,
            result: Ok(()),
        },
        DiskTask::Recheck { piece } => DiskResult::Rechecked {
            piece,
            result: Ok(()),
        },
        DiskTask::Spill { blocks } => DiskResult::Spilled {
            blocks,
            result: Ok(()),
        },
        DiskTask::Verify { piece, .. } => {
            let blocks = Vec::new();
            DiskResult::Verified(Committed {
                piece,
                blocks,
                result: Ok(()),
                digests: Vec::new(),
            })
        }
        DiskTask::Sync => DiskResult::Synced(Ok(())),
        DiskTask::Probe { .. } => DiskResult::Probed(Ok(Vec::new())),
        DiskTask::Close => DiskResult::Closed(Ok(())),
    };
    DiskDone {
        storage: job.storage,
        job: job.job,
        result,
    }
}

/// Both ends, and the time that they share.
struct Pair {
    seed: Side,
    leech: Side,
    now: Instant,
}

impl Pair {
    fn new(geometry: Geometry) -> Result<Self> {
        Ok(Self {
            seed: Side::new(1, geometry, true)?,
            leech: Side::new(2, geometry, false)?,
            now: Instant::ZERO,
        })
    }

    /// Half a millisecond: timers, then a pipe's worth in each direction.
    fn turn(&mut self) {
        let Self { seed, leech, now } = self;
        *now = *now + Duration::from_micros(500);
        let now = *now;
        for side in [&mut *seed, &mut *leech] {
            let Side { node, counted, .. } = side;
            meter::call(*counted, || {
                if node.next_timeout().is_some_and(|due| due <= now) {
                    node.handle_timeout(now);
                }
            });
        }
        if leech.act(now) {
            let from = SocketAddr::from(([127, 0, 0, 2], 5_000));
            seed.conn = seed.node.handle_accept(now, from);
        }
        seed.act(now);
        leech.write(now);
        seed.read(now, &mut leech.wire);
        seed.write(now);
        let mut wire = std::mem::take(&mut seed.wire);
        leech.read(now, &mut wire);
        seed.wire = wire;
    }

    /// Takes turns until `end` has come.
    fn run_until(&mut self, end: impl Fn(&Side) -> bool) -> Result<()> {
        for _ in 0..TURNS_MAX {
            self.turn();
            if end(&self.leech) {
                return Ok(());
            }
        }
        bail!("the transfer does not go on")
    }
}

/// Carries `total` bytes in pieces of `piece_len` across; measures from a quarter on.
pub(crate) fn transfer(total: u64, piece_len: u64) -> Result<Cost> {
    let geometry = Geometry::new(total, piece_len).context("no torrent")?;
    let mut pair = Pair::new(geometry)?;
    let quarter = u64::from(geometry.piece_count()) / 4;
    pair.run_until(|leech| leech.done >= quarter)?;
    let (count, clock, before) = (counter::now(), Clock::now(), pair.leech.done);
    pair.run_until(|leech| leech.synced)?;
    let count = counter::now().since(count);
    let pieces = pair.leech.done - before;
    Ok(Cost {
        blocks: pieces * piece_len / u64::from(BLOCK_LEN),
        pieces,
        allocations: count.calls,
        bytes: count.bytes,
        took: clock.elapsed(),
    })
}

/// One of the two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Seed,
    Leech,
}

/// Carries data across as [`transfer`] does, and has callgrind count what one end does between a quarter and
/// three quarters of it. Returns the number of blocks that went across in the meantime.
pub(crate) fn count(total: u64, piece_len: u64, end: End) -> Result<u64> {
    let geometry = Geometry::new(total, piece_len).context("no torrent")?;
    let mut pair = Pair::new(geometry)?;
    let quarter = u64::from(geometry.piece_count()) / 4;
    pair.run_until(|leech| leech.done >= quarter)?;
    match end {
        End::Seed => pair.seed.counted = true,
        End::Leech => pair.leech.counted = true,
    }
    let before = pair.seed.payload;
    pair.run_until(|leech| leech.done >= 3 * quarter)?;
    Ok((pair.seed.payload - before) / u64::from(BLOCK_LEN))
}
