//! Fetching the info dictionary from several peers at once (BEP 9), some of whom may lie about it.
//!
//! Peers say how long it is. Blocks are collected in a *book*, one for each length that is named:
//!
//! ```text
//!   offers ─► size ─┬─ no book of it failed ─► one book, from all who name that size
//!                   └─ one failed ───────────► books from one peer each, at most two at a time
//!   full book ─► SHA-1 ─┬─ right ─► found; who sent other blocks into the failed book is guilty
//!                       └─ wrong ─► its only sender is guilty; of several senders, the size is suspect
//! ```
//!
//! Invariants:
//! - memory grows with the blocks that have come, never with what was announced, and all books together
//!   hold at most [`METADATA_LEN_MAX`];
//! - a block is asked of at most two peers at a time;
//! - whoever holds a place that others wait for has to make progress;
//! - nobody is found guilty on suspicion.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use sha1::{Digest as _, Sha1};
use torr_base::{BLOCK_LEN, InfoHash, Instant};
use torr_wire::METADATA_LEN_MAX;

use crate::action::{Misbehaved, PeerKey};
use crate::metadata::InfoBytes;

/// Books open at the same time: who invents sizes must not keep the right one out for long.
const BOOKS_MAX: usize = 4;
/// Books of a suspect size, each from one peer.
const ALONE_MAX: usize = 2;
/// Blocks that one peer owes at a time, once it has shown that it answers so many.
const DEPTH: usize = 4;
/// Answers in order after which it may owe one more. Some, rtorrent among them, keep one request and drop the
/// others without a word.
const ANSWERS_PER_STEP: u32 = 4;
/// Of a peer that let the time of a request pass, only so many are asked until it answers.
const DEPTH_LATE: usize = 1;
/// Peers that are asked for the same block, once nothing else is left to ask for.
const ASKED_OF_MAX: usize = 2;
/// A block that did not come by then is asked of others as well.
const LATE: Duration = Duration::from_secs(15);
/// … and is not waited for any longer than this.
const LOST: Duration = Duration::from_secs(120);
/// What a peer can owe: as much as it may be asked for at once, and one more each time that is late.
const OWED_MAX: usize = DEPTH + (LOST.as_secs() / LATE.as_secs()) as usize;
/// A peer that rejected a request is not asked for so long.
const REST: Duration = Duration::from_secs(30);
/// A book without a block for so long makes room, if another waits.
const STALE: Duration = Duration::from_secs(30);
/// … as does one that takes longer than this and what it would take at `RATE_MIN`.
const SLOW: Duration = Duration::from_secs(60);
/// Bytes a second.
const RATE_MIN: u32 = 16 << 10;
/// Sizes of which the failed book is remembered.
const SUSPICIONS_MAX: usize = 8;
/// Blocks that nobody waited for, from one peer.
const VAIN_MAX: u32 = 256;

/// What came of a block.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Something is still missing.
    More,
    /// A book failed, and this peer alone wrote it.
    Guilty(PeerKey),
    /// All of it is here and right. These peers had sent something else.
    Found {
        bytes: InfoBytes,
        guilty: Vec<PeerKey>,
    },
}

#[derive(Debug)]
struct Source {
    size: u32,
    /// In the order in which they were asked.
    owes: Vec<Owed>,
    /// Blocks that it may owe at a time.
    depth: usize,
    /// Answers since that was last changed; `None` where it stays as it is, since a request was dropped.
    answers: Option<u32>,
    /// It is not asked before then.
    rests_until: Instant,
    /// Books that it alone was to write, and did not.
    tries: u32,
    vain: u32,
}

impl Source {
    /// It answered; false where that was not asked. What was asked before it will not come any more.
    fn answered(&mut self, block: u32, now: Instant) -> bool {
        let Some(place) = self.owes.iter().position(|owed| owed.block == block) else {
            return false;
        };
        let overtaken = self.owes.drain(..=place).count() > 1;
        let late = self.owes.iter().any(|owed| owed.is_late(now));
        if overtaken {
            (self.depth, self.answers) = (1, None);
        } else if let Some(answers) = self.answers.as_mut().filter(|_| !late) {
            *answers += 1;
            if *answers >= ANSWERS_PER_STEP && self.depth < DEPTH {
                self.depth += 1;
                *answers = 0;
            }
        }
        true
    }
}

#[derive(Clone, Copy, Debug)]
struct Owed {
    block: u32,
    since: Instant,
}

impl Owed {
    fn is_late(self, now: Instant) -> bool {
        now.since(self.since) >= LATE
    }
}

#[derive(Debug)]
struct Received {
    bytes: Box<[u8]>,
    from: PeerKey,
}

