//! What is going to happen, soonest first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use torr_base::{Instant, Key, Slab};

/// Everything that is going to happen, soonest first; what was planned first settles ties, so that
/// every run goes the same way.
#[derive(Debug)]
pub struct Agenda<E> {
    /// When, the how-manieth, and which: an event is large, so it stays where it was put.
    due: BinaryHeap<Reverse<(Instant, u64, Key<E>)>>,
    events: Slab<E>,
    seq: u64,
    now: Instant,
}

impl<E> Agenda<E> {
    /// Nothing planned, at the beginning of time.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            due: BinaryHeap::new(),
            events: Slab::new(),
            seq: 0,
            now: Instant::ZERO,
        }
    }

    /// The time of the event that was last taken.
    #[must_use]
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// Plans an event; what lies in the past happens now.
    pub fn at(&mut self, when: Instant, event: E) {
        self.seq += 1;
        let key = self.events.insert(event);
        self.due.push(Reverse((when.max(self.now), self.seq, key)));
    }

    /// The next event, if it is due by `end`. Time moves on to it.
    pub fn next(&mut self, end: Instant) -> Option<E> {
        let Reverse((when, ..)) = *self.due.peek()?;
        if when > end {
            return None;
        }
        let Reverse((_, _, key)) = self.due.pop()?;
        self.now = when;
        self.events.remove(key)
    }

    /// Lets time pass up to `end`, with nothing due before it.
    pub fn pass_to(&mut self, end: Instant) {
        debug_assert!(
            self.due
                .peek()
                .is_none_or(|Reverse((when, ..))| *when >= end)
        );
        self.now = self.now.max(end);
    }

    /// Events planned.
    #[must_use]
    pub fn len(&self) -> usize {
        self.due.len()
    }

    /// Whether nothing is planned any more.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.due.is_empty()
    }
}

impl<E> Default for Agenda<E> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn soonest_first_and_ties_in_the_order_of_planning() {
        let mut agenda = Agenda::new();
        let at = Instant::from_nanos;
        for (when, event) in [(5, 'c'), (1, 'a'), (5, 'd'), (2, 'b')] {
            agenda.at(at(when), event);
        }
        let mut out = String::new();
        while let Some(event) = agenda.next(at(5)) {
            out.push(event);
            if event == 'c' {
                // The past is now, and after what was planned for now already.
                agenda.at(at(0), 'e');
            }
        }
        assert_eq!(out, "abcde");
        assert_eq!(agenda.now(), at(5));
    }
}
