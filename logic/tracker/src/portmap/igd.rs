//! UPnP: search for the gateway's description, read it, then one call after the other.

use std::net::SocketAddr;
use std::time::Duration;

use torr_base::Instant;

use super::upnp::{self, Place, Service};
use super::{DRIVER_PATIENCE, LIFETIME, MapAction, Phase, PortMapper, Protocol, Way};

/// Between two searches, and how many there are: answers come within a second, we say.
const SEARCH_EVERY: Duration = Duration::from_secs(1);
const SEARCHES_MAX: u32 = 3;
/// Other ports that are tried where one is taken.
const PORTS_MAX: u32 = 4;
/// Of those, the lowest; below it are services of the machine itself.
const PORT_MIN: u16 = 10_000;

/// How far it is.
#[derive(Clone, Debug)]
pub(super) struct Igd {
    step: Step,
    /// When the next search goes out, or patience ends.
    pub(super) due: Instant,
    /// The answer that is awaited.
    request: u64,
}

#[derive(Clone, Debug)]
enum Step {
    Searching {
        searches: u32,
    },
    /// Of what it is the description.
    Describing(Place),
    /// Which of the wants is being mapped, and to which port.
    Mapping {
        index: usize,
        port: u16,
        ports: u32,
    },
    AskingAddress,
}

impl PortMapper {
    pub(super) fn igd_begin(&mut self, now: Instant, out: &mut Vec<MapAction>) {
        self.service = None;
        self.permanent = false;
        let step = Step::Searching { searches: 0 };
        self.phase = Phase::Upnp(Igd {
            step,
            due: now,
            request: 0,
        });
        self.igd_timeout(now, out);
    }

    /// The service is known: the same calls once more.
    pub(super) fn igd_renew(&mut self, now: Instant, out: &mut Vec<MapAction>) {
        for want in &mut self.wants {
            want.answered = false;
        }
        self.igd_map_next(now, out);
    }

    pub(super) fn igd_timeout(&mut self, now: Instant, out: &mut Vec<MapAction>) {
        let Phase::Upnp(igd) = &mut self.phase else {
            return;
        };
        match &mut igd.step {
            Step::Searching { searches } if *searches < SEARCHES_MAX => {
                *searches += 1;
                igd.due = now + SEARCH_EVERY;
                let bytes = upnp::search().into_bytes();
                out.push(MapAction::Search { bytes });
            }
            Step::Searching { .. }
            | Step::Describing(_)
            | Step::Mapping { .. }
            | Step::AskingAddress => self.refused(now, Way::Upnp, "no answer".to_owned(), out),
        }
    }

    /// A datagram to the socket that searches.
    pub fn handle_search(
        &mut self,
        now: Instant,
        from: SocketAddr,
        bytes: &[u8],
        out: &mut Vec<MapAction>,
    ) {
        let Some(gateway) = self.gateway.filter(|_| self.gateway_is(from)) else {
            return;
        };
        if let Phase::Upnp(Igd {
            step: Step::Searching { .. },
            ..
        }) = &self.phase
            && let Some(place) = upnp::read_search_answer(bytes, gateway.addr)
        {
            let step = Step::Describing(place.clone());
            self.igd_ask(now, step, place, None, out);
        }
    }

    /// The answer to [`MapAction::Http`]: status and body, or why there is none.
    pub fn handle_http(
        &mut self,
        now: Instant,
        request: u64,
        answer: Result<(u16, String), String>,
        out: &mut Vec<MapAction>,
    ) {
        if let Phase::Ending { way: Way::Upnp, .. } = self.phase {
            let open = self.wants.iter_mut().find(|want| !want.answered);
            if let Some(want) = open {
                want.answered = true;
            }
            if self.wants.iter().all(|want| want.answered) {
                self.phase = Phase::Ended;
            }
            return;
        }
        let Phase::Upnp(igd) = &self.phase else {
            return;
        };
        if igd.request != request {
            return;
        }
        match (igd.step.clone(), answer) {
            (Step::Searching { .. }, _) => {}
            (Step::Describing(place), Ok((200, body))) => {
                self.service = upnp::read_description(&body, &place);
                match self.service {
                    Some(_) => self.igd_renew(now, out),
                    None => self.igd_refused(now, "it has no service for ports".to_owned(), out),
                }
            }
            (Step::Mapping { index, port, ports }, Ok((status, body))) => match status {
                200 => self.igd_mapped(now, index, port, out),
                _ => self.igd_fault(now, (index, port, ports), upnp::read_fault(&body), out),
            },
            (Step::AskingAddress, answer) => {
                let body = answer.ok().filter(|(status, _)| *status == 200);
                self.address = body.and_then(|(_, body)| upnp::read_address(&body));
                self.granted(now, Way::Upnp, LIFETIME);
            }
            (Step::Describing(_), Ok((status, _))) => {
                self.igd_refused(
                    now,
                    format!("its description is answered with {status}"),
                    out,
                );
            }
            (Step::Describing(_) | Step::Mapping { .. }, Err(why)) => {
                self.igd_refused(now, why, out);
            }
        }
    }

