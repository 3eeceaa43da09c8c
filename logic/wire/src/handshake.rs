//! The 68 bytes that open every connection (BEP 3).
//!
//! ```text
//!  0      1                     20         28          48        68
//!  │ 19   │ BitTorrent protocol │ reserved │ info-hash │ peer id │
//! ```

use std::fmt;

use torr_base::{InfoHash, PeerId};

/// Bytes in a handshake.
pub const HANDSHAKE_LEN: usize = 68;

/// Length prefix and name of the protocol.
const PROTOCOL: &[u8; 20] = b"\x13BitTorrent protocol";

/// What one side says before anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handshake {
    pub reserved: Reserved,
    pub info_hash: InfoHash,
    pub peer_id: PeerId,
}

impl Handshake {
    #[must_use]
    pub fn encode(&self) -> [u8; HANDSHAKE_LEN] {
        let mut out = [0; HANDSHAKE_LEN];
        let parts = [
            PROTOCOL.as_slice(),
            &self.reserved.0,
            &self.info_hash.0,
            &self.peer_id.0,
        ];
        for (to, from) in out.iter_mut().zip(parts.into_iter().flatten()) {
            *to = *from;
        }
        out
    }
}

/// The eight reserved bytes, a bit for each extension. Both sides must have set one for it to count.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Reserved(pub [u8; 8]);

impl Reserved {
    /// The extension protocol, BEP 10: bit 20 from the right.
    pub const EXTENDED: Self = Self((1_u64 << 20).to_be_bytes());
    /// The Fast extension, BEP 6.
    pub const FAST: Self = Self(0x04_u64.to_be_bytes());
    /// A DHT node that a `port` message will name, BEP 5.
    pub const DHT: Self = Self(0x01_u64.to_be_bytes());

    /// The bits of either.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self((self.bits() | other.bits()).to_be_bytes())
    }

    /// The bits of both: what two sides have in common.
    #[must_use]
    pub const fn common(self, other: Self) -> Self {
        Self((self.bits() & other.bits()).to_be_bytes())
    }

    /// Whether all bits of `other` are set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.bits() & other.bits() == other.bits()
    }

    #[must_use]
    pub const fn extended(self) -> bool {
        self.contains(Self::EXTENDED)
    }

    #[must_use]
    pub const fn fast(self) -> bool {
        self.contains(Self::FAST)
    }

    #[must_use]
    pub const fn dht(self) -> bool {
        self.contains(Self::DHT)
    }

    const fn bits(self) -> u64 {
        u64::from_be_bytes(self.0)
    }
}

impl fmt::Debug for Reserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reserved({:016x})", self.bits())
    }
}

/// The other side does not speak BitTorrent, at least not in the clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a BitTorrent handshake: byte {at} is {got:#04x}")]
pub struct HandshakeError {
    /// Which byte of the stream, counted from 0, was the first wrong one.
    pub at: usize,
    pub got: u8,
}

/// Takes a handshake as it arrives, and not a byte more: what follows belongs to the
/// [`WireReader`](crate::WireReader).
///
/// [`Self::info_hash`] is there after 48 bytes, so that whoever answers an incoming connection can find
/// the torrent and reply before the peer id has come, as some peers wait for.
#[derive(Clone, Debug)]
pub struct HandshakeReader {
    bytes: [u8; HANDSHAKE_LEN],
    filled: usize,
}

impl HandshakeReader {
    #[must_use]
    pub const fn new() -> Self {
        Self {
            bytes: [0; HANDSHAKE_LEN],
            filled: 0,
        }
    }

