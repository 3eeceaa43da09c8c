//! **The waist.** Everything that one node on the network decides, without a socket, a file or a clock.
//!
//! ```text
//!        io/net + io/disk                       lab/sim
//!   sockets, files, clocks, DNS        a world made from a seed
//!            │   handle_*  ▲ Action         │        ▲
//!            ▼             │                ▼        │
//!      ┌───────────────────────── Node ─────────────────────┐
//!      │ greeting: accepts, dials, handshakes               │
//!      │ traffic: bytes in and out, the end of connections  │
//!      │ encryption: keys before the handshake, ciphers     │
//!      │ clock:   timers, announces                         │
//!      │ dht:     searches, and what comes of them          │
//!      │ local:   who is on the same network                │
//!      │ network: it was gone, and is back                  │
//!      │ portmap: the way through the gateway               │
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
mod dht;
mod encryption;
mod frames;
mod greeting;
mod invariants;
mod local;
mod network;
mod node;
mod portmap;
mod receive;
mod traffic;
mod types;
mod web;

pub use conn::Rest;
pub use dht::{DhtInit, SearchStats};
pub use encryption::Encryption;
pub use node::{AddError, Node};
pub use torr_dht::{Bootstrap, DhtConfig, DhtStats, is_saved_table};
pub use torr_swarm::{
    CloseReason, ConnKey, FetchKey, FilePieces, InfoBytes, MetadataStats, Misbehaved, Notice,
    PeerKey, PeerStats, Phase, SwarmInit, SwarmStats, WebEvent, WebFault, WebFiles, WebHead,
    WebInit, storage_wait,
};
pub use torr_tracker::portmap::{Gateway, MapAction, OpenPort, PortStatus, Way as MapWay, upnp};
pub use torr_tracker::{HttpReply, TrackerEvent, TrackerState};
pub use types::{
    Action, Frame, LookUp, MagnetInit, News, NodeConfig, Outgoing, TorrentInit, TorrentKey,
    TorrentMark, TorrentStats, TrackerLine, TrackerRequest, WebFetch, WebFlow,
};
