//! What a peer says before the torrent's metadata is known: it cannot be checked yet, and is kept as it
//! came, within bounds.
//!
//! A bitfield comes first or not at all (BEP 3), so who dropped it would have to connect again. A torrent
//! whose metadata fits its limit has no more than [`METADATA_PIECES_MAX`] pieces: that bounds one bitfield,
//! and [`CLAIMS_BYTES_MAX`] all of them.

use torr_base::{Bitfield, PieceIndex};
use torr_wire::METADATA_PIECES_MAX;

use crate::action::{Misbehaved, PeerKey};
use crate::peer::PeerCx;
use crate::peer::inbound::{ALLOWED_FAST_MAX, VAIN_MAX};
use crate::swarm::Swarm;

/// Bytes that all peers together may claim to have pieces with: sixty bitfields of half a million pieces.
const CLAIMS_BYTES_MAX: usize = 4 << 20;

/// What a peer says that it has, of a torrent about which nothing is known.
#[derive(Debug, Default)]
pub(crate) enum Claim {
    #[default]
    Nothing,
    All,
    /// As in a `bitfield`. `whole`: how many bytes that had, if one came.
    Bits {
        bits: Vec<u8>,
        whole: Option<usize>,
    },
    /// There was no room for it: to be heard again on a new connection.
    Lost,
}

impl Claim {
    fn bytes(&self) -> usize {
        match self {
            Self::Bits { bits, .. } => bits.len(),
            Self::Nothing | Self::All | Self::Lost => 0,
        }
    }

    fn add(&mut self, new: &[u8], at: usize, is_whole: bool) {
        match self {
            Self::All | Self::Lost => {}
            Self::Nothing => {
                *self = Self::Bits {
                    bits: Vec::new(),
                    whole: None,
                };
                self.add(new, at, is_whole);
            }
            Self::Bits { bits, whole } => {
                let end = at + new.len();
                if bits.len() < end {
                    bits.resize(end, 0);
                }
                for (to, from) in bits.iter_mut().skip(at).zip(new) {
                    *to |= from;
                }
                if is_whole {
                    *whole = Some(new.len());
                }
            }
        }
    }

    /// What it means for a torrent of so many pieces; `None` where it was lost.
    fn settle(self, pieces: u32) -> Result<Option<Bitfield>, Misbehaved> {
        match self {
            Self::Nothing => Ok(Some(Bitfield::new(pieces))),
            Self::All => Ok(Some(Bitfield::full(pieces))),
            Self::Lost => Ok(None),
            Self::Bits { mut bits, whole } => {
                let len = pieces.div_ceil(8) as usize;
                if whole.is_some_and(|whole| whole != len) || bits.len() > len {
                    return Err(Misbehaved::Bitfield);
                }
                bits.resize(len, 0);
                let field = Bitfield::from_bytes(&bits, pieces);
                field.map(Some).map_err(|_| Misbehaved::Bitfield)
            }
        }
    }
}

