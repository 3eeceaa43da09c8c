//! What the news of a torrent mean for a run.

use std::path::Path;
use std::time::Instant;

use serde_json::json;
use torr::metainfo::{FileIndex, Metainfo};
use torr::{Event, Refused, StorageError, StorageErrorKind, Torrent, TrackerEvent, WebEvent};

use crate::download::facts::Facts;
use crate::download::hook::Told;
use crate::download::job::{Job, Stage};
use crate::download::not_selected;
use crate::download::run::{News, Run};
use crate::download::stall::host;
use crate::download::view::Summary;
use crate::failure::{Exit, Failure, plain};
use crate::units;
use torr::metainfo::printable;

/// For JSON; a torrent that is being downloaded has one.
fn path_of(torrent: &Torrent) -> Option<String> {
    Some(torrent.path()?.to_string_lossy().into_owned())
}

/// The exit status for what a disk said, and its own words.
pub(crate) fn storage(name: &str, error: &StorageError) -> Failure {
    let exit = match error.kind {
        StorageErrorKind::NoSpace => Exit::NoSpace,
        StorageErrorKind::Denied
        | StorageErrorKind::Missing
        | StorageErrorKind::Occupied
        | StorageErrorKind::Locked
        | StorageErrorKind::TooManyFiles
        | StorageErrorKind::Io => Exit::Storage,
    };
    let why = printable(&error.to_string()).into_owned();
    Failure::new(exit, name, why).maybe_hint(error.hint())
}

/// The same for metadata that cannot be used.
pub(super) fn refused(name: &str, why: &Refused) -> Failure {
    match why {
        Refused::Selection(why) => not_selected(why),
        Refused::Metainfo(why) => Failure::new(Exit::Metadata, name, printable(&why.to_string())),
    }
}

impl Run {
    pub(super) fn handle_news(&mut self, news: News) {
        match news {
            News::Event(index, event) => self.handle_event(index, event),
            News::Stopped(index) => {
                if let Some(job) = self.jobs.get_mut(index) {
                    job.stage = Stage::Ended;
                }
            }
            News::Why(index, why) => {
                let now = Instant::now();
                if let Some(job) = self.jobs.get_mut(index) {
                    job.asking = false;
                    let why = match &job.web_failure {
                        Some(web) => format!("{why}; {web}"),
                        None => why,
                    };
                    job.stalled = job.is_stalled(now).then_some(why);
                }
            }
            News::Hook(index, result) => {
                self.hooks_running -= 1;
                if let (Err(why), Some(job)) = (result, self.jobs.get(index)) {
                    self.screen.warn(&job.name, &format!("--exec: {why}"));
                }
            }
        }
    }

    fn handle_event(&mut self, index: usize, event: Event) {
        let Some(job) = self.jobs.get_mut(index) else {
            return;
        };
        match event {
            Event::Metadata => self.learn(index),
            Event::Refused(why) => {
                let failure = refused(&job.name, &why);
                self.fail(index, failure);
            }
            Event::Checking { done, total } => {
                job.checking = Some((done, total));
                let (done, total) = job.checked_bytes(job.checking);
                if total == 0 {
                    return;
                }
                self.screen.json(
                    "checking",
                    job.json(json!({ "done": done, "total": total })),
                );
            }
            Event::Added => {
                job.stage = Stage::Active;
                job.tick(Instant::now());
                self.tell_added(index);
            }
            Event::FileDone { file } => self.tell_file(index, file),
            Event::Complete => job.stage = Stage::Complete,
            Event::Synced => self.done(index),
            Event::Tracker { url, event } => match event {
                TrackerEvent::Announced { peers, .. } => {
                    self.screen
                        .detail(&format!("{}: {url}: {peers} peers", job.name));
                }
                TrackerEvent::Warning(text) => {
                    self.screen.warn(&job.name, &format!("{url}: {text}"))
                }
                TrackerEvent::Failed { error, .. } => {
                    self.screen.detail(&format!(
                        "{}: {url}: {}",
                        job.name,
                        plain(&printable(&error))
                    ));
                }
            },
            Event::Dht(search) => {
                self.screen.detail(&format!(
                    "{}: DHT: {}, of {} that answered",
                    job.name,
                    units::count(u64::from(search.peers), "peer"),
                    units::count(u64::from(search.answers), "node"),
                ));
            }
            Event::WebSeed { url, event } => {
                let text = printable(&event.to_string()).into_owned();
                job.web_failure = Some(format!("web seed {}: {}", host(&url), plain(&text)));
                match event {
                    WebEvent::Failed { .. } => {
                        self.screen
                            .detail(&format!("{}: {url}: {}", job.name, plain(&text)));
                    }
                    WebEvent::GaveUp { .. } | WebEvent::Banned => {
                        self.screen
                            .warn(&job.name, &format!("{url}: {}", plain(&text)));
                    }
                }
            }
            Event::PeerBanned { addr, why } => {
                self.screen.detail(&format!(
                    "{}: {addr} is banned: {}",
                    job.name,
                    printable(&why)
                ));
            }
            Event::Warning(text) => self.screen.warn(&job.name, &text),
            Event::Failed(error) => {
                let failure = storage(&job.name, &error);
                self.fail(index, failure);
            }
            Event::Stopped => job.stage = Stage::Ended,
        }
    }

