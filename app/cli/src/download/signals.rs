//! Signals, and the keys that stand for them.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::env::Env;
use crate::failure::Exit;
use crate::terminal::Keys;

/// What someone outside wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    Stop(Exit),
    /// Print how it stands.
    Status,
    /// Ask the trackers again.
    Announce,
}

pub(crate) struct Wishes {
    interrupt: Option<Signal>,
    terminate: Option<Signal>,
    hangup: Option<Signal>,
    status: Option<Signal>,
    keys: Option<Keys>,
    /// When the terminal goes away, so does whoever watched.
    hangup_stops: bool,
}

impl Wishes {
    /// Must be called in a tokio runtime.
    pub(crate) fn listen(env: &Env) -> Self {
        // What cannot be had is done without. `nohup` ignores hang-ups, and wants that to stay so; the
        // interrupt that shells ignore for background jobs is heard: whoever sends it means it.
        let hangup = SignalKind::hangup();
        Self {
            interrupt: signal(SignalKind::interrupt()).ok(),
            terminate: signal(SignalKind::terminate()).ok(),
            hangup: (!is_ignored(hangup)).then(|| signal(hangup).ok()).flatten(),
            status: signal(SignalKind::user_defined1()).ok(),
            keys: (env.stdin.tty && env.stdin.is_process).then(Keys::of_stdin),
            hangup_stops: env.err.is_tty(),
        }
    }

    pub(crate) async fn next(&mut self) -> Wish {
        loop {
            let wish = tokio::select! {
                () = received(&mut self.interrupt) => Some(Wish::Stop(Exit::Interrupted)),
                () = received(&mut self.terminate) => Some(Wish::Stop(Exit::Terminated)),
                () = received(&mut self.hangup) => Some(match self.hangup_stops {
                    true => Wish::Stop(Exit::Terminated),
                    false => Wish::Announce,
                }),
                () = received(&mut self.status) => Some(Wish::Status),
                key = pressed(&mut self.keys) => matches!(key, b'q' | b'Q').then_some(Wish::Stop(Exit::Interrupted)),
            };
            if let Some(wish) = wish {
                return wish;
            }
        }
    }
}

async fn received(signal: &mut Option<Signal>) {
    let got = match signal {
        Some(signal) => signal.recv().await,
        None => None,
    };
    if got.is_none() {
        std::future::pending::<()>().await;
    }
}

async fn pressed(keys: &mut Option<Keys>) -> u8 {
    match keys {
        Some(keys) => keys.next().await,
        None => std::future::pending().await,
    }
}

/// Linux tells by a mask in hexadecimal; elsewhere, and when in doubt, it is not.
fn is_ignored(kind: SignalKind) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let bit = kind.as_raw_value() - 1;
    mask.is_some_and(|mask| mask >> bit & 1 == 1)
}
