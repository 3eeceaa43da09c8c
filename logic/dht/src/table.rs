//! The routing table of one family: which nodes are known, and which of them are worth keeping.
//!
//! Bucket *i* holds nodes that share exactly *i* leading bits with our id; the last one holds all that
//! share more, and it alone splits (BEP 5).
//!
//! ```text
//!        no bit        1 bit        2 bits       3 bits or more
//!     [ 8 + spares | 8 + spares | 8 + spares | 8 + spares ]  <- own id; splits when full
//! ```
//!
//! A node gets a place only after it answered us; what is only heard of waits among the spares until it
//! is asked. It is good for 15 minutes after an answer, then questionable until it answers again, bad
//! after two questions in a row without one.
//!
//! Invariants: see [`Table::check_invariants`].

use std::net::SocketAddr;
use std::time::Duration;

use torr_base::{Instant, Rng};

use crate::addr::{Contact, Prefix};
use crate::id::NodeId;

/// BEP 5's k: nodes in a bucket, nodes in an answer, nodes that an announce goes to.
pub(crate) const K: usize = 8;
/// Nodes in the first buckets, which lookups of others and ours start from; then [`K`].
const ROOMS: [usize; 4] = [K, K, K, K];
/// Nodes that wait for a place in a bucket.
const SPARES_MAX: usize = 8;
/// More leading bits than this no two of a billion nodes share.
const BUCKETS_MAX: usize = 48;
/// Questions in a row without an answer after which a node is bad: others may have its place.
const FAILS_BAD: u8 = 2;
/// The same after which it loses its place even to nobody.
const FAILS_GONE: u8 = 3;
/// BEP 5: this long after its last answer a node is no longer known to be good.
const GOOD_FOR: Duration = Duration::from_secs(15 * 60);
/// Nodes are asked again a little earlier, so that good ones stay good.
const ASK_AFTER: Duration = Duration::from_secs(13 * 60);
/// A node that failed is asked again this much later: a lost datagram proves nothing.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(15);
/// How soon a bucket with room is filled up for the first time; each time twice as long.
const FILL_AFTER: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug)]
struct Entry {
    contact: Contact,
    /// Last answer; of an unconfirmed one when it was heard of.
    heard: Instant,
    /// Last question.
    asked: Instant,
    fails: u8,
    /// Its id is one that its address may have (BEP 42).
    fits: bool,
    /// It answered us, under this id.
    confirmed: bool,
}

#[derive(Clone, Debug)]
struct Bucket {
    room: usize,
    /// Confirmed, each of another prefix.
    nodes: Vec<Entry>,
    /// Last come last.
    spares: Vec<Entry>,
    /// When a node came in or somebody was asked for some.
    touched: Instant,
    /// How often nodes were sought for it since one came in.
    tries: u8,
}

#[derive(Clone, Debug)]
pub(crate) struct Table {
    own: NodeId,
    buckets: Vec<Bucket>,
}

impl Bucket {
    fn new(index: usize, now: Instant) -> Self {
        Self {
            room: ROOMS.get(index).copied().unwrap_or(K),
            nodes: Vec::new(),
            spares: Vec::new(),
            touched: now,
            tries: 0,
        }
    }

    fn has_room(&self) -> bool {
        self.nodes.len() < self.room || self.nodes.iter().any(|node| node.fails >= FAILS_BAD)
    }

    /// Whether a node of the same network has a place already, `not` apart.
    fn has_neighbour(&self, addr: SocketAddr) -> bool {
        let Some(prefix) = Prefix::of(addr) else {
            return self.nodes.iter().any(|it| it.contact.addr == addr);
        };
        (self.nodes.iter()).any(|it| Prefix::of(it.contact.addr) == Some(prefix))
    }

    /// The newest confirmed spare takes a free place.
    fn promote(&mut self, now: Instant) {
        while self.nodes.len() < self.room {
            let Some(at) = self.spares.iter().rposition(|it| it.confirmed) else {
                return;
            };
            let spare = self.spares.remove(at);
            if !self.has_neighbour(spare.contact.addr) {
                self.nodes.push(spare);
                self.touched = now;
            }
        }
    }

