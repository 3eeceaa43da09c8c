//! Whether a web server's answer is what was asked for.

use std::fmt;
use std::time::Duration;

/// A server may name its own time for the next request, within these bounds.
const RETRY_AFTER_MIN: Duration = Duration::from_secs(1);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);
const PARTIAL_CONTENT: u16 = 206;
/// The wait after the first failure; it doubles with each that follows.
const RETRY: Duration = Duration::from_secs(5);
const RETRY_MAX: Duration = Duration::from_secs(600);

/// What stands before the body of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WebHead {
    pub status: u16,
    pub content_range: Option<String>,
    /// `Content-Length`, where there is one.
    pub content_len: Option<u64>,
    pub retry_after: Option<String>,
    /// The body is packed in some way: its bytes are not the file's.
    pub is_encoded: bool,
}

/// Why a web seed's answer is of no use. The text is for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WebFault {
    /// Any other than was asked for.
    Status(u16),
    /// 503 or 429, and when it wants to be asked again.
    Busy(u16, Duration),
    /// It does not have the file.
    Absent(u16),
    /// 200 to a part of a file.
    WholeFile,
    /// A `Content-Range` that is missing, cannot be read, or is not what was asked for.
    OtherRange,
    /// Its file is so long, and the torrent's is not.
    OtherLength(u64),
    Encoded,
    /// The body ended too soon, or went on.
    Short,
    Long,
    /// Nothing came for a while.
    Silent,
    /// From the driver: no connection, TLS, no HTTP; fit to be shown.
    Transport(String),
    /// The same, and it will be so the next time.
    Forbidden(String),
}

impl WebFault {
    /// The wait after it, where so many failures came in a row.
    pub(super) fn retry(&self, failures: u32) -> Duration {
        if let Self::Busy(_, wish) = self {
            return *wish;
        }
        let doubled = RETRY * 2_u32.saturating_pow(failures.saturating_sub(1).min(10));
        doubled.min(RETRY_MAX)
    }

    /// Whether to ask again is of no use.
    pub(super) fn is_final(&self) -> bool {
        matches!(self, Self::Forbidden(_))
    }
}

impl fmt::Display for WebFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) | Self::Busy(status, _) => {
                write!(f, "answered with status {status}")
            }
            Self::Absent(status) => write!(f, "does not have the file (status {status})"),
            Self::WholeFile => f.write_str("sends whole files only, not parts of them"),
            Self::OtherRange => f.write_str("sent another part of the file than was asked for"),
            Self::OtherLength(len) => {
                write!(
                    f,
                    "has another file: of {len} bytes, which the torrent's is not"
                )
            }
            Self::Encoded => f.write_str("sent the file in a packed form"),
            Self::Short => f.write_str("ended its answer too soon"),
            Self::Long => f.write_str("sent more than was asked for"),
            Self::Silent => f.write_str("stopped sending"),
            Self::Transport(why) | Self::Forbidden(why) => f.write_str(why),
        }
    }
}

/// Judges an answer to a GET for `from..to` of a file of `len` bytes.
///
/// # Errors
/// What is wrong with it.
pub fn judge(head: &WebHead, (from, to): (u64, u64), len: u64) -> Result<(), WebFault> {
    match head.status {
        PARTIAL_CONTENT => {
            let range = head.content_range.as_deref().and_then(content_range);
            let (first, last, total) = range.ok_or(WebFault::OtherRange)?;
            if let Some(total) = total.filter(|total| *total != len) {
                return Err(WebFault::OtherLength(total));
            }
            if first != from || last.checked_add(1) != Some(to) {
                return Err(WebFault::OtherRange);
            }
        }
        // All of it is what was asked for.
        200 if (from, to) == (0, len) => {
            if let Some(other) = head.content_len.filter(|other| *other != len) {
                return Err(WebFault::OtherLength(other));
            }
        }
        200 => return Err(WebFault::WholeFile),
        status @ (404 | 410) => return Err(WebFault::Absent(status)),
        // It has less than the torrent says.
        416 => {
            let total = head.content_range.as_deref().and_then(unsatisfied);
            return Err(total.map_or(WebFault::Status(416), WebFault::OtherLength));
        }
        status @ (429 | 503) => {
            let secs = head.retry_after.as_deref().and_then(retry_after);
            return Err(secs.map_or(WebFault::Status(status), |at| WebFault::Busy(status, at)));
        }
        status => return Err(WebFault::Status(status)),
    }
    if head.is_encoded {
        return Err(WebFault::Encoded);
    }
    match head.content_len {
        Some(length) if length < to - from => Err(WebFault::Short),
        Some(length) if length > to - from => Err(WebFault::Long),
        Some(_) | None => Ok(()),
    }
}

