//! Magnet links (BEP 9, 53): as much as is needed to find a torrent without its file.
//!
//! What a link may have besides is ignored; a link that is wrong about what to fetch is refused.

use std::fmt;
use std::ops::RangeInclusive;

use torr_base::{InfoHash, percent};

use crate::limits::{FILES_MAX, URL_LEN_MAX, URLS_MAX};
use crate::{FileIndex, FilePriorities, InfoHashV2, Node};

/// Bytes in a link, 64 KiB.
pub const MAGNET_LEN_MAX: usize = 64 << 10;

/// A magnet link.
#[derive(Clone, PartialEq, Eq)]
pub struct Magnet {
    /// `xt=urn:btih:`
    pub info_hash: InfoHash,
    /// `xt=urn:btmh:`, where the torrent is a hybrid (BEP 52).
    pub info_hash_v2: Option<InfoHashV2>,
    /// `dn`: what to call it until its metadata is there. Anyone may have written it.
    pub name: Option<String>,
    /// `tr`: each a tier of its own.
    pub trackers: Vec<String>,
    /// `ws`: web seeds (BEP 19).
    pub web_seeds: Vec<String>,
    /// `x.pe`: peers.
    pub peers: Vec<Node>,
    /// `so`: the only files to fetch, counted from 0 (BEP 53), in order and without overlap; empty for
    /// all of them.
    pub select: Vec<RangeInclusive<u32>>,
}

/// Why a text is no link that torr can use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MagnetError {
    /// It does not start with `magnet:?`.
    #[error("not a magnet link: it does not start with `magnet:?`")]
    NotAMagnet,
    /// More than [`MAGNET_LEN_MAX`].
    #[error("{0} bytes are too many: a magnet link may have {MAGNET_LEN_MAX}")]
    TooLong(usize),
    /// No `xt` that names a torrent.
    #[error("the magnet link names no torrent: `xt=urn:btih:` is missing")]
    NoHash,
    /// Not 40 hex digits nor 32 of base32; or for v2, not `1220` and 64 hex digits.
    #[error("`{0}` is not an info-hash")]
    BadHash(String),
    /// It names two torrents.
    #[error("the magnet link names several torrents")]
    SeveralHashes,
    /// Only a v2 info-hash.
    #[error("BitTorrent v2 is not supported yet")]
    V2Only,
    /// `so` is not numbers and ranges of numbers.
    #[error("`so={0}` does not select files: numbers from 0 and ranges like 2-5, with commas, do")]
    BadSelection(String),
}

/// An info-hash (v1) as people write it: 40 hex digits, or 32 of base32, either case.
#[must_use]
pub fn parse_info_hash(text: &str) -> Option<InfoHash> {
    match text.len() {
        40 => InfoHash::from_hex(text),
        32 => from_base32(text),
        _ => None,
    }
}

impl Magnet {
    /// A link with nothing but the info-hash.
    #[must_use]
    pub const fn new(info_hash: InfoHash) -> Self {
        Self {
            info_hash,
            info_hash_v2: None,
            name: None,
            trackers: Vec::new(),
            web_seeds: Vec::new(),
            peers: Vec::new(),
            select: Vec::new(),
        }
    }

