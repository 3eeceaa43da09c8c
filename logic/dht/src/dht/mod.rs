//! One node of the DHT: what it knows, whom it asks, what it answers.

mod answers;
mod search;
mod serve;
mod side;
mod upkeep;

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};

use torr_base::{InfoHash, Instant, Key, Rng, Slab};

use crate::addr::{Family, canonical, is_possible};
use crate::id::NodeId;
use crate::limit::{ReplyLimit, Silence};
use crate::lookup::{Goal, Lookup};
use crate::message::{Body, Fault, Message, Method, Query, Want};
use crate::queries::{Queries, What};
use crate::saved::Saved;
use crate::token::Secrets;
use crate::types::{
    Announce, DhtAction, DhtConfig, DhtStats, HOSTS_MAX, ResolveId, SearchId, SearchMark,
};
pub use serve::REPLY_LEN_MAX;

use search::Search;
use side::Side;

/// Searches that are kept; further ones are refused.
pub const SEARCHES_MAX: usize = 20_000;
/// Addresses that wait to be asked whether there is a node; further ones are dropped.
pub(crate) const PROBES_MAX: usize = 64;
/// Names of nodes that wait to be looked up; further ones are dropped.
const NAMED_MAX: usize = 64;

/// A node of the DHT in both families.
///
/// It performs no I/O. All `now`s come from one clock that never goes back. Commands only change state;
/// after each call the driver looks at [`Self::next_timeout`], which may be the present moment, and calls
/// [`Self::handle_timeout`] then.
///
/// - Commands: `search`, `set_announce`, `cancel`, `add_node`, `add_host`, `set_read_only`, `network_changed`.
/// - Inputs: `handle_datagram`, `handle_resolved`, `handle_timeout`.
/// - Getters: `next_timeout`, `stats`, `save`, `id`.
///
/// Searches are never for private torrents (BEP 27): whoever starts them sees to that, and adds no nodes
/// of a private torrent either.
#[derive(Debug)]
pub struct Dht {
    pub(crate) config: DhtConfig,
    /// For choices that need no secrecy.
    pub(crate) rng: Rng,
    /// For ids, transactions and tokens.
    pub(crate) secrets: Secrets,
    pub(crate) sides: [Side; 2],
    pub(crate) queries: Queries,
    pub(crate) lookups: Slab<Lookup>,
    /// Lookups that may have something to ask.
    pub(crate) awake: BTreeSet<Key<Lookup>>,
    pub(crate) searches: Slab<Search, SearchMark>,
    /// When searches begin their next round.
    pub(crate) due: BTreeSet<(Instant, SearchId)>,
    pub(crate) replies: ReplyLimit,
    pub(crate) silence: Silence,
    /// When anything we asked was last answered: before that, silence may be ours.
    pub(crate) heard: Instant,
    /// Names that are being looked up, and whether each is one to start from.
    pub(crate) resolving: Vec<(ResolveId, bool)>,
    /// Names that torrents gave, to be looked up.
    pub(crate) named: VecDeque<(String, u16)>,
    pub(crate) next_resolve: u64,
    /// When names may be looked up again, and how often that was of no use.
    pub(crate) names_due: Instant,
    pub(crate) names_tries: u32,
    pub(crate) sent: u64,
    pub(crate) sent_bytes: u64,
    pub(crate) refused: u64,
    pub(crate) unasked: u64,
}

impl Dht {
    /// `secret` is for ids, transactions and tokens: from the operating system, new for each run. `saved`
    /// is what [`Self::save`] gave in an earlier run; anything else counts as nothing.
    #[must_use]
    pub fn new(
        config: DhtConfig,
        rng: Rng,
        secret: [u8; 32],
        saved: Option<&[u8]>,
        now: Instant,
    ) -> Self {
        let mut secrets = Secrets::new(secret);
        let mut saved = saved.and_then(Saved::decode).unwrap_or_default();
        if config.new_id {
            saved.sides.iter_mut().for_each(|side| side.id = None);
        }
        let [four, six] = saved.sides;
        let [a, b, c, d, e, f, g, h, ..] = secrets.draw();
        let key = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        let sides = [
            Side::new(Family::V4, config.ipv4, four, &mut secrets, now),
            Side::new(Family::V6, config.ipv6, six, &mut secrets, now),
        ];
        Self {
            config,
            rng,
            secrets,
            sides,
            queries: Queries::default(),
            lookups: Slab::new(),
            awake: BTreeSet::new(),
            searches: Slab::new(),
            due: BTreeSet::new(),
            replies: ReplyLimit::new(key, now),
            silence: Silence::default(),
            heard: now,
            resolving: Vec::new(),
            named: VecDeque::new(),
            next_resolve: 0,
            names_due: now,
            names_tries: 0,
            sent: 0,
            sent_bytes: 0,
            refused: 0,
            unasked: 0,
        }
    }

    // ---- commands

