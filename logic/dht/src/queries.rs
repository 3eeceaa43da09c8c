//! Questions under way: an answer counts only from the address that was asked, under the transaction id
//! that was sent there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use torr_base::{Instant, Key};

use crate::id::NodeId;
use crate::lookup::Lookup;

/// Questions under way at a time.
pub(crate) const UNDER_WAY_MAX: usize = 256;
/// After this no answer will come.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(5);

/// What an answer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// Whether it is there, and whom it knows.
    Probe,
    Lookup(Key<Lookup>),
    Announce(Key<Lookup>),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) to: SocketAddr,
    /// Who is said to be there.
    pub(crate) id: Option<NodeId>,
    pub(crate) sent: Instant,
    pub(crate) what: What,
    late: bool,
    due: Instant,
}

/// What time brings.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Overdue {
    /// Slower than nearly all others; go on without it, but an answer still counts.
    Late(Asked),
    Lost(Asked),
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Queries {
    by_id: BTreeMap<u32, Asked>,
    by_time: BTreeSet<(Instant, u32)>,
    /// Who is asked, and whether that answer is late.
    addrs: BTreeMap<SocketAddr, bool>,
    patience: Patience,
}

impl Queries {
    pub(crate) fn is_full(&self) -> bool {
        self.by_id.len() >= UNDER_WAY_MAX
    }

    /// Whether a question to that address is under way; there is never more than one.
    pub(crate) fn is_asked(&self, addr: SocketAddr) -> bool {
        self.addrs.contains_key(&addr)
    }

    /// Whether to wait for the end of a question to that address: it is under way, and not late.
    pub(crate) fn is_awaited(&self, addr: SocketAddr) -> bool {
        self.addrs.get(&addr).is_some_and(|late| !late)
    }

    /// Takes note of a question; false where it may not be asked now or the id is in use.
    pub(crate) fn ask(
        &mut self,
        now: Instant,
        transaction: u32,
        to: SocketAddr,
        id: Option<NodeId>,
        what: What,
    ) -> bool {
        if self.is_full() || self.is_asked(to) || self.by_id.contains_key(&transaction) {
            return false;
        }
        let asked = Asked {
            to,
            id,
            sent: now,
            what,
            late: false,
            due: now + self.patience.limit(),
        };
        self.addrs.insert(to, false);
        self.by_time.insert((asked.due, transaction));
        self.by_id.insert(transaction, asked);
        true
    }

    /// The question that this answers, which is over then.
    pub(crate) fn answer(
        &mut self,
        now: Instant,
        transaction: &[u8],
        from: SocketAddr,
    ) -> Option<Asked> {
        let transaction = u32::from_be_bytes(transaction.try_into().ok()?);
        if self.by_id.get(&transaction)?.to != from {
            return None;
        }
        let asked = self.remove(transaction)?;
        self.patience.took(now.since(asked.sent));
        Some(asked)
    }

    /// The next question whose time is up.
    pub(crate) fn overdue(&mut self, now: Instant) -> Option<Overdue> {
        let (due, transaction) = *self.by_time.first()?;
        if due > now {
            return None;
        }
        let asked = self.by_id.get_mut(&transaction)?;
        let end = asked.sent + GIVEN_UP_AFTER;
        if asked.late || end <= now {
            return self.remove(transaction).map(Overdue::Lost);
        }
        asked.late = true;
        asked.due = end;
        let asked = *asked;
        self.addrs.insert(asked.to, true);
        self.by_time.remove(&(due, transaction));
        self.by_time.insert((end, transaction));
        Some(Overdue::Late(asked))
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.by_time.first().map(|(due, _)| *due)
    }

