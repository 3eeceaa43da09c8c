//! The DHT (BEP 5): some thirty nodes of all clients, and torrents that are known by a link with nothing but the
//! info-hash.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::client::{Client, Job, Options, PORT, Peer, Role, libtorrent};
use crate::metafile::Metafile;
use crate::payload::{Empty, Payload};
use crate::process::{Proc, wait_for};
use crate::runner::{Cell, Context};
use crate::world::{Family, Node, World};

const SEED_LIMIT: Duration = Duration::from_secs(60);
/// Clients announce when their time comes: aria2 and rtorrent some minutes after they started.
const FIND_LIMIT: Duration = Duration::from_secs(300);
const CELL_LIMIT: Duration = Duration::from_secs(420);
/// Nodes without torrents, the one that all start from among them.
const PLAIN: usize = 20;
const PIECE_LEN: usize = 16 * 1024;
const PAYLOAD_LEN: u64 = 1024 * 1024 + 12_345;

/// One world for each family.
pub fn cells() -> Vec<Cell> {
    let cell = |family: Family| {
        let name = format!("dht/{}", family.name());
        Cell::new(name, CELL_LIMIT, move |context, dir| {
            run(context, dir, family)
        })
    };
    Family::ALL.map(cell).into()
}

/// Whether the packaged version has a DHT in that family: rtorrent 0.9.8 has none over IPv6.
fn can(client: Client, family: Family) -> bool {
    (client, family) != (Client::Rtorrent, Family::V6)
}

/// A client that seeds its own torrent.
struct Seeding {
    client: Client,
    payload: Payload,
    torrent: Metafile,
    peers: Vec<(Node, Peer)>,
}

/// One that knows a torrent by its info-hash.
struct Following<'a> {
    of: &'a Seeding,
    node: Node,
    peer: Peer,
    found: Option<Duration>,
}

fn run(context: &Context, dir: &Path, family: Family) -> Result<String> {
    let mut world = World::new(dir)?;
    let mut plain = Vec::new();
    let mut start = None;
    for n in 0..PLAIN {
        let node = world.node(&format!("plain-{n}"))?;
        let command = libtorrent::plain_node(&node, family, start, &context.tools);
        start = start.or(Some(SocketAddr::new(node.address(family), PORT)));
        plain.push((Proc::spawn(&node, "plain", command)?, node));
    }
    let start = start.expect("there is a first one");
    // So many of each as to make thirty nodes before anybody leeches.
    let crew = [
        (Client::Libtorrent, 1),
        (Client::Transmission, 3),
        (Client::Aria2, 2),
        (Client::Rtorrent, 1),
        (Client::Torr, 4),
    ];
    let crew = crew.into_iter().filter(|(client, _)| can(*client, family));
    let mut seeding = Vec::new();
    for (client, count) in crew {
        seeding.push(seed(context, &mut world, client, count, start)?);
    }
    let nodes = PLAIN + seeding.iter().map(|it| it.peers.len()).sum::<usize>();
    for Seeding { peers, .. } in &mut seeding {
        for (node, peer) in peers {
            peer.wait_done(node, SEED_LIMIT)?;
        }
    }
    // torr finds what each of the others announces, and each of the others what torr does.
    let began = Instant::now();
    let mut following = Vec::new();
    for of in &seeding {
        let followers: Vec<Client> = match of.client {
            Client::Torr => seeding.iter().map(|it| it.client).collect(),
            Client::Transmission | Client::Aria2 | Client::Libtorrent | Client::Rtorrent => {
                vec![Client::Torr]
            }
        };
        for client in followers {
            following.push(follow(context, &mut world, client, of, start)?);
        }
    }
    wait_for("everybody to have found peers", FIND_LIMIT, || {
        for it in following.iter_mut().filter(|it| it.found.is_none()) {
            if it.has_all()? {
                it.found = Some(began.elapsed());
            }
        }
        Ok(following.iter().all(|it| it.found.is_some()))
    })
    .map_err(|error| error.context(report(&following)))?;
    for (proc, _) in &mut plain {
        proc.check_alive()?;
    }
    Ok(format!("{nodes} nodes: {}", report(&following)))
}

fn seed(
    context: &Context,
    world: &mut World,
    client: Client,
    count: usize,
    start: SocketAddr,
) -> Result<Seeding> {
    let payload = Payload::single(&format!("of-{}.bin", client.name()), PAYLOAD_LEN);
    let original = world.dir().join(format!("of-{}", client.name()));
    payload.write(&original)?;
    let torrent = Metafile::write(&payload, &original, PIECE_LEN, &[], world.dir())?;
    let mut peers = Vec::new();
    for n in 0..count {
        let node = world.node(&format!("{}-{n}", client.name()))?;
        payload.write(&node.data())?;
        let job = Job {
            torrent: &torrent,
            dir: node.data(),
            role: Role::Seed,
            options: Options {
                dht: Some(start),
                ..Options::default()
            },
        };
        let peer = client.start(&node, &job, &context.tools)?;
        peers.push((node, peer));
    }
    Ok(Seeding {
        client,
        payload,
        torrent,
        peers,
    })
}

fn follow<'a>(
    context: &Context,
    world: &mut World,
    client: Client,
    of: &'a Seeding,
    start: SocketAddr,
) -> Result<Following<'a>> {
    let node = world.node(&format!("{}-by-{}", of.client.name(), client.name()))?;
    let job = Job {
        torrent: &of.torrent,
        dir: node.data(),
        role: Role::Stay,
        options: Options {
            dht: Some(start),
            link: Some(format!("magnet:?xt=urn:btih:{}", of.torrent.hex())),
            ..Options::default()
        },
    };
    let peer = client.start(&node, &job, &context.tools)?;
    Ok(Following {
        of,
        node,
        peer,
        found: None,
    })
}

impl Following<'_> {
    fn has_all(&mut self) -> Result<bool> {
        // Some say that they are done when they have the metadata.
        let done = self.peer.is_done(&self.node)?;
        let original = self.of.peers.first().map(|(node, _)| node.data());
        let original = original.expect("somebody seeds it");
        let same = || {
            let payload = &self.of.payload;
            payload.compare(&original, &self.node.data(), Empty::Required)
        };
        Ok(done && same().is_ok())
    }
}

fn report(following: &[Following<'_>]) -> String {
    let lines = following.iter().map(|it| match it.found {
        Some(time) => format!("{} in {:.0} s", it.node.name, time.as_secs_f64()),
        None => format!("{} NOT", it.node.name),
    });
    lines.collect::<Vec<_>>().join(", ")
}
