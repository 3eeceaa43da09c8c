//! The fast sink of the seed cases: leeches that keep many requests open, count what comes and check nothing.
//!
//! All of them share one goal of bytes and stop when it is reached, however the seed deals out its slots. Each starts
//! at a piece of its own, so that the seed serves different places as it would in a swarm.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use socket2::{Domain, Socket, Type};
use torr_base::BLOCK_LEN;

use super::cipher::Ciphers;
use super::parser::{Heard, Parser};
use super::poll::readable;
use super::wire::{self, HANDSHAKE_LEN, INTERESTED, REQUEST, Shape};

/// Requests that a leech keeps open; and it asks anew when half of them are answered.
const OPEN_MAX: u32 = 128;
const BUFFER: usize = 256 << 10;
const CONNECT_MAX: Duration = Duration::from_secs(2);
const HELLO_MAX: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(50);
const RETRY_EVERY: Duration = Duration::from_millis(20);
/// Such a part of the goal tells what a byte costs.
const ENOUGH: u64 = 16;
const TRIES_MAX: u32 = 50;
/// The number of the leech that only looks.
const PROBE: usize = 99;

/// One leech, after its handshake.
#[derive(Debug)]
pub(crate) struct Leech {
    stream: TcpStream,
    ciphers: Ciphers,
    shape: Shape,
    parser: Parser,
    have: u32,
    unchoked: bool,
    open: u32,
    /// The next block to ask for, counted through the whole torrent.
    next: u64,
}

impl Leech {
    fn connect(
        to: SocketAddrV4,
        shape: Shape,
        number: usize,
        of: usize,
        rc4: bool,
    ) -> Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        // An address of its own network for each: clients limit connections by address.
        let net = u8::try_from(100 + number).context("too many leeches")?;
        let own = SocketAddrV4::new(Ipv4Addr::new(198, 18, net, 10), 0);
        socket.bind(&SocketAddr::from(own).into())?;
        socket.connect_timeout(&SocketAddr::from(to).into(), CONNECT_MAX)?;
        let mut stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(HELLO_MAX))?;
        let own = wire::handshake(shape.hash, number);
        let mut ciphers = match rc4 {
            true => Ciphers::dial(&stream, shape.hash, own)?,
            false => {
                stream.write_all(&own)?;
                Ciphers::default()
            }
        };
        let mut hello = [0; HANDSHAKE_LEN];
        stream.read_exact(&mut hello)?;
        ciphers.hear(&mut hello);
        ensure!(wire::is_for(&hello, &shape.hash), "another torrent");
        stream.set_nonblocking(true)?;
        let blocks = shape.total.div_ceil(u64::from(BLOCK_LEN));
        Ok(Self {
            stream,
            ciphers,
            shape,
            parser: Parser::default(),
            have: 0,
            unchoked: false,
            open: 0,
            next: blocks / of as u64 * number as u64,
        })
    }

    /// Takes what has arrived; the payload bytes among it.
    fn take(&mut self, buffer: &mut [u8]) -> Result<u64> {
        let read = match self.stream.read(buffer) {
            Ok(0) => bail!("the seed left"),
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(0),
            Err(error) => return Err(error.into()),
        };
        let mut payload = 0;
        self.ciphers.hear(&mut buffer[..read]);
        let mut rest = &buffer[..read];
        while !rest.is_empty() {
            match self.parser.take(&mut rest)? {
                Heard::Nothing => {}
                Heard::Payload { len, last } => {
                    payload += len;
                    self.open = self.open.saturating_sub(u32::from(last));
                }
                Heard::Choke => (self.unchoked, self.open) = (false, 0),
                Heard::Unchoke => self.unchoked = true,
                Heard::Have => self.have += 1,
                Heard::Bitfield(pieces) => self.have = pieces,
            }
        }
        Ok(payload)
    }

    /// Keeps the pipeline between half full and full.
    fn ask(&mut self) -> Result<()> {
        if !self.unchoked || self.open > OPEN_MAX / 2 {
            return Ok(());
        }
        let blocks = self.shape.total.div_ceil(u64::from(BLOCK_LEN));
        let per_piece = u64::from(self.shape.piece_len / BLOCK_LEN);
        let mut batch = Vec::new();
        while self.open < OPEN_MAX {
            let at = self.next % blocks;
            let piece = u32::try_from(at / per_piece)?;
            let begin = u32::try_from(at % per_piece)? * BLOCK_LEN;
            let left = self.shape.total - at * u64::from(BLOCK_LEN);
            let len = u32::try_from(left.min(u64::from(BLOCK_LEN)))?;
            let body = [piece, begin, len].map(u32::to_be_bytes).concat();
            batch.extend(wire::message(REQUEST, &body));
            self.open += 1;
            self.next += 1;
        }
        self.ciphers.say(&mut batch);
        // 2 KiB into an empty send buffer: a seed that does not read even those has stalled.
        self.stream.write_all(&batch).context("asking for blocks")
    }
}

