//! `torr demo`: the whole of torr on one machine. A payload, a tracker, two seeds, and a download that finds
//! them by HTTP and UDP and is compared byte by byte.

mod payload;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::sync::oneshot;
use torr::metainfo::Metainfo;
use torr::tracker_server::{TrackerServer, TrackerServerConfig};
use torr::{AddTorrent, CreateTorrent, Dht, PortChoice, Session, SessionConfig, Torrent};

use crate::args::high::{Goal, Show, Talk, default_mode, parse_mode};
use crate::args::low::{DemoArgs, Mode};
use crate::cmd::work;
use crate::download::{
    Facts, Hooks, Outcome, Plan, Planned, Screen, Wish, Wishes, run_plan, runtime,
};
use crate::env::Env;
use crate::failure::{Exit, Failure, plain_io};
use crate::units;

/// What the payload is called.
const NAME: &str = "torr-demo";
/// For the seeds to have their files open.
const READY: Duration = Duration::from_secs(60);
const GRACE: Duration = Duration::from_millis(500);

pub(crate) fn run(env: &mut Env, args: &DemoArgs) -> Result<Exit, Failure> {
    let size = units::parse_size(&args.size).map_err(|why| Failure::usage("--size", why))?;
    let show = Show {
        mode: mode(env, args)?,
        talk: Talk::Usual,
        print: None,
    };
    let temp = env
        .var("TMPDIR")
        .map_or_else(|| PathBuf::from("/tmp"), PathBuf::from);
    let dir = tempfile::Builder::new()
        .prefix("torr-demo-")
        .tempdir_in(&temp);
    let dir = dir.map_err(|error| Failure::io(temp.display().to_string(), &error))?;
    let demo = Demo {
        size,
        show,
        seeds: dir.path().join("seeds"),
        download: dir.path().join("download"),
        dir,
    };
    runtime()?.block_on(demo.run(env))
}

fn mode(env: &Env, args: &DemoArgs) -> Result<Mode, Failure> {
    let Some(word) = &args.progress else {
        return Ok(default_mode(env));
    };
    let wrong = |why| Failure::usage("--progress", why);
    match parse_mode(&word.to_string_lossy()).map_err(wrong)? {
        Mode::Json => Err(wrong("a demo is for people: bar, line or none".to_owned())),
        mode @ (Mode::Bar | Mode::Line | Mode::None) => Ok(mode),
    }
}

struct Demo {
    size: u64,
    show: Show,
    seeds: PathBuf,
    download: PathBuf,
    /// Everything is in it; it is removed at the end, whatever the end is.
    dir: TempDir,
}

impl Demo {
    async fn run(self, env: &Env) -> Result<Exit, Failure> {
        let mut wishes = Wishes::listen(env);
        let mut screen = Screen::new(env, self.show);
        let tracker = Tracker::start()?;
        let torrent = self.prepare(&mut wishes, &mut screen, &tracker).await?;
        let sessions = tokio::select! {
            sessions = self.start_seeds(&torrent) => sessions?,
            exit = stopped(&mut wishes) => return Ok(exit),
        };
        let addrs = sessions
            .iter()
            .flat_map(Session::listen_addrs)
            .map(|addr| addr.to_string());
        let addrs: Vec<String> = addrs.collect();
        screen.say(&format!("seeds: {}", addrs.join(" and ")));
        // The run listens to signals and keys itself.
        drop((wishes, screen));
        let began = Instant::now();
        let outcome = run_plan(env, self.plan(torrent.clone())?).await?;
        let took = began.elapsed();
        for session in sessions {
            // They are of no use any more, and what they hold is thrown away.
            let _ = session.shutdown(GRACE).await;
        }
        self.conclude(env, &outcome, took).await
    }

    /// Payload and torrent.
    async fn prepare(
        &self,
        wishes: &mut Wishes,
        screen: &mut Screen,
        tracker: &Tracker,
    ) -> Result<Vec<u8>, Failure> {
        let top = self.seeds.join(NAME);
        let (path, size) = (top.clone(), self.size);
        let written = work::run_with(wishes, screen, "payload", move |progress| {
            payload::write(&path, size, progress)
        });
        let files = written.await?.map_err(|error| {
            Failure::io("payload", &error)
                .hint("it takes twice --size; TMPDIR names another place for it")
        })?;
        let files = units::count(files as u64, "file");
        let size = units::size(self.size);
        screen.say(&format!(
            "payload: {size} in {files} below {}",
            self.dir.path().display()
        ));
        screen.say(&format!(
            "tracker: {} and {}",
            tracker.url("http"),
            tracker.url("udp")
        ));
        let create = CreateTorrent {
            trackers: vec![vec![tracker.url("http")], vec![tracker.url("udp")]],
            ..CreateTorrent::new(top)
        };
        let created = work::run_with(wishes, screen, "torrent", move |progress| {
            torr::create(&create, &|done, total| progress.tell(done, total))
        });
        let created = created.await?;
        let created =
            created.map_err(|error| Failure::new(Exit::Other, "torrent", error.to_string()))?;
        Ok(created.torrent)
    }

