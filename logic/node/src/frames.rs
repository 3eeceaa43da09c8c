//! The node in a world where payload has no bytes: the same machine, blocks moved whole.

use torr_base::{Instant, RawBlock};
use torr_store::{FileSource, Payload};
use torr_swarm::ConnKey;

use crate::conn::{Conn, Stage};
use crate::node::Node;
use crate::types::Frame;

impl<B> Node<B> {
    /// What the connection writes next, all at once. The block is to be given back by
    /// [`Self::handle_frame_sent`].
    pub fn poll_frame(
        &mut self,
        now: Instant,
        conn: ConnKey,
        files: &mut dyn FileSource<B>,
    ) -> Option<Frame<B>> {
        self.refill(now, conn, 0, files);
        let entry = self.conns.get_mut(conn)?;
        if entry.tx.is_empty() {
            return None;
        }
        entry.tx.moved = now;
        let (control, block) = entry.tx.take();
        Some(Frame { control, block })
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
        if offered > 0 || self.is_waiting(conn) {
            self.hear(now, conn, |reader, peer| reader.feed(bytes, peer));
            self.down.spend((offered - bytes.len()) as u64);
        }
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
        self.hear(now, conn, |reader, peer| {
            reader.finish_block_with(fill, peer)
        });
    }
}
