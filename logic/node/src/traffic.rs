//! Connections: accepts and dials, handshakes, bytes in, bytes out.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use torr_base::{Instant, RawBlock};
use torr_store::{FileSource, NoFiles, Payload, StorageId};
use torr_swarm::{CloseReason, ConnKey, Idle, Incompatible, Misbehaved, NewPeer, PeerKey, Sources};
use torr_wire::{Handshake, HandshakeReader, Limits, Progress, Reserved, WireError, WireReader};

use crate::conn::{Conn, Rest, Stage, Tx, prefixes};
use crate::encryption::{Encryption, Redial};
use crate::node::Node;
use crate::types::{Action, Frame, Outgoing, TorrentKey};

/// From the accept or the connect to the end of the handshake.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// From the dial to the connect.
const DIAL_TIME: Duration = Duration::from_secs(10);
/// A peer that takes nothing of what waits for it so long is gone or means harm.
const NO_PROGRESS: Duration = Duration::from_secs(30);
/// Connections of one /24 or /64; of one /48; and those of a /24 or /64 that are half open.
const NETWORK_MAX: usize = 10;
const SITE_MAX: usize = 40;
const NETWORK_HALF_OPEN_MAX: usize = 4;
/// Bits of the handshake that we set: BEP 10 and BEP 6.
pub(crate) const RESERVED: Reserved = Reserved::EXTENDED.union(Reserved::FAST);

