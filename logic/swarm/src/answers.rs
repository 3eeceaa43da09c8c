//! What follows from the disk's answers.

use torr_base::{BLOCK_LEN, Instant, Key, PieceIndex};
use torr_store::{
    BufSource, CommitError, Committed, Digest, DiskDone, DiskResult, LoadError, SpillBlock,
    StorageError,
};
use torr_wire::Message;

use crate::action::{Action, CloseReason, Misbehaved, Notice, Outbox, PeerKey, Source};
use crate::peer::upload::Cancelled;
use crate::swarm::{Job, Phase, Swarm};

impl<B> Swarm<B> {
    /// The answer to a job.
    pub fn handle_disk(
        &mut self,
        now: Instant,
        done: DiskDone<B>,
        bufs: &mut dyn BufSource<B>,
        out: &mut Outbox<B>,
    ) {
        let job = self.jobs.remove(Key::from_unique(done.job.0));
        debug_assert!(job.is_some(), "{:?} was answered twice", done.job);
        match done.result {
            DiskResult::Committed { pieces } => {
                for piece in pieces {
                    self.committed(now, piece, bufs, out);
                }
                out.push(Action::BufsFree);
            }
            DiskResult::Hashed { runs } => {
                for run in runs {
                    for buf in self.run_hashed(now, run, out) {
                        bufs.put(buf);
                    }
                }
                self.runs_hashed(out);
                out.push(Action::BufsFree);
            }
            DiskResult::Verified(piece) => self.committed(now, piece, bufs, out),
            DiskResult::Loaded { range, buf, result } => {
                let Some(Job::Load { peer }) = job else {
                    bufs.put(buf);
                    return;
                };
                let unwanted = match self.peers.get_mut(peer) {
                    Some(peer) if result.is_ok() => {
                        peer.wake(out);
                        peer.upload.loaded(range, buf)
                    }
                    Some(peer) => {
                        let live = matches!(peer.upload.cancel(range), Cancelled::Loading);
                        if live && peer.fast {
                            peer.send(Message::Reject(range), out);
                        }
                        peer.upload.loaded(range, buf)
                    }
                    None => Some(buf),
                };
                if let Some(buf) = unwanted {
                    bufs.put(buf);
                    out.push(Action::BufsFree);
                }
                match result {
                    Ok(()) => {}
                    Err(LoadError::Lost) => {
                        self.lose(now, PieceIndex::new(range.piece), bufs, out);
                    }
                    Err(LoadError::Storage(error)) => self.fail(now, error, bufs, out),
                }
            }
            DiskResult::Rechecked { piece, result } => {
                self.rechecked(now, piece, result, bufs, out);
            }
            DiskResult::Spilled { blocks, result } => {
                self.spills_answered(now, blocks, result, bufs, out);
            }
            DiskResult::Synced(result) => match result {
                Ok(()) if self.is_complete() => out.push(Action::Tell(Notice::Synced)),
                Ok(()) => {}
                Err(error) => self.fail(now, error, bufs, out),
            },
            DiskResult::Probed(result) => self.probed(now, result, bufs, out),
            DiskResult::Closed(result) => {
                if let Err(error) = result {
                    out.push(Action::Tell(Notice::Failed(error)));
                }
                self.phase = Phase::Stopped;
                for buf in self.assembly.drain() {
                    bufs.put(buf);
                }
                out.push(Action::Tell(Notice::Stopped));
            }
        }
        self.close_if_idle(out);
        self.halt_goes_on(now, bufs, out);
    }

    /// Blocks of unfinished pieces were written, or not.
    fn spills_answered(
        &mut self,
        now: Instant,
        blocks: Vec<SpillBlock<B>>,
        result: Result<(), StorageError>,
        bufs: &mut dyn BufSource<B>,
        out: &mut Outbox<B>,
    ) {
        let keep = matches!(&result, Err(error) if self.waits_out(error.kind));
        let mut last = None;
        for spilled in blocks {
            last = Some(spilled.block.piece);
            if keep {
                let left = self.assembly.unspilled(spilled.block, spilled.buf);
                left.into_iter().for_each(|buf| bufs.put(buf));
            } else {
                self.assembly.spilled(spilled.block, result.is_ok());
                bufs.put(spilled.buf);
            }
        }
        out.push(Action::BufsFree);
        if let Err(error) = result {
            self.fail(now, error, bufs, out);
        } else if let Some(piece) = last
            && self.phase == Phase::Active
        {
            self.verify_if_on_disk(piece, out);
        }
    }

    /// A piece passed, failed, or did not get to the disk.
    fn committed(
        &mut self,
        now: Instant,
        mut done: Committed<B>,
        bufs: &mut dyn BufSource<B>,
        out: &mut Outbox<B>,
    ) {
        if let Err(CommitError::Storage(error)) = &done.result
            && self.waits_out(error.kind)
        {
            for buf in self.assembly.put_back(done.piece, done.blocks) {
                bufs.put(buf);
            }
            let error = error.clone();
            self.fail(now, error, bufs, out);
            return;
        }
        for buf in done.blocks.drain(..) {
            bufs.put(buf);
        }
        self.assembly.keep_list(done.blocks);
        let senders = self.assembly.close(done.piece);
        match done.result {
            Ok(()) => self.piece_passed(now, done.piece, &senders, &done.digests, bufs, out),
            Err(CommitError::HashMismatch) => {
                self.wasted += u64::from(self.geometry.piece_len(done.piece));
                let guilty = self.blame.failed(done.piece, senders, done.digests);
                if self.wants(done.piece) {
                    self.picker.availability.insert(done.piece);
                }
                if let Some(guilty) = guilty {
                    self.convict_sender(now, guilty, bufs, out);
                }
            }
            Err(CommitError::Storage(error)) => {
                if self.wants(done.piece) {
                    self.picker.availability.insert(done.piece);
                }
                self.fail(now, error, bufs, out);
            }
        }
    }

