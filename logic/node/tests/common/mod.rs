//! One node among scripted peers, in messages: payload has no bytes, time passes only when told to.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm
)]

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use torr_base::{Bitfield, Geometry, InfoHash, Instant, PeerId, PieceIndex, RawBlock, Rng};
use torr_node::{
    Action, CloseReason, ConnKey, FilePieces, News, Node, NodeConfig, Notice, SwarmInit,
    TorrentInit, TorrentKey,
};
use torr_store::{
    BufSource, CommitError, Committed, Digest, DiskDone, DiskJob, DiskResult, DiskTask, FileSource,
    Found, LoadError, PieceCommit, StorageId,
};
use torr_wire::{Handshake, Message, Reserved, piece_header};

pub const INFO_HASH: InfoHash = InfoHash([7; 20]);
pub const BLOCK: u32 = 16_384;

/// A block without bytes: 0 is what belongs there, all else is some liar's.
#[derive(Debug, Default)]
pub struct Blk(pub u64);

struct Pool {
    free: usize,
    total: usize,
}

impl BufSource<Blk> for Pool {
    fn take(&mut self) -> Option<Blk> {
        self.free = self.free.checked_sub(1)?;
        Some(Blk(u64::MAX))
    }

    fn put(&mut self, _: Blk) {
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

/// Files, all of which can be had alike.
pub struct Files {
    pub found: Found,
    /// A read succeeds.
    pub reads: bool,
    pub looks: usize,
}

impl FileSource<Blk> for Files {
    fn look(&mut self, _: StorageId, _: RawBlock) -> Found {
        self.looks += 1;
        self.found
    }

    fn read(&mut self, _: StorageId, _: RawBlock, buf: &mut Blk) -> bool {
        if self.reads {
            buf.0 = 0;
        }
        self.reads
    }

    fn read_run(&mut self, id: StorageId, ranges: &[RawBlock], bufs: &mut [Blk]) -> bool {
        let mut each = ranges.iter().zip(bufs);
        each.all(|(range, buf)| self.read(id, *range, buf))
    }
}

pub struct Setup {
    pub pieces: u32,
    pub blocks_per_piece: u32,
    pub have: Vec<u32>,
    pub partial: Vec<(u32, Vec<u32>)>,
    pub buffers: usize,
    pub assembly_blocks: u64,
    pub super_seed: bool,
    pub seed: u64,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            pieces: 8,
            blocks_per_piece: 4,
            have: Vec::new(),
            partial: Vec::new(),
            buffers: 1_000,
            assembly_blocks: 500,
            super_seed: false,
            seed: 1,
        }
    }
}

/// What the node said to a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    Choke,
    Unchoke,
    Interested,
    NotInterested,
    Have(u32),
    Request(RawBlock),
    Cancel(RawBlock),
    Reject(RawBlock),
    AllowedFast(u32),
    Extended(Vec<u8>),
    Block(RawBlock),
    /// Bitfields, keep-alives and the like.
    Other(Option<u8>),
}

enum Item {
    Bytes(Vec<u8>),
    Payload(u64),
}

pub struct Peer {
    pub conn: ConnKey,
    pub addr: SocketAddr,
    inbox: VecDeque<Item>,
    greeted: bool,
    pub closed: Option<CloseReason>,
}

pub struct Rig {
    pub node: Node<Blk>,
    pub key: TorrentKey,
    pub now: Instant,
    pub geometry: Geometry,
    pub peers: Vec<Peer>,
    pub jobs: VecDeque<DiskJob<Blk>>,
    /// Answer jobs as soon as they are made.
    pub disk_at_once: bool,
    pub spilled: BTreeMap<(PieceIndex, u32), u64>,
    pub files: Files,
    /// What a second look finds to be wrong.
    pub spoilt: Vec<PieceIndex>,
    pub notices: Vec<Notice>,
    pub dials: Vec<(ConnKey, SocketAddr)>,
    /// Check everything after every input.
    pub strict: bool,
}

impl Rig {
    pub fn new(setup: &Setup) -> Self {
        Self::with(setup, |_| {})
    }

