//! The download folder, and the only way into it.
//!
//! Every path is opened relative to a descriptor of the folder, and the kernel is told to follow neither
//! symbolic links nor `..`, at any component (G6): no name, no link and no race leads out of it. Where
//! the kernel lacks `openat2`, each component is opened by itself without following links.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use rustix::fs::{self, AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use torr_store::{StorageError, StorageOp};

use crate::errno::{Sys, failed};
use crate::home::{Identity, identity_of};
use crate::hook::{Call, Hook};

/// Makes a folder that is not there, with those above it, and makes them durable: for a process that gives up
/// the right to make folders before a torrent is opened.
///
/// # Errors
/// Where that cannot be done; a folder that is there is fine, whatever may be done in it.
pub fn make_folder(path: &Path) -> Result<(), StorageError> {
    Root::create(path, Hook::default()).map(drop)
}

/// By its path, which may have symbolic links in it.
pub(crate) fn open_folder(path: &Path) -> Sys<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    fs::openat(CWD, path, flags, Mode::empty())
}

/// A folder that files are opened in by relative paths with `/` between the components.
#[derive(Debug)]
pub(crate) struct Root {
    /// `None` while its file system is away, or while no descriptor is kept.
    dir: RwLock<Option<Arc<OwnedFd>>>,
    /// It is opened anew for each use.
    by_path: AtomicBool,
    path: PathBuf,
    hook: Hook,
    /// The kernel said once that it has no `openat2`.
    by_component: AtomicBool,
}

/// How often a path is tried again when something was renamed while the kernel walked it.
const RACES_MAX: u32 = 64;

const FILE_MODE: Mode = Mode::from_bits_retain(0o666);
const PROGRAM_MODE: Mode = Mode::from_bits_retain(0o777);

impl Root {
    /// Opens a folder that exists. Its own path may have symbolic links in it: the user named it.
    pub(crate) fn open(path: &Path, hook: Hook) -> Result<Self, StorageError> {
        let text = path.to_string_lossy();
        let dir = hook
            .ask(Call::Open, &text)
            .and_then(|()| open_folder(path))
            .map_err(|errno| failed(StorageOp::Open, &text, errno))?;
        Ok(Self {
            dir: RwLock::new(Some(Arc::new(dir))),
            by_path: AtomicBool::new(false),
            path: path.to_owned(),
            hook,
            by_component: AtomicBool::new(false),
        })
    }

    /// The same, made first if it is not there.
    pub(crate) fn create(path: &Path, hook: Hook) -> Result<Self, StorageError> {
        let text = path.to_string_lossy();
        let there = path.ancestors().find(|path| path.is_dir());
        let made = hook.ask(Call::Create, &text).and_then(|()| {
            std::fs::create_dir_all(path)
                .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
        });
        // A folder on a read-only file system is good enough to seed from.
        if let Err(errno) = made
            && !path.is_dir()
        {
            return Err(failed(StorageOp::Create, &text, errno));
        }
        if there != Some(path) {
            sync_parents(path, there, &hook)?;
        }
        Self::open(path, hook)
    }

    /// A descriptor of the folder.
    ///
    /// # Errors
    /// `NODEV` while its file system is away.
    pub(crate) fn dir(&self) -> Sys<Arc<OwnedFd>> {
        let dir = self.dir.read().unwrap_or_else(PoisonError::into_inner);
        match &*dir {
            Some(dir) => Ok(Arc::clone(dir)),
            None if self.by_path.load(Ordering::Relaxed) => open_folder(&self.path).map(Arc::new),
            None => Err(Errno::NODEV),
        }
    }

    /// Keeps no descriptor any more: for a folder that is seldom needed, of which there are thousands.
    pub(crate) fn keep_by_path(&self) {
        self.by_path.store(true, Ordering::Relaxed);
        self.set_dir(None);
    }

