//! `--map-port` behind a real gateway (miniupnpd): torr seeds on a network of its own, and libtorrent outside gets the
//! payload through the port that the gateway opened. The port that torr listens on is taken outside, by a mapping that
//! upnpc made, so that the one it gets has to be another; upnpc sees it there, and gone once torr has left.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::client::{Client, Job, Options, PORT, Role, torr};
use crate::metafile::Metafile;
use crate::payload::{Empty, Payload};
use crate::process::{Proc, output, wait_for};
use crate::runner::{Cell, Context};
use crate::world::{Node, World};

const LIMIT: Duration = Duration::from_secs(60);
const CELL_LIMIT: Duration = Duration::from_secs(150);
/// An address that miniupnpd takes for a public one; those of the lab are for tests, and it says so and stops.
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(11, 22, 33, 44);
const PIECE_LEN: usize = 16 * 1024;
const PAYLOAD_LEN: u64 = 4 * 1024 * 1024 + 12_345;
/// A signal has torr leave within five seconds; without a tracker to say goodbye to there is little to wait for.
const LEAVES_WITHIN: Duration = Duration::from_secs(3);

pub fn cells() -> Vec<Cell> {
    let cell = |name: &str, way: &'static str| {
        let run = move |context: &Context, dir: &Path| run(context, dir, way);
        Cell::new(format!("map-port/{name}"), CELL_LIMIT, run)
    };
    vec![
        cell("natpmp", "NAT-PMP"),
        cell("pcp", "PCP"),
        cell("upnp", "UPnP"),
    ]
}

fn run(context: &Context, dir: &Path, way: &str) -> Result<String> {
    let mut world = World::new(dir)?;
    let gateway_node = world.node("gateway")?;
    let outside = world.node("outside")?;
    let inside = world.behind("inside", &gateway_node)?;
    let mut gateway = gateway(&gateway_node, way)?;
    script(&outside, &format!("ip route add {OUTSIDE} dev eth0"))?;
    let taken = format!("{PORT}");
    upnpc(&inside, &["-a", "10.77.0.99", "9", &taken, "tcp"])?;

    let payload = Payload::single("mapped.bin", PAYLOAD_LEN);
    payload.write(&inside.data())?;
    let torrent = Metafile::write(&payload, &inside.data(), PIECE_LEN, &[], dir)?;
    let job = Job {
        torrent: &torrent,
        dir: inside.data(),
        role: Role::Seed,
        options: Options {
            map_port: true,
            ..Options::default()
        },
    };
    let began = Instant::now();
    let mut seed = Client::Torr.start(&inside, &job, &context.tools)?;
    let told = || {
        torr::events(&seed.proc)
            .into_iter()
            .find(|it| it["t"] == "port")
    };
    wait_for("torr to tell of its port", LIMIT, || Ok(told().is_some()))?;
    let told = told().context("just seen")?;
    let took = began.elapsed();
    let port = open_port(&told, way)?;
    let listed = upnpc(&inside, &["-l"])?;
    let mapping = format!("TCP {port}->{}:{PORT}", inside.v4);
    let sees = |listed: &str| {
        listed
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
            .contains(&mapping)
    };
    ensure!(sees(&listed), "upnpc does not see {mapping}: {listed}");

    let job = Job {
        dir: outside.data(),
        role: Role::Leech,
        options: Options {
            peer: Some((IpAddr::V4(OUTSIDE), port)),
            ..Options::default()
        },
        ..job
    };
    let mut leech = Client::Libtorrent.start(&outside, &job, &context.tools)?;
    leech.wait_done(&outside, LIMIT)?;
    payload.compare(&inside.data(), &outside.data(), Empty::Required)?;

    let began = Instant::now();
    seed.proc.terminate()?;
    let left = began.elapsed();
    ensure!(left < LEAVES_WITHIN, "it took {left:?} to leave");
    let listed = upnpc(&inside, &["-l"])?;
    ensure!(!sees(&listed), "{mapping} is still there: {listed}");
    gateway.terminate()?;
    Ok(format!(
        "port {port} after {:.1} s, left in {:.1} s",
        took.as_secs_f64(),
        left.as_secs_f64()
    ))
}

/// The port outside, if all is as it has to be.
fn open_port(told: &Value, way: &str) -> Result<u16> {
    ensure!(told["open"] == true, "not open: {told}");
    ensure!(told["way"] == way, "by another way: {told}");
    ensure!(told["local"] == PORT, "another port: {told}");
    ensure!(told["address"] == OUTSIDE.to_string(), "elsewhere: {told}");
    let port = told["port"]
        .as_u64()
        .and_then(|port| u16::try_from(port).ok());
    let port = port.with_context(|| format!("no port: {told}"))?;
    ensure!(port != PORT && port > 0, "the port is taken: {told}");
    Ok(port)
}

/// miniupnpd, which speaks all three; what comes before `way` is taken from it.
fn gateway(node: &Node, way: &str) -> Result<Proc> {
    let dir = node.dir.join("gateway");
    std::fs::create_dir_all(&dir)?;
    let no_pcp = match way {
        "NAT-PMP" => {
            "nft add chain inet filter input '{ type filter hook input priority 0; }'\n\
             nft add rule inet filter input udp dport 5351 @th,64,8 2 drop\n"
        }
        _ => "",
    };
    script(
        node,
        &format!(
            "set -e\n\
             ip addr add {OUTSIDE}/32 dev eth0\n\
             echo 1 >/proc/sys/net/ipv4/ip_forward\n\
             nft add table inet filter\n\
             nft add chain inet filter miniupnpd '{{ type filter hook forward priority 0; }}'\n\
             nft add chain inet filter prerouting_miniupnpd '{{ type nat hook prerouting priority -100; }}'\n\
             nft add chain inet filter postrouting_miniupnpd '{{ type nat hook postrouting priority 100; }}'\n\
             {no_pcp}"
        ),
    )?;
    let datagrams = if way == "UPnP" { "no" } else { "yes" };
    let config = format!(
        "ext_ifname=eth0\next_ip={OUTSIDE}\nlistening_ip=in0\nenable_natpmp={datagrams}\nenable_upnp=yes\n\
         secure_mode=no\nuuid=00000000-0000-4000-8000-000000000001\n\
         allow 1024-65535 0.0.0.0/0 0-65535\ndeny 0-65535 0.0.0.0/0 0-65535\n"
    );
    let path = dir.join("miniupnpd.conf");
    std::fs::write(&path, config).context("writing miniupnpd's configuration")?;
    let mut command = node.command("miniupnpd");
    command
        .arg("-d")
        .arg("-f")
        .arg(&path)
        .arg("-P")
        .arg(dir.join("pid"));
    let mut gateway = Proc::spawn(node, "miniupnpd", command)?;
    wait_for("miniupnpd to listen", Duration::from_secs(20), || {
        gateway.check_alive()?;
        Ok(std::fs::read_to_string(&gateway.stderr)?.contains("HTTP listening"))
    })?;
    Ok(gateway)
}

/// What an independent client says.
fn upnpc(node: &Node, args: &[&str]) -> Result<String> {
    let mut command = node.command("upnpc");
    command.args(args);
    said(command)
}

fn script(node: &Node, text: &str) -> Result<()> {
    let mut command = node.command("sh");
    command.args(["-c", text]);
    said(command).map(|_| ())
}

fn said(command: Command) -> Result<String> {
    let shown = format!("{command:?}");
    let out = output(command, Duration::from_secs(20))?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let error = String::from_utf8_lossy(&out.stderr);
    ensure!(out.status.success(), "{shown}: {text} {error}");
    Ok(text)
}
