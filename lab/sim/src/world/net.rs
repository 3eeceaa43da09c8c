//! How chunks travel and connections come and go.

use std::net::SocketAddr;
use std::time::Duration;

use torr_base::Instant;
use torr_node::ConnKey;

use crate::conn::{End, EndId, Outgoing, Stage, Wire, WireKey};
use crate::fidelity::{Chunk, Fidelity};
use crate::host::{HostId, Kind};
use crate::link::SMALL;
use crate::tap::Tap;
use crate::world::{Event, Work, World};

impl<F: Fidelity> World<F> {
    pub(crate) fn end(&self, end: EndId) -> Option<&End<F::Block>> {
        Some(self.wires.get(end.wire)?.end(end.side))
    }

    pub(crate) fn end_mut(&mut self, end: EndId) -> Option<&mut End<F::Block>> {
        Some(self.wires.get_mut(end.wire)?.end_mut(end.side))
    }

    /// One way between two hosts.
    pub(crate) fn way(&self, a: HostId, b: HostId) -> Duration {
        let latency = |host: HostId| self.hosts[host].link.profile.latency;
        latency(a) + latency(b)
    }

    // ---- coming

    /// A host dials; the answer comes after a round trip, or never.
    pub(crate) fn dial(&mut self, host: HostId, key: Option<ConnKey>, to: SocketAddr) {
        let now = self.now();
        let target = self.by_ip.get(&to.ip()).copied();
        let target = target.filter(|target| addr_port_fits(*target, to) && *target != host);
        // Dialling oneself is a connection as any other, seen from the wire.
        let own = self.by_ip.get(&to.ip()) == Some(&host);
        let Some(target) = target.or(own.then_some(host)) else {
            // Nobody is there: no answer at all, as from most dead addresses.
            return;
        };
        let mut first = End::new(host);
        first.key = key;
        let ends = [first, End::new(target)];
        let wire = self.wires.insert(Wire { ends });
        if let (Some(key), Some(home)) = (key, self.hosts[host].node_mut()) {
            home.ends.insert(key, EndId { wire, side: 0 });
        }
        let way = self.way(host, target);
        self.agenda.at(now + way, Event::Syn(wire));
    }

    pub(crate) fn syn(&mut self, wire: WireKey) {
        let now = self.now();
        let Some(entry) = self.wires.get(wire) else {
            return;
        };
        let (from, to) = (entry.end(0).host, entry.end(1).host);
        if entry.end(0).stage == Stage::Closed {
            self.wires.remove(wire);
            return;
        }
        if self.hosts[from].dead || self.hosts[to].dead {
            return;
        }
        let way = self.way(from, to);
        if self.rng.one_in(self.weather.refuse_one_in) {
            let refused = Event::Answer {
                wire,
                accepted: false,
            };
            self.agenda.at(now + way, refused);
            return;
        }
        let port = self.hosts[from].next_port;
        self.hosts[from].next_port = port.wrapping_add(1).max(1_024);
        let remote = SocketAddr::new(self.hosts[from].addr.ip(), port);
        let end = EndId { wire, side: 1 };
        let accepted = match &mut self.hosts[to].kind {
            Kind::Node(home) => match home.node.handle_accept(now, remote) {
                Some(key) => {
                    home.ends.insert(key, end);
                    self.open(end, Some(key));
                    self.work.push_back(Work::Drain(to));
                    true
                }
                None => false,
            },
            Kind::Puppet(_) => {
                self.open(end, None);
                self.with_puppet(to, |puppet, stage| puppet.opened(stage, end, false));
                true
            }
        };
        self.trace.note(now, to, b'a', port.into(), accepted.into());
        self.agenda.at(now + way, Event::Answer { wire, accepted });
        if let Some(after) = self.weather.reset_after {
            let nanos = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
            let when = Duration::from_nanos(self.rng.below(nanos.saturating_mul(2)));
            self.agenda.at(now + way + when, Event::Break(wire));
        }
    }

