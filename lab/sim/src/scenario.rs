//! Scenarios: one node, peers on strings, and what must pass between them, as a text.
//!
//! ```text
//! # what comes after a sign like this is for people
//! pieces 4 x 32KiB            the torrent; `total 100000` where the last piece is shorter; `metadata 99`
//!                             for metadata of that many bytes
//! node: have none             also: magnet; private; no pex; sequential; super-seed; wants 0-1; files 0-1 2-3; up 50000; down 50000; blocks 64
//! peer a: has 0-3; unchokes at once
//! peer b: dials at 1s; no fast; has 0
//! at 2s b: have 3; unchoke                 what b says, or does: `close`, `piece 0+0`
//! at 3s -> a: interested; request 0+0      what a heard by then, in this order, after what was
//!                                          expected before; `no request`: and not this
//! expect done by 5s                        also: `not done at`, `closed a: <why>`, `open a`,
//!                                          `banned a`, `banned none`, `pieces 0 1 2 3`, `wasted <= 0`,
//!                                          `files 0`, `opened a 2`, `metadata`, `no metadata`
//! ```
//!
//! Words for messages are those of `words.rs`; `request` alone is any request. Peers listen and are known to
//! the node from the start, unless they dial. Every scenario is run at both fidelities. [`run`] is the
//! only place that touches the simulator.

mod parse;

use std::time::Duration;

use torr_base::{Bitfield, Geometry, Instant};

use crate::{
    Bytes, Fidelity, HostId, LinkProfile, Manners, Messages, NodePlan, Note, Torrent, Trace,
    Weather, World, addr_of,
};

/// What a text means.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    geometry: Geometry,
    metadata_len: Option<usize>,
    node: NodePlan,
    files: Vec<std::ops::Range<u32>>,
    peers: Vec<Peer>,
    steps: Vec<Step>,
}

#[derive(Clone, Debug)]
struct Peer {
    name: String,
    manners: Manners,
    has: Bitfield,
    link: LinkProfile,
    dials: Option<Instant>,
    /// Has the id of the node, or of the peer before it.
    id: Option<SameId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SameId {
    Node,
    /// Of the peer with that number.
    Peer(usize),
}

#[derive(Clone, Debug)]
struct Step {
    line: usize,
    at: Instant,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Says { peer: usize, words: Vec<String> },
    Hears { peer: usize, words: Vec<String> },
    Expect(Expect),
}

#[derive(Clone, Debug)]
enum Expect {
    Done,
    NotDone,
    Closed {
        peer: usize,
        why: String,
    },
    Open(usize),
    Banned(Option<usize>),
    Pieces(Vec<u32>),
    Files(Vec<u32>),
    WastedAtMost(u64),
    Opened {
        peer: usize,
        times: usize,
    },
    /// Whether it has the metadata that it looked for.
    Metadata(bool),
}

/// Runs a scenario at both fidelities.
///
/// # Errors
/// The line that is wrong or does not hold.
pub fn run(text: &str, watch: bool) -> Result<(), String> {
    let scenario = parse::parse(text)?;
    Run::<Messages>::new(&scenario, watch)
        .go()
        .map_err(|why| format!("with messages: {why}"))?;
    Run::<Bytes>::new(&scenario, watch)
        .go()
        .map_err(|why| format!("with bytes: {why}"))
}

struct Run<'a, F: Fidelity> {
    scenario: &'a Scenario,
    world: World<F>,
    /// How far each peer's notes were looked at.
    seen: Vec<usize>,
}

const NODE: HostId = 0;

impl<'a, F: Fidelity> Run<'a, F> {
    fn new(scenario: &'a Scenario, watch: bool) -> Self {
        let geometry = scenario.geometry;
        let piece_len = u64::from(geometry.piece_len_max());
        let mut torrent = Torrent::new(1, geometry.total(), piece_len, F::BYTES);
        torrent.files.clone_from(&scenario.files);
        if let Some(len) = scenario.metadata_len {
            torrent = torrent.with_metadata(1, len);
        }
        let mut trace = Trace::new(watch.then_some(NODE));
        trace.set_live();
        let mut world: World<F> = World::new(1, torrent, Weather::default(), trace);
        let mut plan = scenario.node.clone();
        let peers = (1..).zip(&scenario.peers);
        let listening = peers.clone().filter(|(_, peer)| peer.dials.is_none());
        plan.peers = listening.map(|(host, _)| addr_of(host)).collect();
        world.add_node(plan);
        for (host, peer) in peers {
            let mut manners = peer.manners.clone();
            manners.id = match peer.id {
                None => None,
                Some(SameId::Node) => world.peer_id(NODE),
                Some(SameId::Peer(other)) => world.peer_id(other + 1),
            };
            let dials = peer.dials.map(|when| (when, addr_of(NODE)));
            let added = world.add_puppet(manners, peer.has.clone(), peer.link, dials.as_slice());
            debug_assert_eq!(added, host);
            world.take_notes(host);
        }
        Self {
            scenario,
            seen: vec![0; scenario.peers.len()],
            world,
        }
    }

