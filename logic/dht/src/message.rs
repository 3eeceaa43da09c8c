//! Messages (BEP 5) there and back: views of the bytes when read, canonical bencode when written.
//!
//! | key | where | BEP |
//! |---|---|---|
//! | `want`, `nodes6` | queries, responses | 32 |
//! | `seed`, `noseed`, `scrape`, `BFsd`, `BFpe` | queries, responses | 33 |
//! | `ip` | beside `t`, in all that answers | 42 |
//! | `ro` | beside `t`, in queries | 43 |
//! | `implied_port`, `v` | `announce_peer`, beside `t` | 5 |
//!
//! Reading is lenient where the field is (unknown keys, keys out of order) and never allocates but for
//! what [`torr_bencode`] states. What is no message at all is [`Fault::Rubbish`]; a query that cannot be
//! served carries what its error reply needs.
#![warn(clippy::indexing_slicing)]

use std::net::SocketAddr;

use torr_base::InfoHash;
use torr_bencode::{DictWriter, Limits, List, Value};

use crate::addr::{Contact, Family, is_possible, push_peer, read_node, read_peer};
use crate::bloom::BLOOM_LEN;
use crate::id::NodeId;

/// Longest datagram that is looked at: what fits one packet, with room.
pub const MESSAGE_LEN_MAX: usize = 2_048;
/// Longest transaction id that is given back; everybody uses 2 to 8 bytes.
pub const TRANSACTION_LEN_MAX: usize = 32;
/// Longest token that is kept; everybody uses 4 to 20 bytes.
pub const TOKEN_LEN_MAX: usize = 64;

const LIMITS: Limits = Limits {
    depth: 8,
    tokens: 600,
    len: MESSAGE_LEN_MAX,
};

/// One datagram.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Message<'a> {
    /// Given back as it came; at most [`TRANSACTION_LEN_MAX`] bytes.
    pub transaction: &'a [u8],
    pub body: Body<'a>,
    /// Which program, as it says: two letters and two bytes, mostly.
    pub version: Option<&'a [u8]>,
    /// Where the receiver of an answer is, as its sender sees it (BEP 42).
    pub ip: Option<SocketAddr>,
    /// The sender answers no queries and belongs in no table (BEP 43).
    pub read_only: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Body<'a> {
    Query(Query<'a>),
    Response(Response<'a>),
    Error {
        code: i64,
        /// As it came; clean it before it is shown.
        text: &'a [u8],
    },
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Query<'a> {
    pub id: NodeId,
    /// Which nodes are asked for (BEP 32); neither means those of the family that carries the query.
    pub want: Want,
    pub method: Method<'a>,
}

/// BEP 32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Want {
    pub n4: bool,
    pub n6: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Method<'a> {
    Ping,
    FindNode {
        target: NodeId,
    },
    GetPeers {
        info_hash: InfoHash,
        /// Rather peers that are no seeds (BEP 33).
        noseed: bool,
        /// Filters are wanted (BEP 33).
        scrape: bool,
    },
    AnnouncePeer {
        info_hash: InfoHash,
        port: u16,
        /// The port that the datagram comes from counts instead.
        implied_port: bool,
        seed: bool,
        token: &'a [u8],
    },
}

/// What a query is answered with; which fields there are depends on the query.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Response<'a> {
    pub id: NodeId,
    /// Compact nodes of 26 bytes.
    pub nodes: Option<&'a [u8]>,
    /// Compact nodes of 38 bytes.
    pub nodes6: Option<&'a [u8]>,
    /// At most [`TOKEN_LEN_MAX`] bytes.
    pub token: Option<&'a [u8]>,
    pub values: Values<'a>,
    /// The filters of seeds and of peers that are no seeds (BEP 33): see [`Bloom`](crate::Bloom).
    pub scrape: Option<(&'a [u8; BLOOM_LEN], &'a [u8; BLOOM_LEN])>,
}

/// The peers of a response.
#[derive(Clone, Copy, Debug)]
pub enum Values<'a> {
    None,
    /// As read.
    Read(List<'a>),
    /// To be written.
    Peers(&'a [SocketAddr]),
}

/// The codes of BEP 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    Generic = 201,
    Server = 202,
    Protocol = 203,
    MethodUnknown = 204,
}

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault<'a> {
    /// Gets no answer.
    Rubbish,
    /// A query that lacks something or that nobody knows; may be answered with this error.
    Query {
        transaction: &'a [u8],
        code: ErrorCode,
        text: &'static str,
    },
}

