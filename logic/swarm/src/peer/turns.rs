//! Which of its pieces a peer is asked for next.
//!
//! One after another, for most peers. A fast one is asked for several at a time: their hashes then go side
//! by side, at a fraction of the cost. The pieces stand in a row, oldest first, and each is kept ahead of
//! the next by the same step, so that they end one after another and on average half of their bytes are in
//! memory.

use std::ops::RangeInclusive;

use torr_base::PieceIndex;

use crate::closing::SIDE_BY_SIDE;

/// Blocks asked for in a row of one piece, where there are several: as many as each is kept ahead of the next,
/// within these bounds. To choose a piece means to look at all of them.
const IN_A_ROW: RangeInclusive<u32> = 4..=16;
/// Pieces at a time, at most: as many as are hashed side by side.
pub(crate) const WIDTH_MAX: usize = SIDE_BY_SIDE;

/// The pieces that a peer is asked for at a time.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    /// Oldest first.
    pieces: Vec<PieceIndex>,
    /// Whose turn it is, and for how many blocks still.
    now: Option<(PieceIndex, u32)>,
}

impl Turns {
    pub(crate) fn len(&self) -> usize {
        self.pieces.len()
    }

    /// The piece whose turn goes on.
    pub(crate) fn going_on(&mut self) -> Option<PieceIndex> {
        let (piece, left) = self.now.filter(|(_, left)| *left > 0)?;
        self.now = Some((piece, left - 1));
        Some(piece)
    }

    pub(crate) fn contains(&self, piece: PieceIndex) -> bool {
        self.pieces.contains(&piece)
    }

    pub(crate) fn push(&mut self, piece: PieceIndex) {
        debug_assert!(self.pieces.len() < WIDTH_MAX && !self.contains(piece));
        self.pieces.push(piece);
    }

    pub(crate) fn remove(&mut self, piece: PieceIndex) {
        self.pieces.retain(|other| *other != piece);
        self.now = self.now.filter(|(now, _)| *now != piece);
    }

    pub(crate) fn clear(&mut self) {
        self.pieces.clear();
        self.now = None;
    }

    /// The piece whose turn begins. `width` is how many pieces there are to be at a time, `blocks` how many
    /// blocks one has; `asked` tells how many thousandths of a piece were asked for.
    pub(crate) fn next(
        &mut self,
        width: usize,
        blocks: u32,
        asked: impl Fn(PieceIndex) -> u32,
    ) -> Option<PieceIndex> {
        // How far each is behind the place that it should have: the oldest at its end, each that follows
        // one step before the last.
        let width = width.max(self.pieces.len()).max(1) as u32;
        let behind = |(place, piece): (usize, &PieceIndex)| {
            let due = 1_000 * (width - place as u32) / width;
            (due.saturating_sub(asked(*piece)), std::cmp::Reverse(place))
        };
        let rows = self.pieces.iter().enumerate();
        let (_, piece) = rows.max_by_key(|(place, piece)| behind((*place, piece)))?;
        let row = (blocks / width).clamp(*IN_A_ROW.start(), *IN_A_ROW.end());
        self.now = Some((*piece, row - 1));
        Some(*piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Asks for blocks of pieces of 256 blocks each; tells how many blocks are in unfinished pieces at most,
    /// and on average over the second half.
    fn held(width: usize, blocks: u32) -> (u32, u32) {
        const LEN: u32 = 256;
        let (mut turns, mut asked) = (Turns::default(), BTreeMap::new());
        let (mut opened, mut most, mut sum) = (0, 0, 0);
        for n in 0..blocks {
            while turns.len() < width {
                turns.push(PieceIndex::new(opened));
                asked.insert(PieceIndex::new(opened), 0);
                opened += 1;
            }
            let share = |p: PieceIndex| asked[&p] * 1_000 / LEN;
            let piece = turns.going_on().or_else(|| turns.next(width, LEN, share));
            let piece = piece.unwrap();
            let count = asked.get_mut(&piece).unwrap();
            *count += 1;
            if *count == LEN {
                turns.remove(piece);
                asked.remove(&piece);
            }
            let now: u32 = asked.values().sum();
            most = now.max(most);
            sum += if n >= blocks / 2 { now } else { 0 };
        }
        (most, sum / (blocks - blocks / 2))
    }

    #[test]
    fn pieces_end_one_after_another() {
        let (most, average) = held(16, 20_000);
        assert!(most <= 16 * 256 * 6 / 10, "{most}");
        assert!(average <= 16 * 256 * 55 / 100, "{average}");
        let (most, _) = held(1, 2_000);
        assert!(most <= 256);
    }
}
