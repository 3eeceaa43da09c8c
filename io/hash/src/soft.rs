//! Lanes without any special instruction: what the portable path is made of. Compilers turn four lanes
//! into whatever register of 128 bits there is.

use crate::lanes::{LANES_MAX, Lanes, Pointers};

#[derive(Clone, Copy)]
pub(crate) struct Soft<const N: usize>([u32; N]);

impl<const N: usize> Soft<N> {
    #[inline(always)]
    fn each(self, other: Self, f: impl Fn(u32, u32) -> u32) -> Self {
        Self(std::array::from_fn(|lane| f(self.0[lane], other.0[lane])))
    }

    #[inline(always)]
    fn each3(self, b: Self, c: Self, f: impl Fn(u32, u32, u32) -> u32) -> Self {
        Self(std::array::from_fn(|lane| {
            f(self.0[lane], b.0[lane], c.0[lane])
        }))
    }
}

impl<const N: usize> Lanes for Soft<N> {
    #[inline(always)]
    unsafe fn splat(word: u32) -> Self {
        Self([word; N])
    }

    #[inline(always)]
    unsafe fn load(words: &[u32; LANES_MAX]) -> Self {
        Self(std::array::from_fn(|lane| words[lane]))
    }

    #[inline(always)]
    unsafe fn store(self, words: &mut [u32; LANES_MAX]) {
        words[..N].copy_from_slice(&self.0);
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self.each(other, u32::wrapping_add)
    }

    #[inline(always)]
    unsafe fn xor(self, other: Self) -> Self {
        self.each(other, |a, b| a ^ b)
    }

    #[inline(always)]
    unsafe fn rotate<const L: i32, const R: i32>(self) -> Self {
        Self(self.0.map(|word| word.rotate_left(L.unsigned_abs())))
    }

    #[inline(always)]
    unsafe fn shift_right<const B: i32>(self) -> Self {
        Self(self.0.map(|word| word >> B))
    }

    #[inline(always)]
    unsafe fn choose(self, a: Self, b: Self) -> Self {
        self.each3(a, b, |mask, a, b| b ^ (mask & (a ^ b)))
    }

    #[inline(always)]
    unsafe fn majority(self, b: Self, c: Self) -> Self {
        self.each3(b, c, |a, b, c| (a & b) | (c & (a | b)))
    }

    #[inline(always)]
    unsafe fn message(data: &Pointers, at: usize) -> [Self; 16] {
        let mut words = [Self([0; N]); 16];
        for (lane, pointer) in data.iter().enumerate().take(N) {
            // SAFETY: the caller's condition: 64 bytes from there on are readable. `[u8; 64]` has no
            // alignment.
            let block = unsafe { &*pointer.add(at).cast::<[u8; 64]>() };
            for (word, bytes) in words.iter_mut().zip(block.as_chunks::<4>().0) {
                word.0[lane] = u32::from_be_bytes(*bytes);
            }
        }
        words
    }
}
