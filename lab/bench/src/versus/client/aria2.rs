//! aria2c.

use std::ffi::OsString;

use super::{Contender, Done, Job, LISTEN, Launch, PEERS_MAX, Task, push};

/// No longer than any run.
const SEED_MINUTES: u32 = 60;

pub(super) fn launch(contender: &Contender, job: &Job<'_>) -> Option<Launch> {
    let mut argv = contender.argv(&contender.program);
    push(
        &mut argv,
        [
            "--no-conf",
            "--disable-ipv6=true",
            "--enable-dht=false",
            "--enable-dht6=false",
            "--enable-peer-exchange=false",
            "--bt-enable-lpd=false",
            "--file-allocation=none",
            "--summary-interval=0",
            "--show-console-readout=false",
            "--console-log-level=warn",
            "--allow-overwrite=true",
            "--seed-ratio=0.0",
            // Else it sends its peers away while it is below this rate, and asks for others.
            "--bt-request-peer-speed-limit=0",
        ],
    );
    push(
        &mut argv,
        match job.rc4 {
            false => ["--bt-require-crypto=false", "--bt-min-crypto-level=plain"],
            true => ["--bt-require-crypto=true", "--bt-min-crypto-level=arc4"],
        },
    );
    let mut option = |text: String| argv.push(OsString::from(text));
    option(format!("--bt-max-peers={PEERS_MAX}"));
    option(format!("--listen-port={}", LISTEN.port()));
    option(format!("--dir={}", job.data.display()));
    let done = match job.task {
        Task::Leech => {
            option("--seed-time=0".into());
            Done::Exit
        }
        Task::Seed => {
            option("--bt-seed-unverified=true".into());
            option(format!("--seed-time={SEED_MINUTES}"));
            Done::Seeds
        }
        Task::Check => {
            option("--check-integrity=true".into());
            option("--hash-check-only=true".into());
            Done::Exit
        }
        Task::Create => return None,
    };
    argv.push(job.torrent.into());
    Some(Launch::new(argv, done))
}
