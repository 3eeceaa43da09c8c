//! The file list of an info dictionary (BEP 3, 47).

use torr_bencode::{Dict, Value};

use crate::error::MetainfoError;
use crate::info::missing;
use crate::limits::{FILES_MAX, PATH_DEPTH_MAX};
use crate::warning::{Warning, Warnings};

/// What kind of file it is (BEP 47). Letters that are not known are ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileAttrs {
    /// `p`: zeros, so that the next file starts with a piece. Not on disk.
    pub pad: bool,
    /// `x`
    pub executable: bool,
    /// `h`
    pub hidden: bool,
    /// `l`: a symbolic link, of length 0.
    pub symlink: bool,
}

impl FileAttrs {
    fn from_letters(letters: &[u8]) -> Self {
        Self {
            pad: letters.contains(&b'p'),
            executable: letters.contains(&b'x'),
            hidden: letters.contains(&b'h'),
            symlink: letters.contains(&b'l'),
        }
    }

    /// The letters of BEP 47; empty for an ordinary file.
    #[must_use]
    pub fn letters(self) -> String {
        let all = [
            (self.pad, 'p'),
            (self.executable, 'x'),
            (self.hidden, 'h'),
            (self.symlink, 'l'),
        ];
        let set = all.iter().filter(|(is_set, _)| *is_set);
        set.map(|(_, letter)| letter).collect()
    }
}

/// A value inside the info bytes.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: u32,
    end: u32,
}

impl Span {
    fn of(value: Value<'_>, raw: &[u8]) -> Self {
        let start = value.offset_in(raw).unwrap_or_default();
        // A torrent has at most 100 MiB.
        Self {
            start: start as u32,
            end: (start + value.raw().len()) as u32,
        }
    }

    /// The strings of the list that is there.
    fn components(self, raw: &[u8]) -> impl Iterator<Item = &[u8]> {
        let bytes = raw.get(self.start as usize..self.end as usize);
        let list = bytes.and_then(|bytes| torr_bencode::parse(bytes).ok()?.as_list());
        let values = list.into_iter().flatten();
        values.filter_map(Value::as_bytes)
    }
}

/// What is kept of a file, besides its length: little, as there may be a million.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    path: Option<Span>,
    symlink: Option<Span>,
    pub(crate) attrs: FileAttrs,
}

impl Entry {
    pub(crate) fn path(self, raw: &[u8]) -> impl Iterator<Item = &[u8]> {
        self.path.into_iter().flat_map(|span| span.components(raw))
    }

    pub(crate) fn path_on_disk(self, raw: &[u8]) -> Option<impl Iterator<Item = &[u8]>> {
        (!self.attrs.pad).then(|| self.path(raw))
    }

    pub(crate) fn symlink(self, raw: &[u8]) -> impl Iterator<Item = &[u8]> {
        let span = self.symlink.into_iter();
        span.flat_map(|span| span.components(raw))
    }
}

pub(crate) struct Files {
    pub(crate) single: bool,
    pub(crate) entries: Vec<Entry>,
    pub(crate) lens: Vec<u64>,
}

pub(crate) fn read(
    info: Dict<'_>,
    raw: &[u8],
    warnings: &mut Warnings,
) -> Result<Files, MetainfoError> {
    let [files, length, attr, symlink] = info.pick(["files", "length", "attr", "symlink path"]);
    let Some(files) = files else {
        let fields = Fields {
            length,
            attr,
            symlink,
            path: None,
        };
        let (mut entry, len) = fields.read(raw, &|key| format!("info.{key}"), warnings)?;
        if entry.attrs.pad {
            warnings.ignored("info.attr", "padding before nothing");
            entry.attrs.pad = false;
        }
        return Ok(Files {
            single: true,
            entries: vec![entry],
            lens: vec![len],
        });
    };
    if length.is_some() {
        warnings.push(Warning::FilesAndLength);
    }
    let list = files.as_list().ok_or(MetainfoError::WrongType {
        key: "info.files".to_owned(),
        expected: "a list",
    })?;
    let (mut entries, mut lens) = (Vec::new(), Vec::new());
    for (index, file) in (0..).zip(list) {
        if index == FILES_MAX {
            return Err(MetainfoError::TooManyFiles);
        }
        let at = |key: &str| format!("info.files[{index}].{key}");
        let file = dict(file, || format!("info.files[{index}]"))?;
        let (entry, len) = Fields::of_file(file).read(raw, &at, warnings)?;
        if entry.path.is_none() && !entry.attrs.pad {
            return Err(MetainfoError::Missing(at("path")));
        }
        entries.push(entry);
        lens.push(len);
    }
    if entries.is_empty() {
        return Err(missing("info.files[0]"));
    }
    Ok(Files {
        single: false,
        entries,
        lens,
    })
}

