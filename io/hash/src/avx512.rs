//! Sixteen lanes: AVX-512 (F and BW).

use std::arch::x86_64::*;

use crate::lanes::{LANES_MAX, Lanes, Pointers, Words};
use crate::{sha1, sha256};

#[derive(Clone, Copy)]
struct Sixteen(__m512i);

/// Truth tables of `vpternlog`.
const CHOOSE: i32 = 0xca;
const MAJORITY: i32 = 0xe8;
const XOR3: i32 = 0x96;

/// # Safety
/// The CPU has AVX-512 F and BW, and `blocks * 64` bytes from each of the 16 pointers on are readable.
#[target_feature(enable = "avx512f,avx512bw")]
pub(crate) unsafe fn sha1(state: &mut Words<{ sha1::WORDS }>, data: &Pointers, blocks: usize) {
    // SAFETY: the conditions are this function's own.
    unsafe { sha1::compress::<Sixteen>(state, data, blocks) }
}

/// # Safety
/// The CPU has AVX-512 F and BW, and `blocks * 64` bytes from each of the 16 pointers on are readable.
#[target_feature(enable = "avx512f,avx512bw")]
pub(crate) unsafe fn sha256(state: &mut Words<{ sha256::WORDS }>, data: &Pointers, blocks: usize) {
    // SAFETY: the conditions are this function's own.
    unsafe { sha256::compress::<Sixteen>(state, data, blocks) }
}

// SAFETY of every block below: the trait's condition, the CPU has AVX-512 F and BW. Where memory is
// touched, the line says why it may be.
impl Lanes for Sixteen {
    #[inline(always)]
    unsafe fn splat(word: u32) -> Self {
        // SAFETY: AVX-512.
        Self(unsafe { _mm512_set1_epi32(word.cast_signed()) })
    }

    #[inline(always)]
    unsafe fn load(words: &[u32; LANES_MAX]) -> Self {
        // SAFETY: AVX-512; the array's 64 bytes, unaligned.
        Self(unsafe { _mm512_loadu_si512(words.as_ptr().cast()) })
    }

    #[inline(always)]
    unsafe fn store(self, words: &mut [u32; LANES_MAX]) {
        // SAFETY: AVX-512; the array's 64 bytes, unaligned.
        unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), self.0) }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: AVX-512.
        Self(unsafe { _mm512_add_epi32(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn xor(self, other: Self) -> Self {
        // SAFETY: AVX-512.
        Self(unsafe { _mm512_xor_si512(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn rotate<const L: i32, const R: i32>(self) -> Self {
        // SAFETY: AVX-512.
        Self(unsafe { _mm512_rol_epi32::<L>(self.0) })
    }

    #[inline(always)]
    unsafe fn shift_right<const N: i32>(self) -> Self {
        // SAFETY: AVX-512. A count below 32 is the same for all lanes.
        Self(unsafe { _mm512_srl_epi32(self.0, _mm_cvtsi32_si128(N)) })
    }

    #[inline(always)]
    unsafe fn choose(self, a: Self, b: Self) -> Self {
        // SAFETY: AVX-512.
        Self(unsafe { _mm512_ternarylogic_epi32::<CHOOSE>(self.0, a.0, b.0) })
    }

    #[inline(always)]
    unsafe fn majority(self, b: Self, c: Self) -> Self {
        // SAFETY: AVX-512.
        Self(unsafe { _mm512_ternarylogic_epi32::<MAJORITY>(self.0, b.0, c.0) })
    }

    #[inline(always)]
    unsafe fn xor3(self, b: Self, c: Self) -> Self {
        // SAFETY: AVX-512.
        Self(unsafe { _mm512_ternarylogic_epi32::<XOR3>(self.0, b.0, c.0) })
    }

    #[inline(always)]
    unsafe fn message(data: &Pointers, at: usize) -> [Self; 16] {
        // SAFETY: AVX-512; the 64 bytes of each lane that the caller vouches for.
        unsafe {
            let swap = _mm512_broadcast_i32x4(_mm_setr_epi8(
                3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12,
            ));
            let mut r = [_mm512_setzero_si512(); 16];
            let mut lane = 0;
            while lane < 16 {
                let bytes = _mm512_loadu_si512(data[lane].add(at).cast());
                r[lane] = _mm512_shuffle_epi8(bytes, swap);
                lane += 1;
            }
            // Not `map`: what it calls would not be built for these registers.
            let turned = turn(r);
            let mut words = [Self(_mm512_setzero_si512()); 16];
            let mut n = 0;
            while n < 16 {
                words[n].0 = turned[n];
                n += 1;
            }
            words
        }
    }
}

/// Turns a matrix of 16 × 16 words.
///
/// # Safety
/// The CPU has AVX-512 F.
#[inline(always)]
unsafe fn turn(r: [__m512i; 16]) -> [__m512i; 16] {
    // SAFETY: the condition is this function's own.
    unsafe {
        let mut quads = [_mm512_setzero_si512(); 16];
        // Inside each quarter of a register: four rows at a time become four words of four lanes.
        for n in 0..4 {
            let (r0, r1, r2, r3) = (r[4 * n], r[4 * n + 1], r[4 * n + 2], r[4 * n + 3]);
            let (a0, a1) = (_mm512_unpacklo_epi32(r0, r1), _mm512_unpackhi_epi32(r0, r1));
            let (a2, a3) = (_mm512_unpacklo_epi32(r2, r3), _mm512_unpackhi_epi32(r2, r3));
            quads[4 * n] = _mm512_unpacklo_epi64(a0, a2);
            quads[4 * n + 1] = _mm512_unpackhi_epi64(a0, a2);
            quads[4 * n + 2] = _mm512_unpacklo_epi64(a1, a3);
            quads[4 * n + 3] = _mm512_unpackhi_epi64(a1, a3);
        }
        // Then the quarters themselves: a matrix of 4 × 4 of them for each of the four words.
        let mut out = [_mm512_setzero_si512(); 16];
        for n in 0..4 {
            let (q0, q1, q2, q3) = (quads[n], quads[4 + n], quads[8 + n], quads[12 + n]);
            let (b0, b1) = (
                _mm512_shuffle_i32x4::<0x88>(q0, q1),
                _mm512_shuffle_i32x4::<0xdd>(q0, q1),
            );
            let (b2, b3) = (
                _mm512_shuffle_i32x4::<0x88>(q2, q3),
                _mm512_shuffle_i32x4::<0xdd>(q2, q3),
            );
            out[n] = _mm512_shuffle_i32x4::<0x88>(b0, b2);
            out[8 + n] = _mm512_shuffle_i32x4::<0xdd>(b0, b2);
            out[4 + n] = _mm512_shuffle_i32x4::<0x88>(b1, b3);
            out[12 + n] = _mm512_shuffle_i32x4::<0xdd>(b1, b3);
        }
        out
    }
}
