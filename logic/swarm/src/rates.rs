//! How fast something flows, measured once a second.

use std::time::Duration;

use torr_base::Instant;

/// How often rates are measured.
const SLOT: Duration = Duration::from_millis(500);

/// Bytes a second, smoothed over a few seconds; counting costs one addition.
#[derive(Clone, Debug)]
pub struct Rate {
    total: u64,
    counted: u64,
    since: Instant,
    smooth: u64,
    latest: u64,
    measured: bool,
}

impl Rate {
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            total: 0,
            counted: 0,
            since: now,
            smooth: 0,
            latest: 0,
            measured: false,
        }
    }

    pub fn add(&mut self, bytes: u64) {
        self.total += bytes;
    }

    /// Bytes in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Bytes a second, smoothed.
    #[must_use]
    pub fn per_second(&self) -> u64 {
        self.smooth
    }

    /// Bytes a second in the last slot.
    #[must_use]
    pub fn latest(&self) -> u64 {
        self.latest
    }

    /// Bytes a second, smoothed, in the last slot or in the one that goes on: whichever is most.
    #[must_use]
    pub fn at_best(&self, now: Instant) -> u64 {
        let span = now.since(self.since);
        let going_on = if span < SLOT / 8 {
            0
        } else {
            let bytes = u128::from(self.total - self.counted);
            u64::try_from(bytes * 1_000_000_000 / span.as_nanos().max(1)).unwrap_or(u64::MAX)
        };
        self.smooth.max(self.latest).max(going_on)
    }

    /// To be called every tick; true when a new slot was measured.
    pub fn tick(&mut self, now: Instant) -> bool {
        let span = now.since(self.since);
        if span < SLOT {
            return false;
        }
        let bytes = self.total - self.counted;
        let nanos = span.as_nanos().max(1);
        let rate = u128::from(bytes) * 1_000_000_000 / nanos;
        self.latest = u64::try_from(rate).unwrap_or(u64::MAX);
        self.smooth = if self.measured {
            // A quarter of the new: half of a step shows after 1.2 s, nearly all of it after 5 s.
            (self.smooth / 4)
                .saturating_mul(3)
                .saturating_add(self.latest / 4)
        } else {
            self.latest
        };
        self.measured = self.measured || bytes > 0;
        self.counted = self.total;
        self.since = now;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_a_steady_flow_and_forgets_it() {
        let mut now = Instant::ZERO;
        let mut rate = Rate::new(now);
        for _ in 0..100 {
            now = now + Duration::from_millis(100);
            rate.add(100_000);
            rate.tick(now);
        }
        assert!(
            (950_000..=1_050_000).contains(&rate.per_second()),
            "{rate:?}"
        );
        for _ in 0..150 {
            now = now + Duration::from_millis(100);
            rate.tick(now);
        }
        assert!(rate.per_second() < 10_000, "{rate:?}");
        assert_eq!(rate.total(), 10_000_000);
    }
}
