//! `--select`: which files of a torrent a person wants.
//!
//! A file is wanted if any item matches it and no item with `!` does; if there are only items with `!`,
//! all files are wanted but those. Items are separated by commas; `\,` is a comma.

use crate::units;

/// What can be known about a file before its bytes are there.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    /// Counted from 1 in the order of the torrent.
    pub(crate) number: u32,
    /// Below the torrent's folder, components joined by `/`; of a single file its name.
    pub(crate) path: String,
    pub(crate) len: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Selection(Vec<Item>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Item {
    negated: bool,
    test: Test,
    /// As it was written.
    text: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    Numbers { first: u32, last: u32 },
    Larger { bytes: u64, or_equal: bool },
    Smaller { bytes: u64, or_equal: bool },
    Glob(String),
}

impl Selection {
    pub(crate) fn parse(spec: &str) -> Result<Self, String> {
        let items: Result<Vec<_>, _> = split(spec).iter().map(|item| Item::parse(item)).collect();
        let items = items?;
        if items.is_empty() {
            return Err("it names no files; write it as 1-5,8 or '*.mkv' or '>100M'".to_owned());
        }
        Ok(Self(items))
    }

    /// For each file whether it is wanted.
    pub(crate) fn apply(&self, files: &[Candidate]) -> Result<Vec<bool>, String> {
        for item in &self.0 {
            item.check_range(files)?;
        }
        let (no, yes): (Vec<&Item>, Vec<&Item>) = self.0.iter().partition(|item| item.negated);
        let any = |items: &[&Item], file| items.iter().any(|item| item.test.matches(file));
        let wanted: Vec<bool> = files
            .iter()
            .map(|file| (yes.is_empty() || any(&yes, file)) && !any(&no, file))
            .collect();
        if !wanted.contains(&true) {
            return Err("no file of the torrent matches".to_owned());
        }
        Ok(wanted)
    }
}

/// At commas that have no backslash before them.
fn split(spec: &str) -> Vec<String> {
    let mut items = vec![String::new()];
    let mut chars = spec.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' if chars.peek() == Some(&',') => {
                chars.next();
                items.last_mut().expect("there is always one").push(',');
            }
            ',' => items.push(String::new()),
            c => items.last_mut().expect("there is always one").push(c),
        }
    }
    let items = items.into_iter().map(|item| item.trim().to_owned());
    items.filter(|item| !item.is_empty()).collect()
}

impl Item {
    fn parse(text: &str) -> Result<Self, String> {
        let (negated, rest) = match text.strip_prefix('!') {
            Some(rest) => (true, rest.trim_start()),
            None => (false, text),
        };
        if rest.is_empty() {
            return Err(format!("`{text}` names no file"));
        }
        Ok(Self {
            negated,
            test: Test::parse(rest)?,
            text: text.to_owned(),
        })
    }

    /// A number that no file has is a mistake, and silence would hide it.
    fn check_range(&self, files: &[Candidate]) -> Result<(), String> {
        let Test::Numbers { first, last } = self.test else {
            return Ok(());
        };
        let count = files.last().map_or(0, |file| file.number);
        let open = last == u32::MAX;
        if first > count || (last > count && !open) {
            let have = units::count(u64::from(count), "file");
            return Err(format!("`{}`: the torrent has {have}", self.text));
        }
        Ok(())
    }
}

impl Test {
    fn parse(text: &str) -> Result<Self, String> {
        if let Some(size) = text.strip_prefix('>') {
            let (or_equal, bytes) = bound(size)?;
            return Ok(Self::Larger { bytes, or_equal });
        }
        if let Some(size) = text.strip_prefix('<') {
            let (or_equal, bytes) = bound(size)?;
            return Ok(Self::Smaller { bytes, or_equal });
        }
        if text.starts_with(|c: char| c.is_ascii_digit())
            && text.chars().all(|c| c.is_ascii_digit() || c == '-')
        {
            return Self::numbers(text);
        }
        Ok(Self::Glob(text.to_owned()))
    }

