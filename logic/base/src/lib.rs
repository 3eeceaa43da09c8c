//! The words that every part of torr speaks: pieces and blocks, bitfields, ids, time, chance.
//!
//! Everything here is plain data. Nothing reads a clock, draws from the operating system or
//! allocates behind the caller's back; [`Instant`] and [`Rng`] are handed in by whoever drives.
//!
//! Deliberately absent: anything that knows a message, a file or a socket.
#![forbid(unsafe_code)]

mod bitfield;
mod bucket;
mod geometry;
mod id;
mod near;
mod percent;
mod rng;
mod slab;
mod text;
mod time;

pub use bitfield::{Bitfield, BitfieldError};
pub use bucket::TokenBucket;
pub use geometry::{BLOCK_LEN, Block, Geometry, GeometryError, PIECES_MAX, PieceIndex, RawBlock};
pub use id::{InfoHash, PeerId, hex};
pub use near::is_near;
pub use percent::percent;
pub use rng::Rng;
pub use slab::{Key, Slab};
pub use text::{clean, is_disruptive, printable};
pub use time::Instant;
