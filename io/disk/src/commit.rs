//! The jobs of one storage: hash, write, record; read; spill and verify.

use std::ops::Range;
use std::time::Instant;

use torr_base::{BLOCK_LEN, PieceIndex, RawBlock};
use torr_store::{
    BlockBuf, CommitError, Committed, Digest, LoadError, PieceCommit, Record, SpillBlock,
    StorageError, StorageErrorKind, StorageOp, add_record, bits_of,
};

use crate::errno::refused;
use crate::hash::digest;
use crate::storage::{Storage, Touched, lock};

impl Storage {
    /// Writes and records those pieces whose hashes are right. All blocks come back. `soon`: they are
    /// likely to be read again.
    pub(crate) fn commit(
        &self,
        pieces: Vec<PieceCommit<BlockBuf>>,
        hashes: &[[u8; 20]],
        soon: bool,
    ) -> Vec<Committed<BlockBuf>> {
        let held = self.hold_back();
        let direct = self.tree.io().is_direct(soon);
        let passed = held.is_ok();
        let results = self.write_right(&pieces, hashes, held, direct);
        if passed {
            self.tell_gate(&results);
        }
        let answer = |(commit, result): (PieceCommit<BlockBuf>, Result<(), CommitError>)| {
            let wanted = commit.digests || result == Err(CommitError::HashMismatch);
            let digests = if wanted {
                self.slices(commit.piece, &commit.blocks)
                    .iter()
                    .map(|block| digest(block))
                    .collect()
            } else {
                Vec::new()
            };
            Committed {
                piece: commit.piece,
                blocks: commit.blocks,
                result,
                digests,
            }
        };
        pieces.into_iter().zip(results).map(answer).collect()
    }

    fn write_right(
        &self,
        pieces: &[PieceCommit<BlockBuf>],
        hashes: &[[u8; 20]],
        held: Result<(), StorageError>,
        direct: bool,
    ) -> Vec<Result<(), CommitError>> {
        if let Err(error) = held {
            let all = pieces.iter();
            return all
                .map(|_| Err(CommitError::Storage(error.clone())))
                .collect();
        }
        let (mut records, mut touched) = (Vec::new(), Touched::default());
        let mut results = Vec::with_capacity(pieces.len());
        let right = |at: usize| hashes[at] == self.tree.plan.hash(pieces[at].piece);
        while results.len() < pieces.len() {
            let first = results.len();
            if !right(first) {
                results.push(Err(CommitError::HashMismatch));
                continue;
            }
            // Pieces that follow on each other are one write: small direct ones cost several times as much.
            let goes_on = |at: &usize| {
                *at < pieces.len()
                    && pieces[*at - 1].piece.next() == pieces[*at].piece
                    && right(*at)
            };
            let end = (first + 1..).take_while(goes_on).last().unwrap_or(first) + 1;
            let run = &pieces[first..end];
            let written = self.write_run(run, &mut touched, direct);
            if written.is_ok() {
                for commit in run {
                    self.sure_of(commit.piece);
                    add_piece(&mut records, commit.piece);
                }
            }
            let result = written.map_err(CommitError::Storage);
            results.extend(run.iter().map(|_| result.clone()));
        }
        if !records.is_empty()
            && let Err(error) = self.record(&records, touched)
        {
            for result in results.iter_mut().filter(|result| result.is_ok()) {
                *result = Err(CommitError::Storage(error.clone()));
            }
        }
        results
    }

    /// What the device is known by from now on: one job counts once.
    fn tell_gate(&self, results: &[Result<(), CommitError>]) {
        let told = results.iter().rev().find_map(|result| match result {
            Ok(()) => Some(Ok(())),
            Err(CommitError::Storage(error)) => Some(Err(error)),
            Err(CommitError::HashMismatch) => None,
        });
        self.gate().tell(told, Instant::now());
    }

    /// Pieces that lie one after another.
    fn write_run(
        &self,
        run: &[PieceCommit<BlockBuf>],
        touched: &mut Touched,
        direct: bool,
    ) -> Result<(), StorageError> {
        let range = |commit: &PieceCommit<BlockBuf>| self.tree.plan.piece_range(commit.piece);
        let (Some(first), Some(last)) = (run.first(), run.last()) else {
            return Ok(());
        };
        let all = range(first).start..range(last).end;
        let mut slices = Vec::new();
        for commit in run {
            slices.extend(self.slices(commit.piece, &commit.blocks));
        }
        self.write(all.clone(), &slices, touched, direct)?;
        touched.bytes += all.end - all.start;
        Ok(())
    }

    fn write(
        &self,
        range: Range<u64>,
        slices: &[&[u8]],
        touched: &mut Touched,
        direct: bool,
    ) -> Result<(), StorageError> {
        self.make_files(range.clone())?;
        let files: Vec<u32> = self.tree.touched(range.clone()).collect();
        let open = self.begin_write(&files)?;
        let written = self.tree.write(range.start, slices, direct);
        self.end_write(&open);
        touched.files.extend(files);
        written
    }