impl<'a> Message<'a> {
    /// # Errors
    /// Where the bytes are no message, or no query that can be served.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Fault<'a>> {
        if bytes.first() != Some(&b'd') || bytes.len() > MESSAGE_LEN_MAX {
            return Err(Fault::Rubbish);
        }
        let document = torr_bencode::read(bytes, &LIMITS).map_err(|_| Fault::Rubbish)?;
        let root = document.root.as_dict().ok_or(Fault::Rubbish)?;
        let [t, y, a, q, r, e, v, ip, ro] =
            root.pick(["t", "y", "a", "q", "r", "e", "v", "ip", "ro"]);
        let transaction = t.and_then(Value::as_bytes).ok_or(Fault::Rubbish)?;
        if transaction.len() > TRANSACTION_LEN_MAX {
            return Err(Fault::Rubbish);
        }
        let body = match y.and_then(Value::as_bytes) {
            Some(b"q") => Body::Query(read_query(transaction, q, a)?),
            Some(b"r") => Body::Response(read_response(r).ok_or(Fault::Rubbish)?),
            Some(b"e") => read_error(e),
            Some(_) | None => return Err(Fault::Rubbish),
        };
        Ok(Self {
            transaction,
            body,
            version: v.and_then(Value::as_bytes),
            ip: ip.and_then(Value::as_bytes).and_then(read_peer),
            read_only: flag(ro),
        })
    }

    /// The datagram.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        torr_bencode::write_dict(&mut out, |d| {
            match &self.body {
                Body::Query(query) => {
                    d.dict("a", |a| write_arguments(a, query));
                }
                Body::Error { code, text } => {
                    d.list("e", |e| {
                        e.int(*code).bytes(text);
                    });
                }
                Body::Response(_) => {}
            }
            if let Some(ip) = self.ip {
                d.bytes("ip", compact(ip));
            }
            let kind = match &self.body {
                Body::Query(query) => {
                    d.bytes("q", query.method.name());
                    "q"
                }
                Body::Response(response) => {
                    d.dict("r", |r| write_response(r, response));
                    "r"
                }
                Body::Error { .. } => "e",
            };
            if self.read_only {
                d.int("ro", 1);
            }
            d.bytes("t", self.transaction);
            if let Some(version) = self.version {
                d.bytes("v", version);
            }
            d.bytes("y", kind);
        });
        out
    }
}

impl Method<'_> {
    /// As the field `q` has it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::FindNode { .. } => "find_node",
            Self::GetPeers { .. } => "get_peers",
            Self::AnnouncePeer { .. } => "announce_peer",
        }
    }
}

impl<'a> Response<'a> {
    /// A response that says nothing but who it is from: to `ping` and `announce_peer`.
    #[must_use]
    pub const fn new(id: NodeId) -> Self {
        Self {
            id,
            nodes: None,
            nodes6: None,
            token: None,
            values: Values::None,
            scrape: None,
        }
    }

    /// The nodes of one family, in the order in which they came; impossible addresses are left out, and
    /// so is a rest that is no whole entry.
    pub fn nodes(&self, family: Family) -> impl Iterator<Item = Contact> + 'a {
        let bytes = match family {
            Family::V4 => self.nodes,
            Family::V6 => self.nodes6,
        };
        let entries = bytes
            .unwrap_or_default()
            .chunks_exact(20 + family.peer_len());
        entries
            .filter_map(read_node)
            .filter(move |node| is_possible(node.addr) && Family::of(node.addr) == family)
    }
}

impl<'a> Values<'a> {
    /// Those that are addresses.
    pub fn peers(&self) -> impl Iterator<Item = SocketAddr> + 'a {
        let (list, given) = match *self {
            Self::None => (None, &[][..]),
            Self::Read(list) => (Some(list), &[][..]),
            Self::Peers(peers) => (None, peers),
        };
        let read = list.into_iter().flatten();
        let read = read.filter_map(|value| read_peer(value.as_bytes()?));
        read.chain(given.iter().copied())
            .filter(|addr| is_possible(*addr))
    }
}

impl PartialEq for Values<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.peers().eq(other.peers())
    }
}

