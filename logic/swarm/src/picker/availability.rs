//! How many peers have each piece, and the pieces that may be opened, rarest first.
//!
//! Invariants:
//! - `order` holds exactly the candidates: wanted, not had, not open in the assembly;
//! - it is grouped by key (priority class, then availability), and `start[k]` is where group `k` begins;
//! - `place[p]` is where piece `p` stands in `order`, or `ABSENT`.
//!
//! A change of one step moves a piece across one border by a swap. Inside a group the order is random,
//! so that peers with the same view do not all open the same piece.

use torr_base::{Bitfield, PieceIndex, Rng};

/// More copies than this count as this many: past it, rarity decides nothing.
const LEVELS: usize = 32;
/// High, then normal.
const CLASSES: usize = 2;
const KEYS: usize = LEVELS * CLASSES;
const ABSENT: u32 = u32::MAX;

#[derive(Debug)]
pub(crate) struct Availability {
    /// Peers that have the piece, those that have all not counted.
    count: Vec<u16>,
    /// True for pieces of high priority.
    high: Vec<bool>,
    /// Peers that have everything: one number instead of a step for each piece.
    seeds: u32,
    order: Vec<u32>,
    place: Vec<u32>,
    start: [u32; KEYS + 1],
    /// No candidate is below this piece.
    lowest: u32,
    /// Counts the pieces that became candidates.
    inserted: u64,
    rng: Rng,
}

impl Availability {
    pub(crate) fn new(pieces: u32, rng: Rng) -> Self {
        let len = pieces as usize;
        Self {
            count: vec![0; len],
            high: vec![false; len],
            seeds: 0,
            order: Vec::with_capacity(len),
            place: vec![ABSENT; len],
            start: [0; KEYS + 1],
            lowest: pieces,
            inserted: 0,
            rng,
        }
    }

    /// How many connected peers have it.
    pub(crate) fn of(&self, piece: PieceIndex) -> u32 {
        u32::from(self.count[piece.as_usize()]) + self.seeds
    }

    pub(crate) fn candidates(&self) -> usize {
        self.order.len()
    }

    /// Candidates that some connected peer has.
    pub(crate) fn reachable(&self) -> usize {
        if self.seeds > 0 {
            return self.candidates();
        }
        let nowhere = |key: usize| (self.start[key + 1] - self.start[key]) as usize;
        self.candidates() - nowhere(0) - nowhere(LEVELS)
    }

    /// Copies of the rarest candidate; more than [`LEVELS`] among peers that are no seeds are not told
    /// apart.
    pub(crate) fn rarest(&self) -> u32 {
        let some = |key: &usize| self.start[*key] < self.start[*key + 1];
        let level = (0..KEYS).filter(some).map(|key| (key % LEVELS) as u32);
        level.min().map_or(0, |level| level + self.seeds)
    }

    /// Changes whenever a piece becomes a candidate.
    pub(crate) fn inserted(&self) -> u64 {
        self.inserted
    }

    pub(crate) fn is_candidate(&self, piece: PieceIndex) -> bool {
        let place = self.place.get(piece.as_usize());
        place.is_some_and(|place| *place != ABSENT)
    }

