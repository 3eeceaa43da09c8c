//! The same facts in a shorter log.

use std::collections::BTreeMap;

use torr_base::PieceIndex;

use super::image::LogImage;
use super::record::{
    BITS, Bits, FRAME_LEN, NAME_PART_LEN, NamePart, Record, add_record, bits_of, encode_record,
};

impl LogImage {
    /// Whether the log is so much longer than its facts need that it should be written anew.
    #[must_use]
    pub fn wants_compaction(&self) -> bool {
        /// A quarter of a mebibyte is not worth the trouble.
        const SLACK_FRAMES: u64 = 4096;
        let spans = self.made.len() + self.placed.len() + self.spilled.len();
        let singles = self.stamps.len() + self.names.len() + self.intents.len() + 8;
        let pieces = u64::from(self.header.pieces.div_ceil(BITS)) * 2;
        self.frames > 4 * (pieces + (spans + singles) as u64) + SLACK_FRAMES
    }

    /// The same facts in as few records as they need, for a new file that takes the place of the old.
    /// What no mark covers yet stays uncovered there.
    #[must_use]
    pub fn compact(&self) -> Vec<Record> {
        let mut out = vec![self.header(), self.header()];
        if let Some((file_system, inode)) = self.root {
            out.push(Record::Root { file_system, inode });
        }
        if let Some(boot) = self.boot {
            out.push(Record::Session { boot });
        }
        out.extend(self.names.values().copied().map(Record::Name));
        let intents = self.intents.iter();
        out.extend(intents.map(|(first, count)| Record::Intent {
            first: *first,
            count: *count,
        }));
        let spans = |map: &BTreeMap<u32, Bits>| map.clone().into_iter();
        out.extend(spans(&self.made).map(|(first, bits)| Record::Made { first, bits }));
        out.extend(spans(&self.placed).map(|(first, bits)| Record::Placed { first, bits }));
        out.extend(self.stamps.iter().map(|(file, stamp)| Record::Stamp {
            file: *file,
            stamp: *stamp,
        }));
        have_records(self.durable.iter(), &mut out);
        out.push(Record::Mark {
            frames: out.len() as u64,
        });
        have_records(self.have.iter_and_not(&self.durable), &mut out);
        out.extend(self.spilled.iter().map(|(key, bits)| Record::Spilled {
            piece: PieceIndex::new(key.0),
            first: key.1,
            bits: *bits,
        }));
        if self.closed {
            out.push(Record::Closed);
        }
        out
    }

    /// The frames of `records` as a log of their own, and its image.
    #[must_use]
    pub fn rewrite(&self, records: &[Record]) -> (Self, Vec<u8>) {
        let mut image = Self::new(self.header);
        let mut bytes = Vec::with_capacity(records.len() * FRAME_LEN);
        for record in records {
            encode_record(record, image.frames, &mut bytes);
            let fits = image.apply(record);
            debug_assert!(fits, "{record:?}");
        }
        (image, bytes)
    }
}

impl NamePart {
    /// The records of one name; one longer than 65,535 parts is cut.
    pub fn split(file: u32, name: &str) -> impl Iterator<Item = Self> + '_ {
        let parts = name
            .len()
            .div_ceil(NAME_PART_LEN)
            .min(usize::from(u16::MAX));
        let texts = name.as_bytes().chunks(NAME_PART_LEN).take(parts);
        (0_u16..).zip(texts).map(move |(part, bytes)| {
            let mut text = [0; NAME_PART_LEN];
            text[..bytes.len()].copy_from_slice(bytes);
            Self {
                file,
                part,
                parts: parts as u16,
                text,
            }
        })
    }
}

/// `Have` records of pieces that come in order.
fn have_records(pieces: impl Iterator<Item = PieceIndex>, out: &mut Vec<Record>) {
    for piece in pieces {
        let (first, bits) = bits_of(piece.get());
        add_record(out, Record::Have { first, bits });
    }
}