    fn add_spare(&mut self, entry: Entry) {
        let twin = |it: &Entry| {
            it.contact.addr == entry.contact.addr
                || Prefix::of(it.contact.addr)
                    .is_some_and(|prefix| Some(prefix) == Prefix::of(entry.contact.addr))
        };
        if let Some(at) = self.spares.iter().position(twin) {
            let worse = self.spares[at].confirmed && !entry.confirmed;
            if worse {
                return;
            }
            self.spares.remove(at);
        }
        if self.spares.len() >= SPARES_MAX {
            // Rumours do not drive out what answered.
            let rumour = self.spares.iter().position(|it| !it.confirmed);
            match rumour.or(entry.confirmed.then_some(0)) {
                Some(at) => self.spares.remove(at),
                None => return,
            };
        }
        self.spares.push(entry);
    }
}

impl Table {
    pub(crate) fn new(own: NodeId, now: Instant) -> Self {
        Self {
            own,
            buckets: vec![Bucket::new(0, now)],
        }
    }

    /// The same nodes around another id.
    pub(crate) fn move_to(&mut self, own: NodeId, now: Instant) {
        let old = std::mem::replace(self, Self::new(own, now));
        for bucket in old.buckets {
            for entry in bucket.nodes.into_iter().chain(bucket.spares) {
                if entry.confirmed {
                    self.place(now, entry);
                } else {
                    self.add_rumour(entry);
                }
            }
        }
    }

    /// Nodes with a place.
    pub(crate) fn len(&self) -> usize {
        self.buckets.iter().map(|bucket| bucket.nodes.len()).sum()
    }

    /// Nodes that are good: they answered in the last 15 minutes and every time since.
    pub(crate) fn good(&self, now: Instant) -> usize {
        let nodes = self.buckets.iter().flat_map(|bucket| &bucket.nodes);
        nodes
            .filter(|it| it.fails == 0 && now.since(it.heard) < GOOD_FOR)
            .count()
    }

    /// Whether a node with this id and address has a place and has not failed lately.
    pub(crate) fn knows(&self, contact: Contact) -> bool {
        let bucket = self.buckets.get(self.index(contact.id));
        let mut nodes = bucket.into_iter().flat_map(|bucket| &bucket.nodes);
        nodes.any(|it| it.contact == contact && it.fails < FAILS_BAD)
    }

    /// It answered a question of ours.
    pub(crate) fn answered(&mut self, now: Instant, contact: Contact) {
        if contact.id == self.own {
            return;
        }
        let index = self.index(contact.id);
        let nodes = &mut self.buckets[index].nodes;
        if let Some(node) = nodes.iter_mut().find(|it| it.contact.id == contact.id) {
            if node.contact.addr == contact.addr {
                (node.heard, node.fails) = (now, 0);
                return;
            }
            if node.fails == 0 {
                // Who answers under somebody's id from elsewhere waits until that one fails.
                return;
            }
        }
        self.forget(now, contact);
        let entry = Entry {
            contact,
            heard: now,
            asked: now,
            fails: 0,
            fits: contact.id.fits(contact.addr.ip()),
            confirmed: true,
        };
        self.place(now, entry);
    }

    /// Somebody says that there is such a node, perhaps itself.
    pub(crate) fn heard_of(&mut self, now: Instant, contact: Contact) {
        self.add_rumour(Entry {
            contact,
            heard: now,
            asked: Instant::ZERO,
            fails: 0,
            fits: contact.id.fits(contact.addr.ip()),
            confirmed: false,
        });
    }

    /// It was asked something.
    pub(crate) fn asked(&mut self, now: Instant, contact: Contact) {
        let index = self.index(contact.id);
        if let Some(bucket) = self.buckets.get_mut(index) {
            let mut all = bucket.nodes.iter_mut().chain(&mut bucket.spares);
            if let Some(node) = all.find(|it| it.contact == contact) {
                node.asked = now;
            }
        }
    }

    /// It did not answer.
    pub(crate) fn failed(&mut self, now: Instant, contact: Contact) {
        let index = self.index(contact.id);
        let Some(bucket) = self.buckets.get_mut(index) else {
            return;
        };
        bucket.spares.retain(|it| it.contact != contact);
        let Some(at) = bucket.nodes.iter().position(|it| it.contact == contact) else {
            return;
        };
        let node = &mut bucket.nodes[at];
        node.fails = node.fails.saturating_add(1);
        let fails = node.fails;
        let successor = bucket.spares.iter().any(|it| it.confirmed);
        if fails >= FAILS_GONE || (fails >= FAILS_BAD && successor) {
            bucket.nodes.remove(at);
            bucket.promote(now);
        }
    }