    /// Looks for peers of a torrent that is not private (BEP 27), and announces us there if told so.
    /// With `standing` again every quarter of an hour until [`Self::cancel`], else once. `None` where
    /// there are [`SEARCHES_MAX`] already.
    pub fn search(
        &mut self,
        now: Instant,
        info_hash: InfoHash,
        announce: Option<Announce>,
        standing: bool,
    ) -> Option<SearchId> {
        if self.searches.len() >= SEARCHES_MAX {
            return None;
        }
        let search = Search::new(now, info_hash, announce, standing);
        let id = self.searches.insert(search);
        self.due.insert((now, id));
        Some(id)
    }

    /// What is announced from the next round on.
    pub fn set_announce(&mut self, search: SearchId, announce: Option<Announce>) {
        if let Some(search) = self.searches.get_mut(search) {
            search.announce = announce;
        }
    }

    /// Begins the next round of a standing search now, if none is under way.
    pub fn search_again(&mut self, now: Instant, id: SearchId) {
        if let Some(search) = self.searches.get_mut(id)
            && !search.is_running()
            && search.due > now
        {
            self.due.remove(&(search.due, id));
            search.due = now;
            self.due.insert((now, id));
        }
    }

    /// Nothing more is heard of the search. What was announced is forgotten by the nodes by themselves.
    pub fn cancel(&mut self, id: SearchId) {
        let Some(search) = self.searches.remove(id) else {
            return;
        };
        self.due.remove(&(search.due, id));
        for lookup in search.running.into_iter().flatten() {
            self.lookups.remove(lookup);
            self.awake.remove(&lookup);
        }
    }

    /// There may be a node: from a torrent's `nodes`, or a peer's `port` message (BEP 5).
    pub fn add_node(&mut self, now: Instant, addr: SocketAddr) {
        let addr = canonical(addr);
        let side = self.side(Family::of(addr));
        if side.active && is_possible(addr) {
            side.add_probe(now, addr);
        }
    }

    /// As [`Self::add_node`], by name or address.
    pub fn add_host(&mut self, now: Instant, host: &str, port: u16) {
        match host.parse::<IpAddr>() {
            Ok(ip) => self.add_node(now, SocketAddr::new(ip, port)),
            Err(_) if self.named.len() < NAMED_MAX => {
                self.named.push_back((host.to_owned(), port));
            }
            Err(_) => {}
        }
    }

    /// Whether queries of others are left unanswered from now on (BEP 43).
    pub fn set_read_only(&mut self, read_only: bool) {
        self.config.read_only = read_only;
    }

    /// The network came back or changed: nodes that did not answer may have been without fault.
    pub fn network_changed(&mut self, now: Instant) {
        self.silence.forget();
        (self.names_due, self.names_tries) = (now, 0);
        for side in &mut self.sides {
            side.start_again(now);
        }
    }

    // ---- inputs

