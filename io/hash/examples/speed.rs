//! Bytes a second of each kernel, one core: `cargo run --release -p torr-hash --example speed`.
#![allow(clippy::print_stdout, reason = "a program for people")]

use std::time::Instant;

/// One function over messages of a length each; the best of a few runs, in GB/s.
fn rate(len: usize, count: usize, hash: impl Fn(&[&[&[u8]]])) -> f64 {
    let data: Vec<Vec<u8>> = (0..count).map(|n| vec![n as u8; len]).collect();
    let parts: Vec<[&[u8]; 1]> = data.iter().map(|bytes| [bytes.as_slice()]).collect();
    let messages: Vec<&[&[u8]]> = parts.iter().map(|parts| parts.as_slice()).collect();
    let rounds = ((128 << 20) / (len * count)).max(1);
    let mut best = f64::MAX;
    for _ in 0..5 {
        let begun = Instant::now();
        for _ in 0..rounds {
            hash(&messages);
        }
        best = best.min(begun.elapsed().as_secs_f64());
    }
    (rounds * len * count) as f64 / best / 1e9
}

fn main() {
    println!("{}", torr_hash::describe());
    for len in [16 << 10, 256 << 10, 4 << 20] {
        for count in [1, 2, 4, 8, 12, 16] {
            let sha1 = rate(len, count, |messages| {
                std::hint::black_box(torr_hash::sha1_all(messages));
            });
            let sha256 = rate(len, count, |messages| {
                std::hint::black_box(torr_hash::sha256_all(messages));
            });
            println!("{count:2} x {len:7} bytes: SHA-1 {sha1:.2} GB/s, SHA-256 {sha256:.2} GB/s");
        }
    }
}
