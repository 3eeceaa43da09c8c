//! The distributed hash table (BEP 5, 32, 33, 42, 43) without a socket.
//!
//! - [`Dht`]: one node in both families. Read `dht/mod.rs` first, then `lookup.rs` and `table.rs`.
//! - [`message`]: datagrams there and back.
//!
//! Terms: a *node* is a participant of the DHT, a *peer* one of a torrent's swarm; a *lookup* goes from the
//! nodes we know to those closest to a key; a *search* is a lookup in each family for the peers of a
//! torrent, with the announce that follows, perhaps again and again; a *rumour* is a node that others
//! named and that we have not asked yet; a *spare* waits for a place in a bucket.
//!
//! | what others can do | what it comes to |
//! |---|---|
//! | flood us with queries | at most [`REPLY_BYTES_PER_SEC_MAX`] bytes of answers in any second, 5 a second to a /24 or /64 |
//! | ask in somebody else's name | the same, at most [`REPLY_LEN_MAX`] bytes each |
//! | announce rubbish | 2,000 torrents of 500 peers, 100 of them from a /24 or /64, for half an hour |
//! | answer in somebody else's name | nothing: address and a random transaction id must be right |
//! | name a victim as a node | two questions of a lookup to a /24 or /64, none for ten minutes after two without an answer |
//! | make up nodes near a key | on one path of three; half of its goal where their ids do not fit their addresses |
//! | make up peers | 1,000 a lookup, 128 an answer, three ports of an address, none in our own network |
//! | lie about our address | nothing, unless three of four networks tell the same lie |
//!
//! Deliberately absent: sockets, name look-ups and clocks (the driver's), stored items (BEP 44), and
//! crawling (BEP 51).
#![forbid(unsafe_code)]

mod addr;
mod bloom;
mod dht;
mod external;
mod id;
mod limit;
mod lookup;
pub mod message;
mod queries;
mod saved;
mod store;
mod table;
mod token;
mod types;

pub use addr::{Contact, Family};
pub use bloom::{BLOOM_LEN, Bloom};
pub use dht::{Dht, REPLY_LEN_MAX, SEARCHES_MAX};
pub use id::{Distance, NodeId};
pub use limit::REPLY_BYTES_PER_SEC_MAX;
pub use saved::is_saved_table;
pub use types::{
    Announce, Bootstrap, DhtAction, DhtConfig, DhtStats, HOSTS_MAX, Outcome, ResolveId, SearchId,
    WELL_KNOWN,
};
