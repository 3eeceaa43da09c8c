//! Searches, and the lookups that they are made of: one in each family.

use std::net::SocketAddr;
use std::time::Duration;

use torr_base::{InfoHash, Instant, Key};

use super::Dht;
use crate::addr::{Family, is_local, may_name};
use crate::id::NodeId;
use crate::lookup::{Leave, Lookup, PATHS, Purpose};
use crate::message::{Method, Response};
use crate::queries::What;
use crate::table::K;
use crate::types::{Announce, DhtAction, Outcome, SearchId};

/// Lookups under way; searches wait while there are so many.
pub(crate) const LOOKUPS_MAX: usize = 32;
/// One lookup of each family for its own neighbours must find room beside them.
const LOOKUPS_RESERVED: usize = 2;
/// How often a standing search begins again, give or take a tenth.
const REPEATED_EVERY: Duration = Duration::from_secs(15 * 60);
/// The same where nobody answered; each time twice as long.
const RETRIED_AFTER: Duration = Duration::from_secs(30);
/// How long a single search waits for a first node.
const WAITS_FOR_NODES: Duration = Duration::from_secs(60);
/// How often a search looks whether there is one.
const LOOKS_EVERY: Duration = Duration::from_secs(1);
/// Peers handed on by one lookup.
const PEERS_MAX: u32 = 1_000;
/// Peers taken from one answer; no honest one holds more.
const PEERS_PER_ANSWER_MAX: usize = 128;
/// Peers with one address and several ports: what sits behind one NAT, not what is aimed at one host.
const PORTS_PER_IP_MAX: usize = 3;
/// Ports of services that speak other protocols.
const PRIVILEGED_PORTS: u16 = 1_024;

#[derive(Debug)]
pub(crate) struct Search {
    info_hash: InfoHash,
    pub(crate) announce: Option<Announce>,
    standing: bool,
    /// Begin of the next round, while none is under way.
    pub(crate) due: Instant,
    /// When a single search gives up for want of nodes.
    patience: Instant,
    fails: u32,
    /// One for each family; both `None` while it waits.
    pub(crate) running: [Option<Key<Lookup>>; 2],
    outcome: Outcome,
}

impl Search {
    pub(crate) fn new(
        now: Instant,
        info_hash: InfoHash,
        announce: Option<Announce>,
        standing: bool,
    ) -> Self {
        Self {
            info_hash,
            announce,
            standing,
            due: now,
            patience: now + WAITS_FOR_NODES,
            fails: 0,
            running: [None, None],
            outcome: Outcome::default(),
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        self.running.iter().any(Option::is_some)
    }

    pub(crate) fn runs(&self, lookup: Key<Lookup>) -> bool {
        self.running.contains(&Some(lookup))
    }
}

impl Dht {
    pub(super) fn has_room_for_lookups(&self) -> bool {
        self.lookups.len() + LOOKUPS_RESERVED + 2 <= LOOKUPS_MAX
    }

    /// Begins the rounds that are due.
    pub(super) fn begin_searches(&mut self, now: Instant, out: &mut Vec<DhtAction>) {
        while self.has_room_for_lookups()
            && let Some((due, id)) = self.due.first().copied()
            && due <= now
        {
            self.due.pop_first();
            let Some(search) = self.searches.get_mut(id) else {
                continue;
            };
            search.outcome = Outcome::default();
            let target = NodeId::from(search.info_hash);
            for family in [Family::V4, Family::V6] {
                let lookup = self.begin_lookup(family, target, Purpose::Peers(id));
                if let Some(search) = self.searches.get_mut(id) {
                    search.running[family.index()] = lookup;
                }
            }
            let Some(search) = self.searches.get_mut(id) else {
                continue;
            };
            if search.is_running() {
                continue;
            }
            if search.standing || now < search.patience {
                search.due = now + LOOKS_EVERY;
                self.due.insert((search.due, id));
            } else {
                self.end_round(now, id, out);
            }
        }
    }

