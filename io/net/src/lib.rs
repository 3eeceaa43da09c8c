//! The driver of a node: sockets, timers, names and HTTP, on one thread.
//!
//! ```text
//!   your runtime                    shard thread (tokio, current thread)              disk threads
//!   ShardHandle ──── call ────────► Shard ── turn: input → Node → actions ── disk ──► Host::disk
//!       ▲                            ▲  ▲  ▲                                              │
//!       └──────── results ───────────┘  │  └──────────────── DiskInbox ◄──────────────────┘
//!                             sockets, timer, trackers
//! ```
//!
//! - One owner: the shard owns the node, its sockets and its tasks; nothing else touches them.
//! - Between two awaits everything runs to its end: no lock, no allocation and no hop for a block.
//! - Nothing on the shard's thread blocks.
//!
//! Deliberately absent: every decision about BitTorrent. A condition about it here is a mistake.

mod clock;
mod conns;
mod gateway;
mod host;
pub mod http;
mod inbox;
mod listen;
#[cfg(target_os = "linux")]
mod netlink;
mod requests;
mod send;
mod shard;
mod tasks;
mod thread;
pub mod tracker_server;
mod traffic;
#[cfg(target_os = "linux")]
mod watch;
mod web;

pub use host::{Files, Host};
pub use inbox::DiskInbox;
pub use listen::{ListenError, PortChoice, Sockets};
pub use thread::{Ending, ShardConfig, ShardGone, ShardHandle};
