//! Whether the network is there: a task hears what the kernel says of links, addresses and routes (rtnetlink), and tells
//! the node when there is a way out again, or another one (G17).
//!
//! - What is compared is the way out itself: its interface, whether that has a carrier, the gateway and our address. Other
//!   interfaces may come and go, and addresses be renewed, without a word.
//! - A burst of changes counts once it is over.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::rc::Weak;
use std::time::Duration;

use rustix::net::{RecvFlags, recv};
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant as At, timeout_at};

use crate::host::Host;
use crate::netlink::{self, WayOut};
use crate::shard::Shard;

/// Links, and addresses and routes of both families (`RTMGRP_*`).
const GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;
/// A burst is over when nothing came for this long; or after so long in all.
const SETTLED: Duration = Duration::from_millis(300);
const BURST: Duration = Duration::from_secs(3);
/// After an error of the socket.
const PAUSE: Duration = Duration::from_secs(5);
const MESSAGE_LEN_MAX: usize = 32 << 10;

/// The ways out of both families that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct View([Option<WayOut>; 2]);

impl View {
    fn look() -> Self {
        Self([false, true].map(|v6| {
            let way = netlink::way_out(v6).ok()?;
            // Without a carrier there is a route and nothing at its end.
            netlink::is_running(way.link)
                .is_ok_and(|runs| runs)
                .then_some(way)
        }))
    }

    fn is_usable(&self) -> bool {
        self.0.iter().any(Option::is_some)
    }
}

/// Watches until the shard ends.
pub(crate) async fn run_watch<H: Host>(shard: Weak<RefCell<Shard<H>>>) {
    let registered = netlink::open(GROUPS).and_then(|socket| {
        // SAFETY: the descriptor is open and owned, by an `OwnedFd` that always names the same one; it moves into the
        // `AsyncFd` on this line, and is closed when that is dropped.
        unsafe { AsyncFd::register(socket) }.map_err(io::Error::from)
    });
    let Ok(socket) = registered else {
        // As in a sandbox: time-outs have to do.
        return;
    };
    let mut known = View::look();
    let mut buf = vec![0; MESSAGE_LEN_MAX];
    loop {
        if drain(&socket, &mut buf).await.is_err() {
            tokio::time::sleep(PAUSE).await;
            continue;
        }
        let end = At::now() + BURST;
        while At::now() < end {
            let settled = (At::now() + SETTLED).min(end);
            match timeout_at(settled, drain(&socket, &mut buf)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => break,
            }
        }
        let view = View::look();
        if std::mem::replace(&mut known, view) == view || !view.is_usable() {
            continue;
        }
        let Some(shard) = shard.upgrade() else {
            return;
        };
        shard.borrow_mut().turn(|shard, now| {
            shard.drop_without_address();
            shard.node.handle_network_changed(now);
        });
    }
}

/// Waits for messages, and takes all that are there. What they say is looked up.
async fn drain(socket: &AsyncFd<OwnedFd>, buf: &mut [u8]) -> io::Result<()> {
    let mut ready = socket.readable().await?;
    loop {
        match recv(socket, &mut *buf, RecvFlags::empty()) {
            Ok(_) => {}
            // There were more than fit: something changed, that is all there is to know.
            Err(rustix::io::Errno::NOBUFS | rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => break,
            Err(error) => return Err(error.into()),
        }
    }
    ready.clear_ready();
    Ok(())
}

impl<H: Host> Shard<H> {
    /// Connections that leave from an address that is not ours any more are dead, though TCP does not know.
    fn drop_without_address(&mut self) {
        let mut ours: BTreeMap<IpAddr, bool> = BTreeMap::new();
        let mut lost = Vec::new();
        for (key, conn) in self.conns.iter() {
            let addr = conn
                .socket
                .as_ref()
                .and_then(|socket| socket.local_addr().ok());
            let Some(ip) = addr.map(|addr| addr.ip()) else {
                continue;
            };
            let is_ours = ours.entry(ip).or_insert_with(|| {
                let bound = std::net::UdpSocket::bind(SocketAddr::new(ip, 0));
                !bound.is_err_and(|error| error.kind() == io::ErrorKind::AddrNotAvailable)
            });
            if !*is_ours {
                lost.push(key);
            }
        }
        for key in lost {
            self.lost(key);
        }
    }
}
