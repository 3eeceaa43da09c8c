//! Diffie-Hellman as MSE has it: the 768-bit prime, the generator 2, private keys of 160 bits.

use crypto_bigint::modular::{FixedMontyForm, FixedMontyParams};
use crypto_bigint::{Odd, U192, U768};

/// Bytes of a public key and of what is shared: big-endian, leading zeros kept.
pub(super) const KEY_LEN: usize = 96;
/// Bits of a private key. More would not make it harder to find.
const PRIVATE_BITS: u32 = 160;

const PRIME: Odd<U768> = Odd::<U768>::from_be_hex(
    "ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74\
     020bbea63b139b22514a08798e3404ddef9519b3cd3a431b302b0a6df25f1437\
     4fe1356d6d51c245e485b576625e7ec6f44c42e9a63a36210000000000090563",
);

static PARAMS: FixedMontyParams<{ U768::LIMBS }> = FixedMontyParams::new_vartime(PRIME);

/// One side's secret of one handshake.
pub(super) struct PrivateKey(U192);

impl PrivateKey {
    pub(super) fn new(bytes: [u8; 20]) -> Self {
        let mut padded = [0; 24];
        for (to, from) in padded.iter_mut().skip(4).zip(bytes) {
            *to = from;
        }
        Self(U192::from_be_slice(&padded))
    }

    /// What the other side is told.
    pub(super) fn public(&self) -> [u8; KEY_LEN] {
        self.power(&U768::from_u8(2))
    }

    /// What both sides know; `None` where the other's key is not within `[2, p − 2]`: with 0, 1 and p − 1
    /// (and what equals them modulo p) there is no secret.
    pub(super) fn shared(&self, theirs: &[u8; KEY_LEN]) -> Option<[u8; KEY_LEN]> {
        let theirs = U768::from_be_slice(theirs);
        let least = U768::from_u8(2);
        let most = PRIME.as_ref().wrapping_sub(&least);
        (least..=most)
            .contains(&theirs)
            .then(|| self.power(&theirs))
    }

    fn power(&self, base: &U768) -> [u8; KEY_LEN] {
        let power = FixedMontyForm::new(base, &PARAMS).pow_bounded_exp(&self.0, PRIVATE_BITS);
        let mut bytes = [0; KEY_LEN];
        bytes.copy_from_slice(power.retrieve().to_be_bytes().as_ref());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(low: u64) -> U768 {
        U768::from_u64(low)
    }

    fn bytes(n: &U768) -> [u8; KEY_LEN] {
        n.to_be_bytes().as_ref().try_into().unwrap()
    }

    #[test]
    fn both_sides_come_to_the_same() {
        for (a, b) in [([1; 20], [0xff; 20]), ([0x55; 20], [0xa7; 20])] {
            let (a, b) = (PrivateKey::new(a), PrivateKey::new(b));
            let shared = a.shared(&b.public()).unwrap();
            assert_eq!(b.shared(&a.public()), Some(shared));
            assert_ne!(shared, [0; KEY_LEN]);
        }
    }

    /// Small powers of 2, of 3 and of −2, which can be told without a computer.
    #[test]
    fn small_powers_are_right() {
        let key = |low: u8| {
            let mut bytes = [0; 20];
            bytes[19] = low;
            PrivateKey::new(bytes)
        };
        assert_eq!(key(1).public(), bytes(&number(2)));
        assert_eq!(key(63).public(), bytes(&number(1 << 63)));
        assert_eq!(key(3).shared(&bytes(&number(3))), Some(bytes(&number(27))));
        let p = PRIME.as_ref();
        let minus_two = bytes(&p.wrapping_sub(&number(2)));
        let minus_eight = bytes(&p.wrapping_sub(&number(8)));
        assert_eq!(key(3).shared(&minus_two), Some(minus_eight));
    }

    #[test]
    fn keys_without_a_secret_are_refused() {
        let ours = PrivateKey::new([9; 20]);
        let p = PRIME.as_ref();
        let near = |n: i64| match n {
            0.. => p.wrapping_add(&number(n.unsigned_abs())),
            _ => p.wrapping_sub(&number(n.unsigned_abs())),
        };
        for bad in [number(0), number(1), near(-1), near(0), near(1), U768::MAX] {
            assert_eq!(ours.shared(&bytes(&bad)), None, "{bad}");
        }
        for good in [number(2), near(-2)] {
            assert!(ours.shared(&bytes(&good)).is_some(), "{good}");
        }
    }
}
