//! Runs inside the test's own process, with streams that are looked at.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use torr_cli::{Env, Exit, Input, Output, run};

use crate::common::World;

/// What was written.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

struct Told {
    exit: Exit,
    out: String,
    err: String,
}

/// Runs with streams that are terminals of `columns`, or none.
fn runs(
    world: &World,
    args: &[&str],
    vars: &[(&str, &str)],
    terminal: Option<fn() -> u16>,
) -> Told {
    let (out, err) = (Sink::default(), Sink::default());
    let home = world.dir.path().as_os_str().to_owned();
    let mut all = BTreeMap::from([(OsString::from("HOME"), home)]);
    all.extend(vars.iter().map(|(name, value)| (name.into(), value.into())));
    let mut env = Env {
        args: std::iter::once(&"torr")
            .chain(args)
            .map(OsString::from)
            .collect(),
        vars: all,
        cwd: world.dir.path().to_owned(),
        stdin: Input::new(io::empty(), false),
        out: Output::new(out.clone(), terminal),
        err: Output::new(err.clone(), terminal),
        own_process: false,
    };
    let exit = run(&mut env);
    Told {
        exit,
        out: out.text(),
        err: err.text(),
    }
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let world = World::new();
    let plain = runs(&world, &["--help"], &[], None);
    assert!(plain.exit == Exit::Done && !plain.out.contains('\u{1b}'));
    assert!(
        runs(&world, &["--help"], &[], Some(|| 80))
            .out
            .contains('\u{1b}')
    );
    let wanted = runs(&world, &["--help"], &[("NO_COLOR", "1")], Some(|| 80));
    assert_eq!(wanted.out, plain.out);
}

#[test]
fn a_dumb_terminal_has_no_bar_and_a_narrow_one_a_short_bar() {
    let world = World::new();
    let torrent = world.share_file("never.bin", 1_000_000, None);
    let args = [
        torrent.as_str(),
        "-d",
        "dir",
        "--port",
        "0",
        "--timeout",
        "1s",
    ];
    let told = runs(&world, &args, &[], Some(|| 30));
    assert_eq!(told.exit, Exit::GaveUp);
    let bars = told
        .err
        .split("\r\u{1b}[2K")
        .filter(|part| part.contains("% "));
    assert!(bars.clone().count() > 0);
    for bar in bars {
        let line = bar.rsplit('\n').next().unwrap();
        assert!(line.chars().count() <= 30, "{line:?}");
    }
    let told = runs(&world, &args, &[("TERM", "dumb")], Some(|| 30));
    assert!(!told.err.contains('\u{1b}'), "{:?}", told.err);
    // A run that is not asked for its progress says two things: what it is at, and how it ended.
    let told = runs(
        &world,
        &[&args[..], &["--progress", "none"]].concat(),
        &[],
        None,
    );
    let lines = "never.bin  1.0 MB  1 file\n\
                 torr: never.bin: gave up: it is not done after 1s\n\
                 hint: progress is saved; the same command goes on from there\n";
    assert_eq!((told.err.as_str(), told.out.as_str()), (lines, ""));
}

#[test]
fn quiet_is_quiet_but_for_what_went_wrong() {
    let world = World::new();
    let torrent = world.share_file("never.bin", 1000, None);
    let args = [
        torrent.as_str(),
        "-d",
        "dir",
        "-q",
        "--port",
        "0",
        "--timeout",
        "0s",
    ];
    let told = runs(&world, &args, &[], Some(|| 80));
    assert_eq!(told.exit, Exit::GaveUp);
    assert!(
        told.err.starts_with("torr: never.bin: gave up"),
        "{:?}",
        told.err
    );
}
