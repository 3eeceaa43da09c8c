//! `torr info`: what is inside a torrent.

use serde_json::{Value, json};

use crate::args::low::InfoArgs;
use crate::env::{Env, Output};
use crate::failure::{Exit, Failure};
use crate::{input, units};
use torr::mask;
use torr::metainfo::{Info, Metainfo};
use torr_base::printable;

pub(crate) fn run(env: &mut Env, args: &InfoArgs) -> Result<Exit, Failure> {
    let torrent = input::load(env, &args.torrent)?;
    match args.json {
        true => env.out.line(as_json(&torrent.meta)),
        false => show(&env.out, &torrent.meta),
    }
    Ok(Exit::Done)
}

/// Everything, as programs want it. URLs are in full: whoever has the torrent has them already.
fn as_json(meta: &Metainfo) -> Value {
    let info = meta.info();
    let geometry = info.geometry();
    let nodes: Vec<String> = meta.nodes().iter().map(ToString::to_string).collect();
    let warnings: Vec<String> = meta.warnings().map(|warning| warning.to_string()).collect();
    json!({
        "name": info.name(),
        "info_hash": {
            "v1": info.info_hash().to_string(),
            "v2": info.info_hash_v2().map(|hash| hash.to_string()),
        },
        "piece_length": geometry.piece_len_max(),
        "pieces": geometry.piece_count(),
        "total_size": info.map().stored(),
        "files": files_as_json(info),
        "trackers": meta.trackers(),
        "web_seeds": meta.web_seeds(),
        "nodes": nodes,
        "private": info.is_private(),
        "source": info.source(),
        "comment": meta.comment(),
        "created_by": meta.created_by(),
        "creation_date": meta.creation_date(),
        "magnet": meta.magnet().to_string(),
        "warnings": warnings,
    })
}

fn files_as_json(info: &Info) -> Vec<Value> {
    let files = info.files().map(|file| {
        let path = info.layout().path(file.index);
        json!({
            // Padding is not on disk; what it is called is all there is to say.
            "path": path.unwrap_or_else(|| raw_path(info, file.index)),
            "size": file.len,
            "pad": file.attrs.pad,
            "executable": file.attrs.executable,
            "hidden": file.attrs.hidden,
            "symlink": info.symlink_target(file.index),
        })
    });
    files.collect()
}

fn raw_path(info: &Info, file: torr::metainfo::FileIndex) -> String {
    let parts = info.raw_path(file).map(String::from_utf8_lossy);
    let mut path = info.layout().root().to_owned();
    for part in parts {
        path.push('/');
        path.push_str(&part);
    }
    path
}

fn show(out: &Output, meta: &Metainfo) {
    let info = meta.info();
    let geometry = info.geometry();
    let row = |key: &str, value: &str| out.line(format_args!("{key:<13}{value}"));
    let stored = info.map().stored();
    let count = info.files().filter(|file| !file.attrs.pad).count() as u64;
    row("name", input::name(meta));
    row("info-hash", &info.info_hash().to_string());
    if let Some(hash) = info.info_hash_v2() {
        row("", &format!("{hash} (v2)"));
    }
    let bytes = units::count(stored, "byte");
    row(
        "size",
        &format!(
            "{} ({bytes}) in {}",
            units::size(stored),
            units::count(count, "file")
        ),
    );
    let length = units::binary(u64::from(geometry.piece_len_max()));
    row(
        "pieces",
        &format!(
            "{} of {length}",
            units::grouped(u64::from(geometry.piece_count()))
        ),
    );
    if info.is_private() {
        row("private", "yes: peers come from its trackers only");
    }
    let texts = [
        ("source", info.source()),
        ("comment", meta.comment()),
        ("created by", meta.created_by()),
    ];
    for (key, text) in texts {
        if let Some(text) = text {
            row(key, &printable(text));
        }
    }
    if let Some(date) = meta.creation_date() {
        row("created", &date_of(date));
    }
    for (tier, urls) in (1..).zip(meta.trackers()) {
        for url in urls {
            row("tracker", &format!("{} (tier {tier})", mask(url)));
        }
    }
    for url in meta.web_seeds() {
        row("web seed", &mask(url));
    }
    for node in meta.nodes() {
        row("DHT node", &printable(&node.to_string()));
    }
    for warning in meta.warnings() {
        row("warning", &printable(&warning.to_string()));
    }
    out.line("");
    list(out, info, |_| true);
}

/// The files, numbered as `--select` counts them; those that are not wanted in brackets.
pub(crate) fn list(out: &Output, info: &Info, wanted: impl Fn(u32) -> bool) {
    let width = info.map().file_count().to_string().len().max(4);
    for (number, file) in (1..).zip(info.files()) {
        if file.attrs.pad {
            continue;
        }
        let path = info.layout().path(file.index).unwrap_or_default();
        let target = info.symlink_target(file.index);
        let link = target
            .map(|to| format!(" -> {}", printable(&to)))
            .unwrap_or_default();
        let size = units::size(file.len);
        let skipped = if wanted(number) {
            ""
        } else {
            "  (not selected)"
        };
        out.line(format_args!(
            "{number:>width$}  {size:>9}  {path}{link}{skipped}"
        ));
    }
}

/// `2024-02-29 12:00:00 UTC`, by the rules of the Gregorian calendar.
fn date_of(seconds: i64) -> String {
    let days = seconds.div_euclid(86_400);
    if !(-719_162..=2_932_896).contains(&days) {
        return format!("{seconds} seconds after 1970");
    }
    let second = seconds.rem_euclid(86_400);
    // Years that begin in March have the leap day at their end: 146,097 days make 400 of them.
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let year = era * 400 + year + next;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(date_of(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(date_of(951_782_400), "2000-02-29 00:00:00 UTC");
        assert_eq!(date_of(1_709_208_000), "2024-02-29 12:00:00 UTC");
        assert_eq!(date_of(4_102_444_799), "2099-12-31 23:59:59 UTC");
        assert_eq!(date_of(-1), "1969-12-31 23:59:59 UTC");
        assert_eq!(
            date_of(i64::MAX),
            format!("{} seconds after 1970", i64::MAX)
        );
    }
}