    fn piece_passed(
        &mut self,
        now: Instant,
        piece: PieceIndex,
        senders: &[Option<Source>],
        digests: &[Digest],
        bufs: &mut dyn BufSource<B>,
        out: &mut Outbox<B>,
    ) {
        let wanted = self.wants(piece);
        if !self.have.set(piece) {
            return;
        }
        self.picker.availability.remove(piece);
        self.have_log.push(piece);
        let mut last = None;
        for sender in senders.iter().flatten() {
            if last.replace(*sender) != Some(*sender)
                && let Source::Peer(key) = *sender
                && let Some(peer) = self.peers.get_mut(key)
            {
                peer.good_pieces += 1;
            }
        }
        if wanted {
            self.left -= 1;
        }
        out.push(Action::Tell(Notice::PieceDone { piece }));
        self.count_files(piece, out);
        for guilty in self.blame.passed(piece, digests) {
            self.convict_sender(now, guilty, bufs, out);
        }
        self.spread(now, piece, wanted, out);
        if wanted && self.left == 0 && self.phase == Phase::Active {
            self.end_fetches(bufs, out);
            self.complete(now, out);
        }
    }

    /// Tells the peers that lack the piece, and those that were interesting for it alone.
    fn spread(&mut self, now: Instant, piece: PieceIndex, wanted: bool, out: &mut Outbox<B>) {
        let complete = self.left == 0;
        let keys: Vec<_> = self.peers.keys().collect();
        for key in keys {
            let Some(peer) = self.peers.get_mut(key) else {
                continue;
            };
            if !peer.have.get(piece) {
                if !peer.upload_only {
                    peer.wake(out);
                }
                continue;
            }
            if wanted {
                peer.interesting -= 1;
            }
            if peer.interesting == 0 || complete {
                self.tell_interest(now, key, out);
            }
        }
    }

    fn count_files(&mut self, piece: PieceIndex, out: &mut Outbox<B>) {
        // Files lie in order, so those that hold the piece are neighbours.
        let first = self
            .files
            .partition_point(|file| file.pieces.end <= piece.get());
        let lines = self.files.iter().zip(&mut self.file_left).skip(first);
        for (file, left) in lines.take_while(|(file, _)| file.pieces.start <= piece.get()) {
            *left = left.saturating_sub(1);
            if *left == 0 {
                out.push(Action::Tell(Notice::FileDone {
                    file: file.file as usize,
                }));
            }
        }
    }

    /// Somebody sent a wrong block.
    fn convict_sender(
        &mut self,
        now: Instant,
        guilty: Source,
        bufs: &mut dyn BufSource<B>,
        out: &mut Outbox<B>,
    ) {
        match guilty {
            Source::Peer(key) => self.convict(now, key, Misbehaved::BadBlock, bufs, out),
            Source::Web(place) => self.ban_web_seed(place, bufs, out),
        }
    }

    /// A peer sent what is wrong: it is let go and never spoken to again.
    pub(crate) fn convict(
        &mut self,
        now: Instant,
        key: PeerKey,
        why: Misbehaved,
        bufs: &mut dyn BufSource<B>,
        out: &mut Outbox<B>,
    ) {
        let here = self.peers.get(key).map(|peer| (peer.addr, peer.id));
        let Some((addr, id)) = here.or_else(|| self.blame.departed(key)) else {
            return;
        };
        self.blame.ban(addr.ip(), id);
        out.push(Action::Tell(Notice::Banned { addr, why }));
        self.distrust(key.into(), bufs);
        self.part(now, key, CloseReason::Misbehaved(why), bufs, out);
    }

    /// Whatever else it sent is fetched again before it spoils more pieces.
    pub(crate) fn distrust(&mut self, liar: Source, bufs: &mut dyn BufSource<B>) {
        let (blocks, empty) = self.assembly.distrust(liar);
        let wasted = blocks.len() as u64 * u64::from(BLOCK_LEN);
        self.wasted = (self.wasted + wasted).min(self.downloaded);
        blocks.into_iter().for_each(|buf| bufs.put(buf));
        empty.into_iter().for_each(|piece| self.abandon(piece));
    }

    /// The disk said no: everything stops here, for good or for a while, and says why.
    pub(crate) fn fail(
        &mut self,
        now: Instant,
        error: StorageError,
        bufs: &mut dyn BufSource<B>,
        out: &mut Outbox<B>,
    ) {
        match self.phase {
            Phase::Active if self.waits_out(error.kind) => self.halt(now, error, bufs, out),
            Phase::Halted if self.waits_out(error.kind) => self.halt_again(error, out),
            Phase::Active | Phase::Halted => {
                self.phase = Phase::Failed;
                out.push(Action::Tell(Notice::Failed(error)));
                self.part_all(now, bufs, out);
                self.end_fetches(bufs, out);
                // Other torrents need the memory.
                self.closing.take();
                let pieces: Vec<_> = self.assembly.iter().map(|(piece, _)| piece).collect();
                self.assembly
                    .drain()
                    .into_iter()
                    .for_each(|buf| bufs.put(buf));
                for piece in pieces {
                    if self.wants(piece) {
                        self.picker.availability.insert(piece);
                    }
                }
            }
            // The end goes on all the same, but nobody shall believe that everything was kept.
            Phase::Stopping => out.push(Action::Tell(Notice::Failed(error))),
            // The first reason is the one that counts.
            Phase::Failed | Phase::Stopped => {}
        }
    }
}
