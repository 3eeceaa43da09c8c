//! A private torrent (BEP 27) with everything switched on: what torr sends is captured on its own line, and nothing
//! of it is of the DHT, of peer exchange or of local discovery. The same world with a public torrent shows all of
//! it, so that what is looked for would be seen.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use sha1::{Digest, Sha1};

use crate::client::{Client, Encryption, Job, Options, PORT, Peer, Role, libtorrent};
use crate::metafile::Metafile;
use crate::payload::{Empty, Payload};
use crate::process::{Proc, wait_for};
use crate::runner::{Cell, Context};
use crate::tracker::{self, Kind, Tracker, Transport};
use crate::world::{Family, Node, World};

const LIMIT: Duration = Duration::from_secs(60);
const CELL_LIMIT: Duration = Duration::from_secs(200);
/// Peers are told of each other ten seconds after they came; the DHT and the network at once.
const STAYS: Duration = Duration::from_secs(25);
const PIECE_LEN: usize = 16 * 1024;
const PAYLOAD_LEN: u64 = 1024 * 1024 + 12_345;
const LSD_PORT: u16 = 6771;

pub fn cells() -> Vec<Cell> {
    vec![Cell::new(
        "private".to_owned(),
        CELL_LIMIT,
        |context, dir| {
            let public = run(context, &dir.join("public"), false)?;
            let all = Signs {
                dht: true,
                lsd: true,
                pex: true,
                port: true,
                bit: true,
            };
            ensure!(
                public == all,
                "a public torrent shows too little: {public:?}"
            );
            let private = run(context, &dir.join("private"), true)?;
            ensure!(
                private == Signs::default(),
                "a private one shows {private:?}"
            );
            Ok(format!("public {public:?}, private none"))
        },
    )]
}

/// What was seen of torr's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Signs {
    /// A datagram of the DHT with the info-hash.
    dht: bool,
    /// A message of local discovery with the info-hash.
    lsd: bool,
    /// A message of peer exchange.
    pex: bool,
    /// Where the node of the DHT is, told to a peer.
    port: bool,
    /// A handshake that speaks of the DHT.
    bit: bool,
}

fn run(context: &Context, dir: &Path, private: bool) -> Result<Signs> {
    let mut world = World::new(dir)?;
    let payload = Payload::single("shared.bin", PAYLOAD_LEN);
    let tracker_node = world.node("tracker")?;
    let url = tracker::url(&tracker_node, Transport::Http, Family::V4);
    let seed_node = world.node("seed")?;
    payload.write(&seed_node.data())?;
    let urls = std::slice::from_ref(&url);
    let mut torrent = Metafile::write(&payload, &seed_node.data(), PIECE_LEN, urls, dir)?;
    if private {
        make_private(&mut torrent)?;
    }
    let mut tracker = Tracker::start(
        tracker_node,
        Kind::Opentracker,
        Family::V4,
        &[&torrent],
        &context.tools,
    )?;
    let dht_node = world.node("dht")?;
    let command = libtorrent::plain_node(&dht_node, Family::V4, None, &context.tools);
    let mut dht = Proc::spawn(&dht_node, "plain", command)?;
    let start = SocketAddr::new(dht_node.address(Family::V4), PORT);
    let mut seeding = join(
        context,
        Client::Libtorrent,
        &seed_node,
        &torrent,
        Role::Seed,
        start,
    )?;
    seeding.wait_done(&seed_node, LIMIT)?;
    tracker.wait_seeds(&torrent, 1, LIMIT)?;

    let node = world.node("torr")?;
    let frames = node.dir.join("frames");
    let mut command = node.command(&context.tools.python);
    command.arg(context.tools.scripts.join("capture.py"));
    command.arg("eth0").arg(&frames);
    let mut capture = Proc::spawn(&node, "capture", command)?;
    wait_for("the capture to begin", LIMIT, || Ok(capture.said("READY")))?;
    let mut torr = join(context, Client::Torr, &node, &torrent, Role::Stay, start)?;
    torr.wait_done(&node, LIMIT)?;
    payload.compare(&seed_node.data(), &node.data(), Empty::Required)?;
    // Somebody who lacks something, so that there are peers to tell of and to tell.
    let mut others = Vec::new();
    for n in 0..2 {
        let other = world.node(&format!("other-{n}"))?;
        let peer = join(
            context,
            Client::Libtorrent,
            &other,
            &torrent,
            Role::Stay,
            start,
        )?;
        others.push((peer, other));
    }
    std::thread::sleep(STAYS);
    for (peer, other) in &mut others {
        peer.wait_done(other, LIMIT)?;
    }
    capture.terminate()?;
    dht.check_alive()?;
    let frames = std::fs::read(&frames).context("reading the capture")?;
    signs(&frames, &node, &torrent)
}

