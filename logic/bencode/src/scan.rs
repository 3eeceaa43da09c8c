//! The tokens of bencode, and the one pass that checks a whole document.
//!
//! Invariants: no recursion (a stack of [`DEPTH_MAX`] frames stands in for it), no allocation unless
//! keys are out of order, and every byte is visited once, or twice in that case.

use crate::{Error, ErrorKind};

/// Lists and dictionaries inside each other, at most. The deepest thing the field knows, the file
/// tree of BEP 52, goes one level a folder.
pub const DEPTH_MAX: u32 = 100;

/// How much of a document is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Lists and dictionaries inside each other; above [`DEPTH_MAX`] it counts as that.
    pub depth: u32,
    /// Strings (keys too), integers, lists and dictionaries in all.
    pub tokens: u32,
    /// Bytes from the start of the input to the end of its value; never more than [`u32::MAX`].
    pub len: usize,
}

impl Limits {
    /// Depth [`DEPTH_MAX`], and otherwise only what 32 bits can count.
    pub const DEFAULT: Self = Self {
        depth: DEPTH_MAX,
        tokens: u32::MAX,
        len: u32::MAX as usize,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// A string inside the input. 32 bits each, as one is kept for each key while duplicates are sought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    start: u32,
    end: u32,
}

impl Span {
    fn of(self, bytes: &[u8]) -> &[u8] {
        bytes
            .get(self.start as usize..self.end as usize)
            .unwrap_or_default()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    /// The text between `i` and `e`: canonical, of any number of digits.
    Int(&'a [u8]),
    Bytes(&'a [u8]),
    List,
    Dict,
    End,
}

/// Cuts bytes into tokens and knows nothing of how they nest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lexer<'a> {
    bytes: &'a [u8],
    pos: usize,
}

impl<'a> Lexer<'a> {
    pub(crate) const fn new(bytes: &'a [u8], pos: usize) -> Self {
        Self { bytes, pos }
    }

    pub(crate) const fn pos(&self) -> usize {
        self.pos
    }

    pub(crate) fn token(&mut self) -> Result<Token<'a>, Error> {
        let at = self.pos;
        let first = self.bump()?;
        match first {
            b'i' => self.int(),
            b'0'..=b'9' => self.string(at, first),
            b'l' => Ok(Token::List),
            b'd' => Ok(Token::Dict),
            b'e' => Ok(Token::End),
            other => Err(Error::new(at, ErrorKind::UnexpectedByte(other))),
        }
    }

    /// Moves past the value that starts here; `None` if none does.
    pub(crate) fn skip(&mut self) -> Option<()> {
        let mut depth = 0_u32;
        loop {
            match self.token().ok()? {
                Token::List | Token::Dict => depth += 1,
                Token::End => depth = depth.checked_sub(1)?,
                Token::Int(_) | Token::Bytes(_) => {}
            }
            if depth == 0 {
                return Some(());
            }
        }
    }

    fn bump(&mut self) -> Result<u8, Error> {
        let byte = *self
            .bytes
            .get(self.pos)
            .ok_or(Error::new(self.bytes.len(), ErrorKind::Truncated))?;
        self.pos += 1;
        Ok(byte)
    }

    fn int(&mut self) -> Result<Token<'a>, Error> {
        let start = self.pos;
        let mut first = self.bump()?;
        let negative = first == b'-';
        if negative {
            first = self.bump()?;
        }
        if !first.is_ascii_digit() {
            return Err(Error::new(self.pos - 1, ErrorKind::BadInteger));
        }
        let mut digits = 1_usize;
        loop {
            match self.bump()? {
                b'0'..=b'9' => digits += 1,
                b'e' => break,
                _ => return Err(Error::new(self.pos - 1, ErrorKind::BadInteger)),
            }
        }
        if first == b'0' && digits > 1 {
            return Err(Error::new(start, ErrorKind::LeadingZero));
        }
        if first == b'0' && negative {
            return Err(Error::new(start, ErrorKind::NegativeZero));
        }
        let text = self.bytes.get(start..self.pos - 1).unwrap_or_default();
        Ok(Token::Int(text))
    }

    fn string(&mut self, at: usize, first: u8) -> Result<Token<'a>, Error> {
        let mut len = usize::from(first - b'0');
        loop {
            match self.bump()? {
                b':' => break,
                digit @ b'0'..=b'9' => {
                    if first == b'0' {
                        return Err(Error::new(at, ErrorKind::LeadingZero));
                    }
                    // A length that overflows is longer than the input too.
                    len = len
                        .checked_mul(10)
                        .and_then(|len| len.checked_add(usize::from(digit - b'0')))
                        .filter(|len| *len <= self.bytes.len())
                        .ok_or(Error::new(at, ErrorKind::Truncated))?;
                }
                _ => return Err(Error::new(self.pos - 1, ErrorKind::BadLength)),
            }
        }
        let text = self
            .bytes
            .get(self.pos..)
            .and_then(|rest| rest.get(..len))
            .ok_or(Error::new(at, ErrorKind::Truncated))?;
        self.pos += len;
        Ok(Token::Bytes(text))
    }
}

/// What the scanner waits for inside the innermost list or dictionary.
#[derive(Clone, Copy)]
enum Inside {
    List,
    /// A key or the end; the last key, where there was one.
    DictKey(Option<Span>),
    /// The value of this key.
    DictValue(Span),
}

/// A value that was checked: where it ends, and whether it is canonical.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Checked {
    pub(crate) end: usize,
    pub(crate) keys_sorted: bool,
}

