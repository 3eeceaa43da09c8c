//! A peer that speaks the protocol and decides nothing: it does what its [`Manners`] say, good or bad.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use torr_base::{Bitfield, InfoHash, Instant, PeerId, PieceIndex, RawBlock, Rng};
use torr_wire::{
    ExtendedHandshake, Extension, ExtensionIds, Handshake, Message, Reserved, piece_header,
};

use crate::conn::EndId;
use crate::ear::{Ear, Heard};
use crate::fidelity::{Chunk, Payload, Taint, spoil};
use crate::manners::{Claims, Hello, Manners, Serves, Unchokes};
use crate::torrent::Torrent;

/// How often a puppet does what is not an answer.
const TICK: Duration = Duration::from_millis(100);
/// Requests that a leeching puppet has open.
const LEECH_DEPTH: usize = 8;

/// What a puppet wants done.
#[derive(Debug)]
pub(crate) enum Deed {
    Send {
        end: EndId,
        chunk: Chunk,
    },
    /// More of the same, unless too much of it waits already.
    Flood {
        end: EndId,
        chunk: Chunk,
    },
    Close {
        end: EndId,
    },
}

/// What a puppet may know and use.
#[derive(Debug)]
pub(crate) struct Stage<'a> {
    pub(crate) now: Instant,
    pub(crate) torrent: &'a Torrent,
    /// Whether payload has bytes.
    pub(crate) bytes: bool,
    pub(crate) deeds: &'a mut Vec<Deed>,
}

/// One connection of a puppet.
#[derive(Debug)]
pub(crate) struct Line {
    ear: Ear,
    opened: Instant,
    pub(crate) heard_hello: bool,
    said_hello: usize,
    hello: Vec<u8>,
    greeted: bool,
    fast: bool,
    extended: bool,
    /// What it calls its extensions.
    pub(crate) extensions: ExtensionIds,
    /// We choke it.
    choking: bool,
    flapped: Instant,
    choked_by_it: bool,
    interested_in_us: bool,
    told_interest: bool,
    have: Bitfield,
    asked: VecDeque<RawBlock>,
    outstanding: BTreeSet<RawBlock>,
    ticks: u64,
}

/// A peer on strings.
#[derive(Debug)]
pub(crate) struct Puppet {
    pub(crate) manners: Manners,
    pub(crate) id: PeerId,
    pub(crate) have: Bitfield,
    got: BTreeSet<RawBlock>,
    pub(crate) lines: BTreeMap<EndId, Line>,
    /// Who its forged blocks come from.
    taint: Taint,
    /// It has sent a wrong block at least once, to whoever is at these ends.
    pub(crate) lied: bool,
    /// Everything it heard, where a scenario wants to know.
    pub(crate) notes: Option<Vec<(Instant, Note)>>,
    next_tick: Instant,
    rng: Rng,
}

/// What a puppet of a scenario remembers of what it heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// It was connected.
    Opened,
    /// The connection ended.
    Closed,
    /// In the words of the scenario language.
    Said(String),
}

impl Puppet {
    pub(crate) fn new(manners: Manners, have: Bitfield, taint: Taint, mut rng: Rng) -> Self {
        let mut id = *b"-PU0100-............";
        for byte in id.iter_mut().skip(8) {
            *byte = b'a' + rng.below(26) as u8;
        }
        Self {
            manners,
            id: PeerId(id),
            have,
            got: BTreeSet::new(),
            lines: BTreeMap::new(),
            taint,
            lied: false,
            notes: None,
            next_tick: Instant::ZERO,
            rng,
        }
    }

    fn note(&mut self, now: Instant, note: impl FnOnce() -> Note) {
        if let Some(notes) = &mut self.notes {
            notes.push((now, note()));
        }
    }

    pub(crate) fn opened(&mut self, stage: &mut Stage<'_>, end: EndId, dialled: bool) {
        let pieces = stage.torrent.geometry.piece_count();
        self.note(stage.now, || Note::Opened);
        let line = Line {
            ear: Ear::new(pieces, stage.bytes),
            opened: stage.now,
            heard_hello: false,
            said_hello: 0,
            hello: self.hello(stage.torrent),
            greeted: false,
            fast: false,
            extended: false,
            extensions: ExtensionIds::default(),
            choking: true,
            flapped: stage.now,
            choked_by_it: true,
            interested_in_us: false,
            told_interest: false,
            have: Bitfield::new(pieces),
            asked: VecDeque::new(),
            outstanding: BTreeSet::new(),
            ticks: 0,
        };
        self.lines.insert(end, line);
        if dialled {
            self.say_hello(stage, end);
        }
    }