/// Connects until the client at `to` shows all pieces: then it seeds.
pub(crate) fn wait_full(
    to: SocketAddrV4,
    shape: Shape,
    rc4: bool,
    limit: Duration,
    mut alive: impl FnMut() -> Result<()>,
) -> Result<()> {
    let deadline = Instant::now() + limit;
    let mut buffer = vec![0; BUFFER];
    while Instant::now() < deadline {
        alive()?;
        if let Ok(mut leech) = Leech::connect(to, shape, PROBE, 1, rc4) {
            while leech.have < shape.pieces() && Instant::now() < deadline {
                alive()?;
                readable(std::slice::from_ref(&leech.stream), RETRY_EVERY);
                if leech.take(&mut buffer).is_err() {
                    break;
                }
            }
            if leech.have >= shape.pieces() {
                return Ok(());
            }
        }
        std::thread::sleep(RETRY_EVERY);
    }
    bail!("it does not seed within {} s", limit.as_secs())
}

/// All leeches of a case, each after a few attempts at most.
pub(crate) fn connect(
    to: SocketAddrV4,
    shape: Shape,
    rc4: bool,
    count: usize,
) -> Result<Vec<Leech>> {
    let connect = |number| {
        let mut tries = 1;
        loop {
            match Leech::connect(to, shape, number, count, rc4) {
                Ok(leech) => return Ok(leech),
                Err(error) if tries == TRIES_MAX => {
                    return Err(error.context(format!("connecting leech {number}")));
                }
                Err(_) => tries += 1,
            }
            std::thread::sleep(RETRY_EVERY);
        }
    };
    (0..count).map(connect).collect()
}

/// Downloads `goal` bytes with all leeches together, or what comes within `limit`, if that is enough to tell.
pub(crate) fn drain(
    leeches: &mut Vec<Leech>,
    goal: u64,
    limit: Duration,
    silence: Duration,
) -> Result<u64> {
    let mut buffer = vec![0; BUFFER];
    for leech in leeches.iter_mut() {
        let mut bytes = wire::message(INTERESTED, &[]);
        leech.ciphers.say(&mut bytes);
        leech
            .stream
            .write_all(&bytes)
            .context("saying interested")?;
    }
    let started = Instant::now();
    let mut last = started;
    let mut total = 0;
    while total < goal {
        if started.elapsed() > limit {
            ensure!(total >= goal / ENOUGH, "stalled: {total} bytes in time");
            break;
        }
        ensure!(last.elapsed() < silence, "stalled after {total} bytes");
        let streams: Vec<&TcpStream> = leeches.iter().map(|leech| &leech.stream).collect();
        let ready = readable(&streams, LOOK_EVERY);
        let mut gone = Vec::new();
        for number in ready {
            let Some(leech) = leeches.get_mut(number) else {
                continue;
            };
            match leech.take(&mut buffer).and_then(|got| {
                leech.ask()?;
                Ok(got)
            }) {
                Ok(0) => {}
                Ok(got) => (total, last) = (total + got, Instant::now()),
                Err(error) => gone.push((number, error)),
            }
        }
        for (number, error) in gone.into_iter().rev() {
            leeches.remove(number);
            if leeches.is_empty() {
                return Err(error.context(format!("the last leech, after {total} bytes")));
            }
        }
    }
    Ok(total)
}
