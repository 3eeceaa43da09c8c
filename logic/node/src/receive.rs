//! Bytes in: where they go, and what they say.

use torr_base::Instant;
use torr_swarm::{ConnKey, PeerCx};
use torr_wire::{Progress, ReadBufs, WireError, WireReader};

use crate::conn::Stage;
use crate::node::Node;

/// Where payload has bytes.
impl<B: AsRef<[u8]> + AsMut<[u8]>> Node<B> {
    /// Where the next bytes of the connection go; nowhere where it may not be read now. Where nothing comes,
    /// [`Self::handle_read`] is to be told that too: a fast peer's buffers are ready for what it owes.
    pub fn read_bufs(&mut self, now: Instant, conn: ConnKey) -> ReadBufs<'_, B> {
        let nowhere = || ReadBufs::plain([&mut [], &mut []]);
        if !self.wants_read(now, conn) {
            return nowhere();
        }
        let allowed = usize::try_from(self.down.available(now)).unwrap_or(usize::MAX);
        let limited = self.down.rate().is_some();
        let Self {
            conns,
            torrents,
            bufs,
            ..
        } = self;
        let Some(entry) = conns.get_mut(conn) else {
            return nowhere();
        };
        match &mut entry.stage {
            Stage::Dialling { .. } => nowhere(),
            Stage::Exchange { mse, .. } => ReadBufs::plain([mse.read_buf(), &mut []]),
            Stage::Greeting { reader, .. } => ReadBufs::plain([reader.read_buf(), &mut []]),
            Stage::Live {
                torrent,
                peer,
                reader,
            } => {
                if let Some(home) = torrents.get(*torrent)
                    && !limited
                    && reader.may_expect()
                {
                    // What comes instead has to find a buffer too.
                    let some = bufs.free() / 2;
                    let due = reader.block_in_progress();
                    for raw in home.swarm.expected(*peer, due).take(some) {
                        let Some(buf) = bufs.take() else { break };
                        reader.expect(raw, buf);
                    }
                }
                // What is offered beyond the limit would be read before its time.
                reader.read_bufs().limit(allowed)
            }
        }
    }

    /// `n` bytes were put into [`Self::read_bufs`]; 0 where there were none.
    pub fn handle_read(&mut self, now: Instant, conn: ConnKey, n: usize) {
        self.down.spend(n as u64);
        let Some(entry) = self.conns.get_mut(conn) else {
            return;
        };
        if n == 0 {
            if let Stage::Live { reader, .. } = &mut entry.stage {
                while let Some(buf) = reader.take_expected() {
                    self.bufs.put(buf);
                }
            }
            return;
        }
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
        if self.is_waiting(conn) {
            self.process(now, conn);
        }
    }

    fn process(&mut self, now: Instant, conn: ConnKey) {
        self.hear(now, conn, |reader, peer| reader.process(peer));
    }
}

impl<B> Node<B> {
    /// Whether a block that has begun to arrive waits for a buffer.
    pub(crate) fn is_waiting(&self, conn: ConnKey) -> bool {
        let entry = self.conns.get(conn);
        entry.is_some_and(|entry| match &entry.stage {
            Stage::Live { reader, .. } => reader.is_waiting(),
            Stage::Dialling { .. } | Stage::Exchange { .. } | Stage::Greeting { .. } => false,
        })
    }

    /// Lets the reader of a connection whose handshake is through say something to its peer in the swarm, and does
    /// what follows from it.
    pub(crate) fn hear(
        &mut self,
        now: Instant,
        conn: ConnKey,
        turn: impl FnOnce(&mut WireReader<B>, &mut PeerCx<'_, B>) -> Result<Progress, WireError>,
    ) {
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
        let result = turn(reader, &mut cx);
        let fault = cx.fault();
        cx.finish();
        self.heard(now, conn, result, fault);
    }
}
