//! The info dictionary (BEP 3, 27, 47, and the v1 part of a hybrid of BEP 52).
//!
//! Invariants:
//! - [`Info::raw`] is exactly what was read, and the info-hashes are made over it.
//! - There is one hash for each piece of the geometry, and one entry for each file of the map.
//! - What is large (hashes, names) is kept once, in `raw`, and referred to.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use sha1::{Digest as _, Sha1};
use sha2::Sha256;
use torr_base::{Geometry, InfoHash, PieceIndex, hex};
use torr_bencode::{Dict, Limits, Value};

use crate::error::MetainfoError;
use crate::files::{self, Entry, FileAttrs};
use crate::limits::TORRENT_LEN_MAX;
use crate::paths::{PathChange, safe_path};
use crate::warning::{Warning, Warnings};
use crate::{FileIndex, FileMap, Layout};

/// SHA-256 over the exact bytes of the info dictionary (BEP 52).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InfoHashV2(pub [u8; 32]);

impl InfoHashV2 {
    /// What stands for it where only 20 bytes fit: handshakes, trackers, the DHT.
    #[must_use]
    pub fn truncated(self) -> InfoHash {
        let mut short = [0; 20];
        for (to, from) in short.iter_mut().zip(self.0) {
            *to = from;
        }
        InfoHash(short)
    }
}

impl fmt::Display for InfoHashV2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0).fmt(f)
    }
}

impl fmt::Debug for InfoHashV2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InfoHashV2({self})")
    }
}

/// What the info-hash stands for: the files, their bytes' hashes, and how to share them. Never changes;
/// share it as `Arc<Info>`.
#[derive(Clone)]
pub struct Info {
    raw: Arc<[u8]>,
    hash: InfoHash,
    hash_v2: Option<InfoHashV2>,
    name: String,
    single: bool,
    private: bool,
    source: Option<String>,
    map: FileMap,
    entries: Vec<Entry>,
    layout: Layout,
    changes: Vec<PathChange>,
    /// Where in `raw` the piece hashes are.
    pieces: Range<usize>,
    warnings: Vec<Warning>,
}

/// One file of a torrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct File {
    /// Its number.
    pub index: FileIndex,
    /// Bytes of the torrent before it.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
    /// What kind of file it is.
    pub attrs: FileAttrs,
}

