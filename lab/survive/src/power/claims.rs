//! What a client claims to have when it is started after a power cut.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use torr_base::{Bitfield, PieceIndex};

use super::plan::{Client, Scene};
use crate::child::Program;
use crate::ground::{Ground, PATIENCE, local};
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
        Client::Libtorrent | Client::Rqbit => {
            let mut program = others(client, "claims", ground, scene)?;
            program.wait_success(PATIENCE)?;
            Ok(Claims {
                have: parse(program.output().trim(), ground)?,
                hashed: 0,
            })
        }
    }
}

/// The download of another client, from its first byte to its own end.
pub(super) fn record(client: Client, ground: &Ground, scene: &Scene) -> Result<()> {
    let span = Duration::from_secs(scene.total() / scene.rate);
    others(client, "run", ground, scene)?.wait_success(span + PATIENCE)
}

/// The script that drives them.
fn others(client: Client, mode: &str, ground: &Ground, scene: &Scene) -> Result<Program> {
    let name = client.name();
    let home = std::env::var_os("HOME").map_or_else(PathBuf::new, PathBuf::from);
    let cache = std::env::var_os("TORR_LAB_CACHE");
    let cache = cache.map_or_else(|| home.join(".cache/torr-lab"), PathBuf::from);
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
    let mut command = Command::new(cache.join("venv/bin/python"));
    command.arg("-u").arg(scripts.join("others.py"));
    command.args([name, mode]).arg(&ground.torrent);
    // rqbit puts a torrent's own folder into none of its own.
    let folder = match (client, scene.is_single()) {
        (Client::Rqbit, false) => scene.folder(ground).join(scene.name),
        _ => scene.folder(ground),
    };
    command.arg(folder).arg(scene.state(ground));
    command.arg(local(scene.port).to_string());
    command.arg(scene.rate.to_string());
    Program::start(&format!("{name}-{mode}"), &ground.dir, &mut command)
}

/// A bitfield in hexadecimal digits; an empty one has no piece.
fn parse(digits: &str, ground: &Ground) -> Result<Bitfield> {
    let pieces = ground.info.geometry().piece_count();
    let mut have = Bitfield::new(pieces);
    for (at, digit) in digits.chars().enumerate() {
        let digit = digit.to_digit(16).context("a hexadecimal digit")?;
        for bit in (0..4).filter(|bit| digit & (8 >> bit) != 0) {
            let piece = at as u32 * 4 + bit;
            // Spare bits at the end mean nothing; some set them.
            if piece < pieces {
                have.set(PieceIndex::new(piece));
            }
        }
    }
    Ok(have)
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
