//! GETs from servers on loopback that behave as badly as they can. Time is paused where a test waits, so
//! that time-outs cost none.

use std::io::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use torr_tracker::policy::Refused;

use super::*;

/// What a server does with a connection, by the head of the request.
#[derive(Clone, Debug)]
enum Then {
    /// Sends this and closes.
    Say(Vec<u8>),
    /// Sends this and stays silent.
    Hang(Vec<u8>),
    /// Sends this again and again.
    Flood(Vec<u8>),
}

type Script = Arc<dyn Fn(&str) -> Then + Send + Sync>;

/// A server and the request heads that it has seen.
struct World {
    addr: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
}

async fn serve(listen: &str, script: impl Fn(&str) -> Then + Send + Sync + 'static) -> World {
    let listener = TcpListener::bind(listen).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (script, log): (Script, _) = (Arc::new(script), Arc::clone(&seen));
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(converse(socket, Arc::clone(&script), Arc::clone(&log)));
        }
    });
    World { addr, seen }
}

async fn converse(
    mut socket: impl AsyncRead + AsyncWrite + Unpin,
    script: Script,
    log: Arc<Mutex<Vec<String>>>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match socket.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    log.lock().unwrap().push(head.clone());
    match script(&head) {
        Then::Say(bytes) => {
            let _ = socket.write_all(&bytes).await;
            let _ = socket.shutdown().await;
        }
        Then::Hang(bytes) => {
            let _ = socket.write_all(&bytes).await;
            std::future::pending::<()>().await;
        }
        Then::Flood(bytes) => while socket.write_all(&bytes).await.is_ok() {},
    }
}

fn ok(body: &[u8]) -> Then {
    let mut out = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    out.extend_from_slice(body);
    Then::Say(out)
}