impl Info {
    /// Reads an info dictionary as peers send it (BEP 9). Whether it is the one that was asked for,
    /// [`Self::info_hash`] tells.
    ///
    /// # Errors
    /// See [`MetainfoError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, MetainfoError> {
        let limits = Limits {
            len: TORRENT_LEN_MAX,
            ..Limits::DEFAULT
        };
        if bytes.len() > TORRENT_LEN_MAX {
            return Err(MetainfoError::TooLong(bytes.len()));
        }
        let document = torr_bencode::read(bytes, &limits)?;
        if !document.rest.is_empty() {
            return Err(MetainfoError::Bencode(torr_bencode::Error {
                at: document.root.raw().len(),
                kind: torr_bencode::ErrorKind::TrailingBytes,
            }));
        }
        let mut info = Self::from_value(document.root)?;
        if !document.keys_sorted {
            info.warnings.push(Warning::KeysOutOfOrder);
        }
        Ok(info)
    }

    pub(crate) fn from_value(value: Value<'_>) -> Result<Self, MetainfoError> {
        let dict = files::dict(value, || "info".to_owned())?;
        let raw = value.raw();
        let mut warnings = Warnings::default();
        let [name, name_utf8, piece_length, pieces, private, source] = dict.pick([
            "name",
            "name.utf-8",
            "piece length",
            "pieces",
            "private",
            "source",
        ]);
        let hash_v2 = version(dict, raw, &mut warnings)?;

        let files::Files {
            single,
            entries,
            lens,
        } = files::read(dict, raw, &mut warnings)?;
        let piece_length = piece_length.ok_or_else(|| missing("info.piece length"))?;
        let piece_length = files::uint(piece_length, || "info.piece length".to_owned())?;
        let is_pad = entries.iter().map(|entry| entry.attrs.pad);
        let map = FileMap::new(piece_length, lens.into_iter().zip(is_pad))
            .map_err(MetainfoError::Geometry)?;

        let pieces = pieces.ok_or_else(|| missing("info.pieces"))?;
        let pieces = piece_hashes(pieces, raw, map.geometry())?;

        let name = read_name(name, name_utf8, &mut warnings);
        let hash = InfoHash(Sha1::digest(raw).into());
        let paths = entries.iter().map(|entry| entry.path_on_disk(raw));
        let (layout, changes) = Layout::new(name, &hash.to_string(), single, paths);
        Ok(Self {
            hash,
            hash_v2,
            name: String::from_utf8_lossy(name).into_owned(),
            single,
            private: read_private(private, &mut warnings),
            source: files::text(source, "info.source", &mut warnings),
            map,
            entries,
            layout,
            changes,
            pieces,
            warnings: warnings.into_vec(),
            raw: raw.into(),
        })
    }

    /// The exact bytes of the dictionary, as peers ask for them (BEP 9).
    #[must_use]
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// The same, to be kept.
    #[must_use]
    pub fn shared_raw(&self) -> Arc<[u8]> {
        Arc::clone(&self.raw)
    }

    /// What the torrent is known by (BEP 3).
    #[must_use]
    pub const fn info_hash(&self) -> InfoHash {
        self.hash
    }

    /// What the v2 part of a hybrid is known by (BEP 52).
    #[must_use]
    pub const fn info_hash_v2(&self) -> Option<InfoHashV2> {
        self.hash_v2
    }

    /// The name as it is in the torrent, but for what is not UTF-8. It may be empty, and anything may
    /// stand in it; what is fit for disks and screens is [`Layout::root`].
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same as the bytes that they are, for the URLs of web seeds (BEP 19) and for nothing on this machine.
    #[must_use]
    pub fn raw_name(&self) -> Vec<u8> {
        let dict = torr_bencode::parse(&self.raw).ok();
        let dict = dict.and_then(Value::as_dict);
        let names = dict.map(|dict| dict.pick(["name", "name.utf-8"]));
        names.map_or_else(Vec::new, |[name, utf8]| {
            read_name(name, utf8, &mut Warnings::default()).to_vec()
        })
    }

    /// Whether the torrent is one file without a folder.
    #[must_use]
    pub const fn is_single_file(&self) -> bool {
        self.single
    }

    /// Whether peers may come from the torrent's trackers only (BEP 27).
    #[must_use]
    pub const fn is_private(&self) -> bool {
        self.private
    }

    /// What some trackers write in, so that the same files get an info-hash of their own there.
    #[must_use]
    pub fn source(&self) -> Option<&str> {
        self.source.as_deref()
    }

    /// Pieces and blocks.
    #[must_use]
    pub const fn geometry(&self) -> Geometry {
        self.map.geometry()
    }

    /// The SHA-1 that a piece must have; zeros, which nothing has, for one past the end.
    #[must_use]
    pub fn hash(&self, piece: PieceIndex) -> [u8; 20] {
        let (hashes, _) = self.hashes().as_chunks();
        hashes.get(piece.as_usize()).copied().unwrap_or_default()
    }

    /// All piece hashes, 20 bytes each.
    #[must_use]
    pub fn hashes(&self) -> &[u8] {
        self.raw.get(self.pieces.clone()).unwrap_or_default()
    }

    /// Where bytes are in the files.
    #[must_use]
    pub const fn map(&self) -> &FileMap {
        &self.map
    }

    /// Where the files are on disk.
    #[must_use]
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// All files in order, pad files too.
    pub fn files(&self) -> impl DoubleEndedIterator<Item = File> + ExactSizeIterator + '_ {
        let files = self.map.files().zip(&self.entries);
        files.map(|(index, entry)| self.view(index, entry))
    }

    /// That file, if there is one.
    #[must_use]
    pub fn file(&self, index: FileIndex) -> Option<File> {
        let entry = self.entries.get(index.as_usize())?;
        Some(self.view(index, entry))
    }

    fn view(&self, index: FileIndex, entry: &Entry) -> File {
        File {
            index,
            offset: self.map.start(index),
            len: self.map.len(index),
            attrs: entry.attrs,
        }
    }

    /// The components of a file's path as they are in the torrent: bytes that anyone may have chosen, for
    /// the URLs of web seeds (BEP 19) and for nothing on this machine. None for a single file.
    pub fn raw_path(&self, file: FileIndex) -> impl Iterator<Item = &[u8]> {
        let entry = self.entries.get(file.as_usize());
        entry.into_iter().flat_map(|entry| entry.path(&self.raw))
    }

    /// What a symbolic link points at (BEP 47): a path below [`Layout::root`], components joined by `/`
    /// and as safe as those of the files. `None` where the file is no link.
    #[must_use]
    pub fn symlink_target(&self, file: FileIndex) -> Option<String> {
        let entry = self.entries.get(file.as_usize())?;
        let is_link = entry.attrs.symlink;
        is_link.then(|| safe_path(entry.symlink(&self.raw)))
    }

    /// What is odd about it, names on disk included.
    pub fn warnings(&self) -> impl Iterator<Item = Warning> + '_ {
        let names = self.changes.iter().map(|change| Warning::NameOnDisk {
            file: change.file,
            path: match change.file {
                Some(file) => self.layout.path(file).unwrap_or_default(),
                None => self.layout.root().to_owned(),
            },
            faults: change.faults,
        });
        self.warnings.iter().cloned().chain(names)
    }
}

