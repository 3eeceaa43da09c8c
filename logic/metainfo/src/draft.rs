//! A torrent in the making (BEP 3): what `torr create` knows when it has hashed the files.

use torr_base::{Geometry, GeometryError};
use torr_bencode::{DictWriter, encode_dict};

use crate::limits::{FILES_MAX, PATH_DEPTH_MAX};
use crate::metainfo::around::{write_trackers, write_web_seeds};
use crate::{FileAttrs, TORRENT_LEN_MAX};

/// Pieces that a torrent should have at most: as many as keep `pieces` small (40 kB) and `have`s rare,
/// and yet give a swarm something to trade.
const PIECES_GOOD: u64 = 2000;

/// Least and greatest piece length that is proposed; other clients take no more than the latter.
const PIECE_LEN_GOOD: (u32, u32) = (16 << 10, 16 << 20);

/// The piece length for so many bytes: the least power of two from 16 KiB to 16 MiB that makes at most
/// 2,000 pieces of them.
#[must_use]
pub fn piece_length_for(total: u64) -> u32 {
    let (least, greatest) = PIECE_LEN_GOOD;
    let mut len = least;
    while len < greatest && total.div_ceil(u64::from(len)) > PIECES_GOOD {
        len *= 2;
    }
    len
}

/// Everything that goes into a new torrent. Nothing in it is read from a clock or a disk.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    /// The file's name, or the folder's.
    pub name: String,
    /// One file or several.
    pub files: DraftFiles,
    /// Bytes in a piece.
    pub piece_len: u32,
    /// The SHA-1 of all pieces in order, 20 bytes each.
    pub hashes: Vec<u8>,
    /// Peers from trackers only (BEP 27).
    pub private: bool,
    /// Whatever a tracker asks for, to tell its torrents from those of others.
    pub source: Option<String>,
    /// Trackers in tiers (BEP 12).
    pub trackers: Vec<Vec<String>>,
    /// Web seeds (BEP 19).
    pub web_seeds: Vec<String>,
    /// For people.
    pub comment: Option<String>,
    /// The program and its version.
    pub created_by: Option<String>,
    /// Seconds since 1970.
    pub creation_date: Option<u64>,
}

/// What a torrent holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DraftFiles {
    /// One file of so many bytes, called by the torrent's name.
    Single(u64),
    /// A folder of the torrent's name.
    Folder(Vec<DraftFile>),
}

impl Default for DraftFiles {
    fn default() -> Self {
        Self::Folder(Vec::new())
    }
}

/// One file in the folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DraftFile {
    /// Folders and the file's name.
    pub path: Vec<String>,
    /// Bytes.
    pub len: u64,
    /// Padding, executable, hidden (BEP 47); links are not made.
    pub attrs: FileAttrs,
}

/// Why a draft is no torrent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DraftError {
    /// A folder without files.
    #[error("there are no files")]
    NoFiles,
    /// More than [`FILES_MAX`] files.
    #[error("{0} files are more than {FILES_MAX}")]
    TooManyFiles(usize),
    /// A component that is empty, `.` or `..`, or holds `/` or NUL; or a path without or with too many
    /// components.
    #[error("`{0}` cannot be the name of a file in a torrent")]
    BadName(String),
    /// Piece length and file lengths are impossible or beyond the limits.
    #[error("piece length and file lengths do not fit: {0}")]
    Geometry(GeometryError),
    /// Not 20 bytes of hashes for each piece.
    #[error("{len} bytes of hashes where {pieces} pieces need 20 each")]
    Hashes {
        /// Bytes there are.
        len: usize,
        /// Pieces there are.
        pieces: u32,
    },
    /// A date after 2^63 seconds.
    #[error("the creation date is out of range")]
    CreationDate,
    /// The torrent would have more than [`TORRENT_LEN_MAX`] bytes.
    #[error("the torrent would have {0} bytes, more than {TORRENT_LEN_MAX}: use longer pieces")]
    TooLong(usize),
}

