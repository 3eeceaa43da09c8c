//! Floor programs: each does what a client cannot leave out, and nothing else. What a client costs more is its own.
//!
//! - `leech`: one connection's bytes into sixteen pieces, their hashes, one direct write for all of them.
//! - `seed`: for each block a header and a `sendfile`, without being asked.
//!
//! Both are programs of their own (`torr-bench floor-leech`, `floor-seed`), so that the kernel counts them alone.

use std::fs::File;
use std::io::Read;
use std::net::{SocketAddrV4, TcpListener, TcpStream};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::fs::{FallocateFlags, OFlags};
use torr_base::{BLOCK_LEN, PieceIndex};
use torr_metainfo::Metainfo;

/// Pieces that are hashed together.
pub(crate) const LANES: usize = 16;
/// Direct writes start and end on this.
const ALIGN: usize = 4096;
/// As much as one read takes: larger and smaller ones cost more.
const READ_LEN: usize = 256 << 10;
/// A partner that is silent for this long is gone.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Hashes many pieces side by side.
fn hash_pieces(pieces: &[&[u8]]) -> Vec<[u8; 20]> {
    let parts: Vec<[&[u8]; 1]> = pieces.iter().map(|piece| [*piece]).collect();
    let messages: Vec<&[&[u8]]> = parts.iter().map(|parts| &parts[..]).collect();
    torr_hash::sha1_all(&messages)
}

/// `floor-leech FROM TORRENT FILE`
pub(crate) fn leech(args: &[String]) -> Result<()> {
    let [from, torrent, path] = args else {
        anyhow::bail!("usage: torr-bench floor-leech FROM TORRENT FILE");
    };
    let meta = Metainfo::parse(&std::fs::read(torrent)?)?;
    let geometry = meta.info().geometry();
    let file = reserve(Path::new(path), geometry.total())?;
    let from: SocketAddrV4 = from.parse().context("reading an address")?;
    let mut stream = TcpStream::connect(from).context("connecting to the source")?;
    stream.set_read_timeout(Some(SILENCE_MAX))?;

    let piece_len = geometry.piece_len_max() as usize;
    let mut memory = vec![0; LANES * piece_len + ALIGN];
    let pad = memory.as_ptr().align_offset(ALIGN);
    let batch = &mut memory[pad..pad + LANES * piece_len];
    let mut at = 0u64;
    while at < geometry.total() {
        let len = batch.len().min(usize::try_from(geometry.total() - at)?);
        fill(&mut stream, &mut batch[..len])?;
        let pieces: Vec<&[u8]> = batch[..len].chunks(piece_len).collect();
        let first = u32::try_from(at / piece_len as u64)?;
        for (piece, hash) in (first..).zip(hash_pieces(&pieces)) {
            let right = meta.info().hash(PieceIndex::new(piece)) == hash;
            ensure!(right, "piece {piece} is wrong");
        }
        let whole = len.next_multiple_of(ALIGN).min(batch.len());
        file.write_all_at(&batch[..whole], at)
            .context("writing the pieces")?;
        at += len as u64;
    }
    file.set_len(geometry.total())?;
    Ok(())
}

fn reserve(path: &Path, len: u64) -> Result<File> {
    let file = File::options()
        .create(true)
        .truncate(true)
        .write(true)
        .custom_flags(OFlags::DIRECT.bits().cast_signed())
        .open(path)
        .with_context(|| format!("making {}", path.display()))?;
    rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, len).context("reserving space")?;
    Ok(file)
}

fn fill(stream: &mut TcpStream, room: &mut [u8]) -> Result<()> {
    for part in room.chunks_mut(READ_LEN) {
        stream.read_exact(part).context("reading from the source")?;
    }
    Ok(())
}

/// `floor-seed LISTEN FILE`: says `listening`, sends the file's blocks to the first that comes, and ends.
pub(crate) fn seed(args: &[String]) -> Result<()> {
    let [listen, path] = args else {
        anyhow::bail!("usage: torr-bench floor-seed LISTEN FILE");
    };
    let file = File::open(path).with_context(|| format!("opening {path}"))?;
    let len = file.metadata()?.len();
    let listen: SocketAddrV4 = listen.parse().context("reading an address")?;
    let listener = TcpListener::bind(listen).context("listening")?;
    let (stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(SILENCE_MAX))?;
    let mut at = 0u64;
    while at < len {
        let part = u32::try_from((len - at).min(u64::from(BLOCK_LEN)))?;
        send_block(&stream, &file, 0, 0, at, part)?;
        at += u64::from(part);
    }
    Ok(())
}

/// A `piece` message out of the file's page cache: its header waits for the first bytes of the block.
pub(crate) fn send_block(
    stream: &TcpStream,
    file: &File,
    piece: u32,
    begin: u32,
    at: u64,
    len: u32,
) -> Result<()> {
    let mut header = [0; 13];
    header[..4].copy_from_slice(&(9 + len).to_be_bytes());
    header[4] = 7;
    header[5..9].copy_from_slice(&piece.to_be_bytes());
    header[9..].copy_from_slice(&begin.to_be_bytes());
    let sent = rustix::net::send(stream, &header, rustix::net::SendFlags::MORE)?;
    ensure!(sent == header.len(), "a header was cut");
    send_range(stream, file, at, u64::from(len))
}

/// The file's bytes, straight from the page cache.
pub(crate) fn send_range(stream: &TcpStream, file: &File, at: u64, len: u64) -> Result<()> {
    let mut offset = at;
    while offset < at + len {
        let left = usize::try_from(at + len - offset)?;
        let sent = rustix::fs::sendfile(stream, file, Some(&mut offset), left)?;
        ensure!(sent > 0, "the file is shorter than its torrent");
    }
    Ok(())
}
