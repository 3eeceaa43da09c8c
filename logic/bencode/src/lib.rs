//! Bencode (BEP 3): a zero-copy reader with exact spans and limits, and a canonical writer.
//!
//! Reading is one pass that checks everything, without recursion and without allocating; what comes
//! back is a [`Value`], a view of the input whose [`Value::raw`] is the exact bytes it was read from (an
//! info-hash is made over those). Looking into a view walks the bytes again and never fails.
//!
//! ```
//! let reply = torr_bencode::parse(b"d8:intervali1800e5:peers6:\x7f\0\0\x01\x1a\xe1e")?;
//! let reply = reply.as_dict().expect("the example is a dictionary");
//! assert_eq!(reply.int(b"interval"), Some(1800));
//! assert_eq!(reply.bytes(b"peers").map(<[u8]>::len), Some(6));
//! assert_eq!(reply.bytes(b"interval"), None);
//! # Ok::<(), torr_bencode::Error>(())
//! ```
//!
//! Writing is closures that nest like the data; keys come out sorted whatever the order of the calls:
//!
//! ```
//! let bytes = torr_bencode::encode_dict(|d| {
//!     d.dict("m", |m| {
//!         m.int("ut_metadata", 3);
//!     });
//!     d.bytes("v", "torr 0.1").int("reqq", 500);
//! });
//! assert_eq!(bytes, b"d1:md11:ut_metadatai3ee4:reqqi500e1:v8:torr 0.1e");
//! ```
//!
//! | input | [`parse`] | [`parse_prefix`] | [`read`] |
//! |---|---|---|---|
//! | bytes after the value | error | handed back | handed back |
//! | dictionary keys out of order | accepted | accepted | accepted and reported |
//! | a key twice in one dictionary | error | error | error |
//! | `i-0e`, `i007e`, `04:spam` | error | error | error |
//! | an integer beyond 64 bits | accepted, but [`Value::as_int`] gives nothing | same | same |
//!
//! Invariants:
//! - No input panics, recurses, or takes more than linear time in its length (`n log n` in the keys
//!   where they are out of order).
//! - Memory is constant, but for 8 bytes a key while a document with keys out of order is checked.
//! - A [`Value`] holds exactly one valid value, so a document made of values is valid.
//!
//! Deliberately absent: serde, and a tree of owned values. Whoever reads a dictionary takes what it
//! needs out of it.
#![forbid(unsafe_code)]
#![warn(clippy::indexing_slicing, missing_docs)]

mod error;
mod scan;
mod value;
mod writer;

pub use error::{Error, ErrorKind};
pub use scan::{DEPTH_MAX, Limits};
pub use value::{Dict, DictIter, Document, Kind, List, ListIter, Value};
pub use value::{parse, parse_prefix, read};
pub use writer::{DictWriter, ListWriter, encode_dict, write_dict};