    fn hello(&self, torrent: &Torrent) -> Vec<u8> {
        let mut reserved = Reserved::default();
        if self.manners.fast {
            reserved = reserved.union(Reserved::FAST);
        }
        if self.manners.extended {
            reserved = reserved.union(Reserved::EXTENDED);
        }
        let hello = Handshake {
            reserved,
            info_hash: match self.manners.hello {
                Hello::OtherTorrent => InfoHash([7; 20]),
                Hello::Normal | Hello::Drip | Hello::Never | Hello::Nonsense => torrent.info_hash,
            },
            peer_id: self.manners.id.unwrap_or(self.id),
        };
        match self.manners.hello {
            Hello::Nonsense => b"GET / HTTP/1.1\r\nHost: tracker\r\n\r\n".repeat(3),
            Hello::Never => Vec::new(),
            Hello::Normal | Hello::Drip | Hello::OtherTorrent => hello.encode().to_vec(),
        }
    }

    /// All of the handshake, or its next byte.
    fn say_hello(&mut self, stage: &mut Stage<'_>, end: EndId) {
        let Some(line) = self.lines.get_mut(&end) else {
            return;
        };
        let rest = line.hello.get(line.said_hello..).unwrap_or_default();
        let n = match self.manners.hello {
            Hello::Drip => rest.len().min(1),
            Hello::Normal | Hello::Never | Hello::Nonsense | Hello::OtherTorrent => rest.len(),
        };
        let bytes = rest.get(..n).unwrap_or_default().to_vec();
        line.said_hello += n;
        send(stage, end, bytes);
    }

    /// What follows the handshakes.
    fn greet(&mut self, stage: &mut Stage<'_>, end: EndId) {
        let metadata_size = self.metadata_size(stage.torrent);
        let Some(line) = self.lines.get_mut(&end) else {
            return;
        };
        if line.greeted || line.said_hello < line.hello.len() || line.hello.is_empty() {
            return;
        }
        line.greeted = true;
        let mut bytes = Vec::new();
        if line.extended {
            let speaks = [
                (Extension::Metadata, self.manners.metadata.is_some()),
                (Extension::Pex, self.manners.pex),
                (Extension::DontHave, self.manners.dont_have),
            ];
            let spoken = speaks.into_iter().filter(|(_, speaks)| *speaks);
            let extensions: Vec<_> = spoken.map(|(extension, _)| extension).collect();
            let extensions = extensions.as_slice();
            let hello = ExtendedHandshake {
                extensions: ExtensionIds::own(extensions),
                port: Some(6881),
                reqq: self.manners.reqq,
                metadata_size,
                ..ExtendedHandshake::default()
            };
            let payload = hello.encode();
            Message::Extended {
                id: 0,
                payload: &payload,
            }
            .write_to(&mut bytes);
        }
        let pieces = stage.torrent.geometry.piece_count();
        let full = Bitfield::full(pieces);
        match self.manners.claims {
            Claims::Nothing => {}
            Claims::Truth | Claims::All => {
                let all = self.manners.claims == Claims::All;
                let field = if all { &full } else { &self.have };
                match (line.fast, field.is_full(), field.is_empty()) {
                    (true, true, _) => Message::HaveAll.write_to(&mut bytes),
                    (true, _, true) => Message::HaveNone.write_to(&mut bytes),
                    _ => Message::Bitfield(&field.to_bytes()).write_to(&mut bytes),
                }
            }
            Claims::WrongLength => {
                let mut field = full.to_bytes();
                field.push(0);
                Message::Bitfield(&field).write_to(&mut bytes);
            }
            Claims::SpareBits => {
                let field = vec![0xff; pieces.div_ceil(8) as usize];
                Message::Bitfield(&field).write_to(&mut bytes);
            }
        }
        if line.fast {
            for piece in &self.manners.allows_fast {
                Message::AllowedFast(*piece).write_to(&mut bytes);
            }
        }
        send(stage, end, bytes);
    }

