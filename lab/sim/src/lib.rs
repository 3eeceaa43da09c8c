//! A virtual world around real nodes: time, lines, disks, trackers, and peers of every kind, all from
//! one seed. The node is the very one that the program runs; nothing of it is replaced.
//!
//! ```text
//!   Agenda ─► World::step ─► one input to one node ─► its actions ─► Agenda
//!                   └─► checks: the node's own invariants, buffers, what it says on the wire
//! ```
//!
//! Two fidelities ([`Bytes`], [`Messages`]) drive the same `Node` in the same world.
//!
//! Invariants: nothing is random but from the seed, nothing reads a clock, nothing is iterated in an
//! order that depends on memory; so equal seeds give equal traces ([`Trace::hash`]).
//!
//! Deliberately absent: kernel buffers, Nagle, congestion control, real disks. Interop has those.
#![forbid(unsafe_code)]

mod agenda;
mod check;
mod conn;
mod disk;
mod ear;
mod fidelity;
mod host;
mod link;
mod manners;
mod metadata;
mod puppet;
pub mod scenario;
mod tap;
mod torrent;
mod trace;
mod tracker;
mod web;
mod words;
mod world;

pub use agenda::Agenda;
pub use conn::{EndId, WireKey, WireMark};
pub use disk::{Disk, DiskProfile};
pub use fidelity::{
    Bytes, Chunk, Fidelity, Messages, Moved, Payload, PhantomBlock, PoolGauge, Stored, Taint,
};
pub use host::{HostId, NodeHost, NodeNews, NodePlan, addr_of};
pub use link::LinkProfile;
pub use manners::{Claims, Hello, Manners, MetadataManners, Serves, Unchokes, Villain};
pub use puppet::Note;
pub use torr_store::StorageErrorKind;
pub use torrent::Torrent;
pub use trace::Trace;
pub use tracker::{Mood, Tracker};
pub use web::{WebManners, WebServer};
pub use world::{Weather, World};
