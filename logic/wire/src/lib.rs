//! What peers say to each other: handshake, messages, and the state machine that reads them off a stream.
//!
//! ```text
//!  bytes ◄─► MseHandshake ──► Streams: a cipher for each way    (where it is encrypted)
//!  bytes ──► HandshakeReader ──► Handshake                      (68 bytes, BEP 3)
//!  bytes ──► WireReader ──► WireSink::message / begin_block / end_block
//!  Message::write_to, piece_header ──► bytes
//! ```
//!
//! Every byte that comes in is chosen by a stranger. Held here:
//!
//! - nothing that arrives panics;
//! - memory grows with the bytes that have arrived, never with the bytes that were announced, and
//!   stays below [`Limits`];
//! - how the stream was cut into reads makes no difference to what comes out;
//! - a block's payload goes straight into the buffer it will be hashed and written from.
//!
//! Terms are those of [BEP 3](https://www.bittorrent.org/beps/bep_0003.html),
//! [BEP 6](https://www.bittorrent.org/beps/bep_0006.html) and
//! [BEP 10](https://www.bittorrent.org/beps/bep_0010.html).
//!
//! Deliberately absent: what a message means for a torrent, and whether it was allowed at that
//! moment. A [`RawBlock`](torr_base::RawBlock) or a piece number that leaves here is only a number.
#![forbid(unsafe_code)]
#![warn(clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::indexing_slicing))]

mod allowed_fast;
mod error;
mod extended;
mod handshake;
mod limits;
mod message;
mod metadata;
mod mse;
mod peer_id;
mod pex;
mod reader;

pub use allowed_fast::allowed_fast_set;
pub use error::WireError;
pub use extended::{ExtendedHandshake, ExtendedHandshakeError, Extension, ExtensionIds};
pub use handshake::{HANDSHAKE_LEN, Handshake, HandshakeError, HandshakeReader, Reserved};
pub use limits::Limits;
pub use message::{Message, piece_header};
pub use metadata::{METADATA_LEN_MAX, METADATA_PIECES_MAX, MetadataError, MetadataMessage};
pub use mse::{
    Decryptor, MSE_PADDING_MAX, Method, Methods, MseError, MseHandshake, MseSide, Rc4,
    SecretSource, Streams, TorrentToken, torrent_token,
};
pub use peer_id::{client_name, own_peer_id};
pub use pex::{PEX_PEERS_MAX, PexError, PexFlags, PexMessage};
pub use reader::{Counts, Landing, Progress, ReadBufs, WireReader, WireSink};
