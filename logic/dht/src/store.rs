//! Peers that others announced here (BEP 5, BEP 33): bounded in every direction, and forgotten after
//! half an hour.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use torr_base::{InfoHash, Instant, Rng};

use crate::addr::{Prefix, canonical};
use crate::bloom::Bloom;
use crate::id::NodeId;

/// Info-hashes in all (guarantees: DHT flood).
pub(crate) const HASHES_MAX: usize = 2_000;
/// Peers of one info-hash (guarantees: DHT flood).
pub(crate) const PEERS_MAX: usize = 500;
/// Peers in all, 24 bytes each: 5 MB.
pub(crate) const PEERS_TOTAL_MAX: usize = 200_000;
/// Peers in all of one /24 or /64, so that it takes many networks to fill the store.
const PER_PREFIX_MAX: u32 = 100;
/// Peers announce themselves every quarter of an hour.
const EXPIRES_AFTER_SECS: u32 = 30 * 60;
/// How often the store is searched for what has expired.
const PURGED_EVERY: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug)]
struct Peer {
    /// IPv4 as mapped.
    ip: [u8; 16],
    port: u16,
    seed: bool,
    announced_secs: u32,
}

/// The peers of one family.
#[derive(Clone, Debug, Default)]
pub(crate) struct Store {
    /// Oldest announce first; one entry for each address without port (BEP 33).
    torrents: BTreeMap<InfoHash, Vec<Peer>>,
    peers: usize,
    by_prefix: BTreeMap<Prefix, u32>,
    purged: Instant,
}

/// How much of the common bounds other stores use.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Used {
    pub(crate) hashes: usize,
    pub(crate) peers: usize,
}

impl Peer {
    fn addr(&self) -> SocketAddr {
        canonical(SocketAddr::new(IpAddr::from(self.ip), self.port))
    }
}

impl Store {
    pub(crate) fn used(&self) -> Used {
        Used {
            hashes: self.torrents.len(),
            peers: self.peers,
        }
    }

    /// Takes in or renews a peer; false where there is no room for it. Where there are too many
    /// info-hashes, the one farthest from `own` goes: others would look for it elsewhere.
    pub(crate) fn announce(
        &mut self,
        now: Instant,
        own: NodeId,
        others: Used,
        info_hash: InfoHash,
        addr: SocketAddr,
        seed: bool,
    ) -> bool {
        let ip = mapped(addr.ip());
        let peer = Peer {
            ip,
            port: addr.port(),
            seed,
            announced_secs: secs(now),
        };
        if let Some(peers) = self.torrents.get_mut(&info_hash)
            && let Some(at) = peers.iter().position(|it| it.ip == ip)
        {
            peers.remove(at);
            peers.push(peer);
            return true;
        }
        let prefix = Prefix::of(addr);
        let of_prefix = prefix.and_then(|prefix| self.by_prefix.get(&prefix));
        if of_prefix.is_some_and(|n| *n >= PER_PREFIX_MAX)
            || self.peers + others.peers >= PEERS_TOTAL_MAX
            || !self.make_room(own, others, info_hash)
        {
            return false;
        }
        let peers = self.torrents.entry(info_hash).or_default();
        let oldest = (peers.len() >= PEERS_MAX).then(|| peers.remove(0));
        peers.push(peer);
        self.peers += 1;
        if let Some(prefix) = prefix {
            *self.by_prefix.entry(prefix).or_default() += 1;
        }
        if let Some(oldest) = oldest {
            self.forget(oldest);
        }
        true
    }

    /// Up to `n` peers by chance; where `noseed` is set, seeds only if there are too few others.
    pub(crate) fn sample(
        &self,
        now: Instant,
        info_hash: InfoHash,
        noseed: bool,
        n: usize,
        rng: &mut Rng,
    ) -> Vec<SocketAddr> {
        let mut fresh: Vec<&Peer> = self.fresh(now, info_hash).collect();
        rng.shuffle(&mut fresh);
        if noseed {
            fresh.sort_by_key(|peer| peer.seed);
        }
        fresh.into_iter().take(n).map(Peer::addr).collect()
    }

