//! Power cuts: a download onto disks that write down all they are told, and what the client claims after the power
//! went at any moment of it (G1, G3, and comparing others).

mod claims;
mod live;
mod plan;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use torr_base::Rng;

use crate::device::{Cache, Moment, Rack};
use crate::ground::Ground;
use crate::mounted::{Mounted, boot_again};
use claims::Claims;
use live::Live;
pub use plan::Client;
use plan::{MIB, Scene};

/// G3: what a power cut may take of finished pieces.
const LOST_AGE_MAX: Duration = Duration::from_secs(5);
const LOST_BYTES_MAX: u64 = 64 * MIB;
/// G4: what a start may hash.
const HASHED_MAX: u64 = 64 * MIB;
/// Of the cuts, how many are followed by the rest of the download.
const RESUMED: usize = 3;

/// What to do.
#[derive(Clone, Debug)]
pub struct Options {
    pub client: Client,
    pub cuts: usize,
    pub seed: u64,
}

/// What all cuts of a scene, or of all, came to.
#[derive(Debug, Default)]
pub struct Sum {
    pub cuts: usize,
    pub false_pieces: u64,
    /// Cuts after which anything false was claimed.
    pub false_cuts: usize,
    pub lost_bytes: u64,
    pub lost_age: Duration,
    /// Bytes hashed at a start, at most.
    pub hashed: u64,
    pub resumed: usize,
    pub faults: Vec<String>,
}

/// Runs all scenes in `dir` with the program `torr`. What is told is one line a scene.
pub fn run(dir: &Path, torr: &Path, options: &Options, tell: &dyn Fn(&str)) -> Result<Sum> {
    let rng = Rng::new(options.seed);
    let scenes = Scene::of(options.client);
    let mut all = Sum::default();
    for (number, scene) in scenes.iter().enumerate() {
        let share =
            options.cuts * (number + 1) / scenes.len() - options.cuts * number / scenes.len();
        let place = dir.join(scene.name);
        std::fs::create_dir_all(&place)?;
        let begun = Instant::now();
        let mut rng = rng.fork("scene", number as u64);
        let sum = one(&place, torr, options.client, scene, share, &mut rng)
            .with_context(|| format!("scene {}", scene.name))?;
        std::fs::remove_dir_all(&place)?;
        tell(&format!(
            "{}: {sum} in {:.0} s",
            scene.name,
            begun.elapsed().as_secs_f64()
        ));
        sum.faults
            .iter()
            .for_each(|fault| tell(&format!("  {fault}")));
        all.add(sum);
    }
    Ok(all)
}

fn one(
    dir: &Path,
    torr: &Path,
    client: Client,
    scene: &Scene,
    cuts: usize,
    rng: &mut Rng,
) -> Result<Sum> {
    let ground = Ground::new(dir, torr, scene.payload(), scene.piece_len)?;
    let images = scene
        .disks
        .iter()
        .map(|len| crate::mounted::ext4_image(dir, *len));
    let rack = Rack::new(&dir.join("rack"), images.collect::<Result<_>>()?)?;
    boot_again(dir, rng)?;
    let seed = ground.seed(scene.port)?;
    let live = Live::record(&ground, &rack, client, scene, rng)?;
    boot_again(dir, rng)?;
    let rig = Rig {
        ground: &ground,
        rack: &rack,
        client,
        scene,
        live: &live,
        moments: rack.moments(),
    };
    let sum = rig.cut_all(cuts, rng);
    drop(seed);
    sum
}

struct Rig<'a> {
    ground: &'a Ground,
    rack: &'a Rack,
    client: Client,
    scene: &'a Scene,
    live: &'a Live,
    moments: Vec<Moment>,
}

