//! Eight lanes: AVX2.

use std::arch::x86_64::*;

use crate::lanes::{LANES_MAX, Lanes, Pointers, Words};
use crate::{sha1, sha256};

#[derive(Clone, Copy)]
struct Eight(__m256i);

/// # Safety
/// The CPU has AVX2, and `blocks * 64` bytes from each of the first 8 pointers on are readable.
#[target_feature(enable = "avx2")]
pub(crate) unsafe fn sha1(state: &mut Words<{ sha1::WORDS }>, data: &Pointers, blocks: usize) {
    // SAFETY: the conditions are this function's own.
    unsafe { sha1::compress::<Eight>(state, data, blocks) }
}

/// # Safety
/// The CPU has AVX2, and `blocks * 64` bytes from each of the first 8 pointers on are readable.
#[target_feature(enable = "avx2")]
pub(crate) unsafe fn sha256(state: &mut Words<{ sha256::WORDS }>, data: &Pointers, blocks: usize) {
    // SAFETY: the conditions are this function's own.
    unsafe { sha256::compress::<Eight>(state, data, blocks) }
}

// SAFETY of every block below: the trait's condition, the CPU has AVX2. Where memory is touched, the line
// says why it may be.
impl Lanes for Eight {
    #[inline(always)]
    unsafe fn splat(word: u32) -> Self {
        // SAFETY: AVX2.
        Self(unsafe { _mm256_set1_epi32(word.cast_signed()) })
    }

    #[inline(always)]
    unsafe fn load(words: &[u32; LANES_MAX]) -> Self {
        // SAFETY: AVX2; 32 of the array's 64 bytes, unaligned.
        Self(unsafe { _mm256_loadu_si256(words.as_ptr().cast()) })
    }

    #[inline(always)]
    unsafe fn store(self, words: &mut [u32; LANES_MAX]) {
        // SAFETY: AVX2; 32 of the array's 64 bytes, unaligned.
        unsafe { _mm256_storeu_si256(words.as_mut_ptr().cast(), self.0) }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: AVX2.
        Self(unsafe { _mm256_add_epi32(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn xor(self, other: Self) -> Self {
        // SAFETY: AVX2.
        Self(unsafe { _mm256_xor_si256(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn rotate<const L: i32, const R: i32>(self) -> Self {
        // SAFETY: AVX2.
        Self(unsafe {
            _mm256_or_si256(
                _mm256_slli_epi32::<L>(self.0),
                _mm256_srli_epi32::<R>(self.0),
            )
        })
    }

    #[inline(always)]
    unsafe fn shift_right<const N: i32>(self) -> Self {
        // SAFETY: AVX2.
        Self(unsafe { _mm256_srli_epi32::<N>(self.0) })
    }

    #[inline(always)]
    unsafe fn choose(self, a: Self, b: Self) -> Self {
        // SAFETY: AVX2.
        Self(unsafe {
            let differ = _mm256_xor_si256(a.0, b.0);
            _mm256_xor_si256(b.0, _mm256_and_si256(self.0, differ))
        })
    }

    #[inline(always)]
    unsafe fn majority(self, b: Self, c: Self) -> Self {
        // SAFETY: AVX2.
        Self(unsafe {
            let either = _mm256_or_si256(self.0, b.0);
            let both = _mm256_and_si256(self.0, b.0);
            _mm256_or_si256(both, _mm256_and_si256(c.0, either))
        })
    }

    #[inline(always)]
    unsafe fn message(data: &Pointers, at: usize) -> [Self; 16] {
        // SAFETY: AVX2; both halves of the 64 bytes that the caller vouches for.
        unsafe {
            let [first, second] = [half(data, at), half(data, at + 32)];
            let mut words = [Self(_mm256_setzero_si256()); 16];
            // Not by iterators: what they call would not be built for these registers.
            let mut n = 0;
            while n < 8 {
                words[n].0 = first[n];
                words[n + 8].0 = second[n];
                n += 1;
            }
            words
        }
    }
}

/// Eight words of each lane: a matrix of 8 rows, turned.
///
/// # Safety
/// The CPU has AVX2, and 32 bytes from `data[lane] + at` on are readable for eight lanes.
#[inline(always)]
unsafe fn half(data: &Pointers, at: usize) -> [__m256i; 8] {
    // SAFETY: both conditions are this function's own.
    unsafe {
        let swap = _mm256_setr_epi8(
            3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12, 3, 2, 1, 0, 7, 6, 5, 4, 11, 10,
            9, 8, 15, 14, 13, 12,
        );
        let mut r = [_mm256_setzero_si256(); 8];
        let mut lane = 0;
        while lane < 8 {
            let bytes = _mm256_loadu_si256(data[lane].add(at).cast());
            r[lane] = _mm256_shuffle_epi8(bytes, swap);
            lane += 1;
        }
        // Pairs of rows by words, pairs of pairs by two words, then the halves of the registers.
        let (a0, a1) = (
            _mm256_unpacklo_epi32(r[0], r[1]),
            _mm256_unpackhi_epi32(r[0], r[1]),
        );
        let (a2, a3) = (
            _mm256_unpacklo_epi32(r[2], r[3]),
            _mm256_unpackhi_epi32(r[2], r[3]),
        );
        let (a4, a5) = (
            _mm256_unpacklo_epi32(r[4], r[5]),
            _mm256_unpackhi_epi32(r[4], r[5]),
        );
        let (a6, a7) = (
            _mm256_unpacklo_epi32(r[6], r[7]),
            _mm256_unpackhi_epi32(r[6], r[7]),
        );
        let (b0, b1) = (_mm256_unpacklo_epi64(a0, a2), _mm256_unpackhi_epi64(a0, a2));
        let (b2, b3) = (_mm256_unpacklo_epi64(a1, a3), _mm256_unpackhi_epi64(a1, a3));
        let (b4, b5) = (_mm256_unpacklo_epi64(a4, a6), _mm256_unpackhi_epi64(a4, a6));
        let (b6, b7) = (_mm256_unpacklo_epi64(a5, a7), _mm256_unpackhi_epi64(a5, a7));
        [
            _mm256_permute2x128_si256::<0x20>(b0, b4),
            _mm256_permute2x128_si256::<0x20>(b1, b5),
            _mm256_permute2x128_si256::<0x20>(b2, b6),
            _mm256_permute2x128_si256::<0x20>(b3, b7),
            _mm256_permute2x128_si256::<0x31>(b0, b4),
            _mm256_permute2x128_si256::<0x31>(b1, b5),
            _mm256_permute2x128_si256::<0x31>(b2, b6),
            _mm256_permute2x128_si256::<0x31>(b3, b7),
        ]
    }
}
