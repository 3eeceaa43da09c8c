//! Which length each kind of message may have.

use torr_base::{BLOCK_LEN, PIECES_MAX};

use crate::WireError;
use crate::message::id;

/// The longest messages that are taken from a peer. Lengths are bytes as in the length prefix: the id
/// and what follows it.
///
/// All other kinds have one length only, and a `piece` brings at most
/// [`BLOCK_LEN`] bytes of payload, since more is never asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub bitfield_len_max: u32,
    pub extended_len_max: u32,
    /// Messages of kinds that are not known here are skipped, up to this.
    pub unknown_len_max: u32,
}

/// The longest that is in use is a `ut_metadata` block, 16 KiB and a small dictionary (BEP 9). Twice
/// that leaves room for generous handshakes and peer lists.
const EXTENDED_LEN_MAX: u32 = 32 * 1024;

impl Limits {
    /// For a torrent of that many pieces; `None` while its metadata is still to come (BEP 9), which
    /// allows for the largest torrent there may be.
    #[must_use]
    pub fn new(piece_count: Option<u32>) -> Self {
        let pieces = piece_count.unwrap_or(PIECES_MAX).min(PIECES_MAX);
        Self {
            bitfield_len_max: 1 + pieces.div_ceil(8),
            extended_len_max: EXTENDED_LEN_MAX,
            unknown_len_max: EXTENDED_LEN_MAX,
        }
    }

    /// Whether a message of that kind may have that length.
    ///
    /// # Errors
    /// [`WireError::Length`] if not.
    pub(crate) fn check(&self, id: u8, got: u32) -> Result<(), WireError> {
        let (_, min, max) = self.rule(id);
        if (min..=max).contains(&got) {
            Ok(())
        } else {
            Err(self.wrong(id, got))
        }
    }

    pub(crate) const fn wrong(&self, id: u8, got: u32) -> WireError {
        let (name, min, max) = self.rule(id);
        WireError::Length {
            name,
            min,
            max,
            got,
        }
    }

    /// Name, shortest and longest.
    const fn rule(&self, id: u8) -> (&'static str, u32, u32) {
        match id {
            id::CHOKE => ("choke", 1, 1),
            id::UNCHOKE => ("unchoke", 1, 1),
            id::INTERESTED => ("interested", 1, 1),
            id::NOT_INTERESTED => ("not interested", 1, 1),
            id::HAVE => ("have", 5, 5),
            id::BITFIELD => ("bitfield", 1, self.bitfield_len_max),
            id::REQUEST => ("request", 13, 13),
            // An empty block is never asked for either.
            id::PIECE => ("piece", 10, 9 + BLOCK_LEN),
            id::CANCEL => ("cancel", 13, 13),
            id::PORT => ("port", 3, 3),
            id::SUGGEST => ("suggest piece", 5, 5),
            id::HAVE_ALL => ("have all", 1, 1),
            id::HAVE_NONE => ("have none", 1, 1),
            id::REJECT => ("reject request", 13, 13),
            id::ALLOWED_FAST => ("allowed fast", 5, 5),
            id::EXTENDED => ("extended", 2, self.extended_len_max),
            _ => ("unknown", 1, self.unknown_len_max),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lengths that are allowed for each kind, found by trying.
    fn allowed(limits: &Limits, id: u8) -> (u32, u32) {
        let lens: Vec<u32> = (0..600_000)
            .filter(|len| limits.check(id, *len).is_ok())
            .collect();
        let (first, last) = (lens[0], lens[lens.len() - 1]);
        assert_eq!(lens.len() as u32, last - first + 1, "{id}");
        (first, last)
    }

    #[test]
    fn lengths_are_those_of_the_beps() {
        let limits = Limits::new(Some(1313));
        for (id, lens) in [
            (0, (1, 1)),
            (1, (1, 1)),
            (2, (1, 1)),
            (3, (1, 1)),
            (4, (5, 5)),
            (5, (1, 1 + 165)),
            (6, (13, 13)),
            (7, (10, 9 + 16_384)),
            (8, (13, 13)),
            (9, (3, 3)),
            (13, (5, 5)),
            (14, (1, 1)),
            (15, (1, 1)),
            (16, (13, 13)),
            (17, (5, 5)),
            (20, (2, 32_768)),
            (21, (1, 32_768)),
            (255, (1, 32_768)),
        ] {
            assert_eq!(allowed(&limits, id), lens, "{id}");
            assert!(limits.check(id, u32::MAX).is_err());
        }
    }

    #[test]
    fn a_bitfield_may_be_as_long_as_the_torrent_needs() {
        for (pieces, max) in [
            (1, 2),
            (8, 2),
            (9, 3),
            (1 << 22, 524_289),
            (u32::MAX, 524_289),
        ] {
            assert_eq!(allowed(&Limits::new(Some(pieces)), id::BITFIELD), (1, max));
        }
        assert_eq!(Limits::new(None), Limits::new(Some(PIECES_MAX)));
    }

    #[test]
    fn the_error_names_the_message() {
        let error = Limits::new(None).check(id::REQUEST, 12);
        let text = "`request` message of 12 bytes; 13 to 13 are allowed";
        assert_eq!(
            error.map_err(|error| error.to_string()),
            Err(text.to_owned())
        );
    }
}
