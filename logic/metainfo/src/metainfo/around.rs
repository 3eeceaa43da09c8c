//! What stands around the info dictionary: trackers, web seeds, nodes, a date.

use torr_bencode::{DictWriter, Value};

use crate::Node;
use crate::limits::{URL_LEN_MAX, URLS_MAX};
use crate::warning::Warnings;

/// BEP 12: a client that knows `announce-list` ignores `announce`, which is for all others.
pub(crate) fn write_trackers(d: &mut DictWriter<'_>, tiers: &[Vec<String>]) {
    if let Some(first) = tiers.iter().flatten().next() {
        d.bytes("announce", first);
    }
    if tiers.iter().flatten().count() > 1 {
        d.list("announce-list", |list| {
            for tier in tiers.iter().filter(|tier| !tier.is_empty()) {
                list.list(|urls| {
                    for url in tier {
                        urls.bytes(url);
                    }
                });
            }
        });
    }
}

/// BEP 19 knows both a string and a list; some readers know only the string, where one is enough.
pub(crate) fn write_web_seeds(d: &mut DictWriter<'_>, urls: &[String]) {
    match urls {
        [] => {}
        [url] => {
            d.bytes("url-list", url);
        }
        urls => {
            d.list("url-list", |list| {
                for url in urls {
                    list.bytes(url);
                }
            });
        }
    }
}

/// URLs while they are collected: each once, none empty.
struct Urls<'w> {
    /// Sorted.
    seen: Vec<String>,
    key: &'static str,
    warnings: &'w mut Warnings,
}

impl<'w> Urls<'w> {
    fn new(key: &'static str, warnings: &'w mut Warnings) -> Self {
        Self {
            seen: Vec::new(),
            key,
            warnings,
        }
    }

    fn take(&mut self, value: Value<'_>) -> Option<String> {
        let Some(url) = value.as_str() else {
            self.warnings
                .ignored(self.key, "a URL that is no UTF-8 string");
            return None;
        };
        let url = url.trim();
        if url.is_empty() {
            return None;
        }
        if url.len() > URL_LEN_MAX {
            self.warnings.ignored(self.key, "a URL that is too long");
            return None;
        }
        if self.seen.len() >= URLS_MAX {
            self.warnings.ignored(self.key, "too many URLs");
            return None;
        }
        let at = self.seen.binary_search_by(|seen| seen.as_str().cmp(url));
        let at = at.err()?;
        self.seen.insert(at, url.to_owned());
        Some(url.to_owned())
    }
}

pub(super) fn read_trackers(
    announce: Option<Value<'_>>,
    list: Option<Value<'_>>,
    warnings: &mut Warnings,
) -> Vec<Vec<String>> {
    let mut tiers = Vec::new();
    if let Some(list) = list {
        let mut urls = Urls::new("announce-list", warnings);
        let Some(list) = list.as_list() else {
            urls.warnings.ignored("announce-list", "not a list");
            return read_trackers(announce, None, warnings);
        };
        for tier in list {
            // Some write URLs where lists of them should be.
            let tier: Vec<String> = match tier.as_list() {
                Some(tier) => tier.iter().filter_map(|url| urls.take(url)).collect(),
                None => urls.take(tier).into_iter().collect(),
            };
            if !tier.is_empty() {
                tiers.push(tier);
            }
        }
    }
    // BEP 12: `announce` counts only where the list has nothing.
    if let (Some(url), true) = (announce, tiers.is_empty()) {
        let url = Urls::new("announce", warnings).take(url);
        tiers.extend(url.map(|url| vec![url]));
    }
    tiers
}

pub(super) fn read_web_seeds(value: Option<Value<'_>>, warnings: &mut Warnings) -> Vec<String> {
    let Some(value) = value else {
        return Vec::new();
    };
    let mut urls = Urls::new("url-list", warnings);
    match value.as_list() {
        Some(list) => list.iter().filter_map(|url| urls.take(url)).collect(),
        None => urls.take(value).into_iter().collect(),
    }
}

pub(super) fn read_nodes(value: Option<Value<'_>>, warnings: &mut Warnings) -> Vec<Node> {
    let Some(value) = value else {
        return Vec::new();
    };
    let Some(list) = value.as_list() else {
        warnings.ignored("nodes", "not a list");
        return Vec::new();
    };
    let mut nodes = Vec::new();
    for pair in list.iter().take(URLS_MAX) {
        match read_node(pair) {
            Some(node) => nodes.push(node),
            None => warnings.ignored("nodes", "not a pair of host and port"),
        }
    }
    nodes
}

fn read_node(pair: Value<'_>) -> Option<Node> {
    let mut pair = pair.as_list()?.iter();
    let host = pair.next()?.as_str()?;
    let port = u16::try_from(pair.next()?.as_int()?).ok()?;
    let fits = !host.is_empty() && host.len() <= URL_LEN_MAX && port > 0 && pair.next().is_none();
    fits.then(|| Node {
        host: host.to_owned(),
        port,
    })
}

pub(super) fn read_date(value: Option<Value<'_>>, warnings: &mut Warnings) -> Option<i64> {
    let date = value?.as_int();
    if date.is_none() {
        warnings.ignored("creation date", "not an integer");
    }
    date
}
