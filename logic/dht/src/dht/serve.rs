//! Questions of others (BEP 5): what they get, and when they get nothing.

use std::net::SocketAddr;

use torr_base::{InfoHash, Instant};

use super::Dht;
use crate::addr::{Contact, Family, push_node};
use crate::id::NodeId;
use crate::message::{Body, ErrorCode, Message, Method, Query, Response, Values};
use crate::store::Used;
use crate::table::K;
use crate::types::DhtAction;

/// Bytes of an answer, at most (guarantees: reflection).
pub const REPLY_LEN_MAX: usize = 1_000;
/// Peers in one answer, at most.
const VALUES_MAX: usize = 100;
/// Bytes of a response without nodes, filters and peers, with the longest transaction id.
const BARE_LEN: usize = 145;

/// An announce, as it came.
struct Offer<'a> {
    info_hash: InfoHash,
    port: u16,
    seed: bool,
    token: &'a [u8],
}

impl Dht {
    pub(super) fn serve(
        &mut self,
        now: Instant,
        from: SocketAddr,
        message: &Message<'_>,
        query: &Query<'_>,
        out: &mut Vec<DhtAction>,
    ) {
        let family = Family::of(from);
        let contact = Contact {
            id: query.id,
            addr: from,
        };
        let side = &mut self.sides[family.index()];
        let own = side.id;
        if self.config.read_only || query.id == own {
            return;
        }
        let proven = match query.method {
            Method::AnnouncePeer {
                info_hash, token, ..
            } => self.secrets.is_token(now, from.ip(), info_hash, token),
            Method::Ping | Method::FindNode { .. } | Method::GetPeers { .. } => false,
        };
        let known = proven || side.table.knows(contact);
        if !self.replies.admits(now, from) || !self.replies.has_room(now, known) {
            self.refused += 1;
            return;
        }
        if !message.read_only {
            side.table.heard_of(now, contact);
        }
        let bytes = match query.method {
            Method::Ping => self.reply(message, from, &Response::new(own)),
            Method::FindNode { target } => self.reply_nodes(message, query, from, target),
            Method::GetPeers {
                info_hash,
                noseed,
                scrape,
            } => self.reply_peers(now, message, query, from, info_hash, (noseed, scrape)),
            Method::AnnouncePeer {
                info_hash,
                port,
                implied_port,
                seed,
                token,
            } => {
                let offer = Offer {
                    info_hash,
                    port: if implied_port { from.port() } else { port },
                    seed,
                    token,
                };
                self.reply_announce(now, message, from, &offer)
            }
        };
        self.pay_and_send(now, from, bytes, known, out);
    }

    /// Tells that a query could not be understood; inside the same limits as answers.
    pub(super) fn refuse(
        &mut self,
        now: Instant,
        from: SocketAddr,
        transaction: &[u8],
        code: ErrorCode,
        text: &'static str,
        out: &mut Vec<DhtAction>,
    ) {
        if self.config.read_only {
            return;
        }
        if !self.replies.admits(now, from) {
            self.refused += 1;
            return;
        }
        let bytes = self.error(transaction, from, code, text);
        self.pay_and_send(now, from, bytes, false, out);
    }

    fn pay_and_send(
        &mut self,
        now: Instant,
        to: SocketAddr,
        bytes: Vec<u8>,
        known: bool,
        out: &mut Vec<DhtAction>,
    ) {
        debug_assert!(bytes.len() <= REPLY_LEN_MAX, "{} bytes", bytes.len());
        if bytes.len() <= REPLY_LEN_MAX && self.replies.pays(now, bytes.len(), known) {
            self.send(to, bytes, out);
        } else {
            self.refused += 1;
        }
    }

    fn reply(&self, message: &Message<'_>, to: SocketAddr, response: &Response<'_>) -> Vec<u8> {
        let message = Message {
            transaction: message.transaction,
            body: Body::Response(*response),
            version: Some(&self.config.version),
            ip: Some(to),
            read_only: false,
        };
        message.encode()
    }

    fn error(
        &self,
        transaction: &[u8],
        to: SocketAddr,
        code: ErrorCode,
        text: &'static str,
    ) -> Vec<u8> {
        let message = Message {
            transaction,
            body: Body::Error {
                code: code as i64,
                text: text.as_bytes(),
            },
            version: Some(&self.config.version),
            ip: Some(to),
            read_only: false,
        };
        message.encode()
    }

