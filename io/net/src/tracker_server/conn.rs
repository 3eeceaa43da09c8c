//! One HTTP connection: one GET, one answer.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::TrackerServer;

/// Bytes kept of a request: the longest announce and the headers of a browser fit several times.
const REQUEST_LEN_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 64;
/// For the answer to be taken, once the request is there.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
/// Connections from one /24 or /64, those of this machine excepted.
const PER_NEIGHBOURHOOD_MAX: usize = 100;

/// How many connections there may be.
#[derive(Debug)]
pub(super) struct Limits(Arc<Semaphore>);

impl Limits {
    pub(super) fn new(max: usize) -> Self {
        Self(Arc::new(Semaphore::new(
            max.clamp(1, Semaphore::MAX_PERMITS),
        )))
    }

    /// Waits until there is room for one more.
    pub(super) async fn place(&self) -> OwnedSemaphorePermit {
        let place = Arc::clone(&self.0).acquire_owned().await;
        place.expect("the semaphore is never closed")
    }
}

/// How many connections come from where, so that one place can not take all of them.
#[derive(Debug, Default)]
pub(super) struct Neighbourhoods(RefCell<BTreeMap<IpAddr, usize>>);

/// A connection that counts; dropped at its end.
#[derive(Debug)]
pub(super) struct Neighbour(Rc<Neighbourhoods>, IpAddr);

impl Neighbourhoods {
    /// `None` where there are too many already.
    pub(super) fn enter(self: &Rc<Self>, ip: IpAddr) -> Option<Neighbour> {
        let prefix = match ip.to_canonical() {
            IpAddr::V4(ip) => IpAddr::from(u32::from(ip).wrapping_shr(8).to_be_bytes()),
            IpAddr::V6(ip) => IpAddr::from((u128::from(ip) >> 64).to_be_bytes()),
        };
        let mut counts = self.0.borrow_mut();
        let count = counts.entry(prefix).or_default();
        if *count >= PER_NEIGHBOURHOOD_MAX && !ip.to_canonical().is_loopback() {
            return None;
        }
        *count += 1;
        Some(Neighbour(Rc::clone(self), prefix))
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        let mut counts = self.0.0.borrow_mut();
        if let Some(count) = counts.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.1);
            }
        }
    }
}

pub(super) async fn serve(me: &TrackerServer, socket: TcpStream, from: SocketAddr) {
    let deadline = me.config.header_deadline;
    let answer =
        service_fn(|request| async move { Ok::<_, Infallible>(answer(me, from, &request)) });
    let conn = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(deadline)
        .keep_alive(false)
        .max_buf_size(REQUEST_LEN_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(socket), answer);
    // Whatever ends the connection, the peer asks again.
    let _ = tokio::time::timeout(deadline + ANSWER_DEADLINE, conn).await;
}

fn answer(
    me: &TrackerServer,
    from: SocketAddr,
    request: &Request<Incoming>,
) -> Response<Full<Bytes>> {
    let (status, body) = if request.method() == Method::GET {
        let target = request.uri().path_and_query().map_or("/", |it| it.as_str());
        let reply = me.state.borrow_mut().handle_http(me.now(), from, target);
        let status = StatusCode::from_u16(reply.status);
        (status.unwrap_or(StatusCode::OK), reply.body)
    } else {
        (StatusCode::METHOD_NOT_ALLOWED, b"only GET\n".to_vec())
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}
