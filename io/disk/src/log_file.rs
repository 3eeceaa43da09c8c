//! The have-log as a file: read whole at the start, appended to, and now and then written anew.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{self, Mode, OFlags};
use rustix::io::Errno;
use torr_store::{
    Damage, FRAME_LEN, LogError, LogHeader, LogImage, Record, StorageError, StorageErrorKind,
    StorageOp, encode_record, read_log,
};

use crate::end::{END_NAME, End, read_end, write_end};
use crate::errno::{Sys, failed, refused};
use crate::hook::{Call, Hook};
use crate::root::Root;
use crate::state::{read_all, replace, write_all};

pub(crate) const LOG_NAME: &str = "log";
/// Where an unreadable log is put aside.
const BAD_NAME: &str = "log.bad";
/// No log of ours gets near this; a longer file is read no further.
const LOG_LEN_MAX: u64 = 1 << 30;

/// What was found in the state directory.
#[derive(Debug)]
pub(crate) enum Found {
    Nothing,
    /// A file that is no log of this torrent; it was put aside under the name given.
    Rubbish(LogError, &'static str),
    Log(Box<LogImage>, Damage),
}

/// The path of what was damaged beside the log.
pub(crate) type EndDamaged = Option<String>;

/// Reads the log of a state directory.
///
/// # Errors
/// Where it cannot be read, or a newer torr wrote it.
pub(crate) fn find(state: &Root, header: &LogHeader) -> Result<(Found, EndDamaged), StorageError> {
    let show = state.show(LOG_NAME);
    let fail = |errno| failed(StorageOp::Log, &show, errno);
    let file = match state.open_file(LOG_NAME, false) {
        Err(Errno::NOENT) => return Ok((Found::Nothing, None)),
        other => other.map_err(fail)?,
    };
    let bytes = read_all(&file, LOG_LEN_MAX).map_err(fail)?;
    match read_log(&bytes, header) {
        Ok((image, mut damage)) => {
            let mut end_damaged = None;
            match read_end(state, &file) {
                End::Unknown => {}
                End::Damaged => {
                    write_end(state, &file, 0);
                    end_damaged = Some(state.show(END_NAME));
                }
                End::Frames(frames) => damage.cut_frames = frames.saturating_sub(image.frames()),
            }
            Ok((Found::Log(Box::new(image), damage), end_damaged))
        }
        Err(error @ LogError::OtherVersion(_)) => Err(refused(
            StorageErrorKind::Io,
            StorageOp::Log,
            &show,
            error.to_string(),
        )),
        Err(error) => {
            let dir = state.dir().map_err(fail)?;
            fs::renameat(&dir, LOG_NAME, &dir, BAD_NAME).map_err(fail)?;
            Ok((Found::Rubbish(error, BAD_NAME), None))
        }
    }
}

/// A log that is being written. Everything in `image` is in the file, and the reverse.
#[derive(Debug)]
pub(crate) struct LogFile {
    image: LogImage,
    /// `None` until the first record, since a torrent that only reads leaves its log alone, and while nothing is
    /// written: of thousands of idle torrents none holds a descriptor.
    fd: Option<Arc<OwnedFd>>,
    /// Whether this process has said that it writes.
    session: bool,
    root: (u64, u64),
    hook: Hook,
    show: String,
    /// Scratch memory for frames.
    bytes: Vec<u8>,
}

impl LogFile {
    /// `root` is the identity of the download folder.
    pub(crate) fn new(image: LogImage, state: &Root, root: (u64, u64)) -> Self {
        Self {
            image,
            fd: None,
            session: false,
            root,
            hook: state.hook().clone(),
            show: state.show(LOG_NAME),
            bytes: Vec::new(),
        }
    }

    pub(crate) fn image(&self) -> &LogImage {
        &self.image
    }

    /// Whether this process wrote to it.
    pub(crate) fn in_session(&self) -> bool {
        self.session
    }

    /// Appends records; all of them count, or none.
    pub(crate) fn append(&mut self, state: &Root, records: &[Record]) -> Result<(), StorageError> {
        if !self.session {
            let (file_system, inode) = self.root;
            let boot = boot_id();
            self.write(
                state,
                &[
                    Record::Session { boot },
                    Record::Root { file_system, inode },
                ],
            )?;
            self.session = true;
        }
        self.write(state, records)
    }