fn read_query<'a>(
    transaction: &'a [u8],
    method: Option<Value<'a>>,
    arguments: Option<Value<'a>>,
) -> Result<Query<'a>, Fault<'a>> {
    let refuse = |code, text| Fault::Query {
        transaction,
        code,
        text,
    };
    let lacks = |text| refuse(ErrorCode::Protocol, text);
    let a = arguments
        .and_then(Value::as_dict)
        .ok_or(lacks("no arguments"))?;
    let id = id_of(a.get("id")).ok_or(lacks("no id"))?;
    let info_hash = || id_of(a.get("info_hash")).map(|id| InfoHash(id.0));
    let method = match method.and_then(Value::as_bytes) {
        Some(b"ping") => Method::Ping,
        Some(b"find_node") => Method::FindNode {
            target: id_of(a.get("target")).ok_or(lacks("no target"))?,
        },
        Some(b"get_peers") => Method::GetPeers {
            info_hash: info_hash().ok_or(lacks("no info_hash"))?,
            noseed: flag(a.get("noseed")),
            scrape: flag(a.get("scrape")),
        },
        Some(b"announce_peer") => {
            let implied_port = flag(a.get("implied_port"));
            let port = a.uint("port").and_then(|port| u16::try_from(port).ok());
            let port = port.filter(|port| *port != 0 || implied_port);
            Method::AnnouncePeer {
                info_hash: info_hash().ok_or(lacks("no info_hash"))?,
                port: port.or(implied_port.then_some(0)).ok_or(lacks("no port"))?,
                implied_port,
                seed: flag(a.get("seed")),
                token: a.bytes("token").ok_or(lacks("no token"))?,
            }
        }
        Some(_) => return Err(refuse(ErrorCode::MethodUnknown, "unknown method")),
        None => return Err(lacks("no method")),
    };
    let mut want = Want::default();
    for value in a.list("want").into_iter().flatten() {
        match value.as_bytes() {
            Some(b"n4") => want.n4 = true,
            Some(b"n6") => want.n6 = true,
            Some(_) | None => {}
        }
    }
    Ok(Query { id, want, method })
}

fn read_response<'a>(r: Option<Value<'a>>) -> Option<Response<'a>> {
    let r = r?.as_dict()?;
    let [id, nodes, nodes6, token, values, seeds, peers] =
        r.pick(["id", "nodes", "nodes6", "token", "values", "BFsd", "BFpe"]);
    let bytes = |value: Option<Value<'a>>| value.and_then(Value::as_bytes);
    let filter = |value| <&[u8; BLOOM_LEN]>::try_from(bytes(value)?).ok();
    Some(Response {
        id: id_of(id)?,
        nodes: bytes(nodes),
        nodes6: bytes(nodes6),
        token: bytes(token).filter(|token| token.len() <= TOKEN_LEN_MAX),
        values: (values.and_then(Value::as_list)).map_or(Values::None, Values::Read),
        scrape: filter(seeds).zip(filter(peers)),
    })
}

/// Whatever it says, the query is over.
fn read_error(e: Option<Value<'_>>) -> Body<'_> {
    let mut parts = e.and_then(Value::as_list).into_iter().flatten();
    Body::Error {
        code: parts.next().and_then(Value::as_int).unwrap_or(0),
        text: parts.next().and_then(Value::as_bytes).unwrap_or_default(),
    }
}

fn id_of(value: Option<Value<'_>>) -> Option<NodeId> {
    Some(NodeId(value?.as_bytes()?.try_into().ok()?))
}

fn flag(value: Option<Value<'_>>) -> bool {
    value.and_then(Value::as_int).is_some_and(|n| n != 0)
}

fn write_arguments(a: &mut DictWriter<'_>, query: &Query<'_>) {
    a.bytes("id", query.id.0);
    match query.method {
        Method::Ping => {}
        Method::FindNode { target } => {
            a.bytes("target", target.0);
        }
        Method::GetPeers {
            info_hash,
            noseed,
            scrape,
        } => {
            a.bytes("info_hash", info_hash.0);
            if noseed {
                a.int("noseed", 1);
            }
            if scrape {
                a.int("scrape", 1);
            }
        }
        Method::AnnouncePeer {
            info_hash,
            port,
            implied_port,
            seed,
            token,
        } => {
            if implied_port {
                a.int("implied_port", 1);
            }
            a.bytes("info_hash", info_hash.0).int("port", port.into());
            if seed {
                a.int("seed", 1);
            }
            a.bytes("token", token);
        }
    }
    if query.want != Want::default() {
        a.list("want", |want| {
            if query.want.n4 {
                want.bytes("n4");
            }
            if query.want.n6 {
                want.bytes("n6");
            }
        });
    }
}

fn write_response(r: &mut DictWriter<'_>, response: &Response<'_>) {
    if let Some((seeds, peers)) = response.scrape {
        r.bytes("BFpe", peers).bytes("BFsd", seeds);
    }
    r.bytes("id", response.id.0);
    if let Some(nodes) = response.nodes {
        r.bytes("nodes", nodes);
    }
    if let Some(nodes) = response.nodes6 {
        r.bytes("nodes6", nodes);
    }
    if let Some(token) = response.token {
        r.bytes("token", token);
    }
    match response.values {
        Values::None => {}
        Values::Read(_) | Values::Peers(_) => {
            r.list("values", |list| {
                for peer in response.values.peers() {
                    list.bytes(compact(peer));
                }
            });
        }
    }
}

fn compact(addr: SocketAddr) -> Vec<u8> {
    let mut out = Vec::with_capacity(18);
    push_peer(&mut out, addr);
    out
}
