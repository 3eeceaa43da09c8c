//! The files of one torrent as they are on disk: reading, writing and hashing by ranges of the torrent.
//!
//! - A file is opened when it is first needed and stays in the cache of the whole disk.
//! - A file that is not wanted and not there is never made: its bytes that share a piece with a wanted
//!   file lie in the *parts file* of the state directory, a sparse file in which each byte has the offset
//!   that it has in the torrent.
//! - Padding is neither read nor written: it is zeros.
//!
//! Deliberately absent: the have-log. Who makes a file, or writes a piece, records it.

use std::io::IoSlice;
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use rustix::fs::SeekFrom;
use rustix::io::Errno;
use torr_base::PieceIndex;
use torr_metainfo::Segment;
use torr_store::{StorageError, StorageErrorKind, StorageId, StorageOp};

use crate::cache::{FileCache, OpenFile, PARTS};
use crate::errno::{Sys, failed, failed_at, refused};
use crate::hash::{Ranges, hash_ranges};
use crate::hook::Call;
use crate::plan::{Kind, Plan, file_of};
use crate::root::Root;
use crate::spec::IoMode;

/// Where the bytes of a file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Nowhere yet: it is made when its first byte is written.
    Pending,
    /// In the file of its own name.
    File,
    /// In the parts file.
    Parts,
    /// Nowhere ever: they are zeros.
    Pad,
}

/// Bytes that one `pwritev` or `pread` of a hash run moves: larger calls were measured slower.
const CALL_LEN: u64 = 256 * 1024;
/// Of a piece that is about to be hashed, the kernel is told to read so much ahead.
const HASH_AHEAD: u64 = 4 << 20;
/// Slices in one call: whole blocks, and one that began in the middle.
const CALL_SLICES: usize = 17;
/// Bytes that are read with a block that is not in memory.
const READ_AHEAD: u64 = 512 * 1024;
/// Where the process has no descriptor left: how long others get to give one back, before each try.
const DESCRIPTOR_WAITS: [Duration; 4] = [
    Duration::ZERO,
    Duration::from_millis(5),
    Duration::from_millis(20),
    Duration::from_millis(80),
];
/// The name of the parts file in the state directory.
pub(crate) const PARTS_NAME: &str = "parts";

#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) id: StorageId,
    pub(crate) plan: Plan,
    pub(crate) root: Root,
    /// The state directory; `None` where only reading what is there is meant.
    pub(crate) state: Option<Root>,
    cache: Arc<FileCache>,
    io: IoMode,
    /// One for each file: its place, and whether we may write it although it has other hard links.
    flags: Vec<AtomicU8>,
}

const PLACE: u8 = 0x0f;
const OURS: u8 = 0x10;

impl Tree {
    /// All files pending, but for padding.
    pub(crate) fn new(
        id: StorageId,
        plan: Plan,
        root: Root,
        state: Option<Root>,
        cache: Arc<FileCache>,
    ) -> Self {
        let flag = |file| {
            AtomicU8::new(match plan.kind(file) {
                Kind::Pad => Place::Pad as u8,
                Kind::Plain | Kind::Executable | Kind::Link => Place::Pending as u8,
            })
        };
        let flags = (0..plan.file_count()).map(flag).collect();
        Self {
            id,
            plan,
            root,
            state,
            cache,
            io: IoMode::Buffered,
            flags,
        }
    }

    /// How whole pieces are written.
    pub(crate) fn set_io(&mut self, io: IoMode) {
        self.io = io;
    }

    pub(crate) fn io(&self) -> IoMode {
        self.io
    }

    pub(crate) fn place(&self, file: u32) -> Place {
        match self.flags[file as usize].load(Ordering::Acquire) & PLACE {
            0 => Place::Pending,
            1 => Place::File,
            2 => Place::Parts,
            _ => Place::Pad,
        }
    }

    pub(crate) fn set_place(&self, file: u32, place: Place) {
        let flag = &self.flags[file as usize];
        let kept = flag.load(Ordering::Acquire) & !PLACE;
        flag.store(kept | place as u8, Ordering::Release);
    }

    /// Whether we made that file, or were told to overwrite it.
    pub(crate) fn ours(&self, file: u32) -> bool {
        self.flags[file as usize].load(Ordering::Acquire) & OURS != 0
    }

