//! Web seeds (BEP 19): nginx has the files. torr gets them from there alone, and from there and a peer together;
//! libtorrent gets the same torrents from the same server, so that both read the URLs alike.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::client::{Client, Job, Options, PORT, Role, torr};
use crate::matrix;
use crate::metafile::Metafile;
use crate::payload::{Empty, Payload};
use crate::process::{Proc, wait_for};
use crate::runner::{Cell, Context};
use crate::world::{Node, World};

const TRANSFER_LIMIT: Duration = Duration::from_secs(90);
const CELL_LIMIT: Duration = Duration::from_secs(180);
/// Bytes a second of the peer, and of all answers of the server together, where both are to be used.
const SLOW: u64 = 2_000_000;
/// Ranges that torr asks one server for at a time.
const FETCHES: u64 = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// The URL is the file.
    Single,
    /// The URL is the folder that has the file.
    Folder,
    Multi,
}

pub fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    for (name, shape) in [
        ("single", Shape::Single),
        ("folder", Shape::Folder),
        ("multi", Shape::Multi),
    ] {
        for leech in [Client::Torr, Client::Libtorrent] {
            let name = format!("web/{}/{name}/alone", leech.name());
            cells.push(Cell::new(name, CELL_LIMIT, move |context, dir| {
                alone(context, dir, leech, shape)
            }));
        }
        if shape != Shape::Folder {
            let name = format!("web/torr/{name}/with-a-peer");
            cells.push(Cell::new(name, CELL_LIMIT, move |context, dir| {
                with_a_peer(context, dir, shape)
            }));
        }
    }
    cells
}

/// The server has the files at its root.
fn torrent(payload: &Payload, server: &Node, shape: Shape, dir: &Path) -> Result<Metafile> {
    let root = SocketAddr::new(IpAddr::V4(server.v4), 80);
    let url = match shape {
        Shape::Single => format!("http://{root}/{}", payload.name),
        Shape::Folder | Shape::Multi => format!("http://{root}/"),
    };
    let piece_len = match shape {
        Shape::Single | Shape::Folder => 256 * 1024,
        Shape::Multi => 64 * 1024,
    };
    Metafile::write_with_web_seeds(payload, &server.data(), piece_len, &[], &[url], dir)
}

fn payload(shape: Shape) -> Payload {
    match shape {
        Shape::Single | Shape::Folder => Payload::single("single.bin", 24 * 1024 * 1024 + 12_345),
        Shape::Multi => matrix::multi("multi & more"),
    }
}

fn alone(context: &Context, dir: &Path, leech: Client, shape: Shape) -> Result<String> {
    let mut world = World::new(dir)?;
    let (server, node) = (world.node("server")?, world.node("leech")?);
    let payload = payload(shape);
    payload.write(&server.data())?;
    let torrent = torrent(&payload, &server, shape, dir)?;
    let mut nginx = nginx(&server, None)?;
    let job = Job {
        torrent: &torrent,
        dir: node.data(),
        role: Role::Leech,
        options: Options::default(),
    };
    let start = std::time::Instant::now();
    let mut peer = leech.start(&node, &job, &context.tools)?;
    peer.wait_done(&node, TRANSFER_LIMIT)?;
    let seconds = start.elapsed().as_secs_f64();
    peer.proc.terminate()?;
    payload.compare(&server.data(), &node.data(), Empty::Required)?;
    let requests = requests(&server)?;
    nginx.terminate()?;
    Ok(format!(
        "{:.1} MB in {seconds:.1} s, {requests} requests",
        payload.total() as f64 / 1e6
    ))
}

fn with_a_peer(context: &Context, dir: &Path, shape: Shape) -> Result<String> {
    let mut world = World::new(dir)?;
    let (server, seed_node) = (world.node("server")?, world.node("seed")?);
    let node = world.node("leech")?;
    let payload = payload(shape);
    payload.write(&server.data())?;
    payload.write(&seed_node.data())?;
    let torrent = torrent(&payload, &server, shape, dir)?;
    let mut nginx = nginx(&server, Some(SLOW / FETCHES))?;
    let job = Job {
        torrent: &torrent,
        dir: seed_node.data(),
        role: Role::Seed,
        options: Options {
            upload_limit: Some(SLOW),
            ..Options::default()
        },
    };
    let mut seed = Client::Libtorrent.start(&seed_node, &job, &context.tools)?;
    seed.wait_done(&seed_node, TRANSFER_LIMIT)?;
    let job = Job {
        dir: node.data(),
        role: Role::Leech,
        options: Options {
            peer: Some((IpAddr::V4(seed_node.v4), PORT)),
            ..Options::default()
        },
        ..job
    };
    let mut leech = Client::Torr.start(&node, &job, &context.tools)?;
    leech.wait_done(&node, TRANSFER_LIMIT)?;
    payload.compare(&server.data(), &node.data(), Empty::Required)?;
    let events = torr::events(&leech.proc);
    let done = events.iter().find(|event| event["t"] == "done");
    let done = done.context("torr did not say that it is done")?;
    let figure = |name: &str| done[name].as_u64().with_context(|| format!("no `{name}`"));
    let (all, web) = (figure("downloaded")?, figure("web_downloaded")?);
    let from_peer = all.saturating_sub(web);
    let detail = format!(
        "{:.1} MB from nginx, {:.1} MB from the peer",
        web as f64 / 1e6,
        from_peer as f64 / 1e6
    );
    ensure!(
        web > 1_000_000 && from_peer > 1_000_000,
        "not both were used: {detail}"
    );
    seed.proc.terminate()?;
    nginx.terminate()?;
    Ok(detail)
}

/// Serves the node's data; `rate` in bytes a second of each answer.
fn nginx(node: &Node, rate: Option<u64>) -> Result<Proc> {
    let dir = node.dir.join("nginx");
    std::fs::create_dir_all(&dir)?;
    let here = dir.display();
    let temp = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temp = temp.map(|name| format!("{name}_temp_path {here}/{name};\n"));
    let limit = rate.map_or_else(String::new, |rate| format!("limit_rate {rate};"));
    let config = format!(
        "daemon off; master_process off; pid {here}/pid; error_log {here}/error.log;\n\
         events {{ worker_connections 256; }}\n\
         http {{ {}access_log {here}/access.log; {limit}\n\
         server {{ listen {}:80; root {}; }} }}\n",
        temp.concat(),
        node.v4,
        node.data().display()
    );
    let path = dir.join("nginx.conf");
    std::fs::write(&path, config).context("writing nginx's configuration")?;
    let mut command = node.command("nginx");
    command.arg("-c").arg(&path).arg("-p").arg(&dir);
    let mut nginx = Proc::spawn(node, "nginx", command)?;
    wait_for("nginx to listen", Duration::from_secs(20), || {
        nginx.check_alive()?;
        Ok(dir.join("pid").exists())
    })?;
    Ok(nginx)
}

fn requests(node: &Node) -> Result<usize> {
    let log = std::fs::read_to_string(node.dir.join("nginx/access.log"))?;
    ensure!(
        log.lines()
            .all(|line| line.contains(" 206 ") || line.contains(" 200 ")),
        "{log}"
    );
    Ok(log.lines().count())
}
