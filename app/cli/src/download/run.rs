//! Torrents from start to end: one session, its events, the clock, and what people outside wish.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::{mpsc, watch};
use torr::{Event, Listener, PortStatus, Session, SessionConfig, SessionError};

use crate::args::high::{Goal, Show};
use crate::args::low::Mode;
use crate::download::facts::Facts;
use crate::download::hook::{Hooks, Runner};
use crate::download::job::{Job, Planned, Stage};
use crate::download::news::{refused, storage};
use crate::download::screen::Screen;
use crate::download::signals::{Wish, Wishes};
use crate::download::stall;
use crate::env::Env;
use crate::failure::{Exit, Failure};
use crate::units;

/// How often figures are looked at, and a bar is drawn.
const TICK: Duration = Duration::from_millis(250);
const JSON_EVERY: Duration = Duration::from_secs(1);
const LINE_EVERY: Duration = Duration::from_secs(10);
/// For saying goodbye, when nobody waits.
const GRACE: Duration = Duration::from_secs(5);
/// The same when nothing was exchanged, or somebody waits: exit is at most 5 s after the signal.
const SHORT_GRACE: Duration = Duration::from_millis(500);
const SIGNAL_GRACE: Duration = Duration::from_millis(4_000);
/// News that wait to be told.
const NEWS_MAX: usize = 1_000;

/// All that a run is to do.
pub(crate) struct Plan {
    pub(crate) session: SessionConfig,
    /// The session's port, where it was taken already.
    pub(crate) listener: Option<Result<Listener, SessionError>>,
    pub(crate) torrents: Vec<Planned>,
    pub(crate) goal: Goal,
    pub(crate) timeout: Option<Duration>,
    pub(crate) stall_timeout: Option<Duration>,
    pub(crate) show: Show,
    pub(crate) hooks: Hooks,
    /// The command that goes on where this one stopped.
    pub(crate) resume: Option<String>,
}

/// What became of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Someone stopped it.
    pub(crate) stopped: Option<Exit>,
    /// For each torrent what went wrong.
    pub(crate) failed: Vec<Option<Exit>>,
    pub(crate) summaries: Vec<Option<crate::download::view::Summary>>,
    /// For each torrent the .torrent, where nothing else was wanted.
    pub(crate) metadata: Vec<Option<Arc<[u8]>>>,
}

pub(super) enum News {
    Event(usize, Event),
    /// It left the swarm, or nobody waits for that any more.
    Stopped(usize),
    Why(usize, String),
    /// How it stands with the gateway.
    Port(PortStatus),
    /// What `--exec` came to.
    Hook(usize, Result<(), String>),
}

pub(super) struct Run {
    pub(super) jobs: Vec<Job>,
    pub(super) screen: Screen,
    pub(super) goal: Goal,
    pub(super) hooks: Runner,
    pub(super) hooks_running: usize,
    pub(super) news: mpsc::Sender<News>,
    timeout: Option<Duration>,
    stall_timeout: Option<Duration>,
    peers_are_named: bool,
    began: Instant,
    told: Instant,
}

/// Carries a plan out.
pub(crate) async fn run(env: &Env, plan: Plan) -> Result<Outcome, Failure> {
    let mut wishes = Wishes::listen(env);
    let screen = Screen::new(env, plan.show);
    let listener = plan.listener;
    let listener = listener.unwrap_or_else(|| Listener::bind(&plan.session));
    let session = Session::start_on(listener.map_err(cannot_start)?, plan.session).await;
    let session = session.map_err(cannot_start)?;
    for addr in session.listen_addrs() {
        screen.detail(&format!("listening on {addr}"));
    }
    for warning in session.warnings() {
        screen.warn("state", warning);
    }
    let (news, mut inbox) = mpsc::channel(NEWS_MAX);
    let now = Instant::now();
    let mut run = Run {
        jobs: plan
            .torrents
            .iter()
            .map(|planned| Job::new(planned, now))
            .collect(),
        screen,
        goal: plan.goal,
        hooks: Runner::new(plan.hooks, news.clone()),
        hooks_running: 0,
        news,
        timeout: plan.timeout,
        stall_timeout: plan.stall_timeout,
        peers_are_named: plan
            .torrents
            .iter()
            .any(|planned| !planned.add.peers.is_empty()),
        began: now,
        told: now,
    };
    tokio::spawn(follow_port(session.port_status(), run.news.clone()));
    run.add_all(&session, plan.torrents).await;
    let stopped = run.until_done(&mut wishes, &mut inbox).await;
    let left = run.jobs.iter().any(|job| !job.is_ended());
    run.finish(session, stopped, &mut wishes).await;
    if let Some(exit) = stopped
        && exit != Exit::Done
        && left
        && let Some(command) = plan.resume
    {
        run.screen.say(&format!("resume with: {command}"));
    }
    Ok(Outcome {
        stopped,
        failed: run.jobs.iter().map(|job| job.failed).collect(),
        summaries: run.jobs.iter().map(|job| job.summary).collect(),
        metadata: run.jobs.iter_mut().map(|job| job.metadata.take()).collect(),
    })
}

