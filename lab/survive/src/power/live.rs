//! The download that is recorded, and what of it was finished when.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rustix::process::Signal;
use torr_base::{Bitfield, Rng};
use torr_store::{LogHeader, read_log};

use super::claims;
use super::plan::{Break, Client, Scene};
use crate::child::{Program, ended_by};
use crate::device::Rack;
use crate::ground::{Ground, PATIENCE, local};
use crate::mounted::Mounted;

/// How often the log is looked at while it grows.
const LOOK: Duration = Duration::from_millis(20);
/// How long a download may take beyond what its rate says.
const SLACK: Duration = Duration::from_secs(60);

/// Which pieces were finished at which moment, in order.
#[derive(Debug)]
pub(super) struct Live {
    finished: Vec<(Instant, Bitfield)>,
}

impl Live {
    /// Downloads all of it, onto disks that write down what they are told.
    pub(super) fn record(
        ground: &Ground,
        rack: &Rack,
        client: Client,
        scene: &Scene,
        rng: &mut Rng,
    ) -> Result<Self> {
        let pieces = ground.info.geometry().piece_count();
        let mut live = Self {
            finished: vec![(Instant::now(), Bitfield::new(pieces))],
        };
        let mounts = scene.mount(ground, rack)?;
        rack.record();
        match client {
            Client::Torr => live.torr(ground, scene, rng)?,
            Client::Libtorrent | Client::Rqbit => claims::record(client, ground, scene)?,
        }
        // What a download leaves to the kernel goes to the disk in its own time.
        mounts.into_iter().rev().try_for_each(Mounted::end)?;
        Ok(live)
    }

    fn torr(&mut self, ground: &Ground, scene: &Scene, rng: &mut Rng) -> Result<()> {
        let limit = Duration::from_secs(scene.total() / scene.rate) + SLACK;
        if scene.halfway != Break::None {
            let pieces = u64::from(ground.info.geometry().piece_count());
            let part = pieces / 4 + rng.below(pieces / 2);
            let mut torr = start(ground, scene, "first")?;
            torr.until(limit, |_| {
                self.look(ground, scene);
                self.latest()
                    .is_some_and(|have| u64::from(have.count()) >= part)
            })?;
            match scene.halfway {
                Break::Kill => torr.signal(Signal::KILL)?,
                Break::Stop | Break::None => torr.signal(Signal::TERM)?,
            }
            let status = torr.wait(PATIENCE)?;
            let killed = ended_by(status, Signal::KILL);
            ensure!(killed || status.code() == Some(143), "ended with {status}");
        }
        let mut torr = start(ground, scene, "second")?;
        let end = Instant::now() + limit;
        while torr.status()?.is_none() {
            ensure!(Instant::now() < end, "not done in time\n{}", torr.said());
            self.look(ground, scene);
            std::thread::sleep(LOOK);
        }
        self.look(ground, scene);
        torr.wait_success(PATIENCE)
    }

    fn latest(&self) -> Option<&Bitfield> {
        self.finished.last().map(|(_, have)| have)
    }

    /// Notes what is finished now, going by torr's log in the page cache.
    fn look(&mut self, ground: &Ground, scene: &Scene) {
        if let Some(have) = read_have(ground, &scene.state(ground)) {
            self.note(have);
        }
    }

    pub(super) fn note(&mut self, have: Bitfield) {
        if self.latest() != Some(&have) {
            self.finished.push((Instant::now(), have));
        }
    }

    /// What was finished by then.
    pub(super) fn finished_by(&self, when: Instant) -> &Bitfield {
        let next = self.finished.partition_point(|(at, _)| *at <= when);
        &self.finished[next.saturating_sub(1)].1
    }

    /// How long before `when` the oldest piece was finished that is missing now.
    pub(super) fn age_of_lost(&self, when: Instant, have: &Bitfield) -> Duration {
        let past = self.finished.iter().filter(|(at, _)| *at <= when);
        let mut losses = past.filter(|(_, finished)| finished.any_and_not(have));
        losses.next().map_or(Duration::ZERO, |(at, _)| when - *at)
    }
}

fn start(ground: &Ground, scene: &Scene, name: &str) -> Result<Program> {
    let mut command = ground.command(&scene.folder(ground), &scene.state(ground));
    command.args(["--peer", &local(scene.port).to_string()]);
    command.args(["--down", &scene.rate.to_string()]);
    command.args(["--io", scene.io]);
    if scene.preallocate {
        command.arg("--preallocate");
    }
    Program::start(name, &ground.dir, &mut command)
}

/// After a cut: the rest of it, by torr, and every byte compared.
pub(super) fn finish(ground: &Ground, scene: &Scene) -> Result<()> {
    let mut command = ground.command(&scene.folder(ground), &scene.state(ground));
    command.args(["--peer", &local(scene.port).to_string()]);
    Program::start("rest", &ground.dir, &mut command)?.wait_success(PATIENCE)?;
    ground.compare(&scene.folder(ground))
}

/// The finished pieces by the only log in that state directory.
fn read_have(ground: &Ground, state: &Path) -> Option<Bitfield> {
    let (info, geometry) = (&ground.info, ground.info.geometry());
    let header = LogHeader {
        info_hash: info.info_hash(),
        pieces: geometry.piece_count(),
        piece_len: geometry.piece_len_max(),
        total: geometry.total(),
        files: info.map().file_count(),
    };
    let folder = std::fs::read_dir(state.join("torrents"))
        .ok()?
        .next()?
        .ok()?;
    let bytes = std::fs::read(folder.path().join("log")).ok()?;
    let (image, _) = read_log(&bytes, &header).ok()?;
    Some(image.have().clone())
}
