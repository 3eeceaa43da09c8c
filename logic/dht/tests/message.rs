//! Messages: the examples of the BEPs, any message there and back, and what is refused.

use std::net::SocketAddr;

use proptest::collection::vec;
use proptest::prelude::*;
use torr_base::InfoHash;
use torr_dht::message::{
    Body, ErrorCode, Fault, MESSAGE_LEN_MAX, Message, Method, Query, Response, Values, Want,
};
use torr_dht::{Family, NodeId};

const A: NodeId = NodeId(*b"abcdefghij0123456789");
const B: NodeId = NodeId(*b"mnopqrstuvwxyz123456");

fn plain<'a>(transaction: &'a [u8], body: Body<'a>) -> Message<'a> {
    Message {
        transaction,
        body,
        version: None,
        ip: None,
        read_only: false,
    }
}

fn query(method: Method<'_>) -> Body<'_> {
    Body::Query(Query {
        id: A,
        want: Want::default(),
        method,
    })
}

#[test]
fn the_examples_of_bep_5() {
    let info_hash = InfoHash(B.0);
    let error = Body::Error {
        code: 201,
        text: b"A Generic Error Ocurred",
    };
    let announce = Method::AnnouncePeer {
        info_hash,
        port: 6881,
        implied_port: true,
        seed: false,
        token: b"aoeusnth",
    };
    let get_peers = Method::GetPeers {
        info_hash,
        noseed: false,
        scrape: false,
    };
    let peers: [SocketAddr; 2] = [
        "97.120.106.101:11893".parse().unwrap(),
        "105.100.104.116:28269".parse().unwrap(),
    ];
    let mut with_peers = Response::new(A);
    with_peers.token = Some(b"aoeusnth");
    with_peers.values = Values::Peers(&peers);
    let table: [(&[u8], Body<'_>); 6] = [
        (b"d1:eli201e23:A Generic Error Ocurrede1:t2:aa1:y1:ee", error),
        (
            b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe",
            query(Method::Ping),
        ),
        (
            b"d1:ad2:id20:abcdefghij01234567896:target20:mnopqrstuvwxyz123456e1:q9:find_node1:t2:aa1:y1:qe",
            query(Method::FindNode { target: B }),
        ),
        (
            b"d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz123456e1:q9:get_peers1:t2:aa1:y1:qe",
            query(get_peers),
        ),
        (
            b"d1:ad2:id20:abcdefghij012345678912:implied_porti1e9:info_hash20:mnopqrstuvwxyz1234564:porti6881e5:token8:aoeusnthe1:q13:announce_peer1:t2:aa1:y1:qe",
            query(announce),
        ),
        (
            b"d1:rd2:id20:abcdefghij01234567895:token8:aoeusnth6:valuesl6:axje.u6:idhtnmee1:t2:aa1:y1:re",
            Body::Response(with_peers),
        ),
    ];
    for (bytes, body) in table {
        let message = plain(b"aa", body);
        assert_eq!(Message::decode(bytes), Ok(message));
        assert_eq!(
            message.encode().escape_ascii().to_string(),
            bytes.escape_ascii().to_string()
        );
    }
}

#[test]
fn queries_that_cannot_be_served_say_why() {
    let code = |bytes: &[u8]| match Message::decode(bytes) {
        Err(Fault::Query {
            code, transaction, ..
        }) => {
            assert_eq!(transaction, b"aa");
            Some(code)
        }
        Err(Fault::Rubbish) => None,
        Ok(message) => panic!("{message:?}"),
    };
    let id = "2:id20:abcdefghij0123456789";
    let hash = "9:info_hash20:mnopqrstuvwxyz123456";
    let of = |arguments: String, method: &str| {
        format!(
            "d1:ad{arguments}e1:q{}:{method}1:t2:aa1:y1:qe",
            method.len()
        )
    };
    for (text, want) in [
        (of(id.to_owned(), "vote"), Some(ErrorCode::MethodUnknown)),
        (of(String::new(), "ping"), Some(ErrorCode::Protocol)),
        (
            of("2:id19:abcdefghij012345678".to_owned(), "ping"),
            Some(ErrorCode::Protocol),
        ),
        (of(id.to_owned(), "find_node"), Some(ErrorCode::Protocol)),
        (of(id.to_owned(), "get_peers"), Some(ErrorCode::Protocol)),
        (
            of(format!("{id}{hash}4:porti80e"), "announce_peer"),
            Some(ErrorCode::Protocol),
        ),
        (
            of(format!("{id}{hash}4:porti0e5:token1:x"), "announce_peer"),
            Some(ErrorCode::Protocol),
        ),
        (
            of(
                format!("{id}{hash}4:porti65536e5:token1:x"),
                "announce_peer",
            ),
            Some(ErrorCode::Protocol),
        ),
        (
            "d1:q4:ping1:t2:aa1:y1:qe".to_owned(),
            Some(ErrorCode::Protocol),
        ),
        (
            format!("d1:ad{id}e1:t2:aa1:y1:qe"),
            Some(ErrorCode::Protocol),
        ),
        (format!("d1:ad{id}e1:q4:ping1:y1:qe"), None),
        (format!("d1:rd{id}e1:t2:aa1:y1:xe"), None),
        ("d1:rde1:t2:aa1:y1:re".to_owned(), None),
        ("i5e".to_owned(), None),
        (String::new(), None),
    ] {
        assert_eq!(code(text.as_bytes()), want, "{text}");
    }
    let long = format!("d1:ad{id}e1:q4:ping1:t33:{}1:y1:qe", "t".repeat(33));
    assert_eq!(code(long.as_bytes()), None);
    let huge = format!(
        "d1:ad{id}e1:q4:ping1:t2:aa1:x{}:{}1:y1:qe",
        MESSAGE_LEN_MAX,
        "x".repeat(MESSAGE_LEN_MAX)
    );
    assert_eq!(code(huge.as_bytes()), None);
}

#[test]
fn odd_lists_of_nodes_and_peers_lose_only_what_is_odd() {
    let mut nodes = vec![1; 26];
    nodes.extend([2; 20]);
    nodes.extend([0, 0, 0, 0, 0, 0]);
    nodes.extend([3; 25]);
    let mut response = Response::new(A);
    response.nodes = Some(&nodes);
    let bytes = plain(b"aa", Body::Response(response)).encode();
    let Ok(Message {
        body: Body::Response(read),
        ..
    }) = Message::decode(&bytes)
    else {
        panic!("a response");
    };
    let read: Vec<_> = read.nodes(Family::V4).collect();
    assert_eq!(read.len(), 1);
    assert_eq!(read[0].id, NodeId([1; 20]));
    let odd = b"d1:rd2:id20:abcdefghij01234567896:valuesl6:axje.ui5e5:short6:\0\0\0\0\0\0ee1:t2:aa1:y1:re";
    let Ok(Message {
        body: Body::Response(read),
        ..
    }) = Message::decode(odd)
    else {
        panic!("a response");
    };
    assert_eq!(read.values.peers().count(), 1);
}

fn address() -> impl Strategy<Value = SocketAddr> {
    let four = (1_u8..=223, any::<[u8; 3]>(), 1_u16..)
        .prop_map(|(a, [b, c, d], port)| SocketAddr::from(([a, b, c, d], port)));
    let six = (any::<[u8; 14]>(), 1_u16..).prop_map(|(rest, port)| {
        let mut ip = [0x20; 16];
        ip[2..].copy_from_slice(&rest);
        SocketAddr::from((ip, port))
    });
    prop_oneof![four, six]
}

fn id() -> impl Strategy<Value = NodeId> {
    any::<[u8; 20]>().prop_map(NodeId)
}

/// What a message borrows.
#[derive(Clone, Debug)]
struct Parts {
    kind: u8,
    ids: (NodeId, NodeId),
    flags: [bool; 8],
    number: u16,
    transaction: Vec<u8>,
    token: Vec<u8>,
    nodes: Vec<u8>,
    peers: Vec<SocketAddr>,
    ip: Option<SocketAddr>,
}

fn parts() -> impl Strategy<Value = Parts> {
    let bytes = |most| vec(any::<u8>(), 0..=most);
    let first = (0_u8..6, (id(), id()), any::<[bool; 8]>(), 1_u16..);
    let second = (
        bytes(32),
        bytes(64),
        bytes(300),
        vec(address(), 0..20),
        proptest::option::of(address()),
    );
    (first, second).prop_map(
        |((kind, ids, flags, number), (transaction, token, nodes, peers, ip))| Parts {
            kind,
            ids,
            flags,
            number,
            transaction,
            token,
            nodes,
            peers,
            ip,
        },
    )
}

impl Parts {
    fn message(&self) -> Message<'_> {
        let [a, b, c, d, e, f, g, h] = self.flags;
        let info_hash = InfoHash(self.ids.1.0);
        let method = match self.kind {
            0 => Method::Ping,
            1 => Method::FindNode { target: self.ids.1 },
            2 => Method::GetPeers {
                info_hash,
                noseed: a,
                scrape: b,
            },
            _ => Method::AnnouncePeer {
                info_hash,
                port: self.number,
                implied_port: a,
                seed: b,
                token: &self.token,
            },
        };
        let body = match self.kind {
            4 => Body::Response(Response {
                id: self.ids.0,
                nodes: c.then_some(&self.nodes),
                nodes6: d.then_some(&self.nodes),
                token: e.then_some(&self.token),
                values: if f {
                    Values::Peers(&self.peers)
                } else {
                    Values::None
                },
                scrape: g.then_some((&[1; 256], &[2; 256])),
            }),
            5 => Body::Error {
                code: self.number.into(),
                text: &self.token,
            },
            _ => Body::Query(Query {
                id: self.ids.0,
                want: Want { n4: c, n6: d },
                method,
            }),
        };
        Message {
            transaction: &self.transaction,
            body,
            version: e.then_some(b"tr01"),
            ip: self.ip,
            read_only: h,
        }
    }
}

proptest! {
    #[test]
    fn any_message_there_and_back(parts in parts()) {
        let message = parts.message();
        let bytes = message.encode();
        prop_assert_eq!(Message::decode(&bytes), Ok(message));
        let document = torr_bencode::read(&bytes, &torr_bencode::Limits::DEFAULT).unwrap();
        prop_assert!(document.keys_sorted && document.rest.is_empty());
    }

    #[test]
    fn broken_messages_never_panic_and_what_is_read_is_written_the_same(
        parts in parts(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>(),
    ) {
        let mut bytes = parts.message().encode();
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] = byte }
        if let Ok(message) = Message::decode(&bytes) {
            let again = message.encode();
            if again.len() <= MESSAGE_LEN_MAX {
                prop_assert_eq!(Message::decode(&again), Ok(message));
            }
        }
    }
}
