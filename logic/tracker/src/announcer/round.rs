//! One announce to a UDP tracker (BEP 15), through each address family that its host has (BEP 7).
//!
//! ```text
//!           no connection id            reply
//!        ┌──────────────────▶ Connecting ──┐
//!  Ready ┤ ◀───────── after 15·2ⁿ s ───┘   │
//!    ▲   │ ◀───────────────────────────────┘
//!    │   └──────────────────▶ Announcing ──▶ Over
//!    │     good connection id     │      reply, or after n = 8
//!    └────── after 15·2ⁿ s ───────┘
//! ```

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use torr_base::Instant;

use super::types::RequestId;
use crate::announce::Event;

/// BEP 15: a request is repeated after 15·2ⁿ s, n up to 8.
const PATIENCE: Duration = Duration::from_secs(15);
const TRIES_MAX: u32 = 8;
/// From this repetition on the name is looked up again: the tracker may have moved.
const RESOLVE_AGAIN_TRIES: u32 = 2;
/// Addresses of one family that are tried in turn.
const CANDIDATES_MAX: usize = 4;

#[derive(Debug)]
pub(super) struct Round {
    pub(super) event: Event,
    pub(super) since: Instant,
    pub(super) resolve: Option<RequestId>,
    /// At most one for each family.
    pub(super) conversations: Vec<Conversation>,
    pub(super) answered: bool,
    /// The tracker's own words, where it refused.
    pub(super) refusal: Option<String>,
}

/// The exchange with one address family.
#[derive(Debug)]
pub(super) struct Conversation {
    candidates: Vec<SocketAddr>,
    at: usize,
    /// How often patience has run out: the `n` of BEP 15.
    tries: u32,
    pub(super) step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// To be sent: an announce, or first a connect.
    Ready,
    Connecting {
        transaction: u32,
        until: Instant,
    },
    Announcing {
        transaction: u32,
        until: Instant,
        event: Event,
    },
    Over,
}

/// What a conversation does once its patience has run out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    Left,
    /// Try again; whether to look the name up again.
    Retry {
        resolve: bool,
    },
    /// That was the last try.
    Over,
}

impl Round {
    pub(super) fn new(event: Event, since: Instant) -> Self {
        Self {
            event,
            since,
            resolve: None,
            conversations: Vec::new(),
            answered: false,
            refusal: None,
        }
    }

    /// Takes in the addresses of the host, each allowed: one conversation for each family that has any.
    /// Conversations that are already going on keep their step and have other candidates from now on.
    pub(super) fn set_addresses(&mut self, addrs: &[SocketAddr]) {
        for v6 in [false, true] {
            let family = addrs.iter().filter(|addr| addr.is_ipv6() == v6);
            let candidates: Vec<_> = family.copied().take(CANDIDATES_MAX).collect();
            if candidates.is_empty() {
                continue;
            }
            let mut known = self.conversations.iter_mut();
            match known.find(|it| it.is_v6() == v6) {
                Some(known) => known.replace_candidates(candidates),
                None => self.conversations.push(Conversation::new(candidates)),
            }
        }
    }

    pub(super) fn is_over(&self) -> bool {
        let mut all = self.conversations.iter();
        self.resolve.is_none() && all.all(|it| it.step == Step::Over)
    }

    pub(super) fn next_timeout(&self, now: Instant) -> Option<Instant> {
        let steps = self.conversations.iter().map(|it| it.step);
        steps
            .filter_map(|step| match step {
                Step::Ready => Some(now),
                Step::Connecting { until, .. } | Step::Announcing { until, .. } => Some(until),
                Step::Over => None,
            })
            .min()
    }

    /// The conversation that asked `from` under this transaction.
    pub(super) fn asked(&mut self, from: SocketAddr, id: u32) -> Option<&mut Conversation> {
        self.conversations.iter_mut().find(|it| {
            let asked = match it.step {
                Step::Connecting { transaction, .. } | Step::Announcing { transaction, .. } => {
                    transaction == id
                }
                Step::Ready | Step::Over => false,
            };
            asked && same_address(it.addr(), from)
        })
    }
}

impl Conversation {
    /// `candidates` is not empty.
    pub(super) fn new(candidates: Vec<SocketAddr>) -> Self {
        debug_assert!(!candidates.is_empty());
        Self {
            candidates,
            at: 0,
            tries: 0,
            step: Step::Ready,
        }
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.candidates[self.at]
    }

    fn is_v6(&self) -> bool {
        self.addr().is_ipv6()
    }

    /// When to stop waiting for what is sent now.
    pub(super) fn until(&self, now: Instant) -> Instant {
        now + PATIENCE * (1 << self.tries)
    }

    /// Looks at the clock. After a retry the step says what to send.
    pub(super) fn check_patience(&mut self, now: Instant, last_try: bool) -> Patience {
        let (until, connecting) = match self.step {
            Step::Connecting { until, .. } => (until, true),
            Step::Announcing { until, .. } => (until, false),
            Step::Ready | Step::Over => return Patience::Left,
        };
        if now < until {
            return Patience::Left;
        }
        if last_try || self.tries == TRIES_MAX {
            self.step = Step::Over;
            return Patience::Over;
        }
        self.tries += 1;
        if connecting {
            self.at = (self.at + 1) % self.candidates.len();
        }
        self.step = Step::Ready;
        Patience::Retry {
            resolve: connecting && self.tries >= RESOLVE_AGAIN_TRIES,
        }
    }

    fn replace_candidates(&mut self, candidates: Vec<SocketAddr>) {
        let addr = self.addr();
        let waiting = matches!(self.step, Step::Connecting { .. } | Step::Announcing { .. });
        self.candidates = candidates;
        self.at = match self.candidates.iter().position(|it| *it == addr) {
            Some(at) => at,
            // Whoever was asked may still answer.
            None if waiting => {
                self.candidates.push(addr);
                self.candidates.len() - 1
            }
            None => 0,
        };
    }
}

/// Same host and port; a mapped IPv4 address is that IPv4 address, and a scope says nothing here.
fn same_address(a: SocketAddr, b: SocketAddr) -> bool {
    let host = |addr: SocketAddr| -> IpAddr { addr.ip().to_canonical() };
    (host(a), a.port()) == (host(b), b.port())
}
