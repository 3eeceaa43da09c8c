//! The distributed hash table (BEP 5, 32, 33, 42, 43) without a socket.
//!
//! - [`message`]: datagrams there and back.
//! - [`NodeId`], [`Contact`], [`Family`], [`Bloom`]: what they speak of.
//!
//! Deliberately absent: sockets, name look-ups and clocks.
#![forbid(unsafe_code)]

mod addr;
mod bloom;
mod external;
mod id;
mod limit;
pub mod message;
mod store;
mod table;
mod token;

pub use addr::{Contact, Family};
pub use bloom::{BLOOM_LEN, Bloom};
pub use id::{Distance, NodeId};
pub use limit::REPLY_BYTES_PER_SEC_MAX;