    pub(crate) fn closed(&mut self, now: Instant, end: EndId) {
        if self.lines.remove(&end).is_some() {
            self.note(now, || Note::Closed);
        }
    }

    pub(crate) fn heard(&mut self, stage: &mut Stage<'_>, end: EndId, chunk: &Chunk) {
        let Some(line) = self.lines.get_mut(&end) else {
            return;
        };
        let mut ear = std::mem::replace(&mut line.ear, Ear::new(0, false));
        ear.hear(chunk, |heard| self.hear(stage, end, heard));
        if let Some(line) = self.lines.get_mut(&end) {
            line.ear = ear;
        }
        self.ask(stage, end);
    }

    fn hear(&mut self, stage: &mut Stage<'_>, end: EndId, heard: Heard<'_>) {
        let note = match &heard {
            Heard::Hello(_) => None,
            Heard::Message(message) => Some(crate::words::say(message)),
            Heard::Block(raw) => Some(crate::words::block("piece", *raw)),
            Heard::Nonsense => Some("nonsense".to_owned()),
        };
        if let Some(note) = note {
            self.note(stage.now, || Note::Said(note));
        }
        let manners_extended = self.manners.extended;
        let manners_fast = self.manners.fast;
        let Some(line) = self.lines.get_mut(&end) else {
            return;
        };
        match heard {
            Heard::Hello(hello) => {
                line.heard_hello = true;
                line.fast = manners_fast && hello.reserved.fast();
                line.extended = manners_extended && hello.reserved.extended();
                if line.said_hello == 0 {
                    self.say_hello(stage, end);
                }
                self.greet(stage, end);
            }
            Heard::Message(message) => self.message(stage, end, message),
            Heard::Block(raw) => {
                line.outstanding.remove(&raw);
                self.got_block(stage, raw);
            }
            Heard::Nonsense => {}
        }
    }

    fn message(&mut self, stage: &mut Stage<'_>, end: EndId, message: Message<'_>) {
        let Some(line) = self.lines.get_mut(&end) else {
            return;
        };
        let pieces = stage.torrent.geometry.piece_count();
        match message {
            Message::Choke => {
                line.choked_by_it = true;
                if !line.fast {
                    line.outstanding.clear();
                }
            }
            Message::Unchoke => line.choked_by_it = false,
            Message::Interested => {
                line.interested_in_us = true;
                if self.manners.unchokes == Unchokes::AtOnce {
                    self.set_choking(stage, end, false);
                }
            }
            Message::NotInterested => line.interested_in_us = false,
            Message::Have(piece) if piece < pieces => {
                line.have.set(PieceIndex::new(piece));
            }
            Message::HaveAll => line.have.set_all(),
            Message::Bitfield(bytes) => {
                if let Ok(field) = Bitfield::from_bytes(bytes, pieces) {
                    line.have = field;
                }
            }
            Message::Request(raw) => self.requested(stage, end, raw),
            Message::Cancel(raw) if !self.manners.ignores_cancels => {
                let before = line.asked.len();
                line.asked.retain(|other| *other != raw);
                if line.fast && line.asked.len() < before {
                    say(stage, end, Message::Reject(raw));
                }
            }
            Message::Reject(raw) => {
                line.outstanding.remove(&raw);
            }
            Message::Extended { id: 0, payload } => {
                if let Ok(hello) = ExtendedHandshake::parse(payload) {
                    line.extensions.apply(&hello.extensions);
                }
            }
            Message::Extended { id, payload }
                if Extension::from_own_id(id) == Some(Extension::Metadata) =>
            {
                self.metadata_message(stage, end, payload);
            }
            Message::Cancel(_)
            | Message::Have(_)
            | Message::KeepAlive
            | Message::Port(_)
            | Message::Suggest(_)
            | Message::HaveNone
            | Message::AllowedFast(_)
            | Message::Extended { .. }
            | Message::Unknown { .. } => {}
        }
    }

    fn requested(&mut self, stage: &mut Stage<'_>, end: EndId, raw: RawBlock) {
        let allowed = self.manners.allows_fast.contains(&raw.piece);
        let Some(line) = self.lines.get_mut(&end) else {
            return;
        };
        let refused = self.manners.serves == Serves::Rejects || (line.choking && !allowed);
        if refused {
            if line.fast {
                say(stage, end, Message::Reject(raw));
            }
        } else if self.manners.serves != Serves::Never {
            line.asked.push_back(raw);
        }
    }

