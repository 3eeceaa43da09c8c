//! SHA-1 and SHA-256 of many messages at once.
//!
//! One message is a chain: each of its blocks waits for the one before, and most of the CPU idles. Messages
//! that have nothing to do with each other go side by side, one in each lane of a register: up to sixteen
//! with AVX-512, eight with AVX2, two on the CPU's SHA instructions, four elsewhere.
//!
//! ```text
//!   messages ──► many (lanes; cuts at the ends of parts; padding) ──► kernel (the fastest for so many)
//!                                                                      ├ avx512, avx2, soft: lanes of words
//!                                                                      └ shani: whole messages
//! ```
//!
//! - Each kernel is compared with the plain one before it is used; one that is wrong never is.
//! - Which kernel is used for how many messages is measured when something is first hashed.
//! - [`SWITCH`] names an environment variable that forces one kind.
//!
//! Sources: FIPS 180-4.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod kernel;
mod lanes;
mod many;
mod sha1;
mod sha256;
#[cfg(target_arch = "x86_64")]
mod shani;
mod soft;

use kernel::{Chosen, Function, Sha1, Sha256};
use many::{Part, Running};

pub use kernel::SWITCH;

/// Messages beyond this bring no more speed.
pub const LANES: usize = lanes::LANES_MAX;

/// A SHA-1 on its way, after a number of bytes that is a multiple of 64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sha1State(Running<{ sha1::WORDS }>);

impl Default for Sha1State {
    fn default() -> Self {
        Self(Running {
            words: Sha1::START,
            bytes: 0,
        })
    }
}

impl Sha1State {
    /// Bytes taken in so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.bytes
    }

    /// The hash, where the message has ended.
    #[must_use]
    pub fn hash(&self) -> [u8; 20] {
        bytes_of(self.0.words)
    }

    /// For keeping it elsewhere: the five words, and the bytes taken in.
    #[must_use]
    pub fn to_parts(&self) -> ([u32; 5], u64) {
        (self.0.words, self.0.bytes)
    }

    /// What [`Self::to_parts`] gave. `bytes` must be a multiple of 64.
    #[must_use]
    pub fn from_parts(words: [u32; 5], bytes: u64) -> Self {
        debug_assert!(bytes.is_multiple_of(64));
        Self(Running { words, bytes })
    }
}

/// A message, or the next of it: from where it goes on, what is to be taken in, as parts in order, and
/// whether it ends there. Where it does not, the parts are a multiple of 64 bytes in all.
#[derive(Clone, Copy, Debug)]
pub struct Sha1Message<'a> {
    pub from: Sha1State,
    pub parts: &'a [&'a [u8]],
    pub last: bool,
}

/// The SHA-1 of each message, given as its parts in order. The parts may be of any length.
#[must_use]
pub fn sha1_all<'a>(messages: &[&'a [&'a [u8]]]) -> Vec<[u8; 20]> {
    let whole = messages.iter().map(|parts| Sha1Message {
        from: Sha1State::default(),
        parts,
        last: true,
    });
    let mut out = vec![[0; 20]; messages.len()];
    sha1_each(whole, |index, end| out[index] = end.hash());
    out
}

/// Takes in what is given of each message, and tells where each is then, in any order.
///
/// # Panics
/// In debug builds, where a message that goes on is given no multiple of 64 bytes.
pub fn sha1_each<'a>(
    messages: impl ExactSizeIterator<Item = Sha1Message<'a>>,
    mut done: impl FnMut(usize, Sha1State),
) {
    let messages = messages.map(|message| Part {
        start: message.from.0,
        parts: message.parts,
        finish: message.last,
    });
    many::run::<_, Sha1>(Sha1::chosen(), messages, |index, state| {
        done(index, Sha1State(state));
    });
}

/// The SHA-256 of each message, given as its parts in order. The parts may be of any length.
#[must_use]
pub fn sha256_all<'a>(messages: &[&'a [&'a [u8]]]) -> Vec<[u8; 32]> {
    let mut out = vec![[0; 32]; messages.len()];
    let parts = messages.iter().map(|parts| Part {
        start: Running {
            words: Sha256::START,
            bytes: 0,
        },
        parts,
        finish: true,
    });
    many::run::<_, Sha256>(Sha256::chosen(), parts, |index, end| {
        out[index] = bytes_of(end.words);
    });
    out
}

/// Which kernels were chosen, for people: `1: sha x1, 2-3: sha x2, 4-16: avx512 x16`.
#[must_use]
pub fn describe() -> String {
    fn line<const N: usize>(chosen: &Chosen<N>) -> String {
        let rows = chosen.table().into_iter().map(|(range, name, lanes)| {
            let (from, to) = (range.start(), range.end());
            if from == to {
                format!("{from}: {name} x{lanes}")
            } else {
                format!("{from}-{to}: {name} x{lanes}")
            }
        });
        rows.collect::<Vec<_>>().join(", ")
    }
    format!(
        "SHA-1 {}; SHA-256 {}",
        line(Sha1::chosen()),
        line(Sha256::chosen())
    )
}

/// Big-endian, as the standard writes hashes.
fn bytes_of<const N: usize, const B: usize>(words: [u32; N]) -> [u8; B] {
    let mut out = [0; B];
    for (to, word) in out.as_chunks_mut::<4>().0.iter_mut().zip(words) {
        *to = word.to_be_bytes();
    }
    out
}

#[cfg(test)]
mod tests;
