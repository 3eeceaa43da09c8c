//! How much strangers can make us send: answers by network and in all, and questions to addresses that
//! never answer.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use torr_base::Instant;

use crate::addr::Prefix;

/// Bytes of answers in any second, at most (guarantees: DHT flood): what flows plus what may burst.
pub const REPLY_BYTES_PER_SEC_MAX: u64 = REPLY_RATE + REPLY_BURST;
const REPLY_RATE: u64 = 5_000;
const REPLY_BURST: u64 = 3_000;
/// The share of it that strangers can use up; the rest is for nodes of our table and for announces with
/// a right token, which nobody can send from a made-up address.
const STRANGER_RATE: u64 = 3_500;
const STRANGER_BURST: u64 = 2_200;
/// Queries of one /24 or /64 that are answered.
const QUERIES_PER_SEC: u64 = 5;
const QUERIES_BURST: u64 = 15;
/// Networks share this many buckets by a keyed hash, so that a flood fills no memory.
const SLOTS: u64 = 1_024;

/// A level that fills with time and never goes below zero.
#[derive(Clone, Copy, Debug)]
struct Level {
    /// Units times 10^9.
    level: u64,
    filled: Instant,
}

const NANO: u64 = 1_000_000_000;

impl Level {
    const fn full(burst: u64, now: Instant) -> Self {
        Self {
            level: burst * NANO,
            filled: now,
        }
    }

    /// Whether `n` may pass now.
    fn has(&mut self, now: Instant, rate: u64, burst: u64, n: u64) -> bool {
        let passed = u64::try_from(now.since(self.filled).as_nanos()).unwrap_or(u64::MAX);
        self.filled = self.filled.max(now);
        let level = self.level.saturating_add(passed.saturating_mul(rate));
        self.level = level.min(burst * NANO);
        self.level >= n * NANO
    }

    fn take(&mut self, n: u64) {
        self.level = self.level.saturating_sub(n * NANO);
    }
}

/// What queries may cost.
#[derive(Clone, Debug)]
pub(crate) struct ReplyLimit {
    /// Mixed into the hash, so that nobody can aim at another network's bucket.
    key: u64,
    slots: BTreeMap<u16, Level>,
    all: Level,
    strangers: Level,
}

impl ReplyLimit {
    pub(crate) const fn new(key: u64, now: Instant) -> Self {
        Self {
            key,
            slots: BTreeMap::new(),
            all: Level::full(REPLY_BURST, now),
            strangers: Level::full(STRANGER_BURST, now),
        }
    }

    /// Whether a query from there is looked at; to be asked once for each.
    pub(crate) fn admits(&mut self, now: Instant, from: SocketAddr) -> bool {
        let hash = (Prefix::or_address(from).get() ^ self.key).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let slot = (hash >> 40) % SLOTS;
        let fresh = Level::full(QUERIES_BURST, now);
        let slot = self.slots.entry(slot as u16).or_insert(fresh);
        let admits = slot.has(now, QUERIES_PER_SEC, QUERIES_BURST, 1);
        if admits {
            slot.take(1);
        }
        admits
    }

    /// Whether some answer to a stranger could be sent now at all: asked before one is made.
    pub(crate) fn has_room(&mut self, now: Instant, known: bool) -> bool {
        const LEAST: u64 = 60;
        self.fits(now, LEAST, known)
    }

    /// Whether an answer of that many bytes is sent; if so it is paid for.
    pub(crate) fn pays(&mut self, now: Instant, bytes: usize, known: bool) -> bool {
        let bytes = bytes as u64;
        let fits = self.fits(now, bytes, known);
        if fits {
            self.all.take(bytes);
            if !known {
                self.strangers.take(bytes);
            }
        }
        fits
    }

    fn fits(&mut self, now: Instant, bytes: u64, known: bool) -> bool {
        let strangers = self
            .strangers
            .has(now, STRANGER_RATE, STRANGER_BURST, bytes);
        self.all.has(now, REPLY_RATE, REPLY_BURST, bytes) && (known || strangers)
    }
}

/// Networks whose addresses did not answer when we asked them. Whoever makes up answers can name any
/// address, so no more than a few questions may go to a network from which nothing comes back.
#[derive(Clone, Debug, Default)]
pub(crate) struct Silence {
    networks: BTreeMap<Prefix, (u8, Instant)>,
}

/// Unanswered questions to a network, at most …
const SILENT_MAX: u8 = 2;
/// … in that time.
const SILENT_FOR: Duration = Duration::from_secs(10 * 60);
/// Networks that are remembered; the oldest are forgotten first.
const SILENT_NETWORKS_MAX: usize = 1_024;

impl Silence {
    /// Whether asking is of no use, or what somebody hopes we do.
    pub(crate) fn is_around(&self, now: Instant, addr: SocketAddr) -> bool {
        let entry = self.networks.get(&Prefix::or_address(addr));
        entry.is_some_and(|(fails, since)| *fails >= SILENT_MAX && now < *since + SILENT_FOR)
    }

