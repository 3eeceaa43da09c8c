//! The have-log: what is on the disk of one torrent, kept so that no crash and no single damaged byte
//! can make it claim a piece that is not there (G1, G13).
//!
//! The log is a file of 64-byte frames, each with its own checksum:
//!
//! ```text
//! 0        4     5        8                                                        64
//! | crc32c | kind | zero  | payload, zero up to the end                             |
//! ```
//!
//! - The checksum covers the frame's number too, so a frame counts only at the place where it was written.
//! - Frames are of one size, so damage never spreads: the next frame is where it always was.
//! - Frames are only appended. A shorter log with the same facts is written beside the old one, synced,
//!   and renamed over it (see [`LogImage::compact`]), so at every moment one of the two is whole.
//! - The first two frames both say which torrent this is: one of them may be lost.
//! - A piece counts as durable only below a [`Record::Mark`]; those after it were written, but perhaps
//!   not synced, and whoever opens the log hashes them again.
//! - A lost `Forget` would bring a piece back, so whoever writes one compacts the log soon after.
//!
//! Deliberately absent: the file itself. `io/disk` appends, syncs and renames.

mod compact;
mod image;
mod record;
#[cfg(test)]
mod tests;

pub use image::{Damage, LogError, LogImage, read_log};
pub use record::{
    BITS, Bits, FRAME_LEN, FileStamp, LogHeader, NAME_PART_LEN, NamePart, Record, add_record,
    bits_of, encode_record, iter_bits,
};
