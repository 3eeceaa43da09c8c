//! What a session and a torrent are started with.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use torr_disk::IoMode;
use torr_metainfo::{FilePriorities, Info, Magnet};
use torr_net::PortChoice;
use torr_node::Encryption;

/// What a session is started with. [`SessionConfig::new`] has what most want.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// Where the states of torrents are kept; made if it is not there. Several sessions may share it, as
    /// long as they do not have the same torrent in the same folder.
    pub state_dir: PathBuf,
    pub port: PortChoice,
    /// Nothing is listened for, and no peer dialled, by another address than this.
    pub bind: Option<IpAddr>,
    /// Bytes a second of all torrents together, protocol included; `None` for no limit.
    pub down_rate: Option<u64>,
    pub up_rate: Option<u64>,
    /// Bytes that the whole process should take at most.
    pub memory: u64,
    /// How whole pieces are written.
    pub io: IoMode,
    /// False: nothing is ever sent but what the protocol needs.
    pub allow_upload: bool,
    pub encryption: Encryption,
    /// Peers may tell each other of peers (BEP 11), but for private torrents.
    pub pex: bool,
    /// Torrents are announced to those on the same network, and theirs heard of (BEP 14), but for private ones.
    pub lsd: bool,
    /// Have the gateway let connections through to the port (PCP, NAT-PMP, UPnP).
    pub map_port: bool,
    pub dht: Dht,
    /// Where to look for nodes of the DHT when none is known, names or addresses; the well-known ones where
    /// there are none here.
    pub dht_nodes: Vec<(String, u16)>,
    /// Let trackers of the open Internet lead to private addresses, and take web seeds there.
    pub allow_private: bool,
    /// Connections of all torrents together, and of each. There are fewer where the process may not open as
    /// many descriptors, even after its soft limit was raised to the hard one.
    pub conns_max: usize,
    pub conns_per_torrent_max: usize,
    /// How long a file must have been left alone before its blocks are sent to peers without being read
    /// first. Until then a block costs more to send, and a change of the file spoils none.
    pub settled_after: Duration,
}

impl SessionConfig {
    /// The usual limits: 64 MiB of memory, 2,000 connections, 200 for each torrent, no limit of rates, a
    /// port out of 6881 to 6889, encryption preferred, a node of the DHT.
    #[must_use]
    pub fn new(state_dir: impl Into<PathBuf>) -> Self {
        Self {
            state_dir: state_dir.into(),
            port: PortChoice::default(),
            bind: None,
            down_rate: None,
            up_rate: None,
            memory: 64 << 20,
            io: IoMode::default(),
            allow_upload: true,
            encryption: Encryption::Prefer,
            pex: true,
            lsd: false,
            map_port: false,
            dht: Dht::Node,
            dht_nodes: Vec::new(),
            allow_private: false,
            conns_max: 2_000,
            conns_per_torrent_max: 200,
            settled_after: Duration::from_secs(60),
        }
    }

    /// `$XDG_STATE_HOME/torr`, or `~/.local/state/torr`; `None` where neither variable is set. `var` looks
    /// an environment variable up.
    #[must_use]
    pub fn default_state_dir(var: impl Fn(&str) -> Option<std::ffi::OsString>) -> Option<PathBuf> {
        // The specification has us ignore relative paths.
        let absolute = |name| {
            let path = PathBuf::from(var(name)?);
            path.is_absolute().then_some(path)
        };
        let state = absolute("XDG_STATE_HOME");
        let state = state.or_else(|| Some(absolute("HOME")?.join(".local/state")));
        Some(state?.join("torr"))
    }
}

/// How a session takes part in the DHT (BEP 5). Private torrents never do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dht {
    Off,
    /// For a short while: asks and announces, and answers others only once the session has lasted for a
    /// quarter of an hour and a peer has reached it from outside (BEP 43).
    Guest,
    Node,
}

/// What a torrent is known by.
#[derive(Clone, Debug)]
pub enum Source {
    /// The bytes of the .torrent.
    Torrent(Vec<u8>),
    /// A link. The rest comes from peers, unless an earlier run kept it.
    Magnet(Box<Magnet>),
}

