//! One record of the have-log, to and from its frame.

use torr_base::{InfoHash, PieceIndex};

/// Bytes in a frame.
pub const FRAME_LEN: usize = 64;
/// How many pieces, blocks or files one record can name.
pub const BITS: u32 = 384;
/// Bytes of a name in one record.
pub const NAME_PART_LEN: usize = 48;

const PAYLOAD_AT: usize = 8;
const MAGIC: [u8; 4] = *b"torr";
/// Raised when an older torr would misread what a newer one writes.
pub(super) const VERSION: u16 = 1;

/// [`BITS`] bits, the high bit of the first byte first.
pub type Bits = [u8; BITS as usize / 8];

/// Which torrent a log is of. All of it must agree, or the log is somebody else's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogHeader {
    pub info_hash: InfoHash,
    /// How many pieces.
    pub pieces: u32,
    /// Bytes in a piece.
    pub piece_len: u32,
    /// Bytes in all.
    pub total: u64,
    /// How many files, those for padding too.
    pub files: u32,
}

/// What a file looked like when all that was in it had been written by us (G10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStamp {
    /// Bytes.
    pub len: u64,
    /// Nanoseconds since 1970.
    pub modified: i64,
    pub inode: u64,
}

/// A part of a name: 48 bytes, padded with zeros, which no name holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamePart {
    /// Which file, counted from 0; `u32::MAX` for the top-level name.
    pub file: u32,
    pub part: u16,
    /// How many parts the name has.
    pub parts: u16,
    pub text: [u8; NAME_PART_LEN],
}

/// One fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    Header(LogHeader),
    /// The download folder: its file system and its inode (G9).
    Root {
        file_system: u64,
        inode: u64,
    },
    /// A process began to write, under this boot of the machine. Intents of earlier ones are void.
    Session {
        boot: [u8; 16],
    },
    /// Pieces whose hash agreed and which were written: piece `first + i` for each bit `i`.
    Have {
        first: u32,
        bits: Bits,
    },
    /// A piece turned out not to be there.
    Forget {
        piece: PieceIndex,
    },
    /// All that the first `frames` frames tell of is synced to the disk.
    Mark {
        frames: u64,
    },
    /// Blocks of an unfinished piece that were written unverified: block `first + i` for each bit `i`.
    Spilled {
        piece: PieceIndex,
        first: u32,
        bits: Bits,
    },
    /// The spilled blocks of a piece are worth nothing.
    Unspilled {
        piece: PieceIndex,
    },
    /// We are about to create `count` files from `first` on, as far as they do not exist (G7).
    Intent {
        first: u32,
        count: u32,
    },
    /// Files that we created: file `first + i` for each bit `i`.
    Made {
        first: u32,
        bits: Bits,
    },
    /// Files whose bytes are in their place, made by us or adopted; bytes of the others are in the
    /// parts file.
    Placed {
        first: u32,
        bits: Bits,
    },
    /// A file is no longer where it was: not made, not placed.
    Gone {
        file: u32,
    },
    /// A file as we left it.
    Stamp {
        file: u32,
        stamp: FileStamp,
    },
    /// A name as it was mapped for this disk.
    Name(NamePart),
    /// The process that wrote all this ended in good order.
    Closed,
}

mod kind {
    pub(super) const HEADER: u8 = 1;
    pub(super) const ROOT: u8 = 2;
    pub(super) const SESSION: u8 = 3;
    pub(super) const HAVE: u8 = 4;
    pub(super) const FORGET: u8 = 5;
    pub(super) const MARK: u8 = 6;
    pub(super) const SPILLED: u8 = 7;
    pub(super) const UNSPILLED: u8 = 8;
    pub(super) const INTENT: u8 = 9;
    pub(super) const MADE: u8 = 10;
    pub(super) const PLACED: u8 = 11;
    pub(super) const STAMP: u8 = 12;
    pub(super) const NAME: u8 = 13;
    pub(super) const CLOSED: u8 = 14;
    pub(super) const GONE: u8 = 15;
}

/// The first number that a record with that index in its bits has, and those bits with only it set.
#[must_use]
pub fn bits_of(index: u32) -> (u32, Bits) {
    let mut bits = [0; BITS as usize / 8];
    let bit = (index % BITS) as usize;
    bits[bit / 8] = 0x80 >> (bit % 8);
    (index - index % BITS, bits)
}