    fn numbers(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` is not a number or range of files; they count from 1");
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let first = first.parse().map_err(|_| bad())?;
        let last = match last {
            "" => u32::MAX,
            last => last.parse().map_err(|_| bad())?,
        };
        if first == 0 || last < first {
            return Err(bad());
        }
        Ok(Self::Numbers { first, last })
    }

    fn matches(&self, file: &Candidate) -> bool {
        match self {
            Self::Numbers { first, last } => (*first..=*last).contains(&file.number),
            Self::Larger { bytes, or_equal } => {
                file.len > *bytes || (*or_equal && file.len == *bytes)
            }
            Self::Smaller { bytes, or_equal } => {
                file.len < *bytes || (*or_equal && file.len == *bytes)
            }
            Self::Glob(pattern) => {
                let name = file.path.rsplit('/').next().unwrap_or_default();
                glob(pattern, name) || glob(pattern, &file.path)
            }
        }
    }
}

fn bound(text: &str) -> Result<(bool, u64), String> {
    let (or_equal, size) = match text.strip_prefix('=') {
        Some(size) => (true, size),
        None => (false, text),
    };
    Ok((or_equal, units::parse_size(size)?))
}

/// `*` is any characters, `/` too; `?` any one; `[abc]`, `[a-z]`, `[!x]` one of a set. Takes time in the
/// product of the lengths at worst: names come from strangers.
fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    // Where to go on if what follows the last `*` does not fit: it takes one character more.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        let matched = match (pattern.get(p), text.get(t)) {
            (None, None) => return true,
            (Some('*'), _) => {
                retry = Some((p + 1, t));
                p += 1;
                continue;
            }
            (Some(_), Some(c)) => one(pattern.get(p..).unwrap_or_default(), *c),
            (Some(_), None) | (None, Some(_)) => None,
        };
        match (matched, retry) {
            (Some(len), _) => {
                p += len;
                t += 1;
            }
            (None, Some((after_star, from))) if from < text.len() => {
                retry = Some((after_star, from + 1));
                (p, t) = (after_star, from + 1);
            }
            (None, _) => return false,
        }
    }
}

/// How many characters of the pattern stand for `c`, if they do.
fn one(pattern: &[char], c: char) -> Option<usize> {
    match pattern.first()? {
        '?' => Some(1),
        '[' => match set(pattern, c) {
            Some((is_in, len)) => is_in.then_some(len),
            None => (c == '[').then_some(1),
        },
        first => (*first == c).then_some(1),
    }
}

/// Whether `c` is in the set that `pattern` starts with, and the set's length; `None` if it has no end.
fn set(pattern: &[char], c: char) -> Option<(bool, usize)> {
    let negated = matches!(pattern.get(1), Some('!' | '^'));
    let start = if negated { 2 } else { 1 };
    let body = pattern.get(start..)?;
    // A `]` that comes first is one of the set.
    let end = body.iter().skip(1).position(|c| *c == ']')? + 1;
    let body = body.get(..end)?;
    let (mut at, mut found) = (0, false);
    while let Some(low) = body.get(at) {
        match (body.get(at + 1), body.get(at + 2)) {
            (Some('-'), Some(high)) => {
                found |= (*low..=*high).contains(&c);
                at += 3;
            }
            _ => {
                found |= *low == c;
                at += 1;
            }
        }
    }
    Some((found != negated, start + end + 1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn files() -> Vec<Candidate> {
        let file = |number, path: &str, len| Candidate {
            number,
            path: path.to_owned(),
            len,
        };
        vec![
            file(1, "a.mkv", 700_000_000),
            file(2, "sample.mkv", 5_000_000),
            file(4, "extra/b.mkv", 100_000_000),
            file(5, "extra/read,me.txt", 10),
        ]
    }

    fn chosen(spec: &str) -> Result<Vec<u32>, String> {
        let files = files();
        let wanted = Selection::parse(spec)?.apply(&files)?;
        let chosen = files.iter().zip(wanted).filter(|(_, wanted)| *wanted);
        Ok(chosen.map(|(file, _)| file.number).collect())
    }

    #[test]
    fn numbers_sizes_names() {
        assert_eq!(chosen("1-2,5"), Ok(vec![1, 2, 5]));
        assert_eq!(chosen("2-"), Ok(vec![2, 4, 5]));
        assert_eq!(chosen("*.mkv"), Ok(vec![1, 2, 4]));
        assert_eq!(chosen("extra/*"), Ok(vec![4, 5]));
        assert_eq!(chosen(">100M"), Ok(vec![1]));
        assert_eq!(chosen(">=100M"), Ok(vec![1, 4]));
        assert_eq!(chosen("<1k, 1"), Ok(vec![1, 5]));
        assert_eq!(chosen("!sample*"), Ok(vec![1, 4, 5]));
        assert_eq!(chosen("*.mkv,!sample*,!>500M"), Ok(vec![4]));
        assert_eq!(chosen(r"read\,me.txt"), Ok(vec![5]));
        assert_eq!(chosen("?.[a-m]kv"), Ok(vec![1, 4]));
    }

    #[test]
    fn mistakes_are_said() {
        assert_eq!(chosen("9"), Err("`9`: the torrent has 5 files".to_owned()));
        assert_eq!(
            chosen("*.iso"),
            Err("no file of the torrent matches".to_owned())
        );
        for spec in ["", ",", "0", "3-2", "1-2-3", "!", ">x"] {
            assert!(Selection::parse(spec).is_err(), "{spec}");
        }
    }

    #[test]
    fn globs() {
        let yes = [
            ("*", ""),
            ("a*b*c", "axxbxxbc"),
            ("[!a]x", "bx"),
            ("[]]", "]"),
            ("[", "["),
            ("ü?", "üé"),
            ("**a", "a"),
        ];
        let no = [("a*b", "acbd"), ("?", ""), ("[a-c]", "d"), ("", "a")];
        assert!(yes.iter().all(|(pattern, text)| glob(pattern, text)));
        assert!(!no.iter().any(|(pattern, text)| glob(pattern, text)));
    }

    /// The definition, without regard to time.
    fn naive(pattern: &[char], text: &[char]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some(('*', rest)), None) => naive(rest, text),
            (Some(('*', rest)), Some((_, after))) => naive(rest, text) || naive(pattern, after),
            (Some((p, rest)), Some((t, after))) => (*p == '?' || p == t) && naive(rest, after),
            (Some(_), None) | (None, Some(_)) => false,
        }
    }

    proptest! {
        #[test]
        fn globs_are_as_defined(pattern in "[ab?*]{0,8}", text in "[ab]{0,10}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(glob(&pattern, &text), naive(&chars(&pattern), &chars(&text)));
        }

        #[test]
        fn no_text_panics(spec in ".{0,30}") {
            let _ = Selection::parse(&spec).map(|selection| selection.apply(&files()));
        }
    }
}
