//! One to one.

use torr::TorrentState;

use crate::common::{GRACE, Payload, Side, synced};

#[tokio::test]
async fn a_file_goes_from_one_session_to_another() {
    let payload = Payload::single("file.bin", 5_000_000, 65_536);
    let (seed, leech) = (Side::new().await, Side::new().await);
    let source = seed.seed(&payload).await;
    assert_eq!(source.stats().state, TorrentState::Seeding);
    let torrent = leech.leech(&payload, &[seed.addr()]).await;
    synced(&torrent).await;
    payload.assert_in(&leech.data());
    let stats = torrent.stats();
    assert_eq!((stats.done, stats.wanted), (5_000_000, 5_000_000));
    assert_eq!((stats.downloaded, stats.wasted), (5_000_000, 0));
    torrent.stop(GRACE).await.unwrap();
    assert_eq!(torrent.stats().state, TorrentState::Stopped);
    leech.end().await;
    seed.end().await;
}

#[tokio::test]
async fn a_folder_goes_over() {
    let lens = [0, 1, 100_000, 16_384, 70_000, 0, 3_000_000];
    let payload = Payload::folder("folder", &lens, 32_768);
    let (seed, leech) = (Side::new().await, Side::new().await);
    seed.seed(&payload).await;
    let torrent = leech.leech(&payload, &[seed.addr()]).await;
    synced(&torrent).await;
    payload.assert_in(&leech.data());
    leech.end().await;
    seed.end().await;
}

#[tokio::test]
async fn over_ipv6_too() {
    let payload = Payload::single("six.bin", 1_000_000, 32_768);
    let six = |config: &mut torr::SessionConfig| config.bind = Some("::1".parse().unwrap());
    let (seed, leech) = (Side::with(six).await, Side::with(six).await);
    assert!(seed.addr().is_ipv6());
    seed.seed(&payload).await;
    let torrent = leech.leech(&payload, &[seed.addr()]).await;
    synced(&torrent).await;
    payload.assert_in(&leech.data());
    leech.end().await;
    seed.end().await;
}

#[tokio::test]
async fn a_session_carries_several_torrents_both_ways() {
    let payloads: Vec<_> = (1..=6)
        .map(|n| Payload::single(&format!("p{n}"), n * 400_000, 32_768))
        .collect();
    let (one, two) = (Side::new().await, Side::new().await);
    let mut torrents = Vec::new();
    for (n, payload) in payloads.iter().enumerate() {
        let (from, to) = if n % 2 == 0 {
            (&one, &two)
        } else {
            (&two, &one)
        };
        from.seed(payload).await;
        torrents.push((to, to.leech(payload, &[from.addr()]).await));
    }
    for ((to, torrent), payload) in torrents.iter().zip(&payloads) {
        synced(torrent).await;
        payload.assert_in(&to.data());
    }
    assert_eq!(one.session.torrents().len(), 6);
    drop(torrents);
    one.end().await;
    two.end().await;
}

#[tokio::test]
async fn only_what_is_wanted_comes() {
    let lens = [100_000, 100_000, 100_000];
    let payload = Payload::folder("some", &lens, 16_384);
    let (seed, leech) = (Side::new().await, Side::new().await);
    seed.seed(&payload).await;
    let wanted = torr::metainfo::FilePriorities::only(3, |file| file.get() == 1);
    let torrent = leech.add(&payload, |add| {
        add.peers = vec![seed.addr()];
        add.wanted = Some(wanted);
    });
    let torrent = torrent.await;
    synced(&torrent).await;
    let path = |n| {
        torrent
            .file_path(torr::metainfo::FileIndex::new(n))
            .unwrap()
    };
    assert_eq!(std::fs::read(path(1)).unwrap(), payload.files[1].1);
    assert!(!path(0).exists() && !path(2).exists());
    leech.end().await;
    seed.end().await;
}