    pub(crate) fn set_dir(&self, dir: Option<Arc<OwnedFd>>) {
        *self.dir.write().unwrap_or_else(PoisonError::into_inner) = dir;
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn hook(&self) -> &Hook {
        &self.hook
    }

    /// How errors name a file in it.
    pub(crate) fn show(&self, name: &str) -> String {
        self.path.join(name).to_string_lossy().into_owned()
    }

    /// File system and inode, to know the folder again (G9).
    pub(crate) fn identity(&self) -> Sys<Identity> {
        identity_of(&self.dir()?)
    }

    /// Opens a regular file that exists.
    pub(crate) fn open_file(&self, name: &str, write: bool) -> Sys<OwnedFd> {
        self.hook.ask(Call::Open, name)?;
        let access = if write { OFlags::RDWR } else { OFlags::RDONLY };
        // Not blocking: a pipe of that name must not hold a worker until somebody writes into it.
        let file = self.walk(name, access | OFlags::NONBLOCK, Mode::empty())?;
        let kind = FileType::from_raw_mode(fs::fstat(&file)?.st_mode);
        if kind.is_file() {
            Ok(file)
        } else if kind.is_dir() {
            Err(Errno::ISDIR)
        } else {
            Err(Errno::EXIST)
        }
    }

    /// Opens a regular file that exists for writing past the page cache.
    pub(crate) fn open_direct(&self, name: &str) -> Sys<OwnedFd> {
        self.hook.ask(Call::Open, name)?;
        self.walk(
            name,
            OFlags::WRONLY | DIRECT | OFlags::NONBLOCK,
            Mode::empty(),
        )
    }

    /// Makes a file that must not exist, and the folders on the way to it. The folders made are added
    /// to `made_in`: those whose entries have changed, the file's own among them.
    pub(crate) fn create_file(
        &self,
        name: &str,
        executable: bool,
        made_in: &mut Vec<String>,
    ) -> Sys<OwnedFd> {
        self.hook.ask(Call::Create, name)?;
        let mode = if executable { PROGRAM_MODE } else { FILE_MODE };
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        let file = match self.walk(name, flags, mode) {
            Err(Errno::NOENT) => {
                self.make_folders(parent(name), made_in)?;
                self.walk(name, flags, mode)?
            }
            other => other?,
        };
        made_in.push(parent(name).to_owned());
        Ok(file)
    }

    /// Takes away a file that we made a moment ago.
    pub(crate) fn remove_file(&self, name: &str) -> Sys<()> {
        fs::unlinkat(self.folder(parent(name))?, leaf(name), AtFlags::empty())
    }

    /// What is at that path, without following a link; `None` if nothing is.
    pub(crate) fn stat(&self, name: &str) -> Sys<Option<Stat>> {
        self.looks().stat(name)
    }

    /// For a look at many names.
    pub(crate) fn looks(&self) -> Looks<'_> {
        Looks {
            root: self,
            folder: None,
        }
    }

    /// Makes a symbolic link with that text. The caller has seen to it that it stays inside.
    pub(crate) fn link(&self, target: &str, name: &str, made_in: &mut Vec<String>) -> Sys<()> {
        self.hook.ask(Call::Create, name)?;
        self.make_folders(parent(name), made_in)?;
        fs::symlinkat(target, self.folder(parent(name))?, leaf(name))?;
        made_in.push(parent(name).to_owned());
        Ok(())
    }

    /// What a symbolic link says.
    pub(crate) fn link_text(&self, name: &str) -> Sys<String> {
        let text = fs::readlinkat(self.folder(parent(name))?, leaf(name), Vec::new())?;
        text.into_string().map_err(|_| Errno::ILSEQ)
    }

    /// Makes the entries of a folder durable.
    pub(crate) fn sync_folder(&self, name: &str) -> Sys<()> {
        self.hook.ask(Call::Sync, name)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let dir = if name.is_empty() {
            fs::openat(&self.dir()?, ".", flags | OFlags::CLOEXEC, Mode::empty())?
        } else {
            self.walk(name, flags, Mode::empty())?
        };
        fs::fsync(dir)
    }

