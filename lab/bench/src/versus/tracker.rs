//! The tracker of the leech cases: it names the same peers to whoever asks, over HTTP. Every client knows how to ask.

use std::io::{Read, Write};
use std::net::{SocketAddrV4, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};

use super::poll::readable;

const LOOK_EVERY: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(2);
const REQUEST_MAX: usize = 16 << 10;

#[derive(Debug)]
pub(crate) struct Tracker {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Tracker {
    pub(crate) fn start(address: SocketAddrV4, peers: &[SocketAddrV4]) -> Result<Self> {
        let listener = TcpListener::bind(address).context("binding the tracker")?;
        let body = reply(peers);
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !flag.load(Ordering::Relaxed) {
                if readable(std::slice::from_ref(&listener), LOOK_EVERY).is_empty() {
                    continue;
                }
                // A client that asks wrongly gets nothing, and its run stalls.
                if let Ok((stream, _)) = listener.accept() {
                    answer(stream, &body).ok();
                }
            }
        });
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

fn reply(peers: &[SocketAddrV4]) -> Vec<u8> {
    let mut body = format!(
        "d8:completei{}e10:incompletei0e8:intervali1800e5:peers{}:",
        peers.len(),
        6 * peers.len()
    )
    .into_bytes();
    for peer in peers {
        body.extend_from_slice(&peer.ip().octets());
        body.extend_from_slice(&peer.port().to_be_bytes());
    }
    body.push(b'e');
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), &body].concat()
}

fn answer(mut stream: TcpStream, reply: &[u8]) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut request = Vec::new();
    let mut part = [0; 4096];
    // All of the request: what stays unread would turn the close into a reset.
    while request.len() < REQUEST_MAX && !request.ends_with(b"\r\n\r\n") {
        match stream.read(&mut part)? {
            0 => break,
            read => request.extend_from_slice(part.get(..read).unwrap_or_default()),
        }
    }
    stream.write_all(reply)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_all_peers() {
        let peers = ["198.18.3.10:6881".parse().unwrap()];
        let text = reply(&peers);
        assert!(text.ends_with(b"5:peers6:\xc6\x12\x03\x0a\x1a\xe1e"));
    }
}