    /// Up to `n` nodes that did not fail lately, closest to `target` first.
    pub(crate) fn closest(&self, target: NodeId, n: usize) -> Vec<Contact> {
        let home = self.index(target);
        let mut out: Vec<Contact> = Vec::with_capacity(n + K);
        let mut take = |buckets: &[Bucket]| {
            let from = out.len();
            let nodes = buckets.iter().flat_map(|bucket| &bucket.nodes);
            out.extend(nodes.filter(|it| it.fails == 0).map(|it| it.contact));
            if let Some(new) = out.get_mut(from..) {
                new.sort_by_key(|contact| contact.id.distance(target));
            }
            out.len() >= n
        };
        // Those in the target's own bucket share most bits with it, all deeper ones exactly as many as
        // our id does, and each one before shares fewer.
        let (before, from_home) = self.buckets.split_at(home);
        let (at_home, deeper) = from_home.split_at(1);
        if !take(at_home) && !take(deeper) {
            let _ = (before.iter().rev()).any(|bucket| take(std::slice::from_ref(bucket)));
        }
        out.truncate(n);
        out
    }

    /// Somebody to be asked whether it is still there: failed a while ago, or soon questionable.
    pub(crate) fn stale(&self, now: Instant) -> Option<Contact> {
        let nodes = self.buckets.iter().flat_map(|bucket| &bucket.nodes);
        let due = nodes.filter(|it| {
            let idle = now.since(it.asked);
            (it.fails > 0 && idle >= ASK_AGAIN_AFTER)
                || (now.since(it.heard) >= ASK_AFTER && idle >= 4 * ASK_AGAIN_AFTER)
        });
        due.min_by_key(|it| it.heard).map(|it| it.contact)
    }

    /// A rumour whose bucket has a place for it; close ones first. It is taken off the list.
    pub(crate) fn next_rumour(&mut self) -> Option<Contact> {
        let last = self.buckets.len() - 1;
        let splits = self.buckets.len() < BUCKETS_MAX;
        for (index, bucket) in self.buckets.iter_mut().enumerate().rev() {
            let splits = splits && index == last;
            if !bucket.has_room() && !splits {
                continue;
            }
            while let Some(at) = bucket.spares.iter().rposition(|it| !it.confirmed) {
                let contact = bucket.spares.remove(at).contact;
                if !bucket.has_neighbour(contact.addr) {
                    return Some(contact);
                }
            }
        }
        None
    }

    /// An id in a bucket that has room or in which nothing has changed for 15 minutes: nodes around it
    /// are to be asked for. The bucket counts as touched from now on.
    pub(crate) fn refresh(&mut self, now: Instant, random: [u8; 20]) -> Option<NodeId> {
        let due = |bucket: &Bucket| {
            let wait = match bucket.has_room() {
                true => (FILL_AFTER * (1 << bucket.tries.min(6))).min(GOOD_FOR),
                false => GOOD_FOR,
            };
            bucket.touched + wait <= now
        };
        let index = self.buckets.iter().rposition(due)?;
        let bucket = &mut self.buckets[index];
        bucket.touched = now;
        bucket.tries = bucket.tries.saturating_add(1);
        Some(self.own.sharing(index, random))
    }

    /// Up to `n` nodes worth keeping for the next run: those close to us, then others by chance.
    pub(crate) fn worth_saving(&self, n: usize, rng: &mut Rng) -> Vec<Contact> {
        let mut out = self.closest(self.own, K.min(n));
        let nodes = self.buckets.iter().flat_map(|bucket| &bucket.nodes);
        let mut rest: Vec<_> = nodes
            .filter(|it| it.fails == 0 && !out.contains(&it.contact))
            .map(|it| it.contact)
            .collect();
        rng.shuffle(&mut rest);
        rest.truncate(n - out.len());
        out.extend(rest);
        out
    }

    fn index(&self, id: NodeId) -> usize {
        self.own.shared_bits(id).min(self.buckets.len() - 1)
    }

