//! A web seed's requests: the choice of a run, and its answers up to the body and from its end.

use std::collections::VecDeque;
use std::ops::Range;

use torr_base::{Bitfield, Instant, PieceIndex};
use torr_metainfo::FileIndex;
use torr_store::BufSource;

use super::fetch::Part;
use super::head::judge;
use super::{FETCHES_IN_ALL, Fetch, FetchKey, WebFault, WebFiles, WebHead, WebRequest};
use crate::action::{Action, Outbox};
use crate::swarm::Swarm;

/// Runs that are looked for in a row for one web seed; those of which no file has a byte come to nothing.
const TRIES_MAX: usize = 8;
impl<B> Swarm<B> {
    // ---- asking

    /// Asks web seeds for more, where there is something to ask for.
    pub(crate) fn fill_web(
        &mut self,
        now: Instant,
        bufs: &mut dyn BufSource<B>,
        out: &mut Outbox<B>,
    ) {
        if !self.is_downloading() {
            return;
        }
        for place in 0..self.web.seeds.len() as u16 {
            for _ in 0..TRIES_MAX {
                let may = self.may_ask_web_seed(now, place);
                if !may || !self.begin_fetch(now, place, bufs, out) {
                    break;
                }
            }
        }
    }

    fn may_ask_web_seed(&self, now: Instant, place: u16) -> bool {
        let Some(seed) = self.web.seeds.get(usize::from(place)) else {
            return false;
        };
        let under_way = self.web.of_seed(place).count();
        let room = match under_way {
            0 => true,
            _ => seed.proven && under_way < seed.width && !self.is_full(false),
        };
        room && seed.may_be_asked(now) && self.web.fetches.len() < FETCHES_IN_ALL
    }

    /// False where there is nothing to ask that one for.
    fn begin_fetch(
        &mut self,
        now: Instant,
        place: u16,
        bufs: &mut dyn BufSource<B>,
        out: &mut Outbox<B>,
    ) -> bool {
        let Some(run) = self.choose_run(now, place) else {
            return false;
        };
        let geometry = self.geometry;
        let map = self.web.files.as_ref().map(WebFiles::map);
        let Some(part) = map.and_then(|map| Part::next(map, run.at, run.end)) else {
            // Nothing but padding: no server has it.
            let pieces = run.pieces(geometry);
            if let Some(seed) = self.web.seeds.get_mut(usize::from(place)) {
                seed.cursor = pieces.end;
            }
            self.never_from(place, pieces);
            return true;
        };
        let key = self.web.fetches.insert(Fetch {
            seed: place,
            at: run.at,
            end: run.end,
            part,
            number: 0,
            in_body: false,
            reserved: run.reserved.clone(),
            piece: None,
            owed: VecDeque::new(),
            landing: None,
            waiting: false,
            begun: now,
            heard: now,
            came: 0,
        });
        for piece in run.reserved.clone() {
            self.picker.availability.remove(PieceIndex::new(piece));
        }
        if run.reserved.is_empty() {
            self.join_piece(now, key);
        } else if let Some(seed) = self.web.seeds.get_mut(usize::from(place)) {
            seed.cursor = run.reserved.end;
        }
        self.send_request(now, key, bufs, out);
        true
    }

    /// The request for the part that the fetch is at.
    fn send_request(
        &mut self,
        now: Instant,
        key: FetchKey,
        bufs: &mut dyn BufSource<B>,
        out: &mut Outbox<B>,
    ) {
        let Some(fetch) = self.web.fetches.get_mut(key) else {
            return;
        };
        (fetch.heard, fetch.waiting, fetch.in_body) = (now, false, false);
        let (place, file) = (fetch.seed, fetch.part.file);
        let (range, number) = (fetch.part.range(), fetch.number);
        let seed = self.web.seeds.get(usize::from(place));
        let files = self.web.files.as_ref();
        let url = seed.and_then(|seed| files.and_then(|files| files.url(&seed.url, file)));
        match url {
            Some(url) => {
                let request = WebRequest {
                    url,
                    range,
                    part: number,
                };
                out.push(Action::WebFetch {
                    fetch: key,
                    request,
                });
            }
            None => {
                // Its name cannot be asked for.
                self.lacks_file(place, file);
                self.drop_fetch(key, bufs);
            }
        }
    }

