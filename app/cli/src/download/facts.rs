//! What is to be said of a torrent once its files are known.

use std::collections::BTreeSet;

use crate::input;
use crate::select::{Candidate, Selection};
use torr::metainfo::{FilePriorities, FilePriority, Info, Metainfo};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// As it will be called on disk.
    pub(crate) name: String,
    pub(crate) private: bool,
    pub(crate) files: u64,
    pub(crate) files_wanted: u64,
    pub(crate) bytes_wanted: u64,
    pub(crate) warnings: Vec<String>,
}

impl Facts {
    /// `wanted`: `None` for all files. `name`: another one than its own.
    pub(crate) fn of(meta: &Metainfo, wanted: Option<&FilePriorities>, name: Option<&str>) -> Self {
        let info = meta.info();
        let files: Vec<_> = info.files().filter(|file| !file.attrs.pad).collect();
        let is_wanted = |file| wanted.is_none_or(|wanted| wanted.get(file) != FilePriority::Skip);
        let files_wanted = files.iter().filter(|file| is_wanted(file.index));
        let warnings = meta.warnings().map(|warning| warning.to_string());
        Self {
            name: name.unwrap_or_else(|| input::name(meta)).to_owned(),
            private: info.is_private(),
            files: files.len() as u64,
            files_wanted: files_wanted.clone().count() as u64,
            bytes_wanted: files_wanted.map(|file| file.len).sum(),
            warnings: warnings.collect(),
        }
    }
}

/// What `--select` makes of a torrent.
///
/// # Errors
/// Why it fits no file, with the torrent's name.
pub(crate) fn chosen(selection: &Selection, info: &Info) -> Result<FilePriorities, String> {
    let files = info.files().filter(|file| !file.attrs.pad);
    let candidates: Vec<Candidate> = files
        .map(|file| Candidate {
            number: file.index.get() + 1,
            path: input::path_inside(info, file.index)
                .unwrap_or_default()
                .to_owned(),
            len: file.len,
        })
        .collect();
    let wanted = selection.apply(&candidates);
    let wanted = wanted.map_err(|why| format!("{}: {why}", info.layout().root()))?;
    let chosen = candidates.iter().zip(wanted).filter(|(_, wanted)| *wanted);
    let chosen: BTreeSet<u32> = chosen.map(|(file, _)| file.number).collect();
    let count = info.map().file_count();
    Ok(FilePriorities::only(count, |file| {
        chosen.contains(&(file.get() + 1))
    }))
}
