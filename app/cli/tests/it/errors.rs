//! Mistakes: one line, a hint, the right status.

use crate::common::{Running, Tracker, World, noise};

/// Status and standard error.
fn fails(world: &World, args: &[&str]) -> (i32, String) {
    let ran = world.run(args);
    assert!(ran.out.is_empty(), "{ran:?}");
    (ran.code, ran.err)
}

#[test]
fn messages_say_what_why_and_what_next() {
    let world = World::new();
    world.write("page.torrent", b"<!DOCTYPE html><html>");
    world.write("nothing.torrent", b"");
    std::fs::create_dir(world.path("folder")).unwrap();
    let hash = "0123456789abcdef0123456789abcdef01234567";
    let magnet = format!("magnet:?xt=urn:btih:{hash}&dn=Some+thing");
    let help = "hint: `torr --help` shows what there is\n";
    let fetch = "hint: `torr magnet LINK --save FILE` fetches the .torrent\n";
    let cases: &[(&[&str], i32, String)] = &[
        (&[], 2, "torr: torr: there is nothing to download\nhint: give a .torrent file or a magnet link; `torr --help` shows what there is\n".into()),
        (&["inof"], 2, "torr: inof: neither a command nor a file that is there\nhint: did you mean `torr info`?\n".into()),
        (&["xyzzy"], 2, format!("torr: xyzzy: neither a command nor a file that is there\n{help}")),
        (&["x.torrent", "--sede"], 2, "torr: --sede: no such option\nhint: did you mean `--seed`?\n".into()),
        (&["-d"], 2, format!("torr: --dir: a value is missing\n{help}")),
        (&["x.torrent", "-D", "fast"], 2, "torr: --down: `fast` is not a rate; write it as 10M, or none\n".into()),
        (&["x.torrent", "--encrypt", "maybe"], 2, "torr: --encrypt: `maybe` is not prefer, require or off\n".into()),
        (&["x.torrent", "--peer", "here"], 2, "torr: --peer: `here` is not HOST:PORT\n".into()),
        (&["x.torrent", "-o", "a/b"], 2, "torr: --output: it must be a name without a slash\nhint: the folder to put it in is chosen with --dir\n".into()),
        (&["x.torrent", "--super-seed"], 2, "torr: --super-seed: it says how to seed, and nothing says to seed\nhint: add --seed, or --ratio or --seed-time, for a torrent that is complete\n".into()),
        (&["x.torrent", "--seed", "--super-seed", "--no-upload"], 2, "torr: --super-seed: it cannot be used with --no-upload\n".into()),
        (&["-", "-"], 2, "torr: -: standard input can be read once only\n".into()),
        (&["missing.torrent"], 4, "torr: missing.torrent: No such file or directory\n".into()),
        (&["folder"], 3, "torr: folder: it is a folder, not a torrent\nhint: `torr create` makes a torrent of a folder\n".into()),
        (&["magnet:?dn=x"], 3, "torr: magnet link: the magnet link names no torrent: `xt=urn:btih:` is missing\n".into()),
        (&["info", &magnet], 3, format!("torr: Some thing: what is in it is known to its peers only\n{fetch}")),
        (&[&hash.repeat(2)[..64]], 3, format!("torr: {}: BitTorrent v2 is not supported yet\n", &hash.repeat(2)[..64])),
    ];
    for (args, code, text) in cases {
        assert_eq!(&fails(&world, args), &(*code, text.clone()), "{args:?}");
    }
    let (code, text) = fails(&world, &["page.torrent"]);
    assert!(
        code == 3
            && text.contains("not a torrent")
            && text.ends_with("it is a web page: the site may want you to log in\n"),
        "{text}"
    );
    let (code, text) = fails(&world, &["info", "nothing.torrent"]);
    assert!(
        code == 3 && text.ends_with("hint: it is empty: download it again\n"),
        "{text}"
    );
}

