//! Web seeds (BEP 19): real sessions, and a small HTTP server that answers as it is told.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use torr::metainfo::{Magnet, Metainfo};
use torr::{AddTorrent, Event, Torrent, WebEvent, WebFault};

use crate::common::{LONG, Payload, Side, random, synced};

/// How the server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bad {
    No,
    /// So many bytes a second.
    Slow(u64),
    /// 200 and the whole file, whatever was asked for.
    Whole,
    Absent,
    /// The connection ends in the middle of the body.
    Short,
    /// A chunked body that does not end.
    Endless,
    /// Other bytes.
    Content,
    /// A longer file.
    Length,
    /// Half of the body, and then nothing.
    Stalled,
    OtherRange,
    NoRange,
    Packed,
    Busy,
    /// To the file itself, after so many redirects.
    Redirects(u32),
    /// To somewhere else.
    LedTo(&'static str),
    /// No HTTP at all.
    Rubbish,
}

struct Server {
    addr: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<String>>>,
}

#[derive(Clone)]
struct Site {
    files: Arc<BTreeMap<String, Vec<u8>>>,
    bad: Bad,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Serves the payload as a web server would whose root has its folder.
    fn start(payload: &Payload, bad: Bad) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let path = |file: &str| match file == payload.name {
            true => format!("/{file}"),
            false => format!("/{}/{file}", payload.name),
        };
        let files = payload.files.iter();
        let files = files.map(|(file, bytes)| (path(file), bytes.clone()));
        let site = Site {
            files: Arc::new(files.collect()),
            bad,
            requests: Arc::default(),
        };
        let server = Self {
            addr,
            connections: Arc::default(),
            requests: Arc::clone(&site.requests),
        };
        let count = Arc::clone(&server.connections);
        std::thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                count.fetch_add(1, Ordering::SeqCst);
                let site = site.clone();
                std::thread::spawn(move || site.serve(socket));
            }
        });
        server
    }

    fn url(&self) -> String {
        format!("http://{}/", self.addr)
    }

    fn requests(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}

impl Site {
    /// Ends with the connection, however that ends.
    fn serve(&self, mut socket: TcpStream) -> Option<()> {
        let mut reader = BufReader::new(socket.try_clone().ok()?);
        loop {
            let mut lines = Vec::new();
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).ok()? == 0 {
                    return None;
                }
                if line.trim().is_empty() {
                    break;
                }
                lines.push(line.trim().to_owned());
            }
            let target = lines.first()?.split(' ').nth(1)?.to_owned();
            self.requests.lock().unwrap().push(lines.join("\n"));
            let range = lines.iter().find_map(|line| {
                let (name, value) = line.split_once(": ")?;
                name.eq_ignore_ascii_case("range").then_some(value)
            })?;
            let (from, last) = range.strip_prefix("bytes=")?.split_once('-')?;
            let range = (from.parse().ok()?, last.parse::<usize>().ok()? + 1);
            self.answer(&mut socket, &target, range)?;
        }
    }

    fn answer(
        &self,
        socket: &mut TcpStream,
        target: &str,
        (from, to): (usize, usize),
    ) -> Option<()> {
        let (path, hops) = match target.split_once("-hop") {
            Some((path, hops)) => (path, hops.parse().ok()?),
            None => (target, 0_u32),
        };
        let path = decode(path);
        let mut head = |text: &str| socket.write_all(text.as_bytes()).ok();
        if let Bad::LedTo(elsewhere) = self.bad {
            return head(&format!(
                "HTTP/1.1 302 Found\r\nLocation: {elsewhere}\r\nContent-Length: 0\r\n\r\n"
            ));
        }
        if let Bad::Redirects(n) = self.bad
            && hops < n
        {
            let next = hops + 1;
            return head(&format!(
                "HTTP/1.1 302 Found\r\nLocation: {path}-hop{next}\r\nContent-Length: 0\r\n\r\n"
            ));
        }
        let Some(file) = self.files.get(&path).filter(|_| self.bad != Bad::Absent) else {
            return head("HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno");
        };
        let (len, total) = (to - from, file.len());
        let right = format!("Content-Range: bytes {from}-{}/{total}\r\n", to - 1);
        let partial = format!("HTTP/1.1 206 Partial Content\r\nContent-Length: {len}\r\n");
        let body = file.get(from..to)?;
        match self.bad {
            Bad::No | Bad::Redirects(_) => {
                head(&format!("{partial}{right}\r\n"))?;
                socket.write_all(body).ok()
            }
            Bad::Slow(rate) => {
                head(&format!("{partial}{right}\r\n"))?;
                for part in body.chunks(8_192) {
                    std::thread::sleep(Duration::from_secs_f64(part.len() as f64 / rate as f64));
                    socket.write_all(part).ok()?;
                }
                Some(())
            }
            Bad::Whole => {
                head(&format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {total}\r\n\r\n"
                ))?;
                socket.write_all(file).ok()
            }
            Bad::Absent | Bad::LedTo(_) => unreachable!("answered above"),
            Bad::Short => {
                head(&format!("{partial}{right}\r\n"))?;
                socket.write_all(body.get(..len / 2)?).ok()?;
                None
            }
            Bad::Endless => {
                head(&format!(
                    "HTTP/1.1 206 Partial Content\r\nTransfer-Encoding: chunked\r\n{right}\r\n{len:x}\r\n"
                ))?;
                socket.write_all(body).ok()?;
                loop {
                    socket.write_all(b"\r\n400\r\n").ok()?;
                    socket.write_all(&[7; 1_024]).ok()?;
                }
            }
            Bad::Content => {
                head(&format!("{partial}{right}\r\n"))?;
                socket.write_all(&random(len)).ok()
            }
            Bad::Length => {
                let other = format!("Content-Range: bytes {from}-{}/{}\r\n", to - 1, total + 1);
                head(&format!("{partial}{other}\r\n"))?;
                socket.write_all(body).ok()
            }
            Bad::Stalled => {
                head(&format!("{partial}{right}\r\n"))?;
                socket.write_all(body.get(..len / 2)?).ok()?;
                std::thread::sleep(LONG);
                None
            }
            Bad::OtherRange => {
                let other = format!(
                    "Content-Range: bytes 0-{}/{total}\r\n",
                    len.saturating_sub(2)
                );
                head(&format!("{partial}{other}\r\n"))?;
                socket.write_all(body).ok()
            }
            Bad::NoRange => {
                head(&format!("{partial}\r\n"))?;
                socket.write_all(body).ok()
            }
            Bad::Packed => {
                head(&format!("{partial}{right}Content-Encoding: gzip\r\n\r\n"))?;
                socket.write_all(body).ok()
            }
            Bad::Busy => head(
                "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n",
            ),
            Bad::Rubbish => {
                head("SSH-2.0-x\r\n\r\n")?;
                None
            }
        }
    }
}

