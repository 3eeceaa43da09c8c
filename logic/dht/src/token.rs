//! Secrets, and the tokens made of them: who shows one has received it at that address (BEP 5).

use std::net::IpAddr;
use std::time::Duration;

use sha1::{Digest as _, Sha1};
use torr_base::{InfoHash, Instant};

/// Bytes of our tokens.
pub(crate) const TOKEN_LEN: usize = 8;
/// BEP 5: a token lives between one and two of these.
const ROTATED_EVERY: Duration = Duration::from_secs(5 * 60);

/// Values that nobody can foretell without the key: SHA-1 over key, purpose and a counter or what the
/// value is bound to. Nothing of it is stored per token.
#[derive(Clone)]
pub(crate) struct Secrets {
    key: [u8; 32],
    drawn: u64,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets")
    }
}

impl Secrets {
    pub(crate) const fn new(key: [u8; 32]) -> Self {
        Self { key, drawn: 0 }
    }

    /// Twenty bytes that were never drawn before.
    pub(crate) fn draw(&mut self) -> [u8; 20] {
        self.drawn += 1;
        self.hash(&[b"draw", &self.drawn.to_be_bytes()])
    }

    /// What whoever asks from `ip` for that torrent has to show when it announces itself.
    pub(crate) fn token(&self, now: Instant, ip: IpAddr, info_hash: InfoHash) -> [u8; TOKEN_LEN] {
        self.token_of(epoch(now), ip, info_hash)
    }

    pub(crate) fn is_token(
        &self,
        now: Instant,
        ip: IpAddr,
        info_hash: InfoHash,
        token: &[u8],
    ) -> bool {
        let epoch = epoch(now);
        let epochs = [Some(epoch), epoch.checked_sub(1)];
        let mut right = epochs.into_iter().flatten();
        right.any(|epoch| self.token_of(epoch, ip, info_hash) == token)
    }

    fn token_of(&self, epoch: u64, ip: IpAddr, info_hash: InfoHash) -> [u8; TOKEN_LEN] {
        let ip = match ip.to_canonical() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
            IpAddr::V6(ip) => ip.octets(),
        };
        let hash = self.hash(&[b"token", &epoch.to_be_bytes(), &ip, &info_hash.0]);
        let [a, b, c, d, e, f, g, h, ..] = hash;
        [a, b, c, d, e, f, g, h]
    }

    /// The parts are of fixed length for each purpose, and the key comes first and last.
    fn hash(&self, parts: &[&[u8]]) -> [u8; 20] {
        let mut sha = Sha1::new();
        sha.update(self.key);
        for part in parts {
            sha.update(part);
        }
        sha.update(self.key);
        sha.finalize().into()
    }
}

fn epoch(now: Instant) -> u64 {
    now.since(Instant::ZERO).as_secs() / ROTATED_EVERY.as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_its_address_torrent_and_time() {
        let secrets = Secrets::new([3; 32]);
        let (ip, other): (IpAddr, IpAddr) =
            ("9.8.7.6".parse().unwrap(), "9.8.7.7".parse().unwrap());
        let hash = InfoHash([1; 20]);
        for start in [0_u64, 299, 1_000] {
            let at = |secs: u64| Instant::ZERO + Duration::from_secs(start + secs);
            let token = secrets.token(at(0), ip, hash);
            for secs in [0, 10, 300] {
                assert!(
                    secrets.is_token(at(secs), ip, hash, &token),
                    "{start} {secs}"
                );
            }
            assert!(!secrets.is_token(at(601), ip, hash, &token));
            assert!(!secrets.is_token(at(0), other, hash, &token));
            assert!(!secrets.is_token(at(0), ip, InfoHash([2; 20]), &token));
            assert!(!secrets.is_token(at(0), ip, hash, &token[1..]));
            assert!(!Secrets::new([4; 32]).is_token(at(0), ip, hash, &token));
        }
    }

    #[test]
    fn draws_differ() {
        let mut secrets = Secrets::new([3; 32]);
        let drawn: std::collections::BTreeSet<_> = (0..1_000).map(|_| secrets.draw()).collect();
        assert_eq!(drawn.len(), 1_000);
    }
}
