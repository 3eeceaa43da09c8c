//! SHA-1 of pieces: in memory, and read from files side by side.

use std::ops::Range;

use torr_hash::{LANES, Sha1Message, Sha1State, sha1_each};
use torr_store::Digest;

/// Bytes of each piece that are read before all of them are hashed a step further: sixteen of them stay
/// in a core's own cache.
const STEP: usize = 64 * 1024;

/// The hash of one message.
pub(crate) fn hash_one(parts: &[&[u8]]) -> [u8; 20] {
    let mut out = [0; 20];
    let message = Sha1Message {
        from: Sha1State::default(),
        parts,
        last: true,
    };
    sha1_each(std::iter::once(message), |_, end| out = end.hash());
    out
}

/// The hash of so many zeros.
pub(crate) fn hash_of_zeros(len: u64) -> [u8; 20] {
    static ZEROS: [u8; STEP] = [0; STEP];
    let whole = (len / STEP as u64) as usize;
    let mut parts = vec![&ZEROS[..]; whole];
    parts.push(&ZEROS[..(len % STEP as u64) as usize]);
    hash_one(&parts)
}

/// What is remembered of a block to tell whether it came out the same the next time.
pub(crate) fn digest(block: &[u8]) -> Digest {
    let hash = hash_one(&[block]);
    let mut first = [0; 8];
    first.copy_from_slice(&hash[..8]);
    Digest(u64::from_be_bytes(first))
}

/// Where the messages of [`hash_ranges`] come from, and what becomes of them.
pub(crate) trait Ranges {
    type Error;

    /// The next message: a number for it, and which bytes it is.
    fn next(&mut self) -> Option<(usize, Range<u64>)>;
    /// Fills `buf` from byte `at` on.
    fn read(&mut self, at: u64, buf: &mut [u8]) -> Result<(), Self::Error>;
    /// The message is hashed, or could not be read.
    fn done(&mut self, number: usize, hash: Result<[u8; 20], Self::Error>);
}

/// A message on its way.
struct Lane {
    number: usize,
    at: u64,
    end: u64,
    state: Sha1State,
    /// Bytes of this step.
    buf: Vec<u8>,
}

/// Reads and hashes messages side by side, as many as pay, with 1 MiB of memory in all.
pub(crate) fn hash_ranges<R: Ranges>(ranges: &mut R) {
    let mut lanes: Vec<Lane> = Vec::with_capacity(LANES);
    let mut spare: Vec<Vec<u8>> = Vec::new();
    loop {
        while lanes.len() < LANES
            && let Some((number, Range { start, end })) = ranges.next()
        {
            lanes.push(Lane {
                number,
                at: start,
                end,
                state: Sha1State::default(),
                buf: spare.pop().unwrap_or_default(),
            });
        }
        if lanes.is_empty() {
            return;
        }
        let unreadable = lanes.extract_if(.., |lane| {
            let len = (lane.end - lane.at).min(STEP as u64) as usize;
            lane.buf.resize(len, 0);
            match ranges.read(lane.at, &mut lane.buf) {
                Ok(()) => false,
                Err(error) => {
                    ranges.done(lane.number, Err(error));
                    true
                }
            }
        });
        spare.extend(unreadable.map(|lane| lane.buf));
        step(&mut lanes);
        let over = lanes.extract_if(.., |lane| lane.at == lane.end);
        for lane in over {
            ranges.done(lane.number, Ok(lane.state.hash()));
            spare.push(lane.buf);
        }
    }
}

/// Hashes what was read.
fn step(lanes: &mut [Lane]) {
    let parts: Vec<[&[u8]; 1]> = lanes.iter().map(|lane| [lane.buf.as_slice()]).collect();
    let messages = lanes.iter().zip(&parts).map(|(lane, parts)| Sha1Message {
        from: lane.state,
        parts,
        last: lane.at + lane.buf.len() as u64 == lane.end,
    });
    let mut states = [Sha1State::default(); LANES];
    sha1_each(messages, |index, state| states[index] = state);
    for (lane, state) in lanes.iter_mut().zip(states) {
        lane.state = state;
        lane.at += lane.buf.len() as u64;
    }
}
