//! `torr create`: a torrent of a file or folder.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;
use torr::{CreateError, CreateTorrent, Created, StorageErrorKind};
use torr_base::printable;

use crate::args::high::{Show, Talk, default_mode};
use crate::args::low::{CreateArgs, Field};
use crate::cmd::work;
use crate::download::Screen;
use crate::env::Env;
use crate::failure::{Exit, Failure};
use crate::{input, units};

/// Other clients take no more; the least is a block.
const PIECE_LEN: (u64, u64) = (16 << 10, 512 << 20);

pub(crate) fn run(env: &mut Env, args: &CreateArgs) -> Result<Exit, Failure> {
    let plan = plan(env, args)?;
    let shown = input::shown(&args.path);
    // Where it goes is known before hours of hashing, if a name for it is.
    let target = target(
        env,
        args,
        plan.name.as_deref().or(name_of(&plan.path).as_deref()),
    );
    if let Some(path) = target.as_deref().filter(|_| !args.overwrite) {
        refuse_existing(path)?;
    }
    let show = Show {
        mode: default_mode(env),
        talk: if args.quiet { Talk::Quiet } else { Talk::Usual },
        print: Some(Field::Path),
    };
    let screen = Screen::new(env, show);
    let created = work::run(env, screen, &shown, move |progress| {
        torr::create(&plan, &|done, total| progress.tell(done, total))
    })?;
    let created = created.map_err(|error| failed(&shown, &error))?;
    if !args.quiet {
        tell(env, &created);
    }
    match target {
        None if args.output.as_deref().is_some_and(|out| out == "-") => {
            env.out.write(&created.torrent);
        }
        target => {
            let path = target.unwrap_or_else(|| env.path(format!("{}.torrent", created.name)));
            save(&path, &created.torrent, args.overwrite)?;
            tell_result(env, args, &path, &created);
        }
    }
    Ok(Exit::Done)
}

fn plan(env: &Env, args: &CreateArgs) -> Result<CreateTorrent, Failure> {
    let trackers = args.tracker.iter().map(|tier| {
        let urls = tier.split(',').map(str::trim).filter(|url| !url.is_empty());
        urls.map(str::to_owned).collect::<Vec<_>>()
    });
    let trackers: Vec<Vec<String>> = trackers.filter(|tier| !tier.is_empty()).collect();
    for url in trackers.iter().flatten() {
        check_url("--tracker", url, &["http", "https", "udp"])?;
    }
    for url in &args.web_seed {
        check_url("--web-seed", url, &["http", "https"])?;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok();
    Ok(CreateTorrent {
        name: args.name.clone(),
        piece_len: args.piece.as_deref().map(parse_piece).transpose()?,
        trackers,
        web_seeds: args.web_seed.clone(),
        private: args.private,
        comment: args.comment.clone(),
        source: args.source.clone(),
        created_by: Some(format!("torr/{}", env!("CARGO_PKG_VERSION"))),
        creation_date: now.filter(|_| !args.no_date).map(|now| now.as_secs()),
        ..CreateTorrent::new(env.path(&args.path))
    })
}

fn check_url(option: &str, url: &str, schemes: &[&str]) -> Result<(), Failure> {
    let scheme = url
        .split_once("://")
        .map(|(scheme, _)| scheme.to_ascii_lowercase());
    match scheme.is_some_and(|scheme| schemes.contains(&scheme.as_str())) {
        true => Ok(()),
        false => Err(Failure::usage(
            option,
            format!("its URL begins with {}", schemes.join(" or ")),
        )),
    }
}

fn parse_piece(text: &str) -> Result<u32, Failure> {
    let len = units::parse_size(text).map_err(|why| Failure::usage("--piece", why))?;
    let (least, greatest) = PIECE_LEN;
    let fits = len.is_power_of_two() && (least..=greatest).contains(&len);
    let exact = u32::try_from(len).ok().filter(|_| fits);
    exact.ok_or_else(|| {
        let range = format!("{} to {}", units::binary(least), units::binary(greatest));
        Failure::usage(
            "--piece",
            format!("a piece has a power of two of bytes, {range}"),
        )
        .hint(format!(
            "write it as {}",
            units::binary(nearest_power_of_two(len.clamp(least, greatest))).replace(' ', "")
        ))
    })
}

/// The power of two that is nearest to a length: 256K is meant for 256 KiB more often than for 250.
fn nearest_power_of_two(len: u64) -> u64 {
    let above = len.next_power_of_two();
    let below = above / 2;
    if len - below < above - len {
        below
    } else {
        above
    }
}

/// The name that the torrent will have, if the path tells it without a look at the disk.
fn name_of(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_str()?.to_owned())
}