/// Adds a record: to the last one if that is of the same kind and span, else behind it.
pub fn add_record(records: &mut Vec<Record>, record: Record) {
    if !records.last_mut().is_some_and(|last| last.absorb(&record)) {
        records.push(record);
    }
}

pub(super) fn or(to: &mut Bits, from: &Bits) {
    for (to, from) in to.iter_mut().zip(from) {
        *to |= from;
    }
}

impl Record {
    /// Takes in what another record says, where both are of one kind that has bits, and of the same span. False
    /// where they are not: this one stays as it is.
    fn absorb(&mut self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Have { first, bits },
                Self::Have {
                    first: at,
                    bits: more,
                },
            )
            | (
                Self::Made { first, bits },
                Self::Made {
                    first: at,
                    bits: more,
                },
            )
            | (
                Self::Placed { first, bits },
                Self::Placed {
                    first: at,
                    bits: more,
                },
            ) if first == at => {
                or(bits, more);
                true
            }
            (
                Self::Spilled { piece, first, bits },
                Self::Spilled {
                    piece: of,
                    first: at,
                    bits: more,
                },
            ) if (&*piece, &*first) == (of, at) => {
                or(bits, more);
                true
            }
            _ => false,
        }
    }
}

/// The numbers that `first` and `bits` name, in order; those past `u32::MAX` are left out.
pub fn iter_bits(first: u32, bits: &Bits) -> impl Iterator<Item = u32> + '_ {
    (0..BITS).filter_map(move |i| {
        let byte = bits[(i / 8) as usize];
        (byte & (0x80 >> (i % 8)) != 0)
            .then(|| first.checked_add(i))
            .flatten()
    })
}

/// Appends `record` to `out` as frame number `frame`.
pub fn encode_record(record: &Record, frame: u64, out: &mut Vec<u8>) {
    let mut bytes = [0_u8; FRAME_LEN];
    let mut put = Put {
        bytes: &mut bytes,
        at: PAYLOAD_AT,
    };
    let kind = put.record(record);
    bytes[4] = kind;
    let sum = checksum(&bytes, frame);
    bytes[..4].copy_from_slice(&sum.to_le_bytes());
    out.extend_from_slice(&bytes);
}

/// The record in frame number `frame`; `None` if the frame is not as it was written.
pub(super) fn decode(bytes: &[u8; FRAME_LEN], frame: u64) -> Option<Record> {
    let mut take = Take {
        bytes,
        at: PAYLOAD_AT,
    };
    let sum = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    if sum != checksum(bytes, frame) {
        return None;
    }
    take.record(bytes[4])
}

/// The version that a frame claims, if it is a sound header of whatever version.
pub(super) fn header_version(bytes: &[u8; FRAME_LEN], frame: u64) -> Option<u16> {
    let sum = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    let mut take = Take {
        bytes,
        at: PAYLOAD_AT,
    };
    let sound = sum == checksum(bytes, frame) && bytes[4] == kind::HEADER;
    (sound && take.array::<4>() == MAGIC).then(|| u16::from_le_bytes(take.array()))
}

fn checksum(bytes: &[u8; FRAME_LEN], frame: u64) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&frame.to_le_bytes()), &bytes[4..])
}

/// Writes fields one after another. A record fits into its frame by construction, and every kind is
/// written by a test.
struct Put<'a> {
    bytes: &'a mut [u8; FRAME_LEN],
    at: usize,
}

