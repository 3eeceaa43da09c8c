//! What a swarm wants done, and why it lets a peer go.

use std::fmt;
use std::net::SocketAddr;

use torr_base::{Key, PieceIndex};
use torr_store::{DiskTask, JobId, StorageError};
use torr_wire::MseError;

use crate::metadata::InfoBytes;
use crate::web::{FetchKey, WebEvent, WebRequest};

/// Marks the keys of connections.
#[derive(Debug)]
pub struct ConnMark;
/// A connection of the node, from the dial or the accept to its close.
pub type ConnKey = Key<ConnMark>;

/// Marks the keys of peers.
#[derive(Debug)]
pub struct PeerMark;
/// A peer of one swarm: a connection whose handshake is through.
pub type PeerKey = Key<PeerMark>;

/// Who sends blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    Peer(PeerKey),
    /// A web seed, by its place among those of the torrent.
    Web(u16),
}

impl From<PeerKey> for Source {
    fn from(key: PeerKey) -> Self {
        Self::Peer(key)
    }
}

/// What the node must do for the swarm, in this order.
#[derive(Debug)]
pub enum Action<B> {
    /// Connect to a candidate; the answer is `add_peer` or `handle_dial_failed`.
    Dial {
        addr: SocketAddr,
    },
    /// The peer is gone from the swarm already; close its connection.
    Close {
        conn: ConnKey,
        why: CloseReason,
    },
    Disk {
        job: JobId,
        task: DiskTask<B>,
    },
    /// For people.
    Tell(Notice),
    /// It has something for `poll_transmit`.
    Wake {
        conn: ConnKey,
    },
    /// Buffers came back: readers that wait for one may go on.
    BufsFree,
    /// A peer has a node of the DHT there, as it says (BEP 5).
    HasNode {
        addr: SocketAddr,
    },
    /// Ask a web seed; the answers are `handle_web_head` and what follows it, or `handle_web_failed`.
    WebFetch {
        fetch: FetchKey,
        request: WebRequest,
    },
    /// Nobody waits for it any more.
    WebCancel {
        fetch: FetchKey,
    },
}

/// Where a swarm puts its actions; the node drains it after every input and uses its memory again.
pub type Outbox<B> = Vec<Action<B>>;

/// News about one torrent, for people and for the program that embeds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Verified and written.
    PieceDone { piece: PieceIndex },
    /// All bytes of the file are verified and written.
    FileDone { file: usize },
    /// Everything wanted is verified and written, though not yet durable.
    Complete,
    /// … and durable: whoever came only for the files may leave.
    Synced,
    /// All of a torrent's metadata came from peers, and hashes right. What it says is not known yet: whoever
    /// understands it opens the storage and lets the swarm begin.
    Metadata(InfoBytes),
    /// Somebody changed the files: so many pieces are not right any more, and are fetched again if wanted.
    Lost { pieces: u32 },
    /// The disk said no: the torrent has no peers now, and goes on when the disk says yes. Told again when
    /// more is known.
    Halted(StorageError),
    /// … which it does.
    Resumed,
    /// The disk said no: the torrent has stopped, and what was verified is safe.
    Failed(StorageError),
    /// `stop` is through: everything is flushed and the storage let go of.
    Stopped,
    /// A web seed failed or was caught. The URL may hold a password.
    WebSeed { url: String, event: WebEvent },
    /// A peer was caught; it is not dialled or accepted again.
    Banned { addr: SocketAddr, why: Misbehaved },
}

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// It lied or broke the protocol.
    Misbehaved(Misbehaved),
    /// Honest, but of no use to us.
    Incompatible(Incompatible),
    /// Both sides are complete.
    Redundant,
    /// The peer id or address is connected already.
    Duplicate,
    /// Nothing moved for too long.
    Idle(Idle),
    /// The torrent stops, or there are too many connections.
    Local,
    /// The world's fault; the detail stays with the driver.
    Transport,
}

