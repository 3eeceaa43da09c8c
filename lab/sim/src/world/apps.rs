//! What nodes and puppets want done, and how they are read and written.

use std::net::SocketAddr;
use std::time::Duration;

use torr_node::{Action, News, Node, Notice, TorrentKey};

use crate::conn::{EndId, Outgoing};
use crate::fidelity::{Fidelity, Moved};
use crate::host::{Host, HostId, Kind};
use crate::puppet::{Deed, Puppet, Stage};
use crate::tracker::Answer;
use crate::world::{Event, Work, World};

/// How long it takes to open a storage.
const OPENING: Duration = Duration::from_millis(50);
/// Bytes that wait to be sent where no more of a flood is added to them.
const FLOOD_MAX: usize = 64 * 1024;

impl<F: Fidelity> World<F> {
    /// Carries out what a node wants done, in its order.
    pub(crate) fn drain(&mut self, host: HostId) {
        self.touch(host);
        loop {
            let Some(home) = self.hosts[host].node_mut() else {
                return;
            };
            let Some(action) = home.node.poll_action() else {
                return;
            };
            self.carry_out(host, action);
        }
    }

    fn carry_out(&mut self, host: HostId, action: Action<F::Block>) {
        let now = self.now();
        match action {
            Action::Dial { conn, remote } => {
                self.trace
                    .line(now, host, || format!("dials {remote} as {conn:?}"));
                self.dial(host, Some(conn), remote);
            }
            Action::Close { conn, why } => self.node_closes(host, conn, why),
            Action::Wake { conn } => {
                let home = self.hosts[host].node();
                if let Some(end) = home.and_then(|home| home.ends.get(&conn)) {
                    self.work.push_back(Work::Wake(*end));
                }
            }
            Action::Disk(job) => {
                self.trace.note(now, host, b'j', job.job.0, 0);
                self.trace.line(now, host, || format!("job {job:?}"));
                let Some(home) = self.hosts[host].node_mut() else {
                    return;
                };
                let (when, done) = home.disk.run(now, job);
                self.agenda.at(when, Event::Disk { host, done });
            }
            Action::Http { request, url } => self.http(host, request, &url),
            Action::Resolve {
                request,
                host: name,
                port,
            } => {
                let addr = name.trim_matches(['[', ']']).parse();
                let addrs = addr.map(|ip| vec![SocketAddr::new(ip, port)]);
                let addrs = addrs.map_err(|_| "no such name".to_owned());
                let answer = Answer::Resolved { request, addrs };
                self.agenda.at(now, Event::Tracker { host, answer });
            }
            Action::CancelRequest { .. } => {}
            Action::Datagram { to, bytes } => self.datagram(host, to, bytes),
            Action::Multicast { group, bytes } => self.multicast(host, group, &bytes),
            Action::PortMap(_) => {}
            Action::WebFetch { fetch, url, range } => self.web_fetch(host, fetch, &url, range),
            Action::WebWake { fetch } => self.web_wake(host, fetch),
            Action::WebCancel { torrent, fetch } => self.web_cancel(host, torrent, fetch),
            Action::Tell { news, .. } => self.tell(host, news),
        }
    }

    fn node_closes(&mut self, host: HostId, conn: torr_node::ConnKey, why: torr_node::CloseReason) {
        let now = self.now();
        let Some(home) = self.hosts[host].node_mut() else {
            return;
        };
        let Some(end) = home.ends.remove(&conn) else {
            // Nobody was at that address.
            return;
        };
        let other = self.end(end.other()).map(|end| end.host);
        let addr = other.map(|other| self.hosts[other].addr);
        self.trace.note(now, host, b'x', conn.unique(), 0);
        self.trace
            .line(now, host, || format!("closes {conn:?} {addr:?}: {why}"));
        if let (Some(addr), Some(home)) = (addr, self.hosts[host].node_mut()) {
            home.news.closes.push((now, addr, why));
        }
        self.close_end(end);
    }

