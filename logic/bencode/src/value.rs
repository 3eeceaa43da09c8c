//! Views of checked bytes. Nothing in here allocates or fails.

use std::fmt;

use crate::scan::{self, Lexer, Token};
use crate::{Error, ErrorKind, Limits};

/// One valid value, borrowed from the input it was read from.
///
/// Two are equal where their bytes are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Value<'a> {
    raw: &'a [u8],
}

/// The four things that a value can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `i…e`.
    Int,
    /// A string of bytes: `4:spam`.
    Bytes,
    /// `l…e`.
    List,
    /// `d…e`.
    Dict,
}

/// What [`read`] found: a value, what follows it, and how well it keeps to the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Document<'a> {
    /// The value that the input begins with.
    pub root: Value<'a>,
    /// The bytes after it.
    pub rest: &'a [u8],
    /// Whether the keys of every dictionary are in order, as BEP 3 wants them. All else that makes a
    /// document canonical is an error where it is missing.
    pub keys_sorted: bool,
}

/// Reads input that is one value and nothing else, within [`Limits::DEFAULT`].
///
/// # Errors
/// See [`ErrorKind`]; keys out of order are accepted.
pub fn parse(bytes: &[u8]) -> Result<Value<'_>, Error> {
    let (root, rest) = parse_prefix(bytes)?;
    if !rest.is_empty() {
        let at = bytes.len() - rest.len();
        return Err(Error::new(at, ErrorKind::TrailingBytes));
    }
    Ok(root)
}

/// Reads the value that the input begins with, within [`Limits::DEFAULT`], and hands back the bytes
/// after it: the `data` message of BEP 9 is such a pair.
///
/// # Errors
/// See [`ErrorKind`]; keys out of order are accepted.
pub fn parse_prefix(bytes: &[u8]) -> Result<(Value<'_>, &[u8]), Error> {
    let document = read(bytes, &Limits::DEFAULT)?;
    Ok((document.root, document.rest))
}

/// Reads the value that the input begins with and tells everything about it.
///
/// # Errors
/// See [`ErrorKind`]. The limits hold for the value, not for the bytes after it.
pub fn read<'a>(bytes: &'a [u8], limits: &Limits) -> Result<Document<'a>, Error> {
    let checked = scan::check(bytes, limits)?;
    let (raw, rest) = bytes
        .split_at_checked(checked.end)
        .ok_or(Error::new(bytes.len(), ErrorKind::Truncated))?;
    Ok(Document {
        root: Value { raw },
        rest,
        keys_sorted: checked.keys_sorted,
    })
}

impl<'a> Value<'a> {
    /// The exact bytes of this value in the input.
    #[must_use]
    pub const fn raw(self) -> &'a [u8] {
        self.raw
    }

    /// Bytes from the start of `whole` to this value, if it was read from there.
    #[must_use]
    pub fn offset_in(self, whole: &[u8]) -> Option<usize> {
        let offset = self
            .raw
            .as_ptr()
            .addr()
            .checked_sub(whole.as_ptr().addr())?;
        let end = offset.checked_add(self.raw.len())?;
        (end <= whole.len()).then_some(offset)
    }

    /// What it is.
    #[must_use]
    pub fn kind(self) -> Kind {
        match self.raw.first() {
            Some(b'i') => Kind::Int,
            Some(b'l') => Kind::List,
            Some(b'd') => Kind::Dict,
            _ => Kind::Bytes,
        }
    }

    /// The integer, if it is one that fits.
    #[must_use]
    pub fn as_int(self) -> Option<i64> {
        self.int_text()?.parse().ok()
    }

    /// The integer, if it is one that is not negative and fits.
    #[must_use]
    pub fn as_uint(self) -> Option<u64> {
        self.int_text()?.parse().ok()
    }

    /// The string, if it is one.
    #[must_use]
    pub fn as_bytes(self) -> Option<&'a [u8]> {
        match self.token()? {
            Token::Bytes(bytes) => Some(bytes),
            Token::Int(_) | Token::List | Token::Dict | Token::End => None,
        }
    }

    /// The string, if it is one and in UTF-8.
    #[must_use]
    pub fn as_str(self) -> Option<&'a str> {
        std::str::from_utf8(self.as_bytes()?).ok()
    }

    /// The list, if it is one.
    #[must_use]
    pub fn as_list(self) -> Option<List<'a>> {
        (self.kind() == Kind::List).then_some(List { raw: self.raw })
    }

    /// The dictionary, if it is one.
    #[must_use]
    pub fn as_dict(self) -> Option<Dict<'a>> {
        (self.kind() == Kind::Dict).then_some(Dict { raw: self.raw })
    }

    fn token(self) -> Option<Token<'a>> {
        Lexer::new(self.raw, 0).token().ok()
    }

    fn int_text(self) -> Option<&'a str> {
        match self.token()? {
            Token::Int(text) => std::str::from_utf8(text).ok(),
            Token::Bytes(_) | Token::List | Token::Dict | Token::End => None,
        }
    }
}

/// A list; iterate over it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct List<'a> {
    raw: &'a [u8],
}

