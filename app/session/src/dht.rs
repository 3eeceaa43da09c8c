//! What of the DHT outlives a run: its table, in the state directory.
//!
//! ```text
//! STATE/dht/table    what `Node::save_dht` gave
//! STATE/dht/table.bad  one that was damaged
//! STATE/dht/lock     flock of the session that goes by the table's ids, and that writes it
//! ```
//!
//! Sessions that share a state directory all start from the table. One of them keeps it; the others take ids
//! of their own. A table that cannot be read or written costs a slower start and nothing else, so nobody is
//! told of it. One that is no longer what was written is put aside and named (G13).

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use torr_base::Instant;
use torr_net::Sockets;
use torr_node::{Bootstrap, DhtConfig, DhtInit, Node, is_saved_table};
use torr_store::BlockBuf;

use crate::config::{Dht, SessionConfig};

/// No table is longer.
const TABLE_LEN_MAX: u64 = 64 << 10;
/// How often it is written while the session lives.
const SAVED_EVERY: Duration = Duration::from_secs(5 * 60);

/// Writes the table; on a thread of its own, since the shard's waits for no disk.
#[derive(Debug)]
pub(crate) struct Keeper {
    tables: SyncSender<Vec<u8>>,
    thread: JoinHandle<()>,
}

/// Where the shard leaves tables to be written.
#[derive(Debug)]
pub(crate) struct Saves {
    tables: Option<SyncSender<Vec<u8>>>,
    last: Option<Instant>,
}

/// What a session with a DHT is started with.
pub(crate) struct Prepared {
    pub(crate) init: DhtInit,
    /// `None` where another session keeps the table, or nobody can.
    pub(crate) keeper: Option<Keeper>,
    /// The table was damaged, in words for people.
    pub(crate) damage: Option<String>,
}

/// What a node is started with, and who keeps its table; `None` where no DHT is wanted.
pub(crate) fn prepare(
    config: &SessionConfig,
    state_dir: &Path,
    sockets: &Sockets,
    secret: [u8; 32],
) -> Option<Prepared> {
    if config.dht == Dht::Off {
        return None;
    }
    let dir = state_dir.join("dht");
    let keeper = Keeper::start(dir.clone());
    let mut saved = read_table(&dir);
    // Who does not keep it may have looked while it was being replaced, and leaves it alone.
    let is_bad = |table: &Vec<u8>| keeper.is_some() && !is_saved_table(table);
    let damage = saved.take_if(|table| is_bad(table)).map(|_| {
        let (path, aside) = (dir.join("table"), dir.join("table.bad"));
        // Where it cannot be put aside, the next table is written over it.
        let _ = fs::rename(&path, &aside);
        format!(
            "{} was damaged, and was put aside as {}; nodes of the DHT are found anew",
            path.display(),
            aside.display()
        )
    });
    let listen = sockets.addrs();
    let bootstrap = match config.dht_nodes.is_empty() {
        true => Bootstrap::WellKnown,
        false => Bootstrap::Hosts(config.dht_nodes.clone()),
    };
    let init = DhtInit {
        config: DhtConfig {
            ipv4: listen.iter().any(std::net::SocketAddr::is_ipv4),
            ipv6: listen.iter().any(std::net::SocketAddr::is_ipv6),
            bootstrap,
            new_id: keeper.is_none(),
            ..DhtConfig::default()
        },
        secret,
        saved,
        port: sockets.udp_port().unwrap_or(0),
        guest: config.dht == Dht::Guest,
    };
    Some(Prepared {
        init,
        keeper,
        damage,
    })
}

fn read_table(dir: &Path) -> Option<Vec<u8>> {
    let mut table = Vec::new();
    let file = File::open(dir.join("table")).ok()?;
    let mut file = file.take(TABLE_LEN_MAX + 1);
    file.read_to_end(&mut table).ok()?;
    Some(table)
}

impl Keeper {
    /// `None` where another session keeps it, or nobody can.
    fn start(dir: PathBuf) -> Option<Self> {
        fs::create_dir_all(&dir).ok()?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(dir.join("lock"))
            .ok()?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => return None,
        }
        let (tables, receiver) = sync_channel(1);
        let thread = std::thread::Builder::new().name("torr-dht".to_owned());
        let thread = thread.spawn(move || keep(&dir, &receiver, &lock)).ok()?;
        Some(Self { tables, thread })
    }

    /// Writes a last table, and waits until that is done.
    pub(crate) fn end(self, table: Option<Vec<u8>>) {
        if let Some(table) = table {
            // If the thread is gone there is nobody to write it.
            let _ = self.tables.send(table);
        }
        drop(self.tables);
        let _ = self.thread.join();
    }
}

/// The lock is held as long as this goes on.
fn keep(dir: &Path, tables: &Receiver<Vec<u8>>, _lock: &File) {
    for table in tables {
        let _ = write_table(dir, &table);
    }
}

fn write_table(dir: &Path, table: &[u8]) -> std::io::Result<()> {
    let fresh = dir.join("table.new");
    let mut file = File::create(&fresh)?;
    file.write_all(table)?;
    file.sync_all()?;
    fs::rename(&fresh, dir.join("table"))
}

impl Saves {
    pub(crate) fn new(keeper: Option<&Keeper>) -> Self {
        Self {
            tables: keeper.map(|keeper| keeper.tables.clone()),
            last: None,
        }
    }

    /// Now and then leaves the table to be written.
    pub(crate) fn observe(&mut self, node: &Node<BlockBuf>, now: Instant) {
        let last = *self.last.get_or_insert(now);
        if now.since(last) < SAVED_EVERY {
            return;
        }
        self.last = Some(now);
        if let (Some(tables), Some(table)) = (&self.tables, node.save_dht()) {
            // The disk may be slow; then this one is left out.
            let _ = tables.try_send(table);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_session_keeps_the_table() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("dht");
        assert_eq!(read_table(&place), None);
        let keeper = Keeper::start(place.clone()).unwrap();
        assert!(Keeper::start(place.clone()).is_none());
        keeper.end(Some(b"table".to_vec()));
        assert_eq!(read_table(&place).as_deref(), Some(&b"table"[..]));
        let next = Keeper::start(place.clone()).unwrap();
        next.end(None);
        assert_eq!(read_table(&place).as_deref(), Some(&b"table"[..]));
        fs::write(place.join("table"), vec![0; TABLE_LEN_MAX as usize + 9]).unwrap();
        let cut = read_table(&place).unwrap();
        assert!(cut.len() as u64 <= TABLE_LEN_MAX + 1 && !is_saved_table(&cut));
    }
}
