//! PCP and NAT-PMP: one datagram for each port, asked again until it is answered.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use torr_base::Instant;

use super::epoch::Epoch;
use super::pcp::{MapAnswer, MapRequest};
use super::{
    FIRST_WAIT, GATEWAY_PORT, LIFETIME, MapAction, Phase, PortMapper, Protocol, TRIES_MAX, Way,
    natpmp, pcp,
};

/// A round of questions.
#[derive(Clone, Debug)]
pub(super) struct Asking {
    pub(super) way: Way,
    /// When the next ones go out, or patience ends.
    pub(super) due: Instant,
    tries: u32,
    /// There is a mapping already, until then.
    lasts: Option<Instant>,
    /// The shortest that was granted, in seconds.
    lifetime: Option<u32>,
    refusal: Option<String>,
    /// It was begun because the gateway seemed to have forgotten: that counts once.
    forgotten: bool,
}

impl PortMapper {
    /// Begins a round; `renews`: of what is there already.
    pub(super) fn ask_by(
        &mut self,
        now: Instant,
        way: Way,
        renews: bool,
        out: &mut Vec<MapAction>,
    ) {
        let lasts = match &self.phase {
            Phase::Held { until, .. } if renews => Some(*until),
            Phase::Locating { .. }
            | Phase::Asking(_)
            | Phase::Upnp(_)
            | Phase::Held { .. }
            | Phase::Failed { .. }
            | Phase::Ending { .. }
            | Phase::Ended => None,
        };
        for want in &mut self.wants {
            want.answered = false;
        }
        if way == Way::NatPmp && !renews {
            self.address = None;
        }
        self.phase = Phase::Asking(Asking {
            way,
            due: now,
            tries: 0,
            lasts,
            lifetime: None,
            refusal: None,
            forgotten: false,
        });
        self.ask_again(now, out);
    }

    /// The next try of a round, or its end.
    pub(super) fn ask_again(&mut self, now: Instant, out: &mut Vec<MapAction>) {
        let Phase::Asking(asking) = &mut self.phase else {
            return;
        };
        let way = asking.way;
        if asking.tries >= TRIES_MAX {
            let answered = self
                .wants
                .iter()
                .any(|want| want.answered && want.held.is_some());
            let lasts = asking.lasts.filter(|until| now < *until);
            match (answered, lasts) {
                // The gateway tells one port and not the other, or not its address: that is what there is.
                (true, _) => self.round_over(now, out),
                // It may be busy; what it granted holds on.
                (false, Some(until)) => {
                    let renew = now + until.since(now) / 2 + FIRST_WAIT;
                    self.phase = Phase::Held {
                        way,
                        renew,
                        until: until.max(renew),
                    };
                }
                (false, None) => self.refused(now, way, "no answer".to_owned(), out),
            }
            return;
        }
        asking.due = now + FIRST_WAIT * 2_u32.pow(asking.tries);
        asking.tries += 1;
        self.send_requests(way, LIFETIME, out);
    }

    /// Asks for all that is not answered.
    pub(super) fn send_requests(&self, way: Way, lifetime: u32, out: &mut Vec<MapAction>) {
        let Some(gateway) = self.gateway else {
            return;
        };
        let to = SocketAddrV4::new(gateway.addr, GATEWAY_PORT);
        let mut send = |bytes: &[u8]| {
            out.push(MapAction::Send {
                to,
                bytes: bytes.to_vec(),
            })
        };
        if way == Way::NatPmp && self.address.is_none() && lifetime > 0 {
            send(&natpmp::ADDRESS_REQUEST);
        }
        for want in self.wants.iter().filter(|want| !want.answered) {
            let liked = want.held.unwrap_or(self.port);
            match way {
                Way::Pcp => {
                    let address = self.address.filter(|_| want.held.is_some());
                    let request = MapRequest {
                        client: gateway.local,
                        nonce: want.nonce,
                        protocol: want.protocol,
                        internal: self.port,
                        external: (address.unwrap_or(Ipv4Addr::UNSPECIFIED), liked),
                        lifetime,
                    };
                    send(&request.encode());
                }
                Way::NatPmp => {
                    let liked = if lifetime > 0 { liked } else { 0 };
                    send(&natpmp::map_request(
                        want.protocol,
                        self.port,
                        liked,
                        lifetime,
                    ));
                }
                Way::Upnp => {}
            }
        }
    }

