//! Blocks that the disk did not take: back into their piece, or given up.

use std::cmp::Reverse;

use torr_base::{Block, PieceIndex};
use torr_store::HashState;

use super::{Assembly, OpenPiece, Slot, Stage, take_here};

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
            if let Some(open) = self.open.get_mut(&piece) {
                for (index, slot) in (0..).zip(&mut open.slots) {
                    let Some((buf, _)) = take_here(slot) else {
                        continue;
                    };
                    *slot = Slot::Missing;
                    bufs.push(buf);
                    open.missing += 1;
                    open.hint = open.hint.min(index);
                }
                open.hashed = HashState::default();
                open.stale = open.hashing > 0;
                self.missing += u64::from(open.here);
                self.here -= open.here as usize;
                open.here = 0;
                self.wanting.insert(piece);
                self.dormant += usize::from(open.is_dormant());
                if open.missing as usize == open.slots.len() {
                    empty.push(piece);
                }
            }
        }
        (bufs, empty)
    }

    /// What was spilled of a piece is not on the disk after all. True where nothing is left of the piece.
    pub(crate) fn forget_spilled(&mut self, piece: PieceIndex) -> bool {
        let filling = self.open.get_mut(&piece);
        let Some(open) = filling.filter(|open| open.stage == Stage::Filling) else {
            return false;
        };
        let (dormant, before) = (open.is_dormant(), open.missing);
        for (index, slot) in (0..).zip(&mut open.slots) {
            if matches!(slot, Slot::OnDisk { .. }) {
                *slot = Slot::Missing;
                open.spilled -= 1;
                open.missing += 1;
                open.hint = open.hint.min(index);
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
