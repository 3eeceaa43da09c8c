//! Connection ids of UDP (BEP 15) without a table: a keyed hash over address and time.

use std::net::IpAddr;

use torr_base::Instant;

/// A window of time in which an address keeps its id, in seconds.
const WINDOW_SECS: u64 = 60;
/// BEP 15 wants an id accepted for two minutes: these many windows before the present one.
const WINDOWS_BACK: u64 = 2;

#[derive(Debug)]
pub(super) struct ConnectionIds {
    key: [u64; 2],
}

impl ConnectionIds {
    pub(super) fn new(secret: [u8; 16]) -> Self {
        let both = u128::from_le_bytes(secret);
        Self {
            key: [both as u64, (both >> 64) as u64],
        }
    }

    pub(super) fn id(&self, now: Instant, ip: IpAddr) -> u64 {
        self.hash(window(now), ip)
    }

    pub(super) fn is_known(&self, now: Instant, ip: IpAddr, id: u64) -> bool {
        let now = window(now);
        (now.saturating_sub(WINDOWS_BACK)..=now).any(|window| self.hash(window, ip) == id)
    }

    fn hash(&self, window: u64, ip: IpAddr) -> u64 {
        let (family, ip) = match ip {
            IpAddr::V4(ip) => (4, u128::from(u32::from(ip))),
            IpAddr::V6(ip) => (6, u128::from(ip)),
        };
        let words = [window, family, ip as u64, (ip >> 64) as u64];
        // 8 bytes each, and the length byte of SipHash's last block.
        siphash(self.key, &words, 32 << 56)
    }
}

fn window(now: Instant) -> u64 {
    now.as_nanos() / (WINDOW_SECS * 1_000_000_000)
}

/// SipHash-2-4 over whole words and a last block made by the caller.
fn siphash([k0, k1]: [u64; 2], words: &[u64], last: u64) -> u64 {
    let mut v = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    for word in words.iter().chain([&last]) {
        v[3] ^= word;
        round(&mut v);
        round(&mut v);
        v[0] ^= word;
    }
    v[2] ^= 0xff;
    (0..4).for_each(|_| round(&mut v));
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

fn round([a, b, c, d]: &mut [u64; 4]) {
    *a = a.wrapping_add(*b);
    *b = b.rotate_left(13) ^ *a;
    *a = a.rotate_left(32);
    *c = c.wrapping_add(*d);
    *d = d.rotate_left(16) ^ *c;
    *a = a.wrapping_add(*d);
    *d = d.rotate_left(21) ^ *a;
    *c = c.wrapping_add(*b);
    *b = b.rotate_left(17) ^ *c;
    *c = c.rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn siphash_of_the_paper() {
        // Appendix A: key 00..0f, message 00..0e.
        let key = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
        let hash = siphash(key, &[0x0706_0504_0302_0100], 0x0f0e_0d0c_0b0a_0908);
        assert_eq!(hash, 0xa129_ca61_49be_45e5);
    }

    #[test]
    fn an_id_lasts_two_minutes_and_belongs_to_its_address() {
        let ids = ConnectionIds::new([7; 16]);
        let (a, b) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        for offset in [0, 1, 30, 59] {
            let then = Instant::ZERO + Duration::from_secs(6000 + offset);
            let id = ids.id(then, a);
            assert!(ids.is_known(then + Duration::from_secs(120), a, id));
            assert!(!ids.is_known(then + Duration::from_secs(181), a, id));
            assert!(!ids.is_known(then, b, id));
            assert!(!ConnectionIds::new([8; 16]).is_known(then, a, id));
        }
        let (v4, v6) = ("0.0.0.1".parse().unwrap(), "::1".parse().unwrap());
        assert_ne!(ids.id(Instant::ZERO, v4), ids.id(Instant::ZERO, v6));
    }
}
