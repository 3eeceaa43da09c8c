//! What the rigs' own peers say (BEP 3), without torr's code.

/// A longer message than any that torr has to say is a fault.
pub(crate) const MESSAGE_MAX: usize = 1 << 17;

/// A handshake, with the fast extension (BEP 6) or without any.
pub(crate) fn hello(info_hash: &[u8; 20], fast: bool, id: u64) -> Vec<u8> {
    let mut out = b"\x13BitTorrent protocol\0\0\0\0\0\0\0".to_vec();
    out.push(if fast { 4 } else { 0 });
    out.extend_from_slice(info_hash);
    let peer_id = format!("-XX{id:017x}");
    out.extend_from_slice(peer_id.as_bytes());
    out
}

/// A request for `len` bytes of a piece.
pub(crate) fn request(out: &mut Vec<u8>, piece: u32, offset: u32, len: u32) {
    out.extend_from_slice(&[0, 0, 0, 13, 6]);
    for number in [piece, offset, len] {
        out.extend_from_slice(&number.to_be_bytes());
    }
}
