//! The DHT's part of a node: which torrents search in it, and what comes of that.
//!
//! - A private torrent never searches, and nothing that is said among its peers gets here (BEP 27). Whether a
//!   torrent is private is not known before its metadata; a search that was begun by then ends.
//! - A torrent has one standing search, from its start to its stop. While nobody is there to download from,
//!   it looks again sooner than the DHT would by itself, each time after twice as long.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use torr_base::{Instant, Rng};
use torr_dht::{Announce, Dht, DhtAction, DhtConfig, DhtStats, Outcome, SearchId};
use torr_swarm::Phase;

use crate::conn::prefixes;
use crate::node::{Node, Torrent};
use crate::types::{Action, LookUp, News, TorrentKey};

/// A guest that has been here for so long, and was reached from outside, answers like any other node.
const GUEST_FOR: Duration = Duration::from_secs(15 * 60);
/// First wait before a torrent without peers looks again.
const AGAIN: Duration = Duration::from_secs(60);
/// The same after the network came back, when it had a moment to ask those that it knows.
const SOON: Duration = Duration::from_secs(3);
/// As often the wait is doubled; then the DHT's own pace is no slower.
const AGAIN_DOUBLINGS_MAX: u32 = 4;
/// Nodes taken from one torrent.
const NODES_MAX: usize = 16;

/// What the DHT is started with.
#[derive(Clone, Debug)]
pub struct DhtInit {
    pub config: DhtConfig,
    /// From the operating system's randomness, for this run alone.
    pub secret: [u8; 32],
    /// What [`Node::save_dht`] gave in an earlier run.
    pub saved: Option<Vec<u8>>,
    /// Where its datagrams come from, told to peers (BEP 5); 0 where the families differ in that.
    pub port: u16,
    /// Here for a short while: asks and announces, but answers others (BEP 43) only once it has been here
    /// for a quarter of an hour and a peer has reached it from outside.
    pub guest: bool,
}

#[derive(Debug)]
pub(crate) struct DhtPart {
    dht: Dht,
    /// Whose each search is.
    searches: BTreeMap<SearchId, TorrentKey>,
    port: u16,
    /// Since when, while it is one.
    guest: Option<Instant>,
    /// A peer from outside our own network connected to us.
    reached: bool,
    /// Empty between two inputs; kept for its memory.
    actions: Vec<DhtAction>,
}

/// A torrent's search.
#[derive(Debug)]
pub(crate) struct Search {
    id: SearchId,
    /// When to see whether there are peers.
    again: Option<Instant>,
    tries: u32,
    pub(crate) stats: SearchStats,
}

/// What the DHT does for a torrent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SearchStats {
    /// Nodes that the DHT knows, in both families.
    pub nodes: u32,
    /// Rounds of the search that are over.
    pub rounds: u32,
    /// Peers that the last of them brought, and nodes that answered in it.
    pub peers: u32,
    pub answers: u32,
}

impl DhtPart {
    pub(crate) fn new(init: DhtInit, rng: Rng, now: Instant) -> Self {
        let config = DhtConfig {
            read_only: init.config.read_only || init.guest,
            ..init.config
        };
        let saved = init.saved.as_deref();
        Self {
            dht: Dht::new(config, rng, init.secret, saved, now),
            searches: BTreeMap::new(),
            port: init.port,
            guest: init.guest.then_some(now),
            reached: false,
            actions: Vec::new(),
        }
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.dht.next_timeout()
    }

    /// Told to peers, if not 0.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Somebody connected to us.
    pub(crate) fn accepted(&mut self, from: SocketAddr) {
        self.reached |= prefixes(from.ip()).is_some();
    }
}

impl Search {
    /// Whether there are peers is looked at soon.
    pub(crate) fn try_soon(&mut self, now: Instant) {
        (self.again, self.tries) = (Some(now + SOON), 0);
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.again
    }
}

impl<B> Node<B> {
    /// What the next run starts from: some 20 KB; `None` without a DHT.
    #[must_use]
    pub fn save_dht(&self) -> Option<Vec<u8>> {
        self.dht.as_ref().map(|part| part.dht.save())
    }

    /// `None` without a DHT.
    #[must_use]
    pub fn dht_stats(&self, now: Instant) -> Option<DhtStats> {
        self.dht.as_ref().map(|part| part.dht.stats(now))
    }

    /// A datagram that begins as those of the DHT do.
    pub(crate) fn dht_datagram(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) {
        self.with_dht(now, |dht, out| {
            dht.handle_datagram(now, from, bytes, out);
        });
    }

    /// Does what is due.
    pub(crate) fn tick_dht(&mut self, now: Instant) {
        let Some(part) = &mut self.dht else {
            return;
        };
        let stayed = part
            .guest
            .is_some_and(|since| now.since(since) >= GUEST_FOR);
        if stayed && part.reached {
            part.guest = None;
            part.dht.set_read_only(false);
        }
        if part.dht.next_timeout().is_some_and(|due| due <= now) {
            self.with_dht(now, |dht, out| dht.handle_timeout(now, out));
        }
    }

