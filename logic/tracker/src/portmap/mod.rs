//! Port mapping: the gateway is asked to let connections from outside through to the port that we listen on.
//!
//! Three ways, one after the other: PCP (RFC 6887), NAT-PMP (RFC 6886) where the gateway says that it does not speak
//! PCP or says nothing, and UPnP-IGD where that fails as well. What one grants is renewed at half of its lifetime, by
//! the same way; where the gateway turns out to have forgotten, all is asked for again.
//!
//! - An answer counts only from the gateway's own address, to a question that is open, and in PCP under our nonce.
//! - What the gateway says leads nowhere but to the gateway ([`upnp::Place`]).
//! - Every question is asked a bounded number of times, and every wait has an end.
//! - Taking the mappings back takes at most [`END_PATIENCE`].
//!
//! Deliberately absent: IPv6, which needs no mapping (a firewall in the gateway may still close the port: opening it
//! there is PCP's too, for another day); the gateway's announcements to 224.0.0.1, so that its restart is noticed at
//! the next renewal and not before.
#![warn(clippy::indexing_slicing)]

mod ask;
mod epoch;
mod igd;
pub mod natpmp;
pub mod pcp;
#[cfg(test)]
mod tests;
pub mod upnp;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use torr_base::{Instant, Rng};

use crate::policy::{Scope, scope};
use ask::Asking;
use epoch::Epoch;
use igd::Igd;

/// Where gateways listen for PCP and NAT-PMP.
pub const GATEWAY_PORT: u16 = 5351;
/// Seconds for which a mapping is asked for. Half of it is how long a gateway's restart may go unnoticed.
const LIFETIME: u32 = 3_600;
/// What a gateway grants is taken for no less and no more than this, in seconds.
const GRANTED: (u32, u32) = (120, 86_400);
/// First wait for an answer, doubled each time (RFC 6886 section 3.1), and how often a question is asked.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const TRIES_MAX: u32 = 4;
/// After all ways failed.
const AGAIN: Duration = Duration::from_secs(15 * 60);
/// How long taking the mappings back may take.
pub const END_PATIENCE: Duration = Duration::from_secs(1);
/// For the driver to say where the gateway is, or to bring an answer over HTTP; it has limits of its own, which are
/// shorter.
const DRIVER_PATIENCE: Duration = Duration::from_secs(20);

/// What a port belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    /// As IANA numbers them.
    const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }

    const fn of(number: u8) -> Option<Self> {
        match number {
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            _ => None,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        }
    }
}

/// How a port was mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Pcp,
    NatPmp,
    Upnp,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pcp => "PCP",
            Self::NatPmp => "NAT-PMP",
            Self::Upnp => "UPnP",
        })
    }
}

/// The default gateway, and our own address towards it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gateway {
    pub addr: Ipv4Addr,
    pub local: Ipv4Addr,
}

/// What the driver must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MapAction {
    /// The answer is [`PortMapper::handle_gateway`].
    FindGateway,
    /// From a socket that is connected to the gateway.
    Send { to: SocketAddrV4, bytes: Vec<u8> },
    /// To [`upnp::SEARCH_GROUP`], on the gateway's network; answers go to [`PortMapper::handle_search`].
    Search { bytes: Vec<u8> },
    /// GET, or POST where there is a call; the answer is [`PortMapper::handle_http`]. The place is at the gateway.
    Http {
        request: u64,
        place: upnp::Place,
        call: Option<upnp::Call>,
    },
}

