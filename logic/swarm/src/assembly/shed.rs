//! Blocks that the disk did not take: back into their piece, or given up; and those of somebody who lied.

use std::cmp::Reverse;

use torr_base::{Block, PieceIndex};
use torr_store::HashState;

use super::{Assembly, OpenPiece, Slot, Stage, take_here};
use crate::action::Source;

impl<B> Assembly<B> {
    /// A piece that was closing is open as before, with the blocks that the disk gave back, if it had any.
    /// Gives those that nobody waits for.
    pub(crate) fn put_back(&mut self, piece: PieceIndex, mut blocks: Vec<B>) -> Vec<B> {
        let closing = self.open.get_mut(&piece);
        let Some(open) = closing.filter(|open| open.stage == Stage::Closing) else {
            return blocks;
        };
        let mut back = 0;
        for slot in open.slots.iter_mut().rev() {
            let Slot::Gone { from } = *slot else { continue };
            let Some(buf) = blocks.pop() else { break };
            *slot = Slot::Here { buf, from };
            back += 1;
        }
        open.here += back;
        self.here += back as usize;
        self.away -= back as usize;
        open.hashed = HashState::default();
        open.stage = Stage::Filling;
        self.dormant += usize::from(open.is_dormant());
        blocks
    }

    /// A block that was to be spilled is in memory as before. Gives it back if nobody waits for it.
    pub(crate) fn unspilled(&mut self, block: Block, buf: B) -> Option<B> {
        let Some(open) = self.open.get_mut(&block.piece) else {
            return Some(buf);
        };
        let dormant = open.is_dormant();
        let slot = open.slots.get_mut(block.index as usize);
        let Some(slot @ Slot::Spilling { .. }) = slot else {
            return Some(buf);
        };
        let Slot::Spilling { from } = *slot else {
            return Some(buf);
        };
        *slot = Slot::Here { buf, from };
        open.spilled -= 1;
        open.here += 1;
        self.here += 1;
        self.away -= 1;
        self.dormant -= usize::from(dormant);
        None
    }

    /// Throws away blocks in memory, but for about `keep`: whole pieces stay before others, then those of
    /// which most is there, and one in any case. Gives the buffers, and the pieces of which nothing is left.
    pub(crate) fn shed(&mut self, keep: usize) -> (Vec<B>, Vec<PieceIndex>) {
        let filling = self.open.iter();
        let filling = filling.filter(|(_, open)| open.stage == Stage::Filling && open.here > 0);
        let rank = |open: &OpenPiece<B>| (open.here as usize == open.slots.len(), open.here);
        let mut order: Vec<_> = filling
            .map(|(piece, open)| (Reverse(rank(open)), *piece))
            .collect();
        order.sort_unstable();
        let (mut kept, mut bufs, mut empty) = (0, Vec::new(), Vec::new());
        for (Reverse((_, here)), piece) in order {
            if kept == 0 || kept + here as usize <= keep {
                kept += here as usize;
                continue;
            }
            let in_memory = |slot: &Slot<B>| matches!(slot, Slot::Here { .. });
            if self.vacate(piece, in_memory, &mut bufs) {
                empty.push(piece);
            }
        }
        (bufs, empty)
    }

    /// What was spilled of a piece is not on the disk after all. True where nothing is left of the piece.
    pub(crate) fn forget_spilled(&mut self, piece: PieceIndex) -> bool {
        let on_disk = |slot: &Slot<B>| matches!(slot, Slot::OnDisk { .. });
        self.vacate(piece, on_disk, &mut Vec::new())
    }

    /// Throws away what a peer sent of unfinished pieces: it lied elsewhere. What is on its way to the
    /// disk stays, since a new block could be overtaken by it. Gives back the buffers, and the pieces of
    /// which nothing is left.
    pub(crate) fn distrust(&mut self, key: Source) -> (Vec<B>, Vec<PieceIndex>) {
        let by_it = |slot: &Slot<B>| match slot {
            Slot::Here { from, .. } | Slot::OnDisk { from: Some(from) } => *from == key,
            Slot::Missing
            | Slot::Asked(..)
            | Slot::Spilling { .. }
            | Slot::OnDisk { from: None }
            | Slot::Hashing { .. }
            | Slot::Gone { .. } => false,
        };
        let mut bufs = Vec::new();
        let mut pieces: Vec<_> = self.open.keys().copied().collect();
        pieces.retain(|piece| self.vacate(*piece, by_it, &mut bufs));
        (bufs, pieces)
    }

    /// Blocks of a filling piece, in memory or on the disk, that are `gone` are missing again; `bufs` gets the
    /// buffers. True where nothing is left of the piece.
    fn vacate(
        &mut self,
        piece: PieceIndex,
        gone: impl Fn(&Slot<B>) -> bool,
        bufs: &mut Vec<B>,
    ) -> bool {
        let filling = self.open.get_mut(&piece);
        let Some(open) = filling.filter(|open| open.stage == Stage::Filling) else {
            return false;
        };
        let (dormant, before) = (open.is_dormant(), open.missing);
        for (index, slot) in (0..).zip(&mut open.slots) {
            if !gone(slot) {
                continue;
            }
            match slot {
                Slot::Here { .. } => {
                    open.here -= 1;
                    self.here -= 1;
                }
                Slot::OnDisk { .. } => open.spilled -= 1,
                Slot::Missing
                | Slot::Asked(..)
                | Slot::Spilling { .. }
                | Slot::Hashing { .. }
                | Slot::Gone { .. } => continue,
            }
            bufs.extend(take_here(slot).map(|(buf, _)| buf));
            *slot = Slot::Missing;
            open.missing += 1;
            open.hint = open.hint.min(index);
            // What follows on it was hashed in vain, and so is what is being hashed.
            if index < open.hashed.blocks {
                open.hashed = HashState::default();
                open.stale = open.hashing > 0;
            }
        }
        self.missing += u64::from(open.missing - before);
        if open.missing > 0 {
            self.wanting.insert(piece);
        }
        self.dormant = self.dormant + usize::from(open.is_dormant()) - usize::from(dormant);
        open.missing as usize == open.slots.len()
    }
}

#[cfg(test)]
mod tests {
    use torr_base::{BLOCK_LEN, Geometry, Instant};

    use super::*;
    use crate::assembly::Placed;

    /// What is fetched again is hashed again, however far the piece had been hashed before it was spilled.
    #[test]
    fn what_was_spilled_and_is_gone_was_hashed_in_vain() {
        let (piece, from, now) = (PieceIndex::new(0), Source::Web(0), Instant::ZERO);
        let geometry = Geometry::new(4 * u64::from(BLOCK_LEN), 4 * u64::from(BLOCK_LEN)).unwrap();
        let mut assembly: Assembly<u32> = Assembly::new(geometry);
        assembly.open(piece, None, now);
        let fill = |assembly: &mut Assembly<u32>| {
            while let Some(block) = assembly.ask_missing(piece, now) {
                let placed = assembly.place(block, block.index, from, now);
                assert!(!matches!(placed, Placed::Unwanted(_)));
            }
        };
        fill(&mut assembly);
        let mut run = assembly.hash(piece, 2).unwrap();
        run.hashed.blocks = 2;
        assert!(assembly.hashed(run).is_empty());
        for spill in assembly.spill(piece) {
            assembly.spilled(spill.block, true);
        }
        assert!(assembly.forget_spilled(piece), "nothing is left");
        fill(&mut assembly);
        let commit = assembly.commit(piece, false).unwrap();
        assert_eq!((commit.blocks.len(), commit.hashed.blocks), (4, 0));
    }
}