    /// `None` where nobody is known to begin with.
    pub(super) fn begin_lookup(
        &mut self,
        family: Family,
        target: NodeId,
        purpose: Purpose,
    ) -> Option<Key<Lookup>> {
        let side = &self.sides[family.index()];
        let starts = side.starts_for(target, PATHS * K);
        if !side.active || starts.is_empty() {
            return None;
        }
        let lookup = Lookup::new(family, target, purpose, &starts);
        let key = self.lookups.insert(lookup);
        self.awake.insert(key);
        Some(key)
    }

    /// Lets every lookup ask what it can; ends those that are over.
    pub(super) fn pump(&mut self, now: Instant, out: &mut Vec<DhtAction>) {
        while let Some(key) = self.awake.pop_first() {
            if !self.pump_one(now, key, out) {
                // No question can be sent now: those that wait are waked by what ends next.
                self.awake.insert(key);
                return;
            }
        }
    }

    /// False where too many questions are under way.
    fn pump_one(&mut self, now: Instant, key: Key<Lookup>, out: &mut Vec<DhtAction>) -> bool {
        loop {
            if self.queries.is_full() {
                return false;
            }
            let Some(lookup) = self.lookups.get_mut(key) else {
                return true;
            };
            let (silence, queries) = (&self.silence, &self.queries);
            // An address is asked one thing at a time; nobody waits for one that is late.
            let leave = |addr| match silence.is_around(now, addr) {
                true => Leave::Never,
                false if queries.is_awaited(addr) => Leave::Later,
                false if queries.is_asked(addr) => Leave::Never,
                false => Leave::Granted,
            };
            let Some((id, addr)) = lookup.next(leave) else {
                break;
            };
            let method = match lookup.purpose {
                Purpose::Neighbours => Method::FindNode {
                    target: lookup.target,
                },
                Purpose::Peers(search) => {
                    let announce = self.searches.get(search).and_then(|it| it.announce);
                    Method::GetPeers {
                        info_hash: InfoHash(lookup.target.0),
                        noseed: announce.is_some_and(|it| it.seed),
                        scrape: false,
                    }
                }
            };
            if !self.ask(now, addr, id, method, What::Lookup(key), out)
                && let Some(lookup) = self.lookups.get_mut(key)
            {
                lookup.failed(addr);
            }
        }
        match self.lookups.get(key) {
            Some(lookup) if lookup.announcing.is_some() => self.send_announces(now, key, out),
            Some(lookup) if lookup.is_over() => self.end_lookup(now, key, out),
            Some(_) | None => {}
        }
        true
    }

    /// The way is found: announce, if that was wanted.
    fn end_lookup(&mut self, now: Instant, key: Key<Lookup>, out: &mut Vec<DhtAction>) {
        let Some(lookup) = self.lookups.get_mut(key) else {
            return;
        };
        lookup.announcing = Some(0);
        let announces = match lookup.purpose {
            Purpose::Neighbours => false,
            Purpose::Peers(search) => {
                (self.searches.get(search)).is_some_and(|it| it.announce.is_some())
            }
        };
        if announces {
            lookup.to_announce = lookup.goals();
        }
        self.send_announces(now, key, out);
    }

    /// Announces wherever nothing else is asked just now.
    fn send_announces(&mut self, now: Instant, key: Key<Lookup>, out: &mut Vec<DhtAction>) {
        let Some(lookup) = self.lookups.get_mut(key) else {
            return;
        };
        let announce = match lookup.purpose {
            Purpose::Neighbours => None,
            Purpose::Peers(search) => self.searches.get(search).and_then(|it| it.announce),
        };
        let info_hash = InfoHash(lookup.target.0);
        let mut waiting = Vec::new();
        for goal in std::mem::take(&mut lookup.to_announce) {
            let Some(announce) = announce else { break };
            let (to, id) = (goal.contact.addr, Some(goal.contact.id));
            if self.queries.is_asked(to) {
                waiting.push(goal);
                continue;
            }
            let method = Method::AnnouncePeer {
                info_hash,
                port: announce.port,
                implied_port: announce.implied,
                seed: announce.seed,
                token: &goal.token,
            };
            let asked = self.ask(now, to, id, method, What::Announce(key), out);
            if let Some(lookup) = self.lookups.get_mut(key)
                && let Some(n) = &mut lookup.announcing
            {
                *n += usize::from(asked);
            }
        }
        if let Some(lookup) = self.lookups.get_mut(key) {
            lookup.to_announce = waiting;
        }
        self.close_if_announced(now, key, out);
    }

