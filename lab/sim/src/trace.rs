//! What happened, as a hash that two runs of one seed must agree on, and as lines for a person.

use std::fmt;

use torr_base::Instant;

/// Collects what happened.
#[derive(Debug, Default)]
pub struct Trace {
    hash: u64,
    events: u64,
    watched: Option<usize>,
    lines: Vec<String>,
    live: bool,
}

/// Lines kept for the report of a failure.
const LINES_KEPT: usize = 4_000;

impl Trace {
    /// `watched`: the host of which lines are kept.
    #[must_use]
    pub fn new(watched: Option<usize>) -> Self {
        Self {
            hash: 0xcbf2_9ce4_8422_2325,
            watched,
            ..Self::default()
        }
    }

    /// Writes every line to stderr as it comes.
    pub fn set_live(&mut self) {
        self.live = true;
    }

    /// An event of some kind at a host, with two numbers that tell it from others.
    pub fn note(&mut self, now: Instant, host: usize, kind: u8, a: u64, b: u64) {
        self.events += 1;
        for word in [now.as_nanos(), host as u64, u64::from(kind), a, b] {
            self.hash = (self.hash ^ word).wrapping_mul(0x0100_0000_01b3);
            self.hash ^= self.hash >> 29;
        }
    }

    /// A line about a host, made only if somebody watches it.
    pub fn line(&mut self, now: Instant, host: usize, line: impl FnOnce() -> String) {
        if self.watched != Some(host) {
            return;
        }
        let line = format!("{now:?} {host}: {}", line());
        if self.live {
            eprintln!("{line}");
        } else {
            if self.lines.len() >= LINES_KEPT {
                self.lines.drain(..LINES_KEPT / 2);
            }
            self.lines.push(line);
        }
    }

    /// Whether lines about the host are wanted.
    #[must_use]
    pub fn watches(&self, host: usize) -> bool {
        self.watched == Some(host)
    }

    /// Equal for equal runs.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Events noted.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}
