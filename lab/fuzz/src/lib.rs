//! What the targets that drive a whole node share: a disk, a driver, and two peers that say what the input says.

use std::net::SocketAddr;
use std::time::Duration;

use torr_base::{BLOCK_LEN, Bitfield, Geometry, InfoHash, Instant, PeerId, Rng};
use torr_node::{
    Action, ConnKey, FilePieces, News, Node, NodeConfig, Notice, SwarmInit, TorrentKey,
};
use torr_store::{
    BlockBuf, BlockPool, CommitError, Committed, Digest, DiskDone, DiskJob, DiskResult, DiskTask,
};

/// A small torrent of six pieces, the last of them short, of which the first is here.
pub fn torrent(info_hash: InfoHash) -> SwarmInit {
    let geometry = Geometry::new(5 * 65_536 + 100, 65_536).expect("a torrent");
    let pieces = geometry.piece_count();
    let mut have = Bitfield::new(pieces);
    have.set(geometry.piece(0).expect("the first piece"));
    SwarmInit {
        info_hash,
        geometry,
        private: false,
        have,
        partial: Vec::new(),
        wanted: Bitfield::full(pieces),
        high: Vec::new(),
        web: None,
        metadata: None,
        files: vec![FilePieces { file: 0, pieces: 0..pieces }],
    }
}

/// A node on a disk on which every second piece fails, with memory for four blocks.
pub struct World {
    pub node: Node<BlockBuf>,
    pub now: Instant,
    info_hash: InfoHash,
    /// Of which torrent this is the metadata, where that has to be found.
    metadata: Option<&'static [u8]>,
}

impl World {
    #[must_use]
    pub fn new(info_hash: InfoHash, metadata: Option<&'static [u8]>) -> Self {
        let now = Instant::ZERO;
        let config = NodeConfig::new(PeerId([1; 20]), 6881, "torr".into());
        let pool = Box::new(BlockPool::with_bytes(4 * u64::from(BLOCK_LEN)));
        let node = Node::new(config, pool, Rng::new(1), now);
        Self { node, now, info_hash, metadata }
    }

    /// Two peers come in, `input` says which of them says what and when time passes, and all end.
    pub fn run(mut self, key: TorrentKey, input: &[u8]) {
        let conns = [1, 2].map(|n| self.connect(n));
        let mut stream = input;
        while let Some((step, rest)) = stream.split_first() {
            stream = rest;
            let conn = conns[usize::from(*step & 1)];
            match step >> 1 {
                0 => {
                    self.now = self.now + Duration::from_millis(700);
                    self.node.handle_timeout(self.now);
                }
                1 => {
                    let [a, b] = self.node.write_bufs(self.now, conn);
                    let n = a.len() + b.len();
                    self.node.handle_written(self.now, conn, n);
                }
                n => {
                    let (part, rest) = stream.split_at(stream.len().min(usize::from(n) * 4));
                    stream = rest;
                    let mut left = part;
                    while !left.is_empty() {
                        let before = left.len();
                        left = self.read(conn, left);
                        self.act();
                        if left.len() == before {
                            break;
                        }
                    }
                }
            }
            self.act();
            self.node.check_invariants();
        }
        for conn in conns {
            self.node.handle_closed(self.now, conn);
            self.act();
        }
        self.node.stop_torrent(self.now, key);
        self.act();
        let (free, total) = self.node.buffers();
        assert_eq!(free, total, "every block is back");
    }

    fn connect(&mut self, n: u8) -> ConnKey {
        let from = SocketAddr::from(([127, 0, 0, n], 5_000));
        let conn = self.node.handle_accept(self.now, from).expect("room for two");
        let hello = torr_wire::Handshake {
            reserved: torr_wire::Reserved::FAST.union(torr_wire::Reserved::EXTENDED),
            info_hash: self.info_hash,
            peer_id: PeerId([10 + n; 20]),
        };
        let encoded = hello.encode();
        let mut left = &encoded[..];
        while !left.is_empty() {
            left = self.read(conn, left);
        }
        self.act();
        conn
    }

    fn act(&mut self) {
        while let Some(action) = self.node.poll_action() {
            match action {
                Action::Disk(job) => self.node.handle_disk(self.now, serve(job)),
                Action::Wake { conn } => self.node.resume(self.now, conn),
                Action::Dial { conn, .. } => self.node.handle_closed(self.now, conn),
                Action::Tell { news: News::Swarm(Notice::Metadata(bytes)), torrent: key } => {
                    assert_eq!(Some(&*bytes.0), self.metadata);
                    self.node.begin(self.now, key, torrent(self.info_hash));
                }
                Action::Close { .. }
                | Action::Http { .. }
                | Action::Resolve { .. }
                | Action::CancelRequest { .. }
                | Action::Datagram { .. }
                | Action::Multicast { .. }
                | Action::PortMap(_)
                | Action::WebFetch { .. }
                | Action::WebWake { .. }
                | Action::WebCancel { .. }
                | Action::Tell { .. } => {}
            }
            self.node.check_invariants();
        }
    }

    fn read<'a>(&mut self, conn: ConnKey, stream: &'a [u8]) -> &'a [u8] {
        let n = self.node.read_bufs(self.now, conn).put(stream);
        self.node.handle_read(self.now, conn, n);
        &stream[n..]
    }
}

fn serve(job: DiskJob<BlockBuf>) -> DiskDone<BlockBuf> {
    let result = match job.task {
        DiskTask::Hash { runs, .. } => DiskResult::Hashed { runs },
        DiskTask::Commit { pieces, .. } => {
            let pieces = pieces.into_iter().map(|commit| {
                let right = commit.piece.get().is_multiple_of(2);
                let digests = commit.blocks.iter().map(|_| Digest(1)).collect();
                let result = if right { Ok(()) } else { Err(CommitError::HashMismatch) };
                Committed { piece: commit.piece, blocks: commit.blocks, result, digests }
            });
            DiskResult::Committed { pieces: pieces.collect() }
        }
        DiskTask::Load { range, buf } => DiskResult::Loaded { range, buf, result: Ok(()) },
        DiskTask::Recheck { piece } => DiskResult::Rechecked { piece, result: Ok(()) },
        DiskTask::Spill { blocks } => DiskResult::Spilled { blocks, result: Ok(()) },
        DiskTask::Verify { piece, .. } => {
            let right = piece.get().is_multiple_of(2);
            let result = if right { Ok(()) } else { Err(CommitError::HashMismatch) };
            let blocks = Vec::new();
            DiskResult::Verified(Committed { piece, blocks, result, digests: Vec::new() })
        }
        DiskTask::Sync => DiskResult::Synced(Ok(())),
        DiskTask::Probe { .. } => DiskResult::Probed(Ok(Vec::new())),
        DiskTask::Close => DiskResult::Closed(Ok(())),
    };
    DiskDone { storage: job.storage, job: job.job, result }
}
