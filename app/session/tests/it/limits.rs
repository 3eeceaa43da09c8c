//! What is bounded: rates, and what a peer can make us hold.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use torr::{Session, SessionConfig, Torrent};

use crate::common::{Payload, Side};

const RATE: u64 = 2_000_000;

/// Bytes a second, over ten seconds from one that is past the start.
async fn rate_of(torrent: &Torrent, count: fn(&Torrent) -> u64) -> f64 {
    // Figures are renewed now and then: the moment of that is what counts.
    let fresh = async || {
        let before = count(torrent);
        loop {
            tokio::time::sleep(Duration::from_millis(2)).await;
            let now = count(torrent);
            if now != before {
                return (Instant::now(), now);
            }
        }
    };
    while count(torrent) < RATE / 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (from, first) = fresh().await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let (to, last) = fresh().await;
    (last - first) as f64 / (to - from).as_secs_f64()
}

async fn limited(
    seed: impl FnOnce(&mut SessionConfig),
    leech: impl FnOnce(&mut SessionConfig),
) -> f64 {
    let payload = Payload::single("slow.bin", 40_000_000, 262_144);
    let (seed, leech) = (Side::with(seed).await, Side::with(leech).await);
    seed.seed(&payload).await;
    let torrent = leech.leech(&payload, &[seed.addr()]).await;
    let rate = rate_of(&torrent, |torrent| torrent.stats().downloaded).await;
    leech.end().await;
    seed.end().await;
    rate
}

fn assert_near(rate: f64) {
    let off = rate / RATE as f64 - 1.0;
    assert!(
        off.abs() < 0.05,
        "{rate} bytes/s are {:.1} % off",
        off * 100.0
    );
}

#[tokio::test]
async fn downloads_keep_to_their_rate() {
    assert_near(limited(|_| {}, |config| config.down_rate = Some(RATE)).await);
}

#[tokio::test]
async fn uploads_keep_to_their_rate() {
    assert_near(limited(|config| config.up_rate = Some(RATE), |_| {}).await);
}

#[tokio::test]
async fn who_does_not_upload_gives_nothing() {
    let payload = Payload::single("mine.bin", 500_000, 32_768);
    let seed = Side::with(|config| config.allow_upload = false).await;
    let leech = Side::new().await;
    let source = seed.seed(&payload).await;
    let torrent = leech.leech(&payload, &[seed.addr()]).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(
        (torrent.stats().downloaded, source.stats().uploaded),
        (0, 0)
    );
    leech.end().await;
    seed.end().await;
}

/// Sends a handshake, waits for the unchoke, then asks for all and reads nothing.
fn ask_and_never_read(addr: std::net::SocketAddr, info_hash: [u8; 20]) -> std::net::TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(64 * 1024).unwrap();
    socket.connect(&addr.into()).unwrap();
    let mut socket: std::net::TcpStream = socket.into();
    let mut hello = b"\x13BitTorrent protocol\0\0\0\0\0\0\0\0".to_vec();
    hello.extend_from_slice(&info_hash);
    hello.extend_from_slice(b"-XX0000-abcdefghijkl");
    hello.extend_from_slice(&[0, 0, 0, 1, 2]);
    socket.write_all(&hello).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    socket.read_exact(&mut [0; 68]).unwrap();
    loop {
        let mut len = [0; 4];
        socket.read_exact(&mut len).unwrap();
        let mut message = vec![0; u32::from_be_bytes(len) as usize];
        socket.read_exact(&mut message).unwrap();
        if message.first() == Some(&1) {
            break;
        }
    }
    let mut asks = Vec::new();
    for block in 0_u32..1_000 {
        asks.extend_from_slice(&[0, 0, 0, 13, 6]);
        let (piece, offset) = (block / 4, block % 4 * 16_384);
        for number in [piece, offset, 16_384] {
            asks.extend_from_slice(&number.to_be_bytes());
        }
    }
    socket.write_all(&asks).unwrap();
    socket
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_never_reads_costs_little_and_is_dropped() {
    let payload = Payload::single("unread.bin", 20_000_000, 65_536);
    let seed = Side::new().await;
    let source = seed.seed(&payload).await;
    let (addr, info_hash) = (seed.addr(), source.info_hash().0);
    let asked = tokio::task::spawn_blocking(move || ask_and_never_read(addr, info_hash));
    let socket = asked.await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(source.stats().peers, 1);
    // What the kernel holds on both sides, and one block.
    let sent = source.stats().uploaded;
    assert!(
        (1..2_000_000).contains(&sent),
        "{sent} bytes were handed to the kernel"
    );
    let start = Instant::now();
    while source.stats().peers > 0 {
        assert!(
            start.elapsed() < Duration::from_secs(40),
            "it is still there"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    drop(socket);
    seed.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accepts_pause_at_the_limit() {
    let payload = Payload::single("few.bin", 100_000, 16_384);
    let seed = Side::with(|config| config.conns_max = 3).await;
    seed.seed(&payload).await;
    let addr = seed.addr();
    let connect = move || std::net::TcpStream::connect(addr).unwrap();
    let mut idle: Vec<_> = (0..10).map(|_| connect()).collect();
    tokio::time::sleep(Duration::from_millis(300)).await;
    // Those over the limit wait; they are not refused.
    for socket in &mut idle {
        socket.set_nonblocking(true).unwrap();
        let end = socket.read(&mut [0; 1]);
        assert!(end.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock));
    }
    drop(idle);
    let leech = Side::new().await;
    let torrent = leech.leech(&payload, &[addr]).await;
    crate::common::synced(&torrent).await;
    leech.end().await;
    seed.end().await;
}

#[tokio::test]
async fn a_taken_port_is_told() {
    let side = Side::new().await;
    let mut config = SessionConfig::new(side.dir.path().join("other"));
    config.bind = Some(side.addr().ip());
    config.port = torr::PortChoice::Exact(side.addr().port());
    let taken = Session::start(config).await;
    assert!(
        matches!(taken, Err(torr::SessionError::Listen(_))),
        "{taken:?}"
    );
    side.end().await;
}