impl Rig<'_> {
    fn cut_all(&self, cuts: usize, rng: &mut Rng) -> Result<Sum> {
        let mut sum = Sum::default();
        let every = cuts.div_ceil(RESUMED).max(1);
        for (number, at) in self.choose(cuts, rng)?.into_iter().enumerate() {
            let cache = match rng.below(3) {
                0 => Cache::Kept,
                1 => Cache::Some,
                _ => Cache::Lost,
            };
            self.rack.cut(at, cache, rng);
            let resume = number % every == every / 2;
            self.judge(at, cache, resume, &mut sum)
                .with_context(|| format!("the cut after event {at}, cache {cache:?}"))?;
        }
        Ok(sum)
    }

    /// Random moments, in order: half of them by time, half by what was written.
    fn choose(&self, cuts: usize, rng: &mut Rng) -> Result<Vec<usize>> {
        let (first, last) = (self.moments.first(), self.moments.last());
        let (first, last) = first.zip(last).context("nothing was written")?;
        let span = last.when - first.when;
        let one = |number: usize| {
            if number.is_multiple_of(2) {
                return 1 + rng.index(self.moments.len());
            }
            let when = first.when + span * rng.below(1 << 20) as u32 / (1 << 20);
            self.moments.partition_point(|moment| moment.when <= when)
        };
        let mut out: Vec<usize> = (0..cuts).map(one).collect();
        out.sort_unstable();
        Ok(out)
    }

    fn judge(&self, at: usize, cache: Cache, resume: bool, sum: &mut Sum) -> Result<()> {
        let last = at.saturating_sub(1).min(self.moments.len() - 1);
        let when = self.moments.get(last).context("a moment")?.when;
        let mounts = self.scene.mount(self.ground, self.rack)?;
        sum.cuts += 1;
        let place = format!("event {at} of {}, cache {cache:?}", self.moments.len());
        match claims::of(self.client, self.ground, self.scene) {
            Ok(claims) => self.compare(&claims, when, &place, sum)?,
            Err(error) => sum.faults.push(format!("{place}: no start: {error:#}")),
        }
        if resume && self.client == Client::Torr {
            if let Err(error) = live::finish(self.ground, self.scene) {
                sum.faults.push(format!("{place}: no resume: {error:#}"));
            }
            sum.resumed += 1;
        }
        mounts.into_iter().rev().try_for_each(Mounted::end)
    }

    fn compare(&self, claims: &Claims, when: Instant, place: &str, sum: &mut Sum) -> Result<()> {
        let truth = self.scene.truth(self.ground)?;
        let wrong = claims.have.iter_and_not(&truth).count();
        sum.false_pieces += wrong as u64;
        if wrong > 0 {
            sum.false_cuts += 1;
            // Of others it is a figure and no fault.
            if self.client == Client::Torr {
                sum.faults.push(format!("{place}: {wrong} false pieces"));
            }
        }
        sum.hashed = sum.hashed.max(claims.hashed);
        if self.client == Client::Torr && claims.hashed > HASHED_MAX {
            let mib = claims.hashed / MIB;
            sum.faults
                .push(format!("{place}: {mib} MiB hashed at the start"));
        }
        // Of others nobody knows what was finished when.
        if self.client != Client::Torr {
            return Ok(());
        }
        let lost = self.live.finished_by(when).iter_and_not(&claims.have);
        let geometry = self.ground.info.geometry();
        let bytes = lost.map(|piece| u64::from(geometry.piece_len(piece))).sum();
        sum.lost_bytes = sum.lost_bytes.max(bytes);
        let age = self.live.age_of_lost(when, &claims.have);
        sum.lost_age = sum.lost_age.max(age);
        if bytes > LOST_BYTES_MAX || age > LOST_AGE_MAX {
            let mib = bytes / MIB;
            sum.faults.push(format!(
                "{place}: lost {mib} MiB, finished up to {age:.1?} before"
            ));
        }
        Ok(())
    }
}

impl Sum {
    fn add(&mut self, other: Self) {
        self.cuts += other.cuts;
        self.false_pieces += other.false_pieces;
        self.false_cuts += other.false_cuts;
        self.lost_bytes = self.lost_bytes.max(other.lost_bytes);
        self.lost_age = self.lost_age.max(other.lost_age);
        self.hashed = self.hashed.max(other.hashed);
        self.resumed += other.resumed;
        self.faults.extend(other.faults);
    }

    /// # Errors
    /// Where a guarantee was broken.
    pub fn verdict(&self) -> Result<()> {
        ensure!(self.faults.is_empty(), "{} faults", self.faults.len());
        Ok(())
    }
}

impl std::fmt::Display for Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} cuts, {} false pieces in {} of them, lost at most {} MiB finished at most {:.1} s before, \
             hashed at most {} MiB at a start, {} resumed, {} faults",
            self.cuts,
            self.false_pieces,
            self.false_cuts,
            self.lost_bytes / MIB,
            self.lost_age.as_secs_f64(),
            self.hashed / MIB,
            self.resumed,
            self.faults.len()
        )
    }
}
