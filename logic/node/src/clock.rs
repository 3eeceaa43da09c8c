//! Time and trackers.

use std::net::SocketAddr;
use std::time::Duration;

use torr_base::Instant;
use torr_swarm::Phase;
use torr_tracker::{HttpReply, Stats, TrackerAction};

use crate::dht::{DhtPart, Search};
use crate::local::Local;
use crate::node::Node;
use crate::types::{Action, LookUp, News, TorrentKey, TrackerRequest};

/// How often connections are looked over.
const SWEEP: Duration = Duration::from_millis(500);
/// How often the memory for unfinished pieces is divided anew, at most.
const SHARE: Duration = Duration::from_millis(100);

impl<B> Node<B> {
    /// Does what is due. To be called at [`Self::next_timeout`].
    pub fn handle_timeout(&mut self, now: Instant) {
        // Whoever is held back by the other limit parks again.
        if self.down.available(now) > 0 || self.up.available(now) > 0 {
            self.wake_throttled();
        }
        // Buffers come back by many roads, and an answer of the disk may free none: the next try spills.
        self.wake_starved();
        if now >= self.swept + SWEEP {
            self.swept = now;
            self.sweep(now);
        }
        self.tick_network(now);
        self.tick_dht(now);
        self.tick_local(now);
        self.tick_port_map(now);
        if now >= self.shared + SHARE {
            self.shared = now;
            self.share_assembly();
        }
        let keys: Vec<_> = self.torrents.keys().collect();
        for key in keys {
            self.search_on(now, key);
            self.with_swarm(now, key, |swarm, bufs, out| {
                swarm.handle_timeout(now, bufs, out)
            });
            let announcer = self.torrents.get(key).map(|torrent| &torrent.announcer);
            let due = announcer.and_then(torr_tracker::Announcer::next_timeout);
            if due.is_some_and(|due| due <= now) {
                self.announce(now, key);
            }
        }
    }

    /// Divides the memory for unfinished pieces among the torrents: an equal part for each that has some of it, and
    /// what the others leave of theirs. Without that two fast ones would both fill all of it, have their pieces
    /// written unverified, and read them again.
    fn share_assembly(&mut self) {
        let (mut all, mut holders) = (0, 0);
        for torrent in self.torrents.values_mut() {
            // Between two pieces it holds less than it is about to.
            let lately = torrent.claim - torrent.claim.div_ceil(8);
            torrent.claim = torrent.swarm.assembly_memory().max(lately);
            all += torrent.claim;
            holders += usize::from(torrent.claim > 0);
        }
        let total = self.assembly_blocks();
        for torrent in self.torrents.values_mut() {
            let room = room(total, (all, holders), torrent.claim);
            torrent.swarm.set_assembly_room(room);
        }
    }