fn join(
    context: &Context,
    client: Client,
    node: &Node,
    torrent: &Metafile,
    role: Role,
    start: SocketAddr,
) -> Result<Peer> {
    let job = Job {
        torrent,
        dir: node.data(),
        role,
        options: Options {
            dht: Some(start),
            lsd: true,
            pex: true,
            // What is encrypted could not be looked into; and slow enough for peers to stay.
            encryption: Some(Encryption::Off),
            download_limit: (role == Role::Stay && client == Client::Libtorrent).then_some(40_000),
            ..Options::default()
        },
    };
    client.start(node, &job, &context.tools)
}

/// `private` is the last key of an info dictionary that has no others beyond `pieces`.
fn make_private(torrent: &mut Metafile) -> Result<()> {
    let mut bytes = std::fs::read(&torrent.path)?;
    ensure!(
        bytes.ends_with(b"ee"),
        "the info dictionary is not the last"
    );
    bytes.truncate(bytes.len() - 2);
    bytes.extend_from_slice(b"7:privatei1eee");
    let at = find(&bytes, b"4:info").context("no info dictionary")?;
    let info = bytes.get(at + 6..bytes.len() - 1).unwrap_or_default();
    torrent.hash = Sha1::digest(info).into();
    std::fs::write(&torrent.path, bytes)?;
    Ok(())
}

fn find(text: &[u8], word: &[u8]) -> Option<usize> {
    text.windows(word.len()).position(|window| window == word)
}

/// Looks through what the node sent. A stream is looked at frame by frame: what is looked for is short, and written
/// at once.
fn signs(frames: &[u8], node: &Node, torrent: &Metafile) -> Result<Signs> {
    let mut signs = Signs::default();
    let mut rest = frames;
    let mut count = 0_u32;
    while let Some((len, after)) = rest.split_first_chunk::<4>() {
        let len = u32::from_be_bytes(*len) as usize;
        let Some((frame, after)) = after.split_at_checked(len) else {
            // The capture was ended in the middle of a frame.
            break;
        };
        rest = after;
        if let Some((protocol, port, payload)) = sent(frame, node) {
            count += 1;
            look(&mut signs, protocol, port, payload, torrent);
        }
    }
    if count == 0 {
        bail!("nothing was captured");
    }
    Ok(signs)
}

const TCP: u8 = 6;
const UDP: u8 = 17;

/// Of an IPv4 frame that the node sent: protocol, port of the other side, and what is in it.
fn sent<'a>(frame: &'a [u8], node: &Node) -> Option<(u8, u16, &'a [u8])> {
    let ip = frame.get(14..)?;
    if frame.get(12..14)? != [8, 0] || ip.get(12..16)? != node.v4.octets() {
        return None;
    }
    let head = usize::from(ip.first()? & 15) * 4;
    let protocol = *ip.get(9)?;
    let len = usize::from(u16::from_be_bytes(ip.get(2..4)?.try_into().ok()?));
    // A frame that the card would cut later has no length in its head.
    let whole = if len == 0 { ip } else { ip.get(..len)? };
    let segment = whole.get(head..)?;
    let port = u16::from_be_bytes(segment.get(2..4)?.try_into().ok()?);
    let skip = match protocol {
        TCP => usize::from(segment.get(12)? >> 4) * 4,
        UDP => 8,
        _ => return None,
    };
    Some((protocol, port, segment.get(skip..)?))
}

fn look(signs: &mut Signs, protocol: u8, port: u16, payload: &[u8], torrent: &Metafile) {
    let has = |word: &[u8]| find(payload, word).is_some();
    if protocol == UDP {
        signs.lsd |= port == LSD_PORT && has(torrent.hex().as_bytes());
        signs.dht |= payload.starts_with(b"d") && has(&torrent.hash);
        return;
    }
    signs.pex |= has(b"5:added");
    signs.port |= has(&[0, 0, 0, 3, 9]);
    let greets = payload.starts_with(b"\x13BitTorrent protocol");
    signs.bit |= greets && payload.get(27).is_some_and(|bits| bits & 1 != 0);
}
