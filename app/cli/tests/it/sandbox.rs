//! What a run cannot do.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::common::{Ran, Running, Tracker, World, ran};

/// What each row of the probe says.
fn states(ran: &Ran) -> Vec<(String, String)> {
    let all: Value =
        serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    let text = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
    let rows = all["tries"].as_array().unwrap();
    rows.iter()
        .map(|row| (text(row, "what"), text(row, "state")))
        .collect()
}

/// What this kernel can close, as the probe has it.
fn kernel(ran: &Ran) -> (u64, bool) {
    let all: Value = serde_json::from_str(&ran.out).unwrap();
    (
        all["landlock"].as_u64().unwrap_or(0),
        all["seccomp"].as_bool().unwrap_or(false),
    )
}

/// Done when 9.
#[test]
fn the_probe_gets_nowhere() {
    let world = World::new();
    let args = ["sandbox", "-d", "dir", "--state", "state", "--port", "0"];
    let closed = world.run(&[&args[..], &["--json"]].concat());
    assert_eq!(closed.code, 0, "{closed:?}");
    if kernel(&closed).0 >= 6 && kernel(&closed).1 {
        for (what, state) in states(&closed) {
            assert_eq!(state, "closed", "{what}");
        }
    } else {
        eprintln!("left out in part: this kernel lacks Landlock or seccomp");
    }
    let table = world.run(&args);
    assert_eq!(table.code, 0, "{table:?}");
    assert_eq!(table.out.lines().count(), states(&closed).len());

    // Without a sandbox it gets out, so the above shows something.
    let open = world.run(&[&args[..], &["--json", "--no-sandbox"]].concat());
    assert_eq!(open.code, 1, "{open:?}");
    let found = states(&open);
    for wanted in [
        "read a file in the home folder",
        "make a file outside",
        "remove a file outside",
        "start a program",
        "become another program",
        "bind another TCP port",
        "signal another process",
        "be traced (ptrace)",
    ] {
        let open = (wanted.to_owned(), "open".to_owned());
        assert!(found.contains(&open), "{wanted}: {found:?}");
    }
    assert!(
        world
            .run(&[&args[..], &["--no-sandbox"]].concat())
            .out
            .contains("OPEN")
    );
    // Where nothing is outside of the folder, nothing can be shown.
    let all = world.run(&["sandbox", "-d", "/", "--state", "state", "--port", "0"]);
    assert_eq!(all.code, 1, "{all:?}");
    // Nothing is left of it.
    let left = fs::read_dir(world.dir.path()).unwrap();
    let mut left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    left.sort_unstable();
    assert_eq!(left, ["dir", "state"]);
}

/// A field of `/proc/PID/task/*/status`, of all threads.
fn of_threads(pid: u32, field: &str) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let read = |path: &Path| fs::read_to_string(path.join("status")).unwrap_or_default();
    let texts = tasks.map(|task| read(&task.unwrap().path()));
    let values = texts.filter_map(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix(field))?;
        Some(line.trim().to_owned())
    });
    values.collect()
}

#[test]
fn every_thread_of_a_run_is_inside() {
    let world = World::new();
    if !kernel(&world.run(&["sandbox", "--json"])).1 {
        return eprintln!("left out: no seccomp");
    }
    let torrent = world.share_file("a.bin", 100_000, None);
    let inside = |running: &Running| {
        let seccomp = of_threads(running.pid(), "Seccomp:");
        let privileges = of_threads(running.pid(), "NoNewPrivs:");
        assert!(!seccomp.is_empty());
        (
            seccomp.iter().all(|mode| mode == "2"),
            privileges.iter().all(|set| set == "1"),
            seccomp.len(),
        )
    };
    let seed = world.seed(&torrent, &[]);
    let (seccomp, privileges, threads) = inside(&seed);
    assert!(seccomp && privileges && threads > 3, "{threads} threads");
    let open = world.seed(&torrent, &["--no-sandbox", "--state", "another"]);
    assert!(!inside(&open).0);
    let mut tracker = Running::start(world.torr(["tracker", "--listen", "127.0.0.1:0"]));
    assert!(!tracker.line().is_empty());
    let (seccomp, privileges, _) = inside(&tracker);
    assert!(seccomp && privileges);
}

/// The port was taken before; the folders, files and links are where a person may have them.
#[test]
fn whatever_a_person_may_name_still_works() {
    let world = World::new();
    let tracker = Tracker::start(&world);
    let torrent = world.share_file("a.bin", 300_000, Some(&tracker));
    let _seed = world.seed(&torrent, &[]);
    for folder in ["real", "torrents", "far"] {
        fs::create_dir(world.path(folder)).unwrap();
    }
    symlink("../real", world.path("far/link")).unwrap();
    fs::rename(world.path(&torrent), world.path("torrents/a.torrent")).unwrap();
    symlink("torrents/a.torrent", world.path("called.torrent")).unwrap();
    fs::write(world.path("list"), "torrents/a.torrent\n").unwrap();
    let absolute = world.path("absolute/new");
    for (n, args) in [
        vec!["called.torrent", "-d", "far/link"],
        vec!["-i", "list", "-d", "./torrents/../new/deep/dir"],
        vec!["torrents/a.torrent", "-d", absolute.to_str().unwrap()],
        vec!["torrents/a.torrent", "-p", "20000-40000", "-d", "ports"],
        vec![
            "torrents/a.torrent",
            "-d",
            "/dev/shm/torr-cli-test-of-a-place",
        ],
    ]
    .into_iter()
    .enumerate()
    {
        let state = format!("state-{n}/in");
        let args = [&args[..], &["--state", &state]].concat();
        let first = world.run(&args);
        assert_eq!(first.code, 0, "{args:?}: {}", first.err);
        // And goes on from there.
        let again = world.run(&args);
        assert_eq!(again.code, 0, "{args:?}: {}", again.err);
        assert_eq!(first.out, again.out);
        let path = first.out.trim_end();
        let path = world.dir.path().join(path);
        assert_eq!(fs::read(path).unwrap().len(), 300_000);
    }
    fs::remove_dir_all("/dev/shm/torr-cli-test-of-a-place").unwrap();
    assert!(world.path("real/a.bin").exists());
    assert!(world.path("new/deep/dir/a.bin").exists());
    // Standard input, and a folder that is a mere name.
    let ran = ran(world.shell("cat torrents/a.torrent | torr - -d piped"));
    assert_eq!(ran.code, 0, "{}", ran.err);
}

