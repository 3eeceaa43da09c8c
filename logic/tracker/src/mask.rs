//! Passkeys kept out of everything that a person, a log file or another program may read.
//!
//! Private trackers name their users by a secret inside the URL. What is hidden here is decided by
//! shape alone and errs on the side of hiding: a masked word costs nothing, a shown key an account.

use crate::text::clean;

/// What stands in a secret's place.
const MASKED: &str = "***";

/// A tracker's URL for people: user and password, query values, and path components and host labels
/// that look like keys are replaced by `***`.
#[must_use]
pub fn mask(url: &str) -> String {
    clean(rewrite(url, &mut |_| {}).as_bytes())
}

/// Text that may hold URLs or keys, for people: each URL in it goes through [`mask`], and bare words
/// that look like keys are replaced. The result is cleaned as [`crate::clean`] does.
#[must_use]
pub fn mask_text(text: &str) -> String {
    let text = clean(text.as_bytes());
    let mut out = String::with_capacity(text.len());
    for (i, word) in text.split(' ').enumerate() {
        if i > 0 {
            out.push(' ');
        }
        mask_word(word, &mut out);
    }
    out
}

/// [`mask_text`] for what the tracker at `url` said: it may repeat a part of `url` that is a secret
/// but does not look like one.
#[must_use]
pub fn mask_reply(url: &str, text: &str) -> String {
    let mut secrets = Vec::new();
    rewrite(url, &mut |secret| secrets.push(secret.to_owned()));
    // The longer ones first, so that none is left in part.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    let mut text = text.to_owned();
    for secret in secrets.iter().filter(|secret| secret.len() >= 6) {
        text = text.replace(secret.as_str(), MASKED);
    }
    mask_text(&text)
}

fn mask_word(word: &str, out: &mut String) {
    let edge = |c: char| "\"'`()<>[]{},;".contains(c);
    let Some(at) = word.find("://") else {
        for part in word.split_inclusive(|c: char| !is_key_char(c)) {
            let key = part.trim_end_matches(|c| !is_key_char(c));
            let after = part.get(key.len()..).unwrap_or_default();
            out.push_str(if looks_like_bare_key(key) {
                MASKED
            } else {
                key
            });
            out.push_str(after);
        }
        return;
    };
    let head = word.get(..at).unwrap_or_default();
    let start = head.rfind(edge).map_or(0, |i| i + 1);
    let (before, url) = word.split_at(start);
    let url_len = url
        .trim_end_matches(|c| edge(c) || c == ':' || c == '.')
        .len();
    let (url, after) = url.split_at(url_len);
    out.push_str(before);
    out.push_str(&mask(url));
    out.push_str(after);
}

/// The URL with secrets replaced; each replaced part is told to `found`.
fn rewrite(url: &str, found: &mut dyn FnMut(&str)) -> String {
    let mut out = String::with_capacity(url.len());
    let rest = match url.split_once("://") {
        Some((scheme, rest)) => {
            out.push_str(scheme);
            out.push_str("://");
            rest
        }
        None => url,
    };
    let (authority, rest) = rest.split_at(rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len()));
    let host = match authority.rsplit_once('@') {
        Some((user, host)) => {
            user.split(':').for_each(&mut *found);
            out.push_str(MASKED);
            out.push('@');
            host
        }
        None => authority,
    };
    push_host(&mut out, host, found);
    let (path, rest) = rest.split_at(rest.find(['?', '#']).unwrap_or(rest.len()));
    push_path(&mut out, path, found);
    push_query(&mut out, rest, found);
    out
}

fn push_host(out: &mut String, host: &str, found: &mut dyn FnMut(&str)) {
    if host.starts_with('[') {
        return out.push_str(host);
    }
    for label in host.split_inclusive('.') {
        let name = label.trim_end_matches('.');
        if name.len() >= 20 && name.bytes().any(|c| c.is_ascii_digit()) {
            found(name);
            out.push_str(MASKED);
            out.push_str(label.get(name.len()..).unwrap_or_default());
        } else {
            out.push_str(label);
        }
    }
}

fn push_path(out: &mut String, path: &str, found: &mut dyn FnMut(&str)) {
    let mut after_announce = false;
    for part in path.split_inclusive(['/', '\\']) {
        let name = part.trim_end_matches(['/', '\\']);
        let verb = ["announce", "scrape"]
            .iter()
            .find_map(|verb| name.strip_prefix(verb));
        match verb {
            Some(ext) if is_extension(ext) => out.push_str(name),
            Some(ext) => {
                found(ext.trim_start_matches(|c: char| !c.is_ascii_alphanumeric()));
                out.push_str(name.strip_suffix(ext).unwrap_or_default());
                out.push_str(MASKED);
            }
            None if !name.is_empty() && (after_announce || looks_like_key(name)) => {
                found(name);
                out.push_str(MASKED);
            }
            None => out.push_str(name),
        }
        after_announce |= verb.is_some();
        out.push_str(part.get(name.len()..).unwrap_or_default());
    }
}

