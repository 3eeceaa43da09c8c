//! The terminal: how wide it is, and single keys from it.
//!
//! Keys are read only while torr is in the foreground of its terminal: a background job that reads or
//! changes its terminal is stopped by the kernel. Signals stay with the keys that send them.

use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{self, LocalModes, OptionalActions, SpecialCodeIndex, Termios};
use tokio::sync::mpsc;

/// How long the thread of the keys may need to see that torr moved to the foreground, or that nobody
/// listens any more.
const LOOK_EVERY: Duration = Duration::from_millis(200);

pub(crate) fn is_terminal(fd: &impl AsFd) -> bool {
    termios::isatty(fd)
}

pub(crate) fn width_of_stdout() -> Option<fn() -> u16> {
    is_terminal(&io::stdout()).then_some(|| width(&io::stdout()))
}

pub(crate) fn width_of_stderr() -> Option<fn() -> u16> {
    is_terminal(&io::stderr()).then_some(|| width(&io::stderr()))
}

/// Some terminals say 0 for what they do not know.
fn width(fd: &impl AsFd) -> u16 {
    match termios::tcgetwinsize(fd) {
        Ok(size) if size.ws_col > 0 => size.ws_col,
        Ok(_) | Err(_) => 80,
    }
}

/// Whether a bar may be drawn on standard error: not over the line that someone types while torr is in the
/// background. In doubt it may.
pub(crate) fn may_draw() -> bool {
    let foreground = termios::tcgetpgrp(io::stderr());
    foreground.is_err() || foreground == Ok(rustix::process::getpgrp())
}

/// Keys from standard input as they are pressed. When this is dropped, the terminal is as it was.
#[derive(Debug)]
pub(crate) struct Keys {
    pressed: mpsc::Receiver<u8>,
    saved: Saved,
}

/// The terminal's settings from before, while they are changed.
type Saved = Arc<Mutex<Option<Termios>>>;

impl Keys {
    pub(crate) fn of_stdin() -> Self {
        let (sender, pressed) = mpsc::channel(16);
        let saved = Saved::default();
        let shared = Arc::clone(&saved);
        // Not joined: it ends by itself, and the process does not wait for it.
        std::thread::spawn(move || read_keys(&sender, &shared));
        Self { pressed, saved }
    }

    /// The next key; never, if no more can come.
    pub(crate) async fn next(&mut self) -> u8 {
        match self.pressed.recv().await {
            Some(key) => key,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.pressed.close();
        restore(&self.saved);
    }
}

fn read_keys(sender: &mpsc::Sender<u8>, saved: &Saved) {
    let stdin = io::stdin();
    let pause = Timespec {
        tv_sec: 0,
        tv_nsec: LOOK_EVERY.as_nanos() as i64,
    };
    while !sender.is_closed() {
        if !in_foreground(&stdin) {
            std::thread::sleep(LOOK_EVERY);
            continue;
        }
        if !take_keys(&stdin, saved, sender) {
            return;
        }
        let mut fds = [PollFd::new(&stdin, PollFlags::IN)];
        if !matches!(poll(&mut fds, Some(&pause)), Ok(1..)) || !in_foreground(&stdin) {
            continue;
        }
        let mut key = [0; 1];
        match rustix::io::read(&stdin, &mut key) {
            // The terminal is gone.
            Ok(0) => return,
            Ok(_) if sender.blocking_send(key[0]).is_err() => return,
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

fn in_foreground(stdin: &impl AsFd) -> bool {
    termios::tcgetpgrp(stdin) == Ok(rustix::process::getpgrp())
}

/// Keys without waiting for Enter and without an echo. Asked for again and again: a shell sets its own
/// ways after it stopped and continued us.
fn take_keys(stdin: &impl AsFd, saved: &Saved, sender: &mpsc::Sender<u8>) -> bool {
    let mut saved = saved.lock().unwrap_or_else(PoisonError::into_inner);
    // Whoever drops `Keys` closes first and restores then, under the same lock.
    if sender.is_closed() {
        return false;
    }
    let Ok(before) = termios::tcgetattr(stdin) else {
        return false;
    };
    let lines = LocalModes::ICANON | LocalModes::ECHO;
    if !before.local_modes.intersects(lines) {
        return true;
    }
    let mut keys = before.clone();
    keys.local_modes.remove(lines);
    keys.special_codes[SpecialCodeIndex::VMIN] = 1;
    keys.special_codes[SpecialCodeIndex::VTIME] = 0;
    let set = termios::tcsetattr(stdin, OptionalActions::Now, &keys);
    saved.get_or_insert(before);
    set.is_ok()
}

fn restore(saved: &Saved) {
    let before = saved.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(before) = before
        && in_foreground(&io::stdin())
    {
        // There is nobody to tell if this fails.
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, &before);
    }
}