    /// Makes everything on the file system durable. False where the file system is not known to do
    /// what it is asked; nothing was synced then.
    #[cfg(target_os = "linux")]
    pub(crate) fn sync_all(&self) -> Sys<bool> {
        /// From linux/magic.h. A file system in user space answers without doing anything.
        const FUSE: i64 = 0x6573_5546;
        let dir = self.dir()?;
        if fs::fstatfs(&dir)?.f_type == FUSE {
            return Ok(false);
        }
        self.hook.ask(Call::SyncAll, &self.path.to_string_lossy())?;
        fs::syncfs(&dir)?;
        Ok(true)
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn sync_all(&self) -> Sys<bool> {
        Ok(false)
    }

    /// For tests: behave as on a kernel without `openat2`.
    #[cfg(test)]
    pub(crate) fn without_openat2(self) -> Self {
        self.by_component.store(true, Ordering::Relaxed);
        self
    }

    fn make_folders(&self, name: &str, made_in: &mut Vec<String>) -> Sys<()> {
        let mut end = 0;
        while end < name.len() {
            let from = if end == 0 { 0 } else { end + 1 };
            end = name[from..].find('/').map_or(name.len(), |at| from + at);
            let path = &name[..end];
            match fs::mkdirat(self.folder(parent(path))?, leaf(path), PROGRAM_MODE) {
                Ok(()) => made_in.push(parent(path).to_owned()),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
        }
        // What is there may be a file or a link: opening it tells.
        self.folder(name).map(drop)
    }

    /// A descriptor of that folder, or of the root where it is none or not there.
    pub(crate) fn folder_or_root(&self, name: &str) -> Sys<Arc<OwnedFd>> {
        match self.walk(name, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()) {
            Ok(folder) => Ok(Arc::new(folder)),
            Err(_) => self.dir(),
        }
    }

    /// A descriptor to do something in that folder with; the empty name is the root.
    fn folder(&self, name: &str) -> Sys<OwnedFd> {
        if name.is_empty() {
            return rustix::io::fcntl_dupfd_cloexec(&self.dir()?, 0);
        }
        self.walk(name, PATH_ONLY | OFlags::DIRECTORY, Mode::empty())
    }

    fn walk(&self, name: &str, flags: OFlags, mode: Mode) -> Sys<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let dir = self.dir()?;
        #[cfg(target_os = "linux")]
        if !self.by_component.load(Ordering::Relaxed) {
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
            for _ in 0..RACES_MAX {
                match fs::openat2(&dir, name, flags, mode, resolve) {
                    Err(Errno::AGAIN) => continue,
                    // Some sandboxes say EPERM to every call that they do not know.
                    Err(Errno::NOSYS | Errno::PERM) => break,
                    done => return done,
                }
            }
            if let Err(Errno::NOSYS) = fs::openat2(&dir, ".", PATH_ONLY, mode, resolve) {
                self.by_component.store(true, Ordering::Relaxed);
            }
        }
        walk_by_component(dir.as_fd(), name, flags, mode)
    }
}

/// Looks at names one after another. The folder of the last one is kept, since those of a torrent mostly lie side by side:
/// what is renamed meanwhile may be seen where it was.
#[derive(Debug)]
pub(crate) struct Looks<'a> {
    root: &'a Root,
    /// `None` for one that is not there.
    folder: Option<(String, Option<OwnedFd>)>,
}

impl Looks<'_> {
    /// As [`Root::stat`].
    pub(crate) fn stat(&mut self, name: &str) -> Sys<Option<Stat>> {
        let known = self.folder.as_ref();
        if known.is_none_or(|(known, _)| known != parent(name)) {
            let found = match self.root.folder(parent(name)) {
                Err(Errno::NOENT) => None,
                found => Some(found?),
            };
            self.folder = Some((parent(name).to_owned(), found));
        }
        let Some((_, Some(dir))) = &self.folder else {
            return Ok(None);
        };
        match fs::statat(dir, leaf(name), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    }
}

/// Makes the entries of new folders durable, from `path` up to what was there before: a power cut would
/// take them with all that is in them.
fn sync_parents(path: &Path, there: Option<&Path>, hook: &Hook) -> Result<(), StorageError> {
    for parent in path.ancestors().skip(1) {
        // What stands above a relative path of one component is where we are.
        let here = parent.as_os_str().is_empty();
        let parent = if here { Path::new(".") } else { parent };
        let synced = Root::open(parent, hook.clone())?.sync_folder("");
        synced.map_err(|errno| failed(StorageOp::Sync, &parent.to_string_lossy(), errno))?;
        if here || there == Some(parent) {
            break;
        }
    }
    Ok(())
}

#[cfg(target_os = "linux")]
const DIRECT: OFlags = OFlags::DIRECT;
/// Other systems have other ways, which are not used yet: nobody opens for it there.
#[cfg(not(target_os = "linux"))]
const DIRECT: OFlags = OFlags::empty();
#[cfg(target_os = "linux")]
const PATH_ONLY: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);
#[cfg(not(target_os = "linux"))]
const PATH_ONLY: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC);

fn walk_by_component(dir: BorrowedFd<'_>, name: &str, flags: OFlags, mode: Mode) -> Sys<OwnedFd> {
    let step = PATH_ONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let mut held: Option<OwnedFd> = None;
    let mut rest = name;
    loop {
        let at = held.as_ref().map_or(dir, OwnedFd::as_fd);
        let (first, more) = match rest.split_once('/') {
            Some((first, more)) => (first, Some(more)),
            None => (rest, None),
        };
        if first.is_empty() || first == "." || first == ".." {
            return Err(Errno::XDEV);
        }
        match more {
            None => return fs::openat(at, first, flags, mode),
            Some(more) => {
                held = Some(fs::openat(at, first, step, Mode::empty())?);
                rest = more;
            }
        }
    }
}

fn parent(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(parent, _)| parent)
}

