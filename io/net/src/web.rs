//! Requests to web seeds: a task each, which hands the body to the node as it comes and stops reading where the
//! node has no room.

use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::AbortHandle;
use torr_base::Instant;
use torr_node::{TorrentKey, WebFault, WebFetch, WebFlow};

use crate::host::Host;
use crate::http::{HttpClient, HttpError, RangeBody};
use crate::shard::Shard;

/// How long a body may take to end once all of it is here: if it does, its connection can be used again.
const LAST_WORD: Duration = Duration::from_secs(1);

/// A request that is under way.
#[derive(Debug)]
pub(crate) struct WebTask {
    part: u32,
    task: AbortHandle,
    wake: Rc<Notify>,
}

impl<H: Host> Shard<H> {
    pub(crate) fn start_web(&mut self, fetch: WebFetch, url: String, range: (u64, u64)) {
        let wake = Rc::new(Notify::new());
        let shard = Handle {
            shard: self.me(),
            fetch,
        };
        let run = run(shard, self.http.clone(), url, range, Rc::clone(&wake));
        let task = WebTask {
            part: fetch.part,
            task: self.tasks.spawn_local(run),
            wake,
        };
        // The task of the part before it, if there is one, is about to end.
        self.web.insert((fetch.torrent, fetch.fetch), task);
    }

    pub(crate) fn wake_web(&mut self, fetch: WebFetch) {
        let task = self.web.get(&(fetch.torrent, fetch.fetch));
        if let Some(task) = task.filter(|task| task.part == fetch.part) {
            task.wake.notify_one();
        }
    }

    pub(crate) fn cancel_web(&mut self, torrent: TorrentKey, fetch: torr_node::FetchKey) {
        if let Some(task) = self.web.remove(&(torrent, fetch)) {
            task.task.abort();
        }
    }

    fn forget_web(&mut self, fetch: WebFetch) {
        let key = (fetch.torrent, fetch.fetch);
        if self
            .web
            .get(&key)
            .is_some_and(|task| task.part == fetch.part)
        {
            self.web.remove(&key);
        }
    }
}

/// The shard, as a task knows it.
struct Handle<H: Host> {
    shard: Weak<RefCell<Shard<H>>>,
    fetch: WebFetch,
}

impl<H: Host> Handle<H> {
    fn turn<R>(&self, input: impl FnOnce(&mut Shard<H>, Instant, WebFetch) -> R) -> Option<R> {
        let shard = self.shard.upgrade()?;
        let result = shard
            .borrow_mut()
            .turn(|shard, now| input(shard, now, self.fetch));
        Some(result)
    }

    fn failed(&self, error: &HttpError) {
        let text = error.to_string();
        let why = match error.is_final() {
            true => WebFault::Forbidden(text),
            false => WebFault::Transport(text),
        };
        self.turn(|shard, now, fetch| {
            shard.forget_web(fetch);
            shard.node.handle_web_failed(now, fetch, why);
        });
    }

    fn ended(&self, excess: bool) {
        self.turn(|shard, now, fetch| {
            shard.forget_web(fetch);
            shard.node.handle_web_end(now, fetch, excess);
        });
    }
}

async fn run<H: Host>(
    shard: Handle<H>,
    http: HttpClient,
    url: String,
    range: (u64, u64),
    wake: Rc<Notify>,
) {
    let (head, mut body) = match http.range(&url, range).await {
        Ok(answer) => answer,
        Err(error) => return shard.failed(&error),
    };
    let wanted = shard.turn(|shard, now, fetch| shard.node.handle_web_head(now, fetch, &head));
    if wanted != Some(true) {
        return;
    }
    loop {
        let bytes = match body.next().await {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return shard.ended(false),
            Err(error) => return shard.failed(&error),
        };
        let mut rest = bytes.as_ref();
        loop {
            let flow =
                shard.turn(|shard, now, fetch| shard.node.handle_web_bytes(now, fetch, &mut rest));
            match flow {
                Some(WebFlow::More) => break,
                Some(WebFlow::Wait) => wake.notified().await,
                Some(WebFlow::Done) if rest.is_empty() => {
                    let excess = goes_on(&mut body).await;
                    return shard.ended(excess);
                }
                Some(WebFlow::Done) => return shard.ended(true),
                Some(WebFlow::Gone) | None => return,
            }
        }
    }
}

/// Whether more comes of a body that should end here.
async fn goes_on(body: &mut RangeBody) -> bool {
    let more = tokio::time::timeout(LAST_WORD, body.next()).await;
    matches!(more, Ok(Ok(Some(_))))
}
