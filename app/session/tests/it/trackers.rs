//! Trackers that lie, on real sockets (G15). What each lie does to the times of announces is tested in torr-tracker.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::common::{HERE, Payload, Side, synced};

/// How a tracker answers a GET.
#[derive(Clone)]
enum Lie {
    Body(Vec<u8>),
    /// The whole answer, head and all.
    Raw(Vec<u8>),
    /// This, again and again, for as long as somebody reads.
    Endless(Vec<u8>),
    /// A byte a second.
    Slow,
    Hang,
    Close,
}

#[derive(Default)]
struct Seen {
    asked: AtomicU64,
    /// Answers that came to an end, ours or the other side's.
    ended: AtomicU64,
    /// Bytes of the longest answer that were taken off us.
    taken: AtomicU64,
    over: AtomicBool,
}

fn head(more: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nConnection: close\r\n{more}\r\n").into_bytes()
}

fn lies() -> Vec<Lie> {
    let bodies: [&[u8]; 24] = [
        b"d8:intervali-1e5:peers0:e",
        b"d8:intervali0e5:peers0:e",
        b"d8:intervali1e5:peers0:e",
        b"d8:intervali2147483648e5:peers0:e",
        b"d8:intervali9223372036854775808e5:peers0:e",
        b"d8:interval4:18005:peers0:e",
        b"d5:peers0:e",
        b"d8:intervali60e12:min intervali-5e5:peers0:e",
        b"d8:intervali60e12:min intervali9223372036854775807e5:peers0:e",
        b"d8:intervali1800e5:peers7:\x7f\0\0\x01\0\x09\x08e",
        b"d8:intervali1800e5:peersi5ee",
        b"d8:intervali1800e5:peersld2:ip9:localhost4:porti22eeee",
        b"d8:intervali1800e5:peersld2:ip9:127.0.0.14:porti70000eeee",
        b"d8:intervali1800e5:peers6:\xa9\xfe\xa9\xfe\0\x50e",
        b"d8:intervali60e5:peers4294967295:xe",
        b"d8:intervali60e5:peers99999999999999999999:xe",
        b"d14:failure reason9:a\x1b]0;x\x07bze",
        b"d14:failure reasonlee",
        b"d14:failure reason2:no8:retry ini-5ee",
        b"d14:failure reason2:no8:retry in5:nevere",
        b"",
        b"<html><script>alert(1)</script>",
        b"i5e",
        b"d8:intervali60e8:intervali70ee",
    ];
    let mut all: Vec<Lie> = bodies.iter().map(|body| Lie::Body(body.to_vec())).collect();
    let raw = |text: &str| Lie::Raw(text.as_bytes().to_vec());
    let redirect = |to: &str| raw(&format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\n\r\n"));
    all.extend([
        // Leads back to itself.
        redirect("/announce"),
        redirect("http://127.0.0.1:1/announce"),
        redirect("http://169.254.169.254/announce"),
        redirect("gopher://x/"),
        raw("HTTP/1.1 302 Found\r\n\r\n"),
        raw("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n"),
        raw("HTTP/1.1 999999 x\r\n\r\n"),
        raw("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n"),
        raw("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nd8:int"),
        raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nx"),
        raw("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd"),
        Lie::Raw(vec![0xa5; 1 << 20]),
        Lie::Endless(vec![b'l'; 1 << 16]),
        Lie::Endless(b"X-Header: more\r\n".repeat(4096)),
        Lie::Slow,
        Lie::Hang,
        Lie::Close,
    ]);
    all
}

fn answer(mut stream: TcpStream, lie: &Lie, seen: &Seen) {
    stream.set_nodelay(true).unwrap();
    let mut request = [0; 4096];
    let _ = stream.read(&mut request);
    seen.asked.fetch_add(1, Ordering::Relaxed);
    let mut taken = 0;
    let mut send = |bytes: &[u8]| {
        let done = stream.write_all(bytes).is_ok();
        taken += if done { bytes.len() as u64 } else { 0 };
        seen.taken.fetch_max(taken, Ordering::Relaxed);
        done && !seen.over.load(Ordering::Relaxed)
    };
    match lie {
        Lie::Body(body) => {
            send(
                &[
                    head(&format!("Content-Length: {}\r\n", body.len())),
                    body.clone(),
                ]
                .concat(),
            );
        }
        Lie::Raw(bytes) => {
            send(bytes);
        }
        Lie::Endless(bytes) => {
            // Headers that never end, or a body.
            let start = match bytes.first() {
                Some(b'X') => b"HTTP/1.1 200 OK\r\n".to_vec(),
                _ => head(""),
            };
            let mut more = send(&start);
            while more {
                more = send(bytes);
            }
        }
        Lie::Slow => {
            let mut more = send(&head("Content-Length: 1000\r\n"));
            while more {
                std::thread::sleep(Duration::from_secs(1));
                more = send(b"d");
            }
        }
        Lie::Hang => {
            while !seen.over.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        Lie::Close => {}
    }
    let _ = stream.shutdown(Shutdown::Both);
    seen.ended.fetch_add(1, Ordering::Relaxed);
}

/// A tracker of that kind, for as long as `seen` is not over.
fn tracker(lie: Lie, seen: &Arc<Seen>) -> String {
    let listener = TcpListener::bind((HERE, 0)).unwrap();
    let url = format!("http://{}/announce", listener.local_addr().unwrap());
    let seen = Arc::clone(seen);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (lie, seen) = (lie.clone(), Arc::clone(&seen));
            if seen.over.load(Ordering::Relaxed) {
                return;
            }
            std::thread::spawn(move || answer(stream, &lie, &seen));
        }
    });
    url
}