    /// Has a torrent look for peers, and be found, by the DHT. Nothing happens for a private one.
    pub(crate) fn begin_search(&mut self, now: Instant, key: TorrentKey, nodes: &[(String, u16)]) {
        let announce = self.dht_announce(key);
        let (Some(part), Some(torrent)) = (&mut self.dht, self.torrents.get_mut(key)) else {
            return;
        };
        if torrent.swarm.is_private() || torrent.stopping || torrent.search.is_some() {
            return;
        }
        for (host, port) in nodes.iter().take(NODES_MAX) {
            part.dht.add_host(now, host, *port);
        }
        let id = part.dht.search(now, torrent.info_hash, announce, true);
        if let Some(id) = id {
            part.searches.insert(id, key);
            torrent.search = Some(Search {
                id,
                again: None,
                tries: 0,
                stats: SearchStats::default(),
            });
        }
    }

    pub(crate) fn end_search(&mut self, key: TorrentKey) {
        let search = self.torrents.get_mut(key).and_then(|it| it.search.take());
        if let (Some(part), Some(search)) = (&mut self.dht, search) {
            part.searches.remove(&search.id);
            part.dht.cancel(search.id);
        }
    }

    /// What is announced changed: all is there, or no more.
    pub(crate) fn update_search(&mut self, key: TorrentKey) {
        let announce = self.dht_announce(key);
        let search = self.torrents.get(key).and_then(|it| it.search.as_ref());
        if let (Some(part), Some(search)) = (&mut self.dht, search) {
            part.dht.set_announce(search.id, announce);
        }
    }

    fn dht_announce(&self, key: TorrentKey) -> Option<Announce> {
        let torrent = self.torrents.get(key)?;
        (self.config.listen_port > 0).then(|| Announce {
            port: self.public_port(),
            implied: false,
            seed: torrent.swarm.have().is_full(),
        })
    }

    /// A torrent that is without peers looks again.
    pub(crate) fn search_on(&mut self, now: Instant, key: TorrentKey) {
        let (Some(part), Some(torrent)) = (&mut self.dht, self.torrents.get_mut(key)) else {
            return;
        };
        let Some(search) = torrent.search.as_mut() else {
            return;
        };
        if search.again.is_none_or(|again| now < again) {
            return;
        }
        search.again = None;
        if torrent.swarm.is_forlorn() {
            search.tries += 1;
            part.dht.search_again(now, search.id);
        } else {
            search.tries = 0;
        }
    }

    /// A peer says that there is a node at that address (BEP 5).
    pub(crate) fn peer_has_node(&mut self, now: Instant, key: TorrentKey, addr: SocketAddr) {
        let private = self
            .torrents
            .get(key)
            .is_none_or(|it| it.swarm.is_private());
        if !private && let Some(part) = &mut self.dht {
            part.dht.add_node(now, addr);
        }
    }

    pub(crate) fn with_dht(
        &mut self,
        now: Instant,
        input: impl FnOnce(&mut Dht, &mut Vec<DhtAction>),
    ) {
        let Some(part) = &mut self.dht else {
            return;
        };
        let mut actions = std::mem::take(&mut part.actions);
        input(&mut part.dht, &mut actions);
        for action in actions.drain(..) {
            self.do_for_dht(now, action);
        }
        if let Some(part) = &mut self.dht {
            part.actions = actions;
        }
    }

    fn do_for_dht(&mut self, now: Instant, action: DhtAction) {
        match action {
            DhtAction::Send { to, bytes } => {
                self.actions.push_back(Action::Datagram { to, bytes });
            }
            DhtAction::Resolve {
                request,
                host,
                port,
            } => self.actions.push_back(Action::Resolve {
                request: LookUp::Dht(request),
                host,
                port,
            }),
            DhtAction::Peers { search, peers } => {
                if let Some((_, torrent)) = self.searching(search)
                    && torrent.swarm.phase() == Phase::Active
                {
                    for addr in peers {
                        torrent.swarm.add_candidate(now, addr);
                    }
                }
            }
            DhtAction::Done { search, outcome } => self.round_over(now, search, outcome),
            // Peers tell us the same, and trackers see it.
            DhtAction::ExternalIp { .. } => {}
        }
    }

    fn searching(&mut self, id: SearchId) -> Option<(TorrentKey, &mut Torrent<B>)> {
        let key = *self.dht.as_ref()?.searches.get(&id)?;
        Some((key, self.torrents.get_mut(key)?))
    }

    fn round_over(&mut self, now: Instant, id: SearchId, outcome: Outcome) {
        let stats = self.dht_stats(now);
        let Some((key, torrent)) = self.searching(id) else {
            return;
        };
        let Some(search) = torrent.search.as_mut() else {
            return;
        };
        search.stats = SearchStats {
            nodes: stats.map_or(0, |it| it.nodes.iter().sum::<usize>() as u32),
            rounds: search.stats.rounds + 1,
            peers: outcome.peers,
            answers: outcome.answers,
        };
        let wait = AGAIN * (1 << search.tries);
        search.again = (search.tries < AGAIN_DOUBLINGS_MAX).then(|| now + wait);
        let news = News::Dht(search.stats);
        self.actions.push_back(Action::Tell { torrent: key, news });
    }
}
