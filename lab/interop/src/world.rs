//! One small network: a bridge in a namespace of its own, and nodes on it.
//!
//! Each node has an address in another /24 of 198.18.0.0/15 and another /64 of 2001:2::/48 (the ranges for tests of
//! network devices), since clients limit or drop peers by their network; all are reachable on the link.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail};

use crate::sandbox::open_to_all;

/// IPv4 or IPv6, in announces and between peers alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    pub fn of(addr: SocketAddr) -> Self {
        match addr {
            SocketAddr::V4(_) => Self::V4,
            SocketAddr::V6(_) => Self::V6,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::V4 => "v4",
            Self::V6 => "v6",
        }
    }
}

/// One network. Dropping it removes its namespaces; processes must be gone by then (they hold them).
#[derive(Debug)]
pub struct World {
    id: u32,
    dir: PathBuf,
    switch: Namespace,
    nodes: u8,
}

/// Who is on the network: its namespace, its addresses and its folder.
#[derive(Debug)]
pub struct Node {
    pub name: String,
    pub v4: Ipv4Addr,
    pub v6: Ipv6Addr,
    pub dir: PathBuf,
    namespace: Namespace,
}

#[derive(Debug)]
struct Namespace(String);

impl World {
    /// `dir` is made, and belongs to the caller.
    pub fn new(dir: &Path) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
        open_to_all(dir)?;
        let switch = Namespace::new(format!("ti{}-{id}-sw", std::process::id()))?;
        // No spanning tree and no delay: a port forwards from the moment it is up.
        ip(
            Some(&switch.0),
            "link add br0 type bridge forward_delay 0 stp_state 0 mcast_snooping 0\nlink set br0 up\n",
        )?;
        Ok(Self {
            id,
            dir: dir.to_owned(),
            switch,
            nodes: 0,
        })
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A new node with its own addresses, home folder and logs.
    pub fn node(&mut self, name: &str) -> Result<Node> {
        self.nodes = self
            .nodes
            .checked_add(1)
            .context("too many nodes in one world")?;
        let number = self.nodes;
        let namespace = Namespace::new(format!("ti{}-{}-{number}", std::process::id(), self.id))?;
        let v4 = Ipv4Addr::new(198, 18, number, 10);
        let v6 = Ipv6Addr::new(0x2001, 2, 0, u16::from(number), 0, 0, 0, 0x10);
        ip(
            Some(&self.switch.0),
            &format!(
                "link add p{number} type veth peer name eth0 netns {}\nlink set p{number} master br0\nlink set p{number} up\n",
                namespace.0
            ),
        )?;
        // The default route leads nowhere. Some clients take a host without one for a host without IPv6.
        ip(
            Some(&namespace.0),
            &format!(
                "link set lo up\naddr add {v4}/15 dev eth0\naddr add {v6}/48 dev eth0 nodad\nlink set eth0 up\nroute add default dev eth0\n-6 route add default dev eth0\n"
            ),
        )?;
        let dir = self.dir.join(name);
        for sub in ["home", "log", "data"] {
            let path = dir.join(sub);
            std::fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
        }
        open_to_all(&dir)?;
        Ok(Node {
            name: name.to_owned(),
            v4,
            v6,
            dir,
            namespace,
        })
    }
}

impl World {
    /// A new node on a network of its own, of which `gateway` is the way out: 10.77.0.2 there, behind 10.77.0.1 on an
    /// interface `in0`. It has no IPv6.
    pub fn behind(&mut self, name: &str, gateway: &Node) -> Result<Node> {
        let node = self.node(name)?;
        let v4 = Ipv4Addr::new(10, 77, 0, 2);
        ip(
            Some(&node.namespace.0),
            &format!(
                "link del eth0\nlink add eth0 type veth peer name in0 netns {}\naddr add {v4}/24 dev eth0\n\
                 link set eth0 up\n",
                gateway.namespace.0
            ),
        )?;
        ip(
            Some(&gateway.namespace.0),
            "addr add 10.77.0.1/24 dev in0\nlink set in0 up\n",
        )?;
        let route = "route add default via 10.77.0.1\n";
        ip(Some(&node.namespace.0), route)?;
        Ok(Node {
            v4,
            v6: Ipv6Addr::UNSPECIFIED,
            ..node
        })
    }

    /// Pulls a node's cable, or puts it in again.
    pub fn set_line(&self, node: &Node, up: bool) -> Result<()> {
        let [_, _, number, _] = node.v4.octets();
        let state = if up { "up" } else { "down" };
        ip(
            Some(&self.switch.0),
            &format!("link set p{number} {state}\n"),
        )
    }
}

impl Node {
    pub fn address(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => IpAddr::V4(self.v4),
            Family::V6 => IpAddr::V6(self.v6),
        }
    }

    /// Where downloads of this node go.
    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Bytes that have arrived over the network so far, headers included.
    pub fn received(&self) -> Result<u64> {
        let mut command = self.command("cat");
        let output = command
            .arg("/proc/net/dev")
            .output()
            .context("reading the network counters")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text
            .lines()
            .find_map(|line| line.trim().strip_prefix("eth0:"));
        let count = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        count.with_context(|| format!("no counters of {}", self.name))
    }

    /// `program` inside this node's network, with nothing of the caller's environment but the path.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let home = self.dir.join("home");
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.namespace.0])
            .arg(program);
        command
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command
            .env("LANG", "C.UTF-8")
            .env("TERM", "dumb")
            .env("HOME", &home);
        for (variable, sub) in [
            ("XDG_CONFIG_HOME", "config"),
            ("XDG_STATE_HOME", "state"),
            ("XDG_CACHE_HOME", "cache"),
            ("XDG_DATA_HOME", "share"),
        ] {
            command.env(variable, home.join(sub));
        }
        command.current_dir(&self.dir).stdin(Stdio::null());
        command
    }
}

impl Namespace {
    fn new(name: String) -> Result<Self> {
        ip(None, &format!("netns add {name}\n"))?;
        Ok(Self(name))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        ip(None, &format!("netns del {}\n", self.0)).ok();
    }
}

/// One process for a list of commands; `ip` stops at the first that fails.
fn ip(namespace: Option<&str>, commands: &str) -> Result<()> {
    let mut command = Command::new("ip");
    if let Some(namespace) = namespace {
        command.args(["-n", namespace]);
    }
    // `-6` is an option, not a command: such lines go by themselves.
    let (six, plain): (Vec<_>, Vec<_>) = commands.lines().partition(|line| line.starts_with("-6 "));
    let mut child = command
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("running ip")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin
            .write_all((plain.join("\n") + "\n").as_bytes())
            .context("writing to ip")?;
    }
    let output = child.wait_with_output().context("waiting for ip")?;
    if !output.status.success() {
        bail!(
            "ip {commands:?}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    for line in six {
        let mut command = Command::new("ip");
        if let Some(namespace) = namespace {
            command.args(["-n", namespace]);
        }
        let output = command
            .args(line.split_whitespace())
            .output()
            .context("running ip")?;
        if !output.status.success() {
            bail!(
                "ip {line}: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
    }
    Ok(())
}
