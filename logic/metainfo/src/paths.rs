//! Names on disk: what becomes of the names in a torrent, which an attacker may have chosen.
//!
//! In this order: what is not UTF-8, and every NUL, `/`, `\`, control, direction mark or character of no
//! width becomes `_`; components that are empty or `.` are dropped; `..` becomes `_`; a component above
//! 240 bytes is cut, its extension kept; a file whose path is taken, or is that of a folder, gets ` (2)`,
//! ` (3)` … before the extension.
//!
//! Invariants, for every input:
//! - No component is empty, `.` or `..`, holds a `/`, a NUL or a control, or is longer than 255 bytes.
//! - No two files have the same path, and no file's path is that of a folder.
//! - The same torrent gives the same paths, here and everywhere.
//! - Memory is linear in the bytes of the names, time `n log n` in their number.
//!
//! Deliberately absent: what other systems forbid (names like `CON`, equality without case), and any
//! look at the disk.

mod component;
mod faults;

use crate::{FileIndex, Info};

use component::{SEPARATOR, is_safe, push_component, with_suffix};
pub use faults::PathFaults;

/// What stands for anything that was taken out of a name.
const STAND_IN: char = '_';

/// Where the files of a torrent go, below the download folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    root: String,
    /// The torrent is one file, and `root` its name.
    single: bool,
    /// All paths below `root`, one after the other, components joined by `/`.
    paths: String,
    /// Where in `paths` each file's path ends. It is empty for files that are not on disk.
    ends: Vec<u32>,
}

/// A name that is not on disk as it is in the torrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PathChange {
    /// Whose name; the torrent's if it is none.
    pub(crate) file: Option<FileIndex>,
    /// Everything that was wrong with it.
    pub(crate) faults: PathFaults,
}

impl Layout {
    /// The layout of a torrent: below a folder of its name, or one file of that name.
    ///
    /// `files`: for each file its path's components, or `None` where it is not stored (padding).
    /// `root_else` is the name where nothing of `root` is left.
    pub(crate) fn new<'a, P>(
        root: &[u8],
        root_else: &str,
        single: bool,
        files: impl Iterator<Item = Option<P>>,
    ) -> (Self, Vec<PathChange>)
    where
        P: IntoIterator<Item = &'a [u8]>,
    {
        let mut changes = Vec::new();
        let mut note = |file, faults: PathFaults| {
            if !faults.is_empty() {
                changes.push(PathChange { file, faults });
            }
        };

        let mut root_path = String::new();
        let mut faults = PathFaults::default();
        if !push_component(&mut root_path, root, &mut faults) {
            root_path.push_str(root_else);
        }
        note(None, faults);

        let mut table = Table::default();
        let mut all_faults = Vec::new();
        for path in files {
            let mut faults = PathFaults::default();
            if let Some(path) = path.filter(|_| !single) {
                table.push(path, &mut faults);
            }
            table.end();
            all_faults.push(faults);
        }
        let suffixes = table.suffixes();
        for (index, (mut faults, suffix)) in (0..).zip(all_faults.into_iter().zip(&suffixes)) {
            if *suffix != 0 {
                faults.add(PathFaults::TAKEN);
            }
            note(Some(FileIndex::new(index)), faults);
        }

        let (paths, ends) = table.finish(&suffixes);
        let layout = Self {
            root: root_path,
            single,
            paths,
            ends,
        };
        (layout, changes)
    }

    /// A layout that was kept, so that files stay where they are whatever a later version makes of
    /// their names. `files` holds what [`Self::below_root`] gave; nothing for files that are not on disk.
    ///
    /// `None` where it does not fit the torrent or breaks an invariant of this module: then the record
    /// is not one of ours.
    #[must_use]
    pub fn restore<'a>(
        info: &Info,
        root: &str,
        files: impl Iterator<Item = Option<&'a str>>,
    ) -> Option<Self> {
        let fresh = info.layout();
        let mut files = files;
        let mut table = Table::default();
        for (file, path) in info.map().files().zip(files.by_ref()) {
            let fresh = fresh.below_root(file);
            let is_empty = path.is_none_or(str::is_empty);
            let fits = path.is_some() == fresh.is_some()
                && is_empty == fresh.is_none_or(str::is_empty)
                && (is_empty || path.is_some_and(|path| path.split('/').all(is_safe)));
            if !fits {
                return None;
            }
            let path = path.unwrap_or_default();
            table.text.push_str(&path.replace('/', "\0"));
            table.end();
        }
        let suffixes = table.suffixes();
        let fits = is_safe(root) && table.ends.len() == fresh.ends.len() && files.next().is_none();
        if !fits || suffixes.iter().any(|suffix| *suffix != 0) {
            return None;
        }
        let (paths, ends) = table.finish(&suffixes);
        Some(Self {
            root: root.to_owned(),
            single: fresh.single,
            paths,
            ends,
        })
    }

    /// The torrent's name on disk: its folder, or its only file.
    #[must_use]
    pub fn root(&self) -> &str {
        &self.root
    }

    /// Whether the torrent is one file without a folder.
    #[must_use]
    pub const fn is_single(&self) -> bool {
        self.single
    }

    /// The path of a file below [`Self::root`], components joined by `/`: empty where the file is the
    /// root itself, `None` for padding and past the end.
    #[must_use]
    pub fn below_root(&self, file: FileIndex) -> Option<&str> {
        let index = file.as_usize();
        let path = slice(&self.paths, &self.ends, index)?;
        (self.single || !path.is_empty()).then_some(path)
    }

    /// The components of a file's path below the download folder, the first one being the root's; `None`
    /// for padding and past the end.
    pub fn components(&self, file: FileIndex) -> Option<impl Iterator<Item = &str> + Clone> {
        let below = self.below_root(file)?;
        let rest = below.split('/').filter(|component| !component.is_empty());
        Some(std::iter::once(self.root()).chain(rest))
    }

    /// The path of a file below the download folder, components joined by `/`; `None` for padding and
    /// past the end.
    #[must_use]
    pub fn path(&self, file: FileIndex) -> Option<String> {
        let below = self.below_root(file)?;
        Some(match below {
            "" => self.root.clone(),
            _ => format!("{}/{below}", self.root),
        })
    }
}

