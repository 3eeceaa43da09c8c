//! What a have-log says once all of its records have been taken together.

use std::collections::BTreeMap;

use torr_base::{Bitfield, PieceIndex};

use super::record::{
    BITS, Bits, FRAME_LEN, FileStamp, LogHeader, NamePart, Record, bits_of, decode, header_version,
    iter_bits, or,
};

/// What was lost to damage. Everything else in the log stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// Frames that are not as they were written.
    pub frames: u64,
    /// Byte offset of the first of them.
    pub first_at: Option<u64>,
    /// Bytes after the last whole frame: an append that did not come to its end.
    pub torn_bytes: u64,
    /// Frames that were there and durable, and are gone from the end. The log itself does not tell.
    pub cut_frames: u64,
}

impl Damage {
    /// Whether a record may be missing that once was there. A torn tail alone never was a record.
    #[must_use]
    pub fn any(&self) -> bool {
        self.frames > 0 || self.cut_frames > 0
    }
}

/// Why bytes are no have-log of this torrent at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    #[error("neither of its two headers is readable")]
    NoHeader,
    #[error("it was written by a newer torr (version {0})")]
    OtherVersion(u16),
    #[error("it is of another torrent")]
    OtherTorrent,
}

/// The sum of a have-log's records.
///
/// Changed only by [`Self::apply`], one record after another, so that what is in memory is what a
/// reader of the file would find.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogImage {
    pub(super) header: LogHeader,
    pub(super) frames: u64,
    pub(super) have: Bitfield,
    pub(super) durable: Bitfield,
    /// Pieces recorded after the last mark, with the frame that tells of them, oldest first.
    pub(super) recent: Vec<(u64, u32, Bits)>,
    /// By piece and first block, as the records have it.
    pub(super) spilled: BTreeMap<(u32, u32), Bits>,
    pub(super) made: BTreeMap<u32, Bits>,
    pub(super) placed: BTreeMap<u32, Bits>,
    /// First file and count, of this session.
    pub(super) intents: Vec<(u32, u32)>,
    pub(super) stamps: BTreeMap<u32, FileStamp>,
    pub(super) names: BTreeMap<(u32, u16), NamePart>,
    pub(super) root: Option<(u64, u64)>,
    pub(super) boot: Option<[u8; 16]>,
    pub(super) closed: bool,
}

/// Reads a whole log. Never fails for damage in the middle or at the end: that costs only the records
/// in damaged frames.
///
/// # Errors
/// Where no header is left, or it is of another version or torrent.
pub fn read_log(bytes: &[u8], header: &LogHeader) -> Result<(LogImage, Damage), LogError> {
    let (frames, tail) = bytes.as_chunks::<FRAME_LEN>();
    check_header(frames, header)?;
    let mut image = LogImage::new(*header);
    let mut damage = Damage {
        torn_bytes: tail.len() as u64,
        ..Damage::default()
    };
    for (at, frame) in (0..).zip(frames) {
        let sound = decode(frame, at).is_some_and(|record| image.apply(&record));
        if !sound {
            image.frames = at + 1;
            damage.frames += 1;
            damage.first_at.get_or_insert(at * FRAME_LEN as u64);
        }
    }
    Ok((image, damage))
}

fn check_header(frames: &[[u8; FRAME_LEN]], header: &LogHeader) -> Result<(), LogError> {
    let mut error = LogError::NoHeader;
    for (at, frame) in (0..).zip(frames.iter().take(2)) {
        match decode(frame, at) {
            Some(Record::Header(found)) if found == *header => return Ok(()),
            Some(_) => error = LogError::OtherTorrent,
            None => match header_version(frame, at) {
                Some(version) => return Err(LogError::OtherVersion(version)),
                None => continue,
            },
        }
    }
    Err(error)
}

