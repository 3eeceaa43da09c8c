//! Why bytes are not a torrent that torr can use.

use torr_base::GeometryError;

use crate::limits::{FILES_MAX, PATH_DEPTH_MAX, TORRENT_LEN_MAX};

/// Why a torrent file, or an info dictionary, was refused. Keys are given with their way from the top:
/// `info.files[3].length`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetainfoError {
    /// More bytes than are read at all.
    #[error("{0} bytes are too many: a torrent may have {TORRENT_LEN_MAX}")]
    TooLong(usize),
    /// The bytes are not bencode.
    #[error("not bencode: {0}")]
    Bencode(#[from] torr_bencode::Error),
    /// A key that must be there is not.
    #[error("`{0}` is missing")]
    Missing(String),
    /// A key's value is of the wrong type.
    #[error("`{key}` is not {expected}")]
    WrongType {
        /// The key.
        key: String,
        /// What it should be: "a string".
        expected: &'static str,
    },
    /// `pieces` does not have one hash for each piece.
    #[error("`info.pieces` has {len} bytes where {pieces} pieces need 20 each")]
    Hashes {
        /// Bytes in `pieces`.
        len: usize,
        /// Pieces that the lengths of the files make.
        pieces: u32,
    },
    /// Piece length and file lengths are impossible or beyond the limits.
    #[error("`info.piece length` and the lengths of the files do not fit: {0}")]
    Geometry(GeometryError),
    /// More files than [`FILES_MAX`].
    #[error("`info.files` has more than {FILES_MAX} files")]
    TooManyFiles,
    /// A path of more than [`PATH_DEPTH_MAX`] components.
    #[error("`{0}` has more than {PATH_DEPTH_MAX} components")]
    PathTooDeep(String),
    /// There is no part that a client of BitTorrent v1 could use.
    #[error("BitTorrent v2 is not supported yet")]
    V2Only,
    /// A `meta version` that no specification knows, and no v1 part besides.
    #[error("`info.meta version` is {0}, which is not known yet")]
    UnknownVersion(i64),
}

/// What a refusal says about the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// They are no torrent, or a broken one: get them again.
    NotATorrent,
    /// They may be a sound torrent, but torr does not take it: too large, or too new.
    Unsupported,
}

impl MetainfoError {
    /// Whether the bytes are at fault, or torr's limits.
    #[must_use]
    pub const fn refusal(&self) -> Refusal {
        match self {
            Self::Bencode(_)
            | Self::Missing(_)
            | Self::WrongType { .. }
            | Self::Hashes { .. }
            | Self::Geometry(GeometryError::PieceLength(0)) => Refusal::NotATorrent,
            Self::TooLong(_)
            | Self::Geometry(GeometryError::PieceLength(_) | GeometryError::TooManyPieces(_))
            | Self::TooManyFiles
            | Self::PathTooDeep(_)
            | Self::V2Only
            | Self::UnknownVersion(_) => Refusal::Unsupported,
        }
    }
}