/// Tells what becomes of `--map-port`, until the session ends.
async fn follow_port(mut port: watch::Receiver<Option<PortStatus>>, news: mpsc::Sender<News>) {
    while port.changed().await.is_ok() {
        let status = port.borrow_and_update().clone();
        if let Some(status) = status
            && news.send(News::Port(status)).await.is_err()
        {
            return;
        }
    }
}

fn cannot_start(error: SessionError) -> Failure {
    if let SessionError::Listen(error) = error {
        return Failure::new(Exit::Network, "network", error.to_string())
            .hint("choose another port with --port, or another address with --bind");
    }
    Failure::new(Exit::Other, "session", error.to_string())
}

impl Run {
    async fn add_all(&mut self, session: &Session, torrents: Vec<Planned>) {
        for (index, planned) in torrents.into_iter().enumerate() {
            match &planned.facts {
                Some(facts) => self.introduce(facts),
                None => self
                    .screen
                    .say(&format!("{}  fetching metadata", planned.name)),
            }
            match session.add(planned.add).await {
                Ok(torrent) => {
                    let mut events = torrent.events();
                    let news = self.news.clone();
                    tokio::spawn(async move {
                        while let Some(event) = events.next().await {
                            if news.send(News::Event(index, event)).await.is_err() {
                                return;
                            }
                        }
                        let _ = news.send(News::Stopped(index)).await;
                    });
                    if let Some(job) = self.jobs.get_mut(index) {
                        job.torrent = Some(torrent);
                    }
                    // An earlier run may have kept what a link stands for.
                    self.learn(index);
                }
                Err(error) => self.fail(index, cannot_add(&planned.word, &error)),
            }
        }
    }

    /// What is to be downloaded, for people.
    pub(super) fn introduce(&self, facts: &Facts) {
        let files = match facts.files_wanted == facts.files {
            true => units::count(facts.files, "file"),
            false => format!(
                "{} of {}",
                facts.files_wanted,
                units::count(facts.files, "file")
            ),
        };
        let size = units::size(facts.bytes_wanted);
        self.screen.say(&format!("{}  {size}  {files}", facts.name));
        for warning in &facts.warnings {
            self.screen.warn(&facts.name, warning);
        }
        if facts.private && !self.goal.seeds() {
            let text = "it is private, and its tracker may expect you to seed: --seed or --ratio 1";
            self.screen.warn(&facts.name, text);
        }
    }

    /// Until every torrent has ended, or someone wants it to stop.
    async fn until_done(
        &mut self,
        wishes: &mut Wishes,
        inbox: &mut mpsc::Receiver<News>,
    ) -> Option<Exit> {
        let mut ticks = tokio::time::interval(TICK);
        while self.hooks_running > 0 || !self.jobs.iter().all(Job::is_ended) {
            tokio::select! {
                Some(news) = inbox.recv() => self.handle_news(news),
                _ = ticks.tick() => self.tick(Instant::now()),
                wish = wishes.next() => match wish {
                    Wish::Stop(exit) => return Some(exit),
                    Wish::Status => self.screen.lines(&self.views(), true),
                    Wish::Announce => self.announce(),
                },
            }
            if let Some(why) = self.screen.is_left() {
                let failure = Failure::new(Exit::Other, "standard output", why);
                self.screen.fail(&failure);
                return Some(failure.exit);
            }
        }
        None
    }

    /// Leaves the swarms and saves; a second wish to stop is granted at once.
    async fn finish(&mut self, session: Session, stopped: Option<Exit>, wishes: &mut Wishes) {
        let grace = match stopped {
            Some(_) => SIGNAL_GRACE,
            None => SHORT_GRACE,
        };
        if stopped.is_some() {
            for job in self.jobs.iter_mut().filter(|job| !job.is_ended()) {
                job.stage = Stage::Stopping;
            }
            self.draw();
        }
        let shutdown = session.shutdown(grace);
        tokio::pin!(shutdown);
        let ended = loop {
            tokio::select! {
                ended = &mut shutdown => break ended,
                wish = wishes.next() => if matches!(wish, Wish::Stop(_)) {
                    return;
                },
            }
        };
        self.screen.draw(&[]);
        if let Err(error) = ended {
            self.screen
                .fail(&Failure::new(Exit::Other, "session", error.to_string()));
        }
    }

    fn tick(&mut self, now: Instant) {
        for index in 0..self.jobs.len() {
            self.tick_job(index, now);
        }
        self.draw();
        let every = match self.screen.mode() {
            Mode::Bar | Mode::None => return,
            Mode::Line => LINE_EVERY,
            Mode::Json => JSON_EVERY,
        };
        if now.duration_since(self.told) < every {
            return;
        }
        self.told = now;
        match self.screen.mode() {
            Mode::Json => {
                for job in &self.jobs {
                    match job.stage {
                        Stage::Seeking => self.screen.json("metadata", job.metadata_json()),
                        Stage::Active | Stage::Done { .. } => {
                            self.screen.json("progress", job.progress_json());
                        }
                        Stage::Opening | Stage::Complete | Stage::Stopping | Stage::Ended => {}
                    }
                }
            }
            Mode::Line => self.screen.lines(&self.views(), self.jobs.len() > 1),
            Mode::Bar | Mode::None => {}
        }
    }

