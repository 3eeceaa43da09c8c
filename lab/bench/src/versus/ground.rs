//! The ground of the runs: addresses on a loopback device of their own, and data with its torrents.

use std::fs::{self, File};
use std::io::{Read, copy};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use torr_interop::metafile::Metafile;
use torr_interop::payload::{Empty, Payload, Random};

use super::wire::Shape;

/// Everything temporary is seen here, in this system tree and in the newer clients' own.
pub(crate) const WORK: &str = "/mnt";
pub(crate) const TRACKER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 18, 0, 2), 6969);
pub(crate) const RAW: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 18, 0, 3), 7000);
const SEED_PORT: u16 = 6881;
/// Small files are so long (`files-20000`).
const FILE_LENS: (u64, u64) = (4 << 10, 64 << 10);
/// Places where a download is compared with its origin.
const SAMPLES: u64 = 64;
const SAMPLE_LEN: usize = 64 << 10;

/// What a torrent is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Data {
    /// One file of so many bytes.
    Single(u64),
    /// So many files of 4 to 64 KiB.
    Many(u32),
}

/// Data on the disk, in the page cache, and its torrent.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) payload: Payload,
    /// Holds the payload as a client would have left it.
    pub(crate) folder: PathBuf,
    /// All bytes of the torrent in one file.
    pub(crate) image: PathBuf,
    pub(crate) torrent: PathBuf,
    pub(crate) shape: Shape,
}

/// The address of the lab's seed of this number: each in a network of its own, since clients limit peers by network.
pub(crate) fn seed_address(number: usize) -> SocketAddrV4 {
    let net = u8::try_from(10 + number).unwrap_or(u8::MAX);
    SocketAddrV4::new(Ipv4Addr::new(198, 18, net, 10), SEED_PORT)
}

/// Inside the sandbox: the loopback device, and the work folder in both trees.
pub(crate) fn prepare(scratch: &Path, unstable: &Path) -> Result<PathBuf> {
    run("ip", &["link", "set", "lo", "up"])?;
    // On a loopback device the whole network is local.
    run("ip", &["addr", "add", "198.18.0.1/15", "dev", "lo"])?;
    let work = PathBuf::from(WORK);
    let from = scratch.to_string_lossy();
    run("mount", &["--bind", &from, WORK])?;
    if unstable.join("usr").is_dir() {
        for folder in ["proc", "dev", "mnt"] {
            let to = unstable.join(folder);
            fs::create_dir_all(&to).with_context(|| format!("making {}", to.display()))?;
            let (from, to) = (format!("/{folder}"), to.to_string_lossy());
            run("mount", &["--rbind", &from, &to])?;
        }
    }
    Ok(work)
}

fn run(program: &str, args: &[&str]) -> Result<()> {
    let status = Command::new(program).args(args).status();
    let status = status.with_context(|| format!("running {program}"))?;
    ensure!(status.success(), "{program} {args:?}: {status}");
    Ok(())
}

/// Frees the room that a folder takes, if it is there, and moves it out of the way. Its files stay, without their bytes, until
/// the work folder goes: an ext4 without a journal gives away no inode that was freed in the last minutes, and looks at each of
/// those whenever a file is made. Twenty thousand files removed cost whoever makes the next ones eight seconds.
pub(crate) fn set_aside(folder: &Path, work: &Path) -> Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    empty(folder).with_context(|| format!("emptying {}", folder.display()))?;
    let aside = work.join("aside");
    fs::create_dir_all(&aside).with_context(|| format!("making {}", aside.display()))?;
    let count = fs::read_dir(&aside)?.count();
    fs::rename(folder, aside.join(count.to_string())).context("moving a folder aside")
}

fn empty(folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            empty(&entry.path())?;
        } else if kind.is_file() {
            File::create(entry.path())?;
        }
    }
    Ok(())
}

/// Makes the data anew.
pub(crate) fn make_data(work: &Path, data: Data) -> Result<Payload> {
    let folder = work.join("data");
    set_aside(&folder, work)?;
    let payload = match data {
        Data::Single(len) => Payload::single("payload", len),
        Data::Many(count) => Payload::many("payload", count, FILE_LENS.0, FILE_LENS.1),
    };
    payload.write(&folder.join("files"))?;
    if !payload.is_single() {
        join(&payload, &folder)?;
    }
    // What is written back later would take CPU time from somebody's run.
    run("sync", &["-f", &folder.to_string_lossy()])?;
    Ok(payload)
}

fn join(payload: &Payload, folder: &Path) -> Result<()> {
    let mut image = File::create(folder.join("image")).context("making the image")?;
    for spec in &payload.files {
        let mut file = File::open(payload.path(&folder.join("files"), spec))?;
        copy(&mut file, &mut image).context("copying into the image")?;
    }
    Ok(())
}

/// The torrent over the data.
pub(crate) fn stage(work: &Path, payload: &Payload, piece_len: u32) -> Result<Stage> {
    let folder = work.join("data/files");
    let out = work.join("torrents").join(piece_len.to_string());
    fs::create_dir_all(&out)?;
    let tracker = [format!("http://{TRACKER}/announce")];
    // This also brings the files into the page cache.
    let torrent = Metafile::write(payload, &folder, piece_len as usize, &tracker, &out)?;
    let image = match payload.is_single() {
        true => folder.join(&payload.name),
        false => work.join("data/image"),
    };
    read_through(&image)?;
    let shape = Shape {
        hash: torrent.hash,
        total: payload.total(),
        piece_len,
    };
    Ok(Stage {
        payload: payload.clone(),
        folder,
        image,
        torrent: torrent.path,
        shape,
    })
}

fn read_through(path: &Path) -> Result<()> {
    let mut file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let mut buffer = vec![0; 1 << 20];
    while file.read(&mut buffer)? > 0 {}
    Ok(())
}

/// Fails unless `data` holds the payload: many files byte for byte, a long one by its length and by samples.
pub(crate) fn verify(stage: &Stage, data: &Path) -> Result<()> {
    if !stage.payload.is_single() {
        return stage.payload.compare(&stage.folder, data, Empty::Required);
    }
    let path = data.join(&stage.payload.name);
    let got = File::open(&path).with_context(|| format!("opening {}", path.display()))?;
    let origin = File::open(&stage.image)?;
    let len = got.metadata()?.len();
    ensure!(len == stage.shape.total, "{len} bytes came");
    let (mut left, mut right) = (vec![0; SAMPLE_LEN], vec![0; SAMPLE_LEN]);
    let mut random = Random::new("samples", 0);
    for _ in 0..SAMPLES {
        let at = random.next() % len.saturating_sub(SAMPLE_LEN as u64).max(1);
        let part = SAMPLE_LEN.min(usize::try_from(len - at)?);
        got.read_exact_at(&mut left[..part], at)?;
        origin.read_exact_at(&mut right[..part], at)?;
        ensure!(left[..part] == right[..part], "wrong bytes after {at}");
    }
    Ok(())
}
