//! The tracker on loopback, asked by the very machines that a node announces with.

use std::collections::BTreeSet;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use torr_base::{InfoHash, PeerId};
use torr_tracker::{Announcer, AnnouncerConfig, Stats, TrackerAction, TrackerEvent, TrackerState};

use super::*;
use crate::http::{HttpClient, HttpLimits, Purpose};

/// Runs `test` beside a tracker on both loopback addresses; gives it the port.
async fn beside<T>(
    change: impl FnOnce(&mut TrackerServerConfig),
    test: impl AsyncFnOnce(u16) -> T,
) -> T {
    let mut config = TrackerServerConfig::on_port(0);
    config.listen = vec!["127.0.0.1:0".parse().unwrap(), "[::1]:0".parse().unwrap()];
    change(&mut config);
    let server = TrackerServer::bind(config).unwrap();
    let ports: BTreeSet<u16> = server.local_addrs().map(|addr| addr.port()).collect();
    assert_eq!(ports.len(), 1, "one port for all");
    let port = *ports.first().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let run = server.run(async {
        let _ = stopped.await;
    });
    let test = async {
        let out = test(port).await;
        let _ = stop.send(());
        out
    };
    let (ran, out) = tokio::join!(run, test);
    ran.unwrap();
    out
}

/// A torrent's announcer with a real network below it.
struct Client {
    announcer: Announcer,
    http: HttpClient,
    udp: [UdpSocket; 2],
    began: std::time::Instant,
    stats: Stats,
    peers: BTreeSet<SocketAddr>,
    news: Vec<TrackerEvent>,
}

impl Client {
    async fn new(port: u16, urls: &[String]) -> Self {
        let mut peer_id = *b"-TR0100-000000000000";
        peer_id[8..10].copy_from_slice(&port.to_be_bytes());
        let config = AnnouncerConfig {
            info_hash: InfoHash([0xab; 20]),
            peer_id: PeerId(peer_id),
            port,
            ipv4: None,
            ipv6: None,
        };
        let tiers: Vec<_> = urls.iter().map(|url| vec![url.clone()]).collect();
        let mut announcer = Announcer::new(config, &tiers, Rng::new(u64::from(port)));
        announcer.start(Instant::ZERO);
        let bind = async |addr| UdpSocket::bind(addr).await.unwrap();
        Self {
            announcer,
            http: HttpClient::new(false),
            udp: [bind("127.0.0.1:0").await, bind("[::1]:0").await],
            began: std::time::Instant::now(),
            stats: Stats {
                left: 5,
                peers_wanted: 50,
                ..Stats::default()
            },
            peers: BTreeSet::new(),
            news: Vec::new(),
        }
    }

    /// Drives it until nothing is due for a while.
    async fn settle(&mut self) {
        loop {
            let now = Instant::ZERO + self.began.elapsed();
            let mut out = Vec::new();
            if self.announcer.next_timeout().is_some_and(|at| at <= now) {
                self.announcer.handle_timeout(now, &self.stats, &mut out);
            } else {
                let [v4, v6] = &self.udp;
                let (mut a, mut b) = ([0; 2048], [0; 2048]);
                let (bytes, from) = tokio::select! {
                    got = v4.recv_from(&mut a) => (&a[..], got.unwrap()),
                    got = v6.recv_from(&mut b) => (&b[..], got.unwrap()),
                    () = tokio::time::sleep(Duration::from_millis(200)) => return,
                };
                let (len, from) = from;
                assert!(
                    self.announcer
                        .handle_datagram(now, from, &bytes[..len], &mut out)
                );
            }
            self.act(now, out).await;
        }
    }

    async fn act(&mut self, now: Instant, actions: Vec<TrackerAction>) {
        for action in actions {
            let mut out = Vec::new();
            match action {
                TrackerAction::HttpGet { request, url } => {
                    let limits = HttpLimits::default();
                    let reply = self.http.get(&url, Purpose::Tracker, &limits).await;
                    let reply = reply.map_err(|error| error.to_string());
                    self.announcer.handle_http(now, request, reply, &mut out);
                }
                TrackerAction::Resolve {
                    request,
                    host,
                    port,
                } => {
                    let addrs = self.http.resolve(&host, port).await;
                    let addrs = addrs.map_err(|error| error.to_string());
                    self.announcer
                        .handle_resolved(now, request, addrs, &mut out);
                }
                TrackerAction::Datagram { to, bytes } => {
                    let socket = &self.udp[usize::from(to.is_ipv6())];
                    socket.send_to(&bytes, to).await.unwrap();
                }
                TrackerAction::Peers { peers, .. } => self.peers.extend(peers),
                TrackerAction::Status { event, .. } => self.news.push(event),
                TrackerAction::Cancel { .. } | TrackerAction::ExternalIp { .. } => {}
            }
            Box::pin(self.act(now, out)).await;
        }
    }