    fn write(&mut self, state: &Root, records: &[Record]) -> Result<(), StorageError> {
        let fail = |errno| failed(StorageOp::Log, &self.show, errno);
        let fd = match &self.fd {
            Some(fd) => fd,
            None => self.fd.insert(open_or_make(state, &mut self.image)?),
        };
        let at = self.image.frames();
        self.bytes.clear();
        for (frame, record) in (at..).zip(records) {
            encode_record(record, frame, &mut self.bytes);
        }
        let offset = at * FRAME_LEN as u64;
        let asked = self.hook.ask(Call::LogWrite, LOG_NAME);
        if let Err(errno) = asked.and_then(|()| write_all(fd, &self.bytes, offset)) {
            // What got there is no record. If it cannot be cut off, the next append writes over it.
            let _ = fs::ftruncate(&**fd, offset);
            return Err(fail(errno));
        }
        for record in records {
            let fits = self.image.apply(record);
            debug_assert!(fits, "{record:?}");
        }
        Ok(())
    }

    /// What to sync to make the log durable; may be done while others append.
    pub(crate) fn handle(&self) -> Option<Arc<OwnedFd>> {
        self.fd.clone()
    }

    /// Opens what is there, where [`Self::rest`] closed it.
    pub(crate) fn wake(&mut self, state: &Root) -> Sys<()> {
        if self.fd.is_none() && self.image.frames() > 0 {
            self.fd = Some(open_log(state)?);
        }
        Ok(())
    }

    /// Holds no descriptor until the next record. Whoever calls it knows that all of it was synced.
    pub(crate) fn rest(&mut self) {
        self.fd = None;
    }

    /// Writes the same facts, after `records`, as a shorter log, durably.
    ///
    /// Whoever calls it knows that the pieces which `image().durable()` names are durable in fact.
    pub(crate) fn rewrite(&mut self, state: &Root, records: &[Record]) -> Result<(), StorageError> {
        let mut facts = self.image.clone();
        for record in records {
            let fits = facts.apply(record);
            debug_assert!(fits, "{record:?}");
        }
        let (image, bytes) = facts.rewrite(&facts.compact());
        let fd = replace(state, LOG_NAME, &bytes)?;
        self.image = image;
        write_end(state, &fd, self.image.frames());
        self.fd = Some(Arc::new(fd));
        state
            .sync_folder("")
            .map_err(|errno| failed(StorageOp::Log, &self.show, errno))
    }

    /// Makes what was appended durable, and notes how much that is.
    pub(crate) fn sync(&self, state: &Root) -> Result<(), StorageError> {
        let Some(log) = &self.fd else {
            return Ok(());
        };
        sync_log(log, state)?;
        write_end(state, log, self.image.frames());
        Ok(())
    }
}

pub(crate) fn sync_log(log: &OwnedFd, state: &Root) -> Result<(), StorageError> {
    let synced = state.hook().ask(Call::LogSync, LOG_NAME);
    synced
        .and_then(|()| fs::fdatasync(log))
        .map_err(|errno| failed(StorageOp::Log, &state.show(LOG_NAME), errno))
}

fn open_or_make(state: &Root, image: &mut LogImage) -> Result<Arc<OwnedFd>, StorageError> {
    let fail = |errno| failed(StorageOp::Log, &state.show(LOG_NAME), errno);
    if image.frames() > 0 {
        return open_log(state).map_err(fail);
    }
    let (made, bytes) = image.rewrite(&[image.header(), image.header()]);
    let fd = replace(state, LOG_NAME, &bytes)?;
    state.sync_folder("").map_err(fail)?;
    *image = made;
    Ok(Arc::new(fd))
}

fn open_log(state: &Root) -> Sys<Arc<OwnedFd>> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let fd = fs::openat(state.dir()?, LOG_NAME, flags, Mode::empty())?;
    Ok(Arc::new(fd))
}

/// Which boot of the machine this is: what was written under the same one is in the page cache at
/// least. Zeros where nobody tells.
pub(crate) fn boot_id() -> [u8; 16] {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: Vec<u8> = text
        .chars()
        .filter_map(|c| c.to_digit(16).map(|d| d as u8))
        .collect();
    let mut id = [0; 16];
    for (byte, pair) in id.iter_mut().zip(digits.as_chunks::<2>().0) {
        *byte = pair[0] << 4 | pair[1];
    }
    id
}