fn moved(to: &str) -> Then {
    Then::Say(format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n").into())
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    out.write_all(body).unwrap();
    let packed = out.finish().unwrap();
    let head = "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length:";
    let mut out = format!("{head} {}\r\n\r\n", packed.len()).into_bytes();
    out.extend_from_slice(&packed);
    out
}

fn client() -> HttpClient {
    HttpClient::new(false)
}

async fn get(url: &str) -> Result<HttpReply, HttpError> {
    client()
        .get(url, Purpose::Tracker, &HttpLimits::default())
        .await
}

fn body_of(reply: Result<HttpReply, HttpError>) -> Vec<u8> {
    reply.unwrap().body
}

#[tokio::test]
async fn a_plain_get_in_both_families() {
    for listen in ["127.0.0.1:0", "[::1]:0"] {
        let world = serve(listen, |_| ok(b"d5:peers0:e")).await;
        let url = format!("http://{}/announce?info_hash=%01%fF%20&key=1", world.addr);
        let reply = get(&url).await.unwrap();
        assert_eq!((reply.status, &reply.body[..]), (200, &b"d5:peers0:e"[..]));
        assert_eq!(reply.from, Some(world.addr.ip()));
        let seen = world.seen.lock().unwrap();
        let head = seen[0].to_lowercase();
        // The escapes go out as they came.
        assert!(seen[0].starts_with("GET /announce?info_hash=%01%fF%20&key=1 HTTP/1.1\r\n"));
        assert!(head.contains(&format!(
            "user-agent: torr/{}\r\n",
            env!("CARGO_PKG_VERSION")
        )));
        assert!(head.contains("connection: close") && head.contains("accept-encoding: gzip"));
    }
}

#[tokio::test]
async fn statuses_chunks_and_gzip_are_replies() {
    let chunked =
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    let until_close = b"HTTP/1.0 200 OK\r\n\r\nabcde";
    let missing = b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nabcde";
    for (bytes, status) in [
        (chunked.to_vec(), 200),
        (until_close.to_vec(), 200),
        (gzip(b"abcde"), 200),
        (missing.to_vec(), 404),
    ] {
        let world = serve("127.0.0.1:0", move |_| Then::Say(bytes.clone())).await;
        let reply = get(&format!("http://{}/announce", world.addr))
            .await
            .unwrap();
        assert_eq!((reply.status, &reply.body[..]), (status, &b"abcde"[..]));
    }
}

#[tokio::test]
async fn names_are_looked_up() {
    let world = serve("127.0.0.1:0", |_| ok(b"x")).await;
    let port = world.addr.port();
    let reply = get(&format!("http://localhost:{port}/announce")).await;
    assert_eq!(body_of(reply), b"x");
    let addrs = client().resolve("localhost", 80).await.unwrap();
    assert!(
        addrs
            .iter()
            .all(|addr| addr.ip().is_loopback() && addr.port() == 80)
    );
    let addrs = client().resolve("[::1]", 80).await.unwrap();
    assert_eq!(addrs, ["[::1]:80".parse().unwrap()]);
    let error = client()
        .resolve("no-such-name.invalid", 80)
        .await
        .unwrap_err();
    assert!(matches!(error, HttpError::Lookup { .. }), "{error:?}");
    assert!(client().resolve("nul\0byte", 80).await.is_err());
}

#[tokio::test]
async fn redirects_are_followed_three_times_and_no_more() {
    let hops = |n: usize| {
        move |head: &str| {
            let at = (0..n).find(|at| head.starts_with(&format!("GET /k{at}/")));
            match at {
                Some(at) => moved(&format!("/k{}/announce", at + 1)),
                None => ok(b"there"),
            }
        }
    };
    let world = serve("127.0.0.1:0", hops(3)).await;
    let url = format!("http://{}/k0/announce", world.addr);
    assert_eq!(body_of(get(&url).await), b"there");
    assert_eq!(world.seen.lock().unwrap().len(), 4);
    let world = serve("127.0.0.1:0", hops(4)).await;
    let url = format!("http://{}/k0/announce", world.addr);
    assert_eq!(get(&url).await, Err(HttpError::TooManyRedirects(3)));
    assert_eq!(world.seen.lock().unwrap().len(), 4);
}

#[tokio::test]
async fn circles_and_bad_redirects_are_errors() {
    let circle = |head: &str| {
        moved(if head.starts_with("GET /a/") {
            "/b/announce#x"
        } else {
            "/a/announce"
        })
    };
    let world = serve("127.0.0.1:0", circle).await;
    let reply = get(&format!("http://{}/a/announce", world.addr)).await;
    assert_eq!(reply, Err(HttpError::RedirectCircle));
    assert_eq!(world.seen.lock().unwrap().len(), 2);
    let itself = serve("127.0.0.1:0", |_| moved("/announce#again")).await;
    let reply = get(&format!("http://{}/announce", itself.addr)).await;
    assert_eq!(reply, Err(HttpError::RedirectCircle));
    assert_eq!(itself.seen.lock().unwrap().len(), 1);
    for (to, error) in [
        ("http://[nonsense", HttpError::BadRedirect),
        ("file:///etc/passwd", HttpError::BadUrl),
        ("udp://127.0.0.1:9/announce", HttpError::BadUrl),
        (
            "http://169.254.169.254/announce",
            HttpError::Refused(Refused::Closed),
        ),
        (
            "http://10.0.0.1/announce",
            HttpError::Refused(Refused::RedirectToPrivate),
        ),
        ("/admin?reboot=1", HttpError::Refused(Refused::LoopbackPath)),
        (
            "/announce?reboot=1",
            HttpError::Refused(Refused::LoopbackQuery),
        ),
        (
            "http://localhost:1/x/y/announce",
            HttpError::Refused(Refused::LoopbackPath),
        ),
    ] {
        let world = serve("127.0.0.1:0", move |_| moved(to)).await;
        let reply = get(&format!("http://{}/announce", world.addr)).await;
        assert_eq!(reply, Err(error), "{to}");
    }
    let lost = b"HTTP/1.1 301 Moved\r\nContent-Length: 0\r\n\r\n";
    let world = serve("127.0.0.1:0", |_| Then::Say(lost.to_vec())).await;
    let reply = get(&format!("http://{}/announce", world.addr)).await;
    assert_eq!(reply, Err(HttpError::BadRedirect));
}

#[tokio::test]
async fn addresses_are_judged_however_they_are_written() {
    let world = serve("127.0.0.1:0", |_| ok(b"secret")).await;
    let port = world.addr.port();
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f.1",
        "[::ffff:127.0.0.1]",
        "localhost",
    ] {
        let reply = get(&format!("http://{host}:{port}/admin")).await;
        assert_eq!(
            reply,
            Err(HttpError::Refused(Refused::LoopbackPath)),
            "{host}"
        );
        let url = format!("http://{host}:{port}/file?reboot=1");
        let seed = client()
            .get(&url, Purpose::WebSeed, &HttpLimits::default())
            .await;
        assert_eq!(
            seed,
            Err(HttpError::Refused(Refused::WebSeedQuery)),
            "{host}"
        );
    }
    for host in [
        "169.254.169.254",
        "0.0.0.0",
        "0",
        "[::]",
        "[::ffff:a9fe:a9fe]",
    ] {
        let reply = get(&format!("http://{host}:{port}/announce")).await;
        assert_eq!(reply, Err(HttpError::Refused(Refused::Closed)), "{host}");
    }
    assert!(world.seen.lock().unwrap().is_empty());
    let allowed = HttpClient::new(true);
    let url = format!("http://127.0.0.1:{port}/file");
    let seed = allowed
        .get(&url, Purpose::WebSeed, &HttpLimits::default())
        .await;
    assert_eq!(body_of(seed), b"secret");
}

