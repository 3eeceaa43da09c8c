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
    AnnounceReply, HttpReply, NO_REASON, PEERS_MAX, Retry, ScrapeEntry, TrackerError,
    compact_peers, is_peer_address,
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
        let reason = text(Some(reason)).unwrap_or_else(|| NO_REASON.to_owned());
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

#[cfg(test)]
mod tests {
    use super::*;

    fn announce(body: &[u8]) -> AnnounceReply {
        parse_announce(&HttpReply::new(200, body)).unwrap()
    }

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn everything_that_an_announce_reply_may_hold() {
        let reply = announce(
            b"d8:completei1e10:downloadedi2e11:external ip4:\xc0\x00\x02\x0110:incompletei3e8:intervali1800e\
              12:min intervali900e5:peers12:\x08\x08\x08\x08\x1a\xe1\x09\x09\x09\x09\x00\x50\
              6:peers618:\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x1a\xe1\
              10:tracker id3:abc15:warning message6:be\nwaree",
        );
        assert_eq!(
            reply,
            AnnounceReply {
                interval_secs: Some(1800),
                min_interval_secs: Some(900),
                tracker_id: Some(b"abc".to_vec()),
                warning: Some("be war".to_owned()),
                seeds: Some(1),
                leechers: Some(3),
                downloaded: Some(2),
                peers: ["8.8.8.8:6881", "9.9.9.9:80", "[2001:db8::1]:6881"]
                    .map(addr)
                    .to_vec(),
                external_ip: Some("192.0.2.1".parse().unwrap()),
            }
        );
        let nothing = AnnounceReply::default();
        assert_eq!(announce(b"de"), nothing);
    }

    #[test]
    fn dictionary_peers_of_both_families() {
        let reply = announce(
            b"d5:peersld2:ip7:8.8.8.84:porti80eed2:ip11:2001:db8::17:peer id20:aaaaaaaaaaaaaaaaaaaa4:porti81ee\
              d2:ip13:[2001:db8::2]4:porti82eed2:ip15:::ffff:9.9.9.9 4:porti1eed2:ip14:::ffff:9.9.9.94:porti83ee\
              d2:ip7:0.0.0.04:porti1eed2:ip7:8.8.8.84:porti0eed2:ip7:8.8.8.8ei5e4:spamee",
        );
        let expected = [
            "8.8.8.8:80",
            "[2001:db8::1]:81",
            "[2001:db8::2]:82",
            "9.9.9.9:83",
        ];
        assert_eq!(reply.peers, expected.map(addr));
    }

    #[test]
    fn floods_of_both_families_leave_room_for_each_other() {
        let body = |v4: usize, v6: usize| {
            torr_bencode::encode_dict(|dict| {
                dict.bytes("peers", b"\x08\x08\x08\x08\0\x09".repeat(v4));
                dict.bytes(
                    "peers6",
                    [[0x20; 16].as_slice(), b"\0\x09"].concat().repeat(v6),
                );
            })
        };
        for (v4, v6, v4_kept, v6_kept) in [
            (1000, 1000, 200, 200),
            (1000, 0, 400, 0),
            (0, 1000, 0, 400),
            (1000, 10, 390, 10),
            (10, 1000, 10, 390),
            (250, 150, 250, 150),
        ] {
            let peers = announce(&body(v4, v6)).peers;
            let kept = peers.iter().filter(|peer| peer.is_ipv4()).count();
            assert_eq!((kept, peers.len() - kept), (v4_kept, v6_kept), "{v4} {v6}");
        }
    }

    #[test]
    fn numbers_out_of_range() {
        let reply = announce(b"d8:completei-1e10:downloadedi99999999999999999999e10:incompletei4294967296e8:intervali0ee");
        assert_eq!((reply.seeds, reply.leechers), (None, Some(u32::MAX)));
        assert_eq!(
            (reply.downloaded, reply.interval_secs),
            (Some(u32::MAX), None)
        );
        let external = |bytes: &[u8]| {
            let body = torr_bencode::encode_dict(|dict| {
                dict.bytes("external ip", bytes);
            });
            announce(&body).external_ip
        };
        assert_eq!(external(&[0; 5]), None);
        assert_eq!(external(&[0x20; 16]), Some(IpAddr::from([0x20; 16])));
    }

    #[test]
    fn when_to_come_back() {
        // BEP 31.
        for (value, expected) in [
            ("1:5", Some(Retry::After(Duration::from_secs(300)))),
            ("i5e", Some(Retry::After(Duration::from_secs(300)))),
            ("5:never", Some(Retry::Never)),
            ("i0e", Some(Retry::After(Duration::from_secs(60)))),
            (
                "i999999999e",
                Some(Retry::After(Duration::from_secs(86_400))),
            ),
            ("i-1e", None),
            ("4:soon", None),
            ("le", None),
        ] {
            let body = format!("d14:failure reason2:no8:retry in{value}e");
            let refused = TrackerError::Refused {
                reason: "no".to_owned(),
                retry: expected,
            };
            let reply = parse_announce(&HttpReply::new(200, body));
            assert_eq!(reply, Err(refused), "{value}");
        }
    }

    #[test]
    fn scrape_replies() {
        // The example of BEP 48.
        let body = b"d5:filesd20:aaaaaaaaaaaaaaaaaaaad8:completei5e10:downloadedi50e10:incompletei10ee5:shortde\
                     20:bbbbbbbbbbbbbbbbbbbbi5eee";
        let entries = parse_scrape(&HttpReply::new(200, body)).unwrap();
        let entry = ScrapeEntry {
            seeds: 5,
            completed: 50,
            leechers: 10,
        };
        assert_eq!(entries, BTreeMap::from([(InfoHash([b'a'; 20]), entry)]));
        for bad in ["de", "d5:filesi1ee", "d14:failure reason2:noe", ""] {
            assert!(parse_scrape(&HttpReply::new(200, bad)).is_err(), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(status in 100..600_u16, body: Vec<u8>, rest in "[deil0-9:]{0,60}") {
            for body in [body, format!("d5:peers{rest}").into_bytes(), rest.into_bytes()] {
                let reply = HttpReply::new(status, body);
                let _ = (parse_announce(&reply), parse_scrape(&reply));
            }
        }
    }
}
