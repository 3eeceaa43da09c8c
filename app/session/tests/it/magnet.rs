//! Torrents by their links: metadata from peers, kept for the next time, refused where it cannot be used.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};

use torr::metainfo::{FilePriorities, Info, Magnet, Metainfo, Node};
use torr::{AddTorrent, Choose, Event, Refused, SessionError, Torrent, TorrentState};
use torr_wire::{ExtendedHandshake, Extension, ExtensionIds, Handshake, Message, MetadataMessage};

use crate::common::{GRACE, HERE, LONG, Payload, Side, start, synced};

fn link(payload: &Payload, peers: &[SocketAddr]) -> Magnet {
    let meta = Metainfo::parse(&payload.torrent).unwrap();
    let peers = peers.iter().map(|addr| Node {
        host: addr.ip().to_string(),
        port: addr.port(),
    });
    Magnet {
        peers: peers.collect(),
        ..Magnet::new(meta.info().info_hash())
    }
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, what).await.expect("it hangs")
}

async fn stopped(torrent: &Torrent) {
    within(torrent.stop(GRACE)).await.unwrap();
}

#[tokio::test]
async fn the_metadata_comes_from_a_peer_and_the_files_after_it() {
    let payload = Payload::folder("linked", &[300_000, 70_000, 1, 0], 16_384);
    let (seed, leech) = (Side::new().await, Side::new().await);
    seed.seed(&payload).await;
    let mut magnet = link(&payload, &[seed.addr()]);
    magnet.name = Some("label".to_owned());
    let add = AddTorrent::magnet(magnet, leech.data());
    let torrent = leech.session.add(add).await.unwrap();
    assert_eq!((torrent.name(), torrent.path()), ("label".to_owned(), None));
    let mut events = torrent.events();
    synced(&torrent).await;
    payload.assert_in(&leech.data());
    assert_eq!(torrent.path(), Some(leech.data().join("linked").as_path()));
    assert!(matches!(events.next().await, Some(Event::Metadata)));
    // Nobody had to connect twice; two that have everything may have parted by now.
    assert!(torrent.stats().peers + torrent.stats().half_open <= 1);
    leech.end().await;
    seed.end().await;
}

#[tokio::test]
async fn metadata_of_many_blocks_comes_from_several_peers() {
    // 8,000 pieces: 160 KB of metadata.
    let payload = Payload::single("fine", 8_000 * 16, 16);
    let sides = [Side::new().await, Side::new().await, Side::new().await];
    let mut addrs = Vec::new();
    for side in &sides {
        side.seed(&payload).await;
        addrs.push(side.addr());
    }
    let leech = Side::new().await;
    let mut add = AddTorrent::magnet(link(&payload, &addrs), leech.data());
    add.metadata_only = true;
    let torrent = leech.session.add(add).await.unwrap();
    let info = within(torrent.metadata()).await.unwrap();
    assert_eq!(info.geometry().piece_count(), 8_000);
    let again = Metainfo::parse(&torrent.torrent_bytes().unwrap()).unwrap();
    assert_eq!(again.info().raw(), info.raw());
    // No file was wanted, and none is there.
    assert!(!leech.data().exists());
    // Who has only the metadata gives it as well.
    let last = Side::new().await;
    let add = AddTorrent::magnet(link(&payload, &[leech.addr()]), last.data());
    let other = last.session.add(add).await.unwrap();
    within(other.metadata()).await.unwrap();
    last.end().await;
    leech.end().await;
    for side in sides {
        side.end().await;
    }
}

