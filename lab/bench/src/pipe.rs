//! Two nodes in one thread, joined by a pipe of bytes, with a disk that agrees to everything: what a
//! block costs in the logic alone.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant as Clock};

use anyhow::{Context, Result, ensure};
use torr_base::{BLOCK_LEN, Bitfield, Geometry, InfoHash, Instant, PeerId, RawBlock, Rng};
use torr_node::{
    Action, ConnKey, FilePieces, News, Node, NodeConfig, Notice, Rest, SwarmInit, TorrentInit,
};
use torr_store::{
    BlockBuf, BlockPool, BufSource, Committed, DiskDone, DiskJob, DiskResult, DiskTask, FileSource,
    Found, StorageId,
};

use crate::counter;

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

struct Side {
    node: Node<BlockBuf>,
    conn: Option<ConnKey>,
    wire: VecDeque<u8>,
    done: u64,
    synced: bool,
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
            sequential: false,
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
        })
    }

    /// Carries out what the node wants; true if it dialled.
    fn act(&mut self, now: Instant) -> bool {
        let mut dialled = false;
        while let Some(action) = self.node.poll_action() {
            match action {
                Action::Dial { conn, .. } => {
                    self.conn = Some(conn);
                    self.node.handle_connected(now, conn);
                    dialled = true;
                }
                Action::Wake { conn } => self.node.resume(now, conn),
                Action::Disk(job) => self.node.handle_disk(now, agree(job)),
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
                | Action::Datagram { .. } => {}
            }
        }
        dialled
    }

    fn write(&mut self, now: Instant) {
        let Some(conn) = self.conn else { return };
        while self.wire.len() < PIPE {
            let out = self.node.poll_send(now, conn, &mut InMemory);
            self.wire.extend(out.control);
            let block = match out.block {
                Rest::Bytes(block) => block,
                Rest::File { range, from } => &ZEROS[from as usize..range.len as usize],
            };
            self.wire.extend(block);
            let n = out.control.len() + block.len();
            if n == 0 {
                return;
            }
            self.node.handle_written(now, conn, n);
            self.act(now);
        }
    }

    fn read(&mut self, now: Instant, wire: &mut VecDeque<u8>) {
        let Some(conn) = self.conn else { return };
        while !wire.is_empty() {
            let mut n = 0;
            for buf in self.node.read_bufs(now, conn) {
                // Reading from a VecDeque copies what is there and never fails.
                n += std::io::Read::read(wire, buf).unwrap_or(0);
            }
            if n == 0 {
                return;
            }
            self.node.handle_read(now, conn, n);
            self.act(now);
        }
    }
}

static ZEROS: [u8; BLOCK_LEN as usize] = [0; BLOCK_LEN as usize];

/// Files of zeros, all of which can be sent from.
struct InMemory;

impl FileSource<BlockBuf> for InMemory {
    fn look(&mut self, _: StorageId, _: RawBlock) -> Found {
        Found::Sendable
    }

    fn read(&mut self, _: StorageId, _: RawBlock, _: &mut BlockBuf) -> bool {
        false
    }
}

fn agree(job: DiskJob<BlockBuf>) -> DiskDone<BlockBuf> {
    let result = match job.task {
        DiskTask::Hash { runs } => DiskResult::Hashed { runs },
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
        DiskTask::Close => DiskResult::Closed(Ok(())),
    };
    DiskDone {
        storage: job.storage,
        job: job.job,
        result,
    }
}

/// Carries `total` bytes in pieces of `piece_len` across; measures from a quarter on.
pub(crate) fn transfer(total: u64, piece_len: u64) -> Result<Cost> {
    let geometry = Geometry::new(total, piece_len).context("no torrent")?;
    let mut seed = Side::new(1, geometry, true)?;
    let mut leech = Side::new(2, geometry, false)?;
    let mut now = Instant::ZERO;
    let quarter = u64::from(geometry.piece_count()) / 4;
    let mut begun: Option<(counter::Count, Clock, u64)> = None;
    for _ in 0..10_000_000_u64 {
        now = now + Duration::from_micros(500);
        for side in [&mut seed, &mut leech] {
            if side.node.next_timeout().is_some_and(|due| due <= now) {
                side.node.handle_timeout(now);
            }
        }
        if leech.act(now) {
            seed.conn = seed
                .node
                .handle_accept(now, SocketAddr::from(([127, 0, 0, 2], 5_000)));
        }
        seed.act(now);
        leech.write(now);
        seed.read(now, &mut leech.wire);
        seed.write(now);
        let mut wire = std::mem::take(&mut seed.wire);
        leech.read(now, &mut wire);
        seed.wire = wire;
        if begun.is_none() && leech.done >= quarter {
            begun = Some((counter::now(), Clock::now(), leech.done));
        }
        if leech.synced {
            break;
        }
    }
    ensure!(leech.synced, "the transfer did not end");
    let (count, clock, before) = begun.context("it ended before it was measured")?;
    let count = counter::now().since(count);
    let pieces = leech.done - before;
    Ok(Cost {
        blocks: pieces * piece_len / u64::from(BLOCK_LEN),
        pieces,
        allocations: count.calls,
        bytes: count.bytes,
        took: clock.elapsed(),
    })
}
