//! torr's disk in this process: open, commit, close, one job at a time.

use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use torr_base::{BLOCK_LEN, PieceIndex};
use torr_disk::{Disk, DiskConfig, OnExisting, Opened, StorageSpec};
use torr_metainfo::Info;
use torr_store::{
    BlockBuf, BlockPool, BufSource as _, DiskDone, DiskJob, DiskResult, DiskTask, HashState, JobId,
    PieceCommit, StorageId,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// A disk, and storages that are opened one after another.
pub struct Keep {
    disk: Disk,
    answers: Receiver<DiskDone<BlockBuf>>,
    pool: BlockPool,
    id: u64,
}

impl std::fmt::Debug for Keep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keep").finish_non_exhaustive()
    }
}

impl Default for Keep {
    fn default() -> Self {
        let (sender, answers) = channel();
        let sender = Mutex::new(sender);
        let config = DiskConfig {
            workers: 2,
            ..DiskConfig::default()
        };
        let disk = Disk::start(config, move |done| {
            if let Ok(sender) = sender.lock() {
                let _ = sender.send(done);
            }
        });
        Self {
            disk,
            answers,
            pool: BlockPool::with_bytes(64 << 20),
            id: 0,
        }
    }
}

impl Keep {
    /// # Errors
    /// What the storage says, as its own error.
    pub fn open(&mut self, spec: StorageSpec) -> Result<Opened> {
        self.id += 1;
        let (sender, receiver) = channel();
        self.disk.open(
            StorageId(self.id),
            spec,
            |_| {},
            move |opened| {
                let _ = sender.send(opened);
            },
        );
        Ok(receiver.recv_timeout(PATIENCE).context("opening")??)
    }

    fn ask(&self, task: DiskTask<BlockBuf>) -> Result<DiskResult<BlockBuf>> {
        let (storage, job) = (StorageId(self.id), JobId(0));
        self.disk.submit(DiskJob { storage, job, task });
        let done = self.answers.recv_timeout(PATIENCE);
        Ok(done.context("an answer of the disk")?.result)
    }

    /// Writes a whole piece to the storage that was opened last.
    pub fn commit(&mut self, piece: PieceIndex, bytes: &[u8]) -> Result<()> {
        let mut blocks = Vec::new();
        for part in bytes.chunks(BLOCK_LEN as usize) {
            let mut buf = self.pool.take().context("a buffer")?;
            buf.as_mut()
                .get_mut(..part.len())
                .context("a block")?
                .copy_from_slice(part);
            blocks.push(buf);
        }
        let commit = PieceCommit {
            piece,
            blocks,
            hashed: HashState::default(),
            digests: false,
        };
        let pieces = vec![commit];
        let DiskResult::Committed { pieces } = self.ask(DiskTask::Commit {
            pieces,
            soon: false,
        })?
        else {
            bail!("the answer to something else");
        };
        for done in pieces {
            ensure!(done.result.is_ok(), "a piece: {:?}", done.result);
            done.blocks.into_iter().for_each(|buf| self.pool.put(buf));
        }
        Ok(())
    }

    /// Ends the storage that was opened last, in good order.
    pub fn close(&self) -> Result<()> {
        let DiskResult::Closed(result) = self.ask(DiskTask::Close)? else {
            bail!("the answer to something else");
        };
        Ok(result?)
    }
}

/// A torrent in a download folder, as torr opens it without any options.
pub fn spec(info: &Arc<Info>, torrent: Arc<[u8]>, root: &Path, state: &Path) -> StorageSpec {
    StorageSpec {
        info: Arc::clone(info),
        root: root.to_owned(),
        name: None,
        state_dir: state.to_owned(),
        torrent_bytes: torrent,
        wanted: Vec::new(),
        preallocate: false,
        on_existing: OnExisting::Adopt,
        recheck: false,
        trust: false,
    }
}
