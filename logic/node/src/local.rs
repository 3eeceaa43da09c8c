//! Local service discovery (BEP 14): torrents are announced to those on the same network.
//!
//! - Never a private one (BEP 27). Of a link that is not known before its metadata; then it ends.
//! - A torrent is announced when it starts and every five minutes; a message tells of up to 20, and one goes out
//!   in a second at most, however many torrents there are.
//! - What others announce leads to the address that it came from, and to no other.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use torr_base::{Instant, Rng};
use torr_swarm::Phase;
use torr_tracker::lsd::{GROUP_V4, GROUP_V6, LocalAnnounce, PORT, TORRENTS_MAX};

use crate::node::Node;
use crate::types::{Action, TorrentKey};

/// How often a torrent is announced (BEP 14).
const EVERY: Duration = Duration::from_secs(5 * 60);
/// The time between two messages.
const PAUSE: Duration = Duration::from_secs(1);
/// Messages of others that are read in a second.
const HEARD_MAX: u32 = 100;

#[derive(Debug)]
pub(crate) struct Local {
    /// So that we know ourselves.
    cookie: String,
    /// When each torrent is announced next.
    due: BTreeSet<(Instant, TorrentKey)>,
    /// Before then nothing is said.
    next: Instant,
    /// Messages read in the second that began then.
    heard: (Instant, u32),
}

impl Local {
    pub(crate) fn new(mut rng: Rng, now: Instant) -> Self {
        Self {
            cookie: format!("torr-{:016x}", rng.next_u64()),
            due: BTreeSet::new(),
            next: now,
            heard: (now, 0),
        }
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        let (due, _) = self.due.first()?;
        Some((*due).max(self.next))
    }

    /// Whether one more message is read.
    fn may_hear(&mut self, now: Instant) -> bool {
        if now.since(self.heard.0) >= Duration::from_secs(1) {
            self.heard = (now, 0);
        }
        self.heard.1 += 1;
        self.heard.1 <= HEARD_MAX
    }

    /// Every torrent is announced once more.
    pub(crate) fn say_again(&mut self, now: Instant) {
        let all = std::mem::take(&mut self.due);
        self.due = all.into_iter().map(|(_, key)| (now, key)).collect();
    }

    pub(crate) fn forget(&mut self, key: TorrentKey) {
        self.due.retain(|(_, torrent)| *torrent != key);
    }
}

impl<B> Node<B> {
    /// Has a torrent announced, unless it is private.
    pub(crate) fn begin_local(&mut self, now: Instant, key: TorrentKey) {
        let torrent = self.torrents.get(key);
        let may = torrent.is_some_and(|it| !it.swarm.is_private());
        let may = may && self.config.listen_port > 0;
        if let Some(local) = self.local.as_mut().filter(|_| may) {
            local.due.insert((now, key));
        }
    }

    pub(crate) fn end_local(&mut self, key: TorrentKey) {
        if let Some(local) = &mut self.local {
            local.forget(key);
        }
    }

    /// Says what is due.
    pub(crate) fn tick_local(&mut self, now: Instant) {
        let port = self.config.listen_port;
        let Some(local) = &mut self.local else {
            return;
        };
        if local.next_timeout().is_none_or(|next| now < next) {
            return;
        }
        let mut torrents = Vec::new();
        while torrents.len() < TORRENTS_MAX
            && let Some((due, key)) = local.due.first().copied()
            && due <= now
        {
            local.due.pop_first();
            if let Some(torrent) = self.torrents.get(key) {
                torrents.push(torrent.info_hash);
                local.due.insert((now + EVERY, key));
            }
        }
        if torrents.is_empty() {
            return;
        }
        local.next = now + PAUSE;
        let announce = LocalAnnounce {
            port,
            torrents,
            cookie: Some(local.cookie.clone()),
        };
        for group in [
            SocketAddr::from((GROUP_V4, PORT)),
            SocketAddr::from((GROUP_V6, PORT)),
        ] {
            let bytes = announce.encode(group);
            self.actions.push_back(Action::Multicast { group, bytes });
        }
    }

    /// A datagram to the group of local discovery.
    pub fn handle_local(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) {
        let Some(local) = &mut self.local else {
            return;
        };
        if !local.may_hear(now) {
            return;
        }
        let Some(announce) = LocalAnnounce::decode(bytes) else {
            return;
        };
        if announce.cookie.as_ref() == Some(&local.cookie) {
            return;
        }
        let addr = SocketAddr::new(from.ip().to_canonical(), announce.port);
        for info_hash in announce.torrents {
            let key = self.by_hash.get(&info_hash);
            let torrent = key.and_then(|key| self.torrents.get_mut(*key));
            if let Some(torrent) = torrent.filter(|it| !it.swarm.is_private() && !it.stopping)
                && torrent.swarm.phase() == Phase::Active
            {
                torrent.swarm.add_candidate(now, addr);
            }
        }
    }
}
