//! What a peer gets of files: from the page cache, from the disk, and of files that somebody changes.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

use torr::TorrentState;
use torr_base::BLOCK_LEN;

use crate::common::{LONG, Payload, Side, synced};

/// A peer in a few lines: asks for blocks and takes them.
struct Asker {
    socket: TcpStream,
    unchoked: bool,
}

impl Asker {
    /// Again and again while the other side has not noticed that the connection before is over.
    fn connect(addr: SocketAddr, info_hash: [u8; 20]) -> Self {
        let began = Instant::now();
        loop {
            if let Ok(peer) = Self::try_connect(addr, info_hash) {
                return peer;
            }
            assert!(began.elapsed() < LONG, "nobody lets us in");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn try_connect(addr: SocketAddr, info_hash: [u8; 20]) -> std::io::Result<Self> {
        let mut socket = TcpStream::connect(addr).unwrap();
        socket.set_read_timeout(Some(LONG)).unwrap();
        // With BEP 6, so that what is not given is rejected.
        let mut hello = b"\x13BitTorrent protocol\0\0\0\0\0\0\0\x04".to_vec();
        hello.extend(info_hash);
        hello.extend(b"-XX0000-abcdefghijkl");
        // `have none`, interested.
        hello.extend([0, 0, 0, 1, 15, 0, 0, 0, 1, 2]);
        socket.write_all(&hello)?;
        socket.read_exact(&mut [0; 68])?;
        Ok(Self {
            socket,
            unchoked: false,
        })
    }

    fn ask(&mut self, piece: u32, offset: u32, len: u32) -> std::io::Result<()> {
        let mut out = vec![0, 0, 0, 13, 6];
        for number in [piece, offset, len] {
            out.extend(number.to_be_bytes());
        }
        self.socket.write_all(&out)
    }

    fn message(&mut self) -> std::io::Result<Vec<u8>> {
        let mut len = [0; 4];
        self.socket.read_exact(&mut len)?;
        let mut message = vec![0; u32::from_be_bytes(len) as usize];
        self.socket.read_exact(&mut message)?;
        Ok(message)
    }

    /// The block, or `None` where it is rejected. An error: the connection is gone.
    fn fetch(&mut self, piece: u32, offset: u32, len: u32) -> std::io::Result<Option<Vec<u8>>> {
        while !self.unchoked {
            self.unchoked = self.message()?.first() == Some(&1);
        }
        self.ask(piece, offset, len)?;
        loop {
            let message = self.message()?;
            match message.first() {
                Some(7) => {
                    assert_eq!(message[1..5], piece.to_be_bytes());
                    assert_eq!(message[5..9], offset.to_be_bytes());
                    return Ok(Some(message[9..].to_vec()));
                }
                Some(16) => return Ok(None),
                _ => {}
            }
        }
    }
}

/// A seed whose files may be sent from at once, or only read.
async fn seed(payload: &Payload, settled: bool) -> (Side, torr::Torrent) {
    let seed = Side::with(|config| {
        config.settled_after = if settled {
            Duration::ZERO
        } else {
            Duration::from_secs(3_600)
        };
    })
    .await;
    let source = seed.seed(payload).await;
    (seed, source)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_block_is_right_however_files_lie() {
    // One file with a short last block; files that end within blocks and pieces, and empty ones.
    let payloads = [
        Payload::single("one.bin", 3_000_001, 65_536),
        Payload::folder(
            "many",
            &[100_000, 1, 0, 40_000, 16_384, 70_001, 9, 2_000_000],
            32_768,
        ),
    ];
    for payload in &payloads {
        for settled in [true, false] {
            let (seed, _source) = seed(payload, settled).await;
            let leech = Side::new().await;
            let got = leech.leech(payload, &[seed.addr()]).await;
            synced(&got).await;
            payload.assert_in(&leech.data());
            leech.end().await;
            seed.end().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ranges_that_are_no_blocks_are_served_too() {
    let payload = Payload::folder("odd", &[50_000, 50_000], 65_536);
    let all: Vec<u8> = payload.files.iter().flat_map(|(_, b)| b.clone()).collect();
    let (seed, source) = seed(&payload, true).await;
    let (addr, hash) = (seed.addr(), source.info_hash().0);
    let asked = tokio::task::spawn_blocking(move || {
        let mut peer = Asker::connect(addr, hash);
        for (at, len) in [(1, 1), (49_990, 20), (5_000, 16_384), (60_000, 5_536)] {
            let block = peer.fetch(0, at, len).unwrap().unwrap();
            let at = at as usize;
            assert!(block == all[at..at + len as usize], "{at}+{len}");
        }
    });
    asked.await.unwrap();
    seed.end().await;
}

/// G10: a block that is asked for more than a second after a change is right, or is not sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_changed_is_never_served_wrong() {
    let len = 40 * 65_536;
    let payload = Payload::single("flipped.bin", len, 65_536);
    let right = payload.files[0].1.clone();
    for settled in [true, false] {
        let (seed, source) = seed(&payload, settled).await;
        let (addr, hash) = (seed.addr(), source.info_hash().0);
        let path = payload.path(&seed.data(), "flipped.bin");
        let right = right.clone();
        let asked = tokio::task::spawn_blocking(move || {
            let mut peer = Asker::connect(addr, hash);
            let first = peer.fetch(0, 0, BLOCK_LEN).unwrap().unwrap();
            assert!(first == right[..BLOCK_LEN as usize]);
            let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
            for flip in [7_u32, 20] {
                let at = flip as usize * 65_536 + 70;
                file.write_all_at(&[!right[at]], at as u64).unwrap();
                std::thread::sleep(Duration::from_millis(1_050));
                // All of it: what is not changed is served still.
                let mut missing = Vec::new();
                for block in 0..len as u32 / BLOCK_LEN {
                    let (piece, offset) = (block / 4, block % 4 * BLOCK_LEN);
                    let got = loop {
                        match peer.fetch(piece, offset, BLOCK_LEN) {
                            Ok(got) => break got,
                            Err(_) => peer = Asker::connect(addr, hash),
                        }
                    };
                    let at = (block * BLOCK_LEN) as usize;
                    match got {
                        Some(got) => {
                            assert!(got == right[at..at + BLOCK_LEN as usize], "{block}")
                        }
                        None => missing.push(piece),
                    }
                }
                assert!(missing.contains(&flip), "{missing:?}");
                assert!(missing.iter().all(|piece| [7, 20].contains(piece)));
            }
        });
        asked.await.unwrap();
        let stats = source.stats();
        assert_eq!(stats.pieces_have, 38, "{stats:?}");
        seed.end().await;
    }
}

/// G11: of a file that is cut under its readers what is gone is wanted again, and nothing hangs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_cut_off_a_file_is_wanted_again() {
    for settled in [true, false] {
        let payload = Payload::single("cut.bin", 4_000_000, 65_536);
        let (seed, source) = seed(&payload, settled).await;
        let (addr, hash) = (seed.addr(), source.info_hash().0);
        let path = payload.path(&seed.data(), "cut.bin");
        let asked = tokio::task::spawn_blocking(move || {
            let mut peer = Asker::connect(addr, hash);
            peer.fetch(3, 0, BLOCK_LEN).unwrap().unwrap();
            let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
            file.set_len(1_000_000).unwrap();
            // Over the end, and past it: rejected, or the connection ends, and soon.
            let began = Instant::now();
            for (piece, offset) in [(15, BLOCK_LEN), (50, 0)] {
                let got = peer.fetch(piece, offset, BLOCK_LEN);
                assert!(!matches!(got, Ok(Some(_))));
            }
            assert!(began.elapsed() < Duration::from_secs(10));
        });
        asked.await.unwrap();
        let began = Instant::now();
        while source.stats().pieces_have != 15 {
            assert!(began.elapsed() < LONG, "{:?}", source.stats());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_ne!(source.stats().state, TorrentState::Failed);
        seed.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_limit_holds_for_what_is_sent_from_files() {
    let payload = Payload::single("slow.bin", 1_500_000, 65_536);
    let (seed, source) = seed(&payload, true).await;
    seed.session.set_rates(None, Some(400_000)).await.unwrap();
    let leech = Side::new().await;
    let began = Instant::now();
    let got = leech.leech(&payload, &[seed.addr()]).await;
    synced(&got).await;
    let rate = 1_500_000.0 / began.elapsed().as_secs_f64();
    assert!(rate < 480_000.0, "{rate} bytes a second");
    // The figures follow four times a second.
    while source.stats().uploaded < 1_500_000 {
        assert!(began.elapsed() < LONG, "{:?}", source.stats());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(source.stats().uploaded, 1_500_000);
    leech.end().await;
    seed.end().await;
}
