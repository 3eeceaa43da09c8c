//! Two ends of the encrypted handshake whose bytes are changed on the way, or one end and any bytes: no
//! panic, nothing taken without a bound, and both through where nothing was changed.
#![no_main]

use std::collections::VecDeque;

use libfuzzer_sys::fuzz_target;
use torr_base::InfoHash;
use torr_wire::{Methods, MseHandshake, MseSide, SecretSource, torrent_token};

const TORRENT: InfoHash = InfoHash([7; 20]);
/// Key, longest padding, mark, what follows it, longest second padding.
const TAKEN_MAX: usize = 96 + 512 + 20 + 36 + 512;

struct End {
    mse: MseHandshake,
    taken: usize,
    through: bool,
    broken: bool,
}

impl End {
    fn take(&mut self, pipe: &mut VecDeque<u8>, step: usize) {
        while !self.broken {
            let room = self.mse.read_buf();
            let n = room.len().min(step).min(pipe.len());
            if n == 0 {
                break;
            }
            for (to, from) in room.iter_mut().zip(pipe.drain(..n)) {
                *to = from;
            }
            self.taken += n;
            let find = |token: &_| (torrent_token(&TORRENT) == *token).then_some(TORRENT);
            self.broken = self.mse.advance(n, find).is_err();
        }
        assert!(self.taken <= TAKEN_MAX);
        self.through |= self.mse.finish().is_some();
        assert!(!(self.broken && self.through));
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some(([mode, step, seed], rest)) = bytes.split_first_chunk::<3>() else { return };
    let step = usize::from(*step) + 1;
    let methods = |bit| if mode & bit == 0 { Methods::ANY } else { Methods::RC4 };
    let mut source = SecretSource::new([*seed; 32]);
    let dials = MseSide::Dials { info_hash: TORRENT, payload: vec![1; 68] };
    let mut ends = [(dials, methods(1)), (MseSide::Accepts, methods(2))].map(|(side, methods)| End {
        mse: MseHandshake::new(side, methods, &mut source),
        taken: 0,
        through: false,
        broken: false,
    });
    if mode & 4 != 0 {
        for end in &mut ends {
            end.take(&mut rest.iter().copied().collect(), step);
        }
        return;
    }
    // Each three bytes change one of the stream; both directions are one stream here.
    let changes: Vec<_> = rest.chunks_exact(3).map(|c| (usize::from(u16::from_be_bytes([c[0], c[1]])), c[2])).collect();
    let changed = changes.iter().any(|(at, with)| *at < 4_000 && *with != 0);
    let mut pipes = [VecDeque::new(), VecDeque::new()];
    let mut sent = 0;
    for turn in 0..8 {
        let from = turn % 2;
        let mut out = Vec::new();
        ends[from].mse.take_output(&mut out);
        for byte in &mut out {
            for (_, with) in changes.iter().filter(|(at, _)| *at == sent) {
                *byte ^= with;
            }
            sent += 1;
        }
        pipes[from].extend(out);
        ends[1 - from].take(&mut pipes[from], step);
        let [dials, accepts] = &mut ends;
        dials.through |= dials.mse.finish().is_some();
        accepts.through |= accepts.mse.finish().is_some();
    }
    if !changed {
        assert!(ends.iter().all(|end| end.through && !end.broken));
    }
});
