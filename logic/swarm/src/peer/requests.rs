//! The blocks that one peer was asked for, and how many it should be asked for at a time.

use std::collections::VecDeque;
use std::time::Duration;

use torr_base::{BLOCK_LEN, Block, Instant, RawBlock};

/// Requests never fall below this while a peer is worth asking at all.
const DEPTH_MIN: u32 = 4;
/// What a fresh peer is asked for before anything about it is known.
const DEPTH_START: u32 = 8;
/// No more than this many at one peer, whatever it allows: 32 MiB on the way.
pub(crate) const DEPTH_MAX: u32 = 2_000;
/// What a peer that names no `reqq` (BEP 10) is taken to allow; the field's usual limit.
const REQQ_DEFAULT: u32 = 250;
/// How much work a peer should have beyond what its line delays, so that it never runs dry between
/// two of our turns.
const AHEAD: Duration = Duration::from_millis(1_000);
/// Blocks that may still come after a cancel, time-out or choke; the oldest is forgotten.
const LATE_MAX: usize = 2 * DEPTH_MAX as usize;
/// The `reject` of a cancelled request comes within this time (BEP 6), or is taken for the answer to a later one.
const CANCEL_ANSWERED_WITHIN: Duration = Duration::from_secs(30);
/// BEP 3 clients give up on a peer that sends nothing for a minute: it is snubbing us.
pub(crate) const SNUB_AFTER: Duration = Duration::from_secs(60);

/// A fast peer's bytes are worth a turn once so many have come as it brings in this time …
const GOAL_TIME: Duration = Duration::from_millis(20);
/// … but no more than this, and any number where that would be less than a few blocks.
const GOAL_MAX: u64 = 1024 * 1024;
const GOAL_MIN: u64 = 64 * 1024;
/// Blocks of a fast peer that one read may bring, beside the one that is arriving.
const EXPECTED_MAX: usize = 64;
/// After so long without a block there is nothing to be waited for.
const GOAL_PATIENCE: Duration = Duration::from_millis(100);
/// A peer that is silent for longer is not counted on.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);
/// Where nothing came for so long the line may have been cut.
const QUIET_AFTER: Duration = Duration::from_secs(8);

#[derive(Clone, Copy, Debug)]
struct Request {
    block: Block,
    at: Instant,
}

#[derive(Debug)]
pub(crate) struct Requests {
    asked: VecDeque<Request>,
    /// Blocks that may still come, and since when they are not waited for.
    late: VecDeque<Request>,
    depth: u32,
    reqq: u32,
    /// Doubles the depth each round trip until the rate no longer follows.
    slow_start: bool,
    rate_before: u64,
    /// The shortest time from a request to its block: the line's round trip.
    latency: Option<Duration>,
    /// How long the last block that came took.
    took: Duration,
    /// When a block last came, or the first request of an idle peer went out.
    moved: Instant,
    /// What [`Self::read_goal`] said last.
    goal: usize,
    pub(crate) snubbed: bool,
}

/// What a block that arrives is to its peer's requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    Asked,
    /// Asked once, then cancelled, timed out or dropped by a choke.
    Late,
    NeverAsked,
}