    pub fn with(setup: &Setup, change: impl FnOnce(&mut NodeConfig)) -> Self {
        let len = u64::from(setup.pieces) * u64::from(setup.blocks_per_piece) * u64::from(BLOCK);
        let piece_len = u64::from(setup.blocks_per_piece * BLOCK);
        let geometry = Geometry::new(len, piece_len).unwrap();
        let mut config = NodeConfig::new(PeerId([1; 20]), 6881, "torr test".into());
        config.assembly_bytes = setup.assembly_blocks * u64::from(BLOCK);
        change(&mut config);
        let pool = Pool {
            free: setup.buffers,
            total: setup.buffers,
        };
        let now = Instant::ZERO;
        let mut node = Node::new(config, Box::new(pool), Rng::new(setup.seed), now);
        let mut have = Bitfield::new(setup.pieces);
        for piece in &setup.have {
            have.set(PieceIndex::new(*piece));
        }
        let mut spilled = BTreeMap::new();
        for (piece, blocks) in &setup.partial {
            for index in blocks {
                spilled.insert((PieceIndex::new(*piece), *index), 0);
            }
        }
        let partial = setup.partial.iter().cloned();
        let swarm = SwarmInit {
            info_hash: INFO_HASH,
            geometry,
            private: false,
            have,
            partial: partial.map(|(p, b)| (PieceIndex::new(p), b)).collect(),
            wanted: Bitfield::full(setup.pieces),
            metadata: None,
            web: None,
            high: Vec::new(),
            files: vec![FilePieces {
                file: 0,
                pieces: 0..setup.pieces,
            }],
        };
        let init = TorrentInit {
            storage: StorageId(1),
            swarm,
            trackers: Vec::new(),
            peers: Vec::new(),
            nodes: Vec::new(),
            sequential: false,
            waits: false,
            super_seed: setup.super_seed,
        };
        let key = node.add_torrent(now, init).unwrap();
        let mut rig = Self {
            node,
            key,
            now,
            geometry,
            peers: Vec::new(),
            jobs: VecDeque::new(),
            disk_at_once: true,
            spilled,
            files: Files {
                found: Found::Cold,
                reads: false,
                looks: 0,
            },
            spoilt: Vec::new(),
            notices: Vec::new(),
            dials: Vec::new(),
            strict: true,
        };
        rig.act();
        rig
    }

    /// A peer connects and shakes hands; each from a network of its own.
    pub fn connect(&mut self, fast: bool) -> usize {
        let n = self.peers.len() as u32 + 1;
        let addr = SocketAddr::from(([11, (n >> 8) as u8, n as u8, 1], 7_000));
        self.connect_from(addr, fast).unwrap()
    }

    pub fn connect_from(&mut self, addr: SocketAddr, fast: bool) -> Option<usize> {
        let n = self.peers.len();
        let conn = self.node.handle_accept(self.now, addr)?;
        let mut peer_id = [9; 20];
        peer_id[..8].copy_from_slice(&(n as u64).to_be_bytes());
        let reserved = if fast {
            Reserved::EXTENDED.union(Reserved::FAST)
        } else {
            Reserved::EXTENDED
        };
        let hello = Handshake {
            reserved,
            info_hash: INFO_HASH,
            peer_id: PeerId(peer_id),
        };
        self.peers.push(Peer {
            conn,
            addr,
            inbox: VecDeque::from([Item::Bytes(hello.encode().to_vec())]),
            greeted: false,
            closed: None,
        });
        self.pump(n);
        Some(n)
    }

    /// A peer that has everything and lets us ask.
    pub fn connect_seed(&mut self) -> usize {
        let n = self.connect(true);
        self.say(n, &Message::HaveAll);
        self.say(n, &Message::Unchoke);
        n
    }

    /// A peer with these pieces, which lets us ask.
    pub fn connect_with(&mut self, pieces: &[u32]) -> usize {
        let n = self.connect(true);
        let mut have = Bitfield::new(self.geometry.piece_count());
        for piece in pieces {
            have.set(PieceIndex::new(*piece));
        }
        self.say(n, &Message::Bitfield(&have.to_bytes()));
        self.say(n, &Message::Unchoke);
        n
    }

    /// It has nothing, and wants what we have.
    pub fn wants_all(&mut self, n: usize) {
        self.say(n, &Message::HaveNone);
        self.say(n, &Message::Interested);
    }

    pub fn say(&mut self, n: usize, message: &Message<'_>) {
        let mut bytes = Vec::new();
        message.write_to(&mut bytes);
        self.say_bytes(n, bytes);
    }

    pub fn say_bytes(&mut self, n: usize, bytes: Vec<u8>) {
        self.peers[n].inbox.push_back(Item::Bytes(bytes));
        self.pump(n);
    }

    /// Sends a block: 0 is the right one.
    pub fn send(&mut self, n: usize, raw: RawBlock, content: u64) {
        let header = piece_header(raw).to_vec();
        self.peers[n].inbox.push_back(Item::Bytes(header));
        self.peers[n].inbox.push_back(Item::Payload(content));
        self.pump(n);
    }

