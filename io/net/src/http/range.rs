//! Ranges of files from web seeds: the same hops and the same guard as everything else, over connections that
//! are kept for the next range.
//!
//! A client is kept for each host and the very addresses that passed for it; another hop that may go to other
//! addresses gets another client, so that no kept connection leads where it may not.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, HeaderName, HeaderValue,
    RANGE, RETRY_AFTER,
};
use reqwest::{Client, Response, Url};
use torr_node::WebHead;

use super::{Hop, HttpClient, HttpError, Purpose, REDIRECTS_MAX, redirect, tls};

/// For a connection, TLS included.
const CONNECT: Duration = Duration::from_secs(10);
/// From the request to the head of the answer, redirects included.
const HEAD: Duration = Duration::from_secs(30);
/// How long the addresses of a host are believed.
const RESOLVED_FOR: Duration = Duration::from_secs(60);
/// Clients that are kept; the one that was used longest ago goes first.
const KEPT_MAX: usize = 64;
/// Connections to one host that are kept while nothing is asked for, and how long.
const IDLE_MAX: usize = 4;
const IDLE_FOR: Duration = Duration::from_secs(30);

#[derive(Debug)]
struct Entry {
    /// `https://host:port`.
    origin: String,
    resolved: Vec<SocketAddr>,
    at: Instant,
    /// Sorted; those of the resolved ones that passed.
    allowed: Vec<SocketAddr>,
    client: Client,
    used: Instant,
}

/// Clients with their connections.
#[derive(Debug, Default)]
pub(super) struct Kept(Mutex<Vec<Entry>>);

impl Kept {
    fn with<R>(&self, f: impl FnOnce(&mut Vec<Entry>) -> R) -> R {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn resolved(&self, origin: &str) -> Option<Vec<SocketAddr>> {
        self.with(|entries| {
            let fresh = |it: &&Entry| it.origin == origin && it.at.elapsed() < RESOLVED_FOR;
            entries.iter().find(fresh).map(|it| it.resolved.clone())
        })
    }

    fn client(&self, origin: &str, allowed: &[SocketAddr]) -> Option<Client> {
        self.with(|entries| {
            let same = |it: &&mut Entry| it.origin == origin && it.allowed == allowed;
            let entry = entries.iter_mut().find(same)?;
            entry.used = Instant::now();
            Some(entry.client.clone())
        })
    }

    fn keep(&self, entry: Entry) {
        self.with(|entries| {
            entries.retain(|it| it.used.elapsed() < RESOLVED_FOR || it.at.elapsed() < RESOLVED_FOR);
            if entries.len() >= KEPT_MAX
                && let Some(oldest) = (0..entries.len()).min_by_key(|at| entries[*at].used)
            {
                entries.swap_remove(oldest);
            }
            entries.push(entry);
        });
    }

    /// The addresses were looked up again.
    fn renew(&self, origin: &str, resolved: &[SocketAddr]) {
        self.with(|entries| {
            for entry in entries.iter_mut().filter(|it| it.origin == origin) {
                entry.resolved = resolved.to_vec();
                entry.at = Instant::now();
            }
        });
    }
}

/// The body of an answer, as it comes.
#[derive(Debug)]
pub struct RangeBody(Response);

impl RangeBody {
    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// [`HttpError::Transport`] where the connection is lost.
    pub async fn next(&mut self) -> Result<Option<impl AsRef<[u8]> + use<>>, HttpError> {
        let chunk = self.0.chunk().await;
        chunk.map_err(|error| HttpError::transport(&error, HEAD))
    }
}

impl HttpClient {
    /// GETs the bytes of `url` from `from` up to `to`, which is more and not among them. Redirects are followed; every
    /// status is an answer.
    ///
    /// # Errors
    /// See [`HttpError`]; its text names no passkey.
    pub async fn range(
        &self,
        url: &str,
        range: (u64, u64),
    ) -> Result<(WebHead, RangeBody), HttpError> {
        let url: Url = url.parse().map_err(|_| HttpError::BadUrl)?;
        let follow = self.follow_to_range(url, range);
        let response = tokio::time::timeout(HEAD, follow).await;
        let response = response.unwrap_or(Err(HttpError::TimedOut(HEAD)))?;
        Ok((head(&response), RangeBody(response)))
    }

    async fn follow_to_range(
        &self,
        mut url: Url,
        range: (u64, u64),
    ) -> Result<Response, HttpError> {
        let mut redirected_by = None;
        for _ in 0..=REDIRECTS_MAX {
            let response = self.range_hop(&url, range, redirected_by).await?;
            let from = response.remote_addr().map(|addr| addr.ip());
            let Some(next) = redirect(&url, &response)? else {
                return Ok(response);
            };
            redirected_by = Some(from.ok_or(HttpError::BadRedirect)?);
            url = next;
        }
        Err(HttpError::TooManyRedirects(REDIRECTS_MAX))
    }

    async fn range_hop(
        &self,
        url: &Url,
        (from, to): (u64, u64),
        redirected_by: Option<std::net::IpAddr>,
    ) -> Result<Response, HttpError> {
        let host = url.host_str().ok_or(HttpError::BadUrl)?;
        let port = url.port_or_known_default().ok_or(HttpError::BadUrl)?;
        let hop = Hop {
            purpose: Purpose::WebSeed,
            path: url.path(),
            query: url.query(),
            redirected_by,
            allow_private: self.shared.allow_private,
        };
        let origin = format!("{}://{host}:{port}", url.scheme());
        let kept = &self.shared.kept;
        let resolved = match kept.resolved(&origin) {
            Some(resolved) => resolved,
            None => {
                let resolved = self.shared.lookup.resolve(host, port).await?;
                kept.renew(&origin, &resolved);
                resolved
            }
        };
        let mut allowed = self.allowed(resolved.clone(), &hop)?;
        let sorted = {
            let mut sorted = allowed.clone();
            sorted.sort_unstable();
            sorted
        };
        let client = match kept.client(&origin, &sorted) {
            Some(client) => client,
            None => {
                let tls = match url.scheme() {
                    "https" => self.shared.tls.config().await?,
                    "http" => tls::none(),
                    _ => return Err(HttpError::BadUrl),
                };
                let client = self
                    .builder(tls, host, &std::mem::take(&mut allowed), CONNECT)
                    .pool_max_idle_per_host(IDLE_MAX)
                    .pool_idle_timeout(IDLE_FOR)
                    .gzip(false)
                    .build()
                    .map_err(|error| HttpError::transport(&error, CONNECT))?;
                kept.keep(Entry {
                    origin,
                    resolved,
                    at: Instant::now(),
                    allowed: sorted,
                    client: client.clone(),
                    used: Instant::now(),
                });
                client
            }
        };
        let last = to.saturating_sub(1);
        let range = HeaderValue::from_str(&format!("bytes={from}-{last}"));
        let request = client
            .get(url.clone())
            .header(RANGE, range.map_err(|_| HttpError::BadUrl)?)
            .header(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let response = request.send().await;
        response.map_err(|error| HttpError::transport(&error, CONNECT))
    }
}

fn head(response: &Response) -> WebHead {
    let text = |name: HeaderName| {
        let value = response.headers().get(name)?;
        value.to_str().ok().map(str::to_owned)
    };
    let encoding = text(CONTENT_ENCODING);
    WebHead {
        status: response.status().as_u16(),
        content_range: text(CONTENT_RANGE),
        content_len: text(CONTENT_LENGTH).and_then(|len| len.parse().ok()),
        retry_after: text(RETRY_AFTER),
        is_encoded: encoding.is_some_and(|it| !it.eq_ignore_ascii_case("identity")),
    }
}
