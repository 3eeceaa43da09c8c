//! One connection: how far it has come, and what waits to be written to it.

use std::net::{IpAddr, SocketAddr};

use torr_base::{Instant, RawBlock};
use torr_store::Payload;
use torr_swarm::PeerKey;
use torr_wire::{HandshakeReader, MseHandshake, WireReader};

use crate::encryption::Ciphers;
use crate::types::TorrentKey;

#[derive(Debug)]
pub(crate) struct Conn<B> {
    pub(crate) remote: SocketAddr,
    pub(crate) dialled: bool,
    pub(crate) stage: Stage<B>,
    pub(crate) opened: Instant,
    pub(crate) tx: Tx<B>,
    /// After an encrypted handshake.
    pub(crate) ciphers: Option<Box<Ciphers>>,
    /// On the list of those that wait for a buffer, or for a rate limit.
    pub(crate) parked: bool,
}

#[derive(Debug)]
pub(crate) enum Stage<B> {
    Dialling {
        torrent: TorrentKey,
        /// How it will be greeted.
        plain: bool,
    },
    /// Keys are exchanged; the handshake proper comes after it. `torrent` is known where we dialled.
    Exchange {
        torrent: Option<TorrentKey>,
        mse: Box<MseHandshake>,
    },
    /// `torrent` is known where we dialled, or once 48 bytes were heard.
    Greeting {
        torrent: Option<TorrentKey>,
        reader: HandshakeReader,
    },
    Live {
        torrent: TorrentKey,
        peer: PeerKey,
        reader: WireReader<B>,
    },
}

impl<B> Conn<B> {
    pub(crate) fn torrent(&self) -> Option<TorrentKey> {
        match &self.stage {
            Stage::Dialling { torrent, .. } | Stage::Live { torrent, .. } => Some(*torrent),
            Stage::Exchange { torrent, .. } | Stage::Greeting { torrent, .. } => *torrent,
        }
    }

    pub(crate) fn peer(&self) -> Option<(TorrentKey, PeerKey)> {
        match &self.stage {
            Stage::Live { torrent, peer, .. } => Some((*torrent, *peer)),
            Stage::Dialling { .. } | Stage::Exchange { .. } | Stage::Greeting { .. } => None,
        }
    }

    /// Whether bytes of a file may go to it as they are. So it is while nothing but plain TCP is spoken:
    /// where something encrypts, or cuts into datagrams, every byte has to pass through memory.
    pub(crate) fn takes_files(&self) -> bool {
        self.ciphers.as_ref().is_none_or(|c| c.outgoing.is_none())
    }

    pub(crate) fn is_half_open(&self) -> bool {
        !matches!(self.stage, Stage::Live { .. })
    }
}

/// What is being written: control bytes, then at most one block. Refilled only when both are out, so
/// a peer that does not read holds one block and what its swarm has queued.
#[derive(Debug)]
pub(crate) struct Tx<B> {
    pub(crate) control: Vec<u8>,
    pub(crate) control_sent: usize,
    pub(crate) block: Option<(RawBlock, Payload<B>)>,
    pub(crate) block_sent: usize,
    /// When something last got out, or came in while nothing waited.
    pub(crate) moved: Instant,
}

impl<B> Tx<B> {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            control: Vec::new(),
            control_sent: 0,
            block: None,
            block_sent: 0,
            moved: now,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.control_sent == self.control.len() && self.block.is_none()
    }

    /// What is not out yet: control bytes, then what is left of the block.
    pub(crate) fn rest(&self) -> (&[u8], Rest<'_>)
    where
        B: AsRef<[u8]>,
    {
        let control = self.control.get(self.control_sent..).unwrap_or_default();
        let block = match &self.block {
            None => Rest::Bytes(&[]),
            Some((range, Payload::Memory(buf))) => {
                let payload = buf.as_ref().get(self.block_sent..range.len as usize);
                Rest::Bytes(payload.expect("a buffer holds its block"))
            }
            Some((range, Payload::File)) => Rest::File {
                range: *range,
                from: self.block_sent as u32,
            },
        };
        (control, block)
    }

    /// The block that is being sent from its file.
    pub(crate) fn file_block(&self) -> Option<RawBlock> {
        match &self.block {
            Some((range, Payload::File)) => Some(*range),
            Some((_, Payload::Memory(_))) | None => None,
        }
    }

    /// `n` bytes got out; the block's payload, once all of it did.
    pub(crate) fn advance(&mut self, n: usize, now: Instant) -> Option<Payload<B>> {
        self.moved = now;
        let control = n.min(self.control.len() - self.control_sent);
        self.control_sent += control;
        if self.control_sent == self.control.len() {
            self.control.clear();
            self.control_sent = 0;
        }
        self.block_sent += n - control;
        let whole = self.block.as_ref().is_some_and(|(range, _)| {
            debug_assert!(
                self.block_sent <= range.len as usize,
                "more was written than offered"
            );
            self.block_sent >= range.len as usize
        });
        if !whole {
            return None;
        }
        self.block_sent = 0;
        self.block.take().map(|(_, payload)| payload)
    }
}

/// What is left to be written of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest<'a> {
    /// These bytes; none where no block is being written.
    Bytes(&'a [u8]),
    /// This range as it lies in its file, but for its first `from` bytes, which are out.
    File { range: RawBlock, from: u32 },
}

/// The network that an address counts for where connections per network are limited: /24 or /64, and
/// for IPv6 the /48 as well. `None` for loopback and private ranges, which are not limited.
pub(crate) fn prefixes(ip: IpAddr) -> Option<(u64, u64)> {
    match ip {
        IpAddr::V4(v4) => {
            let own = v4.is_loopback() || v4.is_private() || v4.is_link_local();
            let net = u64::from(v4.to_bits() >> 8);
            (!own).then_some((net, net))
        }
        IpAddr::V6(v6) => {
            if let Some(v4) = v6.to_ipv4_mapped() {
                return prefixes(IpAddr::V4(v4));
            }
            let own = v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local();
            let net = (v6.to_bits() >> 64) as u64;
            // A bit that no /24 has keeps the two families apart.
            (!own).then_some((net | 1 << 63, net >> 16 | 1 << 63))
        }
    }
}