    fn go(mut self) -> Result<(), String> {
        for step in &self.scenario.steps {
            self.world.run_until(step.at);
            self.step(step)
                .map_err(|why| format!("line {}, at {:?}: {why}", step.line, step.at))?;
        }
        self.world.stop_all();
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        match &step.what {
            What::Says { peer, words } => words.iter().try_for_each(|word| {
                if self.world.puppet_does(peer + 1, word) {
                    Ok(())
                } else {
                    Err(format!("`{word}` is nothing that a peer can say"))
                }
            }),
            What::Hears { peer, words } => {
                words.iter().try_for_each(|word| self.hears(*peer, word))
            }
            What::Expect(expect) => self.expect(expect),
        }
    }

    fn hears(&mut self, peer: usize, word: &str) -> Result<(), String> {
        let notes = self.world.notes(peer + 1);
        let new = notes.get(self.seen[peer]..).unwrap_or_default();
        let fits = |note: &Note, word: &str| {
            let text = text(note);
            text == word || text.split(' ').next() == Some(word)
        };
        let found = |word: &str| new.iter().position(|(_, note)| fits(note, word));
        if let Some(word) = word.strip_prefix("no ") {
            return match found(word) {
                None => Ok(()),
                Some(place) => Err(format!("heard {:?}", new.get(place))),
            };
        }
        match found(word) {
            Some(place) => {
                self.seen[peer] += place + 1;
                Ok(())
            }
            None => {
                let heard = new
                    .iter()
                    .map(|(at, note)| format!("{at:?} {}", text(note)));
                let heard: Vec<_> = heard.collect();
                let name = &self.scenario.peers[peer].name;
                Err(format!(
                    "{name} did not hear `{word}`, but {}",
                    heard.join("; ")
                ))
            }
        }
    }

    fn expect(&self, expect: &Expect) -> Result<(), String> {
        let node = self.world.node(NODE).ok_or("no node")?;
        let news = node.news();
        let host = |peer: usize| addr_of(peer + 1);
        let name = |peer: usize| &self.scenario.peers[peer].name;
        let close = |peer| news.closes.iter().rfind(|(_, addr, _)| *addr == host(peer));
        match expect {
            Expect::Done if news.complete.is_none() => Err(format!("only {:?} done", news.pieces)),
            Expect::NotDone if news.complete.is_some() => Err("done".to_owned()),
            Expect::Closed { peer, why } => match close(*peer) {
                None => Err(format!("{} was not closed", name(*peer))),
                Some((_, _, is)) if !is.to_string().contains(why.as_str()) => {
                    Err(format!("{} was closed since it {is}", name(*peer)))
                }
                Some(_) => Ok(()),
            },
            Expect::Open(peer) => match close(*peer) {
                None => Ok(()),
                Some((at, _, why)) => Err(format!("{} was closed at {at:?}: {why}", name(*peer))),
            },
            Expect::Banned(None) if !news.banned.is_empty() => Err(format!("{:?}", news.banned)),
            Expect::Banned(Some(peer)) => {
                let ip = host(*peer).ip();
                let banned = news.banned.iter().any(|addr| addr.ip() == ip);
                banned
                    .then_some(())
                    .ok_or_else(|| format!("only {:?}", news.banned))
            }
            Expect::Pieces(pieces) => {
                let done: Vec<_> = news.pieces.iter().map(|piece| piece.get()).collect();
                (done == *pieces)
                    .then_some(())
                    .ok_or_else(|| format!("{done:?}"))
            }
            Expect::Files(files) => {
                let mut done = news.files.clone();
                done.sort_unstable();
                (done == *files)
                    .then_some(())
                    .ok_or_else(|| format!("{done:?}"))
            }
            Expect::WastedAtMost(most) => {
                let wasted = node.stats().map_or(0, |stats| stats.swarm.wasted);
                (wasted <= *most)
                    .then_some(())
                    .ok_or_else(|| format!("{wasted} were wasted"))
            }
            Expect::Opened { peer, times } => {
                let notes = self.world.notes(peer + 1).iter();
                let opened = notes.filter(|(_, note)| *note == Note::Opened).count();
                (opened == *times)
                    .then_some(())
                    .ok_or_else(|| format!("opened {opened} times"))
            }
            Expect::Metadata(expected) if news.metadata.is_some() != *expected => {
                let stats = node.stats().and_then(|stats| stats.swarm.metadata);
                Err(format!("{:?}, {stats:?}", news.metadata))
            }
            Expect::Done | Expect::NotDone | Expect::Banned(None) | Expect::Metadata(_) => Ok(()),
        }
    }
}

fn text(note: &Note) -> &str {
    match note {
        Note::Opened => "opened",
        Note::Closed => "closed",
        Note::Said(words) => words,
    }
}

/// Pieces as in `0-3,7`, `all`, `none`.
fn pieces(text: &str, geometry: Geometry) -> Option<Bitfield> {
    let mut field = Bitfield::new(geometry.piece_count());
    match text {
        "none" => return Some(field),
        "all" => return Some(Bitfield::full(geometry.piece_count())),
        _ => {}
    }
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        for piece in first.parse::<u32>().ok()?..=last.parse().ok()? {
            field.set(geometry.piece(piece)?);
        }
    }
    Some(field)
}

/// `90ms`, `1.5s`, `10min`.
fn duration(text: &str) -> Option<Duration> {
    let unit = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(unit);
    let secs = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "min" => 60.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number.parse::<f64>().ok()? * secs).ok()
}
