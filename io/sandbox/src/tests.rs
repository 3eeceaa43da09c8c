//! Each test shuts in a thread of its own: Landlock and seccomp hold for a thread and what it starts.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;
use crate::names::{UP_MAX, hostile};

fn in_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(work).join().unwrap())
}

fn errno<T>(done: io::Result<T>) -> Option<i32> {
    done.err().and_then(|error| error.raw_os_error())
}

/// `Some(Entered)` unless this kernel has no Landlock: then there is nothing to be shown.
fn enter(sandbox: &Sandbox) -> Option<Entered> {
    let entered = sandbox.enter_thread().unwrap();
    if !entered.closes(Part::Files) {
        eprintln!("left out: this kernel has no Landlock");
        return None;
    }
    Some(entered)
}

#[test]
fn files_outside_are_closed_and_those_inside_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::create_dir(path("in")).unwrap();
    fs::create_dir(path("real")).unwrap();
    symlink("real", path("called")).unwrap();
    fs::write(path("secret"), b"x").unwrap();
    fs::write(path("a.torrent"), b"x").unwrap();
    let sandbox = Sandbox::new()
        .write(path("in"))
        // A folder may be a link, and a file's neighbours are not let in with it.
        .write(path("called"))
        .read(path("a.torrent"))
        .read(path("not there"));
    in_thread(|| {
        let Some(entered) = enter(&sandbox) else {
            return;
        };
        for folder in ["in", "called", "real"] {
            let file = |name: &str| path(folder).join(name);
            fs::create_dir_all(file("a/b")).unwrap();
            fs::write(file("a/b/c"), b"y").unwrap();
            fs::rename(file("a/b/c"), file("a/d")).unwrap();
            symlink("d", file("a/l")).unwrap();
            assert_eq!(fs::read(file("a/l")).unwrap(), b"y");
            fs::remove_dir_all(file("a")).unwrap();
        }
        assert!(fs::read(path("a.torrent")).is_ok());
        let denied = Some(libc::EACCES);
        assert_eq!(errno(fs::read(path("secret"))), denied);
        assert_eq!(errno(fs::read_dir(dir.path())), denied);
        assert_eq!(errno(fs::write(path("a.torrent"), b"z")), denied);
        assert_eq!(errno(fs::write(path("new"), b"z")), denied);
        assert_eq!(errno(fs::remove_file(path("secret"))), denied);
        assert!(fs::hard_link(path("secret"), path("in/secret")).is_err());
        assert!(fs::rename(path("secret"), path("in/secret")).is_err());
        // Neither by a link that is made inside.
        symlink(path("secret"), path("in/link")).unwrap();
        assert_eq!(errno(fs::read(path("in/link"))), denied);
        let pipe = rustix::fs::mknodat(
            rustix::fs::CWD,
            path("in/pipe"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        );
        assert!(pipe.is_err());
        if entered.closes(Part::Truncation) {
            let cut = OpenOptions::new().write(true).open(path("secret"));
            assert_eq!(errno(cut), denied);
        }
    });
    assert_eq!(fs::read(path("secret")).unwrap(), b"x");
}

#[test]
fn what_every_program_needs_is_left() {
    let sandbox = Sandbox::new();
    in_thread(|| {
        if enter(&sandbox).is_none() {
            return;
        }
        // The resolver of the C library, which loads modules when it is first asked.
        let local = std::net::ToSocketAddrs::to_socket_addrs(&("localhost", 80));
        assert!(local.unwrap().count() > 0);
        fs::read("/etc/hosts").unwrap();
        let certificates = Path::new("/etc/ssl/certs");
        assert!(fs::read_dir(certificates).is_ok() || !certificates.exists());
        if rustix::process::geteuid().is_root() {
            assert_eq!(errno(fs::read("/etc/shadow")), Some(libc::EACCES));
        }
        OpenOptions::new().write(true).open("/dev/null").unwrap();
        assert!(std::thread::available_parallelism().is_ok());
        // Threads, among them those of the runtime's resolver.
        std::thread::spawn(|| ()).join().unwrap();
        UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    });
}

#[test]
fn no_port_but_those_named_and_any() {
    let free = || {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        taken.local_addr().unwrap().port()
    };
    let held = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (named, other) = (free(), free());
    let sandbox = Sandbox::new().bind(named);
    in_thread(|| {
        if !enter(&sandbox).is_some_and(|entered| entered.closes(Part::TcpPorts)) {
            return;
        }
        assert!(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).is_ok());
        TcpListener::bind((Ipv4Addr::LOCALHOST, named)).unwrap();
        let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, other));
        assert_eq!(errno(bound), Some(libc::EACCES));
        // What was bound before still takes connections, and anyone can be connected to.
        let address = held.local_addr().unwrap();
        let _line = std::net::TcpStream::connect(address).unwrap();
        held.accept().unwrap();
    });
}

