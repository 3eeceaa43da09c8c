//! What the world does to a session.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use torr::{Event, SessionError, StorageErrorKind, TorrentState};

use crate::common::{GRACE, HERE, LONG, Payload, Side, synced};

/// A small file system in memory; gone when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where this user may not mount.
    fn mount(path: &Path, bytes: u64) -> Option<Self> {
        std::fs::create_dir_all(path).unwrap();
        let size = format!("size={bytes}");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(path)
            .output();
        let mounted = mount.is_ok_and(|output| output.status.success());
        mounted.then(|| Self(path.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_full_disk_stops_its_torrent_and_no_other() {
    let (large, small) = (
        Payload::single("large.bin", 8_000_000, 65_536),
        Payload::single("small.bin", 1_000_000, 65_536),
    );
    let (seed, leech) = (Side::new().await, Side::new().await);
    seed.seed(&large).await;
    seed.seed(&small).await;
    let full = leech.dir.path().join("full");
    let Some(disk) = SmallDisk::mount(&full, 3 << 20) else {
        eprintln!("left out: mounting is not permitted here");
        return;
    };
    let fails = leech.add(&large, |add| {
        add.dir.clone_from(&full);
        add.peers = vec![seed.addr()];
    });
    let fails = fails.await;
    let error = tokio::time::timeout(LONG, fails.synced()).await.unwrap();
    let Err(SessionError::Storage(error)) = error else {
        panic!("{error:?}");
    };
    assert_eq!(error.kind, StorageErrorKind::NoSpace, "{error}");
    assert!(error.path.ends_with("large.bin"), "{error}");
    assert_eq!(fails.stats().state, TorrentState::Failed);
    let done = fails.stats().done;
    assert!(done > 0, "what fitted is kept");
    // Nothing is fetched again and again.
    let fetched = fails.stats().downloaded;
    let other = leech.leech(&small, &[seed.addr()]).await;
    synced(&other).await;
    small.assert_in(&leech.data());
    assert_eq!(fails.stats().downloaded, fetched);
    fails.stop(GRACE).await.unwrap();

    // With room it goes on from there.
    let remount = Command::new("mount")
        .args(["-o", "remount,size=20m"])
        .arg(&full)
        .status();
    assert!(remount.unwrap().success());
    let again = leech.add(&large, |add| {
        add.dir.clone_from(&full);
        add.peers = vec![seed.addr()];
    });
    let again = again.await;
    synced(&again).await;
    assert!(again.stats().downloaded <= 8_000_000 - done);
    large.assert_in(&full);
    leech.end().await;
    seed.end().await;
    drop(disk);
}

#[tokio::test]
async fn a_foreign_file_is_left_alone() {
    let payload = Payload::single("theirs.bin", 300_000, 16_384);
    let (seed, leech) = (Side::new().await, Side::new().await);
    seed.seed(&payload).await;
    std::fs::create_dir_all(leech.data()).unwrap();
    let path = leech.data().join("theirs.bin");
    std::fs::write(&path, "something else").unwrap();
    let torrent = leech.leech(&payload, &[seed.addr()]).await;
    let joined = torrent.joined().await;
    let Err(SessionError::Storage(error)) = joined else {
        panic!("{joined:?}");
    };
    assert_eq!(error.kind, StorageErrorKind::Occupied, "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), b"something else");
    // It is gone from the session, and may come back with permission.
    let allowed = leech.add(&payload, |add| {
        add.overwrite = true;
        add.peers = vec![seed.addr()];
    });
    synced(&allowed.await).await;
    payload.assert_in(&leech.data());
    leech.end().await;
    seed.end().await;
}

#[tokio::test]
async fn a_tracker_that_never_answers_delays_nobody() {
    let listener = std::net::TcpListener::bind((HERE, 0)).unwrap();
    let silent = std::net::UdpSocket::bind((HERE, 0)).unwrap();
    let urls = [
        format!("http://{}/announce", listener.local_addr().unwrap()),
        format!("udp://{}/announce", silent.local_addr().unwrap()),
    ];
    let payload = Payload::folder_with("silent", &[100_000, 100_000], 16_384, &urls);
    let (seed, leech) = (Side::new().await, Side::new().await);
    seed.seed(&payload).await;
    let torrent = leech.leech(&payload, &[seed.addr()]).await;
    synced(&torrent).await;
    let begin = Instant::now();
    let grace = Duration::from_secs(1);
    leech.session.shutdown(grace).await.unwrap();
    assert!(
        begin.elapsed() < Duration::from_secs(2),
        "{:?}",
        begin.elapsed()
    );
    payload.assert_in(&leech.dir.path().join("data"));
    seed.session.shutdown(grace).await.unwrap();
}

#[tokio::test]
async fn a_peer_that_goes_away_is_replaced() {
    let payload = Payload::single("moved.bin", 20_000_000, 131_072);
    let slow = |config: &mut torr::SessionConfig| config.up_rate = Some(3_000_000);
    let (first, second) = (Side::with(slow).await, Side::new().await);
    let leech = Side::new().await;
    first.seed(&payload).await;
    let torrent = leech.leech(&payload, &[first.addr()]).await;
    while torrent.stats().done < 2_000_000 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    first.end().await;
    second.seed(&payload).await;
    torrent.add_peers(vec![second.addr()]).await;
    synced(&torrent).await;
    payload.assert_in(&leech.data());
    leech.end().await;
    second.end().await;
}

#[tokio::test]
async fn events_come_in_their_order() {
    let payload = Payload::folder("told", &[100_000, 200_000], 16_384);
    let (seed, leech) = (Side::new().await, Side::new().await);
    seed.seed(&payload).await;
    let torrent = leech.leech(&payload, &[seed.addr()]).await;
    let mut events = torrent.events();
    synced(&torrent).await;
    torrent.stop(GRACE).await.unwrap();
    let mut told = Vec::new();
    while let Some(event) = events.next().await {
        told.push(match &event {
            Event::Metadata | Event::Refused(_) => unreachable!("it was a .torrent"),
            Event::Added => "added",
            Event::FileDone { .. } => "file",
            Event::Complete => "complete",
            Event::Synced => "synced",
            Event::Stopped => "stopped",
            Event::Checking { .. } => continue,
            Event::Tracker { .. }
            | Event::Dht(_)
            | Event::PeerBanned { .. }
            | Event::WebSeed { .. }
            | Event::Warning(_)
            | Event::Halted(_)
            | Event::Resumed
            | Event::Failed(_) => panic!("{event:?}"),
        });
    }
    let order = ["added", "file", "file", "complete", "synced", "stopped"];
    assert_eq!(told, order);
    leech.end().await;
    seed.end().await;
}

#[tokio::test]
async fn relative_folders_are_made_too() {
    let dir = tempfile::tempdir_in(".").unwrap();
    let name = dir.path().file_name().unwrap();
    let base = Path::new(name);
    let session = crate::common::start(&base.join("new"), |_| {}).await;
    let payload = Payload::single("rel.bin", 100_000, 16_384);
    let seed = Side::new().await;
    seed.seed(&payload).await;
    let mut add = torr::AddTorrent::new(payload.torrent.clone(), base.join("data"));
    add.peers = vec![seed.addr()];
    let torrent = session.add(add).await.unwrap();
    synced(&torrent).await;
    assert!(torrent.path().unwrap().is_absolute());
    payload.assert_in(&base.join("data"));
    session.shutdown(GRACE).await.unwrap();
    seed.end().await;
}
