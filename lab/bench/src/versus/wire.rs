//! As much of BEP 3 as the lab's own seeder and leecher speak. No code of torr's, so that torr is not measured against
//! itself.

/// Length, name of the protocol, reserved bits (none), info-hash, peer id.
pub(crate) const HANDSHAKE_LEN: usize = 68;
const PROTOCOL: &[u8] = b"\x13BitTorrent protocol";

pub(crate) const UNCHOKE: u8 = 1;
pub(crate) const CHOKE: u8 = 0;
pub(crate) const INTERESTED: u8 = 2;
pub(crate) const HAVE: u8 = 4;
pub(crate) const BITFIELD: u8 = 5;
pub(crate) const REQUEST: u8 = 6;
pub(crate) const PIECE: u8 = 7;
/// Length and id of a `request`, then three numbers.
pub(crate) const REQUEST_LEN: usize = 17;

/// What both ends know of the torrent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) hash: [u8; 20],
    pub(crate) total: u64,
    pub(crate) piece_len: u32,
}

impl Shape {
    pub(crate) fn pieces(&self) -> u32 {
        u32::try_from(self.total.div_ceil(u64::from(self.piece_len))).unwrap_or(u32::MAX)
    }

    /// All pieces, and no bit beyond them.
    pub(crate) fn full_bitfield(&self) -> Vec<u8> {
        let pieces = self.pieces() as usize;
        let mut bits = vec![0xff; pieces.div_ceil(8)];
        if let Some(last) = bits.last_mut() {
            *last <<= (8 - pieces % 8) % 8;
        }
        bits
    }
}

/// `number` tells the lab's peers apart.
pub(crate) fn handshake(hash: [u8; 20], number: usize) -> Vec<u8> {
    let mut bytes = PROTOCOL.to_vec();
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend_from_slice(&hash);
    bytes.extend_from_slice(format!("-VS0100-{number:012}").as_bytes());
    bytes
}

/// Whether these 68 bytes are a handshake for this torrent.
pub(crate) fn is_for(hello: &[u8], hash: &[u8; 20]) -> bool {
    hello.starts_with(PROTOCOL) && hello.get(28..48) == Some(hash.as_slice())
}

pub(crate) fn message(id: u8, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(1 + body.len()).unwrap_or(u32::MAX);
    let mut bytes = len.to_be_bytes().to_vec();
    bytes.push(id);
    bytes.extend_from_slice(body);
    bytes
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_beyond_the_last_piece_are_clear() {
        let shape = |total| Shape {
            hash: [0; 20],
            total,
            piece_len: 1,
        };
        assert_eq!(shape(8).full_bitfield(), [0xff]);
        assert_eq!(shape(9).full_bitfield(), [0xff, 0x80]);
        assert_eq!(handshake([1; 20], 3).len(), HANDSHAKE_LEN);
    }
}
