//! Access links: each host has one line up and one line down, shared fairly by its connections.
//!
//! A line up sends one large chunk at a time, round-robin over the connections that have one; small
//! chunks, which a real line would interleave packet by packet, go at once and are paid for by the next
//! large one. A line down is a queue; when it is full, the senders wait in line, as TCP would make them.

use std::collections::VecDeque;
use std::time::Duration;

use torr_base::Instant;

use crate::conn::EndId;

/// Chunks up to this many bytes do not wait for large ones of other connections.
pub(crate) const SMALL: usize = 2_048;
/// What a line down queues, in time at its rate.
const QUEUE_MILLIS: u64 = 200;
/// … and in bytes at least, so that slow lines still hold a few blocks.
const QUEUE_MIN: u64 = 64 * 1024;

/// What a host's line can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkProfile {
    /// Bytes a second.
    pub up: u64,
    /// Bytes a second.
    pub down: u64,
    /// From the host to the middle of the network; two of them are one way between hosts.
    pub latency: Duration,
}

impl Default for LinkProfile {
    fn default() -> Self {
        Self {
            up: 1_000_000,
            down: 4_000_000,
            latency: Duration::from_millis(15),
        }
    }
}

/// One host's line.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) profile: LinkProfile,
    /// A large chunk is on its way out.
    pub(crate) sending: bool,
    /// Connections that have something to send.
    pub(crate) ring: VecDeque<EndId>,
    /// What small chunks still owe the line.
    debt: u64,
    /// When the line down has delivered all that has arrived.
    busy_until: Instant,
    /// Bytes that were sent here and are not delivered.
    pending: u64,
    /// Senders elsewhere that wait for the line down.
    pub(crate) waiting: VecDeque<EndId>,
    /// All bytes that went through.
    pub(crate) bytes_up: u64,
    pub(crate) bytes_down: u64,
}

impl Link {
    pub(crate) fn new(profile: LinkProfile) -> Self {
        Self {
            profile,
            sending: false,
            ring: VecDeque::new(),
            debt: 0,
            busy_until: Instant::ZERO,
            pending: 0,
            waiting: VecDeque::new(),
            bytes_up: 0,
            bytes_down: 0,
        }
    }

    /// A small chunk goes out.
    pub(crate) fn send_small(&mut self, len: usize) {
        self.debt += len as u64;
        self.bytes_up += len as u64;
    }

    /// A large chunk goes out: how long that takes.
    pub(crate) fn send_large(&mut self, len: usize) -> Duration {
        let bytes = len as u64 + std::mem::take(&mut self.debt);
        self.bytes_up += len as u64;
        span(bytes, self.profile.up)
    }

    /// Whether no more should be sent here for now.
    pub(crate) fn is_full(&self) -> bool {
        let queue = self.profile.down * QUEUE_MILLIS / 1_000;
        self.pending >= queue.max(QUEUE_MIN)
    }

    /// A chunk for this host has left its sender.
    pub(crate) fn expect(&mut self, len: usize) {
        self.pending += len as u64;
    }

    /// A chunk arrived at the line down: when it is through.
    pub(crate) fn arrive(&mut self, now: Instant, len: usize) -> Instant {
        let spent = span(len as u64, self.profile.down);
        self.busy_until = self.busy_until.max(now) + spent;
        if len <= SMALL { now } else { self.busy_until }
    }

    /// A chunk is through, or lost.
    pub(crate) fn delivered(&mut self, len: usize) {
        self.pending -= len as u64;
        self.bytes_down += len as u64;
    }
}

pub(crate) fn span(bytes: u64, rate: u64) -> Duration {
    let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}