    /// Delivers what waits, as far as the node reads.
    pub fn pump(&mut self, n: usize) {
        let conn = self.peers[n].conn;
        while self.peers[n].closed.is_none() && self.node.wants_read(self.now, conn) {
            let Some(item) = self.peers[n].inbox.pop_front() else {
                break;
            };
            match item {
                Item::Bytes(bytes) => {
                    let mut rest = bytes.as_slice();
                    self.node.handle_bytes(self.now, conn, &mut rest);
                    if !rest.is_empty() {
                        let rest = rest.to_vec();
                        self.peers[n].inbox.push_front(Item::Bytes(rest));
                    }
                }
                Item::Payload(content) => {
                    self.node.handle_payload(self.now, conn, |blk| {
                        if let Some(blk) = blk {
                            blk.0 = content;
                        }
                    });
                }
            }
            self.act();
        }
        self.act();
    }

    /// Carries out what the node wants, and checks that nothing got lost.
    pub fn act(&mut self) {
        while let Some(action) = self.node.poll_action() {
            match action {
                Action::Dial { conn, remote } => self.dials.push((conn, remote)),
                Action::Close { conn, why } => {
                    if let Some(peer) = self.peers.iter_mut().find(|p| p.conn == conn) {
                        peer.closed = Some(why);
                    }
                }
                Action::Wake { conn } => self.node.handle_bytes(self.now, conn, &mut [].as_slice()),
                Action::Disk(job) => {
                    self.jobs.push_back(job);
                    if self.disk_at_once {
                        self.serve();
                    }
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
        }
        if self.strict {
            self.check();
        }
    }

    pub fn check(&self) {
        self.node.check_invariants();
        let at_disk: usize = self.jobs.iter().map(|job| blocks_of(&job.task)).sum();
        let (free, total) = self.node.buffers();
        assert_eq!(
            free + self.node.blocks_held() + at_disk,
            total,
            "a block is lost or doubled"
        );
    }

    /// Answers the oldest job.
    pub fn serve(&mut self) -> bool {
        let Some(job) = self.jobs.pop_front() else {
            return false;
        };
        let result = match job.task {
            DiskTask::Hash { runs, .. } => DiskResult::Hashed { runs },
            DiskTask::Commit { pieces, .. } => DiskResult::Committed {
                pieces: pieces.into_iter().map(commit).collect(),
            },
            DiskTask::Load { range, mut buf } => {
                buf.0 = 0;
                DiskResult::Loaded {
                    range,
                    buf,
                    result: Ok(()),
                }
            }
            DiskTask::Spill { blocks } => {
                for spill in &blocks {
                    let place = (spill.block.piece, spill.block.index);
                    self.spilled.insert(place, spill.buf.0);
                }
                DiskResult::Spilled {
                    blocks,
                    result: Ok(()),
                }
            }
            DiskTask::Verify { piece, .. } => {
                let count = self.geometry.block_count(piece);
                let contents: Vec<_> = (0..count)
                    .map(|index| self.spilled[&(piece, index)])
                    .collect();
                DiskResult::Verified(judge(piece, &contents, Vec::new()))
            }
            DiskTask::Recheck { piece } => {
                let lost = self.spoilt.contains(&piece);
                let result = if lost { Err(LoadError::Lost) } else { Ok(()) };
                DiskResult::Rechecked { piece, result }
            }
            DiskTask::Sync => DiskResult::Synced(Ok(())),
            DiskTask::Probe { .. } => DiskResult::Probed(Ok(Vec::new())),
            DiskTask::Close => DiskResult::Closed(Ok(())),
        };
        let (storage, job) = (job.storage, job.job);
        let done = DiskDone {
            storage,
            job,
            result,
        };
        self.node.handle_disk(self.now, done);
        true
    }

    /// Everything that the node has to say to the peer now; blocks are taken at once.
    pub fn hear(&mut self, n: usize) -> Vec<Said> {
        let mut out = Vec::new();
        let conn = self.peers[n].conn;
        while self.peers[n].closed.is_none()
            && let Some(frame) = self.node.poll_frame(self.now, conn, &mut self.files)
        {
            let mut bytes = frame.control.as_slice();
            if !self.peers[n].greeted {
                self.peers[n].greeted = true;
                bytes = &bytes[68..];
            }
            parse(bytes, &mut out);
            if let Some((_, payload)) = frame.block {
                self.node.handle_frame_sent(self.now, conn, payload);
            }
            self.act();
        }
        out
    }

    /// Requests among what the node says.
    pub fn requests(&mut self, n: usize) -> Vec<RawBlock> {
        let said = self.hear(n).into_iter();
        said.filter_map(|said| match said {
            Said::Request(raw) => Some(raw),
            _ => None,
        })
        .collect()
    }

    /// Answers all requests at these peers, in turn, until there are none.
    pub fn answer_all(&mut self, peers: &[(usize, u64)]) {
        loop {
            let mut any = false;
            for (n, content) in peers {
                for raw in self.requests(*n) {
                    any = true;
                    self.send(*n, raw, *content);
                }
            }
            if !any {
                return;
            }
        }
    }

    /// Lets time pass in ticks of 100 ms.
    pub fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        while self.now < end {
            self.now = self.now + Duration::from_millis(100);
            self.node.handle_timeout(self.now);
            self.act();
            for n in 0..self.peers.len() {
                if self.peers[n].closed.is_none() {
                    self.pump(n);
                }
            }
        }
    }

    pub fn close(&mut self, n: usize) {
        let conn = self.peers[n].conn;
        self.node.handle_closed(self.now, conn);
        self.peers[n].closed = Some(CloseReason::Transport);
        self.act();
    }

    pub fn have(&self) -> u32 {
        self.node.swarm(self.key).unwrap().have().count()
    }

    pub fn is_complete(&self) -> bool {
        self.node.swarm(self.key).unwrap().is_complete()
    }

    pub fn banned(&self) -> Vec<SocketAddr> {
        let bans = self.notices.iter().filter_map(|notice| match notice {
            Notice::Banned { addr, .. } => Some(*addr),
            _ => None,
        });
        bans.collect()
    }

    /// Stops the torrent; every block must come back.
    pub fn stop(&mut self) {
        self.node.stop_torrent(self.now, self.key);
        self.act();
        while self.serve() {
            self.act();
        }
        assert_eq!(self.notices.last(), Some(&Notice::Stopped));
        let (free, total) = self.node.buffers();
        assert_eq!(free, total, "every block is back");
    }
}

fn blocks_of(task: &DiskTask<Blk>) -> usize {
    match task {
        DiskTask::Commit { pieces, .. } => pieces.iter().map(|piece| piece.blocks.len()).sum(),
        DiskTask::Hash { runs, .. } => runs.iter().map(|run| run.blocks.len()).sum(),
        DiskTask::Load { .. } => 1,
        DiskTask::Spill { blocks } => blocks.len(),
        DiskTask::Verify { .. }
        | DiskTask::Recheck { .. }
        | DiskTask::Sync
        | DiskTask::Probe { .. }
        | DiskTask::Close => 0,
    }
}

fn commit(piece: PieceCommit<Blk>) -> Committed<Blk> {
    let contents: Vec<_> = piece.blocks.iter().map(|blk| blk.0).collect();
    judge(piece.piece, &contents, piece.blocks)
}

fn judge(piece: PieceIndex, contents: &[u64], blocks: Vec<Blk>) -> Committed<Blk> {
    let right = contents.iter().all(|content| *content == 0);
    Committed {
        piece,
        blocks,
        result: if right {
            Ok(())
        } else {
            Err(CommitError::HashMismatch)
        },
        digests: contents.iter().map(|content| Digest(*content)).collect(),
    }
}

fn parse(mut bytes: &[u8], out: &mut Vec<Said>) {
    let word = |bytes: &[u8], at: usize| {
        u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
    };
    while bytes.len() >= 4 {
        let len = word(bytes, 0) as usize;
        let id = (len > 0).then(|| bytes[4]);
        let raw = |bytes: &[u8]| RawBlock {
            piece: word(bytes, 5),
            offset: word(bytes, 9),
            len: if id == Some(7) {
                len as u32 - 9
            } else {
                word(bytes, 13)
            },
        };
        let said = match id {
            Some(0) => Said::Choke,
            Some(1) => Said::Unchoke,
            Some(2) => Said::Interested,
            Some(3) => Said::NotInterested,
            Some(4) => Said::Have(word(bytes, 5)),
            Some(6) => Said::Request(raw(bytes)),
            Some(7) => {
                // A frame's block follows its header without bytes.
                out.push(Said::Block(raw(bytes)));
                return;
            }
            Some(8) => Said::Cancel(raw(bytes)),
            Some(16) => Said::Reject(raw(bytes)),
            Some(17) => Said::AllowedFast(word(bytes, 5)),
            Some(20) => Said::Extended(bytes[6..4 + len].to_vec()),
            id => Said::Other(id),
        };
        out.push(said);
        bytes = &bytes[4 + len..];
    }
}
