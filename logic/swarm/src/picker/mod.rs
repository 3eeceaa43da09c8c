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
            Order::RarestFirst => a.iter().find(fits),
        }
    }
}