    fn open(&mut self, end: EndId, key: Option<ConnKey>) {
        let tap = self.weather.tap && key.is_some();
        let pieces = self.torrent.geometry.piece_count();
        let host = self.end(end).map(|entry| entry.host);
        let watched = host.is_some_and(|host| self.trace.watches(host));
        let other = self.end(end.other()).map_or(0, |entry| entry.host);
        let remote = self.hosts[other].addr.ip();
        let info_hash = self.torrent.info_hash;
        if let Some(entry) = self.end_mut(end) {
            entry.stage = Stage::Open;
            entry.key = entry.key.or(key);
            entry.tap = tap.then(|| Box::new(Tap::new(pieces, F::BYTES, remote, info_hash)));
            if let Some(tap) = entry.tap.as_mut().filter(|_| watched) {
                tap.write_down();
            }
        }
    }

    pub(crate) fn answer(&mut self, wire: WireKey, accepted: bool) {
        let now = self.now();
        let end = EndId { wire, side: 0 };
        let Some(entry) = self.end(end) else { return };
        let (host, key, stage) = (entry.host, entry.key, entry.stage);
        if stage != Stage::Connecting {
            return;
        }
        self.trace
            .note(now, host, b'c', wire.unique(), accepted.into());
        if !accepted {
            self.wires.remove(wire);
            if let (Some(key), Some(home)) = (key, self.hosts[host].node_mut()) {
                home.ends.remove(&key);
                home.node.handle_closed(now, key);
                self.work.push_back(Work::Drain(host));
            }
            return;
        }
        self.open(end, key);
        match (&mut self.hosts[host].kind, key) {
            (Kind::Node(home), Some(key)) => {
                home.node.handle_connected(now, key);
                self.work.push_back(Work::Drain(host));
            }
            (Kind::Puppet(_), _) | (Kind::Node(_), None) => {
                self.with_puppet(host, |puppet, stage| puppet.opened(stage, end, true));
            }
        }
        self.reads.push_back(end);
    }

    // ---- travelling

    /// Something was put into `tx`, or may go on.
    pub(crate) fn enqueue(&mut self, id: EndId) {
        let now = self.now();
        let window = self.weather.window;
        loop {
            let Some(end) = self.end_mut(id) else { return };
            if end.sending || end.queued || end.stage == Stage::Connecting {
                return;
            }
            let Some(first) = end.tx.front() else { return };
            let (len, host) = (first.chunk.len(), end.host);
            if end.in_flight > 0 && end.in_flight + len > window {
                return;
            }
            if len > SMALL {
                end.queued = true;
                self.hosts[host].link.ring.push_back(id);
                self.kick(host);
                return;
            }
            let Some(small) = end.tx.pop_front() else {
                return;
            };
            end.tx_bytes -= len;
            end.in_flight += len;
            self.hosts[host].link.send_small(len);
            let Some(to) = self.end(id.other()).map(|end| end.host) else {
                return;
            };
            let when = now + self.way(host, to);
            self.give_back(id, small.buf);
            let arrive = Event::Arrive {
                to: id.other(),
                host: to,
                chunk: small.chunk,
            };
            self.agenda.at(when, arrive);
            self.work.push_back(Work::Write(id));
        }
    }

    /// Starts the next large chunk of a host's line up, if it is free.
    pub(crate) fn kick(&mut self, host: HostId) {
        let now = self.now();
        while !self.hosts[host].link.sending {
            let Some(id) = self.hosts[host].link.ring.pop_front() else {
                return;
            };
            let Some(to) = self.end(id.other()).map(|end| end.host) else {
                continue;
            };
            if self.hosts[to].link.is_full() && !self.hosts[to].dead {
                self.hosts[to].link.waiting.push_back(id);
                continue;
            }
            let Some(end) = self.end_mut(id) else {
                continue;
            };
            end.queued = false;
            let Some(Outgoing { chunk, buf }) = end.tx.pop_front() else {
                continue;
            };
            end.tx_bytes -= chunk.len();
            end.in_flight += chunk.len();
            end.sending = true;
            let link = &mut self.hosts[host].link;
            link.sending = true;
            let spent = link.send_large(chunk.len());
            let sent = Event::Sent {
                end: id,
                chunk,
                buf,
            };
            self.agenda.at(now + spent, sent);
        }
    }

