//! The request line of a GET to a tracker: path and arguments.

use torr_base::{InfoHash, PeerId};

use crate::announce::{AnnounceRequest, Event};

/// Longer targets are refused unread.
const TARGET_LEN_MAX: usize = 8 * 1024;
/// Further arguments are not looked at.
const ARGUMENTS_MAX: usize = 100;
/// Torrents in one scrape.
const SCRAPE_MAX: usize = 74;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum HttpRequest {
    Announce {
        announce: AnnounceRequest,
        /// BEP 23; short lists are the rule unless the client says otherwise.
        compact: bool,
    },
    Scrape {
        torrents: Vec<InfoHash>,
    },
    /// Neither of the two.
    Elsewhere,
}

/// Reads a target such as `/announce?info_hash=…`.
///
/// # Errors
/// What is wrong with the arguments, for the client.
pub(super) fn parse(target: &str) -> Result<HttpRequest, &'static str> {
    if target.len() > TARGET_LEN_MAX {
        return Err("the request is too long");
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    match path {
        "/announce" => announce(query),
        "/scrape" => scrape(query),
        _ => Ok(HttpRequest::Elsewhere),
    }
}

fn announce(query: &str) -> Result<HttpRequest, &'static str> {
    let mut info_hash = None;
    let mut peer_id = None;
    let mut port = None;
    let mut left = None;
    let mut compact = true;
    let mut out = AnnounceRequest {
        info_hash: InfoHash([0; 20]),
        peer_id: PeerId([0; 20]),
        port: 0,
        uploaded: 0,
        downloaded: 0,
        left: 0,
        corrupt: 0,
        event: Event::None,
        key: 0,
        numwant: None,
        tracker_id: None,
        ipv4: None,
        ipv6: None,
    };
    for (name, value) in arguments(query) {
        match name {
            "info_hash" => info_hash = Some(twenty(value).ok_or("info_hash is not 20 bytes")?),
            "peer_id" => peer_id = Some(twenty(value).ok_or("peer_id is not 20 bytes")?),
            "port" => port = Some(value.parse().map_err(|_| "port is no number up to 65535")?),
            "left" => left = Some(number(value).ok_or("left is no number")?),
            "uploaded" => out.uploaded = number(value).unwrap_or(0),
            "downloaded" => out.downloaded = number(value).unwrap_or(0),
            "corrupt" => out.corrupt = number(value).unwrap_or(0),
            "numwant" => out.numwant = value.parse().ok(),
            "key" => out.key = key(value),
            "compact" => compact = value != "0",
            "event" => {
                out.event = match value {
                    "started" => Event::Started,
                    "completed" => Event::Completed,
                    "stopped" => Event::Stopped,
                    "paused" => Event::Paused,
                    _ => Event::None,
                }
            }
            _ => {}
        }
    }
    out.info_hash = InfoHash(info_hash.ok_or("info_hash is missing")?);
    out.peer_id = PeerId(peer_id.ok_or("peer_id is missing")?);
    out.port = port.ok_or("port is missing")?;
    // Whoever does not say is taken for somebody who still wants something.
    out.left = left.unwrap_or(1);
    Ok(HttpRequest::Announce {
        announce: out,
        compact,
    })
}

fn scrape(query: &str) -> Result<HttpRequest, &'static str> {
    let mut torrents = Vec::new();
    for (name, value) in arguments(query) {
        if name == "info_hash" && torrents.len() < SCRAPE_MAX {
            let hash = twenty(value).ok_or("info_hash is not 20 bytes")?;
            torrents.push(InfoHash(hash));
        }
    }
    if torrents.is_empty() {
        // A list of everything would be large, and tell strangers what is here.
        return Err("info_hash is missing");
    }
    Ok(HttpRequest::Scrape { torrents })
}

fn arguments(query: &str) -> impl Iterator<Item = (&str, &str)> {
    let pairs = query.split('&').take(ARGUMENTS_MAX);
    pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

fn number(value: &str) -> Option<u64> {
    value.parse().ok()
}

/// Clients write hex digits, decimal digits or anything else. It is only compared, so any 32 bits made
/// from the text will do.
fn key(value: &str) -> u32 {
    u32::from_str_radix(value, 16).unwrap_or_else(|_| {
        // FNV-1a.
        let mix = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        value.bytes().fold(0x811c_9dc5, mix)
    })
}

/// Percent-decodes exactly 20 bytes.
fn twenty(value: &str) -> Option<[u8; 20]> {
    let mut out = [0; 20];
    let mut rest = value.bytes();
    for to in &mut out {
        *to = match rest.next()? {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                let (high, low) = (digit()?, digit()?);
                u8::try_from(high << 4 | low).ok()?
            }
            b'+' => b' ',
            byte => byte,
        };
    }
    rest.next().is_none().then_some(out)
}