    pub(crate) fn set_choking(&mut self, stage: &mut Stage<'_>, end: EndId, choking: bool) {
        let Some(line) = self.lines.get_mut(&end) else {
            return;
        };
        if line.choking == choking || !line.greeted {
            return;
        }
        line.choking = choking;
        line.flapped = stage.now;
        if !choking {
            say(stage, end, Message::Unchoke);
            return;
        }
        say(stage, end, Message::Choke);
        let dropped = std::mem::take(&mut line.asked);
        if line.fast {
            for raw in dropped {
                say(stage, end, Message::Reject(raw));
            }
        }
    }

    /// The next block for the line, when there is room to send it.
    pub(crate) fn next_block(&mut self, stage: &Stage<'_>, end: EndId) -> Option<Chunk> {
        let line = self.lines.get_mut(&end)?;
        let raw = line.asked.pop_front()?;
        let forged = match self.manners.serves {
            Serves::Wrong { one_in } => self.rng.one_in(one_in),
            Serves::WrongAt { piece, offset } => (raw.piece, raw.offset) == (piece, offset),
            Serves::Right | Serves::Never | Serves::Rejects => false,
        };
        self.lied |= forged;
        Some(self.block(stage, raw, forged))
    }

    fn block(&self, stage: &Stage<'_>, raw: RawBlock, forged: bool) -> Chunk {
        let taint = if forged { self.taint } else { 0 };
        let mut bytes = piece_header(raw).to_vec();
        if !stage.bytes {
            return Chunk {
                bytes,
                payload: Some(Payload { raw, taint }),
                ..Chunk::default()
            };
        }
        let mut payload = vec![0; raw.len as usize];
        stage.torrent.fill(raw.piece, raw.offset, &mut payload);
        spoil(&mut payload, taint);
        bytes.append(&mut payload);
        Chunk::control(bytes)
    }

    /// What a script tells it to do; false where the words mean nothing.
    pub(crate) fn does(&mut self, stage: &mut Stage<'_>, end: EndId, words: &str) -> bool {
        let geometry = stage.torrent.geometry;
        match words.split_once(' ').unwrap_or((words, "")) {
            ("close", _) => stage.deeds.push(Deed::Close { end }),
            ("choke", _) => self.set_choking(stage, end, true),
            ("unchoke", _) => self.set_choking(stage, end, false),
            ("piece", block) => {
                let Some(raw) = crate::words::parse_block(block, geometry) else {
                    return false;
                };
                self.push_block(stage, end, raw);
            }
            ("serve", what) => {
                self.manners.serves = match what {
                    "right" => Serves::Right,
                    "never" => Serves::Never,
                    "rejects" => Serves::Rejects,
                    _ => return false,
                };
            }
            ("bytes", hex) => {
                let pairs = hex.as_bytes().chunks(2).filter_map(|pair| {
                    let text = std::str::from_utf8(pair).ok()?;
                    u8::from_str_radix(text, 16).ok()
                });
                send(stage, end, pairs.collect());
            }
            (_, _) => {
                return crate::words::parse(words, geometry, |message| say(stage, end, message));
            }
        }
        true
    }

    /// A block out of the blue, as the scenario has it.
    pub(crate) fn push_block(&mut self, stage: &mut Stage<'_>, end: EndId, raw: RawBlock) {
        let chunk = self.block(stage, raw, false);
        stage.deeds.push(Deed::Send { end, chunk });
    }

    fn got_block(&mut self, stage: &mut Stage<'_>, raw: RawBlock) {
        self.got.insert(raw);
        let Some(piece) = stage.torrent.geometry.piece(raw.piece) else {
            return;
        };
        if stage
            .torrent
            .blocks(piece)
            .all(|raw| self.got.contains(&raw))
        {
            self.have.set(piece);
        }
    }