fn decode(path: &str) -> String {
    let mut out = Vec::new();
    let mut rest = path.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'%', [high, low, tail @ ..]) => {
                let hex = String::from_utf8(vec![*high, *low]).unwrap();
                out.push(u8::from_str_radix(&hex, 16).unwrap());
                rest = tail;
            }
            _ => out.push(*first),
        }
    }
    String::from_utf8(out).unwrap()
}

fn with_seeds(mut payload: Payload, urls: &[String]) -> Payload {
    let mut meta = Metainfo::parse(&payload.torrent).unwrap();
    meta.set_web_seeds(urls);
    payload.torrent = meta.to_bytes();
    payload
}

/// What was told of web seeds until the torrent was done.
async fn told(torrent: &Torrent) -> Vec<WebEvent> {
    let mut events = torrent.events();
    let mut told = Vec::new();
    let all = async {
        while let Some(event) = events.next().await {
            if matches!(event, Event::Synced) {
                return;
            }
            if let Event::WebSeed { event, .. } = event {
                told.push(event);
            }
        }
    };
    let done = tokio::time::timeout(LONG, all).await;
    done.unwrap_or_else(|_| panic!("{:#?}", torrent.stats()));
    told
}

#[tokio::test]
async fn a_single_file_comes_from_a_web_seed_alone() {
    let payload = Payload::single("one file.bin", 5_000_000, 32_768);
    let server = Server::start(&payload, Bad::No);
    for url in [server.url(), format!("{}one%20file.bin", server.url())] {
        let payload = with_seeds(payload.copy(), &[url]);
        let leech = Side::new().await;
        let torrent = leech.leech(&payload, &[]).await;
        assert_eq!(told(&torrent).await, []);
        payload.assert_in(&leech.data());
        let stats = torrent.stats();
        assert_eq!((stats.web_downloaded, stats.wasted), (5_000_000, 0));
        leech.end().await;
    }
    let request = server.requests.lock().unwrap()[0].clone();
    assert!(
        request.starts_with("GET /one%20file.bin HTTP/1.1\n"),
        "{request}"
    );
    let lower = request.to_ascii_lowercase();
    assert!(lower.contains("\naccept-encoding: identity"), "{request}");
}

#[tokio::test]
async fn many_files_come_over_few_connections() {
    let lens: Vec<usize> = (0..60).map(|n| (n * 7_919) % 50_000).collect();
    let payload = Payload::folder("many & more", &lens, 16_384);
    let server = Server::start(&payload, Bad::No);
    let payload = with_seeds(payload, &[server.url()]);
    let leech = Side::new().await;
    let torrent = leech.leech(&payload, &[]).await;
    assert_eq!(told(&torrent).await, []);
    payload.assert_in(&leech.data());
    let connections = server.connections.load(Ordering::SeqCst);
    assert!(server.requests() >= 50, "{}", server.requests());
    assert!(connections <= 6, "{connections} connections");
    leech.end().await;
}

