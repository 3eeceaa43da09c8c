//! A peer as they should be: it comes, asks in order and at a steady rate, reads all, and compares. BEP 3, and no code of torr's.

use std::io::{Error, ErrorKind, Read as _, Result, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::hostile::open;
use crate::bep3::{MESSAGE_MAX, hello, request};

const BLOCK: usize = 16 * 1024;
/// Blocks that are asked for at a time: a tenth of a second at the rate.
const QUEUE: usize = 128;
/// How long it waits before it knocks again.
const AGAIN: Duration = Duration::from_millis(250);
/// For the handshake of the other side.
const ANSWER: Duration = Duration::from_secs(2);
const TICK: Duration = Duration::from_millis(20);

pub(super) struct Honest<'a> {
    pub(super) addr: SocketAddr,
    pub(super) from: Option<Ipv4Addr>,
    pub(super) info_hash: [u8; 20],
    pub(super) truth: &'a [u8],
    /// Bytes a second.
    pub(super) rate: u64,
    /// When it gives up.
    pub(super) patience: Duration,
}

/// How it fared.
#[derive(Debug, Default)]
pub(super) struct Served {
    /// From its first try until it was let in.
    pub(super) entered: Option<Duration>,
    pub(super) tries: u32,
    pub(super) bytes: u64,
    pub(super) wrong: u64,
    /// From then to the end.
    span: Duration,
}

impl Served {
    /// Bytes a second since it was in.
    pub(super) fn rate(&self) -> f64 {
        self.bytes as f64 / self.span.as_secs_f64().max(1e-3)
    }
}

/// One connection.
struct Line {
    socket: TcpStream,
    /// What was read and is no whole message yet.
    heard: Vec<u8>,
    unchoked: bool,
    asked: usize,
}

impl Honest<'_> {
    /// Comes, and stays for `span` once it is in.
    pub(super) fn run(&self, span: Duration) -> Served {
        let (begun, mut served) = (Instant::now(), Served::default());
        let mut end = begun + self.patience;
        let mut since = begun;
        while Instant::now() < end {
            served.tries += 1;
            if let Ok(mut line) = self.come_in() {
                if served.entered.is_none() {
                    since = Instant::now();
                    served.entered = Some(since - begun);
                    end = since + span;
                }
                // Who is thrown out comes again; the time in between counts.
                let _ = self.fetch(&mut line, &mut served, end);
            }
            if Instant::now() < end {
                std::thread::sleep(AGAIN);
            }
        }
        served.span = since.elapsed();
        served
    }

    /// In is who was answered, and told what there is.
    fn come_in(&self) -> Result<Line> {
        let socket = open(self.addr, self.from)?;
        socket.set_nonblocking(false)?;
        let mut socket = TcpStream::from(socket);
        socket.set_read_timeout(Some(ANSWER))?;
        socket.set_write_timeout(Some(ANSWER))?;
        socket.write_all(&hello(&self.info_hash, false, u64::MAX))?;
        socket.read_exact(&mut [0; 68 + 5])?;
        socket.write_all(&[0, 0, 0, 1, 2])?;
        socket.set_read_timeout(Some(TICK))?;
        // The first message is the bitfield, of which four bytes of length and one of kind were read.
        let bits = self.truth.len().div_ceil(super::PIECE).div_ceil(8);
        let mut line = Line {
            socket,
            heard: (bits as u32 + 1).to_be_bytes().to_vec(),
            unchoked: false,
            asked: 0,
        };
        line.heard.push(5);
        Ok(line)
    }

    fn fetch(&self, line: &mut Line, served: &mut Served, end: Instant) -> Result<()> {
        // What it is behind when it comes in is not made up for; later it is, up to what the queue holds.
        let (start, before) = (Instant::now(), served.bytes);
        let blocks = self.truth.len() / BLOCK;
        let mut next = 0;
        let mut buffer = vec![0; 256 * 1024];
        while Instant::now() < end {
            let due = start.elapsed().as_secs_f64() * self.rate as f64;
            let mut room = (due as u64).saturating_sub(served.bytes - before) as usize / BLOCK;
            room = room.saturating_sub(line.asked).min(QUEUE - line.asked);
            let mut out = Vec::new();
            if line.unchoked {
                for _ in 0..room {
                    request_at(&mut out, (next % blocks) * BLOCK);
                    next += 1;
                }
                line.asked += room;
            }
            line.socket.write_all(&out)?;
            match line.socket.read(&mut buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(n) => line
                    .heard
                    .extend_from_slice(buffer.get(..n).unwrap_or_default()),
                Err(error) if is_late(&error) => continue,
                Err(error) => return Err(error),
            }
            self.hear(line, served)?;
        }
        Ok(())
    }

    /// Every whole message that is there.
    fn hear(&self, line: &mut Line, served: &mut Served) -> Result<()> {
        let mut at = 0;
        while let Some(len) = line.heard.get(at..at + 4).and_then(|b| b.first_chunk()) {
            let len = u32::from_be_bytes(*len) as usize;
            if len > MESSAGE_MAX {
                return Err(ErrorKind::InvalidData.into());
            }
            let Some(message) = line.heard.get(at + 4..at + 4 + len) else {
                break;
            };
            at += 4 + len;
            match message.split_first() {
                // A choke drops every request (BEP 3).
                Some((0, _)) => (line.unchoked, line.asked) = (false, 0),
                Some((1, _)) => line.unchoked = true,
                Some((7, body)) => {
                    line.asked = line.asked.saturating_sub(1);
                    served.bytes += (body.len() - body.len().min(8)) as u64;
                    served.wrong += u64::from(!self.is_right(body));
                }
                _ => {}
            }
        }
        line.heard.drain(..at);
        Ok(())
    }

    fn is_right(&self, body: &[u8]) -> bool {
        let number = |at: usize| {
            let bytes = body.get(at..).and_then(|rest| rest.first_chunk());
            bytes.map_or(usize::MAX, |bytes| u32::from_be_bytes(*bytes) as usize)
        };
        let from = number(0)
            .saturating_mul(super::PIECE)
            .saturating_add(number(4));
        let bytes = body.get(8..).unwrap_or_default();
        self.truth.get(from..from.saturating_add(bytes.len())) == Some(bytes)
    }
}

/// Asks for the block at that place of the payload.
pub(super) fn request_at(out: &mut Vec<u8>, at: usize) {
    let (piece, offset) = (at / super::PIECE, at % super::PIECE);
    request(out, piece as u32, offset as u32, BLOCK as u32);
}

fn is_late(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
