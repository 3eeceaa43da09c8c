//! **The waist.** Everything that one node on the network decides, without a socket, a file or a clock.
//!
//! ```text
//!        io/net + io/disk                       lab/sim
//!   sockets, files, clocks, DNS        a world made from a seed
//!            │   handle_*  ▲ Action         │        ▲
//!            ▼             │                ▼        │
//!      ┌───────────────────────── Node ─────────────────────┐
//!      │ traffic: accepts, handshakes, bytes in and out     │
//!      │ encryption: keys before the handshake, ciphers     │
//!      │ clock:   timers, announces                         │
//!      │ web:     answers of web seeds                      │
//!      │ node:    torrents, commands, the swarms' wishes    │
//!      └── Swarm ── Swarm ── Swarm ── … one for a torrent ──┘
//! ```
//!
//! Invariants (`check_invariants` asserts them): every block is in exactly one of pool, reader,
//! assembly, disk job, upload queue, transmit slot; connections stay within their limits; between two
//! inputs nothing that a swarm wants is left undone.
//!
//! Deliberately absent: how anything is carried out.
#![forbid(unsafe_code)]

mod clock;
mod conn;
mod encryption;
mod invariants;
mod node;
mod traffic;
mod types;
mod web;

pub use conn::Rest;
pub use encryption::Encryption;
pub use node::{AddError, Node};
pub use torr_swarm::{
    CloseReason, ConnKey, FetchKey, FilePieces, InfoBytes, MetadataStats, Misbehaved, Notice,
    PeerKey, PeerStats, Phase, SwarmInit, SwarmStats, WebEvent, WebFault, WebFiles, WebHead,
    WebInit,
};
pub use torr_tracker::{HttpReply, TrackerEvent, TrackerState};
pub use types::{
    Action, Frame, MagnetInit, News, NodeConfig, Outgoing, TorrentInit, TorrentKey, TorrentMark,
    TorrentStats, TrackerLine, TrackerRequest, WebFetch, WebFlow,
};