fn leaf(name: &str) -> &str {
    name.rsplit_once('/').map_or(name, |(_, leaf)| leaf)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both ways into the folder, and a folder that is removed with the test.
    fn both() -> (PathBuf, [Root; 2]) {
        use std::sync::atomic::AtomicU32;
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("torr-root-test-{}-{n}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let open = || Root::create(&path.join("in"), Hook::default()).unwrap();
        let roots = [open(), open().without_openat2()];
        (path, roots)
    }

    #[test]
    fn folders_are_made_on_the_way_and_nothing_is_made_twice() {
        let (path, roots) = both();
        for (n, root) in roots.iter().enumerate() {
            let mut made_in = Vec::new();
            let name = format!("{n}/b/c");
            root.create_file(&name, n == 1, &mut made_in).unwrap();
            assert_eq!(made_in, ["".to_owned(), n.to_string(), format!("{n}/b")]);
            let again = root.create_file(&name, false, &mut made_in);
            assert_eq!(again.unwrap_err(), Errno::EXIST);
            let mode = root.stat(&name).unwrap().unwrap().st_mode;
            assert_eq!(mode & 0o100 != 0, n == 1);
            assert!(root.open_file(&name, true).is_ok());
            assert_eq!(root.open_file("no/such", true).unwrap_err(), Errno::NOENT);
            assert_eq!(
                root.open_file(&n.to_string(), false).unwrap_err(),
                Errno::ISDIR
            );
            root.sync_folder(&n.to_string()).unwrap();
        }
        std::fs::remove_dir_all(path).unwrap();
    }

    /// G6: neither `..`, nor an absolute path, nor a link at any component, nor a pipe.
    #[test]
    fn nothing_leads_out() {
        let (path, roots) = both();
        let outside = path.join("outside");
        std::fs::create_dir_all(&outside).unwrap();
        std::fs::write(outside.join("file"), b"foreign").unwrap();
        let inside = path.join("in");
        std::os::unix::fs::symlink(&outside, inside.join("folder")).unwrap();
        std::os::unix::fs::symlink(outside.join("file"), inside.join("link")).unwrap();
        std::os::unix::fs::symlink(outside.join("new"), inside.join("dangling")).unwrap();
        fs::mknodat(CWD, inside.join("pipe"), FileType::Fifo, FILE_MODE, 0).unwrap();
        for root in &roots {
            for name in [
                "../outside/file",
                "folder/file",
                "folder/new",
                "folder/x/y",
                "link",
                "dangling",
                "x/../../outside/new",
                "pipe",
            ] {
                let made = root.create_file(name, false, &mut Vec::new());
                let opened = root.open_file(name, true);
                let read = root.open_file(name, false);
                assert!(made.is_err() && opened.is_err() && read.is_err(), "{name}");
            }
            assert!(root.link("x", "folder/l", &mut Vec::new()).is_err());
            let absolute = outside.join("file");
            assert!(root.open_file(absolute.to_str().unwrap(), true).is_err());
        }
        let left = std::fs::read_dir(&outside).unwrap().count();
        assert_eq!(left, 1);
        assert_eq!(std::fs::read(outside.join("file")).unwrap(), b"foreign");
        std::fs::remove_dir_all(path).unwrap();
    }

    /// Done when 8: names that nobody made safe before.
    #[test]
    fn ten_thousand_names_lead_nowhere() {
        let (path, _) = both();
        // So deep that no name would lead out of the test's own folder if it led anywhere.
        let inside = path.join("in/1/2/3/4/5/6");
        let open = || Root::create(&inside, Hook::default()).unwrap();
        let roots = [open(), open().without_openat2()];
        let outside = path.join("outside");
        std::fs::create_dir_all(&outside).unwrap();
        let victims = [path.join("in/victim"), outside.join("victim")];
        for victim in &victims {
            std::fs::write(victim, b"untouched").unwrap();
        }
        std::os::unix::fs::symlink(&outside, inside.join("link")).unwrap();
        let names = crate::names::hostile(1, 10_000, outside.to_str().unwrap());
        let (mut made, mut refused) = (0, 0);
        for (n, parts) in names.iter().enumerate() {
            let name = String::from_utf8_lossy(&parts.join(&b'/')).into_owned();
            let root = &roots[n % 2];
            if name.starts_with('/') && !name.starts_with(outside.to_str().unwrap()) {
                continue;
            }
            match root.create_file(&name, false, &mut Vec::new()) {
                Ok(_) => made += 1,
                Err(_) => refused += 1,
            }
            let _ = root.open_file(&name, true);
            let _ = root.link("victim", &name, &mut Vec::new());
            if n % 3 == 0 {
                let _ = root.remove_file(&name);
            }
        }
        assert!(made > 1_000 && refused > 1_000, "{made}, {refused}");
        for victim in &victims {
            assert_eq!(std::fs::read(victim).unwrap(), b"untouched");
        }
        let count = |path: &Path| std::fs::read_dir(path).unwrap().count();
        assert_eq!(
            (count(&path), count(&path.join("in")), count(&outside)),
            (2, 2, 1)
        );
        std::fs::remove_dir_all(path).unwrap();
    }
}
