//! A token bucket in bytes: how `--down` and `--up` are kept.

use std::time::Duration;

use crate::Instant;

/// Lets `rate` bytes a second through, with a burst of at most a tenth of a second.
///
/// The level may go below zero by one spend, since a block is never split for the bucket's sake; the
/// debt is paid before the next one, so the average is exact.
#[derive(Clone, Debug)]
pub struct TokenBucket {
    /// Bytes a second; `None` lets everything through.
    rate: Option<u64>,
    /// Bytes times 10^9, so that no fraction of a token is ever lost.
    level: i128,
    filled: Instant,
}

const NANO: i128 = 1_000_000_000;

impl TokenBucket {
    /// `rate` in bytes a second; `None` for no limit.
    #[must_use]
    pub fn new(rate: Option<u64>, now: Instant) -> Self {
        Self {
            rate,
            level: 0,
            filled: now,
        }
    }

    #[must_use]
    pub fn rate(&self) -> Option<u64> {
        self.rate
    }

    pub fn set_rate(&mut self, rate: Option<u64>, now: Instant) {
        self.refill(now);
        self.rate = rate;
        self.level = self.level.min(self.burst() * NANO);
    }

    /// Bytes that may pass now: `u64::MAX` without a limit.
    pub fn available(&mut self, now: Instant) -> u64 {
        self.refill(now);
        match self.rate {
            None => u64::MAX,
            Some(_) => u64::try_from((self.level / NANO).max(0)).unwrap_or(u64::MAX),
        }
    }

    /// Takes `bytes`, which may leave a debt.
    pub fn spend(&mut self, bytes: u64) {
        if self.rate.is_some() {
            self.level -= i128::from(bytes) * NANO;
        }
    }

    /// When at least one byte, or a small share of the burst, may pass again; `None` if now, or never
    /// (a rate of zero).
    #[must_use]
    pub fn ready_at(&self) -> Option<Instant> {
        let rate = i128::from(self.rate?);
        if rate == 0 {
            return None;
        }
        // A quarter of the burst: waking for every byte would cost more than it brings.
        let goal = (self.burst() / 4).max(1) * NANO;
        let missing = goal - self.level;
        if missing <= 0 {
            return None;
        }
        let nanos = u64::try_from(missing.div_ceil_by(rate)).unwrap_or(u64::MAX);
        Some(self.filled + Duration::from_nanos(nanos))
    }

    fn burst(&self) -> i128 {
        i128::from(self.rate.unwrap_or(0) / 10).max(1)
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.since(self.filled).as_nanos() as i128;
        self.filled = self.filled.max(now);
        if let Some(rate) = self.rate {
            let level = self.level + passed * i128::from(rate);
            self.level = level.min(self.burst() * NANO);
        }
    }
}

/// `i128::div_ceil` is not stable yet; both numbers are positive here.
trait DivCeilBy {
    fn div_ceil_by(self, by: Self) -> Self;
}

impl DivCeilBy for i128 {
    fn div_ceil_by(self, by: Self) -> Self {
        (self + by - 1) / by
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn average_is_exact_over_ten_seconds() {
        for rate in [10_000_u64, 1_000_000, 123_456_789] {
            let mut now = Instant::ZERO;
            let mut bucket = TokenBucket::new(Some(rate), now);
            let end = now + Duration::from_secs(10);
            let mut passed = 0_u64;
            while now < end {
                if bucket.available(now) > 0 {
                    bucket.spend(16_384);
                    passed += 16_384;
                } else {
                    now = bucket.ready_at().unwrap_or(now + Duration::from_millis(1));
                }
            }
            let goal = rate * 10;
            assert!(
                passed.abs_diff(goal) <= goal / 20 + 16_384,
                "{rate}: {passed}"
            );
        }
    }

    #[test]
    fn no_limit_never_waits_and_zero_never_passes() {
        let mut free = TokenBucket::new(None, Instant::ZERO);
        free.spend(u64::MAX);
        assert_eq!(free.available(Instant::ZERO), u64::MAX);
        assert_eq!(free.ready_at(), None);
        let mut shut = TokenBucket::new(Some(0), Instant::ZERO);
        let later = Instant::ZERO + Duration::from_secs(100);
        assert_eq!(shut.available(later), 0);
        assert_eq!(shut.ready_at(), None);
    }

    #[test]
    fn a_long_idle_time_saves_no_more_than_the_burst() {
        let mut bucket = TokenBucket::new(Some(1_000_000), Instant::ZERO);
        assert_eq!(
            bucket.available(Instant::ZERO + Duration::from_secs(3600)),
            100_000
        );
    }
}
