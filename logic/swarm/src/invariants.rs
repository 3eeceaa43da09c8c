//! What must be true of a swarm between any two inputs.

use crate::metadata::Metadata;
use crate::peer::requests::DEPTH_MAX;
use crate::swarm::{Phase, Swarm};

impl<B> Swarm<B> {
    /// Blocks in unfinished pieces and in upload queues.
    #[must_use]
    pub fn blocks_held(&self) -> usize {
        let ready = self.peers.values().map(|peer| peer.upload.ready());
        self.assembly.here() + ready.sum::<usize>() + self.web.landing()
    }

    /// Panics where the swarm contradicts itself. For the simulator and the fuzzers, after every event.
    pub fn check_invariants(&self) {
        self.assembly.check_invariants();
        self.picker.availability.check_invariants();
        self.dialer.check_invariants();
        if let Metadata::Wanted(fetch) = &self.metadata {
            fetch.check_invariants();
        }
        assert!(self.metadata.is_known() || self.geometry.piece_count() == 0);
        let reserved: Vec<_> = self.web.reserved().collect();
        let distinct: std::collections::BTreeSet<_> = reserved.iter().copied().collect();
        assert_eq!(reserved.len(), distinct.len(), "reserved twice");
        for piece in self.geometry.pieces() {
            let open = self.assembly.is_open(piece);
            let candidate = self.picker.availability.is_candidate(piece);
            assert!(!(open && candidate), "{piece:?} is open and may be opened");
            let reserved = distinct.contains(&piece);
            assert!(
                !(reserved && (open || candidate || !self.wants(piece))),
                "{piece:?} is left to a web seed and to others"
            );
            assert!(
                !(self.have.get(piece) && (open || candidate)),
                "{piece:?} is had and fetched"
            );
            if self.wants(piece) && self.phase != Phase::Stopped {
                assert!(
                    open || candidate || reserved,
                    "{piece:?} is wanted and forgotten"
                );
            }
        }
        assert_eq!(
            self.left as usize,
            self.wanted.iter_and_not(&self.have).count()
        );
        let mut asked = std::collections::BTreeMap::new();
        for (key, peer) in self.peers.iter() {
            let interesting = peer.have.iter().filter(|piece| self.wants(*piece)).count();
            assert_eq!(peer.interesting as usize, interesting, "peer {key:?}");
            peer.check_revealed();
            // What it allows may have shrunk since it was asked.
            assert!(peer.requests.len() <= DEPTH_MAX as usize, "peer {key:?}");
            for block in peer.requests.blocks() {
                assert!(
                    peer.have.get(block.piece),
                    "{block:?} asked of {key:?}, which lacks it"
                );
                *asked.entry(block).or_insert(0) += 1;
            }
        }
        for (piece, index) in self.web.owed() {
            *asked
                .entry(self.geometry.block_at(piece, index))
                .or_insert(0) += 1;
        }
        for (piece, open) in self.assembly.iter() {
            for (index, by, _) in open.asked() {
                let block = self.geometry.block_at(piece, index);
                let found = asked.remove(&block).unwrap_or(0);
                assert_eq!(
                    u32::from(by),
                    found,
                    "{block:?} is asked of another number of peers"
                );
            }
        }
        assert!(asked.is_empty(), "asked for although it is here: {asked:?}");
        if self.phase != Phase::Active {
            assert!(self.peers.is_empty());
        }
    }
}
