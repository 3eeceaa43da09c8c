//! Worker threads and the order in which they do things.
//!
//! - Jobs of one storage start in the order in which they came. A *barrier* (`Verify`, `Sync`, `Probe`, `Close`)
//!   starts when every earlier job of its storage has been answered; later jobs may start beside a
//!   `Verify` or a `Sync`.
//! - One storage never holds all workers, so a hanging disk does not stop the torrents on others; of a device
//!   that is known to fail all storages together hold one ([`crate::gate`]).
//! - Storages take turns.
//! - Every job is answered exactly once, those of storages that are not open too.
//!
//! Nothing here blocks who submits. The queue is bounded by those who fill it: a job that carries blocks
//! cannot outnumber the blocks that exist, and of the others callers keep few on the way.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use torr_store::{BlockBuf, DiskDone, DiskJob, DiskTask, JobId, StorageError, StorageId};

use crate::answer::{not_open, perform};
use crate::batch::{self, Hashing};
use crate::cache::FileCache;
use crate::gate::Gates;
use crate::open::{OpenRequest, Stop, open};
use crate::serve::{Served, Server};
use crate::spec::{DiskConfig, OpenProgress, Opened, StorageSpec};
use crate::storage::{Limits, Storage};

/// No worker sleeps longer than this without looking around.
const NAP_MAX: Duration = Duration::from_secs(5);

type Sink = dyn Fn(DiskDone<BlockBuf>) + Send + Sync;

/// Hashes, writes and reads pieces on threads of its own.
///
/// Commands: [`Self::open`], [`Self::submit`], [`Self::cancel_open`]. Dropping it lets the workers finish
/// the jobs that they are at, answers the rest with an error, and waits for the workers; storages that
/// were not closed are left as a kill would leave them, which is safe.
pub struct Disk {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

struct Shared {
    queues: Mutex<Queues>,
    wake: Condvar,
    sink: Box<Sink>,
    cache: Arc<FileCache>,
    gates: Gates,
    config: DiskConfig,
    limits: Limits,
}

#[derive(Default)]
struct Queues {
    lanes: BTreeMap<StorageId, Lane>,
    /// Storages that may have something to start, each at most once.
    ready: VecDeque<StorageId>,
    /// When group commits are due, soonest first: the delay is the same for all.
    due: VecDeque<(Instant, StorageId)>,
    /// Openings at work. They can take hours, so they too leave a worker free.
    opening: usize,
    stop: bool,
}

/// What one storage has to do.
#[derive(Default)]
struct Lane {
    storage: Option<Arc<Storage>>,
    pending: VecDeque<Work>,
    running: usize,
    /// Nothing starts beside an opening or a closing.
    alone: bool,
    in_ready: bool,
    in_due: bool,
    /// Of the opening that is pending or at work.
    stop_opening: Option<Stop>,
}

impl Lane {
    /// What comes next; with one job that hashes come those right after it that hash too, as many as there
    /// are lanes for.
    fn take(&mut self) -> Option<Work> {
        let (job, task) = match self.pending.pop_front()? {
            Work::Task(job, task) => (job, task),
            other @ (Work::Open(_) | Work::Batch(_) | Work::Mark) => return Some(other),
        };
        let mut jobs = match Hashing::new(job, task) {
            Ok(first) => vec![first],
            Err(task) => return Some(Work::Task(job, task)),
        };
        while batch::has_room(&jobs) {
            let hashes =
                |work: &mut Work| matches!(work, Work::Task(_, task) if Hashing::is_of(task));
            let Some(Work::Task(job, task)) = self.pending.pop_front_if(hashes) else {
                break;
            };
            jobs.extend(Hashing::new(job, task));
        }
        Some(Work::Batch(jobs))
    }
}

enum Work {
    Open(Box<OpenRequest>),
    Task(JobId, DiskTask<BlockBuf>),
    /// Jobs that hash, which came one after another.
    Batch(Vec<Hashing>),
    /// Group commit, because its time has come.
    Mark,
}

impl Work {
    /// Comes after every earlier job of its storage.
    fn is_barrier(&self) -> bool {
        match self {
            Self::Open(_) => true,
            Self::Task(_, task) => match task {
                DiskTask::Verify { .. }
                | DiskTask::Sync
                | DiskTask::Probe { .. }
                | DiskTask::Close => true,
                DiskTask::Commit { .. }
                | DiskTask::Hash { .. }
                | DiskTask::Load { .. }
                | DiskTask::Recheck { .. }
                | DiskTask::Spill { .. } => false,
            },
            Self::Batch(_) | Self::Mark => false,
        }
    }