    pub(crate) fn set_ours(&self, file: u32) {
        self.flags[file as usize].fetch_or(OURS, Ordering::AcqRel);
    }

    /// How errors name that file.
    pub(crate) fn show(&self, file: u32) -> String {
        match (&self.state, file) {
            (Some(state), PARTS) => state.show(PARTS_NAME),
            (None, PARTS) => PARTS_NAME.to_owned(),
            _ => self.root.show(&self.plan.name(file)),
        }
    }

    /// The open file, [`PARTS`] for the parts file.
    pub(crate) fn file(&self, file: u32, write: bool) -> Result<Arc<OpenFile>, StorageError> {
        if let Some(open) = self.cache.get((self.id, file), write) {
            return Ok(open);
        }
        let opened = self.with_descriptor(|| self.open(file, write));
        let fd = opened.map_err(|errno| failed(StorageOp::Open, &self.show(file), errno))?;
        if write && file != PARTS && !self.ours(file) {
            self.refuse_links(file, &fd)?;
        }
        Ok(self.cache.put((self.id, file), OpenFile::new(fd, write)))
    }

    /// Does what needs a descriptor. Where none is left, files that are open make way, and from then on fewer
    /// are kept open; others may have to end what they are at first.
    pub(crate) fn with_descriptor<T>(&self, mut call: impl FnMut() -> Sys<T>) -> Sys<T> {
        for wait in DESCRIPTOR_WAITS {
            match call() {
                Err(Errno::MFILE | Errno::NFILE) => self.cache.relieve(),
                other => return other,
            }
            std::thread::sleep(wait);
        }
        call()
    }

    /// The open file, if somebody opened it before.
    pub(crate) fn open_already(&self, file: u32) -> Option<Arc<OpenFile>> {
        self.cache.get((self.id, file), false)
    }

    /// What has the name of that file may be another one now.
    pub(crate) fn forget_open(&self, file: u32) {
        self.cache.forget((self.id, file));
    }

    /// Has the kernel begin with what follows a range that is not in memory: who asks for a block mostly
    /// asks for the rest of its piece.
    pub(crate) fn read_ahead(&self, range: Range<u64>, piece_end: u64) {
        let end = piece_end.min(range.start + READ_AHEAD);
        let Some(first) = self.plan.segments(range.start..end).next() else {
            return;
        };
        let Some((file, offset)) = self.locate(first) else {
            return;
        };
        let Ok(open) = self.file(file, false) else {
            return;
        };
        let len = first.len.min(range.end - range.start);
        if crate::resident::is_resident(&open.fd, offset, len) == Some(false) {
            crate::resident::read_soon(&open.fd, offset, first.len);
        }
    }

    /// Keeps a file that was just made.
    pub(crate) fn keep(&self, file: u32, fd: std::os::fd::OwnedFd) -> Arc<OpenFile> {
        self.cache.put((self.id, file), OpenFile::new(fd, true))
    }

    pub(crate) fn close_files(&self) {
        self.cache.close(self.id);
    }

    fn open(&self, file: u32, write: bool) -> Sys<std::os::fd::OwnedFd> {
        if file != PARTS {
            return self.root.open_file(&self.plan.name(file), write);
        }
        let state = self.state.as_ref().ok_or(Errno::NOENT)?;
        match state.open_file(PARTS_NAME, write) {
            Err(Errno::NOENT) if write => {
                match state.create_file(PARTS_NAME, false, &mut Vec::new()) {
                    // Another worker was faster. Nobody else makes files in a locked state directory.
                    Err(Errno::EXIST) => state.open_file(PARTS_NAME, write),
                    made => made,
                }
            }
            other => other,
        }
    }

    /// G6, G7: another name of the same file may be somewhere else.
    fn refuse_links(&self, file: u32, fd: &impl AsFd) -> Result<(), StorageError> {
        let show = || self.show(file);
        let stat =
            rustix::fs::fstat(fd).map_err(|errno| failed(StorageOp::Open, &show(), errno))?;
        if stat.st_nlink > 1 {
            return Err(refused(
                StorageErrorKind::Occupied,
                StorageOp::Write,
                &show(),
                format!("it has {} names (hard links)", stat.st_nlink),
            ));
        }
        Ok(())
    }

