//! Pieces on their way: which blocks are missing, asked for, here, or spilled, and who sent them.
//!
//! Invariants:
//! - a piece is open exactly from its first request to the answer of its commit;
//! - a block in memory belongs to its slot until the piece is complete or the block is spilled;
//! - `missing` counts the slots that nobody was asked for.
//!
//! It does not know peers beyond their key, nor which piece should be opened next.

mod away;
mod shed;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use torr_base::{Block, Geometry, Instant, PieceIndex};
use torr_store::HashState;

use crate::action::Source;

#[derive(Debug)]
pub(crate) enum Slot<B> {
    Missing,
    /// How many peers were asked; more than one only in the end game.
    Asked(u8, Instant),
    Here {
        buf: B,
        from: Source,
    },
    /// On its way to the disk without its piece being verified.
    Spilling {
        from: Source,
    },
    /// On disk, unverified; `None` where an earlier run put it there.
    OnDisk {
        from: Option<Source>,
    },
    /// At the disk to be hashed; it comes back.
    Hashing {
        from: Source,
    },
    /// Part of a commit.
    Gone {
        from: Source,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Filling,
    /// Handed to the disk: commit or verify.
    Closing,
}

#[derive(Debug)]
pub(crate) struct OpenPiece<B> {
    slots: Vec<Slot<B>>,
    missing: u32,
    here: u32,
    /// Spilling or on disk.
    spilled: u32,
    /// How far the piece is hashed. Of no use once something is spilled.
    hashed: HashState,
    /// Blocks after those, which are being hashed.
    hashing: u32,
    /// What is being hashed follows on something that was thrown away meanwhile.
    stale: bool,
    /// Where the search for a missing block starts.
    hint: u32,
    pub(crate) opened: Instant,
    /// When a block last came.
    pub(crate) touched: Instant,
    pub(crate) stage: Stage,
    /// Only this peer is asked: it is fast enough to finish the piece alone, or the piece is tried
    /// again from one peer after a bad hash.
    pub(crate) owner: Option<Source>,
    /// The owner is not given up for speed: its answer shall show who lied.
    pub(crate) parole: bool,
}

/// What [`Assembly::place`] made of a block.
#[derive(Debug)]
pub(crate) enum Placed<B> {
    Kept,
    /// It was the last one: the piece can be committed or verified.
    Last,
    /// It is here already, or the piece is not open.
    Unwanted(B),
}

#[derive(Debug)]
pub(crate) struct Assembly<B> {
    geometry: Geometry,
    open: BTreeMap<PieceIndex, OpenPiece<B>>,
    /// Those of them that miss blocks nobody was asked for.
    wanting: BTreeSet<PieceIndex>,
    /// Missing slots of all open pieces in filling.
    missing: u64,
    /// Blocks in memory in all open pieces.
    here: usize,
    /// Blocks of open pieces that are at the disk, to be hashed, written or spilled.
    away: usize,
    /// Pieces of which nothing is in memory, and of which nobody owes a block.
    dormant: usize,
    spare: Vec<Vec<Slot<B>>>,
    /// Emptied lists of blocks that were at the disk, kept for those that go there next.
    spare_lists: Vec<Vec<B>>,
}

/// Emptied slot lists kept for the next piece.
const SPARE_MAX: usize = 64;

impl<B> Assembly<B> {
    pub(crate) fn new(geometry: Geometry) -> Self {
        Self {
            geometry,
            open: BTreeMap::new(),
            wanting: BTreeSet::new(),
            missing: 0,
            here: 0,
            away: 0,
            dormant: 0,
            spare: Vec::new(),
            spare_lists: Vec::new(),
        }
    }

