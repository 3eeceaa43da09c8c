//! The way through the gateway: what it maps our port to is what those outside are told.
//!
//! - The first announces do not wait for it. Where the port outside turns out to be another one, trackers are told as
//!   soon as they allow, and the DHT in its next round.
//! - Those on our own network are told the port that we listen on, whatever the gateway says.

use std::net::SocketAddr;

use torr_base::{Instant, Rng};
use torr_tracker::portmap::{Gateway, MapAction, OpenPort, PortMapper, PortStatus};

use crate::dht::{DhtInit, DhtPart};
use crate::node::Node;
use crate::types::{Action, NodeConfig};

#[derive(Debug)]
pub(crate) struct PortMap {
    mapper: PortMapper,
    /// What was made known.
    open: Option<OpenPort>,
    /// Empty between two inputs; kept for its memory.
    actions: Vec<MapAction>,
}

impl PortMap {
    pub(crate) fn new(
        config: &NodeConfig,
        dht: Option<&DhtInit>,
        rng: &Rng,
        now: Instant,
    ) -> Option<Self> {
        let secret = config.map_port.filter(|_| config.listen_port > 0)?;
        let port = config.listen_port;
        let udp = dht.is_some_and(|init| init.port == port);
        let rng = rng.fork("port map", 0);
        Some(Self {
            mapper: PortMapper::new(port, udp, secret, rng, now),
            open: None,
            actions: Vec::new(),
        })
    }

    pub(crate) fn network_changed(&mut self, now: Instant) {
        self.mapper.network_changed(now);
    }
}

impl<B> Node<B> {
    /// Where peers outside reach us; 0 for nowhere.
    pub(crate) fn public_port(&self) -> u16 {
        let open = self.port_map.as_ref().and_then(|part| part.open);
        open.map_or(self.config.listen_port, |open| open.tcp)
    }

    /// The same of our node of the DHT.
    pub(crate) fn public_dht_port(&self) -> u16 {
        let open = self.port_map.as_ref().and_then(|part| part.open);
        let own = self.dht.as_ref().map_or(0, DhtPart::port);
        open.and_then(|open| open.udp)
            .filter(|_| own > 0)
            .unwrap_or(own)
    }

    /// How the mapping stands; `None` where none was asked for.
    #[must_use]
    pub fn port_status(&self) -> Option<&PortStatus> {
        self.port_map.as_ref().map(|part| part.mapper.status())
    }

    /// The answer to [`MapAction::FindGateway`].
    pub fn handle_gateway(&mut self, now: Instant, found: Result<Gateway, String>) {
        self.with_port_map(now, |it, out| it.handle_gateway(now, found, out));
    }

    /// A datagram to the socket that asks the gateway.
    pub fn handle_gateway_datagram(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) {
        self.with_port_map(now, |it, out| it.handle_datagram(now, from, bytes, out));
    }

    /// Nothing listens at the gateway.
    pub fn handle_gateway_unreachable(&mut self, now: Instant) {
        self.with_port_map(now, |it, out| it.handle_unreachable(now, out));
    }

    /// A datagram to the socket that searches for the gateway's services.
    pub fn handle_gateway_search(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) {
        self.with_port_map(now, |it, out| it.handle_search(now, from, bytes, out));
    }

    /// The answer to [`MapAction::Http`].
    pub fn handle_gateway_http(
        &mut self,
        now: Instant,
        request: u64,
        answer: Result<(u16, String), String>,
    ) {
        self.with_port_map(now, |it, out| it.handle_http(now, request, answer, out));
    }

    /// Takes the mapping back, which takes a second at most: until [`Self::is_port_given_back`].
    pub fn give_port_back(&mut self, now: Instant) {
        self.with_port_map(now, |it, out| it.end(now, out));
    }

    #[must_use]
    pub fn is_port_given_back(&self) -> bool {
        self.port_map
            .as_ref()
            .is_none_or(|part| part.mapper.is_ended())
    }

    pub(crate) fn port_map_due(&self) -> Option<Instant> {
        self.port_map.as_ref()?.mapper.next_timeout()
    }

    /// Does what is due.
    pub(crate) fn tick_port_map(&mut self, now: Instant) {
        if self.port_map_due().is_some_and(|due| due <= now) {
            self.with_port_map(now, |it, out| it.handle_timeout(now, out));
        }
    }

    fn with_port_map(
        &mut self,
        now: Instant,
        input: impl FnOnce(&mut PortMapper, &mut Vec<MapAction>),
    ) {
        let Some(part) = &mut self.port_map else {
            return;
        };
        input(&mut part.mapper, &mut part.actions);
        self.actions
            .extend(part.actions.drain(..).map(Action::PortMap));
        let open = match part.mapper.status() {
            PortStatus::Open(open) => Some(*open),
            PortStatus::Asking | PortStatus::Closed(_) => None,
        };
        if open != part.open {
            let before = (self.public_port(), self.public_dht_port());
            if let Some(part) = &mut self.port_map {
                part.open = open;
            }
            if before != (self.public_port(), self.public_dht_port()) {
                self.tell_port(now, before.0);
            }
        }
    }

    /// Tells everybody where we are now. `before`: the port that they know.
    fn tell_port(&mut self, now: Instant, before: u16) {
        let (port, dht_port) = (self.public_port(), self.public_dht_port());
        let keys: Vec<_> = self.torrents.keys().collect();
        for key in keys {
            let Some(torrent) = self.torrents.get_mut(key) else {
                continue;
            };
            torrent.swarm.set_public_ports(port, dht_port);
            if port == before {
                continue;
            }
            torrent.announcer.set_port(port);
            self.update_search(key);
            self.reannounce(now, key);
        }
    }
}
