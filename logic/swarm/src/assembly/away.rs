//! Blocks on their way to the disk and back: hashed while their piece still fills, committed with it, or
//! spilled before it is verified.

use torr_base::{Block, PieceIndex};
use torr_store::{HashRun, PieceCommit, SpillBlock};

use super::{Assembly, SPARE_MAX, Slot, Stage, take_here};

impl<B> Assembly<B> {
    /// Whether all blocks of a piece are in memory, and none spilled.
    pub(crate) fn is_in_memory(&self, piece: PieceIndex) -> bool {
        let open = self.open.get(&piece);
        open.is_some_and(|open| open.here as usize == open.slots.len())
    }

    fn is_on_disk(&self, piece: PieceIndex) -> bool {
        let Some(open) = self.open.get(&piece) else {
            return false;
        };
        // The count spares most looks at the slots, of which large pieces have thousands.
        let all = open.spilled as usize == open.slots.len();
        let on_disk = |slot| matches!(slot, &Slot::OnDisk { .. });
        all && open.slots.iter().all(on_disk)
    }

    /// All blocks of the piece are on the disk, and it is to be verified there; it stays open until the
    /// answer. False where that is not so, or is under way.
    pub(crate) fn begin_verify(&mut self, piece: PieceIndex) -> bool {
        let whole = self.is_on_disk(piece);
        let open = self.open.get_mut(&piece).filter(|_| whole);
        let Some(open) = open.filter(|open| open.stage == Stage::Filling) else {
            return false;
        };
        self.dormant -= usize::from(open.is_dormant());
        open.stage = Stage::Closing;
        true
    }

    /// All blocks of the piece are in memory: it is closing from now on, until the disk's answer to its
    /// [`Self::commit`]. False where that is not so.
    pub(crate) fn begin_commit(&mut self, piece: PieceIndex) -> bool {
        let whole = self.is_in_memory(piece);
        if let Some(open) = self.open.get_mut(&piece).filter(|_| whole) {
            open.stage = Stage::Closing;
        }
        whole
    }

    /// The piece for the disk, all blocks of which are in memory; it stays open until the answer.
    pub(crate) fn commit(&mut self, piece: PieceIndex, digests: bool) -> Option<PieceCommit<B>> {
        if !self.is_in_memory(piece) {
            return None;
        }
        let open = self.open.get_mut(&piece)?;
        open.stage = Stage::Closing;
        self.here -= open.here as usize;
        self.away += open.here as usize;
        open.here = 0;
        let mut blocks = self.spare_lists.pop().unwrap_or_default();
        blocks.reserve(open.slots.len());
        blocks.extend(
            open.slots
                .iter_mut()
                .filter_map(take_here)
                .map(|(buf, _)| buf),
        );
        Some(PieceCommit {
            piece,
            blocks,
            hashed: open.hashed,
            digests,
        })
    }

    /// Blocks of the piece that could be hashed now: those that follow without a gap on what is hashed.
    /// The last one, which may be short, waits for the commit.
    pub(crate) fn ready(&self, piece: PieceIndex) -> u32 {
        let Some(open) = self.open.get(&piece) else {
            return 0;
        };
        let idle = open.stage == Stage::Filling && open.hashing == 0 && open.spilled == 0;
        if !idle || open.here <= open.hashed.blocks {
            return 0;
        }
        let from = open.hashed.blocks as usize;
        let until = open.slots.len() - 1;
        let rest = open.slots.get(from..until).unwrap_or_default();
        let here = |slot: &&Slot<B>| matches!(slot, Slot::Here { .. });
        rest.iter().take_while(here).count() as u32
    }

    /// Blocks of a whole piece that are not hashed yet.
    pub(crate) fn unhashed(&self, piece: PieceIndex) -> u32 {
        let open = self.open.get(&piece);
        open.map_or(0, |open| open.slots.len() as u32 - open.hashed.blocks)
    }