/// Folders are made before anything is known of the torrent; of what cannot be, nothing is left behind.
#[test]
fn what_never_came_leaves_no_folder() {
    let world = World::new();
    world.write("bad.torrent", b"not one");
    for (word, code) in [("missing.torrent", 4), ("bad.torrent", 3)] {
        let ran = world.run(&[word, "-d", "new/dir", "--state", "new/state"]);
        assert_eq!(ran.code, code, "{}", ran.err);
        assert!(!world.path("new").exists(), "{word}");
    }
    let ran = world.run(&["bad.torrent", "-d", "bad.torrent/x"]);
    assert_eq!(ran.code, 3, "{}", ran.err);
    let torrent = world.share_file("a.bin", 1000, None);
    let ran = world.run(&[&torrent, "-d", "bad.torrent/x"]);
    assert_eq!(ran.code, 4, "{}", ran.err);
    assert!(
        ran.err.contains("torr: --dir: cannot create"),
        "{}",
        ran.err
    );
}

/// `--exec` is a person's own command: it may do what that person may.
#[test]
fn a_command_runs_outside_and_several_side_by_side() {
    let world = World::new();
    let mut args = Vec::new();
    for n in 0..3 {
        args.push(world.share_file(&format!("{n}.bin"), 50_000, None));
    }
    // Each waits for all the others, so they end only if they run at the same time.
    let command = "touch \"ran-$TORR_NAME\"; for i in $(seq 600); do [ $(ls ran-* | wc -l) = 3 ] && exit 0; sleep 0.1; done; exit 9";
    args.extend(["-d", "share", "--trust", "--exec", command].map(str::to_owned));
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let ran = world.run(&args);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(!ran.err.contains("--exec"), "{}", ran.err);
    // What it came to is told, and so is that it could not be run.
    let ran = world.run(&["0.bin.torrent", "-d", "share", "--exec", "kill -9 $$"]);
    assert!(ran.err.contains("--exec: signal: 9"), "{}", ran.err);
}

/// It is taken before anything is read, and what comes of that told only when it matters.
#[test]
fn the_port_is_told_as_before() {
    let world = World::new();
    let torrent = world.share_file("a.bin", 1000, None);
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let bind = ["--bind", "127.0.0.1", "--port", &port];
    let ran = world.run(&[&[torrent.as_str(), "-d", "share"], &bind[..]].concat());
    assert_eq!(ran.code, 6, "{}", ran.err);
    assert!(
        ran.err.contains("choose another port with --port"),
        "{}",
        ran.err
    );
    // A torrent that cannot be is told first.
    let ran = world.run(&[&["no.torrent", "-d", "share"], &bind[..]].concat());
    assert_eq!(ran.code, 4, "{}", ran.err);
}

/// As on a kernel without Landlock, or without seccomp: strace answers in its place.
#[test]
fn an_older_kernel_is_told_of_and_no_obstacle() {
    let world = World::new();
    if Command::new("strace").arg("-V").output().is_err() {
        return eprintln!("left out: there is no strace");
    }
    let torrent = world.share_file("a.bin", 100_000, None);
    let without = |call: &str, error: &str| {
        let inject = format!("inject={call}:error={error}");
        let mut command = Command::new("strace");
        command.args(["-f", "-o", "/dev/null", "-e", &inject]);
        command
            .arg(env!("CARGO_BIN_EXE_torr"))
            .current_dir(world.dir.path());
        command
            .env("HOME", world.dir.path())
            .env("TORR_NO_DHT", "true");
        command.args([&torrent, "-d", "share", "-v"]);
        ran(command)
    };
    let old = without("landlock_create_ruleset", "ENOSYS");
    assert_eq!(old.code, 0, "{}", old.err);
    let told =
        "sandbox: on, but this kernel cannot close files (Landlock 1, Linux 5.13), cutting files";
    assert!(old.err.contains(told), "{}", old.err);
    let older = without("seccomp", "EINVAL");
    assert_eq!(older.code, 0, "{}", older.err);
    assert!(
        older.err.contains("system calls (seccomp)"),
        "{}",
        older.err
    );
    // Nobody who did not ask is told.
    let quiet = world.run(&[&torrent, "-d", "share"]);
    assert!(!quiet.err.contains("sandbox"), "{}", quiet.err);
    let asked = world.run(&[&torrent, "-d", "share", "-v"]);
    assert!(asked.err.contains("sandbox: on"), "{}", asked.err);
}