#[test]
fn system_calls_are_denied_in_words_that_every_libc_knows() {
    let sandbox = Sandbox::new();
    in_thread(|| {
        if !sandbox.enter_thread().unwrap().seccomp {
            return eprintln!("left out: no seccomp");
        }
        let none = std::ptr::null::<u8>();
        // SAFETY: each of them is denied before an argument is looked at.
        let call = |number| unsafe { libc::syscall(number, none, none, none, none, none) };
        let answer = |number| (call(number) == -1).then(errno_now);
        assert_eq!(answer(libc::SYS_execve), Some(libc::EPERM));
        assert_eq!(answer(libc::SYS_ptrace), Some(libc::EPERM));
        assert_eq!(answer(libc::SYS_io_uring_setup), Some(libc::EPERM));
        assert_eq!(answer(libc::SYS_clone3), Some(libc::ENOSYS));
        // `open_tree_attr`, which is newer than the list, and a call of x32.
        assert_eq!(answer(467), Some(libc::ENOSYS));
        assert_eq!(answer(0x4000_0000 + 59), Some(libc::ENOSYS));
        // A process without a thread's flags.
        assert_eq!(answer(libc::SYS_clone), Some(libc::EPERM));
        // SAFETY: numbers only; no such descriptor.
        let ioctl = |what: libc::Ioctl| unsafe { libc::syscall(libc::SYS_ioctl, -1, what, none) };
        assert_eq!((ioctl(libc::TIOCSTI), errno_now()), (-1, libc::EPERM));
        assert_eq!((ioctl(libc::TIOCGWINSZ), errno_now()), (-1, libc::EBADF));
        for (family, denied) in [
            (libc::AF_PACKET, true),
            (libc::AF_ALG, true),
            (libc::AF_VSOCK, true),
            (libc::AF_INET, false),
            (libc::AF_NETLINK, false),
        ] {
            // SAFETY: numbers only.
            let socket = unsafe { libc::socket(family, libc::SOCK_DGRAM, 0) };
            assert_eq!((socket == -1), denied, "{family}");
            if denied {
                assert_eq!(errno_now(), libc::EAFNOSUPPORT);
            }
        }
    });
}

fn errno_now() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap()
}

/// As a kernel without them says it.
#[test]
fn an_older_kernel_closes_less_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::new().write(dir.path());
    for errno in [libc::ENOSYS, libc::EOPNOTSUPP] {
        let entered = in_thread(|| {
            assert!(calls::install(&calls::only(
                libc::SYS_landlock_create_ruleset,
                errno
            )));
            sandbox.enter_thread().unwrap()
        });
        let left = vec![
            Part::Files,
            Part::Truncation,
            Part::Devices,
            Part::TcpPorts,
            Part::Processes,
        ];
        assert_eq!((entered.landlock, entered.left_open()), (0, left));
    }
    let entered = in_thread(|| {
        assert!(calls::install(&calls::only(
            libc::SYS_seccomp,
            libc::EINVAL
        )));
        sandbox.enter_thread().unwrap()
    });
    assert!(entered.left_open().ends_with(&[Part::SystemCalls]));
    let linux_6_2 = Entered {
        landlock: 3,
        seccomp: true,
    };
    let left = [Part::Devices, Part::TcpPorts, Part::Processes];
    assert_eq!(linux_6_2.left_open(), left);
    assert_eq!(
        Part::TcpPorts.to_string(),
        "TCP ports (Landlock 4, Linux 6.7)"
    );
}

/// The harness has threads.
#[test]
fn with_other_threads_it_is_not_entered() {
    let entered = in_thread(|| Sandbox::new().enter());
    assert!(matches!(entered, Err(SandboxError::Threads(2..))));
    assert!(beside(|_| ()).is_err());
}

/// A tree with something to destroy at every height, and the folder of a torrent deep in it:
/// `outer/1/…/6/download/torrent`.
struct Tree {
    dir: tempfile::TempDir,
    download: PathBuf,
    state: PathBuf,
}

impl Tree {
    fn new() -> Self {
        // In memory if there is a place for that: thousands of files are made and removed.
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let dir = dir.unwrap();
        let mut at = dir.path().join("outer");
        fs::create_dir(&at).unwrap();
        for height in 1..=UP_MAX {
            fs::write(at.join("victim"), format!("{height}")).unwrap();
            at.push(height.to_string());
            fs::create_dir(&at).unwrap();
        }
        fs::write(at.join("victim"), b"next to it").unwrap();
        let (download, state) = (at.join("download"), at.join("state"));
        fs::create_dir_all(download.join("torrent/in")).unwrap();
        fs::create_dir_all(download.join("torrent/swapped")).unwrap();
        fs::create_dir(&state).unwrap();
        let tree = Self {
            dir,
            download,
            state,
        };
        fs::create_dir(tree.outside()).unwrap();
        fs::write(tree.outside().join("victim"), b"x").unwrap();
        symlink(tree.outside(), tree.download.join("torrent/link")).unwrap();
        tree
    }

