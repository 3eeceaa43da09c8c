//! A world for one test: a folder, a tracker, seeds, and the program. Everything ends with it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Longer than anything here may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct World {
    pub(crate) dir: TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("torr-cli-")
            .tempdir()
            .unwrap();
        Self { dir }
    }

    /// The same in memory, if the system has a place for that: for thousands of files.
    pub(crate) fn in_memory() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("torr-cli-")
            .tempdir_in("/dev/shm");
        dir.map_or_else(|_| Self::new(), |dir| Self { dir })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The program in this world's folder, with nothing of the outside in its environment.
    pub(crate) fn torr<S: AsRef<std::ffi::OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
    ) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_torr"));
        command.args(args).current_dir(self.dir.path()).env_clear();
        command
            .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
            .env("HOME", self.dir.path())
            .env("TORR_NO_DHT", "true");
        command.stdin(Stdio::null());
        command
    }

    /// The same by a shell, where `torr` is the program.
    pub(crate) fn shell(&self, script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        let script = format!(
            "torr() {{ {} \"$@\"; }}\n{script}",
            env!("CARGO_BIN_EXE_torr")
        );
        command
            .args(["-c", &script])
            .current_dir(self.dir.path())
            .env_clear();
        command
            .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
            .env("HOME", self.dir.path())
            .env("TORR_NO_DHT", "true");
        command.stdin(Stdio::null());
        command
    }

    /// Runs to the end, and gives status, standard output and standard error.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        ran(self.torr(args))
    }

    /// A file or folder of the world: `a/b` → bytes.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// A folder of files `share/<name>` of such sizes, and `<name>.torrent` of it for that tracker.
    pub(crate) fn share(
        &self,
        name: &str,
        files: &[(&str, usize)],
        tracker: Option<&Tracker>,
    ) -> String {
        for (file, len) in files {
            self.write(
                &format!("share/{name}/{file}"),
                &noise(*len, file.len() as u64),
            );
        }
        self.torrent_of(name, tracker)
    }

    /// The same of a single file.
    pub(crate) fn share_file(&self, name: &str, len: usize, tracker: Option<&Tracker>) -> String {
        self.write(&format!("share/{name}"), &noise(len, 9));
        self.torrent_of(name, tracker)
    }

    fn torrent_of(&self, name: &str, tracker: Option<&Tracker>) -> String {
        let path = format!("share/{name}");
        let mut args = vec!["create", "-q", &path];
        for url in tracker.iter().flat_map(|tracker| &tracker.urls) {
            args.extend(["-t", url]);
        }
        let made = self.run(&args);
        assert_eq!(made.code, 0, "{}", made.err);
        format!("{name}.torrent")
    }

    /// A seed for what is in `share`, ready to upload. `more`: further options.
    pub(crate) fn seed(&self, torrent: &str, more: &[&str]) -> Running {
        let mut args = vec![
            torrent,
            "-d",
            "share",
            "--seed",
            "--state",
            "seed-state",
            "--port",
            "0",
        ];
        args.extend(["--bind", "127.0.0.1"]);
        args.extend(more);
        let mut command = self.torr(&args);
        command.stderr(Stdio::null());
        let mut seed = Running::start(command);
        // Its result is there when all of it was found right.
        assert!(seed.line().contains("share"), "the seed is not ready");
        seed
    }

    /// Whether what was downloaded into `dir` is what was shared.
    pub(crate) fn assert_same(&self, name: &str, dir: &str) {
        let (from, to) = (self.path("share").join(name), self.path(dir).join(name));
        assert_eq!(tree(&from), tree(&to), "{dir}/{name}");
    }
}

