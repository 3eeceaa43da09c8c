//! A storage that said no, in a torrent that waits until it says yes again (G8, G9).
//!
//! - A halted torrent has no peers and asks for nothing, so nothing is fetched while it cannot be kept.
//! - What failed is looked at again and again, at first at once, then less and less often; that a probe
//!   went well is believed only when pieces that are still in memory were written too, if there are any.
//! - Of what is in memory [`KEEP_BLOCKS`] stay: the memory is other torrents'. The rest is asked for once
//!   more, and since there has to be room for all that may be in memory before the torrent goes on
//!   ([`Swarm::room_needed`]), never for less than was fetched in vain.
//! - Nothing is believed to be on the disk but what the disk answered for.
//!
//! Deliberately absent: how to look. That is the disk's, and so is which devices are let alone.

use std::net::SocketAddr;
use std::time::Duration;

use torr_base::{BLOCK_LEN, Instant, PieceIndex};
use torr_store::{BufSource, DiskTask, StorageError, StorageErrorKind};

use crate::action::{Action, Notice, Outbox};
use crate::swarm::{Job, Phase, Swarm};

/// From one look to the next: 1 s, doubled each time. With the most, and what a look and a dial take, a
/// torrent goes on within 30 s after the cause is gone (G8).
const FIRST: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_secs(15);
/// Trouble that comes back sooner than this after the torrent went on is the same trouble.
const CALM: Duration = Duration::from_secs(60);
/// Blocks that a halted torrent keeps in memory, if that is not less than one piece: 8 MiB.
const KEEP_BLOCKS: usize = 512;

/// Why a torrent waits for its storage, and when it looks again.
#[derive(Debug, Default)]
pub(crate) struct Halt {
    error: Option<StorageError>,
    step: Step,
    /// Looks in vain, those before it last went on for a short while among them.
    tries: u32,
    resumed: Option<Instant>,
    /// Who was let go, to be dialled when it goes on.
    parted: Vec<SocketAddr>,
    /// Everything wanted was there when it halted.
    complete: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    /// Waits until then for the next look, and for all answers that are due.
    #[default]
    Idle,
    Waiting {
        until: Instant,
    },
    Probing,
    /// What is in memory is being written.
    Trying {
        failed: bool,
    },
}

/// How long to wait before a storage that said no is looked at again, after so many looks in vain.
#[must_use]
pub fn storage_wait(tries: u32) -> Duration {
    FIRST.saturating_mul(1 << tries.min(10)).min(MOST)
}

impl<B> Swarm<B> {
    /// Whether an error of that kind is waited out.
    pub(crate) fn waits_out(&self, kind: StorageErrorKind) -> bool {
        let phase = matches!(self.phase, Phase::Active | Phase::Halted);
        phase && self.config.waits && self.metadata.is_known() && kind.may_pass()
    }

    /// Why the torrent waits, while it does.
    #[must_use]
    pub fn halted(&self) -> Option<&StorageError> {
        let error = self.halt.error.as_ref();
        error.filter(|_| self.phase == Phase::Halted)
    }

    /// The disk said no, and may say yes another time.
    pub(crate) fn halt(
        &mut self,
        now: Instant,
        error: StorageError,
        bufs: &mut dyn BufSource<B>,
        out: &mut Outbox<B>,
    ) {
        let halt = &mut self.halt;
        if halt.resumed.is_none_or(|at| now.since(at) >= CALM) {
            halt.tries = 0;
        }
        halt.complete = self.left == 0;
        let addrs = self.peers.values().filter_map(|peer| {
            let dialled = peer.dialled.then_some(peer.addr);
            dialled.or_else(|| peer.listen_addr())
        });
        halt.parted = addrs.collect();
        self.phase = Phase::Halted;
        self.wait(now);
        self.tell_halted(error, out);
        self.part_all(now, bufs, out);
        self.end_fetches(bufs, out);
        for piece in self.closing.take() {
            let left = self.assembly.put_back(piece, Vec::new());
            debug_assert!(left.is_empty(), "nothing was brought");
        }
        self.shed(bufs, out);
    }

    /// Something failed while it was halted already.
    pub(crate) fn halt_again(&mut self, error: StorageError, out: &mut Outbox<B>) {
        if let Step::Trying { failed } = &mut self.halt.step {
            *failed = true;
        }
        self.tell_halted(error, out);
    }

    fn tell_halted(&mut self, error: StorageError, out: &mut Outbox<B>) {
        if self.halt.error.as_ref() != Some(&error) {
            self.halt.error = Some(error.clone());
            out.push(Action::Tell(Notice::Halted(error)));
        }
    }