    fn outside(&self) -> PathBuf {
        self.dir.path().join("outside")
    }

    /// All outside of the two folders: what it is, how long, when it and its attributes were last changed.
    fn look(&self) -> BTreeMap<PathBuf, (u32, u64, [i64; 4])> {
        let mut all = BTreeMap::new();
        let mut folders = vec![self.dir.path().to_owned()];
        while let Some(at) = folders.pop() {
            if at == self.download || at == self.state {
                continue;
            }
            let about = fs::symlink_metadata(&at).unwrap();
            if about.is_dir() {
                let entries = fs::read_dir(&at).unwrap();
                folders.extend(entries.map(|entry| entry.unwrap().path()));
            }
            let (m, c) = (about.mtime_nsec(), about.ctime_nsec());
            let times = [about.mtime(), m, about.ctime(), c];
            all.insert(at, (about.mode(), about.size(), times));
        }
        all
    }

    /// Whether a path ends in this tree, taken by its words: the test without a sandbox harms nothing else.
    fn is_ours(&self, path: &Path) -> bool {
        let mut at = PathBuf::new();
        for part in path.components() {
            if part == Component::ParentDir {
                at.pop();
            } else {
                at.push(part);
            }
        }
        at.starts_with(self.dir.path())
    }

    /// What somebody does who checks nothing: each name is taken as it comes.
    fn ravage(&self, seed: u64, count: usize) {
        let root = self.download.join("torrent");
        let outside = self.outside();
        let names = hostile(seed, count, outside.to_str().unwrap());
        for (n, parts) in names.into_iter().enumerate() {
            let name = OsString::from_vec(parts.join(&b'/'));
            // An absolute name takes the place of what stands before it.
            let path = root.join(&name);
            if !self.is_ours(&path) {
                continue;
            }
            let own = root.join(format!("own-{n}"));
            let _ = path.parent().map(fs::create_dir_all);
            let _ = File::create(&path).and_then(|mut file| file.write_all(b"ravaged"));
            let _ = match n % 8 {
                0 => fs::remove_file(&path),
                1 => File::create(&own).and_then(|_| fs::rename(&own, &path)),
                2 => fs::rename(&path, &own),
                3 => fs::hard_link(&path, &own),
                4 => symlink("victim", &path),
                5 => fs::remove_dir_all(path.parent().unwrap_or(&path).join("gone")),
                6 => rustix::fs::chmod(&path, rustix::fs::Mode::RUSR).map_err(Into::into),
                _ => OpenOptions::new().append(true).open(&path).map(drop),
            };
            let _ = fs::remove_file(&own);
        }
    }

    /// Swaps a folder of the torrent with a link out of it, again and again, while `work` goes on.
    fn race(&self, work: impl FnOnce() + Send) -> usize {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        let real = self.download.join("torrent/swapped");
        let link = self.download.join("torrent/its-link");
        symlink(self.outside(), &link).unwrap();
        let (stop, swaps) = (AtomicBool::new(false), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    renameat_with(CWD, &real, CWD, &link, RenameFlags::EXCHANGE).unwrap();
                    swaps.fetch_add(1, Ordering::Relaxed);
                }
            });
            let ended = scope.spawn(work).join();
            stop.store(true, Ordering::Relaxed);
            ended.unwrap();
        });
        swaps.into_inner()
    }
}

/// Done when 8, its second half: with nobody checking names, links or races, the kernel alone keeps everything
/// outside as it was.
#[test]
fn landlock_alone_holds_against_ten_thousand_names_and_a_race() {
    let tree = Tree::new();
    let before = tree.look();
    let sandbox = Sandbox::new().write(&tree.download).write(&tree.state);
    let is_there = AtomicBool::new(true);
    let swaps = tree.race(|| match enter(&sandbox) {
        Some(_) => tree.ravage(1, 10_000),
        None => is_there.store(false, Ordering::Relaxed),
    });
    if is_there.into_inner() {
        assert_eq!(tree.look(), before);
        assert!(swaps > 100, "{swaps} swaps");
        // They were no idle names: most of what they were to make inside is there.
        let inside = fs::read_dir(tree.download.join("torrent")).unwrap().count();
        assert!(inside > 1_000, "{inside} names inside");
    }
}

/// The same without: the test above shows something.
#[test]
fn without_it_they_get_out() {
    let tree = Tree::new();
    let before = tree.look();
    tree.race(|| tree.ravage(1, 10_000));
    let after = tree.look();
    let lost = before
        .keys()
        .filter(|path| after.get(*path) != before.get(*path));
    assert!(lost.count() > UP_MAX);
    assert!(
        after
            .keys()
            .filter(|path| !before.contains_key(*path))
            .count()
            > 100
    );
}