    /// A datagram that begins with `d`. False if it is no message, or answers nothing that was asked.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        from: SocketAddr,
        bytes: &[u8],
        out: &mut Vec<DhtAction>,
    ) -> bool {
        let from = canonical(from);
        if !self.side(Family::of(from)).active || !is_possible(from) {
            return false;
        }
        let known = match Message::decode(bytes) {
            Ok(message) => match message.body {
                Body::Query(query) => {
                    self.serve(now, from, &message, &query, out);
                    true
                }
                Body::Response(_) | Body::Error { .. } => {
                    self.take_answer(now, from, &message, out)
                }
            },
            Err(Fault::Query {
                transaction,
                code,
                text,
            }) => {
                self.refuse(now, from, transaction, code, text, out);
                true
            }
            Err(Fault::Rubbish) => false,
        };
        self.unasked += u64::from(!known);
        self.pump(now, out);
        known
    }

    /// The answer to [`DhtAction::Resolve`], with the port that was asked for.
    pub fn handle_resolved(
        &mut self,
        now: Instant,
        request: ResolveId,
        result: Result<Vec<SocketAddr>, String>,
        out: &mut Vec<DhtAction>,
    ) {
        let Some(at) = self.resolving.iter().position(|(it, _)| *it == request) else {
            return;
        };
        let (_, start) = self.resolving.remove(at);
        let routers = self.config.bootstrap == crate::Bootstrap::WellKnown;
        for addr in result.unwrap_or_default() {
            let addr = canonical(addr);
            let side = self.side(Family::of(addr));
            if side.active && is_possible(addr) {
                match start {
                    true => side.add_start(now, addr, routers),
                    false => side.add_probe(now, addr),
                }
            }
        }
        self.handle_timeout(now, out);
    }

    /// Lets everything happen that is due.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut Vec<DhtAction>) {
        self.expire(now, out);
        for family in [Family::V4, Family::V6] {
            self.keep_up(now, family, out);
        }
        self.resolve_named(out);
        self.begin_searches(now, out);
        self.pump(now, out);
    }

    // ---- getters

    /// When [`Self::handle_timeout`] is to be called next; it is always `Some` while a family is active.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        let sides = self.sides.iter().filter_map(Side::next_timeout);
        let search = self.due.first().map(|(due, _)| *due);
        let search = search.filter(|_| self.has_room_for_lookups());
        let named = !self.named.is_empty() && self.resolving.len() < HOSTS_MAX;
        let named = named.then_some(Instant::ZERO);
        let queries = self.queries.next_timeout();
        sides.chain(search).chain(queries).chain(named).min()
    }

    /// Our id in that family. It changes when we learn where others see us (BEP 42).
    #[must_use]
    pub fn id(&self, family: Family) -> NodeId {
        self.sides[family.index()].id
    }

    #[must_use]
    pub fn stats(&self, now: Instant) -> DhtStats {
        let [four, six] = &self.sides;
        let used = [four.store.used(), six.store.used()];
        DhtStats {
            nodes: [four.table.len(), six.table.len()],
            good: [four.table.good(now), six.table.good(now)],
            torrents: used.iter().map(|used| used.hashes).sum(),
            peers: used.iter().map(|used| used.peers).sum(),
            searches: self.searches.len(),
            lookups: self.lookups.len(),
            queries_under_way: self.queries.len(),
            patience: self.queries.patience(),
            sent: self.sent,
            sent_bytes: self.sent_bytes,
            refused: self.refused,
            unasked: self.unasked,
        }
    }

    /// What the next run starts from: at most 300 nodes of each family, some 20 KB.
    #[must_use]
    pub fn save(&self) -> Vec<u8> {
        let mut rng = self.rng.clone();
        let sides = [&self.sides[0], &self.sides[1]].map(|side| side.save(&mut rng));
        Saved { sides }.encode()
    }

    // ---- for all parts

    pub(crate) fn side(&mut self, family: Family) -> &mut Side {
        &mut self.sides[family.index()]
    }

    /// Sends a question; false where that address is being asked already or too many are.
    pub(crate) fn ask(
        &mut self,
        now: Instant,
        to: SocketAddr,
        id: Option<NodeId>,
        method: Method<'_>,
        what: What,
        out: &mut Vec<DhtAction>,
    ) -> bool {
        let [a, b, c, d, ..] = self.secrets.draw();
        let transaction = [a, b, c, d];
        let number = u32::from_be_bytes(transaction);
        if !self.queries.ask(now, number, to, id, what) {
            return false;
        }
        let family = Family::of(to);
        let side = self.side(family);
        if let Some(id) = id {
            side.table.asked(now, crate::Contact { id, addr: to });
        }
        let id = side.id;
        let wants_nodes = !matches!(method, Method::Ping | Method::AnnouncePeer { .. });
        let message = Message {
            transaction: &transaction,
            body: Body::Query(Query {
                id,
                want: if wants_nodes {
                    self.want(family)
                } else {
                    Want::default()
                },
                method,
            }),
            version: Some(&self.config.version),
            ip: None,
            read_only: self.config.read_only,
        };
        let bytes = message.encode();
        self.send(to, bytes, out);
        true
    }

    pub(crate) fn send(&mut self, to: SocketAddr, bytes: Vec<u8>, out: &mut Vec<DhtAction>) {
        self.sent += 1;
        self.sent_bytes += bytes.len() as u64;
        out.push(DhtAction::Send { to, bytes });
    }

    /// Both families' nodes are asked for while the other family knows few (BEP 32).
    fn want(&self, family: Family) -> Want {
        let other = &self.sides[family.other().index()];
        let both = other.active && other.table.len() < crate::table::K;
        Want { n4: both, n6: both }
    }

    /// Panics where a bound or an invariant of a part does not hold.
    pub fn check_invariants(&self) {
        for side in &self.sides {
            side.check_invariants();
        }
        self.queries.check_invariants();
        self.silence.check_invariants();
        assert!(self.lookups.len() <= search::LOOKUPS_MAX);
        for (key, lookup) in self.lookups.iter() {
            lookup.check_invariants();
            let owned = match lookup.purpose {
                crate::lookup::Purpose::Neighbours => self.sides[lookup.family.index()].runs(key),
                crate::lookup::Purpose::Peers(search) => {
                    self.searches.get(search).is_some_and(|it| it.runs(key))
                }
            };
            assert!(owned, "every lookup has an owner");
            let waits = |addr| self.queries.is_awaited(addr) || self.awake.contains(&key);
            assert!(lookup.held().all(waits), "somebody ends every wait");
            let announces = |it: &Goal| self.queries.is_asked(it.contact.addr);
            assert!(lookup.to_announce.iter().all(announces));
        }
        assert!(self.awake.iter().all(|key| self.lookups.contains(*key)));
        assert!(self.searches.len() <= SEARCHES_MAX);
        for (id, search) in self.searches.iter() {
            let planned = self.due.contains(&(search.due, id));
            assert_ne!(
                planned,
                search.is_running(),
                "a search is planned or under way"
            );
        }
    }
}
