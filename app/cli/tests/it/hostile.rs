//! Torrents with names that would lead out of the download folder.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use sha1::{Digest as _, Sha1};

use crate::common::{Tracker, World, noise, ran, tree};

const PIECE: usize = 16 << 10;

fn string(bytes: &[u8]) -> Vec<u8> {
    [format!("{}:", bytes.len()).as_bytes(), bytes].concat()
}

/// A torrent of these paths and bytes, as no honest program writes it.
pub(crate) fn torrent(name: &[u8], files: &[(&[&str], &[u8])]) -> Vec<u8> {
    let data: Vec<u8> = files
        .iter()
        .flat_map(|(_, bytes)| bytes.iter().copied())
        .collect();
    let mut out = b"d4:infod5:filesl".to_vec();
    for (path, bytes) in files {
        out.extend(format!("d6:lengthi{}e4:pathl", bytes.len()).bytes());
        path.iter()
            .for_each(|part| out.extend(string(part.as_bytes())));
        out.extend(b"ee");
    }
    out.extend(b"e4:name");
    out.extend(string(name));
    out.extend(format!("12:piece lengthi{PIECE}e6:pieces").bytes());
    let hashes: Vec<u8> = data.chunks(PIECE).flat_map(Sha1::digest).collect();
    out.extend(string(&hashes));
    out.extend(b"ee");
    out
}

