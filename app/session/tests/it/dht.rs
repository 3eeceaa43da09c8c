//! Peers that find each other by the DHT (BEP 5): real nodes on loopback.

use std::net::SocketAddr;
use std::time::Duration;

use torr::metainfo::{Magnet, Metainfo};
use torr::{AddTorrent, Dht, DhtStats, Session, Torrent};

use crate::common::{GRACE, LONG, Payload, Side, start, synced};

/// Nobody is there.
const NOBODY: &str = "127.0.0.1:9";

/// A session whose DHT starts from that address.
async fn side(start: &str) -> Side {
    let start: SocketAddr = start.parse().unwrap();
    let place = (start.ip().to_string(), start.port());
    Side::with(|config| (config.dht, config.dht_nodes) = (Dht::Node, vec![place])).await
}

/// The first knows nobody, the others know the first.
async fn sides<const N: usize>() -> [Side; N] {
    let mut sides = Vec::new();
    for n in 0..N {
        let first = sides.first().map(|side: &Side| side.addr().to_string());
        sides.push(side(first.as_deref().filter(|_| n > 0).unwrap_or(NOBODY)).await);
    }
    sides.try_into().ok().unwrap()
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(LONG, wait).await;
    waited.unwrap_or_else(|_| panic!("never: {what}"));
}

async fn stats(session: &Session) -> DhtStats {
    session.dht_stats().await.expect("it has a DHT")
}

/// A round of its search is over.
async fn searched(torrent: &Torrent) {
    until("a round", async || {
        torrent.stats().dht.is_some_and(|dht| dht.rounds > 0)
    })
    .await;
}

#[tokio::test]
async fn a_link_without_trackers_and_peers_is_enough() {
    let payload = Payload::single("found", 300_000, 16_384);
    let [first, seed, leech] = sides().await;
    payload.write(&seed.data());
    let seeding = seed.add(&payload, |_| {}).await;
    searched(&seeding).await;
    let info_hash = Metainfo::parse(&payload.torrent)
        .unwrap()
        .info()
        .info_hash();
    let add = AddTorrent::magnet(Magnet::new(info_hash), leech.data());
    let torrent = leech.session.add(add).await.unwrap();
    synced(&torrent).await;
    payload.assert_in(&leech.data());
    // Who only knows the way stored what was announced, and kept nothing else.
    let kept = stats(&first.session).await;
    assert_eq!((kept.torrents, kept.searches), (1, 0));
    for side in [leech, seed, first] {
        side.end().await;
    }
}

#[tokio::test]
async fn a_private_torrent_is_never_searched_for() {
    let payload = Payload::single("secret", 100_000, 16_384).private();
    let [first, seed, leech] = sides().await;
    payload.write(&seed.data());
    // Its peers do not tell of their nodes either.
    let leeching = leech.leech(&payload, &[]).await;
    let seeding = seed
        .add(&payload, |add| add.peers = vec![leech.addr()])
        .await;
    synced(&leeching).await;
    until("all know each other", async || {
        stats(&first.session).await.nodes[0] == 2
    })
    .await;
    for session in [&first.session, &seed.session, &leech.session] {
        let stats = stats(session).await;
        assert_eq!((stats.searches, stats.torrents), (0, 0));
    }
    assert_eq!((seeding.stats().dht, leeching.stats().dht), (None, None));
    for side in [leech, seed, first] {
        side.end().await;
    }
}

/// Sessions that start from nobody, and are connected as peers of a torrent.
async fn strangers(payload: &Payload) -> [Side; 2] {
    let [seed, leech] = [side(NOBODY).await, side(NOBODY).await];
    payload.write(&seed.data());
    let torrent = leech.leech(payload, &[]).await;
    seed.add(payload, |add| add.peers = vec![leech.addr()])
        .await;
    synced(&torrent).await;
    [seed, leech]
}

#[tokio::test]
async fn peers_tell_where_their_nodes_are_unless_it_is_private() {
    let public = Payload::single("told", 100_000, 16_384);
    let private = Payload::single("kept", 100_000, 16_384).private();
    let (told, kept) = (strangers(&public).await, strangers(&private).await);
    until("they know each other", async || {
        let [a, b] = [&told[0].session, &told[1].session];
        stats(a).await.nodes[0] == 1 && stats(b).await.nodes[0] == 1
    })
    .await;
    for side in &kept {
        assert_eq!(stats(&side.session).await.nodes, [0, 0]);
    }
    for side in told.into_iter().chain(kept) {
        side.end().await;
    }
}

#[tokio::test]
async fn nodes_of_a_torrent_lead_in() {
    let mut payload = Payload::single("leads", 100_000, 16_384);
    let first = side(NOBODY).await;
    let node = first.addr();
    let nodes = format!(
        "5:nodesll{}:{}i{}eee",
        node.ip().to_string().len(),
        node.ip(),
        node.port()
    );
    // Keys are in order: `nodes` comes after `info`.
    payload.torrent.pop();
    payload.torrent.extend(nodes.into_bytes());
    payload.torrent.push(b'e');
    assert_eq!(Metainfo::parse(&payload.torrent).unwrap().nodes().len(), 1);
    let [seed, leech] = [side(NOBODY).await, side(NOBODY).await];
    payload.write(&seed.data());
    let seeding = seed.add(&payload, |_| {}).await;
    searched(&seeding).await;
    let torrent = leech.leech(&payload, &[]).await;
    synced(&torrent).await;
    for side in [leech, seed, first] {
        side.end().await;
    }
}

#[tokio::test]
async fn the_table_outlives_the_session() {
    let [first, other] = sides().await;
    until("it knows the first", async || {
        stats(&other.session).await.nodes[0] == 1
    })
    .await;
    other.session.shutdown(GRACE).await.unwrap();
    let again = |dht| {
        start(other.dir.path(), move |config| {
            config.dht = dht;
            config.dht_nodes = vec![("127.0.0.1".to_owned(), 9)];
        })
    };
    let (one, two) = (again(Dht::Node).await, again(Dht::Node).await);
    for session in [&one, &two] {
        until("it starts from the table", async || {
            stats(session).await.nodes[0] == 1
        })
        .await;
    }
    let off = again(Dht::Off).await;
    assert_eq!(off.dht_stats().await, None);
    for session in [one, two, off] {
        session.shutdown(GRACE).await.unwrap();
    }
    first.end().await;
}

/// G13: each byte of the table changed, and the table cut off at each length.
#[tokio::test]
async fn a_damaged_table_is_named_and_put_aside() {
    let [first, other] = sides().await;
    until("it knows the first", async || {
        stats(&other.session).await.nodes[0] == 1
    })
    .await;
    other.session.shutdown(GRACE).await.unwrap();
    let folder = other.dir.path().join("state/dht");
    let (table, aside) = (folder.join("table"), folder.join("table.bad"));
    let whole = std::fs::read(&table).unwrap();
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        bytes
    };
    let flips = (0..whole.len()).map(flipped);
    let cuts = (0..whole.len()).map(|len| whole[..len].to_vec());
    for (number, bytes) in flips.chain(cuts).enumerate() {
        std::fs::write(&table, &bytes).unwrap();
        let session = start(other.dir.path(), |config| {
            config.dht = Dht::Node;
            config.dht_nodes = vec![("127.0.0.1".to_owned(), 9)];
        })
        .await;
        let told = session.warnings().join("; ");
        let path = table.to_string_lossy();
        assert!(told.contains(&*path), "damage {number}: {told:?}");
        assert_eq!(std::fs::read(&aside).unwrap(), bytes);
        session.shutdown(GRACE).await.unwrap();
    }
    first.end().await;
}
