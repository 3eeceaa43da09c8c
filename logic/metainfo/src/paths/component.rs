//! One component of a path: what may stay of it, and how it gets a number.

use torr_base::is_disruptive;

use super::{PathFaults, STAND_IN};

/// Longest component, before ` (2)`, in bytes. File systems take 255; the rest is for that and for
/// suffixes of unfinished files.
pub(super) const COMPONENT_LEN_MAX: usize = 240;

/// What file systems take.
const STORED_LEN_MAX: usize = 255;

/// Longest ending that is taken for an extension, in bytes with its dot.
const EXTENSION_LEN_MAX: usize = 32;

/// Between components while paths are compared: below every character of a name, so that what is in a
/// folder comes right after a file of the folder's name.
pub(super) const SEPARATOR: char = '\0';

/// Appends what may stay of one component; false if nothing may.
pub(super) fn push_component(out: &mut String, raw: &[u8], faults: &mut PathFaults) -> bool {
    let start = out.len();
    for chunk in raw.utf8_chunks() {
        for c in chunk.valid().chars() {
            if is_disruptive(c) || matches!(c, '/' | '\\') {
                faults.add(PathFaults::CHARACTERS);
                out.push(STAND_IN);
            } else {
                out.push(c);
            }
        }
        if !chunk.invalid().is_empty() {
            faults.add(PathFaults::NOT_UTF8);
            out.push(STAND_IN);
        }
    }
    let name = out.get(start..).unwrap_or_default();
    match name {
        "" | "." => {
            faults.add(PathFaults::EMPTY);
            out.truncate(start);
            return false;
        }
        ".." => {
            faults.add(PathFaults::PARENT);
            out.truncate(start);
            out.push(STAND_IN);
        }
        _ if name.len() > COMPONENT_LEN_MAX => {
            faults.add(PathFaults::TOO_LONG);
            let (stem, extension) = split_extension(name);
            let cut = stem.floor_char_boundary(COMPONENT_LEN_MAX - extension.len());
            let extension = extension.to_owned();
            out.truncate(start + cut);
            out.push_str(&extension);
        }
        _ => {}
    }
    true
}

/// `a.b.c` → `a.b` and `.c`. An extension has no blanks: so a name with ` (2)` at its end never has one,
/// and ` (2)` before the extension of another name never gives the same.
fn split_extension(name: &str) -> (&str, &str) {
    let is_extension = |dot: &usize| {
        let extension = name.get(*dot..).unwrap_or_default();
        *dot > 0 && extension.len() <= EXTENSION_LEN_MAX && !extension.contains(char::is_whitespace)
    };
    let dot = name.rfind('.').filter(is_extension);
    name.split_at(dot.unwrap_or(name.len()))
}

/// The path with ` (n)` before the extension.
pub(super) fn with_suffix(path: &str, n: u32) -> String {
    let dir_len = path.rfind(SEPARATOR).map_or(0, |at| at + 1);
    let (dir, name) = path.split_at(dir_len);
    let (stem, extension) = split_extension(name);
    format!("{dir}{stem} ({n}){extension}")
}

/// Whether a component keeps to the invariants as it is.
pub(super) fn is_safe(component: &str) -> bool {
    let bad = |c| is_disruptive(c) || matches!(c, '/' | '\\');
    !matches!(component, "" | "." | "..")
        && component.len() <= STORED_LEN_MAX
        && !component.contains(bad)
}
