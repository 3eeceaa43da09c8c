//! SHA-1 of pieces. The one place that knows how it is computed.

use sha1::{Digest as _, Sha1};
use torr_store::Digest;

/// The hashes of several messages, each given as its parts in order.
pub(crate) fn hash_all(messages: &[Vec<&[u8]>]) -> Vec<[u8; 20]> {
    let one = |parts: &Vec<&[u8]>| {
        let mut running = Running::default();
        parts.iter().for_each(|part| running.update(part));
        running.finish()
    };
    messages.iter().map(one).collect()
}

/// What is remembered of a block to tell whether it came out the same the next time.
pub(crate) fn digest(block: &[u8]) -> Digest {
    let hash: [u8; 20] = Sha1::digest(block).into();
    let mut first = [0; 8];
    first.copy_from_slice(&hash[..8]);
    Digest(u64::from_be_bytes(first))
}

/// The hash of a message that comes in parts, one after another.
#[derive(Clone, Default)]
pub(crate) struct Running(Sha1);

impl Running {
    pub(crate) fn update(&mut self, part: &[u8]) {
        self.0.update(part);
    }

    /// `len` zero bytes.
    pub(crate) fn update_zeros(&mut self, mut len: u64) {
        static ZEROS: [u8; 65_536] = [0; 65_536];
        while len > 0 {
            let now = len.min(ZEROS.len() as u64);
            self.0.update(&ZEROS[..now as usize]);
            len -= now;
        }
    }

    pub(crate) fn finish(self) -> [u8; 20] {
        self.0.finalize().into()
    }
}