#[test]
fn a_command_wins_over_a_file_of_its_name() {
    let world = World::new();
    world.write("info", b"no torrent either");
    let (code, text) = fails(&world, &["info"]);
    assert!(
        code == 2 && text.starts_with("torr: <TORRENT>: it is missing"),
        "{text}"
    );
    assert_eq!(fails(&world, &["./info"]).0, 3);
    assert_eq!(fails(&world, &["--", "info"]).0, 3);
    // An option's value is no command.
    assert_eq!(fails(&world, &["-d", "info", "./info"]).0, 3);
    assert_eq!(fails(&world, &["--json", "info"]).0, 2);
}

#[test]
fn a_port_in_use_is_status_6() {
    let world = World::new();
    let torrent = world.share_file("a.bin", 1000, None);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let ran = world.run(&[
        &torrent,
        "-d",
        "dir",
        "--bind",
        "127.0.0.1",
        "--port",
        &port,
    ]);
    assert_eq!(ran.code, 6, "{}", ran.err);
    assert!(
        ran.err.contains(&port) && ran.err.contains("hint: choose another port"),
        "{}",
        ran.err
    );
    let ran = world.run(&["tracker", "--listen", &format!("127.0.0.1:{port}")]);
    assert_eq!(ran.code, 6, "{}", ran.err);
}

#[test]
fn foreign_files_are_not_touched() {
    let world = World::new();
    let torrent = world.share_file("a.bin", 100_000, None);
    let foreign = noise(50_000, 77);
    world.write("dir/a.bin", &foreign);
    let ran = world.run(&[&torrent, "-d", "dir", "--timeout", "5s"]);
    assert_eq!(ran.code, 4, "{}", ran.err);
    assert!(
        ran.err.contains("a.bin") && ran.err.contains("--overwrite"),
        "{}",
        ran.err
    );
    assert_eq!(std::fs::read(world.path("dir/a.bin")).unwrap(), foreign);
}

#[test]
fn two_of_a_kind_do_not_meet() {
    let world = World::new();
    let torrent = world.share_file("a.bin", 100_000, None);
    let mut first = Running::start(world.torr([&torrent, "-d", "dir", "--json"]));
    first.until(|object| object["t"] == "added");
    let ran = world.run(&[&torrent, "-d", "dir"]);
    assert_eq!(ran.code, 4, "{}", ran.err);
    assert!(ran.err.contains(&first.pid().to_string()), "{}", ran.err);
}

#[test]
fn giving_up_is_status_7_and_says_why() {
    let world = World::new();
    let tracker = Tracker::start(&world);
    let torrent = world.share_file("alone.bin", 100_000, Some(&tracker));
    let ran = world.run(&[
        &torrent,
        "-d",
        "dir",
        "--stall-timeout",
        "5s",
        "--bind",
        "127.0.0.1",
    ]);
    assert_eq!(ran.code, 7, "{}", ran.err);
    assert!(
        ran.err
            .contains("gave up: nothing came after 5s (no peers: 127.0.0.1:"),
        "{}",
        ran.err
    );
    let ran = world.run(&[&torrent, "-d", "dir", "--timeout", "1s"]);
    assert!(
        ran.code == 7 && ran.err.contains("gave up: it is not done after 1s"),
        "{}",
        ran.err
    );
}

#[test]
fn a_dead_tracker_is_named_without_its_passkey() {
    let world = World::new();
    let gone = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let torrent = world.share_file("alone.bin", 100_000, None);
    let key = "0123456789abcdef0123456789abcdef";
    let url = format!("http://{gone}/{key}/announce");
    let ran = world.run(&[
        &torrent,
        "-d",
        "dir",
        "-v",
        "-t",
        &url,
        "--stall-timeout",
        "5s",
    ]);
    assert_eq!(ran.code, 7, "{}", ran.err);
    assert!(
        ran.err.contains(&format!("(no peers: {gone}: ")),
        "{}",
        ran.err
    );
    assert!(!ran.err.contains(key), "{}", ran.err);
    let ran = world.run(&[&torrent, "-d", "dir", "--stall-timeout", "5s"]);
    assert!(
        ran.err.contains("the torrent names no tracker"),
        "{}",
        ran.err
    );
}
