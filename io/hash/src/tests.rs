//! Every kernel against the hash crates, for every number of lanes and ragged lengths.

use ::sha1::Digest as _;
use proptest::prelude::*;

use crate::kernel::{Chosen, Function, Sha1, Sha256};
use crate::many::{Part, Running, run};
use crate::{Sha1Message, Sha1State, bytes_of, sha1_all, sha1_each, sha256_all};

const KINDS: [&str; 5] = ["portable", "sha", "avx2", "avx512", "auto"];

fn hashes<const N: usize, const B: usize, F: Function<N>>(
    kind: &str,
    messages: &[Vec<&[u8]>],
) -> Vec<[u8; B]> {
    let chosen = Chosen::among::<F>(kind);
    let start = Running {
        words: F::START,
        bytes: 0,
    };
    let parts = messages.iter().map(|parts| Part {
        start,
        parts,
        finish: true,
    });
    let mut out = vec![[0; B]; messages.len()];
    run::<N, F>(&chosen, parts, |index, end| {
        out[index] = bytes_of(end.words)
    });
    out
}

fn compare(messages: &[Vec<&[u8]>]) {
    let whole: Vec<Vec<u8>> = messages.iter().map(|parts| parts.concat()).collect();
    for kind in KINDS {
        let found: Vec<[u8; 20]> = hashes::<5, 20, Sha1>(kind, messages);
        for (bytes, found) in whole.iter().zip(found) {
            assert_eq!(
                found,
                <[u8; 20]>::from(::sha1::Sha1::digest(bytes)),
                "{kind}"
            );
        }
        let found: Vec<[u8; 32]> = hashes::<8, 32, Sha256>(kind, messages);
        for (bytes, found) in whole.iter().zip(found) {
            assert_eq!(
                found,
                <[u8; 32]>::from(::sha2::Sha256::digest(bytes)),
                "{kind}"
            );
        }
    }
}

fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let step = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..len).map(step).collect()
}

#[test]
fn every_number_of_messages_in_every_kernel() {
    let bytes = noise(20_000);
    for count in 0..=35 {
        let messages: Vec<Vec<&[u8]>> = (0..count)
            .map(|n| vec![&bytes[n..n + 300 + 64 * n]])
            .collect();
        compare(&messages);
    }
}

#[test]
fn every_length_around_a_block() {
    let bytes = noise(400);
    let messages: Vec<Vec<&[u8]>> = (0..=260).map(|len| vec![&bytes[..len]]).collect();
    compare(&messages);
}

#[test]
fn known_answers() {
    let abc: &[&[u8]] = &[b"a", b"", b"bc"];
    let empty: &[&[u8]] = &[];
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let sha1 = sha1_all(&[abc, empty]);
    assert_eq!(hex(&sha1[0]), "a9993e364706816aba3e25717850c26c9cd0d89d");
    assert_eq!(hex(&sha1[1]), "da39a3ee5e6b4b0d3255bfef95601890afd80709");
    let sha256 = sha256_all(&[abc]);
    assert_eq!(
        hex(&sha256[0]),
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
}

#[test]
fn a_kernel_serves_every_number_and_a_wish_is_heard() {
    for kind in KINDS {
        let chosen = Chosen::among::<Sha1>(kind);
        for messages in 1..=16 {
            let kernel = chosen.kernel(messages);
            if kind == "portable" {
                assert_eq!(kernel.name, kind);
            }
        }
        let covered: usize = chosen
            .table()
            .iter()
            .map(|(range, ..)| range.clone().count())
            .sum();
        assert_eq!(covered, 16);
    }
    assert!(crate::describe().starts_with("SHA-1 1: "));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn ragged_messages_in_ragged_parts(
        cuts in prop::collection::vec(prop::collection::vec(0_usize..400, 0..6), 0..40)
    ) {
        let bytes = noise(3_000);
        let messages: Vec<Vec<&[u8]>> = cuts
            .iter()
            .enumerate()
            .map(|(n, lens)| {
                let mut at = n;
                let part = |len: &usize| {
                    at += len;
                    &bytes[at - len..at]
                };
                lens.iter().map(part).collect()
            })
            .collect();
        compare(&messages);
    }

    #[test]
    fn a_hash_may_go_on_later(
        cuts in prop::collection::vec((0_usize..6, 0_usize..6, 0_usize..200), 1..30)
    ) {
        let bytes = noise(2_000);
        let split = |n: usize, (first, second, rest): (usize, usize, usize)| {
            let whole = &bytes[n..n + 64 * (first + second) + rest];
            let (a, b) = whole.split_at(64 * first);
            let (b, c) = b.split_at(64 * second);
            (whole, [a, b], [c])
        };
        let split: Vec<_> = cuts.iter().enumerate().map(|(n, cut)| split(n, *cut)).collect();
        let mut states = vec![Sha1State::default(); cuts.len()];
        let firsts = split.iter().map(|(_, parts, _)| Sha1Message {
            from: Sha1State::default(),
            parts,
            last: false,
        });
        sha1_each(firsts, |n, state| states[n] = state);
        let mut out = vec![[0; 20]; cuts.len()];
        let ends = states.iter().zip(&split).map(|(state, (.., rest))| {
            let (words, bytes) = state.to_parts();
            Sha1Message {
                from: Sha1State::from_parts(words, bytes),
                parts: rest,
                last: true,
            }
        });
        sha1_each(ends, |n, end| out[n] = end.hash());
        for ((whole, ..), found) in split.iter().zip(out) {
            prop_assert_eq!(found, <[u8; 20]>::from(::sha1::Sha1::digest(whole)));
        }
    }
}
