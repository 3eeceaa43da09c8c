//! Connections that are there: messages in, bytes out, and their end.

use std::time::Duration;

use torr_base::Instant;
use torr_store::{FileSource, NoFiles, Payload, StorageId};
use torr_swarm::{CloseReason, ConnKey, Idle, Misbehaved, PeerKey, Sources};
use torr_wire::{Progress, WireError};

use crate::conn::{Conn, Rest, Stage};
use crate::encryption::Redial;
use crate::node::Node;
use crate::types::{Action, Outgoing, TorrentKey};

/// From the accept or the connect to the end of the handshake.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// From the dial to the connect.
const DIAL_TIME: Duration = Duration::from_secs(10);
/// Bytes of blocks that are offered to one write.
const TOGETHER: usize = 512 * 1024;
/// A peer that takes nothing of what waits for it so long is gone or means harm.
const NO_PROGRESS: Duration = Duration::from_secs(30);

impl<B> Node<B> {
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

    /// The peer behind a connection, once its handshake is through.
    #[must_use]
    pub fn peer_of(&self, conn: ConnKey) -> Option<(TorrentKey, PeerKey)> {
        self.conns.get(conn)?.peer()
    }

    /// Removes the entry and gives its buffers back.
    pub(crate) fn drop_conn(&mut self, conn: ConnKey) {
        let Some(mut entry) = self.conns.remove(conn) else {
            return;
        };
        if entry.is_half_open() {
            self.half_open -= 1;
        }
        let mut landing = None;
        if let Stage::Live { reader, .. } = &mut entry.stage {
            landing = reader.take_block();
            while let Some(buf) = reader.take_expected() {
                self.bufs.put(buf);
            }
        }
        let sending = entry.tx.drain().filter_map(|payload| match payload {
            Payload::Memory(buf) => Some(buf),
            Payload::File => None,
        });
        for buf in landing.into_iter().chain(sending) {
            self.bufs.put(buf);
        }
        self.starved.retain(|other| *other != conn);
        self.throttled.retain(|other| *other != conn);
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

    pub(crate) fn park(entry: &mut Conn<B>, conn: ConnKey, list: &mut Vec<ConnKey>) {
        if !entry.parked {
            entry.parked = true;
            list.push(conn);
        }
    }

    /// What follows from a turn of the reader.
    pub(crate) fn heard(
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

    /// Asks the swarm for the next bytes, if all before are out; true where it was asked. Blocks that are in
    /// memory already go out together, up to `together` bytes: every write costs the same.
    pub(crate) fn refill(
        &mut self,
        now: Instant,
        conn: ConnKey,
        together: usize,
        files: &mut dyn FileSource<B>,
    ) -> bool {
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
        let swarm = &mut home.swarm;
        let (mut may, mut bytes) = (may_upload, 0);
        loop {
            let control = &mut entry.tx.control;
            let before = control.len();
            let block = swarm.poll_transmit(now, peer, may, control, &mut from, outbox);
            let payload = block.as_ref().map_or(0, |(range, _)| range.len as usize);
            bytes += payload;
            self.up.spend((payload + control.len() - before) as u64);
            if let Some(block) = block {
                entry.tx.push(block);
            }
            may = self.up.available(now) > 0;
            if payload == 0 || !may || bytes >= together || !swarm.has_ready_for(peer) {
                break;
            }
        }
        entry.tx.moved = now;
        if !may_upload && home.swarm.has_block_for(peer) {
            Self::park(entry, conn, &mut self.throttled);
        }
        self.settle(now, torrent);
        true
    }

    /// A block is out; its buffer goes back.
    pub(crate) fn sent(&mut self, now: Instant, conn: ConnKey, payload: Payload<B>) {
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
        if self.refill(now, conn, TOGETHER, files) {
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

    /// What [`Self::poll_send`] just gave and all that may be written with it: control bytes and block in turn.
    /// Nothing where it gave a block in its file.
    pub fn waiting(&self, conn: ConnKey) -> impl Iterator<Item = [&[u8]; 2]> {
        let entry = self.conns.get(conn);
        entry.into_iter().flat_map(|entry| entry.tx.waiting())
    }

    /// `n` of the bytes of [`Self::poll_send`] or [`Self::waiting`] were taken, in that order.
    pub fn handle_written(&mut self, now: Instant, conn: ConnKey, mut n: usize) {
        while let Some(entry) = self.conns.get_mut(conn) {
            let Some(payload) = entry.tx.advance(&mut n, now) else {
                debug_assert_eq!(n, 0, "more was written than offered");
                return;
            };
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
        entry.tx.keep(buf);
        true
    }
}
