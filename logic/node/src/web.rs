//! Answers of web seeds: whose they are, where their bytes go, and when they have to wait.

use torr_base::{Instant, RawBlock};
use torr_swarm::{FetchKey, WebDue, WebFault, WebHead, WebRequest};

use crate::node::Node;
use crate::types::{Action, TorrentKey, WebFetch, WebFlow};

impl<B> Node<B> {
    pub(crate) fn web_fetch(&mut self, torrent: TorrentKey, fetch: FetchKey, request: WebRequest) {
        let WebRequest { url, range, part } = request;
        let fetch = WebFetch {
            torrent,
            fetch,
            part,
        };
        self.actions
            .push_back(Action::WebFetch { fetch, url, range });
    }

    pub(crate) fn web_cancel(&mut self, torrent: TorrentKey, fetch: FetchKey) {
        let other = |it: &WebFetch| (it.torrent, it.fetch) != (torrent, fetch);
        self.web_starved.retain(other);
        self.web_throttled.retain(other);
        self.actions.push_back(Action::WebCancel { torrent, fetch });
    }

    /// The head of an answer to [`Action::WebFetch`]. False: nobody wants the body.
    pub fn handle_web_head(&mut self, now: Instant, it: WebFetch, head: &WebHead) -> bool {
        let mut wanted = false;
        self.with_swarm(now, it.torrent, |swarm, bufs, out| {
            wanted = swarm.handle_web_head(now, (it.fetch, it.part), head, bufs, out);
        });
        wanted
    }

    /// After [`WebFlow::Done`], or where the body ended before. `excess`: it is longer than that.
    pub fn handle_web_end(&mut self, now: Instant, it: WebFetch, excess: bool) {
        self.with_swarm(now, it.torrent, |swarm, bufs, out| {
            swarm.handle_web_end(now, (it.fetch, it.part), excess, bufs, out);
        });
    }

    /// There is no answer, or it broke off.
    pub fn handle_web_failed(&mut self, now: Instant, it: WebFetch, why: WebFault) {
        self.with_swarm(now, it.torrent, |swarm, bufs, out| {
            swarm.handle_web_failed(now, (it.fetch, it.part), why, bufs, out);
        });
    }

    /// What is due next; where that has to wait, it is on a list of those that are woken.
    fn web_due(&mut self, now: Instant, it: WebFetch) -> WebDue {
        let Self { torrents, bufs, .. } = self;
        let Some(home) = torrents.get_mut(it.torrent) else {
            return WebDue::Gone;
        };
        let due = home.swarm.web_due(now, (it.fetch, it.part), bufs.as_mut());
        match due {
            WebDue::Wait => {
                self.web_starved.push(it);
                if self.bufs.free() == 0 {
                    self.free_memory(now);
                }
            }
            WebDue::Bytes { .. } | WebDue::Skip { .. } if self.down.available(now) == 0 => {
                home.swarm.web_waits(it.fetch);
                self.web_throttled.push(it);
                return WebDue::Wait;
            }
            WebDue::Bytes { .. }
            | WebDue::Skip { .. }
            | WebDue::Zeros { .. }
            | WebDue::SkipZeros { .. }
            | WebDue::End
            | WebDue::Gone => {}
        }
        due
    }

    fn web_advance(&mut self, now: Instant, it: WebFetch, n: u32) {
        self.with_swarm(now, it.torrent, |swarm, bufs, out| {
            swarm.web_advance(now, it.fetch, n, bufs, out);
        });
    }
}

/// Where payload has bytes.
impl<B: AsMut<[u8]>> Node<B> {
    /// Bytes of the body: takes what it can off the front of `bytes`.
    pub fn handle_web_bytes(&mut self, now: Instant, it: WebFetch, bytes: &mut &[u8]) -> WebFlow {
        loop {
            let (into, len, from_body) = match self.web_due(now, it) {
                WebDue::Bytes { offset, len } => (Some(offset), len, true),
                WebDue::Skip { len } => (None, len, true),
                WebDue::Zeros { offset, len } => (Some(offset), len, false),
                WebDue::SkipZeros { len } => (None, len, false),
                WebDue::Wait => return WebFlow::Wait,
                WebDue::End => return WebFlow::Done,
                WebDue::Gone => return WebFlow::Gone,
            };
            let mut n = len as usize;
            if from_body {
                let allowed = usize::try_from(self.down.available(now)).unwrap_or(usize::MAX);
                n = n.min(bytes.len()).min(allowed);
                if n == 0 {
                    return WebFlow::More;
                }
            }
            let (first, rest) = bytes.split_at(if from_body { n } else { 0 });
            if let Some(offset) = into {
                let home = self.torrents.get_mut(it.torrent);
                let buf = home.and_then(|home| home.swarm.web_buf(it.fetch));
                let offset = offset as usize;
                let room = buf.and_then(|(_, buf)| buf.as_mut().get_mut(offset..offset + n));
                match room {
                    Some(room) if from_body => room.copy_from_slice(first),
                    Some(room) => room.fill(0),
                    None => debug_assert!(false, "a buffer holds its block"),
                }
            }
            *bytes = rest;
            self.down.spend(first.len() as u64);
            self.web_advance(now, it, n as u32);
        }
    }
}

/// Where payload has none: the same machine, blocks moved whole.
impl<B> Node<B> {
    /// The next block of the body, if it may come now; `fill` gets the block it lands in, where it is wanted.
    /// For torrents without padding, of one file.
    pub fn handle_web_block(
        &mut self,
        now: Instant,
        it: WebFetch,
        fill: impl FnOnce(&mut B, RawBlock),
    ) -> WebFlow {
        let (wanted, len) = match self.web_due(now, it) {
            WebDue::Bytes { len, .. } => (true, len),
            WebDue::Skip { len } => (false, len),
            WebDue::Wait => return WebFlow::Wait,
            WebDue::End => return WebFlow::Done,
            WebDue::Gone | WebDue::Zeros { .. } | WebDue::SkipZeros { .. } => return WebFlow::Gone,
        };
        if wanted {
            let home = self.torrents.get_mut(it.torrent);
            if let Some((block, buf)) = home.and_then(|home| home.swarm.web_buf(it.fetch)) {
                fill(buf, block.raw());
            }
        }
        self.down.spend(u64::from(len));
        self.web_advance(now, it, len);
        WebFlow::More
    }
}
