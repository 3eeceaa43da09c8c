//! The same as `node` of a torrent of which only the info-hash is known: peers give metadata, right or wrong,
//! and say what they have before and after it.
#![no_main]

use std::net::SocketAddr;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use torr_base::{BLOCK_LEN, Bitfield, Geometry, InfoHash, Instant, PeerId, Rng};
use torr_node::{
    Action, ConnKey, FilePieces, MagnetInit, News, Node, NodeConfig, Notice, SwarmInit, TorrentKey,
};
use torr_store::{
    BlockBuf, BlockPool, CommitError, Committed, Digest, DiskDone, DiskJob, DiskResult, DiskTask,
    StorageId,
};

const METADATA: &[u8] = b"twenty bytes of info";
/// Its SHA-1.
const INFO_HASH: [u8; 20] = [
    0xf7, 0x36, 0xbe, 0xda, 0xc9, 0x44, 0x9d, 0xb8, 0xc5, 0xea,
    0xfc, 0x7c, 0xf9, 0xe3, 0x67, 0x27, 0x8b, 0x34, 0x27, 0x1f,
];

/// A disk on which every second piece fails.
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
        DiskTask::Close => DiskResult::Closed(Ok(())),
    };
    DiskDone { storage: job.storage, job: job.job, result }
}

fn act(node: &mut Node<BlockBuf>, now: Instant, key: Option<TorrentKey>) {
    while let Some(action) = node.poll_action() {
        match action {
            Action::Disk(job) => node.handle_disk(now, serve(job)),
            Action::Wake { conn } => node.resume(now, conn),
            Action::Dial { conn, .. } => node.handle_closed(now, conn),
            Action::Tell {
                news: News::Swarm(Notice::Metadata(bytes)),
                torrent,
            } => {
                assert_eq!(&*bytes.0, METADATA);
                assert!(key.is_none_or(|key| key == torrent));
                node.begin(now, torrent, torrent_init());
            }
            Action::Close { .. }
            | Action::Http { .. }
            | Action::Resolve { .. }
            | Action::CancelRequest { .. }
            | Action::Datagram { .. }
            | Action::WebFetch { .. }
            | Action::WebWake { .. }
            | Action::WebCancel { .. }
            | Action::Tell { .. } => {}
        }
        node.check_invariants();
    }
}

/// What the metadata is taken to mean.
fn torrent_init() -> SwarmInit {
    let geometry = Geometry::new(5 * 65_536 + 100, 65_536).expect("a torrent");
    let pieces = geometry.piece_count();
    let mut have = Bitfield::new(pieces);
    have.set(geometry.piece(0).expect("the first piece"));
    SwarmInit {
        info_hash: InfoHash(INFO_HASH),
        geometry,
        private: false,
        have,
        partial: Vec::new(),
        wanted: Bitfield::full(pieces),
        high: Vec::new(),
        metadata: None,
        web: None,
        files: vec![FilePieces { file: 0, pieces: 0..pieces }],
    }
}

fn read<'a>(node: &mut Node<BlockBuf>, now: Instant, conn: ConnKey, stream: &'a [u8]) -> &'a [u8] {
    let [a, b] = node.read_bufs(now, conn);
    let n = (a.len() + b.len()).min(stream.len());
    if n == 0 {
        return stream;
    }
    for (slot, byte) in a.iter_mut().chain(b).zip(stream) {
        *slot = *byte;
    }
    node.handle_read(now, conn, n);
    &stream[n..]
}

fuzz_target!(|bytes: &[u8]| {
    let mut now = Instant::ZERO;
    let config = NodeConfig::new(PeerId([1; 20]), 6881, "torr".into());
    let pool = Box::new(BlockPool::with_bytes(4 * u64::from(BLOCK_LEN)));
    let mut node = Node::new(config, pool, Rng::new(1), now);
    let init = MagnetInit {
        storage: StorageId(1),
        info_hash: InfoHash(INFO_HASH),
        trackers: Vec::new(),
        peers: Vec::new(),
        sequential: false,
    };
    let key = node.add_magnet(now, init).expect("the first torrent");
    let mut conns = Vec::new();
    for n in 1..=2 {
        let from = SocketAddr::from(([127, 0, 0, n], 5_000));
        let conn = node.handle_accept(now, from).expect("room for two");
        let hello = torr_wire::Handshake {
            reserved: torr_wire::Reserved::FAST.union(torr_wire::Reserved::EXTENDED),
            info_hash: InfoHash(INFO_HASH),
            peer_id: PeerId([10 + n; 20]),
        };
        let encoded = hello.encode();
        let mut left = &encoded[..];
        while !left.is_empty() {
            left = read(&mut node, now, conn, left);
        }
        act(&mut node, now, Some(key));
        conns.push(conn);
    }
    let mut stream = bytes;
    while let Some((step, rest)) = stream.split_first() {
        stream = rest;
        let conn = conns[usize::from(*step & 1)];
        match step >> 1 {
            0 => {
                now = now + Duration::from_millis(700);
                node.handle_timeout(now);
            }
            1 => {
                let [a, b] = node.write_bufs(now, conn);
                let n = a.len() + b.len();
                node.handle_written(now, conn, n);
            }
            n => {
                let (part, rest) = stream.split_at(stream.len().min(usize::from(n) * 4));
                stream = rest;
                let mut left = part;
                while !left.is_empty() {
                    let before = left.len();
                    left = read(&mut node, now, conn, left);
                    act(&mut node, now, Some(key));
                    if left.len() == before {
                        break;
                    }
                }
            }
        }
        act(&mut node, now, Some(key));
        node.check_invariants();
    }
    for conn in conns {
        node.handle_closed(now, conn);
        act(&mut node, now, Some(key));
    }
    node.stop_torrent(now, key);
    act(&mut node, now, Some(key));
    let (free, total) = node.buffers();
    assert_eq!(free, total, "every block is back");
});