    fn add_rumour(&mut self, entry: Entry) {
        let contact = entry.contact;
        if contact.id == self.own {
            return;
        }
        let index = self.index(contact.id);
        let bucket = &mut self.buckets[index];
        let known = bucket.nodes.iter().any(|it| it.contact.id == contact.id);
        if !known && !bucket.has_neighbour(contact.addr) {
            bucket.add_spare(entry);
        }
    }

    /// What is known of this id or this address, which just turned out to be something else.
    fn forget(&mut self, now: Instant, contact: Contact) {
        let same = |it: &Entry| it.contact.id == contact.id || it.contact.addr == contact.addr;
        for bucket in &mut self.buckets {
            bucket.spares.retain(|it| !same(it));
            let before = bucket.nodes.len();
            bucket.nodes.retain(|it| !same(it));
            if bucket.nodes.len() < before {
                bucket.promote(now);
            }
        }
    }

    /// Gives a confirmed node a place, or one among the spares.
    fn place(&mut self, now: Instant, entry: Entry) {
        loop {
            let index = self.index(entry.contact.id);
            let last = index + 1 == self.buckets.len();
            let splits = last && self.buckets.len() < BUCKETS_MAX;
            let bucket = &mut self.buckets[index];
            let prefix = Prefix::of(entry.contact.addr);
            let neighbour = prefix.and_then(|prefix| {
                let mut nodes = bucket.nodes.iter();
                nodes.position(|it| Prefix::of(it.contact.addr) == Some(prefix))
            });
            let replaced = match neighbour {
                Some(at) if bucket.nodes[at].fails < FAILS_BAD => return,
                Some(at) => Some(at),
                None if bucket.nodes.len() < bucket.room => {
                    bucket.nodes.push(entry);
                    (bucket.touched, bucket.tries) = (now, 0);
                    return;
                }
                None if splits => {
                    self.split(now);
                    continue;
                }
                None => (bucket.nodes.iter().position(|it| it.fails >= FAILS_BAD)).or_else(|| {
                    // BEP 42: an id that fits its address counts for more than age.
                    let unfit = bucket.nodes.iter().position(|it| !it.fits);
                    unfit.filter(|_| entry.fits)
                }),
            };
            match replaced {
                Some(at) => {
                    let old = std::mem::replace(&mut bucket.nodes[at], entry);
                    bucket.touched = now;
                    if old.fails == 0 {
                        bucket.add_spare(old);
                    }
                }
                None => bucket.add_spare(entry),
            }
            return;
        }
    }

    /// Cuts the last bucket in two.
    fn split(&mut self, now: Instant) {
        let bits = self.buckets.len() - 1;
        let own = self.own;
        let Some(last) = self.buckets.last_mut() else {
            return;
        };
        let closer = |it: &mut Entry| own.shared_bits(it.contact.id) > bits;
        let mut next = Bucket::new(bits + 1, now);
        next.nodes = last.nodes.extract_if(.., closer).collect();
        next.spares = last.spares.extract_if(.., closer).collect();
        last.promote(now);
        next.promote(now);
        self.buckets.push(next);
    }

    /// Panics where a bucket holds too many nodes, one that belongs elsewhere, an unconfirmed one, two
    /// of one network, or one twice.
    pub(crate) fn check_invariants(&self) {
        assert!((1..=BUCKETS_MAX).contains(&self.buckets.len()));
        let mut ids = std::collections::BTreeSet::new();
        let mut addrs = std::collections::BTreeSet::new();
        for (index, bucket) in self.buckets.iter().enumerate() {
            assert!(bucket.nodes.len() <= bucket.room && bucket.spares.len() <= SPARES_MAX);
            let mut prefixes = std::collections::BTreeSet::new();
            for node in &bucket.nodes {
                assert!(node.confirmed && node.fails < FAILS_GONE);
                assert!(ids.insert(node.contact.id), "one place for each id");
                assert!(
                    addrs.insert(node.contact.addr),
                    "one place for each address"
                );
                let prefix = Prefix::of(node.contact.addr);
                assert!(
                    prefix.is_none_or(|it| prefixes.insert(it)),
                    "one node of a network"
                );
            }
            for entry in bucket.nodes.iter().chain(&bucket.spares) {
                assert_ne!(entry.contact.id, self.own);
                assert_eq!(self.index(entry.contact.id), index);
            }
        }
    }
}

#[cfg(test)]
mod tests;
