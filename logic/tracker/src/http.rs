//! Announce and scrape over HTTP: the query text of a request (BEP 3, 7, 23, 48).

use std::fmt::Write as _;

use torr_base::{InfoHash, percent};

use crate::announce::AnnounceRequest;
use crate::url::TrackerUrl;

/// Longest tracker id that is sent back; a longer one is not kept.
pub const TRACKER_ID_LEN_MAX: usize = 256;

/// The URL of an announce. It holds the passkey, if there is one.
#[must_use]
pub fn announce_url(url: &TrackerUrl, request: &AnnounceRequest) -> String {
    let mut out = with_separator(url.as_str());
    out.push_str("info_hash=");
    push_escaped(&mut out, &request.info_hash.0);
    out.push_str("&peer_id=");
    push_escaped(&mut out, &request.peer_id.0);
    let mut number = |name: &str, value: u64| {
        // Writing to a String cannot fail.
        let _ = write!(out, "&{name}={value}");
    };
    number("port", u64::from(request.port));
    number("uploaded", request.uploaded);
    number("downloaded", request.downloaded);
    number("left", request.left);
    if request.corrupt > 0 {
        number("corrupt", request.corrupt);
    }
    if let Some(numwant) = request.numwant {
        number("numwant", u64::from(numwant));
    }
    number("compact", 1);
    number("no_peer_id", 1);
    let _ = write!(out, "&key={:08x}", request.key);
    if let Some(event) = request.event.word() {
        let _ = write!(out, "&event={event}");
    }
    if let Some(ip) = request.ipv4 {
        let _ = write!(out, "&ipv4={ip}");
    }
    if let Some(ip) = request.ipv6 {
        out.push_str("&ipv6=");
        push_escaped(&mut out, ip.to_string().as_bytes());
    }
    if let Some(id) = &request.tracker_id {
        out.push_str("&trackerid=");
        push_escaped(&mut out, id);
    }
    out
}

/// The URL of a scrape, or `None` for a tracker that by the naming rule of BEP 48 has none: the last
/// path component must begin with `announce`.
#[must_use]
pub fn scrape_url(url: &TrackerUrl, torrents: &[InfoHash]) -> Option<String> {
    let (whole, path) = (url.as_str(), url.path());
    let last = path.rfind(['/', '\\'])? + 1;
    let rest = path.get(last..)?.strip_prefix("announce")?;
    let path_at = whole.len() - url.path_and_query().len();
    let mut base = whole.get(..path_at + last)?.to_owned();
    base.push_str("scrape");
    base.push_str(rest);
    base.push_str(whole.get(path_at + path.len()..)?);
    let mut out = with_separator(&base);
    for (i, torrent) in torrents.iter().enumerate() {
        out.push_str(if i > 0 { "&info_hash=" } else { "info_hash=" });
        push_escaped(&mut out, &torrent.0);
    }
    Some(out)
}

/// The URL with what must stand between it and the first argument.
fn with_separator(url: &str) -> String {
    let mut out = String::with_capacity(url.len() + 400);
    out.push_str(url);
    if !url.contains('?') {
        out.push('?');
    } else if !url.ends_with(['?', '&']) {
        out.push('&');
    }
    out
}

/// Writing to a String cannot fail.
fn push_escaped(out: &mut String, bytes: &[u8]) {
    let _ = write!(out, "{}", percent(bytes, ""));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::announce::Event;
    use torr_base::PeerId;

    fn url(text: &str) -> TrackerUrl {
        TrackerUrl::parse(text).unwrap()
    }

    fn request() -> AnnounceRequest {
        AnnounceRequest {
            info_hash: InfoHash(*b"\x12\x34\x56\x78\x9a\xbc\xde\xf1\x23\x45\x67\x89\xab\xcd\xef\x12\x34\x56\x78\x9a"),
            peer_id: PeerId(*b"-TR0100-abcdefghijkl"),
            port: 6881,
            uploaded: 1,
            downloaded: 2,
            left: 3,
            corrupt: 0,
            event: Event::Started,
            key: 0xab,
            numwant: Some(50),
            tracker_id: None,
            ipv4: None,
            ipv6: None,
        }
    }

    #[test]
    fn announce_text() {
        // The escaped info-hash is the well-known example of the field: unreserved bytes stay.
        assert_eq!(
            announce_url(&url("http://t.example/announce"), &request()),
            "http://t.example/announce?info_hash=%124Vx%9A%BC%DE%F1%23Eg%89%AB%CD%EF%124Vx%9A\
             &peer_id=-TR0100-abcdefghijkl&port=6881&uploaded=1&downloaded=2&left=3&numwant=50\
             &compact=1&no_peer_id=1&key=000000ab&event=started"
        );
    }

    #[test]
    fn rarer_arguments_and_urls_with_a_query() {
        let request = AnnounceRequest {
            corrupt: 9,
            event: Event::None,
            numwant: None,
            tracker_id: Some(b"a b&c".to_vec()),
            ipv4: Some([192, 0, 2, 1].into()),
            ipv6: Some("2001:db8::1".parse().unwrap()),
            ..request()
        };
        let text = announce_url(&url("http://t.example/announce?passkey=x#frag"), &request);
        assert!(text.starts_with("http://t.example/announce?passkey=x&info_hash="));
        assert!(text.ends_with(
            "&left=3&corrupt=9&compact=1&no_peer_id=1&key=000000ab\
             &ipv4=192.0.2.1&ipv6=2001%3Adb8%3A%3A1&trackerid=a%20b%26c"
        ));
        assert!(!text.contains("event") && !text.contains("numwant"));
        for base in ["http://t.example/a?", "http://t.example/a?x=1&"] {
            let text = announce_url(&url(base), &request);
            assert!(text.starts_with(&format!("{base}info_hash=")));
        }
    }

    #[test]
    fn scrape_convention() {
        // The examples of BEP 48.
        let hash = [InfoHash([b'a'; 20])];
        let scrape = |text: &str| scrape_url(&url(text), &hash);
        let a = "info_hash=aaaaaaaaaaaaaaaaaaaa";
        for (from, to) in [
            ("http://h.example/announce", "http://h.example/scrape?"),
            ("http://h.example/x/announce", "http://h.example/x/scrape?"),
            (
                "http://h.example/announce.php",
                "http://h.example/scrape.php?",
            ),
            (
                "http://h.example/announce?x2%0644",
                "http://h.example/scrape?x2%0644&",
            ),
            (
                "http://h.example/announce?x=2/4",
                "http://h.example/scrape?x=2/4&",
            ),
            (
                "http://h.example/x%064announce/announce",
                "http://h.example/x%064announce/scrape?",
            ),
        ] {
            assert_eq!(scrape(from), Some(format!("{to}{a}")), "{from}");
        }
        assert_eq!(scrape("http://h.example/a"), None);
        assert_eq!(scrape("http://h.example"), None);
        assert_eq!(scrape("http://h.example/x%064announce"), None);
        let two = scrape_url(&url("http://h.example/announce"), &[hash[0], hash[0]]).unwrap();
        assert!(two.ends_with(&format!("?{a}&{a}")));
    }
}
