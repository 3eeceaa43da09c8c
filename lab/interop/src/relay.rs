//! A long fast line in user space: a TCP proxy with delay, rate and a bounded queue in each direction.
//!
//! ```text
//! socket → [reader] → queue: each chunk leaves at (when the line is free) + length / rate, and arrives half a
//!          round trip later → [writer] → socket
//! ```
//! All connections of one direction share the line's rate. The queue holds one bandwidth-delay product of the whole
//! round trip per connection; when it is full the reader stops and TCP pushes back, as in front of a bottleneck.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// 0.5 ms at 1 Gbit/s: fine enough to be smooth, coarse enough to sleep.
const CHUNK: usize = 64 * 1024;

/// A sleep ends late; the line makes up for that much, or it would be slower than its rate.
const CATCH_UP: Duration = Duration::from_millis(5);

/// What the line is like, the same both ways.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    pub round_trip: Duration,
    pub bits_per_sec: u64,
}

impl Line {
    /// Bytes in flight when the line is full for a round trip.
    pub fn bandwidth_delay(&self) -> u64 {
        let bits = u128::from(self.bits_per_sec) * self.round_trip.as_micros() / 1_000_000;
        u64::try_from(bits / 8).unwrap_or(u64::MAX)
    }

    fn time_for(&self, bytes: usize) -> Duration {
        Duration::from_nanos(bytes as u64 * 8_000_000_000 / self.bits_per_sec.max(1))
    }
}

/// Accepts on `listen`, connects on to `to`, until killed.
pub fn serve(listen: SocketAddr, to: SocketAddr, line: &Line) -> Result<()> {
    let listener = TcpListener::bind(listen).with_context(|| format!("listening on {listen}"))?;
    let up = Arc::new(Mutex::new(Instant::now()));
    let down = Arc::new(Mutex::new(Instant::now()));
    for stream in listener.incoming() {
        let Ok(near) = stream else { continue };
        let Ok(far) = TcpStream::connect(to) else {
            continue;
        };
        near.set_nodelay(true)?;
        far.set_nodelay(true)?;
        direction(near.try_clone()?, far.try_clone()?, *line, Arc::clone(&up));
        direction(far, near, *line, Arc::clone(&down));
    }
    Ok(())
}

/// `free` is when the line can take the next byte.
fn direction(from: TcpStream, to: TcpStream, line: Line, free: Arc<Mutex<Instant>>) {
    let queue = Arc::new(Queue::default());
    let other = Arc::clone(&queue);
    std::thread::spawn(move || {
        read_side(from, &line, &free, &other);
        other.close();
    });
    std::thread::spawn(move || {
        write_side(to, &queue);
        queue.close();
    });
}

fn read_side(mut from: TcpStream, line: &Line, free: &Mutex<Instant>, queue: &Queue) {
    let room = line.bandwidth_delay().max(CHUNK as u64);
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(read) => read,
        };
        let leaves = {
            let mut free = lock(free);
            let now = Instant::now();
            *free = (*free).max(now.checked_sub(CATCH_UP).unwrap_or(now)) + line.time_for(read);
            *free
        };
        let bytes = buffer.get(..read).unwrap_or_default().to_vec();
        if !queue.push(
            Chunk {
                due: leaves + line.round_trip / 2,
                bytes,
            },
            room,
        ) {
            return;
        }
        // The line takes no more than its rate, whatever the queue has room for.
        std::thread::sleep(leaves.saturating_duration_since(Instant::now()));
    }
}

fn write_side(mut to: TcpStream, queue: &Queue) {
    while let Some(chunk) = queue.pop() {
        std::thread::sleep(chunk.due.saturating_duration_since(Instant::now()));
        if to.write_all(&chunk.bytes).is_err() {
            to.shutdown(Shutdown::Both).ok();
            return;
        }
    }
    to.shutdown(Shutdown::Write).ok();
}

struct Chunk {
    due: Instant,
    bytes: Vec<u8>,
}

#[derive(Default)]
struct Queue {
    state: Mutex<QueueState>,
    changed: Condvar,
}

#[derive(Default)]
struct QueueState {
    chunks: VecDeque<Chunk>,
    bytes: u64,
    closed: bool,
}

impl Queue {
    /// Waits for room; false once the other side has gone.
    fn push(&self, chunk: Chunk, room: u64) -> bool {
        let mut state = lock(&self.state);
        while state.bytes >= room && !state.closed {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.bytes += chunk.bytes.len() as u64;
        state.chunks.push_back(chunk);
        self.changed.notify_all();
        !state.closed
    }

    /// Waits for a chunk; None once closed and empty.
    fn pop(&self) -> Option<Chunk> {
        let mut state = lock(&self.state);
        loop {
            if let Some(chunk) = state.chunks.pop_front() {
                state.bytes -= chunk.bytes.len() as u64;
                self.changed.notify_all();
                return Some(chunk);
            }
            if state.closed {
                return None;
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn close(&self) {
        lock(&self.state).closed = true;
        self.changed.notify_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bandwidth_delay_of_the_line_in_the_issue() {
        let line = Line {
            round_trip: Duration::from_millis(100),
            bits_per_sec: 1_000_000_000,
        };
        assert_eq!(line.bandwidth_delay(), 12_500_000);
    }
}