    /// The bytes of a piece in its blocks. A piece without all of its blocks is the caller's mistake: its
    /// hash will not agree.
    pub(crate) fn slices<'a>(&self, piece: PieceIndex, blocks: &'a [BlockBuf]) -> Vec<&'a [u8]> {
        let geometry = self.tree.plan.geometry();
        let sound = geometry.piece(piece.get()).is_some();
        debug_assert!(sound && blocks.len() == geometry.block_count(piece) as usize);
        let mut left = if sound { geometry.piece_len(piece) } else { 0 };
        let mut out = Vec::with_capacity(blocks.len());
        for block in blocks {
            let len = left.min(BLOCK_LEN);
            left -= len;
            out.push(&block.as_ref()[..len as usize]);
        }
        out
    }

    /// Reads a range of a piece into the start of `buf`.
    pub(crate) fn load(&self, range: RawBlock, buf: &mut BlockBuf) -> Result<(), LoadError> {
        let geometry = self.tree.plan.geometry();
        let whole = buf.as_mut();
        if !geometry.contains(range, whole.len() as u32) {
            debug_assert!(false, "{range:?} is in no piece");
            return Err(LoadError::Storage(refused(
                StorageErrorKind::Io,
                StorageOp::Read,
                "a piece",
                format!("{range:?} is in no piece"),
            )));
        }
        let result = self.load_verified(range, &mut whole[..range.len as usize]);
        if let Err(LoadError::Storage(error)) = &result
            && error.kind == StorageErrorKind::Io
            && error.errno.is_some()
        {
            let start =
                geometry.piece_start(PieceIndex::new(range.piece)) + u64::from(range.offset);
            lock(&self.trouble).unread = Some(start..start + u64::from(range.len));
        }
        result
    }

    /// Writes blocks that nobody has verified, and notes in the log where they are.
    pub(crate) fn spill(&self, blocks: &[SpillBlock<BlockBuf>]) -> Result<(), StorageError> {
        self.hold_back()?;
        let spilled = self.spill_runs(blocks);
        self.gate()
            .tell(Some(spilled.as_ref().copied()), Instant::now());
        spilled
    }

    fn spill_runs(&self, blocks: &[SpillBlock<BlockBuf>]) -> Result<(), StorageError> {
        let (mut records, mut touched) = (Vec::new(), Touched::default());
        for run in blocks.chunk_by(follows) {
            let Some(first) = run.first() else { continue };
            let start = self.tree.plan.geometry().piece_start(first.block.piece)
                + u64::from(first.block.offset());
            let slices: Vec<&[u8]> = run
                .iter()
                .map(|spill| &spill.buf.as_ref()[..spill.block.len as usize])
                .collect();
            let len: usize = slices.iter().map(|slice| slice.len()).sum();
            self.write(start..start + len as u64, &slices, &mut touched, false)?;
            run.iter().for_each(|spill| add_block(&mut records, spill));
        }
        self.record(&records, touched)
    }

    /// Hashes a piece whose blocks were all spilled; records it, or forgets its blocks.
    pub(crate) fn verify(&self, piece: PieceIndex, digests: bool) -> Committed<BlockBuf> {
        let (result, digests) = match self.hash_blocks(piece, digests) {
            Ok((right, found)) => (self.record_verified(piece, right), found),
            Err(error) => (Err(CommitError::Storage(error)), Vec::new()),
        };
        Committed {
            piece,
            blocks: Vec::new(),
            result,
            digests,
        }
    }

    fn record_verified(&self, piece: PieceIndex, right: bool) -> Result<(), CommitError> {
        let range = self.tree.plan.piece_range(piece);
        let mut records = Vec::new();
        let mut touched = Touched::default();
        if right {
            add_piece(&mut records, piece);
            touched.files.extend(self.tree.touched(range.clone()));
            touched.bytes = range.end - range.start;
        } else {
            records.push(Record::Unspilled { piece });
        }
        let recorded = self.record(&records, touched);
        recorded.map_err(CommitError::Storage)?;
        if right {
            Ok(())
        } else {
            Err(CommitError::HashMismatch)
        }
    }

    /// Whether a piece on disk is right, and the digests of its blocks if it is not or they are wanted.
    fn hash_blocks(
        &self,
        piece: PieceIndex,
        wanted: bool,
    ) -> Result<(bool, Vec<Digest>), StorageError> {
        let (geometry, mut buf) = (self.tree.plan.geometry(), Vec::new());
        let hash = self.tree.hash_piece(piece)?;
        let right = hash == self.tree.plan.hash(piece);
        let mut digests = Vec::new();
        // Read a second time: it is seldom wanted, and hashing all twice would cost every piece.
        let blocks = if wanted || !right {
            geometry.block_count(piece)
        } else {
            0
        };
        for index in 0..blocks {
            let block = geometry.block_at(piece, index);
            buf.resize(block.len as usize, 0);
            let start = geometry.piece_start(piece) + u64::from(block.offset());
            self.tree.read(start, &mut buf)?;
            digests.push(digest(&buf));
        }
        Ok((right, digests))
    }
}

fn follows(a: &SpillBlock<BlockBuf>, b: &SpillBlock<BlockBuf>) -> bool {
    a.block.piece == b.block.piece && a.block.index + 1 == b.block.index
}

/// Adds a piece to the records, in one that is there already if it fits.
pub(crate) fn add_piece(records: &mut Vec<Record>, piece: PieceIndex) {
    let (first, bits) = bits_of(piece.get());
    add_record(records, Record::Have { first, bits });
}

fn add_block(records: &mut Vec<Record>, spill: &SpillBlock<BlockBuf>) {
    let (first, bits) = bits_of(spill.block.index);
    let piece = spill.block.piece;
    add_record(records, Record::Spilled { piece, first, bits });
}