#[tokio::test]
async fn the_addresses_that_were_judged_are_the_ones_connected_to() {
    let world = serve("127.0.0.1:0", |_| ok(b"pinned")).await;
    let mut client = client();
    let shared = Arc::get_mut(&mut client.shared).unwrap();
    // The system's own answer for these names is that there are none.
    let here = world.addr.ip();
    let cloud = "169.254.169.254".parse().unwrap();
    shared.lookup.names = vec![
        ("good.invalid", vec![cloud, here]),
        ("bad.invalid", vec![cloud]),
    ];
    let port = world.addr.port();
    let limits = HttpLimits::default();
    let url = format!("http://GOOD.invalid:{port}/announce");
    let reply = client.get(&url, Purpose::Tracker, &limits).await;
    assert_eq!(body_of(reply), b"pinned", "the one that passed is used");
    assert!(world.seen.lock().unwrap()[0].contains(&format!("host: good.invalid:{port}")));
    let url = format!("http://bad.invalid:{port}/announce");
    let reply = client.get(&url, Purpose::Tracker, &limits).await;
    assert_eq!(reply, Err(HttpError::Refused(Refused::Closed)));
}

#[tokio::test]
async fn long_replies_are_left_at_the_limit() {
    let at_limit = vec![b'x'; 1 << 20];
    let over = [&at_limit[..], b"x"].concat();
    let zeros = vec![0; 200 << 20];
    let bomb = gzip(&zeros);
    assert!(bomb.len() < 1 << 18, "{}", bomb.len());
    for (script, good) in [
        (ok(&at_limit), true),
        (ok(&over), false),
        (Then::Say(gzip(&at_limit)), true),
        (Then::Say(gzip(&over)), false),
        (Then::Say(bomb), false),
        (
            Then::Say(
                b"HTTP/1.1 200 OK\r\n\r\n"
                    .iter()
                    .copied()
                    .chain(over)
                    .collect(),
            ),
            false,
        ),
        (Then::Flood(b"HTTP/1.1 200 OK\r\n\r\n".to_vec()), false),
    ] {
        let world = serve("127.0.0.1:0", move |_| script.clone()).await;
        let reply = get(&format!("http://{}/announce", world.addr)).await;
        match reply {
            Ok(reply) => assert!(good && reply.body.len() == 1 << 20),
            Err(error) => assert!(!good && error == HttpError::TooLong(1 << 20), "{error:?}"),
        }
    }
}

#[tokio::test]
async fn rubbish_is_an_error_and_not_a_hang() {
    let megabyte: Vec<u8> = (0..1 << 20).map(|i: u32| (i % 251) as u8).collect();
    let headers = b"HTTP/1.1 200 OK\r\n"
        .iter()
        .copied()
        .chain(vec![b'a'; 1 << 20])
        .collect();
    for bytes in [
        megabyte,
        Vec::new(),
        headers,
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nshort".to_vec(),
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nabcde".to_vec(),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n".to_vec(),
        b"220 smtp.example ESMTP\r\n".to_vec(),
    ] {
        let shown = bytes.escape_ascii().take(60).collect::<Vec<_>>();
        let world = serve("127.0.0.1:0", move |_| Then::Say(bytes.clone())).await;
        let limits = HttpLimits {
            total: Duration::from_secs(5),
            ..HttpLimits::default()
        };
        let url = format!("http://{}/announce", world.addr);
        let reply = client().get(&url, Purpose::Tracker, &limits).await;
        let shown = String::from_utf8_lossy(&shown).into_owned();
        assert!(
            matches!(reply, Err(HttpError::Transport(_))),
            "{shown}: {reply:?}"
        );
    }
    for url in [
        "",
        "announce",
        "udp://127.0.0.1:1/",
        "http://",
        "file:///etc/passwd",
    ] {
        assert_eq!(get(url).await, Err(HttpError::BadUrl), "{url}");
    }
}

