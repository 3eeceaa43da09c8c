//! The fast source of the leech cases: seeds that answer requests out of one file's page cache, and check nothing.
//!
//! The file holds the torrent's bytes from end to end, whatever files the torrent makes of them. A thread for each
//! connection; all threads end when the source is dropped.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddrV4, TcpListener, TcpStream};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::cipher::Ciphers;
use super::poll::readable;
use super::wire::{self, HANDSHAKE_LEN, PIECE, REQUEST, REQUEST_LEN, Shape, UNCHOKE};
use crate::floor::{send_block, send_range};

/// Nobody may ask for more in one message (BEP 3: larger requests are dropped).
const REQUEST_MAX: u32 = 128 << 10;
/// Messages of a leech that fit in the buffer; a longer one is a mistake.
const BUFFER: usize = 256 << 10;
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// What the raw source hands to the kernel at once.
const RAW_LEN: u64 = 256 << 10;

/// Seeds at some addresses, or one raw sender.
#[derive(Debug)]
pub(crate) struct Source {
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    file: File,
    shape: Shape,
    raw: bool,
    rc4: bool,
    stop: AtomicBool,
    sent: AtomicU64,
    open: Mutex<Vec<TcpStream>>,
}

impl Source {
    /// `raw` sends all bytes to whoever connects, without a word of the protocol; `rc4` encrypts everything, and
    /// knows nothing else.
    pub(crate) fn start(
        image: &Path,
        shape: Shape,
        addresses: &[SocketAddrV4],
        raw: bool,
        rc4: bool,
    ) -> Result<Self> {
        let listeners = addresses
            .iter()
            .map(|address| TcpListener::bind(address).with_context(|| format!("binding {address}")))
            .collect::<Result<Vec<_>>>()?;
        let shared = Arc::new(Shared {
            file: File::open(image).with_context(|| format!("opening {}", image.display()))?,
            shape,
            raw,
            rc4,
            stop: AtomicBool::new(false),
            sent: AtomicU64::new(0),
            open: Mutex::default(),
        });
        let theirs = Arc::clone(&shared);
        let acceptor = std::thread::spawn(move || accept(&listeners, &theirs));
        Ok(Self {
            shared,
            acceptor: Some(acceptor),
        })
    }

    /// Payload bytes so far, by which a stall shows.
    pub(crate) fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        let open = self.shared.open.lock();
        for stream in open.unwrap_or_else(PoisonError::into_inner).iter() {
            stream.shutdown(Shutdown::Both).ok();
        }
        if let Some(acceptor) = self.acceptor.take() {
            acceptor.join().ok();
        }
    }
}

fn accept(listeners: &[TcpListener], shared: &Arc<Shared>) {
    let mut threads = Vec::new();
    while !shared.stop.load(Ordering::Relaxed) {
        for number in readable(listeners, LOOK_EVERY) {
            let Some(Ok((stream, _))) = listeners.get(number).map(TcpListener::accept) else {
                continue;
            };
            if let Ok(copy) = stream.try_clone() {
                let open = shared.open.lock();
                open.unwrap_or_else(PoisonError::into_inner).push(copy);
            }
            let theirs = Arc::clone(shared);
            // Ends with an error when the leech leaves, which is how each run ends.
            threads.push(std::thread::spawn(move || {
                let served = match theirs.raw {
                    true => pour(&stream, &theirs),
                    false => serve(&stream, &theirs, number),
                };
                // The list of open streams keeps a copy. Who began with an encrypted handshake comes again in plain.
                stream.shutdown(Shutdown::Both).ok();
                served.ok()
            }));
        }
    }
    for stream in shared
        .open
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .iter()
    {
        stream.shutdown(Shutdown::Both).ok();
    }
    for thread in threads {
        thread.join().ok();
    }
}

fn pour(stream: &TcpStream, shared: &Shared) -> Result<()> {
    let total = shared.shape.total;
    let mut at = 0;
    while at < total {
        let len = RAW_LEN.min(total - at);
        send_range(stream, &shared.file, at, len)?;
        shared.sent.fetch_add(len, Ordering::Relaxed);
        at += len;
    }
    Ok(())
}

fn serve(mut stream: &TcpStream, shared: &Shared, number: usize) -> Result<()> {
    stream.set_nodelay(true)?;
    let shape = &shared.shape;
    let mut ciphers = match shared.rc4 {
        true => Ciphers::accept(stream, shape.hash)?,
        false => Ciphers::default(),
    };
    let mut hello = [0; HANDSHAKE_LEN];
    stream.read_exact(&mut hello)?;
    ciphers.hear(&mut hello);
    ensure!(wire::is_for(&hello, &shape.hash), "another torrent");
    let mut greeting = wire::handshake(shape.hash, number);
    greeting.extend(wire::message(wire::BITFIELD, &shape.full_bitfield()));
    greeting.extend(wire::message(UNCHOKE, &[]));
    ciphers.say(&mut greeting);
    stream.write_all(&greeting)?;

    let mut buffer = vec![0; BUFFER];
    let mut filled = 0;
    loop {
        let read = stream.read(buffer.get_mut(filled..).unwrap_or_default())?;
        ensure!(read > 0, "the leech left");
        ciphers.hear(buffer.get_mut(filled..filled + read).unwrap_or_default());
        filled += read;
        let mut at = 0;
        while let Some(len) = wire::u32_at(&buffer[..filled], at) {
            let end = at + 4 + len as usize;
            ensure!(end - at <= BUFFER, "a message of {len} bytes");
            if end > filled {
                break;
            }
            if end - at == REQUEST_LEN && buffer.get(at + 4) == Some(&REQUEST) {
                answer(stream, shared, &mut ciphers, &buffer[at + 5..end])?;
            }
            at = end;
        }
        buffer.copy_within(at..filled, 0);
        filled -= at;
    }
}

fn answer(
    mut stream: &TcpStream,
    shared: &Shared,
    ciphers: &mut Ciphers,
    request: &[u8],
) -> Result<()> {
    let number = |at| wire::u32_at(request, at).context("a short request");
    let (piece, begin, len) = (number(0)?, number(4)?, number(8)?);
    let at = u64::from(piece) * u64::from(shared.shape.piece_len) + u64::from(begin);
    let inside = at + u64::from(len) <= shared.shape.total;
    ensure!(len <= REQUEST_MAX && inside, "a request out of range");
    if shared.rc4 {
        let mut bytes = wire::message(PIECE, &[piece, begin].map(u32::to_be_bytes).concat());
        let head = bytes.len();
        bytes.resize(head + len as usize, 0);
        let message_len = u32::try_from(bytes.len() - 4)?;
        bytes[..4].copy_from_slice(&message_len.to_be_bytes());
        shared.file.read_exact_at(&mut bytes[head..], at)?;
        ciphers.say(&mut bytes);
        stream.write_all(&bytes)?;
    } else {
        send_block(stream, &shared.file, piece, begin, at, len)?;
    }
    shared.sent.fetch_add(u64::from(len), Ordering::Relaxed);
    Ok(())
}