/// How it stands, for people and for what is announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortStatus {
    /// Not known yet.
    Asking,
    Open(OpenPort),
    /// Why not. It is tried again from time to time, and when the network changes.
    Closed(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenPort {
    pub way: Way,
    /// The port that we listen on.
    pub local: u16,
    /// Where peers outside reach it. `None` where the gateway does not say its address.
    pub address: Option<Ipv4Addr>,
    pub tcp: u16,
    /// The same for datagrams, where that was granted.
    pub udp: Option<u16>,
}

impl OpenPort {
    /// The gateway's address is no public one: there is another gateway behind it, which knows nothing of this.
    #[must_use]
    pub fn is_behind_another(&self) -> bool {
        self.address
            .is_some_and(|ip| scope(IpAddr::V4(ip)) != Scope::Global)
    }
}

/// A port that is to be mapped.
#[derive(Clone, Copy, Debug)]
struct Want {
    protocol: Protocol,
    nonce: [u8; 12],
    /// The port outside, while there is one.
    held: Option<u16>,
    /// Answered, one way or the other, in the round that is going on.
    answered: bool,
}

#[derive(Clone, Debug)]
enum Phase {
    /// The driver looks for the gateway.
    Locating {
        until: Instant,
    },
    /// By PCP or NAT-PMP.
    Asking(Asking),
    Upnp(Igd),
    /// All is well, by that way, until it is to be renewed.
    Held {
        way: Way,
        renew: Instant,
        until: Instant,
    },
    /// All ways failed.
    Failed {
        again: Instant,
    },
    Ending {
        way: Way,
        tries: u32,
        due: Instant,
        until: Instant,
    },
    Ended,
}

/// Keeps one port mapped.
///
/// - Inputs: `handle_*`, `network_changed`. Command: `end`.
/// - Getters: `status`, `is_ended`, `next_timeout`.
#[derive(Debug)]
pub struct PortMapper {
    port: u16,
    wants: Vec<Want>,
    rng: Rng,
    phase: Phase,
    gateway: Option<Gateway>,
    epoch: Option<Epoch>,
    /// The gateway's address outside.
    address: Option<Ipv4Addr>,
    /// What maps by UPnP.
    service: Option<upnp::Service>,
    /// Whether that knows leases.
    permanent: bool,
    /// Why ways failed, the last one last.
    refusals: Vec<(Way, String)>,
    requests: u64,
    status: PortStatus,
}

impl PortMapper {
    /// `port`: what is listened on; `udp`: for datagrams as well. `secret`: from the operating system's randomness.
    #[must_use]
    pub fn new(port: u16, udp: bool, secret: [u8; 32], rng: Rng, now: Instant) -> Self {
        let (tcp_nonce, rest) = secret
            .split_first_chunk::<12>()
            .expect("32 are more than 12");
        let udp_nonce = rest.first_chunk::<12>().expect("20 are more than 12");
        let want = |protocol, nonce| Want {
            protocol,
            nonce,
            held: None,
            answered: false,
        };
        let mut wants = vec![want(Protocol::Tcp, *tcp_nonce)];
        wants.extend(udp.then(|| want(Protocol::Udp, *udp_nonce)));
        Self {
            port,
            wants,
            rng,
            phase: Phase::Failed { again: now },
            gateway: None,
            epoch: None,
            address: None,
            service: None,
            permanent: false,
            refusals: Vec::new(),
            requests: 0,
            status: PortStatus::Asking,
        }
    }

    #[must_use]
    pub fn status(&self) -> &PortStatus {
        &self.status
    }

    /// When [`Self::handle_timeout`] is to be called next.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Locating { until } => Some(*until),
            Phase::Asking(asking) => Some(asking.due),
            Phase::Upnp(igd) => Some(igd.due),
            Phase::Held { renew, .. } => Some(*renew),
            Phase::Failed { again } => Some(*again),
            Phase::Ending { due, .. } => Some(*due),
            Phase::Ended => None,
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut Vec<MapAction>) {
        if self.next_timeout().is_none_or(|due| now < due) {
            return;
        }
        match &self.phase {
            Phase::Locating { .. } => self.closed(now, "the gateway was not found".to_owned()),
            Phase::Asking(_) => self.ask_again(now, out),
            Phase::Upnp(_) => self.igd_timeout(now, out),
            Phase::Held { way, .. } => match way {
                Way::Pcp | Way::NatPmp => self.ask_by(now, *way, true, out),
                Way::Upnp => self.igd_renew(now, out),
            },
            Phase::Failed { .. } => self.locate(now, out),
            Phase::Ending { .. } => self.take_back(now, out),
            Phase::Ended => {}
        }
    }

    /// The answer to [`MapAction::FindGateway`]; the error is a sentence for people.
    pub fn handle_gateway(
        &mut self,
        now: Instant,
        found: Result<Gateway, String>,
        out: &mut Vec<MapAction>,
    ) {
        if !matches!(self.phase, Phase::Locating { .. }) {
            return;
        }
        match found {
            Err(why) => self.closed(now, why),
            Ok(gateway) => {
                if self.gateway != Some(gateway) {
                    self.forget();
                }
                self.gateway = Some(gateway);
                self.refusals.clear();
                self.ask_by(now, Way::Pcp, false, out);
            }
        }
    }

    /// The network came back or changed: all is asked for again.
    pub fn network_changed(&mut self, now: Instant) {
        match &self.phase {
            Phase::Ending { .. } | Phase::Ended => {}
            Phase::Locating { .. }
            | Phase::Asking(_)
            | Phase::Upnp(_)
            | Phase::Held { .. }
            | Phase::Failed { .. } => self.phase = Phase::Failed { again: now },
        }
    }

    /// Takes the mappings back; see [`Self::is_ended`].
    pub fn end(&mut self, now: Instant, out: &mut Vec<MapAction>) {
        let way = match &self.phase {
            Phase::Ending { .. } | Phase::Ended => return,
            Phase::Held { way, .. } => Some(*way),
            Phase::Asking(asking) => Some(asking.way),
            Phase::Upnp(_) => Some(Way::Upnp),
            Phase::Locating { .. } | Phase::Failed { .. } => None,
        };
        let way = way.filter(|_| self.wants.iter().any(|want| want.held.is_some()));
        let Some(way) = way else {
            self.phase = Phase::Ended;
            return;
        };
        for want in &mut self.wants {
            want.answered = want.held.is_none();
        }
        let until = now + END_PATIENCE;
        self.phase = Phase::Ending {
            way,
            tries: 0,
            due: now,
            until,
        };
        self.take_back(now, out);
    }

    /// Whether nothing is left to be taken back, or to be waited for.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended)
    }

    fn locate(&mut self, now: Instant, out: &mut Vec<MapAction>) {
        self.phase = Phase::Locating {
            until: now + DRIVER_PATIENCE,
        };
        out.push(MapAction::FindGateway);
    }

    /// Nothing holds that was said before.
    fn forget(&mut self) {
        (self.epoch, self.address, self.service) = (None, None, None);
        self.permanent = false;
        for want in &mut self.wants {
            want.held = None;
        }
    }

    /// What was asked for is granted, for `lifetime` seconds.
    fn granted(&mut self, now: Instant, way: Way, lifetime: u32) {
        let lifetime = lifetime.clamp(GRANTED.0, GRANTED.1);
        let half = Duration::from_secs(u64::from(lifetime / 2));
        let until = now + Duration::from_secs(u64::from(lifetime));
        self.phase = Phase::Held {
            way,
            renew: now + half,
            until,
        };
        self.refusals.clear();
        let Some(tcp) = self.held(Protocol::Tcp) else {
            debug_assert!(false, "granted without a port");
            return;
        };
        self.status = PortStatus::Open(OpenPort {
            way,
            local: self.port,
            address: self.address.filter(|ip| !ip.is_unspecified()),
            tcp,
            udp: self.held(Protocol::Udp),
        });
    }

    /// The port outside.
    fn held(&self, protocol: Protocol) -> Option<u16> {
        let want = self.wants.iter().find(|want| want.protocol == protocol);
        want.and_then(|want| want.held)
    }

    /// This way leads nowhere: on to the next one.
    fn refused(&mut self, now: Instant, way: Way, why: String, out: &mut Vec<MapAction>) {
        for want in &mut self.wants {
            want.held = None;
        }
        self.refusals.retain(|(other, _)| *other != way);
        self.refusals.push((way, why));
        match way {
            Way::Pcp => self.ask_by(now, Way::NatPmp, false, out),
            Way::NatPmp => self.igd_begin(now, out),
            Way::Upnp => {
                let ways = self
                    .refusals
                    .iter()
                    .map(|(way, why)| format!("{way}: {why}"));
                let why = ways.collect::<Vec<_>>().join("; ");
                self.closed(now, why);
            }
        }
    }

    fn closed(&mut self, now: Instant, why: String) {
        self.forget();
        let jitter = Duration::from_millis(self.rng.below(60_000));
        self.phase = Phase::Failed {
            again: now + AGAIN + jitter,
        };
        self.status = PortStatus::Closed(why);
    }

    /// Asks for what is left to be taken back, until it is or time is up.
    fn take_back(&mut self, now: Instant, out: &mut Vec<MapAction>) {
        let Phase::Ending {
            way, tries, until, ..
        } = self.phase
        else {
            return;
        };
        if now >= until || self.wants.iter().all(|want| want.answered) {
            self.phase = Phase::Ended;
            return;
        }
        match way {
            Way::Pcp | Way::NatPmp => self.send_requests(way, 0, out),
            // Over TCP once is enough.
            Way::Upnp if tries == 0 => self.igd_delete(out),
            Way::Upnp => {}
        }
        let due = (now + FIRST_WAIT * 2_u32.pow(tries.min(TRIES_MAX))).min(until);
        self.phase = Phase::Ending {
            way,
            tries: tries + 1,
            due,
            until,
        };
    }

    fn gateway_is(&self, from: SocketAddr) -> bool {
        self.gateway
            .is_some_and(|gateway| from.ip() == IpAddr::V4(gateway.addr))
    }

    /// Panics where the mapper contradicts itself.
    pub fn check_invariants(&self) {
        assert!(self.refusals.len() <= 3, "one reason for each way");
        let open = matches!(self.status, PortStatus::Open(_));
        if open && !matches!(self.phase, Phase::Failed { .. } | Phase::Locating { .. }) {
            assert!(self.gateway.is_some(), "granted by nobody");
        }
        if matches!(self.phase, Phase::Held { .. }) {
            assert!(self.wants.iter().any(|want| want.held.is_some()));
        }
    }
}