impl Draft {
    /// The torrent file, canonical.
    ///
    /// # Errors
    /// See [`DraftError`].
    pub fn encode(&self) -> Result<Vec<u8>, DraftError> {
        self.check()?;
        let bytes = encode_dict(|d| {
            write_trackers(d, &self.trackers);
            write_web_seeds(d, &self.web_seeds);
            write_text(d, "comment", self.comment.as_deref());
            write_text(d, "created by", self.created_by.as_deref());
            if let Some(date) = self.creation_date {
                d.uint("creation date", date);
            }
            d.dict("info", |info| self.write_info(info));
        });
        if bytes.len() > TORRENT_LEN_MAX {
            return Err(DraftError::TooLong(bytes.len()));
        }
        Ok(bytes)
    }

    fn write_info(&self, info: &mut DictWriter<'_>) {
        match &self.files {
            DraftFiles::Single(len) => {
                info.uint("length", *len);
            }
            DraftFiles::Folder(files) => {
                info.list("files", |list| {
                    for file in files {
                        list.dict(|d| write_file(d, file));
                    }
                });
            }
        }
        info.bytes("name", &self.name);
        info.uint("piece length", u64::from(self.piece_len));
        info.bytes("pieces", &self.hashes);
        if self.private {
            info.int("private", 1);
        }
        write_text(info, "source", self.source.as_deref());
    }

    fn check(&self) -> Result<(), DraftError> {
        check_name(&self.name)?;
        let mut total = 0_u64;
        match &self.files {
            DraftFiles::Single(len) => total = *len,
            DraftFiles::Folder(files) => {
                if files.is_empty() {
                    return Err(DraftError::NoFiles);
                }
                if files.len() > FILES_MAX as usize {
                    return Err(DraftError::TooManyFiles(files.len()));
                }
                for file in files {
                    if !(1..=PATH_DEPTH_MAX).contains(&file.path.len()) {
                        return Err(DraftError::BadName(file.path.join("/")));
                    }
                    file.path.iter().try_for_each(|name| check_name(name))?;
                    // A sum that overflows is beyond any geometry.
                    total = total.saturating_add(file.len);
                }
            }
        }
        let geometry = Geometry::new(total, u64::from(self.piece_len));
        let pieces = geometry.map_err(DraftError::Geometry)?.piece_count();
        if self.hashes.len() != pieces as usize * 20 {
            let len = self.hashes.len();
            return Err(DraftError::Hashes { len, pieces });
        }
        let fits = self.creation_date.is_none_or(|d| i64::try_from(d).is_ok());
        if fits {
            Ok(())
        } else {
            Err(DraftError::CreationDate)
        }
    }
}

fn check_name(name: &str) -> Result<(), DraftError> {
    if matches!(name, "" | "." | "..") || name.contains(['/', '\0']) {
        return Err(DraftError::BadName(name.to_owned()));
    }
    Ok(())
}

fn write_file(d: &mut DictWriter<'_>, file: &DraftFile) {
    let attrs = FileAttrs {
        symlink: false,
        ..file.attrs
    };
    let letters = attrs.letters();
    if !letters.is_empty() {
        d.bytes("attr", letters);
    }
    d.uint("length", file.len);
    d.list("path", |path| {
        for name in &file.path {
            path.bytes(name);
        }
    });
}