    fn tell(&mut self, host: HostId, news: News) {
        let now = self.now();
        self.trace.line(now, host, || format!("tells {news:?}"));
        let Some(home) = self.hosts[host].node_mut() else {
            return;
        };
        let told = &mut home.news;
        match news {
            News::Swarm(notice) => match notice {
                Notice::PieceDone { piece } => {
                    self.trace.note(now, host, b'p', piece.get().into(), 0);
                    told.pieces.push(piece);
                }
                Notice::FileDone { file } => told.files.push(file as u32),
                Notice::Complete => told.complete = told.complete.or(Some(now)),
                Notice::Metadata(bytes) => {
                    assert_eq!(
                        bytes, self.torrent.metadata,
                        "node {host} took wrong metadata"
                    );
                    told.metadata = Some(now);
                    self.agenda.at(now + OPENING, Event::Begin(host));
                }
                Notice::Lost { .. } => unreachable!("nobody changes files here"),
                Notice::Synced => told.synced = told.synced.or(Some(now)),
                Notice::Halted(_) => {
                    let received = received(&home.node, home.torrent);
                    told.halted.get_or_insert((now, received));
                }
                Notice::Resumed => {
                    told.resumed += 1;
                    let (since, before) = told.halted.take().expect("it was halted");
                    let received = received(&home.node, home.torrent);
                    assert_eq!(
                        received, before,
                        "node {host} fetched what it could not keep since {since:?}"
                    );
                }
                Notice::Failed(error) => told.failed = Some(error),
                Notice::Stopped => {
                    told.stopped = Some(now);
                    if let Some(key) = home.torrent {
                        home.node.remove_torrent(key);
                    }
                }
                Notice::WebSeed { url, event } => self.check_web(host, &url, &event),
                Notice::Banned { addr, .. } => {
                    told.banned.push(addr);
                    self.check_ban(host, addr);
                }
            },
            News::Dht(search) => told.searches.push(search),
            News::Tracker { event, .. } => match event {
                torr_node::TrackerEvent::Announced { .. } => told.announces.0 += 1,
                torr_node::TrackerEvent::Failed { .. } => told.announces.1 += 1,
                torr_node::TrackerEvent::Warning(_) => {}
            },
        }
    }

    // ---- streams

    pub(crate) fn wake(&mut self, id: EndId) {
        let now = self.now();
        let Some(end) = self.end(id).filter(|end| end.is_open()) else {
            return;
        };
        let (host, key) = (end.host, end.key);
        if let (Some(key), Some(home)) = (key, self.hosts[host].node_mut()) {
            F::resume(&mut home.node, now, key);
            self.work.push_back(Work::Drain(host));
        }
        self.write(id);
        self.reads.push_back(id);
    }

    /// Lets the application write as much as its send buffer holds.
    pub(crate) fn write(&mut self, id: EndId) {
        let now = self.now();
        let room = self.weather.send_buffer;
        loop {
            let Some(end) = self.end_mut(id).filter(|end| end.is_open()) else {
                return;
            };
            if end.tx_bytes >= room {
                // What follows comes when the line has taken some of it.
                end.stalled = true;
                return;
            }
            let (host, key) = (end.host, end.key);
            let written = match (&mut self.hosts[host].kind, key) {
                (Kind::Node(home), Some(key)) => F::write(&mut home.node, &mut home.disk, now, key),
                (Kind::Node(_), None) => None,
                (Kind::Puppet(home), _) => {
                    let stage = Stage {
                        now,
                        torrent: &self.torrent,
                        bytes: F::BYTES,
                        deeds: &mut Vec::new(),
                    };
                    let block = home.puppet.next_block(&stage, id);
                    block.map(|chunk| (chunk, None))
                }
            };
            if key.is_some() {
                self.work.push_back(Work::Drain(host));
            }
            let Some(end) = self.end_mut(id) else { return };
            let Some((chunk, buf)) = written else {
                end.stalled = false;
                if let Some(tap) = &mut end.tap {
                    tap.drained();
                }
                return;
            };
            self.said(id, host, &chunk, buf.is_some());
            let Some(end) = self.end_mut(id) else { return };
            end.tx_bytes += chunk.len();
            end.tx.push_back(Outgoing { chunk, buf });
            self.enqueue(id);
        }
    }

