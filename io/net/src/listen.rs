//! The one port: TCP and UDP, IPv4 and IPv6.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use torr_tracker::lsd;

/// Connections that the kernel keeps for us while we are busy.
const BACKLOG: i32 = 1024;
/// Tries to find a port, out of those that the kernel picks, that is free in both families.
const ANY_TRIES: u32 = 16;

/// Which port to listen on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PortChoice {
    /// The first free of 6881 to 6889, else any.
    #[default]
    Usual,
    /// The first free one of these, both included.
    Range(u16, u16),
    /// That one; 0 is any.
    Exact(u16),
}

/// No port could be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {what}: {source}")]
pub struct ListenError {
    /// The address and port, or range of ports, that was asked for.
    what: String,
    source: io::Error,
}

/// Bound and listening, all on the same port number.
#[derive(Debug)]
pub struct Sockets {
    pub(crate) tcp: Vec<std::net::TcpListener>,
    pub(crate) udp: Vec<std::net::UdpSocket>,
    /// Of local discovery.
    pub(crate) lsd: Vec<std::net::UdpSocket>,
    port: u16,
}

impl Sockets {
    /// Takes the port in every family that this machine and `bind` allow; an address to bind to leaves
    /// only its own family.
    ///
    /// # Errors
    /// Where no port of `choice` is free, or the address is not ours.
    pub fn bind(choice: PortChoice, bind: Option<IpAddr>) -> Result<Self, ListenError> {
        let (ports, else_any) = match choice {
            PortChoice::Usual => (6881..=6889, true),
            PortChoice::Range(low, high) => (low..=high, false),
            PortChoice::Exact(port) => (port..=port, false),
        };
        let mut last = io::Error::from(io::ErrorKind::InvalidInput);
        for port in ports.clone().chain(else_any.then_some(0)) {
            match Self::bind_port(port, bind) {
                Ok(sockets) => return Ok(sockets),
                Err(error) => last = error,
            }
        }
        let ports = match ports.start() == ports.end() {
            true => ports.start().to_string(),
            false => format!("{}-{}", ports.start(), ports.end()),
        };
        let what = bind.map_or_else(
            || format!("port {ports}"),
            |ip| format!("{ip} port {ports}"),
        );
        Err(ListenError { what, source: last })
    }

    fn bind_port(port: u16, bind: Option<IpAddr>) -> io::Result<Self> {
        let tries = if port == 0 { ANY_TRIES } else { 1 };
        let mut result = Err(io::ErrorKind::AddrInUse.into());
        for _ in 0..tries {
            result = Self::bind_families(port, bind);
            let taken = |error: &io::Error| error.kind() == io::ErrorKind::AddrInUse;
            if !result.as_ref().is_err_and(taken) {
                break;
            }
        }
        result
    }

    fn bind_families(port: u16, bind: Option<IpAddr>) -> io::Result<Self> {
        let both = [Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into()];
        let families = bind.map_or(both.to_vec(), |ip| vec![ip]);
        let mut sockets = Self {
            tcp: Vec::new(),
            udp: Vec::new(),
            lsd: Vec::new(),
            port,
        };
        let mut missing = None;
        for ip in families {
            match sockets.add_family(ip) {
                Ok(()) => {}
                // A machine without IPv6, or with nothing else.
                Err(error) if bind.is_none() && is_no_family(&error) => missing = Some(error),
                Err(error) => return Err(error),
            }
        }
        match missing {
            Some(error) if sockets.tcp.is_empty() => Err(error),
            Some(_) | None => Ok(sockets),
        }
    }

    fn add_family(&mut self, ip: IpAddr) -> io::Result<()> {
        let listener = socket(SocketAddr::new(ip, self.port), Type::STREAM)?;
        listener.listen(BACKLOG)?;
        let listener: std::net::TcpListener = listener.into();
        let port = listener.local_addr()?.port();
        // Trackers are asked from the port that they are told, which helps some of them; it is no must.
        let udp = socket(SocketAddr::new(ip, port), Type::DGRAM)
            .or_else(|_| socket(SocketAddr::new(ip, 0), Type::DGRAM))?;
        self.port = port;
        self.tcp.push(listener);
        self.udp.push(udp.into());
        Ok(())
    }

