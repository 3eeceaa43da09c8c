//! HTTP and HTTPS for trackers and web seeds: GETs into a world that is not to be trusted.
//!
//! For each hop: look the host up, let [`torr_tracker::policy`] judge every address, and connect to one
//! of those that passed and to no other. Redirects are followed here and not by the library, because
//! each one is a hop.
//!
//! - A connection serves one request; nothing is kept open that would have to be closed at the end. Those of
//!   web seeds are kept for the next range.
//! - Certificates are checked against the system's list, always. There is no switch.
//! - The system's proxy settings are not read.
//!
//! Deliberately absent: anything about announces. The bytes of a reply go to whoever asked.

#[cfg(test)]
mod bound_tests;
mod error;
mod gateway;
mod lookup;
mod queue;
mod range;
#[cfg(test)]
mod tests;
mod tls;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{CONNECTION, HeaderValue, LOCATION};
use reqwest::{ClientBuilder, Response, StatusCode, Url};
use rustls::ClientConfig;

pub use error::HttpError;
pub use lookup::Lookup;
use queue::Queue;
use range::Kept;
pub use range::RangeBody;
use tls::Tls;
use torr_tracker::HttpReply;
pub use torr_tracker::policy::Purpose;
use torr_tracker::policy::{Hop, allowed_address};

/// Redirects followed for one request.
const REDIRECTS_MAX: usize = 3;

/// How much of the world's time and memory one GET may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpLimits {
    /// For a connection, TLS included.
    pub connect: Duration,
    /// From the first look-up to the last byte, redirects included; waiting for other requests to the
    /// same host comes before it.
    pub total: Duration,
    /// Of the decoded reply.
    pub body_bytes_max: usize,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            total: Duration::from_secs(30),
            body_bytes_max: 1 << 20,
        }
    }
}

/// Makes GETs. Clones share the queue of requests. To be used inside a tokio runtime; dropping the
/// future of a request closes its connection.
#[derive(Clone, Debug)]
pub struct HttpClient {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    queue: Queue,
    lookup: Lookup,
    tls: Tls,
    kept: Kept,
    allow_private: bool,
    bind: Option<IpAddr>,
}

impl HttpClient {
    /// `allow_private` as [`Hop::allow_private`].
    #[must_use]
    pub fn new(allow_private: bool) -> Self {
        Self::bound(allow_private, None)
    }

    /// With an address to `bind` to, connections leave from it and from no other, and hosts without an
    /// address of its family cannot be reached.
    #[must_use]
    pub fn bound(allow_private: bool, bind: Option<IpAddr>) -> Self {
        Self::build(allow_private, bind, Tls::platform())
    }

    #[cfg(test)]
    fn with_tls(allow_private: bool, tls: Tls) -> Self {
        Self::build(allow_private, None, tls)
    }

