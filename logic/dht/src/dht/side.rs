//! What belongs to one family: an id, a table, a store, and where to start from (BEP 32, BEP 45).

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use torr_base::{Instant, Key, Rng};

use super::PROBES_MAX;
use crate::addr::{Contact, Family};
use crate::external::Votes;
use crate::id::NodeId;
use crate::lookup::Lookup;
use crate::saved::{NODES_MAX, SavedSide};
use crate::store::Store;
use crate::table::Table;
use crate::token::Secrets;

/// Addresses to start from, of names and of torrents.
const STARTS_MAX: usize = 64;
/// An id is changed no more often than this, whatever others say about our address.
const ID_KEPT_FOR: Duration = Duration::from_secs(10 * 60);

#[derive(Debug)]
pub(crate) struct Side {
    pub(crate) family: Family,
    pub(crate) active: bool,
    pub(crate) id: NodeId,
    id_changed: Option<Instant>,
    pub(crate) external: Option<IpAddr>,
    pub(crate) votes: Votes,
    pub(crate) table: Table,
    pub(crate) store: Store,
    /// Nodes of the last run that were not asked yet.
    pub(crate) saved: Vec<Contact>,
    /// Where to start from when nothing else is known; the flag says that it is no node for the table.
    pub(crate) starts: Vec<(SocketAddr, bool)>,
    pub(crate) probes: VecDeque<SocketAddr>,
    /// The lookup of the nodes around us.
    pub(crate) around: Option<Key<Lookup>>,
    pub(crate) around_due: Instant,
    /// Such lookups in a row after which the table was empty.
    pub(crate) around_fails: u32,
    pub(crate) tick: Instant,
}

impl Side {
    pub(crate) fn new(
        family: Family,
        active: bool,
        saved: SavedSide,
        secrets: &mut Secrets,
        now: Instant,
    ) -> Self {
        let id = saved.id.unwrap_or(NodeId(secrets.draw()));
        Self {
            family,
            active,
            id,
            id_changed: None,
            external: saved.external,
            votes: Votes::default(),
            table: Table::new(id, now),
            store: Store::default(),
            saved: if active { saved.nodes } else { Vec::new() },
            starts: Vec::new(),
            probes: VecDeque::new(),
            around: None,
            around_due: now,
            around_fails: 0,
            tick: now,
        }
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        let around = self.around.is_none().then_some(self.around_due);
        self.active
            .then(|| around.map_or(self.tick, |around| around.min(self.tick)))
    }

    pub(crate) fn runs(&self, lookup: Key<Lookup>) -> bool {
        self.around == Some(lookup)
    }

    /// An address that a person or a torrent names.
    pub(crate) fn add_probe(&mut self, now: Instant, addr: SocketAddr) {
        if self.probes.len() < PROBES_MAX && !self.probes.contains(&addr) {
            self.probes.push_back(addr);
            self.tick = self.tick.min(now);
        }
        if self.table.len() == 0 {
            self.add_start(now, addr, false);
        }
    }

    pub(crate) fn add_start(&mut self, now: Instant, addr: SocketAddr, router: bool) {
        if self.starts.len() < STARTS_MAX && !self.starts.iter().any(|(it, _)| *it == addr) {
            self.starts.push((addr, router));
        }
        if self.table.len() == 0 {
            self.around_due = self.around_due.min(now);
        }
    }

    /// Whether that address serves everybody and is to be left alone once other nodes are known.
    pub(crate) fn is_router(&self, addr: SocketAddr) -> bool {
        self.starts
            .iter()
            .any(|(it, router)| *router && *it == addr)
    }

    pub(crate) fn start_again(&mut self, now: Instant) {
        self.around_fails = 0;
        self.around_due = now;
        self.tick = now;
    }

    /// Nodes to begin a lookup with, closest first: from the table, and only where that knows few, from
    /// the last run and then from the addresses to start from.
    pub(crate) fn starts_for(&self, target: NodeId, n: usize) -> Vec<(Option<NodeId>, SocketAddr)> {
        let known = self.table.closest(target, n);
        let mut out: Vec<_> = known.iter().map(|it| (Some(it.id), it.addr)).collect();
        if out.len() < crate::table::K {
            let mut saved = self.saved.clone();
            saved.sort_by_key(|it| it.id.distance(target));
            out.extend(saved.iter().map(|it| (Some(it.id), it.addr)));
            out.truncate(n);
        }
        if out.len() < crate::table::K {
            out.extend(self.starts.iter().map(|(addr, _)| (None, *addr)));
            out.truncate(n);
        }
        out
    }

    /// Several networks agree on where they see us: true if the id changed with that.
    pub(crate) fn set_external(&mut self, now: Instant, ip: IpAddr, secrets: &mut Secrets) -> bool {
        self.external = Some(ip);
        let lately = self.id_changed.is_some_and(|at| now < at + ID_KEPT_FOR);
        if self.id.fits(ip) || lately {
            return false;
        }
        self.id = NodeId::for_ip(ip, secrets.draw());
        self.id_changed = Some(now);
        self.table.move_to(self.id, now);
        self.around_due = now;
        true
    }

    pub(crate) fn save(&self, rng: &mut Rng) -> SavedSide {
        let mut nodes = self.table.worth_saving(NODES_MAX, rng);
        // What the last run left and this one never came to ask.
        let rest = self.saved.iter().filter(|it| !nodes.contains(it));
        let rest: Vec<_> = rest.take(NODES_MAX - nodes.len()).copied().collect();
        nodes.extend(rest);
        SavedSide {
            id: Some(self.id),
            external: self.external,
            nodes,
        }
    }

    pub(crate) fn check_invariants(&self) {
        self.table.check_invariants();
        self.store.check_invariants();
        assert!(self.starts.len() <= STARTS_MAX && self.probes.len() <= PROBES_MAX);
        assert!(self.saved.len() <= NODES_MAX);
        assert!(
            self.saved
                .iter()
                .all(|it| Family::of(it.addr) == self.family)
        );
    }
}