    fn wait(&mut self, now: Instant) {
        // The first look is at once: it also tells how much room there is.
        let wait = match self.halt.tries {
            0 => Duration::ZERO,
            tries => storage_wait(tries - 1),
        };
        self.halt.tries = self.halt.tries.saturating_add(1);
        self.halt.step = Step::Waiting { until: now + wait };
    }

    /// Gives memory back, but for a little: whole pieces before others, then those of which most is there.
    fn shed(&mut self, bufs: &mut dyn BufSource<B>, out: &mut Outbox<B>) {
        let (blocks, empty) = self.assembly.shed(KEEP_BLOCKS);
        let wasted = blocks.len() as u64 * u64::from(BLOCK_LEN);
        self.wasted = (self.wasted + wasted).min(self.downloaded);
        blocks.into_iter().for_each(|buf| bufs.put(buf));
        empty.into_iter().for_each(|piece| self.abandon(piece));
        out.push(Action::BufsFree);
    }

    /// When the next look is due, if nothing has to come first.
    pub(crate) fn look_due(&self) -> Option<Instant> {
        match self.halt.step {
            Step::Waiting { until } if self.jobs.is_empty() => Some(until),
            Step::Waiting { .. } | Step::Idle | Step::Probing | Step::Trying { .. } => None,
        }
    }

    /// Has the disk look, if it is time.
    pub(crate) fn look_if_due(&mut self, now: Instant, out: &mut Outbox<B>) {
        if self.look_due().is_some_and(|due| due <= now) {
            self.halt.step = Step::Probing;
            let needs = self.room_needed();
            self.job(Job::Probe, DiskTask::Probe { needs }, out);
        }
    }

    /// Bytes that have to be free: all that may be in memory, or all that is missing if that is less.
    fn room_needed(&self) -> u64 {
        let missing = u64::from(self.left) * u64::from(self.geometry.piece_len_max());
        let assembly = self.config.assembly_blocks as u64 * u64::from(BLOCK_LEN);
        let least = assembly.max(self.geometry.piece_len_max().into());
        missing.min(self.geometry.total()).min(least)
    }

    /// The disk has looked.
    pub(crate) fn probed(
        &mut self,
        now: Instant,
        result: Result<Vec<PieceIndex>, StorageError>,
        bufs: &mut dyn BufSource<B>,
        out: &mut Outbox<B>,
    ) {
        if self.phase != Phase::Halted {
            return;
        }
        match result {
            Err(error) => {
                self.wait(now);
                self.tell_halted(error, out);
            }
            Ok(lost) => {
                for piece in lost {
                    if self.assembly.forget_spilled(piece) {
                        self.abandon(piece);
                    }
                    self.lose(now, piece, bufs, out);
                }
                self.try_to_write(out);
            }
        }
    }

    /// Writes what is in memory and can be: pieces that are whole, or the largest part of a large one.
    fn try_to_write(&mut self, out: &mut Outbox<B>) {
        self.halt.step = Step::Trying { failed: false };
        let pieces: Vec<_> = self.assembly.iter().map(|(piece, _)| piece).collect();
        let mut any = false;
        for piece in pieces {
            any |= self.assembly.is_in_memory(piece) && self.commit_again(piece);
        }
        if any {
            self.commit_closing(out);
        } else if self.has_large_pieces() {
            self.spill_largest(out);
        }
    }

    /// All that was due has been answered while the torrent was halted: on it goes, or waits.
    pub(crate) fn halt_goes_on(
        &mut self,
        now: Instant,
        bufs: &mut dyn BufSource<B>,
        out: &mut Outbox<B>,
    ) {
        if self.phase != Phase::Halted || !self.jobs.is_empty() {
            return;
        }
        match self.halt.step {
            Step::Trying { failed: false } => self.resume(now, out),
            Step::Trying { failed: true } => {
                self.wait(now);
                self.shed(bufs, out);
            }
            Step::Waiting { .. } => {
                // Blocks that were at the disk came back.
                self.shed(bufs, out);
                self.look_if_due(now, out);
            }
            Step::Idle | Step::Probing => {}
        }
    }

    /// The storage works: everybody is asked again.
    fn resume(&mut self, now: Instant, out: &mut Outbox<B>) {
        self.phase = Phase::Active;
        self.halt.step = Step::Idle;
        self.halt.error = None;
        self.halt.resumed = Some(now);
        out.push(Action::Tell(Notice::Resumed));
        for addr in std::mem::take(&mut self.halt.parted) {
            self.dialer.hurry(addr, now);
        }
        let pieces: Vec<_> = self.assembly.iter().map(|(piece, _)| piece).collect();
        for piece in pieces {
            self.verify_if_on_disk(piece, out);
        }
        if self.left > 0 {
            return;
        }
        if self.halt.complete {
            // That it is durable may not have been told yet.
            self.job(Job::Sync, DiskTask::Sync, out);
        } else {
            self.complete(now, out);
        }
    }
}