    /// The files of a torrent are known that was a mere link.
    pub(super) fn learn(&mut self, index: usize) {
        let Some(job) = self.jobs.get_mut(index) else {
            return;
        };
        let bytes = job.torrent.as_ref().and_then(Torrent::torrent_bytes);
        let Some(bytes) = bytes.filter(|_| job.stage == Stage::Seeking) else {
            return;
        };
        let Ok(meta) = Metainfo::parse(&bytes) else {
            return;
        };
        let fields = json!({ "done": meta.info().raw().len(), "total": meta.info().raw().len() });
        if job.metadata_only {
            job.metadata = Some(bytes);
            self.screen.json("metadata", job.json(fields));
            self.stop(index);
            return;
        }
        let wanted = job
            .choose
            .as_ref()
            .and_then(|choose| choose.of(meta.info()).ok());
        let facts = Facts::of(&meta, wanted.as_ref(), job.own_name.as_deref());
        job.name.clone_from(&facts.name);
        (job.size, job.private) = (facts.bytes_wanted, facts.private);
        job.stage = Stage::Opening;
        self.screen.json("metadata", job.json(fields));
        self.introduce(&facts);
    }

    fn tell_added(&self, index: usize) {
        let Some((job, torrent)) = self.job_with_torrent(index) else {
            return;
        };
        let Some(info) = torrent.info() else { return };
        let files = info.files().filter(|file| !file.attrs.pad).count();
        let fields = json!({
            "total": job.size, "files": files, "path": path_of(torrent), "private": job.private,
        });
        self.screen.json("added", job.json(fields));
    }

    fn tell_file(&self, index: usize, file: FileIndex) {
        let Some((job, torrent)) = self.job_with_torrent(index) else {
            return;
        };
        let (Some(path), Some(info)) = (torrent.file_path(file), torrent.info()) else {
            return;
        };
        let fields = json!({
            "file": file.get() + 1, "path": path.to_string_lossy(), "size": info.map().len(file),
        });
        self.screen.json("file_done", job.json(fields));
    }

    fn job_with_torrent(&self, index: usize) -> Option<(&Job, &Torrent)> {
        let job = self.jobs.get(index)?;
        Some((job, job.torrent.as_ref()?))
    }

    /// All is verified and durable: the results may be used.
    fn done(&mut self, index: usize) {
        let now = Instant::now();
        let many = self.jobs.len() > 1;
        let Some(job) = self.jobs.get_mut(index) else {
            return;
        };
        let Some(torrent) = job.torrent.clone() else {
            return;
        };
        if !job.is_wanting() {
            return;
        }
        job.stage = Stage::Done { at: now };
        let stats = torrent.stats();
        let summary = Summary {
            took: job.took(now),
            size: job.size,
            downloaded: stats.downloaded,
            uploaded: stats.uploaded,
            goes_on_seeding: self.goal.seeds(),
            advises: self.screen.prints(),
        };
        job.summary = Some(summary);
        let fields = json!({
            "path": path_of(&torrent), "size": job.size, "seconds": summary.took.as_secs_f64(),
            "downloaded": stats.downloaded, "web_downloaded": stats.web_downloaded,
            "uploaded": stats.uploaded,
        });
        let job = &*job;
        // What is printed has to be below the bar's last state, not above a bar that goes on.
        self.screen.draw(&[]);
        self.screen.json("done", job.json(fields));
        self.screen.print_result(job, &torrent);
        match many {
            true => self
                .screen
                .say(&format!("{}: {}", job.name, summary.line())),
            false => self.screen.say(&summary.line()),
        }
        if summary.goes_on_seeding {
            self.screen
                .json("seeding", job.json(json!({ "uploaded": stats.uploaded })));
        }
        self.start_hook(index, &torrent);
        if !self.goal.seeds() {
            self.stop(index);
        }
    }

    /// `--exec`, beside the run: it may take its time.
    fn start_hook(&mut self, index: usize, torrent: &Torrent) {
        let Some(job) = self.jobs.get(index) else {
            return;
        };
        let path = torrent.path().unwrap_or(Path::new(""));
        let told = Told::new(&job.hash, &job.name, path.as_os_str(), job.size);
        if self.hooks.start(index, told) {
            self.hooks_running += 1;
        }
    }
}
