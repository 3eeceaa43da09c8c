//! Which piece to open next for a peer.
//!
//! The picker knows pieces, not blocks and not peers: who has what and what is wanted. Blocks of open
//! pieces are the assembly's.

mod availability;

use torr_base::{Bitfield, PieceIndex, Rng};

pub(crate) use availability::Availability;

/// A peer that can give fewer pieces than this share of the candidates is asked by walking its own
/// pieces instead of the order.
const SPARSE: u32 = 16;

/// How far the order is walked for the rarest piece that a peer has.
const WALK_MAX: usize = 1_024;
/// Past it: the rarest of so many.
const SAMPLE: usize = 32;

/// Bytes of a torrent that are fetched in a row from a fast peer, where none of it is rarer than the rest.
const EXTENT: u64 = 4 << 20;

/// In which order pieces are opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// While nothing is complete: any piece, so that there is soon something to give.
    RandomFirst,
    RarestFirst,
    Sequential,
}

#[derive(Debug)]
pub(crate) struct Picker {
    pub(crate) availability: Availability,
    rng: Rng,
}

impl Picker {
    pub(crate) fn new(pieces: u32, rng: &Rng) -> Self {
        Self {
            availability: Availability::new(pieces, rng.fork("availability", 0)),
            rng: rng.fork("picker", 0),
        }
    }

    /// The rarest candidate of a few pieces, as far as `has` names it.
    pub(crate) fn among(
        &self,
        few: &[PieceIndex],
        has: &Bitfield,
        allowed: impl Fn(PieceIndex) -> bool,
    ) -> Option<PieceIndex> {
        let a = &self.availability;
        let fits = |p: &PieceIndex| a.is_candidate(*p) && has.get(*p) && allowed(*p);
        let open = few.iter().copied().filter(fits);
        open.min_by_key(|piece| a.key(*piece))
    }

    /// The candidate to open next among those that `has` names. `interesting` is how many pieces of
    /// `has` we still want at all.
    pub(crate) fn next(
        &mut self,
        has: &Bitfield,
        interesting: u32,
        order: Order,
        allowed: impl Fn(PieceIndex) -> bool,
    ) -> Option<PieceIndex> {
        let a = &self.availability;
        let count = a.candidates();
        if count == 0 || interesting == 0 {
            return None;
        }
        let fits = |piece: &PieceIndex| has.get(*piece) && allowed(*piece);
        match order {
            Order::Sequential => {
                let high = (0..a.high_count()).filter_map(|place| a.at(place));
                high.filter(fits)
                    .min()
                    .or_else(|| a.in_order().find(|piece| fits(piece)))
            }
            Order::RandomFirst => {
                let from = self.rng.index(count);
                let turn = (from..count).chain(0..from);
                turn.filter_map(|place| a.at(place)).find(fits)
            }
            Order::RarestFirst if has.count() as usize * SPARSE as usize <= count => {
                let open = has.iter().filter(|p| a.is_candidate(*p) && allowed(*p));
                open.min_by_key(|piece| a.key(*piece))
            }
            Order::RarestFirst => {
                let near = a.iter().take(WALK_MAX).find(fits);
                if near.is_some() {
                    return near;
                }
                let from = self.rng.index(count);
                self.rarest_of_some(from, fits)
            }
        }
    }

    /// Instead of `found`, a piece that is as welcome and will be written together with others: the one after
    /// `last` in the same [`EXTENT`], else the first of the row in which `found` lies.
    pub(crate) fn in_a_row(
        &self,
        last: Option<PieceIndex>,
        found: PieceIndex,
        piece_len: u32,
        fits: impl Fn(PieceIndex) -> bool,
    ) -> PieceIndex {
        let a = &self.availability;
        let extent = |piece: PieceIndex| u64::from(piece.get()) * u64::from(piece_len) / EXTENT;
        let welcome = |piece: PieceIndex| {
            a.is_candidate(piece) && a.key(piece) <= a.key(found) && fits(piece)
        };
        let next = last.map(|last| (last, last.next()));
        let next = next.filter(|(last, next)| extent(*last) == extent(*next) && welcome(*next));
        if let Some((_, next)) = next {
            return next;
        }
        let mut first = found;
        while let Some(before) = first.previous()
            && extent(before) == extent(found)
            && welcome(before)
        {
            first = before;
        }
        first
    }

    /// The rarest of some that fit, from a random place on: for a peer that has none of the rarest
    /// thousands, past which every choice would have to walk.
    fn rarest_of_some(
        &self,
        from: usize,
        fits: impl Fn(&PieceIndex) -> bool,
    ) -> Option<PieceIndex> {
        let a = &self.availability;
        let turn = (from..a.candidates()).chain(0..from);
        let some = turn
            .filter_map(|place| a.at(place))
            .filter(fits)
            .take(SAMPLE);
        some.min_by_key(|piece| a.key(*piece))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fast_peers_get_rows() {
        let mut picker = Picker::new(64, &Rng::new(1));
        (0..64).for_each(|p| picker.availability.insert(PieceIndex::new(p)));
        let row = |picker: &Picker, last: Option<u32>, found| {
            let last = last.map(PieceIndex::new);
            let piece = picker.in_a_row(last, PieceIndex::new(found), 256 << 10, |_| true);
            piece.get()
        };
        // Sixteen pieces of 256 KiB are an extent.
        assert_eq!(row(&picker, None, 21), 16);
        assert_eq!(row(&picker, Some(16), 40), 17);
        assert_eq!(row(&picker, Some(31), 40), 32, "the extent is through");
        picker.availability.remove(PieceIndex::new(35));
        assert_eq!(row(&picker, Some(34), 40), 36);
        // What more peers have is less welcome.
        let mut have = Bitfield::new(64);
        have.set(PieceIndex::new(38));
        picker.availability.add_all(&have);
        assert_eq!(row(&picker, Some(37), 40), 39);
        assert_eq!(
            row(&picker, Some(38), 38),
            39,
            "but what fewer have is more"
        );
    }

    #[test]
    fn finds_a_piece_wherever_there_is_one_and_the_rarest_of_few() {
        let mut rng = Rng::new(3);
        for pieces in [10_u32, 300, 3_000] {
            let mut picker = Picker::new(pieces, &Rng::new(1));
            let mut fields = Vec::new();
            for share in [2, 3, 50, 1_000] {
                let mut field = Bitfield::new(pieces);
                for piece in (0..pieces).map(PieceIndex::new) {
                    if rng.one_in(share) {
                        field.set(piece);
                    }
                }
                picker.availability.add_all(&field);
                fields.push(field);
            }
            for piece in (0..pieces).map(PieceIndex::new) {
                picker.availability.insert(piece);
            }
            for _ in 0..2 * pieces {
                let has = &fields[rng.index(fields.len())];
                let a = &picker.availability;
                let fitting = has.iter().filter(|piece| a.is_candidate(*piece));
                let least = fitting.map(|piece| a.key(piece)).min();
                let found = picker.next(has, has.count(), Order::RarestFirst, |_| true);
                let key = found.map(|piece| picker.availability.key(piece));
                assert_eq!(key.is_some(), least.is_some());
                if pieces as usize <= WALK_MAX {
                    assert_eq!(key, least);
                }
                if let Some(piece) = found {
                    assert!(has.get(piece));
                    picker.availability.remove(piece);
                }
            }
        }
    }
}