impl LogImage {
    /// Of a log that has no frames yet. The first two must be [`Self::header`].
    #[must_use]
    pub fn new(header: LogHeader) -> Self {
        Self {
            header,
            frames: 0,
            have: Bitfield::new(header.pieces),
            durable: Bitfield::new(header.pieces),
            recent: Vec::new(),
            spilled: BTreeMap::new(),
            made: BTreeMap::new(),
            placed: BTreeMap::new(),
            intents: Vec::new(),
            stamps: BTreeMap::new(),
            names: BTreeMap::new(),
            root: None,
            boot: None,
            closed: false,
        }
    }

    #[must_use]
    pub fn header(&self) -> Record {
        Record::Header(self.header)
    }

    /// How many frames the log has; the next record goes behind them.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Every piece recorded and not forgotten.
    #[must_use]
    pub fn have(&self) -> &Bitfield {
        &self.have
    }

    /// Those of [`Self::have`] that a mark covers.
    #[must_use]
    pub fn durable(&self) -> &Bitfield {
        &self.durable
    }

    /// Whether we created that file.
    #[must_use]
    pub fn made(&self, file: u32) -> bool {
        has(&self.made, file)
    }

    /// Whether that file's bytes are in its place, and not in the parts file.
    #[must_use]
    pub fn placed(&self, file: u32) -> bool {
        has(&self.placed, file)
    }

    /// Whether the last session meant to create that file.
    #[must_use]
    pub fn intended(&self, file: u32) -> bool {
        let inside = |(first, count): &(u32, u32)| file >= *first && file - first < *count;
        self.intents.iter().any(inside)
    }

    /// How that file looked when the last session ended in good order.
    #[must_use]
    pub fn stamp(&self, file: u32) -> Option<FileStamp> {
        self.stamps.get(&file).copied()
    }

    /// File system and inode of the download folder.
    #[must_use]
    pub fn root(&self) -> Option<(u64, u64)> {
        self.root
    }

    /// Under which boot of the machine the last session wrote.
    #[must_use]
    pub fn boot(&self) -> Option<[u8; 16]> {
        self.boot
    }

    /// Whether the last session ended in good order.
    #[must_use]
    pub fn closed(&self) -> bool {
        self.closed
    }

    /// Pieces with spilled blocks, and which blocks those are, in order. They were never verified.
    #[must_use]
    pub fn spilled(&self) -> Vec<(PieceIndex, Vec<u32>)> {
        let mut out: Vec<(PieceIndex, Vec<u32>)> = Vec::new();
        for ((piece, first), bits) in &self.spilled {
            let piece = PieceIndex::new(*piece);
            let blocks = iter_bits(*first, bits);
            match out.last_mut() {
                Some((last, all)) if *last == piece => all.extend(blocks),
                _ => out.push((piece, blocks.collect())),
            }
        }
        out
    }

    /// Whether any name was recorded.
    #[must_use]
    pub fn has_names(&self) -> bool {
        !self.names.is_empty()
    }

    /// The name that a file was given, `u32::MAX` for the top-level one; `None` if it was not recorded,
    /// or a part of it was lost.
    #[must_use]
    pub fn name(&self, file: u32) -> Option<String> {
        let parts = || self.names.range((file, 0)..=(file, u16::MAX));
        let wanted = parts().next()?.1.parts;
        if parts().count() != usize::from(wanted) {
            return None;
        }
        let mut bytes: Vec<u8> = parts().flat_map(|(_, name)| name.text).collect();
        bytes.retain(|byte| *byte != 0);
        String::from_utf8(bytes).ok()
    }

    /// Takes in the next record of the log. False, and no change but the count of frames, if it makes
    /// no sense for this torrent.
    pub fn apply(&mut self, record: &Record) -> bool {
        let frame = self.frames;
        self.frames += 1;
        let fits = self.fits(record, frame);
        if fits {
            self.take_in(record, frame);
        }
        fits
    }

