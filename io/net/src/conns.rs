//! The sockets of a shard, beside the node's table of connections.

use std::task::Waker;

use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use torr_node::ConnKey;

/// One connection as the driver sees it.
#[derive(Debug)]
pub(crate) struct Conn {
    key: ConnKey,
    /// `None` while it is being dialled.
    pub(crate) socket: Option<TcpStream>,
    /// The node would take bytes from it.
    pub(crate) reads: bool,
    /// Bytes that must have come before the socket counts as readable.
    pub(crate) read_goal: usize,
    /// Bytes wait for the socket to take them.
    pub(crate) writes: bool,
    /// It is on the list of those to be looked after in this turn.
    pub(crate) woken: bool,
    /// Its task, where that waits for the socket.
    pub(crate) waker: Option<Waker>,
    task: AbortHandle,
}

impl Conn {
    pub(crate) fn new(key: ConnKey, socket: Option<TcpStream>, task: AbortHandle) -> Self {
        Self {
            key,
            socket,
            reads: true,
            read_goal: 1,
            writes: false,
            woken: false,
            waker: None,
            task,
        }
    }

    /// Has the task look at `reads` and `writes` again, if it is waiting.
    pub(crate) fn rouse(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// By slot of the key; the node bounds how many there are.
#[derive(Debug, Default)]
pub(crate) struct Conns {
    slots: Vec<Option<Conn>>,
    len: usize,
}

impl Conns {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn insert(&mut self, conn: Conn) {
        let slot = conn.key.slot();
        if slot >= self.slots.len() {
            self.slots.resize_with(slot + 1, || None);
        }
        let entry = &mut self.slots[slot];
        debug_assert!(
            entry.is_none(),
            "the node used a slot again before its close"
        );
        self.len += usize::from(entry.is_none());
        *entry = Some(conn);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (ConnKey, &Conn)> {
        let conns = self.slots.iter().flatten();
        conns.map(|conn| (conn.key, conn))
    }

    pub(crate) fn get_mut(&mut self, key: ConnKey) -> Option<&mut Conn> {
        let conn = self.slots.get_mut(key.slot())?.as_mut()?;
        (conn.key == key).then_some(conn)
    }

    /// Closes the socket and ends the task. True if there was such a connection.
    pub(crate) fn remove(&mut self, key: ConnKey) -> bool {
        let Some(entry) = self.slots.get_mut(key.slot()) else {
            return false;
        };
        let Some(conn) = entry.take_if(|conn| conn.key == key) else {
            return false;
        };
        conn.task.abort();
        self.len -= 1;
        true
    }
}
