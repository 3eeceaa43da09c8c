//! Block devices whose every write is recorded, so that the power can be cut at any of them afterwards.
//!
//! A [`Rack`] is a folder of files that this process serves to the kernel (FUSE). A file system image in such a file,
//! mounted through a loop device, is a disk that writes down what it is told: each write with its bytes, and each flush,
//! of all disks in one order. What the disks hold after a power cut is made from that: all writes up to the last flush,
//! and any choice of those that came after it, since a disk may keep them in its cache in whatever order it likes.
//!
//! - A cut is atomic over all disks, whatever the copying of one takes.
//! - What is done on a disk after a cut is taken back by the next one.
//! - Files end with the process: mounts in a namespace of their own go with it.

mod record;
mod wire;

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use torr_base::Rng;

use record::Disks;
pub use record::{Cache, Moment};
use wire::{Answer, IN_HEADER, Request, WRITE_MAX};

const ENOENT: i32 = 2;
const EIO: i32 = 5;
const ENOSYS: i32 = 38;

/// Disks in files that are served to the kernel.
#[derive(Debug)]
pub struct Rack {
    dir: PathBuf,
    disks: Arc<Mutex<Disks>>,
}

impl Rack {
    /// Serves a file for each of `images`, which are the disks' contents, in the folder `dir`, which it makes.
    ///
    /// # Errors
    /// Where the kernel has no FUSE, or this process may not mount.
    pub fn new(dir: &Path, images: Vec<Vec<u8>>) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let fuse = File::options()
            .read(true)
            .write(true)
            .open("/dev/fuse")
            .context("opening /dev/fuse")?;
        let options = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0",
            fuse.as_raw_fd()
        );
        let options = std::ffi::CString::new(options)?;
        mount(
            "torr-survive",
            dir,
            "fuse",
            MountFlags::NODEV | MountFlags::NOSUID,
            Some(options.as_c_str()),
        )
        .context("mounting a folder of disks")?;
        let disks = Arc::new(Mutex::new(Disks::new(images)));
        let served = Arc::clone(&disks);
        std::thread::Builder::new()
            .name("disks".to_owned())
            .spawn(move || serve(fuse, &served))?;
        Ok(Self {
            dir: dir.to_owned(),
            disks,
        })
    }

    /// The file of a disk.
    pub fn path(&self, disk: usize) -> PathBuf {
        self.dir.join(disk.to_string())
    }

    /// From here on what is written is written down.
    pub fn record(&self) {
        lock(&self.disks).record();
    }

    /// What was written down: when each write and flush came.
    pub fn moments(&self) -> Vec<Moment> {
        lock(&self.disks).moments()
    }

    /// Makes the disks what they are when the power goes after the first `events` of what was written down.
    /// Nothing may be mounted from them. Later cuts must not be earlier moments.
    pub fn cut(&self, events: usize, cache: Cache, rng: &mut Rng) {
        lock(&self.disks).cut(events, cache, rng);
    }
}

impl Drop for Rack {
    fn drop(&mut self) {
        // Its thread ends with the mount.
        let _ = unmount(&self.dir, UnmountFlags::DETACH);
    }
}

fn lock(disks: &Mutex<Disks>) -> MutexGuard<'_, Disks> {
    disks.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(mut fuse: File, disks: &Mutex<Disks>) {
    let mut request = vec![0; WRITE_MAX as usize + 4096];
    let mut answer = Answer::default();
    loop {
        let len = match fuse.read(&mut request) {
            Ok(0) => return,
            Ok(len) => len,
            // Interrupted, or the request was taken back.
            Err(error) if matches!(error.raw_os_error(), Some(2 | 4 | 11)) => continue,
            Err(_) => return,
        };
        debug_assert!(len >= IN_HEADER);
        let Some((unique, request)) = request.get(..len).and_then(wire::read) else {
            continue;
        };
        if matches!(request, Request::Silent) {
            continue;
        }
        answer.begin();
        let errno = reply(&request, &mut lock(disks), &mut answer);
        // Who asked may be gone.
        let _ = fuse.write(answer.end(unique, errno));
    }
}

fn reply(request: &Request<'_>, disks: &mut Disks, answer: &mut Answer) -> i32 {
    // Node 1 is the folder, disk n is node n + 2.
    let disk = |node: u64| (node.saturating_sub(2)) as usize;
    match request {
        Request::Init => answer.init(),
        Request::Lookup(name) => {
            let number = std::str::from_utf8(name).ok().and_then(|n| n.parse().ok());
            let Some((number, len)) = number.and_then(|n: usize| Some((n, disks.len(n)?))) else {
                return ENOENT;
            };
            answer.entry(number as u64 + 2, len);
        }
        Request::Attributes(1) => answer.attributes(1, 0),
        Request::Attributes(node) => match disks.len(disk(*node)) {
            Some(len) => answer.attributes(*node, len),
            None => return ENOENT,
        },
        Request::Open => answer.open(),
        Request::Read { node, at, len } => match disks.read(disk(*node), *at, *len) {
            Some(bytes) => answer.bytes(bytes),
            None => return EIO,
        },
        Request::Write { node, at, data } => match disks.write(disk(*node), *at, data) {
            Some(()) => answer.written(data.len()),
            None => return EIO,
        },
        Request::Sync(node) => disks.flush(disk(*node)),
        Request::Space => answer.space(),
        Request::Fine | Request::Silent => {}
        Request::Unknown => return ENOSYS,
    }
    0
}