    fn counts(&self) -> (Option<u32>, Option<u32>) {
        let line = self.announcer.trackers().next().unwrap();
        assert_eq!(
            line.state,
            TrackerState::Working,
            "{line:?} {:?}",
            self.news
        );
        (line.seeds, line.leechers)
    }
}

fn peer(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[tokio::test]
async fn our_own_clients_meet_over_http_and_udp_in_both_families() {
    beside(
        |_| (),
        async |port| {
            for (n, url) in [
                format!("http://127.0.0.1:{port}/announce"),
                format!("http://[::1]:{port}/announce"),
                format!("udp://127.0.0.1:{port}"),
                format!("udp://[::1]:{port}/announce"),
            ]
            .into_iter()
            .enumerate()
            {
                let n = u16::try_from(n).unwrap() + 1;
                let mut client = Client::new(n, &[url]).await;
                client.settle().await;
                assert_eq!(client.counts(), (Some(0), Some(u32::from(n))));
                let expected: &[&str] = match n {
                    1 => &[],
                    2 => &["127.0.0.1:1"],
                    // UDP tells of its own family only.
                    3 => &["127.0.0.1:1"],
                    _ => &["[::1]:2"],
                };
                assert_eq!(
                    client.peers,
                    expected.iter().copied().map(peer).collect(),
                    "{n}"
                );
            }
            // One that is reached through a name, and through all of it at once.
            let urls = [
                format!("udp://localhost:{port}"),
                format!("http://localhost:{port}/announce"),
            ];
            let mut client = Client::new(9, &urls).await;
            client.settle().await;
            assert!(
                client.peers.contains(&peer("127.0.0.1:3")),
                "{:?}",
                client.peers
            );
        },
    )
    .await;
}

#[tokio::test]
async fn the_life_of_a_peer_is_counted() {
    for scheme in ["http", "udp"] {
        beside(
            |_| (),
            async |port| {
                let url = [format!("{scheme}://127.0.0.1:{port}/announce")];
                let mut seed = Client::new(1, &url).await;
                seed.stats.left = 0;
                seed.settle().await;
                assert_eq!(seed.counts(), (Some(1), Some(0)));
                let mut leech = Client::new(2, &url).await;
                leech.settle().await;
                assert_eq!(leech.counts(), (Some(1), Some(1)));
                assert_eq!(leech.peers, [peer("127.0.0.1:1")].into());
                leech.stats.left = 0;
                let now = Instant::ZERO + leech.began.elapsed();
                leech.announcer.completed(now);
                leech.settle().await;
                assert_eq!(leech.counts(), (Some(2), Some(0)));
                let now = Instant::ZERO + leech.began.elapsed();
                leech.announcer.stop(now);
                leech.settle().await;
                assert!(leech.announcer.is_stopped());
                let hash = "%ab".repeat(20);
                let scrape = format!("http://127.0.0.1:{port}/scrape?info_hash={hash}");
                let reply = HttpClient::new(false);
                let reply = reply
                    .get(&scrape, Purpose::Tracker, &HttpLimits::default())
                    .await;
                let entries = torr_tracker::http_reply::parse_scrape(&reply.unwrap()).unwrap();
                let entry = entries[&InfoHash([0xab; 20])];
                assert_eq!(
                    (entry.seeds, entry.completed, entry.leechers),
                    (1, 1, 0),
                    "{scheme}"
                );
            },
        )
        .await;
    }
}

async fn ask(port: u16, request: &[u8]) -> String {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let _ = socket.write_all(request).await;
    let mut out = Vec::new();
    let _ = socket.read_to_end(&mut out).await;
    String::from_utf8_lossy(&out).into_owned()
}

#[tokio::test]
async fn what_is_no_announce_is_refused_and_the_connection_closed() {
    beside(
        |_| (),
        async |port| {
            let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: t\r\n\r\n");
            let long = get(&format!("/announce?{}", "a".repeat(100_000)));
            let headers = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(10_000));
            for (request, expected) in [
                (get("/"), "HTTP/1.1 404"),
                (get("/announce"), "14:failure reason20:info_hash is missing"),
                (
                    get("http://other/announce?info_hash=x"),
                    "info_hash is not 20 bytes",
                ),
                (get("*"), "HTTP/1.1 404"),
                (
                    "POST /announce HTTP/1.1\r\nContent-Length: 9\r\n\r\n".to_owned(),
                    "405",
                ),
                (long, "HTTP/1.1 4"),
                (headers, "HTTP/1.1 431"),
                ("\u{16}\u{3}\u{1}\r\n\r\n".to_owned(), "400"),
            ] {
                let reply = ask(port, request.as_bytes()).await;
                let shown: String = request.chars().take(40).collect();
                // A request that is left unread may take the answer with it.
                assert!(
                    reply.contains(expected) || (reply.is_empty() && request.len() > 9999),
                    "{shown}: {reply}"
                );
            }
            let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let mut rng = Rng::new(1);
            for len in 0..600 {
                let mut bytes = vec![0; len];
                rng.fill(&mut bytes);
                udp.send_to(&bytes, ("127.0.0.1", port)).await.unwrap();
            }
            let mut client = Client::new(1, &[format!("udp://127.0.0.1:{port}")]).await;
            client.settle().await;
            assert_eq!(client.counts(), (Some(0), Some(1)));
        },
    )
    .await;
}