    /// That web seed cannot give these.
    fn never_from(&mut self, place: u16, pieces: Range<u32>) {
        let count = self.geometry.piece_count();
        if let Some(seed) = self.web.seeds.get_mut(usize::from(place)) {
            let lacks = seed.lacks.get_or_insert_with(|| Bitfield::new(count));
            for piece in pieces {
                lacks.set(PieceIndex::new(piece));
            }
        }
    }

    pub(super) fn lacks_file(&mut self, place: u16, file: FileIndex) {
        let Some(files) = &self.web.files else {
            return;
        };
        let mut pieces = files.map().pieces_of(file);
        let (Some(first), count) = (pieces.next(), pieces.len() as u32) else {
            return;
        };
        self.never_from(place, first.get()..first.get() + 1 + count);
    }

    // ---- answers

    /// The head of an answer. False: nobody wants the body.
    pub fn handle_web_head(
        &mut self,
        now: Instant,
        (key, part): (FetchKey, u32),
        head: &WebHead,
        bufs: &mut dyn BufSource<B>,
        out: &mut Outbox<B>,
    ) -> bool {
        let Some(fetch) = self.web.fetches.get_mut(key).filter(|it| it.number == part) else {
            return false;
        };
        fetch.heard = now;
        let file = fetch.part.file;
        let len = self.web.files.as_ref().map_or(0, |it| it.map().len(file));
        match judge(head, fetch.part.range(), len) {
            Ok(()) => {
                fetch.in_body = true;
                true
            }
            Err(fault) => {
                self.fail_fetch(now, key, fault, bufs, out);
                false
            }
        }
    }

    /// The body is through, as far as it was wanted. `excess`: it was not its end.
    pub fn handle_web_end(
        &mut self,
        now: Instant,
        (key, part): (FetchKey, u32),
        excess: bool,
        bufs: &mut dyn BufSource<B>,
        out: &mut Outbox<B>,
    ) {
        let found = self.web.fetches.get(key);
        let Some(fetch) = found.filter(|it| it.number == part) else {
            return;
        };
        let was_cut = fetch.end < fetch.part.end;
        let through = fetch.at >= fetch.end.min(fetch.part.end);
        let (place, at, end) = (fetch.seed, fetch.at, fetch.end);
        if !fetch.in_body || !through {
            return self.fail_fetch(now, key, WebFault::Short, bufs, out);
        }
        if excess && !was_cut {
            return self.fail_fetch(now, key, WebFault::Long, bufs, out);
        }
        if let Some(seed) = self.web.seeds.get_mut(usize::from(place)) {
            (seed.failures, seed.absent, seed.proven) = (0, 0, true);
        }
        let map = self.web.files.as_ref().map(WebFiles::map);
        match map.and_then(|map| Part::next(map, at, end)) {
            Some(next) => {
                if let Some(fetch) = self.web.fetches.get_mut(key) {
                    (fetch.part, fetch.number) = (next, fetch.number + 1);
                }
                self.send_request(now, key, bufs, out);
            }
            None => {
                self.drop_fetch(key, bufs);
                self.fill_web(now, bufs, out);
            }
        }
    }

    /// The driver could not get an answer, or lost it.
    pub fn handle_web_failed(
        &mut self,
        now: Instant,
        (key, part): (FetchKey, u32),
        fault: WebFault,
        bufs: &mut dyn BufSource<B>,
        out: &mut Outbox<B>,
    ) {
        if self
            .web
            .fetches
            .get(key)
            .is_some_and(|it| it.number == part)
        {
            self.fail_fetch(now, key, fault, bufs, out);
        }
    }
}
