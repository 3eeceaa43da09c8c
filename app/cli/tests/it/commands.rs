//! The commands besides the download.

use crate::common::{Running, World, ran};

#[test]
fn create_refuses_to_write_over_and_check_finds_what_is_wrong() {
    let world = World::new();
    world.write("data/a", &crate::common::noise(100_000, 1));
    world.write("data/b", &crate::common::noise(30_000, 2));
    world.write("data/c", &[]);
    let made = world.run(&["create", "data", "--piece", "16KiB"]);
    assert_eq!(
        (made.code, made.out.as_str()),
        (0, "data.torrent\n"),
        "{}",
        made.err
    );
    let again = world.run(&["create", "data"]);
    assert_eq!(again.code, 4);
    assert!(
        again.err.starts_with("torr: ")
            && again.err.contains("it is there already\nhint: --overwrite"),
        "{}",
        again.err
    );
    assert_eq!(
        world
            .run(&["create", "data", "--piece", "16KiB", "--overwrite"])
            .code,
        0
    );

    let right = world.run(&["check", "data.torrent"]);
    assert_eq!(
        (right.code, right.err.as_str()),
        (0, "all right: 130.0 kB, 3 files\n")
    );
    assert_eq!(
        right.out,
        "ok        100.0 kB  data/a\nok         30.0 kB  data/b\nok             0 B  data/c\n"
    );

    let mut bytes = std::fs::read(world.path("data/a")).unwrap();
    bytes[20_000] ^= 1;
    world.write("data/a", &bytes);
    std::fs::remove_file(world.path("data/c")).unwrap();
    let wrong = world.run(&["check", "data.torrent"]);
    assert_eq!(wrong.code, 8, "{}", wrong.err);
    assert!(
        wrong
            .out
            .contains("bad       100.0 kB  data/a  (1 of 7 pieces wrong)\n"),
        "{}",
        wrong.out
    );
    assert!(
        wrong.out.contains("missing        0 B  data/c\n"),
        "{}",
        wrong.out
    );
    assert!(
        wrong
            .err
            .starts_with("torr: data: 2 of 3 files not right, 7 of 8 pieces right\nhint: "),
        "{}",
        wrong.err
    );
    let json: serde_json::Value =
        serde_json::from_str(&world.run(&["check", "data.torrent", "--json", "-q"]).out).unwrap();
    assert_eq!(
        (&json["right"], &json["pieces_right"]),
        (&false.into(), &7.into())
    );
    assert_eq!(json["files"][0]["state"], "bad");
    assert_eq!(json["files"][2]["state"], "missing");
    assert_eq!(
        world.run(&["check", "data.torrent", "-d", "nowhere"]).code,
        4
    );
}

#[test]
fn create_writes_where_it_is_told_and_the_same_twice() {
    let world = World::new();
    world.write("one.bin", &crate::common::noise(70_000, 1));
    let script = "torr create one.bin --no-date -o - >1.torrent && torr create one.bin --no-date -o 2.torrent -q && cmp 1.torrent 2.torrent";
    let result = ran(world.shell(script));
    assert_eq!(result.code, 0, "{}", result.err);
    let made = world.run(&["create", "one.bin", "--json", "-q"]);
    let json: serde_json::Value = serde_json::from_str(&made.out).unwrap();
    assert_eq!(
        (&json["total_size"], &json["name"]),
        (&70_000.into(), &"one.bin".into())
    );
    for (args, code) in [
        (["create", "one.bin", "--piece=17KiB"], 2),
        (["create", "one.bin", "-tftp://x"], 2),
        (["create", "nothing", "-q"], 4),
    ] {
        let ran = world.run(&args);
        assert_eq!(ran.code, code, "{}", ran.err);
    }
    for (piece, meant) in [
        ("256K", "256KiB"),
        ("4M", "4MiB"),
        ("3MiB", "4MiB"),
        ("1", "16KiB"),
        ("1TiB", "512MiB"),
    ] {
        let told = world.run(&["create", "one.bin", "--piece", piece]).err;
        let hint = format!("hint: write it as {meant}\n");
        assert!(told.ends_with(&hint), "{piece}: {told}");
    }
    std::fs::create_dir(world.path("empty")).unwrap();
    assert_eq!(world.run(&["create", "empty"]).code, 3);
}

#[test]
fn magnet_goes_both_ways() {
    let world = World::new();
    let torrent = world.share_file("a b.bin", 1000, None);
    let link = world.run(&["magnet", &torrent]).out;
    assert!(
        link.starts_with("magnet:?xt=urn:btih:") && link.contains("&dn=a%20b.bin"),
        "{link}"
    );
    let told = world.run(&[
        "magnet",
        &format!("{}&tr=http%3A%2F%2Ft.example%2Fa&so=0,2-3", link.trim()),
    ]);
    assert!(
        told.out.starts_with("name         a b.bin\ninfo-hash    "),
        "{}",
        told.out
    );
    assert!(
        told.out
            .ends_with("tracker      http://t.example/a\nfiles        1,3-4\n"),
        "{}",
        told.out
    );
    assert_eq!(world.run(&["magnet", "magnet:?x"]).code, 3);
}

