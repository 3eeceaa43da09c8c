//! What the options of a download do.

use std::time::Duration;

use crate::common::{Running, Tracker, World, tree};

const FILES: &[(&str, usize)] = &[
    ("film.mkv", 900_000),
    ("sample.mkv", 50_000),
    ("notes.txt", 300),
    ("zero", 0),
];

#[test]
fn only_selected_files_are_stored() {
    let world = World::new();
    let tracker = Tracker::start(&world);
    let torrent = world.share("show", FILES, Some(&tracker));
    let _seed = world.seed(&torrent, &[]);
    let ran = world.run(&[
        &torrent,
        "-d",
        "dir",
        "-s",
        "*.mkv,!sample*",
        "--print",
        "size",
    ]);
    assert_eq!((ran.code, ran.out.as_str()), (0, "900000\n"), "{}", ran.err);
    assert!(
        ran.err.contains("show  900.0 kB  1 of 4 files"),
        "{}",
        ran.err
    );
    let there: Vec<_> = tree(&world.path("dir/show")).into_keys().collect();
    assert_eq!(there, [std::path::PathBuf::from("film.mkv")]);
    let sums = (
        tree(&world.path("dir/show/film.mkv")),
        tree(&world.path("share/show/film.mkv")),
    );
    assert_eq!(sums.0, sums.1);
    // More of it later, in the same place.
    let ran = world.run(&[&torrent, "-d", "dir"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    world.assert_same("show", "dir");
}

#[test]
fn a_selection_can_be_looked_at_first() {
    let world = World::new();
    let torrent = world.share("show", FILES, None);
    let ran = world.run(&[&torrent, "--list", "-s", "1-2"]);
    let lines = "   1   900.0 kB  show/film.mkv\n   2      300 B  show/notes.txt\n   3    50.0 kB  show/sample.mkv  (not selected)\n   4        0 B  show/zero  (not selected)\n";
    assert_eq!((ran.code, ran.out.as_str()), (0, lines));
    assert!(!world.path("show").exists());
    let ran = world.run(&[&torrent, "-l", "-s", "9"]);
    assert_eq!(ran.code, 2);
    assert!(
        ran.err
            .starts_with("torr: --select: show: `9`: the torrent has 4 files\n"),
        "{}",
        ran.err
    );
}

#[test]
fn another_name_and_all_ways_to_print() {
    let world = World::new();
    let tracker = Tracker::start(&world);
    let torrent = world.share("show", FILES, Some(&tracker));
    let _seed = world.seed(&torrent, &[]);
    let ran = world.run(&[
        &torrent,
        "-d",
        "dir",
        "-o",
        "other name",
        "--print",
        "files",
    ]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let dir = world.path("dir/other name").display().to_string();
    let names =
        ["film.mkv", "notes.txt", "sample.mkv", "zero"].map(|name| format!("{dir}/{name}\n"));
    assert_eq!(ran.out, names.concat());
    assert_eq!(
        tree(&world.path("dir/other name")),
        tree(&world.path("share/show"))
    );
    for (field, start) in [
        ("hash", ""),
        ("magnet", "magnet:?xt=urn:btih:"),
        ("name", "other name\n"),
    ] {
        let ran = world.run(&[
            &torrent,
            "-d",
            "dir",
            "-o",
            "other name",
            "-q",
            "--print",
            field,
        ]);
        assert!(
            ran.code == 0 && ran.out.starts_with(start) && ran.err.is_empty(),
            "{ran:?}"
        );
    }
}

#[test]
fn rates_are_kept() {
    let world = World::new();
    let tracker = Tracker::start(&world);
    let torrent = world.share_file("a.bin", 3_000_000, Some(&tracker));
    let _seed = world.seed(&torrent, &[]);
    let ran = world.run(&[&torrent, "-d", "dir", "--down", "1M", "--progress", "none"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!((2..12).contains(&ran.took.as_secs()), "{:?}", ran.took);
}

#[test]
fn objects_tell_the_whole_story() {
    let world = World::new();
    let tracker = Tracker::start(&world);
    let torrent = world.share("show", FILES, Some(&tracker));
    let _seed = world.seed(&torrent, &[]);
    let ran = world.run(&[
        &torrent,
        "-d",
        "dir",
        "--json",
        "--seed-time",
        "3s",
        "--down",
        "300K",
    ]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let kinds: Vec<String> = ran
        .objects()
        .iter()
        .map(|o| o["t"].as_str().unwrap().to_owned())
        .collect();
    let place = |kind: &str| {
        kinds
            .iter()
            .position(|k| k == kind)
            .unwrap_or_else(|| panic!("no {kind}"))
    };
    let order = ["added", "progress", "done", "seeding", "goal", "end"].map(place);
    assert!(order.is_sorted(), "{kinds:?}");
    let progress = ran.object("progress");
    for key in [
        "hash", "name", "done", "total", "down", "up", "peers", "seeds", "eta",
    ] {
        assert!(progress.get(key).is_some(), "{key}");
    }
    assert!(
        ran.out.starts_with(r#"{"v":1,"t":"added","hash":""#),
        "{}",
        ran.out
    );
    assert_eq!(progress["total"], 950_300);
    assert_eq!(ran.object("goal")["goal"], "seed-time");
    assert_eq!(ran.object("end")["code"], 0);
    let files = ran
        .objects()
        .into_iter()
        .filter(|o| o["t"] == "file_done")
        .count();
    assert!(files >= 3, "{kinds:?}");
}

#[test]
fn a_torrent_is_seeded_to_its_ratio() {
    let world = World::new();
    let tracker = Tracker::start(&world);
    let torrent = world.share_file("a.bin", 400_000, Some(&tracker));
    let mut args = vec![
        torrent.as_str(),
        "-d",
        "share",
        "--state",
        "other-state",
        "--ratio",
        "1",
        "--json",
    ];
    args.extend(["--port", "0", "--bind", "127.0.0.1"]);
    let mut seed = Running::start(world.torr(&args));
    seed.until(|object| object["t"] == "seeding");
    assert_eq!(world.run(&[&torrent, "-d", "dir"]).code, 0);
    let ran = seed.end();
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(ran.object("goal")["goal"], "ratio");
}

#[test]
fn a_command_is_run_at_the_end() {
    let world = World::new();
    let tracker = Tracker::start(&world);
    let torrent = world.share_file("a b.bin", 100_000, Some(&tracker));
    let _seed = world.seed(&torrent, &[]);
    let command = "echo \"$TORR_NAME|$TORR_PATH|$TORR_SIZE|$TORR_HASH\" >told; cmp \"$TORR_PATH\" 'share/a b.bin'";
    let ran = world.run(&[&torrent, "-d", "dir", "--exec", command]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let told = std::fs::read_to_string(world.path("told")).unwrap();
    let start = format!("a b.bin|{}|100000|", world.path("dir/a b.bin").display());
    assert!(
        told.starts_with(&start) && told.trim_end().len() == start.len() + 40,
        "{told}"
    );
    let ran = world.run(&[&torrent, "-d", "dir", "--exec", "exit 3"]);
    assert!(
        ran.code == 0 && ran.err.contains("--exec: exit status: 3"),
        "{}",
        ran.err
    );
}

#[test]
fn a_private_torrent_asks_to_be_seeded() {
    let world = World::new();
    let tracker = Tracker::start(&world);
    world.share_file("a.bin", 100_000, None);
    let args = [
        "create",
        "-q",
        "share/a.bin",
        "-o",
        "p.torrent",
        "--private",
        "-t",
        &tracker.urls[0],
    ];
    assert_eq!(world.run(&args).code, 0);
    let _seed = world.seed("p.torrent", &[]);
    let ran = world.run(&["p.torrent", "-d", "dir"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(ran.err.matches("warning: ").count(), 1, "{}", ran.err);
    assert!(ran.err.contains("private"), "{}", ran.err);
}

#[test]
fn who_has_all_gives_each_piece_once() {
    let world = World::new();
    let tracker = Tracker::start(&world);
    let torrent = world.share_file("a.bin", 3_000_000, Some(&tracker));
    let args = [&torrent, "-d", "share", "--seed", "--super-seed"];
    let more = ["--state", "seed-state", "--bind", "127.0.0.1", "--json"];
    let mut seed = Running::start(world.torr([&args[..], &more].concat()));
    seed.until(|object| object["t"] == "seeding");
    let ran = world.run(&[&torrent, "-d", "one"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    world.assert_same("a.bin", "one");
    // Who has yet to download it is told that it is not the one.
    let late = [&torrent, "-d", "two", "--seed-time", "0s", "--super-seed"];
    let ran = world.run(&late);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(
        ran.err.contains("has all pieces at the start"),
        "{}",
        ran.err
    );
}

#[test]
fn encryption_is_agreed_on_or_the_reason_is_told() {
    let world = World::new();
    let tracker = Tracker::start(&world);
    let torrent = world.share_file("a.bin", 300_000, Some(&tracker));
    let args = [&torrent, "-d", "share", "--seed", "--state", "seed-state"];
    let more = ["--bind", "127.0.0.1", "--encrypt", "require", "--json"];
    let mut seed = Running::start(world.torr([&args[..], &more].concat()));
    seed.until(|object| object["t"] == "seeding");
    for (how, dir) in [("require", "one"), ("prefer", "two")] {
        let ran = world.run(&[&torrent, "-d", dir, "--encrypt", how]);
        assert_eq!(ran.code, 0, "{how}: {}", ran.err);
        world.assert_same("a.bin", dir);
    }
    let plain = [&torrent, "-d", "three", "--encrypt", "off"];
    let ran = world.run(&[&plain[..], &["--stall-timeout", "5s"]].concat());
    assert_eq!(ran.code, 7, "{}", ran.err);
    assert!(ran.err.contains("it may demand encryption"), "{}", ran.err);
    seed.signal("TERM");
    let ran = seed.end();
    let refused = ran.object("refused");
    let why = refused["why"].as_str().unwrap_or_default();
    assert!(why.contains("only encrypted connections"), "{ran:?}");
}

#[test]
fn status_is_printed_on_usr1_and_hangup_ends_nothing_without_a_terminal() {
    let world = World::new();
    let torrent = world.share_file("a.bin", 100_000, None);
    let mut command = world.torr([&torrent, "-d", "dir", "--json"]);
    command.stderr(std::process::Stdio::piped());
    let mut run = Running::start(command);
    run.until(|object| object["t"] == "progress");
    run.signal("USR1");
    run.signal("HUP");
    std::thread::sleep(Duration::from_millis(700));
    run.until(|object| object["t"] == "progress");
    run.signal("TERM");
    let ran = run.end();
    assert_eq!(ran.code, 143);
    assert!(ran.err.contains("a.bin: 0%  0.0/100.0 kB"), "{}", ran.err);
}