    /// Maps the first port that is not, or goes on to the address.
    fn igd_map_next(&mut self, now: Instant, out: &mut Vec<MapAction>) {
        let next = self.wants.iter().position(|want| !want.answered);
        let Some(service) = self.service.clone() else {
            self.igd_begin(now, out);
            return;
        };
        match next {
            Some(index) => {
                let held = self.wants.get(index).and_then(|want| want.held);
                // Datagrams best come by the same port.
                let tcp = self.wants.first().and_then(|want| want.held);
                let port = held.or(tcp).unwrap_or(self.port);
                self.igd_map(now, (index, port, 0), &service, out);
            }
            None => {
                let call = upnp::ask_address(&service);
                self.igd_ask(now, Step::AskingAddress, service.place, Some(call), out);
            }
        }
    }

    fn igd_map(
        &mut self,
        now: Instant,
        (index, port, ports): (usize, u16, u32),
        service: &Service,
        out: &mut Vec<MapAction>,
    ) {
        let (Some(gateway), Some(want)) = (self.gateway, self.wants.get(index)) else {
            return;
        };
        let lease = if self.permanent { 0 } else { LIFETIME };
        let inside = (gateway.local, self.port);
        let call = upnp::add(service, want.protocol, port, inside, lease);
        let step = Step::Mapping { index, port, ports };
        self.igd_ask(now, step, service.place.clone(), Some(call), out);
    }

    fn igd_mapped(&mut self, now: Instant, index: usize, port: u16, out: &mut Vec<MapAction>) {
        if let Some(want) = self.wants.get_mut(index) {
            (want.answered, want.held) = (true, Some(port));
        }
        self.igd_map_next(now, out);
    }

    fn igd_fault(
        &mut self,
        now: Instant,
        (index, port, ports): (usize, u16, u32),
        fault: Option<u16>,
        out: &mut Vec<MapAction>,
    ) {
        let Some(service) = self.service.clone() else {
            return;
        };
        match fault {
            Some(upnp::PERMANENT_ONLY) if !self.permanent => {
                self.permanent = true;
                self.igd_map(now, (index, port, ports), &service, out);
            }
            Some(upnp::CONFLICT) if ports < PORTS_MAX => {
                let span = u64::from(u16::MAX - PORT_MIN);
                let offset = u16::try_from(self.rng.below(span)).unwrap_or(0);
                let other = PORT_MIN + offset;
                self.igd_map(now, (index, other, ports + 1), &service, out);
            }
            fault => {
                let tcp = self
                    .wants
                    .get(index)
                    .is_none_or(|it| it.protocol == Protocol::Tcp);
                if let (false, Some(want)) = (tcp, self.wants.get_mut(index)) {
                    // Peers can connect, and that is what matters.
                    (want.answered, want.held) = (true, None);
                    self.igd_map_next(now, out);
                    return;
                }
                let why = match fault {
                    Some(upnp::CONFLICT) => "every port that was tried is taken".to_owned(),
                    Some(606) => "it does not allow it".to_owned(),
                    Some(code) => format!("it refuses (error {code})"),
                    None => "it refuses".to_owned(),
                };
                self.igd_refused(now, why, out);
            }
        }
    }

    fn igd_refused(&mut self, now: Instant, why: String, out: &mut Vec<MapAction>) {
        self.refused(now, Way::Upnp, why, out);
    }

    fn igd_ask(
        &mut self,
        now: Instant,
        step: Step,
        place: Place,
        call: Option<upnp::Call>,
        out: &mut Vec<MapAction>,
    ) {
        self.requests += 1;
        let request = self.requests;
        self.phase = Phase::Upnp(Igd {
            step,
            due: now + DRIVER_PATIENCE,
            request,
        });
        out.push(MapAction::Http {
            request,
            place,
            call,
        });
    }

    /// Takes all mappings back.
    pub(super) fn igd_delete(&mut self, out: &mut Vec<MapAction>) {
        let Some(service) = &self.service else {
            return;
        };
        for want in &self.wants {
            if let Some(port) = want.held {
                self.requests += 1;
                out.push(MapAction::Http {
                    request: self.requests,
                    place: service.place.clone(),
                    call: Some(upnp::delete(service, want.protocol, port)),
                });
            }
        }
    }
}
