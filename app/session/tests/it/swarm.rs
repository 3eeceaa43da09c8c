//! Many to many, and how they find each other.

use std::net::SocketAddr;
use std::thread::JoinHandle;

use tokio::sync::oneshot;
use torr::tracker_server::{TrackerServer, TrackerServerConfig};

use crate::common::{HERE, Payload, Side, synced};

/// A tracker on loopback, on a thread of its own.
struct Tracker {
    addr: SocketAddr,
    quit: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Tracker {
    fn start() -> Self {
        let mut config = TrackerServerConfig::on_port(0);
        config.listen = vec![SocketAddr::new(HERE, 0)];
        config.server.interval_secs = 1;
        config.server.min_interval_secs = Some(1);
        let server = TrackerServer::bind(config).unwrap();
        let addr = server.local_addrs().next().unwrap();
        let (quit, told) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = { runtime }.enable_all().build().unwrap();
            let shutdown = async {
                let _ = told.await;
            };
            runtime.block_on(server.run(shutdown)).unwrap();
        });
        Self {
            addr,
            quit: Some(quit),
            thread: Some(thread),
        }
    }

    fn url(&self, scheme: &str) -> String {
        format!("{scheme}://{}/announce", self.addr)
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        drop(self.quit.take());
        self.thread.take().map(JoinHandle::join);
    }
}

async fn through_tracker(scheme: &str) {
    let tracker = Tracker::start();
    let url = tracker.url(scheme);
    let payload = Payload::folder_with("tracked", &[700_000, 300_000], 32_768, &[url]);
    let mut sides = Vec::new();
    for _ in 0..4 {
        sides.push(Side::new().await);
    }
    sides[0].seed(&payload).await;
    let mut torrents = Vec::new();
    for side in &sides[1..] {
        torrents.push(side.leech(&payload, &[]).await);
    }
    for (side, torrent) in sides[1..].iter().zip(&torrents) {
        synced(torrent).await;
        payload.assert_in(&side.data());
    }
    let status = torrents[0].trackers().await;
    assert_eq!(status.len(), 1);
    assert_eq!(status[0].last_error, None);
    drop(torrents);
    for side in sides {
        side.end().await;
    }
}

#[tokio::test]
async fn they_meet_at_an_http_tracker() {
    through_tracker("http").await;
}

#[tokio::test]
async fn they_meet_at_a_udp_tracker() {
    through_tracker("udp").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_peers_get_it() {
    let payload = Payload::single("fifty.bin", 4_000_000, 65_536);
    let seed = Side::new().await;
    seed.seed(&payload).await;
    let mut known = vec![seed.addr()];
    let mut sides: Vec<(Side, torr::Torrent)> = Vec::new();
    for n in 0..50 {
        let side = Side::with(|config| config.memory = 16 << 20).await;
        // Each knows some of those before it, few of them the seed.
        let peers = [n / 2, n / 3, n].map(|at| known[at]);
        let torrent = side.leech(&payload, &peers).await;
        known.push(side.addr());
        sides.push((side, torrent));
    }
    for (side, torrent) in &sides {
        synced(torrent).await;
        payload.assert_in(&side.data());
    }
    for (side, torrent) in sides {
        drop(torrent);
        side.end().await;
    }
    seed.end().await;
}