/// The blocks of one attempt.
#[derive(Debug)]
struct Book {
    size: u32,
    /// The only peer whose blocks go in; `None` for all who name that size.
    alone: Option<PeerKey>,
    blocks: Vec<Option<Received>>,
    here: usize,
    began: Instant,
    /// When the last block came.
    touched: Instant,
}

impl Book {
    fn new(size: u32, alone: Option<PeerKey>, now: Instant) -> Self {
        Self {
            size,
            alone,
            blocks: (0..block_count(size)).map(|_| None).collect(),
            here: 0,
            began: now,
            touched: now,
        }
    }

    fn takes(&self, size: u32, peer: PeerKey) -> bool {
        self.size == size && self.alone.is_none_or(|alone| alone == peer)
    }

    fn is_slow(&self, now: Instant) -> bool {
        let expected = SLOW + Duration::from_secs((self.size / RATE_MIN).into());
        now.since(self.touched) >= STALE || now.since(self.began) >= expected
    }

    fn bytes_here(&self) -> usize {
        let here = self.blocks.iter().flatten();
        here.map(|block| block.bytes.len()).sum()
    }

    fn lacks(&self, block: u32) -> bool {
        matches!(self.blocks.get(block as usize), Some(None))
    }
}

/// A book of several peers that failed: what it was made of.
#[derive(Debug)]
struct Suspicion {
    size: u32,
    digests: Vec<[u8; 20]>,
    senders: Vec<PeerKey>,
}

/// Metadata in the making.
#[derive(Debug)]
pub(crate) struct Fetch {
    info_hash: InfoHash,
    sources: BTreeMap<PeerKey, Source>,
    books: Vec<Book>,
    suspicions: VecDeque<Suspicion>,
    /// Somebody could be asked if there were room for another book.
    crowded: bool,
    /// The largest size that was named and is too large.
    too_large: Option<u32>,
}

impl Fetch {
    pub(crate) fn new(info_hash: InfoHash) -> Self {
        Self {
            info_hash,
            sources: BTreeMap::new(),
            books: Vec::new(),
            suspicions: VecDeque::new(),
            crowded: false,
            too_large: None,
        }
    }

    /// A peer says that it has the metadata, and how long that is.
    ///
    /// # Errors
    /// Where it said something else before.
    pub(crate) fn offer(
        &mut self,
        peer: PeerKey,
        size: u32,
        now: Instant,
    ) -> Result<(), Misbehaved> {
        if size > METADATA_LEN_MAX {
            self.too_large = self.too_large.max(Some(size));
            return Ok(());
        }
        if let Some(source) = self.sources.get(&peer) {
            return match source.size == size {
                true => Ok(()),
                false => Err(Misbehaved::Metadata),
            };
        }
        if size > 0 {
            let source = Source {
                size,
                owes: Vec::new(),
                depth: 1,
                answers: Some(0),
                rests_until: now,
                tries: 0,
                vain: 0,
            };
            self.sources.insert(peer, source);
        }
        Ok(())
    }

    /// The peer left. What it sent stays, unless it was to write a book alone.
    pub(crate) fn gone(&mut self, peer: PeerKey) {
        self.sources.remove(&peer);
        self.books.retain(|book| book.alone != Some(peer));
    }

    /// The next block to ask that peer for, now.
    pub(crate) fn next(&mut self, peer: PeerKey, now: Instant) -> Option<u32> {
        let source = self.sources.get(&peer)?;
        let late = source.owes.iter().any(|owed| owed.is_late(now));
        let depth = if late { DEPTH_LATE } else { source.depth };
        let due = source.owes.iter().filter(|owed| !owed.is_late(now)).count();
        if due >= depth || source.rests_until > now {
            return None;
        }
        let size = source.size;
        let place = self.book_for(peer, size, now)?;
        let book = self.books.get(place)?;
        let block = self.choose(book, peer, due > 0, now)?;
        let source = self.sources.get_mut(&peer)?;
        source.owes.retain(|owed| owed.block != block);
        source.owes.push(Owed { block, since: now });
        Some(block)
    }