    pub(crate) fn failed(&mut self, now: Instant, addr: SocketAddr) {
        let prefix = Prefix::or_address(addr);
        if self.networks.len() >= SILENT_NETWORKS_MAX && !self.networks.contains_key(&prefix) {
            self.networks
                .retain(|_, (_, since)| now < *since + SILENT_FOR);
            if self.networks.len() >= SILENT_NETWORKS_MAX {
                let oldest = self.networks.iter().min_by_key(|(_, (_, since))| *since);
                if let Some(oldest) = oldest.map(|(prefix, _)| *prefix) {
                    self.networks.remove(&oldest);
                }
            }
        }
        let entry = self.networks.entry(prefix).or_insert((0, now));
        if now >= entry.1 + SILENT_FOR {
            *entry = (0, now);
        }
        entry.0 = entry.0.saturating_add(1);
    }

    pub(crate) fn answered(&mut self, addr: SocketAddr) {
        if !self.networks.is_empty() {
            self.networks.remove(&Prefix::or_address(addr));
        }
    }

    /// The network came back: what was silent may have been us.
    pub(crate) fn forget(&mut self) {
        self.networks.clear();
    }

    pub(crate) fn check_invariants(&self) {
        assert!(self.networks.len() <= SILENT_NETWORKS_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use torr_base::Rng;

    fn random(rng: &mut Rng) -> SocketAddr {
        let [a, b, c, d, ..] = rng.next_u64().to_be_bytes();
        SocketAddr::from(([(a % 200) + 20, b, c, d], 6881))
    }

    #[test]
    fn answers_stay_below_the_cap_in_every_second() {
        let mut rng = Rng::new(1);
        let mut limit = ReplyLimit::new(7, Instant::ZERO);
        let mut sent: Vec<(Instant, usize)> = Vec::new();
        for n in 0..200_000_u64 {
            let now = Instant::from_nanos(n * 20_000);
            let from = random(&mut rng);
            let bytes = 50 + rng.index(900);
            if limit.admits(now, from) && limit.pays(now, bytes, rng.one_in(10)) {
                sent.push((now, bytes));
            }
        }
        assert!(limit.slots.len() <= SLOTS as usize);
        let total: usize = sent.iter().map(|(_, bytes)| bytes).sum();
        assert!(total > 4 * 4_000, "{total}");
        for (i, (start, _)) in sent.iter().enumerate() {
            let second = sent[i..]
                .iter()
                .take_while(|(at, _)| at.since(*start) < Duration::from_secs(1));
            let bytes: usize = second.map(|(_, bytes)| bytes).sum();
            assert!(bytes as u64 <= REPLY_BYTES_PER_SEC_MAX, "{bytes}");
        }
    }

    #[test]
    fn strangers_leave_something_to_nodes_that_are_known() {
        let mut rng = Rng::new(1);
        let mut limit = ReplyLimit::new(7, Instant::ZERO);
        let mut answered = 0;
        for n in 0..500_000_u64 {
            let now = Instant::from_nanos(n * 20_000);
            let from = random(&mut rng);
            if limit.admits(now, from) {
                limit.pays(now, 300, false);
            }
            // Four a second.
            if n % 12_500 == 0 && limit.pays(now, 300, true) {
                answered += 1;
            }
        }
        assert_eq!(answered, 40, "of 40");
    }

    #[test]
    fn one_network_gets_five_answers_a_second() {
        let mut limit = ReplyLimit::new(7, Instant::ZERO);
        let from = |n: u64| SocketAddr::from(([9, 8, 7, n as u8], 6881));
        let admitted =
            (0..1_000).filter(|n| limit.admits(Instant::from_nanos(n * 10_000_000), from(*n)));
        assert!((60..=66).contains(&admitted.count()));
        let local = SocketAddr::from(([127, 0, 0, 1], 1));
        let admitted = (1..1_000).filter(|n| {
            let mut from = local;
            from.set_port(*n);
            limit.admits(Instant::from_nanos(10_000_000_000), from)
        });
        assert!(
            admitted.count() > 900,
            "local addresses are networks of their own"
        );
    }

    #[test]
    fn a_silent_network_is_left_alone_for_a_while() {
        let mut silence = Silence::default();
        let at = |secs| Instant::ZERO + Duration::from_secs(secs);
        let host = |n| SocketAddr::from(([9, 8, 7, n], 6881));
        silence.failed(at(0), host(1));
        assert!(!silence.is_around(at(1), host(2)));
        silence.failed(at(1), host(2));
        assert!(silence.is_around(at(1), host(3)));
        assert!(!silence.is_around(at(700), host(3)));
        silence.failed(at(2), host(2));
        silence.answered(host(9));
        assert!(!silence.is_around(at(3), host(3)));
        let mut rng = Rng::new(1);
        for _ in 0..5_000 {
            silence.failed(at(5), random(&mut rng));
            silence.check_invariants();
        }
    }
}