    /// The filters of seeds and of other peers (BEP 33), where there are any.
    pub(crate) fn scrape(&self, now: Instant, info_hash: InfoHash) -> Option<(Bloom, Bloom)> {
        let (mut seeds, mut peers) = (Bloom::new(), Bloom::new());
        let mut any = false;
        for peer in self.fresh(now, info_hash) {
            any = true;
            match peer.seed {
                true => seeds.insert(peer.addr().ip()),
                false => peers.insert(peer.addr().ip()),
            }
        }
        any.then_some((seeds, peers))
    }

    /// Forgets what has expired, once a minute at most.
    pub(crate) fn purge(&mut self, now: Instant) {
        if now < self.purged + PURGED_EVERY || self.peers == 0 {
            return;
        }
        self.purged = now;
        let now = secs(now);
        let mut gone = Vec::new();
        self.torrents.retain(|_, peers| {
            let expired = peers.partition_point(|peer| peer.is_expired(now));
            gone.extend(peers.drain(..expired));
            !peers.is_empty()
        });
        for peer in gone {
            self.forget(peer);
        }
    }

    fn fresh(&self, now: Instant, info_hash: InfoHash) -> impl Iterator<Item = &Peer> {
        let now = secs(now);
        let peers = self.torrents.get(&info_hash).into_iter().flatten();
        peers.filter(move |peer| !peer.is_expired(now))
    }

    fn make_room(&mut self, own: NodeId, others: Used, info_hash: InfoHash) -> bool {
        if self.torrents.contains_key(&info_hash)
            || self.torrents.len() + others.hashes < HASHES_MAX
        {
            return true;
        }
        let distance = |hash: &InfoHash| NodeId::from(*hash).distance(own);
        let farthest = self.torrents.keys().copied().max_by_key(distance);
        let Some(farthest) = farthest.filter(|it| distance(it) > distance(&info_hash)) else {
            return false;
        };
        for peer in self.torrents.remove(&farthest).unwrap_or_default() {
            self.forget(peer);
        }
        true
    }

    /// Counts one peer less.
    fn forget(&mut self, peer: Peer) {
        self.peers -= 1;
        let Some(prefix) = Prefix::of(peer.addr()) else {
            return;
        };
        if let Some(n) = self.by_prefix.get_mut(&prefix) {
            *n -= 1;
            if *n == 0 {
                self.by_prefix.remove(&prefix);
            }
        }
    }

    pub(crate) fn check_invariants(&self) {
        let all = || self.torrents.values().flatten();
        assert_eq!(all().count(), self.peers);
        let local = all()
            .filter(|peer| Prefix::of(peer.addr()).is_none())
            .count();
        let by_prefix: u32 = self.by_prefix.values().sum();
        assert_eq!(by_prefix as usize + local, self.peers);
        assert!(
            self.by_prefix
                .values()
                .all(|n| (1..=PER_PREFIX_MAX).contains(n))
        );
        for peers in self.torrents.values() {
            assert!((1..=PEERS_MAX).contains(&peers.len()));
            assert!(peers.is_sorted_by_key(|peer| peer.announced_secs));
            let ips: std::collections::BTreeSet<_> = peers.iter().map(|peer| peer.ip).collect();
            assert_eq!(ips.len(), peers.len(), "one entry for each address");
        }
    }
}

impl Peer {
    fn is_expired(&self, now_secs: u32) -> bool {
        now_secs.saturating_sub(self.announced_secs) >= EXPIRES_AFTER_SECS
    }
}