    /// When [`Self::handle_timeout`] should be called next; `None` while only an input can change
    /// anything.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        let torrents = self.torrents.values().flat_map(|torrent| {
            [
                torrent.swarm.next_timeout(),
                torrent.announcer.next_timeout(),
                torrent.search.as_ref().and_then(Search::next_timeout),
            ]
        });
        let sweep = (!self.conns.is_empty()).then(|| self.swept + SWEEP);
        let throttled = !self.throttled.is_empty() || !self.web_throttled.is_empty();
        let rates = [self.down.ready_at(), self.up.ready_at()];
        let rates = rates.into_iter().filter(|_| throttled);
        let dht = self.dht.as_ref().and_then(DhtPart::next_timeout);
        let local = self.local.as_ref().and_then(Local::next_timeout);
        torrents
            .chain([sweep, dht, local, self.port_map_due()])
            .chain([self.network.next_timeout()])
            .chain(rates)
            .flatten()
            .min()
    }

    /// The answer to [`Action::Http`]: the reply, or why there is none, fit to be shown.
    pub fn handle_http(
        &mut self,
        now: Instant,
        request: TrackerRequest,
        reply: Result<HttpReply, String>,
    ) {
        let Some(torrent) = self.torrents.get_mut(request.torrent) else {
            return;
        };
        let out = &mut self.announced;
        torrent
            .announcer
            .handle_http(now, request.request, reply, out);
        self.announce(now, request.torrent);
    }

    /// The answer to [`Action::Resolve`].
    pub fn handle_resolved(
        &mut self,
        now: Instant,
        request: LookUp,
        addrs: Result<Vec<SocketAddr>, String>,
    ) {
        let request = match request {
            LookUp::Tracker(request) => request,
            LookUp::Dht(request) => {
                self.with_dht(now, |dht, out| {
                    dht.handle_resolved(now, request, addrs, out)
                });
                return;
            }
        };
        let Some(torrent) = self.torrents.get_mut(request.torrent) else {
            return;
        };
        let out = &mut self.announced;
        torrent
            .announcer
            .handle_resolved(now, request.request, addrs, out);
        self.announce(now, request.torrent);
    }

    /// A datagram for nobody in particular. What neither a tracker nor a node of the DHT sends is dropped.
    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) {
        // A dictionary, while a tracker's answer begins with a zero.
        if bytes.first() == Some(&b'd') {
            self.dht_datagram(now, from, bytes);
            return;
        }
        let keys: Vec<_> = self.torrents.keys().collect();
        for key in keys {
            let Some(torrent) = self.torrents.get_mut(key) else {
                continue;
            };
            let out = &mut self.announced;
            if torrent.announcer.handle_datagram(now, from, bytes, out) {
                self.announce(now, key);
                return;
            }
        }
    }

    /// Lets the announcer do what is due, and carries out what it wants.
    pub(crate) fn announce(&mut self, now: Instant, key: TorrentKey) {
        let Some(torrent) = self.torrents.get_mut(key) else {
            return;
        };
        let (downloaded, uploaded, left) = torrent.swarm.totals();
        let stats = torrent.swarm.stats();
        let room = self.config.dial_until as u32;
        let known = stats.peers + stats.candidates;
        let wanted = if torrent.stopping {
            0
        } else {
            room.saturating_sub(known)
        };
        let stats = Stats {
            uploaded,
            downloaded,
            left,
            partial_seed: torrent.swarm.is_partial_seed(),
            corrupt: 0,
            peers_wanted: wanted,
        };
        let mut wanted = std::mem::take(&mut self.announced);
        torrent.announcer.handle_timeout(now, &stats, &mut wanted);
        for action in wanted.drain(..) {
            self.carry_out_announce(now, key, action);
        }
        self.announced = wanted;
        self.tell_if_stopped(key);
    }

    fn carry_out_announce(&mut self, now: Instant, key: TorrentKey, action: TrackerAction) {
        let ours = |request| TrackerRequest {
            torrent: key,
            request,
        };
        let action = match action {
            TrackerAction::HttpGet { request, url } => Action::Http {
                request: ours(request),
                url,
            },
            TrackerAction::Resolve {
                request,
                host,
                port,
            } => Action::Resolve {
                request: LookUp::Tracker(ours(request)),
                host,
                port,
            },
            TrackerAction::Datagram { to, bytes } => Action::Datagram { to, bytes },
            TrackerAction::Cancel { request } => Action::CancelRequest {
                request: ours(request),
            },
            TrackerAction::Peers { peers, .. } => {
                let torrent = self.torrents.get_mut(key);
                if let Some(torrent) = torrent.filter(|t| t.swarm.phase() == Phase::Active) {
                    peers
                        .iter()
                        .for_each(|addr| torrent.swarm.add_candidate(now, *addr));
                }
                return;
            }
            TrackerAction::ExternalIp { .. } => return,
            TrackerAction::Status { from, event } => {
                let Some(torrent) = self.torrents.get(key) else {
                    return;
                };
                let mut lines = torrent.announcer.trackers();
                let url = lines
                    .find(|line| line.id == from)
                    .map(|line| line.url.to_owned());
                let news = News::Tracker {
                    url: url.unwrap_or_default(),
                    event,
                };
                Action::Tell { torrent: key, news }
            }
        };
        self.actions.push_back(action);
    }
}

/// What of `total` blocks one may have that claims `own` of them, where so many claim `all` together.
fn room(total: usize, (all, holders): (usize, usize), own: usize) -> usize {
    let parts = holders + usize::from(own == 0);
    let left = total.saturating_sub(all - own);
    left.max(total / parts)
}

#[cfg(test)]
mod tests {
    use super::room;

    #[test]
    fn an_equal_part_for_each_and_what_others_leave() {
        let rooms = |claims: &[usize]| {
            let holders = claims.iter().filter(|claim| **claim > 0).count();
            let sum = (claims.iter().sum(), holders);
            let rooms = claims.iter().map(|own| room(2_000, sum, *own));
            rooms.collect::<Vec<_>>()
        };
        assert_eq!(rooms(&[0]), [2_000]);
        assert_eq!(rooms(&[2_400]), [2_000]);
        assert_eq!(rooms(&[0, 0]), [2_000, 2_000]);
        // The first had all of it until the other came.
        assert_eq!(rooms(&[2_000, 0]), [2_000, 1_000]);
        assert_eq!(rooms(&[2_000, 300]), [1_700, 1_000]);
        assert_eq!(rooms(&[1_000, 1_000]), [1_000, 1_000]);
        assert_eq!(rooms(&[500, 20, 30]), [1_950, 1_470, 1_480]);
        assert_eq!(rooms(&[900; 4]), [500; 4]);
    }
}
