//! Several torrents in one run, and where inputs come from.

use std::io::Write as _;
use std::process::Stdio;

use crate::common::{Tracker, World, ran};

#[test]
fn some_of_several_failed_is_status_10() {
    let world = World::new();
    let tracker = Tracker::start(&world);
    let good = world.share_file("good.bin", 300_000, Some(&tracker));
    let _seed = world.seed(&good, &[]);
    world.write("bad.torrent", b"nonsense");
    let result = world.run(&["bad.torrent", &good, &good, "-d", "dir"]);
    assert_eq!(result.code, 10, "{}", result.err);
    assert!(
        result.err.contains("torr: bad.torrent: not a torrent"),
        "{}",
        result.err
    );
    assert!(
        result
            .err
            .contains("warning: good.bin.torrent: the same torrent is there twice"),
        "{}",
        result.err
    );
    world.assert_same("good.bin", "dir");
    let result = world.run(&["bad.torrent", "missing.torrent", "-d", "dir"]);
    assert_eq!(result.code, 3, "{}", result.err);
    // A foreign file stops one of them, not the other.
    let other = world.share_file("other.bin", 300_000, Some(&tracker));
    world.write("dir2/other.bin", &[1; 300_000]);
    let result = world.run(&[&other, &good, "-d", "dir2"]);
    assert_eq!(result.code, 10, "{}", result.err);
    world.assert_same("good.bin", "dir2");
}

#[test]
fn nobody_has_to_listen() {
    let world = World::new();
    let tracker = Tracker::start(&world);
    let torrent = world.share_file("a.bin", 100_000, Some(&tracker));
    let _seed = world.seed(&torrent, &[]);
    // Both streams end in a pipe that nobody reads.
    let script = format!("{{ torr {torrent} -d dir 2>&1; echo $? >status; }} | true");
    ran(world.shell(&script));
    assert_eq!(
        std::fs::read_to_string(world.path("status")).unwrap(),
        "0\n"
    );
    world.assert_same("a.bin", "dir");
    let result = ran(world.shell(&format!("torr info {torrent} >/dev/full")));
    assert_eq!(result.code, 4);
    assert_eq!(
        result.err,
        "torr: standard output: No space left on device\n"
    );
}

#[test]
fn inputs_come_from_lists_and_standard_input() {
    let world = World::new();
    let tracker = Tracker::start(&world);
    let a = world.share_file("a.bin", 100_000, Some(&tracker));
    let b = world.share_file("b.bin", 100_000, Some(&tracker));
    let _seeds = (world.seed(&a, &[]), world.seed(&b, &[]));
    world.write("list", format!("# two\n{a}\n\n  {b}\n").as_bytes());
    let result = world.run(&["-i", "list", "-d", "dir", "--print", "name"]);
    assert_eq!(result.code, 0, "{}", result.err);
    let mut names: Vec<&str> = result.out.lines().collect();
    names.sort_unstable();
    assert_eq!(names, ["a.bin", "b.bin"]);
    assert!(result.err.contains("a.bin: done in 0:0"), "{}", result.err);

    let result = ran(world.shell(&format!(
        "cat {a} | torr - -d dir2 && echo {b} | torr -i - -d dir2"
    )));
    assert_eq!(result.code, 0, "{}", result.err);
    world.assert_same("a.bin", "dir2");
    world.assert_same("b.bin", "dir2");

    let mut child = world
        .torr(["info", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let bytes = std::fs::read(world.path(&a)).unwrap();
    child.stdin.take().unwrap().write_all(&bytes).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("name         a.bin\n"));
}
