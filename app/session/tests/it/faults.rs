//! Storage faults for real (G8, G9): one torrent's file system is full, read-only, failing or gone, and then
//! well again; two others beside it go on. Needs root for the mounts; says so where it is not.
//!
//! `TORR_FAULTS_STRICT=1` holds the healthy ones to 95 % of their 20 MB/s, and the fault to be told within
//! 2 s: for a machine that does nothing else.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::TempDir;
use torr::metainfo::{Draft, DraftFiles};
use torr::{Event, Events, SessionError, StorageError, StorageErrorKind, Torrent, TorrentState};

use crate::common::{LONG, Payload, Side, synced};

/// Bytes a second of each healthy torrent.
const RATE: u64 = 20_000_000;
/// How long the fault lasts at least.
const FAULT: Duration = Duration::from_secs(5);
/// G8: after its end the torrent goes on.
const RESUME: Duration = Duration::from_secs(30);
const MIB: usize = 1 << 20;
/// Of the victim, which comes at 8 MB/s.
const SIZE: usize = 40 * MIB;

fn strict() -> bool {
    std::env::var_os("TORR_FAULTS_STRICT").is_some()
}

/// Where a test mounts things: made before all else, so that it goes last, when nothing is mounted there.
fn place() -> TempDir {
    TempDir::new().unwrap()
}

/// What is mounted for a test; gone when dropped.
struct Mount(PathBuf);

impl Mount {
    /// `None`, and a word, where this user may not mount.
    fn new(path: &Path, args: &[&str]) -> Option<Self> {
        std::fs::create_dir_all(path).unwrap();
        if !run(Command::new("mount").args(args).arg(path)) {
            eprintln!("left out: mounting is not permitted here");
            return None;
        }
        Some(Self(path.to_owned()))
    }

    /// ext4 in a file of that length that is all holes.
    fn ext4(path: &Path, image: &Path, len: usize) -> Option<Self> {
        let file = std::fs::File::create(image).unwrap();
        file.set_len(len as u64).unwrap();
        let options = ["-q", "-F", "-O", "^has_journal", "-E", "nodiscard"];
        if !run(Command::new("mkfs.ext4").args(options).arg(image)) {
            eprintln!("left out: there is no mkfs.ext4");
            return None;
        }
        Self::new(path, &["-o", "loop", image.to_str().unwrap()])
    }

    fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        assert!(run(Command::new("mount")
            .args(["-o", &options])
            .arg(&self.0)));
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        run(Command::new("umount").arg("-l").arg(&self.0));
    }
}

fn run(command: &mut Command) -> bool {
    let done = command.output();
    done.is_ok_and(|done| done.status.success())
}

/// A torrent that comes at 20 MB/s for 50 s, of zeros: its seed needs neither memory nor disk for them.
struct Healthy {
    torrent: Torrent,
    seed: Side,
}

impl Healthy {
    async fn new(leech: &Side, name: &str) -> Self {
        let (piece, pieces) = (vec![0; MIB], 1_000);
        let hash = crate::common::sha1(&piece);
        let draft = Draft {
            name: name.to_owned(),
            files: DraftFiles::Single((pieces * MIB) as u64),
            piece_len: MIB as u32,
            hashes: std::iter::repeat_n(hash, pieces).flatten().collect(),
            ..Draft::default()
        };
        let payload = Payload {
            torrent: draft.encode().unwrap(),
            name: name.to_owned(),
            files: Vec::new(),
        };
        let seed = Side::with(|config| config.up_rate = Some(RATE)).await;
        std::fs::create_dir_all(seed.data()).unwrap();
        let file = std::fs::File::create(seed.data().join(name)).unwrap();
        file.set_len((pieces * MIB) as u64).unwrap();
        let seeding = seed.add(&payload, |add| add.trust = true).await;
        synced(&seeding).await;
        let torrent = leech.leech(&payload, &[seed.addr()]).await;
        Self { torrent, seed }
    }
}

/// The victim, and those beside it.
struct Rig {
    leech: Side,
    seed: Side,
    payload: Payload,
    victim: Torrent,
    events: Events,
    healthy: [Healthy; 2],
}

impl Rig {
    async fn new(payload: Payload, dir: &Path, leech: Side) -> Self {
        let seed = Side::with(|config| config.up_rate = Some(8_000_000)).await;
        seed.seed(&payload).await;
        let healthy = [
            Healthy::new(&leech, "one").await,
            Healthy::new(&leech, "two").await,
        ];
        let victim = leech.add(&payload, |add| {
            add.dir = dir.to_owned();
            add.peers = vec![seed.addr()];
            add.waits = true;
            add.overwrite = true;
        });
        let victim = victim.await;
        Self {
            events: victim.events(),
            leech,
            seed,
            payload,
            victim,
            healthy,
        }
    }