/// Chooses files when it is known what there is.
#[derive(Clone)]
pub struct Choose(Arc<Chooser>);

type Chooser = dyn Fn(&Info) -> Result<FilePriorities, String> + Send + Sync;

impl Choose {
    /// `choose` gives a priority for each file of the torrent, or says why that cannot be.
    pub fn new(
        choose: impl Fn(&Info) -> Result<FilePriorities, String> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(choose))
    }

    /// # Errors
    /// Why none can be chosen, in words for people.
    pub fn of(&self, info: &Info) -> Result<FilePriorities, String> {
        (self.0)(info)
    }
}

impl fmt::Debug for Choose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Choose")
    }
}

/// A torrent to be added. [`AddTorrent::new`] has what most want.
#[derive(Clone, Debug)]
pub struct AddTorrent {
    pub source: Source,
    /// The download folder; made if it is not there.
    pub dir: PathBuf,
    /// Another name for the top-level file or folder.
    pub name: Option<String>,
    /// `None`: all files, or those that a link selects.
    pub wanted: Option<FilePriorities>,
    /// The same for a torrent whose files are not known yet; counts where `wanted` is `None`.
    pub choose: Option<Choose>,
    /// Only the metadata is fetched, and given to others; no file is touched. What [`crate::kept_torrent`] may
    /// know is not looked at.
    pub metadata_only: bool,
    /// Pieces in order, for whoever reads along.
    pub sequential: bool,
    /// Each piece is given once, and passed on by those who get it, until they have them all among them (BEP 16).
    /// Means nothing where pieces are missing at the start.
    pub super_seed: bool,
    /// Announce URLs beside the torrent's own, each a tier of its own.
    pub extra_trackers: Vec<String>,
    /// Peers to be dialled at once.
    pub peers: Vec<SocketAddr>,
    /// Reserve the space before anything else.
    pub preallocate: bool,
    /// A storage that says no is waited for, instead of being the torrent's end: until there is room on a full
    /// disk, until a file system is mounted.
    pub waits: bool,
    /// Take foreign files over, whatever is in them.
    pub overwrite: bool,
    /// Hash everything that is there, whatever the state says.
    pub recheck: bool,
    /// Take files of the right length for right without hashing them.
    pub trust: bool,
}

impl AddTorrent {
    /// All files of a torrent, into `dir`.
    #[must_use]
    pub fn new(torrent: impl Into<Vec<u8>>, dir: impl Into<PathBuf>) -> Self {
        Self::from_source(Source::Torrent(torrent.into()), dir)
    }

    /// What a link leads to, into `dir`.
    #[must_use]
    pub fn magnet(magnet: Magnet, dir: impl Into<PathBuf>) -> Self {
        Self::from_source(Source::Magnet(Box::new(magnet)), dir)
    }

    /// All files of what that is, into `dir`.
    #[must_use]
    pub fn from_source(source: Source, dir: impl Into<PathBuf>) -> Self {
        Self {
            source,
            dir: dir.into(),
            name: None,
            wanted: None,
            choose: None,
            metadata_only: false,
            sequential: false,
            super_seed: false,
            extra_trackers: Vec::new(),
            peers: Vec::new(),
            preallocate: false,
            waits: false,
            overwrite: false,
            recheck: false,
            trust: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_is_where_the_variables_say() {
        let dir = |vars: &[(&str, &str)]| {
            let vars = vars.to_vec();
            SessionConfig::default_state_dir(|name| {
                let found = vars.iter().find(|(key, _)| *key == name);
                found.map(|(_, value)| value.into())
            })
        };
        assert_eq!(
            dir(&[("XDG_STATE_HOME", "/s"), ("HOME", "/h")]),
            Some("/s/torr".into())
        );
        assert_eq!(
            dir(&[("XDG_STATE_HOME", "s"), ("HOME", "/h")]),
            Some("/h/.local/state/torr".into())
        );
        assert_eq!(dir(&[]), None);
    }
}