    pub(crate) fn patience(&self) -> Duration {
        self.patience.limit()
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    fn remove(&mut self, transaction: u32) -> Option<Asked> {
        let asked = self.by_id.remove(&transaction)?;
        self.by_time.remove(&(asked.due, transaction));
        self.addrs.remove(&asked.to);
        Some(asked)
    }

    pub(crate) fn check_invariants(&self) {
        assert!(self.by_id.len() <= UNDER_WAY_MAX);
        assert_eq!(self.by_id.len(), self.by_time.len());
        assert_eq!(
            self.by_id.len(),
            self.addrs.len(),
            "one question for each address"
        );
    }
}

/// How long an answer takes when it comes: nine of ten came within `nanos`.
#[derive(Clone, Debug)]
struct Patience {
    nanos: u64,
}

impl Default for Patience {
    fn default() -> Self {
        Self { nanos: 400_000_000 }
    }
}

impl Patience {
    const LEAST: Duration = Duration::from_millis(100);
    const MOST: Duration = Duration::from_millis(1_500);

    /// Goes up by nine steps when an answer took longer, down by one when it did not: so it settles
    /// where that is one of ten.
    fn took(&mut self, time: Duration) {
        let step = self.nanos / 50;
        let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.nanos = match time > self.nanos {
            true => self.nanos + 9 * step,
            false => self.nanos - step,
        };
        let (least, most) = (Self::LEAST.as_nanos() as u64, Self::MOST.as_nanos() as u64);
        self.nanos = self.nanos.clamp(least, most);
    }

    /// After this others are asked instead: a quarter more than nine of ten need.
    fn limit(&self) -> Duration {
        Duration::from_nanos(self.nanos + self.nanos / 4).min(Self::MOST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use torr_base::Rng;

    fn at(millis: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(millis)
    }

    fn addr(n: u8) -> SocketAddr {
        SocketAddr::from(([60, n, 1, 1], 6881))
    }

    #[test]
    fn an_answer_counts_from_who_was_asked_under_its_transaction() {
        let mut queries = Queries::default();
        assert!(queries.ask(at(0), 7, addr(1), None, What::Probe));
        assert!(
            !queries.ask(at(0), 8, addr(1), None, What::Probe),
            "one for each address"
        );
        assert!(
            !queries.ask(at(0), 7, addr(2), None, What::Probe),
            "one for each transaction"
        );
        let right = 7_u32.to_be_bytes();
        assert!(queries.answer(at(1), &right, addr(2)).is_none());
        assert!(
            queries
                .answer(at(1), &8_u32.to_be_bytes(), addr(1))
                .is_none()
        );
        assert!(queries.answer(at(1), &right[1..], addr(1)).is_none());
        assert!(queries.answer(at(1), &right, addr(1)).is_some());
        assert!(queries.answer(at(1), &right, addr(1)).is_none(), "once");
        queries.check_invariants();
    }

    #[test]
    fn late_first_then_lost() {
        let mut queries = Queries::default();
        queries.ask(at(0), 7, addr(1), None, What::Probe);
        assert!(queries.overdue(at(499)).is_none());
        assert!(matches!(queries.overdue(at(500)), Some(Overdue::Late(_))));
        assert!(queries.overdue(at(4_999)).is_none());
        assert!(matches!(queries.overdue(at(5_000)), Some(Overdue::Lost(_))));
        assert!(queries.overdue(at(9_000)).is_none() && queries.next_timeout().is_none());
        queries.check_invariants();
        for n in 0..300_u32 {
            let to = SocketAddr::from(([61, (n >> 8) as u8, n as u8, 1], 1));
            assert_eq!(queries.ask(at(0), n, to, None, What::Probe), n < 256);
        }
        queries.check_invariants();
    }

    #[test]
    fn patience_follows_what_answers_take() {
        let mut rng = Rng::new(1);
        for (from, to) in [(60, 140), (300, 500), (5, 10)] {
            let mut patience = Patience::default();
            let mut sum = Duration::ZERO;
            for n in 0..2_000 {
                patience.took(Duration::from_millis(from + rng.below(to - from)));
                if n >= 1_000 {
                    sum += patience.limit();
                }
            }
            let mean = (sum / 1_000).as_millis() as u64;
            let want = ((from + (to - from) * 9 / 10) * 5 / 4).max(125);
            assert!(
                (want * 8 / 10..want * 13 / 10).contains(&mean),
                "{mean} for {want}"
            );
        }
    }
}
