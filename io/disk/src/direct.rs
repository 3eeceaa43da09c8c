//! Writing past the page cache (`O_DIRECT`), where file system, offset and memory allow it: copying a
//! block into a page and writing that page out later costs more than all else that is done to it.
//!
//! What goes this way has to be read from the device again. So it is for pieces that nobody is likely to
//! ask for soon; whoever writes says so.

use std::io::IoSlice;
use std::os::fd::OwnedFd;

use rustix::fs;
use rustix::io::Errno;
use torr_store::{StorageError, StorageOp};

use crate::cache::{OpenFile, PARTS};
use crate::errno::{Sys, failed_at};
use crate::hook::Call;
use crate::tree::{Source, Tree, retry};

/// What offsets, lengths and addresses are a multiple of. Devices that want more refuse, and then the page cache serves.
/// Most take less for addresses, and then are slow: see [`torr_store::BlockPool`].
const ALIGN: usize = 4096;
/// Blocks in one call: a piece of 4 MiB goes out in one.
const CALL_SLICES: usize = 256;
/// Shorter runs cost more in calls than they save in copies.
const LEN_MIN: u64 = 64 * 1024;
/// Smaller files are not worth a second descriptor.
const FILE_MIN: u64 = 1 << 20;

impl Tree {
    /// Writes as much of the next `len` bytes of `source` as may go past the page cache; tells how much.
    /// What is left is for the page cache.
    pub(crate) fn write_direct(
        &self,
        file: u32,
        open: &OpenFile,
        offset: u64,
        len: u64,
        source: &mut Source<'_>,
    ) -> Result<u64, StorageError> {
        let len = if file == PARTS {
            0
        } else {
            len - len % ALIGN as u64
        };
        if len < LEN_MIN || !offset.is_multiple_of(ALIGN as u64) || self.plan.len(file) < FILE_MIN {
            return Ok(0);
        }
        let Some(fd) = open.direct(|| self.open_direct(file, open)) else {
            return Ok(0);
        };
        let file_len = self.plan.len(file);
        open.reserved.reserve(fd, offset, len, file_len);
        let mut done = 0;
        while done < len {
            let mut slices = [IoSlice::new(&[]); CALL_SLICES];
            let used = source.gather(&mut slices, len - done);
            let aligned = |slice: &IoSlice<'_>| {
                slice.as_ptr().addr().is_multiple_of(ALIGN) && slice.len().is_multiple_of(ALIGN)
            };
            if !slices[..used].iter().all(aligned) {
                return Ok(done);
            }
            let hook = self.root.hook();
            let written = hook
                .ask_with(Call::Write, || self.name(file))
                .and_then(|()| retry(|| rustix::io::pwritev(fd, &slices[..used], offset + done)));
            match written {
                // It cannot be done here after all: the rest goes the usual way, and says what is wrong.
                Ok(0) | Err(Errno::INVAL | Errno::OPNOTSUPP) => {
                    open.give_up_direct();
                    return Ok(done);
                }
                Ok(written) => {
                    source.skip(written as u64);
                    done += written as u64;
                    if !written.is_multiple_of(ALIGN) {
                        return Ok(done);
                    }
                }
                Err(errno) => {
                    let at = offset + done;
                    let show = self.show(file);
                    return Err(failed_at(StorageOp::Write, &show, at, errno));
                }
            }
        }
        Ok(done)
    }

    /// The same file once more, in a way that goes past the page cache. G6: it is opened as the first one
    /// was, and must be the very same.
    fn open_direct(&self, file: u32, open: &OpenFile) -> Sys<OwnedFd> {
        let fd = self.root.open_direct(&self.plan.name(file))?;
        let (one, other) = (fs::fstat(&open.fd)?, fs::fstat(&fd)?);
        if (one.st_dev, one.st_ino) != (other.st_dev, other.st_ino) {
            return Err(Errno::STALE);
        }
        Ok(fd)
    }
}
