//! What the tests of sessions share: folders, torrents, sessions on loopback.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use torr::metainfo::{Draft, DraftFile, DraftFiles, Metainfo};
use torr::{AddTorrent, Dht, PortChoice, Session, SessionConfig, Torrent};
use torr_base::Rng;

pub const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Nothing here takes longer, unless it hangs.
pub const LONG: Duration = Duration::from_secs(60);
pub const GRACE: Duration = Duration::from_secs(5);

/// A folder with a payload, and the torrent of it.
pub struct Payload {
    pub torrent: Vec<u8>,
    pub name: String,
    pub files: Vec<(String, Vec<u8>)>,
}

impl Payload {
    /// One file of random bytes.
    pub fn single(name: &str, len: usize, piece_len: u32) -> Self {
        Self::draft(name, vec![(name.to_owned(), random(len))], piece_len, &[])
    }

    /// A folder of files of random bytes, with those lengths.
    pub fn folder(name: &str, lens: &[usize], piece_len: u32) -> Self {
        Self::folder_with(name, lens, piece_len, &[])
    }

    pub fn folder_with(name: &str, lens: &[usize], piece_len: u32, trackers: &[String]) -> Self {
        let path = |n| format!("d{}/f{n}", n % 3);
        let files = lens.iter().enumerate();
        let files = files.map(|(n, len)| (path(n), random(*len))).collect();
        Self::draft(name, files, piece_len, trackers)
    }

    fn draft(
        name: &str,
        files: Vec<(String, Vec<u8>)>,
        piece_len: u32,
        trackers: &[String],
    ) -> Self {
        let all: Vec<u8> = files.iter().flat_map(|(_, bytes)| bytes).copied().collect();
        let hashes = all.chunks(piece_len as usize).flat_map(sha1).collect();
        let shape = match &files[..] {
            [(path, bytes)] if path == name => DraftFiles::Single(bytes.len() as u64),
            files => DraftFiles::Folder(files.iter().map(draft_file).collect()),
        };
        let draft = Draft {
            name: name.to_owned(),
            files: shape,
            piece_len,
            hashes,
            trackers: trackers.iter().map(|url| vec![url.clone()]).collect(),
            ..Draft::default()
        };
        Self {
            torrent: draft.encode().unwrap(),
            name: name.to_owned(),
            files,
        }
    }

    /// The same files as a private torrent (BEP 27).
    pub fn private(&self) -> Self {
        let meta = Metainfo::parse(&self.torrent).unwrap();
        let info = meta.info();
        let shape = match &self.files[..] {
            [(path, bytes)] if *path == self.name => DraftFiles::Single(bytes.len() as u64),
            files => DraftFiles::Folder(files.iter().map(draft_file).collect()),
        };
        let draft = Draft {
            name: self.name.clone(),
            files: shape,
            piece_len: info.geometry().piece_len_max(),
            hashes: info.hashes().to_vec(),
            private: true,
            ..Draft::default()
        };
        Self {
            torrent: draft.encode().unwrap(),
            name: self.name.clone(),
            files: self.files.clone(),
        }
    }

    pub fn copy(&self) -> Self {
        Self {
            torrent: self.torrent.clone(),
            name: self.name.clone(),
            files: self.files.clone(),
        }
    }

    pub fn path(&self, dir: &Path, file: &str) -> PathBuf {
        if file == self.name {
            return dir.join(file);
        }
        dir.join(&self.name).join(file)
    }

    /// Writes the files to where a session looks for them.
    pub fn write(&self, dir: &Path) {
        for (file, bytes) in &self.files {
            let path = self.path(dir, file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
    }

    /// Panics where a file is not as it should be.
    pub fn assert_in(&self, dir: &Path) {
        for (file, bytes) in &self.files {
            let path = self.path(dir, file);
            let there = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            assert!(there == *bytes, "{} differs", path.display());
        }
    }
}

fn draft_file((path, bytes): &(String, Vec<u8>)) -> DraftFile {
    DraftFile {
        path: path.split('/').map(str::to_owned).collect(),
        len: bytes.len() as u64,
        ..DraftFile::default()
    }
}

pub fn sha1(bytes: &[u8]) -> [u8; 20] {
    use sha1::Digest as _;
    sha1::Sha1::digest(bytes).into()
}

pub fn random(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    Rng::new(len as u64 + 7).fill(&mut bytes);
    bytes
}

/// A session with folders of its own.
pub struct Side {
    pub session: Session,
    pub dir: TempDir,
}

impl Side {
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut SessionConfig)) -> Self {
        let dir = TempDir::new().unwrap();
        let session = start(dir.path(), change).await;
        Self { session, dir }
    }

    /// Where the payload goes.
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub fn addr(&self) -> SocketAddr {
        self.session.listen_addrs()[0]
    }

    /// Has the whole payload from the start.
    pub async fn seed(&self, payload: &Payload) -> Torrent {
        payload.write(&self.data());
        let torrent = self.add(payload, |_| {}).await;
        tokio::time::timeout(LONG, torrent.synced())
            .await
            .unwrap()
            .unwrap();
        torrent
    }

    /// Gets the payload from those peers.
    pub async fn leech(&self, payload: &Payload, peers: &[SocketAddr]) -> Torrent {
        self.add(payload, |add| add.peers = peers.to_vec()).await
    }

    pub async fn add(&self, payload: &Payload, change: impl FnOnce(&mut AddTorrent)) -> Torrent {
        let mut add = AddTorrent::new(payload.torrent.clone(), self.data());
        change(&mut add);
        self.session.add(add).await.unwrap()
    }

    pub async fn end(self) {
        self.session.shutdown(GRACE).await.unwrap();
    }
}

pub async fn start(dir: &Path, change: impl FnOnce(&mut SessionConfig)) -> Session {
    let mut config = SessionConfig::new(dir.join("state"));
    config.port = PortChoice::Exact(0);
    config.bind = Some(HERE);
    config.dht = Dht::Off;
    change(&mut config);
    Session::start(config).await.unwrap()
}

pub async fn synced(torrent: &Torrent) {
    let synced = tokio::time::timeout(LONG, torrent.synced()).await;
    match synced {
        Ok(result) => result.unwrap(),
        Err(_) => panic!("{:#?}\n{:#?}", torrent.stats(), torrent.peers().await),
    }
}
