//! How a run ends: the exit status, and what a person is told when something did not work.

use std::fmt;

/// The statuses that scripts may rely on. The numbers never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Everything asked for is done.
    Done,
    Other,
    Usage,
    /// Not a torrent, a bad magnet link, or metadata that torr does not take.
    Metadata,
    /// A file or folder cannot be read or written.
    Storage,
    NoSpace,
    Network,
    GaveUp,
    /// Data on disk is not what the torrent says.
    Verification,
    /// Some of several inputs failed.
    Partly,
    Interrupted,
    Terminated,
}

impl Exit {
    /// All of them, for the manual.
    pub(crate) const ALL: [Self; 12] = [
        Self::Done,
        Self::Other,
        Self::Usage,
        Self::Metadata,
        Self::Storage,
        Self::NoSpace,
        Self::Network,
        Self::GaveUp,
        Self::Verification,
        Self::Partly,
        Self::Interrupted,
        Self::Terminated,
    ];

    /// What the shell sees.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Other => 1,
            Self::Usage => 2,
            Self::Metadata => 3,
            Self::Storage => 4,
            Self::NoSpace => 5,
            Self::Network => 6,
            Self::GaveUp => 7,
            Self::Verification => 8,
            Self::Partly => 10,
            Self::Interrupted => 130,
            Self::Terminated => 143,
        }
    }

    /// For the manual.
    pub(crate) const fn meaning(self) -> &'static str {
        match self {
            Self::Done => "everything asked for is done",
            Self::Other => "other failure",
            Self::Usage => "usage or configuration error",
            Self::Metadata => "not a torrent, bad magnet, unsupported or contradictory metadata",
            Self::Storage => "file or directory cannot be read or written",
            Self::NoSpace => "no space left; progress is saved",
            Self::Network => "network cannot be used (port, address)",
            Self::GaveUp => "gave up: --timeout or --stall-timeout passed, or no metadata found",
            Self::Verification => "verification failed",
            Self::Partly => "partly done: some of several inputs failed",
            Self::Interrupted => "interrupted, progress saved",
            Self::Terminated => "terminated, progress saved",
        }
    }
}

/// Something that did not work, in the two lines that a person gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub(crate) exit: Exit,
    pub(crate) what: String,
    pub(crate) why: String,
    pub(crate) hint: Option<String>,
    /// The operating system's name for it, and the file, where a disk said no.
    pub(crate) errno: Option<&'static str>,
    pub(crate) file: Option<String>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, what: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            exit,
            what: what.into(),
            why: plain(&why.into()),
            hint: None,
            errno: None,
            file: None,
        }
    }

    pub(crate) fn usage(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::new(Exit::Usage, what, why)
    }

    /// A file that cannot be read or written.
    pub(crate) fn io(what: impl Into<String>, error: &std::io::Error) -> Self {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        let full = matches!(error.kind(), StorageFull | QuotaExceeded);
        let exit = if full { Exit::NoSpace } else { Exit::Storage };
        Self::new(exit, what, plain_io(error))
    }

    /// The fields of an `error` object.
    pub(crate) fn json(&self) -> serde_json::Value {
        let mut fields = serde_json::json!({
            "code": self.exit.code(), "what": self.what, "why": self.why, "hint": self.hint,
        });
        if let (Some(fields), Some(file)) = (fields.as_object_mut(), &self.file) {
            fields.insert("file".to_owned(), file.as_str().into());
            fields.insert("errno".to_owned(), self.errno.into());
        }
        fields
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn maybe_hint(mut self, hint: Option<impl Into<String>>) -> Self {
        self.hint = hint.map(Into::into);
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "torr: {}: {}", self.what, self.why)?;
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

/// The operating system's words without the number that Rust puts behind them.
pub(crate) fn plain_io(error: &std::io::Error) -> String {
    plain(&error.to_string())
}

/// The same for a text that holds such words.
pub(crate) fn plain(text: &str) -> String {
    let mut parts = text.split(" (os error ");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit());
        out.push_str(rest.strip_prefix(')').unwrap_or(rest));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_lines_at_most() {
        let error = std::io::Error::from_raw_os_error(2);
        let failure = Failure::io("a.torrent", &error).hint("look elsewhere");
        let text = "torr: a.torrent: No such file or directory\nhint: look elsewhere";
        assert_eq!(failure.to_string(), text);
        assert_eq!(failure.exit.code(), 4);
    }

    #[test]
    fn numbers_of_errors_are_for_programs() {
        let text = "a: Connection refused (os error 111) (3 times); b: timed out (os error 110)";
        assert_eq!(plain(text), "a: Connection refused (3 times); b: timed out");
        assert_eq!(plain("fine"), "fine");
    }

    #[test]
    fn each_status_has_a_number_of_its_own() {
        let mut codes: Vec<u8> = Exit::ALL.iter().map(|exit| exit.code()).collect();
        codes.dedup();
        assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 130, 143]);
    }
}
