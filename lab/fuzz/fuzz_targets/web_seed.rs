//! Web seeds that answer anything, at any pace, on a disk where every other piece fails. Every invariant of the node
//! holds after every event, and every block is back at the end.
#![no_main]

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use torr_base::{BLOCK_LEN, Bitfield, InfoHash, Instant, PeerId, Rng};
use torr_metainfo::FileMap;
use torr_node::{
    Action, Node, NodeConfig, SwarmInit, TorrentInit, WebFault, WebFetch, WebFiles, WebFlow, WebHead,
    WebInit,
};
use torr_store::{
    BlockBuf, BlockPool, CommitError, Committed, Digest, DiskDone, DiskJob, DiskResult, DiskTask,
    StorageId,
};

fn serve(job: DiskJob<BlockBuf>) -> DiskDone<BlockBuf> {
    let judge = |piece: u32| match piece.is_multiple_of(2) {
        true => Ok(()),
        false => Err(CommitError::HashMismatch),
    };
    let result = match job.task {
        DiskTask::Hash { runs, .. } => DiskResult::Hashed { runs },
        DiskTask::Commit { pieces, .. } => {
            let pieces = pieces.into_iter().map(|commit| Committed {
                piece: commit.piece,
                digests: commit.blocks.iter().map(|_| Digest(1)).collect(),
                blocks: commit.blocks,
                result: judge(commit.piece.get()),
            });
            DiskResult::Committed { pieces: pieces.collect() }
        }
        DiskTask::Load { range, buf } => DiskResult::Loaded { range, buf, result: Ok(()) },
        DiskTask::Recheck { piece } => DiskResult::Rechecked { piece, result: Ok(()) },
        DiskTask::Spill { blocks } => DiskResult::Spilled { blocks, result: Ok(()) },
        DiskTask::Verify { piece, .. } => DiskResult::Verified(Committed {
            piece,
            blocks: Vec::new(),
            result: judge(piece.get()),
            digests: Vec::new(),
        }),
        DiskTask::Sync => DiskResult::Synced(Ok(())),
        DiskTask::Probe { .. } => DiskResult::Probed(Ok(Vec::new())),
        DiskTask::Close => DiskResult::Closed(Ok(())),
    };
    DiskDone { storage: job.storage, job: job.job, result }
}

/// The node, and the requests that it waits for.
struct World {
    node: Node<BlockBuf>,
    now: Instant,
    asked: Vec<(WebFetch, (u64, u64))>,
    jobs: VecDeque<DiskJob<BlockBuf>>,
    /// The disk answers later.
    slow: bool,
}

impl World {
    fn act(&mut self) {
        while let Some(action) = self.node.poll_action() {
            match action {
                Action::Disk(job) if self.slow => self.jobs.push_back(job),
                Action::Disk(job) => self.node.handle_disk(self.now, serve(job)),
                Action::WebFetch { fetch, range, .. } => {
                    assert!(range.0 < range.1, "nothing is asked for");
                    self.asked.push((fetch, range));
                }
                Action::WebCancel { torrent, fetch } => {
                    self.asked.retain(|(it, _)| (it.torrent, it.fetch) != (torrent, fetch));
                }
                Action::Wake { .. }
                | Action::Dial { .. }
                | Action::Close { .. }
                | Action::Http { .. }
                | Action::Resolve { .. }
                | Action::CancelRequest { .. }
                | Action::Datagram { .. }
                | Action::Multicast { .. }
                | Action::PortMap(_)
                | Action::WebWake { .. }
                | Action::Tell { .. } => {}
            }
            self.node.check_invariants();
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((setup, mut stream)) = bytes.split_first() else {
        return;
    };
    let now = Instant::ZERO;
    let config = NodeConfig::new(PeerId([1; 20]), 6881, "torr".into());
    let pool = Box::new(BlockPool::with_bytes(u64::from(2 + setup % 16) * u64::from(BLOCK_LEN)));
    let mut node = Node::new(config, pool, Rng::new(1), now);
    // Files that end inside blocks, padding before, between and after them, and one of no bytes.
    let files = [(40_000, false), (25_536, true), (0, false), (100_000, false), (70_000, true), (90_000, false), (9_000, true)];
    let map = FileMap::new(65_536, files).expect("a torrent");
    let geometry = map.geometry();
    let pieces = geometry.piece_count();
    let swarm = SwarmInit {
        info_hash: InfoHash([7; 20]),
        geometry,
        private: false,
        have: Bitfield::new(pieces),
        partial: Vec::new(),
        wanted: Bitfield::full(pieces),
        metadata: None,
        web: Some(WebInit {
            urls: ["http://a/", "http://b/"].map(str::to_owned).to_vec(),
            files: WebFiles::One(Arc::new(map)),
        }),
        high: Vec::new(),
        files: Vec::new(),
    };
    let init = TorrentInit {
        storage: StorageId(1),
        swarm,
        trackers: Vec::new(),
        peers: Vec::new(),
        nodes: Vec::new(),
        super_seed: false,
        sequential: false,
        waits: false,
    };
    let key = node.add_torrent(now, init).expect("the first torrent");
    let mut world = World { node, now, asked: Vec::new(), jobs: VecDeque::new(), slow: setup & 128 != 0 };
    world.act();
    while let Some((step, rest)) = stream.split_first() {
        stream = rest;
        let chosen = world.asked.get(usize::from(*step >> 4) % world.asked.len().max(1)).copied();
        match (step & 15, chosen) {
            (0, _) | (_, None) => {
                world.now = world.now + Duration::from_millis(if step & 128 == 0 { 150 } else { 9_000 });
                world.node.handle_timeout(world.now);
            }
            (1 | 2, Some((it, (from, to)))) => {
                let head = WebHead {
                    status: 206,
                    content_range: Some(format!("bytes {from}-{}/*", to - 1)),
                    ..WebHead::default()
                };
                world.node.handle_web_head(world.now, it, &head);
            }
            (3, Some((it, _))) => {
                let head = WebHead {
                    status: [200, 404, 416, 503][usize::from(*step >> 6)],
                    ..WebHead::default()
                };
                world.node.handle_web_head(world.now, it, &head);
            }
            (4, Some((it, _))) => world.node.handle_web_end(world.now, it, step & 128 != 0),
            (5, Some((it, _))) => {
                let why = WebFault::Transport("lost".to_owned());
                world.node.handle_web_failed(world.now, it, why);
            }
            (6, _) => {
                if let Some(job) = world.jobs.pop_front() {
                    world.node.handle_disk(world.now, serve(job));
                }
            }
            (n, Some((it, _))) => {
                let body = vec![*step; usize::from(n) * 4_099];
                let mut rest = &body[..];
                let flow = world.node.handle_web_bytes(world.now, it, &mut rest);
                if flow == WebFlow::Done {
                    world.act();
                    world.node.handle_web_end(world.now, it, !rest.is_empty());
                }
            }
        }
        world.act();
        world.node.check_invariants();
    }
    world.slow = false;
    while let Some(job) = world.jobs.pop_front() {
        world.node.handle_disk(world.now, serve(job));
    }
    world.act();
    world.node.stop_torrent(world.now, key);
    world.act();
    let (free, total) = world.node.buffers();
    assert_eq!(free, total, "every block is back");
});
