//! Stopping, and going on.

use std::time::{Duration, Instant};

use torr::{Event, SessionError, TorrentState};

use crate::common::{GRACE, LONG, Payload, Side, start, synced};

#[tokio::test]
async fn what_was_finished_is_not_fetched_again() {
    let payload = Payload::single("again.bin", 12_000_000, 131_072);
    let seed = Side::new().await;
    seed.seed(&payload).await;
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut fetched = 0;
    for (round, rate) in [(1, Some(4_000_000)), (2, Some(4_000_000)), (3, None)] {
        let session = start(dir.path(), |config| config.down_rate = rate).await;
        let mut add = torr::AddTorrent::new(payload.torrent.clone(), &data);
        add.peers = vec![seed.addr()];
        let torrent = session.add(add).await.unwrap();
        torrent.joined().await.unwrap();
        let before = torrent.stats().done;
        assert!(
            round == 1 || before > 0,
            "round {round} starts from nothing"
        );
        if rate.is_some() {
            let start = Instant::now();
            while torrent.stats().done < before + 3_000_000 && start.elapsed() < LONG {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            torrent.stop(GRACE).await.unwrap();
        } else {
            synced(&torrent).await;
        }
        fetched += torrent.stats().downloaded;
        session.shutdown(GRACE).await.unwrap();
    }
    // What had been asked for when a round ended may come twice.
    assert!(fetched < 12_000_000 + 2 * 1_000_000, "fetched {fetched}");
    payload.assert_in(&data);
    seed.end().await;
}

#[tokio::test]
async fn what_is_complete_needs_nobody() {
    let payload = Payload::folder("done", &[200_000, 0, 50_000], 16_384);
    let side = Side::new().await;
    let torrent = side.seed(&payload).await;
    torrent.stop(GRACE).await.unwrap();
    // In the same session, and again in another one.
    let again = side.add(&payload, |_| {}).await;
    synced(&again).await;
    let Side { session, dir } = side;
    session.shutdown(GRACE).await.unwrap();
    let begin = Instant::now();
    let session = start(dir.path(), |_| {}).await;
    let add = torr::AddTorrent::new(payload.torrent.clone(), dir.path().join("data"));
    let torrent = session.add(add).await.unwrap();
    synced(&torrent).await;
    assert_eq!(torrent.stats().downloaded, 0);
    session.shutdown(GRACE).await.unwrap();
    assert!(
        begin.elapsed() < Duration::from_secs(2),
        "{:?}",
        begin.elapsed()
    );
}

#[tokio::test]
async fn an_opening_can_be_stopped() {
    let payload = Payload::single("large.bin", 64_000_000, 262_144);
    let side = Side::new().await;
    payload.write(&side.data());
    let torrent = side.add(&payload, |_| {}).await;
    let mut events = torrent.events();
    torrent.stop(GRACE).await.unwrap();
    assert_eq!(torrent.stats().state, TorrentState::Stopped);
    let mut last = None;
    while let Some(event) = events.next().await {
        assert!(!matches!(event, Event::Failed(_)), "{event:?}");
        last = Some(event);
    }
    assert!(matches!(last, Some(Event::Stopped)));
    // It may come back at once.
    let again = side.add(&payload, |_| {}).await;
    synced(&again).await;
    side.end().await;
}

#[tokio::test]
async fn a_torrent_is_there_once() {
    let payload = Payload::single("once.bin", 100_000, 16_384);
    let side = Side::new().await;
    side.seed(&payload).await;
    let add = torr::AddTorrent::new(payload.torrent.clone(), side.data());
    let again = side.session.add(add).await;
    assert!(
        matches!(again, Err(SessionError::AlreadyAdded(_))),
        "{again:?}"
    );
    let rubbish = torr::AddTorrent::new(b"de".to_vec(), side.data());
    let rubbish = side.session.add(rubbish).await;
    assert!(matches!(rubbish, Err(SessionError::Metainfo(_))));
    let (session, handle) = (side.session.clone(), side.session.torrents().remove(0));
    side.end().await;
    let add = torr::AddTorrent::new(payload.torrent.clone(), "/nowhere");
    assert!(matches!(session.add(add).await, Err(SessionError::Closed)));
    assert!(handle.stop(GRACE).await.is_ok(), "it has stopped already");
    assert!(session.set_rates(None, None).await.is_err());
}
