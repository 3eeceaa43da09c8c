//! Calls of a gateway's own services (UPnP): to an address that is known, and to nowhere else.

use std::net::SocketAddr;
use std::time::Duration;

use reqwest::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use torr_tracker::portmap::upnp::{BODY_LEN_MAX, Call, Place};

use super::{HttpClient, HttpError, HttpLimits, body, tls};

/// A gateway is near, and often slow.
const LIMITS: HttpLimits = HttpLimits {
    connect: Duration::from_secs(3),
    total: Duration::from_secs(6),
    body_bytes_max: BODY_LEN_MAX,
};

impl HttpClient {
    /// GETs what is at `place`, or POSTs `call` to it: status and body. No redirect is followed, no name looked up.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub async fn call(
        &self,
        place: &Place,
        call: Option<&Call>,
    ) -> Result<(u16, String), HttpError> {
        let answer = tokio::time::timeout(LIMITS.total, self.call_now(place, call)).await;
        answer.unwrap_or(Err(HttpError::TimedOut(LIMITS.total)))
    }

    async fn call_now(
        &self,
        place: &Place,
        call: Option<&Call>,
    ) -> Result<(u16, String), HttpError> {
        let failed = |error: reqwest::Error| HttpError::transport(&error, LIMITS.connect);
        let url = format!("http://{}{}", place.addr, place.path);
        let url: reqwest::Url = url.parse().map_err(|_| HttpError::BadUrl)?;
        let host = place.addr.ip().to_string();
        // The URL must mean what was judged.
        if url.host_str() != Some(&host) {
            return Err(HttpError::BadUrl);
        }
        let addrs = [SocketAddr::V4(place.addr)];
        let client = self
            .builder(tls::none(), &host, &addrs, LIMITS.connect)
            .pool_max_idle_per_host(0)
            .build()
            .map_err(failed)?;
        let request = match call {
            None => client.get(url),
            Some(call) => client
                .post(url)
                .header("SOAPAction", &call.soap_action)
                .header(CONTENT_TYPE, "text/xml; charset=\"utf-8\"")
                .body(call.body.clone()),
        };
        let request = request.header(CONNECTION, HeaderValue::from_static("close"));
        let response = request.send().await.map_err(failed)?;
        let status = response.status().as_u16();
        let bytes = body(response, &LIMITS).await?;
        Ok((status, String::from_utf8_lossy(&bytes).into_owned()))
    }
}
