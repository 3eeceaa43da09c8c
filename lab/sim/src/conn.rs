//! TCP connections: two pipes of bounded size, from an application's write to the other's read.

use std::collections::VecDeque;

use torr_base::{Instant, Key};
use torr_node::ConnKey;

use crate::fidelity::Chunk;
use crate::tap::Tap;

/// Marks the keys of connections in the world.
#[derive(Debug)]
pub struct WireMark;
/// A connection in the world.
pub type WireKey = Key<WireMark>;

/// One end of a connection: 0 dialled, 1 was dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EndId {
    /// Which connection.
    pub wire: WireKey,
    /// Which end.
    pub side: u8,
}

impl EndId {
    /// The other end.
    #[must_use]
    pub const fn other(self) -> Self {
        Self {
            wire: self.wire,
            side: 1 - self.side,
        }
    }
}

/// How far an end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Connecting,
    Open,
    /// The application let go of it.
    Closed,
}

/// A chunk that was written and has not left.
#[derive(Debug)]
pub(crate) struct Outgoing<B> {
    pub(crate) chunk: Chunk,
    /// Goes back to the pool when the chunk has left.
    pub(crate) buf: Option<B>,
}

#[derive(Debug)]
pub(crate) struct End<B> {
    pub(crate) host: usize,
    /// What a node calls it.
    pub(crate) key: Option<ConnKey>,
    pub(crate) stage: Stage,

    /// Written, not sent.
    pub(crate) tx: VecDeque<Outgoing<B>>,
    pub(crate) tx_bytes: usize,
    /// Sent, not delivered.
    pub(crate) in_flight: usize,
    /// The first of `tx` is on the line up.
    pub(crate) sending: bool,
    /// In its link's ring, or waiting at the other's.
    pub(crate) queued: bool,
    /// The last write stopped because the send buffer was full.
    pub(crate) stalled: bool,

    /// Delivered, not read.
    pub(crate) rx: VecDeque<Chunk>,
    pub(crate) rx_bytes: usize,
    /// When the last chunk for this end will be delivered; none may overtake it.
    pub(crate) last_delivery: Instant,

    pub(crate) tap: Option<Box<Tap>>,
}

impl<B> End<B> {
    pub(crate) fn new(host: usize) -> Self {
        Self {
            host,
            key: None,
            stage: Stage::Connecting,
            tx: VecDeque::new(),
            tx_bytes: 0,
            in_flight: 0,
            sending: false,
            queued: false,
            stalled: false,
            rx: VecDeque::new(),
            rx_bytes: 0,
            last_delivery: Instant::ZERO,
            tap: None,
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.stage == Stage::Open
    }
}

#[derive(Debug)]
pub(crate) struct Wire<B> {
    pub(crate) ends: [End<B>; 2],
}

impl<B> Wire<B> {
    pub(crate) fn end(&self, side: u8) -> &End<B> {
        let [first, second] = &self.ends;
        if side == 0 { first } else { second }
    }

    pub(crate) fn end_mut(&mut self, side: u8) -> &mut End<B> {
        let [first, second] = &mut self.ends;
        if side == 0 { first } else { second }
    }
}
