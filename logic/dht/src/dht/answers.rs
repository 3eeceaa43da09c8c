//! Answers to what we asked, and answers that never came.

use std::net::SocketAddr;

use torr_base::Instant;

use super::Dht;
use crate::addr::{Contact, Family, may_name};
use crate::lookup::Purpose;
use crate::message::{Body, Message, Response};
use crate::queries::{Asked, Overdue, What};
use crate::types::DhtAction;

/// Nodes taken from an answer as rumours for the table.
const RUMOURS_MAX: usize = 8;

impl Dht {
    /// False if nothing of the kind was asked there.
    pub(super) fn take_answer(
        &mut self,
        now: Instant,
        from: SocketAddr,
        message: &Message<'_>,
        out: &mut Vec<DhtAction>,
    ) -> bool {
        let Some(asked) = self.queries.answer(now, message.transaction, from) else {
            return false;
        };
        self.heard = now;
        self.silence.answered(from);
        self.release(from, true);
        match &message.body {
            Body::Response(response) => {
                // Whoever sits near a torrent's key may have chosen to; near our own id they have not.
                let chosen = match asked.what {
                    What::Probe => true,
                    What::Lookup(key) => {
                        (self.lookups.get(key)).is_some_and(|it| it.purpose == Purpose::Neighbours)
                    }
                    What::Announce(_) => false,
                };
                self.take_response(now, from, asked, response, out);
                if chosen {
                    self.take_vote(now, from, message, out);
                }
            }
            // Alive, but of no help.
            Body::Error { .. } => self.take_failure(now, asked, out),
            Body::Query(_) => debug_assert!(false, "queries are served"),
        }
        true
    }

    /// What time brings to questions under way.
    pub(super) fn expire(&mut self, now: Instant, out: &mut Vec<DhtAction>) {
        while let Some(overdue) = self.queries.overdue(now) {
            match overdue {
                Overdue::Late(asked) => {
                    self.release(asked.to, false);
                    self.take_delay(asked);
                }
                Overdue::Lost(asked) => {
                    self.release(asked.to, false);
                    // Where nobody answered since, the silence may be our own.
                    if self.heard > asked.sent {
                        self.silence.failed(now, asked.to);
                        if let Some(id) = asked.id {
                            let addr = asked.to;
                            let side = self.side(Family::of(addr));
                            side.table.failed(now, Contact { id, addr });
                        }
                    }
                    self.take_failure(now, asked, out);
                }
            }
        }
    }

    fn take_response(
        &mut self,
        now: Instant,
        from: SocketAddr,
        asked: Asked,
        response: &Response<'_>,
        out: &mut Vec<DhtAction>,
    ) {
        let family = Family::of(from);
        let contact = Contact {
            id: response.id,
            addr: from,
        };
        let side = self.side(family);
        if !side.is_router(from) {
            side.table.answered(now, contact);
        }
        side.saved.retain(|it| it.addr != from);
        for of in [family, family.other()] {
            let side = self.side(of);
            if side.active {
                let nodes = response.nodes(of).take(RUMOURS_MAX);
                nodes
                    .filter(|it| may_name(from, it.addr))
                    .for_each(|it| side.table.heard_of(now, it));
            }
        }
        match asked.what {
            What::Probe => {}
            What::Lookup(key) => {
                if let Some(lookup) = self.lookups.get_mut(key) {
                    lookup.answered(contact, response.token, response.nodes(family));
                    self.awake.insert(key);
                    self.hand_on_peers(key, from, response, out);
                }
            }
            What::Announce(key) => {
                if let Some(lookup) = self.lookups.get_mut(key) {
                    lookup.stored += 1;
                }
                self.announce_over(now, key, out);
            }
        }
    }

    fn take_vote(
        &mut self,
        now: Instant,
        from: SocketAddr,
        message: &Message<'_>,
        out: &mut Vec<DhtAction>,
    ) {
        let Some(ip) = message.ip.map(|addr| addr.ip()) else {
            return;
        };
        let side = &mut self.sides[Family::of(from).index()];
        let Some(ip) = side.votes.add(from, ip) else {
            return;
        };
        let news = side.external != Some(ip);
        side.set_external(now, ip, &mut self.secrets);
        if news {
            out.push(DhtAction::ExternalIp { ip });
        }
    }

    /// Others are asked instead, but an answer may still come.
    fn take_delay(&mut self, asked: Asked) {
        match asked.what {
            What::Lookup(key) => {
                if let Some(lookup) = self.lookups.get_mut(key) {
                    lookup.late(asked.to);
                    self.awake.insert(key);
                }
            }
            What::Probe | What::Announce(_) => {}
        }
    }

    fn take_failure(&mut self, now: Instant, asked: Asked, out: &mut Vec<DhtAction>) {
        match asked.what {
            What::Probe => {}
            What::Lookup(key) => {
                if let Some(lookup) = self.lookups.get_mut(key) {
                    lookup.failed(asked.to);
                    self.awake.insert(key);
                }
            }
            What::Announce(key) => self.announce_over(now, key, out),
        }
        if !matches!(asked.what, What::Announce(_)) {
            let side = self.side(Family::of(asked.to));
            side.saved.retain(|it| it.addr != asked.to);
        }
    }
}
