//! The one clock of a shard: nanoseconds since it started, by a clock that never steps.

use std::time::Duration;

use torr_base::Instant;

/// Translates between the logic's time and the runtime's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: tokio::time::Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self {
            start: tokio::time::Instant::now(),
        }
    }

    pub(crate) fn now(self) -> Instant {
        Instant::ZERO + self.start.elapsed()
    }

    /// When that is by the runtime's clock.
    pub(crate) fn at(self, time: Instant) -> tokio::time::Instant {
        // Farther away than a process lives would overflow; the timer is set anew long before.
        let far = Duration::from_secs(365 * 24 * 3600);
        self.start + time.since(Instant::ZERO).min(far)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn times_translate_both_ways() {
        let clock = Clock::start();
        let now = clock.now();
        assert!(clock.now() >= now);
        let later = now + Duration::from_secs(5);
        let wait = clock.at(later) - clock.at(now);
        assert_eq!(wait, Duration::from_secs(5));
        // Does not overflow.
        let _ = clock.at(Instant::from_nanos(u64::MAX));
    }
}
