//! The torrent that a world is about, and its content, made from a seed.

use std::ops::Range;

use sha1::{Digest as _, Sha1};
use torr_base::{Bitfield, Geometry, InfoHash, PieceIndex, RawBlock, Rng};
use torr_swarm::{FilePieces, InfoBytes, SwarmInit};

/// Bytes of metadata, unless a scenario wants another length: three blocks, the last of them short.
const METADATA_LEN: usize = 40_000;

/// A torrent whose bytes follow from a seed and are never stored.
#[derive(Clone, Debug)]
pub struct Torrent {
    /// Pieces and blocks.
    pub geometry: Geometry,
    /// What it is known by.
    pub info_hash: InfoHash,
    /// The pieces of each file.
    pub files: Vec<Range<u32>>,
    /// Stands for the info dictionary: bytes that hash to the info-hash, and mean nothing.
    pub metadata: InfoBytes,
    content: u64,
    /// Only where blocks have bytes.
    hashes: Vec<[u8; 20]>,
}

impl Torrent {
    /// `hashed`: whether the SHA-1 of each piece is wanted, as blocks that have bytes need it.
    ///
    /// # Panics
    /// If no torrent has that geometry.
    #[must_use]
    pub fn new(seed: u64, total: u64, piece_len: u64, hashed: bool) -> Self {
        let geometry = Geometry::new(total, piece_len).expect("a scenario's geometry is possible");
        let mut rng = Rng::new(seed).fork("torrent", 0);
        let metadata = metadata(seed, METADATA_LEN);
        let mut torrent = Self {
            geometry,
            info_hash: info_hash(&metadata),
            metadata,
            files: std::iter::once(0..geometry.piece_count()).collect(),
            content: rng.next_u64(),
            hashes: Vec::new(),
        };
        if hashed {
            torrent.hashes = geometry
                .pieces()
                .map(|piece| torrent.hash_piece(piece))
                .collect();
        }
        torrent
    }

    /// With metadata of another length, and so another info-hash.
    #[must_use]
    pub fn with_metadata(mut self, seed: u64, len: usize) -> Self {
        self.metadata = metadata(seed, len);
        self.info_hash = info_hash(&self.metadata);
        self
    }

    fn hash_piece(&self, piece: PieceIndex) -> [u8; 20] {
        let mut bytes = vec![0; self.geometry.piece_len(piece) as usize];
        self.fill(piece.get(), 0, &mut bytes);
        Sha1::digest(&bytes).into()
    }

    /// The SHA-1 that the piece must have.
    #[must_use]
    pub fn hash(&self, piece: PieceIndex) -> Option<&[u8; 20]> {
        self.hashes.get(piece.as_usize())
    }

    /// The right bytes of a range. It must be in range.
    pub fn fill(&self, piece: u32, offset: u32, out: &mut [u8]) {
        let start = self.geometry.piece_start(PieceIndex::new(piece)) + u64::from(offset);
        let (mut word, mut at) = (u64::MAX, [0; 8]);
        for (place, byte) in (start..).zip(out) {
            if place / 8 != word {
                word = place / 8;
                at = Rng::new(self.content ^ word).next_u64().to_le_bytes();
            }
            *byte = at.get((place % 8) as usize).copied().unwrap_or_default();
        }
    }

    /// What is said to a swarm at its start.
    #[must_use]
    pub fn init(&self, have: Bitfield) -> SwarmInit {
        SwarmInit {
            info_hash: self.info_hash,
            geometry: self.geometry,
            private: false,
            have,
            partial: Vec::new(),
            wanted: Bitfield::full(self.geometry.piece_count()),
            high: Vec::new(),
            metadata: Some(self.metadata.clone()),
            web: None,
            files: (0..)
                .zip(&self.files)
                .map(|(file, pieces)| FilePieces {
                    file,
                    pieces: pieces.clone(),
                })
                .collect(),
        }
    }

    /// All blocks of a piece in order.
    pub fn blocks(&self, piece: PieceIndex) -> impl Iterator<Item = RawBlock> + '_ {
        let count = self.geometry.block_count(piece);
        (0..count).map(move |index| self.geometry.block_at(piece, index).raw())
    }

    /// Bytes in it.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.geometry.total()
    }
}

fn metadata(seed: u64, len: usize) -> InfoBytes {
    let mut bytes = vec![0; len];
    Rng::new(seed).fork("metadata", 0).fill(&mut bytes);
    InfoBytes(bytes.into())
}

fn info_hash(metadata: &InfoBytes) -> InfoHash {
    InfoHash(Sha1::digest(&metadata.0).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_does_not_depend_on_how_it_is_read() {
        let torrent = Torrent::new(3, 100_000, 40_000, true);
        let mut whole = vec![0; 20_000];
        torrent.fill(2, 0, &mut whole);
        let mut parts = vec![0; 20_000];
        for (i, part) in parts.chunks_mut(777).enumerate() {
            torrent.fill(2, i as u32 * 777, part);
        }
        assert_eq!(whole, parts);
        let hash: [u8; 20] = Sha1::digest(&whole).into();
        assert_eq!(torrent.hash(PieceIndex::new(2)), Some(&hash));
    }
}
