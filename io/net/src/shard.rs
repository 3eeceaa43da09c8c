//! One shard: a node, its sockets, and the turns in which it acts.
//!
//! ```text
//!   task of a socket, timer, disk inbox, accept, datagram, answer of a tracker, command
//!        │ one input
//!        ▼
//!   turn: input ─► node ─► perform (drain its actions) ─► attend (write what became ready) ─► …
//! ```
//!
//! Invariants:
//! - A turn is synchronous: no borrow of the shard is held across an await.
//! - After a turn no action waits in the node, and every connection that has something to do either did
//!   it or has its task woken.
//! - A turn is bounded: bytes per connection, and rounds of attending.
//!
//! Deliberately absent: any decision about BitTorrent.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::{Rc, Weak};
use std::task::Waker;

use socket2::SockRef;
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::{AbortHandle, JoinSet};
use torr_base::Instant;
use torr_node::{Action, ConnKey, FetchKey, LookUp, Node, TorrentKey};
use torr_store::{BlockBuf, DiskDone};

use crate::clock::Clock;
use crate::conns::{Conn, Conns};
use crate::gateway::GatewayPart;
use crate::host::Host;
use crate::http::HttpClient;
use crate::tasks::{dial, run_conn};
use crate::web::WebTask;

/// How often a turn looks after connections that became ready in the course of it. What is ready after
/// that goes on in tasks of its own.
const ROUNDS_MAX: u32 = 4;

pub(crate) struct Shard<H: Host> {
    /// For the tasks that it starts.
    me: Weak<RefCell<Self>>,
    pub(crate) node: Node<BlockBuf>,
    pub(crate) host: H,
    pub(crate) clock: Clock,
    /// Of the turn that is going on: one look at the clock serves all of it.
    pub(crate) now: Instant,
    pub(crate) conns: Conns,
    /// To be looked after in this turn.
    woken: Vec<ConnKey>,
    /// Empty between turns; kept for its memory.
    woken_spare: Vec<ConnKey>,
    /// Owner of every task; reaped by the shard's main loop.
    pub(crate) tasks: JoinSet<()>,
    pub(crate) requests: BTreeMap<LookUp, AbortHandle>,
    /// Requests to web seeds.
    pub(crate) web: BTreeMap<(TorrentKey, FetchKey), WebTask>,
    pub(crate) http: HttpClient,
    /// At most one for each family.
    pub(crate) udp: Vec<Rc<UdpSocket>>,
    /// Of local discovery; the same.
    pub(crate) lsd: Vec<Rc<UdpSocket>>,
    pub(crate) gateway: GatewayPart,
    /// Dials leave from here.
    pub(crate) bind: Option<IpAddr>,
    conns_max: usize,
    /// Accept loops that wait for a connection to end.
    waiting_for_room: Vec<Waker>,
    /// When the timer is set to, and who waits for it.
    pub(crate) armed: Option<Instant>,
    pub(crate) timer: Option<Waker>,
    /// Empty between turns; kept for its memory.
    pub(crate) disk_batch: Vec<DiskDone<BlockBuf>>,
}

/// What a new shard is made of.
pub(crate) struct Parts<H> {
    pub(crate) node: Node<BlockBuf>,
    pub(crate) host: H,
    pub(crate) clock: Clock,
    pub(crate) http: HttpClient,
    pub(crate) udp: Vec<Rc<UdpSocket>>,
    pub(crate) lsd: Vec<Rc<UdpSocket>>,
    pub(crate) bind: Option<IpAddr>,
    pub(crate) conns_max: usize,
}

pub(crate) type Shared<H> = Rc<RefCell<Shard<H>>>;

impl<H: Host> Shard<H> {
    pub(crate) fn new(parts: Parts<H>) -> Shared<H> {
        Rc::new_cyclic(|me| {
            RefCell::new(Self {
                me: me.clone(),
                node: parts.node,
                host: parts.host,
                now: parts.clock.now(),
                clock: parts.clock,
                conns: Conns::default(),
                woken: Vec::new(),
                woken_spare: Vec::new(),
                tasks: JoinSet::new(),
                requests: BTreeMap::new(),
                web: BTreeMap::new(),
                http: parts.http,
                udp: parts.udp,
                lsd: parts.lsd,
                gateway: GatewayPart::default(),
                bind: parts.bind,
                conns_max: parts.conns_max,
                waiting_for_room: Vec::new(),
                armed: None,
                timer: None,
                disk_batch: Vec::new(),
            })
        })
    }

    /// The shard for a task to hold on to. Tasks end before the shard does.
    pub(crate) fn me(&self) -> Weak<RefCell<Self>> {
        self.me.clone()
    }

    /// One turn with `input` as its beginning.
    pub(crate) fn turn<R>(&mut self, input: impl FnOnce(&mut Self, Instant) -> R) -> R {
        self.now = self.clock.now();
        let result = input(self, self.now);
        self.settle();
        result
    }

