//! Connections that begin: accepts and dials, and handshakes.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use torr_base::Instant;
use torr_swarm::{CloseReason, ConnKey, Idle, Incompatible, NewPeer};
use torr_wire::{Handshake, HandshakeReader, Limits, Reserved, WireReader};

use crate::conn::{Conn, Stage, Tx, prefixes};
use crate::encryption::Encryption;
use crate::node::Node;
use crate::types::{Action, TorrentKey};

/// Connections of one /24 or /64; of one /48; and those of a /24 or /64 that are half open.
const NETWORK_MAX: usize = 10;
const SITE_MAX: usize = 40;
const NETWORK_HALF_OPEN_MAX: usize = 4;
/// How long a peer may take nothing of what waits for it while others want its place.
const STUCK: Duration = Duration::from_secs(3);

impl<B> Node<B> {
    /// Somebody connected. `None`: drop the socket. Another connection may have to be closed for it: actions are to be
    /// drained before the key is used.
    pub fn handle_accept(&mut self, now: Instant, remote: SocketAddr) -> Option<ConnKey> {
        let full = self.conns.len() >= self.config.conns_max;
        if full || self.torrents.is_empty() || !self.network_has_room(remote.ip()) {
            return None;
        }
        if self
            .torrents
            .values()
            .all(|torrent| torrent.swarm.is_banned(remote.ip()))
        {
            return None;
        }
        if self.half_open >= self.config.half_open_max && !self.end_slowest_greeting(now) {
            return None;
        }
        self.half_open += 1;
        let reader = HandshakeReader::new();
        Some(self.conns.insert(Conn {
            remote,
            dialled: false,
            stage: Stage::Greeting {
                torrent: None,
                reader,
            },
            opened: now,
            tx: Tx::new(now),
            ciphers: None,
            parked: false,
        }))
    }

    /// Too many are half open: whoever takes longest over its handshake makes way, or those who never end theirs would keep
    /// out who needs but a moment. Not so those that we dialled: they are few, and we chose them.
    fn end_slowest_greeting(&mut self, now: Instant) -> bool {
        let accepted = self.conns.iter();
        let accepted = accepted.filter(|(_, conn)| conn.is_half_open() && !conn.dialled);
        let slowest = accepted.min_by_key(|(_, conn)| conn.opened);
        let Some((slowest, _)) = slowest else {
            return false;
        };
        self.close(now, slowest, CloseReason::Idle(Idle::Handshake));
        true
    }

    /// Where a swarm is full and has somebody come: who took nothing for a while of what waits for it goes.
    fn end_stuck(&mut self, now: Instant, torrent: TorrentKey) {
        let full = self.torrents.get(torrent);
        if !full.is_some_and(|home| home.swarm.is_crowded()) {
            return;
        }
        let stuck = self.conns.iter().filter(|(_, conn)| {
            let its = conn.peer().is_some_and(|(its, _)| its == torrent);
            its && !conn.tx.is_empty() && now.since(conn.tx.moved) >= STUCK
        });
        let longest = stuck.min_by_key(|(_, conn)| conn.tx.moved);
        if let Some((conn, _)) = longest {
            self.close(now, conn, CloseReason::Idle(Idle::NeverReads));
        }
    }

    /// A dial came through.
    pub fn handle_connected(&mut self, now: Instant, conn: ConnKey) {
        let Some(entry) = self.conns.get_mut(conn) else {
            return;
        };
        let Stage::Dialling { torrent, plain } = entry.stage else {
            return;
        };
        let Some(hello) = self.hello(torrent) else {
            self.close(now, conn, CloseReason::Local);
            return;
        };
        let Some(entry) = self.conns.get_mut(conn) else {
            return;
        };
        entry.tx.moved = now;
        entry.opened = now;
        if !plain {
            self.begin_exchange(conn, torrent, hello);
            return;
        }
        entry.tx.control.extend_from_slice(&hello.encode());
        let reader = HandshakeReader::new();
        entry.stage = Stage::Greeting {
            torrent: Some(torrent),
            reader,
        };
        self.actions.push_back(Action::Wake { conn });
    }

    /// Whether one more connection with that network is within the limits.
    pub(crate) fn network_has_room(&self, ip: IpAddr) -> bool {
        let Some((network, site)) = prefixes(ip) else {
            return true;
        };
        let (mut near, mut far, mut half_open) = (0, 0, 0);
        for conn in self.conns.values() {
            if let Some((n, s)) = prefixes(conn.remote.ip()) {
                near += usize::from(n == network);
                far += usize::from(s == site);
                half_open += usize::from(n == network && conn.is_half_open());
            }
        }
        near < NETWORK_MAX && far < SITE_MAX && half_open < NETWORK_HALF_OPEN_MAX
    }

    /// Hears handshake bytes; what is left in `bytes` belongs to the messages after it.
    pub(crate) fn greet(&mut self, now: Instant, conn: ConnKey, bytes: &mut &[u8]) {
        let Some(entry) = self.conns.get_mut(conn) else {
            return;
        };
        let exchanges = matches!(entry.stage, Stage::Exchange { .. });
        let room = match &mut entry.stage {
            Stage::Exchange { mse, .. } => mse.read_buf(),
            Stage::Greeting { reader, .. } => reader.read_buf(),
            Stage::Dialling { .. } | Stage::Live { .. } => return,
        };
        let n = room.len().min(bytes.len());
        let (head, tail) = bytes.split_at(n);
        room[..n].copy_from_slice(head);
        *bytes = tail;
        match exchanges {
            true => self.exchanged(now, conn, n),
            false => self.greeted(now, conn, n),
        }
    }