    /// Gives the application what has arrived, one chunk at a time, as far as it takes it.
    pub(crate) fn read(&mut self, id: EndId) {
        let now = self.now();
        let Some(end) = self.end_mut(id).filter(|end| end.is_open()) else {
            return;
        };
        let (host, key) = (end.host, end.key);
        let Some(first) = end.rx.front() else { return };
        if first.end {
            self.end_of_stream(id);
            return;
        }
        match (&mut self.hosts[host].kind, key) {
            (Kind::Node(_), Some(key)) => self.node_reads(id, host, key),
            (Kind::Node(_), None) => {}
            (Kind::Puppet(home), _) => {
                if !home.puppet.manners.reads
                    && home
                        .puppet
                        .lines
                        .get(&id)
                        .is_some_and(|line| line.heard_hello)
                {
                    return;
                }
                let Some(chunk) = self.end_mut(id).and_then(|end| end.rx.pop_front()) else {
                    return;
                };
                self.trace.note(now, host, b'h', chunk.len() as u64, 0);
                self.consumed(id, chunk.len());
                self.with_puppet(host, |puppet, stage| puppet.heard(stage, id, &chunk));
                self.work.push_back(Work::Write(id));
                self.reads.push_back(id);
            }
        }
    }

    fn node_reads(&mut self, id: EndId, host: HostId, key: torr_node::ConnKey) {
        let now = self.now();
        let Self {
            hosts, wires, rng, ..
        } = self;
        let Some(home) = hosts.get_mut(host).and_then(Host::node_mut) else {
            return;
        };
        let Some(wire) = wires.get_mut(id.wire) else {
            return;
        };
        let end = wire.end_mut(id.side);
        let moved = F::read(&mut home.node, now, key, &mut end.rx, rng);
        let Moved::Some(chunk) = moved else {
            self.work.push_back(Work::Drain(host));
            return;
        };
        self.heard(id, host, &chunk);
        self.consumed(id, chunk.len());
        // The node's wishes first: it may have closed the connection.
        self.drain(host);
        self.work.push_back(Work::Write(id));
        self.reads.push_back(id);
    }

    // ---- puppets

    pub(crate) fn with_puppet(
        &mut self,
        host: HostId,
        f: impl FnOnce(&mut Puppet, &mut Stage<'_>),
    ) {
        let mut deeds = Vec::new();
        let mut stage = Stage {
            now: self.agenda.now(),
            torrent: &self.torrent,
            bytes: F::BYTES,
            deeds: &mut deeds,
        };
        let Kind::Puppet(home) = &mut self.hosts[host].kind else {
            return;
        };
        f(&mut home.puppet, &mut stage);
        self.touch(host);
        for deed in deeds {
            if let Deed::Flood { end, .. } = &deed
                && self.end(*end).is_none_or(|end| end.tx_bytes > FLOOD_MAX)
            {
                // The socket of a flooder takes no more than anybody's.
                continue;
            }
            match deed {
                Deed::Send { end: id, chunk } | Deed::Flood { end: id, chunk } => {
                    let Some(end) = self.end_mut(id).filter(|end| end.is_open()) else {
                        continue;
                    };
                    end.tx_bytes += chunk.len();
                    end.tx.push_back(Outgoing { chunk, buf: None });
                    self.enqueue(id);
                    self.work.push_back(Work::Write(id));
                }
                Deed::Close { end } => self.end_of_stream(end),
            }
        }
    }

    pub(crate) fn puppet_dials(&mut self, host: HostId, to: SocketAddr) {
        let Kind::Puppet(home) = &self.hosts[host].kind else {
            return;
        };
        // One connection to each at a time is enough trouble.
        let connected = home.puppet.lines.keys().any(|end| {
            let other = self.end(end.other()).map(|end| end.host);
            other.is_some_and(|other| self.hosts[other].addr == to)
        });
        if !connected {
            self.dial(host, None, to);
        }
        if home_redials(&self.hosts[host]) {
            let now = self.now();
            self.plan_redial(host, now);
        }
    }
}

fn home_redials<F: Fidelity>(host: &Host<F>) -> bool {
    match &host.kind {
        Kind::Puppet(home) => home.redial().is_some(),
        Kind::Node(_) => false,
    }
}

/// Bytes of blocks that came so far.
fn received<B>(node: &Node<B>, torrent: Option<TorrentKey>) -> u64 {
    let stats = torrent.and_then(|key| node.stats(key));
    stats.map_or(0, |stats| stats.swarm.downloaded)
}