#[tokio::test]
async fn a_peer_and_a_web_seed_are_used_together() {
    let payload = Payload::single("both", 6_000_000, 32_768);
    let server = Server::start(&payload, Bad::Slow(1_000_000));
    let payload = with_seeds(payload, &[server.url()]);
    let seed = Side::with(|config| config.up_rate = Some(1_500_000)).await;
    seed.seed(&Payload {
        torrent: payload.torrent.clone(),
        ..payload.copy()
    })
    .await;
    let leech = Side::new().await;
    let torrent = leech.leech(&payload, &[seed.addr()]).await;
    synced(&torrent).await;
    payload.assert_in(&leech.data());
    let stats = torrent.stats();
    let from_peer = stats.downloaded - stats.web_downloaded;
    assert!(
        stats.web_downloaded > 500_000 && from_peer > 500_000,
        "{stats:#?}"
    );
    assert!(stats.wasted < 1_000_000, "{stats:#?}");
    leech.end().await;
    seed.end().await;
}

#[tokio::test]
async fn every_bad_answer_costs_the_web_seed_and_nobody_else() {
    let fault = |event: &WebEvent| match event {
        WebEvent::Failed { why, .. } | WebEvent::GaveUp { why } => Some(why.clone()),
        WebEvent::Banned => None,
    };
    for bad in [
        Bad::Whole,
        Bad::Absent,
        Bad::Short,
        Bad::Endless,
        Bad::Content,
        Bad::Length,
        Bad::Stalled,
        Bad::OtherRange,
        Bad::NoRange,
        Bad::Packed,
        Bad::Busy,
        Bad::Redirects(4),
        Bad::Rubbish,
    ] {
        let payload = Payload::single("spoilt", 4_000_000, 32_768);
        let server = Server::start(&payload, bad);
        let payload = with_seeds(payload, &[server.url()]);
        let seed = Side::with(|config| config.up_rate = Some(3_000_000)).await;
        seed.seed(&payload).await;
        let leech = Side::new().await;
        // The web seed is the first to be asked.
        let torrent = leech.leech(&payload, &[seed.addr()]).await;
        let told = told(&torrent).await;
        payload.assert_in(&leech.data());
        let why = told.first().map(fault);
        let expected = match bad {
            Bad::Whole => Some(Some(WebFault::WholeFile)),
            Bad::Absent => Some(Some(WebFault::Absent(404))),
            Bad::Endless => Some(Some(WebFault::Long)),
            Bad::Length => Some(Some(WebFault::OtherLength(4_000_001))),
            Bad::OtherRange | Bad::NoRange => Some(Some(WebFault::OtherRange)),
            Bad::Packed => Some(Some(WebFault::Encoded)),
            Bad::Busy => Some(Some(WebFault::Busy(503, Duration::from_secs(1)))),
            Bad::Content => Some(None),
            // It is not found out before the torrent is done.
            Bad::Stalled => None,
            Bad::Short | Bad::Redirects(_) | Bad::Rubbish => {
                let transport = matches!(why, Some(Some(WebFault::Transport(_))));
                assert!(transport, "{bad:?}: {why:?}");
                why.clone()
            }
            Bad::No | Bad::Slow(_) | Bad::LedTo(_) => unreachable!("not of these"),
        };
        assert_eq!(why, expected, "{bad:?}: {told:?}");
        leech.end().await;
        seed.end().await;
    }
}

#[tokio::test]
async fn redirects_are_followed() {
    let payload = Payload::single("led.bin", 2_000_000, 32_768);
    let server = Server::start(&payload, Bad::Redirects(3));
    let payload = with_seeds(payload, &[server.url()]);
    let leech = Side::new().await;
    let torrent = leech.leech(&payload, &[]).await;
    assert_eq!(told(&torrent).await, []);
    payload.assert_in(&leech.data());
    leech.end().await;
}

#[tokio::test]
async fn files_that_a_web_seed_lacks_come_from_another() {
    let payload = Payload::folder("parts", &[400_000, 300_000, 200_000, 0, 500_000], 16_384);
    let mut half = payload.copy();
    half.files.truncate(2);
    let (half, other) = (
        Server::start(&half, Bad::No),
        Server::start(&payload, Bad::Slow(400_000)),
    );
    let payload = with_seeds(payload, &[half.url(), other.url()]);
    let leech = Side::new().await;
    let torrent = leech.leech(&payload, &[]).await;
    synced(&torrent).await;
    payload.assert_in(&leech.data());
    assert_eq!(torrent.stats().web_seeds, 2);
    leech.end().await;
}