    /// Which file to read or write for a segment, and where in it; `None` for padding.
    fn locate(&self, segment: Segment) -> Option<(u32, u64)> {
        let file = file_of(segment);
        match self.place(file) {
            Place::Pad => None,
            Place::File | Place::Pending => Some((file, segment.offset)),
            Place::Parts => Some((PARTS, self.plan.start(file) + segment.offset)),
        }
    }

    /// Writes `parts`, one after another, at byte `start` of the torrent; past the page cache where that
    /// is wished and can be. No file of that range may be pending. What was touched is told by
    /// [`Self::touched`].
    pub(crate) fn write(
        &self,
        start: u64,
        parts: &[&[u8]],
        direct: bool,
    ) -> Result<(), StorageError> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let mut source = Source {
            parts,
            part: 0,
            at: 0,
        };
        for segment in self.plan.segments(start..start + len as u64) {
            match self.locate(segment) {
                None => source.skip(segment.len),
                Some((file, offset)) => {
                    debug_assert_ne!(self.place(file_of(segment)), Place::Pending);
                    self.write_file(file, offset, segment.len, &mut source, direct)?;
                }
            }
        }
        Ok(())
    }

    fn write_file(
        &self,
        file: u32,
        offset: u64,
        len: u64,
        source: &mut Source<'_>,
        direct: bool,
    ) -> Result<(), StorageError> {
        let open = self.file(file, true)?;
        let mut done = if direct {
            self.write_direct(file, &open, offset, len, source)?
        } else {
            0
        };
        while done < len {
            let mut slices = [IoSlice::new(&[]); CALL_SLICES];
            let used = source.gather(&mut slices, (len - done).min(CALL_LEN));
            let asked = self
                .root
                .hook()
                .ask_with(Call::Write, || self.name(file))
                .and_then(|()| {
                    retry(|| rustix::io::pwritev(&open.fd, &slices[..used], offset + done))
                });
            let written = match asked {
                // A disk that takes nothing and says nothing would hold us for ever.
                Ok(0) => Err(Errno::IO),
                other => other,
            };
            let written = written.map_err(|errno| {
                failed_at(StorageOp::Write, &self.show(file), offset + done, errno)
            })?;
            source.skip(written as u64);
            done += written as u64;
        }
        Ok(())
    }

    /// Fills `buf` from byte `start` of the torrent.
    pub(crate) fn read(&self, start: u64, buf: &mut [u8]) -> Result<(), StorageError> {
        let mut rest = buf;
        for segment in self.plan.segments(start..start + rest.len() as u64) {
            let (now, later) = rest.split_at_mut(segment.len as usize);
            rest = later;
            match self.locate(segment) {
                None => now.fill(0),
                Some((file, offset)) => self.read_file(file, offset, now)?,
            }
        }
        debug_assert!(rest.is_empty(), "a range past the end");
        Ok(())
    }

    fn read_file(&self, file: u32, offset: u64, buf: &mut [u8]) -> Result<(), StorageError> {
        let open = self.file(file, false)?;
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done as u64;
            let got = self
                .root
                .hook()
                .ask_with(Call::Read, || self.name(file))
                .and_then(|()| retry(|| rustix::io::pread(&open.fd, &mut buf[done..], at)))
                .map_err(|errno| failed_at(StorageOp::Read, &self.show(file), at, errno))?;
            if got == 0 {
                let show = self.show(file);
                let detail = "the file ends before that";
                return Err(StorageError {
                    offset: Some(at),
                    ..refused(StorageErrorKind::Missing, StorageOp::Read, &show, detail)
                });
            }
            done += got;
        }
        Ok(())
    }

    /// The hash of a piece from disk.
    pub(crate) fn hash_piece(&self, piece: PieceIndex) -> Result<[u8; 20], StorageError> {
        let mut one = OnePiece {
            tree: self,
            range: Some(self.plan.piece_range(piece)),
            hash: Ok([0; 20]),
        };
        hash_ranges(&mut one);
        one.hash
    }

    /// Lets the kernel begin to read a range that is wanted soon. It may do so or not.
    pub(crate) fn expect_reads(&self, range: Range<u64>) {
        let end = range.end.min(range.start + HASH_AHEAD);
        for segment in self.plan.segments(range.start..end) {
            if let Some((file, offset)) = self.locate(segment)
                && let Ok(open) = self.file(file, false)
            {
                crate::resident::read_soon(&open.fd, offset, segment.len);
            }
        }
    }

    /// Whether all that a piece has on disk is holes and padding: it reads as zeros, and needs not be
    /// read to know. An error means that it has to be read.
    pub(crate) fn is_hole(&self, piece: PieceIndex) -> Sys<bool> {
        for segment in self.plan.segments(self.plan.piece_range(piece)) {
            let Some((file, offset)) = self.locate(segment) else {
                continue;
            };
            let open = self.file(file, false).map_err(|_| Errno::NOENT)?;
            if next_data(&open.fd, offset)?.is_some_and(|data| data < offset + segment.len) {
                return Ok(false);
            }
            // Past the end is no hole: it cannot be read.
            if (rustix::fs::fstat(&open.fd)?.st_size as u64) < offset + segment.len {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Where the bytes of a range are: file, offset in it, length.
    pub(crate) fn parts_of(&self, range: Range<u64>) -> impl Iterator<Item = (u32, u64, u64)> + '_ {
        let segments = self.plan.segments(range);
        segments.filter_map(|segment| {
            let (file, offset) = self.locate(segment)?;
            Some((file, offset, segment.len))
        })
    }

    /// The files that writing a range changes, [`PARTS`] among them.
    pub(crate) fn touched(&self, range: Range<u64>) -> impl Iterator<Item = u32> + '_ {
        let segments = self.plan.segments(range);
        segments.filter_map(|segment| self.locate(segment).map(|(file, _)| file))
    }

    /// The path of that file in its folder.
    pub(crate) fn name(&self, file: u32) -> String {
        if file == PARTS {
            PARTS_NAME.to_owned()
        } else {
            self.plan.name(file)
        }
    }
}

