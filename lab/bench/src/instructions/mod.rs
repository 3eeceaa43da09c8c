//! Instructions per block, counted by callgrind: the same on a busy machine as on an idle one.
//!
//! Each workload is this program once more, under valgrind, which counts only inside
//! [`meter::counted_call`]: neither the start nor the harness, and of a transfer only its middle. All that
//! could vary is fixed: the seeds of random numbers, the time, the environment, what the C library takes the
//! CPU for, and the kernel of the hash.

mod callgrind;
mod record;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use torr_base::BLOCK_LEN;
use torr_hash::{Sha1Message, Sha1State};

use crate::meter;
use crate::parse;
use crate::pipe::{self, End};
use record::Record;

#[derive(Clone, Copy, Debug)]
enum Work {
    /// One end of a transfer in memory, in pieces of so many bytes.
    Transfer(End, u64),
    /// The hash of a piece.
    Hash,
    /// The bencode of files that were made to be costly.
    Parse,
}

#[derive(Clone, Copy, Debug)]
struct Workload {
    name: &'static str,
    /// What the figure is, for people.
    meaning: &'static str,
    work: Work,
}

const WORKLOADS: &[Workload] = &[
    Workload {
        name: "leech-4m",
        meaning: "the logic of a download, 4 MiB pieces",
        work: Work::Transfer(End::Leech, 4 << 20),
    },
    Workload {
        name: "leech-256k",
        meaning: "the logic of a download, 256 KiB pieces",
        work: Work::Transfer(End::Leech, 256 << 10),
    },
    Workload {
        name: "seed",
        meaning: "the logic of an upload",
        work: Work::Transfer(End::Seed, 4 << 20),
    },
    // Not of several pieces side by side: which kernel is the fastest for them is measured by the clock, and
    // valgrind's clock says nothing about the CPU. For one piece it is always the plainest.
    Workload {
        name: "hash",
        meaning: "SHA-1 without any special instruction",
        work: Work::Hash,
    },
    Workload {
        name: "parse",
        meaning: "bencode that was made to be costly",
        work: Work::Parse,
    },
];

/// Bytes that a transfer carries, of which half are counted: enough pieces of 4 MiB for what comes and goes
/// with each of them to be spread evenly.
const TRANSFER_LEN: u64 = 1 << 30;
/// Blocks of the piece that is hashed.
const HASH_BLOCKS: u64 = 256;

/// `torr-bench instructions [--record]`: asserts that the figures are those recorded, or records them.
pub(crate) fn main(args: &[String]) -> Result<()> {
    let write = match args {
        [] => false,
        [arg] if arg == "--record" => true,
        _ => bail!("usage: torr-bench instructions [--record]"),
    };
    ensure!(
        !cfg!(debug_assertions),
        "only a release build is worth counting: cargo run --release -p torr-bench -- instructions"
    );
    let folder = std::env::temp_dir().join(format!("torr-bench-{}", std::process::id()));
    fs::create_dir_all(&folder).context("making a folder for callgrind")?;
    let figures = measure(&folder);
    fs::remove_dir_all(&folder).ok();
    let measured = Record::of_this_build(figures?);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.txt");
    if write {
        return fs::write(&path, measured.to_text()).context("writing the record");
    }
    let text = fs::read_to_string(&path).context("reading the record")?;
    let recorded = Record::parse(&text).context("reading the record")?;
    let faults = measured.faults(&recorded);
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    println!("{} passed, 0 failed", WORKLOADS.len());
    Ok(())
}

fn measure(folder: &Path) -> Result<Vec<(String, f64)>> {
    let mut out = Vec::new();
    for Workload { name, meaning, .. } in WORKLOADS {
        let figure = callgrind::per_block(name, folder)?;
        println!("{name}: {figure:.1} instructions a block ({meaning})");
        out.push(((*name).to_owned(), figure));
    }
    Ok(out)
}

/// `torr-bench workload NAME`, for callgrind: does the work and prints for how many blocks it was counted.
pub(crate) fn workload(args: &[String]) -> Result<()> {
    let [name] = args else {
        bail!("usage: torr-bench workload NAME");
    };
    let found = WORKLOADS.iter().find(|workload| workload.name == name);
    let found = found.with_context(|| format!("no workload is called {name}"))?;
    let blocks = match found.work {
        Work::Transfer(end, piece_len) => pipe::count(TRANSFER_LEN, piece_len, end)?,
        Work::Hash => hash()?,
        Work::Parse => parse::count(),
    };
    println!("{blocks}");
    Ok(())
}

/// As a disk worker hashes a piece: its parts are blocks.
fn hash() -> Result<u64> {
    let block: Vec<u8> = (0..BLOCK_LEN).map(|n| (n % 251) as u8).collect();
    let parts = vec![&block[..]; usize::try_from(HASH_BLOCKS)?];
    let piece = Sha1Message {
        from: Sha1State::default(),
        parts: &parts,
        last: true,
    };
    // The kernel is chosen when something is first hashed.
    torr_hash::sha1_each(std::iter::once(piece), |_, _| ());
    let mut bytes = 0;
    meter::counted_call(|| {
        torr_hash::sha1_each(std::iter::once(piece), |_, end| bytes += end.bytes());
    });
    let whole = HASH_BLOCKS * u64::from(BLOCK_LEN);
    ensure!(bytes >= whole, "{bytes} of {whole} bytes were hashed");
    Ok(HASH_BLOCKS)
}