#[tokio::test]
async fn a_second_run_needs_no_peer_for_the_metadata() {
    let payload = Payload::folder("kept", &[200_000, 1_000], 16_384);
    let (seed, leech) = (Side::new().await, Side::new().await);
    seed.seed(&payload).await;
    let add = AddTorrent::magnet(link(&payload, &[seed.addr()]), leech.data());
    synced(&leech.session.add(add).await.unwrap()).await;
    seed.end().await;
    leech.session.clone().shutdown(GRACE).await.unwrap();
    let session = start(leech.dir.path(), |_| {}).await;
    let add = AddTorrent::magnet(link(&payload, &[]), leech.data());
    let torrent = session.add(add).await.unwrap();
    assert!(torrent.info().is_some());
    synced(&torrent).await;
    assert_eq!(torrent.stats().downloaded, 0);
    stopped(&torrent).await;
    // The same for another folder, into which nothing was downloaded yet.
    let add = AddTorrent::magnet(link(&payload, &[]), leech.dir.path().join("elsewhere"));
    let torrent = session.add(add).await.unwrap();
    within(torrent.joined()).await.unwrap();
    assert_eq!(torrent.stats().state, TorrentState::Downloading);
    stopped(&torrent).await;
    // What is not what it was is not believed.
    for folder in std::fs::read_dir(leech.dir.path().join("state/torrents")).unwrap() {
        let kept = folder.unwrap().path().join("torrent");
        let mut bytes = std::fs::read(&kept).unwrap();
        *bytes.last_mut().unwrap() = b'x';
        let near_the_end = bytes.len() - 30;
        bytes[near_the_end] ^= 1;
        std::fs::write(&kept, bytes).unwrap();
    }
    let add = AddTorrent::magnet(link(&payload, &[]), leech.data());
    let torrent = session.add(add).await.unwrap();
    assert_eq!(torrent.stats().state, TorrentState::Metadata);
    session.shutdown(GRACE).await.unwrap();
}

#[tokio::test]
async fn only_what_the_link_selects_is_fetched() {
    let payload = Payload::folder("some", &[40_000, 50_000, 60_000], 10_000);
    let (seed, leech) = (Side::new().await, Side::new().await);
    seed.seed(&payload).await;
    let magnet = Magnet {
        select: vec![1..=1],
        ..link(&payload, &[seed.addr()])
    };
    let torrent = leech
        .session
        .add(AddTorrent::magnet(magnet, leech.data()))
        .await
        .unwrap();
    synced(&torrent).await;
    let there = |file| payload.path(&leech.data(), file).exists();
    assert_eq!(
        (there("d0/f0"), there("d1/f1"), there("d2/f2")),
        (false, true, false)
    );
    leech.end().await;
    seed.end().await;
}

#[tokio::test]
async fn files_that_are_there_are_adopted_and_peers_hear_of_them() {
    let payload = Payload::single("half", 400_000, 16_384);
    let (seed, leech, late) = (Side::new().await, Side::new().await, Side::new().await);
    seed.seed(&payload).await;
    payload.write(&leech.data());
    let add = AddTorrent::magnet(link(&payload, &[seed.addr()]), leech.data());
    let torrent = leech.session.add(add).await.unwrap();
    synced(&torrent).await;
    assert_eq!(torrent.stats().downloaded, 0);
    seed.end().await;
    let add = AddTorrent::magnet(link(&payload, &[leech.addr()]), late.data());
    synced(&late.session.add(add).await.unwrap()).await;
    payload.assert_in(&late.data());
    late.end().await;
    leech.end().await;
}

#[tokio::test]
async fn what_cannot_be_chosen_is_told() {
    let payload = Payload::folder("few", &[40_000, 50_000], 10_000);
    let (seed, leech) = (Side::new().await, Side::new().await);
    seed.seed(&payload).await;
    let magnet = Magnet {
        select: vec![7..=9],
        ..link(&payload, &[seed.addr()])
    };
    let torrent = leech
        .session
        .add(AddTorrent::magnet(magnet, leech.data()))
        .await
        .unwrap();
    let refused = within(torrent.metadata()).await;
    assert!(matches!(
        refused,
        Err(SessionError::Refused(Refused::Selection(_)))
    ));
    let mut add = AddTorrent::magnet(link(&payload, &[seed.addr()]), leech.data());
    add.choose = Some(Choose::new(|info: &Info| {
        Ok(FilePriorities::only(info.map().file_count(), |file| {
            file.get() == 0
        }))
    }));
    // The first one may still be saying goodbye.
    let mut events = torrent.events();
    within(async { while events.next().await.is_some() {} }).await;
    let torrent = leech.session.add(add).await.unwrap();
    synced(&torrent).await;
    assert!(!payload.path(&leech.data(), "d1/f1").exists());
    leech.end().await;
    seed.end().await;
}