    /// `n` bytes of handshake are in the reader.
    pub(crate) fn greeted(&mut self, now: Instant, conn: ConnKey, n: usize) {
        let Some(entry) = self.conns.get_mut(conn) else {
            return;
        };
        let Stage::Greeting { torrent, reader } = &mut entry.stage else {
            return;
        };
        if let Some(ciphers) = &mut entry.ciphers {
            ciphers.arrived([reader.read_buf()], n);
        }
        if reader.advance(n).is_err() {
            self.not_a_handshake(now, conn);
            return;
        }
        let (Some(info_hash), heard) = (reader.info_hash(), reader.handshake()) else {
            return;
        };
        let known = self.by_hash.get(&info_hash).copied();
        let fits = match (*torrent, known) {
            (Some(ours), Some(theirs)) => ours == theirs,
            (None, Some(_)) => true,
            (Some(_) | None, None) => false,
        };
        if !fits {
            self.close(
                now,
                conn,
                CloseReason::Incompatible(Incompatible::UnknownTorrent),
            );
            return;
        }
        if self.config.encryption == Encryption::Require && entry.ciphers.is_none() {
            self.refuse_plaintext(now, conn, known);
            return;
        }
        if torrent.is_none() {
            *torrent = known;
            let hello = known.and_then(|known| self.hello(known));
            if let (Some(hello), Some(entry)) = (hello, self.conns.get_mut(conn)) {
                entry.tx.control.extend_from_slice(&hello.encode());
                entry.tx.moved = now;
                self.actions.push_back(Action::Wake { conn });
            }
        }
        if let (Some(torrent), Some(heard)) = (known, heard) {
            self.admit(now, conn, torrent, heard);
        }
    }

    /// What we say first to the peers of a torrent.
    pub(crate) fn hello(&self, torrent: TorrentKey) -> Option<Handshake> {
        Some(Handshake {
            reserved: self.reserved(torrent),
            info_hash: self.torrents.get(torrent)?.info_hash,
            peer_id: self.config.peer_id,
        })
    }

    /// The extensions that peers of a torrent may use.
    fn reserved(&self, torrent: TorrentKey) -> Reserved {
        let usual = Reserved::EXTENDED.union(Reserved::FAST);
        let has_node = self.dht.as_ref().is_some_and(|dht| dht.port() > 0);
        let private = self
            .torrents
            .get(torrent)
            .is_none_or(|it| it.swarm.is_private());
        match has_node && !private {
            true => usual.union(Reserved::DHT),
            false => usual,
        }
    }

    /// The handshake is through: a peer of the swarm, if the swarm wants it.
    fn admit(&mut self, now: Instant, conn: ConnKey, torrent: TorrentKey, heard: Handshake) {
        let Some(entry) = self.conns.get(conn) else {
            return;
        };
        let (remote, dialled) = (entry.remote, entry.dialled);
        self.end_stuck(now, torrent);
        self.with_swarm(now, torrent, |swarm, bufs, out| {
            swarm.settle_crossing(now, (remote, heard.peer_id), dialled, bufs, out);
            swarm.make_room(now, (remote, heard.peer_id), bufs, out);
        });
        let ours = self.reserved(torrent);
        let (Some(home), Some(entry)) = (self.torrents.get_mut(torrent), self.conns.get_mut(conn))
        else {
            return;
        };
        if let Err(why) = home.swarm.admits(remote, heard.peer_id) {
            self.close(now, conn, why);
            if why == CloseReason::Incompatible(Incompatible::OwnId) {
                self.forget_own_address(now, remote.ip());
            }
            return;
        }
        let common = heard.reserved.common(ours);
        let new = NewPeer {
            conn,
            addr: entry.remote,
            dialled: entry.dialled,
            id: heard.peer_id,
            fast: common.fast(),
            extended: common.extended(),
            dht: common.dht(),
        };
        let peer = home.swarm.add_peer(now, new, &mut self.outbox);
        let pieces = home.swarm.pieces_max();
        let reader = WireReader::new(Limits::new(Some(pieces)));
        entry.stage = Stage::Live {
            torrent,
            peer,
            reader,
        };
        self.half_open -= 1;
        if let Some(dht) = self.dht.as_mut().filter(|_| !dialled) {
            dht.accepted(remote);
        }
        self.settle(now, torrent);
    }

    /// We dialled ourselves, and the accepting end saw it first: the dialling end must learn it too, or
    /// it would try again.
    fn forget_own_address(&mut self, now: Instant, ip: IpAddr) {
        let own = [self.config.listen_port, self.public_port()];
        let ours = self.conns.iter().filter(|(_, conn)| {
            conn.dialled
                && conn.is_half_open()
                && own
                    .map(|port| SocketAddr::new(ip, port))
                    .contains(&conn.remote)
        });
        let ours: Vec<_> = ours.map(|(key, _)| key).collect();
        for conn in ours {
            self.close(now, conn, CloseReason::Incompatible(Incompatible::OwnId));
        }
    }
}