    /// Reads a link. Spaces around it and `&amp;` for `&` are forgiven, as are parameters with numbers
    /// (`tr.1`).
    ///
    /// # Errors
    /// See [`MagnetError`].
    pub fn parse(text: &str) -> Result<Self, MagnetError> {
        let text = text.trim();
        if text.len() > MAGNET_LEN_MAX {
            return Err(MagnetError::TooLong(text.len()));
        }
        let query = strip_scheme(text).ok_or(MagnetError::NotAMagnet)?;
        let (mut hash, mut hash_v2) = (None, None);
        let mut link = Self::new(InfoHash([0; 20]));
        for parameter in query.split('&') {
            let parameter = parameter.strip_prefix("amp;").unwrap_or(parameter);
            let Some((key, value)) = parameter.split_once('=') else {
                continue;
            };
            match without_number(key) {
                "xt" => read_topic(&decode(value), &mut hash, &mut hash_v2)?,
                // Names come out of web forms, where `+` is a blank.
                "dn" => link.name = Some(decode(&value.replace('+', " "))),
                "tr" => take_url(&mut link.trackers, &decode(value)),
                "ws" => take_url(&mut link.web_seeds, &decode(value)),
                "x.pe" => link.take_peer(&decode(value)),
                "so" => link.select = read_selection(&decode(value))?,
                _ => {}
            }
        }
        link.info_hash = match (hash, hash_v2) {
            (Some(hash), _) => hash,
            (None, Some(_)) => return Err(MagnetError::V2Only),
            (None, None) => return Err(MagnetError::NoHash),
        };
        link.info_hash_v2 = hash_v2;
        link.name = link.name.filter(|name| !name.is_empty());
        Ok(link)
    }

    /// Whether `so` selects that file, or there is no `so`.
    #[must_use]
    pub fn selects(&self, file: FileIndex) -> bool {
        self.select.is_empty() || {
            let at = self
                .select
                .partition_point(|range| *range.end() < file.get());
            self.select
                .get(at)
                .is_some_and(|range| range.contains(&file.get()))
        }
    }

    /// What `so` means for a torrent with `file_count` files.
    #[must_use]
    pub fn priorities(&self, file_count: u32) -> FilePriorities {
        FilePriorities::only(file_count, |file| self.selects(file))
    }

    fn take_peer(&mut self, text: &str) {
        let known = |node: &Node| self.peers.contains(node);
        if self.peers.len() < URLS_MAX
            && let Some(node) = read_peer(text)
            && !known(&node)
        {
            self.peers.push(node);
        }
    }
}

fn strip_scheme(text: &str) -> Option<&str> {
    let (scheme, rest) = text.split_at_checked("magnet:".len())?;
    if !scheme.eq_ignore_ascii_case("magnet:") {
        return None;
    }
    rest.strip_prefix("//").unwrap_or(rest).strip_prefix('?')
}

/// `tr.1` → `tr`
fn without_number(key: &str) -> &str {
    match key.rsplit_once('.') {
        Some((name, number)) if number.bytes().all(|b| b.is_ascii_digit()) => name,
        Some(_) | None => key,
    }
}

fn strip_prefix_any_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// Other topics than torrents may stand in a link too.
fn read_topic(
    topic: &str,
    hash: &mut Option<InfoHash>,
    hash_v2: &mut Option<InfoHashV2>,
) -> Result<(), MagnetError> {
    let bad = || MagnetError::BadHash(topic.to_owned());
    if let Some(text) = strip_prefix_any_case(topic, "urn:btih:") {
        return put(hash, parse_info_hash(text).ok_or_else(bad)?);
    }
    if let Some(text) = strip_prefix_any_case(topic, "urn:btmh:") {
        return put(hash_v2, from_multihash(text).ok_or_else(bad)?);
    }
    Ok(())
}

fn put<T: PartialEq>(slot: &mut Option<T>, hash: T) -> Result<(), MagnetError> {
    if slot.as_ref().is_some_and(|known| *known != hash) {
        return Err(MagnetError::SeveralHashes);
    }
    *slot = Some(hash);
    Ok(())
}

/// A multihash: 12 for SHA-256, 20 for its 32 bytes, then these, all in hex.
fn from_multihash(text: &str) -> Option<InfoHashV2> {
    let digits = text.strip_prefix("1220")?.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut out = [0; 32];
    for (byte, pair) in out.iter_mut().zip(digits.chunks(2)) {
        *byte = hex_byte(pair)?;
    }
    Some(InfoHashV2(out))
}

