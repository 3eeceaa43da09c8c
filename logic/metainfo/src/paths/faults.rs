//! What can be wrong with a name.

use std::fmt;

/// A set of reasons why a name cannot be used as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathFaults(u8);

impl PathFaults {
    /// Bytes that are no UTF-8.
    pub const NOT_UTF8: Self = Self(1);
    /// Separators, controls, direction marks, characters of no width.
    pub const CHARACTERS: Self = Self(1 << 1);
    /// A component that is empty or `.`, or no component at all.
    pub const EMPTY: Self = Self(1 << 2);
    /// A component `..`.
    pub const PARENT: Self = Self(1 << 3);
    /// A component above 240 bytes.
    pub const TOO_LONG: Self = Self(1 << 4);
    /// Another file or a folder has that path.
    pub const TAKEN: Self = Self(1 << 5);

    const TEXTS: [(Self, &'static str); 6] = [
        (Self::NOT_UTF8, "not UTF-8"),
        (Self::CHARACTERS, "unsafe characters"),
        (Self::EMPTY, "empty component"),
        (Self::PARENT, "`..`"),
        (Self::TOO_LONG, "too long"),
        (Self::TAKEN, "same path as another"),
    ];

    /// Whether all of `other` are among these.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) const fn add(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl fmt::Display for PathFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        for (fault, text) in Self::TEXTS {
            if self.contains(fault) {
                write!(f, "{comma}{text}")?;
                comma = ", ";
            }
        }
        Ok(())
    }
}