    pub(crate) fn open(
        &mut self,
        piece: PieceIndex,
        owner: Option<Source>,
        now: Instant,
    ) -> &mut OpenPiece<B> {
        debug_assert!(!self.is_open(piece), "{piece:?} is open already");
        let count = self.geometry.block_count(piece);
        let mut slots = self.spare.pop().unwrap_or_default();
        slots.extend((0..count).map(|_| Slot::Missing));
        self.missing += u64::from(count);
        self.dormant += 1;
        self.wanting.insert(piece);
        self.open.entry(piece).or_insert(OpenPiece {
            slots,
            missing: count,
            here: 0,
            spilled: 0,
            hashed: HashState::default(),
            hashing: 0,
            stale: false,
            hint: 0,
            opened: now,
            touched: now,
            stage: Stage::Filling,
            owner,
            parole: false,
        })
    }

    /// A piece of which an earlier run left blocks on the disk.
    pub(crate) fn open_partial(&mut self, piece: PieceIndex, on_disk: &[u32], now: Instant) {
        self.open(piece, None, now);
        for index in on_disk {
            let Some(open) = self.open.get_mut(&piece) else {
                return;
            };
            let Some(slot) = open.slots.get_mut(*index as usize) else {
                continue;
            };
            if matches!(slot, Slot::Missing) {
                *slot = Slot::OnDisk { from: None };
                open.missing -= 1;
                open.spilled += 1;
                self.missing -= 1;
                if open.missing == 0 {
                    self.wanting.remove(&piece);
                }
            }
        }
    }

    pub(crate) fn get(&self, piece: PieceIndex) -> Option<&OpenPiece<B>> {
        self.open.get(&piece)
    }

    pub(crate) fn get_mut(&mut self, piece: PieceIndex) -> Option<&mut OpenPiece<B>> {
        self.open.get_mut(&piece)
    }