    /// The block that is missing and asked of the fewest; of those the first. Whoever is late does not count.
    /// `busy`: the peer owes something. Then it is asked for more only as long as there is something left to
    /// ask it for after that: by overtaking, a dropped request is noticed.
    fn choose(&self, book: &Book, peer: PeerKey, busy: bool, now: Instant) -> Option<u32> {
        let mut asked: BTreeMap<u32, usize> = BTreeMap::new();
        for (key, source) in &self.sources {
            if !book.takes(source.size, *key) {
                continue;
            }
            for owed in &source.owes {
                // A slow peer is asked for all else before it is asked again for what it owes.
                let counts = match (*key == peer, owed.is_late(now)) {
                    (true, false) => ASKED_OF_MAX,
                    (false, true) => 0,
                    (true, true) | (false, false) => 1,
                };
                *asked.entry(owed.block).or_insert(0) += counts;
            }
        }
        let missing = (0..).zip(&book.blocks).filter(|(_, here)| here.is_none());
        let missing = missing.map(|(block, _)| (asked.get(&block).copied().unwrap_or(0), block));
        if busy && missing.clone().filter(|(count, _)| *count == 0).count() < 2 {
            return None;
        }
        let (count, block) = missing.min()?;
        (count < ASKED_OF_MAX).then_some(block)
    }

    /// The book that a peer's blocks go into; opened if there is room for one.
    fn book_for(&mut self, peer: PeerKey, size: u32, now: Instant) -> Option<usize> {
        let found = self.books.iter().position(|book| book.takes(size, peer));
        if found.is_some() {
            return found;
        }
        let suspect = self.is_suspect(size);
        let mut fits = self.books.len() < BOOKS_MAX;
        if suspect {
            let alone = self.books.iter().filter(|book| book.size == size).count();
            // Two long ones side by side would not fit.
            let most = match size > METADATA_LEN_MAX / ALONE_MAX as u32 {
                true => 1,
                false => ALONE_MAX,
            };
            fits = fits && alone < most;
        }
        // Whoever has failed to write one waits for those who have not tried.
        let of_size = self.sources.iter().filter(|(_, other)| other.size == size);
        let fresh = of_size.filter(|(key, other)| {
            let writes = self.books.iter().any(|book| book.alone == Some(**key));
            !writes && other.rests_until <= now
        });
        let least = fresh.map(|(_, other)| other.tries).min()?;
        let tries = self.sources.get(&peer)?.tries;
        if !fits || (suspect && tries > least) {
            self.crowded |= !fits;
            return None;
        }
        self.books
            .push(Book::new(size, suspect.then_some(peer), now));
        Some(self.books.len() - 1)
    }

    fn is_suspect(&self, size: u32) -> bool {
        self.suspicions.iter().any(|failed| failed.size == size)
    }

    /// A block came.
    ///
    /// # Errors
    /// Where no honest peer sends such a block.
    pub(crate) fn data(
        &mut self,
        peer: PeerKey,
        block: u32,
        total: Option<u32>,
        bytes: &[u8],
        now: Instant,
    ) -> Result<Outcome, Misbehaved> {
        let Some(source) = self.sources.get_mut(&peer) else {
            return Err(Misbehaved::Metadata);
        };
        let size = source.size;
        if total.is_some_and(|total| total != size) || bytes.len() != len_of(size, block) {
            return Err(Misbehaved::Metadata);
        }
        if !source.answered(block, now) {
            source.vain += 1;
            if source.vain > VAIN_MAX {
                return Err(Misbehaved::Metadata);
            }
            return Ok(Outcome::More);
        }
        let takes = |book: &Book| book.takes(size, peer) && book.lacks(block);
        let Some(place) = self.books.iter().position(takes) else {
            return Ok(Outcome::More);
        };
        let Some(place) = self.make_room(place, bytes.len()) else {
            return Ok(Outcome::More);
        };
        let Some(book) = self.books.get_mut(place) else {
            return Ok(Outcome::More);
        };
        if let Some(slot) = book.blocks.get_mut(block as usize) {
            let bytes = bytes.into();
            *slot = Some(Received { bytes, from: peer });
            book.here += 1;
            book.touched = now;
        }
        if book.here < book.blocks.len() {
            return Ok(Outcome::More);
        }
        let book = self.books.swap_remove(place);
        Ok(self.judge(book))
    }

    /// Room for so many bytes more in that book: of the others the one that the fewest stand behind, or that
    /// has least in it, makes way. The place that the book has then; `None` where it is the one.
    fn make_room(&mut self, place: usize, more: usize) -> Option<usize> {
        let total: usize = self.books.iter().map(Book::bytes_here).sum();
        if total + more <= METADATA_LEN_MAX as usize {
            return Some(place);
        }
        self.crowded = true;
        let worth = |book: &Book| {
            let behind = self.sources.iter();
            let behind = behind.filter(|(key, source)| book.takes(source.size, **key));
            (behind.count(), book.bytes_here())
        };
        let worths: Vec<_> = self.books.iter().map(worth).collect();
        let (least, _) = worths.iter().enumerate().min_by_key(|(_, worth)| **worth)?;
        let book = self.books.remove(least);
        self.forgive(&book);
        match least.cmp(&place) {
            std::cmp::Ordering::Less => Some(place - 1),
            std::cmp::Ordering::Equal => None,
            std::cmp::Ordering::Greater => Some(place),
        }
    }

