//! What is known of a torrent when its swarm starts.

use std::ops::Range;

use torr_base::{Bitfield, Geometry, InfoHash, PieceIndex};
use torr_metainfo::{FilePriorities, Info};
use torr_wire::METADATA_LEN_MAX;

use crate::metadata::InfoBytes;
use crate::web::WebInit;

#[derive(Clone, Debug)]
pub struct SwarmInit {
    pub info_hash: InfoHash,
    pub geometry: Geometry,
    /// Peers come from the torrent's trackers only (BEP 27).
    pub private: bool,
    /// Verified and on disk.
    pub have: Bitfield,
    /// Blocks of unfinished pieces that an earlier run left on the disk.
    pub partial: Vec<(PieceIndex, Vec<u32>)>,
    pub wanted: Bitfield,
    /// To be fetched before all others.
    pub high: Vec<PieceIndex>,
    /// Files that hold bytes, in torrent order.
    pub files: Vec<FilePieces>,
    /// The info dictionary, for peers that ask for it (BEP 9). Not needed where that is where it came from.
    pub metadata: Option<InfoBytes>,
    /// Web servers that have the files (BEP 19).
    pub web: Option<WebInit>,
}

/// The pieces that hold a byte of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilePieces {
    /// Counted from 0, in torrent order, all files counted.
    pub file: u32,
    /// Not empty.
    pub pieces: Range<u32>,
}

impl SwarmInit {
    /// `have` and `partial` as the disk found them; priorities by file.
    #[must_use]
    pub fn new(
        info: &Info,
        priorities: &FilePriorities,
        have: Bitfield,
        partial: Vec<(PieceIndex, Vec<u32>)>,
    ) -> Self {
        let map = info.map();
        let with_bytes = map.files().filter(|file| !map.is_pad(*file));
        let files = with_bytes.filter_map(|file| {
            let mut pieces = map.pieces_of(file).map(PieceIndex::get);
            let first = pieces.next()?;
            let last = pieces.next_back().unwrap_or(first);
            let file = file.as_usize() as u32;
            Some(FilePieces {
                file,
                pieces: first..last + 1,
            })
        });
        Self {
            info_hash: info.info_hash(),
            geometry: info.geometry(),
            private: info.is_private(),
            have,
            partial,
            wanted: priorities.wanted_pieces(map),
            high: priorities.high_pieces(map).iter().collect(),
            files: files.collect(),
            // Nobody fetches a longer one.
            metadata: (info.raw().len() <= METADATA_LEN_MAX as usize)
                .then(|| InfoBytes(info.shared_raw())),
            web: None,
        }
    }

    /// Nothing at all, for a torrent of which only the info-hash is known.
    pub(crate) fn empty(info_hash: InfoHash, geometry: Geometry) -> Self {
        let nothing = Bitfield::new(geometry.piece_count());
        Self {
            info_hash,
            geometry,
            private: false,
            have: nothing.clone(),
            partial: Vec::new(),
            wanted: nothing,
            high: Vec::new(),
            files: Vec::new(),
            metadata: None,
            web: None,
        }
    }
}