/// A peer that gives these bytes as metadata, whatever they are, to whoever connects.
fn gives(info_hash: torr::InfoHash, bytes: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind((HERE, 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        // The first who comes speaks encrypted, which is not understood here; the second does not.
        let mut socket = loop {
            let (mut socket, _) = listener.accept().unwrap();
            let mut hello = [0; 68];
            socket.read_exact(&mut hello).unwrap();
            if hello.starts_with(b"\x13BitTorrent protocol") {
                break socket;
            }
        };
        let ours = Handshake {
            reserved: torr_wire::Reserved::EXTENDED,
            info_hash,
            peer_id: torr_base::PeerId([b'x'; 20]),
        };
        let mut out = ours.encode().to_vec();
        let greeting = ExtendedHandshake {
            extensions: ExtensionIds::own(&[Extension::Metadata]),
            metadata_size: Some(bytes.len() as u32),
            ..ExtendedHandshake::default()
        };
        let id = 0;
        let payload = &greeting.encode();
        Message::Extended { id, payload }.write_to(&mut out);
        let data = MetadataMessage::Data {
            block: 0,
            total: None,
            bytes: &bytes,
        };
        socket.write_all(&out).unwrap();
        // It asks for its one block right away; what else it says does not matter.
        let mut heard = Vec::new();
        while !heard.windows(8).any(|window| window == b"msg_type") {
            let mut some = [0; 1024];
            let n = socket.read(&mut some).unwrap();
            heard.extend_from_slice(&some[..n]);
        }
        let mut out = Vec::new();
        let id = Extension::Metadata.own_id();
        let payload = &data.encode();
        Message::Extended { id, payload }.write_to(&mut out);
        socket.write_all(&out).unwrap();
        // Until the other side hangs up.
        while socket.read(&mut [0; 1024]).is_ok_and(|n| n > 0) {}
    });
    addr
}

#[tokio::test]
async fn metadata_that_is_right_and_no_torrent_is_refused() {
    use sha1::Digest as _;
    let bytes = b"d4:name1:xe".to_vec();
    let hash = torr::InfoHash(sha1::Sha1::digest(&bytes).into());
    let peer = gives(hash, bytes);
    let leech = Side::new().await;
    let mut add = AddTorrent::magnet(Magnet::new(hash), leech.data());
    add.peers = vec![peer];
    let torrent = leech.session.add(add).await.unwrap();
    let refused = within(torrent.metadata()).await;
    assert!(matches!(
        refused,
        Err(SessionError::Refused(Refused::Metainfo(_)))
    ));
    let mut events = torrent.events();
    within(async { while events.next().await.is_some() {} }).await;
    assert_eq!(torrent.stats().state, TorrentState::Stopped);
    leech.end().await;
}

#[tokio::test]
async fn a_torrent_without_metadata_stops_like_any_other() {
    let side = Side::new().await;
    let hash = torr::InfoHash([5; 20]);
    let add = || AddTorrent::magnet(Magnet::new(hash), side.data());
    let torrent = side.session.add(add()).await.unwrap();
    assert_eq!(torrent.stats().state, TorrentState::Metadata);
    assert!(matches!(
        side.session.add(add()).await,
        Err(SessionError::AlreadyAdded(_))
    ));
    stopped(&torrent).await;
    let again = side.session.add(add()).await.unwrap();
    assert_eq!(again.stats().state, TorrentState::Metadata);
    side.end().await;
}

#[tokio::test]
async fn a_folder_that_cannot_be_used_is_told_once_it_is_needed() {
    let payload = Payload::single("occupied", 100_000, 16_384);
    let (seed, leech) = (Side::new().await, Side::new().await);
    seed.seed(&payload).await;
    std::fs::create_dir_all(leech.data()).unwrap();
    std::fs::write(leech.data().join("occupied"), vec![1; 100_000]).unwrap();
    let add = AddTorrent::magnet(link(&payload, &[seed.addr()]), leech.data());
    let torrent = leech.session.add(add).await.unwrap();
    let failed = within(torrent.joined()).await;
    assert!(
        matches!(failed, Err(SessionError::Storage(_))),
        "{failed:?}"
    );
    let mut events = torrent.events();
    within(async { while events.next().await.is_some() {} }).await;
    leech.end().await;
    seed.end().await;
}