/// Checks the value that `bytes` begins with.
pub(crate) fn check(bytes: &[u8], limits: &Limits) -> Result<Checked, Error> {
    let checked = Scanner::new(bytes, limits, None).run()?;
    if !checked.keys_sorted {
        // Equal keys are neighbours where keys are sorted; only here they have to be searched for.
        Scanner::new(bytes, limits, Some(Vec::new())).run()?;
    }
    Ok(checked)
}

struct Scanner<'a> {
    bytes: &'a [u8],
    lexer: Lexer<'a>,
    depth_max: usize,
    tokens_left: u32,
    len_max: usize,
    stack: [Inside; DEPTH_MAX as usize],
    depth: usize,
    keys_sorted: bool,
    /// On the second pass, the keys of all open dictionaries, outermost first.
    keys: Option<Vec<Span>>,
    /// For each open dictionary, how many of `keys` belong to those around it.
    keys_before: Vec<usize>,
}

impl<'a> Scanner<'a> {
    fn new(bytes: &'a [u8], limits: &Limits, keys: Option<Vec<Span>>) -> Self {
        Self {
            bytes,
            lexer: Lexer::new(bytes, 0),
            depth_max: limits.depth.min(DEPTH_MAX) as usize,
            tokens_left: limits.tokens,
            len_max: limits.len.min(u32::MAX as usize),
            stack: [Inside::List; DEPTH_MAX as usize],
            depth: 0,
            keys_sorted: true,
            keys,
            keys_before: Vec::new(),
        }
    }

    fn run(mut self) -> Result<Checked, Error> {
        loop {
            let at = self.lexer.pos();
            let token = self.lexer.token()?;
            if self.lexer.pos() > self.len_max {
                return Err(Error::new(at, ErrorKind::TooLong));
            }
            match token {
                Token::End => self.close(at)?,
                Token::Int(_) | Token::Bytes(_) | Token::List | Token::Dict => {
                    self.count(at)?;
                    self.value(at, token)?;
                }
            }
            if self.depth == 0 {
                return Ok(Checked {
                    end: self.lexer.pos(),
                    keys_sorted: self.keys_sorted,
                });
            }
        }
    }

    fn count(&mut self, at: usize) -> Result<(), Error> {
        self.tokens_left = self
            .tokens_left
            .checked_sub(1)
            .ok_or(Error::new(at, ErrorKind::TooManyTokens))?;
        Ok(())
    }

    fn top(&mut self) -> Option<&mut Inside> {
        self.stack.get_mut(self.depth.checked_sub(1)?)
    }

    fn value(&mut self, at: usize, token: Token<'a>) -> Result<(), Error> {
        let inside = self.top().copied();
        match inside {
            Some(Inside::DictKey(last)) => return self.key(at, last, token),
            Some(Inside::DictValue(key)) => {
                if let Some(top) = self.top() {
                    *top = Inside::DictKey(Some(key));
                }
            }
            Some(Inside::List) | None => {}
        }
        match token {
            Token::Int(_) | Token::Bytes(_) | Token::End => Ok(()),
            Token::List => self.open(at, Inside::List),
            Token::Dict => {
                if let Some(keys) = &self.keys {
                    self.keys_before.push(keys.len());
                }
                self.open(at, Inside::DictKey(None))
            }
        }
    }

    fn key(&mut self, at: usize, last: Option<Span>, token: Token<'a>) -> Result<(), Error> {
        let Token::Bytes(text) = token else {
            return Err(Error::new(at, ErrorKind::KeyNotString));
        };
        let end = self.lexer.pos();
        let key = Span {
            start: (end - text.len()) as u32,
            end: end as u32,
        };
        if let Some(last) = last {
            match last.of(self.bytes).cmp(text) {
                std::cmp::Ordering::Less => {}
                std::cmp::Ordering::Equal => return Err(Error::new(at, ErrorKind::DuplicateKey)),
                std::cmp::Ordering::Greater => self.keys_sorted = false,
            }
        }
        if let Some(keys) = &mut self.keys {
            keys.push(key);
        }
        if let Some(top) = self.top() {
            *top = Inside::DictValue(key);
        }
        Ok(())
    }

    fn open(&mut self, at: usize, inside: Inside) -> Result<(), Error> {
        if self.depth >= self.depth_max {
            return Err(Error::new(at, ErrorKind::TooDeep));
        }
        self.depth += 1;
        if let Some(top) = self.top() {
            *top = inside;
        }
        Ok(())
    }

    fn close(&mut self, at: usize) -> Result<(), Error> {
        match self.top().copied() {
            None => Err(Error::new(at, ErrorKind::UnexpectedByte(b'e'))),
            Some(Inside::DictValue(_)) => Err(Error::new(at, ErrorKind::ValueMissing)),
            Some(Inside::List) => {
                self.depth -= 1;
                Ok(())
            }
            Some(Inside::DictKey(_)) => {
                self.depth -= 1;
                self.find_duplicate()
            }
        }
    }

    /// The dictionary that closes now is last in `keys`.
    fn find_duplicate(&mut self) -> Result<(), Error> {
        let (Some(keys), Some(before)) = (&mut self.keys, self.keys_before.pop()) else {
            return Ok(());
        };
        let bytes = self.bytes;
        let mine = keys.get_mut(before..).unwrap_or_default();
        mine.sort_unstable_by(|a, b| a.of(bytes).cmp(b.of(bytes)));
        let twice = mine
            .array_windows()
            .find(|[a, b]| a.of(bytes) == b.of(bytes))
            .map(|[a, b]| a.start.max(b.start) as usize);
        keys.truncate(before);
        twice.map_or(Ok(()), |at| Err(Error::new(at, ErrorKind::DuplicateKey)))
    }
}