impl<B> PeerCx<'_, B> {
    pub(super) fn early_all(&mut self) -> Result<(), Misbehaved> {
        if let Some(peer) = self.swarm.peers.get_mut(self.key) {
            peer.claim = Claim::All;
        }
        Ok(())
    }

    pub(super) fn early_have(&mut self, piece: u32) -> Result<(), Misbehaved> {
        if piece >= METADATA_PIECES_MAX {
            return Err(Misbehaved::PieceOutOfRange);
        }
        let bit = 0x80 >> (piece % 8);
        self.early_bits(&[bit], piece as usize / 8, false)
    }

    /// BEP 54.
    pub(crate) fn early_dont_have(&mut self, piece: u32) -> Result<(), Misbehaved> {
        self.count_have(METADATA_PIECES_MAX / 2)?;
        if let Some(peer) = self.swarm.peers.get_mut(self.key) {
            match &mut peer.claim {
                Claim::Nothing | Claim::Lost => {}
                // All but one cannot be said without knowing how many there are.
                Claim::All => peer.claim = Claim::Lost,
                Claim::Bits { bits, .. } => {
                    if let Some(byte) = bits.get_mut(piece as usize / 8) {
                        *byte &= !(0x80 >> (piece % 8));
                    }
                }
            }
            let piece = PieceIndex::new(piece);
            peer.fast_for_us.retain(|fast| *fast != piece);
        }
        Ok(())
    }

    pub(super) fn early_bits(
        &mut self,
        bits: &[u8],
        at: usize,
        is_whole: bool,
    ) -> Result<(), Misbehaved> {
        let others = self.swarm.peers.iter().filter(|(key, _)| *key != self.key);
        let others: usize = others.map(|(_, peer)| peer.claim.bytes()).sum();
        let Some(peer) = self.swarm.peers.get_mut(self.key) else {
            return Ok(());
        };
        peer.haves_heard += 1;
        if peer.haves_heard > METADATA_PIECES_MAX {
            return Err(Misbehaved::HaveFlood);
        }
        if others + peer.claim.bytes().max(at + bits.len()) > CLAIMS_BYTES_MAX {
            peer.claim = Claim::Lost;
        } else {
            peer.claim.add(bits, at, is_whole);
        }
        Ok(())
    }

    /// Nothing was asked of it.
    pub(super) fn early_reject(&mut self) -> Result<(), Misbehaved> {
        let Some(peer) = self.swarm.peers.get_mut(self.key) else {
            return Ok(());
        };
        peer.vain += 1;
        match peer.vain > VAIN_MAX {
            true => Err(Misbehaved::CancelFlood),
            false => Ok(()),
        }
    }

    pub(super) fn early_fast(&mut self, piece: u32) -> Result<(), Misbehaved> {
        if piece >= METADATA_PIECES_MAX {
            return Err(Misbehaved::PieceOutOfRange);
        }
        let Some(peer) = self.swarm.peers.get_mut(self.key) else {
            return Ok(());
        };
        let piece = PieceIndex::new(piece);
        if peer.fast_for_us.len() < ALLOWED_FAST_MAX && !peer.fast_for_us.contains(&piece) {
            peer.fast_for_us.push(piece);
        }
        Ok(())
    }
}

impl<B> Swarm<B> {
    /// Now that the pieces are known: understands what a peer said of them. False where that has to be
    /// heard again.
    ///
    /// # Errors
    /// Where it cannot be true.
    pub(crate) fn settle_early(&mut self, key: PeerKey) -> Result<bool, Misbehaved> {
        let pieces = self.geometry.piece_count();
        let Some(peer) = self.peers.get_mut(key) else {
            return Ok(true);
        };
        peer.have = Bitfield::new(pieces);
        peer.haves_heard = 0;
        if peer.fast_for_us.iter().any(|piece| piece.get() >= pieces) {
            peer.fast_for_us.clear();
            return Err(Misbehaved::PieceOutOfRange);
        }
        let claim = std::mem::take(&mut peer.claim);
        let Some(have) = claim.settle(pieces)? else {
            return Ok(false);
        };
        self.set_peer_have(key, have);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bits(claim: Claim, pieces: u32) -> Result<Vec<u8>, Misbehaved> {
        let field = claim.settle(pieces)?;
        Ok(field.map_or_else(Vec::new, |field| field.to_bytes()))
    }

    #[test]
    fn haves_and_bitfields_add_up() {
        let mut claim = Claim::default();
        claim.add(&[0x80], 1, false);
        claim.add(&[0x40, 0x01], 0, true);
        assert_eq!(claim.bytes(), 2);
        assert_eq!(bits(claim, 16), Ok(vec![0x40, 0x81]));
        assert_eq!(bits(Claim::default(), 9), Ok(vec![0, 0]));
        assert_eq!(bits(Claim::All, 9), Ok(vec![0xff, 0x80]));
        assert_eq!(Claim::Lost.settle(9), Ok(None));
    }

    #[test]
    fn what_the_torrent_does_not_have_is_found_out_in_the_end() {
        let claim = |new: &[u8], at, whole| {
            let mut claim = Claim::default();
            claim.add(new, at, whole);
            claim
        };
        // Too short, too long, spare bits; a `have` past the end.
        assert_eq!(bits(claim(&[0xff], 0, true), 9), Err(Misbehaved::Bitfield));
        assert_eq!(
            bits(claim(&[0, 0, 0], 0, true), 9),
            Err(Misbehaved::Bitfield)
        );
        assert_eq!(
            bits(claim(&[0, 0x40], 0, true), 9),
            Err(Misbehaved::Bitfield)
        );
        assert_eq!(bits(claim(&[0x80], 2, false), 9), Err(Misbehaved::Bitfield));
        assert_eq!(bits(claim(&[0x80], 1, false), 9), Ok(vec![0, 0x80]));
    }
}
