//! What the harness runs inside a node's network by calling itself: `torr-interop helper NAME …`.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::relay;
use crate::scenario::liar;
use crate::tracker::small;

const TIMEOUT: Duration = Duration::from_secs(5);

/// Runs one helper and writes its result to standard output.
pub fn run(args: &[String]) -> Result<()> {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["tracker", address, port] => small::serve(address.parse()?, port.parse()?),
        ["scrape", address, port, hash] => scrape(address.parse()?, port.parse()?, hash),
        ["relay", listen, to, round_trip_ms, bits_per_sec] => relay::serve(
            listen.parse()?,
            to.parse()?,
            &relay::Line {
                round_trip: Duration::from_millis(round_trip_ms.parse()?),
                bits_per_sec: bits_per_sec.parse()?,
            },
        ),
        ["liar", to, hash, pieces] => liar::serve(to.parse()?, &unhex(hash)?, pieces.parse()?),
        ["source", listen, bytes] => source(listen.parse()?, bytes.parse()?),
        ["sink", from] => sink(from.parse()?),
        _ => bail!("no such helper: {args:?}"),
    }
}

fn unhex(text: &str) -> Result<[u8; 20]> {
    let mut out = [0; 20];
    for (at, byte) in out.iter_mut().enumerate() {
        let pair = text.get(2 * at..2 * at + 2).context("20 bytes of hex")?;
        *byte = u8::from_str_radix(pair, 16)?;
    }
    Ok(out)
}

/// Prints seeds and leeches, or nothing when the tracker does not know the torrent.
fn scrape(address: IpAddr, port: u16, hash: &str) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::new(address, port), TIMEOUT)
        .context("connecting")?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let escaped: String = hash
        .as_bytes()
        .chunks(2)
        .map(|pair| format!("%{}", String::from_utf8_lossy(pair)))
        .collect();
    write!(
        stream,
        "GET /scrape?info_hash={escaped} HTTP/1.0\r\nHost: tracker\r\n\r\n"
    )?;
    let mut reply = Vec::new();
    stream
        .read_to_end(&mut reply)
        .context("reading the answer")?;
    let text = String::from_utf8_lossy(&reply);
    let number =
        |key: &str| -> Option<u64> { text.split_once(key)?.1.split_once('e')?.0.parse().ok() };
    let seeds = number("8:completei").unwrap_or(0);
    let leeches = number("10:incompletei").unwrap_or(0);
    writeln!(std::io::stdout(), "{seeds} {leeches}")?;
    Ok(())
}

/// Sends so many bytes to whoever connects first.
fn source(listen: SocketAddr, bytes: u64) -> Result<()> {
    let listener = TcpListener::bind(listen).context("listening")?;
    let (mut stream, _) = listener.accept()?;
    let buffer = vec![0x5a; 256 * 1024];
    let mut left = bytes;
    while left > 0 {
        let part = usize::try_from(left)
            .unwrap_or(buffer.len())
            .min(buffer.len());
        stream.write_all(buffer.get(..part).unwrap_or_default())?;
        left -= part as u64;
    }
    Ok(())
}

/// Reads to the end; prints the bytes, and the seconds from the call to connect on.
fn sink(from: SocketAddr) -> Result<()> {
    let start = Instant::now();
    let mut stream = TcpStream::connect_timeout(&from, TIMEOUT).context("connecting")?;
    let mut buffer = vec![0; 256 * 1024];
    let mut total = 0u64;
    loop {
        match stream.read(&mut buffer)? {
            0 => break,
            read => total += read as u64,
        }
    }
    writeln!(
        std::io::stdout(),
        "{total} {:.3}",
        start.elapsed().as_secs_f64()
    )?;
    Ok(())
}
