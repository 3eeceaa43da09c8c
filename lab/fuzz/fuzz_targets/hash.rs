//! Messages of any lengths in parts of any lengths: the kernels say what the hash crates say, and, under
//! the fuzzer's address sanitizer, read nothing beyond what they were given.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sha1::{Digest as _, Sha1};
use sha2::Sha256;

fuzz_target!(|bytes: &[u8]| {
    // A length of a message and of its first part, both in bytes, until nothing is left.
    let (mut rest, mut messages) = (bytes, Vec::new());
    while let [len, first, tail @ ..] = rest {
        let len = (usize::from(*len) * 3).min(tail.len());
        let (message, next) = tail.split_at(len);
        // Memory of its own, so that a step too far is seen.
        let (a, b) = message.split_at(usize::from(*first).min(len));
        messages.push([a.to_vec(), b.to_vec()]);
        rest = next;
    }
    let parts: Vec<[&[u8]; 2]> = messages.iter().map(|[a, b]| [&a[..], &b[..]]).collect();
    let slices: Vec<&[&[u8]]> = parts.iter().map(|parts| &parts[..]).collect();
    let sha1 = torr_hash::sha1_all(&slices);
    let sha256 = torr_hash::sha256_all(&slices);
    for ((parts, sha1), sha256) in parts.iter().zip(sha1).zip(sha256) {
        let whole = parts.concat();
        assert_eq!(sha1, <[u8; 20]>::from(Sha1::digest(&whole)));
        assert_eq!(sha256, <[u8; 32]>::from(Sha256::digest(&whole)));
    }
});
