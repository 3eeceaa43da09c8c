//! What the targets that drive a whole node share: a disk, a driver, and two peers that say what the input says.
//!
//! An input is steps. A step is a byte: its lowest bit says which peer, the rest what happens:
//!
//! | rest | what |
//! |:--|:--|
//! | 0 | 700 ms pass |
//! | 1 | what the node has to say is taken off its hands |
//! | 2 | the peer answers requests; how is said by two bytes more, see [`World::answer`] |
//! | 3 | as many ms pass as one byte more says |
//! | n | the next 4 n bytes come as they are |

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use torr_base::{BLOCK_LEN, Bitfield, Geometry, InfoHash, Instant, PeerId, RawBlock, Rng};
use torr_node::{
    Action, ConnKey, FilePieces, News, Node, NodeConfig, Notice, SwarmInit, TorrentKey,
};
use torr_store::{
    BlockBuf, BlockPool, CommitError, Committed, Digest, DiskDone, DiskJob, DiskResult, DiskTask,
};

const PIECE_LEN: u32 = 16 * BLOCK_LEN;

/// A small torrent of six pieces, the last of them short, of which the first is here. The others are so long
/// that whoever brings them in no time is counted fast.
pub fn torrent(info_hash: InfoHash) -> SwarmInit {
    let len = 5 * u64::from(PIECE_LEN) + 100;
    let geometry = Geometry::new(len, PIECE_LEN.into()).expect("a torrent");
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

/// A node on a disk on which pieces are wrong that a peer wants to be.
pub struct World {
    pub node: Node<BlockBuf>,
    pub now: Instant,
    info_hash: InfoHash,
    /// Of which torrent this is the metadata, where that has to be found.
    metadata: Option<&'static [u8]>,
}

struct Peer {
    conn: ConnKey,
    /// What it said and the node did not read yet.
    said: Vec<u8>,
    /// What the node said and was not looked at yet.
    heard: Vec<u8>,
    /// What it was asked for.
    asked: VecDeque<RawBlock>,
}

impl World {
    /// With memory for so many blocks.
    #[must_use]
    pub fn new(info_hash: InfoHash, blocks: u8, metadata: Option<&'static [u8]>) -> Self {
        let now = Instant::ZERO;
        let config = NodeConfig::new(PeerId([1; 20]), 6881, "torr".into());
        let pool = BlockPool::with_bytes(u64::from(blocks) * u64::from(BLOCK_LEN));
        let node = Node::new(config, Box::new(pool), Rng::new(1), now);
        Self { node, now, info_hash, metadata }
    }

    /// Two peers come in, `input` says which of them says what and when time passes, and all end.
    pub fn run(mut self, key: TorrentKey, input: &[u8]) {
        let mut peers = [1, 2].map(|n| self.connect(n));
        let mut input = input;
        while let Some(step) = take(&mut input) {
            let peer = &mut peers[usize::from(step & 1)];
            match step >> 1 {
                0 => self.pass(700),
                1 => {
                    self.listen(peer);
                }
                2 => {
                    let (count, how) = (take(&mut input), take(&mut input));
                    self.answer(peer, count.unwrap_or_default(), how.unwrap_or_default());
                }
                3 => self.pass(take(&mut input).unwrap_or_default().into()),
                n => {
                    let (part, rest) = input.split_at(input.len().min(usize::from(n) * 4));
                    input = rest;
                    peer.said.extend(part);
                    self.say(peer, usize::MAX, 0);
                }
            }
            self.act();
            self.node.check_invariants();
        }
        for peer in peers {
            self.node.handle_closed(self.now, peer.conn);
            self.act();
        }
        self.node.stop_torrent(self.now, key);
        self.act();
        let (free, total) = self.node.buffers();
        assert_eq!(free, total, "every block is back");
    }

    fn pass(&mut self, millis: u64) {
        self.now = self.now + Duration::from_millis(millis);
        self.node.handle_timeout(self.now);
    }

    /// Hears some of what the node has to say; false where it has nothing.
    fn listen(&mut self, peer: &mut Peer) -> bool {
        let [a, b] = self.node.write_bufs(self.now, peer.conn);
        peer.heard.extend(a.iter().chain(b));
        let n = a.len() + b.len();
        self.node.handle_written(self.now, peer.conn, n);
        peer.understand();
        n > 0
    }

    /// Answers as many requests as the low half of `count` says, and one. Its high half says how the stream is
    /// cut: into 3,000 times as many bytes, or not at all. The bits of `how`, from the lowest:
    ///
    /// - the pieces are wrong;
    /// - last asked, first sent;
    /// - a `have` before each block;
    /// - every second block is rejected and does not come;
    /// - the rest: so many times 1,100 bytes do not come before the peer's next word.
    fn answer(&mut self, peer: &mut Peer, count: u8, how: u8) {
        while self.listen(peer) {
            self.act();
        }
        for n in 0..=count & 15 {
            let next = match how & 2 {
                0 => peer.asked.pop_front(),
                _ => peer.asked.pop_back(),
            };
            let Some(raw) = next else { break };
            if how & 4 != 0 {
                peer.said.extend([0, 0, 0, 5, 4, 0, 0, 0, 1]);
            }
            let mut header = torr_wire::piece_header(raw);
            if how & 8 != 0 && n & 1 != 0 {
                // A `reject` is a `request` by another number.
                header = [0, 0, 0, 13, 16, 0, 0, 0, 0, 0, 0, 0, 0];
                header[5..9].copy_from_slice(&raw.piece.to_be_bytes());
                header[9..].copy_from_slice(&raw.offset.to_be_bytes());
                peer.said.extend(header);
                peer.said.extend(raw.len.to_be_bytes());
                continue;
            }
            peer.said.extend(header);
            peer.said.resize(peer.said.len() + raw.len as usize, how & 1);
        }
        let at_a_time = match count >> 4 {
            0 => usize::MAX,
            n => usize::from(n) * 3_000,
        };
        self.say(peer, at_a_time, usize::from(how >> 4) * 1_100);
    }

    /// The node reads what the peer has to say but for its end, as long as it does.
    fn say(&mut self, peer: &mut Peer, at_a_time: usize, hold_back: usize) {
        let end = peer.said.len().saturating_sub(hold_back);
        let mut at = 0;
        while at < end {
            let part = &peer.said[at..end.min(at.saturating_add(at_a_time))];
            let n = self.read(peer.conn, part);
            at += n;
            self.act();
            if n == 0 {
                break;
            }
        }
        peer.said.drain(..at);
    }

    fn connect(&mut self, n: u8) -> Peer {
        let from = SocketAddr::from(([127, 0, 0, n], 5_000));
        let conn = self.node.handle_accept(self.now, from).expect("room for two");
        let hello = torr_wire::Handshake {
            reserved: torr_wire::Reserved::FAST.union(torr_wire::Reserved::EXTENDED),
            info_hash: self.info_hash,
            peer_id: PeerId([10 + n; 20]),
        };
        let (said, heard) = (hello.encode().to_vec(), Vec::new());
        let mut peer = Peer { conn, said, heard, asked: VecDeque::new() };
        self.say(&mut peer, usize::MAX, 0);
        while peer.heard.len() < torr_wire::HANDSHAKE_LEN && self.listen(&mut peer) {}
        peer.heard.drain(..torr_wire::HANDSHAKE_LEN);
        peer.understand();
        peer
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

    /// As a driver does, for which what is worth a turn decides which blocks are expected.
    fn read(&mut self, conn: ConnKey, stream: &[u8]) -> usize {
        self.node.read_goal(self.now, conn);
        let n = self.node.read_bufs(self.now, conn).put(stream);
        self.node.handle_read(self.now, conn, n);
        n
    }
}

impl Peer {
    /// Looks for requests in what it heard, and for those that are taken back.
    fn understand(&mut self) {
        const REQUEST: u8 = 6;
        const CANCEL: u8 = 8;
        let number = |bytes: &[u8]| bytes.iter().fold(0, |n, byte| n << 8 | u32::from(*byte));
        while let Some((len, rest)) = self.heard.split_first_chunk::<4>() {
            let len = number(len) as usize;
            let Some(message) = rest.get(..len) else { break };
            if let [id @ (REQUEST | CANCEL), body @ ..] = message {
                let raw = RawBlock {
                    piece: number(&body[..4]),
                    offset: number(&body[4..8]),
                    len: number(&body[8..]),
                };
                match *id {
                    REQUEST => self.asked.push_back(raw),
                    _ => self.asked.retain(|asked| *asked != raw),
                }
            }
            self.heard.drain(..4 + len);
        }
    }
}

fn take(input: &mut &[u8]) -> Option<u8> {
    let (first, rest) = input.split_first()?;
    *input = rest;
    Some(*first)
}

/// A piece is wrong that has a block whose first byte is odd; of one that is on the disk already, the number decides.
fn serve(job: DiskJob<BlockBuf>) -> DiskDone<BlockBuf> {
    let result = match job.task {
        DiskTask::Hash { runs, .. } => DiskResult::Hashed { runs },
        DiskTask::Commit { pieces, .. } => {
            let pieces = pieces.into_iter().map(|commit| {
                let odd = |buf: &BlockBuf| buf.as_ref().first().is_some_and(|first| first & 1 != 0);
                let right = !commit.blocks.iter().any(odd);
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
