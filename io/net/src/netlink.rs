//! What the kernel says of the network (rtnetlink, Linux): which way leads out.
//!
//! A question is one message, and its answer is there when the question has been sent: nothing here waits. No packet
//! leaves the machine.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with,
};

/// Somewhere in the Internet: the name server F of the root, at addresses that have not changed in decades. Only its
/// route is asked for.
const FAR_V4: [u8; 4] = [192, 5, 5, 241];
const FAR_V6: [u8; 16] = [
    0x20, 0x01, 0x05, 0, 0, 0x2f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x0f,
];
/// More than any answer about one route or link is.
const ANSWER_LEN_MAX: usize = 16 << 10;
const HEADER_LEN: usize = 16;
const ROUTE_LEN: usize = 12;
const LINK_LEN: usize = 16;

/// How packets for the Internet leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WayOut {
    /// `None` where the Internet is on the link itself.
    pub(crate) gateway: Option<IpAddr>,
    /// Our own address on that way.
    pub(crate) local: Option<IpAddr>,
    /// The interface, by its number.
    pub(crate) link: u32,
}

/// The way out in a family.
///
/// # Errors
/// Where there is none: [`io::ErrorKind::NetworkUnreachable`] most often.
pub(crate) fn way_out(v6: bool) -> io::Result<WayOut> {
    let (family, far): (_, &[u8]) = match v6 {
        false => (AddressFamily::INET, &FAR_V4),
        true => (AddressFamily::INET6, &FAR_V6),
    };
    let bits = far.len() * 8;
    let mut body = vec![family.as_raw() as u8, bits as u8];
    body.resize(ROUTE_LEN, 0);
    body.extend((4 + far.len() as u16).to_ne_bytes());
    body.extend(libc::RTA_DST.to_ne_bytes());
    body.extend(far);
    let answer = ask(libc::RTM_GETROUTE, libc::RTM_NEWROUTE, &body)?;
    let mut way = WayOut {
        gateway: None,
        local: None,
        link: 0,
    };
    for (kind, value) in attributes(answer.get(ROUTE_LEN..).unwrap_or_default()) {
        match kind {
            libc::RTA_OIF => way.link = value.first_chunk().map_or(0, |it| u32::from_ne_bytes(*it)),
            libc::RTA_GATEWAY => way.gateway = address(value),
            libc::RTA_PREFSRC => way.local = address(value),
            _ => {}
        }
    }
    Ok(way)
}

/// Whether an interface is up and has a carrier.
pub(crate) fn is_running(link: u32) -> io::Result<bool> {
    let mut body = [0; LINK_LEN];
    if let Some(index) = body.get_mut(4..8) {
        index.copy_from_slice(&link.to_ne_bytes());
    }
    let answer = ask(libc::RTM_GETLINK, libc::RTM_NEWLINK, &body)?;
    let flags = answer.get(8..12).and_then(|it| it.first_chunk());
    let flags = flags.map_or(0, |it| u32::from_ne_bytes(*it));
    let both = (libc::IFF_UP | libc::IFF_RUNNING) as u32;
    Ok(flags & both == both)
}

/// A socket that hears of the changes of `groups` (a mask), or of nothing but answers.
pub(crate) fn open(groups: u32) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    // No protocol is protocol 0, which is NETLINK_ROUTE.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    bind(&socket, &SocketAddrNetlink::new(0, groups))?;
    Ok(socket)
}

/// One question; what follows the header of its answer.
fn ask(question: u16, wanted: u16, body: &[u8]) -> io::Result<Vec<u8>> {
    let socket = open(0)?;
    let len = u32::try_from(HEADER_LEN + body.len()).map_err(io::Error::other)?;
    let mut message = Vec::with_capacity(HEADER_LEN + body.len());
    message.extend(len.to_ne_bytes());
    message.extend(question.to_ne_bytes());
    message.extend((libc::NLM_F_REQUEST as u16).to_ne_bytes());
    // Its number, and from whom: the kernel fills that in.
    message.extend([1, 0, 0, 0, 0, 0, 0, 0]);
    message.extend(body);
    send(&socket, &message, SendFlags::empty())?;
    let mut answer = vec![0; ANSWER_LEN_MAX];
    let (n, _) = recv(&socket, &mut answer[..], RecvFlags::empty())?;
    answer.truncate(n);
    let kind = answer.get(4..6).and_then(|it| it.first_chunk());
    let kind = kind.map(|it| u16::from_ne_bytes(*it));
    let body = answer.split_off(answer.len().min(HEADER_LEN));
    if kind == Some(libc::NLMSG_ERROR as u16) {
        let code = body.first_chunk().map_or(0, |it| i32::from_ne_bytes(*it));
        return Err(io::Error::from_raw_os_error(code.saturating_neg()));
    }
    match kind == Some(wanted) {
        true => Ok(body),
        false => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Kind and value of each attribute.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let [l0, l1, k0, k1] = *bytes.first_chunk()?;
        let len = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = bytes.get(4..len)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([k0, k1]), value))
    })
}

fn address(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => Some(IpAddr::from(*value.first_chunk::<4>()?)),
        16 => Some(IpAddr::from(*value.first_chunk::<16>()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_or_says_no() {
        // Machines of tests may have no way out; what counts is that the kernel understood the question.
        for v6 in [false, true] {
            match way_out(v6) {
                Ok(way) => assert!(way.link > 0 && is_running(way.link).is_ok(), "{way:?}"),
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::NetworkUnreachable, "{error}")
                }
            }
        }
        // The first one is the loopback of this namespace.
        assert!(is_running(1).is_ok());
        assert!(is_running(u32::MAX >> 1).is_err());
    }
}