    /// Candidates, high priority first, rarest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = PieceIndex> + '_ {
        self.order.iter().map(|piece| PieceIndex::new(*piece))
    }

    /// The candidate at a place of the order.
    pub(crate) fn at(&self, place: usize) -> Option<PieceIndex> {
        self.order.get(place).map(|piece| PieceIndex::new(*piece))
    }

    /// How many candidates of high priority there are; they stand first in the order.
    pub(crate) fn high_count(&self) -> usize {
        self.start[LEVELS] as usize
    }

    pub(crate) fn is_high(&self, piece: PieceIndex) -> bool {
        self.high.get(piece.as_usize()).copied().unwrap_or(false)
    }

    /// Candidates by index.
    pub(crate) fn in_order(&self) -> impl Iterator<Item = PieceIndex> + '_ {
        let all = self.lowest..self.place.len() as u32;
        let pieces = all.map(PieceIndex::new);
        pieces.filter(|piece| self.is_candidate(*piece))
    }

    /// Smaller is picked sooner.
    pub(crate) fn key(&self, piece: PieceIndex) -> usize {
        let p = piece.as_usize();
        let class = if self.high[p] { 0 } else { LEVELS };
        class + usize::from(self.count[p]).min(LEVELS - 1)
    }

    pub(crate) fn set_high(&mut self, piece: PieceIndex, high: bool) {
        let was = self.is_candidate(piece);
        if was {
            self.remove(piece);
        }
        self.high[piece.as_usize()] = high;
        if was {
            self.insert(piece);
        }
    }

    pub(crate) fn insert(&mut self, piece: PieceIndex) {
        if self.is_candidate(piece) {
            return;
        }
        self.lowest = self.lowest.min(piece.get());
        self.inserted += 1;
        let key = self.key(piece);
        let mut hole = self.order.len();
        self.order.push(piece.get());
        // Every group after `key` gives its first place to the hole and takes the hole as its last.
        for k in (key + 1..=KEYS).rev() {
            let first = self.start[k] as usize;
            if first != hole {
                let moved = self.order[first];
                self.put(moved, hole);
            }
            hole = first;
            self.start[k] += 1;
        }
        self.put(piece.get(), hole);
        self.shuffle_in(piece, key);
    }

    pub(crate) fn remove(&mut self, piece: PieceIndex) {
        if !self.is_candidate(piece) {
            return;
        }
        let key = self.key(piece);
        let mut hole = self.place[piece.as_usize()] as usize;
        for k in key + 1..=KEYS {
            self.start[k] -= 1;
            let last = self.start[k] as usize;
            if last != hole {
                let moved = self.order[last];
                self.put(moved, hole);
            }
            hole = last;
        }
        debug_assert_eq!(hole + 1, self.order.len());
        self.order.pop();
        self.place[piece.as_usize()] = ABSENT;
        if self.lowest == piece.get() {
            let rest = self.place.iter().skip(piece.as_usize());
            self.lowest += rest.take_while(|place| **place == ABSENT).count() as u32;
        }
    }

    /// One more peer has it.
    pub(crate) fn add(&mut self, piece: PieceIndex) {
        let key = self.key(piece);
        let count = &mut self.count[piece.as_usize()];
        *count = count.saturating_add(1);
        if self.is_candidate(piece) && self.key(piece) != key {
            // Swap to the end of its group, then move the border over it.
            self.start[key + 1] -= 1;
            let border = self.start[key + 1] as usize;
            self.swap(self.place[piece.as_usize()] as usize, border);
            self.shuffle_in(piece, key + 1);
        }
    }

    /// One peer less has it.
    pub(crate) fn sub(&mut self, piece: PieceIndex) {
        let key = self.key(piece);
        let count = &mut self.count[piece.as_usize()];
        debug_assert!(*count > 0, "{piece:?} was never counted");
        *count = count.saturating_sub(1);
        if self.is_candidate(piece) && self.key(piece) != key {
            let border = self.start[key] as usize;
            self.swap(self.place[piece.as_usize()] as usize, border);
            self.start[key] += 1;
            self.shuffle_in(piece, key - 1);
        }
    }

    pub(crate) fn add_seed(&mut self) {
        self.seeds += 1;
    }

    pub(crate) fn sub_seed(&mut self) {
        debug_assert!(self.seeds > 0);
        self.seeds = self.seeds.saturating_sub(1);
    }

    pub(crate) fn add_all(&mut self, have: &Bitfield) {
        have.iter().for_each(|piece| self.add(piece));
    }

    pub(crate) fn sub_all(&mut self, have: &Bitfield) {
        have.iter().for_each(|piece| self.sub(piece));
    }

    fn put(&mut self, piece: u32, place: usize) {
        self.order[place] = piece;
        self.place[piece as usize] = place as u32;
    }

    fn swap(&mut self, a: usize, b: usize) {
        let (pa, pb) = (self.order[a], self.order[b]);
        self.put(pa, b);
        self.put(pb, a);
    }

    fn shuffle_in(&mut self, piece: PieceIndex, key: usize) {
        let (first, end) = (self.start[key] as usize, self.start[key + 1] as usize);
        let other = first + self.rng.index(end - first);
        self.swap(self.place[piece.as_usize()] as usize, other);
    }

    /// Panics where an invariant of the module does not hold.
    pub(crate) fn check_invariants(&self) {
        assert_eq!(self.start[0], 0);
        assert_eq!(self.start[KEYS] as usize, self.order.len());
        for key in 0..KEYS {
            assert!(self.start[key] <= self.start[key + 1]);
            for place in self.start[key]..self.start[key + 1] {
                let piece = PieceIndex::new(self.order[place as usize]);
                assert_eq!(self.key(piece), key, "{piece:?} stands in the wrong group");
                assert_eq!(self.place[piece.as_usize()], place);
            }
        }
        let present = self.place.iter().filter(|place| **place != ABSENT).count();
        assert_eq!(present, self.order.len());
        assert!(self.order.iter().all(|piece| *piece >= self.lowest));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_hold_under_random_steps() {
        let mut rng = Rng::new(5);
        let mut a = Availability::new(40, Rng::new(1));
        let mut counts = [0_u32; 40];
        for step in 0..5_000 {
            let index = rng.below(40) as u32;
            let piece = PieceIndex::new(index);
            match rng.below(5) {
                0 => a.insert(piece),
                1 => a.remove(piece),
                2 => {
                    a.add(piece);
                    counts[index as usize] += 1;
                }
                3 if counts[index as usize] > 0 => {
                    a.sub(piece);
                    counts[index as usize] -= 1;
                }
                _ => a.set_high(piece, rng.one_in(2)),
            }
            if step % 50 == 0 {
                a.check_invariants();
            }
        }
        a.check_invariants();
        for index in 0..40 {
            assert_eq!(a.of(PieceIndex::new(index)), counts[index as usize]);
        }
    }

    #[test]
    fn rarest_first_and_high_priority_before_all() {
        let mut a = Availability::new(3, Rng::new(1));
        let p = PieceIndex::new;
        (0..3).for_each(|i| a.insert(p(i)));
        a.add(p(0));
        a.add(p(0));
        a.add(p(1));
        assert_eq!(a.iter().collect::<Vec<_>>(), [p(2), p(1), p(0)]);
        a.set_high(p(0), true);
        assert_eq!(a.iter().collect::<Vec<_>>(), [p(0), p(2), p(1)]);
    }
}