#[test]
fn nothing_gets_outside_by_its_name() {
    let world = World::new();
    let bytes: Vec<Vec<u8>> = (1..=5).map(|n| noise(20_000 + n, n as u64)).collect();
    let files: [(&[&str], &[u8]); 5] = [
        (&["..", "x"], &bytes[0]),
        (&["/etc/cron.d/evil"], &bytes[1]),
        (&["..", "..", "..", "tmp", "y"], &bytes[2]),
        (&["a\u{202e}b\u{7}"], &bytes[3]),
        (&["plain"], &bytes[4]),
    ];
    world.write("hostile.torrent", &torrent(b"../../root", &files));
    let here = ["_/x", "_etc_cron.d_evil", "_/_/_/tmp/y", "a_b_", "plain"];
    let root = ".._.._root";
    for (path, bytes) in here.iter().zip(&bytes) {
        world.write(&format!("share/{root}/{path}"), bytes);
    }
    let tracker = Tracker::start(&world);
    let _seed = world.seed("hostile.torrent", &["-t", &tracker.urls[0]]);
    let before = tree(world.dir.path()).keys().cloned().collect::<Vec<_>>();
    let ran = world.run(&["hostile.torrent", "-d", "deep/dir", "-t", &tracker.urls[1]]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(
        tree(&world.path("deep/dir").join(root)),
        tree(&world.path("share").join(root))
    );
    // A warning for each change, and nothing in them that acts on a terminal.
    assert!(ran.err.matches("warning: ").count() >= 5, "{}", ran.err);
    assert!(!ran.err.contains('\u{202e}') && !ran.err.contains('\u{7}'));
    let new = tree(world.dir.path())
        .into_keys()
        .filter(|path| !before.contains(path));
    for path in new {
        let fine =
            path.starts_with(format!("deep/dir/{root}")) || path.starts_with(".local/state/torr");
        assert!(fine, "{}", path.display());
    }
    assert!(!fs::exists("/etc/cron.d/evil").unwrap());
}

/// The names that all layers meet.
#[path = "../../../../io/sandbox/src/names.rs"]
mod names;

/// A torrent of ten thousand files with hostile names, and what is to be in them, by the paths that they have on
/// disk, below `share`.
fn ten_thousand(world: &World) -> String {
    let outside = world.path("outside");
    let names = names::hostile(1, 10_000, outside.to_str().unwrap());
    let mut out = b"d4:infod5:filesl".to_vec();
    let mut data = Vec::new();
    for (n, parts) in names.iter().enumerate() {
        let bytes = noise(1 + n % 60, n as u64);
        out.extend(format!("d6:lengthi{}e4:pathl", bytes.len()).bytes());
        parts.iter().for_each(|part| out.extend(string(part)));
        out.extend(b"ee");
        data.extend(bytes);
    }
    out.extend(b"e4:name");
    out.extend(string(b"../../\xe2\x80\xaeroot"));
    out.extend(format!("12:piece lengthi{PIECE}e6:pieces").bytes());
    let hashes: Vec<u8> = data.chunks(PIECE).flat_map(Sha1::digest).collect();
    out.extend(string(&hashes));
    out.extend(b"ee");
    world.write("names.torrent", &out);
    let meta = torr::metainfo::Metainfo::parse(&out).unwrap();
    for file in meta.info().files() {
        let path = meta.info().layout().path(file.index).unwrap();
        let bytes = &data[file.offset as usize..(file.offset + file.len) as usize];
        world.write(&format!("share/{path}"), bytes);
    }
    // What they lead to, if they lead anywhere.
    for name in ["outside/victim", "victim", "deep/victim"] {
        world.write(name, b"untouched");
    }
    meta.info().layout().root().to_owned()
}

/// All that is outside of the torrent's folder and torr's state, with lengths, contents and times.
fn outside(world: &World, inside: &[PathBuf]) -> BTreeMap<PathBuf, (u64, [i64; 4])> {
    let mut all = BTreeMap::new();
    let mut folders = vec![world.dir.path().to_owned()];
    while let Some(at) = folders.pop() {
        let about = fs::symlink_metadata(&at).unwrap();
        if about.is_dir() {
            let entries = fs::read_dir(&at)
                .unwrap()
                .map(|entry| entry.unwrap().path());
            folders.extend(entries.filter(|path| !inside.contains(path)));
        }
        let times = [
            about.mtime(),
            about.mtime_nsec(),
            about.ctime(),
            about.ctime_nsec(),
        ];
        all.insert(at, (about.size(), times));
    }
    all
}

fn assert_same<T: PartialEq>(before: &BTreeMap<PathBuf, T>, after: &BTreeMap<PathBuf, T>) {
    let keys = before.keys().chain(after.keys());
    let changed: Vec<_> = keys
        .filter(|path| before.get(*path) != after.get(*path))
        .collect();
    assert!(changed.is_empty(), "changed outside: {changed:?}");
}

/// Done when 8: no path outside of the torrent's folder is touched, as the tree outside shows, and a trace of all
/// that was opened for writing, made, renamed and removed.
#[test]
fn ten_thousand_hostile_names_stay_in_the_torrents_folder() {
    let world = World::in_memory();
    let root = ten_thousand(&world);
    let tracker = Tracker::start(&world);
    let _seed = world.seed("names.torrent", &["-t", &tracker.urls[0]]);
    let (dir, state) = (world.path("deep/dir"), world.path("state"));
    fs::create_dir_all(&dir).unwrap();
    fs::create_dir_all(&state).unwrap();
    world.write("trace", b"");
    let inside = [
        dir.join(&root),
        state.clone(),
        world.path("seed-state"),
        world.path("trace"),
    ];
    let top = fs::metadata(&dir).unwrap().mtime();
    let before = outside(&world, &inside);
    let args = [
        "names.torrent",
        "-d",
        "deep/dir",
        "--state",
        "state",
        "-q",
        "-t",
        &tracker.urls[0],
    ];
    let has_strace = Command::new("strace").arg("-V").output().is_ok();
    let ran = if has_strace {
        ran(traced(&world, &args))
    } else {
        eprintln!("left out in part: there is no strace");
        world.run(&args)
    };
    assert_eq!(ran.code, 0, "{}", ran.err);
    let mut after = outside(&world, &inside);
    // The torrent's folder was made in it.
    let own = after.get_mut(&dir).unwrap();
    assert!(own.1[0] >= top);
    *own = before[&dir];
    assert_same(&before, &after);
    assert_eq!(
        tree(&dir.join(&root)),
        tree(&world.path("share").join(&root))
    );
    if has_strace {
        let text = fs::read_to_string(world.path("trace")).unwrap();
        let paths = touched(&text);
        assert!(paths.len() > 10_000, "{} paths", paths.len());
        for path in &paths {
            let is_ours = path.starts_with(dir.join(&root)) || path.starts_with(&state);
            // Made, if it is not there.
            let is_known = *path == dir || path == Path::new("/dev/null");
            assert!(is_ours || is_known, "{}", path.display());
        }
    }
}

fn traced(world: &World, args: &[&str]) -> Command {
    let calls = "trace=open,openat,openat2,creat,mkdir,mkdirat,unlink,unlinkat,rmdir,rename,renameat,renameat2,\
                 link,linkat,symlink,symlinkat,truncate,mknod,mknodat";
    let mut command = Command::new("strace");
    // Descriptors with their paths, and paths as they are.
    command.args([
        "-f",
        "--seccomp-bpf",
        "-y",
        "-qq",
        "-s",
        "5000",
        "-e",
        calls,
        "-o",
        "trace",
    ]);
    command.arg(env!("CARGO_BIN_EXE_torr")).args(args);
    command
        .current_dir(world.dir.path())
        .env("HOME", world.dir.path());
    command.env("TORR_NO_DHT", "true");
    command
}

/// Every path of a trace that was, or was to be, changed: opened for writing, made, renamed, removed.
fn touched(trace: &str) -> Vec<PathBuf> {
    let mut begun: BTreeMap<&str, &str> = BTreeMap::new();
    let mut paths = Vec::new();
    for line in trace.lines() {
        let (pid, call) = line.split_once(' ').unwrap();
        let call = call.trim_start();
        let whole = if let Some(start) = call.strip_suffix(" <unfinished ...>") {
            begun.insert(pid, start);
            continue;
        } else if let Some((_, end)) = call.split_once(" resumed>") {
            format!("{}{end}", begun.remove(pid).unwrap_or_default())
        } else {
            call.to_owned()
        };
        // Signals, and the end.
        let Some((name, arguments)) = whole.split_once('(') else {
            continue;
        };
        let reads = name.starts_with("open")
            && !["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC"]
                .iter()
                .any(|flag| arguments.contains(flag));
        if reads || whole.starts_with(['+', '-']) {
            continue;
        }
        paths.extend(paths_of(name, arguments));
    }
    paths
}

/// The paths in the arguments of a call: `5</folder>, "name"`, or `"/path"`.
fn paths_of(name: &str, arguments: &str) -> Vec<PathBuf> {
    let mut folder: Option<&str> = None;
    let mut out = Vec::new();
    let mut rest = arguments;
    let is_link = name.starts_with("symlink");
    while let Some(at) = rest.find(['"', '<']) {
        let (quote, end) = match rest.as_bytes()[at] {
            b'"' => (true, '"'),
            _ => (false, '>'),
        };
        let inner = &rest[at + 1..];
        let Some(len) = inner.find(end) else { break };
        let text = &inner[..len];
        rest = &inner[len + 1..];
        if !quote {
            folder = Some(text);
            continue;
        }
        // Of a symbolic link the first one is what it says.
        if is_link && out.is_empty() && folder.is_none() {
            continue;
        }
        let path = Path::new(folder.unwrap_or("/nowhere")).join(text);
        let leads_up = text.split('/').any(|part| part == "..");
        out.push(if leads_up {
            PathBuf::from("/..").join(text)
        } else {
            path
        });
    }
    out
}

/// The same while somebody swaps one of the torrent's folders with a link out of it, again and again, from when the
/// first file is written: much fails, and nothing outside changes.
#[test]
fn a_racing_link_among_the_names_leads_nowhere() {
    let world = World::in_memory();
    let root = ten_thousand(&world);
    let tracker = Tracker::start(&world);
    let _seed = world.seed("names.torrent", &["-t", &tracker.urls[0]]);
    fs::create_dir(world.path("dirs")).unwrap();
    let inside = ["dirs", "seed-state"].map(|name| world.path(name));
    let before = outside(&world, &inside);
    // On a busy machine there are few in one download.
    let mut swaps = 0;
    for n in 0..40 {
        swaps += one_race(&world, &root, &tracker, n);
        if n >= 3 && swaps > 100 {
            break;
        }
    }
    assert!(swaps > 100, "{swaps} swaps");
    assert_same(&before, &outside(&world, &inside));
}

/// A download into a folder of its own, and how often the folder was swapped.
fn one_race(world: &World, root: &str, tracker: &Tracker, n: u32) -> u64 {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    let (dir, state) = (format!("dirs/{n}"), format!("dirs/{n}/state"));
    let top = world.path(&dir).join(root);
    let (real, link) = (top.join("swapped"), world.path(&dir).join("its-link"));
    fs::create_dir_all(&real).unwrap();
    symlink(world.path("outside"), &link).unwrap();
    let args = [
        "names.torrent",
        "-d",
        &dir,
        "--state",
        &state,
        "-q",
        "-t",
        &tracker.urls[0],
    ];
    let (stop, swaps) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let wait = || std::thread::sleep(Duration::from_micros(200));
            // Before, all that happens is that what is there is looked at.
            let begun = || fs::read_dir(&top).unwrap().count() > 1;
            while !stop.load(Ordering::Relaxed) && !begun() {
                wait();
            }
            while !stop.load(Ordering::Relaxed) {
                renameat_with(CWD, &real, CWD, &link, RenameFlags::EXCHANGE).unwrap();
                swaps.fetch_add(1, Ordering::Relaxed);
                // Both are met, on one processor too.
                wait();
            }
        });
        let ran = world.run(&args);
        stop.store(true, Ordering::Relaxed);
        assert!([0, 4].contains(&ran.code), "{ran:?}");
    });
    swaps.into_inner()
}
