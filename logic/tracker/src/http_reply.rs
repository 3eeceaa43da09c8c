//! Announce and scrape over HTTP: the bencoded replies (BEP 3, 7, 23, 24, 31, 48).
//!
//! Nothing in here is trusted: numbers are clamped, text is cleaned, lists are cut. Where trackers of
//! the field break the letter of BEP 3 (unsorted keys, bytes after the end, `retry in` as text or as
//! number), the meaning is taken.
#![warn(clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use torr_base::InfoHash;
use torr_bencode::{Dict, Kind, Value};

use crate::announce::{
    AnnounceReply, HttpReply, PEERS_MAX, Retry, ScrapeEntry, TrackerError, compact_peers,
    is_peer_address,
};
use crate::http::TRACKER_ID_LEN_MAX;
use crate::text::clean;

/// Torrents read from one scrape reply.
const SCRAPE_MAX: usize = 1000;

/// The longest wait that BEP 31's `retry in` is believed.
const RETRY_MINUTES_MAX: u64 = 24 * 60;

/// Reads the reply to an announce.
///
/// # Errors
/// Where the tracker refused, or what came is no announce reply.
pub fn parse_announce(reply: &HttpReply) -> Result<AnnounceReply, TrackerError> {
    let dict = reply_dict(reply)?;
    let mut peers = Vec::new();
    if let Some(list) = dict.get(b"peers") {
        push_peers(&mut peers, list);
    }
    if let Some(bytes) = dict.bytes(b"peers6") {
        peers.extend(compact_peers(bytes, true).take(PEERS_MAX));
    }
    // With both lists full each gives half, so that neither family crowds out the other.
    keep_both_families(&mut peers);
    let id = dict.bytes(b"tracker id");
    Ok(AnnounceReply {
        interval_secs: seconds(dict.get(b"interval")),
        min_interval_secs: seconds(dict.get(b"min interval")),
        tracker_id: id
            .filter(|id| !id.is_empty() && id.len() <= TRACKER_ID_LEN_MAX)
            .map(<[u8]>::to_vec),
        warning: text(dict.get(b"warning message")),
        seeds: count(dict.get(b"complete")),
        leechers: count(dict.get(b"incomplete")),
        downloaded: count(dict.get(b"downloaded")),
        peers,
        external_ip: dict.bytes(b"external ip").and_then(address),
    })
}

/// Reads the reply to a scrape.
///
/// # Errors
/// Where the tracker refused, or what came is no scrape reply.
pub fn parse_scrape(reply: &HttpReply) -> Result<BTreeMap<InfoHash, ScrapeEntry>, TrackerError> {
    let dict = reply_dict(reply)?;
    let Some(files) = dict.get(b"files").and_then(Value::as_dict) else {
        return Err(malformed("the scrape reply lists no torrents"));
    };
    let entries = files.iter().take(SCRAPE_MAX).filter_map(|(hash, entry)| {
        let entry = entry.as_dict()?;
        let number = |key: &[u8]| count(entry.get(key)).unwrap_or(0);
        let entry = ScrapeEntry {
            seeds: number(b"complete"),
            completed: number(b"downloaded"),
            leechers: number(b"incomplete"),
        };
        Some((InfoHash(hash.try_into().ok()?), entry))
    });
    Ok(entries.collect())
}

/// The dictionary of a reply that is no failure. A refusal in bencode counts whatever the status.
fn reply_dict(reply: &HttpReply) -> Result<Dict<'_>, TrackerError> {
    let good_status = (200..300).contains(&reply.status);
    let dict = torr_bencode::parse_prefix(&reply.body).ok();
    let Some(dict) = dict.and_then(|(root, _)| root.as_dict()) else {
        return Err(malformed(&if !good_status {
            format!("HTTP status {}", reply.status)
        } else if reply.body.is_empty() {
            "empty reply".to_owned()
        } else {
            let start = reply.body.get(..40).unwrap_or(&reply.body);
            format!("the reply is not bencode; it starts: {}", clean(start))
        }));
    };
    if let Some(reason) = dict.get(b"failure reason") {
        let reason = text(Some(reason)).unwrap_or_else(|| "refused without a reason".to_owned());
        let retry = dict.get(b"retry in").and_then(retry_in);
        return Err(TrackerError::Refused { reason, retry });
    }
    if !good_status {
        return Err(malformed(&format!("HTTP status {}", reply.status)));
    }
    Ok(dict)
}

fn malformed(what: &str) -> TrackerError {
    TrackerError::Malformed(what.to_owned())
}

fn push_peers(peers: &mut Vec<SocketAddr>, value: Value<'_>) {
    if let Some(bytes) = value.as_bytes() {
        peers.extend(compact_peers(bytes, false).take(PEERS_MAX));
    } else if let Some(list) = value.as_list() {
        // Unusable entries count too, so that a list of rubbish costs bounded time.
        let entries = list.iter().take(PEERS_MAX);
        peers.extend(entries.filter_map(|entry| dictionary_peer(entry.as_dict()?)));
    }
}

/// BEP 3: `ip` may be an address of either family in text, or a name. Names are not looked up: that
/// would let a tracker make every peer of a swarm ask for a name of its choice.
fn dictionary_peer(entry: Dict<'_>) -> Option<SocketAddr> {
    let ip = std::str::from_utf8(entry.bytes(b"ip")?).ok()?;
    let ip: IpAddr = ip.trim_matches(['[', ']']).parse().ok()?;
    let port = u16::try_from(entry.get(b"port")?.as_int()?).ok()?;
    Some(SocketAddr::new(ip.to_canonical(), port)).filter(|addr| is_peer_address(*addr))
}

fn keep_both_families(peers: &mut Vec<SocketAddr>) {
    if peers.len() <= PEERS_MAX {
        return;
    }
    let (v4, v6): (Vec<_>, Vec<_>) = peers.iter().partition(|addr| addr.is_ipv4());
    let v4_kept = (PEERS_MAX / 2).max(PEERS_MAX.saturating_sub(v6.len()));
    *peers = v4
        .into_iter()
        .take(v4_kept)
        .chain(v6)
        .take(PEERS_MAX)
        .collect();
}

/// Seconds to wait: `None` for what is absent, negative, zero or no number; at most `u32::MAX`.
fn seconds(value: Option<Value<'_>>) -> Option<u32> {
    count(value).filter(|secs| *secs > 0)
}

/// A number that is not negative, cut to 32 bits: 2^63 and worse is the largest, not the absent.
fn count(value: Option<Value<'_>>) -> Option<u32> {
    let value = value?;
    if value.kind() != Kind::Int || value.raw().get(1) == Some(&b'-') {
        return None;
    }
    let number = value.as_uint().unwrap_or(u64::MAX);
    Some(u32::try_from(number).unwrap_or(u32::MAX))
}

fn text(value: Option<Value<'_>>) -> Option<String> {
    let text = clean(value?.as_bytes()?);
    (!text.is_empty()).then_some(text)
}

/// BEP 31: minutes, or `never`; its examples write the number as text.
fn retry_in(value: Value<'_>) -> Option<Retry> {
    let minutes = match value.as_bytes() {
        Some(b"never") => return Some(Retry::Never),
        Some(text) => std::str::from_utf8(text).ok()?.trim().parse().ok()?,
        None => value.as_uint()?,
    };
    let minutes = minutes.clamp(1, RETRY_MINUTES_MAX);
    Some(Retry::After(Duration::from_secs(minutes * 60)))
}

/// BEP 24: an address of 4 or 16 bytes.
fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(v4.into());
    }
    Some(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?).to_canonical())
}
