//! Hashing many pieces of a torrent that lie on the disk, on several threads and in bounded memory.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use torr_base::{Bitfield, PieceIndex};
use torr_store::StorageError;

use crate::hash::{Ranges, hash_of_zeros, hash_ranges};
use crate::open::{Stop, cancelled};
use crate::spec::OpenProgress;
use crate::storage::lock;
use crate::tree::Tree;

/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_millis(100);
/// Files named as unreadable; more would say nothing new.
const ERRORS_MAX: usize = 20;

/// What hashing found.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) right: Bitfield,
    /// Pieces hashed.
    pub(crate) pieces: u32,
    /// Bytes read.
    pub(crate) bytes: u64,
    /// What could not be read, once for each file.
    pub(crate) errors: Vec<StorageError>,
}

/// Hashes `pieces` from the disk. `None` if it was told to stop.
pub(crate) fn check_pieces(
    tree: &Tree,
    pieces: &[PieceIndex],
    threads: usize,
    progress: &(dyn Fn(OpenProgress) + Sync),
    stop: &Stop,
) -> Option<Checked> {
    let run = Run {
        tree,
        pieces,
        next: AtomicUsize::new(0),
        done: AtomicU32::new(0),
        right_count: AtomicU32::new(0),
        bytes: AtomicU64::new(0),
        right: Mutex::new(Bitfield::new(tree.plan.geometry().piece_count())),
        errors: Mutex::new(BTreeMap::new()),
        zeros: Mutex::new(BTreeMap::new()),
        told: Mutex::new(Instant::now()),
        progress,
        stop,
    };
    if !pieces.is_empty() {
        run.tell();
    }
    // A thread for a handful of pieces costs more than it saves.
    let threads = threads.min(pieces.len() / 4).max(1);
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(|| run.work());
        }
        run.work();
    });
    if stop.is_set() {
        return None;
    }
    run.tell();
    Some(Checked {
        pieces: run.done.load(Ordering::Relaxed),
        bytes: run.bytes.load(Ordering::Relaxed),
        right: run.right.into_inner().unwrap_or_else(|e| e.into_inner()),
        errors: run
            .errors
            .into_inner()
            .unwrap_or_else(|e| e.into_inner())
            .into_values()
            .collect(),
    })
}

struct Run<'a> {
    tree: &'a Tree,
    pieces: &'a [PieceIndex],
    next: AtomicUsize,
    done: AtomicU32,
    right_count: AtomicU32,
    bytes: AtomicU64,
    right: Mutex<Bitfield>,
    errors: Mutex<BTreeMap<String, StorageError>>,
    /// The hash of that many zeros: a torrent has at most two lengths of pieces.
    zeros: Mutex<BTreeMap<u64, [u8; 20]>>,
    told: Mutex<Instant>,
    progress: &'a (dyn Fn(OpenProgress) + Sync),
    stop: &'a Stop,
}

impl Run<'_> {
    fn work(&self) {
        hash_ranges(&mut Share(self));
    }

    /// What the piece is by the torrent, and whether it is.
    fn judge(&self, piece: PieceIndex, hash: Result<[u8; 20], StorageError>) {
        match hash {
            Ok(hash) if hash == self.tree.plan.hash(piece) => {
                lock(&self.right).set(piece);
                self.right_count.fetch_add(1, Ordering::Relaxed);
            }
            Ok(_) => {}
            Err(error) => {
                let mut errors = lock(&self.errors);
                if errors.len() < ERRORS_MAX {
                    errors.entry(error.path.clone()).or_insert(error);
                }
            }
        }
        self.done.fetch_add(1, Ordering::Relaxed);
        self.tell_sometimes();
    }

    fn zeros(&self, len: u64) -> [u8; 20] {
        let mut zeros = lock(&self.zeros);
        *zeros.entry(len).or_insert_with(|| hash_of_zeros(len))
    }

    fn tell_sometimes(&self) {
        // Whoever finds it locked leaves it to the other.
        let Ok(mut told) = self.told.try_lock() else {
            return;
        };
        if told.elapsed() >= TELL_EVERY {
            *told = Instant::now();
            self.tell();
        }
    }

    fn tell(&self) {
        (self.progress)(OpenProgress {
            pieces_done: self.done.load(Ordering::Relaxed),
            pieces: self.pieces.len() as u32,
            pieces_right: self.right_count.load(Ordering::Relaxed),
        });
    }
}

/// The pieces that one thread takes, one after another.
struct Share<'a, 'b>(&'a Run<'b>);

impl Ranges for Share<'_, '_> {
    type Error = StorageError;

    fn next(&mut self) -> Option<(usize, Range<u64>)> {
        let run = self.0;
        while !run.stop.is_set() {
            let next = run.next.fetch_add(1, Ordering::Relaxed);
            let piece = *run.pieces.get(next)?;
            let range = run.tree.plan.piece_range(piece);
            // A piece of nothing but holes reads as zeros: no need to read it to know.
            if run.tree.is_hole(piece).unwrap_or(false) {
                let zeros = run.zeros(range.end - range.start);
                run.judge(piece, Ok(zeros));
                continue;
            }
            run.tree.expect_reads(range.clone());
            return Some((next, range));
        }
        None
    }

    fn read(&mut self, at: u64, buf: &mut [u8]) -> Result<(), StorageError> {
        if self.0.stop.is_set() {
            return Err(cancelled());
        }
        self.0.tree.read(at, buf)
    }

    fn done(&mut self, number: usize, hash: Result<[u8; 20], StorageError>) {
        let Some(piece) = self.0.pieces.get(number).copied() else {
            return;
        };
        if hash.is_ok() {
            let range = self.0.tree.plan.piece_range(piece);
            let len = range.end - range.start;
            self.0.bytes.fetch_add(len, Ordering::Relaxed);
        }
        self.0.judge(piece, hash);
    }
}
