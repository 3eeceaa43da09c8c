//! Files that somebody else changed: what was queued of them is not to be relied on, and their pieces are
//! looked at again, one after another.
//!
//! Until a piece was looked at, the disk sees to it that nothing of it is read unverified, so requests for
//! it are served as ever. A piece that is not right any more is fetched again. Those who were told
//! of it hear that it is gone (BEP 54); who does not understand that is let go, and hears the truth when it
//! comes again.

use std::collections::VecDeque;
use std::time::Duration;

use torr_base::{Instant, PieceIndex};
use torr_store::{BufSource, DiskTask, LoadError};
use torr_wire::Message;

use crate::action::{Action, CloseReason, Notice, Outbox, PeerKey};
use crate::swarm::{Job, Phase, Swarm};

/// More pieces than that are not taken back one by one: the peer is let go, and hears the truth anew.
const TAKE_BACK_MAX: usize = 1_000;
/// What was handed to the kernel so long ago has left the machine, or its peer is gone.
const ON_ITS_WAY: Duration = Duration::from_secs(60);

/// What is to be looked at again, and what was found.
#[derive(Debug, Default)]
pub(crate) struct Doubt {
    pieces: VecDeque<PieceIndex>,
    /// One is at the disk.
    busy: bool,
    /// Not right any more; peers who lack them believe that we have them.
    lost: Vec<PieceIndex>,
}

impl<B> Swarm<B> {
    /// Somebody changed that file: not this torrent, not through us.
    pub fn handle_file_changed(
        &mut self,
        now: Instant,
        file: u32,
        bufs: &mut dyn BufSource<B>,
        out: &mut Outbox<B>,
    ) {
        if self.phase != Phase::Active {
            return;
        }
        // The kernel sends what the file says when it comes to it.
        let spoilt = self.peers.iter().filter(|(_, peer)| {
            let sent = peer.file_sent;
            sent.is_some_and(|at| now.since(at) < ON_ITS_WAY)
        });
        let spoilt: Vec<PeerKey> = spoilt.map(|(key, _)| key).collect();
        for key in spoilt {
            self.part(now, key, CloseReason::Local, bufs, out);
        }
        let lines = self.files.iter().filter(|line| line.file == file);
        let pieces = lines.flat_map(|line| line.pieces.clone().map(PieceIndex::new));
        let pieces: Vec<_> = pieces.filter(|piece| self.have.get(*piece)).collect();
        // Those that wait already are looked at after this change as well.
        let mut waiting: Vec<_> = self.doubt.pieces.iter().copied().collect();
        waiting.sort_unstable();
        let new = pieces.into_iter();
        let new = new.filter(|piece| waiting.binary_search(piece).is_err());
        self.doubt.pieces.extend(new);
        self.recheck_next(now, bufs, out);
    }

    fn recheck_next(&mut self, now: Instant, bufs: &mut dyn BufSource<B>, out: &mut Outbox<B>) {
        if self.phase != Phase::Active || self.doubt.busy {
            return;
        }
        while let Some(piece) = self.doubt.pieces.pop_front() {
            if self.have.get(piece) {
                self.doubt.busy = true;
                self.job(Job::Recheck, DiskTask::Recheck { piece }, out);
                return;
            }
        }
        self.tell_lost(now, bufs, out);
    }

    /// A piece was looked at again.
    pub(crate) fn rechecked(
        &mut self,
        now: Instant,
        piece: PieceIndex,
        result: Result<(), LoadError>,
        bufs: &mut dyn BufSource<B>,
        out: &mut Outbox<B>,
    ) {
        self.doubt.busy = false;
        match result {
            Ok(()) => {}
            Err(LoadError::Lost) => self.lose(now, piece, bufs, out),
            Err(LoadError::Storage(error)) => self.fail(now, error, bufs, out),
        }
        self.recheck_next(now, bufs, out);
    }

    /// A piece is not right any more: nobody gets it from us, and we want it again.
    pub(crate) fn lose(
        &mut self,
        now: Instant,
        piece: PieceIndex,
        bufs: &mut dyn BufSource<B>,
        out: &mut Outbox<B>,
    ) {
        let was_complete = self.left == 0;
        if !self.have.clear(piece) {
            return;
        }
        self.doubt.lost.push(piece);
        self.uncount_files(piece);
        let wanted = self.wants(piece);
        if wanted {
            self.left += 1;
            self.picker.availability.insert(piece);
        }
        let keys: Vec<_> = self.peers.keys().collect();
        for key in keys {
            let Some(peer) = self.peers.get_mut(key) else {
                continue;
            };
            let mut dropped = Vec::new();
            peer.upload.retain(
                |range| range.piece != piece.get(),
                |range| dropped.push(range),
                |buf| bufs.put(buf),
            );
            if peer.fast {
                for range in dropped {
                    peer.send(Message::Reject(range), out);
                }
            }
            if wanted && peer.have.get(piece) {
                peer.interesting += 1;
                peer.barren_at = None;
                self.tell_interest(now, key, out);
                self.fill_requests(now, key, out);
            }
        }
        if wanted && was_complete {
            self.dialer.reconsider(now);
            self.tell_upload_only(out);
        }
        if !self.doubt.busy && self.doubt.pieces.is_empty() {
            self.tell_lost(now, bufs, out);
        }
    }

    fn uncount_files(&mut self, piece: PieceIndex) {
        let first = self
            .files
            .partition_point(|file| file.pieces.end <= piece.get());
        let lines = self.files.iter().zip(&mut self.file_left).skip(first);
        for (_, left) in lines.take_while(|(file, _)| file.pieces.start <= piece.get()) {
            *left += 1;
        }
    }

    fn tell_lost(&mut self, now: Instant, bufs: &mut dyn BufSource<B>, out: &mut Outbox<B>) {
        let lost = std::mem::take(&mut self.doubt.lost);
        if lost.is_empty() || !matches!(self.phase, Phase::Active | Phase::Halted) {
            return;
        }
        let believes = self.peers.iter().filter(|(_, peer)| {
            let lacks = |piece: &PieceIndex| !peer.have.get(*piece) && peer.was_told(*piece);
            lost.iter().any(lacks)
        });
        let keys: Vec<_> = believes.map(|(key, _)| key).collect();
        for key in keys {
            let Some(peer) = self.peers.get_mut(key) else {
                continue;
            };
            let lacks: Vec<_> = lost
                .iter()
                .filter(|piece| !peer.have.get(**piece) && peer.was_told(**piece))
                .collect();
            let understands = lacks.len() <= TAKE_BACK_MAX
                && lacks.into_iter().all(|piece| peer.take_back(*piece, out));
            if !understands {
                self.part(now, key, CloseReason::Local, bufs, out);
            }
        }
        let pieces = lost.len() as u32;
        out.push(Action::Tell(Notice::Lost { pieces }));
    }
}