    fn reply_nodes(
        &self,
        message: &Message<'_>,
        query: &Query<'_>,
        from: SocketAddr,
        target: NodeId,
    ) -> Vec<u8> {
        let [four, six] = self.nodes_for(query, from, target, false);
        let mut response = Response::new(self.id(Family::of(from)));
        (response.nodes, response.nodes6) = (four.as_deref(), six.as_deref());
        self.reply(message, from, &response)
    }

    /// Peers first of all, then the filters of BEP 33, then nodes of both families: as much as fits.
    fn reply_peers(
        &mut self,
        now: Instant,
        message: &Message<'_>,
        query: &Query<'_>,
        from: SocketAddr,
        info_hash: InfoHash,
        (noseed, scrape): (bool, bool),
    ) -> Vec<u8> {
        let family = Family::of(from);
        let store = &self.sides[family.index()].store;
        let scrape = if scrape {
            store.scrape(now, info_hash)
        } else {
            None
        };
        let [four, six] = self.nodes_for(query, from, info_hash.into(), scrape.is_some());
        let mut response = Response::new(self.id(family));
        (response.nodes, response.nodes6) = (four.as_deref(), six.as_deref());
        response.scrape = scrape.as_ref().map(|(seeds, peers)| (&seeds.0, &peers.0));
        let token = self.secrets.token(now, from.ip(), info_hash);
        response.token = Some(&token);
        let nodes = [response.nodes, response.nodes6].into_iter().flatten();
        let nodes: usize = nodes.map(|bytes| 15 + bytes.len()).sum();
        let filters = if scrape.is_some() { 2 * 266 } else { 0 };
        let left = REPLY_LEN_MAX.saturating_sub(BARE_LEN + nodes + filters);
        let each = match family {
            Family::V4 => 2 + 6,
            Family::V6 => 3 + 18,
        };
        let n = (left / each).min(VALUES_MAX);
        let peers = store.sample(now, info_hash, noseed, n, &mut self.rng);
        if !peers.is_empty() {
            response.values = Values::Peers(&peers);
        }
        self.reply(message, from, &response)
    }

    fn reply_announce(
        &mut self,
        now: Instant,
        message: &Message<'_>,
        from: SocketAddr,
        offer: &Offer<'_>,
    ) -> Vec<u8> {
        let family = Family::of(from);
        let t = message.transaction;
        let ip = from.ip();
        if !self.secrets.is_token(now, ip, offer.info_hash, offer.token) {
            return self.error(t, from, ErrorCode::Protocol, "bad token");
        }
        let others = self.sides[family.other().index()].store.used();
        let others = Used {
            hashes: others.hashes,
            peers: others.peers,
        };
        let side = self.side(family);
        let peer = SocketAddr::new(ip, offer.port);
        let (own, hash) = (side.id, offer.info_hash);
        if offer.port == 0 {
            return self.error(t, from, ErrorCode::Protocol, "no port");
        }
        if !side
            .store
            .announce(now, own, others, hash, peer, offer.seed)
        {
            return self.error(t, from, ErrorCode::Server, "no room");
        }
        self.reply(message, from, &Response::new(own))
    }

    /// The closest nodes in compact form, of the families that are wanted (BEP 32).
    fn nodes_for(
        &self,
        query: &Query<'_>,
        from: SocketAddr,
        target: NodeId,
        short: bool,
    ) -> [Option<Vec<u8>>; 2] {
        let family = Family::of(from);
        let none = !query.want.n4 && !query.want.n6;
        let wanted = [query.want.n4, query.want.n6];
        [Family::V4, Family::V6].map(|of| {
            let wanted = if none || short {
                of == family
            } else {
                wanted[of.index()]
            };
            wanted.then(|| {
                let mut bytes = Vec::with_capacity(K * 38);
                let nodes = self.sides[of.index()].table.closest(target, K + 1);
                let others = nodes.into_iter().filter(|it| it.addr != from);
                others.take(K).for_each(|it| push_node(&mut bytes, it));
                bytes
            })
        })
    }
}