    /// Its commit is about to follow, and both are cheaper together.
    fn waits_for_next(&self) -> bool {
        matches!(self, Self::Task(_, DiskTask::Hash { joined: true, .. }))
    }

    fn is_alone(&self) -> bool {
        matches!(self, Self::Open(_) | Self::Task(_, DiskTask::Close))
    }
}

impl Disk {
    /// Starts the workers. `sink` is called by them with each answer; it must not block, and should wake
    /// its reader only when nothing was waiting there yet.
    #[must_use]
    pub fn start(
        config: DiskConfig,
        sink: impl Fn(DiskDone<BlockBuf>) + Send + Sync + 'static,
    ) -> Self {
        let count = config.workers.max(2);
        let shared = Arc::new(Shared {
            queues: Mutex::default(),
            wake: Condvar::new(),
            sink: Box::new(sink),
            cache: Arc::new(FileCache::new(config.open_files_max)),
            gates: Gates::default(),
            limits: Limits {
                mark_after: config.mark_after,
                mark_bytes: config.mark_bytes,
                unmarked_bytes_max: config.unmarked_bytes_max,
                unmarked: Arc::default(),
            },
            config: DiskConfig {
                workers: count,
                ..config
            },
        });
        let start = |n| {
            let shared = Arc::clone(&shared);
            let thread = std::thread::Builder::new().name(format!("torr-disk-{n}"));
            // With one worker at least the disk works, if slowly; with none it never would.
            match thread.spawn(move || shared.work()) {
                Ok(worker) => Some(worker),
                Err(error) if n == 0 => panic!("no thread for the disk: {error}"),
                Err(_) => None,
            }
        };
        let workers = (0..count).filter_map(start).collect();
        Self { shared, workers }
    }

    /// Opens a storage on a worker thread. `progress` is called by it while pieces are hashed, `done` once
    /// at the end. Jobs for `id` may be submitted at once; they wait.
    ///
    /// `id` must not have been used before, but for an opening that failed.
    pub fn open(
        &self,
        id: StorageId,
        spec: StorageSpec,
        progress: impl Fn(OpenProgress) + Send + Sync + 'static,
        done: impl FnOnce(Result<Opened, StorageError>) + Send + 'static,
    ) {
        let stop = Stop::default();
        let request = OpenRequest {
            id,
            spec,
            progress: Box::new(progress),
            done: Box::new(done),
            stop: stop.clone(),
        };
        self.shared
            .push(id, Work::Open(Box::new(request)), Some(stop));
    }

    /// What a network thread serves blocks with.
    #[must_use]
    pub fn server(&self) -> Server {
        Server::new(self.shared.config.settled_after)
    }

    /// Ends an opening that is still at work; it is answered with an error soon.
    pub fn cancel_open(&self, id: StorageId) {
        let queues = self.shared.lock();
        let lane = queues.lanes.get(&id);
        if let Some(stop) = lane.and_then(|lane| lane.stop_opening.as_ref()) {
            stop.set();
        }
    }

