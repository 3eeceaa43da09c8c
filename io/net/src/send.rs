//! Bytes from the node to sockets: from memory, or from a file without passing through memory.
//!
//! A block of a file goes out as its header, marked as having more behind it, and then the range of the
//! file, so that both share packets. Where the socket takes no more in the middle of one, the rest is read
//! into memory: what is offered from a file is sent in the turn in which it was looked at, or not from
//! there.

use std::io::{self, ErrorKind, IoSlice};
use std::os::fd::BorrowedFd;

use tokio::io::Interest;
use tokio::net::TcpStream;
use torr_base::RawBlock;
use torr_node::{ConnKey, Rest};
use torr_store::{FileSource as _, Found};

use crate::host::{Files as _, Host};
use crate::shard::Shard;
use crate::traffic::clear;

/// Bytes that one connection may take in one turn; then the others have theirs.
const WRITE_BUDGET: usize = 512 * 1024;
/// Pieces of memory in one write: control bytes and blocks in turn.
const BUFS_MAX: usize = 80;

/// What became of one write.
enum Wrote {
    /// All of so many bytes.
    All(usize),
    /// Fewer than were offered: from memory the socket takes no more; from a file the next try tells why.
    Part(usize),
    /// So many bytes, and the kernel does not send from such a file.
    NotFrom(usize),
}

impl<H: Host> Shard<H> {
    /// Writes until there is nothing to write, or the socket takes no more, or the budget is used up
    /// (true: the rest waits for the socket).
    pub(crate) fn write(&mut self, key: ConnKey) -> bool {
        let mut left = WRITE_BUDGET;
        // What was offered in an earlier turn has to be looked at again.
        let mut old = true;
        while left > 0 {
            let Some(conn) = self.conns.get_mut(key) else {
                return false;
            };
            let Some(socket) = &conn.socket else {
                return false;
            };
            let files = self.host.files();
            let outgoing = self.node.poll_send(self.now, key, files);
            let from_file = matches!(outgoing.block, Rest::File { .. });
            if let Rest::File { range, .. } = outgoing.block
                && std::mem::take(&mut old)
            {
                let sendable = files.look(outgoing.storage, range) == Found::Sendable;
                if !sendable && !self.node.keep_block(key, files) {
                    self.lost(key);
                    return false;
                }
                continue;
            }
            old = false;
            if outgoing.control.is_empty() && outgoing.block == Rest::Bytes(&[]) {
                return false;
            }
            let wrote = match outgoing.block {
                Rest::Bytes(_) => write_memory(socket, self.node.waiting(key).flatten()),
                Rest::File { range, from } => match files.place(outgoing.storage, range) {
                    Some(file) => send_file(socket, outgoing.control, file, range, from),
                    None => {
                        debug_assert!(false, "what was found to be sendable has a place");
                        Ok(Wrote::NotFrom(0))
                    }
                },
            };
            if let Ok(Wrote::All(n) | Wrote::Part(n) | Wrote::NotFrom(n)) = &wrote {
                left = left.saturating_sub(*n);
                self.node.handle_written(self.now, key, *n);
            }
            match wrote {
                Ok(Wrote::All(_)) => {}
                Ok(Wrote::Part(_)) if from_file => {}
                Ok(Wrote::Part(_)) => {
                    clear(socket, Interest::WRITABLE);
                    return true;
                }
                Ok(Wrote::NotFrom(_)) => {
                    let files = self.host.files();
                    files.never_send();
                    if !self.node.keep_block(key, files) {
                        self.lost(key);
                        return false;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if from_file {
                        // Where there is no room for it, it is looked at again in its next turn.
                        self.node.keep_block(key, self.host.files());
                    }
                    return true;
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
}

fn write_memory<'a>(
    socket: &TcpStream,
    bytes: impl Iterator<Item = &'a [u8]>,
) -> io::Result<Wrote> {
    let mut bufs = [IoSlice::new(&[]); BUFS_MAX];
    let (mut count, mut len) = (0, 0);
    let there = bytes.filter(|bytes| !bytes.is_empty());
    for (to, bytes) in bufs.iter_mut().zip(there) {
        *to = IoSlice::new(bytes);
        count += 1;
        len += bytes.len();
    }
    let n = socket.try_write_vectored(&bufs[..count])?;
    Ok(if n < len {
        Wrote::Part(n)
    } else {
        Wrote::All(n)
    })
}

/// Sends control bytes, and then what is left of a block from its file.
#[cfg(target_os = "linux")]
fn send_file(
    socket: &TcpStream,
    control: &[u8],
    (file, start): (BorrowedFd<'_>, u64),
    range: RawBlock,
    from: u32,
) -> io::Result<Wrote> {
    use rustix::io::Errno;
    use rustix::net::SendFlags;

    let mut n = 0;
    if !control.is_empty() {
        let send = || {
            Ok(rustix::net::send(
                socket,
                control,
                SendFlags::MORE | SendFlags::NOSIGNAL,
            )?)
        };
        n = socket.try_io(Interest::WRITABLE, send)?;
        if n < control.len() {
            return Ok(Wrote::Part(n));
        }
    }
    let len = (range.len - from) as usize;
    let mut offset = start + u64::from(from);
    let send = || Ok(rustix::fs::sendfile(socket, file, Some(&mut offset), len)?);
    match socket.try_io(Interest::WRITABLE, send) {
        // The file has become shorter, and the header says otherwise.
        Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
        Ok(sent) if sent < len => Ok(Wrote::Part(n + sent)),
        Ok(sent) => Ok(Wrote::All(n + sent)),
        // What is out of the control bytes has to be told first; the next try says the same again.
        Err(error) if n > 0 && is_for_now(&error) => Ok(Wrote::Part(n)),
        Err(error) => match Errno::from_io_error(&error) {
            Some(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => Ok(Wrote::NotFrom(n)),
            _ => Err(error),
        },
    }
}

#[cfg(target_os = "linux")]
fn is_for_now(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

#[cfg(not(target_os = "linux"))]
fn send_file(
    _: &TcpStream,
    _: &[u8],
    _: (BorrowedFd<'_>, u64),
    _: RawBlock,
    _: u32,
) -> io::Result<Wrote> {
    Ok(Wrote::NotFrom(0))
}
