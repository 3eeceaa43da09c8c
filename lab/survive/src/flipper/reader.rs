//! A peer that reads blocks at random and compares each: BEP 3, and no code of torr's.

use std::collections::HashMap;
use std::io::{Error, ErrorKind, Read as _, Result, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use torr_base::{Geometry, PieceIndex, Rng};

use super::{Changes, Sum};
use crate::bep3::{MESSAGE_MAX, hello, request};

/// Requests at a time.
const QUEUE: usize = 16;
/// Who says nothing for so long is asked again on another connection.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) struct Reader<'a> {
    pub(super) addr: SocketAddr,
    pub(super) info_hash: [u8; 20],
    pub(super) geometry: Geometry,
    pub(super) truth: &'a [u8],
    pub(super) changes: &'a Changes,
    pub(super) number: usize,
    pub(super) sum: &'a Mutex<Sum>,
}

/// One connection.
struct Conn {
    socket: TcpStream,
    has: Vec<bool>,
    unchoked: bool,
    asked: HashMap<(u32, u32), Instant>,
}

impl Reader<'_> {
    pub(super) fn run(&self, stop: &AtomicBool, mut rng: Rng) {
        let mut got_any = false;
        while !stop.load(Ordering::Relaxed) {
            // A connection that ends is what a change leads to.
            let _ = self.read(stop, &mut rng, &mut got_any);
            std::thread::sleep(Duration::from_millis(50));
        }
        if got_any {
            self.count(|sum| sum.readers += 1);
        }
    }

    fn count(&self, add: impl FnOnce(&mut Sum)) {
        add(&mut self.sum.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn read(&self, stop: &AtomicBool, rng: &mut Rng, got_any: &mut bool) -> Result<()> {
        let mut conn = Conn {
            socket: self.connect()?,
            has: vec![false; self.geometry.piece_count() as usize],
            unchoked: false,
            asked: HashMap::new(),
        };
        while !stop.load(Ordering::Relaxed) {
            let message = conn.message()?;
            match message.split_first() {
                Some((0, _)) => {
                    conn.unchoked = false;
                    conn.asked.clear();
                }
                Some((1, _)) => conn.unchoked = true,
                Some((4, body)) => {
                    let piece = number(body, 0)?;
                    conn.set(piece as usize);
                }
                Some((5, bits)) => {
                    for piece in 0..conn.has.len() {
                        let byte = bits.get(piece / 8).copied().unwrap_or(0);
                        if byte & (0x80 >> (piece % 8)) != 0 {
                            conn.set(piece);
                        }
                    }
                }
                Some((7, body)) => {
                    *got_any = true;
                    self.judge(&mut conn, body)?;
                }
                _ => {}
            }
            self.ask(&mut conn, rng)?;
        }
        Ok(())
    }

    fn connect(&self) -> Result<TcpStream> {
        let mut socket = TcpStream::connect(self.addr)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        let mut words = hello(&self.info_hash, false, self.number as u64);
        // Interested.
        words.extend_from_slice(&[0, 0, 0, 1, 2]);
        socket.write_all(&words)?;
        socket.read_exact(&mut [0; 68])?;
        Ok(socket)
    }

    /// Keeps the queue full, with blocks at random of what is there.
    fn ask(&self, conn: &mut Conn, rng: &mut Rng) -> Result<()> {
        let there: Vec<u32> = (0..self.geometry.piece_count())
            .filter(|piece| conn.has.get(*piece as usize) == Some(&true))
            .collect();
        let mut out = Vec::new();
        while conn.unchoked && conn.asked.len() < QUEUE && !there.is_empty() {
            let piece = PieceIndex::new(there.get(rng.index(there.len())).copied().unwrap_or(0));
            let count = self.geometry.block_count(piece);
            let block = self
                .geometry
                .block_at(piece, rng.below(count.into()) as u32);
            let key = (piece.get(), block.offset());
            request(&mut out, key.0, key.1, block.len);
            // One that is asked for twice counts from the first time.
            conn.asked.entry(key).or_insert_with(Instant::now);
        }
        conn.socket.write_all(&out)
    }

    fn judge(&self, conn: &mut Conn, body: &[u8]) -> Result<()> {
        let key = (number(body, 0)?, number(body, 4)?);
        let bytes = body.get(8..).unwrap_or_default();
        // The answer to a request that was there twice may come after the first was dealt with.
        let Some(asked) = conn.asked.remove(&key) else {
            return Ok(());
        };
        let from = self.geometry.piece_start(PieceIndex::new(key.0)) + u64::from(key.1);
        let to = from + bytes.len() as u64;
        let right = self.truth.get(from as usize..to as usize) == Some(bytes);
        let young = !right && self.changes.forgives(from, to, asked);
        self.count(|sum| {
            sum.blocks += 1;
            sum.young += u64::from(young);
            sum.bad += u64::from(!right && !young);
        });
        Ok(())
    }
}

impl Conn {
    fn set(&mut self, piece: usize) {
        if let Some(has) = self.has.get_mut(piece) {
            *has = true;
        }
    }

    fn message(&mut self) -> Result<Vec<u8>> {
        let mut len = [0; 4];
        self.socket.read_exact(&mut len)?;
        let len = u32::from_be_bytes(len) as usize;
        if len > MESSAGE_MAX {
            return Err(Error::from(ErrorKind::InvalidData));
        }
        let mut message = vec![0; len];
        self.socket.read_exact(&mut message)?;
        Ok(message)
    }
}

fn number(bytes: &[u8], at: usize) -> Result<u32> {
    let bytes = bytes.get(at..).and_then(|rest| rest.first_chunk());
    let bytes = bytes.ok_or_else(|| Error::from(ErrorKind::InvalidData))?;
    Ok(u32::from_be_bytes(*bytes))
}
