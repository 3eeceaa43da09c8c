//! Whether a gateway still knows what it granted: it tells how long it has been up, and that must go on as time does.

use torr_base::Instant;

use super::Way;

/// What the gateway's clock said, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Epoch {
    seconds: u32,
    at: Instant,
}

impl Epoch {
    pub(super) fn new(seconds: u32, at: Instant) -> Self {
        Self { seconds, at }
    }

    /// Whether the gateway lost its mappings before it said `self`, as what it said `before` shows.
    pub(super) fn lost_since(&self, before: &Self, way: Way) -> bool {
        let ours = self.at.since(before.at).as_secs();
        let (was, is) = (u64::from(before.seconds), u64::from(self.seconds));
        match way {
            // RFC 6887 section 8.5.
            Way::Pcp => {
                let theirs = is.saturating_sub(was);
                is + 1 < was || ours + 2 < theirs - theirs / 16 || theirs + 2 < ours - ours / 16
            }
            // RFC 6886 section 3.6.
            Way::NatPmp => is + 2 < was + ours * 7 / 8,
            Way::Upnp => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn lost(way: Way, before: u32, passed: u64, after: u32) -> bool {
        let then = Epoch::new(before, Instant::ZERO);
        let now = Instant::ZERO + Duration::from_secs(passed);
        Epoch::new(after, now).lost_since(&then, way)
    }

    #[test]
    fn a_clock_that_goes_on_is_believed() {
        for way in [Way::Pcp, Way::NatPmp] {
            assert!(!lost(way, 1_000, 1_800, 2_800));
            // Clocks differ by a little, and datagrams overtake each other.
            assert!(!lost(way, 1_000, 1_800, 2_700));
            assert!(!lost(way, 1_000, 1_800, 2_900));
            assert!(!lost(way, 1_000, 0, 999));
        }
    }

    #[test]
    fn a_restart_shows() {
        for way in [Way::Pcp, Way::NatPmp] {
            assert!(lost(way, 1_000, 1_800, 12));
            assert!(lost(way, 1_000, 1_800, 1_001));
        }
        // A clock that runs too fast is no clock, says PCP.
        assert!(lost(Way::Pcp, 1_000, 1_800, 9_000));
        assert!(!lost(Way::NatPmp, 1_000, 1_800, 9_000));
    }
}
