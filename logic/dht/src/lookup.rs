//! One lookup: from the nodes we know towards those closest to a key, on several disjoint paths.
//!
//! Each path asks on its own and hears only the answers of nodes that it asked itself; no node is asked
//! by two of them. Whoever poisons one path has nothing to say on the others (S/Kademlia). A path is at
//! its end when the [`K`] closest nodes it has heard of have answered; nodes that failed or are late do
//! not count. Nodes whose id does not fit their address (BEP 42) can take only half of the places, and get
//! only a dozen questions of a path, as long as there are others.
//!
//! What answers make us send is bounded: an address is asked once, a /24 or /64 at most
//! [`PER_PREFIX_MAX`] times, and a lookup asks at most [`QUERIES_MAX`] times.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use crate::addr::{Contact, Family, Prefix, is_local, may_name};
use crate::id::{Distance, NodeId};
use crate::table::K;

/// Disjoint paths.
pub(crate) const PATHS: usize = 3;
/// Questions of one path under way while answers bring it closer; one more for each that does not.
const WIDTH_MIN: usize = 2;
const WIDTH_MAX: usize = 4;
/// Places of a path's goal for nodes whose id does not fit their address.
const UNFIT_MAX: usize = K / 2;
/// Questions of one path to such nodes while it knows others: each may name a closer accomplice.
const UNFIT_ASKED_MAX: u32 = 12;
/// Questions of one lookup to one /24 or /64.
pub(crate) const PER_PREFIX_MAX: u8 = 2;
/// Questions of one lookup; an ordinary one needs about 30.
pub(crate) const QUERIES_MAX: u32 = 200;
/// Nodes that a lookup keeps in mind.
const NODES_MAX: usize = 200;
/// Nodes taken from one answer; the BEP's number is 8.
const NODES_PER_ANSWER_MAX: usize = 16;
/// Nodes that an announce goes to beyond the K closest: the ends of each path.
const PATH_ENDS: usize = 2;

/// What is looked for, and for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The nodes around our own id.
    Neighbours,
    Peers(crate::SearchId),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Fresh,
    /// It is asked for another purpose just now: its turn comes when that is over.
    Held,
    Asked {
        path: u8,
        late: bool,
    },
    Answered {
        path: u8,
        token: Option<Box<[u8]>>,
    },
    Failed,
}

#[derive(Clone, Debug)]
struct Step {
    distance: Distance,
    /// `None` until it answers, where only the address was known.
    id: Option<NodeId>,
    addr: SocketAddr,
    /// One bit for each path that has heard of it.
    paths: u8,
    fits: bool,
    state: State,
}

/// Where an announce goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Goal {
    pub(crate) contact: Contact,
    pub(crate) token: Box<[u8]>,
}

#[derive(Clone, Debug)]
pub(crate) struct Lookup {
    pub(crate) family: Family,
    pub(crate) target: NodeId,
    pub(crate) purpose: Purpose,
    /// Closest first.
    steps: Vec<Step>,
    widths: [usize; PATHS],
    /// Questions of each path to nodes whose id does not fit.
    unfit_asked: [u32; PATHS],
    asked: BTreeSet<SocketAddr>,
    asked_ips: BTreeSet<IpAddr>,
    asked_prefixes: BTreeMap<Prefix, u8>,
    pub(crate) queries: u32,
    pub(crate) answers: u32,
    /// Peers handed on, by address, with how many ports of it.
    pub(crate) peers: BTreeMap<IpAddr, Vec<u16>>,
    /// Announces that are under way; `None` before the lookup is over.
    pub(crate) announcing: Option<usize>,
    /// Announces that wait until nothing else is asked there.
    pub(crate) to_announce: Vec<Goal>,
    pub(crate) stored: u32,
}

/// Whether a node may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leave {
    Granted,
    /// Not now: [`Lookup::release`] tells when.
    Later,
    Never,
}

/// What a path can do next.
struct Walk {
    /// Index of a step.
    ask: Option<usize>,
    waits: bool,
}

impl Lookup {
    /// `starts` closest first; they are dealt out to the paths.
    pub(crate) fn new(
        family: Family,
        target: NodeId,
        purpose: Purpose,
        starts: &[(Option<NodeId>, SocketAddr)],
    ) -> Self {
        let mut lookup = Self {
            family,
            target,
            purpose,
            steps: Vec::new(),
            widths: [WIDTH_MIN; PATHS],
            unfit_asked: [0; PATHS],
            asked: BTreeSet::new(),
            asked_ips: BTreeSet::new(),
            asked_prefixes: BTreeMap::new(),
            queries: 0,
            answers: 0,
            peers: BTreeMap::new(),
            announcing: None,
            to_announce: Vec::new(),
            stored: 0,
        };
        for (i, (id, addr)) in starts.iter().enumerate() {
            lookup.add(i % PATHS, *id, *addr);
        }
        lookup
    }