#[tokio::test(start_paused = true)]
async fn hangs_end_at_the_time_out() {
    let half = b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nshort".to_vec();
    for bytes in [Vec::new(), b"HTTP/1.1 200".to_vec(), half] {
        let world = serve("127.0.0.1:0", move |_| Then::Hang(bytes.clone())).await;
        let began = tokio::time::Instant::now();
        let reply = get(&format!("http://{}/announce", world.addr)).await;
        assert_eq!(reply, Err(HttpError::TimedOut(Duration::from_secs(30))));
        assert_eq!(began.elapsed().as_secs(), 30);
    }
}

#[tokio::test]
async fn a_refused_connection_says_so_without_the_key() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    let key = "0123456789abcdef0123456789abcdef";
    let error = get(&format!("http://{addr}/{key}/announce"))
        .await
        .unwrap_err();
    assert!(
        error.to_string().to_lowercase().contains("refused"),
        "{error}"
    );
    assert!(!format!("{error} {error:?}").contains(key), "{error:?}");
}

#[tokio::test]
async fn one_hanging_host_delays_no_other() {
    let hanging = serve("127.0.0.1:0", |_| Then::Hang(Vec::new())).await;
    let good = serve("[::1]:0", |_| ok(b"x")).await;
    let client = client();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..1000 {
        let (client, url) = (client.clone(), format!("http://{}/announce", hanging.addr));
        tasks.spawn(async move {
            client
                .get(&url, Purpose::Tracker, &HttpLimits::default())
                .await
        });
    }
    while hanging.seen.lock().unwrap().len() < 8 {
        tokio::task::yield_now().await;
    }
    let began = Instant::now();
    let url = format!("http://{}/announce", good.addr);
    let reply = client
        .get(&url, Purpose::Tracker, &HttpLimits::default())
        .await;
    assert_eq!(body_of(reply), b"x");
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(hanging.seen.lock().unwrap().len(), 8, "the others wait");
    // Dropping the requests frees their places.
    tasks.shutdown().await;
    let reply = client
        .get(&url, Purpose::Tracker, &HttpLimits::default())
        .await;
    assert_eq!(body_of(reply), b"x");
    assert_eq!(client.shared.queue.hosts(), 1);
}

#[tokio::test]
async fn certificates_are_checked() {
    let cert = include_bytes!("testdata/localhost.cert.pem");
    let cert = CertificateDer::from_pem_slice(cert).unwrap();
    let key = include_bytes!("testdata/localhost.key.pem");
    let key = PrivateKeyDer::from_pem_slice(key).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            if let Ok(socket) = acceptor.accept(socket).await {
                tokio::spawn(converse(
                    socket,
                    Arc::new(|_: &str| ok(b"tls")),
                    Arc::default(),
                ));
            }
        }
    });
    let mut roots = rustls::RootCertStore::empty();
    roots.add(cert).unwrap();
    let trusting = HttpClient::with_tls(false, Tls::trusting(roots));
    let url = format!("https://localhost:{port}/announce");
    let reply = trusting
        .get(&url, Purpose::Tracker, &HttpLimits::default())
        .await;
    assert_eq!(body_of(reply), b"tls");
    // Another name on the same certificate, and the system's own authorities.
    let other = format!("https://127.0.0.1:{port}/announce");
    for (client, url) in [(&trusting, &other), (&client(), &url)] {
        let error = client
            .get(url, Purpose::Tracker, &HttpLimits::default())
            .await
            .unwrap_err();
        let text = error.to_string().to_lowercase();
        assert!(
            text.contains("certificate") || matches!(error, HttpError::NoTls(_)),
            "{error:?}"
        );
    }
}
