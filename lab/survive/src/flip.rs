//! Every byte of a small state directory flipped, and every file of it cut off at every length (G13).
//!
//! Three torrents. After each damage they are opened again, once with the damage and once more: all of them open, what
//! was damaged is named by its path, the other torrents lack nothing and hash nothing, the damaged one lacks no more
//! than its record, what is claimed is there, and the second time nothing is said any more.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use torr_base::Bitfield;
use torr_disk::{Opened, kept_torrent};
use torr_interop::metafile::Metafile;
use torr_interop::payload::Payload;
use torr_metainfo::{Info, Metainfo};

use crate::keep::{Keep, spec};

const PIECE: usize = 16 * 1024;
/// Bytes of one record of the have-log.
const RECORD: usize = torr_store::FRAME_LEN;

/// What was tried, and what went wrong.
#[derive(Debug, Default)]
pub struct Sum {
    pub flips: u32,
    pub cuts: u32,
    /// Pieces that a damage cost, at most.
    pub lost: u32,
    pub faults: Vec<String>,
}

impl std::fmt::Display for Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} flips and {} cuts, a flip cost at most {} pieces, {} faults",
            self.flips,
            self.cuts,
            self.lost,
            self.faults.len()
        )
    }
}

/// Runs it in the folder `dir`, which should be in memory: thousands of small files are written and synced.
pub fn run(dir: &Path, mask: u8) -> Result<Sum> {
    let store = Store::make(dir)?;
    let mut sum = Sum::default();
    for victim in 0..store.files.len() {
        store.damage_all(victim, mask, &mut sum)?;
    }
    Ok(sum)
}

struct Torrent {
    info: Arc<Info>,
    bytes: Arc<[u8]>,
    folder: PathBuf,
}

/// A file of the state directory, as it was.
struct Part {
    path: PathBuf,
    /// The same file under another name: what torr replaces is there again with its inode.
    kept: PathBuf,
    bytes: Vec<u8>,
    /// Which torrent it is of.
    owner: usize,
}

struct Store {
    state: PathBuf,
    torrents: Vec<Torrent>,
    files: Vec<Part>,
}

#[derive(Clone, Copy)]
enum Damage {
    Flip(usize),
    Cut(usize),
}

impl Store {
    fn make(dir: &Path) -> Result<Self> {
        let state = dir.join("state");
        let payloads = [
            Payload::single("single", 4 * PIECE as u64 + 100),
            Payload::multi("folder", &[("a", 30_000), ("b/c", 50_001), ("empty", 0)]),
            Payload::single("small", 100),
        ];
        let mut torrents = Vec::new();
        let mut files = Vec::new();
        for (owner, payload) in payloads.iter().enumerate() {
            let torrent = Torrent::make(dir, payload)?;
            let before = list(&state)?;
            torrent.download(dir, payload, &state)?;
            for path in list(&state)?.difference(&before) {
                let kept = dir.join(format!("kept-{}", files.len()));
                fs::hard_link(path, &kept)?;
                let (path, bytes) = (path.clone(), fs::read(path)?);
                files.push(Part {
                    path,
                    kept,
                    bytes,
                    owner,
                });
            }
            torrents.push(torrent);
        }
        ensure!(files.len() == 5 * torrents.len(), "{} files", files.len());
        Ok(Self {
            state,
            torrents,
            files,
        })
    }

    fn damage_all(&self, victim: usize, mask: u8, sum: &mut Sum) -> Result<()> {
        let part = self.files.get(victim).context("a file")?;
        let len = part.bytes.len();
        let flips = (0..len).map(Damage::Flip);
        for damage in flips.chain((0..len).map(Damage::Cut)) {
            let (what, at) = match damage {
                Damage::Flip(at) => {
                    sum.flips += 1;
                    ("flip", at)
                }
                Damage::Cut(at) => {
                    sum.cuts += 1;
                    ("cut", at)
                }
            };
            if let Err(why) = self.try_one(part, damage, mask, sum) {
                let name = part.path.display();
                sum.faults
                    .push(format!("{what} of {name} at {at}: {why:#}"));
            }
        }
        Ok(())
    }

    fn restore(&self) -> Result<()> {
        for part in &self.files {
            fs::write(&part.kept, &part.bytes)?;
            let folder = part.path.parent().context("a folder")?;
            let _ = fs::remove_file(&part.path);
            let _ = fs::remove_file(folder.join("log.bad"));
            fs::hard_link(&part.kept, &part.path)?;
        }
        Ok(())
    }

    fn try_one(&self, part: &Part, damage: Damage, mask: u8, sum: &mut Sum) -> Result<()> {
        self.restore()?;
        let mut bytes = part.bytes.clone();
        match damage {
            Damage::Flip(at) => *bytes.get_mut(at).context("a byte")? ^= mask,
            Damage::Cut(len) => bytes.truncate(len),
        }
        fs::write(&part.path, &bytes)?;
        self.look_kept(part, damage)?;
        let opened = self.open_all()?;
        for (number, (opened, torrent)) in opened.iter().zip(&self.torrents).enumerate() {
            torrent.check_claims(opened)?;
            if number == part.owner {
                check_named(part, damage, opened)?;
                let lost = opened.have.len() - opened.have.count();
                if matches!(damage, Damage::Flip(_)) {
                    sum.lost = sum.lost.max(lost);
                    ensure!(lost <= 1, "{lost} pieces lost");
                }
            } else {
                check_unharmed(opened).with_context(|| format!("torrent {number}"))?;
            }
        }
        for opened in self.open_all()? {
            ensure!(opened.warnings.is_empty(), "again: {:?}", opened.warnings);
        }
        Ok(())
    }

