//! Peer exchange (BEP 11): peers tell each other whom they are connected to.
//!
//! - Never for private torrents (BEP 27): nothing is announced, said or taken. Whoever came in by it before
//!   that was known is forgotten.
//! - Nothing is said before the metadata is known, since the torrent may turn out to be private.
//! - What a peer names is a rumour: few at a time, once a minute, no privileged ports, no addresses of a
//!   network that it is not in itself, and no more of the candidates than a fifth from one address.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use torr_base::Instant;
use torr_wire::{Extension, Message, PEX_PEERS_MAX, PexFlags, PexMessage};

use crate::action::{Misbehaved, Outbox, PeerKey};
use crate::swarm::Swarm;

/// BEP 11: no more than one message a minute.
const EVERY: Duration = Duration::from_secs(60);
/// The first one, once a peer has shown that it stays.
const FIRST: Duration = Duration::from_secs(10);
/// A message that comes sooner after the one before it is not read: clocks differ, and lines have jams.
const SOONEST: Duration = Duration::from_secs(45);
/// Messages that come too soon, before their sender is let go.
const HASTY_MAX: u32 = 20;
/// Below are ports of services that no peer has, and that others may want to see knocked at.
const PORT_MIN: u16 = 1_024;

/// What passed between us and one peer.
#[derive(Debug)]
pub(crate) struct Gossip {
    /// Whom we told it of, and did not take back.
    told: BTreeSet<SocketAddr>,
    next: Instant,
    heard: Option<Instant>,
    hasty: u32,
}

impl Gossip {
    pub(crate) fn new(joined: Instant) -> Self {
        Self {
            told: BTreeSet::new(),
            next: joined + FIRST,
            heard: None,
            hasty: 0,
        }
    }
}

impl<B> Swarm<B> {
    /// Whether peers may be heard of by gossip, as far as is known.
    pub(crate) fn hears_gossip(&self) -> bool {
        self.config.pex && !self.private
    }

    /// A message of `ut_pex` came.
    pub(crate) fn gossip_heard(
        &mut self,
        now: Instant,
        key: PeerKey,
        payload: &[u8],
    ) -> Result<(), Misbehaved> {
        if !self.hears_gossip() {
            return Ok(());
        }
        let Some(peer) = self.peers.get_mut(key) else {
            return Ok(());
        };
        let heard = peer.gossip.heard;
        if heard.is_some_and(|at| now.since(at) < SOONEST) {
            peer.gossip.hasty += 1;
            return match peer.gossip.hasty > HASTY_MAX {
                true => Err(Misbehaved::GossipFlood),
                false => Ok(()),
            };
        }
        peer.gossip.heard = Some(now);
        let from = peer.addr.ip();
        let message = PexMessage::parse(payload).map_err(|_| Misbehaved::Malformed)?;
        let complete = self.is_complete();
        for (addr, flags) in message.added {
            let banned = self.blame.is_banned_address(addr.ip());
            if addr.port() >= PORT_MIN && may_know(from, addr.ip()) && !banned {
                let only_gives = flags.has(PexFlags::UPLOAD_ONLY);
                self.dialer.hear(addr, from, only_gives, now);
                if only_gives && complete {
                    self.dialer.defer_givers(now);
                }
            }
        }
        Ok(())
    }

    /// Tells peers whose minute is over what changed.
    pub(crate) fn gossip(&mut self, now: Instant, out: &mut Outbox<B>) {
        let wants = |peer: &crate::peer::Peer<B>| {
            now >= peer.gossip.next && peer.extensions.get(Extension::Pex).is_some()
        };
        if !self.hears_gossip() || !self.is_known() || !self.peers.values().any(wants) {
            return;
        }
        let there = self.peers.values().filter_map(|peer| {
            let mut flags = PexFlags::default();
            if peer.only_gives() {
                flags = flags.with(PexFlags::UPLOAD_ONLY);
            }
            if peer.dialled {
                flags = flags.with(PexFlags::REACHABLE);
            }
            Some((peer.listen_addr()?, flags))
        });
        let there: Vec<_> = there.collect();
        for peer in self.peers.values_mut().filter(|peer| wants(peer)) {
            peer.gossip.next = now + EVERY;
            let (to, own) = (peer.addr.ip(), peer.listen_addr());
            let fits = |addr: SocketAddr| Some(addr) != own && may_know(to, addr.ip());
            let told = &mut peer.gossip.told;
            let new = there
                .iter()
                .filter(|(addr, _)| fits(*addr) && !told.contains(addr));
            let added: Vec<_> = new.copied().take(PEX_PEERS_MAX).collect();
            let gone = told
                .iter()
                .filter(|old| !there.iter().any(|(addr, _)| addr == *old));
            let dropped: Vec<_> = gone.copied().take(PEX_PEERS_MAX).collect();
            for addr in &dropped {
                told.remove(addr);
            }
            told.extend(added.iter().map(|(addr, _)| *addr));
            if added.is_empty() && dropped.is_empty() {
                continue;
            }
            if let Some(id) = peer.extensions.get(Extension::Pex) {
                let payload = &PexMessage { added, dropped }.encode();
                peer.send(Message::Extended { id, payload }, out);
            }
        }
    }
}

/// How far an address reaches; one that reaches less far means nothing, or something else, elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    /// No single host, or none that anybody has business with.
    Nowhere,
    Machine,
    Network,
    Everywhere,
}

fn reach(ip: IpAddr) -> Reach {
    match ip.to_canonical() {
        IpAddr::V4(v4) => match v4.octets() {
            [0, ..] | [169, 254, ..] | [224..=255, ..] => Reach::Nowhere,
            [127, ..] => Reach::Machine,
            [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] => Reach::Network,
            _ => Reach::Everywhere,
        },
        IpAddr::V6(v6) if v6.is_loopback() => Reach::Machine,
        IpAddr::V6(v6) if v6.is_unspecified() || v6.is_multicast() => Reach::Nowhere,
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Reach::Nowhere,
        IpAddr::V6(v6) if v6.is_unique_local() => Reach::Network,
        IpAddr::V6(_) => Reach::Everywhere,
    }
}

/// Whether who is at `from` may speak of `of`, or be told of it: who is further away than an address
/// reaches cannot have got it honestly.
fn may_know(from: IpAddr, of: IpAddr) -> bool {
    match reach(of) {
        Reach::Nowhere => false,
        Reach::Machine => reach(from) == Reach::Machine,
        Reach::Network => reach(from) <= Reach::Network,
        Reach::Everywhere => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_stay_where_they_mean_something() {
        let ip = |text: &str| -> IpAddr { text.parse().unwrap() };
        for (from, of, may) in [
            ("8.8.8.8", "9.9.9.9", true),
            ("8.8.8.8", "2001:2::1", true),
            ("8.8.8.8", "192.168.1.1", false),
            ("8.8.8.8", "127.0.0.1", false),
            ("8.8.8.8", "::ffff:10.0.0.1", false),
            ("8.8.8.8", "fd00::1", false),
            ("192.168.1.2", "10.0.0.1", true),
            ("192.168.1.2", "127.0.0.1", false),
            ("192.168.1.2", "8.8.8.8", true),
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "192.168.1.1", true),
            ("127.0.0.1", "169.254.169.254", false),
            ("127.0.0.1", "fe80::1", false),
            ("127.0.0.1", "255.255.255.255", false),
            ("127.0.0.1", "0.0.0.0", false),
        ] {
            assert_eq!(may_know(ip(from), ip(of)), may, "{from} of {of}");
        }
    }
}
