//! Which files a torrent is made of on this disk, and which bytes and hashes they are to have.

use std::ops::Range;
use std::sync::Arc;

use torr_base::{Geometry, PieceIndex};
use torr_metainfo::{FileIndex, Info, Layout, Segment, Segments, Warning};
use torr_store::{
    LogHeader, LogImage, NamePart, Record, StorageError, StorageErrorKind, StorageOp,
};

use crate::errno::refused;

/// How a file is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    /// Made with the execute bits on (BEP 47 `x`).
    Executable,
    /// Zeros that are never stored (BEP 47 `p`).
    Pad,
    /// A symbolic link (BEP 47 `l`). It has no bytes.
    Link,
}

/// A torrent under the names that it has on this disk. Files go by their number; every number below
/// [`Self::file_count`] is one.
#[derive(Debug)]
pub(crate) struct Plan {
    info: Arc<Info>,
    names: Layout,
}

impl Plan {
    /// Names as the torrent gives them, or as they were kept in the log; `name` in the place of the
    /// top-level one.
    ///
    /// # Errors
    /// Where `name` is not one that a file can have.
    pub(crate) fn new(
        info: Arc<Info>,
        name: Option<&str>,
        kept: Option<&LogImage>,
    ) -> Result<Self, StorageError> {
        let mut names = info.layout().clone();
        if let Some(kept) = kept.and_then(|image| restore(&info, image)) {
            names = kept;
        }
        if let Some(name) = name {
            let files = info.map().files();
            let files = files.map(|file| names.below_root(file));
            names = Layout::restore(&info, name, files).ok_or_else(|| {
                let detail = "it cannot be the name of a file";
                refused(StorageErrorKind::Denied, StorageOp::Create, name, detail)
            })?;
        }
        Ok(Self { info, names })
    }

    pub(crate) fn geometry(&self) -> Geometry {
        self.info.geometry()
    }

    pub(crate) fn file_count(&self) -> u32 {
        self.info.map().file_count()
    }

    /// All files that are not padding.
    pub(crate) fn files(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.file_count()).filter(|file| self.kind(*file) != Kind::Pad)
    }

    /// The path from the download folder on, with `/` between the components.
    pub(crate) fn name(&self, file: u32) -> String {
        self.names.path(FileIndex::new(file)).unwrap_or_default()
    }

    /// The file or folder that holds everything.
    pub(crate) fn top(&self) -> &str {
        self.names.root()
    }

    /// What the link of that number says, from the folder it is in; `None` where it is no link, or would
    /// lead out of the torrent.
    pub(crate) fn link_text(&self, file: u32) -> Option<String> {
        let target = self.info.symlink_target(FileIndex::new(file))?;
        let below = self.names.below_root(FileIndex::new(file))?;
        if target.is_empty()
            || target
                .split('/')
                .any(|part| part.is_empty() || part == "..")
        {
            return None;
        }
        let up = "../".repeat(below.matches('/').count());
        Some(format!("{up}{target}"))
    }

    pub(crate) fn kind(&self, file: u32) -> Kind {
        match self.info.file(FileIndex::new(file)) {
            Some(file) if file.attrs.pad => Kind::Pad,
            Some(file) if file.attrs.symlink && file.len == 0 => Kind::Link,
            Some(file) if file.attrs.executable => Kind::Executable,
            Some(_) | None => Kind::Plain,
        }
    }

    /// Bytes of that file.
    pub(crate) fn len(&self, file: u32) -> u64 {
        self.info.map().len(FileIndex::new(file))
    }

    /// Bytes of the torrent before that file.
    pub(crate) fn start(&self, file: u32) -> u64 {
        self.info.map().start(FileIndex::new(file))
    }

    pub(crate) fn hash(&self, piece: PieceIndex) -> [u8; 20] {
        self.info.hash(piece)
    }

    /// The whole of a piece, in bytes of the torrent.
    pub(crate) fn piece_range(&self, piece: PieceIndex) -> Range<u64> {
        let start = self.geometry().piece_start(piece);
        start..start + u64::from(self.geometry().piece_len(piece))
    }

    /// The pieces that hold a byte of that range of a file.
    pub(crate) fn pieces_in(
        &self,
        file: u32,
        range: Range<u64>,
    ) -> impl Iterator<Item = PieceIndex> + use<> {
        let piece_len = u64::from(self.geometry().piece_len_max());
        let start = self.start(file) + range.start;
        let end = self.start(file) + range.end.min(self.len(file));
        let numbers = if start < end {
            start / piece_len..end.div_ceil(piece_len)
        } else {
            0..0
        };
        numbers.map(|n| PieceIndex::new(n as u32))
    }

    /// The pieces that hold a byte of that file.
    pub(crate) fn pieces_of(&self, file: u32) -> impl Iterator<Item = PieceIndex> + use<> {
        self.info.map().pieces_of(FileIndex::new(file))
    }

    /// The files under a range of the torrent's bytes.
    pub(crate) fn segments(&self, range: Range<u64>) -> Segments<'_> {
        self.info
            .map()
            .segments(range.start, range.end - range.start)
    }

    /// The names that are not those of the torrent, for the log (product.md 2.7).
    pub(crate) fn name_records(&self) -> Vec<Record> {
        let mut out = Vec::new();
        for warning in self.info.warnings() {
            if let Warning::NameOnDisk { file, .. } = warning {
                let number = file.map_or(u32::MAX, FileIndex::get);
                let name = match file {
                    None => Some(self.names.root()),
                    Some(file) => self.names.below_root(file),
                };
                let parts = name.map(|name| NamePart::split(number, name));
                out.extend(parts.into_iter().flatten().map(Record::Name));
            }
        }
        out
    }
}

/// Which torrent a log must be of.
pub(crate) fn header(info: &Info) -> LogHeader {
    LogHeader {
        info_hash: info.info_hash(),
        pieces: info.geometry().piece_count(),
        piece_len: info.geometry().piece_len_max(),
        total: info.geometry().total(),
        files: info.map().file_count(),
    }
}

/// The number of the file that a segment is in.
pub(crate) fn file_of(segment: Segment) -> u32 {
    segment.file.get()
}

/// The names that the log kept, with today's for the rest. `None` where it kept none, or they do not fit.
fn restore(info: &Info, image: &LogImage) -> Option<Layout> {
    if !image.has_names() {
        return None;
    }
    let fresh = info.layout();
    let root = image.name(u32::MAX);
    let kept: Vec<Option<String>> = info
        .map()
        .files()
        .map(|file| image.name(file.get()))
        .collect();
    let names = info.map().files().zip(&kept);
    let names = names.map(|(file, kept)| kept.as_deref().or(fresh.below_root(file)));
    Layout::restore(info, root.as_deref().unwrap_or(fresh.root()), names)
}
