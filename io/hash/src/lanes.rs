//! What a SIMD register can do for the hashes: the same step for a message in each of its lanes.

/// Lanes of the widest register.
pub(crate) const LANES_MAX: usize = 16;
/// The words of a hash's state, each for all lanes: `words[word][lane]`.
pub(crate) type Words<const N: usize> = [[u32; LANES_MAX]; N];
/// Where each lane's next blocks are.
pub(crate) type Pointers = [*const u8; LANES_MAX];
/// Bytes that one step of SHA-1 or SHA-256 takes in.
pub(crate) const BLOCK: usize = 64;

/// A register of some lanes of 32 bits.
///
/// # Safety
/// All methods may only be called where the CPU has the instructions that the implementation uses; they
/// are inlined into a function that enables them.
pub(crate) trait Lanes: Copy {
    unsafe fn splat(word: u32) -> Self;
    unsafe fn load(words: &[u32; LANES_MAX]) -> Self;
    unsafe fn store(self, words: &mut [u32; LANES_MAX]);
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn xor(self, other: Self) -> Self;
    /// `L` to the left; `R` is 32 - `L`.
    unsafe fn rotate<const L: i32, const R: i32>(self) -> Self;
    unsafe fn shift_right<const N: i32>(self) -> Self;
    /// The bits of `a` where ours are one, those of `b` elsewhere.
    unsafe fn choose(self, a: Self, b: Self) -> Self;
    /// The bits that two of the three have.
    unsafe fn majority(self, b: Self, c: Self) -> Self;
    /// The 16 words of the block at byte `at` of each lane, read big-endian.
    ///
    /// # Safety
    /// 64 bytes from `data[lane] + at` on must be readable for each lane that the register has.
    unsafe fn message(data: &Pointers, at: usize) -> [Self; 16];

    #[inline(always)]
    unsafe fn xor3(self, b: Self, c: Self) -> Self {
        // SAFETY: as for this method.
        unsafe { self.xor(b).xor(c) }
    }
}