impl Requests {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            asked: VecDeque::new(),
            late: VecDeque::new(),
            depth: DEPTH_START,
            reqq: REQQ_DEFAULT,
            slow_start: true,
            rate_before: 0,
            latency: None,
            took: Duration::ZERO,
            moved: now,
            goal: 1,
            snubbed: false,
        }
    }

    /// How many blocks it is asked for.
    pub(crate) fn len(&self) -> usize {
        self.asked.len()
    }

    /// How many it should be asked for.
    pub(crate) fn depth(&self) -> usize {
        if self.snubbed {
            1
        } else {
            self.depth.min(self.reqq) as usize
        }
    }

    /// Room that is worth a turn of asking: a quarter of the depth, so that requests go out in batches.
    pub(crate) fn wants_refill(&self) -> bool {
        self.asked.len() <= self.depth() * 3 / 4
    }

    /// What the peer said in its extension handshake (BEP 10).
    pub(crate) fn set_reqq(&mut self, reqq: u32) {
        self.reqq = reqq.clamp(1, DEPTH_MAX);
    }

    pub(crate) fn push(&mut self, block: Block, now: Instant) {
        debug_assert!(self.asked.len() < self.depth(), "more than it allows");
        if self.asked.is_empty() {
            self.moved = now;
        }
        self.asked.push_back(Request { block, at: now });
    }

    pub(crate) fn contains(&self, block: Block) -> bool {
        self.asked.iter().any(|request| request.block == block)
    }

    pub(crate) fn blocks(&self) -> impl Iterator<Item = Block> + '_ {
        self.asked.iter().map(|request| request.block)
    }

    /// What a block that begins to arrive is; nothing changes.
    pub(crate) fn arrival(&self, block: Block) -> Arrival {
        if self.contains(block) {
            Arrival::Asked
        } else if self.late.iter().any(|late| late.block == block) {
            Arrival::Late
        } else {
            Arrival::NeverAsked
        }
    }

    /// A block has come. A full pipe grows by one with each block while in slow start, which doubles
    /// it every round trip.
    pub(crate) fn complete(&mut self, block: Block, now: Instant) -> Arrival {
        self.moved = now;
        self.snubbed = false;
        if let Some(place) = self.asked.iter().position(|request| request.block == block) {
            if let Some(request) = self.asked.remove(place) {
                let took = now.since(request.at);
                self.latency = Some(self.latency.map_or(took, |least| least.min(took)));
                self.took = took;
            }
            if self.slow_start {
                self.depth = (self.depth + 1).min(DEPTH_MAX);
            }
            return Arrival::Asked;
        }
        match self.late.iter().position(|late| late.block == block) {
            Some(place) => {
                self.late.remove(place);
                Arrival::Late
            }
            None => Arrival::NeverAsked,
        }
    }

    /// Takes a request back; the block may still come, and then it is late, not a lie.
    pub(crate) fn cancel(&mut self, block: Block, now: Instant) -> bool {
        let Some(place) = self.asked.iter().position(|request| request.block == block) else {
            return false;
        };
        self.asked.remove(place);
        self.remember_late(block, now);
        true
    }

    /// The peer says that it will not send it (BEP 6), and so it must not come any more; what it was.
    ///
    /// Each request has its own answer, a cancelled one too: where a block was cancelled and asked for again, the first
    /// answer is that of the first request. Not everybody keeps to that, so it is waited for only so long.
    pub(crate) fn reject(&mut self, block: Block, now: Instant) -> Arrival {
        let late = self.late.iter().position(|late| late.block == block);
        let fresh = |place: &usize| now.since(self.late[*place].at) < CANCEL_ANSWERED_WITHIN;
        let asked = self.asked.iter().position(|asked| asked.block == block);
        match (late.filter(|place| asked.is_none() || fresh(place)), asked) {
            (Some(place), _) => {
                self.late.remove(place);
                Arrival::Late
            }
            (None, Some(place)) => {
                self.asked.remove(place);
                Arrival::Asked
            }
            (None, None) => Arrival::NeverAsked,
        }
    }

    /// Takes all requests back, oldest first.
    pub(crate) fn cancel_all(&mut self, now: Instant, mut each: impl FnMut(Block)) {
        while let Some(request) = self.asked.pop_front() {
            self.remember_late(request.block, now);
            each(request.block);
        }
    }

    /// The pipe starts anew: after a choke, what was measured no longer holds.
    pub(crate) fn restart(&mut self) {
        self.depth = self.depth.clamp(DEPTH_MIN, DEPTH_START);
        self.slow_start = true;
        self.rate_before = 0;
    }

    /// Once a measuring slot: sets the depth by what was measured, in bytes a second.
    pub(crate) fn adapt(&mut self, rate: u64, latest: u64) {
        if self.slow_start {
            // Ends when another half second of growth brought less than a tenth more.
            let grew = latest > self.rate_before + self.rate_before / 10;
            if latest > 0 && self.rate_before > 0 && !grew {
                self.slow_start = false;
            }
            self.rate_before = latest;
        }
        if !self.slow_start {
            let span = AHEAD + self.latency.unwrap_or_default() * 2;
            let bytes = u128::from(rate.max(latest)) * span.as_nanos() / 1_000_000_000;
            let blocks = bytes / u128::from(BLOCK_LEN);
            let blocks = u32::try_from(blocks).unwrap_or(DEPTH_MAX);
            self.depth = blocks.clamp(DEPTH_MIN, DEPTH_MAX);
        }
    }

    /// How many bytes should have come before they are worth a turn; 1 where each is. `rate` is in bytes a
    /// second. Never more than half of what is owed, so that it always comes; a power of two, so that it
    /// seldom changes.
    pub(crate) fn read_goal(&mut self, rate: u64, now: Instant) -> usize {
        let owed = self.asked.len() as u64 * u64::from(BLOCK_LEN);
        let in_time = rate / (1_000 / GOAL_TIME.as_millis() as u64);
        let bytes = in_time.min(owed / 2).min(GOAL_MAX);
        let patient = now.since(self.moved) < GOAL_PATIENCE;
        self.goal = if patient && bytes >= GOAL_MIN {
            1 << bytes.ilog2()
        } else {
            1
        };
        self.goal
    }

    /// What it is likely to send after the block that is due, in order: twice the goal that was told last.
    pub(crate) fn expected(&self, due: Option<RawBlock>) -> impl Iterator<Item = RawBlock> {
        let count = match self.goal {
            0 | 1 => 0,
            goal => (2 * goal / BLOCK_LEN as usize).min(EXPECTED_MAX),
        };
        let place = due.and_then(|due| self.asked.iter().position(|r| r.block.raw() == due));
        let after = self.asked.iter().skip(place.map_or(0, |place| place + 1));
        after.take(count).map(|request| request.block.raw())
    }

    /// Whether bytes may have come that were too few for the goal that was told, and the rest will not come.
    pub(crate) fn is_short_of_goal(&self, now: Instant) -> bool {
        self.goal > 1 && now.since(self.moved) >= GOAL_PATIENCE
    }

    /// How long the last block that came while it was asked for took, from the request on.
    pub(crate) fn took(&self) -> Duration {
        self.took
    }

    /// Whether a block came of late.
    pub(crate) fn answers(&self, now: Instant) -> bool {
        !self.snubbed && now.since(self.moved) < ANSWERS_WITHIN
    }

    /// Whether no block came for some seconds, as over a line that was cut.
    pub(crate) fn is_quiet(&self, now: Instant) -> bool {
        now.since(self.moved) >= QUIET_AFTER
    }

    /// Whether blocks are owed and none came for a minute.
    pub(crate) fn is_overdue(&self, now: Instant) -> bool {
        !self.asked.is_empty() && now.since(self.moved) >= SNUB_AFTER
    }

    fn remember_late(&mut self, block: Block, now: Instant) {
        if self.late.len() == LATE_MAX {
            self.late.pop_front();
        }
        self.late.push_back(Request { block, at: now });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use torr_base::PieceIndex;

    fn block(index: u32) -> Block {
        Block {
            piece: PieceIndex::new(0),
            index,
            len: BLOCK_LEN,
        }
    }

    #[test]
    fn late_is_not_unasked() {
        let mut r = Requests::new(Instant::ZERO);
        r.push(block(0), Instant::ZERO);
        r.push(block(1), Instant::ZERO);
        assert!(r.cancel(block(0), Instant::ZERO));
        assert_eq!(r.arrival(block(0)), Arrival::Late);
        assert_eq!(r.complete(block(0), Instant::ZERO), Arrival::Late);
        assert_eq!(r.complete(block(0), Instant::ZERO), Arrival::NeverAsked);
        assert_eq!(r.reject(block(1), Instant::ZERO), Arrival::Asked);
        assert_eq!(r.arrival(block(1)), Arrival::NeverAsked);
    }

    #[test]
    fn a_reject_answers_the_request_that_was_cancelled_before() {
        let mut r = Requests::new(Instant::ZERO);
        let at = |secs| Instant::ZERO + Duration::from_secs(secs);
        for secs in [0, 40] {
            r.push(block(0), at(secs));
            assert!(r.cancel(block(0), at(secs)));
            r.push(block(0), at(secs));
            if secs == 0 {
                assert_eq!(r.reject(block(0), at(secs + 2)), Arrival::Late);
                assert!(r.contains(block(0)), "it was asked for again");
                assert_eq!(r.reject(block(0), at(secs + 2)), Arrival::Asked);
            } else {
                // From a peer that says nothing to a cancel.
                assert_eq!(r.reject(block(0), at(secs + 31)), Arrival::Asked);
                assert_eq!(r.reject(block(0), at(secs + 31)), Arrival::Late);
            }
            assert_eq!(r.reject(block(0), at(secs + 31)), Arrival::NeverAsked);
        }
    }

    #[test]
    fn a_long_fat_line_gets_a_deep_queue() {
        let mut r = Requests::new(Instant::ZERO);
        r.set_reqq(5_000);
        let mut now = Instant::ZERO;
        // 100 ms of round trip and 1 Gbit/s: 763 blocks are on the way at any time.
        for _ in 0..40 {
            while r.len() < r.depth() {
                let next = r.len() as u32;
                r.push(block(next), now);
            }
            now = now + Duration::from_millis(100);
            let came: Vec<_> = r.blocks().take(763).collect();
            came.iter()
                .for_each(|b| assert_eq!(r.complete(*b, now), Arrival::Asked));
            let rate = came.len() as u64 * u64::from(BLOCK_LEN) * 10;
            r.adapt(rate, rate);
        }
        assert!(r.depth() > 763, "{}", r.depth());
    }

    #[test]
    fn what_a_fast_peer_sends_is_read_in_large_steps() {
        let mut r = Requests::new(Instant::ZERO);
        r.set_reqq(500);
        r.depth = 500;
        let of = |r: &mut Requests, rate, ms| {
            r.read_goal(rate, Instant::ZERO + Duration::from_millis(ms))
        };
        assert_eq!(of(&mut r, 1_000_000_000, 0), 1, "nothing is owed");
        (0..200).for_each(|index| r.push(block(index), Instant::ZERO));
        assert_eq!(of(&mut r, 1_000_000_000, 0), 1 << 20);
        assert_eq!(of(&mut r, 10_000_000, 0), 128 << 10);
        assert_eq!(of(&mut r, 3_000_000, 0), 1);
        // It stopped in the middle: what has come is looked at, however slow it is by then.
        assert_eq!(of(&mut r, 4_000_000, 0), 64 << 10);
        assert!(r.is_short_of_goal(Instant::ZERO + GOAL_PATIENCE));
        assert_eq!(of(&mut r, 1_000_000_000, 100), 1);
        assert!(!r.is_short_of_goal(Instant::ZERO + GOAL_PATIENCE));
        // The end comes near: half of what is owed, until that is too little.
        (0..190)
            .for_each(|index| assert_eq!(r.complete(block(index), Instant::ZERO), Arrival::Asked));
        assert_eq!(of(&mut r, 1_000_000_000, 0), 64 << 10);
        (190..195)
            .for_each(|index| assert_eq!(r.complete(block(index), Instant::ZERO), Arrival::Asked));
        assert_eq!(of(&mut r, 1_000_000_000, 0), 1);
    }

    #[test]
    fn a_slow_peer_is_not_asked_for_minutes_of_work() {
        let mut r = Requests::new(Instant::ZERO);
        for _ in 0..10 {
            r.adapt(10_000, 10_000);
        }
        assert_eq!(r.depth(), DEPTH_MIN as usize);
    }
}