    /// What a magnet link would find of the .torrent that was kept: it, whole, or a name for what is wrong.
    fn look_kept(&self, part: &Part, damage: Damage) -> Result<()> {
        let torrent = self.torrents.get(part.owner).context("a torrent")?;
        let found = kept_torrent(&self.state, torrent.info.info_hash());
        let emptied = matches!(damage, Damage::Cut(0));
        match part.name() {
            "torrent" | "torrent.sum" => {
                ensure!(found.torrent.is_none(), "it was taken for whole");
                ensure!(!found.damaged.is_empty(), "it was not named");
            }
            _ => ensure!(found.torrent.is_some(), "not found (emptied: {emptied})"),
        }
        Ok(())
    }

    fn open_all(&self) -> Result<Vec<Opened>> {
        let mut keep = Keep::default();
        let all = self.torrents.iter();
        all.map(|torrent| keep.open(torrent.spec(&self.state)))
            .collect()
    }
}

impl Part {
    fn name(&self) -> &str {
        let name = self.path.file_name().and_then(|name| name.to_str());
        name.unwrap_or_default()
    }
}

impl Torrent {
    fn make(dir: &Path, payload: &Payload) -> Result<Self> {
        let original = dir.join("original");
        payload.write(&original)?;
        let urls = ["http://127.0.0.1:9/announce".to_owned()];
        let file = Metafile::write(payload, &original, PIECE, &urls, dir)?;
        let bytes = fs::read(file.path)?;
        let meta = Metainfo::parse(&bytes).map_err(|error| anyhow::anyhow!("{error}"))?;
        Ok(Self {
            info: Arc::clone(meta.info()),
            bytes: bytes.into(),
            folder: dir.join("out"),
        })
    }

    fn spec(&self, state: &Path) -> torr_disk::StorageSpec {
        spec(&self.info, Arc::clone(&self.bytes), &self.folder, state)
    }

    /// Each piece by itself, so that each has a record of its own; then a good end.
    fn download(&self, dir: &Path, payload: &Payload, state: &Path) -> Result<()> {
        let mut all = Vec::new();
        for file in &payload.files {
            all.extend(fs::read(payload.path(&dir.join("original"), file))?);
        }
        let mut keep = Keep::default();
        keep.open(self.spec(state))?;
        let pieces = Bitfield::full(self.info.geometry().piece_count());
        for (piece, bytes) in pieces.iter().zip(all.chunks(PIECE)) {
            keep.commit(piece, bytes)?;
        }
        keep.close()
    }

    /// The payload was not touched: whatever is claimed is right, if it is a piece at all.
    fn check_claims(&self, opened: &Opened) -> Result<()> {
        let go_on = |_| std::ops::ControlFlow::Continue(());
        let truth = torr_disk::check(&self.info, &self.folder, None, 1, &go_on)?;
        ensure!(truth.is_right(), "the payload was changed");
        ensure!(!opened.have.any_and_not(&truth.have), "a false piece");
        Ok(())
    }
}

fn check_unharmed(opened: &Opened) -> Result<()> {
    ensure!(opened.have.is_full(), "pieces lost");
    ensure!(opened.checked == 0, "{} pieces hashed", opened.checked);
    ensure!(opened.warnings.is_empty(), "{:?}", opened.warnings);
    Ok(())
}

fn check_named(part: &Part, damage: Damage, opened: &Opened) -> Result<()> {
    // The pid in it is for people, and is written anew by each start. Of a length that is gone nothing is known.
    let told = part.name() != "lock" && (part.name(), cut_at(damage)) != ("log.end", Some(0));
    let text = format!("{:?}", opened.warnings);
    if told {
        let path = part.path.to_string_lossy();
        ensure!(text.contains(&*path), "not named: {text}");
    } else {
        check_unharmed(opened)?;
    }
    if part.name() != "log" {
        ensure!(opened.have.is_full(), "pieces lost");
    }
    // Records before the cut stand.
    if let (Some(len), "log") = (cut_at(damage), part.name()) {
        let records = part.bytes.len().div_ceil(RECORD) - len / RECORD;
        let lost = opened.have.len() - opened.have.count();
        ensure!(lost as usize <= records, "{lost} pieces for {records}");
    }
    Ok(())
}

fn cut_at(damage: Damage) -> Option<usize> {
    match damage {
        Damage::Flip(_) => None,
        Damage::Cut(len) => Some(len),
    }
}

/// All files below a folder.
fn list(dir: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut out = BTreeSet::new();
    let Ok(entries) = fs::read_dir(dir) else {
        return Ok(out);
    };
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            out.extend(list(&path)?);
        } else {
            out.insert(path);
        }
    }
    Ok(out)
}
