//! The way through the gateway: its address, the two sockets that speak to it, and calls over HTTP.
//!
//! Nothing is sent but to the default gateway and to the group of the search on its network, and from no other address
//! than the one to bind to.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::rc::{Rc, Weak};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::UdpSocket;
use tokio::task::AbortHandle;
use torr_node::{Gateway, MapAction, upnp};
use torr_tracker::portmap::GATEWAY_PORT;

use crate::host::Host;
use crate::shard::Shard;

/// Longer than any answer; what is longer is cut, and then refused by its reader.
const DATAGRAM_LEN_MAX: usize = 8 << 10;
/// After an error of a socket.
const PAUSE: Duration = Duration::from_millis(100);
/// Calls that are under way at once.
const CALLS_MAX: usize = 8;

/// What speaks to the gateway, while there is one.
#[derive(Debug, Default)]
pub(crate) struct GatewayPart {
    sockets: Option<Sockets>,
    /// They read from them.
    readers: Vec<AbortHandle>,
    calls: usize,
}

#[derive(Clone, Debug)]
struct Sockets {
    gateway: Gateway,
    /// Connected: what comes is from the gateway.
    asks: Rc<UdpSocket>,
    searches: Rc<UdpSocket>,
}

impl<H: Host> Shard<H> {
    pub(crate) fn map_port(&mut self, action: MapAction) {
        match action {
            MapAction::FindGateway => self.find_gateway(),
            MapAction::Send { to, bytes } => {
                let sockets = self.gateway.sockets.as_ref();
                if let Some(sockets) = sockets.filter(|it| it.gateway.addr == *to.ip()) {
                    // What is not taken is asked again. What fails is not always this one: the socket tells of the
                    // one before whenever it is asked next.
                    let sent = SockRef::from(&*sockets.asks).send(&bytes);
                    if sent.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
                        self.node.handle_gateway_unreachable(self.now);
                    }
                }
            }
            MapAction::Search { bytes } => {
                if let Some(sockets) = &self.gateway.sockets {
                    let group = SocketAddr::V4(upnp::SEARCH_GROUP);
                    let _ = SockRef::from(&*sockets.searches).send_to(&bytes, &group.into());
                }
            }
            MapAction::Http {
                request,
                place,
                call,
            } => self.call_gateway(request, place, call),
        }
    }

    fn find_gateway(&mut self) {
        let (me, bind) = (self.me(), self.bind);
        self.tasks.spawn_local(async move {
            let found = find(bind);
            let Some(shard) = me.upgrade() else {
                return;
            };
            shard.borrow_mut().turn(|shard, now| {
                let found = found.map(|sockets| shard.speak_with(sockets));
                shard.node.handle_gateway(now, found);
            });
        });
    }

    fn speak_with(&mut self, sockets: Sockets) -> Gateway {
        for reader in self.gateway.readers.drain(..) {
            reader.abort();
        }
        let gateway = sockets.gateway;
        let asks = hear(self.me(), Rc::clone(&sockets.asks), false);
        let searches = hear(self.me(), Rc::clone(&sockets.searches), true);
        self.gateway.readers = vec![
            self.tasks.spawn_local(asks),
            self.tasks.spawn_local(searches),
        ];
        self.gateway.sockets = Some(sockets);
        gateway
    }

    fn call_gateway(&mut self, request: u64, place: upnp::Place, call: Option<upnp::Call>) {
        let sockets = self.gateway.sockets.as_ref();
        let known = sockets.is_some_and(|it| it.gateway.addr == *place.addr.ip());
        if !known || self.gateway.calls >= CALLS_MAX {
            debug_assert!(known, "a call that leads away from the gateway");
            return;
        }
        self.gateway.calls += 1;
        let (me, http) = (self.me(), self.http.clone());
        self.tasks.spawn_local(async move {
            let answer = http.call(&place, call.as_ref()).await;
            let answer = answer.map_err(|error| error.to_string());
            if let Some(shard) = me.upgrade() {
                shard.borrow_mut().turn(|shard, now| {
                    shard.gateway.calls -= 1;
                    shard.node.handle_gateway_http(now, request, answer);
                });
            }
        });
    }
}

/// Reads what comes from the gateway, or (`searches`) in answer to a search.
async fn hear<H: Host>(shard: Weak<RefCell<Shard<H>>>, socket: Rc<UdpSocket>, searches: bool) {
    let mut buf = vec![0; DATAGRAM_LEN_MAX];
    loop {
        let heard = socket.recv_from(&mut buf).await;
        let Some(shard) = shard.upgrade() else {
            return;
        };
        let mut pause = false;
        shard.borrow_mut().turn(|shard, now| match heard {
            Ok((n, from)) => {
                let bytes = buf.get(..n).unwrap_or_default();
                match searches {
                    true => shard.node.handle_gateway_search(now, from, bytes),
                    false => shard.node.handle_gateway_datagram(now, from, bytes),
                }
            }
            Err(error) => {
                pause = true;
                if error.kind() == io::ErrorKind::ConnectionRefused {
                    shard.node.handle_gateway_unreachable(now);
                }
            }
        });
        drop(shard);
        if pause {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Looks the default gateway up, and binds towards it.
fn find(bind: Option<IpAddr>) -> Result<Sockets, String> {
    if bind.is_some_and(|ip| ip.is_ipv6()) {
        return Err("only IPv4 is mapped, and --bind names an IPv6 address".to_owned());
    }
    let gateway = default_gateway()?;
    if bind.is_some_and(|ip| ip != IpAddr::V4(gateway.local)) {
        return Err("the address of --bind is not the one that leads to the gateway".to_owned());
    }
    let sockets = open(gateway);
    sockets.map_err(|error| format!("the gateway {} cannot be asked: {error}", gateway.addr))
}

#[cfg(target_os = "linux")]
fn default_gateway() -> Result<Gateway, String> {
    let way = crate::netlink::way_out(false);
    let way = way.map_err(|_| "there is no way to the Internet over IPv4".to_owned())?;
    match (way.gateway, way.local) {
        (Some(IpAddr::V4(addr)), Some(IpAddr::V4(local))) => Ok(Gateway { addr, local }),
        _ => Err("this network has no gateway that could map ports".to_owned()),
    }
}

#[cfg(not(target_os = "linux"))]
fn default_gateway() -> Result<Gateway, String> {
    Err("the gateway can be found on Linux only".to_owned())
}

fn open(gateway: Gateway) -> io::Result<Sockets> {
    let local = SocketAddr::from((gateway.local, 0));
    let asks = std::net::UdpSocket::bind(local)?;
    asks.connect(SocketAddrV4::new(gateway.addr, GATEWAY_PORT))?;
    asks.set_nonblocking(true)?;
    let searches = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    searches.bind(&local.into())?;
    searches.set_multicast_if_v4(&gateway.local)?;
    // UPnP Device Architecture 1.1, section 1.3.2.
    searches.set_multicast_ttl_v4(2)?;
    searches.set_nonblocking(true)?;
    Ok(Sockets {
        gateway,
        asks: Rc::new(UdpSocket::from_std(asks)?),
        searches: Rc::new(UdpSocket::from_std(searches.into())?),
    })
}
