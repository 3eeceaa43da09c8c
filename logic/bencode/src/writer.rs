//! The canonical writer: what it makes is always valid, with sorted keys.

use std::collections::BTreeMap;
use std::io::Write as _;

use crate::Value;
use crate::scan::Lexer;

/// One dictionary as bytes.
#[must_use]
pub fn encode_dict(fill: impl FnOnce(&mut DictWriter<'_>)) -> Vec<u8> {
    let mut out = Vec::new();
    write_dict(&mut out, fill);
    out
}

/// Appends one dictionary to `out`.
pub fn write_dict(out: &mut Vec<u8>, fill: impl FnOnce(&mut DictWriter<'_>)) {
    out.push(b'd');
    let start = out.len();
    let mut dict = DictWriter {
        out,
        start,
        last: None,
        in_order: true,
    };
    fill(&mut dict);
    dict.finish();
}

/// Appends one list to `out`.
fn write_list(out: &mut Vec<u8>, fill: impl FnOnce(&mut ListWriter<'_>)) {
    out.push(b'l');
    fill(&mut ListWriter { out });
    out.push(b'e');
}

fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    write_number(out, bytes.len());
    out.push(b':');
    out.extend_from_slice(bytes);
}

fn write_int(out: &mut Vec<u8>, value: impl std::fmt::Display) {
    out.push(b'i');
    write_number(out, value);
    out.push(b'e');
}

fn write_number(out: &mut Vec<u8>, value: impl std::fmt::Display) {
    // Writing to a Vec cannot fail.
    let _ = write!(out, "{value}");
}

/// Fills a dictionary, in any order; the bytes come out in the order of the keys.
///
/// Of two values with the same key the last one counts.
#[derive(Debug)]
pub struct DictWriter<'w> {
    out: &'w mut Vec<u8>,
    /// Where the entries begin.
    start: usize,
    /// Where in `out` the last key stands.
    last: Option<(usize, usize)>,
    in_order: bool,
}

impl DictWriter<'_> {
    /// An integer.
    pub fn int(&mut self, key: impl AsRef<[u8]>, value: i64) -> &mut Self {
        write_int(self.key(key.as_ref()), value);
        self
    }

    /// An integer that is not negative.
    pub fn uint(&mut self, key: impl AsRef<[u8]>, value: u64) -> &mut Self {
        write_int(self.key(key.as_ref()), value);
        self
    }

    /// A string.
    pub fn bytes(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> &mut Self {
        write_bytes(self.key(key.as_ref()), value.as_ref());
        self
    }

    /// A value that was read, byte for byte.
    pub fn value(&mut self, key: impl AsRef<[u8]>, value: Value<'_>) -> &mut Self {
        self.key(key.as_ref()).extend_from_slice(value.raw());
        self
    }

    /// A list.
    pub fn list(
        &mut self,
        key: impl AsRef<[u8]>,
        fill: impl FnOnce(&mut ListWriter<'_>),
    ) -> &mut Self {
        write_list(self.key(key.as_ref()), fill);
        self
    }

    /// A dictionary inside this one.
    pub fn dict(
        &mut self,
        key: impl AsRef<[u8]>,
        fill: impl FnOnce(&mut DictWriter<'_>),
    ) -> &mut Self {
        write_dict(self.key(key.as_ref()), fill);
        self
    }

    fn key(&mut self, key: &[u8]) -> &mut Vec<u8> {
        let last = self.last.and_then(|(start, end)| self.out.get(start..end));
        if last.is_some_and(|last| last >= key) {
            self.in_order = false;
        }
        write_bytes(self.out, key);
        self.last = Some((self.out.len() - key.len(), self.out.len()));
        self.out
    }

    fn finish(self) {
        if !self.in_order {
            sort_entries(self.out, self.start);
        }
        self.out.push(b'e');
    }
}

/// Puts the entries from `start` on into the order of their keys.
fn sort_entries(out: &mut Vec<u8>, start: usize) {
    let entries = out.split_off(start);
    let mut sorted = BTreeMap::new();
    let mut lexer = Lexer::new(&entries, 0);
    while lexer.pos() < entries.len() {
        let from = lexer.pos();
        let Ok(crate::scan::Token::Bytes(key)) = lexer.token() else {
            break;
        };
        if lexer.skip().is_none() {
            break;
        }
        sorted.insert(key, entries.get(from..lexer.pos()).unwrap_or_default());
    }
    debug_assert_eq!(lexer.pos(), entries.len(), "a writer writes whole entries");
    for entry in sorted.values() {
        out.extend_from_slice(entry);
    }
}

/// Fills a list in order.
#[derive(Debug)]
pub struct ListWriter<'w> {
    out: &'w mut Vec<u8>,
}

impl ListWriter<'_> {
    /// An integer.
    pub fn int(&mut self, value: i64) -> &mut Self {
        write_int(self.out, value);
        self
    }

    /// An integer that is not negative.
    pub fn uint(&mut self, value: u64) -> &mut Self {
        write_int(self.out, value);
        self
    }

    /// A string.
    pub fn bytes(&mut self, value: impl AsRef<[u8]>) -> &mut Self {
        write_bytes(self.out, value.as_ref());
        self
    }

    /// A value that was read, byte for byte.
    pub fn value(&mut self, value: Value<'_>) -> &mut Self {
        self.out.extend_from_slice(value.raw());
        self
    }

    /// A list inside this one.
    pub fn list(&mut self, fill: impl FnOnce(&mut ListWriter<'_>)) -> &mut Self {
        write_list(self.out, fill);
        self
    }

    /// A dictionary.
    pub fn dict(&mut self, fill: impl FnOnce(&mut DictWriter<'_>)) -> &mut Self {
        write_dict(self.out, fill);
        self
    }
}