    /// Two sessions that have it all, each with a state of its own.
    async fn start_seeds(&self, torrent: &[u8]) -> Result<Vec<Session>, Failure> {
        let mut sessions = Vec::new();
        for number in 1..=2 {
            let state = self.dir.path().join(format!("state-of-seed-{number}"));
            let session = Session::start(self.session(state)).await.map_err(failed)?;
            let seed = session.add(AddTorrent {
                // They were hashed a moment ago.
                trust: true,
                ..AddTorrent::new(torrent, &self.seeds)
            });
            let seed: Torrent = seed.await.map_err(failed)?;
            let ready = tokio::time::timeout(READY, seed.synced()).await;
            ready
                .map_err(|_| Failure::new(Exit::Other, "seed", "it did not get ready"))?
                .map_err(failed)?;
            sessions.push(session);
        }
        Ok(sessions)
    }

    /// Nothing of a demo leaves this machine.
    fn session(&self, state: PathBuf) -> SessionConfig {
        SessionConfig {
            port: PortChoice::Exact(0),
            bind: Some([127, 0, 0, 1].into()),
            dht: Dht::Off,
            ..SessionConfig::new(state)
        }
    }

    fn plan(&self, torrent: Vec<u8>) -> Result<Plan, Failure> {
        let meta = Metainfo::parse(&torrent);
        let meta = meta.map_err(|error| Failure::new(Exit::Other, "torrent", error.to_string()))?;
        let planned = Planned {
            word: NAME.to_owned(),
            name: NAME.to_owned(),
            hash: meta.info().info_hash().to_string(),
            magnet: meta.magnet().to_string(),
            choose: None,
            facts: Some(Facts::of(&meta, None, Some(NAME))),
            add: AddTorrent::new(torrent, &self.download),
        };
        Ok(Plan {
            session: self.session(self.dir.path().join("state")),
            torrents: vec![planned],
            goal: Goal::default(),
            timeout: None,
            stall_timeout: Some(READY),
            show: self.show,
            // Nothing of a demo comes from elsewhere, and it needs ports as it goes.
            listener: None,
            hooks: Hooks::None,
            resume: None,
        })
    }

    async fn conclude(self, env: &Env, outcome: &Outcome, took: Duration) -> Result<Exit, Failure> {
        if let Some(exit) = outcome
            .stopped
            .or(outcome.failed.iter().copied().flatten().next())
        {
            return Ok(exit);
        }
        let mut wishes = Wishes::listen(env);
        let mut screen = Screen::new(env, self.show);
        let (seeds, download) = (self.seeds.join(NAME), self.download.join(NAME));
        let compared = work::run_with(&mut wishes, &mut screen, "comparison", move |progress| {
            payload::compare(&seeds, &download, progress)
        });
        let same = compared
            .await?
            .map_err(|error| Failure::io("comparison", &error))?;
        if let Some(different) = same {
            let what = different.display().to_string();
            return Err(Failure::new(
                Exit::Verification,
                what,
                "it is not what the seeds have",
            ));
        }
        let took = outcome
            .summaries
            .iter()
            .flatten()
            .next()
            .map_or(took, |summary| summary.took);
        let rate = self.size as f64 / took.as_secs_f64().max(0.001);
        let (size, rate) = (units::size(self.size), units::rate(rate as u64));
        env.out.line(format_args!(
            "{size} in {:.1} s: {rate}, every file compared byte by byte",
            took.as_secs_f64()
        ));
        Ok(Exit::Done)
    }
}

async fn stopped(wishes: &mut Wishes) -> Exit {
    loop {
        if let Wish::Stop(exit) = wishes.next().await {
            return exit;
        }
    }
}

fn failed(error: torr::SessionError) -> Failure {
    Failure::new(Exit::Other, "seed", error.to_string())
}

/// A tracker on a thread of its own, until this is dropped.
struct Tracker {
    addr: std::net::SocketAddr,
    /// Dropping it is the sign to stop.
    _stop: oneshot::Sender<()>,
}

impl Tracker {
    fn start() -> Result<Self, Failure> {
        let config = TrackerServerConfig {
            listen: vec![([127, 0, 0, 1], 0).into()],
            ..TrackerServerConfig::on_port(0)
        };
        let server = TrackerServer::bind(config);
        let server = server
            .map_err(|error| Failure::new(Exit::Network, "tracker", plain_io(&error.source)))?;
        let addr = server.local_addrs().next();
        let addr =
            addr.ok_or_else(|| Failure::new(Exit::Network, "tracker", "it has no address"))?;
        let runtime = runtime()?;
        let (stop, stopped) = oneshot::channel::<()>();
        std::thread::spawn(move || {
            let until = async {
                let _ = stopped.await;
            };
            // Without a tracker the download says so.
            let _ = runtime.block_on(server.run(until));
        });
        Ok(Self { addr, _stop: stop })
    }

    fn url(&self, scheme: &str) -> String {
        format!("{scheme}://{}/announce", self.addr)
    }
}