    /// A datagram to the socket that asks the gateway.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        from: SocketAddr,
        bytes: &[u8],
        out: &mut Vec<MapAction>,
    ) {
        if !self.gateway_is(from) || from.port() != GATEWAY_PORT {
            return;
        }
        let way = match &self.phase {
            Phase::Asking(asking) => asking.way,
            Phase::Ending { way, .. } => *way,
            Phase::Locating { .. }
            | Phase::Upnp(_)
            | Phase::Held { .. }
            | Phase::Failed { .. }
            | Phase::Ended => return,
        };
        match way {
            Way::Pcp => self.pcp_answer(now, bytes, out),
            Way::NatPmp => self.natpmp_answer(now, bytes, out),
            Way::Upnp => {}
        }
    }

    /// Nothing listens at the gateway, it says (ICMP).
    pub fn handle_unreachable(&mut self, now: Instant, out: &mut Vec<MapAction>) {
        if let Phase::Asking(Asking {
            way, lasts: None, ..
        }) = self.phase
        {
            self.refused(now, way, "the gateway does not speak it".to_owned(), out);
        }
        if let Phase::Ending {
            way: Way::Pcp | Way::NatPmp,
            ..
        } = self.phase
        {
            self.phase = Phase::Ended;
        }
    }

    fn pcp_answer(&mut self, now: Instant, bytes: &[u8], out: &mut Vec<MapAction>) {
        let other_version = match bytes.first() {
            Some(&natpmp::VERSION) => {
                natpmp::Answer::decode(bytes) == Some(natpmp::Answer::OtherVersion)
            }
            _ => MapAnswer::decode(bytes) == Some(MapAnswer::OtherVersion),
        };
        if other_version {
            if matches!(self.phase, Phase::Asking(_)) {
                let why = "the gateway does not speak it".to_owned();
                self.refused(now, Way::Pcp, why, out);
            }
            return;
        }
        let Some(MapAnswer::Map {
            result,
            lifetime,
            epoch,
            nonce,
            protocol,
            internal,
            external,
        }) = MapAnswer::decode(bytes)
        else {
            return;
        };
        let ours = self.wants.iter().position(|want| {
            want.protocol == protocol && want.nonce == nonce && internal == self.port
        });
        let Some(index) = ours else {
            return;
        };
        if result == 0 && external.1 > 0 && lifetime > 0 {
            self.address = Some(external.0);
        }
        let why = pcp::reason(result);
        let granted = (result == 0).then_some((external.1, lifetime));
        self.answered(now, index, granted, why, epoch, out);
    }

    fn natpmp_answer(&mut self, now: Instant, bytes: &[u8], out: &mut Vec<MapAction>) {
        let of = |wants: &[super::Want], protocol: Protocol| {
            wants.iter().position(|want| want.protocol == protocol)
        };
        match natpmp::Answer::decode(bytes) {
            None => {}
            Some(natpmp::Answer::OtherVersion) => {
                if matches!(self.phase, Phase::Asking(_)) {
                    let why = natpmp::reason(1).to_owned();
                    self.refused(now, Way::NatPmp, why, out);
                }
            }
            // Without an address a mapping is of use as well.
            Some(natpmp::Answer::Refused(None, _)) => {
                self.address = self.address.or(Some(Ipv4Addr::UNSPECIFIED));
                self.round_over_if_answered(now, out);
            }
            Some(natpmp::Answer::Refused(Some(protocol), result)) => {
                if let Some(index) = of(&self.wants, protocol) {
                    self.answered(now, index, None, natpmp::reason(result), 0, out);
                }
            }
            Some(natpmp::Answer::Address { epoch, address }) => {
                self.address = Some(address);
                if !self.watch_epoch(now, Way::NatPmp, epoch, out) {
                    self.round_over_if_answered(now, out);
                }
            }
            Some(natpmp::Answer::Map {
                epoch,
                protocol,
                internal,
                external,
                lifetime,
            }) => {
                let index = of(&self.wants, protocol).filter(|_| internal == self.port);
                if let Some(index) = index {
                    let granted = Some((external, lifetime));
                    self.answered(now, index, granted, "", epoch, out);
                }
            }
        }
    }

    /// One question is answered: with a port and a lifetime, or why not.
    fn answered(
        &mut self,
        now: Instant,
        index: usize,
        granted: Option<(u16, u32)>,
        why: &str,
        epoch: u32,
        out: &mut Vec<MapAction>,
    ) {
        let Some(want) = self.wants.get_mut(index) else {
            return;
        };
        match &mut self.phase {
            Phase::Asking(asking) => {
                // The answer to a question that was asked twice comes twice.
                if want.answered {
                    return;
                }
                match granted.filter(|(port, lifetime)| *port > 0 && *lifetime > 0) {
                    Some((port, lifetime)) => {
                        (want.answered, want.held) = (true, Some(port));
                        let least = asking.lifetime.map_or(lifetime, |it| it.min(lifetime));
                        asking.lifetime = Some(least);
                    }
                    None => {
                        (want.answered, want.held) = (true, None);
                        let why = if granted.is_some() { "it refuses" } else { why };
                        asking.refusal = Some(why.to_owned());
                    }
                }
                let way = asking.way;
                if granted.is_none() || !self.watch_epoch(now, way, epoch, out) {
                    self.round_over_if_answered(now, out);
                }
            }
            Phase::Ending { .. } => {
                (want.answered, want.held) = (true, None);
                if self.wants.iter().all(|want| want.answered) {
                    self.phase = Phase::Ended;
                }
            }
            Phase::Locating { .. }
            | Phase::Upnp(_)
            | Phase::Held { .. }
            | Phase::Failed { .. }
            | Phase::Ended => {}
        }
    }

    /// True where the gateway forgot what it granted before: then all is asked for once more.
    fn watch_epoch(
        &mut self,
        now: Instant,
        way: Way,
        seconds: u32,
        out: &mut Vec<MapAction>,
    ) -> bool {
        let epoch = Epoch::new(seconds, now);
        let before = self.epoch.replace(epoch);
        let lost = before.is_some_and(|before| epoch.lost_since(&before, way));
        let again = matches!(
            self.phase,
            Phase::Asking(Asking {
                forgotten: false,
                ..
            })
        );
        if lost && again {
            self.ask_by(now, way, false, out);
            if let Phase::Asking(asking) = &mut self.phase {
                asking.forgotten = true;
            }
        }
        lost && again
    }

    fn round_over_if_answered(&mut self, now: Instant, out: &mut Vec<MapAction>) {
        let Phase::Asking(asking) = &self.phase else {
            return;
        };
        let knows_address = asking.way == Way::Pcp || self.address.is_some();
        let refused = asking.refusal.is_some() && self.wants.iter().all(|it| it.held.is_none());
        if self.wants.iter().all(|want| want.answered) && (knows_address || refused) {
            self.round_over(now, out);
        }
    }

    fn round_over(&mut self, now: Instant, out: &mut Vec<MapAction>) {
        let Phase::Asking(asking) = &self.phase else {
            return;
        };
        let (way, lifetime) = (asking.way, asking.lifetime.unwrap_or(LIFETIME));
        let refusal = asking.refusal.clone();
        match self.held(Protocol::Tcp).is_some() {
            true => self.granted(now, way, lifetime),
            false => {
                let why = refusal.unwrap_or_else(|| "no answer".to_owned());
                self.refused(now, way, why, out);
            }
        }
    }
}