fn push_query(out: &mut String, query: &str, found: &mut dyn FnMut(&str)) {
    for part in query.split_inclusive(['?', '&', ';', '#']) {
        let pair = part.trim_end_matches(['?', '&', ';', '#']);
        match pair.split_once('=') {
            Some((name, value)) if !looks_like_key(name) => {
                found(value);
                out.push_str(name);
                out.push('=');
                if !value.is_empty() {
                    out.push_str(MASKED);
                }
            }
            _ if pair.is_empty() => {}
            _ => {
                found(pair);
                out.push_str(MASKED);
            }
        }
        out.push_str(part.get(pair.len()..).unwrap_or_default());
    }
}

/// `.php`, `.ashx` and nothing: what may follow `announce` without being a secret.
fn is_extension(text: &str) -> bool {
    text.is_empty()
        || text.strip_prefix('.').is_some_and(|ext| {
            (1..=5).contains(&ext.len()) && ext.bytes().all(|c| c.is_ascii_alphabetic())
        })
}

/// A path component or name: long, or of middle length with a digit in it.
fn looks_like_key(name: &str) -> bool {
    name.len() >= 16 || (name.len() >= 8 && name.bytes().any(|c| c.is_ascii_digit()))
}

/// A word in running text: only letters and digits, long, and with a digit.
fn looks_like_bare_key(word: &str) -> bool {
    word.len() >= 16 && word.bytes().any(|c| c.is_ascii_digit())
}

fn is_key_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-' || c == '%'
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn real_world_shapes() {
        for (url, masked) in [
            ("http://t.example/announce", "http://t.example/announce"),
            (
                "http://t.example:2710/KEY/announce",
                "http://t.example:2710/***/announce",
            ),
            (
                "https://t.example/announce/KEY",
                "https://t.example/announce/***",
            ),
            (
                "https://t.example/announce.php?passkey=KEY",
                "https://t.example/announce.php?passkey=***",
            ),
            (
                "https://t.example/a?authkey=x1&torrent_pass=KEY",
                "https://t.example/a?authkey=***&torrent_pass=***",
            ),
            (
                "http://user:pass@t.example/announce",
                "http://***@t.example/announce",
            ),
            (
                "http://t.example/announce?KEY",
                "http://t.example/announce?***",
            ),
            (
                "http://t.example/tracker.php/KEY/announce",
                "http://t.example/tracker.php/***/announce",
            ),
            (
                "http://KEY.t.example/announce",
                "http://***.t.example/announce",
            ),
            (
                "udp://t.example:80/a1b2c3d4e5/announce",
                "udp://t.example:80/***/announce",
            ),
            (
                "udp://t.example:80/announce/short",
                "udp://t.example:80/announce/***",
            ),
            (
                "http://t.example/announce;KEY",
                "http://t.example/announce***",
            ),
            (
                "http://t.example/announce?a=b?c=d#e",
                "http://t.example/announce?a=***?c=***#***",
            ),
            (
                "http://[2001:db8::1]:80/scrape.php?k=v",
                "http://[2001:db8::1]:80/scrape.php?k=***",
            ),
            ("wss://t.example/KEY", "wss://t.example/***"),
            ("t.example/KEY/announce", "t.example/***/announce"),
            (
                "http://t.example\\KEY\\announce",
                "http://t.example\\***\\announce",
            ),
            (
                "http://t.example/announce?passkey=",
                "http://t.example/announce?passkey=",
            ),
        ] {
            assert_eq!(mask(&url.replace("KEY", KEY)), masked, "{url}");
        }
    }

    #[test]
    fn errors_and_replies_lose_the_key_as_well() {
        let url = format!("http://t.example/{KEY}/announce");
        let text = format!("error sending request for url ({url}?info_hash=%01): refused");
        let masked = mask_text(&text);
        assert_eq!(
            masked,
            "error sending request for url (http://t.example/***/announce?info_hash=***): refused"
        );
        assert_eq!(
            mask_text(&format!("unknown passkey \"{KEY}\"")),
            "unknown passkey \"***\""
        );
        assert_eq!(
            mask_reply("http://t.example/announce/secret", "no user 'secret' here"),
            "no user '***' here"
        );
        // A secret that is part of another one is not replaced first.
        assert_eq!(
            mask_reply(
                "http://user12:user12345@t/announce",
                "no user12345, no user12"
            ),
            "no ***, no ***"
        );
        assert_eq!(
            mask_text("HTTP 404 from tracker.example"),
            "HTTP 404 from tracker.example"
        );
    }

    proptest::proptest! {
        #[test]
        fn a_key_never_shows(before in "[ -~]{0,20}", after in "[ -~]{0,20}") {
            for text in [
                format!("http://h.example/{KEY}/announce{after}"),
                format!("http://h.example/announce?k={KEY}&{after}"),
                format!("{before} https://h.example/announce/{KEY} {after}"),
            ] {
                proptest::prop_assert!(!mask_text(&text).contains(KEY), "{text}");
            }
            let masked = mask(&format!("http://h/{KEY}/{after}"));
            proptest::prop_assert!(!masked.contains(KEY));
        }

        #[test]
        fn never_panics(text: String) {
            let _ = (mask(&text), mask_text(&text), mask_reply(&text, &text));
        }
    }
}