    /// Nobody owes anything to a book that is gone.
    fn forgive(&mut self, book: &Book) {
        for (key, source) in &mut self.sources {
            if book.takes(source.size, *key) {
                source.owes.clear();
            }
        }
    }

    /// A book is full.
    fn judge(&mut self, book: Book) -> Outcome {
        self.forgive(&book);
        let blocks: Vec<Received> = book.blocks.into_iter().flatten().collect();
        let mut hash = Sha1::new();
        blocks.iter().for_each(|block| hash.update(&block.bytes));
        let senders = || blocks.iter().map(|block| block.from);
        let digests = || blocks.iter().map(|block| Sha1::digest(&block.bytes).into());
        if hash.finalize()[..] == self.info_hash.0 {
            let failed = self.suspicions.iter().find(|it| it.size == book.size);
            let guilty = failed.map_or_else(BTreeSet::new, |failed| {
                let pairs = failed.digests.iter().zip(digests()).zip(&failed.senders);
                let wrong = pairs.filter(|((was, is), _)| **was != *is);
                wrong.map(|(_, sender)| *sender).collect()
            });
            let mut bytes = Vec::with_capacity(book.size as usize);
            for block in blocks {
                bytes.extend_from_slice(&block.bytes);
            }
            return Outcome::Found {
                bytes: InfoBytes(bytes.into()),
                guilty: guilty.into_iter().collect(),
            };
        }
        let mut distinct: Vec<PeerKey> = senders().collect();
        distinct.sort_unstable();
        distinct.dedup();
        if let [only] = distinct[..] {
            return Outcome::Guilty(only);
        }
        if self.suspicions.len() == SUSPICIONS_MAX {
            self.suspicions.pop_front();
        }
        self.suspicions.push_back(Suspicion {
            size: book.size,
            digests: digests().collect(),
            senders: senders().collect(),
        });
        Outcome::More
    }

    /// The peer will not give that block.
    pub(crate) fn rejected(&mut self, peer: PeerKey, block: u32, now: Instant) {
        if let Some(source) = self.sources.get_mut(&peer) {
            source.owes.retain(|owed| owed.block != block);
            source.rests_until = now + REST;
        }
    }

    /// Gives up what will not come, and takes places from those who do nothing with them.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        for source in self.sources.values_mut() {
            source.owes.retain(|owed| now.since(owed.since) < LOST);
        }
        if !std::mem::take(&mut self.crowded) {
            return;
        }
        let Some(place) = self.books.iter().position(|book| book.is_slow(now)) else {
            return;
        };
        let book = self.books.remove(place);
        self.forgive(&book);
        for (key, source) in &mut self.sources {
            if book.takes(source.size, *key) {
                source.rests_until = now + REST;
                source.tries += 1;
            }
        }
    }

    /// Bytes here of the book that has most, and how many it is to have.
    pub(crate) fn progress(&self) -> Option<(u64, u64)> {
        let book = self.books.iter().max_by_key(|book| book.here)?;
        Some((book.bytes_here() as u64, book.size.into()))
    }

    /// Whether the peer says that it has it.
    pub(crate) fn is_source(&self, peer: PeerKey) -> bool {
        self.sources.contains_key(&peer)
    }

    /// Peers that say that they have it.
    pub(crate) fn sources(&self) -> usize {
        self.sources.len()
    }

    /// A size that peers named and that is more than is fetched, where none named another.
    pub(crate) fn too_large(&self) -> Option<u32> {
        self.too_large.filter(|_| self.sources.is_empty())
    }

    pub(crate) fn check_invariants(&self) {
        let total: usize = self.books.iter().map(Book::bytes_here).sum();
        assert!(total <= METADATA_LEN_MAX as usize);
        assert!(self.books.len() <= BOOKS_MAX);
        assert!(self.suspicions.len() <= SUSPICIONS_MAX);
        for book in &self.books {
            assert_eq!(book.here, book.blocks.iter().flatten().count());
            assert!(book.here < book.blocks.len(), "a full book was not judged");
        }
        for source in self.sources.values() {
            assert!(source.owes.len() <= OWED_MAX);
        }
    }
}

fn block_count(size: u32) -> u32 {
    size.div_ceil(BLOCK_LEN)
}

/// Bytes in that block; 0 where there is none.
fn len_of(size: u32, block: u32) -> usize {
    let start = block.saturating_mul(BLOCK_LEN);
    size.saturating_sub(start).min(BLOCK_LEN) as usize
}

#[cfg(test)]
mod tests;