/// What a peer did that no honest and correct peer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misbehaved {
    /// BEP 3: a message that cannot be read: wrong length, oversized.
    Malformed,
    /// BEP 3: not this torrent's number of bits, or spare bits set.
    Bitfield,
    /// BEP 6: a `have all` or `have none` that is not the first message.
    LateBitfield,
    /// BEP 3: an index past the last piece.
    PieceOutOfRange,
    /// BEP 3: a block that no torrent of this geometry has.
    BlockOutOfRange,
    /// A block that was never asked for.
    Unrequested,
    /// BEP 3: a `request` that leaves its piece, or for more than 16 KiB.
    RequestOutOfRange,
    /// More requests than our `reqq` of BEP 10 allows, or for pieces that we do not have.
    RequestFlood,
    /// BEP 6 has us reject the single ones; more than 50 in a minute while choked close.
    RequestsWhileChoked,
    /// Far more `have`s than there are pieces.
    HaveFlood,
    /// Far more `cancel`s than there were requests, or `reject`s of what was never asked.
    CancelFlood,
    /// BEP 6: a message of the fast extension without having agreed to it.
    FastNotAgreed,
    /// BEP 10: an extension handshake that is no bencoded dictionary.
    ExtendedHandshake,
    /// BEP 11: lists of peers all the time.
    GossipFlood,
    /// BEP 9: a message that cannot be read, or that contradicts what it said before.
    Metadata,
    /// Sent a block that made a piece fail its hash.
    BadBlock,
    /// Sent wrong metadata.
    BadMetadata,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incompatible {
    /// The handshake is not BitTorrent's, or encrypted where that is off.
    Protocol,
    /// Encryption is required here, and its handshake was plaintext.
    Plaintext,
    /// It ended the connection, or said nothing, when asked to exchange keys.
    NoEncryption,
    /// It answered the exchange of keys, and ended it.
    BrokeOff,
    /// It ended the connection, or said nothing, when greeted in plaintext.
    NoPlaintext,
    /// The exchange of keys went wrong.
    Encryption(MseError),
    /// No such torrent here.
    UnknownTorrent,
    /// That is ourselves.
    OwnId,
    /// It was caught before.
    Banned,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// No handshake within its time.
    Handshake,
    /// Nothing received for longer than keep-alives take.
    Silent,
    /// It does not read what we send.
    NeverReads,
    /// It kept us choked for ten minutes while others wait.
    NeverUnchokes,
    /// Neither side wanted anything, and somebody else needs the place.
    Useless,
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Misbehaved(why) => return why.fmt(f),
            Self::Incompatible(Incompatible::Protocol) => {
                "does not speak plain BitTorrent; it may be encrypted"
            }
            Self::Incompatible(Incompatible::Plaintext) => {
                "is not encrypted, and only encrypted connections are allowed"
            }
            Self::Incompatible(Incompatible::NoEncryption) => {
                "does not answer an encrypted handshake"
            }
            Self::Incompatible(Incompatible::BrokeOff) => {
                "broke off the encrypted handshake; it may not have the torrent, or allow no such method"
            }
            Self::Incompatible(Incompatible::NoPlaintext) => {
                "does not answer a plaintext handshake; it may demand encryption"
            }
            Self::Incompatible(Incompatible::Encryption(why)) => {
                return write!(f, "failed to set up encryption: {why}");
            }
            Self::Incompatible(Incompatible::UnknownTorrent) => "asked for an unknown torrent",
            Self::Incompatible(Incompatible::OwnId) => "is this client itself",
            Self::Incompatible(Incompatible::Banned) => "was banned before",
            Self::Redundant => "both sides are complete",
            Self::Duplicate => "is connected already",
            Self::Idle(Idle::Handshake) => "did not finish the handshake in time",
            Self::Idle(Idle::Silent) => "was silent for too long",
            Self::Idle(Idle::NeverReads) => "does not read what is sent to it",
            Self::Idle(Idle::NeverUnchokes) => "never unchoked",
            Self::Idle(Idle::Useless) => "makes room for another",
            Self::Local => "is not needed",
            Self::Transport => "lost the connection",
        })
    }
}

impl fmt::Display for Misbehaved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "sent a message that cannot be read",
            Self::Bitfield => "sent a bitfield of another torrent",
            Self::LateBitfield => {
                "said that it has all or nothing when that was no longer its first message"
            }
            Self::PieceOutOfRange => "named a piece that does not exist",
            Self::BlockOutOfRange => "sent a block that does not exist",
            Self::Unrequested => "sent a block that nobody asked for",
            Self::RequestOutOfRange => "asked for bytes that do not exist",
            Self::RequestFlood => "asked for more than it may",
            Self::RequestsWhileChoked => "kept asking while choked",
            Self::CancelFlood => "took back far more than was asked",
            Self::HaveFlood => "sent far too many haves",
            Self::FastNotAgreed => "used the fast extension without agreeing to it",
            Self::ExtendedHandshake => "sent an extension handshake that cannot be read",
            Self::GossipFlood => "sent lists of peers far too often",
            Self::Metadata => "sent a message about the metadata that cannot be true",
            Self::BadBlock => "sent wrong data",
            Self::BadMetadata => "sent wrong metadata",
        })
    }
}