    pub(crate) fn sent(&mut self, id: EndId, chunk: Chunk, buf: Option<F::Block>) {
        let now = self.now();
        let Some(end) = self.end_mut(id) else {
            // The wire is never removed while something of it is on the line up.
            unreachable!("a wire was forgotten while it sent");
        };
        end.sending = false;
        let host = end.host;
        self.give_back(id, buf);
        self.hosts[host].link.sending = false;
        if let Some(to) = self.end(id.other()).map(|end| end.host) {
            self.hosts[to].link.expect(chunk.len());
            let when = now + self.way(host, to);
            let arrive = Event::Arrive {
                to: id.other(),
                host: to,
                chunk,
            };
            self.agenda.at(when, arrive);
        }
        self.enqueue(id);
        self.kick(host);
        self.work.push_back(Work::Write(id));
        self.forget_if_over(id.wire);
    }

    pub(crate) fn arrive(&mut self, to: EndId, host: HostId, chunk: Chunk) {
        let now = self.now();
        let len = chunk.len();
        let through = self.hosts[host].link.arrive(now, len);
        let Some(end) = self.end_mut(to) else {
            self.passed(host, len);
            return;
        };
        let when = through.max(end.last_delivery);
        end.last_delivery = when;
        if when > now {
            self.agenda.at(when, Event::Deliver { to, host, chunk });
        } else {
            self.deliver(to, host, chunk);
        }
    }

    /// A large chunk has left the line down: whoever waits for room may send.
    fn passed(&mut self, host: HostId, len: usize) {
        if len <= SMALL {
            return;
        }
        self.hosts[host].link.delivered(len);
        while !self.hosts[host].link.is_full() {
            let Some(id) = self.hosts[host].link.waiting.pop_front() else {
                return;
            };
            let Some(sender) = self.end(id).map(|end| end.host) else {
                continue;
            };
            self.hosts[sender].link.ring.push_back(id);
            self.kick(sender);
            if !self.hosts[sender].link.sending {
                continue;
            }
            return;
        }
    }

    pub(crate) fn deliver(&mut self, to: EndId, host: HostId, chunk: Chunk) {
        let now = self.now();
        self.passed(host, chunk.len());
        let sender = self.end(to.other()).map(|end| end.host);
        if self.hosts[host].dead || sender.is_some_and(|sender| self.hosts[sender].cut) {
            return;
        }
        let Some(end) = self.end_mut(to) else { return };
        if end.stage == Stage::Closed {
            let sender = self.end(to.other()).map(|end| end.host);
            if let Some(sender) = sender.filter(|_| !chunk.end) {
                let when = now + self.way(host, sender);
                self.agenda.at(when, Event::Reset(to.other()));
            }
            return;
        }
        end.rx_bytes += chunk.len();
        end.rx.push_back(chunk);
        if end.stage == Stage::Open {
            self.reads.push_back(to);
        }
    }

    /// So much was read at this end: its sender may send more.
    pub(crate) fn consumed(&mut self, at: EndId, len: usize) {
        if let Some(end) = self.end_mut(at) {
            end.rx_bytes -= len;
        }
        let Some(sender) = self.end_mut(at.other()) else {
            return;
        };
        sender.in_flight = sender.in_flight.saturating_sub(len);
        self.enqueue(at.other());
    }

    // ---- going

