//! One torrent's decisions: which peers, which blocks, whom to give to, whom to blame.
//!
//! ```text
//!   node ─ peer(..) ─► PeerCx ─► requests · assembly ─► Action::Disk(Commit)
//!   disk ─ handle_disk ─► have · blame · haves to peers
//!   time ─ handle_timeout ─► rates · snubs · choker · dialer
//!   node ◄─ poll_transmit ─ control messages and one block
//! ```
//!
//! Terms are those of [BEP 3](https://www.bittorrent.org/beps/bep_0003.html) and
//! [BEP 6](https://www.bittorrent.org/beps/bep_0006.html). A *candidate* is an address, a *peer* a
//! connection whose handshake is through; a piece is *open* from its first request to the answer of the
//! disk.
//!
//! Invariants (`check_invariants` asserts them):
//! - a piece is had only after the disk said that it is verified and written;
//! - every wanted piece is had, open, or may be opened;
//! - a block is owed by several peers only in the end game;
//! - requests stay within what the peer allows.
//!
//! Beside peers, web seeds give blocks: `web`.
//!
//! Deliberately absent: sockets, handshakes, trackers, rate limits (the node's), files (the disk's).
//! `B`, the block, is moved and never opened.
#![forbid(unsafe_code)]

mod action;
mod admission;
mod answers;
mod ask;
mod assembly;
mod blame;
mod choker;
mod closing;
mod dialer;
mod donthave;
mod doubt;
mod halt;
mod init;
mod invariants;
mod metadata;
mod peer;
mod pex;
mod picker;
mod priority;
mod rates;
mod release;
mod stats;
mod superseed;
mod swarm;
mod tick;
mod web;

pub use action::{
    Action, CloseReason, ConnKey, ConnMark, Idle, Incompatible, Misbehaved, Notice, Outbox,
    PeerKey, PeerMark,
};
pub use halt::storage_wait;
pub use init::{FilePieces, SwarmInit};
pub use metadata::{InfoBytes, MetadataStats};
pub use peer::{NewPeer, PeerCx, Sources};
pub use rates::Rate;
pub use stats::{PeerStats, SwarmStats};
pub use swarm::{Phase, Swarm, SwarmConfig};
pub use web::{
    FetchKey, FetchMark, WebDue, WebEvent, WebFault, WebFiles, WebHead, WebInit, WebRequest,
    file_url, judge,
};
