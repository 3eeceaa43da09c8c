//! Real bytes between real sessions: loopback sockets, files in temporary folders.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Payload, Side, synced};
use torr::TorrentState;

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
    torrent.stop(common::GRACE).await.unwrap();
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