    /// The next node to ask, which counts as asked from now on.
    pub(crate) fn next(
        &mut self,
        mut leave: impl FnMut(SocketAddr) -> Leave,
    ) -> Option<(Option<NodeId>, SocketAddr)> {
        if self.announcing.is_some() {
            return None;
        }
        for path in 0..PATHS {
            while let Some(at) = self.walk(path).ask {
                let addr = self.steps[at].addr;
                let leave = match self.queries >= QUERIES_MAX || !self.may_ask(addr) {
                    true => Leave::Never,
                    false => leave(addr),
                };
                match leave {
                    Leave::Granted => {}
                    Leave::Later => {
                        self.steps[at].state = State::Held;
                        continue;
                    }
                    Leave::Never => {
                        self.steps[at].state = State::Failed;
                        continue;
                    }
                }
                self.asked.insert(addr);
                if let Some(prefix) = Prefix::of(addr) {
                    self.asked_ips.insert(addr.ip());
                    *self.asked_prefixes.entry(prefix).or_default() += 1;
                }
                self.queries += 1;
                if let Some(n) = self.unfit_asked.get_mut(path) {
                    *n += u32::from(!self.steps[at].fits);
                }
                let (path, late) = (path as u8, false);
                self.steps[at].state = State::Asked { path, late };
                return Some((self.steps[at].id, addr));
            }
        }
        None
    }

    /// Whether all paths are at their ends.
    pub(crate) fn is_over(&self) -> bool {
        (0..PATHS).all(|path| {
            let walk = self.walk(path);
            walk.ask.is_none() && !walk.waits
        })
    }

    /// What was asked at that address for another purpose is over, or late. True if the lookup has waited
    /// for it.
    pub(crate) fn release(&mut self, addr: SocketAddr, alive: bool) -> bool {
        let mut waited = self.to_announce.iter().any(|it| it.contact.addr == addr);
        for step in self.steps.iter_mut().filter(|it| it.addr == addr) {
            if step.state == State::Held {
                waited = true;
                step.state = if alive { State::Fresh } else { State::Failed };
            }
        }
        waited
    }

    /// No answer so far; others take its place, but one that still comes is welcome.
    pub(crate) fn late(&mut self, addr: SocketAddr) {
        if let Some(at) = self.position(addr)
            && let State::Asked { late, .. } = &mut self.steps[at].state
        {
            *late = true;
        }
    }

    /// No answer will come.
    pub(crate) fn failed(&mut self, addr: SocketAddr) {
        if let Some(at) = self.position(addr) {
            self.steps[at].state = State::Failed;
        }
    }

    /// It answered under that id, which may not be the one that it was said to have.
    pub(crate) fn answered(
        &mut self,
        contact: Contact,
        token: Option<&[u8]>,
        nodes: impl Iterator<Item = Contact>,
    ) {
        let Some(at) = self.position(contact.addr) else {
            return;
        };
        let State::Asked { path, .. } = self.steps[at].state else {
            return;
        };
        self.answers += 1;
        let mut step = self.steps.remove(at);
        step.distance = contact.id.distance(self.target);
        step.fits = contact.id.fits(contact.addr.ip());
        step.id = Some(contact.id);
        let token = token.map(Box::from);
        step.state = State::Answered { path, token };
        // What others said of it under its right id.
        let twin = |it: &Step| it.id == Some(contact.id) && it.addr == contact.addr;
        if let Some(twin) = self.steps.iter().position(twin) {
            step.paths |= self.steps.remove(twin).paths;
        }
        self.insert(step);
        let path = usize::from(path);
        let mut closer = false;
        for node in nodes.take(NODES_PER_ANSWER_MAX) {
            if may_name(contact.addr, node.addr) && Family::of(node.addr) == self.family {
                closer |= self.add(path, Some(node.id), node.addr);
            }
        }
        if let Some(width) = self.widths.get_mut(path) {
            *width = match closer {
                true => WIDTH_MIN,
                false => (*width + 1).min(WIDTH_MAX),
            };
        }
    }

    /// Who is to store an announce: the closest of all that gave a token, and the ends of each path.
    pub(crate) fn goals(&self) -> Vec<Goal> {
        let mut goals = Vec::new();
        let mut add = |goal: Goal| {
            if !goals.contains(&goal) {
                goals.push(goal);
            }
        };
        let all = || {
            self.steps
                .iter()
                .filter_map(|step| Some((step, step.goal()?)))
        };
        // Those that fit may take all places, the others half of them unless places are left.
        let mut unfit = 0;
        let (first, rest): (Vec<_>, Vec<_>) = all().partition(|(step, _)| {
            unfit += usize::from(!step.fits);
            step.fits || unfit <= UNFIT_MAX
        });
        let chosen = first.into_iter().chain(rest).take(K);
        chosen.for_each(|(_, goal)| add(goal));
        for path in 0..PATHS {
            let own = all().filter(|(step, _)| {
                matches!(step.state, State::Answered { path: by, .. } if usize::from(by) == path)
            });
            own.take(PATH_ENDS).for_each(|(_, goal)| add(goal));
        }
        goals
    }