/// The components of a path as they would be on disk, joined by `/`. What a link points at is put
/// through the same sieve as the files.
pub(crate) fn safe_path<'a>(components: impl Iterator<Item = &'a [u8]>) -> String {
    let mut table = Table::default();
    table.push(components, &mut PathFaults::default());
    table.text.replace(SEPARATOR, "/")
}

fn slice<'a>(text: &'a str, ends: &[u32], index: usize) -> Option<&'a str> {
    let end = *ends.get(index)? as usize;
    let start = match index.checked_sub(1) {
        Some(before) => *ends.get(before)? as usize,
        None => 0,
    };
    text.get(start..end)
}

/// Paths in the making: one text for all of them, as a torrent may have a million.
#[derive(Debug, Default)]
struct Table {
    text: String,
    ends: Vec<u32>,
}

impl Table {
    fn push<'a>(&mut self, path: impl IntoIterator<Item = &'a [u8]>, faults: &mut PathFaults) {
        let start = self.text.len();
        for component in path {
            let before = self.text.len();
            if before > start {
                self.text.push(SEPARATOR);
            }
            if !push_component(&mut self.text, component, faults) {
                self.text.truncate(before);
            }
        }
        if self.text.len() == start {
            faults.add(PathFaults::EMPTY);
            self.text.push(STAND_IN);
        }
    }

    fn end(&mut self) {
        // Names come out of at most 100 MiB, and none of them grows before `finish`.
        self.ends.push(self.text.len() as u32);
    }

    fn path(&self, index: u32) -> &str {
        slice(&self.text, &self.ends, index as usize).unwrap_or_default()
    }

    /// For each file the number it needs behind its name; 0 for none.
    ///
    /// Who is alone with its path keeps it. Numbered names cannot collide with each other (see
    /// `split_extension`), only with paths of the torrent.
    fn suffixes(&self) -> Vec<u32> {
        let mut suffixes = vec![0; self.ends.len()];
        let mut order: Vec<u32> = (0..self.ends.len() as u32).collect();
        order.retain(|index| !self.path(*index).is_empty());
        order.sort_unstable_by_key(|index| (self.path(*index), *index));

        let mut rest = order.as_slice();
        while let Some(first) = rest.first() {
            let path = self.path(*first);
            let same = rest.partition_point(|index| self.path(*index) == path);
            let (group, after) = rest.split_at(same);
            rest = after;
            let is_folder = after
                .first()
                .is_some_and(|next| is_inside(self.path(*next), path));
            let keeps = usize::from(!is_folder);
            let mut n = 1;
            for index in group.iter().skip(keeps) {
                n += 1;
                while self.is_taken(&order, &with_suffix(path, n)) {
                    n += 1;
                }
                if let Some(suffix) = suffixes.get_mut(*index as usize) {
                    *suffix = n;
                }
            }
        }
        suffixes
    }

    /// Whether a file or folder of the torrent has that path; `order` is sorted.
    fn is_taken(&self, order: &[u32], path: &str) -> bool {
        let at = order.partition_point(|index| self.path(*index) < path);
        order.get(at).is_some_and(|index| {
            let found = self.path(*index);
            found == path || is_inside(found, path)
        })
    }

    fn finish(self, suffixes: &[u32]) -> (String, Vec<u32>) {
        let (mut text, mut ends) = (String::new(), Vec::new());
        for (index, suffix) in (0..).zip(suffixes) {
            let path = self.path(index);
            match suffix {
                0 => text.push_str(path),
                n => text.push_str(&with_suffix(path, *n)),
            }
            ends.push(text.len() as u32);
        }
        (text.replace(SEPARATOR, "/"), ends)
    }
}

fn is_inside(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder)
        .is_some_and(|rest| rest.starts_with(SEPARATOR))
}

#[cfg(test)]
mod tests;
