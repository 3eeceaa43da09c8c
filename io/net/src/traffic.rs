//! Bytes from sockets to the node, and when a connection has its turn: no copy, no allocation, no await.

use std::io::{ErrorKind, IoSliceMut};

use tokio::io::Interest;
use tokio::net::TcpStream;
use torr_node::ConnKey;

use crate::host::Host;
use crate::shard::Shard;

/// Bytes that one connection may bring in one turn, a millisecond of work; then the others have theirs.
const READ_BUDGET: usize = 1024 * 1024;

/// Buffers that one read fills, at most: what is left of a block, and some dozens of headers and blocks.
const BUFS_MAX: usize = 130;

impl<H: Host> Shard<H> {
    /// The socket of a connection is ready: reads, then writes. True if it has used up its budget.
    pub(crate) fn pump(&mut self, key: ConnKey, readable: bool) -> bool {
        self.turn(|shard, _| {
            let more = readable && shard.read(key);
            shard.wake(key);
            more
        })
    }

    /// Reads until the socket has no more, the node wants no more, or the budget is used up (true).
    fn read(&mut self, key: ConnKey) -> bool {
        let mut left = READ_BUDGET;
        while left > 0 {
            let Some(socket) = self
                .conns
                .get_mut(key)
                .and_then(|conn| conn.socket.as_ref())
            else {
                return false;
            };
            let mut bufs: [_; BUFS_MAX] = std::array::from_fn(|_| IoSliceMut::new(&mut []));
            let (mut count, mut room) = (0, 0);
            for (to, buf) in bufs.iter_mut().zip(self.node.read_bufs(self.now, key)) {
                room += buf.len();
                count += 1;
                *to = IoSliceMut::new(buf);
            }
            if room == 0 {
                return false;
            }
            match socket.try_read_vectored(&mut bufs[..count]) {
                Ok(0) => {
                    self.lost(key);
                    return false;
                }
                Ok(n) => {
                    if n < room {
                        // It is empty. To be told so by another call would cost as much as this one.
                        clear(socket, Interest::READABLE);
                    }
                    left = left.saturating_sub(n);
                    self.node.handle_read(self.now, key, n);
                    self.perform();
                    if n < room {
                        return false;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.node.handle_read(self.now, key, 0);
                    return false;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    self.lost(key);
                    return false;
                }
            }
        }
        true
    }

    /// Looks after a connection that may have become ready: parsing that waited for a buffer goes on,
    /// and what there is to write is written.
    pub(crate) fn attend(&mut self, key: ConnKey) {
        let Some(conn) = self.conns.get_mut(key) else {
            return;
        };
        conn.woken = false;
        if conn.socket.is_none() {
            return;
        }
        self.node.resume(self.now, key);
        let waits = self.write(key);
        let reads = self.node.wants_read(self.now, key);
        let goal = self.node.read_goal(self.now, key);
        let Some(conn) = self.conns.get_mut(key) else {
            return;
        };
        if let Some(socket) = &conn.socket
            && conn.read_goal != goal
        {
            conn.read_goal = goal;
            set_read_goal(socket, goal);
        }
        if (conn.reads, conn.writes) != (reads, waits) {
            (conn.reads, conn.writes) = (reads, waits);
            conn.rouse();
        }
    }
}

/// Tells the runtime that the socket is not ready, which it knows by itself only after a call that
/// failed. Whatever arrives from here on makes it ready again.
pub(crate) fn clear(socket: &TcpStream, interest: Interest) {
    let _ = socket.try_io(interest, || Err::<(), _>(ErrorKind::WouldBlock.into()));
}

/// Has the kernel call the socket readable only when so many bytes have come, or it is closed. Where they
/// have come already, it says so at once.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn set_read_goal(socket: &TcpStream, bytes: usize) {
    use std::os::fd::AsRawFd;

    let value = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    let len = size_of_val(&value) as libc::socklen_t;
    // SAFETY: the descriptor is open as long as the socket is borrowed, and the kernel reads `len` bytes of
    // `value`, which lives until the call returns.
    let _ = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVLOWAT,
            (&raw const value).cast(),
            len,
        )
    };
}

/// Elsewhere each byte wakes us.
#[cfg(not(target_os = "linux"))]
fn set_read_goal(_socket: &TcpStream, _bytes: usize) {}
