//! Web servers that have the torrent in one file (BEP 19), each with its manners.

use std::sync::Arc;
use std::time::Duration;

use torr_base::{RawBlock, Rng};
use torr_metainfo::FileMap;
use torr_node::{
    FetchKey, TorrentKey, WebEvent, WebFault, WebFetch, WebFiles, WebFlow, WebHead, WebInit,
};

use crate::fidelity::{Fidelity, Taint};
use crate::host::{Host, HostId};
use crate::torrent::Torrent;
use crate::world::{Event, Work, World};

/// Added to the number of a server, so that no puppet has the same taint.
const TAINT: Taint = 1 << 30;
/// Blocks after which it does what it does in the middle of a body.
const SOON: u64 = 3;

/// How a web server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebManners {
    /// As it should.
    Honest,
    /// One block of four is wrong.
    Forges,
    /// The body ends too soon.
    Short,
    /// The body goes on.
    Endless,
    /// Nothing comes after a few blocks.
    Stalls,
    /// 200, and all of the file.
    Whole,
    /// Another range than was asked for.
    OtherRange,
    /// A file of another length.
    OtherFile,
    Absent,
    /// 503, to be asked again in a second.
    Busy,
    /// Nobody listens there.
    Refuses,
}

impl WebManners {
    /// All but honest ones.
    pub const HOSTILE: [Self; 10] = [
        Self::Forges,
        Self::Short,
        Self::Endless,
        Self::Stalls,
        Self::Whole,
        Self::OtherRange,
        Self::OtherFile,
        Self::Absent,
        Self::Busy,
        Self::Refuses,
    ];
}

/// A web server.
#[derive(Debug)]
pub struct WebServer {
    manners: WebManners,
    /// Bytes a second of each body.
    rate: u64,
    latency: Duration,
    rng: Rng,
    /// It sent a wrong block.
    lied: bool,
}

/// A body on its way.
#[derive(Debug)]
pub(crate) struct Stream {
    server: usize,
    fetch: WebFetch,
    range: (u64, u64),
    blocks: u64,
    waiting: bool,
}

pub(crate) type StreamKey = (HostId, TorrentKey, FetchKey);

/// What comes next on a stream.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Head,
    Block,
}

/// What a swarm is told of the servers with those numbers.
pub(crate) fn init(torrent: &Torrent, servers: &[usize]) -> Option<WebInit> {
    let geometry = torrent.geometry;
    let piece_len = u64::from(geometry.piece_len_max());
    let map = FileMap::new(piece_len, [(geometry.total(), false)]).ok()?;
    let urls = servers
        .iter()
        .map(|server| format!("http://web{server}/file"));
    (!servers.is_empty()).then(|| WebInit {
        urls: urls.collect(),
        files: WebFiles::One(Arc::new(map)),
    })
}

fn number_of(url: &str) -> Option<usize> {
    let rest = url.strip_prefix("http://web")?;
    rest.split_once('/')?.0.parse().ok()
}

impl<F: Fidelity> World<F> {
    /// A web server; its number, for [`crate::NodePlan::web`].
    pub fn add_web_server(&mut self, manners: WebManners, rate: u64, latency: Duration) -> usize {
        let number = self.web_servers.len();
        self.web_servers.push(WebServer {
            manners,
            rate,
            latency,
            rng: self.rng.fork("web", number as u64),
            lied: false,
        });
        number
    }

    pub(crate) fn web_fetch(
        &mut self,
        host: HostId,
        fetch: WebFetch,
        url: &str,
        range: (u64, u64),
    ) {
        let now = self.now();
        let server = number_of(url).expect("nodes ask the servers that they were told of");
        self.trace.note(now, host, b'g', range.0, range.1);
        self.trace
            .line(now, host, || format!("asks {url} for {range:?}"));
        let stream = Stream {
            server,
            fetch,
            range,
            blocks: 0,
            waiting: false,
        };
        let latency = self.web_servers[server].latency;
        let key = (host, fetch.torrent, fetch.fetch);
        self.streams.insert(key, stream);
        let step = Step::Head;
        self.agenda
            .at(now + latency * 2, Event::Web { host, fetch, step });
    }

    pub(crate) fn web_wake(&mut self, host: HostId, fetch: WebFetch) {
        let now = self.now();
        let stream = self.streams.get_mut(&(host, fetch.torrent, fetch.fetch));
        if let Some(stream) = stream.filter(|it| it.fetch == fetch && it.waiting) {
            stream.waiting = false;
            let step = Step::Block;
            self.agenda.at(now, Event::Web { host, fetch, step });
        }
    }

    pub(crate) fn web_cancel(&mut self, host: HostId, torrent: TorrentKey, fetch: FetchKey) {
        self.streams.remove(&(host, torrent, fetch));
    }

    pub(crate) fn web_step(&mut self, host: HostId, fetch: WebFetch, step: Step) {
        let key = (host, fetch.torrent, fetch.fetch);
        let stream = self.streams.get(&key);
        let dead = self.hosts[host].dead;
        if dead || stream.is_none_or(|stream| stream.fetch != fetch) {
            return;
        }
        match step {
            Step::Head => self.web_head(host, fetch),
            Step::Block => self.web_block(host, fetch),
        }
        self.touch(host);
        self.work.push_back(Work::Drain(host));
    }