impl<B> Node<B> {
    /// Somebody connected. `None`: drop the socket.
    pub fn handle_accept(&mut self, now: Instant, remote: SocketAddr) -> Option<ConnKey> {
        let full = self.conns.len() >= self.config.conns_max
            || self.half_open >= self.config.half_open_max;
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

    /// A dial came through.
    pub fn handle_connected(&mut self, now: Instant, conn: ConnKey) {
        let Some(entry) = self.conns.get_mut(conn) else {
            return;
        };
        let Stage::Dialling { torrent, plain } = entry.stage else {
            return;
        };
        let Some(info_hash) = self.torrents.get(torrent).map(|torrent| torrent.info_hash) else {
            self.close(now, conn, CloseReason::Local);
            return;
        };
        let hello = Handshake {
            reserved: RESERVED,
            info_hash,
            peer_id: self.config.peer_id,
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

    /// The connection is gone: refused, reset, ended, timed out.
    pub fn handle_closed(&mut self, now: Instant, conn: ConnKey) {
        let again = self.forget(now, conn, CloseReason::Transport);
        self.redial(now, again);
    }

    /// Ends a connection from our side.
    pub(crate) fn close(&mut self, now: Instant, conn: ConnKey, why: CloseReason) {
        if self.conns.contains(conn) {
            let again = self.forget(now, conn, why);
            self.actions.push_back(Action::Close { conn, why });
            self.redial(now, again);
        }
    }

    /// Tells the swarm, and gives the connection's buffers back. Told is whom to dial once more.
    fn forget(&mut self, now: Instant, conn: ConnKey, why: CloseReason) -> Option<Redial> {
        let entry = self.conns.get(conn)?;
        let (torrent, peer) = (entry.torrent(), entry.peer());
        let (dialled, remote) = (entry.dialled, entry.remote);
        let (why, again) = self.judge_greeting(conn, why);
        self.drop_conn(conn);
        if again.is_some() {
            return again;
        }
        match (torrent, peer) {
            (_, Some((torrent, peer))) => self.with_swarm(now, torrent, |swarm, bufs, out| {
                swarm.handle_peer_closed(now, peer, why, bufs, out);
            }),
            (Some(torrent), None) if dialled => {
                if let Some(torrent) = self.torrents.get_mut(torrent) {
                    torrent.swarm.handle_dial_failed(now, remote, why);
                }
            }
            (Some(_) | None, None) => {}
        }
        None
    }

    /// Removes the entry and gives its buffers back.
    pub(crate) fn drop_conn(&mut self, conn: ConnKey) {
        let Some(mut entry) = self.conns.remove(conn) else {
            return;
        };
        if entry.is_half_open() {
            self.half_open -= 1;
        }
        let landing = match &mut entry.stage {
            Stage::Live { reader, .. } => reader.take_block(),
            Stage::Dialling { .. } | Stage::Exchange { .. } | Stage::Greeting { .. } => None,
        };
        let sending = match entry.tx.block.take() {
            Some((_, Payload::Memory(buf))) => Some(buf),
            Some((_, Payload::File)) | None => None,
        };
        for buf in landing.into_iter().chain(sending) {
            self.bufs.put(buf);
        }
        self.starved.retain(|other| *other != conn);
        self.throttled.retain(|other| *other != conn);
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

    // ---- bytes in

    /// Whether the connection may be read now. Where not, an [`Action::Wake`] follows when it may.
    pub fn wants_read(&mut self, now: Instant, conn: ConnKey) -> bool {
        let allowed = self.down.available(now);
        let Some(entry) = self.conns.get_mut(conn) else {
            return false;
        };
        match &entry.stage {
            Stage::Dialling { .. } => false,
            Stage::Exchange { .. } | Stage::Greeting { .. } => true,
            Stage::Live { reader, .. } if reader.is_waiting() => {
                Self::park(entry, conn, &mut self.starved);
                false
            }
            Stage::Live { .. } if allowed == 0 => {
                Self::park(entry, conn, &mut self.throttled);
                false
            }
            Stage::Live { .. } => true,
        }
    }

    /// How many bytes should have come on the connection before they are worth a turn; 1 where each is. It
    /// changes with the turns of the connection, and an [`Action::Wake`] comes where it falls without one.
    pub fn read_goal(&mut self, now: Instant, conn: ConnKey) -> usize {
        let peer = self.conns.get(conn).and_then(Conn::peer);
        let limited = self.down.rate().is_some();
        let Some((torrent, peer)) = peer.filter(|_| !limited) else {
            return 1;
        };
        let torrent = self.torrents.get_mut(torrent);
        torrent.map_or(1, |torrent| torrent.swarm.read_goal(now, peer))
    }

    fn park(entry: &mut Conn<B>, conn: ConnKey, list: &mut Vec<ConnKey>) {
        if !entry.parked {
            entry.parked = true;
            list.push(conn);
        }
    }

    /// Hears handshake bytes; what is left in `bytes` belongs to the messages after it.
    fn greet(&mut self, now: Instant, conn: ConnKey, bytes: &mut &[u8]) {
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
    fn greeted(&mut self, now: Instant, conn: ConnKey, n: usize) {
        let own_id = self.config.peer_id;
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
            let hello = Handshake {
                reserved: RESERVED,
                info_hash,
                peer_id: own_id,
            };
            entry.tx.control.extend_from_slice(&hello.encode());
            entry.tx.moved = now;
            self.actions.push_back(Action::Wake { conn });
        }
        if let (Some(torrent), Some(heard)) = (known, heard) {
            self.admit(now, conn, torrent, heard);
        }
    }

    /// The handshake is through: a peer of the swarm, if the swarm wants it.
    fn admit(&mut self, now: Instant, conn: ConnKey, torrent: TorrentKey, heard: Handshake) {
        let Some(entry) = self.conns.get(conn) else {
            return;
        };
        let (remote, dialled) = (entry.remote, entry.dialled);
        self.with_swarm(now, torrent, |swarm, bufs, out| {
            swarm.settle_crossing(now, (remote, heard.peer_id), dialled, bufs, out);
            swarm.make_room(now, (remote, heard.peer_id), bufs, out);
        });
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
        let common = heard.reserved.common(RESERVED);
        let new = NewPeer {
            conn,
            addr: entry.remote,
            dialled: entry.dialled,
            id: heard.peer_id,
            fast: common.fast(),
            extended: common.extended(),
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
        self.settle(now, torrent);
    }

    /// We dialled ourselves, and the accepting end saw it first: the dialling end must learn it too, or
    /// it would try again.
    fn forget_own_address(&mut self, now: Instant, ip: IpAddr) {
        let port = self.config.listen_port;
        let ours = self.conns.iter().filter(|(_, conn)| {
            conn.dialled && conn.is_half_open() && conn.remote == SocketAddr::new(ip, port)
        });
        let ours: Vec<_> = ours.map(|(key, _)| key).collect();
        for conn in ours {
            self.close(now, conn, CloseReason::Incompatible(Incompatible::OwnId));
        }
    }

    /// What follows from a turn of the reader.
    fn heard(
        &mut self,
        now: Instant,
        conn: ConnKey,
        result: Result<Progress, WireError>,
        fault: Option<CloseReason>,
    ) {
        let torrent = self.conns.get(conn).and_then(Conn::torrent);
        if let Some(torrent) = torrent {
            self.settle(now, torrent);
        }
        match (result, fault) {
            (_, Some(why)) => self.close(now, conn, why),
            (Err(_), None) => {
                self.close(now, conn, CloseReason::Misbehaved(Misbehaved::Malformed));
            }
            (Ok(Progress::Waiting), None) => self.starve(now, conn),
            (Ok(Progress::NeedMore | Progress::Broke), None) => {}
        }
    }

    /// A block has no buffer.
    fn starve(&mut self, now: Instant, conn: ConnKey) {
        if let Some(entry) = self.conns.get_mut(conn) {
            Self::park(entry, conn, &mut self.starved);
        }
        self.free_memory(now);
    }

    /// No buffer is free. If no answer of the disk will free one, an unfinished piece must.
    pub(crate) fn free_memory(&mut self, now: Instant) {
        if self.disk_jobs > 0 {
            return;
        }
        let held = self
            .torrents
            .iter()
            .map(|(key, t)| (t.swarm.blocks_here(), key));
        if let Some((_, key)) = held.max() {
            self.with_swarm(now, key, |swarm, _, out| {
                swarm.spill_largest(out);
            });
        }
    }

    // ---- bytes out

    /// Asks the swarm for the next bytes, if all before are out; true where it was asked.
    fn refill(&mut self, now: Instant, conn: ConnKey, files: &mut dyn FileSource<B>) -> bool {
        let may_upload = self.up.available(now) > 0;
        let Self {
            conns,
            torrents,
            bufs,
            outbox,
            ..
        } = self;
        let Some(entry) = conns.get_mut(conn) else {
            return false;
        };
        let Stage::Live { torrent, peer, .. } = entry.stage else {
            return false;
        };
        if !entry.tx.is_empty() {
            return false;
        }
        let Some(home) = torrents.get_mut(torrent) else {
            return false;
        };
        let mut from = Sources {
            storage: home.storage,
            files,
            takes_files: entry.takes_files(),
            bufs: bufs.as_mut(),
        };
        let control = &mut entry.tx.control;
        let swarm = &mut home.swarm;
        entry.tx.block = swarm.poll_transmit(now, peer, may_upload, control, &mut from, outbox);
        entry.tx.moved = now;
        let payload = entry
            .tx
            .block
            .as_ref()
            .map_or(0, |(range, _)| u64::from(range.len));
        self.up.spend(payload + control.len() as u64);
        if !may_upload && home.swarm.has_block_for(peer) {
            Self::park(entry, conn, &mut self.throttled);
        }
        self.settle(now, torrent);
        true
    }

    /// A block is out; its buffer goes back.
    fn sent(&mut self, now: Instant, conn: ConnKey, payload: Payload<B>) {
        if let Payload::Memory(buf) = payload {
            self.bufs.put(buf);
        }
        let Some((torrent, peer)) = self.conns.get(conn).and_then(Conn::peer) else {
            return;
        };
        self.with_swarm(now, torrent, |swarm, bufs, out| {
            swarm.handle_sent(peer, bufs, out)
        });
        if !self.starved.is_empty() {
            self.bufs_free(torrent);
            self.settle(now, torrent);
        }
    }

    // ---- time

    /// Closes what took too long; wakes what a rate limit held back.
    pub(crate) fn sweep(&mut self, now: Instant) {
        let overdue = self
            .conns
            .iter()
            .filter_map(|(key, conn)| Some((key, overdue(conn, now)?)));
        let overdue: Vec<_> = overdue.collect();
        for (conn, why) in overdue {
            self.close(now, conn, why);
        }
    }

    pub(crate) fn wake_throttled(&mut self) {
        for fetch in self.web_throttled.drain(..) {
            self.actions.push_back(Action::WebWake { fetch });
        }
        // The first takes all there is of a low rate, so it is another one each time.
        let others = self.throttled.len().min(1);
        self.throttled.rotate_left(others);
        for conn in self.throttled.drain(..) {
            if let Some(entry) = self.conns.get_mut(conn) {
                entry.parked = false;
                self.actions.push_back(Action::Wake { conn });
            }
        }
    }
}

fn overdue<B>(conn: &Conn<B>, now: Instant) -> Option<CloseReason> {
    let age = now.since(conn.opened);
    let slow = match conn.stage {
        Stage::Dialling { .. } => (age >= DIAL_TIME).then_some(CloseReason::Transport),
        Stage::Exchange { .. } | Stage::Greeting { .. } => {
            (age >= HANDSHAKE_TIME).then_some(CloseReason::Idle(Idle::Handshake))
        }
        Stage::Live { .. } => None,
    };
    let stuck = !conn.tx.is_empty() && now.since(conn.tx.moved) >= NO_PROGRESS;
    slow.or(stuck.then_some(CloseReason::Idle(Idle::NeverReads)))
}

/// Where payload has bytes.
impl<B: AsRef<[u8]> + AsMut<[u8]>> Node<B> {
    /// Where the next bytes of the connection go; both empty where it may not be read now.
    pub fn read_bufs(&mut self, now: Instant, conn: ConnKey) -> [&mut [u8]; 2] {
        if !self.wants_read(now, conn) {
            return [&mut [], &mut []];
        }
        let allowed = usize::try_from(self.down.available(now)).unwrap_or(usize::MAX);
        let Some(entry) = self.conns.get_mut(conn) else {
            return [&mut [], &mut []];
        };
        match &mut entry.stage {
            Stage::Dialling { .. } => [&mut [], &mut []],
            Stage::Exchange { mse, .. } => [mse.read_buf(), &mut []],
            Stage::Greeting { reader, .. } => [reader.read_buf(), &mut []],
            Stage::Live { reader, .. } => {
                let [first, second] = reader.read_bufs();
                let n = first.len().min(allowed);
                let m = second.len().min(allowed - n);
                // What is offered beyond the limit would be read before its time.
                let m = if n < first.len() { 0 } else { m };
                [&mut first[..n], &mut second[..m]]
            }
        }
    }

    /// `n` bytes, more than none, were put into [`Self::read_bufs`].
    pub fn handle_read(&mut self, now: Instant, conn: ConnKey, n: usize) {
        self.down.spend(n as u64);
        let Some(entry) = self.conns.get_mut(conn) else {
            return;
        };
        match &mut entry.stage {
            Stage::Dialling { .. } => {}
            Stage::Exchange { .. } => self.exchanged(now, conn, n),
            Stage::Greeting { .. } => self.greeted(now, conn, n),
            Stage::Live { reader, .. } => {
                if let Some(ciphers) = &mut entry.ciphers {
                    ciphers.arrived(reader.read_bufs(), n);
                }
                reader.advance(n);
                self.process(now, conn);
            }
        }
    }

    /// Goes on with what was read already: a buffer may be free again.
    pub fn resume(&mut self, now: Instant, conn: ConnKey) {
        let waiting = self
            .conns
            .get(conn)
            .is_some_and(|entry| match &entry.stage {
                Stage::Live { reader, .. } => reader.is_waiting(),
                Stage::Dialling { .. } | Stage::Exchange { .. } | Stage::Greeting { .. } => false,
            });
        if waiting {
            self.process(now, conn);
        }
    }

    fn process(&mut self, now: Instant, conn: ConnKey) {
        let Self {
            conns,
            torrents,
            bufs,
            outbox,
            ..
        } = self;
        let Some(entry) = conns.get_mut(conn) else {
            return;
        };
        let Stage::Live {
            torrent,
            peer,
            reader,
        } = &mut entry.stage
        else {
            return;
        };
        let Some(home) = torrents.get_mut(*torrent) else {
            return;
        };
        let mut cx = home.swarm.peer(now, *peer, bufs.as_mut(), outbox);
        let result = reader.process(&mut cx);
        let fault = cx.fault();
        cx.finish();
        self.heard(now, conn, result, fault);
    }

    /// What to write next; nothing where there is none now, or a limit holds it back. Actions may follow, as
    /// after an input: what is cold is asked of the disk. A block of a file
    /// is offered only where `files` has it, and is to be sent, or kept by [`Self::keep_block`], before
    /// the turn ends.
    pub fn poll_send(
        &mut self,
        now: Instant,
        conn: ConnKey,
        files: &mut dyn FileSource<B>,
    ) -> Outgoing<'_> {
        if self.refill(now, conn, files) {
            self.encrypt(conn);
        }
        let Some(entry) = self.conns.get(conn) else {
            return Outgoing::NOTHING;
        };
        let (control, block) = entry.tx.rest();
        let storage = entry.torrent().and_then(|key| self.torrents.get(key));
        Outgoing {
            control,
            block,
            storage: storage.map_or(StorageId(u64::MAX), |home| home.storage),
        }
    }

    /// The same for who has no files: control bytes, and what is left of a block.
    pub fn write_bufs(&mut self, now: Instant, conn: ConnKey) -> [&[u8]; 2] {
        match self.poll_send(now, conn, &mut NoFiles) {
            Outgoing {
                control,
                block: Rest::Bytes(block),
                ..
            } => [control, block],
            Outgoing {
                control,
                block: Rest::File { .. },
                ..
            } => {
                debug_assert!(false, "who has no files is offered none");
                [control, &[]]
            }
        }
    }

    /// `n` of the bytes of [`Self::poll_send`] were taken, control bytes first.
    pub fn handle_written(&mut self, now: Instant, conn: ConnKey, n: usize) {
        let Some(entry) = self.conns.get_mut(conn) else {
            return;
        };
        if let Some(payload) = entry.tx.advance(n, now) {
            self.sent(now, conn, payload);
        }
    }

    /// The socket took no more in the middle of a block from a file, or before it. The rest is read into
    /// memory while it is there, so that it can be written whatever becomes of the file. False where that
    /// was not possible: the connection is of no more use unless the file is there the next time.
    pub fn keep_block(&mut self, conn: ConnKey, files: &mut dyn FileSource<B>) -> bool {
        let Some(entry) = self.conns.get_mut(conn) else {
            return false;
        };
        let home = entry.torrent().and_then(|key| self.torrents.get(key));
        let (Some(range), Some(home)) = (entry.tx.file_block(), home) else {
            return true;
        };
        let Some(mut buf) = self.bufs.take() else {
            return false;
        };
        if !files.read(home.storage, range, &mut buf) {
            self.bufs.put(buf);
            return false;
        }
        entry.tx.block = Some((range, Payload::Memory(buf)));
        true
    }
}

/// Where payload has none: the same machine, blocks moved whole.
impl<B> Node<B> {
    /// What the connection writes next, all at once. The block is to be given back by
    /// [`Self::handle_frame_sent`].
    pub fn poll_frame(
        &mut self,
        now: Instant,
        conn: ConnKey,
        files: &mut dyn FileSource<B>,
    ) -> Option<Frame<B>> {
        self.refill(now, conn, files);
        let entry = self.conns.get_mut(conn)?;
        if entry.tx.is_empty() {
            return None;
        }
        entry.tx.moved = now;
        let control = std::mem::take(&mut entry.tx.control);
        Some(Frame {
            control,
            block: entry.tx.block.take(),
        })
    }

    /// The block of a frame is through.
    pub fn handle_frame_sent(&mut self, now: Instant, conn: ConnKey, payload: Payload<B>) {
        self.sent(now, conn, payload);
    }

    /// Control bytes arrive, handshake included: takes what it can off the front of `bytes`, up to a
    /// block's payload or a wait for a buffer.
    pub fn handle_bytes(&mut self, now: Instant, conn: ConnKey, bytes: &mut &[u8]) {
        let offered = bytes.len();
        let greeting = |entry: &Conn<B>| {
            matches!(entry.stage, Stage::Exchange { .. } | Stage::Greeting { .. })
        };
        while !bytes.is_empty() && self.conns.get(conn).is_some_and(greeting) {
            self.greet(now, conn, bytes);
        }
        // A handshake is always heard; what came with it keeps to the rate, as a socket's bytes would.
        self.down.spend((offered - bytes.len()) as u64);
        if offered > bytes.len() && !self.wants_read(now, conn) {
            return;
        }
        let offered = bytes.len();
        let Self {
            conns,
            torrents,
            bufs,
            outbox,
            ..
        } = self;
        let Some(entry) = conns.get_mut(conn) else {
            return;
        };
        let Stage::Live {
            torrent,
            peer,
            reader,
        } = &mut entry.stage
        else {
            return;
        };
        let Some(home) = torrents.get_mut(*torrent) else {
            return;
        };
        if bytes.is_empty() && !reader.is_waiting() {
            return;
        }
        let mut cx = home.swarm.peer(now, *peer, bufs.as_mut(), outbox);
        let result = reader.feed(bytes, &mut cx);
        self.down.spend((offered - bytes.len()) as u64);
        let fault = cx.fault();
        cx.finish();
        self.heard(now, conn, result, fault);
    }

    /// The block whose payload is due on the connection.
    #[must_use]
    pub fn block_due(&self, conn: ConnKey) -> Option<RawBlock> {
        match &self.conns.get(conn)?.stage {
            Stage::Live { reader, .. } => reader.block_in_progress(),
            Stage::Dialling { .. } | Stage::Exchange { .. } | Stage::Greeting { .. } => None,
        }
    }

    /// The payload that is due arrives, all at once. `fill` gets the block it lands in, or `None` where
    /// nobody wants it.
    pub fn handle_payload(
        &mut self,
        now: Instant,
        conn: ConnKey,
        fill: impl FnOnce(Option<&mut B>),
    ) {
        let due = self.block_due(conn).map_or(0, |raw| u64::from(raw.len));
        self.down.spend(due);
        let Self {
            conns,
            torrents,
            bufs,
            outbox,
            ..
        } = self;
        let Some(entry) = conns.get_mut(conn) else {
            return;
        };
        let Stage::Live {
            torrent,
            peer,
            reader,
        } = &mut entry.stage
        else {
            return;
        };
        let Some(home) = torrents.get_mut(*torrent) else {
            return;
        };
        let mut cx = home.swarm.peer(now, *peer, bufs.as_mut(), outbox);
        let result = reader.finish_block_with(fill, &mut cx);
        let fault = cx.fault();
        cx.finish();
        self.heard(now, conn, result, fault);
    }

    /// The peer behind a connection, once its handshake is through.
    #[must_use]
    pub fn peer_of(&self, conn: ConnKey) -> Option<(TorrentKey, PeerKey)> {
        self.conns.get(conn)?.peer()
    }
}
