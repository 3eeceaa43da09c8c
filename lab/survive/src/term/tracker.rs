//! A tracker that answers everything but `stopped`.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;

const BODY: &str = "d8:intervali1800e5:peers0:e";

pub(super) struct Tracker {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    over: AtomicBool,
    stopped: AtomicU64,
    /// Those that wait for an answer.
    held: Mutex<Vec<TcpStream>>,
}

impl Tracker {
    pub(super) fn start() -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared::default());
        let serves = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if serves.over.load(Ordering::Relaxed) {
                    return;
                }
                serves.serve(stream);
            }
        });
        Ok(Self { port, shared })
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn stopped(&self) -> u64 {
        self.shared.stopped.load(Ordering::Relaxed)
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Shared {
    /// One after another: each is short, and comes at once.
    fn serve(&self, mut stream: TcpStream) {
        let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
        let mut request = Vec::new();
        let mut part = [0; 2048];
        while !request.ends_with(b"\r\n\r\n") && request.len() < 8192 {
            match stream.read(&mut part) {
                Ok(got) if got > 0 => request.extend(part.iter().take(got)),
                _ => return,
            }
        }
        if String::from_utf8_lossy(&request).contains("event=stopped") {
            self.stopped.fetch_add(1, Ordering::Relaxed);
            let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            held.push(stream);
            return;
        }
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            BODY.len()
        );
        let _ = stream.write_all(format!("{head}{BODY}").as_bytes());
    }
}
