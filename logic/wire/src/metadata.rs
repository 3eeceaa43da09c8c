//! `ut_metadata` (BEP 9): the info dictionary from peer to peer, in blocks of 16 KiB.
//!
//! A message is a small bencoded dictionary, behind which the bytes of the block follow as they are. The
//! BEP calls these blocks pieces; here a piece is one of the torrent's.

use torr_base::BLOCK_LEN;

/// The longest info dictionary that is fetched from peers: 30 MiB, enough for a million and a half pieces.
pub const METADATA_LEN_MAX: u32 = 30 << 20;

/// The most pieces that a torrent can have whose info dictionary comes from peers: each takes 20 bytes of it.
pub const METADATA_PIECES_MAX: u32 = METADATA_LEN_MAX / 20;

/// One message of `ut_metadata`. Numbers are as they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetadataMessage<'a> {
    /// Asks for a block.
    Request { block: u32 },
    /// Brings one.
    Data {
        block: u32,
        /// Bytes in the whole dictionary; some do not say it.
        total: Option<u32>,
        bytes: &'a [u8],
    },
    /// The sender does not have it, or does not want to give it now.
    Reject { block: u32 },
    /// Of a kind that is not known here, and so to be ignored (BEP 9).
    Unknown,
}

/// The payload is no message of `ut_metadata`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    #[error("ut_metadata: {0}")]
    Bencode(torr_bencode::Error),
    #[error("ut_metadata: not a dictionary")]
    NotDict,
    /// `msg_type` or `piece` is missing, or no block has such a number.
    #[error("ut_metadata: no `{0}`, or one out of range")]
    Field(&'static str),
    /// More than a block.
    #[error("ut_metadata: {0} bytes in a block")]
    TooLong(usize),
}

impl<'a> MetadataMessage<'a> {
    /// From the payload of an `extended` message.
    ///
    /// # Errors
    /// See [`MetadataError`].
    pub fn parse(payload: &'a [u8]) -> Result<Self, MetadataError> {
        let (value, bytes) = torr_bencode::parse_prefix(payload).map_err(MetadataError::Bencode)?;
        let dict = value.as_dict().ok_or(MetadataError::NotDict)?;
        let kind = dict
            .int("msg_type")
            .ok_or(MetadataError::Field("msg_type"))?;
        if !(0..=2).contains(&kind) {
            return Ok(Self::Unknown);
        }
        let block = dict.uint("piece").and_then(|n| u32::try_from(n).ok());
        let block = block.filter(|n| *n < METADATA_LEN_MAX / BLOCK_LEN);
        let block = block.ok_or(MetadataError::Field("piece"))?;
        match kind {
            0 => Ok(Self::Request { block }),
            1 if bytes.len() > BLOCK_LEN as usize => Err(MetadataError::TooLong(bytes.len())),
            1 => {
                // One that fits no 32 bits agrees with no size that was announced.
                let total = dict.uint("total_size");
                let total = total.map(|total| u32::try_from(total).unwrap_or(u32::MAX));
                Ok(Self::Data {
                    block,
                    total,
                    bytes,
                })
            }
            _ => Ok(Self::Reject { block }),
        }
    }

    /// The payload of an `extended` message; of [`Self::Unknown`], one of a kind that nobody knows.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let head = |kind, block: u32, total: Option<u32>| {
            torr_bencode::encode_dict(|d| {
                d.uint("msg_type", kind);
                d.uint("piece", block.into());
                if let Some(total) = total {
                    d.uint("total_size", total.into());
                }
            })
        };
        match *self {
            Self::Request { block } => head(0, block, None),
            Self::Data {
                block,
                total,
                bytes,
            } => {
                let mut out = head(1, block, total);
                out.extend_from_slice(bytes);
                out
            }
            Self::Reject { block } => head(2, block, None),
            Self::Unknown => head(u8::MAX.into(), 0, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_of_bep_9() {
        for (message, bytes) in [
            (
                MetadataMessage::Request { block: 0 },
                b"d8:msg_typei0e5:piecei0ee".as_slice(),
            ),
            (
                MetadataMessage::Data {
                    block: 0,
                    total: Some(3425),
                    bytes: b"xxxxxxxx",
                },
                b"d8:msg_typei1e5:piecei0e10:total_sizei3425eexxxxxxxx",
            ),
            (
                MetadataMessage::Reject { block: 0 },
                b"d8:msg_typei2e5:piecei0ee",
            ),
        ] {
            assert_eq!(MetadataMessage::parse(bytes), Ok(message));
            assert_eq!(message.encode(), bytes);
        }
    }

    #[test]
    fn kinds_that_nobody_knows_are_no_mistake() {
        for bytes in [
            b"d8:msg_typei3ee".as_slice(),
            b"d8:msg_typei-1e5:piecei-7ee",
            b"d8:msg_typei255e5:piecei0eetail",
        ] {
            assert_eq!(MetadataMessage::parse(bytes), Ok(MetadataMessage::Unknown));
        }
        let again = MetadataMessage::Unknown.encode();
        assert_eq!(MetadataMessage::parse(&again), Ok(MetadataMessage::Unknown));
    }

    #[test]
    fn what_no_block_can_be_is_refused() {
        use MetadataError::Field;
        for (bytes, error) in [
            (b"d5:piecei0ee".as_slice(), Field("msg_type")),
            (b"d8:msg_type1:0e", Field("msg_type")),
            (b"d8:msg_typei0ee", Field("piece")),
            (b"d8:msg_typei0e5:piecei-1ee", Field("piece")),
            (b"d8:msg_typei2e5:piecei1920ee", Field("piece")),
            (b"d8:msg_typei1e5:piecei4294967296ee", Field("piece")),
            (b"i0e", MetadataError::NotDict),
        ] {
            let parsed = MetadataMessage::parse(bytes);
            assert_eq!(parsed, Err(error), "{}", bytes.escape_ascii());
        }
        assert!(MetadataMessage::parse(b"").is_err());
        let mut long = b"d8:msg_typei1e5:piecei0ee".to_vec();
        long.resize(long.len() + 16_384, 0);
        assert!(MetadataMessage::parse(&long).is_ok());
        long.push(0);
        let error = MetadataError::TooLong(16_385);
        assert_eq!(MetadataMessage::parse(&long), Err(error));
    }

    #[test]
    fn a_total_beyond_32_bits_agrees_with_nothing() {
        let parsed = MetadataMessage::parse(b"d8:msg_typei1e5:piecei0e10:total_sizei4294967296eex");
        let total = Some(u32::MAX);
        let bytes = b"x".as_slice();
        let data = MetadataMessage::Data {
            block: 0,
            total,
            bytes,
        };
        assert_eq!(parsed, Ok(data));
    }
}
