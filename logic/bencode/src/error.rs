//! What can be wrong with bencoded bytes, and where.

use std::fmt;

/// Bytes that are not bencode, or more of it than was allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    /// Bytes from the start of the input to what is wrong.
    pub at: usize,
    /// What is wrong there.
    pub kind: ErrorKind,
}

/// The rule that was broken: BEP 3's, or one of [`Limits`](crate::Limits).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The input ends inside a value, or a string claims to be longer than the rest of the input.
    Truncated,
    /// No value starts with this byte, or none may start here.
    UnexpectedByte(u8),
    /// An integer without digits, or with something else among them.
    BadInteger,
    /// A string's length with something else among its digits.
    BadLength,
    /// An integer or a length with a zero before other digits.
    LeadingZero,
    /// `i-0e`.
    NegativeZero,
    /// A dictionary key that is not a string.
    KeyNotString,
    /// A dictionary that ends after a key.
    ValueMissing,
    /// The same key twice in one dictionary: whoever reads it would see the one or the other.
    DuplicateKey,
    /// Bytes after the value.
    TrailingBytes,
    /// Lists and dictionaries nested deeper than [`Limits::depth`](crate::Limits::depth).
    TooDeep,
    /// More tokens than [`Limits::tokens`](crate::Limits::tokens).
    TooManyTokens,
    /// More bytes than [`Limits::len`](crate::Limits::len).
    TooLong,
}

impl Error {
    pub(crate) const fn new(at: usize, kind: ErrorKind) -> Self {
        Self { at, kind }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.kind, self.at)
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "cut short",
            Self::UnexpectedByte(byte) => {
                return write!(f, "unexpected byte '{}'", byte.escape_ascii());
            }
            Self::BadInteger => "malformed integer",
            Self::BadLength => "malformed string length",
            Self::LeadingZero => "number with a leading zero",
            Self::NegativeZero => "negative zero",
            Self::KeyNotString => "dictionary key that is no string",
            Self::ValueMissing => "dictionary key without a value",
            Self::DuplicateKey => "dictionary key that stands there twice",
            Self::TrailingBytes => "bytes after the end",
            Self::TooDeep => "nested too deeply",
            Self::TooManyTokens => "too many values",
            Self::TooLong => "too long",
        })
    }
}

impl std::error::Error for Error {}
