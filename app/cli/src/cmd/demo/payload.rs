//! The files of a demo: several, of all kinds of sizes, with bytes that nothing compresses.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write as _};
use std::path::{Path, PathBuf};

use torr_base::Rng;

use crate::cmd::work::Progress;

const BUF_LEN: usize = 256 << 10;
/// For each file its part of the whole in thousandths; what is missing goes to the last one.
const FILES: [(&str, u64); 7] = [
    ("film.mkv", 600),
    ("music/one.flac", 150),
    ("music/two.flac", 120),
    ("photos/a.jpg", 9),
    ("photos/b.jpg", 7),
    ("empty", 0),
    ("image.iso", 0),
];

/// Writes `size` bytes in several files below `top`, and tells how many files these are.
pub(super) fn write(top: &Path, size: u64, progress: &Progress) -> io::Result<usize> {
    let mut rng = Rng::new(0x746f_7272);
    let mut written = 0;
    for (number, (name, share)) in FILES.iter().enumerate() {
        let path = top.join(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let len = match number + 1 == FILES.len() {
            true => size - written,
            // In this order it cannot overflow, and the parts never exceed the whole.
            false => size / 1000 * share,
        };
        let mut file = BufWriter::with_capacity(BUF_LEN, File::create(&path)?);
        let mut left = len;
        while left > 0 {
            let part = left.min(BUF_LEN as u64);
            fill(&mut rng, &mut file, part)?;
            left -= part;
            written += part;
            if progress.tell(written, size).is_break() {
                return Err(io::ErrorKind::Interrupted.into());
            }
        }
        file.flush()?;
    }
    Ok(FILES.len())
}

fn fill(rng: &mut Rng, file: &mut impl io::Write, len: u64) -> io::Result<()> {
    let mut left = len as usize;
    while left > 0 {
        let bytes = rng.next_u64().to_le_bytes();
        let part = left.min(bytes.len());
        file.write_all(bytes.get(..part).unwrap_or_default())?;
        left -= part;
    }
    Ok(())
}

/// The first file that differs, if any does.
pub(super) fn compare(
    seed: &Path,
    download: &Path,
    progress: &Progress,
) -> io::Result<Option<PathBuf>> {
    let mut done = 0;
    let total = FILES
        .iter()
        .map(|(name, _)| fs::metadata(seed.join(name)).map(|m| m.len()));
    let total = total.sum::<io::Result<u64>>()?;
    for (name, _) in FILES {
        let mut a = File::open(seed.join(name))?;
        let mut b = File::open(download.join(name))?;
        let (mut x, mut y) = (vec![0; BUF_LEN], Vec::with_capacity(BUF_LEN));
        loop {
            let len = a.read(&mut x)?;
            y.clear();
            Read::by_ref(&mut b)
                .take(len.max(1) as u64)
                .read_to_end(&mut y)?;
            if x.get(..len) != Some(&y[..]) {
                return Ok(Some(download.join(name)));
            }
            if len == 0 {
                break;
            }
            done += len as u64;
            if progress.tell(done, total).is_break() {
                return Err(io::ErrorKind::Interrupted.into());
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_files_compare_and_a_changed_byte_shows() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        let progress = Progress::default();
        for size in [0, 5, 700_001] {
            for top in [&a, &b] {
                write(top, size, &progress).unwrap();
            }
            let sizes = FILES
                .iter()
                .map(|(name, _)| fs::metadata(a.join(name)).unwrap().len());
            assert_eq!(sizes.sum::<u64>(), size);
            assert_eq!(compare(&a, &b, &progress).unwrap(), None);
        }
        let path = b.join("photos/b.jpg");
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
        assert_eq!(compare(&a, &b, &progress).unwrap(), Some(path));
        fs::write(b.join("empty"), "x").unwrap();
        fs::write(
            b.join("photos/b.jpg"),
            fs::read(a.join("photos/b.jpg")).unwrap(),
        )
        .unwrap();
        assert_eq!(compare(&a, &b, &progress).unwrap(), Some(b.join("empty")));
    }
}
