//! How much memory the `torr` program takes while it downloads, as the kernel counts it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use sha1::{Digest, Sha1};
use torr_base::BLOCK_LEN;
use torr_interop::process::high_water;
use torr_metainfo::{Draft, DraftFiles};

const MIB: u64 = 1 << 20;
/// The promise: 64 MiB, and one more for every 10,000 pieces, or blocks in a piece: there is a list of either.
const BASE: u64 = 64 * MIB;
const LISTED_PER_MIB: u64 = 10_000;
/// A download that takes longer has failed.
const TIME_MAX: Duration = Duration::from_secs(300);
/// How often the figure is looked at; the kernel keeps the highest, so only the end can be missed.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A download from one seed on loopback.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) pieces: u64,
    pub(crate) piece_len: u64,
}

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "1 GiB in 4 MiB pieces",
        pieces: 256,
        piece_len: 4 << 20,
    },
    Case {
        name: "1 GiB in 16 MiB pieces",
        pieces: 64,
        piece_len: 16 << 20,
    },
    Case {
        name: "1 GiB in 512 MiB pieces",
        pieces: 2,
        piece_len: 1 << 29,
    },
    Case {
        name: "100,000 pieces of 16 KiB",
        pieces: 100_000,
        piece_len: 16 << 10,
    },
];

#[derive(Clone, Copy, Debug)]
pub(crate) struct Peak {
    pub(crate) leech: u64,
    pub(crate) seed: u64,
    pub(crate) allowed: u64,
    pub(crate) took: Duration,
}

/// Runs one case with the program at `torr`, in `folder`, which is left empty.
pub(crate) fn measure(torr: &Path, folder: &Path, case: Case) -> Result<Peak> {
    let home = folder.join("memory");
    fs::create_dir_all(home.join("seed"))?;
    let result = transfer(torr, &home, case);
    fs::remove_dir_all(&home).ok();
    result
}

fn transfer(torr: &Path, home: &Path, case: Case) -> Result<Peak> {
    let total = case.pieces * case.piece_len;
    // A file of one hole: it costs no disk, and every piece has the same hash.
    File::create(home.join("seed/payload"))?.set_len(total)?;
    let torrent = home.join("payload.torrent");
    fs::write(&torrent, describe(case)?)?;
    // Asked of the kernel and let go again: nobody else takes it in between on a quiet machine.
    let port = TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .port()
        .to_string();
    let mut seed = start(torr, home, &torrent, "seed", &["--seed", "--port", &port])?;
    let result = (|| {
        wait_for(&mut seed, "\"t\":\"seeding\"")?;
        let began = Instant::now();
        let peer = format!("127.0.0.1:{port}");
        let mut leech = start(torr, home, &torrent, "leech", &["--peer", &peer])?;
        let peak = watch(&mut leech, began)?;
        let got = home.join("leech/payload").metadata()?.len();
        ensure!(got == total, "{got} of {total} bytes came");
        Ok(Peak {
            leech: peak,
            seed: high_water(seed.id()).context("the seed is gone")?,
            allowed: BASE
                + (case.pieces + case.piece_len / u64::from(BLOCK_LEN)) * MIB / LISTED_PER_MIB,
            took: began.elapsed(),
        })
    })();
    seed.kill().ok();
    seed.wait().ok();
    result
}

fn describe(case: Case) -> Result<Vec<u8>> {
    let hash = Sha1::digest(vec![0; usize::try_from(case.piece_len)?]);
    let draft = Draft {
        name: "payload".into(),
        files: DraftFiles::Single(case.pieces * case.piece_len),
        piece_len: u32::try_from(case.piece_len)?,
        hashes: hash.repeat(usize::try_from(case.pieces)?),
        ..Draft::default()
    };
    Ok(draft.encode()?)
}

fn start(torr: &Path, home: &Path, torrent: &Path, name: &str, args: &[&str]) -> Result<Child> {
    let state: PathBuf = home.join(format!("state-{name}"));
    Command::new(torr)
        .arg(torrent)
        .arg("-d")
        .arg(home.join(name))
        .arg("--state")
        .arg(state)
        .args(["--json", "--quiet", "--bind", "127.0.0.1"])
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .with_context(|| format!("cannot start {}: build it first", torr.display()))
}

/// Waits until the program says `word`; what it says after that is read and dropped.
pub(crate) fn wait_for(child: &mut Child, word: &str) -> Result<()> {
    let out = child.stdout.take().context("its output is taken")?;
    let mut lines = BufReader::new(out).lines();
    for line in lines.by_ref() {
        if line?.contains(word) {
            std::thread::spawn(move || lines.for_each(drop));
            return Ok(());
        }
    }
    bail!("it ended before it said {word}")
}

/// The most memory that the program held until it ended well.
fn watch(child: &mut Child, began: Instant) -> Result<u64> {
    let out = child.stdout.take().context("its output is taken")?;
    let reader = std::thread::spawn(move || {
        std::io::copy(&mut BufReader::new(out), &mut std::io::sink()).ok()
    });
    let mut peak = 0;
    let status = loop {
        peak = high_water(child.id()).unwrap_or(0).max(peak);
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if began.elapsed() > TIME_MAX {
            child.kill().ok();
            child.wait().ok();
            bail!("it did not end within {} s", TIME_MAX.as_secs());
        }
        std::thread::sleep(LOOK_EVERY);
    };
    reader.join().ok();
    ensure!(status.success(), "it ended with {status}");
    std::io::stdout().flush()?;
    Ok(peak)
}
