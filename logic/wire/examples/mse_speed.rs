//! What encryption costs: `cargo run --release -p torr-wire --example mse_speed`.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "a program for people"
)]

use std::time::Instant;

use torr_base::InfoHash;
use torr_wire::{Methods, MseHandshake, MseSide, SecretSource, Streams, torrent_token};

const TORRENT: InfoHash = InfoHash([7; 20]);
const BLOCK: usize = 16 * 1024;

/// Gives one end what the other has to say.
fn pass(from: &mut MseHandshake, to: &mut MseHandshake) {
    let mut bytes = Vec::new();
    from.take_output(&mut bytes);
    let mut rest = bytes.as_slice();
    loop {
        let room = to.read_buf();
        let n = room.len().min(rest.len());
        if n == 0 {
            return;
        }
        let (head, tail) = rest.split_at(n);
        room[..n].copy_from_slice(head);
        rest = tail;
        to.advance(n, |token| {
            (torrent_token(&TORRENT) == *token).then_some(TORRENT)
        })
        .expect("both ends are right");
    }
}

fn shake(source: &mut SecretSource) -> [Streams; 2] {
    let side = MseSide::Dials {
        info_hash: TORRENT,
        payload: Vec::new(),
    };
    let mut dials = MseHandshake::new(side, Methods::RC4, source);
    let mut accepts = MseHandshake::new(MseSide::Accepts, Methods::ANY, source);
    for _ in 0..2 {
        pass(&mut dials, &mut accepts);
        pass(&mut accepts, &mut dials);
    }
    [dials, accepts].map(|mut end| end.finish().expect("all was said"))
}

fn main() {
    let mut source = SecretSource::new([1; 32]);
    let begun = Instant::now();
    let rounds = 1_000;
    for _ in 0..rounds {
        std::hint::black_box(shake(&mut source));
    }
    let each = begun.elapsed().as_secs_f64() / f64::from(rounds) * 1e6;
    println!("handshake, both ends: {each:.0} us");
    let [mut dials, _] = shake(&mut source);
    let rc4 = dials.outgoing.as_mut().expect("RC4 was forced");
    let mut block = vec![0; BLOCK];
    let mut best = f64::MAX;
    for _ in 0..7 {
        let begun = Instant::now();
        for _ in 0..8_192 {
            rc4.apply(std::hint::black_box(&mut block));
        }
        best = best.min(begun.elapsed().as_secs_f64());
    }
    let rate = (8_192 * BLOCK) as f64 / best;
    println!(
        "RC4, blocks of 16 KiB: {:.2} GB/s, {:.2} CPU s/GiB",
        rate / 1e9,
        (1_u64 << 30) as f64 / rate
    );
}
