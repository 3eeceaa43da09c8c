//! Why a GET brought no reply.

use std::net::IpAddr;
use std::time::Duration;

use torr_tracker::policy::Refused;

/// Why a GET or a name look-up failed. The text is for people: masked, without control characters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    #[error("not an http or https URL")]
    BadUrl,
    /// Not connected to, by the rules of [`torr_tracker::policy`].
    #[error("{0}")]
    Refused(#[from] Refused),
    #[error("cannot look up {host}: {error}")]
    Lookup { host: String, error: String },
    #[error("cannot look up {host}: no answer within {} s", within.as_secs())]
    LookupTimeOut { host: String, within: Duration },
    /// Nothing may leave by another address than this.
    #[error("it has no address that can be reached from {0}")]
    NoAddressOfFamily(IpAddr),
    #[error("no answer within {} s", .0.as_secs())]
    TimedOut(Duration),
    #[error("too many other requests wait for this host")]
    Crowded,
    #[error("more than {0} redirects")]
    TooManyRedirects(usize),
    #[error("it redirects in a circle")]
    RedirectCircle,
    #[error("it redirects to nowhere")]
    BadRedirect,
    #[error("the reply is longer than {0} bytes")]
    TooLong(usize),
    /// No list of certificate authorities on this machine, or one that cannot be read.
    #[error("https does not work here: {0} (on Linux, install ca-certificates)")]
    NoTls(String),
    /// Connection, TLS or HTTP.
    #[error("{0}")]
    Transport(String),
}

impl HttpError {
    /// Whether it will be so the next time, too.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self, Self::BadUrl | Self::Refused(_) | Self::NoTls(_))
    }

    /// What happened, down to the cause: the outer errors only say that something did.
    pub(super) fn transport(error: &(dyn std::error::Error + 'static), limit: Duration) -> Self {
        let mut cause = error;
        loop {
            if let Some(io) = cause.downcast_ref::<std::io::Error>()
                && io.kind() == std::io::ErrorKind::TimedOut
            {
                return Self::TimedOut(limit);
            }
            match cause.source() {
                Some(inner) => cause = inner,
                None => break,
            }
        }
        Self::Transport(torr_tracker::mask_text(&cause.to_string()))
    }
}