    fn fits(&self, record: &Record, frame: u64) -> bool {
        let within = |first: u32, bits: &Bits, len: u32| {
            first.is_multiple_of(BITS) && iter_bits(first, bits).all(|i| i < len)
        };
        let blocks_max = self.header.piece_len.div_ceil(torr_base::BLOCK_LEN);
        match record {
            Record::Header(header) => *header == self.header,
            Record::Have { first, bits } => within(*first, bits, self.header.pieces),
            Record::Forget { piece } | Record::Unspilled { piece } => {
                piece.get() < self.header.pieces
            }
            Record::Mark { frames } => *frames <= frame,
            Record::Spilled { piece, first, bits } => {
                piece.get() < self.header.pieces && within(*first, bits, blocks_max)
            }
            Record::Intent { first, count } => first
                .checked_add(*count)
                .is_some_and(|end| end <= self.header.files),
            Record::Made { first, bits } | Record::Placed { first, bits } => {
                within(*first, bits, self.header.files)
            }
            Record::Stamp { file, .. } | Record::Gone { file } => *file < self.header.files,
            Record::Name(name) => {
                (name.file < self.header.files || name.file == u32::MAX) && name.part < name.parts
            }
            Record::Root { .. } | Record::Session { .. } | Record::Closed => true,
        }
    }

    fn take_in(&mut self, record: &Record, frame: u64) {
        self.closed = matches!(record, Record::Closed);
        match record {
            Record::Header(_) | Record::Closed => {}
            Record::Root { file_system, inode } => self.root = Some((*file_system, *inode)),
            Record::Session { boot } => {
                self.boot = Some(*boot);
                self.intents.clear();
                self.stamps.clear();
            }
            Record::Have { first, bits } => {
                for piece in iter_bits(*first, bits) {
                    self.have.set(PieceIndex::new(piece));
                    self.unspill(piece);
                }
                self.recent.push((frame, *first, *bits));
            }
            Record::Forget { piece } => self.forget(*piece),
            Record::Mark { frames } => self.mark(*frames),
            Record::Spilled { piece, first, bits } => {
                merge(&mut self.spilled, (piece.get(), *first), bits);
            }
            Record::Unspilled { piece } => self.unspill(piece.get()),
            Record::Intent { first, count } => self.intents.push((*first, *count)),
            Record::Made { first, bits } => merge(&mut self.made, *first, bits),
            Record::Placed { first, bits } => merge(&mut self.placed, *first, bits),
            Record::Gone { file } => {
                let (first, bit) = bits_of(*file);
                for spans in [&mut self.made, &mut self.placed] {
                    spans.entry(first).and_modify(|bits| clear(bits, &bit));
                }
            }
            Record::Stamp { file, stamp } => {
                self.stamps.insert(*file, *stamp);
            }
            Record::Name(name) => {
                self.names.insert((name.file, name.part), *name);
            }
        }
    }

    fn forget(&mut self, piece: PieceIndex) {
        self.have.clear(piece);
        self.durable.clear(piece);
        let (start, bit) = bits_of(piece.get());
        for (_, _, bits) in self.recent.iter_mut().filter(|entry| entry.1 == start) {
            clear(bits, &bit);
        }
    }

    fn mark(&mut self, frames: u64) {
        let covered = self.recent.partition_point(|entry| entry.0 < frames);
        for (_, first, bits) in self.recent.drain(..covered) {
            for piece in iter_bits(first, &bits) {
                self.durable.set(PieceIndex::new(piece));
            }
        }
    }

    fn unspill(&mut self, piece: u32) {
        while let Some((key, _)) = self.spilled.range((piece, 0)..=(piece, u32::MAX)).next() {
            let key = *key;
            self.spilled.remove(&key);
        }
    }
}

fn has(spans: &BTreeMap<u32, Bits>, index: u32) -> bool {
    let (first, bit) = bits_of(index);
    let both = |bits: &Bits| bits.iter().zip(&bit).any(|(a, b)| a & b != 0);
    spans.get(&first).is_some_and(both)
}

fn merge<K: Ord>(spans: &mut BTreeMap<K, Bits>, key: K, bits: &Bits) {
    or(spans.entry(key).or_insert([0; BITS as usize / 8]), bits);
}

fn clear(bits: &mut Bits, gone: &Bits) {
    for (byte, gone) in bits.iter_mut().zip(gone) {
        *byte &= !gone;
    }
}
