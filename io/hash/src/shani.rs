//! One or two messages on the CPU's own SHA instructions. Two at a time, because each instruction waits
//! for the one before it, and a second message fills the wait.

use std::arch::x86_64::*;

use crate::lanes::{BLOCK, Pointers, Words};
use crate::{sha1, sha256};

/// # Safety
/// The CPU has SHA, SSSE3 and SSE4.1, and `blocks * 64` bytes from each of the first `N` pointers on are
/// readable.
#[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
pub(crate) unsafe fn sha1<const N: usize>(
    state: &mut Words<{ sha1::WORDS }>,
    data: &Pointers,
    blocks: usize,
) {
    let swap = _mm_setr_epi8(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    let zero = _mm_setzero_si128();
    let (mut abcd, mut e) = ([zero; N], [zero; N]);
    for lane in 0..N {
        let word = |n: usize| state[n][lane].cast_signed();
        abcd[lane] = _mm_set_epi32(word(0), word(1), word(2), word(3));
        e[lane] = _mm_set_epi32(word(4), 0, 0, 0);
    }
    for n in 0..blocks {
        let mut w = [[zero; N]; 4];
        for (part, w) in w.iter_mut().enumerate() {
            for (w, pointer) in w.iter_mut().zip(data) {
                // SAFETY: the 16 bytes are part of the block that the caller vouches for.
                let bytes = unsafe { _mm_loadu_si128(pointer.add(n * BLOCK + 16 * part).cast()) };
                *w = _mm_shuffle_epi8(bytes, swap);
            }
        }
        let (abcd_before, e_before) = (abcd, e);
        let mut last = abcd;
        // Four rounds of all messages.
        macro_rules! four {
            ($t:expr, $f:expr) => {
                for lane in 0..N {
                    if $t >= 4 {
                        let old = _mm_sha1msg1_epu32(w[$t & 3][lane], w[($t + 1) & 3][lane]);
                        let old = _mm_xor_si128(old, w[($t + 2) & 3][lane]);
                        w[$t & 3][lane] = _mm_sha1msg2_epu32(old, w[($t + 3) & 3][lane]);
                    }
                    let fed = if $t == 0 {
                        _mm_add_epi32(e[lane], w[0][lane])
                    } else {
                        _mm_sha1nexte_epu32(last[lane], w[$t & 3][lane])
                    };
                    last[lane] = abcd[lane];
                    abcd[lane] = _mm_sha1rnds4_epu32::<$f>(abcd[lane], fed);
                }
            };
        }
        macro_rules! twenty {
            ($t:expr, $f:expr) => {
                four!($t, $f);
                four!($t + 1, $f);
                four!($t + 2, $f);
                four!($t + 3, $f);
                four!($t + 4, $f);
            };
        }
        twenty!(0_usize, 0);
        twenty!(5_usize, 1);
        twenty!(10_usize, 2);
        twenty!(15_usize, 3);
        for lane in 0..N {
            e[lane] = _mm_sha1nexte_epu32(last[lane], e_before[lane]);
            abcd[lane] = _mm_add_epi32(abcd[lane], abcd_before[lane]);
        }
    }
    for lane in 0..N {
        state[0][lane] = _mm_extract_epi32::<3>(abcd[lane]).cast_unsigned();
        state[1][lane] = _mm_extract_epi32::<2>(abcd[lane]).cast_unsigned();
        state[2][lane] = _mm_extract_epi32::<1>(abcd[lane]).cast_unsigned();
        state[3][lane] = _mm_extract_epi32::<0>(abcd[lane]).cast_unsigned();
        state[4][lane] = _mm_extract_epi32::<3>(e[lane]).cast_unsigned();
    }
}

/// # Safety
/// The CPU has SHA, SSSE3 and SSE4.1, and `blocks * 64` bytes from each of the first `N` pointers on are
/// readable.
#[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
pub(crate) unsafe fn sha256<const N: usize>(
    state: &mut Words<{ sha256::WORDS }>,
    data: &Pointers,
    blocks: usize,
) {
    let swap = _mm_setr_epi8(3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12);
    let zero = _mm_setzero_si128();
    let (mut abef, mut cdgh) = ([zero; N], [zero; N]);
    for lane in 0..N {
        let word = |n: usize| state[n][lane].cast_signed();
        abef[lane] = _mm_set_epi32(word(0), word(1), word(4), word(5));
        cdgh[lane] = _mm_set_epi32(word(2), word(3), word(6), word(7));
    }
    for n in 0..blocks {
        let mut w = [[zero; N]; 4];
        for (part, w) in w.iter_mut().enumerate() {
            for (w, pointer) in w.iter_mut().zip(data) {
                // SAFETY: the 16 bytes are part of the block that the caller vouches for.
                let bytes = unsafe { _mm_loadu_si128(pointer.add(n * BLOCK + 16 * part).cast()) };
                *w = _mm_shuffle_epi8(bytes, swap);
            }
        }
        let (abef_before, cdgh_before) = (abef, cdgh);
        // Four rounds of all messages.
        macro_rules! four {
            ($t:expr) => {
                let k = |n: usize| sha256::K[4 * $t + n].cast_signed();
                let k = _mm_set_epi32(k(3), k(2), k(1), k(0));
                for lane in 0..N {
                    if $t >= 4 {
                        let (w1, w2) = (w[($t + 2) & 3][lane], w[($t + 3) & 3][lane]);
                        let old = _mm_sha256msg1_epu32(w[$t & 3][lane], w[($t + 1) & 3][lane]);
                        let old = _mm_add_epi32(old, _mm_alignr_epi8::<4>(w2, w1));
                        w[$t & 3][lane] = _mm_sha256msg2_epu32(old, w2);
                    }
                    let fed = _mm_add_epi32(w[$t & 3][lane], k);
                    cdgh[lane] = _mm_sha256rnds2_epu32(cdgh[lane], abef[lane], fed);
                    let fed = _mm_shuffle_epi32::<0x0e>(fed);
                    abef[lane] = _mm_sha256rnds2_epu32(abef[lane], cdgh[lane], fed);
                }
            };
        }
        macro_rules! sixteen {
            ($t:expr) => {
                four!($t);
                four!($t + 1);
                four!($t + 2);
                four!($t + 3);
            };
        }
        sixteen!(0_usize);
        sixteen!(4_usize);
        sixteen!(8_usize);
        sixteen!(12_usize);
        for lane in 0..N {
            abef[lane] = _mm_add_epi32(abef[lane], abef_before[lane]);
            cdgh[lane] = _mm_add_epi32(cdgh[lane], cdgh_before[lane]);
        }
    }
    for lane in 0..N {
        state[0][lane] = _mm_extract_epi32::<3>(abef[lane]).cast_unsigned();
        state[1][lane] = _mm_extract_epi32::<2>(abef[lane]).cast_unsigned();
        state[4][lane] = _mm_extract_epi32::<1>(abef[lane]).cast_unsigned();
        state[5][lane] = _mm_extract_epi32::<0>(abef[lane]).cast_unsigned();
        state[2][lane] = _mm_extract_epi32::<3>(cdgh[lane]).cast_unsigned();
        state[3][lane] = _mm_extract_epi32::<2>(cdgh[lane]).cast_unsigned();
        state[6][lane] = _mm_extract_epi32::<1>(cdgh[lane]).cast_unsigned();
        state[7][lane] = _mm_extract_epi32::<0>(cdgh[lane]).cast_unsigned();
    }
}
