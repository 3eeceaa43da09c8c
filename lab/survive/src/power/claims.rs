//! What a client claims to have when it is started after a power cut.

use std::sync::Arc;

use anyhow::{Result, bail};
use torr_base::Bitfield;

use super::live::Live;
use super::plan::{Client, Scene};
use crate::ground::Ground;
use crate::keep::{Keep, spec};

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
    let (root, state) = (scene.folder(ground), scene.state(ground));
    let opened = Keep::default().open(spec(&ground.info, Arc::from([]), &root, &state))?;
    Ok(Claims {
        hashed: opened.checked_bytes,
        have: opened.have,
    })
}
