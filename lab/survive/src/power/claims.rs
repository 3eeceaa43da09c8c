//! What a client claims to have when it is started after a power cut.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::channel;

use anyhow::{Context as _, Result, bail};
use torr_base::Bitfield;
use torr_disk::{Disk, DiskConfig, OnExisting, StorageSpec};
use torr_store::StorageId;

use super::live::Live;
use super::plan::{Client, Scene};
use crate::ground::{Ground, PATIENCE};

/// Pieces that are claimed, and how many bytes were read to be sure of them.
#[derive(Debug)]
pub(super) struct Claims {
    pub(super) have: Bitfield,
    pub(super) hashed: u64,
}

pub(super) fn of(client: Client, ground: &Ground, scene: &Scene) -> Result<Claims> {
    match client {
        Client::Torr => torr(ground, scene),
        Client::Libtorrent | Client::Rqbit => bail!("not built yet"),
    }
}

/// The download of another client, recorded.
pub(super) fn record(
    _client: Client,
    _ground: &Ground,
    _scene: &Scene,
    _live: &mut Live,
) -> Result<()> {
    bail!("not built yet")
}

/// As torr opens it, and as a kill leaves it.
fn torr(ground: &Ground, scene: &Scene) -> Result<Claims> {
    let spec = spec(ground, scene.folder(ground), scene.state(ground));
    let disk = Disk::start(DiskConfig::default(), |_| {});
    let (sender, receiver) = channel();
    disk.open(
        StorageId(1),
        spec,
        |_| {},
        move |opened| {
            let _ = sender.send(opened);
        },
    );
    let opened = receiver.recv_timeout(PATIENCE).context("opening")??;
    drop(disk);
    Ok(Claims {
        hashed: opened.checked_bytes,
        have: opened.have,
    })
}

pub(crate) fn spec(ground: &Ground, root: PathBuf, state_dir: PathBuf) -> StorageSpec {
    StorageSpec {
        info: Arc::clone(&ground.info),
        root,
        name: None,
        state_dir,
        torrent_bytes: Arc::from([]),
        wanted: Vec::new(),
        preallocate: false,
        on_existing: OnExisting::Adopt,
        recheck: false,
        trust: false,
    }
}
