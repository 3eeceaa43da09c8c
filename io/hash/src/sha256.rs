//! SHA-256 (FIPS 180-4, section 6.2.2) in the lanes of any register.

use crate::lanes::{BLOCK, Lanes, Pointers, Words};

pub(crate) const WORDS: usize = 8;
pub(crate) const START: [u32; WORDS] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];
#[rustfmt::skip]
pub(crate) const K: [u32; 64] = [
    0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5, 0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5,
    0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3, 0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174,
    0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc, 0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da,
    0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7, 0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967,
    0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13, 0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85,
    0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3, 0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070,
    0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5, 0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3,
    0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208, 0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2,
];

/// Takes in `blocks` blocks of each lane.
///
/// # Safety
/// The CPU has the instructions of `V`, and `blocks * 64` bytes from the pointer of each lane of
/// `V` on are readable.
#[inline(always)]
pub(crate) unsafe fn compress<V: Lanes>(state: &mut Words<WORDS>, data: &Pointers, blocks: usize) {
    // SAFETY: both conditions are this function's own.
    unsafe {
        let mut all = [V::splat(0); WORDS];
        for (h, word) in all.iter_mut().zip(state.iter()) {
            *h = V::load(word);
        }
        for n in 0..blocks {
            let mut w = V::message(data, n * BLOCK);
            let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = all;

            // One round; the new values are in the places of old ones, so that names turn, not values.
            macro_rules! round {
                ($a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident, $t:expr) => {
                    if $t >= 16 {
                        let s0 = small0(w[($t - 15) & 15]).add(w[($t - 7) & 15]);
                        let s1 = small1(w[($t - 2) & 15]).add(w[$t & 15]);
                        w[$t & 15] = s0.add(s1);
                    }
                    let fed = $h.add(V::splat(K[$t]).add(w[$t & 15]));
                    let t1 = fed.add(large1($e)).add($e.choose($f, $g));
                    $d = $d.add(t1);
                    $h = t1.add(large0($a)).add($a.majority($b, $c));
                };
            }
            macro_rules! eight {
                ($t:expr) => {
                    round!(a b c d e f g h, $t);
                    round!(h a b c d e f g, $t + 1);
                    round!(g h a b c d e f, $t + 2);
                    round!(f g h a b c d e, $t + 3);
                    round!(e f g h a b c d, $t + 4);
                    round!(d e f g h a b c, $t + 5);
                    round!(c d e f g h a b, $t + 6);
                    round!(b c d e f g h a, $t + 7);
                };
            }
            eight!(0_usize);
            eight!(8_usize);
            eight!(16_usize);
            eight!(24_usize);
            eight!(32_usize);
            eight!(40_usize);
            eight!(48_usize);
            eight!(56_usize);

            all = [
                all[0].add(a),
                all[1].add(b),
                all[2].add(c),
                all[3].add(d),
                all[4].add(e),
                all[5].add(f),
                all[6].add(g),
                all[7].add(h),
            ];
        }
        for (word, h) in state.iter_mut().zip(all) {
            h.store(word);
        }
    }
}

/// The standard's lower-case and upper-case sigmas.
///
/// # Safety
/// The CPU has the instructions of `V`; so for the three below.
#[inline(always)]
unsafe fn small0<V: Lanes>(x: V) -> V {
    // SAFETY: as for this function.
    unsafe {
        let (r7, r18) = (x.rotate::<25, 7>(), x.rotate::<14, 18>());
        r7.xor3(r18, x.shift_right::<3>())
    }
}

#[inline(always)]
unsafe fn small1<V: Lanes>(x: V) -> V {
    // SAFETY: as for `small0`.
    unsafe {
        let (r17, r19) = (x.rotate::<15, 17>(), x.rotate::<13, 19>());
        r17.xor3(r19, x.shift_right::<10>())
    }
}

#[inline(always)]
unsafe fn large0<V: Lanes>(x: V) -> V {
    // SAFETY: as for `small0`.
    unsafe {
        let (r2, r13) = (x.rotate::<30, 2>(), x.rotate::<19, 13>());
        r2.xor3(r13, x.rotate::<10, 22>())
    }
}

#[inline(always)]
unsafe fn large1<V: Lanes>(x: V) -> V {
    // SAFETY: as for `small0`.
    unsafe {
        let (r6, r11) = (x.rotate::<26, 6>(), x.rotate::<21, 11>());
        r6.xor3(r11, x.rotate::<7, 25>())
    }
}
