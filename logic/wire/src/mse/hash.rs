//! What MSE makes of SHA-1: names, keys, and unpredictable bytes.

use std::fmt;

use sha1::{Digest as _, Sha1};
use torr_base::InfoHash;

use super::dh::KEY_LEN;

/// HASH('req2', info-hash): how a torrent is known to who looks for it by a handshake.
pub type TorrentToken = [u8; 20];

/// By which an incoming handshake's torrent is looked up; see [`MseHandshake::advance`](super::MseHandshake::advance).
#[must_use]
pub fn torrent_token(info_hash: &InfoHash) -> TorrentToken {
    hash(&[b"req2", &info_hash.0])
}

/// HASH('req1', S): marks the end of the padding.
pub(super) fn sync_mark(shared: &[u8; KEY_LEN]) -> [u8; 20] {
    hash(&[b"req1", shared])
}

/// A torrent's token, hidden or found again: the same both ways.
pub(super) fn mask_token(token: &TorrentToken, shared: &[u8; KEY_LEN]) -> TorrentToken {
    let mut masked = hash(&[b"req3", shared]);
    for (to, from) in masked.iter_mut().zip(token) {
        *to ^= from;
    }
    masked
}

/// The key of what the dialling side sends, and of what it hears.
pub(super) fn keys(shared: &[u8; KEY_LEN], info_hash: &InfoHash) -> [[u8; 20]; 2] {
    [b"keyA", b"keyB"].map(|name| hash(&[name, shared, &info_hash.0]))
}

fn hash(parts: &[&[u8]]) -> [u8; 20] {
    let mut sha1 = Sha1::new();
    for part in parts {
        sha1.update(part);
    }
    sha1.finalize().into()
}

/// Where private keys and padding come from: SHA-1 over a secret and a counter. Who sees the padding
/// learns nothing of the keys, as it would with a generator whose state its numbers tell.
#[derive(Clone)]
pub struct SecretSource {
    secret: [u8; 32],
    count: u64,
}

impl SecretSource {
    /// `secret` is from the operating system, and of this process alone.
    #[must_use]
    pub const fn new(secret: [u8; 32]) -> Self {
        Self { secret, count: 0 }
    }

    /// One for a single handshake.
    pub(super) fn fork(&mut self) -> Self {
        let mut secret = [0; 32];
        let drawn = [self.draw(), self.draw()];
        for (to, from) in secret.iter_mut().zip(drawn.as_flattened()) {
            *to = *from;
        }
        Self::new(secret)
    }

    /// Twenty bytes that were not given before.
    pub(super) fn draw(&mut self) -> [u8; 20] {
        self.count += 1;
        hash(&[&self.secret, &self.count.to_be_bytes()])
    }

    /// Appends padding of 0 to `most` bytes; how much that is.
    pub(super) fn pad(&mut self, most: u16, out: &mut Vec<u8>) -> u16 {
        let [high, low, ..] = self.draw();
        let len = u16::from_be_bytes([high, low]) % (most + 1);
        let mut left = usize::from(len);
        while left > 0 {
            let bytes = self.draw();
            let n = left.min(bytes.len());
            out.extend_from_slice(bytes.get(..n).unwrap_or_default());
            left -= n;
        }
        len
    }
}

impl fmt::Debug for SecretSource {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretSource")
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}