    /// An announce was answered or lost.
    pub(super) fn announce_over(
        &mut self,
        now: Instant,
        key: Key<Lookup>,
        out: &mut Vec<DhtAction>,
    ) {
        if let Some(lookup) = self.lookups.get_mut(key)
            && let Some(n) = &mut lookup.announcing
        {
            *n = n.saturating_sub(1);
        }
        self.close_if_announced(now, key, out);
    }

    fn close_if_announced(&mut self, now: Instant, key: Key<Lookup>, out: &mut Vec<DhtAction>) {
        let done = |it: &Lookup| it.announcing == Some(0) && it.to_announce.is_empty();
        if self.lookups.get(key).is_some_and(done) {
            self.close_lookup(now, key, out);
        }
    }

    /// Nothing is asked at that address any more, or the answer is late: lookups that wait for it go on.
    pub(super) fn release(&mut self, addr: SocketAddr, alive: bool) {
        for (key, lookup) in self.lookups.iter_mut() {
            if lookup.release(addr, alive) {
                self.awake.insert(key);
            }
        }
    }

    fn close_lookup(&mut self, now: Instant, key: Key<Lookup>, out: &mut Vec<DhtAction>) {
        let Some(lookup) = self.lookups.remove(key) else {
            return;
        };
        self.awake.remove(&key);
        match lookup.purpose {
            Purpose::Neighbours => self.around_over(now, lookup.family),
            Purpose::Peers(id) => {
                let Some(search) = self.searches.get_mut(id) else {
                    return;
                };
                search.running[lookup.family.index()] = None;
                search.outcome.queries += lookup.queries;
                search.outcome.answers += lookup.answers;
                search.outcome.stored += lookup.stored;
                if !search.is_running() {
                    self.end_round(now, id, out);
                }
            }
        }
    }

    fn end_round(&mut self, now: Instant, id: SearchId, out: &mut Vec<DhtAction>) {
        let Some(search) = self.searches.get_mut(id) else {
            return;
        };
        let mut outcome = search.outcome;
        if search.standing {
            let wait = if outcome.answers > 0 {
                search.fails = 0;
                let tenth = REPEATED_EVERY.as_nanos() as u64 / 10;
                REPEATED_EVERY - Duration::from_nanos(tenth)
                    + Duration::from_nanos(self.rng.below(2 * tenth))
            } else {
                search.fails += 1;
                (RETRIED_AFTER * (1 << (search.fails - 1).min(5))).min(REPEATED_EVERY)
            };
            outcome.next = Some(wait);
            search.due = now + wait;
            self.due.insert((search.due, id));
        } else {
            self.searches.remove(id);
        }
        out.push(DhtAction::Done {
            search: id,
            outcome,
        });
    }

    /// Peers that an answer names, less those that were named before or cannot be meant well.
    pub(super) fn hand_on_peers(
        &mut self,
        key: Key<Lookup>,
        from: SocketAddr,
        response: &Response<'_>,
        out: &mut Vec<DhtAction>,
    ) {
        let Some(lookup) = self.lookups.get_mut(key) else {
            return;
        };
        let Purpose::Peers(id) = lookup.purpose else {
            return;
        };
        let Some(search) = self.searches.get_mut(id) else {
            return;
        };
        let mut peers = Vec::new();
        for peer in response.values.peers().take(PEERS_PER_ANSWER_MAX) {
            let odd = peer.port() < PRIVILEGED_PORTS && !is_local(peer.ip());
            if odd || !may_name(from, peer) || Family::of(peer) != lookup.family {
                continue;
            }
            if search.outcome.peers >= PEERS_MAX {
                break;
            }
            let ports = lookup.peers.entry(peer.ip()).or_default();
            let most = if is_local(peer.ip()) {
                PEERS_MAX as usize
            } else {
                PORTS_PER_IP_MAX
            };
            if ports.len() < most && !ports.contains(&peer.port()) {
                ports.push(peer.port());
                search.outcome.peers += 1;
                peers.push(peer);
            }
        }
        if !peers.is_empty() {
            out.push(DhtAction::Peers { search: id, peers });
        }
    }
}
