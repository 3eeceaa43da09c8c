//! What the news of a torrent mean for a run.

use std::path::Path;
use std::time::Instant;

use serde_json::json;
use torr::metainfo::{FileIndex, Metainfo};
use torr::{
    Event, OpenPort, PortStatus, Refused, StorageError, StorageErrorKind, Torrent, TrackerEvent,
    WebEvent,
};

use crate::download::facts::Facts;
use crate::download::hook::Told;
use crate::download::job::{Job, Stage};
use crate::download::not_selected;
use crate::download::run::{News, Run};
use crate::download::stall::host;
use crate::download::view::Summary;
use crate::failure::{Exit, Failure, plain};
use crate::units;
use torr_base::printable;

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
        | StorageErrorKind::Absent
        | StorageErrorKind::Occupied
        | StorageErrorKind::Locked
        | StorageErrorKind::TooManyFiles
        | StorageErrorKind::Io => Exit::Storage,
    };
    let why = printable(&error.to_string()).into_owned();
    Failure {
        errno: error.errno,
        file: Some(printable(&error.path).into_owned()),
        ..Failure::new(exit, name, why).maybe_hint(error.hint())
    }
}

/// What a torrent waits for whose storage said no, in a few words.
pub(super) fn waits_for(error: &StorageError) -> String {
    let path = printable(&error.path);
    match (error.kind, error.room) {
        (StorageErrorKind::NoSpace, Some(room)) => format!(
            "waiting for space on {path} (needs {}, {} free)",
            units::size(room.needs),
            units::size(room.free)
        ),
        (StorageErrorKind::NoSpace, None) => {
            format!("waiting for space: {}", printable(&error.to_string()))
        }
        (StorageErrorKind::Absent, _) => {
            format!("waiting for {path}: {}", printable(&error.detail))
        }
        (
            StorageErrorKind::Denied
            | StorageErrorKind::Missing
            | StorageErrorKind::Occupied
            | StorageErrorKind::Locked
            | StorageErrorKind::TooManyFiles
            | StorageErrorKind::Io,
            _,
        ) => format!("waiting for the disk: {}", printable(&error.to_string())),
    }
}

/// The same for metadata that cannot be used.
pub(super) fn refused(name: &str, why: &Refused) -> Failure {
    match why {
        Refused::Selection(why) => not_selected(why),
        Refused::Metainfo(why) => Failure::new(Exit::Metadata, name, printable(&why.to_string())),
    }
}

/// For people.
fn opened(open: &OpenPort) -> String {
    let (local, way) = (open.local, open.way);
    let outside = match open.address {
        Some(ip) => format!("{ip}:{}", open.tcp),
        None => format!("port {}", open.tcp),
    };
    let text = format!("port {local} is open through the gateway as {outside} ({way})");
    match open.is_behind_another() {
        true => format!("{text}, but that address is itself behind another gateway"),
        false => text,
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
            News::Port(status) => self.tell_port(&status),
            News::Hook(index, result) => {
                self.hooks_running -= 1;
                if let (Err(why), Some(job)) = (result, self.jobs.get(index)) {
                    self.screen.warn(&job.name, &format!("--exec: {why}"));
                }
            }
        }
    }

    /// What became of `--map-port`.
    fn tell_port(&self, status: &PortStatus) {
        let fields = match status {
            PortStatus::Asking => return,
            PortStatus::Open(open) => {
                self.screen.say(&opened(open));
                json!({
                    "open": true, "local": open.local, "port": open.tcp, "udp": open.udp,
                    "address": open.address.map(|ip| ip.to_string()),
                    "way": open.way.to_string(), "why": null,
                })
            }
            PortStatus::Closed(why) => {
                let why = printable(why).into_owned();
                self.screen.say(&format!(
                    "warning: the port could not be opened: {why}; to be reached from outside, have the gateway \
                     forward it to this machine"
                ));
                json!({
                    "open": false, "local": null, "port": null, "udp": null, "address": null,
                    "way": null, "why": why,
                })
            }
        };
        self.screen.json("port", fields);
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
                let fields = json!({ "peer": addr.to_string(), "why": why.to_string() });
                self.screen.json("banned", job.json(fields));
            }
            Event::Warning(text) => self.screen.warn(&job.name, &text),
            Event::Halted(error) => self.halted(index, error),
            Event::Resumed => self.resumed(index),
            Event::Failed(error) => {
                let failure = storage(&job.name, &error);
                self.fail(index, failure);
            }
            Event::Stopped => job.stage = Stage::Ended,
        }
    }

    /// The storage of a torrent said no, and it waits.
    fn halted(&mut self, index: usize, error: StorageError) {
        let Some(job) = self.jobs.get_mut(index) else {
            return;
        };
        let failure = storage(&job.name, &error);
        let known = |before: &StorageError| before.kind == error.kind && before.room.is_some();
        let old = job.halted.as_ref().is_some_and(known);
        let room = error.room;
        let text = waits_for(&error);
        job.halted = Some(error);
        if old {
            // Only the figures are new, and the bar shows them.
            return;
        }
        let mut fields = failure.json();
        if let Some(fields) = fields.as_object_mut() {
            fields.insert("waiting".to_owned(), json!(true));
            fields.insert("needs".to_owned(), json!(room.map(|room| room.needs)));
            fields.insert("free".to_owned(), json!(room.map(|room| room.free)));
        }
        self.screen.warn(&job.name, &text);
        self.screen.json("error", job.json(fields));
    }

    fn resumed(&mut self, index: usize) {
        let Some(job) = self.jobs.get_mut(index) else {
            return;
        };
        let Some(error) = job.halted.take() else {
            return;
        };
        self.screen.say(&format!("{}: going on", job.name));
        let why = format!("over: {}", printable(&error.to_string()));
        let fields = json!({
            "code": 0, "what": job.name, "why": plain(&why), "errno": error.errno,
            "file": printable(&error.path), "waiting": false,
        });
        self.screen.json("error", job.json(fields));
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

#[cfg(test)]
mod tests {
    use torr::{Room, StorageOp};

    use super::*;

    #[test]
    fn what_is_waited_for_is_named() {
        let full = StorageError {
            kind: StorageErrorKind::NoSpace,
            op: StorageOp::Probe,
            path: "/data".to_owned(),
            offset: None,
            detail: "there is not enough room on it".to_owned(),
            errno: Some("ENOSPC"),
            room: Some(Room {
                needs: 40_000_000,
                free: 1_000_000,
            }),
        };
        let text = "waiting for space on /data (needs 40.0 MB, 1.0 MB free)";
        assert_eq!(waits_for(&full), text);
        let absent = StorageError {
            kind: StorageErrorKind::Absent,
            detail: "the file system that holds the torrent is not mounted any more".to_owned(),
            room: None,
            ..full.clone()
        };
        let text =
            "waiting for /data: the file system that holds the torrent is not mounted any more";
        assert_eq!(waits_for(&absent), text);
        let broken = StorageError {
            kind: StorageErrorKind::Io,
            op: StorageOp::Write,
            detail: "Input/output error".to_owned(),
            ..absent
        };
        let text = "waiting for the disk: cannot write /data: Input/output error";
        assert_eq!(waits_for(&broken), text);
    }
}