struct Fields<'a> {
    length: Option<Value<'a>>,
    attr: Option<Value<'a>>,
    symlink: Option<Value<'a>>,
    path: Option<Value<'a>>,
}

impl<'a> Fields<'a> {
    fn of_file(file: Dict<'a>) -> Self {
        let [length, attr, symlink, path, utf8] =
            file.pick(["length", "attr", "symlink path", "path", "path.utf-8"]);
        // `path.utf-8` is what older clients write beside a path in another encoding.
        let is_utf8 = |value: &Value<'_>| {
            let list = value.as_list();
            list.is_some_and(|list| list.iter().all(|part| part.as_str().is_some()))
        };
        Self {
            length,
            attr,
            symlink,
            path: utf8.filter(is_utf8).or(path),
        }
    }

    fn read(
        self,
        raw: &[u8],
        at: &dyn Fn(&str) -> String,
        warnings: &mut Warnings,
    ) -> Result<(Entry, u64), MetainfoError> {
        let mut attrs = FileAttrs::default();
        match self.attr.map(Value::as_bytes) {
            Some(Some(letters)) => attrs = FileAttrs::from_letters(letters),
            Some(None) => warnings.ignored(at("attr"), "not a string"),
            None => {}
        }
        // BEP 47: the length of a link is zero and may be left out.
        let len = match self.length {
            Some(length) => uint(length, || at("length"))?,
            None if attrs.symlink => 0,
            None => return Err(MetainfoError::Missing(at("length"))),
        };
        if attrs.symlink && (len > 0 || attrs.pad || self.symlink.is_none()) {
            warnings.ignored(at("attr"), "a link with a length, or to nowhere");
            attrs.symlink = false;
        }
        let path = self.path.map(|path| span(path, raw, || at("path")));
        let symlink = self.symlink.filter(|_| attrs.symlink);
        let symlink = symlink.map(|path| span(path, raw, || at("symlink path")));
        let entry = Entry {
            path: path.transpose()?,
            symlink: symlink.transpose()?,
            attrs,
        };
        Ok((entry, len))
    }
}

fn span(path: Value<'_>, raw: &[u8], key: impl Fn() -> String) -> Result<Span, MetainfoError> {
    let is_path = |value: Value<'_>| {
        value
            .as_list()?
            .iter()
            .all(|v| v.as_bytes().is_some())
            .then_some(())
    };
    if is_path(path).is_none() {
        return Err(MetainfoError::WrongType {
            key: key(),
            expected: "a list of strings",
        });
    }
    let depth = path.as_list().map_or(0, |list| list.iter().count());
    if depth > PATH_DEPTH_MAX {
        return Err(MetainfoError::PathTooDeep(key()));
    }
    Ok(Span::of(path, raw))
}

pub(crate) fn dict(value: Value<'_>, key: impl Fn() -> String) -> Result<Dict<'_>, MetainfoError> {
    value.as_dict().ok_or_else(|| MetainfoError::WrongType {
        key: key(),
        expected: "a dictionary",
    })
}

pub(crate) fn bytes(value: Value<'_>, key: impl Fn() -> String) -> Result<&[u8], MetainfoError> {
    value.as_bytes().ok_or_else(|| MetainfoError::WrongType {
        key: key(),
        expected: "a string",
    })
}

/// A length: BEP 3 gives integers no size, all others give them 63 bits.
pub(crate) fn uint(value: Value<'_>, key: impl Fn() -> String) -> Result<u64, MetainfoError> {
    let number = value.as_int().and_then(|int| u64::try_from(int).ok());
    number.ok_or_else(|| MetainfoError::WrongType {
        key: key(),
        expected: "an integer from 0 to 2^63 - 1",
    })
}

/// Text for people: what is not UTF-8 in it is replaced.
pub(crate) fn text(value: Option<Value<'_>>, key: &str, warnings: &mut Warnings) -> Option<String> {
    let bytes = value?.as_bytes();
    if bytes.is_none() {
        warnings.ignored(key, "not a string");
    }
    Some(String::from_utf8_lossy(bytes?).into_owned())
}
