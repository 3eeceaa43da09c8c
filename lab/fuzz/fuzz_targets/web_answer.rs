//! Any text in the head of a web seed's answer, and any names in the URL that it is asked by.
#![no_main]

use libfuzzer_sys::fuzz_target;
use torr_swarm::{WebHead, file_url, judge};

fuzz_target!(|bytes: &[u8]| {
    let Some(([a, b, c], rest)) = bytes.split_first_chunk() else {
        return;
    };
    let parts: Vec<&[u8]> = rest.split(|byte| *byte == b'\n').collect();
    let text = |at: usize| parts.get(at).map(|part| String::from_utf8_lossy(part).into_owned());
    let head = WebHead {
        status: u16::from_be_bytes([*a & 3, *b]),
        content_range: text(0),
        content_len: text(1).and_then(|len| len.parse().ok()),
        retry_after: text(2),
        is_encoded: *c & 1 == 1,
    };
    let len = 1 + u64::from(*c) * 1_000;
    let range = (u64::from(*b) % len, len);
    if let Err(fault) = judge(&head, range, len) {
        assert!(!fault.to_string().is_empty());
    } else {
        assert!(matches!(head.status, 200 | 206) && !head.is_encoded);
    }
    let base = text(3).unwrap_or_default();
    let name = parts.get(4).copied().unwrap_or_default();
    let path = parts.get(5..).unwrap_or_default();
    if let Some(url) = file_url(&base, *c & 2 == 2, name, path) {
        let base = base.split('#').next().unwrap_or_default();
        let (folder, _) = base.split_once('?').unwrap_or((base, ""));
        let added = url.strip_prefix(folder).expect("the base comes first");
        let added = added.split('?').next().unwrap_or_default();
        let is_plain = |part: &str| {
            let known = |c: char| c.is_ascii_alphanumeric() || "-._~%".contains(c);
            part.chars().all(known) && part != ".." && part != "."
        };
        assert!(added.split('/').all(is_plain), "{url}");
    }
});