    /// Hands over a job. Never blocks; the answer goes to the sink.
    pub fn submit(&self, job: DiskJob<BlockBuf>) {
        self.shared
            .push(job.storage, Work::Task(job.job, job.task), None);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let mut queues = self.shared.lock();
        queues.stop = true;
        for lane in queues.lanes.values() {
            lane.stop_opening.iter().for_each(Stop::set);
        }
        drop(queues);
        self.shared.wake.notify_all();
        for worker in self.workers.drain(..) {
            // A worker that panicked has nothing more to tell.
            let _ = worker.join();
        }
        self.shared.refuse_rest();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queues> {
        // Nothing under this lock can panic half-way.
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, id: StorageId, work: Work, stop: Option<Stop>) {
        let alone = work.waits_for_next();
        let mut queues = self.lock();
        let lane = queues.lanes.entry(id).or_default();
        lane.pending.push_back(work);
        if stop.is_some() {
            lane.stop_opening = stop;
        }
        queues.make_ready(id);
        drop(queues);
        if !alone {
            self.wake.notify_one();
        }
    }

    fn work(&self) {
        let mut queues = self.lock();
        while !queues.stop {
            let now = Instant::now();
            if let Some((id, storage, work)) = queues.next(now, self.config.workers) {
                if !queues.ready.is_empty() {
                    self.wake.notify_one();
                }
                drop(queues);
                let ended = self.run(id, storage.as_ref(), work);
                queues = self.lock();
                queues.finish(id, ended);
                if self.limits.is_much() {
                    queues.hasten(now);
                }
                self.wake.notify_one();
            } else {
                let nap = queues.nap(now);
                let woken = self.wake.wait_timeout(queues, nap);
                queues = woken.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }

    fn run(&self, id: StorageId, storage: Option<&Arc<Storage>>, work: Work) -> Ended {
        match work {
            Work::Open(request) => {
                let (done, opened) = open(
                    *request,
                    &self.config,
                    &self.limits,
                    (&self.cache, &self.gates),
                );
                match opened {
                    Ok((storage, opened)) => {
                        let storage = Arc::new(storage);
                        let served = Some(Served(Arc::downgrade(&storage)));
                        done(Ok(Opened { served, ..opened }));
                        Ended::Opened(Some(storage))
                    }
                    Err(error) => {
                        done(Err(error));
                        Ended::Opened(None)
                    }
                }
            }
            Work::Mark => {
                // What goes wrong is told by the next `Commit` or `Sync`.
                let _ = storage.map(|storage| storage.mark());
                Ended::Marked(due(storage))
            }
            Work::Batch(jobs) => {
                let mut answer = |job, result| {
                    (self.sink)(DiskDone {
                        storage: id,
                        job,
                        result,
                    });
                };
                match storage {
                    Some(storage) => batch::perform(storage, jobs, &mut answer),
                    None => {
                        for (job, task) in jobs.into_iter().map(Hashing::into_task) {
                            answer(job, not_open(task));
                        }
                    }
                }
                Ended::Task(due(storage))
            }
            Work::Task(job, task) => {
                let closing = matches!(task, DiskTask::Close);
                let loading = matches!(task, DiskTask::Load { .. });
                let result = match storage {
                    None => not_open(task),
                    Some(storage) => perform(storage, task),
                };
                (self.sink)(DiskDone {
                    storage: id,
                    job,
                    result,
                });
                if closing {
                    return Ended::Closed;
                }
                // What reads makes no mark due, and need not wait for the log to find that out.
                Ended::Task(due(storage.filter(|_| !loading)))
            }
        }
    }

    /// Answers what nobody will do any more.
    fn refuse_rest(&self) {
        let lanes = std::mem::take(&mut self.lock().lanes);
        for (id, lane) in lanes {
            for work in lane.pending {
                match work {
                    Work::Open(request) => (request.done)(Err(crate::open::cancelled())),
                    // Made when it is started, never before.
                    Work::Mark | Work::Batch(_) => {}
                    Work::Task(job, task) => (self.sink)(DiskDone {
                        storage: id,
                        job,
                        result: not_open(task),
                    }),
                }
            }
        }
    }
}

/// What a worker came back with.
enum Ended {
    Opened(Option<Arc<Storage>>),
    /// When a group commit is due.
    Task(Option<Instant>),
    /// When the next one is due already.
    Marked(Option<Instant>),
    Closed,
}

fn due(storage: Option<&Arc<Storage>>) -> Option<Instant> {
    storage.and_then(|storage| storage.mark_due(Instant::now()))
}

type Next = (StorageId, Option<Arc<Storage>>, Work);

impl Queues {
    fn make_ready(&mut self, id: StorageId) {
        if let Some(lane) = self.lanes.get_mut(&id)
            && !lane.in_ready
            && !lane.pending.is_empty()
        {
            lane.in_ready = true;
            self.ready.push_back(id);
        }
    }

    fn nap(&self, now: Instant) -> Duration {
        let due = self.due.front().map(|(at, _)| at.duration_since(now));
        due.unwrap_or(NAP_MAX).min(NAP_MAX)
    }

    /// The next thing to do. `workers` is how many there are.
    fn next(&mut self, now: Instant, workers: usize) -> Option<Next> {
        while let Some((_, id)) = self.due.pop_front_if(|(at, _)| *at <= now) {
            if let Some(lane) = self.lanes.get_mut(&id) {
                lane.pending.push_front(Work::Mark);
                self.make_ready(id);
            }
        }
        for _ in 0..self.ready.len() {
            let id = self.ready.pop_front()?;
            let Some(lane) = self.lanes.get_mut(&id) else {
                continue;
            };
            lane.in_ready = false;
            let Some(work) = lane.pending.front() else {
                continue;
            };
            if lane.pending.len() == 1 && work.waits_for_next() {
                continue;
            }
            // Not startable now: whoever ends a job of this storage makes it ready again.
            let full = lane.running >= workers - 1;
            if lane.alone || full || (work.is_barrier() && lane.running > 0) {
                continue;
            }
            if matches!(work, Work::Open(_)) && self.opening >= workers - 1 {
                lane.in_ready = true;
                self.ready.push_back(id);
                continue;
            }
            return self.start(id);
        }
        None
    }

    fn start(&mut self, id: StorageId) -> Option<Next> {
        let lane = self.lanes.get_mut(&id)?;
        let work = lane.take()?;
        lane.running += 1;
        lane.alone = work.is_alone();
        if matches!(work, Work::Open(_)) {
            self.opening += 1;
        }
        let storage = lane.storage.clone();
        self.make_ready(id);
        Some((id, storage, work))
    }

    fn finish(&mut self, id: StorageId, ended: Ended) {
        let Some(lane) = self.lanes.get_mut(&id) else {
            return;
        };
        lane.running -= 1;
        let due = match ended {
            Ended::Opened(storage) => {
                lane.alone = false;
                lane.stop_opening = None;
                lane.storage = storage;
                self.opening -= 1;
                due(lane.storage.as_ref())
            }
            Ended::Closed => {
                lane.alone = false;
                lane.storage = None;
                None
            }
            Ended::Marked(due) => {
                lane.in_due = false;
                due
            }
            Ended::Task(due) => due,
        };
        if let Some(at) = due {
            self.set_due(id, at);
        }
        self.make_ready(id);
        let idle =
            |lane: &Lane| lane.storage.is_none() && lane.running == 0 && lane.pending.is_empty();
        if self.lanes.get(&id).is_some_and(idle) {
            self.lanes.remove(&id);
        }
    }

    /// All group commits are due by now.
    fn hasten(&mut self, now: Instant) {
        for (at, _) in &mut self.due {
            *at = now.min(*at);
        }
    }

    /// A group commit is due then, or sooner if it was so before.
    fn set_due(&mut self, id: StorageId, at: Instant) {
        let Some(lane) = self.lanes.get_mut(&id) else {
            return;
        };
        if std::mem::replace(&mut lane.in_due, true) {
            let known = self.due.iter().position(|(_, other)| *other == id);
            // Not found: it is at work already, and tells what is due next when it ends.
            match known {
                Some(place) if self.due[place].0 > at => drop(self.due.remove(place)),
                Some(_) | None => return,
            }
        }
        let place = self.due.partition_point(|(other, _)| *other <= at);
        self.due.insert(place, (at, id));
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Disk({} workers)", self.workers.len())
    }
}
