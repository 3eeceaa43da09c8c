//! Which contenders this machine has, in which versions, or why it lacks them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::{Contender, Kind};

/// Where `.ci/rivals` puts things.
pub(crate) fn lab() -> Result<PathBuf> {
    if let Some(lab) = std::env::var_os("TORR_LAB_CACHE") {
        return Ok(lab.into());
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    Ok(cache.context("HOME is not set")?.join("torr-lab"))
}

/// All contenders, in the order of the table.
pub(crate) fn all(torr: &Path) -> Result<Vec<Contender>> {
    let lab = lab()?;
    let unstable = lab.join("unstable");
    let own = std::env::current_exe().context("finding this program")?;
    let cargo = |name: &str| lab.join("cargo/bin").join(name);
    let plain = |name, kind, program: PathBuf| Contender {
        name,
        kind,
        version: Ok(String::new()),
        program,
        root: None,
        memory: None,
    };
    let newer = |name, kind, program: &str| Contender {
        root: Some(unstable.clone()),
        ..plain(name, kind, program.into())
    };
    let debian = |name, kind, program: &str| plain(name, kind, program.into());
    let mut contenders = vec![
        plain("torr", Kind::Torr, torr.to_owned()),
        Contender {
            memory: Some("24MiB"),
            ..plain("torr-24m", Kind::Torr, torr.to_owned())
        },
        plain("floor", Kind::Floor, own),
        plain("libtorrent", Kind::Libtorrent, lab.join("venv/bin/python")),
        plain("rqbit", Kind::Rqbit, cargo("rqbit")),
        newer("aria2-new", Kind::Aria2, "/usr/bin/aria2c"),
        debian("aria2", Kind::Aria2, "/usr/bin/aria2c"),
        newer(
            "transmission-new",
            Kind::Transmission,
            "/usr/bin/transmission-daemon",
        ),
        debian(
            "transmission",
            Kind::Transmission,
            "/usr/bin/transmission-daemon",
        ),
        newer("rtorrent-new", Kind::Rtorrent, "/usr/bin/rtorrent"),
        debian("rtorrent", Kind::Rtorrent, "/usr/bin/rtorrent"),
        debian("mktorrent", Kind::Mktorrent, "/usr/bin/mktorrent"),
        plain("imdl", Kind::Imdl, cargo("imdl")),
    ];
    for contender in &mut contenders {
        contender.version = version(contender, &lab);
    }
    Ok(contenders)
}

/// What the program says of itself; else what the installer wrote down.
fn version(contender: &Contender, lab: &Path) -> Result<String, String> {
    let (args, file): (&[&str], &str) = match contender.kind {
        Kind::Floor => return Ok(String::new()),
        Kind::Torr => (&["--version"], "torr"),
        Kind::Libtorrent => (
            &["-c", "import libtorrent; print(libtorrent.__version__)"],
            "libtorrent",
        ),
        Kind::Rtorrent | Kind::Mktorrent => (&["-h"], contender.name),
        Kind::Rqbit | Kind::Aria2 | Kind::Transmission | Kind::Imdl => {
            (&["--version"], contender.name)
        }
    };
    let argv = contender.argv(&contender.program);
    let mut words = argv.iter();
    let program = words.next().ok_or("no command")?;
    let output = Command::new(program)
        .args(words)
        .args(args)
        .stdin(Stdio::null())
        .output();
    let text = output.map(|output| {
        let both = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&both).into_owned();
        (output.status.success() || text.contains("Usage")).then_some(text)
    });
    let found = text.ok().flatten().and_then(|text| number(&text));
    found.ok_or_else(|| {
        let file = if contender.root.is_some() {
            "unstable"
        } else {
            file
        };
        let reason = std::fs::read_to_string(lab.join("missing").join(file));
        reason.map_or_else(
            |_| format!("{} does not run", contender.program.display()),
            |text| text.trim().to_owned(),
        )
    })
}

/// The first word that starts like a version.
fn number(text: &str) -> Option<String> {
    text.split_whitespace()
        .map(|word| word.trim_start_matches('v').trim_end_matches(['.', ',']))
        .find(|word| word.contains('.') && word.starts_with(|first: char| first.is_ascii_digit()))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_all_kinds() {
        let found = |text| number(text).unwrap();
        assert_eq!(found("transmission-daemon 4.1.4 (a6d907d9ea)"), "4.1.4");
        assert_eq!(
            found("Rakshasa's BitTorrent client version 0.16.17."),
            "0.16.17"
        );
        assert_eq!(found("imdl v0.1.16"), "0.1.16");
    }
}
