//! A torrent with known bytes, a disk to put it on, and folders that vanish with the test.
#![allow(dead_code, reason = "each test file uses its own part of it")]
#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sha1::{Digest as _, Sha1};
use torr_base::{BLOCK_LEN, Geometry, PieceIndex, RawBlock, Rng};
use torr_disk::{Call, Disk, DiskConfig, Hook, Opened, StorageSpec};
use torr_metainfo::{Draft, DraftFile, DraftFiles, FileAttrs, Info, Metainfo};
use torr_store::{
    BlockBuf, BlockPool, BufSource, CommitError, Committed, DiskDone, DiskJob, DiskResult,
    DiskTask, JobId, LoadError, PieceCommit, SpillBlock, StorageError, StorageId,
};

/// No answer takes longer than this.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder that is removed with all that is in it.
pub(crate) struct TempDir(pub(crate) PathBuf);

impl TempDir {
    pub(crate) fn new() -> Self {
        Self::below(&std::env::temp_dir())
    }

    /// In memory if the system has a place for that: removing thousands of synced files is slow.
    pub(crate) fn in_memory() -> Self {
        let shm = Path::new("/dev/shm");
        if shm.is_dir() {
            Self::below(shm)
        } else {
            Self::new()
        }
    }

    fn below(parent: &Path) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("torr-disk-test-{}-{n}", std::process::id());
        let path = parent.join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path.canonicalize().unwrap())
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A torrent and all of its bytes.
#[derive(Clone)]
pub(crate) struct Sample {
    pub(crate) info: Arc<Info>,
    pub(crate) torrent: Arc<[u8]>,
    pub(crate) bytes: Arc<Vec<u8>>,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum F {
    Plain(&'static str, u64),
    Pad(u64),
    Exec(&'static str, u64),
}

impl Sample {
    pub(crate) fn single(name: &str, len: u64, piece_len: u32) -> Self {
        Self::make(name, DraftFiles::Single(len), piece_len, |_| false)
    }

    /// A folder "top" with these files.
    pub(crate) fn folder(files: &[F], piece_len: u32) -> Self {
        let files: Vec<DraftFile> = files
            .iter()
            .map(|file| {
                let (path, len, pad, executable) = match *file {
                    F::Plain(path, len) => (path, len, false, false),
                    F::Exec(path, len) => (path, len, false, true),
                    F::Pad(len) => (".pad/1", len, true, false),
                };
                DraftFile {
                    path: path.split('/').map(str::to_owned).collect(),
                    len,
                    attrs: FileAttrs {
                        pad,
                        executable,
                        ..FileAttrs::default()
                    },
                }
            })
            .collect();
        let pads: Vec<bool> = files.iter().map(|file| file.attrs.pad).collect();
        Self::make("top", DraftFiles::Folder(files), piece_len, |i| pads[i])
    }

    pub(crate) fn make(
        name: &str,
        files: DraftFiles,
        piece_len: u32,
        is_pad: impl Fn(usize) -> bool,
    ) -> Self {
        let lens: Vec<u64> = match &files {
            DraftFiles::Single(len) => vec![*len],
            DraftFiles::Folder(files) => files.iter().map(|file| file.len).collect(),
        };
        let mut bytes = Vec::new();
        let mut rng = Rng::new(77);
        for (i, len) in lens.iter().enumerate() {
            let mut part = vec![0; *len as usize];
            if !is_pad(i) {
                rng.fill(&mut part);
            }
            bytes.extend(part);
        }
        let hashes = bytes
            .chunks(piece_len as usize)
            .flat_map(|piece| <[u8; 20]>::from(Sha1::digest(piece)))
            .collect();
        let draft = Draft {
            name: name.to_owned(),
            files,
            piece_len,
            hashes,
            ..Draft::default()
        };
        let torrent = draft.encode().unwrap();
        Self::from_torrent(&torrent, bytes)
    }

    pub(crate) fn from_torrent(torrent: &[u8], bytes: Vec<u8>) -> Self {
        let metainfo = Metainfo::parse(torrent).unwrap();
        Self {
            info: Arc::clone(metainfo.info()),
            torrent: torrent.into(),
            bytes: Arc::new(bytes),
        }
    }

    pub(crate) fn geometry(&self) -> Geometry {
        self.info.geometry()
    }

    pub(crate) fn piece(&self, piece: u32) -> &[u8] {
        let g = self.geometry();
        let piece = PieceIndex::new(piece);
        let start = g.piece_start(piece) as usize;
        &self.bytes[start..start + g.piece_len(piece) as usize]
    }

    pub(crate) fn all(&self) -> Vec<u32> {
        (0..self.geometry().piece_count()).collect()
    }

    /// Path below the download folder and right content of each file that is not padding.
    pub(crate) fn files(&self) -> Vec<(String, Vec<u8>)> {
        self.info
            .files()
            .filter(|file| !file.attrs.pad && !file.attrs.symlink)
            .map(|file| {
                let bytes = &self.bytes[file.offset as usize..(file.offset + file.len) as usize];
                (self.info.layout().path(file.index).unwrap(), bytes.to_vec())
            })
            .collect()
    }

    pub(crate) fn assert_complete(&self, folder: &Path) {
        for (name, bytes) in self.files() {
            let found = std::fs::read(folder.join(&name)).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert!(found == bytes, "{name} is not what it should be");
        }
    }
}

/// A disk with one storage open at a time, and answers that are waited for.
pub(crate) struct Rig {
    pub(crate) disk: Disk,
    answers: Receiver<DiskDone<BlockBuf>>,
    pub(crate) pool: Mutex<BlockPool>,
    id: u64,
    job: AtomicU64,
}

/// Nothing is marked unless it is asked for.
pub(crate) fn lazy() -> DiskConfig {
    DiskConfig {
        mark_after: Duration::from_secs(3600),
        mark_bytes: u64::MAX,
        unmarked_bytes_max: u64::MAX,
        ..DiskConfig::default()
    }
}

/// Calls of that kind fail with that number while `armed` is not zero.
pub(crate) fn failing(kind: Call, armed: &Arc<AtomicI32>) -> DiskConfig {
    let armed = Arc::clone(armed);
    let hook = Hook::new(move |call, _| {
        let errno = armed.load(Ordering::SeqCst);
        (call == kind && errno != 0).then_some(errno)
    });
    DiskConfig { hook, ..lazy() }
}

impl Rig {
    pub(crate) fn new(config: DiskConfig) -> Self {
        let (sender, answers) = channel();
        let sender = Mutex::new(sender);
        let disk = Disk::start(config, move |done| {
            let _ = sender.lock().unwrap().send(done);
        });
        Self {
            disk,
            answers,
            pool: Mutex::new(BlockPool::with_bytes(1 << 30)),
            id: 0,
            job: AtomicU64::new(0),
        }
    }

    pub(crate) fn id(&self) -> StorageId {
        StorageId(self.id)
    }

    pub(crate) fn open(&mut self, spec: StorageSpec) -> Result<Opened, StorageError> {
        self.id += 1;
        let (sender, receiver) = channel();
        self.disk.open(
            self.id(),
            spec,
            |_| {},
            move |opened| {
                let _ = sender.send(opened);
            },
        );
        receiver.recv_timeout(PATIENCE).unwrap()
    }

    pub(crate) fn submit(&self, task: DiskTask<BlockBuf>) -> JobId {
        let job = JobId(self.job.fetch_add(1, Ordering::Relaxed));
        let storage = self.id();
        self.disk.submit(DiskJob { storage, job, task });
        job
    }

    pub(crate) fn answer(&self) -> DiskDone<BlockBuf> {
        self.answers.recv_timeout(PATIENCE).unwrap()
    }

    pub(crate) fn ask(&self, task: DiskTask<BlockBuf>) -> DiskResult<BlockBuf> {
        let job = self.submit(task);
        let done = self.answer();
        assert_eq!(done.job, job);
        done.result
    }

    pub(crate) fn blocks(&self, bytes: &[u8]) -> Vec<BlockBuf> {
        let mut pool = self.pool.lock().unwrap();
        bytes
            .chunks(BLOCK_LEN as usize)
            .map(|part| {
                let mut buf = pool.take().unwrap();
                buf.as_mut()[..part.len()].copy_from_slice(part);
                buf
            })
            .collect()
    }

    pub(crate) fn put_back(&self, blocks: Vec<BlockBuf>) {
        let mut pool = self.pool.lock().unwrap();
        blocks.into_iter().for_each(|buf| pool.put(buf));
    }

    pub(crate) fn commit_bytes(
        &self,
        pieces: &[(u32, &[u8])],
        digests: bool,
    ) -> Vec<Committed<BlockBuf>> {
        let pieces = pieces
            .iter()
            .map(|(piece, bytes)| PieceCommit {
                piece: PieceIndex::new(*piece),
                hashed: torr_store::HashState::default(),
                blocks: self.blocks(bytes),
                digests,
            })
            .collect();
        let DiskResult::Committed { mut pieces } =
            self.ask(DiskTask::Commit { pieces, soon: true })
        else {
            panic!("the answer to something else");
        };
        for piece in &mut pieces {
            self.put_back(std::mem::take(&mut piece.blocks));
        }
        pieces
    }

    /// Commits right pieces, several a job, and tells the first thing that went wrong.
    pub(crate) fn commit(&self, sample: &Sample, pieces: &[u32]) -> Result<(), CommitError> {
        for some in pieces.chunks(8) {
            let some: Vec<_> = some.iter().map(|p| (*p, sample.piece(*p))).collect();
            for done in self.commit_bytes(&some, false) {
                done.result?;
            }
        }
        Ok(())
    }

    pub(crate) fn load(&self, range: RawBlock) -> Result<Vec<u8>, StorageError> {
        let buf = self.pool.lock().unwrap().take().unwrap();
        let DiskResult::Loaded {
            range: got,
            buf,
            result,
        } = self.ask(DiskTask::Load { range, buf })
        else {
            panic!("the answer to something else");
        };
        assert_eq!(got, range);
        let bytes = buf.as_ref()[..range.len as usize].to_vec();
        self.put_back(vec![buf]);
        match result {
            Ok(()) => Ok(bytes),
            Err(LoadError::Storage(error)) => Err(error),
            Err(LoadError::Lost) => panic!("{range:?} is of a piece that was changed"),
        }
    }

    /// Whether a piece whose files were changed is right still.
    pub(crate) fn recheck(&self, piece: u32) -> Result<(), LoadError> {
        let piece = PieceIndex::new(piece);
        let DiskResult::Rechecked { piece: got, result } = self.ask(DiskTask::Recheck { piece })
        else {
            panic!("the answer to something else");
        };
        assert_eq!(got, piece);
        result
    }

    pub(crate) fn load_piece(&self, sample: &Sample, piece: u32) -> Result<Vec<u8>, StorageError> {
        let g = sample.geometry();
        let piece = PieceIndex::new(piece);
        let mut out = Vec::new();
        for index in 0..g.block_count(piece) {
            out.extend(self.load(g.block_at(piece, index).raw())?);
        }
        Ok(out)
    }

    pub(crate) fn spill(
        &self,
        sample: &Sample,
        piece: u32,
        blocks: &[u32],
    ) -> Result<(), StorageError> {
        let g = sample.geometry();
        let blocks = blocks
            .iter()
            .map(|index| {
                let block = g.block_at(PieceIndex::new(piece), *index);
                let bytes = &sample.piece(piece)[block.offset() as usize..][..block.len as usize];
                let buf = self.blocks(bytes).remove(0);
                SpillBlock { block, buf }
            })
            .collect();
        let DiskResult::Spilled { blocks, result } = self.ask(DiskTask::Spill { blocks }) else {
            panic!("the answer to something else");
        };
        self.put_back(blocks.into_iter().map(|spill| spill.buf).collect());
        result
    }

    pub(crate) fn verify(&self, piece: u32, digests: bool) -> Committed<BlockBuf> {
        let piece = PieceIndex::new(piece);
        let DiskResult::Verified(done) = self.ask(DiskTask::Verify { piece, digests }) else {
            panic!("the answer to something else");
        };
        done
    }

    pub(crate) fn sync(&self) -> Result<(), StorageError> {
        let DiskResult::Synced(result) = self.ask(DiskTask::Sync) else {
            panic!("the answer to something else");
        };
        result
    }

    pub(crate) fn close(&self) -> Result<(), StorageError> {
        let DiskResult::Closed(result) = self.ask(DiskTask::Close) else {
            panic!("the answer to something else");
        };
        result
    }
}

/// Into `dir/out`, with the state in `dir/state`.
pub(crate) fn spec(sample: &Sample, dir: &TempDir) -> StorageSpec {
    StorageSpec {
        info: Arc::clone(&sample.info),
        root: dir.join("out"),
        name: None,
        state_dir: dir.join("state"),
        torrent_bytes: Arc::clone(&sample.torrent),
        wanted: Vec::new(),
        preallocate: false,
        on_existing: torr_disk::OnExisting::Adopt,
        recheck: false,
        trust: false,
    }
}

/// The only state directory of that test.
pub(crate) fn state_of(dir: &TempDir) -> PathBuf {
    let mut found = std::fs::read_dir(dir.join("state/torrents")).unwrap();
    let first = found.next().unwrap().unwrap().path();
    assert!(found.next().is_none());
    first
}

pub(crate) fn numbers(have: &torr_base::Bitfield) -> Vec<u32> {
    have.iter().map(PieceIndex::get).collect()
}

/// Changes one byte of a file.
pub(crate) fn flip(path: &Path, at: u64) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x55], at).unwrap();
}