/// Where the torrent goes; `None` for standard output, or if only the library can tell.
fn target(env: &Env, args: &CreateArgs, name: Option<&str>) -> Option<PathBuf> {
    match &args.output {
        Some(out) if out == "-" => None,
        Some(out) => Some(env.path(out)),
        None => name.map(|name| env.path(format!("{name}.torrent"))),
    }
}

pub(crate) fn refuse_existing(path: &Path) -> Result<(), Failure> {
    match path.symlink_metadata() {
        Ok(_) => Err(
            Failure::new(Exit::Storage, display(path), "it is there already")
                .hint("--overwrite writes over it, or choose another name"),
        ),
        Err(_) => Ok(()),
    }
}

pub(crate) fn save(path: &Path, bytes: &[u8], overwrite: bool) -> Result<(), Failure> {
    let saved = match overwrite {
        true => replace(path, bytes),
        false => write_new(path, bytes),
    };
    saved.map_err(|error| match error.kind() == io::ErrorKind::AlreadyExists {
        true => refuse_existing(path)
            .err()
            .unwrap_or_else(|| Failure::io(display(path), &error)),
        false => Failure::io(display(path), &error),
    })
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if written.is_err() {
        // Half a torrent helps nobody.
        let _ = fs::remove_file(path);
    }
    written
}

/// The old one stays until the new one is whole.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let part = path.with_file_name(name);
    write_new(&part, bytes)?;
    fs::rename(&part, path).inspect_err(|_| {
        let _ = fs::remove_file(&part);
    })
}

fn display(path: &Path) -> String {
    printable(&path.to_string_lossy()).into_owned()
}

fn tell(env: &Env, created: &Created) {
    let size = units::size(created.total);
    let files = units::count(created.files as u64, "file");
    let piece = units::binary(u64::from(created.piece_len));
    let name = printable(&created.name);
    env.err
        .line(format_args!("{name}  {size}  {files}  pieces of {piece}"));
    for path in &created.left_out {
        env.err.line(format_args!(
            "warning: {}: left out, it is neither a file nor a folder",
            display(path)
        ));
    }
}

fn tell_result(env: &Env, args: &CreateArgs, path: &Path, created: &Created) {
    let shown = path.strip_prefix(&env.cwd).unwrap_or(path);
    if args.json {
        env.out.line(json!({
            "path": path.to_string_lossy(), "info_hash": created.info_hash.to_string(), "name": created.name,
            "total_size": created.total, "files": created.files, "piece_length": created.piece_len,
        }));
        return;
    }
    env.out.line(shown.display());
    if !args.quiet {
        env.err.line(format_args!(
            "info-hash {}. Share it with `torr FILE --seed -d FOLDER`.",
            created.info_hash
        ));
    }
}

fn failed(shown: &str, error: &CreateError) -> Failure {
    let why = printable(&error.to_string()).into_owned();
    if let CreateError::Storage(storage) = error {
        let full = storage.kind == StorageErrorKind::NoSpace;
        let exit = if full { Exit::NoSpace } else { Exit::Storage };
        return Failure::new(exit, shown, why).maybe_hint(create_hint(storage.kind));
    }
    let failure = Failure::new(Exit::Metadata, shown, why);
    if let CreateError::NoName(_) = error {
        return failure.hint("--name gives it one");
    }
    failure.maybe_hint(
        matches!(error, CreateError::Draft(_))
            .then_some("longer pieces (--piece) or another name (--name) may help"),
    )
}

/// The library's hints are about downloads.
fn create_hint(kind: StorageErrorKind) -> Option<&'static str> {
    match kind {
        StorageErrorKind::Missing => {
            Some("is the path right, and does nothing else change the files meanwhile?")
        }
        StorageErrorKind::Denied => Some("its files must be readable for you"),
        StorageErrorKind::NoSpace
        | StorageErrorKind::Absent
        | StorageErrorKind::Occupied
        | StorageErrorKind::Locked
        | StorageErrorKind::TooManyFiles
        | StorageErrorKind::Io => None,
    }
}
