//! The sockets of a tracker: TCP and UDP side by side, on one port number.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

use super::BindError;

/// Connections that the system keeps for us while we are busy.
const BACKLOG: i32 = 1024;
/// Bytes of datagrams that the system keeps for us while we are busy.
const UDP_BUFFER_BYTES: usize = 1 << 20;
/// Tries to find a port that is free everywhere, where any will do.
const ANY_TRIES: u32 = 16;

/// One address, bound for both protocols.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) addr: SocketAddr,
    pub(super) tcp: TcpListener,
    pub(super) udp: UdpSocket,
}

/// Binds every address. Those that name port 0 get one port, the same for all of them.
pub(super) fn bind_all(listen: &[SocketAddr]) -> Result<Vec<Bound>, BindError> {
    let any = listen.iter().any(|addr| addr.port() == 0);
    let mut tries = if any { ANY_TRIES } else { 1 };
    loop {
        tries -= 1;
        match try_bind_all(listen) {
            Err(error) if tries > 0 && error.source.kind() == io::ErrorKind::AddrInUse => {}
            other => return other,
        }
    }
}

fn try_bind_all(listen: &[SocketAddr]) -> Result<Vec<Bound>, BindError> {
    let mut bound: Vec<Bound> = Vec::new();
    let mut port = 0;
    let mut missing = None;
    for asked in listen {
        let mut addr = *asked;
        if addr.port() == 0 {
            addr.set_port(port);
        }
        match bind(addr) {
            Ok(it) => {
                if asked.port() == 0 {
                    port = it.addr.port();
                }
                bound.push(it);
            }
            // "Everywhere" leaves out what this machine does not have.
            Err(source) if addr.ip().is_unspecified() && is_missing_family(&source) => {
                missing = Some(BindError { addr, source });
            }
            Err(source) => return Err(BindError { addr, source }),
        }
    }
    match missing {
        Some(error) if bound.is_empty() => Err(error),
        _ => Ok(bound),
    }
}

fn bind(addr: SocketAddr) -> io::Result<Bound> {
    let tcp = socket(addr, Type::STREAM, Protocol::TCP)?;
    // A restart must not wait for the connections of the run before.
    tcp.set_reuse_address(cfg!(unix))?;
    tcp.bind(&addr.into())?;
    tcp.listen(BACKLOG)?;
    let tcp = TcpListener::from(tcp);
    let addr = tcp.local_addr()?;
    let udp = socket(addr, Type::DGRAM, Protocol::UDP)?;
    // The system may grant less.
    let _ = udp.set_recv_buffer_size(UDP_BUFFER_BYTES);
    udp.bind(&addr.into())?;
    let udp = UdpSocket::from(udp);
    Ok(Bound { addr, tcp, udp })
}

fn socket(addr: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), kind, Some(protocol))?;
    if addr.is_ipv6() {
        // IPv4 has a socket of its own, so that addresses arrive as what they are.
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn is_missing_family(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
        || error.kind() == io::ErrorKind::Unsupported
        // EAFNOSUPPORT has no kind of its own; Linux and the BSDs.
        || matches!(error.raw_os_error(), Some(97 | 47))
}

/// Every address of this machine, in both families.
pub(super) fn everywhere(port: u16) -> Vec<SocketAddr> {
    vec![
        (Ipv4Addr::UNSPECIFIED, port).into(),
        (Ipv6Addr::UNSPECIFIED, port).into(),
    ]
}