    /// Asks for what it lacks, where it leeches.
    fn ask(&mut self, stage: &mut Stage<'_>, end: EndId) {
        let Some(line) = self.lines.get_mut(&end) else {
            return;
        };
        if !self.manners.leeches || !line.greeted {
            return;
        }
        if !line.told_interest && line.have.any_and_not(&self.have) {
            line.told_interest = true;
            say(stage, end, Message::Interested);
        }
        if line.choked_by_it || line.outstanding.len() >= LEECH_DEPTH {
            return;
        }
        let missing = line.have.iter_and_not(&self.have);
        let blocks = missing.flat_map(|piece| stage.torrent.blocks(piece));
        let fresh = blocks.filter(|raw| !self.got.contains(raw) && !line.outstanding.contains(raw));
        let room = LEECH_DEPTH - line.outstanding.len();
        let next: Vec<_> = fresh.take(room).collect();
        for raw in next {
            line.outstanding.insert(raw);
            say(stage, end, Message::Request(raw));
        }
    }

    // ---- time

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        (!self.lines.is_empty()).then_some(self.next_tick)
    }

    pub(crate) fn handle_timeout(&mut self, stage: &mut Stage<'_>) {
        if stage.now < self.next_tick {
            return;
        }
        self.next_tick = stage.now + TICK;
        let ends: Vec<_> = self.lines.keys().copied().collect();
        for end in ends {
            self.tick(stage, end);
        }
    }

    fn tick(&mut self, stage: &mut Stage<'_>, end: EndId) {
        let now = stage.now;
        let Some(line) = self.lines.get_mut(&end) else {
            return;
        };
        line.ticks += 1;
        let (age, ticks) = (now.since(line.opened), line.ticks);
        if self.manners.hello == Hello::Drip && ticks % 5 == 0 && line.said_hello > 0 {
            self.say_hello(stage, end);
            self.greet(stage, end);
        }
        let Some(line) = self.lines.get(&end) else {
            return;
        };
        if !line.greeted {
            return;
        }
        if self.manners.leaves_after.is_some_and(|after| age >= after) {
            stage.deeds.push(Deed::Close { end });
            return;
        }
        let since = now.since(line.flapped);
        match self.manners.unchokes {
            Unchokes::After(wait) if age >= wait && line.ticks > 0 => {
                self.set_choking(stage, end, false);
            }
            Unchokes::Flap { period } if since >= period => {
                let choking = !line.choking;
                self.set_choking(stage, end, choking);
            }
            Unchokes::Never
            | Unchokes::AtOnce
            | Unchokes::Scripted
            | Unchokes::After(_)
            | Unchokes::Flap { .. } => {}
        }
        self.floods(stage, end, ticks);
        self.ask(stage, end);
    }

    fn floods(&mut self, stage: &mut Stage<'_>, end: EndId, ticks: u64) {
        let pieces = u64::from(stage.torrent.geometry.piece_count());
        let any = |rng: &mut Rng| PieceIndex::new(rng.below(pieces) as u32);
        let mut flood = Vec::new();
        for _ in 0..self.manners.haves_per_tick {
            let piece = any(&mut self.rng).get();
            Message::Have(piece).write_to(&mut flood);
        }
        for _ in 0..self.manners.requests_per_tick {
            let piece = any(&mut self.rng);
            let raw = stage.torrent.geometry.block_at(piece, 0).raw();
            Message::Request(raw).write_to(&mut flood);
        }
        if !flood.is_empty() {
            let chunk = Chunk::control(flood);
            stage.deeds.push(Deed::Flood { end, chunk });
        }
        let due = |every: Option<u64>| every.is_some_and(|every| ticks.is_multiple_of(every));
        if due(self.manners.pushes_every) {
            let piece = any(&mut self.rng);
            let raw = stage.torrent.geometry.block_at(piece, 0).raw();
            self.push_block(stage, end, raw);
        }
        if due(self.manners.oversize_every) {
            let mut bytes = (1_u32 << 30).to_be_bytes().to_vec();
            bytes.extend_from_slice(&[20, 1, 2, 3]);
            send(stage, end, bytes);
        }
        if ticks.is_multiple_of(900) {
            say(stage, end, Message::KeepAlive);
        }
    }
}

pub(crate) fn say(stage: &mut Stage<'_>, end: EndId, message: Message<'_>) {
    let mut bytes = Vec::new();
    message.write_to(&mut bytes);
    send(stage, end, bytes);
}

pub(crate) fn send(stage: &mut Stage<'_>, end: EndId, bytes: Vec<u8>) {
    if !bytes.is_empty() {
        let chunk = Chunk::control(bytes);
        stage.deeds.push(Deed::Send { end, chunk });
    }
}