    fn web_head(&mut self, host: HostId, fetch: WebFetch) {
        let (now, key) = (self.now(), (host, fetch.torrent, fetch.fetch));
        let total = self.torrent.total();
        let Some(stream) = self.streams.get(&key) else {
            return;
        };
        let server = &self.web_servers[stream.server];
        let (manners, rate) = (server.manners, server.rate);
        let head = answer(manners, stream.range, total);
        let Some(home) = self.hosts[host].node_mut() else {
            return;
        };
        let wanted = match head {
            Some(head) => home.node.handle_web_head(now, fetch, &head),
            None => {
                let why = WebFault::Transport("connection refused".to_owned());
                home.node.handle_web_failed(now, fetch, why);
                false
            }
        };
        if wanted {
            self.plan_block(host, fetch, rate);
        } else {
            self.streams.remove(&key);
        }
    }

    fn plan_block(&mut self, host: HostId, fetch: WebFetch, rate: u64) {
        let nanos = u64::from(torr_base::BLOCK_LEN) * 1_000_000_000 / rate.max(1);
        let when = self.now() + Duration::from_nanos(nanos);
        let step = Step::Block;
        self.agenda.at(when, Event::Web { host, fetch, step });
    }

    fn web_block(&mut self, host: HostId, fetch: WebFetch) {
        let (now, key) = (self.now(), (host, fetch.torrent, fetch.fetch));
        let torrent = std::rc::Rc::clone(&self.torrent);
        let Some(stream) = self.streams.get_mut(&key) else {
            return;
        };
        let number = stream.server;
        let server = &mut self.web_servers[number];
        let (manners, rate) = (server.manners, server.rate);
        if manners == WebManners::Stalls && stream.blocks >= SOON {
            return;
        }
        let ends = manners == WebManners::Short && stream.blocks >= SOON;
        let forged = manners == WebManners::Forges && server.rng.one_in(4);
        let taint = if forged { TAINT + number as Taint } else { 0 };
        let Some(home) = self.hosts[host].node_mut() else {
            return;
        };
        if ends {
            self.streams.remove(&key);
            return home.node.handle_web_end(now, fetch, false);
        }
        let mut landed: Option<RawBlock> = None;
        let flow = home.node.handle_web_block(now, fetch, |block, raw| {
            F::load(&torrent, raw, taint, block);
            landed = Some(raw);
        });
        if let Some(raw) = landed {
            self.trace
                .note(now, host, b'W', raw.piece.into(), raw.offset.into());
            self.heard_from_web(host, raw.len as usize);
            self.web_servers[number].lied |= forged;
        }
        match flow {
            WebFlow::More => {
                if let Some(stream) = self.streams.get_mut(&key) {
                    stream.blocks += 1;
                    self.plan_block(host, fetch, rate);
                }
            }
            WebFlow::Wait => {
                if let Some(stream) = self.streams.get_mut(&key) {
                    stream.waiting = true;
                }
            }
            WebFlow::Done => {
                self.streams.remove(&key);
                if let Some(home) = self.hosts[host].node_mut() {
                    let excess = manners == WebManners::Endless;
                    home.node.handle_web_end(now, fetch, excess);
                }
            }
            WebFlow::Gone => {
                self.streams.remove(&key);
            }
        }
    }

    /// A node says something of a web server: of an honest one there is nothing to say.
    pub(crate) fn check_web(&mut self, host: HostId, url: &str, event: &WebEvent) {
        let number = number_of(url).expect("it is one of ours");
        let server = &self.web_servers[number];
        let cut_off = self.hosts[host].dead;
        assert!(
            cut_off || server.manners != WebManners::Honest,
            "node {host} says of an honest web server: {event:?}"
        );
        assert!(
            *event != WebEvent::Banned || server.lied,
            "node {host} banned web server {number}, which never sent a wrong block"
        );
        if let Some(home) = self.hosts.get_mut(host).and_then(Host::node_mut) {
            home.news.web.push((number, event.clone()));
        }
    }
}

/// What stands before the body; `None` where there is no answer.
fn answer(manners: WebManners, (from, to): (u64, u64), total: u64) -> Option<WebHead> {
    let head = |status, range: Option<String>, len| WebHead {
        status,
        content_range: range,
        content_len: len,
        ..WebHead::default()
    };
    let range = |from: u64, to: u64, total: u64| Some(format!("bytes {from}-{}/{total}", to - 1));
    Some(match manners {
        WebManners::Honest | WebManners::Forges | WebManners::Short | WebManners::Stalls => {
            head(206, range(from, to, total), Some(to - from))
        }
        WebManners::Endless => head(206, range(from, to, total), None),
        WebManners::Whole if (from, to) == (0, total) => head(200, None, Some(total - 1)),
        WebManners::Whole => head(200, None, Some(total)),
        WebManners::OtherRange => head(206, range(from + 1, to + 1, total + 9), Some(to - from)),
        WebManners::OtherFile => head(206, range(from, to, total + 1), Some(to - from)),
        WebManners::Absent => head(404, None, None),
        WebManners::Busy => WebHead {
            retry_after: Some("1".to_owned()),
            ..head(503, None, None)
        },
        WebManners::Refuses => return None,
    })
}