/// Bytes that nothing compresses, the same for the same seed.
pub(crate) fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Every file below a path, and a sum of its bytes.
pub(crate) fn tree(path: &Path) -> BTreeMap<PathBuf, (u64, u64)> {
    let mut files = BTreeMap::new();
    let mut folders = vec![path.to_owned()];
    while let Some(at) = folders.pop() {
        if !at.is_dir() {
            let bytes = fs::read(&at).unwrap_or_else(|error| panic!("{}: {error}", at.display()));
            let sum = bytes.iter().fold(7_u64, |sum, byte| {
                (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
            });
            files.insert(
                at.strip_prefix(path).unwrap().to_owned(),
                (bytes.len() as u64, sum),
            );
            continue;
        }
        folders.extend(
            fs::read_dir(&at)
                .unwrap()
                .map(|entry| entry.unwrap().path()),
        );
    }
    files
}

/// A run that is over.
#[derive(Debug)]
pub(crate) struct Ran {
    /// As a shell sees it: 128 and the signal's number where it was killed.
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) took: Duration,
}

impl Ran {
    /// The objects of `--json`.
    pub(crate) fn objects(&self) -> Vec<Value> {
        objects(&self.out)
    }

    pub(crate) fn object(&self, kind: &str) -> Value {
        let found = self
            .objects()
            .into_iter()
            .find(|object| object["t"] == kind);
        found.unwrap_or_else(|| panic!("no `{kind}` in {}", self.out))
    }
}

pub(crate) fn objects(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

pub(crate) fn ran(mut command: Command) -> Ran {
    let began = Instant::now();
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let watchdog = Watchdog::new(child.id());
    let output = child.wait_with_output().unwrap();
    drop(watchdog);
    finished(&output, began.elapsed())
}

fn finished(output: &Output, took: Duration) -> Ran {
    use std::os::unix::process::ExitStatusExt as _;
    let status = output.status;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ran {
        code: status
            .code()
            .unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
        out: text(&output.stdout),
        err: text(&output.stderr),
        took,
    }
}

/// Kills what hangs, so that a test fails instead.
struct Watchdog(std::sync::mpsc::Sender<()>);

impl Watchdog {
    fn new(pid: u32) -> Self {
        let (alive, ended) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            if ended.recv_timeout(PATIENCE) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                signal(pid, "KILL");
            }
        });
        Self(alive)
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

pub(crate) fn signal(pid: u32, name: &str) {
    let status = Command::new("kill")
        .args([&format!("-{name}"), &pid.to_string()])
        .status();
    assert!(status.unwrap().success());
}

/// A run that goes on beside the test, and is killed when this is dropped.
pub(crate) struct Running {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
    began: Instant,
    _watchdog: Watchdog,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self {
            lines,
            began: Instant::now(),
            _watchdog: Watchdog::new(child.id()),
            child,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line of standard output; empty at its end.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// The next object of `--json` that is `wanted`.
    pub(crate) fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let line = self.line();
            assert!(!line.is_empty(), "the program ended");
            let object: Value = serde_json::from_str(&line).unwrap();
            if wanted(&object) {
                return object;
            }
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    pub(crate) fn end(mut self) -> Ran {
        let (mut out, mut err) = (String::new(), String::new());
        self.lines.read_to_string(&mut out).unwrap();
        if let Some(mut stderr) = self.child.stderr.take() {
            stderr.read_to_string(&mut err).unwrap();
        }
        let status = self.child.wait().unwrap();
        let output = Output {
            status,
            stdout: out.into_bytes(),
            stderr: err.into_bytes(),
        };
        finished(&output, self.began.elapsed())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `torr tracker` on a free port.
pub(crate) struct Tracker {
    /// HTTP and UDP.
    pub(crate) urls: Vec<String>,
    _running: Running,
}

impl Tracker {
    pub(crate) fn start(world: &World) -> Self {
        let mut running = Running::start(world.torr(["tracker", "--listen", "127.0.0.1:0"]));
        let urls = vec![running.line(), running.line()];
        assert!(urls[0].starts_with("http://127.0.0.1:") && urls[1].starts_with("udp://"));
        Self {
            urls,
            _running: running,
        }
    }
}