/// Answers every datagram with that many bytes of the question and then some.
fn datagrams(echo: usize, more: Vec<u8>, seen: &Arc<Seen>) -> String {
    let socket = UdpSocket::bind((HERE, 0)).unwrap();
    let timeout = Some(Duration::from_millis(100));
    socket.set_read_timeout(timeout).unwrap();
    let url = format!("udp://{}/announce", socket.local_addr().unwrap());
    let seen = Arc::clone(seen);
    std::thread::spawn(move || {
        let mut question = [0; 2048];
        while !seen.over.load(Ordering::Relaxed) {
            let Ok((len, from)) = socket.recv_from(&mut question) else {
                continue;
            };
            seen.asked.fetch_add(1, Ordering::Relaxed);
            let reply = [&question[..len.min(echo)], &more].concat();
            let _ = socket.send_to(&reply, from);
        }
    });
    url
}

/// A good one, which knows of one peer.
fn honest(peer: SocketAddr, seen: &Arc<Seen>) -> String {
    let SocketAddr::V4(peer) = peer else {
        panic!("tests are on the loopback of IPv4");
    };
    let mut body = b"d8:intervali1800e5:peers6:".to_vec();
    body.extend(peer.ip().octets());
    body.extend(peer.port().to_be_bytes());
    body.push(b'e');
    tracker(Lie::Body(body), seen)
}

#[tokio::test(flavor = "multi_thread")]
async fn forty_lying_trackers_delay_nobody_and_are_not_listened_to_for_long() {
    let payload = Payload::single("lied.bin", 3_000_000, 65_536);
    let (seed, leech) = (Side::new().await, Side::new().await);
    seed.seed(&payload).await;
    let good = Arc::new(Seen::default());
    let mut urls = Vec::new();
    let (mut all, mut endless) = (Vec::new(), Vec::new());
    for lie in lies() {
        let seen = Arc::new(Seen::default());
        if matches!(lie, Lie::Endless(_)) {
            endless.push(Arc::clone(&seen));
        }
        urls.push(tracker(lie, &seen));
        all.push(seen);
    }
    for (echo, more) in [
        (0, Vec::new()),
        (0, vec![0; 15]),
        (0, vec![0xa5; 60_000]),
        (8, Vec::new()),
        (16, vec![0; 3]),
        (12, vec![3; 100]),
    ] {
        let seen = Arc::new(Seen::default());
        urls.push(datagrams(echo, more, &seen));
        all.push(seen);
    }
    assert!(urls.len() >= 40);
    urls.push(honest(seed.addr(), &good));
    let torrent = leech.add(&payload, |add| add.extra_trackers = urls).await;
    // Its peer is known to the last of them alone.
    synced(&torrent).await;
    payload.assert_in(&leech.data());
    assert!(good.asked.load(Ordering::Relaxed) > 0);

    let told = || {
        let asked = |seen: &Arc<Seen>| seen.asked.load(Ordering::Relaxed) > 0;
        let ended = |seen: &Arc<Seen>| seen.ended.load(Ordering::Relaxed) > 0;
        all.iter().all(asked) && endless.iter().all(ended)
    };
    let everybody = async {
        while !told() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let everybody = tokio::time::timeout(crate::common::LONG, everybody);
    everybody
        .await
        .expect("each lie was told, and the endless ones cut off");
    leech.end().await;
    for seen in all.iter().chain([&good]) {
        seen.over.store(true, Ordering::Relaxed);
        // A mebibyte, and what the sockets of both sides hold.
        let taken = seen.taken.load(Ordering::Relaxed);
        assert!(taken < 12 << 20, "{taken} bytes were taken from a tracker");
    }
    seed.end().await;
}

/// What one more session calls itself at a tracker: its peer id, its key, and over UDP its first transaction id.
async fn names() -> [String; 3] {
    let http = TcpListener::bind((HERE, 0)).unwrap();
    let udp = UdpSocket::bind((HERE, 0)).unwrap();
    udp.set_read_timeout(Some(crate::common::LONG)).unwrap();
    let urls = vec![
        format!("http://{}/announce", http.local_addr().unwrap()),
        format!("udp://{}/announce", udp.local_addr().unwrap()),
    ];
    let (tell, heard) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let (mut stream, _) = http.accept().unwrap();
        let mut request = [0; 4096];
        let len = stream.read(&mut request).unwrap();
        let request = String::from_utf8_lossy(&request[..len]).into_owned();
        let value = |name: &str| {
            let (_, rest) = request.split_once(name).expect("it names itself");
            rest.split(['&', ' ']).next().unwrap().to_owned()
        };
        let (id, key) = (value("peer_id="), value("key="));
        let mut datagram = [0; 2048];
        let (len, _) = udp.recv_from(&mut datagram).unwrap();
        assert_eq!(len, 16, "a connect request (BEP 15)");
        let _ = tell.send([id, key, format!("{:02x?}", &datagram[12..16])]);
    });
    let side = Side::new().await;
    let payload = Payload::single("named.bin", 100, 16_384);
    side.add(&payload, |add| add.extra_trackers = urls).await;
    let heard = tokio::time::timeout(crate::common::LONG, heard).await;
    side.end().await;
    heard.expect("it asks both in time").unwrap()
}

/// Ids and keys come from the operating system's randomness: no two runs share one.
#[tokio::test(flavor = "multi_thread")]
async fn no_two_sessions_draw_the_same_numbers() {
    let all = [names().await, names().await, names().await];
    for (n, one) in all.iter().enumerate() {
        for other in &all[..n] {
            for (a, b) in one.iter().zip(other) {
                assert!(!a.is_empty() && a != b, "{one:?} and {other:?}");
            }
        }
    }
}
