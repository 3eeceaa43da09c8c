//! Which pieces a choked peer may have (BEP 6, "Allowed Fast Set Generation").

use std::net::IpAddr;

use sha1::{Digest as _, Sha1};
use torr_base::{InfoHash, PieceIndex};

/// Each round draws five pieces. A set of 10 out of 11 pieces takes about 5 rounds, so this is never
/// reached but by a freak hash; then the set is smaller than asked for.
const ROUNDS_MAX: usize = 1000;

/// The `k` pieces that the peer at `ip` may ask for while it is choked: the same ones whoever computes
/// them, and `k + 1` is these and one more. All pieces, where there are no more than `k`.
///
/// `k` is meant to be about 10: time grows with its square.
///
/// BEP 6 takes the first 24 bits of an IPv4 address, so that one network gets one set, and says nothing
/// of IPv6. There the first 48 bits count, for the same reason: that is what a site usually gets. (Some
/// take all 128, with which every address of a household has a set of its own.) Peers only use what
/// they are told and never compute it again, so this need not agree with anyone.
#[must_use]
pub fn allowed_fast_set(
    ip: IpAddr,
    info_hash: &InfoHash,
    piece_count: u32,
    k: usize,
) -> Vec<PieceIndex> {
    if k >= piece_count as usize {
        return (0..piece_count).map(PieceIndex::new).collect();
    }
    let seed = match ip.to_canonical() {
        IpAddr::V4(ip) => Sha1::new().chain_update((ip.to_bits() & !0xff).to_be_bytes()),
        IpAddr::V6(ip) => Sha1::new().chain_update((ip.to_bits() & !0 << 80).to_be_bytes()),
    };
    let mut hash = seed.chain_update(info_hash.0).finalize();
    let mut set = Vec::with_capacity(k);
    for _ in 0..ROUNDS_MAX {
        for word in hash.as_chunks::<4>().0 {
            if set.len() == k {
                return set;
            }
            let piece = PieceIndex::new(u32::from_be_bytes(*word) % piece_count);
            if !set.contains(&piece) {
                set.push(piece);
            }
        }
        hash = Sha1::digest(hash);
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: InfoHash = InfoHash([0xaa; 20]);

    fn set(ip: &str, piece_count: u32, k: usize) -> Vec<u32> {
        let set = allowed_fast_set(ip.parse().unwrap(), &HASH, piece_count, k);
        set.into_iter().map(PieceIndex::get).collect()
    }

    #[test]
    fn examples_of_bep_6() {
        let nine = [1059, 431, 808, 1217, 287, 376, 1188, 353, 508];
        assert_eq!(set("80.4.4.200", 1313, 7), nine[..7]);
        assert_eq!(set("80.4.4.200", 1313, 9), nine);
    }

    #[test]
    fn one_network_has_one_set() {
        assert_eq!(set("80.4.4.1", 1313, 9), set("80.4.4.200", 1313, 9));
        assert_ne!(set("80.4.5.200", 1313, 9), set("80.4.4.200", 1313, 9));
        assert_eq!(set("::ffff:80.4.4.1", 1313, 9), set("80.4.4.2", 1313, 9));
        let site = set("2001:db8:1::1", 1313, 9);
        assert_eq!(set("2001:db8:1:ffff:ffff::2", 1313, 9), site);
        assert_ne!(set("2001:db8:2::1", 1313, 9), site);
    }

    #[test]
    fn small_torrents_end() {
        assert_eq!(set("80.4.4.200", 0, 10), []);
        assert_eq!(set("80.4.4.200", 1, 10), [0]);
        assert_eq!(set("80.4.4.200", 10, 10), (0..10).collect::<Vec<_>>());
        assert_eq!(set("80.4.4.200", 11, 10).len(), 10);
        assert_eq!(set("80.4.4.200", 5, 0), []);
    }
}
