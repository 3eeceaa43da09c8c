//! What it costs to read a torrent file that was made to be costly (section 4 of the guarantees).

use std::hint::black_box;
use std::time::Instant;

use anyhow::{Result, ensure};
use torr_base::BLOCK_LEN;
use torr_metainfo::Metainfo;

use crate::counter::peak_of;
use crate::meter;

/// Bytes of each file.
const LEN: usize = 10 << 20;
/// Memory, as a multiple of the file.
const TIMES_MAX: u64 = 8;
/// The time that is told is the best of so many tries: other programs only make it longer.
const TRIES: usize = 5;

/// Names, and what the files hold.
fn cases() -> Vec<(&'static str, Vec<u8>)> {
    let list = |item: &[u8]| [b"l", item.repeat(LEN / item.len()).as_slice(), b"e"].concat();
    let deep = [b"l".repeat(99), b"e".repeat(99)].concat();
    // In the wrong order, so that each has to be looked for among those before it.
    let keys = (0..LEN / 10)
        .rev()
        .flat_map(|n| format!("6:{n:06x}le").into_bytes());
    vec![
        ("empty strings", list(b"0:")),
        ("numbers", list(b"i0e")),
        ("empty dictionaries", list(b"de")),
        ("lists a hundred deep", list(&deep)),
        (
            "a dictionary of a million keys",
            [&b"d"[..], &keys.collect::<Vec<_>>(), b"e"].concat(),
        ),
        (
            "empty files, all of one name",
            torrent(b"d6:lengthi0e4:pathl1:aee", b""),
        ),
        (
            "files of a byte",
            torrent(b"d6:lengthi1e4:pathl1:aee", &[0; 20]),
        ),
        (
            "files in folders a hundred deep",
            torrent(&deep_file(), &[0; 20]),
        ),
        ("trackers", trackers()),
    ]
}

/// A torrent whose files are all that file, and whose pieces are all that one.
fn torrent(file: &[u8], hash: &[u8]) -> Vec<u8> {
    // They all fit into one piece of the greatest length there is.
    let files = file.repeat(LEN / file.len());
    let mut out = b"d4:infod5:filesl".to_vec();
    out.extend_from_slice(&files);
    out.extend_from_slice(b"e4:name1:n12:piece lengthi536870912e6:pieces");
    out.extend_from_slice(format!("{}:", hash.len()).as_bytes());
    out.extend_from_slice(hash);
    out.extend_from_slice(b"ee");
    out
}

fn deep_file() -> Vec<u8> {
    let path = b"1:a".repeat(100);
    [b"d6:lengthi1e4:pathl", path.as_slice(), b"ee"].concat()
}

fn trackers() -> Vec<u8> {
    let tier = b"l12:http://a.b/ce";
    let mut out = b"d13:announce-listl".to_vec();
    out.extend_from_slice(&tier.repeat(LEN / tier.len()));
    out.extend_from_slice(b"e4:infod6:lengthi1e4:name1:n12:piece lengthi16384e6:pieces20:");
    out.extend_from_slice(&[0; 20]);
    out.extend_from_slice(b"ee");
    out
}

fn read(bytes: &[u8]) {
    black_box(torr_bencode::parse(black_box(bytes)).is_ok());
}

/// Reads the bencode of each, counted, and tells how many blocks of 16 KiB they are. What a busy machine makes
/// of the time says nothing; this does.
pub(crate) fn count() -> u64 {
    let files = cases();
    let bytes: u64 = files.iter().map(|(_, bytes)| bytes.len() as u64).sum();
    meter::counted_call(|| {
        for (_, bytes) in &files {
            read(bytes);
        }
    });
    bytes / u64::from(BLOCK_LEN)
}

/// Reads each, tells how long that took, and holds its memory against what it may take.
pub(crate) fn check() -> Result<()> {
    for (name, bytes) in cases() {
        let took = (0..TRIES).map(|_| {
            let began = Instant::now();
            read(&bytes);
            began.elapsed()
        });
        let took = took.min().unwrap_or_default();
        let began = Instant::now();
        let (is_torrent, peak) = peak_of(|| Metainfo::parse(&bytes).is_ok());
        let whole = began.elapsed();
        println!(
            "{} MiB of {name}: bencode read in {:.0} ms; {} by {:.0} ms, {:.1} times its size in memory",
            bytes.len() >> 20,
            took.as_secs_f64() * 1e3,
            if is_torrent { "a torrent" } else { "refused" },
            whole.as_secs_f64() * 1e3,
            peak as f64 / bytes.len() as f64,
        );
        ensure!(
            peak <= TIMES_MAX * bytes.len() as u64,
            "{name}: {peak} bytes of memory for {}",
            bytes.len()
        );
    }
    Ok(())
}
