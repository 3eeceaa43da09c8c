//! A node whose payload has bytes, over a disk in memory.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use torr_base::{Bitfield, Geometry, InfoHash, Instant, PeerId, PieceIndex, Rng};
use torr_node::{
    Action, CloseReason, ConnKey, Encryption, FilePieces, News, Node, NodeConfig, Notice,
    SwarmInit, TorrentInit, TorrentKey,
};
use torr_store::{
    BlockBuf, BlockPool, Committed, DiskDone, DiskJob, DiskResult, DiskTask, StorageId,
};

pub const PIECE: u64 = 256 * 1024;

/// A disk in memory, which finds every piece right that equals the original.
pub struct Memory {
    geometry: Geometry,
    original: Vec<u8>,
    pub written: BTreeMap<PieceIndex, ()>,
}

impl Memory {
    fn serve(&mut self, job: DiskJob<BlockBuf>) -> DiskDone<BlockBuf> {
        let result = match job.task {
            DiskTask::Hash { runs, .. } => DiskResult::Hashed { runs },
            DiskTask::Commit { pieces, .. } => DiskResult::Committed {
                pieces: pieces
                    .into_iter()
                    .map(|commit| self.commit(commit.piece, commit.blocks))
                    .collect(),
            },
            DiskTask::Load { range, mut buf } => {
                let piece = PieceIndex::new(range.piece);
                let from = self.geometry.piece_start(piece) as usize + range.offset as usize;
                let bytes = &self.original[from..from + range.len as usize];
                buf.as_mut()[..bytes.len()].copy_from_slice(bytes);
                DiskResult::Loaded {
                    range,
                    buf,
                    result: Ok(()),
                }
            }
            DiskTask::Spill { blocks } => DiskResult::Spilled {
                blocks,
                result: Ok(()),
            },
            DiskTask::Verify { piece, .. } => {
                self.written.insert(piece, ());
                DiskResult::Verified(Committed {
                    piece,
                    blocks: Vec::new(),
                    result: Ok(()),
                    digests: Vec::new(),
                })
            }
            DiskTask::Recheck { piece } => DiskResult::Rechecked {
                piece,
                result: Ok(()),
            },
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

    fn commit(&mut self, piece: PieceIndex, blocks: Vec<BlockBuf>) -> Committed<BlockBuf> {
        let from = self.geometry.piece_start(piece) as usize;
        for (index, buf) in blocks.iter().enumerate() {
            let block = self.geometry.block_at(piece, index as u32);
            let at = from + block.offset() as usize;
            let right = &self.original[at..at + block.len as usize];
            assert_eq!(&buf.as_ref()[..block.len as usize], right, "{block:?}");
        }
        self.written.insert(piece, ());
        Committed {
            piece,
            blocks,
            result: Ok(()),
            digests: Vec::new(),
        }
    }
}

pub struct Side {
    pub node: Node<BlockBuf>,
    pub key: TorrentKey,
    pub disk: Memory,
    pub conn: Option<ConnKey>,
    pub out: VecDeque<u8>,
    pub notices: Vec<Notice>,
    /// Why connections were closed from here.
    pub closes: Vec<CloseReason>,
    /// Buffers that were offered for one read, at most.
    pub widest: usize,
}

pub fn addr(n: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, n], 6881))
}

impl Side {
    pub fn new(
        n: u8,
        original: &[u8],
        seed: bool,
        peers: Vec<SocketAddr>,
        encryption: Encryption,
    ) -> Self {
        let geometry = Geometry::new(original.len() as u64, PIECE).unwrap();
        let pieces = geometry.piece_count();
        let config = NodeConfig {
            encryption,
            secret: [n; 32],
            ..NodeConfig::new(PeerId([n; 20]), 6881, "torr test".into())
        };
        let pool = Box::new(BlockPool::with_bytes(4 << 20));
        let mut node = Node::new(config, pool, Rng::new(u64::from(n)), Instant::ZERO);
        let swarm = SwarmInit {
            info_hash: InfoHash([7; 20]),
            geometry,
            private: false,
            have: if seed {
                Bitfield::full(pieces)
            } else {
                Bitfield::new(pieces)
            },
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
        let init = TorrentInit {
            storage: StorageId(1),
            swarm,
            trackers: Vec::new(),
            peers,
            nodes: Vec::new(),
            sequential: false,
            waits: false,
            super_seed: false,
        };
        let key = node.add_torrent(Instant::ZERO, init).unwrap();
        let disk = Memory {
            geometry,
            original: original.to_vec(),
            written: BTreeMap::new(),
        };
        Self {
            node,
            key,
            disk,
            conn: None,
            out: VecDeque::new(),
            notices: Vec::new(),
            closes: Vec::new(),
            widest: 0,
        }
    }

    /// Carries out what the node wants; true if it dialled.
    pub fn act(&mut self, now: Instant) -> bool {
        let mut dialled = false;
        while let Some(action) = self.node.poll_action() {
            match action {
                Action::Dial { conn, .. } => {
                    assert!(self.conn.is_none(), "one connection at a time");
                    self.conn = Some(conn);
                    self.out.clear();
                    self.node.handle_connected(now, conn);
                    dialled = true;
                }
                Action::Close { conn, why } => {
                    assert_eq!(self.conn.take(), Some(conn));
                    self.closes.push(why);
                }
                Action::Wake { conn } => self.node.resume(now, conn),
                Action::Disk(job) => {
                    let done = self.disk.serve(job);
                    self.node.handle_disk(now, done);
                }
                Action::Tell {
                    news: News::Swarm(notice),
                    ..
                } => self.notices.push(notice),
                Action::Tell { .. }
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
            self.node.check_invariants();
        }
        dialled
    }

    pub fn write(&mut self, now: Instant, rng: &mut Rng) {
        let Some(conn) = self.conn else { return };
        while self.out.len() < 100_000 {
            let [a, b] = self.node.write_bufs(now, conn);
            if a.len() + b.len() == 0 {
                return;
            }
            let n = 1 + rng.index(a.len() + b.len());
            let bytes: Vec<u8> = a.iter().chain(b).take(n).copied().collect();
            self.out.extend(bytes);
            self.node.handle_written(now, conn, n);
            self.node.check_invariants();
        }
    }

    pub fn read(&mut self, now: Instant, from: &mut VecDeque<u8>, rng: &mut Rng) {
        let Some(conn) = self.conn else { return };
        while !from.is_empty() {
            self.node.read_goal(now, conn);
            self.widest = self.widest.max(self.node.read_bufs(now, conn).count());
            let room = self.node.read_bufs(now, conn).room();
            if room == 0 {
                return;
            }
            let n = (1 + rng.index(room)).min(from.len());
            let bytes: Vec<u8> = from.drain(..n).collect();
            assert_eq!(self.node.read_bufs(now, conn).put(&bytes), n);
            self.node.handle_read(now, conn, n);
            self.act(now);
        }
    }
}