/// RFC 9110, 14.4: `bytes 0-499/1234` or `bytes 0-499/*`: first, last, and the length of all.
fn content_range(text: &str) -> Option<(u64, u64, Option<u64>)> {
    let (range, total) = bytes_of(text)?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (number(first)?, number(last)?);
    let total = match total {
        "*" => None,
        total => Some(number(total)?),
    };
    let sound = first <= last && total.is_none_or(|total| last < total);
    sound.then_some((first, last, total))
}

/// `bytes */1234`, as it comes with 416.
fn unsatisfied(text: &str) -> Option<u64> {
    let (range, total) = bytes_of(text)?;
    number(total).filter(|_| range == "*")
}

fn bytes_of(text: &str) -> Option<(&str, &str)> {
    let (unit, rest) = text.trim().split_once(' ')?;
    let rest = unit.eq_ignore_ascii_case("bytes").then_some(rest)?;
    let (range, total) = rest.split_once('/')?;
    Some((range.trim(), total.trim()))
}

/// Digits and nothing else: a sign would pass `parse`.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// RFC 9110, 10.2.3, in seconds; the other form, a date, is not understood, as there is no calendar here.
fn retry_after(text: &str) -> Option<Duration> {
    let secs = number(text.trim())?;
    Some(Duration::from_secs(secs).clamp(RETRY_AFTER_MIN, RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(status: u16, range: Option<&str>, len: Option<u64>) -> WebHead {
        WebHead {
            status,
            content_range: range.map(str::to_owned),
            content_len: len,
            ..WebHead::default()
        }
    }

    #[test]
    fn only_the_range_that_was_asked_for_passes() {
        let asked = |head: &WebHead| judge(head, (100, 200), 1_000);
        let ok = |range, len| asked(&head(206, range, len));
        assert_eq!(ok(Some("bytes 100-199/1000"), Some(100)), Ok(()));
        assert_eq!(ok(Some("Bytes 100-199/*"), None), Ok(()));
        for bad in [
            "bytes 0-99/1000",
            "bytes 100-198/1000",
            "bytes 100-200/1000",
            "bytes 100-199",
            "bytes +100-199/1000",
            "bytes 199-100/1000",
            "bytes 100-199/150",
            "items 100-199/1000",
            "100-199/1000",
            "bytes */1000",
            "",
            "bytes 18446744073709551616-1/2",
            "bytes 100-18446744073709551615/*",
        ] {
            assert_eq!(ok(Some(bad), None), Err(WebFault::OtherRange), "{bad}");
        }
        assert_eq!(ok(None, Some(100)), Err(WebFault::OtherRange));
        let other = ok(Some("bytes 100-199/2000"), Some(100));
        assert_eq!(other, Err(WebFault::OtherLength(2_000)));
        let short = ok(Some("bytes 100-199/1000"), Some(99));
        assert_eq!(short, Err(WebFault::Short));
        let long = ok(Some("bytes 100-199/1000"), Some(101));
        assert_eq!(long, Err(WebFault::Long));
        assert_eq!(
            asked(&head(200, None, Some(1_000))),
            Err(WebFault::WholeFile)
        );
        assert_eq!(asked(&head(404, None, None)), Err(WebFault::Absent(404)));
        assert_eq!(asked(&head(500, None, None)), Err(WebFault::Status(500)));
        let less = asked(&head(416, Some("bytes */50"), None));
        assert_eq!(less, Err(WebFault::OtherLength(50)));
        assert_eq!(asked(&head(416, None, None)), Err(WebFault::Status(416)));
        let packed = WebHead {
            is_encoded: true,
            ..head(206, Some("bytes 100-199/1000"), None)
        };
        assert_eq!(asked(&packed), Err(WebFault::Encoded));
    }

    #[test]
    fn a_whole_file_may_come_whole() {
        let whole = |len| judge(&head(200, None, len), (0, 1_000), 1_000);
        assert_eq!(whole(Some(1_000)), Ok(()));
        assert_eq!(whole(None), Ok(()));
        assert_eq!(whole(Some(999)), Err(WebFault::OtherLength(999)));
    }

    #[test]
    fn a_busy_server_names_its_time_within_bounds() {
        let busy = |after: &str| {
            let head = WebHead {
                retry_after: Some(after.to_owned()),
                ..head(503, None, None)
            };
            judge(&head, (0, 1), 10).unwrap_err()
        };
        assert_eq!(busy("30"), WebFault::Busy(503, Duration::from_secs(30)));
        assert_eq!(busy("0"), WebFault::Busy(503, RETRY_AFTER_MIN));
        assert_eq!(busy("99999999999"), WebFault::Busy(503, RETRY_AFTER_MAX));
        for odd in ["-1", "Fri, 31 Dec 1999 23:59:59 GMT", "", "1e3"] {
            assert_eq!(busy(odd), WebFault::Status(503), "{odd}");
        }
    }
}
