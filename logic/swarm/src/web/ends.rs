//! How fetches end: what was not brought goes to others, and the web seed waits or is given up.

use std::time::Duration;

use torr_base::{Instant, PieceIndex};
use torr_store::BufSource;

use super::{ABSENT_MAX, FAILURES_MAX, FetchKey, Standing, WebEvent, WebFault, WebFiles};
use crate::action::{Action, Notice, Outbox, Source};
use crate::swarm::Swarm;

/// A server that sends nothing for so long has stopped.
const SILENT: Duration = Duration::from_secs(20);
impl<B> Swarm<B> {
    // ---- ends

    /// Ends a fetch without a word to the driver; what it had not begun may be asked of others.
    pub(super) fn drop_fetch(&mut self, key: FetchKey, bufs: &mut dyn BufSource<B>) {
        self.leave_piece(key);
        let Some(fetch) = self.web.fetches.remove(key) else {
            return;
        };
        for piece in fetch.reserved.map(PieceIndex::new) {
            if self.wants(piece) {
                self.picker.availability.insert(piece);
            }
        }
        if let Some((_, buf)) = fetch.landing {
            bufs.put(buf);
        }
    }

    fn cancel_fetch(&mut self, key: FetchKey, bufs: &mut dyn BufSource<B>, out: &mut Outbox<B>) {
        self.drop_fetch(key, bufs);
        out.push(Action::WebCancel { fetch: key });
    }

    /// Nothing is asked of web seeds any more, or not for now.
    pub(crate) fn end_fetches(&mut self, bufs: &mut dyn BufSource<B>, out: &mut Outbox<B>) {
        let keys: Vec<_> = self.web.fetches.keys().collect();
        for key in keys {
            self.cancel_fetch(key, bufs, out);
        }
    }

    fn end_fetches_of(&mut self, place: u16, bufs: &mut dyn BufSource<B>, out: &mut Outbox<B>) {
        let keys: Vec<_> = self.web.of_seed(place).map(|(key, _)| key).collect();
        for key in keys {
            self.cancel_fetch(key, bufs, out);
        }
    }

    /// What is wanted may change: web seeds get no further than the pieces that they are at.
    pub(crate) fn unreserve_all(&mut self) {
        for fetch in self.web.fetches.values_mut() {
            if !fetch.reserved.is_empty() {
                let first = PieceIndex::new(fetch.reserved.start);
                fetch.cut(self.geometry, first);
            }
        }
    }

    pub(super) fn fail_fetch(
        &mut self,
        now: Instant,
        key: FetchKey,
        fault: WebFault,
        bufs: &mut dyn BufSource<B>,
        out: &mut Outbox<B>,
    ) {
        let Some(fetch) = self.web.fetches.get(key) else {
            return;
        };
        let (place, file) = (fetch.seed, fetch.part.file);
        self.cancel_fetch(key, bufs, out);
        let many = self.web.files.as_ref().is_some_and(WebFiles::are_many);
        if many && matches!(fault, WebFault::Absent(_)) {
            self.lacks_file(place, file);
        }
        let others = self.web.of_seed(place).count();
        let Some(seed) = self.web.seeds.get_mut(usize::from(place)) else {
            return;
        };
        if !seed.is_used() {
            return;
        }
        if many && matches!(fault, WebFault::Absent(_)) && seed.absent < ABSENT_MAX {
            // It may have the others, and they are asked for at once.
            seed.absent += 1;
            return;
        }
        let event = if fault.is_final() || seed.failures + 1 >= FAILURES_MAX {
            WebEvent::GaveUp { why: fault }
        } else {
            seed.failures += 1;
            // It may take fewer requests at once than it gets, and the next is a trial.
            seed.width = seed.width.min(others.max(1));
            seed.proven = false;
            let retry = fault.retry(seed.failures);
            seed.standing = Standing::Good { from: now + retry };
            WebEvent::Failed { why: fault, retry }
        };
        let given_up = matches!(event, WebEvent::GaveUp { .. });
        if given_up {
            seed.standing = Standing::GivenUp;
        }
        let url = seed.url.clone();
        out.push(Action::Tell(Notice::WebSeed { url, event }));
        if given_up {
            self.end_fetches_of(place, bufs, out);
        }
    }

    /// It sent wrong data (G16).
    pub(crate) fn ban_web_seed(
        &mut self,
        place: u16,
        bufs: &mut dyn BufSource<B>,
        out: &mut Outbox<B>,
    ) {
        let Some(seed) = self.web.seeds.get_mut(usize::from(place)) else {
            return;
        };
        if seed.standing == Standing::Banned {
            return;
        }
        seed.standing = Standing::Banned;
        let url = seed.url.clone();
        let event = WebEvent::Banned;
        out.push(Action::Tell(Notice::WebSeed { url, event }));
        self.end_fetches_of(place, bufs, out);
        self.distrust(Source::Web(place), bufs);
    }

    // ---- time

    pub(crate) fn tick_web(
        &mut self,
        now: Instant,
        bufs: &mut dyn BufSource<B>,
        out: &mut Outbox<B>,
    ) {
        for seed in &mut self.web.seeds {
            seed.down.tick(now);
        }
        let silent = self
            .web
            .fetches
            .iter()
            .filter(|(_, fetch)| !fetch.waiting && now.since(fetch.heard) >= SILENT);
        let silent: Vec<_> = silent.map(|(key, _)| key).collect();
        for key in silent {
            self.fail_fetch(now, key, WebFault::Silent, bufs, out);
        }
        self.fill_web(now, bufs, out);
    }

    /// When [`Self::tick_web`] has something to do; `tick` is when it would be called next.
    pub(crate) fn web_due_at(&self, tick: Instant) -> Option<Instant> {
        if !self.is_downloading() {
            return None;
        }
        if self.web.active() > 0 {
            return Some(tick);
        }
        let from = self
            .web
            .seeds
            .iter()
            .filter_map(|seed| match seed.standing {
                Standing::Good { from } => Some(from.max(tick)),
                Standing::GivenUp | Standing::Banned => None,
            });
        from.min()
    }
}