    pub(crate) fn is_open(&self, piece: PieceIndex) -> bool {
        self.open.contains_key(&piece)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (PieceIndex, &OpenPiece<B>)> {
        self.open.iter().map(|(piece, open)| (*piece, open))
    }

    /// The open pieces that miss blocks nobody was asked for.
    pub(crate) fn wanting(&self) -> impl Iterator<Item = (PieceIndex, &OpenPiece<B>)> {
        let pieces = self.wanting.iter();
        pieces.filter_map(|piece| Some((*piece, self.open.get(piece)?)))
    }

    /// The pieces that are left to one peer.
    pub(crate) fn owned_by(&self, key: Source) -> Vec<PieceIndex> {
        let owned = self.open.iter().filter(|(_, open)| open.owner == Some(key));
        owned.map(|(piece, _)| *piece).collect()
    }

    /// How many thousandths of a piece's blocks are here or asked for.
    pub(crate) fn asked_share(&self, piece: PieceIndex) -> u32 {
        let Some(open) = self.open.get(&piece) else {
            return 1_000;
        };
        let count = open.slots.len() as u64;
        ((count - u64::from(open.missing)) * 1_000 / count.max(1)) as u32
    }

    /// Open pieces that hold memory, or will when those who were asked answer.
    pub(crate) fn active(&self) -> usize {
        self.open.len() - self.dormant
    }

    /// The dormant piece of which least is on the disk, where there are more than `max`.
    pub(crate) fn dormant_beyond(&self, max: usize) -> Option<PieceIndex> {
        if self.dormant <= max {
            return None;
        }
        let dormant = self.open.iter().filter(|(_, open)| open.is_dormant());
        let least = dormant.min_by_key(|(_, open)| open.spilled);
        least.map(|(piece, _)| *piece)
    }

    /// Blocks that nobody was asked for, in all open pieces.
    pub(crate) fn missing(&self) -> u64 {
        self.missing
    }

    /// Blocks that have come and whose memory is not free yet.
    pub(crate) fn memory(&self) -> usize {
        self.here + self.away
    }

    /// Blocks in memory.
    pub(crate) fn here(&self) -> usize {
        self.here
    }

    /// Takes the next block of the piece that nobody was asked for, and counts it as asked.
    pub(crate) fn ask_missing(&mut self, piece: PieceIndex, now: Instant) -> Option<Block> {
        let open = self.open.get_mut(&piece)?;
        if open.missing == 0 || open.stage != Stage::Filling {
            return None;
        }
        let from = open.hint as usize;
        let tail = open.slots.iter().enumerate().skip(from);
        let (index, _) = tail
            .chain(open.slots.iter().enumerate().take(from))
            .find(|(_, slot)| matches!(slot, Slot::Missing))?;
        *open.slots.get_mut(index)? = Slot::Asked(1, now);
        self.dormant -= usize::from(open.is_dormant());
        open.hint = index as u32 + 1;
        open.missing -= 1;
        self.missing -= 1;
        if open.missing == 0 {
            self.wanting.remove(&piece);
        }
        Some(self.geometry.block_at(piece, index as u32))
    }

    /// The same for the first such block of a range.
    pub(crate) fn ask_within(
        &mut self,
        piece: PieceIndex,
        range: Range<u32>,
        now: Instant,
    ) -> Option<Block> {
        let open = self.open.get(&piece)?;
        let slots = open.slots.get(range.start as usize..range.end as usize)?;
        let place = slots
            .iter()
            .position(|slot| matches!(slot, Slot::Missing))?;
        let block = self.geometry.block_at(piece, range.start + place as u32);
        self.ask(block, now).then_some(block)
    }

    /// Counts one more as asked for that block; false where it is here, or its piece not open.
    pub(crate) fn ask(&mut self, block: Block, now: Instant) -> bool {
        let Some(open) = self.open.get_mut(&block.piece) else {
            return false;
        };
        let dormant = open.is_dormant();
        if open.stage != Stage::Filling {
            return false;
        }
        match open.slots.get_mut(block.index as usize) {
            Some(Slot::Asked(by, at)) => {
                *at = now;
                *by = by.saturating_add(1);
                return true;
            }
            Some(slot @ Slot::Missing) => *slot = Slot::Asked(1, now),
            Some(
                Slot::Here { .. }
                | Slot::Spilling { .. }
                | Slot::OnDisk { .. }
                | Slot::Hashing { .. }
                | Slot::Gone { .. },
            )
            | None => return false,
        }
        self.dormant -= usize::from(dormant);
        open.missing -= 1;
        self.missing -= 1;
        if open.missing == 0 {
            self.wanting.remove(&block.piece);
        }
        true
    }

    /// Counts one more peer as asked for a block that somebody was asked for already (end game).
    pub(crate) fn ask_again(&mut self, block: Block, now: Instant) {
        if let Some(Slot::Asked(by, at)) = self.slot_mut(block) {
            *at = now;
            *by = by.saturating_add(1);
        }
    }

    /// A request is off: rejected, timed out, choked, or its peer left. True where nothing is left of
    /// its piece: it need not stay open.
    #[must_use]
    pub(crate) fn release(&mut self, block: Block) -> bool {
        let Some(open) = self.open.get_mut(&block.piece) else {
            return false;
        };
        let Some(slot) = open.slots.get_mut(block.index as usize) else {
            return false;
        };
        if let Slot::Asked(by, _) = slot {
            *by -= 1;
            if *by == 0 {
                *slot = Slot::Missing;
                open.missing += 1;
                open.hint = open.hint.min(block.index);
                self.missing += 1;
                self.wanting.insert(block.piece);
                self.dormant += usize::from(open.is_dormant());
            }
        }
        open.missing as usize == open.slots.len()
    }

    /// Whether a block from that peer is of use. A piece on parole takes none from others that they
    /// were not asked for again since: its hash shall speak about its owner.
    pub(crate) fn wants(&self, block: Block, from: Source, asked: bool) -> bool {
        let open = self.open.get(&block.piece);
        let alone = open.is_some_and(|open| open.parole && open.owner != Some(from));
        let free = matches!(self.slot(block), Some(Slot::Asked(..) | Slot::Missing));
        free && (asked || !alone)
    }

    /// How many peers are asked for it.
    pub(crate) fn asked(&self, block: Block) -> u8 {
        match self.slot(block) {
            Some(Slot::Asked(by, _)) => *by,
            Some(
                Slot::Missing
                | Slot::Here { .. }
                | Slot::Spilling { .. }
                | Slot::OnDisk { .. }
                | Slot::Hashing { .. }
                | Slot::Gone { .. },
            )
            | None => 0,
        }
    }

    /// Puts a block where it belongs. The caller takes back the requests of other peers.
    pub(crate) fn place(&mut self, block: Block, buf: B, from: Source, now: Instant) -> Placed<B> {
        let Some(open) = self.open.get_mut(&block.piece) else {
            return Placed::Unwanted(buf);
        };
        let was_dormant = open.is_dormant();
        let Some(slot) = open.slots.get_mut(block.index as usize) else {
            return Placed::Unwanted(buf);
        };
        match slot {
            Slot::Asked(..) => {}
            Slot::Missing => {
                open.missing -= 1;
                self.missing -= 1;
                if open.missing == 0 {
                    self.wanting.remove(&block.piece);
                }
            }
            Slot::Here { .. }
            | Slot::Spilling { .. }
            | Slot::OnDisk { .. }
            | Slot::Hashing { .. }
            | Slot::Gone { .. } => {
                return Placed::Unwanted(buf);
            }
        }
        *slot = Slot::Here { buf, from };
        self.dormant -= usize::from(was_dormant);
        open.touched = now;
        open.here += 1;
        self.here += 1;
        if open.here + open.spilled == open.slots.len() as u32 {
            Placed::Last
        } else {
            Placed::Kept
        }
    }

    /// Closes a piece; says who sent each block.
    pub(crate) fn close(&mut self, piece: PieceIndex) -> Vec<Option<Source>> {
        let Some(mut open) = self.open.remove(&piece) else {
            return Vec::new();
        };
        self.dormant -= usize::from(open.is_dormant());
        self.missing -= u64::from(open.missing);
        self.wanting.remove(&piece);
        self.here -= open.here as usize;
        let from = open.slots.iter().map(|slot| match slot {
            Slot::Missing | Slot::Asked(..) | Slot::OnDisk { from: None } => None,
            Slot::Here { from, .. }
            | Slot::Spilling { from }
            | Slot::Hashing { from }
            | Slot::Gone { from } => Some(*from),
            Slot::OnDisk { from } => *from,
        });
        let from = from.collect();
        self.away -= open.away();
        open.slots.clear();
        if self.spare.len() < SPARE_MAX {
            self.spare.push(open.slots);
        }
        from
    }

    /// Everything in memory, the pieces closed: the swarm ends.
    pub(crate) fn drain(&mut self) -> Vec<B> {
        let mut out = Vec::new();
        let pieces: Vec<_> = self.open.keys().copied().collect();
        for piece in pieces {
            if let Some(open) = self.open.get_mut(&piece) {
                out.extend(
                    open.slots
                        .iter_mut()
                        .filter_map(take_here)
                        .map(|(buf, _)| buf),
                );
                self.here -= open.here as usize;
                // Those that were just taken look as if they were at the disk.
                self.away += open.here as usize;
                open.here = 0;
            }
            self.close(piece);
        }
        out
    }

    fn slot(&self, block: Block) -> Option<&Slot<B>> {
        self.open.get(&block.piece)?.slots.get(block.index as usize)
    }

    fn slot_mut(&mut self, block: Block) -> Option<&mut Slot<B>> {
        let open = self.open.get_mut(&block.piece)?;
        open.slots.get_mut(block.index as usize)
    }

    /// Panics where a count disagrees with its slots.
    pub(crate) fn check_invariants(&self) {
        let (mut missing, mut here) = (0, 0);
        for (piece, open) in &self.open {
            let count = |f: fn(&Slot<B>) -> bool| open.slots.iter().filter(|s| f(s)).count() as u32;
            assert_eq!(open.slots.len() as u32, self.geometry.block_count(*piece));
            assert_eq!(
                open.missing,
                count(|s| matches!(s, Slot::Missing)),
                "{piece:?}"
            );
            assert_eq!(
                open.here,
                count(|s| matches!(s, Slot::Here { .. })),
                "{piece:?}"
            );
            let away = |s: &Slot<B>| matches!(s, Slot::Hashing { .. });
            assert_eq!(open.hashing, count(away), "{piece:?}");
            assert!(
                open.hashing > 0 || !open.stale,
                "{piece:?} waits for nothing"
            );
            let spilled = |s: &Slot<B>| matches!(s, Slot::Spilling { .. } | Slot::OnDisk { .. });
            assert_eq!(open.spilled, count(spilled), "{piece:?}");
            assert!(
                !open.slots.iter().any(|s| matches!(s, Slot::Asked(0, _))),
                "{piece:?}"
            );
            missing += u64::from(open.missing);
            here += open.here as usize;
        }
        assert_eq!((self.missing, self.here), (missing, here));
        let away = self.open.values().map(OpenPiece::away);
        assert_eq!(self.away, away.sum::<usize>());
        let wanting = self.open.iter().filter(|(_, open)| open.missing > 0);
        assert!(wanting.map(|(piece, _)| piece).eq(&self.wanting));
        let dormant = self.open.values().filter(|open| open.is_dormant());
        assert_eq!(self.dormant, dormant.count());
    }
}

impl<B> OpenPiece<B> {
    pub(crate) fn missing(&self) -> u32 {
        self.missing
    }

