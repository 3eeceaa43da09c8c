//! Torrent files, magnet links, safe names on disk, and the map from pieces to files.
//!
//! - [`Metainfo`] is a torrent file (BEP 3, 5, 12, 19, 27, 47, the v1 part of BEP 52); inside it
//!   [`Info`] is what the info-hash stands for and what every part of torr shares as `Arc<Info>`.
//! - [`Layout`] says where files are on disk: whatever names a torrent has, these stay in its folder.
//! - [`FileMap`] says which bytes are in which file; [`FilePriorities`] which files, and so pieces, are
//!   wanted.
//! - [`Magnet`] is a magnet link (BEP 9, 53), [`Draft`] a torrent in the making.
//!
//! Everything here is made of bytes that an attacker may have written. Nothing panics or recurses;
//! memory is linear in the input, and the input limited ([`TORRENT_LEN_MAX`], [`FILES_MAX`],
//! [`PATH_DEPTH_MAX`], [`torr_base::PIECES_MAX`]).
//!
//! Deliberately absent: files, clocks, JSON, and any opinion on URLs; tracker URLs may hold passkeys, and
//! masking them is for whoever shows them.
#![forbid(unsafe_code)]
#![warn(clippy::indexing_slicing, missing_docs)]

mod draft;
mod error;
mod file_map;
mod files;
mod info;
mod limits;
mod magnet;
mod metainfo;
mod paths;
mod priority;
mod warning;

pub use draft::{Draft, DraftError, DraftFile, DraftFiles, piece_length_for};
pub use error::{MetainfoError, Refusal};
pub use file_map::{FileIndex, FileMap, Segment, Segments};
pub use files::FileAttrs;
pub use info::{File, Info, InfoHashV2};
pub use limits::{FILES_MAX, PATH_DEPTH_MAX, TORRENT_LEN_MAX};
pub use magnet::{MAGNET_LEN_MAX, Magnet, MagnetError, parse_info_hash};
pub use metainfo::{Metainfo, Node};
pub use paths::{Layout, PathFaults};
pub use priority::{FilePriorities, FilePriority};
pub use warning::Warning;
