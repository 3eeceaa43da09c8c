//! Nodes that mean ill. Each runs a real node, so that it stands in the tables of others like an honest
//! one, and lies when it is asked for peers.

use std::net::SocketAddr;

use torr_base::Rng;
use torr_dht::message::{Body, Message, Method, Response, Values};
use torr_dht::{Contact, NodeId};

/// What a host does when somebody looks for peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Honest,
    /// Never answers.
    Mute,
    /// Bytes that are no answer, or hundreds of nodes that do not exist.
    Rubbish,
    /// Claims to be next to the key, and names its accomplices as the others that are.
    Sybil,
    /// A hundred peers that do not exist.
    FalsePeers,
    /// Nodes next to the key, all in the network of somebody who has nothing to do with it.
    Aims,
    /// Answers from elsewhere, in the name of others and with guessed transaction ids.
    Spoofs,
    /// Tells the truth but for where the asker is.
    LiesAboutAddress,
}

pub(crate) const HOSTILE: [Role; 7] = [
    Role::Mute,
    Role::Rubbish,
    Role::Sybil,
    Role::FalsePeers,
    Role::Aims,
    Role::Spoofs,
    Role::LiesAboutAddress,
];

/// The network that is aimed at: 198.51.100.0/24, where nobody is.
pub(crate) fn is_victim(addr: SocketAddr) -> bool {
    matches!(addr.ip(), std::net::IpAddr::V4(ip) if ip.octets()[..3] == [198, 51, 100])
}

/// A datagram that a hostile node sends: from where, and what. It goes to who asked.
pub(crate) type Lie = (SocketAddr, Vec<u8>);

/// What a hostile node knows.
pub(crate) struct Scene<'a> {
    pub(crate) me: SocketAddr,
    pub(crate) asker: SocketAddr,
    /// Addresses of other nodes of its kind.
    pub(crate) accomplices: &'a [SocketAddr],
    /// Addresses of anybody.
    pub(crate) everybody: &'a [SocketAddr],
}

/// The lies that a query is answered with; `None` where the node tells the truth.
pub(crate) fn lies(
    role: Role,
    scene: &Scene<'_>,
    message: &Message<'_>,
    rng: &mut Rng,
) -> Option<Vec<Lie>> {
    let Body::Query(query) = message.body else {
        return None;
    };
    let target = match query.method {
        Method::GetPeers { info_hash, .. } => NodeId::from(info_hash),
        // Those who only look for nodes are told the truth, so that the liar stays in their tables.
        Method::Ping | Method::FindNode { .. } | Method::AnnouncePeer { .. } => return None,
    };
    let t = message.transaction;
    let here = |bytes: Vec<u8>| (scene.me, bytes);
    let lies = match role {
        Role::Honest | Role::LiesAboutAddress => return None,
        Role::Mute => Vec::new(),
        Role::Rubbish if rng.one_in(2) => {
            let mut bytes = vec![b'd'; 1 + rng.index(300)];
            rng.fill(bytes.get_mut(1..).unwrap_or_default());
            vec![here(bytes)]
        }
        Role::Rubbish => {
            let nodes: Vec<_> = (0..70)
                .map(|_| invented(rng, any_id(rng.clone())))
                .collect();
            vec![here(answer(
                t,
                scene,
                target.sharing(30, random(rng)),
                &nodes,
                &[],
            ))]
        }
        Role::Sybil => {
            let mut nodes = Vec::new();
            for _ in 0..8 {
                let addr = scene.accomplices[rng.index(scene.accomplices.len())];
                let id = target.sharing(60 + rng.index(60), random(rng));
                nodes.push(Contact { id, addr });
            }
            let me = target.sharing(60 + rng.index(60), random(rng));
            vec![here(answer(t, scene, me, &nodes, &[]))]
        }
        Role::FalsePeers => {
            let peers: Vec<_> = (0..100).map(|_| invented(rng, target).addr).collect();
            vec![here(answer(
                t,
                scene,
                target.sharing(25, random(rng)),
                &[],
                &peers,
            ))]
        }
        Role::Aims => {
            let node = |rng: &mut Rng| Contact {
                id: target.sharing(40 + rng.index(60), random(rng)),
                addr: SocketAddr::from((
                    [198, 51, 100, rng.below(256) as u8],
                    1_024 + rng.below(60_000) as u16,
                )),
            };
            let nodes: Vec<_> = (0..16).map(|_| node(rng)).collect();
            let peers: Vec<_> = (0..40).map(|_| node(rng).addr).collect();
            vec![here(answer(
                t,
                scene,
                target.sharing(30, random(rng)),
                &nodes,
                &peers,
            ))]
        }
        Role::Spoofs => {
            let mut out = Vec::new();
            for _ in 0..5 {
                let from = scene.everybody[rng.index(scene.everybody.len())];
                let guess = (rng.next_u64() as u32).to_be_bytes();
                let peers: Vec<_> = (0..8).map(|_| invented(rng, target).addr).collect();
                let bytes = answer(&guess, scene, target.sharing(50, random(rng)), &[], &peers);
                out.push((from, bytes));
            }
            // The right transaction from the wrong port.
            let mut elsewhere = scene.me;
            elsewhere.set_port(elsewhere.port() ^ 1);
            out.push((elsewhere, answer(t, scene, target, &[], &[])));
            out
        }
    };
    Some(lies)
}

/// What a true answer becomes when all that is wrong in it is where the asker is.
pub(crate) fn with_false_address(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut message = Message::decode(bytes).ok()?;
    message.ip?;
    message.ip = Some(SocketAddr::from(([203, 0, 113, 7], 7)));
    Some(message.encode())
}

fn answer(
    transaction: &[u8],
    scene: &Scene<'_>,
    id: NodeId,
    nodes: &[Contact],
    peers: &[SocketAddr],
) -> Vec<u8> {
    let mut compact = Vec::new();
    for node in nodes {
        let std::net::IpAddr::V4(ip) = node.addr.ip() else {
            continue;
        };
        compact.extend_from_slice(&node.id.0);
        compact.extend_from_slice(&ip.octets());
        compact.extend_from_slice(&node.addr.port().to_be_bytes());
    }
    let mut response = Response::new(id);
    response.nodes = Some(&compact);
    response.token = Some(b"liar");
    response.values = Values::Peers(peers);
    let message = Message {
        transaction,
        body: Body::Response(response),
        version: None,
        ip: Some(SocketAddr::from(([203, 0, 113, 7], scene.asker.port()))),
        read_only: false,
    };
    message.encode()
}

fn random(rng: &mut Rng) -> [u8; 20] {
    let mut random = [0; 20];
    rng.fill(&mut random);
    random
}

fn any_id(mut rng: Rng) -> NodeId {
    NodeId(random(&mut rng))
}

/// A node that does not exist.
fn invented(rng: &mut Rng, id: NodeId) -> Contact {
    let [a, b, c, d, ..] = rng.next_u64().to_be_bytes();
    let addr = SocketAddr::from(([224_u8.wrapping_sub(1 + a % 20), b, c, d], 2_000));
    Contact { id, addr }
}