fn from_base32(text: &str) -> Option<InfoHash> {
    let mut out = [0; 20];
    let (mut bits, mut count) = (0_u32, 0);
    let mut bytes = out.iter_mut();
    for c in text.bytes() {
        let digit = match c.to_ascii_uppercase() {
            c @ b'A'..=b'Z' => c - b'A',
            c @ b'2'..=b'7' => c - b'2' + 26,
            _ => return None,
        };
        bits = bits << 5 | u32::from(digit);
        count += 5;
        if count >= 8 {
            count -= 8;
            *bytes.next()? = (bits >> count) as u8;
        }
    }
    (bytes.next().is_none() && count == 0).then_some(InfoHash(out))
}

fn take_url(urls: &mut Vec<String>, url: &str) {
    let url = url.trim();
    let fits = !url.is_empty() && url.len() <= URL_LEN_MAX && urls.len() < URLS_MAX;
    if fits && !urls.iter().any(|known| known == url) {
        urls.push(url.to_owned());
    }
}

fn read_peer(text: &str) -> Option<Node> {
    let (host, port) = text.trim().rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(host) => host.strip_suffix(']')?,
        None if host.contains(':') => return None,
        None => host,
    };
    let port = port.parse().ok().filter(|port| *port != 0)?;
    (!host.is_empty()).then(|| Node {
        host: host.to_owned(),
        port,
    })
}

fn read_selection(text: &str) -> Result<Vec<RangeInclusive<u32>>, MagnetError> {
    let bad = || MagnetError::BadSelection(text.to_owned());
    let number = |text: &str| {
        let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let number: Option<u32> = plain.then(|| text.parse().ok()).flatten();
        number.filter(|n| *n < FILES_MAX).ok_or_else(bad)
    };
    let mut ranges = Vec::new();
    for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(bad());
        }
        ranges.push(first..=last);
    }
    ranges.sort_unstable_by_key(|range| *range.start());
    ranges.dedup_by(|next, last| {
        let joins = *next.start() <= last.end().saturating_add(1);
        if joins {
            *last = *last.start()..=*last.end().max(next.end());
        }
        joins
    });
    Ok(ranges)
}

/// Percent-encoding undone; what is not UTF-8 after it is replaced, a `%` without two digits stays.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let escaped = match byte {
            b'%' => bytes.get(at + 1..at + 3).and_then(hex_byte),
            _ => None,
        };
        out.push(escaped.unwrap_or(*byte));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn hex_byte(pair: &[u8]) -> Option<u8> {
    let digit = |c: &u8| char::from(*c).to_digit(16).map(|d| d as u8);
    Some(digit(pair.first()?)? << 4 | digit(pair.last()?)?)
}

impl fmt::Display for Magnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "magnet:?xt=urn:btih:{}", self.info_hash)?;
        if let Some(hash) = self.info_hash_v2 {
            write!(f, "&xt=urn:btmh:1220{hash}")?;
        }
        let name = self.name.iter().map(|name| ("dn", name));
        let trackers = self.trackers.iter().map(|url| ("tr", url));
        let seeds = self.web_seeds.iter().map(|url| ("ws", url));
        for (key, value) in name.chain(trackers).chain(seeds) {
            write!(f, "&{key}=")?;
            percent(value.as_bytes(), "").fmt(f)?;
        }
        for peer in &self.peers {
            f.write_str("&x.pe=")?;
            // Some readers take this one as it stands.
            percent(peer.to_string().as_bytes(), ":[]").fmt(f)?;
        }
        for (n, range) in self.select.iter().enumerate() {
            f.write_str(if n == 0 { "&so=" } else { "," })?;
            match range.start() == range.end() {
                true => write!(f, "{}", range.start())?,
                false => write!(f, "{}-{}", range.start(), range.end())?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Magnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // No trackers: their URLs may hold passkeys.
        f.debug_struct("Magnet")
            .field("info_hash", &self.info_hash)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
