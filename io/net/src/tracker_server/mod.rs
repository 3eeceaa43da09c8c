//! Runs a [`torr_tracker::server::Server`]: HTTP and UDP on one port, IPv4 and IPv6.
//!
//! - Connections are bounded in number, in all and for each neighbourhood of addresses, and in time: a
//!   request has ten seconds to arrive, and each connection serves one.
//! - All runs on the thread that calls [`TrackerServer::run`]; when it returns, every socket is closed.
//!
//! Deliberately absent: TLS and trust in `X-Forwarded-For`. Behind a proxy all peers would seem to be
//! where the proxy is.

mod bind;
mod conn;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::{TcpListener, UdpSocket};
use tokio::task::{JoinSet, LocalSet};
use torr_base::{Instant, Rng};
use torr_tracker::server::Server;
pub use torr_tracker::server::ServerConfig;

use bind::Bound;
use conn::{Limits, Neighbourhoods, serve};

/// How often expired peers are looked for.
const SWEEP: Duration = Duration::from_secs(30);
/// After an error of a socket that may be for lack of memory or descriptors.
const PAUSE: Duration = Duration::from_millis(100);
/// More than any request of a tracker is long; what is longer is cut, and so no request.
const DATAGRAM_LEN_MAX: usize = 2048;

/// What a tracker listens on, and its limits.
#[derive(Clone, Debug)]
pub struct TrackerServerConfig {
    /// Each is bound for TCP and UDP. Where the port is 0 the system picks one, the same for all.
    pub listen: Vec<SocketAddr>,
    pub server: ServerConfig,
    /// At the same time. Further ones wait.
    pub connections_max: usize,
    /// For a request to arrive in full.
    pub header_deadline: Duration,
}

impl TrackerServerConfig {
    /// On every address of this machine; IPv6 is left out where there is none.
    #[must_use]
    pub fn on_port(port: u16) -> Self {
        Self {
            listen: bind::everywhere(port),
            server: ServerConfig::default(),
            connections_max: 1000,
            header_deadline: Duration::from_secs(10),
        }
    }
}

/// An address that could not be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {addr}: {source}")]
pub struct BindError {
    pub addr: SocketAddr,
    pub source: io::Error,
}

/// A tracker whose sockets are bound.
pub struct TrackerServer {
    bound: Vec<Bound>,
    config: TrackerServerConfig,
    began: std::time::Instant,
    state: RefCell<Server>,
}

impl fmt::Debug for TrackerServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addrs: Vec<_> = self.local_addrs().collect();
        f.debug_tuple("TrackerServer").field(&addrs).finish()
    }
}

impl TrackerServer {
    /// Binds all sockets; needs no runtime yet.
    ///
    /// # Errors
    /// Names the address that could not be had.
    pub fn bind(config: TrackerServerConfig) -> Result<Self, BindError> {
        let bound = bind::bind_all(&config.listen)?;
        let random = |out: &mut [u8]| {
            getrandom::fill(out).map_err(|error| BindError {
                addr: config.listen.first().copied().unwrap_or(([0; 4], 0).into()),
                source: io::Error::other(error.to_string()),
            })
        };
        let (mut secret, mut seed) = ([0; 16], [0; 8]);
        random(&mut secret)?;
        random(&mut seed)?;
        let rng = Rng::new(u64::from_le_bytes(seed));
        Ok(Self {
            bound,
            state: RefCell::new(Server::new(config.server, secret, rng)),
            began: std::time::Instant::now(),
            config,
        })
    }

    /// Where it listens, for HTTP and UDP alike.
    pub fn local_addrs(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.bound.iter().map(|it| it.addr)
    }

    /// Serves until `shutdown` is ready. To be called inside a tokio runtime.
    ///
    /// # Errors
    /// Where a socket can not be handed to the runtime.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> io::Result<()> {
        let bound = std::mem::take(&mut self.bound);
        let me = Rc::new(self);
        let limits = Rc::new(Limits::new(me.config.connections_max));
        let mut tasks = JoinSet::new();
        let local = LocalSet::new();
        for Bound { tcp, udp, .. } in bound {
            let (tcp, udp) = (TcpListener::from_std(tcp)?, UdpSocket::from_std(udp)?);
            tasks.spawn_local_on(accept(Rc::clone(&me), tcp, Rc::clone(&limits)), &local);
            tasks.spawn_local_on(answer(Rc::clone(&me), udp), &local);
        }
        tasks.spawn_local_on(sweep(me), &local);
        local.run_until(shutdown).await;
        Ok(())
    }

    fn now(&self) -> Instant {
        Instant::ZERO + self.began.elapsed()
    }
}

/// Takes connections as long as there is room for them.
async fn accept(me: Rc<TrackerServer>, listener: TcpListener, limits: Rc<Limits>) {
    let neighbourhoods = Rc::new(Neighbourhoods::default());
    let mut tasks = JoinSet::new();
    loop {
        let place = limits.place().await;
        let (socket, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(_) => {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        while tasks.try_join_next().is_some() {}
        if let Some(neighbour) = neighbourhoods.enter(from.ip()) {
            let me = Rc::clone(&me);
            tasks.spawn_local(async move {
                serve(&me, socket, from).await;
                drop((place, neighbour));
            });
        }
    }
}

/// Answers datagrams one by one; each takes a few microseconds.
async fn answer(me: Rc<TrackerServer>, socket: UdpSocket) {
    let mut buf = [0; DATAGRAM_LEN_MAX];
    loop {
        let Ok((len, from)) = socket.recv_from(&mut buf).await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let bytes = buf.get(..len).unwrap_or_default();
        let reply = me.state.borrow_mut().handle_datagram(me.now(), from, bytes);
        if let Some(reply) = reply {
            // A lost reply is asked for again.
            let _ = socket.send_to(&reply, from).await;
        }
    }
}

async fn sweep(me: Rc<TrackerServer>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        me.state.borrow_mut().handle_timeout(me.now());
    }
}