    /// Does what the node wants done, until it wants nothing.
    fn settle(&mut self) {
        for _ in 0..ROUNDS_MAX {
            self.perform();
            if self.woken.is_empty() {
                break;
            }
            let mut batch =
                std::mem::replace(&mut self.woken, std::mem::take(&mut self.woken_spare));
            for key in batch.drain(..) {
                self.attend(key);
            }
            self.woken_spare = batch;
        }
        self.perform();
        while let Some(key) = self.woken.pop() {
            if let Some(conn) = self.conns.get_mut(key) {
                conn.woken = false;
                conn.writes = true;
                conn.rouse();
            }
        }
        let next = self.node.next_timeout();
        let sooner = next.is_some_and(|next| self.armed.is_none_or(|armed| next < armed));
        if sooner && let Some(timer) = self.timer.take() {
            timer.wake();
        }
    }

    /// Carries out the node's actions, in order.
    pub(crate) fn perform(&mut self) {
        while let Some(action) = self.node.poll_action() {
            match action {
                Action::Wake { conn } => self.wake(conn),
                Action::Disk(job) => self.host.disk(job),
                Action::Close { conn, .. } => self.drop_conn(conn),
                Action::Dial { conn, remote } => self.start_dial(conn, remote),
                Action::Http { request, url } => self.start_http(request, url),
                Action::Resolve {
                    request,
                    host,
                    port,
                } => self.start_resolve(request, host, port),
                Action::CancelRequest { request } => self.cancel(request),
                Action::Datagram { to, bytes } => send_datagram(&self.udp, to, &bytes),
                Action::Multicast { group, bytes } => send_datagram(&self.lsd, group, &bytes),
                Action::WebFetch { fetch, url, range } => self.start_web(fetch, url, range),
                Action::WebWake { fetch } => self.wake_web(fetch),
                Action::WebCancel { torrent, fetch } => self.cancel_web(torrent, fetch),
                Action::PortMap(action) => self.map_port(action),
                Action::Tell { torrent, news } => {
                    self.host.tell(&mut self.node, self.now, torrent, news);
                }
            }
        }
    }

    /// Puts a connection on the list of this turn.
    pub(crate) fn wake(&mut self, key: ConnKey) {
        if let Some(conn) = self.conns.get_mut(key)
            && !conn.woken
        {
            conn.woken = true;
            self.woken.push(key);
        }
    }

    /// A listener has a connection for us.
    pub(crate) fn accepted(&mut self, socket: TcpStream, remote: SocketAddr) {
        self.turn(|shard, now| {
            if let Some(key) = shard.node.handle_accept(now, remote) {
                // Who made way for it goes before it takes the place.
                shard.perform();
                let task = shard.tasks.spawn_local(run_conn(shard.me(), key));
                shard.conns.insert(Conn::new(key, Some(socket), task));
            }
        });
    }

    fn start_dial(&mut self, key: ConnKey, remote: SocketAddr) {
        let task = dial(self.me(), key, remote, self.bind);
        let task = self.tasks.spawn_local(task);
        self.conns.insert(Conn::new(key, None, task));
    }

    /// A dial came through.
    pub(crate) fn connected(&mut self, key: ConnKey, socket: TcpStream) {
        self.turn(|shard, now| {
            if let Some(conn) = shard.conns.get_mut(key) {
                conn.socket = Some(socket);
                shard.node.handle_connected(now, key);
            }
        });
    }

    /// The connection failed, or was ended by the other side.
    pub(crate) fn lost(&mut self, key: ConnKey) {
        self.drop_conn(key);
        self.node.handle_closed(self.now, key);
    }

    fn drop_conn(&mut self, key: ConnKey) {
        if self.conns.remove(key) {
            self.waiting_for_room.drain(..).for_each(Waker::wake);
        }
    }

    /// Whether another connection may be accepted; if not, `waker` is called when it may.
    pub(crate) fn has_room(&mut self, waker: &Waker) -> bool {
        let room = self.conns.len() < self.conns_max;
        if !room {
            self.waiting_for_room.push(waker.clone());
        }
        room
    }
}

/// A datagram that the kernel does not take now is lost, as any may be.
fn send_datagram(sockets: &[Rc<UdpSocket>], to: SocketAddr, bytes: &[u8]) {
    let same_family = |socket: &&Rc<UdpSocket>| {
        let addr = socket.local_addr();
        addr.is_ok_and(|addr| addr.is_ipv4() == to.is_ipv4())
    };
    if let Some(socket) = sockets.iter().find(same_family) {
        // Past the runtime, which may not know yet that a new socket can be written.
        let _ = SockRef::from(&**socket).send_to(bytes, &to.into());
    }
}
