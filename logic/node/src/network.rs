//! The network came back, or became another one (G17): what waited for that goes on.
//!
//! - Connections that owe us blocks and brought nothing of late are let go: what they run over may be dead, and TCP
//!   would find out too late.
//! - Addresses that could not be reached may be tried at once, trackers that failed within three seconds, those that
//!   did not when their interval allows (`Announcer::network_changed`). The DHT starts over, the local network is
//!   told of us, the gateway is asked again.
//! - However often the network changes, that happens no more than once in [`PAUSE`], and a little later than others
//!   do it.

use std::time::Duration;

use torr_base::{Instant, Rng};

use crate::node::Node;

/// Between two times. A line that comes and goes must not make a storm.
const PAUSE: Duration = Duration::from_secs(15);
/// How far nodes that come back together are spread.
const JITTER: Duration = Duration::from_millis(1_500);

#[derive(Debug)]
pub(crate) struct Network {
    rng: Rng,
    last: Option<Instant>,
    /// When what changed is acted on.
    due: Option<Instant>,
}

impl Network {
    pub(crate) fn new(rng: Rng) -> Self {
        Self {
            rng,
            last: None,
            due: None,
        }
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.due
    }
}

impl<B> Node<B> {
    /// There is a way into the network again, or another one.
    pub fn handle_network_changed(&mut self, now: Instant) {
        let network = &mut self.network;
        let jitter = u64::try_from(JITTER.as_millis()).unwrap_or(u64::MAX);
        let soon = now + Duration::from_millis(network.rng.below(jitter));
        let earliest = network.last.map_or(soon, |last| soon.max(last + PAUSE));
        network.due = Some(network.due.map_or(earliest, |due| due.min(earliest)));
    }

    /// Does what is due.
    pub(crate) fn tick_network(&mut self, now: Instant) {
        if self.network.due.is_none_or(|due| now < due) {
            return;
        }
        (self.network.last, self.network.due) = (Some(now), None);
        self.with_dht(now, |dht, out| {
            dht.network_changed(now);
            dht.handle_timeout(now, out);
        });
        if let Some(local) = &mut self.local {
            local.say_again(now);
        }
        if let Some(part) = &mut self.port_map {
            part.network_changed(now);
        }
        let keys: Vec<_> = self.torrents.keys().collect();
        for key in keys {
            let Some(torrent) = self.torrents.get_mut(key) else {
                continue;
            };
            torrent.announcer.network_changed(now);
            if let Some(search) = &mut torrent.search {
                search.try_soon(now);
            }
            self.with_swarm(now, key, |swarm, bufs, out| {
                swarm.handle_network_changed(now, bufs, out);
            });
            self.announce(now, key);
        }
    }
}