fn mapped(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

/// Enough for a century.
fn secs(now: Instant) -> u32 {
    u32::try_from(now.since(Instant::ZERO).as_secs()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: NodeId = NodeId([0; 20]);

    fn at(secs: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(secs)
    }

    /// Each of another network.
    fn peer(n: u32) -> SocketAddr {
        let [_, a, b, c] = n.to_be_bytes();
        SocketAddr::from(([60 + a, b, c, 1], 6881))
    }

    fn hash(n: u32) -> InfoHash {
        let mut hash = [0; 20];
        hash[..4].copy_from_slice(&n.to_be_bytes());
        InfoHash(hash)
    }

    fn put(store: &mut Store, now: u64, n: u32, addr: SocketAddr) -> bool {
        let put = store.announce(at(now), OWN, Used::default(), hash(n), addr, false);
        store.check_invariants();
        put
    }

    #[test]
    fn peers_are_kept_for_half_an_hour_after_their_last_announce() {
        let mut store = Store::default();
        let mut rng = Rng::new(1);
        assert!(put(&mut store, 0, 1, peer(1)) && put(&mut store, 0, 1, peer(2)));
        let mut moved = peer(1);
        moved.set_port(7_000);
        assert!(put(&mut store, 1_000, 1, moved));
        let mut found = store.sample(at(1_500), hash(1), false, 9, &mut rng);
        found.sort();
        assert_eq!(found, [moved, peer(2)]);
        assert_eq!(
            store.sample(at(2_000), hash(1), false, 9, &mut rng),
            [moved]
        );
        assert_eq!(store.used().peers, 2);
        store.purge(at(2_000));
        store.check_invariants();
        assert_eq!(store.used().peers, 1);
        store.purge(at(3_000));
        assert_eq!((store.used().hashes, store.used().peers), (0, 0));
    }

    #[test]
    fn five_hundred_peers_and_two_thousand_torrents_at_most() {
        let mut store = Store::default();
        for n in 0..700 {
            assert!(put(&mut store, n.into(), 1, peer(n)));
        }
        let mut rng = Rng::new(1);
        let all = store.sample(at(700), hash(1), false, 10_000, &mut rng);
        assert_eq!(all.len(), PEERS_MAX);
        assert!(
            !all.contains(&peer(199)) && all.contains(&peer(200)),
            "the oldest went"
        );
        for n in 0..2_500 {
            let kept = store.announce(
                at(700),
                OWN,
                Used::default(),
                hash(10_000 - n),
                peer(1_000 + n),
                false,
            );
            assert!(kept, "each is closer than the ones before");
        }
        store.check_invariants();
        assert_eq!(store.used().hashes, HASHES_MAX);
        assert!(
            !put(&mut store, 701, 20_000, peer(9_999)),
            "farther than all"
        );
        let others = Used {
            hashes: HASHES_MAX,
            peers: 0,
        };
        let mut second = Store::default();
        assert!(!second.announce(at(0), OWN, others, hash(1), peer(1), false));
        let others = Used {
            hashes: 0,
            peers: PEERS_TOTAL_MAX,
        };
        assert!(!second.announce(at(0), OWN, others, hash(1), peer(1), false));
    }

    #[test]
    fn one_network_gets_a_hundred_places() {
        let mut store = Store::default();
        let taken = (0..300).filter(|n| {
            let addr = SocketAddr::from(([9, 8, 7, *n as u8], 6881));
            put(&mut store, 0, *n, addr)
        });
        assert_eq!(taken.count(), 100);
        let local = (0..300).filter(|n| {
            let addr = SocketAddr::from(([192, 168, 7, *n as u8], 6881));
            put(&mut store, 0, *n, addr)
        });
        assert_eq!(local.count(), 300);
    }

    #[test]
    fn seeds_are_told_apart() {
        let mut store = Store::default();
        for n in 0..40 {
            store.announce(at(0), OWN, Used::default(), hash(1), peer(n), n < 30);
        }
        let (seeds, peers) = store.scrape(at(1), hash(1)).unwrap();
        assert!((seeds.estimate() - 30.0).abs() < 2.0 && (peers.estimate() - 10.0).abs() < 1.0);
        assert_eq!(store.scrape(at(1), hash(2)), None);
        let mut rng = Rng::new(1);
        let mut found = store.sample(at(1), hash(1), true, 10, &mut rng);
        found.sort();
        assert_eq!(found, (30..40).map(peer).collect::<Vec<_>>());
    }

    #[test]
    fn samples_are_spread() {
        let mut store = Store::default();
        for n in 0..100 {
            assert!(put(&mut store, 0, 1, peer(n)));
        }
        let mut rng = Rng::new(1);
        let mut seen = BTreeMap::new();
        for _ in 0..1_000 {
            for addr in store.sample(at(1), hash(1), false, 10, &mut rng) {
                *seen.entry(addr).or_insert(0) += 1;
            }
        }
        assert_eq!(seen.len(), 100);
        assert!(seen.values().all(|n| (50..200).contains(n)), "{seen:?}");
    }
}
