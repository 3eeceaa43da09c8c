//! SHA-1 (FIPS 180-4, section 6.1.2) in the lanes of any register.

use crate::lanes::{BLOCK, Lanes, Pointers, Words};

pub(crate) const WORDS: usize = 5;
pub(crate) const START: [u32; WORDS] = [
    0x6745_2301,
    0xefcd_ab89,
    0x98ba_dcfe,
    0x1032_5476,
    0xc3d2_e1f0,
];
pub(crate) const K: [u32; 4] = [0x5a82_7999, 0x6ed9_eba1, 0x8f1b_bcdc, 0xca62_c1d6];

/// Takes in `blocks` blocks of each lane.
///
/// # Safety
/// The CPU has the instructions of `V`, and `blocks * 64` bytes from the pointer of each lane of
/// `V` on are readable.
#[inline(always)]
pub(crate) unsafe fn compress<V: Lanes>(state: &mut Words<WORDS>, data: &Pointers, blocks: usize) {
    // SAFETY: both conditions are this function's own.
    unsafe {
        let mut h = [
            V::load(&state[0]),
            V::load(&state[1]),
            V::load(&state[2]),
            V::load(&state[3]),
            V::load(&state[4]),
        ];
        for n in 0..blocks {
            let mut w = V::message(data, n * BLOCK);
            let [mut a, mut b, mut c, mut d, mut e] = h;

            // One round; the new value is in the place of the oldest, so that names turn, not values.
            macro_rules! round {
                ($a:ident $b:ident $c:ident $d:ident $e:ident, $f:expr, $k:ident, $t:expr) => {
                    if $t >= 16 {
                        let old = w[($t - 3) & 15].xor3(w[($t - 8) & 15], w[($t - 14) & 15]);
                        w[$t & 15] = old.xor(w[$t & 15]).rotate::<1, 31>();
                    }
                    let sum = $e.add($f).add($k.add(w[$t & 15]));
                    $e = sum.add($a.rotate::<5, 27>());
                    $b = $b.rotate::<30, 2>();
                };
            }
            macro_rules! five {
                ($f:ident, $k:ident, $t:expr) => {
                    round!(a b c d e, $f(b, c, d), $k, $t);
                    round!(e a b c d, $f(a, b, c), $k, $t + 1);
                    round!(d e a b c, $f(e, a, b), $k, $t + 2);
                    round!(c d e a b, $f(d, e, a), $k, $t + 3);
                    round!(b c d e a, $f(c, d, e), $k, $t + 4);
                };
            }
            macro_rules! twenty {
                ($f:ident, $k:expr, $t:expr) => {
                    let k = V::splat($k);
                    five!($f, k, $t);
                    five!($f, k, $t + 5);
                    five!($f, k, $t + 10);
                    five!($f, k, $t + 15);
                };
            }
            twenty!(choose, K[0], 0_usize);
            twenty!(parity, K[1], 20_usize);
            twenty!(majority, K[2], 40_usize);
            twenty!(parity, K[3], 60_usize);

            h = [
                h[0].add(a),
                h[1].add(b),
                h[2].add(c),
                h[3].add(d),
                h[4].add(e),
            ];
        }
        for (word, h) in state.iter_mut().zip(h) {
            h.store(word);
        }
    }
}

/// # Safety
/// The CPU has the instructions of `V`; so for the two below.
#[inline(always)]
unsafe fn choose<V: Lanes>(b: V, c: V, d: V) -> V {
    // SAFETY: as for this function.
    unsafe { b.choose(c, d) }
}

#[inline(always)]
unsafe fn parity<V: Lanes>(b: V, c: V, d: V) -> V {
    // SAFETY: as for `choose`.
    unsafe { b.xor3(c, d) }
}

#[inline(always)]
unsafe fn majority<V: Lanes>(b: V, c: V, d: V) -> V {
    // SAFETY: as for `choose`.
    unsafe { b.majority(c, d) }
}
