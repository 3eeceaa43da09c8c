//! A .torrent from a web server.

use std::net::IpAddr;
use std::time::Duration;

use torr_metainfo::TORRENT_LEN_MAX;
use torr_net::http::{HttpClient, HttpError, HttpLimits, Purpose};

/// A list of ten thousand files over a slow line takes its time; who wants less drops the future.
const TIME: Duration = Duration::from_secs(600);
const CONNECT_TIME: Duration = Duration::from_secs(10);

/// Why a web server gave no .torrent. The text is for people: masked, without control characters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// It could not be reached, or did not answer as a web server does.
    #[error("{0}")]
    Unreachable(String),
    /// It is longer than a torrent may be.
    #[error("it is longer than a torrent may be ({} MiB)", TORRENT_LEN_MAX >> 20)]
    TooLong,
    /// The server has something to say, but not that.
    #[error("the server answers with status {0}")]
    Status(u16),
}

/// GETs a .torrent over http or https, at most [`TORRENT_LEN_MAX`] bytes of it, following up to three
/// redirects. What came is not looked at. Dropping the future closes the connection.
///
/// # Errors
/// See [`FetchError`].
pub async fn fetch_torrent(
    url: &str,
    bind: Option<IpAddr>,
    allow_private: bool,
) -> Result<Vec<u8>, FetchError> {
    let limits = HttpLimits {
        connect: CONNECT_TIME,
        total: TIME,
        body_bytes_max: TORRENT_LEN_MAX,
    };
    let client = HttpClient::bound(allow_private, bind);
    let reply = client.get(url, Purpose::Torrent, &limits).await;
    let reply = reply.map_err(|error| match matches!(error, HttpError::TooLong(_)) {
        true => FetchError::TooLong,
        false => FetchError::Unreachable(error.to_string()),
    })?;
    match reply.status {
        200..=299 => Ok(reply.body),
        status => Err(FetchError::Status(status)),
    }
}