impl Put<'_> {
    fn raw(&mut self, field: &[u8]) {
        self.bytes[self.at..self.at + field.len()].copy_from_slice(field);
        self.at += field.len();
    }

    fn u32(&mut self, n: u32) {
        self.raw(&n.to_le_bytes());
    }

    fn u64(&mut self, n: u64) {
        self.raw(&n.to_le_bytes());
    }

    fn span(&mut self, first: u32, bits: &Bits) {
        self.u32(first);
        self.raw(bits);
    }

    /// Writes the payload and tells the kind.
    fn record(&mut self, record: &Record) -> u8 {
        match record {
            Record::Header(header) => {
                self.header(header);
                kind::HEADER
            }
            Record::Root { file_system, inode } => {
                self.u64(*file_system);
                self.u64(*inode);
                kind::ROOT
            }
            Record::Session { boot } => {
                self.raw(boot);
                kind::SESSION
            }
            Record::Have { first, bits } => {
                self.span(*first, bits);
                kind::HAVE
            }
            Record::Forget { piece } => {
                self.u32(piece.get());
                kind::FORGET
            }
            Record::Mark { frames } => {
                self.u64(*frames);
                kind::MARK
            }
            Record::Spilled { piece, first, bits } => {
                self.u32(piece.get());
                self.span(*first, bits);
                kind::SPILLED
            }
            Record::Unspilled { piece } => {
                self.u32(piece.get());
                kind::UNSPILLED
            }
            Record::Intent { first, count } => {
                self.u32(*first);
                self.u32(*count);
                kind::INTENT
            }
            Record::Made { first, bits } => {
                self.span(*first, bits);
                kind::MADE
            }
            Record::Placed { first, bits } => {
                self.span(*first, bits);
                kind::PLACED
            }
            Record::Stamp { file, stamp } => {
                self.u32(*file);
                self.u64(stamp.len);
                self.raw(&stamp.modified.to_le_bytes());
                self.u64(stamp.inode);
                kind::STAMP
            }
            Record::Name(name) => {
                self.u32(name.file);
                self.raw(&name.part.to_le_bytes());
                self.raw(&name.parts.to_le_bytes());
                self.raw(&name.text);
                kind::NAME
            }
            Record::Closed => kind::CLOSED,
            Record::Gone { file } => {
                self.u32(*file);
                kind::GONE
            }
        }
    }

    fn header(&mut self, header: &LogHeader) {
        self.raw(&MAGIC);
        self.raw(&VERSION.to_le_bytes());
        self.raw(&header.info_hash.0);
        self.u32(header.pieces);
        self.u32(header.piece_len);
        self.u64(header.total);
        self.u32(header.files);
    }
}

struct Take<'a> {
    bytes: &'a [u8; FRAME_LEN],
    at: usize,
}

impl Take<'_> {
    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        out.copy_from_slice(&self.bytes[self.at..self.at + N]);
        self.at += N;
        out
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    fn record(&mut self, kind: u8) -> Option<Record> {
        Some(match kind {
            kind::HEADER => Record::Header(self.header()?),
            kind::ROOT => Record::Root {
                file_system: self.u64(),
                inode: self.u64(),
            },
            kind::SESSION => Record::Session { boot: self.array() },
            kind::HAVE => Record::Have {
                first: self.u32(),
                bits: self.array(),
            },
            kind::FORGET => Record::Forget {
                piece: PieceIndex::new(self.u32()),
            },
            kind::MARK => Record::Mark { frames: self.u64() },
            kind::SPILLED => Record::Spilled {
                piece: PieceIndex::new(self.u32()),
                first: self.u32(),
                bits: self.array(),
            },
            kind::UNSPILLED => Record::Unspilled {
                piece: PieceIndex::new(self.u32()),
            },
            kind::INTENT => Record::Intent {
                first: self.u32(),
                count: self.u32(),
            },
            kind::MADE => Record::Made {
                first: self.u32(),
                bits: self.array(),
            },
            kind::PLACED => Record::Placed {
                first: self.u32(),
                bits: self.array(),
            },
            kind::STAMP => Record::Stamp {
                file: self.u32(),
                stamp: FileStamp {
                    len: self.u64(),
                    modified: i64::from_le_bytes(self.array()),
                    inode: self.u64(),
                },
            },
            kind::NAME => Record::Name(NamePart {
                file: self.u32(),
                part: u16::from_le_bytes(self.array()),
                parts: u16::from_le_bytes(self.array()),
                text: self.array(),
            }),
            kind::CLOSED => Record::Closed,
            kind::GONE => Record::Gone { file: self.u32() },
            _ => return None,
        })
    }

    fn header(&mut self) -> Option<LogHeader> {
        if self.array() != MAGIC || u16::from_le_bytes(self.array()) != VERSION {
            return None;
        }
        Some(LogHeader {
            info_hash: InfoHash(self.array()),
            pieces: self.u32(),
            piece_len: self.u32(),
            total: self.u64(),
            files: self.u32(),
        })
    }
}
