//! What must be true of the world, whatever its peers do. Everything here panics where it is not: the
//! seed and the time are in the hands of whoever runs the world.

use std::net::SocketAddr;

use torr_base::{BLOCK_LEN, Instant};

use crate::conn::EndId;
use crate::fidelity::{Chunk, Fidelity};
use crate::host::{Host, HostId};
use crate::world::World;

/// Holds a node to the rates it was given: what went through at any moment fits a bucket of that rate.
#[derive(Clone, Debug)]
pub(crate) struct RateCheck {
    rate: Option<u64>,
    /// Bytes times 10^9 above what the rate allowed so far.
    level: u128,
    at: Instant,
}

/// Bytes of all handshakes that a node lets be half open.
const HANDSHAKES: u128 = 200 * 68;

impl RateCheck {
    pub(crate) const fn new(rate: Option<u64>) -> Self {
        Self {
            rate,
            level: 0,
            at: Instant::ZERO,
        }
    }

    /// Bytes went through; false where that is more than the rate allows.
    fn pass(&mut self, now: Instant, bytes: usize) -> bool {
        let Some(rate) = self.rate else { return true };
        let paid = now.since(self.at).as_nanos() * u128::from(rate);
        self.at = now;
        self.level = self.level.saturating_sub(paid) + bytes as u128 * 1_000_000_000;
        // The bucket's burst, and a debt of two blocks: one may start with the last token. Handshakes
        // are heard at once, and paid for by what follows.
        let burst = u128::from(rate / 10) + 2 * u128::from(BLOCK_LEN) + HANDSHAKES;
        self.level <= burst * 1_000_000_000
    }
}

impl<F: Fidelity> World<F> {
    /// A node said something on a connection.
    pub(crate) fn said(&mut self, id: EndId, host: HostId, chunk: &Chunk, lends: bool) {
        let now = self.now();
        let len = chunk.len();
        self.trace
            .note(now, host, b'w', len as u64, id.wire.unique());
        let Some(home) = self.hosts.get_mut(host).and_then(Host::node_mut) else {
            return;
        };
        home.lent += usize::from(lends);
        assert!(
            home.up.pass(now, len),
            "node {host} sends faster than its rate limit at {now:?}"
        );
        let Some(wire) = self.wires.get_mut(id.wire) else {
            return;
        };
        if let Some(tap) = &mut wire.end_mut(id.side).tap {
            tap.said(now, chunk, home.disk.told());
        }
        self.listen(id, host, chunk, "->");
    }

    /// A node heard something on a connection.
    pub(crate) fn heard(&mut self, id: EndId, host: HostId, chunk: &Chunk) {
        let now = self.now();
        let len = chunk.len();
        self.trace
            .note(now, host, b'r', len as u64, id.wire.unique());
        let Some(home) = self.hosts.get_mut(host).and_then(Host::node_mut) else {
            return;
        };
        assert!(
            home.down.pass(now, len),
            "node {host} reads faster than its rate limit at {now:?}"
        );
        let Some(end) = self.end_mut(id) else { return };
        let stalled = end.stalled;
        if let Some(tap) = &mut end.tap {
            tap.heard(now, chunk, stalled);
        }
        self.listen(id, host, chunk, "<-");
    }

    /// A node got a block from a web server.
    pub(crate) fn heard_from_web(&mut self, host: HostId, len: usize) {
        let now = self.now();
        let Some(home) = self.hosts.get_mut(host).and_then(Host::node_mut) else {
            return;
        };
        assert!(
            home.down.pass(now, len),
            "node {host} reads faster than its rate limit at {now:?}"
        );
    }

    fn listen(&mut self, id: EndId, host: HostId, chunk: &Chunk, way: &str) {
        let now = self.now();
        let other = self.end(id.other()).map_or(usize::MAX, |end| end.host);
        let watched = self.trace.watches(host);
        let Some(tap) = self.end_mut(id).and_then(|end| end.tap.as_mut()) else {
            self.trace.line(now, host, || {
                format!("{way} {other}: {} bytes", chunk.len())
            });
            return;
        };
        let broken = tap.broken();
        let words = tap.take_words();
        if watched {
            self.trace
                .line(now, host, || format!("{way} {other}: {}", words.join("; ")));
        }
        assert!(
            broken.is_empty(),
            "node {host}, connected with {other}, at {now:?}: {}",
            broken.join("; ")
        );
    }

    /// Nobody is banned who sent only honest blocks.
    pub(crate) fn check_ban(&self, host: HostId, banned: SocketAddr) {
        let other = self.by_ip.get(&banned.ip()).copied();
        let lied = other.is_some_and(|other| self.lied(other));
        assert!(
            lied,
            "node {host} banned {other:?}, which never sent a wrong block"
        );
    }

    /// The nodes that something happened to, if that is wanted after every event.
    pub(crate) fn check_touched(&self) {
        if self.weather.check_always {
            for host in &self.touched {
                self.check_node(*host);
            }
        }
    }

    /// All of them.
    pub(crate) fn check_world(&self) {
        for host in 0..self.hosts.len() {
            self.check_node(host);
        }
    }

    fn check_node(&self, host: HostId) {
        let Some(home) = self.hosts.get(host).and_then(Host::node) else {
            return;
        };
        home.node.check_invariants();
        let (used, held) = (home.gauge.used.get(), home.node.blocks_held());
        let (at_disk, lent) = (home.disk.open_blocks, home.lent);
        assert_eq!(
            used,
            held + at_disk + lent,
            "node {host}: {used} buffers are out of the pool, {held} held, {at_disk} at the disk, \
             {lent} written"
        );
        assert!(used <= home.gauge.total.get());
        if let Some(swarm) = home.torrent.and_then(|key| home.node.swarm(key)) {
            let have = swarm.have();
            assert!(
                !have.any_and_not(home.disk.told()),
                "node {host} has a piece that the disk never confirmed"
            );
        }
    }

    /// Stops every node, lets half a minute pass, and sees that nothing is left over.
    pub fn stop_all(&mut self) {
        let now = self.now();
        for host in 0..self.hosts.len() {
            self.leave(host);
        }
        self.run_until(now + std::time::Duration::from_secs(60));
        for (host, entry) in self.hosts.iter().enumerate() {
            let Some(home) = entry.node() else { continue };
            if home.torrent.is_none() || entry.dead {
                continue;
            }
            assert!(home.news.stopped.is_some(), "node {host} did not stop");
            assert_eq!(home.gauge.used.get(), 0, "node {host} leaked buffers");
            assert_eq!(home.disk.open_jobs, 0, "node {host} waits for its disk");
            assert!(home.ends.is_empty(), "node {host} left connections open");
        }
    }
}
