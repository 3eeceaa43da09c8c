//! What must be true of a node between any two inputs.

use crate::conn::Stage;
use crate::node::Node;

impl<B> Node<B> {
    /// Panics where the node contradicts itself. For the simulator and the fuzzers, after every event.
    pub fn check_invariants(&self) {
        assert!(
            self.outbox.is_empty(),
            "a swarm's wishes were not carried out"
        );
        let half_open = self
            .conns
            .values()
            .filter(|conn| conn.is_half_open())
            .count();
        assert_eq!(self.half_open, half_open);
        assert!(self.half_open <= self.config.half_open_max);
        assert!(self.conns.len() <= self.config.conns_max);
        for torrent in self.torrents.values() {
            torrent.swarm.check_invariants();
        }
        for conn in self.starved.iter().chain(&self.throttled) {
            assert!(
                self.conns.get(*conn).is_some_and(|entry| entry.parked),
                "parked in vain"
            );
        }
        assert!(
            self.blocks_held() + self.bufs.free() <= self.bufs.total(),
            "a block too many"
        );
    }

    /// Blocks in readers, in unfinished pieces, and on their way to peers; with those in the pool and
    /// at the disk they are all there are.
    #[must_use]
    pub fn blocks_held(&self) -> usize {
        let conns = self.conns.values().map(|conn| {
            let landing = match &conn.stage {
                Stage::Live { reader, .. } => reader.blocks_held(),
                Stage::Dialling { .. } | Stage::Exchange { .. } | Stage::Greeting { .. } => 0,
            };
            landing + conn.tx.blocks_held()
        });
        let swarms = self
            .torrents
            .values()
            .map(|torrent| torrent.swarm.blocks_held());
        conns.sum::<usize>() + swarms.sum::<usize>()
    }
}