    /// Takes in a node that `path` has heard of; true if it is among the closest there.
    fn add(&mut self, path: usize, id: Option<NodeId>, addr: SocketAddr) -> bool {
        let bit = 1 << path;
        let known = |it: &&mut Step| it.addr == addr && it.id == id;
        if let Some(step) = self.steps.iter_mut().find(known) {
            step.paths |= bit;
            return false;
        }
        let distance = id.map_or(Distance::UNKNOWN, |id| id.distance(self.target));
        // One node of a network on each path: neighbours are easily made up.
        let prefix = Prefix::of(addr);
        let twin = |it: &Step| it.paths & bit != 0 && Prefix::of(it.addr) == prefix;
        if prefix.is_some() && self.steps.iter().any(twin) {
            return false;
        }
        if self.steps.len() >= NODES_MAX {
            let idle = |it: &Step| matches!(it.state, State::Fresh | State::Failed);
            match self.steps.iter().rposition(idle) {
                Some(last) if self.steps[last].distance > distance => self.steps.remove(last),
                Some(_) | None => return false,
            };
        }
        self.insert(Step {
            distance,
            id,
            addr,
            paths: bit,
            fits: id.is_none_or(|id| id.fits(addr.ip())),
            state: State::Fresh,
        });
        let on_path = self.steps.iter().filter(|it| it.paths & bit != 0);
        let live = on_path.filter(|it| it.state != State::Failed);
        live.take(K).any(|it| it.addr == addr)
    }

    fn insert(&mut self, step: Step) {
        let key = |it: &Step| (it.distance, it.addr);
        let at = self.steps.partition_point(|it| key(it) < key(&step));
        self.steps.insert(at, step);
    }

    /// Where the question to that address stands.
    fn position(&self, addr: SocketAddr) -> Option<usize> {
        let asked = |it: &Step| it.addr == addr && matches!(it.state, State::Asked { .. });
        self.steps.iter().position(asked)
    }

    fn may_ask(&self, addr: SocketAddr) -> bool {
        let of_prefix = Prefix::of(addr).and_then(|it| self.asked_prefixes.get(&it));
        !self.asked.contains(&addr)
            && (is_local(addr.ip()) || !self.asked_ips.contains(&addr.ip()))
            && of_prefix.is_none_or(|n| *n < PER_PREFIX_MAX)
    }

    fn walk(&self, path: usize) -> Walk {
        let bit = 1 << path;
        let width = self.widths.get(path).copied().unwrap_or(WIDTH_MIN);
        let asked = self.unfit_asked.get(path).copied().unwrap_or(0);
        let enough = |step: &Step| asked >= UNFIT_ASKED_MAX && step.state == State::Fresh;
        let (mut places, mut unfit, mut under_way) = (0, 0, 0);
        let mut walk = Walk {
            ask: None,
            waits: false,
        };
        let mut take = |at: usize, step: &Step| match &step.state {
            State::Answered { .. } => {}
            State::Asked { path: by, .. } => {
                walk.waits = true;
                under_way += usize::from(usize::from(*by) == path);
            }
            State::Fresh => walk.ask = walk.ask.or(Some(at)),
            State::Held => walk.waits = true,
            State::Failed => {}
        };
        let mut left_out = Vec::new();
        let on_path = self.steps.iter().enumerate();
        for (at, step) in on_path.filter(|(_, it)| it.paths & bit != 0) {
            if places == K {
                break;
            }
            if matches!(step.state, State::Failed | State::Asked { late: true, .. }) {
                continue;
            }
            if !step.fits {
                if unfit == UNFIT_MAX || enough(step) {
                    left_out.push((at, step));
                    continue;
                }
                unfit += 1;
            }
            places += 1;
            take(at, step);
        }
        for (at, step) in left_out.into_iter().take(K - places) {
            take(at, step);
        }
        if under_way >= width {
            walk.ask = None;
        }
        walk
    }

    /// Addresses whose turn comes when they are not asked for another purpose any more.
    pub(crate) fn held(&self) -> impl Iterator<Item = SocketAddr> {
        let held = self.steps.iter().filter(|it| it.state == State::Held);
        held.map(|it| it.addr)
    }

    pub(crate) fn check_invariants(&self) {
        assert!(self.steps.len() <= NODES_MAX + 1);
        assert!(self.queries <= QUERIES_MAX && self.asked.len() <= self.queries as usize);
        assert!(self.asked_prefixes.values().all(|n| *n <= PER_PREFIX_MAX));
        assert!(self.steps.is_sorted_by_key(|it| (it.distance, it.addr)));
    }
}

impl Step {
    fn goal(&self) -> Option<Goal> {
        match &self.state {
            State::Answered { token, .. } => Some(Goal {
                contact: Contact {
                    id: self.id?,
                    addr: self.addr,
                },
                token: token.clone()?,
            }),
            State::Fresh | State::Held | State::Asked { .. } | State::Failed => None,
        }
    }
}

#[cfg(test)]
mod tests;