fn write_text(d: &mut DictWriter<'_>, key: &str, text: Option<&str>) {
    if let Some(text) = text {
        d.bytes(key, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Metainfo;

    #[test]
    fn lengths_make_a_thousand_to_two_thousand_pieces() {
        assert_eq!(piece_length_for(0), 16 << 10);
        assert_eq!(piece_length_for(1), 16 << 10);
        assert_eq!(piece_length_for(2000 * (16 << 10)), 16 << 10);
        assert_eq!(piece_length_for(2000 * (16 << 10) + 1), 32 << 10);
        assert_eq!(piece_length_for(1 << 30), 1 << 20);
        assert_eq!(piece_length_for(u64::MAX), 16 << 20);
        for total in (0..200).map(|n: u64| (100 << 20) + n * 77_777_777) {
            let pieces = total.div_ceil(u64::from(piece_length_for(total)));
            assert!((1000..=2000).contains(&pieces), "{total}: {pieces}");
        }
    }

    fn draft() -> Draft {
        Draft {
            name: "n".to_owned(),
            files: DraftFiles::Single(5),
            piece_len: 4,
            hashes: vec![7; 40],
            ..Draft::default()
        }
    }

    #[test]
    fn a_small_one_byte_for_byte() {
        let bytes = draft().encode().unwrap();
        let mut expected = b"d4:infod6:lengthi5e4:name1:n12:piece lengthi4e6:pieces40:".to_vec();
        expected.extend([7; 40]);
        expected.extend(b"ee");
        assert_eq!(bytes, expected);
    }

    #[test]
    fn all_that_goes_in_comes_out() {
        let file = |path: &[&str], len, letters: &str| DraftFile {
            path: path.iter().map(|p| (*p).to_owned()).collect(),
            len,
            attrs: FileAttrs {
                pad: letters.contains('p'),
                executable: letters.contains('x'),
                ..FileAttrs::default()
            },
        };
        let draft = Draft {
            files: DraftFiles::Folder(vec![
                file(&["a", "b"], 3, "x"),
                file(&[".pad", "1"], 1, "p"),
                file(&["c"], 1, ""),
            ]),
            private: true,
            source: Some("S".to_owned()),
            trackers: vec![
                vec!["u1".to_owned(), "u2".to_owned()],
                vec!["u3".to_owned()],
            ],
            web_seeds: vec!["w1".to_owned(), "w2".to_owned()],
            comment: Some("c".to_owned()),
            created_by: Some("torr".to_owned()),
            creation_date: Some(1_700_000_000),
            ..draft()
        };
        let bytes = draft.encode().unwrap();
        let torrent = Metainfo::parse(&bytes).unwrap();
        assert_eq!(torrent.warnings().next(), None);
        assert_eq!(torrent.to_bytes(), bytes);
        assert_eq!(torrent.trackers(), draft.trackers);
        assert_eq!(torrent.web_seeds(), draft.web_seeds);
        assert_eq!(torrent.comment(), Some("c"));
        assert_eq!(torrent.created_by(), Some("torr"));
        assert_eq!(torrent.creation_date(), Some(1_700_000_000));
        let info = torrent.info();
        assert!(info.is_private() && !info.is_single_file());
        assert_eq!(info.source(), Some("S"));
        let letters = info.files().map(|f| (f.len, f.attrs.letters()));
        let expected = [(3, "x"), (1, "p"), (1, "")];
        assert!(letters.eq(expected.map(|(len, l)| (len, l.to_owned()))));
    }

    #[test]
    fn what_is_no_torrent_is_not_written() {
        let fail = |change: &dyn Fn(&mut Draft)| {
            let mut draft = draft();
            change(&mut draft);
            draft.encode().unwrap_err()
        };
        assert!(matches!(
            fail(&|d| d.hashes.truncate(39)),
            DraftError::Hashes { len: 39, pieces: 2 }
        ));
        assert!(matches!(
            fail(&|d| d.piece_len = 0),
            DraftError::Geometry(_)
        ));
        for name in ["", ".", "..", "a/b", "a\0"] {
            let bad = |d: &mut Draft| d.name = name.to_owned();
            assert_eq!(fail(&bad), DraftError::BadName(name.to_owned()));
        }
        let empty = |d: &mut Draft| d.files = DraftFiles::Folder(Vec::new());
        assert_eq!(fail(&empty), DraftError::NoFiles);
        let no_path = |d: &mut Draft| d.files = DraftFiles::Folder(vec![DraftFile::default()]);
        assert_eq!(fail(&no_path), DraftError::BadName(String::new()));
        let late = |d: &mut Draft| d.creation_date = Some(u64::MAX);
        assert_eq!(fail(&late), DraftError::CreationDate);
    }
}