#[test]
fn the_demo_runs_to_its_end_and_leaves_nothing() {
    let world = World::new();
    std::fs::create_dir(world.path("tmp")).unwrap();
    let mut command = world.torr(["demo", "--size", "5M"]);
    command.env("TMPDIR", world.path("tmp"));
    let result = ran(command);
    assert_eq!(result.code, 0, "{}", result.err);
    assert!(
        result.out.starts_with("5.0 MB in ")
            && result.out.ends_with("every file compared byte by byte\n"),
        "{}",
        result.out
    );
    assert!(
        result.err.contains("tracker: http://127.0.0.1:")
            && result.err.contains(" and udp://127.0.0.1:"),
        "{}",
        result.err
    );
    assert_eq!(std::fs::read_dir(world.path("tmp")).unwrap().count(), 0);
    // Nor does it when it is interrupted.
    let mut command = world.torr(["demo", "--size", "300M"]);
    command.env("TMPDIR", world.path("tmp"));
    let run = Running::start(command);
    // It makes its payload then, which takes a while: on a busy machine a fixed time is before or after.
    let busy = || {
        let mut demos = std::fs::read_dir(world.path("tmp")).unwrap();
        demos.any(|demo| demo.unwrap().path().join("seeds").exists())
    };
    let began = std::time::Instant::now();
    while !busy() {
        assert!(began.elapsed().as_secs() < 60, "it does not begin");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    run.signal("INT");
    assert_eq!(run.end().code, 130);
    assert_eq!(std::fs::read_dir(world.path("tmp")).unwrap().count(), 0);
}

#[test]
fn settings_come_from_file_environment_and_flags() {
    let world = World::new();
    world.write(
        ".config/torr/config.toml",
        b"down = \"5M\"\nup = 1000\nseed = false\ndir = \"~/here\"\n",
    );
    let mut command = world.torr(["config", "show"]);
    command
        .env("TORR_UP", "none")
        .env("TORR_TIMEOUT", "2h")
        .env("TORR_QUIET", "");
    let result = ran(command);
    let file = world.path(".config/torr/config.toml").display().to_string();
    let line = |name: &str| {
        result
            .out
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap()
    };
    assert!(
        line("down").ends_with(&format!("\"5M\"                 # {file}")),
        "{}",
        result.out
    );
    assert!(
        line("up").ends_with("# TORR_UP")
            && line("timeout").ends_with("\"2h\"                 # TORR_TIMEOUT")
    );
    assert!(line("dir").contains(&world.path("here").display().to_string()));
    assert!(line("quiet").ends_with("# default"));

    let mut command = world.torr(["x.torrent"]);
    command.env("TORR_UP", "much");
    assert!(
        ran(command)
            .err
            .starts_with("torr: TORR_UP: `much` is not a rate")
    );
    world.write(".config/torr/config.toml", b"dwon = \"5M\"\n");
    let result = world.run(&["x.torrent"]);
    assert_eq!(result.code, 2);
    assert!(
        result
            .err
            .ends_with("config.toml: there is no setting `dwon`\nhint: did you mean `down`?\n"),
        "{}",
        result.err
    );
    world.write(".config/torr/config.toml", b"# fine\ndown = \n");
    assert!(
        world
            .run(&["config", "show"])
            .err
            .contains("config.toml:2: ")
    );
}

#[test]
fn help_manual_and_completions_are_there_for_all_that_is_built() {
    let world = World::new();
    let help = world.run(&["--help"]);
    assert_eq!((help.code, help.err.as_str()), (0, ""));
    let man = world.run(&["man"]).out;
    for option in [
        "--select",
        "--stall-timeout",
        "--preallocate",
        "--wait-for-space",
        "--exec",
        "--no-upload",
        "--encrypt",
        "--dht-node",
        "--lsd",
        "--map-port",
        "--super-seed",
    ] {
        assert!(help.out.contains(option), "{option}");
        assert!(man.contains(&option.replace('-', "\\-")), "{option}");
    }
    // What is not built is not promised.
    for word in ["--proxy", "--stream", "  serve"] {
        assert!(!help.out.contains(word), "{word}");
    }
    for section in [
        "EXIT STATUS",
        "ENVIRONMENT",
        "FILES",
        "EXAMPLES",
        "COMMANDS",
    ] {
        assert!(man.contains(section), "{section}");
    }
    for (shell, start) in [
        ("bash", "_torr()"),
        ("zsh", "#compdef torr"),
        ("fish", "# Print"),
    ] {
        let result = world.run(&["completions", shell]);
        assert!(result.code == 0 && result.out.contains(start), "{shell}");
    }
    for command in [
        "info", "create", "check", "magnet", "tracker", "demo", "download",
    ] {
        let result = world.run(&[command, "--help"]);
        assert!(
            result.code == 0 && result.out.contains("Usage: torr "),
            "{command}"
        );
    }
    assert!(world.run(&["--version"]).out.starts_with("torr "));
}