    fn build(allow_private: bool, bind: Option<IpAddr>, tls: Tls) -> Self {
        let shared = Shared {
            queue: Queue::new(),
            lookup: Lookup::default(),
            tls,
            kept: Kept::default(),
            allow_private,
            bind,
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// See [`Lookup::resolve`].
    ///
    /// # Errors
    /// Where there is no address.
    pub async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, HttpError> {
        self.shared.lookup.resolve(host, port).await
    }

    /// GETs `url`. Every status is a reply; redirects are followed.
    ///
    /// # Errors
    /// See [`HttpError`]; its text names no passkey.
    pub async fn get(
        &self,
        url: &str,
        purpose: Purpose,
        limits: &HttpLimits,
    ) -> Result<HttpReply, HttpError> {
        let url: Url = url.parse().map_err(|_| HttpError::BadUrl)?;
        let host = url.host_str().unwrap_or_default().to_owned();
        let _place = self.shared.queue.enter(&host).await?;
        let get = self.follow(url, purpose, limits);
        let reply = tokio::time::timeout(limits.total, get).await;
        reply.unwrap_or(Err(HttpError::TimedOut(limits.total)))
    }

    async fn follow(
        &self,
        mut url: Url,
        purpose: Purpose,
        limits: &HttpLimits,
    ) -> Result<HttpReply, HttpError> {
        let mut visited = Vec::new();
        let mut redirected_by = None;
        loop {
            let response = self.hop(&url, purpose, redirected_by, limits).await?;
            let from = response.remote_addr().map(|addr| addr.ip());
            let Some(next) = redirect(&url, &response)? else {
                return Ok(HttpReply {
                    status: response.status().as_u16(),
                    from,
                    body: body(response, limits).await?,
                });
            };
            visited.push(std::mem::replace(&mut url, next));
            if visited.contains(&url) {
                return Err(HttpError::RedirectCircle);
            }
            if visited.len() > REDIRECTS_MAX {
                return Err(HttpError::TooManyRedirects(REDIRECTS_MAX));
            }
            redirected_by = Some(from.ok_or(HttpError::BadRedirect)?);
        }
    }

    /// One request to one host, without following.
    async fn hop(
        &self,
        url: &Url,
        purpose: Purpose,
        redirected_by: Option<IpAddr>,
        limits: &HttpLimits,
    ) -> Result<Response, HttpError> {
        let host = url.host_str().ok_or(HttpError::BadUrl)?;
        let port = url.port_or_known_default().ok_or(HttpError::BadUrl)?;
        let tls = match url.scheme() {
            "https" => self.shared.tls.config().await?,
            "http" => tls::none(),
            _ => return Err(HttpError::BadUrl),
        };
        let hop = Hop {
            purpose,
            path: url.path(),
            query: url.query(),
            redirected_by,
            allow_private: self.shared.allow_private,
        };
        let addrs = self.shared.lookup.resolve(host, port).await?;
        let addrs = self.allowed(addrs, &hop)?;
        // A client for this hop alone: it knows no other address of the host than those that passed.
        let client = self
            .builder(tls, host, &addrs, limits.connect)
            .pool_max_idle_per_host(0)
            .gzip(true)
            .build()
            .map_err(|error| HttpError::transport(&error, limits.connect))?;
        let request = client.get(url.clone());
        let request = request.header(CONNECTION, HeaderValue::from_static("close"));
        let response = request.send().await;
        response.map_err(|error| HttpError::transport(&error, limits.connect))
    }

    /// Those of the addresses that may be connected to for that hop; never none.
    fn allowed(
        &self,
        mut addrs: Vec<SocketAddr>,
        hop: &Hop<'_>,
    ) -> Result<Vec<SocketAddr>, HttpError> {
        let mut refused = None;
        addrs.retain(|addr| match allowed_address(addr.ip(), hop) {
            Ok(()) => true,
            Err(why) => {
                refused = Some(why);
                false
            }
        });
        if let Some(why) = refused.filter(|_| addrs.is_empty()) {
            return Err(why.into());
        }
        if let Some(bind) = self.shared.bind {
            addrs.retain(|addr| addr.is_ipv4() == bind.is_ipv4());
            if addrs.is_empty() {
                return Err(HttpError::NoAddressOfFamily(bind));
            }
        }
        Ok(addrs)
    }

    /// For a client that knows no other address of the host than these.
    fn builder(
        &self,
        tls: ClientConfig,
        host: &str,
        addrs: &[SocketAddr],
        connect: Duration,
    ) -> ClientBuilder {
        reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .resolve_to_addrs(host, addrs)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .local_address(self.shared.bind)
            .connect_timeout(connect)
            .user_agent(concat!("torr/", env!("CARGO_PKG_VERSION")))
    }
}

/// Where the reply sends us, if it does.
fn redirect(from: &Url, response: &Response) -> Result<Option<Url>, HttpError> {
    match response.status() {
        StatusCode::MOVED_PERMANENTLY
        | StatusCode::FOUND
        | StatusCode::SEE_OTHER
        | StatusCode::TEMPORARY_REDIRECT
        | StatusCode::PERMANENT_REDIRECT => {}
        _ => return Ok(None),
    }
    let location = response.headers().get(LOCATION);
    let location = location.and_then(|it| std::str::from_utf8(it.as_bytes()).ok());
    let next = location.and_then(|it| from.join(it).ok());
    let mut next = next.ok_or(HttpError::BadRedirect)?;
    next.set_fragment(None);
    Ok(Some(next))
}

/// The decoded body. It is taken piece by piece, so a small reply that unpacks into a large one is left
/// at the limit as well.
async fn body(mut response: Response, limits: &HttpLimits) -> Result<Vec<u8>, HttpError> {
    let mut body = Vec::new();
    loop {
        let chunk = response.chunk().await;
        let chunk = chunk.map_err(|error| HttpError::transport(&error, limits.total))?;
        let Some(chunk) = chunk else {
            return Ok(body);
        };
        if body.len() + chunk.len() > limits.body_bytes_max {
            return Err(HttpError::TooLong(limits.body_bytes_max));
        }
        body.extend_from_slice(&chunk);
    }
}