    /// The application lets go of its end: what it wrote still goes out, unless it left something
    /// unread.
    pub(crate) fn close_end(&mut self, id: EndId) {
        let now = self.now();
        let Some(end) = self.end_mut(id) else { return };
        let was = std::mem::replace(&mut end.stage, Stage::Closed);
        if was == Stage::Closed {
            return;
        }
        let rude = end.rx.iter().any(|chunk| !chunk.end);
        end.rx.clear();
        let bufs: Vec<_> = end.tx.iter_mut().filter_map(|out| out.buf.take()).collect();
        let host = end.host;
        if was == Stage::Open && !rude {
            let chunk = Chunk {
                end: true,
                ..Chunk::default()
            };
            end.tx.push_back(Outgoing { chunk, buf: None });
        } else {
            end.tx.clear();
            end.tx_bytes = 0;
        }
        for buf in bufs {
            self.give_back(id, Some(buf));
        }
        let other = id.other();
        if was == Stage::Open
            && rude
            && let Some(to) = self.end(other).map(|end| end.host)
        {
            let when = now + self.way(host, to);
            self.agenda.at(when, Event::Reset(other));
        }
        self.enqueue(id);
        self.forget_if_over(id.wire);
    }

    /// The connection is no more, from this end's view.
    pub(crate) fn reset(&mut self, id: EndId) {
        let Some(end) = self.end_mut(id) else { return };
        if end.stage == Stage::Closed {
            return;
        }
        end.rx.clear();
        let host = end.host;
        if self.hosts[host].dead {
            return;
        }
        self.end_of_stream(id);
    }

    /// The application hears that the connection is over, and lets go.
    pub(crate) fn end_of_stream(&mut self, id: EndId) {
        let now = self.now();
        let Some(end) = self.end_mut(id) else { return };
        let (host, key) = (end.host, end.key);
        end.tx.iter_mut().for_each(|out| out.chunk.end = false);
        self.trace
            .note(now, host, b'e', id.wire.unique(), id.side.into());
        self.trace.line(now, host, || format!("{id:?} ended"));
        match (&mut self.hosts[host].kind, key) {
            (Kind::Node(home), Some(key)) => {
                home.ends.remove(&key);
                home.node.handle_closed(now, key);
                self.work.push_back(Work::Drain(host));
            }
            (Kind::Puppet(_), _) | (Kind::Node(_), None) => {
                self.with_puppet(host, |puppet, stage| puppet.closed(stage.now, id));
            }
        }
        self.close_end(id);
    }

    pub(crate) fn plan_redial(&mut self, host: HostId, now: Instant) {
        let Kind::Puppet(puppet) = &self.hosts[host].kind else {
            return;
        };
        let Some(wait) = puppet.redial() else { return };
        let choice = self.rng.index(puppet.dials.len());
        if let Some(to) = puppet.dials.get(choice).copied() {
            self.agenda.at(now + wait, Event::Dial { host, to });
        }
    }

    fn give_back(&mut self, id: EndId, buf: Option<F::Block>) {
        let now = self.now();
        let (Some(buf), Some(end)) = (buf, self.end(id)) else {
            return;
        };
        let (host, key) = (end.host, end.key);
        if let (Some(key), Some(home)) = (key, self.hosts[host].node_mut()) {
            home.lent -= 1;
            F::give_back(&mut home.node, now, key, buf);
            self.work.push_back(Work::Drain(host));
        }
    }

    /// Forgets a wire of which both ends are closed and nothing is on its way out.
    fn forget_if_over(&mut self, wire: WireKey) {
        let over = self.wires.get(wire).is_some_and(|entry| {
            let done = |end: &End<F::Block>| end.stage == Stage::Closed && !end.sending;
            entry.ends.iter().all(done)
        });
        if over && let Some(entry) = self.wires.remove(wire) {
            for (side, end) in (0..).zip(entry.ends) {
                let id = EndId { wire, side };
                let link = &mut self.hosts[end.host].link;
                link.ring.retain(|other| *other != id);
            }
        }
    }
}

fn addr_port_fits(host: HostId, to: SocketAddr) -> bool {
    crate::host::addr_of(host) == to
}