    pub(crate) fn here(&self) -> u32 {
        self.here
    }

    /// The first blocks in a row that nobody was asked for.
    pub(crate) fn missing_span(&self) -> Range<u32> {
        let is_missing = |slot: &Slot<B>| matches!(slot, Slot::Missing);
        let first = self.slots.iter().position(is_missing);
        let first = first.unwrap_or(self.slots.len());
        let row = self
            .slots
            .iter()
            .skip(first)
            .take_while(|slot| is_missing(slot));
        first as u32..(first + row.count()) as u32
    }

    /// Blocks that are at the disk.
    fn away(&self) -> usize {
        let at_disk = |slot: &&Slot<B>| match slot {
            Slot::Spilling { .. } | Slot::Hashing { .. } | Slot::Gone { .. } => true,
            Slot::Missing | Slot::Asked(..) | Slot::Here { .. } | Slot::OnDisk { .. } => false,
        };
        self.slots.iter().filter(at_disk).count()
    }

    /// Nothing of it is in memory, and nobody owes a block of it.
    fn is_dormant(&self) -> bool {
        self.stage == Stage::Filling && (self.missing + self.spilled) as usize == self.slots.len()
    }

    /// Indices of blocks that somebody was asked for, with how many were.
    pub(crate) fn asked(&self) -> impl Iterator<Item = (u32, u8, Instant)> + '_ {
        let slots = self.slots.iter().enumerate();
        slots.filter_map(|(index, slot)| match slot {
            Slot::Asked(by, at) => Some((index as u32, *by, *at)),
            Slot::Missing
            | Slot::Here { .. }
            | Slot::Spilling { .. }
            | Slot::OnDisk { .. }
            | Slot::Hashing { .. }
            | Slot::Gone { .. } => None,
        })
    }
}

fn take_here<B>(slot: &mut Slot<B>) -> Option<(B, Source)> {
    let Slot::Here { from, .. } = *slot else {
        return None;
    };
    match std::mem::replace(slot, Slot::Gone { from }) {
        Slot::Here { buf, from } => Some((buf, from)),
        Slot::Missing
        | Slot::Asked(..)
        | Slot::Spilling { .. }
        | Slot::OnDisk { .. }
        | Slot::Hashing { .. }
        | Slot::Gone { .. } => None,
    }
}
