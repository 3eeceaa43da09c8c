//! A torrent file: the info dictionary and what stands around it (BEP 3, 5, 12, 19).

pub(crate) mod around;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use torr_bencode::{Dict, DictWriter, Limits, Value, encode_dict};

use crate::error::MetainfoError;
use crate::info::missing;
use crate::limits::TORRENT_LEN_MAX;
use crate::warning::{Warning, Warnings};
use crate::{Info, Magnet, files};
use around::{
    read_date, read_nodes, read_trackers, read_web_seeds, write_trackers, write_web_seeds,
};

/// A torrent file.
///
/// Everything that was in it is kept, byte for byte, and written out again by [`Self::to_bytes`]; a
/// canonical torrent that was not changed comes out as it was.
#[derive(Clone)]
pub struct Metainfo {
    info: Arc<Info>,
    trackers: Vec<Vec<String>>,
    web_seeds: Vec<String>,
    nodes: Vec<Node>,
    comment: Option<String>,
    created_by: Option<String>,
    creation_date: Option<i64>,
    encoding: Option<String>,
    /// All keys besides `info`, with the bencoded bytes of their values.
    around: BTreeMap<Vec<u8>, Vec<u8>>,
    warnings: Vec<Warning>,
}

/// A node of the DHT to begin with (BEP 5), or a peer of a magnet link (BEP 9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// A name or an address; an IPv6 address without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Metainfo {
    /// Reads a torrent file.
    ///
    /// # Errors
    /// See [`MetainfoError`]; [`MetainfoError::refusal`] tells what is no torrent from what is not
    /// supported. Whatever can be left out of account becomes a warning.
    pub fn parse(bytes: &[u8]) -> Result<Self, MetainfoError> {
        if bytes.len() > TORRENT_LEN_MAX {
            return Err(MetainfoError::TooLong(bytes.len()));
        }
        let document = torr_bencode::read(bytes, &Limits::DEFAULT)?;
        let mut warnings = Warnings::default();
        if !document.keys_sorted {
            warnings.push(Warning::KeysOutOfOrder);
        }
        if !document.rest.is_empty() {
            warnings.push(Warning::TrailingBytes(document.rest.len()));
        }
        let root = files::dict(document.root, || "the torrent".to_owned())?;
        let info = root.get("info").ok_or_else(|| missing("info"))?;
        let info = Arc::new(Info::from_value(info)?);
        Ok(Self::read(root, info, warnings))
    }

    /// A torrent whose info dictionary came from elsewhere: from peers, after a magnet link (BEP 9).
    #[must_use]
    pub fn from_info(info: Arc<Info>, trackers: &[Vec<String>], web_seeds: &[String]) -> Self {
        let mut torrent = Self {
            info,
            trackers: Vec::new(),
            web_seeds: Vec::new(),
            nodes: Vec::new(),
            comment: None,
            created_by: None,
            creation_date: None,
            encoding: None,
            around: BTreeMap::new(),
            warnings: Vec::new(),
        };
        torrent.set_trackers(trackers);
        torrent.set_web_seeds(web_seeds);
        torrent
    }

    fn read(root: Dict<'_>, info: Arc<Info>, mut warnings: Warnings) -> Self {
        let warnings_mut = &mut warnings;
        let [announce, list, url_list, nodes, date] = root.pick([
            "announce",
            "announce-list",
            "url-list",
            "nodes",
            "creation date",
        ]);
        let [comment, comment_utf8, created_by, encoding] =
            root.pick(["comment", "comment.utf-8", "created by", "encoding"]);
        let comment = comment_utf8.filter(|v| v.as_str().is_some()).or(comment);
        let around = root.iter().filter(|(key, _)| *key != b"info");
        Self {
            trackers: read_trackers(announce, list, warnings_mut),
            web_seeds: read_web_seeds(url_list, warnings_mut),
            nodes: read_nodes(nodes, warnings_mut),
            comment: files::text(comment, "comment", warnings_mut),
            created_by: files::text(created_by, "created by", warnings_mut),
            creation_date: read_date(date, warnings_mut),
            encoding: files::text(encoding, "encoding", warnings_mut),
            around: around
                .map(|(key, value)| (key.to_vec(), value.raw().to_vec()))
                .collect(),
            info,
            warnings: warnings.into_vec(),
        }
    }

    /// What the info-hash stands for.
    #[must_use]
    pub const fn info(&self) -> &Arc<Info> {
        &self.info
    }

    /// Trackers in tiers (BEP 12); where there is no `announce-list`, one tier of one.
    #[must_use]
    pub fn trackers(&self) -> &[Vec<String>] {
        &self.trackers
    }

    /// Web seeds (BEP 19).
    #[must_use]
    pub fn web_seeds(&self) -> &[String] {
        &self.web_seeds
    }

    /// Nodes of the DHT (BEP 5).
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// A comment, as it is in the torrent: see [`torr_base::printable`].
    #[must_use]
    pub fn comment(&self) -> Option<&str> {
        self.comment.as_deref()
    }

    /// The program that made the torrent.
    #[must_use]
    pub fn created_by(&self) -> Option<&str> {
        self.created_by.as_deref()
    }

    /// When the torrent was made, in seconds since 1970.
    #[must_use]
    pub const fn creation_date(&self) -> Option<i64> {
        self.creation_date
    }

    /// The encoding that names claim to be in. It is not believed: names are taken for UTF-8.
    #[must_use]
    pub fn encoding(&self) -> Option<&str> {
        self.encoding.as_deref()
    }

    /// The piece layers of a hybrid (BEP 52), bencoded as they came.
    #[must_use]
    pub fn piece_layers(&self) -> Option<&[u8]> {
        self.around.get(&b"piece layers"[..]).map(Vec::as_slice)
    }

    /// Everything odd about the torrent, names on disk included.
    pub fn warnings(&self) -> impl Iterator<Item = Warning> + '_ {
        self.warnings.iter().cloned().chain(self.info.warnings())
    }

    /// The link that finds this torrent.
    #[must_use]
    pub fn magnet(&self) -> Magnet {
        let mut magnet = Magnet::new(self.info.info_hash());
        magnet.info_hash_v2 = self.info.info_hash_v2();
        magnet.name = Some(self.info.layout().root().to_owned());
        magnet.trackers = self.trackers.concat();
        magnet.web_seeds.clone_from(&self.web_seeds);
        magnet
    }

    /// Other trackers, in tiers; the info-hash stays.
    pub fn set_trackers(&mut self, tiers: &[Vec<String>]) {
        self.around.remove(&b"announce"[..]);
        self.around.remove(&b"announce-list"[..]);
        self.trackers = tiers.iter().filter(|t| !t.is_empty()).cloned().collect();
        let bytes = encode_dict(|d| write_trackers(d, &self.trackers));
        self.insert_all(&bytes);
    }

    /// Other web seeds; the info-hash stays.
    pub fn set_web_seeds(&mut self, urls: &[String]) {
        self.around.remove(&b"url-list"[..]);
        self.web_seeds = urls.to_vec();
        let bytes = encode_dict(|d| write_web_seeds(d, &self.web_seeds));
        self.insert_all(&bytes);
    }

    /// Another comment, or none; the info-hash stays.
    pub fn set_comment(&mut self, comment: Option<&str>) {
        self.around.remove(&b"comment"[..]);
        self.around.remove(&b"comment.utf-8"[..]);
        self.comment = comment.map(str::to_owned);
        let bytes = encode_dict(|d| {
            if let Some(comment) = comment {
                d.bytes("comment", comment);
            }
        });
        self.insert_all(&bytes);
    }

    /// The torrent file. Its info dictionary is what was read, byte for byte, and so are the values of all
    /// keys that were not set; the keys are in order.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        encode_dict(|d| {
            for (key, value) in &self.around {
                write_raw(d, key, value);
            }
            write_raw(d, b"info", self.info.raw());
        })
    }

    fn insert_all(&mut self, dict: &[u8]) {
        let entries = parse_own(dict).and_then(Value::as_dict);
        for (key, value) in entries.into_iter().flatten() {
            self.around.insert(key.to_vec(), value.raw().to_vec());
        }
    }
}

impl fmt::Debug for Metainfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // No trackers: their URLs may hold passkeys.
        f.debug_struct("Metainfo")
            .field("info", &self.info)
            .finish_non_exhaustive()
    }
}

/// What was bencoded here, or checked when it was read.
fn parse_own(bytes: &[u8]) -> Option<Value<'_>> {
    let value = torr_bencode::parse(bytes);
    debug_assert!(value.is_ok(), "{value:?}");
    value.ok()
}

fn write_raw(d: &mut DictWriter<'_>, key: &[u8], raw: &[u8]) {
    if let Some(value) = parse_own(raw) {
        d.value(key, value);
    }
}
