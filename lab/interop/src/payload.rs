//! Data to transfer: the same bytes for the same description, on every machine.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

const BUFFER: usize = 256 * 1024;

/// What a torrent holds. A single file has one entry whose path is empty.
#[derive(Clone, Debug)]
pub struct Payload {
    pub name: String,
    pub files: Vec<FileSpec>,
}

/// One file, by its path below the torrent's name.
#[derive(Clone, Debug)]
pub struct FileSpec {
    pub path: Vec<String>,
    pub len: u64,
    pub fill: Fill,
}

/// What a file is filled with.
#[derive(Clone, Copy, Debug)]
pub enum Fill {
    Random,
    /// A hole, but for 64 KiB of random bytes at each multiple of this.
    Sparse {
        every: u64,
    },
}

/// Whether files of no bytes have to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Empty {
    Required,
    MayLack,
}

impl Payload {
    pub fn single(name: &str, len: u64) -> Self {
        Self {
            name: name.to_owned(),
            files: vec![FileSpec {
                path: Vec::new(),
                len,
                fill: Fill::Random,
            }],
        }
    }

    pub fn sparse(name: &str, len: u64, every: u64) -> Self {
        Self {
            name: name.to_owned(),
            files: vec![FileSpec {
                path: Vec::new(),
                len,
                fill: Fill::Sparse { every },
            }],
        }
    }

    pub fn multi(name: &str, files: &[(&str, u64)]) -> Self {
        let files = files
            .iter()
            .map(|(path, len)| FileSpec {
                path: path.split('/').map(str::to_owned).collect(),
                len: *len,
                fill: Fill::Random,
            })
            .collect();
        Self {
            name: name.to_owned(),
            files,
        }
    }

    /// `count` files of `min..=max` bytes in folders of a hundred.
    pub fn many(name: &str, count: u32, min: u64, max: u64) -> Self {
        let mut random = Random::new(name, 0);
        let files = (0..count)
            .map(|i| FileSpec {
                path: vec![format!("{:03}", i / 100), format!("{i:05}.bin")],
                len: min + random.next() % (max - min + 1),
                fill: Fill::Random,
            })
            .collect();
        Self {
            name: name.to_owned(),
            files,
        }
    }

    pub fn is_single(&self) -> bool {
        self.files.iter().all(|file| file.path.is_empty())
    }

    pub fn total(&self) -> u64 {
        self.files.iter().map(|file| file.len).sum()
    }

    /// Where a file lies when the torrent is saved in `dir`.
    pub fn path(&self, dir: &Path, file: &FileSpec) -> PathBuf {
        let mut path = dir.join(&self.name);
        path.extend(&file.path);
        path
    }

    /// Writes all files below `dir`.
    pub fn write(&self, dir: &Path) -> Result<()> {
        for (index, file) in self.files.iter().enumerate() {
            let path = self.path(dir, file);
            let parent = path.parent().context("a payload path has a parent")?;
            std::fs::create_dir_all(parent)
                .with_context(|| format!("making {}", parent.display()))?;
            let out = File::create(&path).with_context(|| format!("making {}", path.display()))?;
            let random = Random::new(&self.name, index as u64 + 1);
            match file.fill {
                Fill::Random => fill_random(&out, file.len, random),
                Fill::Sparse { every } => fill_sparse(&out, file.len, every, random),
            }
            .with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(())
    }

    /// Fails unless `dir` holds this payload and nothing beside it, byte for byte like `original`.
    pub fn compare(&self, original: &Path, dir: &Path, empty: Empty) -> Result<()> {
        let mut expected = 0;
        for file in &self.files {
            let path = self.path(dir, file);
            if empty == Empty::MayLack && file.len == 0 && !path.exists() {
                continue;
            }
            compare_files(&self.path(original, file), &path)?;
            expected += 1;
        }
        let found = count_files(&dir.join(&self.name))?;
        if found != expected {
            bail!(
                "{}: {found} files instead of {expected}",
                dir.join(&self.name).display()
            );
        }
        Ok(())
    }
}

fn fill_random(mut out: &File, len: u64, mut random: Random) -> std::io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    let mut left = len;
    while left > 0 {
        let part = usize::try_from(left).unwrap_or(BUFFER).min(BUFFER);
        let slice = buffer.get_mut(..part).unwrap_or_default();
        random.fill(slice);
        out.write_all(slice)?;
        left -= part as u64;
    }
    Ok(())
}

fn fill_sparse(out: &File, len: u64, every: u64, mut random: Random) -> std::io::Result<()> {
    out.set_len(len)?;
    let mut buffer = vec![0; 64 * 1024];
    let mut at = 0;
    while at + buffer.len() as u64 <= len {
        random.fill(&mut buffer);
        out.write_all_at(&buffer, at)?;
        at += every;
    }
    Ok(())
}

/// Fails at the first byte that differs, and names it.
fn compare_files(left: &Path, right: &Path) -> Result<()> {
    let mut a = File::open(left).with_context(|| format!("opening {}", left.display()))?;
    let mut b = File::open(right).with_context(|| format!("opening {}", right.display()))?;
    let lengths = (a.metadata()?.len(), b.metadata()?.len());
    if lengths.0 != lengths.1 {
        bail!(
            "{}: {} bytes instead of {}",
            right.display(),
            lengths.1,
            lengths.0
        );
    }
    let (mut x, mut y) = (vec![0; BUFFER], vec![0; BUFFER]);
    let mut at = 0u64;
    while at < lengths.0 {
        let part = usize::try_from(lengths.0 - at)
            .unwrap_or(BUFFER)
            .min(BUFFER);
        let (x, y) = (
            x.get_mut(..part).unwrap_or_default(),
            y.get_mut(..part).unwrap_or_default(),
        );
        a.read_exact(x)?;
        b.read_exact(y)?;
        if x != y {
            let offset = x.iter().zip(y.iter()).take_while(|(p, q)| p == q).count() as u64;
            bail!("{}: differs from byte {} on", right.display(), at + offset);
        }
        at += part as u64;
    }
    Ok(())
}

fn count_files(path: &Path) -> Result<usize> {
    if !path.is_dir() {
        return Ok(usize::from(path.exists()));
    }
    let mut count = 0;
    for entry in std::fs::read_dir(path).with_context(|| format!("listing {}", path.display()))? {
        count += count_files(&entry?.path())?;
    }
    Ok(count)
}

/// xorshift64*: fast, good enough to be incompressible, and the same everywhere.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(name: &str, stream: u64) -> Self {
        // FNV-1a, so that each name has its own bytes.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        let mut random = Self((hash ^ stream.wrapping_mul(0x9e37_79b9_7f4a_7c15)) | 1);
        random.next();
        random
    }

    #[allow(clippy::should_implement_trait)] // an endless stream, not an iterator
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn fill(&mut self, buffer: &mut [u8]) {
        for part in buffer.chunks_mut(8) {
            let bytes = self.next().to_le_bytes();
            part.copy_from_slice(bytes.get(..part.len()).unwrap_or_default());
        }
    }
}
