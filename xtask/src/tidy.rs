//! Rules that no compiler checks: how long things are, where the world may be touched, and that the
//! tests which the lab's README names are there.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::{layers, proofs};

const FILE_LINES_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 100;
/// A comment that excuses a long file or function, with its reason.
const EXCUSE: &str = "// tidy: long because";
/// What tells the time on the wall, which may be set at any moment (G12).
const WALL_CLOCK: &[&str] = &[
    "SystemTime",
    "UNIX_EPOCH",
    "ClockId::Realtime",
    "CLOCK_REALTIME",
    "chrono::",
    "time::OffsetDateTime",
    "jiff::",
];
/// Who may look at it, and why.
const WALL_CLOCK_READERS: &[(&str, &str)] = &[
    ("app/cli/src/cmd/create.rs", "the date of a new torrent"),
    (
        "io/disk/src/serve.rs",
        "stamps of files, which are times on the wall",
    ),
];
const TOP: &[&str] = &["logic", "io", "app", "lab", "xtask"];

/// Prints every fault; true if there is none.
pub(crate) fn run(root: &Path) -> Result<bool> {
    let mut faults = layers::faults(root)?;
    let mut sources = Vec::new();
    for top in TOP {
        let mut files = Vec::new();
        rust_files(&root.join(top), &mut files)?;
        for path in files {
            let text = fs::read_to_string(&path)?;
            let name = path
                .strip_prefix(root)
                .unwrap_or(&path)
                .display()
                .to_string();
            check_file(&name, &text, &mut faults);
            sources.push(text);
        }
    }
    faults.extend(proofs::faults(root, &sources)?);
    for fault in &faults {
        println!("tidy: {fault}");
    }
    if faults.is_empty() {
        println!("tidy: nothing to mend");
    }
    Ok(faults.is_empty())
}

fn check_file(name: &str, text: &str, faults: &mut Vec<String>) {
    let is_test = name.contains("/tests/");
    // Tests at the end of a file do not count.
    let code = text
        .split("\n#[cfg(test)]\nmod tests {")
        .next()
        .unwrap_or(text);
    let lines: Vec<&str> = code.lines().collect();
    if lines.len() > FILE_LINES_MAX && !code.contains(EXCUSE) {
        faults.push(format!(
            "{name} has {} lines, at most {FILE_LINES_MAX}",
            lines.len()
        ));
    }
    if !is_test {
        long_functions(name, &lines, faults);
        wall_clock(name, &lines, faults);
    }
    let logic = name.starts_with("logic/");
    let root_file = name.ends_with("/src/lib.rs") || name.ends_with("/src/main.rs");
    if logic && root_file && !text.contains("#![forbid(unsafe_code)]") {
        faults.push(format!("{name} lacks #![forbid(unsafe_code)]"));
    }
    let unsafe_here = text.contains("unsafe {") || text.contains("unsafe impl");
    if unsafe_here
        && !name.starts_with("io/")
        && !name.starts_with("lab/bench/")
        && !name.starts_with("xtask/")
    {
        faults.push(format!(
            "{name} holds unsafe code, which only io/ and lab/bench may"
        ));
    }
}

/// Announces, time-outs, rates and ratios go by a clock that never steps.
fn wall_clock(name: &str, lines: &[&str], faults: &mut Vec<String>) {
    let may = WALL_CLOCK_READERS.iter().any(|(path, _)| *path == name);
    if may || name.starts_with("xtask/") {
        return;
    }
    for (number, line) in lines.iter().enumerate() {
        let reads = |word: &&&str| line.contains(**word) && !line.trim_start().starts_with("//");
        if let Some(word) = WALL_CLOCK.iter().find(reads) {
            faults.push(format!(
                "{name}:{} {word}: a clock that may be set; only dates that are shown and stamps of files go by it",
                number + 1
            ));
        }
    }
}

/// rustfmt puts a function's closing brace under its first word.
fn long_functions(name: &str, lines: &[&str], faults: &mut Vec<String>) {
    for (first, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let words = code.split('(').next().unwrap_or_default();
        let is_function = words.split_whitespace().any(|word| word == "fn")
            && !code.starts_with("//")
            && !code.ends_with(';')
            && !code.ends_with("},");
        if !is_function || code.ends_with('}') {
            continue;
        }
        let indent = line.len() - code.len();
        let closing = format!("{}}}", " ".repeat(indent));
        let end = lines.iter().skip(first).position(|line| *line == closing);
        let excused = first > 0 && lines[first - 1].contains(EXCUSE);
        if let Some(len) = end.filter(|len| *len >= FUNCTION_LINES_MAX && !excused) {
            faults.push(format!(
                "{name}:{} a function of {} lines",
                first + 1,
                len + 1
            ));
        }
    }
}

fn rust_files(folder: &Path, out: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {folder:?}"))?;
    for entry in entries {
        let path = entry?.path();
        let skip = path.ends_with("target") || path.ends_with("corpus");
        if path.is_dir() && !skip {
            rust_files(&path, out)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            out.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(name: &str, text: &str) -> Vec<String> {
        let mut out = Vec::new();
        check_file(name, text, &mut out);
        out
    }

    #[test]
    fn finds_what_is_too_long_or_unsafe() {
        let long = "x\n".repeat(FILE_LINES_MAX + 1);
        assert_eq!(faults("app/cli/src/a.rs", &long).len(), 1);
        let function = format!("fn f() {{\n{}}}\n", "    x();\n".repeat(FUNCTION_LINES_MAX));
        assert_eq!(faults("app/cli/src/a.rs", &function).len(), 1);
        let excused = format!("// tidy: long because it is a table\n{function}");
        assert_eq!(faults("app/cli/src/a.rs", &excused).len(), 0);
        assert_eq!(faults("logic/base/src/lib.rs", "pub fn f() {}\n").len(), 1);
        let danger = "fn f() { unsafe { g() } }\n";
        assert_eq!(faults("app/cli/src/a.rs", danger).len(), 1);
        assert_eq!(faults("io/disk/src/a.rs", danger).len(), 0);
    }

    #[test]
    fn finds_who_goes_by_the_clock_on_the_wall() {
        let look = "use std::time::SystemTime;\nfn f() -> SystemTime { SystemTime::now() }\n";
        assert_eq!(faults("io/net/src/clock.rs", look).len(), 2);
        assert_eq!(faults("app/session/src/a.rs", look).len(), 2);
        assert_eq!(faults("lab/sim/src/a.rs", look).len(), 2);
        assert_eq!(faults("app/cli/src/cmd/create.rs", look).len(), 0);
        assert_eq!(
            faults("io/net/src/clock.rs", "// SystemTime steps\n").len(),
            0
        );
        let test = "fn f() {}\n#[cfg(test)]\nmod tests {\n    use std::time::SystemTime;\n}\n";
        assert_eq!(faults("io/net/src/clock.rs", test).len(), 0);
    }
}
