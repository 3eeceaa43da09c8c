//! `torr check`: which files on disk are what the torrent says.

use std::sync::Arc;
use std::thread::available_parallelism;

use serde_json::{Value, json};
use torr::metainfo::{FileIndex, Info};
use torr::{CheckReport, FileReport, FileState};
use torr_base::printable;

use crate::args::high::{Show, Talk, default_mode};
use crate::args::low::{CheckArgs, DownloadArgs};
use crate::args::settings::Settings;
use crate::cmd::work;
use crate::download::{Screen, storage_failure};
use crate::env::{Env, Output};
use crate::failure::{Exit, Failure};
use crate::{input, units};

pub(crate) fn run(env: &mut Env, args: &CheckArgs) -> Result<Exit, Failure> {
    let torrent = input::load(env, &args.torrent)?;
    let flags = DownloadArgs {
        dir: args.dir.clone(),
        ..DownloadArgs::default()
    };
    let settings = Settings::read(env, &flags)?;
    let dir = env.path(settings.path("dir").unwrap_or(".".as_ref()));
    let info = Arc::clone(torrent.meta.info());
    let name = args.output.clone();
    let shown = name
        .clone()
        .unwrap_or_else(|| input::name(&torrent.meta).to_owned());
    let show = Show {
        mode: default_mode(env),
        talk: if args.quiet { Talk::Quiet } else { Talk::Usual },
        print: None,
    };
    let screen = Screen::new(env, show);
    let checked = Arc::clone(&info);
    let report = work::run(env, screen, &shown, move |progress| {
        let threads = available_parallelism().map_or(1, usize::from);
        let piece = u64::from(checked.geometry().piece_len_max());
        let total = checked.geometry().total();
        torr::check(&checked, &dir, name.as_deref(), threads, &|so_far| {
            let bytes = |pieces: u32| (u64::from(pieces) * piece).min(total);
            progress.tell(bytes(so_far.pieces_done), bytes(so_far.pieces))
        })
    })?;
    let report = report.map_err(|error| storage_failure(&shown, &error))?;
    match args.json {
        true => env.out.line(as_json(&info, &report)),
        false => show_files(&env.out, &info, &report, args.quiet),
    }
    if report.is_right() {
        if !args.quiet {
            let size = units::size(info.map().stored());
            env.err.line(format_args!(
                "all right: {size}, {}",
                units::count(report.files.len() as u64, "file")
            ));
        }
        return Ok(Exit::Done);
    }
    let wrong = report
        .files
        .iter()
        .filter(|file| file.state != FileState::Right)
        .count();
    let why = format!(
        "{wrong} of {} not right, {} of {} pieces right",
        units::count(report.files.len() as u64, "file"),
        units::grouped(u64::from(report.have.count())),
        units::grouped(u64::from(info.geometry().piece_count())),
    );
    Err(Failure::new(Exit::Verification, shown, why)
        .hint("`torr` with the same torrent and folder downloads what is missing"))
}

fn show_files(out: &Output, info: &Info, report: &CheckReport, only_wrong: bool) {
    for file in &report.files {
        if only_wrong && file.state == FileState::Right {
            continue;
        }
        let (word, more) = words(info, file);
        let size = units::size(info.map().len(file.file));
        let more = if more.is_empty() {
            more
        } else {
            format!("  ({more})")
        };
        out.line(format_args!(
            "{word:<8} {size:>9}  {}{more}",
            printable(&file.path)
        ));
    }
}

fn words(info: &Info, file: &FileReport) -> (&'static str, String) {
    let all = |file: FileIndex| units::grouped(info.map().pieces_of(file).count() as u64);
    match &file.state {
        FileState::Right => ("ok", String::new()),
        FileState::Missing => ("missing", String::new()),
        FileState::NotAFile => ("bad", "something else is there".to_owned()),
        FileState::WrongLength { len, bad_pieces } => {
            let bad = units::grouped(u64::from(*bad_pieces));
            let is = units::count(*len, "byte");
            (
                "bad",
                format!("it has {is}; {bad} of {} pieces wrong", all(file.file)),
            )
        }
        FileState::Bad { pieces } => {
            let bad = units::grouped(u64::from(*pieces));
            ("bad", format!("{bad} of {} pieces wrong", all(file.file)))
        }
        FileState::Unreadable { why } => ("bad", format!("cannot be read: {}", printable(why))),
    }
}

fn as_json(info: &Info, report: &CheckReport) -> Value {
    let files = report.files.iter().map(|file| {
        let (state, bad_pieces) = match &file.state {
            FileState::Right => ("right", Some(0)),
            FileState::Missing => ("missing", None),
            FileState::NotAFile => ("not_a_file", None),
            FileState::WrongLength { bad_pieces, .. } => ("wrong_length", Some(*bad_pieces)),
            FileState::Bad { pieces } => ("bad", Some(*pieces)),
            FileState::Unreadable { .. } => ("unreadable", None),
        };
        json!({
            "file": file.file.get() + 1, "path": file.path, "size": info.map().len(file.file),
            "state": state, "bad_pieces": bad_pieces,
        })
    });
    json!({
        "right": report.is_right(),
        "info_hash": info.info_hash().to_string(),
        "pieces": info.geometry().piece_count(),
        "pieces_right": report.have.count(),
        "files": files.collect::<Vec<_>>(),
    })
}