impl fmt::Debug for Info {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Info")
            .field("hash", &self.hash)
            .field("name", &self.name)
            .field("geometry", &self.map.geometry())
            .field("files", &self.map.file_count())
            .finish_non_exhaustive()
    }
}

pub(crate) fn missing(key: &str) -> MetainfoError {
    MetainfoError::Missing(key.to_owned())
}

/// Which versions there are. BEP 52 wants this looked at before anything else, so that a torrent for
/// later clients is not called broken.
fn version(
    dict: Dict<'_>,
    raw: &[u8],
    warnings: &mut Warnings,
) -> Result<Option<InfoHashV2>, MetainfoError> {
    let [meta_version, file_tree, pieces, length, file_list] =
        dict.pick(["meta version", "file tree", "pieces", "length", "files"]);
    let has_v1 = pieces.is_some() && (length.is_some() || file_list.is_some());
    match meta_version.map(Value::as_int) {
        Some(Some(2)) if has_v1 => Ok(Some(InfoHashV2(Sha256::digest(raw).into()))),
        Some(Some(2)) => Err(MetainfoError::V2Only),
        Some(Some(other)) if !has_v1 => Err(MetainfoError::UnknownVersion(other)),
        Some(Some(other)) => {
            // Some write 1 there, which is not assigned and does no harm.
            if other != 1 {
                warnings.push(Warning::UnknownVersion(other));
            }
            Ok(None)
        }
        Some(None) => {
            warnings.ignored("info.meta version", "not an integer");
            Ok(None)
        }
        None if !has_v1 && file_tree.is_some() => Err(MetainfoError::V2Only),
        None => Ok(None),
    }
}

fn piece_hashes(
    value: Value<'_>,
    raw: &[u8],
    geometry: Geometry,
) -> Result<Range<usize>, MetainfoError> {
    let bytes = files::bytes(value, || "info.pieces".to_owned())?;
    let pieces = geometry.piece_count();
    if bytes.len() != pieces as usize * 20 {
        let len = bytes.len();
        return Err(MetainfoError::Hashes { len, pieces });
    }
    let end = value.offset_in(raw).unwrap_or_default() + value.raw().len();
    Ok(end - bytes.len()..end)
}

/// `name.utf-8` is what older clients write beside a name in another encoding.
fn read_name<'a>(
    name: Option<Value<'a>>,
    utf8: Option<Value<'a>>,
    warnings: &mut Warnings,
) -> &'a [u8] {
    if let Some(name) = utf8.and_then(Value::as_str) {
        return name.as_bytes();
    }
    match name.map(Value::as_bytes) {
        Some(Some(name)) => name,
        Some(None) => {
            warnings.ignored("info.name", "not a string");
            &[]
        }
        None => {
            warnings.push(Warning::NameMissing);
            &[]
        }
    }
}

/// In doubt a torrent is private: the other mistake cannot be taken back.
fn read_private(value: Option<Value<'_>>, warnings: &mut Warnings) -> bool {
    match value.map(Value::as_int) {
        None | Some(Some(0)) => false,
        Some(Some(1)) => true,
        Some(Some(_) | None) => {
            warnings.push(Warning::PrivateOdd);
            true
        }
    }
}
