//! A peer that says anything, at any pace: "0 passes time, n reads n bytes". Every invariant of the
//! node holds after every event, and every block is back at the end.
#![no_main]

use std::net::SocketAddr;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use torr_base::{BLOCK_LEN, Bitfield, Geometry, InfoHash, Instant, PeerId, Rng};
use torr_node::{Action, ConnKey, FilePieces, Node, NodeConfig, SwarmInit, TorrentInit};
use torr_store::{
    BlockBuf, BlockPool, CommitError, Committed, Digest, DiskDone, DiskJob, DiskResult, DiskTask,
    StorageId,
};

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

fn act(node: &mut Node<BlockBuf>, now: Instant) {
    while let Some(action) = node.poll_action() {
        match action {
            Action::Disk(job) => node.handle_disk(now, serve(job)),
            Action::Wake { conn } => node.resume(now, conn),
            Action::Dial { conn, .. } => node.handle_closed(now, conn),
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
    let geometry = Geometry::new(5 * 65_536 + 100, 65_536).expect("a torrent");
    let pieces = geometry.piece_count();
    let config = NodeConfig::new(PeerId([1; 20]), 6881, "torr".into());
    let pool = Box::new(BlockPool::with_bytes(4 * u64::from(BLOCK_LEN)));
    let mut node = Node::new(config, pool, Rng::new(1), now);
    let mut have = Bitfield::new(pieces);
    have.set(geometry.piece(0).expect("the first piece"));
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
        files: vec![FilePieces { file: 0, pieces: 0..pieces }],
    };
    let init = TorrentInit {
        storage: StorageId(1),
        swarm,
        trackers: Vec::new(),
        peers: Vec::new(),
        sequential: false,
    };
    let key = node.add_torrent(now, init).expect("the first torrent");
    let mut conns = Vec::new();
    for n in 1..=2 {
        let from = SocketAddr::from(([127, 0, 0, n], 5_000));
        let conn = node.handle_accept(now, from).expect("room for two");
        let hello = torr_wire::Handshake {
            reserved: torr_wire::Reserved::FAST.union(torr_wire::Reserved::EXTENDED),
            info_hash: InfoHash([7; 20]),
            peer_id: PeerId([10 + n; 20]),
        };
        let encoded = hello.encode();
        let mut left = &encoded[..];
        while !left.is_empty() {
            left = read(&mut node, now, conn, left);
        }
        act(&mut node, now);
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
                    act(&mut node, now);
                    if left.len() == before {
                        break;
                    }
                }
            }
        }
        act(&mut node, now);
        node.check_invariants();
    }
    for conn in conns {
        node.handle_closed(now, conn);
        act(&mut node, now);
    }
    node.stop_torrent(now, key);
    act(&mut node, now);
    let (free, total) = node.buffers();
    assert_eq!(free, total, "every block is back");
});
