//! One that lies among honest seeds of other makes (G16): torr gets everything, bans the liar and nobody else, and says so.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::{MIB, Stage};
use crate::client::{Client, Job, Options, PORT, Role, torr};
use crate::payload::{Empty, Payload};
use crate::process::{Proc, wait_for};
use crate::runner::{Cell, Context};

const CELL_LIMIT: Duration = Duration::from_secs(180);
const PIECE_LEN: usize = 256 * 1024;
const SIZE: u64 = 60 * MIB;
/// Bytes a second of each honest seed: slow enough that the liar is asked as well.
const RATE: u64 = 3_000_000;
/// How long the liar waits before it comes again.
const AGAIN: Duration = Duration::from_millis(500);
const MESSAGE_MAX: usize = 1 << 17;

pub(super) fn cells() -> Vec<Cell> {
    vec![Cell::new("scenario/liar".to_owned(), CELL_LIMIT, run)]
}

fn run(context: &Context, dir: &Path) -> Result<String> {
    let payload = Payload::single("lied.bin", SIZE);
    let mut stage = Stage::new(context, dir, &payload, PIECE_LEN, Some(RATE))?;
    let other_node = stage.world.node("other")?;
    payload.write(&other_node.data())?;
    let job = Job {
        torrent: &stage.torrent,
        dir: other_node.data(),
        role: Role::Seed,
        options: Options {
            upload_limit: Some(RATE),
            ..Options::default()
        },
    };
    let mut other = Client::Transmission.start(&other_node, &job, &context.tools)?;
    other.wait_done(&other_node, Duration::from_secs(60))?;

    let liar_node = stage.world.node("liar")?;
    let mut command = liar_node.command(std::env::current_exe().context("our own path")?);
    let to = SocketAddr::new(stage.leech.v4.into(), PORT);
    let pieces = SIZE.div_ceil(PIECE_LEN as u64);
    command.args([
        "helper",
        "liar",
        &to.to_string(),
        &stage.torrent.hex(),
        &pieces.to_string(),
    ]);
    let mut liar = Proc::spawn(&liar_node, "liar", command)?;

    let mut leech = stage.torr(context)?;
    leech.wait_done(&stage.leech, Duration::from_secs(120))?;
    payload.compare(
        &stage.seed_node.data(),
        &stage.leech.data(),
        Empty::Required,
    )?;
    liar.check_alive()?;
    wait_for("the liar to have lied", Duration::from_secs(5), || {
        Ok(liar.said("lied"))
    })?;
    let events = torr::events(&leech.proc);
    let banned = events.iter().filter(|event| event["t"] == "banned");
    let banned: Vec<_> = banned.filter_map(|event| event["peer"].as_str()).collect();
    let whose = format!("{}:", liar_node.v4);
    ensure!(
        banned.iter().any(|addr| addr.starts_with(&whose)),
        "banned: {banned:?}"
    );
    let honest = banned.iter().find(|addr| !addr.starts_with(&whose));
    ensure!(honest.is_none(), "{honest:?} is honest, and banned");
    let done = events.iter().rfind(|event| event["t"] == "done");
    Ok(format!(
        "banned {banned:?}; {}",
        done.map_or(String::new(), |done| done["downloaded"].to_string())
    ))
}

/// Comes to `to` again and again, says that it has everything, and answers requests with what is not there.
pub(crate) fn serve(to: SocketAddr, hash: &[u8; 20], pieces: usize) -> Result<()> {
    loop {
        // It is thrown out sooner or later; why does not matter to it.
        let _ = lie(to, hash, pieces);
        std::thread::sleep(AGAIN);
    }
}

fn lie(to: SocketAddr, hash: &[u8; 20], pieces: usize) -> std::io::Result<()> {
    let mut socket = TcpStream::connect(to)?;
    let mut hello = b"\x13BitTorrent protocol\0\0\0\0\0\0\0\0".to_vec();
    hello.extend_from_slice(hash);
    hello.extend_from_slice(b"-LI0001-0123456789ab");
    let bits = vec![0xff; pieces / 8];
    let spare = (!pieces.is_multiple_of(8)).then(|| 0xff_u8 << (8 - pieces % 8));
    let len = 1 + pieces.div_ceil(8) as u32;
    hello.extend_from_slice(&len.to_be_bytes());
    hello.push(5);
    hello.extend(bits.into_iter().chain(spare));
    // It lets everybody ask.
    hello.extend_from_slice(&[0, 0, 0, 1, 1]);
    socket.write_all(&hello)?;
    socket.read_exact(&mut [0; 68])?;
    loop {
        let mut len = [0; 4];
        socket.read_exact(&mut len)?;
        let len = u32::from_be_bytes(len) as usize;
        if len > MESSAGE_MAX {
            return Err(ErrorKind::InvalidData.into());
        }
        let mut message = vec![0; len];
        socket.read_exact(&mut message)?;
        if let [6, place @ ..] = message.as_slice()
            && let Some((place, [_, _, high, low])) = place.split_at_checked(8)
        {
            let asked = usize::from(u16::from_be_bytes([*high, *low]));
            let mut answer = (9 + asked as u32).to_be_bytes().to_vec();
            answer.push(7);
            answer.extend_from_slice(place);
            answer.resize(answer.len() + asked, 0x5a);
            socket.write_all(&answer)?;
            writeln!(std::io::stdout(), "lied")?;
        }
    }
}