#[tokio::test]
async fn a_link_names_web_seeds_too() {
    let payload = Payload::single("linked", 3_000_000, 32_768);
    let server = Server::start(&payload, Bad::No);
    let meta = Metainfo::parse(&payload.torrent).unwrap();
    // The metadata comes from a peer that gives nothing else.
    let seed = Side::new().await;
    let mut add = AddTorrent::new(payload.torrent.clone(), seed.data());
    add.metadata_only = true;
    seed.session.add(add).await.unwrap();
    let peer = torr::metainfo::Node {
        host: seed.addr().ip().to_string(),
        port: seed.addr().port(),
    };
    let magnet = Magnet {
        peers: vec![peer],
        web_seeds: vec![server.url()],
        ..Magnet::new(meta.info().info_hash())
    };
    let leech = Side::new().await;
    let add = AddTorrent::magnet(magnet, leech.data());
    let torrent = leech.session.add(add).await.unwrap();
    synced(&torrent).await;
    payload.assert_in(&leech.data());
    leech.end().await;
    seed.end().await;
}

#[tokio::test]
async fn a_private_torrent_may_use_them_and_the_rate_limit_holds() {
    let payload = Payload::single("private", 1_500_000, 32_768).private();
    let server = Server::start(&payload, Bad::No);
    let payload = with_seeds(payload, &[server.url()]);
    let leech = Side::with(|config| config.down_rate = Some(500_000)).await;
    let begun = Instant::now();
    let torrent = leech.leech(&payload, &[]).await;
    synced(&torrent).await;
    let took = begun.elapsed();
    payload.assert_in(&leech.data());
    assert!(
        took > Duration::from_millis(2_700) && took < Duration::from_secs(8),
        "{took:?}"
    );
    leech.end().await;
}

#[tokio::test]
async fn memory_stays_bounded_where_the_server_is_faster_than_the_disk_may_take() {
    let payload = Payload::single("wide", 30_000_000, 4 << 20);
    let server = Server::start(&payload, Bad::No);
    let payload = with_seeds(payload, &[server.url()]);
    let leech = Side::with(|config| config.memory = 16 << 20).await;
    let torrent = leech.leech(&payload, &[]).await;
    synced(&torrent).await;
    payload.assert_in(&leech.data());
    leech.end().await;
}

#[tokio::test]
async fn a_redirect_leads_nowhere_near() {
    for (elsewhere, why) in [
        (
            "http://169.254.169.254/latest/meta-data",
            "never connected to",
        ),
        ("http://10.0.0.1/x", "private network"),
        ("http://127.0.0.1:1/x?reboot=1", "query"),
        ("ftp://127.0.0.1/x", "not an http"),
    ] {
        let payload = Payload::single("led", 100_000, 32_768);
        let server = Server::start(&payload, Bad::LedTo(elsewhere));
        let payload = with_seeds(payload, &[server.url()]);
        let leech = Side::new().await;
        let torrent = leech.leech(&payload, &[]).await;
        let (_, event) = web_event(&torrent).await;
        assert!(
            matches!(event, WebEvent::GaveUp { .. }),
            "{elsewhere}: {event:?}"
        );
        assert!(event.to_string().contains(why), "{elsewhere}: {event}");
        assert_eq!((server.requests(), torrent.stats().web_seeds), (1, 0));
        leech.end().await;
    }
}

/// The first news of a web seed.
async fn web_event(torrent: &Torrent) -> (String, WebEvent) {
    let mut events = torrent.events();
    let found = async {
        loop {
            if let Some(Event::WebSeed { url, event }) = events.next().await {
                return (url, event);
            }
        }
    };
    tokio::time::timeout(LONG, found).await.unwrap()
}

#[tokio::test]
async fn a_query_on_this_machine_is_not_asked() {
    let payload = Payload::single("asked", 100_000, 32_768);
    let server = Server::start(&payload, Bad::No);
    let secret = format!("{}?passkey=0123456789abcdef0123", server.url());
    let payload = with_seeds(payload, &[secret, "ftp://127.0.0.1/x".to_owned()]);
    let leech = Side::new().await;
    let torrent = leech.leech(&payload, &[]).await;
    let (url, event) = web_event(&torrent).await;
    assert!(
        matches!(
            event,
            WebEvent::GaveUp {
                why: WebFault::Forbidden(_)
            }
        ),
        "{event:?}"
    );
    assert!(event.to_string().contains("query"), "{event}");
    assert!(!url.contains("0123456789abcdef"), "{url}");
    assert_eq!((server.requests(), torrent.stats().web_seeds), (0, 0));
    leech.end().await;
}
