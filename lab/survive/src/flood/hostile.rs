//! Clients that mean harm: thousands of them, in one thread that looks after each twenty times a second.

use std::io::{ErrorKind, Read as _, Result, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use torr_base::Rng;

use super::honest::request_at;
use crate::bep3::hello;

const SWEEP: Duration = Duration::from_millis(50);
/// Who is thrown out comes again after so long.
const AGAIN: Duration = Duration::from_secs(1);
/// New connections of one sweep, so that they are not all in the kernel's queue at once.
const CONNECTS: usize = 200;
/// Requests that are sent at one go.
const REQUESTS: usize = 500;
/// How often who never reads says that it is there, by which it learns that it was let go.
const ALIVE: Duration = Duration::from_secs(2);

/// What a hostile client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Shakes hands and says nothing.
    Idle,
    /// Wants something, and never asks for it.
    Interested,
    /// Asks for thousands of blocks, choked or not, and reads nothing.
    Requests,
    /// Waits for its turn, asks for as much as it may, and reads nothing from then on.
    NeverReads,
    /// A byte of the handshake a second.
    Slow,
    /// Another protocol.
    Noise,
    /// A handshake, and a message of a gigabyte.
    Oversize,
    /// A handshake, and a bitfield that cannot be.
    BadBitfield,
}

impl Kind {
    pub(super) const ALL: [Self; 8] = [
        Self::Idle,
        Self::Requests,
        Self::NeverReads,
        Self::Slow,
        Self::Interested,
        Self::Noise,
        Self::Oversize,
        Self::BadBitfield,
    ];

    fn reads(self, unchoked: bool) -> bool {
        match self {
            Self::Requests => false,
            Self::NeverReads => !unchoked,
            Self::Idle
            | Self::Interested
            | Self::Slow
            | Self::Noise
            | Self::Oversize
            | Self::BadBitfield => true,
        }
    }
}

/// All of them.
#[derive(Debug)]
pub(super) struct Crowd {
    addr: SocketAddr,
    info_hash: [u8; 20],
    clients: Vec<Client>,
    rng: Rng,
    pub(super) connects: u64,
    pub(super) thrown_out: u64,
}

#[derive(Debug)]
struct Client {
    kind: Kind,
    from: Option<Ipv4Addr>,
    line: Option<Line>,
    /// When it comes again.
    due: Instant,
}

#[derive(Debug)]
struct Line {
    socket: Socket,
    opened: Instant,
    /// What is still to be written of what it wants to say now.
    out: Vec<u8>,
    unchoked: bool,
    alive: Instant,
}

impl Crowd {
    pub(super) fn new(
        addr: SocketAddr,
        info_hash: [u8; 20],
        kinds: &[Kind],
        count: usize,
        seed: u64,
    ) -> Self {
        let client = |number: usize| Client {
            kind: *kinds.get(number % kinds.len()).unwrap_or(&Kind::Idle),
            from: (!addr.ip().is_loopback()).then(|| from(number)),
            line: None,
            due: Instant::now(),
        };
        Self {
            addr,
            info_hash,
            clients: (0..count).map(client).collect(),
            rng: Rng::new(seed).fork("hostile", count as u64),
            connects: 0,
            thrown_out: 0,
        }
    }

    pub(super) fn run(&mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            let now = Instant::now();
            let mut connects = CONNECTS;
            for client in &mut self.clients {
                if let Some(line) = &mut client.line {
                    if line.act(client.kind, now).is_err() {
                        client.line = None;
                        client.due = now + AGAIN;
                        self.thrown_out += 1;
                    }
                } else if client.due <= now && connects > 0 {
                    connects -= 1;
                    client.due = now + AGAIN;
                    if let Ok(socket) = open(self.addr, client.from) {
                        self.connects += 1;
                        let id = self.rng.next_u64();
                        let out = first_words(client.kind, &self.info_hash, id);
                        client.line = Some(Line {
                            socket,
                            opened: now,
                            out,
                            unchoked: false,
                            alive: now,
                        });
                    }
                }
            }
            std::thread::sleep(SWEEP.saturating_sub(now.elapsed()));
        }
    }
}

impl Line {
    /// Says and hears what there is; `Err` once it is over.
    fn act(&mut self, kind: Kind, now: Instant) -> Result<()> {
        if kind.reads(self.unchoked) {
            self.hear(kind)?;
        }
        let silent = matches!(kind, Kind::NeverReads | Kind::Interested | Kind::Idle);
        if self.out.is_empty() && silent && now - self.alive > ALIVE {
            self.alive = now;
            // A keep-alive, which is no word.
            self.out.extend_from_slice(&[0; 4]);
        }
        if self.out.is_empty() && kind == Kind::Requests {
            requests(&mut self.out);
        }
        let most = if kind == Kind::Slow {
            let due = (now - self.opened).as_secs() as usize + 1;
            due.saturating_sub(68 - self.out.len().min(68))
        } else {
            self.out.len()
        };
        let part = self.out.get(..most.min(self.out.len())).unwrap_or_default();
        match (&self.socket).write(part) {
            Ok(n) => {
                self.out.drain(..n);
                Ok(())
            }
            Err(error) if is_early(error.kind()) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn hear(&mut self, kind: Kind) -> Result<()> {
        let mut buffer = [0; 4096];
        match (&self.socket).read(&mut buffer) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(n) => {
                let heard = buffer.get(..n).unwrap_or_default();
                // The unchoke comes alone, or at the end of the first words.
                if kind == Kind::NeverReads && heard.ends_with(&[0, 0, 0, 1, 1]) {
                    self.unchoked = true;
                    requests(&mut self.out);
                }
                Ok(())
            }
            Err(error) if is_early(error.kind()) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Not connected yet, or nothing to be done now.
fn is_early(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::NotConnected)
}

fn requests(out: &mut Vec<u8>) {
    (0..REQUESTS).for_each(|number| request_at(out, number * 16 * 1024));
}

/// A socket that is being connected, from that address if there is one.
pub(super) fn open(addr: SocketAddr, from: Option<Ipv4Addr>) -> Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
    if let Some(from) = from {
        socket.bind(&SocketAddr::from((from, 0)).into())?;
    }
    // Addresses of those that came and went are not to run out.
    socket.set_linger(Some(Duration::ZERO))?;
    socket.set_nonblocking(true)?;
    match socket.connect(&addr.into()) {
        Ok(()) => {}
        Err(error)
            if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
        Err(error) => return Err(error),
    }
    Ok(socket)
}

fn first_words(kind: Kind, info_hash: &[u8; 20], id: u64) -> Vec<u8> {
    let mut out = hello(info_hash, id.is_multiple_of(2), id >> 8);
    match kind {
        Kind::Idle | Kind::Slow => {}
        Kind::Interested | Kind::NeverReads => out.extend_from_slice(&[0, 0, 0, 1, 2]),
        Kind::Requests => {
            out.extend_from_slice(&[0, 0, 0, 1, 2]);
            requests(&mut out);
        }
        Kind::Noise => out = id.to_be_bytes().repeat(20),
        Kind::Oversize => out.extend_from_slice(&[0x40, 0, 0, 0, 7]),
        Kind::BadBitfield => out.extend_from_slice(&[0, 0, 0, 3, 5, 0xff, 0xff]),
    }
    out
}

/// An address for each: another /24 for each of the first 510.
fn from(number: usize) -> Ipv4Addr {
    let network = 1 + number % 510;
    let [_, _, high, low] = (network as u32).to_be_bytes();
    Ipv4Addr::new(198, 18 + high, low, 10 + (number / 510) as u8)
}
