//! Watches both directions of a node's connection, and tells when the node breaks a rule of the
//! protocol. It knows nothing of the node but what it says.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use torr_base::{Bitfield, InfoHash, Instant, PieceIndex, RawBlock};
use torr_wire::{ExtendedHandshake, Message, allowed_fast_set};

use crate::ear::{Ear, Heard};
use crate::fidelity::Chunk;

/// What a peer is taken to queue that does not say it (BEP 10 names no default; the field's is 250).
const REQQ_DEFAULT: usize = 250;

/// After so long without a block a node takes back what it asked for, and may ask again.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many pieces a node lets a choked peer have.
const ALLOWED_FAST: usize = 10;

/// One connection of a node, as seen from outside.
#[derive(Debug)]
pub(crate) struct Tap {
    out: Ear,
    inn: Ear,
    state: State,
}

/// Requests that wait for an answer; the same one may have come twice.
#[derive(Debug, Default)]
struct Owed(BTreeMap<RawBlock, u32>);

impl Owed {
    fn add(&mut self, raw: RawBlock) {
        *self.0.entry(raw).or_insert(0) += 1;
    }

    fn remove(&mut self, raw: &RawBlock) -> bool {
        let Some(count) = self.0.get_mut(raw) else {
            return false;
        };
        *count -= 1;
        if *count == 0 {
            self.0.remove(raw);
        }
        true
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

#[derive(Debug)]
struct State {
    fast: bool,
    fast_out: bool,
    /// The other side chokes the node, as far as the node knows.
    choked: bool,
    /// Requests may still stand in a send buffer that was full when the choke came.
    grace: bool,
    allowed_in: BTreeSet<u32>,
    /// Requests of the node without an answer.
    outstanding: BTreeSet<RawBlock>,
    reqq: usize,
    /// The node chokes the other side.
    choking: bool,
    allowed_out: BTreeSet<u32>,
    /// Requests of the other side that the node read, without an answer.
    owed: Owed,
    first_out: bool,
    now: Instant,
    /// When a block last came, or the first of several requests went out.
    moved: Instant,
    broken: Vec<String>,
    /// What was said since the last call, if somebody wants to read it.
    words: Vec<String>,
    verbose: bool,
}

impl Tap {
    /// For a connection with that address.
    pub(crate) fn new(pieces: u32, bytes: bool, remote: IpAddr, torrent: InfoHash) -> Self {
        let set = allowed_fast_set(remote, &torrent, pieces, ALLOWED_FAST);
        Self {
            out: Ear::new(pieces, bytes),
            inn: Ear::new(pieces, bytes),
            state: State {
                fast: false,
                fast_out: false,
                choked: true,
                grace: false,
                allowed_in: BTreeSet::new(),
                outstanding: BTreeSet::new(),
                reqq: REQQ_DEFAULT,
                choking: true,
                allowed_out: set.into_iter().map(PieceIndex::get).collect(),
                owed: Owed::default(),
                first_out: true,
                now: Instant::ZERO,
                moved: Instant::ZERO,
                broken: Vec::new(),
                words: Vec::new(),
                verbose: false,
            },
        }
    }

    /// The node said this. `have`: what it may say it has.
    pub(crate) fn said(&mut self, now: Instant, chunk: &Chunk, have: &Bitfield) {
        self.state.now = now;
        let state = &mut self.state;
        self.out.hear(chunk, |heard| {
            state.word(&heard);
            state.said(heard, have);
        });
    }

    /// The node has read this. `stalled`: something it said earlier waits to be written.
    pub(crate) fn heard(&mut self, now: Instant, chunk: &Chunk, stalled: bool) {
        self.state.now = now;
        let state = &mut self.state;
        self.inn.hear(chunk, |heard| {
            state.word(&heard);
            state.heard(heard, stalled);
        });
    }

    /// Everything that the node had said is written.
    pub(crate) fn drained(&mut self) {
        self.state.grace = false;
    }

    /// Puts down in words what is said from now on.
    pub(crate) fn write_down(&mut self) {
        self.state.verbose = true;
    }

    /// What was said since the last call.
    pub(crate) fn take_words(&mut self) -> Vec<String> {
        std::mem::take(&mut self.state.words)
    }

    /// The rules that were broken since the last call.
    pub(crate) fn broken(&mut self) -> Vec<String> {
        std::mem::take(&mut self.state.broken)
    }
}

impl State {
    fn breach(&mut self, what: String) {
        self.broken.push(what);
    }

    fn word(&mut self, heard: &Heard<'_>) {
        if self.verbose {
            self.words.push(match heard {
                Heard::Hello(hello) => format!("hello {:?}", hello.peer_id),
                Heard::Message(message) => crate::words::say(message),
                Heard::Block(raw) => crate::words::block("piece", *raw),
                Heard::Nonsense => "nonsense".to_owned(),
            });
        }
    }

    fn said(&mut self, heard: Heard<'_>, have: &Bitfield) {
        let first = std::mem::replace(&mut self.first_out, false);
        match heard {
            Heard::Hello(hello) => {
                self.fast_out = hello.reserved.fast();
                self.first_out = true;
            }
            Heard::Nonsense => self.breach("spoke nonsense".to_owned()),
            Heard::Block(raw) => self.said_block(raw),
            Heard::Message(message) => self.said_message(message, first, have),
        }
    }

    fn said_block(&mut self, raw: RawBlock) {
        if !self.owed.remove(&raw) {
            self.breach(format!("sent {raw:?}, which nobody asked for"));
        }
        if self.choking && !self.allowed_out.contains(&raw.piece) {
            self.breach(format!("sent {raw:?} to a peer that it chokes"));
        }
    }

    fn said_message(&mut self, message: Message<'_>, first: bool, have: &Bitfield) {
        match message {
            Message::Request(raw) => self.said_request(raw),
            Message::Cancel(raw) => {
                self.outstanding.remove(&raw);
            }
            Message::Have(piece) => {
                if !have.get(PieceIndex::new(piece)) {
                    self.breach(format!("said that it has {piece}"));
                }
            }
            Message::HaveAll if !have.is_full() => self.breach("said that it has all".to_owned()),
            Message::Bitfield(bytes) => match Bitfield::from_bytes(bytes, have.len()) {
                Ok(field) if !field.any_and_not(have) => {}
                Ok(_) | Err(_) => self.breach("sent a false bitfield".to_owned()),
            },
            Message::Choke => {
                self.choking = true;
                if !self.fast {
                    self.owed.clear();
                }
            }
            Message::Unchoke => self.choking = false,
            Message::AllowedFast(piece) => {
                if !self.allowed_out.contains(&piece) {
                    self.breach(format!("allows {piece}, which is not of its set"));
                }
            }
            Message::Reject(raw) => {
                if !self.owed.remove(&raw) {
                    self.breach(format!("rejected {raw:?}, which nobody asked for"));
                }
            }
            Message::Extended { id: 0, .. } => self.first_out = first,
            Message::KeepAlive
            | Message::Interested
            | Message::NotInterested
            | Message::Port(_)
            | Message::Suggest(_)
            | Message::HaveAll
            | Message::HaveNone
            | Message::Extended { .. }
            | Message::Unknown { .. } => {}
        }
        let opening = matches!(
            message,
            Message::Bitfield(_) | Message::HaveAll | Message::HaveNone
        );
        if opening && !first {
            self.breach("sent a bitfield late".to_owned());
        }
    }

    fn said_request(&mut self, raw: RawBlock) {
        let allowed = self.fast && self.allowed_in.contains(&raw.piece);
        if self.choked && !allowed && !self.grace {
            self.breach(format!("asked for {raw:?} while choked"));
        }
        if self.outstanding.is_empty() {
            self.moved = self.now;
        }
        let waited = self.now.since(self.moved) >= PATIENCE;
        if !self.outstanding.insert(raw) && !waited {
            self.breach(format!("asked twice for {raw:?}"));
        }
        if self.outstanding.len() > self.reqq {
            self.breach(format!(
                "has {} requests open, more than {}",
                self.outstanding.len(),
                self.reqq
            ));
        }
    }

    fn heard(&mut self, heard: Heard<'_>, stalled: bool) {
        match heard {
            Heard::Hello(hello) => self.fast = hello.reserved.fast(),
            Heard::Nonsense => {}
            Heard::Block(raw) => {
                self.moved = self.now;
                self.outstanding.remove(&raw);
            }
            Heard::Message(message) => self.heard_message(message, stalled),
        }
    }

    fn heard_message(&mut self, message: Message<'_>, stalled: bool) {
        match message {
            Message::Choke => {
                self.choked = true;
                self.grace |= stalled;
                if !self.fast {
                    self.outstanding.clear();
                }
            }
            Message::Unchoke => self.choked = false,
            Message::AllowedFast(piece) => {
                self.allowed_in.insert(piece);
            }
            Message::Reject(raw) => {
                self.outstanding.remove(&raw);
            }
            Message::Request(raw) => {
                self.owed.add(raw);
            }
            Message::Cancel(raw) => {
                // Without BEP 6 a cancel may be answered by silence; with it, by block or reject.
                if !self.fast {
                    self.owed.remove(&raw);
                }
            }
            Message::Extended { id: 0, payload } => {
                let hello = ExtendedHandshake::parse(payload).ok();
                if let Some(reqq) = hello.and_then(|hello| hello.reqq) {
                    self.reqq = reqq as usize;
                }
            }
            Message::KeepAlive
            | Message::Interested
            | Message::NotInterested
            | Message::Have(_)
            | Message::Bitfield(_)
            | Message::Port(_)
            | Message::Suggest(_)
            | Message::HaveAll
            | Message::HaveNone
            | Message::Extended { .. }
            | Message::Unknown { .. } => {}
        }
    }
}
