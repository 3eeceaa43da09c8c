//! The state directory of one torrent in one download folder: its lock, its .torrent, its have-log.
//!
//! ```text
//! STATE/torrents/<info-hash>-<which folder>/lock      flock, with the pid inside
//!                                           torrent   the .torrent, see `kept`
//!                                           torrent.sum
//!                                           log       the have-log
//!                                           log.end   its length, see `end`
//!                                           parts     see `tree`
//! ```

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{self, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use torr_base::{InfoHash, hex};
use torr_store::{StorageError, StorageErrorKind, StorageOp};

use crate::errno::{Sys, failed, refused};
use crate::hash::digest;
use crate::hook::{Call, Hook};
use crate::root::Root;
use crate::tree::retry;

/// Held for as long as the storage is open.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: OwnedFd,
}

const PRIVATE: Mode = Mode::from_bits_retain(0o600);
/// Where the states of all torrents are, inside the state directory.
pub(crate) const TORRENTS: &str = "torrents";

/// Where the state of a torrent is. `folder` is the download folder, with its links resolved as far as it
/// exists; `name` another top-level name than the torrent's own, which makes it another download.
pub(crate) fn state_path(
    state: &Path,
    info_hash: InfoHash,
    folder: &Path,
    name: Option<&str>,
) -> PathBuf {
    let mut key = folder.as_os_str().as_bytes().to_vec();
    key.push(0);
    key.extend_from_slice(name.unwrap_or_default().as_bytes());
    let which = digest(&key).0.to_be_bytes();
    let name = format!("{info_hash}-{}", hex(&which));
    state.join(TORRENTS).join(name)
}

/// Makes that directory if needed, and locks it.
///
/// # Errors
/// `Locked`, with the pid of the process that holds it.
pub(crate) fn enter(path: &Path, hook: &Hook) -> Result<(Root, Lock), StorageError> {
    let root = Root::create(path, hook.clone())?;
    let lock = take_lock(&root)?;
    Ok((root, lock))
}

fn take_lock(root: &Root) -> Result<Lock, StorageError> {
    let show = root.show("lock");
    let fail = |errno| failed(StorageOp::Lock, &show, errno);
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let dir = root.dir().map_err(fail)?;
    let file = fs::openat(&dir, "lock", flags, PRIVATE).map_err(fail)?;
    match fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            let mut pid = [0; 16];
            let len = rustix::io::pread(&file, &mut pid[..], 0).map_err(fail)?;
            let pid = String::from_utf8_lossy(&pid[..len]);
            let detail = match pid.trim() {
                "" => "another torr is at work on it".to_owned(),
                pid => format!("another torr (pid {pid}) is at work on it"),
            };
            return Err(refused(
                StorageErrorKind::Locked,
                StorageOp::Lock,
                &root.show(""),
                detail,
            ));
        }
        Err(errno) => return Err(fail(errno)),
    }
    fs::ftruncate(&file, 0).map_err(fail)?;
    write_all(&file, format!("{}\n", std::process::id()).as_bytes(), 0).map_err(fail)?;
    Ok(Lock { _file: file })
}

/// Puts a whole file in the place of whatever has that name; at every moment one of the two is there,
/// whole. Its directory is not synced.
pub(crate) fn replace(root: &Root, name: &str, bytes: &[u8]) -> Result<OwnedFd, StorageError> {
    let fail = |errno| failed(StorageOp::Log, &root.show(name), errno);
    let new = format!("{name}.new");
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let dir = root.dir().map_err(fail)?;
    let file = fs::openat(&dir, new.as_str(), flags, PRIVATE).map_err(fail)?;
    root.hook().ask(Call::LogWrite, name).map_err(fail)?;
    write_all(&file, bytes, 0).map_err(fail)?;
    root.hook().ask(Call::LogSync, name).map_err(fail)?;
    fs::fdatasync(&file).map_err(fail)?;
    fs::renameat(&dir, new.as_str(), &dir, name).map_err(fail)?;
    Ok(file)
}

/// What a file holds, but no more than so many bytes of it.
pub(crate) fn read_all(file: &OwnedFd, len_max: u64) -> Sys<Vec<u8>> {
    let len = (fs::fstat(file)?.st_size as u64).min(len_max);
    let mut bytes = vec![0; len as usize];
    let mut done = 0;
    while done < bytes.len() {
        match retry(|| rustix::io::pread(file, &mut bytes[done..], done as u64))? {
            0 => break,
            got => done += got,
        }
    }
    bytes.truncate(done);
    Ok(bytes)
}

pub(crate) fn write_all(file: &OwnedFd, mut bytes: &[u8], mut offset: u64) -> Sys<()> {
    while !bytes.is_empty() {
        match retry(|| rustix::io::pwrite(file, bytes, offset))? {
            0 => return Err(Errno::IO),
            done => {
                bytes = &bytes[done..];
                offset += done as u64;
            }
        }
    }
    Ok(())
}

/// `path` made absolute, with the links in the part of it that exists resolved, so that one folder has
/// one state whatever it is called by.
pub(crate) fn resolve(path: &Path) -> Result<PathBuf, StorageError> {
    let fail = |error: std::io::Error| {
        let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
        failed(StorageOp::Open, &path.to_string_lossy(), errno)
    };
    let absolute = std::path::absolute(path).map_err(fail)?;
    let mut there = absolute.as_path();
    let mut rest = Vec::new();
    loop {
        match there.canonicalize() {
            Ok(mut found) => {
                found.extend(rest.iter().rev());
                return Ok(found);
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                match (there.parent(), there.file_name()) {
                    (Some(parent), Some(name)) => {
                        rest.push(name);
                        there = parent;
                    }
                    _ => return Ok(absolute),
                }
            }
            Err(error) => return Err(fail(error)),
        }
    }
}