    /// Where the next bytes go; empty once the handshake is complete.
    pub fn read_buf(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.filled..).unwrap_or_default()
    }

    /// `n` bytes were put into [`Self::read_buf`].
    ///
    /// # Errors
    /// At the first byte that differs from the protocol's name, and ever after; the connection is of
    /// no use then, unless [`Self::received`] opens an encrypted one.
    pub fn advance(&mut self, n: usize) -> Result<(), HandshakeError> {
        debug_assert!(n <= HANDSHAKE_LEN - self.filled, "more than was offered");
        self.filled = self.filled.saturating_add(n).min(HANDSHAKE_LEN);
        let mut pairs = self.received().iter().zip(PROTOCOL).enumerate();
        match pairs.find(|(_, (got, due))| got != due) {
            None => Ok(()),
            Some((at, (got, _))) => Err(HandshakeError { at, got: *got }),
        }
    }

    /// What has arrived so far.
    #[must_use]
    pub fn received(&self) -> &[u8] {
        self.bytes.get(..self.filled).unwrap_or_default()
    }

    /// After 28 bytes.
    #[must_use]
    pub fn reserved(&self) -> Option<Reserved> {
        self.part(20).map(Reserved)
    }

    /// After 48 bytes.
    #[must_use]
    pub fn info_hash(&self) -> Option<InfoHash> {
        self.part(28).map(InfoHash)
    }

    /// After 68 bytes.
    #[must_use]
    pub fn peer_id(&self) -> Option<PeerId> {
        self.part(48).map(PeerId)
    }

    /// After 68 bytes.
    #[must_use]
    pub fn handshake(&self) -> Option<Handshake> {
        Some(Handshake {
            reserved: self.reserved()?,
            info_hash: self.info_hash()?,
            peer_id: self.peer_id()?,
        })
    }

    fn part<const N: usize>(&self, from: usize) -> Option<[u8; N]> {
        self.received().get(from..)?.first_chunk().copied()
    }
}

impl Default for HandshakeReader {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Handshake {
        Handshake {
            reserved: Reserved::EXTENDED.union(Reserved::FAST),
            info_hash: InfoHash([0xaa; 20]),
            peer_id: PeerId(*b"-XX0100-abcdefghijkl"),
        }
    }

    fn take(reader: &mut HandshakeReader, bytes: &[u8]) -> Result<(), HandshakeError> {
        reader.read_buf()[..bytes.len()].copy_from_slice(bytes);
        reader.advance(bytes.len())
    }

    #[test]
    fn bits_are_where_the_beps_put_them() {
        let mut reserved = [0; 8];
        reserved[5] |= 0x10;
        assert!(Reserved(reserved).extended() && !Reserved(reserved).fast());
        reserved[7] |= 0x04;
        assert_eq!(Reserved(reserved), example().reserved);
        reserved[7] |= 0x01;
        assert!(Reserved(reserved).dht());
        let all = Reserved([0xff; 8]);
        assert_eq!(all.common(Reserved::FAST), Reserved::FAST);
    }

    #[test]
    fn parts_are_known_as_soon_as_their_bytes_are_there() {
        let bytes = example().encode();
        let mut reader = HandshakeReader::new();
        for (i, byte) in bytes.iter().enumerate() {
            assert_eq!(reader.read_buf().len(), 68 - i);
            take(&mut reader, &[*byte]).unwrap();
            let n = i + 1;
            assert_eq!(reader.reserved().is_some(), n >= 28, "{n}");
            assert_eq!(reader.info_hash().is_some(), n >= 48, "{n}");
            assert_eq!(reader.peer_id().is_some(), n >= 68, "{n}");
            assert_eq!(reader.handshake().is_some(), n >= 68, "{n}");
        }
        assert!(reader.read_buf().is_empty());
        assert_eq!(reader.handshake(), Some(example()));
        assert_eq!(reader.received(), bytes);
    }

    #[test]
    fn the_first_wrong_byte_ends_it() {
        for at in 0..20 {
            let mut bytes = example().encode();
            bytes[at] ^= 0x20;
            let mut reader = HandshakeReader::new();
            take(&mut reader, &bytes[..at]).unwrap();
            let error = HandshakeError { at, got: bytes[at] };
            assert_eq!(take(&mut reader, &bytes[at..=at]), Err(error));
            let mut reader = HandshakeReader::new();
            assert_eq!(take(&mut reader, &bytes), Err(error));
        }
    }
}