/// The offset of the first byte at or after `offset` that is not in a hole.
pub(crate) fn next_data(fd: &impl AsFd, offset: u64) -> Sys<Option<u64>> {
    match rustix::fs::seek(fd, SeekFrom::Data(offset)) {
        Ok(at) => Ok(Some(at)),
        Err(Errno::NXIO) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// The offset of the first hole at or after `offset`; the end of a file counts as one.
pub(crate) fn next_hole(fd: &impl AsFd, offset: u64) -> Sys<u64> {
    rustix::fs::seek(fd, SeekFrom::Hole(offset))
}

/// One piece to be hashed from disk.
struct OnePiece<'a> {
    tree: &'a Tree,
    range: Option<Range<u64>>,
    hash: Result<[u8; 20], StorageError>,
}

impl Ranges for OnePiece<'_> {
    type Error = StorageError;

    fn next(&mut self) -> Option<(usize, Range<u64>)> {
        self.range.take().map(|range| (0, range))
    }

    fn read(&mut self, at: u64, buf: &mut [u8]) -> Result<(), StorageError> {
        self.tree.read(at, buf)
    }

    fn done(&mut self, _: usize, hash: Result<[u8; 20], StorageError>) {
        self.hash = hash;
    }
}

/// Again and again while a signal comes between.
pub(crate) fn retry<T>(mut call: impl FnMut() -> Sys<T>) -> Sys<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

/// Where in a list of slices we are.
pub(crate) struct Source<'a> {
    parts: &'a [&'a [u8]],
    part: usize,
    /// Bytes of that part which are done.
    at: usize,
}

impl<'a> Source<'a> {
    /// The next `len` bytes, or as many as there are slices for; tells how many slices.
    pub(crate) fn gather(&self, slices: &mut [IoSlice<'a>], len: u64) -> usize {
        let (mut left, mut at, mut used) = (len as usize, self.at, 0);
        for (slice, part) in slices.iter_mut().zip(&self.parts[self.part..]) {
            let bytes = &part[at..part.len().min(at + left)];
            *slice = IoSlice::new(bytes);
            used += 1;
            left -= bytes.len();
            at = 0;
            if left == 0 {
                break;
            }
        }
        used
    }

    pub(crate) fn skip(&mut self, len: u64) {
        let mut left = len as usize;
        while left > 0 {
            let rest = self.parts[self.part].len() - self.at;
            if left < rest {
                self.at += left;
                return;
            }
            left -= rest;
            self.part += 1;
            self.at = 0;
        }
    }
}