    /// Takes out what [`Self::ready`] counted, but no more than `most` blocks, to be hashed;
    /// [`Self::hashed`] brings it back.
    pub(crate) fn hash(&mut self, piece: PieceIndex, most: u32) -> Option<HashRun<B>> {
        let count = self.ready(piece).min(most);
        let open = self.open.get_mut(&piece).filter(|_| count > 0)?;
        let mut blocks = self.spare_lists.pop().unwrap_or_default();
        // As many as there may ever be, so that the list serves any piece the next time.
        blocks.reserve(open.slots.len());
        let slots = open.slots.iter_mut().skip(open.hashed.blocks as usize);
        for slot in slots.take(count as usize) {
            if let Some((buf, from)) = take_here(slot) {
                *slot = Slot::Hashing { from };
                blocks.push(buf);
            }
        }
        open.hashing = count;
        open.here -= count;
        self.here -= count as usize;
        self.away += count as usize;
        Some(HashRun {
            piece,
            hashed: open.hashed,
            first: open.hashed.blocks,
            blocks,
        })
    }

    /// The disk hashed a run: its blocks are back. Gives those that nobody waits for.
    pub(crate) fn hashed(&mut self, mut run: HashRun<B>) -> Vec<B> {
        let Some(open) = self
            .open
            .get_mut(&run.piece)
            .filter(|open| open.hashing > 0)
        else {
            return run.blocks;
        };
        // The swarm failed meanwhile where it is not so: nothing else closes a piece with blocks away.
        debug_assert_eq!(run.blocks.len(), open.hashing as usize);
        let slots = open.slots.iter_mut().skip(run.first as usize);
        let mut left = Vec::new();
        for (slot, buf) in slots.zip(run.blocks.drain(..)) {
            match *slot {
                Slot::Hashing { from } => *slot = Slot::Here { buf, from },
                Slot::Missing
                | Slot::Asked(..)
                | Slot::Here { .. }
                | Slot::Spilling { .. }
                | Slot::OnDisk { .. }
                | Slot::Gone { .. } => left.push(buf),
            }
        }
        let back = open.hashing - left.len() as u32;
        self.away -= open.hashing as usize;
        open.here += back;
        self.here += back as usize;
        open.hashing = 0;
        if !std::mem::take(&mut open.stale) {
            open.hashed = run.hashed;
        }
        self.keep_list(run.blocks);
        left
    }

    /// Keeps an emptied list for the next blocks that go to the disk.
    pub(crate) fn keep_list(&mut self, list: Vec<B>) {
        debug_assert!(list.is_empty(), "its blocks go back first");
        if self.spare_lists.len() < SPARE_MAX {
            self.spare_lists.push(list);
        }
    }

    /// Whether nothing of the piece is missing or away, so that it can be closed.
    pub(crate) fn is_whole(&self, piece: PieceIndex) -> bool {
        let open = self.open.get(&piece);
        open.is_some_and(|open| {
            open.stage == Stage::Filling && (open.here + open.spilled) as usize == open.slots.len()
        })
    }

    /// The blocks in memory of a piece, to be written before it is verified.
    pub(crate) fn spill(&mut self, piece: PieceIndex) -> Vec<SpillBlock<B>> {
        let Some(open) = self.open.get_mut(&piece) else {
            return Vec::new();
        };
        let mut out = Vec::with_capacity(open.here as usize);
        for (index, slot) in open.slots.iter_mut().enumerate() {
            if let Some((buf, from)) = take_here(slot) {
                *slot = Slot::Spilling { from };
                let block = self.geometry.block_at(piece, index as u32);
                out.push(SpillBlock { block, buf });
            }
        }
        open.spilled += open.here;
        self.here -= open.here as usize;
        self.away += open.here as usize;
        if open.here > 0 {
            open.here = 0;
            self.dormant += usize::from(open.is_dormant());
        }
        out
    }

    pub(crate) fn spilled(&mut self, block: Block, written: bool) {
        let Some(open) = self.open.get_mut(&block.piece) else {
            return;
        };
        let Some(slot) = open.slots.get_mut(block.index as usize) else {
            return;
        };
        let Slot::Spilling { from } = *slot else {
            return;
        };
        self.away -= 1;
        if written {
            *slot = Slot::OnDisk { from: Some(from) };
        } else {
            *slot = Slot::Missing;
            open.spilled -= 1;
            open.missing += 1;
            open.hint = open.hint.min(block.index);
            self.missing += 1;
            self.wanting.insert(block.piece);
        }
    }
}