    fn draw(&mut self) {
        let views = self.views();
        self.screen.draw(&views);
    }

    fn views(&self) -> Vec<crate::download::view::View> {
        self.jobs
            .iter()
            .filter(|job| !job.is_ended())
            .map(Job::view)
            .collect()
    }

    fn tick_job(&mut self, index: usize, now: Instant) {
        let Some(job) = self.jobs.get_mut(index) else {
            return;
        };
        job.tick(now);
        if let Some((addr, why)) = job.news_of_refusal() {
            let (peer, why) = (addr.to_string(), why.to_string());
            self.screen.detail(&format!("{}: {peer} {why}", job.name));
            let fields = job.json(json!({ "peer": peer, "why": why }));
            self.screen.json("refused", fields);
        }
        if job.is_stalled(now) && !job.asking {
            let torrent = job.torrent.clone();
            if let Some(torrent) = torrent {
                job.asking = true;
                let (news, named) = (self.news.clone(), self.peers_are_named);
                tokio::spawn(async move {
                    let why = stall::why(torrent, named).await;
                    let _ = news.send(News::Why(index, why)).await;
                });
            }
        }
        let late = self
            .timeout
            .filter(|limit| now.duration_since(self.began) >= *limit);
        let silent = self.stall_timeout.filter(|limit| {
            matches!(job.stage, Stage::Seeking | Stage::Active) && job.silent(now) >= *limit
        });
        if let (true, Some(limit)) = (job.is_wanting(), late.or(silent)) {
            let why = job.stalled.clone();
            let seeking = job.stage == Stage::Seeking;
            let what = match (seeking, late.is_some()) {
                (true, _) => "no metadata was found",
                (false, true) => "it is not done",
                (false, false) => "nothing came",
            };
            let mut text = format!("gave up: {what} after {}", units::time(limit));
            if let Some(why) = why {
                text.push_str(&format!(" ({why})"));
            }
            let failure = Failure::new(Exit::GaveUp, job.name.clone(), text).hint(match seeking {
                true => "more trackers (--tracker) or peers (--peer) may help",
                false => "progress is saved; the same command goes on from there",
            });
            self.fail(index, failure);
            return;
        }
        if let Stage::Done { at } = job.stage
            && let Some(stats) = job.stats()
            && let Some(goal) = self
                .goal
                .reached(stats.uploaded, job.size, now.duration_since(at))
        {
            if self.goal.seeds() {
                self.screen.json(
                    "goal",
                    job.json(json!({ "goal": goal, "uploaded": stats.uploaded })),
                );
                let uploaded = units::size(stats.uploaded);
                self.screen.say(&format!(
                    "{}: {goal} reached, uploaded {uploaded}",
                    job.name
                ));
            }
            self.stop(index);
        }
    }

    /// Something went wrong with a torrent; the others go on.
    pub(super) fn fail(&mut self, index: usize, failure: Failure) {
        self.screen.fail(&failure);
        let Some(job) = self.jobs.get_mut(index) else {
            return;
        };
        self.screen.json("error", job.json(failure.json()));
        job.failed.get_or_insert(failure.exit);
        self.stop(index);
    }

    /// Has a torrent leave its swarm; what it came to is told by `News::Stopped`.
    pub(super) fn stop(&mut self, index: usize) {
        let Some(job) = self.jobs.get_mut(index) else {
            return;
        };
        let Some(torrent) = job.torrent.clone() else {
            job.stage = Stage::Ended;
            return;
        };
        if matches!(job.stage, Stage::Stopping | Stage::Ended) {
            return;
        }
        job.stage = Stage::Stopping;
        let stats = torrent.stats();
        // Who exchanged nothing has nothing to tell that would be worth waiting for.
        let grace = match (stats.downloaded, stats.uploaded) {
            (0, 0) => SHORT_GRACE,
            _ => GRACE,
        };
        let news = self.news.clone();
        tokio::spawn(async move {
            let _ = torrent.stop(grace).await;
            let _ = news.send(News::Stopped(index)).await;
        });
    }

    fn announce(&self) {
        for torrent in self.jobs.iter().filter_map(|job| job.torrent.clone()) {
            tokio::spawn(async move { torrent.reannounce().await });
        }
    }
}

fn cannot_add(word: &str, error: &SessionError) -> Failure {
    if let SessionError::Storage(error) = error {
        return storage(word, error);
    }
    if let SessionError::Refused(why) = error {
        return refused(word, why);
    }
    let exit = match matches!(error, SessionError::Metainfo(_)) {
        true => Exit::Metadata,
        false => Exit::Other,
    };
    Failure::new(exit, word, error.to_string())
}
