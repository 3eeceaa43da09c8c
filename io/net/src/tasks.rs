//! What waits: one task for each connection, listener, datagram socket, and for the timer, the disk and
//! the figures. Each ends with its connection, or with the shard, which owns them all.
//!
//! A task holds no strong reference to the shard while it waits for anything but a socket that the shard
//! owns, and none of its borrows lives across an await.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::time::{Instant as At, sleep, sleep_until, timeout};
use torr_base::Instant;
use torr_node::{ConnKey, Node};
use torr_store::BlockBuf;

use crate::host::Host;
use crate::inbox::DiskInbox;
use crate::shard::{Shard, Shared};

/// A dial that takes longer is given up; the logic has the same limit and this one is the kernel's end.
const DIAL_TIME: Duration = Duration::from_secs(10);
/// Unsent bytes that the kernel may hold for one peer. Less, and a fast line runs dry between turns;
/// more, and blocks that were cancelled are on their way already.
const UNSENT_MAX: u32 = 512 * 1024;
/// After an accept failed for want of descriptors or memory: the first wait, and the longest.
const ACCEPT_WAIT: Duration = Duration::from_millis(50);
const ACCEPT_WAIT_MAX: Duration = Duration::from_secs(2);
/// Datagrams taken in one turn.
const DATAGRAMS_BUDGET: usize = 64;
/// The longest datagram that anybody sends us; what is longer is cut, and then refused by its reader.
const DATAGRAM_LEN_MAX: usize = 64 * 1024;
/// The timer is not set closer than this, whatever the node says.
const TIMER_STEP: Duration = Duration::from_millis(1);
/// How often the host may look at the figures.
const OBSERVE_EVERY: Duration = Duration::from_millis(250);

/// Serves one connection until it is closed.
pub(crate) async fn run_conn<H: Host>(shard: Weak<RefCell<Shard<H>>>, key: ConnKey) {
    while let Some(readable) = poll_fn(|cx| poll_socket(&shard, key, cx)).await {
        let Some(shard) = shard.upgrade() else {
            return;
        };
        let more = shard.borrow_mut().pump(key, readable);
        drop(shard);
        if more {
            tokio::task::yield_now().await;
        }
    }
}

/// Ready when the connection can be read (true) or written (false) and the node wants that; `None` once
/// it is closed.
fn poll_socket<H: Host>(
    shard: &Weak<RefCell<Shard<H>>>,
    key: ConnKey,
    cx: &mut Context<'_>,
) -> Poll<Option<bool>> {
    let Some(shard) = shard.upgrade() else {
        return Poll::Ready(None);
    };
    let mut shard = shard.borrow_mut();
    let Some(conn) = shard.conns.get_mut(key) else {
        return Poll::Ready(None);
    };
    let Some(socket) = &conn.socket else {
        return Poll::Ready(None);
    };
    // An error makes the socket ready, and the read or write that follows tells which.
    let readable = conn.reads && socket.poll_read_ready(cx).is_ready();
    if readable || (conn.writes && socket.poll_write_ready(cx).is_ready()) {
        // It is awake: what the turn changes need not rouse it.
        conn.waker = None;
        return Poll::Ready(Some(readable));
    }
    conn.waker = Some(cx.waker().clone());
    Poll::Pending
}

/// Connects, then serves the connection.
pub(crate) async fn dial<H: Host>(
    shard: Weak<RefCell<Shard<H>>>,
    key: ConnKey,
    remote: SocketAddr,
    bind: Option<IpAddr>,
) {
    let socket = timeout(DIAL_TIME, connect(remote, bind)).await;
    let Some(strong) = shard.upgrade() else {
        return;
    };
    let Ok(Ok(socket)) = socket else {
        strong.borrow_mut().turn(|shard, _| shard.lost(key));
        return;
    };
    strong.borrow_mut().connected(key, socket);
    drop(strong);
    run_conn(shard, key).await;
}

