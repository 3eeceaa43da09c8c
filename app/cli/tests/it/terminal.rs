//! On a terminal: the bar, the key, and the settings of the terminal afterwards.

use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::common::{Tracker, World, ran};

const TORR: &str = env!("CARGO_BIN_EXE_torr");

/// Runs torr on a terminal of its own. `key` is pressed when `awaited` is on the screen.
fn on_a_terminal(world: &World, args: &[&str], awaited: &str, key: &str) -> Value {
    run_on_a_terminal(world, &[&[TORR], args].concat(), awaited, key)
}

fn run_on_a_terminal(world: &World, words: &[&str], awaited: &str, key: &str) -> Value {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/py/on_terminal.py");
    let mut command = Command::new("python3");
    command.args([script, awaited, key]).args(words);
    command
        .current_dir(world.dir.path())
        .env_clear()
        .env("HOME", world.dir.path())
        .env("TORR_NO_DHT", "true")
        .env("TERM", "xterm");
    command.env("PATH", "/usr/bin:/bin").stdin(Stdio::null());
    let ran = ran(command);
    assert_eq!(ran.code, 0, "{}", ran.err);
    serde_json::from_str(&ran.out).unwrap()
}

#[test]
fn a_bar_moves_and_goes_away() {
    let world = World::new();
    let tracker = Tracker::start(&world);
    let torrent = world.share_file("a.bin", 3_000_000, Some(&tracker));
    let _seed = world.seed(&torrent, &[]);
    let seen = on_a_terminal(
        &world,
        &[&torrent, "-d", "dir", "--down", "1M"],
        "eta 0:0",
        "",
    );
    assert_eq!(seen["code"], 0, "{seen}");
    let screen = seen["screen"].as_str().unwrap();
    for part in [
        "a.bin  3.0 MB  1 file",
        "/3.0 MB  \u{2193} ",
        "1 peer (1 seed)",
        "\r\u{1b}[2K",
        "verified",
    ] {
        assert!(screen.contains(part), "{part:?} is not in {screen:?}");
    }
    // It never clears the screen nor hides what was there.
    for part in ["\u{1b}[2J", "\u{1b}[?1049h", "\u{1b}[H"] {
        assert!(!screen.contains(part), "{part:?} is in {screen:?}");
    }
    let last = screen.trim_end().lines().last().unwrap();
    assert!(last.contains("Keep seeding with --seed."), "{last:?}");
}

#[test]
fn q_leaves_as_an_interrupt_does_and_the_terminal_is_as_it_was() {
    let world = World::new();
    let torrent = world.share_file("never.bin", 1_000_000, None);
    for (key, code) in [("q", 130), ("\u{3}", 130), ("signal:SIGHUP", 143)] {
        let seen = on_a_terminal(&world, &[&torrent, "-d", "dir"], "names no tracker", key);
        assert_eq!(seen["code"], code, "{seen}");
        assert!(
            seen["screen"].as_str().unwrap().contains("resume with: "),
            "{seen}"
        );
        assert_eq!(
            (&seen["echo_during"], &seen["echo_after"]),
            (&false.into(), &true.into()),
            "{seen}"
        );
        assert!(
            seen["secs"].as_f64().unwrap() < Duration::from_secs(5).as_secs_f64(),
            "{seen}"
        );
    }
}

#[test]
fn a_hangup_that_is_ignored_stays_so() {
    let world = World::new();
    let torrent = world.share_file("never.bin", 1_000_000, None);
    let nohup = ["/bin/sh", "-c", "trap '' HUP; exec \"$0\" \"$@\"", TORR];
    let args = [&torrent, "-d", "dir", "--timeout", "8s"];
    let words = [&nohup, &args[..]].concat();
    let seen = run_on_a_terminal(&world, &words, "names no tracker", "signal:SIGHUP");
    assert_eq!(seen["code"], 7, "{seen}");
}

#[test]
fn a_dumb_terminal_and_progress_modes_have_no_bar() {
    let world = World::new();
    let torrent = world.share_file("never.bin", 1_000_000, None);
    for mode in ["line", "none"] {
        let args = [&torrent, "-d", "dir", "--progress", mode, "--timeout", "1s"];
        let seen = on_a_terminal(&world, &args, "gave up", "");
        assert_eq!(seen["code"], 7, "{seen}");
        assert!(
            !seen["screen"].as_str().unwrap().contains('\u{1b}'),
            "{seen}"
        );
    }
}