impl<'a> List<'a> {
    /// The list's exact bytes in the input, from `l` to `e`.
    #[must_use]
    pub const fn raw(self) -> &'a [u8] {
        self.raw
    }

    /// Its values in order.
    #[must_use]
    pub fn iter(self) -> ListIter<'a> {
        ListIter(Items {
            lexer: Lexer::new(self.raw, 1),
            raw: self.raw,
        })
    }

    /// Whether it has no values.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.iter().next().is_none()
    }
}

impl<'a> IntoIterator for List<'a> {
    type Item = Value<'a>;
    type IntoIter = ListIter<'a>;

    fn into_iter(self) -> ListIter<'a> {
        self.iter()
    }
}

/// A dictionary: of every key one value.
///
/// [`Self::get`] and its kin walk over the entries, so they cost time in the length of what stands before
/// the key; to take several values out of a large dictionary, use [`Self::pick`] or iterate once.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Dict<'a> {
    raw: &'a [u8],
}

impl<'a> Dict<'a> {
    /// The dictionary's exact bytes in the input, from `d` to `e`.
    #[must_use]
    pub const fn raw(self) -> &'a [u8] {
        self.raw
    }

    /// Its entries in the order of the input.
    #[must_use]
    pub fn iter(self) -> DictIter<'a> {
        DictIter(Items {
            lexer: Lexer::new(self.raw, 1),
            raw: self.raw,
        })
    }

    /// Whether it has no entries.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.iter().next().is_none()
    }

    /// The value of that key.
    #[must_use]
    pub fn get(self, key: impl AsRef<[u8]>) -> Option<Value<'a>> {
        let key = key.as_ref();
        self.iter().find(|(k, _)| *k == key).map(|(_, value)| value)
    }

    /// The values of several keys, found in one walk.
    #[must_use]
    pub fn pick<const N: usize>(self, keys: [&str; N]) -> [Option<Value<'a>>; N] {
        let mut out = [None; N];
        for (key, value) in self {
            let slot = keys.iter().position(|k| k.as_bytes() == key);
            if let Some(slot) = slot.and_then(|slot| out.get_mut(slot)) {
                *slot = Some(value);
            }
        }
        out
    }

    /// The integer of that key, if there is one.
    #[must_use]
    pub fn int(self, key: impl AsRef<[u8]>) -> Option<i64> {
        self.get(key)?.as_int()
    }

    /// The integer of that key, if there is one that is not negative.
    #[must_use]
    pub fn uint(self, key: impl AsRef<[u8]>) -> Option<u64> {
        self.get(key)?.as_uint()
    }

    /// The string of that key, if there is one.
    #[must_use]
    pub fn bytes(self, key: impl AsRef<[u8]>) -> Option<&'a [u8]> {
        self.get(key)?.as_bytes()
    }

    /// The string of that key, if there is one in UTF-8.
    #[must_use]
    pub fn str(self, key: impl AsRef<[u8]>) -> Option<&'a str> {
        self.get(key)?.as_str()
    }

    /// The list of that key, if there is one.
    #[must_use]
    pub fn list(self, key: impl AsRef<[u8]>) -> Option<List<'a>> {
        self.get(key)?.as_list()
    }

    /// The dictionary of that key, if there is one.
    #[must_use]
    pub fn dict(self, key: impl AsRef<[u8]>) -> Option<Self> {
        self.get(key)?.as_dict()
    }
}

impl<'a> IntoIterator for Dict<'a> {
    type Item = (&'a [u8], Value<'a>);
    type IntoIter = DictIter<'a>;

    fn into_iter(self) -> DictIter<'a> {
        self.iter()
    }
}

/// The values of a [`List`].
#[derive(Clone, Debug)]
pub struct ListIter<'a>(Items<'a>);

impl<'a> Iterator for ListIter<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        self.0.next_value()
    }
}

/// The entries of a [`Dict`].
#[derive(Clone, Debug)]
pub struct DictIter<'a>(Items<'a>);

impl<'a> Iterator for DictIter<'a> {
    type Item = (&'a [u8], Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let key = self.0.next_value()?.as_bytes()?;
        Some((key, self.0.next_value()?))
    }
}

/// The values inside a list, or the keys and values inside a dictionary.
#[derive(Clone, Debug)]
struct Items<'a> {
    lexer: Lexer<'a>,
    raw: &'a [u8],
}

impl<'a> Items<'a> {
    fn next_value(&mut self) -> Option<Value<'a>> {
        let start = self.lexer.pos();
        // At the closing `e` this fails before it moves on, and so it does ever after.
        let mut ahead = self.lexer;
        ahead.skip()?;
        self.lexer = ahead;
        let raw = self.raw.get(start..self.lexer.pos())?;
        Some(Value { raw })
    }
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_raw(f, "Value", self.raw)
    }
}

impl fmt::Debug for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_raw(f, "List", self.raw)
    }
}

impl fmt::Debug for Dict<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_raw(f, "Dict", self.raw)
    }
}

/// The start of the bytes: a torrent's are megabytes.
fn write_raw(f: &mut fmt::Formatter<'_>, name: &str, raw: &[u8]) -> fmt::Result {
    match raw.split_at_checked(80) {
        Some((start, rest)) if !rest.is_empty() => {
            let more = rest.len();
            write!(f, "{name}({} and {more} bytes)", start.escape_ascii())
        }
        Some(_) | None => write!(f, "{name}({})", raw.escape_ascii()),
    }
}
