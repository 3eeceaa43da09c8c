//! One connection: how far it has come, and what waits to be written to it.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use torr_base::{Instant, RawBlock, is_near};
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

/// What is being written: control bytes and blocks in turn. Refilled only when all of it is out, so a peer
/// that does not read holds what one turn may send, and what its swarm has queued.
#[derive(Debug)]
pub(crate) struct Tx<B> {
    /// Of all parts, one after another, and what follows the last one.
    pub(crate) control: Vec<u8>,
    control_sent: usize,
    parts: VecDeque<Part<B>>,
    /// Bytes of the first part's block that are out.
    block_sent: usize,
    /// When something last got out, or came in while nothing waited.
    pub(crate) moved: Instant,
}

/// A block, and where the control bytes before it end.
#[derive(Debug)]
struct Part<B> {
    control_end: usize,
    range: RawBlock,
    payload: Payload<B>,
}

impl<B> Tx<B> {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            control: Vec::new(),
            control_sent: 0,
            parts: VecDeque::new(),
            block_sent: 0,
            moved: now,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.control_sent == self.control.len() && self.parts.is_empty()
    }

    /// A block goes out after the control bytes that are there.
    pub(crate) fn push(&mut self, (range, payload): (RawBlock, Payload<B>)) {
        self.parts.push_back(Part {
            control_end: self.control.len(),
            range,
            payload,
        });
    }

    /// Everything at once, where it is no more than one block.
    pub(crate) fn take(&mut self) -> (Vec<u8>, Option<(RawBlock, Payload<B>)>) {
        debug_assert!(self.parts.len() <= 1 && self.control_sent == 0);
        let part = self.parts.pop_front();
        let block = part.map(|part| (part.range, part.payload));
        (std::mem::take(&mut self.control), block)
    }

    /// What of the control bytes comes before the first block, and is not out yet.
    fn first_control(&self) -> &[u8] {
        let end = self.parts.front().map(|part| part.control_end);
        let end = end.unwrap_or(self.control.len());
        self.control.get(self.control_sent..end).unwrap_or_default()
    }

    /// What is not out yet: control bytes, then what is left of the first block.
    pub(crate) fn rest(&self) -> (&[u8], Rest<'_>)
    where
        B: AsRef<[u8]>,
    {
        let block = match self.parts.front() {
            None => Rest::Bytes(&[]),
            Some(part) => match &part.payload {
                Payload::Memory(buf) => {
                    let payload = buf.as_ref().get(self.block_sent..part.range.len as usize);
                    Rest::Bytes(payload.expect("a buffer holds its block"))
                }
                Payload::File => Rest::File {
                    range: part.range,
                    from: self.block_sent as u32,
                },
            },
        };
        (self.first_control(), block)
    }

    /// All that is not out yet, up to a block that is in its file: control bytes and block in turn.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = [&[u8]; 2]>
    where
        B: AsRef<[u8]>,
    {
        let first = match self.rest() {
            (control, Rest::Bytes(block)) => Some([control, block]),
            (_, Rest::File { .. }) => None,
        };
        let begins = self.parts.iter().map(|part| part.control_end);
        let rest = begins.zip(self.parts.iter().skip(1));
        let rest = rest.map_while(|(begin, part)| match &part.payload {
            Payload::Memory(buf) => {
                let control = self.control.get(begin..part.control_end);
                let block = buf.as_ref().get(..part.range.len as usize);
                Some([control.unwrap_or_default(), block.unwrap_or_default()])
            }
            Payload::File => None,
        });
        let in_memory = first.is_some();
        first.into_iter().chain(rest.take_while(move |_| in_memory))
    }

    /// Every byte that waits, in the order in which it goes out. Nothing of it may be out yet.
    pub(crate) fn each(&mut self, mut change: impl FnMut(&mut [u8]))
    where
        B: AsMut<[u8]>,
    {
        debug_assert!(self.control_sent == 0 && self.block_sent == 0);
        let mut rest = self.control.as_mut_slice();
        let mut begin = 0;
        for part in &mut self.parts {
            let (control, later) = rest.split_at_mut(part.control_end - begin);
            (rest, begin) = (later, part.control_end);
            change(control);
            if let Payload::Memory(buf) = &mut part.payload {
                let payload = buf.as_mut().get_mut(..part.range.len as usize);
                change(payload.expect("a buffer holds its block"));
            }
        }
        change(rest);
    }

    /// The first block, if it is being sent from its file.
    pub(crate) fn file_block(&self) -> Option<RawBlock> {
        let part = self.parts.front()?;
        match part.payload {
            Payload::File => Some(part.range),
            Payload::Memory(_) => None,
        }
    }

    /// The first block is in memory now.
    pub(crate) fn keep(&mut self, buf: B) {
        if let Some(part) = self.parts.front_mut() {
            part.payload = Payload::Memory(buf);
        }
    }

    /// Blocks in memory.
    pub(crate) fn blocks_held(&self) -> usize {
        let parts = self.parts.iter();
        parts
            .filter(|part| matches!(part.payload, Payload::Memory(_)))
            .count()
    }

    /// All of it is thrown away; the buffers.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Payload<B>> {
        self.parts.drain(..).map(|part| part.payload)
    }

    /// Up to `n` bytes got out, which counts down; the first block's payload, once all of it did.
    pub(crate) fn advance(&mut self, n: &mut usize, now: Instant) -> Option<Payload<B>> {
        self.moved = now;
        let control = (*n).min(self.first_control().len());
        self.control_sent += control;
        *n -= control;
        let payload = self.advance_block(n);
        if self.is_empty() {
            self.control.clear();
            self.control_sent = 0;
        }
        payload
    }

    fn advance_block(&mut self, n: &mut usize) -> Option<Payload<B>> {
        let len = self.parts.front()?.range.len as usize;
        let block = (*n).min(len - self.block_sent);
        self.block_sent += block;
        *n -= block;
        if self.block_sent < len || !self.first_control().is_empty() {
            return None;
        }
        self.block_sent = 0;
        self.parts.pop_front().map(|part| part.payload)
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
    let ip = ip.to_canonical();
    if is_near(ip) {
        return None;
    }
    Some(match ip {
        IpAddr::V4(v4) => {
            let net = u64::from(v4.to_bits() >> 8);
            (net, net)
        }
        IpAddr::V6(v6) => {
            let net = (v6.to_bits() >> 64) as u64;
            // A bit that no /24 has keeps the two families apart.
            (net | 1 << 63, net >> 16 | 1 << 63)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENS: [u32; 3] = [700, 16_384, 3];

    /// Control bytes and blocks in turn, and all of it in a row.
    fn filled() -> (Tx<Vec<u8>>, Vec<u8>) {
        let (mut tx, mut all) = (Tx::new(Instant::ZERO), Vec::new());
        for (n, len) in (0..).zip(LENS) {
            let control = vec![n; 13 + usize::from(n)];
            let buf: Vec<u8> = (0..len).map(|at| at as u8 ^ 0x80 ^ n).collect();
            all.extend_from_slice(&control);
            all.extend_from_slice(&buf);
            tx.control.extend_from_slice(&control);
            let range = RawBlock {
                piece: u32::from(n),
                offset: 0,
                len,
            };
            tx.push((range, Payload::Memory(buf)));
        }
        tx.control.extend_from_slice(b"the end");
        all.extend_from_slice(b"the end");
        (tx, all)
    }

    #[test]
    fn whatever_the_socket_takes_the_bytes_stay_in_order() {
        for step in [1, 5, 13, 700, 713, 714, 16_000, 40_000] {
            let (mut tx, all) = filled();
            let (mut sent, mut blocks) = (Vec::new(), 0);
            while !tx.is_empty() {
                let waiting: Vec<u8> = tx.waiting().flatten().flatten().copied().collect();
                assert!(all[sent.len()..].starts_with(&waiting) && !waiting.is_empty());
                let mut n = waiting.len().min(step);
                sent.extend_from_slice(&waiting[..n]);
                while tx.advance(&mut n, Instant::ZERO).is_some() {
                    blocks += 1;
                }
                assert_eq!(n, 0, "{step}");
            }
            assert!(sent == all, "{step}");
            assert_eq!((blocks, tx.control.len()), (LENS.len(), 0));
        }
    }

    #[test]
    fn each_byte_is_changed_once_and_in_order() {
        let (mut tx, all) = filled();
        let mut seen = Vec::new();
        tx.each(|bytes| {
            seen.extend_from_slice(bytes);
            bytes.iter_mut().for_each(|byte| *byte ^= 0xff);
        });
        assert!(seen == all);
        let waiting: Vec<u8> = tx.waiting().flatten().flatten().map(|b| b ^ 0xff).collect();
        assert!(all.starts_with(&waiting));
    }

    #[test]
    fn what_is_in_a_file_ends_what_is_written_together() {
        let (mut tx, all) = filled();
        if let Some(part) = tx.parts.get_mut(1) {
            part.payload = Payload::File;
        }
        let waiting: Vec<u8> = tx.waiting().flatten().flatten().copied().collect();
        assert_eq!(waiting.len(), 13 + 700);
        let mut n = waiting.len();
        assert!(tx.advance(&mut n, Instant::ZERO).is_some());
        assert_eq!(tx.waiting().count(), 0);
        assert_eq!(tx.file_block().map(|range| range.len), Some(16_384));
        tx.keep(all[713 + 14..][..16_384].to_vec());
        let rest: Vec<u8> = tx.waiting().flatten().flatten().copied().collect();
        assert!(all[713..].starts_with(&rest) && rest.len() > 16_384);
    }
}