#[tokio::test]
async fn slow_requests_end_at_the_deadline_and_hold_up_nobody_for_longer() {
    let slow = |config: &mut TrackerServerConfig| {
        config.connections_max = 3;
        config.header_deadline = Duration::from_millis(300);
    };
    beside(slow, async |port| {
        let mut held = Vec::new();
        for _ in 0..20 {
            let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            socket
                .write_all(b"GET /announce HTTP/1.1\r\nHos")
                .await
                .unwrap();
            held.push(socket);
        }
        let began = std::time::Instant::now();
        let reply = ask(port, b"GET / HTTP/1.1\r\nHost: t\r\n\r\n").await;
        assert!(reply.starts_with("HTTP/1.1 404"), "{reply}");
        // Two places at the least for twenty that hang, each for the deadline.
        assert!(
            began.elapsed() < Duration::from_secs(6),
            "{:?}",
            began.elapsed()
        );
        assert!(
            began.elapsed() > Duration::from_millis(200),
            "the places were taken"
        );
        for mut socket in held {
            let mut out = Vec::new();
            let _ = socket.read_to_end(&mut out).await;
        }
    })
    .await;
}

#[tokio::test]
async fn the_end_closes_everything() {
    let (port, mut socket) = beside(
        |_| (),
        async |port| {
            let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            socket.write_all(b"GET /ann").await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
            (port, socket)
        },
    )
    .await;
    let read = socket.read(&mut [0; 9]).await;
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    let mut config = TrackerServerConfig::on_port(0);
    config.listen = vec![SocketAddr::new("127.0.0.1".parse().unwrap(), port)];
    TrackerServer::bind(config.clone()).expect("the port is free again");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    config.listen = vec![taken.local_addr().unwrap()];
    let error = TrackerServer::bind(config).unwrap_err().to_string();
    assert!(
        error.contains(&taken.local_addr().unwrap().to_string()),
        "{error}"
    );
}

#[test]
fn one_neighbourhood_has_a_hundred_places() {
    let all = Rc::new(Neighbourhoods::default());
    let ip = |text: &str| text.parse().unwrap();
    let mut held: Vec<_> = (0..100)
        .map(|n| all.enter(ip(&format!("192.0.2.{n}"))).unwrap())
        .collect();
    assert!(all.enter(ip("192.0.2.200")).is_none());
    assert!(all.enter(ip("::ffff:192.0.2.200")).is_none());
    assert!(all.enter(ip("192.0.3.1")).is_some());
    held.pop();
    let again = all.enter(ip("192.0.2.200"));
    assert!(again.is_some());
    let v6: Vec<_> = (0..101)
        .map(|n| all.enter(ip(&format!("2001:db8::{n}"))))
        .collect();
    assert!(v6[99].is_some() && v6[100].is_none());
    let local: Vec<_> = (0..300).map(|_| all.enter(ip("127.0.0.1"))).collect();
    assert!(local.iter().all(Option::is_some));
}