    /// Listens to the groups of local discovery (BEP 14) as well, in the families of the listeners.
    ///
    /// # Errors
    /// Where that is possible in none of them.
    pub fn join_lsd(&mut self, bind: Option<IpAddr>) -> Result<(), ListenError> {
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for addr in self.addrs() {
            match lsd_socket(addr.ip(), bind) {
                Ok(socket) => self.lsd.push(socket),
                Err(error) => last = error,
            }
        }
        match self.lsd.is_empty() {
            true => Err(ListenError {
                what: format!("the group of local discovery, UDP port {}", lsd::PORT),
                source: last,
            }),
            false => Ok(()),
        }
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where datagrams come from, if that is the same port in all families.
    #[must_use]
    pub fn udp_port(&self) -> Option<u16> {
        let same = self.udp.iter().all(|socket| {
            let addr = socket.local_addr();
            addr.is_ok_and(|addr| addr.port() == self.port)
        });
        same.then_some(self.port)
    }

    /// Where peers are listened for.
    #[must_use]
    pub fn addrs(&self) -> Vec<SocketAddr> {
        let addrs = self.tcp.iter().map(std::net::TcpListener::local_addr);
        addrs.filter_map(Result::ok).collect()
    }
}

/// Shared with the other programs of this machine that listen there. `bind`: the address whose network it is.
fn lsd_socket(family: IpAddr, bind: Option<IpAddr>) -> io::Result<std::net::UdpSocket> {
    let any: IpAddr = match family {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let addr = SocketAddr::new(any, lsd::PORT);
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    #[cfg(unix)]
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    match family {
        IpAddr::V4(_) => {
            let interface = match bind {
                Some(IpAddr::V4(ip)) => ip,
                Some(IpAddr::V6(_)) | None => Ipv4Addr::UNSPECIFIED,
            };
            socket.bind(&addr.into())?;
            socket.join_multicast_v4(&lsd::GROUP_V4, &interface)?;
            socket.set_multicast_if_v4(&interface)?;
            socket.set_multicast_loop_v4(true)?;
            socket.set_multicast_ttl_v4(1)?;
        }
        IpAddr::V6(_) => {
            socket.set_only_v6(true)?;
            socket.bind(&addr.into())?;
            socket.join_multicast_v6(&lsd::GROUP_V6, 0)?;
            socket.set_multicast_loop_v6(true)?;
            socket.set_multicast_hops_v6(1)?;
        }
    }
    Ok(socket.into())
}

fn is_no_family(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::Unsupported | io::ErrorKind::AddrNotAvailable
    ) || error.raw_os_error() == Some(EAFNOSUPPORT)
}

/// Address family not supported by the kernel, on Linux; it has no name in `io::ErrorKind`.
const EAFNOSUPPORT: i32 = 97;

fn socket(addr: SocketAddr, kind: Type) -> io::Result<Socket> {
    let protocol = match kind {
        Type::STREAM => Protocol::TCP,
        _ => Protocol::UDP,
    };
    let socket = Socket::new(Domain::for_address(addr), kind, Some(protocol))?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if kind == Type::STREAM {
        // Else the port stays taken for minutes after the last run.
        socket.set_reuse_address(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[test]
    fn tcp_and_udp_share_the_port() {
        let sockets = Sockets::bind(PortChoice::Exact(0), Some(HERE)).unwrap();
        assert_ne!(sockets.port, 0);
        assert_eq!(sockets.addrs(), [SocketAddr::new(HERE, sockets.port)]);
        assert_eq!(sockets.udp[0].local_addr().unwrap().port(), sockets.port);
    }

    #[test]
    fn both_families_share_the_port() {
        let sockets = Sockets::bind(PortChoice::Exact(0), None).unwrap();
        assert!(!sockets.tcp.is_empty());
        assert!(
            sockets
                .addrs()
                .iter()
                .all(|addr| addr.port() == sockets.port)
        );
    }

    #[test]
    fn a_taken_port_is_passed_over_or_told() {
        let first = Sockets::bind(PortChoice::Exact(0), Some(HERE)).unwrap();
        let port = first.port;
        let error = Sockets::bind(PortChoice::Exact(port), Some(HERE)).unwrap_err();
        assert!(error.to_string().contains(&port.to_string()), "{error}");
        let next = PortChoice::Range(port, port.saturating_add(20));
        assert_ne!(Sockets::bind(next, Some(HERE)).unwrap().port, port);
    }

    #[test]
    fn an_address_that_is_not_ours_is_an_error() {
        let foreign = "192.0.2.1".parse().unwrap();
        assert!(Sockets::bind(PortChoice::Exact(0), Some(foreign)).is_err());
    }
}