async fn connect(remote: SocketAddr, bind: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = match remote {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    if let Some(ip) = bind {
        if ip.is_ipv4() != remote.is_ipv4() {
            // Nothing may leave by another way than the one that was asked for.
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        socket.bind(SocketAddr::new(ip, 0))?;
    }
    let socket = socket.connect(remote).await?;
    prepare(&socket);
    Ok(socket)
}

/// Sizes of buffers are left to the kernel, which finds what the line needs.
fn prepare(socket: &TcpStream) {
    // Both are wishes: without them it works too.
    let _ = socket.set_nodelay(true);
    let _ = SockRef::from(socket).set_tcp_notsent_lowat(UNSENT_MAX);
}

/// Takes connections, while there is room for them.
pub(crate) async fn run_accept<H: Host>(shard: Weak<RefCell<Shard<H>>>, listener: TcpListener) {
    let mut wait = ACCEPT_WAIT;
    loop {
        poll_fn(|cx| poll_room(&shard, cx)).await;
        match listener.accept().await {
            Ok((socket, remote)) => {
                wait = ACCEPT_WAIT;
                let Some(shard) = shard.upgrade() else {
                    return;
                };
                prepare(&socket);
                shard.borrow_mut().accepted(socket, remote);
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(_) => {
                sleep(wait).await;
                wait = (wait * 2).min(ACCEPT_WAIT_MAX);
            }
        }
    }
}

fn poll_room<H: Host>(shard: &Weak<RefCell<Shard<H>>>, cx: &mut Context<'_>) -> Poll<()> {
    match shard.upgrade() {
        Some(shard) if !shard.borrow_mut().has_room(cx.waker()) => Poll::Pending,
        Some(_) | None => Poll::Ready(()),
    }
}

/// Whether an accept failed because of the other side, and not for want of something here.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
            | io::ErrorKind::WouldBlock
    )
}

/// What a datagram is to the node.
pub(crate) type Hear = fn(&mut Node<BlockBuf>, Instant, SocketAddr, &[u8]);

/// Takes datagrams.
pub(crate) async fn run_udp<H: Host>(
    shard: Weak<RefCell<Shard<H>>>,
    socket: Rc<UdpSocket>,
    hear: Hear,
) {
    let mut buf = vec![0; DATAGRAM_LEN_MAX];
    loop {
        if socket.readable().await.is_err() {
            // Not known to happen; it must not become a loop without a pause.
            sleep(ACCEPT_WAIT_MAX).await;
            continue;
        }
        let Some(shard) = shard.upgrade() else {
            return;
        };
        for _ in 0..DATAGRAMS_BUDGET {
            match socket.try_recv_from(&mut buf) {
                Ok((n, from)) => shard.borrow_mut().turn(|shard, now| {
                    hear(&mut shard.node, now, from, buf.get(..n).unwrap_or_default());
                }),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // The answer to something that we sent: nobody listens there. The logic has its time-outs.
                Err(_) => {}
            }
        }
        drop(shard);
        tokio::task::yield_now().await;
    }
}

/// Calls the node when its time comes.
pub(crate) async fn run_timer<H: Host>(shard: Weak<RefCell<Shard<H>>>) {
    let mut last = At::now();
    let mut timer = pin!(sleep_until(last));
    loop {
        poll_fn(|cx| {
            let Some(shard) = shard.upgrade() else {
                return Poll::Ready(());
            };
            let mut shard = shard.borrow_mut();
            let next = shard.node.next_timeout();
            shard.timer = Some(cx.waker().clone());
            shard.armed = next;
            let Some(next) = next else {
                return Poll::Pending;
            };
            let at = shard.clock.at(next).max(last + TIMER_STEP);
            drop(shard);
            if timer.deadline() != at {
                timer.as_mut().reset(at);
            }
            timer.as_mut().poll(cx)
        })
        .await;
        let Some(shard) = shard.upgrade() else {
            return;
        };
        last = At::now();
        shard
            .borrow_mut()
            .turn(|shard, now| shard.node.handle_timeout(now));
    }
}

/// Takes the answers of the disk.
pub(crate) async fn run_disk<H: Host>(shard: Weak<RefCell<Shard<H>>>, inbox: DiskInbox) {
    loop {
        inbox.ready().await;
        let Some(shard) = shard.upgrade() else {
            return;
        };
        shard.borrow_mut().turn(|shard, now| {
            let mut batch = std::mem::take(&mut shard.disk_batch);
            inbox.take(&mut batch);
            for done in batch.drain(..) {
                shard.node.handle_disk(now, done);
            }
            shard.disk_batch = batch;
        });
    }
}

/// Shows the host the figures.
pub(crate) async fn run_observer<H: Host>(shard: Weak<RefCell<Shard<H>>>) {
    loop {
        sleep(OBSERVE_EVERY).await;
        let Some(shard) = shard.upgrade() else {
            return;
        };
        observe(&shard);
    }
}

pub(crate) fn observe<H: Host>(shard: &Shared<H>) {
    shard.borrow_mut().turn(|shard, now| {
        let Shard { node, host, .. } = shard;
        host.observe(node, now);
    });
}