    async fn until_done(&self, bytes: u64) {
        let begun = Instant::now();
        while self.victim.stats().done < bytes {
            assert!(begun.elapsed() < LONG, "{:?}", self.victim.stats());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Bytes that the healthy ones have received.
    fn received(&self) -> [u64; 2] {
        let received = |healthy: &Healthy| healthy.torrent.stats().downloaded;
        self.healthy.each_ref().map(received)
    }

    /// What the storage of the victim says next.
    async fn halted(&mut self) -> StorageError {
        let next = async {
            loop {
                match self.events.next().await {
                    Some(Event::Halted(error)) => return error,
                    Some(Event::Failed(error)) => panic!("{error}"),
                    Some(Event::Resumed) => panic!("it went on too soon"),
                    Some(_) => {}
                    None => panic!("it has ended"),
                }
            }
        };
        tokio::time::timeout(LONG, next).await.unwrap()
    }

    /// The fault lasts for a while: nothing is fetched for the victim, and the others go on.
    async fn endure(&mut self) {
        // What was under way has come.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let fetched = self.victim.stats().downloaded;
        let (before, begun) = (self.received(), Instant::now());
        tokio::time::sleep(FAULT).await;
        let secs = begun.elapsed().as_secs_f64();
        for (before, after) in before.into_iter().zip(self.received()) {
            let rate = (after - before) as f64 / secs / RATE as f64;
            eprintln!("a healthy torrent beside it kept {:.1} %", rate * 100.0);
            let least = if strict() { 0.95 } else { 0.3 };
            assert!(rate >= least, "{:.1} %", rate * 100.0);
        }
        let stats = self.victim.stats();
        assert_eq!((stats.state, stats.peers), (TorrentState::Halted, 0));
        assert_eq!(stats.downloaded, fetched, "what for?");
    }

    /// The cause is gone: it goes on by itself, fetches little twice, and hashes nothing again.
    async fn recovers(mut self) {
        let begun = Instant::now();
        let on = async {
            loop {
                match self.events.next().await {
                    Some(Event::Resumed) => return begun.elapsed(),
                    Some(Event::Synced) => panic!("it never said that it goes on"),
                    Some(Event::Failed(error)) => panic!("{error}"),
                    Some(Event::Checking { .. }) => panic!("a recheck"),
                    Some(_) => {}
                    None => panic!("it has ended"),
                }
            }
        };
        let took = tokio::time::timeout(RESUME, on).await.unwrap();
        eprintln!("went on after {:.1} s", took.as_secs_f64());
        synced(&self.victim).await;
        let fetched = self.victim.stats().downloaded as usize;
        eprintln!("fetched {fetched} of {SIZE}");
        assert!(fetched <= SIZE + 40 * MIB, "{fetched}");
        self.payload
            .assert_in(self.victim.path().unwrap().parent().unwrap());
        self.end().await;
    }

    /// All sessions have ended before their folders go.
    async fn end(self) {
        for side in self.healthy.map(|healthy| healthy.seed) {
            side.end().await;
        }
        self.seed.end().await;
        self.leech.end().await;
    }
}

fn in_time(since: Instant) {
    let took = since.elapsed();
    eprintln!("told after {:.2} s", took.as_secs_f64());
    let most = if strict() { 2 } else { 20 };
    assert!(took < Duration::from_secs(most), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_waited_for() {
    let (place, leech) = (place(), Side::new().await);
    let dir = place.path().join("full");
    let options = ["-t", "tmpfs", "-o", "size=64m", "tmpfs"];
    let Some(_mount) = Mount::new(&dir, &options) else {
        return;
    };
    let ballast = dir.join("ballast");
    std::fs::write(&ballast, vec![1; 44 * MIB]).unwrap();
    let payload = Payload::single("victim", SIZE, MIB as u32);
    let mut rig = Rig::new(payload, &dir, leech).await;
    let error = rig.halted().await;
    assert_eq!(
        (error.kind, error.errno),
        (StorageErrorKind::NoSpace, Some("ENOSPC"))
    );
    // The first look tells how much is missing.
    let error = rig.halted().await;
    let room = error.room.unwrap();
    assert!(
        room.needs > room.free && room.needs <= SIZE as u64,
        "{room:?}"
    );
    rig.endure().await;
    // Room for what is still in memory is not enough: it would be full again soon.
    let file = std::fs::File::options().write(true).open(&ballast);
    file.unwrap().set_len(30 * MIB as u64).unwrap();
    let error = rig.halted().await;
    let more = error.room.unwrap();
    assert!(
        more.free >= room.free + 14 * MIB as u64,
        "{room:?} {more:?}"
    );
    assert_eq!(rig.victim.stats().state, TorrentState::Halted);
    std::fs::remove_file(&ballast).unwrap();
    rig.recovers().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_system_gone_read_only_is_waited_for() {
    let (place, leech) = (place(), Side::new().await);
    let dir = place.path().join("ro");
    let image = place.path().join("image");
    let Some(mount) = Mount::ext4(&dir, &image, 3 * SIZE) else {
        return;
    };
    // The kernel allows it only while nothing is open for writing.
    mount.remount("ro");
    let payload = Payload::single("victim", SIZE, MIB as u32);
    let mut rig = Rig::new(payload, &dir, leech).await;
    let error = rig.halted().await;
    let what = (error.kind, error.errno);
    assert_eq!(what, (StorageErrorKind::Denied, Some("EROFS")), "{error}");
    rig.endure().await;
    mount.remount("rw");
    rig.recovers().await;
}

/// Whether a file system in that file is mounted, be it where nobody sees it any more.
fn is_in_a_loop_device(image: &Path) -> bool {
    let image = std::fs::canonicalize(image).unwrap();
    let devices = std::fs::read_dir("/sys/block").unwrap();
    let mut files = devices.filter_map(|device| {
        let file = device.unwrap().path().join("loop/backing_file");
        std::fs::read_to_string(file).ok()
    });
    files.any(|file| Path::new(file.trim_end()) == image)
}

/// A block device in memory that answers with EIO when it may take no more.
struct Zram(u32);

impl Zram {
    fn new(len: usize) -> Option<Self> {
        let Ok(number) = std::fs::read_to_string("/sys/class/zram-control/hot_add") else {
            eprintln!("left out: there is no zram");
            return None;
        };
        let zram = Self(number.trim().parse().unwrap());
        zram.set("disksize", &len.to_string());
        Some(zram)
    }

    fn set(&self, name: &str, value: &str) {
        std::fs::write(format!("/sys/block/zram{}/{name}", self.0), value).unwrap();
    }
}

impl Drop for Zram {
    fn drop(&mut self) {
        // Whoever holds it may need a moment to let go.
        for _ in 0..100 {
            let number = self.0.to_string();
            if std::fs::write("/sys/class/zram-control/hot_remove", number).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_fails_is_waited_for() {
    let (place, leech) = (place(), Side::new().await);
    let dir = place.path().join("eio");
    let Some(zram) = Zram::new(3 * SIZE) else {
        return;
    };
    let device = format!("/dev/zram{}", zram.0);
    assert!(run(Command::new("mkfs.ext4").args([
        "-q",
        "-O",
        "^has_journal",
        &device
    ])));
    let Some(mount) = Mount::new(&dir, &[&device]) else {
        return;
    };
    // What the file system itself could not write it may lose; here it has nothing more to write.
    std::fs::write(dir.join("victim"), vec![0; SIZE]).unwrap();
    assert!(run(&mut Command::new("sync")));
    let payload = Payload::single("victim", SIZE, MIB as u32);
    let mut rig = Rig::new(payload, &dir, leech).await;
    rig.until_done(8 << 20).await;
    let begun = Instant::now();
    zram.set("mem_limit", "1M");
    let error = rig.halted().await;
    // The kernel says so when it is told to sync, which is three seconds after the write.
    in_time(begun + Duration::from_secs(3));
    let what = (error.kind, error.errno);
    assert_eq!(what, (StorageErrorKind::Io, Some("EIO")), "{error}");
    rig.endure().await;
    zram.set("mem_limit", "0");
    rig.recovers().await;
    drop(mount);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unmounted_file_system_is_waited_for_and_its_mount_point_stays_empty() {
    let (place, leech) = (place(), Side::new().await);
    let dir = place.path().join("mount");
    let image = place.path().join("image");
    let Some(mount) = Mount::ext4(&dir, &image, 3 * SIZE) else {
        return;
    };
    let payload = Payload::single("victim", SIZE, MIB as u32);
    let mut rig = Rig::new(payload, &dir.join("downloads"), leech).await;
    rig.until_done(8 << 20).await;
    let begun = Instant::now();
    drop(mount);
    let error = rig.halted().await;
    in_time(begun);
    assert_eq!(error.kind, StorageErrorKind::Absent, "{error}");
    rig.endure().await;
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0);
    // Nobody holds it: another one may have it.
    let begun = Instant::now();
    while is_in_a_loop_device(&image) {
        assert!(begun.elapsed() < LONG, "the file system is still held");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut check = Command::new("e2fsck");
    check.args(["-p", "-f"]).arg(&image);
    assert!(run(&mut check) || run(&mut check), "it is damaged");
    // Another one in its place is not the torrent's.
    let other = Mount::new(&dir, &["-t", "tmpfs", "tmpfs"]).unwrap();
    std::fs::create_dir(dir.join("downloads")).unwrap();
    while !rig.halted().await.detail.contains("not mounted there") {}
    assert_eq!(rig.victim.stats().state, TorrentState::Halted);
    assert_eq!(std::fs::read_dir(dir.join("downloads")).unwrap().count(), 0);
    drop(other);
    let mount = Mount::new(&dir, &["-o", "loop", image.to_str().unwrap()]).unwrap();
    rig.recovers().await;
    drop(mount);
}

/// It is not mounted when the torrent is added: nothing is made, and it goes on when it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_system_that_is_not_mounted_is_waited_for_at_the_start() {
    let (place, seed, leech) = (place(), Side::new().await, Side::new().await);
    let dir = place.path().join("mount");
    let image = place.path().join("image");
    let Some(mount) = Mount::ext4(&dir, &image, 3 * SIZE) else {
        return;
    };
    let payload = Payload::single("victim", SIZE, MIB as u32);
    let add = |waits: bool| {
        let folder = dir.join("downloads");
        let peers = vec![seed.addr()];
        leech.add(&payload, move |add| {
            (add.dir, add.peers, add.waits) = (folder, peers, waits);
        })
    };
    seed.seed(&payload).await;
    let first = add(false).await;
    synced(&first).await;
    first.stop(LONG).await.unwrap();
    drop(mount);
    // Who does not wait is told what was expected.
    let Err(SessionError::Storage(error)) = add(false).await.joined().await else {
        panic!("there is nothing to join with");
    };
    assert_eq!(error.kind, StorageErrorKind::Absent, "{error}");
    assert!(error.path.starts_with(dir.to_str().unwrap()), "{error}");
    let waiting = add(true).await;
    let mut events = waiting.events();
    while !matches!(events.next().await.unwrap(), Event::Halted(_)) {}
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0);
    let mount = Mount::new(&dir, &["-o", "loop", image.to_str().unwrap()]).unwrap();
    tokio::time::timeout(RESUME, waiting.synced())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(waiting.stats().downloaded, 0);
    drop(mount);
    // And who waits can be stopped.
    waiting.stop(LONG).await.unwrap();
    let waiting = add(true).await;
    let mut events = waiting.events();
    while !matches!(events.next().await.unwrap(), Event::Halted(_)) {}
    waiting.stop(LONG).await.unwrap();
    leech.end().await;
    seed.end().await;
}

/// In a process of its own, whose limit may be lowered.
#[test]
fn descriptors_that_run_out_make_the_cache_smaller() {
    let test = std::env::current_exe().unwrap();
    let child = Command::new(test)
        .args(["--exact", "faults::inside_with_few_descriptors"])
        .args(["--ignored", "--nocapture"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&child.stdout).into_owned()
        + &String::from_utf8_lossy(&child.stderr);
    eprintln!("{text}");
    assert!(
        child.status.success() && text.contains("1 passed"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by the test above, in a process of its own"]
async fn inside_with_few_descriptors() {
    let leech = Side::new().await;
    let dir = leech.dir.path().join("many");
    let payload = Payload::folder("victim", &[SIZE / 400; 400], MIB as u32);
    let rig = Rig::new(payload, &dir, leech).await;
    rig.until_done(8 << 20).await;
    // None is left but those that are open now.
    let before = getrlimit(Resource::Nofile);
    let open = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(open),
            ..before
        },
    )
    .unwrap();
    let (received, begun) = (rig.received(), Instant::now());
    let synced = tokio::time::timeout(LONG, rig.victim.synced()).await;
    let secs = begun.elapsed().as_secs_f64();
    for (before, after) in received.into_iter().zip(rig.received()) {
        let rate = (after - before) as f64 / secs / RATE as f64;
        eprintln!("a healthy torrent beside it kept {:.1} %", rate * 100.0);
        assert!(rate >= if strict() { 0.95 } else { 0.3 }, "{rate}");
    }
    setrlimit(Resource::Nofile, before).unwrap();
    synced.unwrap().unwrap();
    rig.payload.assert_in(&dir);
    assert!(rig.victim.stats().downloaded as usize <= SIZE + 40 * MIB);
    rig.end().await;
}
