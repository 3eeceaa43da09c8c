//! Torrent files, written without torr: a v1 torrent is a dozen keys in alphabetical order.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha1::{Digest, Sha1};

use crate::payload::Payload;

/// A torrent file on disk and what it is known by.
#[derive(Clone, Debug)]
pub struct Metafile {
    pub path: PathBuf,
    pub hash: [u8; 20],
}

impl Metafile {
    /// Hashes the payload in `dir` and writes `NAME.torrent` beside it in `out`.
    pub fn write(
        payload: &Payload,
        dir: &Path,
        piece_len: usize,
        trackers: &[String],
        out: &Path,
    ) -> Result<Self> {
        Self::write_with_web_seeds(payload, dir, piece_len, trackers, &[], out)
    }

    /// The same with a `url-list` (BEP 19).
    pub fn write_with_web_seeds(
        payload: &Payload,
        dir: &Path,
        piece_len: usize,
        trackers: &[String],
        web_seeds: &[String],
        out: &Path,
    ) -> Result<Self> {
        let pieces = hash_pieces(payload, dir, piece_len)?;
        let info = info(payload, piece_len, &pieces);
        let hash = Sha1::digest(&info).into();
        let mut torrent = b"d".to_vec();
        if let Some(first) = trackers.first() {
            key(&mut torrent, "announce");
            text(&mut torrent, first);
            key(&mut torrent, "announce-list");
            torrent.push(b'l');
            for tracker in trackers {
                torrent.push(b'l');
                text(&mut torrent, tracker);
                torrent.push(b'e');
            }
            torrent.push(b'e');
        }
        key(&mut torrent, "created by");
        text(&mut torrent, "torr-interop");
        key(&mut torrent, "info");
        torrent.extend_from_slice(&info);
        if !web_seeds.is_empty() {
            key(&mut torrent, "url-list");
            torrent.push(b'l');
            web_seeds.iter().for_each(|url| text(&mut torrent, url));
            torrent.push(b'e');
        }
        torrent.push(b'e');
        let path = out.join(format!("{}.torrent", payload.name));
        std::fs::write(&path, torrent).with_context(|| format!("writing {}", path.display()))?;
        Ok(Self { path, hash })
    }

    pub fn hex(&self) -> String {
        self.hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

fn info(payload: &Payload, piece_len: usize, pieces: &[u8]) -> Vec<u8> {
    let mut info = b"d".to_vec();
    if payload.is_single() {
        key(&mut info, "length");
        number(&mut info, payload.total());
    } else {
        key(&mut info, "files");
        info.push(b'l');
        for file in &payload.files {
            info.push(b'd');
            key(&mut info, "length");
            number(&mut info, file.len);
            key(&mut info, "path");
            info.push(b'l');
            file.path
                .iter()
                .for_each(|component| text(&mut info, component));
            info.extend_from_slice(b"ee");
        }
        info.push(b'e');
    }
    key(&mut info, "name");
    text(&mut info, &payload.name);
    key(&mut info, "piece length");
    number(&mut info, piece_len as u64);
    key(&mut info, "pieces");
    info.extend_from_slice(format!("{}:", pieces.len()).as_bytes());
    info.extend_from_slice(pieces);
    info.push(b'e');
    info
}

fn hash_pieces(payload: &Payload, dir: &Path, piece_len: usize) -> Result<Vec<u8>> {
    let mut piece = Vec::with_capacity(piece_len);
    let hasher = PieceHasher::new(piece_len);
    let mut hashes = Vec::new();
    for spec in &payload.files {
        let path = payload.path(dir, spec);
        let mut file = File::open(&path).with_context(|| format!("opening {}", path.display()))?;
        loop {
            let room = (piece_len - piece.len()) as u64;
            let read = file.by_ref().take(room).read_to_end(&mut piece)?;
            if piece.len() == piece_len {
                hashes.extend_from_slice(&hasher.hash(&piece));
                piece.clear();
            } else if read == 0 {
                break;
            }
        }
    }
    if !piece.is_empty() {
        hashes.extend_from_slice(&hasher.hash(&piece));
    }
    Ok(hashes)
}

/// Knows the hash of an empty piece, which is most of a sparse payload.
struct PieceHasher {
    piece_len: usize,
    zero: [u8; 20],
}

impl PieceHasher {
    fn new(piece_len: usize) -> Self {
        Self {
            piece_len,
            zero: Sha1::digest(vec![0; piece_len]).into(),
        }
    }

    fn hash(&self, piece: &[u8]) -> [u8; 20] {
        let (words, rest) = piece.as_chunks::<16>();
        if piece.len() == self.piece_len
            && rest.is_empty()
            && words.iter().all(|word| *word == [0; 16])
        {
            self.zero
        } else {
            Sha1::digest(piece).into()
        }
    }
}

fn key(out: &mut Vec<u8>, name: &str) {
    text(out, name);
}

fn text(out: &mut Vec<u8>, value: &str) {
    out.extend_from_slice(format!("{}:{value}", value.len()).as_bytes());
}

fn number(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(format!("i{value}e").as_bytes());
}
