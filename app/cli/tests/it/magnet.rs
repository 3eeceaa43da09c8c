//! Magnet links, info-hashes and URLs, by the real program.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use crate::common::{Ran, Tracker, World};

const FILES: &[(&str, usize)] = &[("a.bin", 300_000), ("b", 70_000), ("sub/c", 1)];

fn link(world: &World, torrent: &str) -> String {
    world.run(&["magnet", torrent]).out.trim_end().to_owned()
}

fn port_of(world: &World, seed: &crate::common::Running) -> String {
    // The one that listens for peers on loopback.
    let out = world.shell(&format!(
        "ls -l /proc/{}/fd | sed -n 's/.*socket:.\\([0-9]*\\).*/\\1/p' | while read n; do \
         awk -v n=$n '$10 == n && $4 == \"0A\" {{ split($2, a, \":\"); print a[2] }}' /proc/net/tcp; done",
        seed.pid()
    ));
    let ran = crate::common::ran(out);
    let hex = ran
        .out
        .lines()
        .next()
        .unwrap_or_else(|| panic!("no port: {}", ran.err));
    u16::from_str_radix(hex.trim(), 16).unwrap().to_string()
}

fn ok(ran: &Ran) {
    assert_eq!(ran.code, 0, "{}", ran.err);
}

#[test]
fn a_link_downloads_like_a_torrent_and_again_without_peers() {
    let world = World::new();
    let tracker = Tracker::start(&world);
    let torrent = world.share("things", FILES, Some(&tracker));
    let seed = world.seed(&torrent, &[]);
    let link = link(&world, &torrent);
    let ran = world.run(&[&link, "-d", "dir", "--json"]);
    ok(&ran);
    world.assert_same("things", "dir");
    let metadata = ran
        .objects()
        .into_iter()
        .rfind(|object| object["t"] == "metadata");
    let metadata = metadata.unwrap();
    assert_eq!(metadata["done"], metadata["total"]);
    assert_eq!(metadata["name"], "things");
    assert_eq!(ran.object("added")["files"], 3);
    assert_eq!(ran.object("done")["size"], 370_001);
    drop(seed);
    let ran = world.run(&[&link, "-d", "dir"]);
    ok(&ran);
    assert!(ran.err.contains("nothing to download"), "{}", ran.err);
    assert_eq!(
        ran.out.trim_end(),
        world.path("dir/things").display().to_string()
    );
}

#[test]
fn an_info_hash_is_enough_where_a_peer_is_named() {
    let world = World::new();
    let torrent = world.share("things", FILES, None);
    let seed = world.seed(&torrent, &[]);
    let link = link(&world, &torrent);
    let hash = link.strip_prefix("magnet:?xt=urn:btih:").unwrap();
    let hash = hash.split('&').next().unwrap();
    let peer = format!("127.0.0.1:{}", port_of(&world, &seed));
    let ran = world.run(&[hash, "--peer", &peer, "-d", "dir"]);
    ok(&ran);
    world.assert_same("things", "dir");
    // The same peer in a link, which selects the second file alone: it counts from 0.
    let link = format!("{link}&x.pe={peer}&so=1");
    let ran = world.run(&[&link, "-d", "some", "--state", "other"]);
    ok(&ran);
    assert!(
        ran.err.contains("things  70.0 kB  1 of 3 files"),
        "{}",
        ran.err
    );
    assert!(world.path("some/things/b").is_file() && !world.path("some/things/a.bin").exists());
    // --select has the last word, and counts from 1.
    let ran = world.run(&[&link, "-s", "1", "-d", "more", "--state", "third"]);
    ok(&ran);
    assert!(world.path("more/things/a.bin").is_file() && !world.path("more/things/b").exists());
    let ran = world.run(&[&link, "-s", "*.nothing", "-d", "none", "--state", "fourth"]);
    assert_eq!(ran.code, 2, "{}", ran.err);
    assert!(ran.err.contains("--select: things: "), "{}", ran.err);
}

#[test]
fn a_link_becomes_a_torrent_file() {
    let world = World::new();
    let tracker = Tracker::start(&world);
    let torrent = world.share("things", FILES, Some(&tracker));
    let _seed = world.seed(&torrent, &[]);
    let link = link(&world, &torrent);
    let ran = world.run(&["magnet", &link, "--save", "got.torrent", "--timeout", "30s"]);
    ok(&ran);
    assert_eq!(ran.out, "got.torrent\n");
    // Nothing but that was made.
    assert!(!world.path("things").exists());
    let info = |name: &str| {
        let mut info = world.run(&["info", name, "--json"]).objects().remove(0);
        info.as_object_mut()
            .unwrap()
            .retain(|key, _| !matches!(key.as_str(), "creation_date" | "created_by" | "comment"));
        info
    };
    assert_eq!(info("got.torrent"), info(&torrent));
    let ran = world.run(&["magnet", &link, "--save", "got.torrent"]);
    assert_eq!(ran.code, 4, "{}", ran.err);
    let ran = world.run(&["magnet", &link, "--save", "got.torrent", "--overwrite"]);
    ok(&ran);
    let listed = world.run(&["-l", &link]);
    ok(&listed);
    assert_eq!(listed.out, world.run(&["-l", &torrent]).out);
}

#[test]
fn no_metadata_ends_with_7_and_says_why() {
    let world = World::new();
    let tracker = Tracker::start(&world);
    let hash = "2c6b6858d61da9543d4231a71db4b1c9264b0685";
    let link = format!(
        "magnet:?xt=urn:btih:{hash}&dn=Some+thing&tr={}",
        tracker.urls[0]
    );
    for args in [
        vec![link.as_str(), "--timeout", "4s", "-d", "dir"],
        vec!["magnet", &link, "--save", "x.torrent", "--timeout", "4s"],
        vec!["-l", &link, "--timeout", "4s"],
    ] {
        let ran = world.run(&args);
        assert_eq!(ran.code, 7, "{args:?} {}", ran.err);
        let gave_up =
            "torr: Some thing: gave up: no metadata was found after 4s (no peers: 127.0.0.1";
        assert!(ran.err.contains(gave_up), "{}", ran.err);
        assert!(!ran.err.contains("resume with"), "{}", ran.err);
    }
    assert!(!world.path("dir").exists() && !world.path("x.torrent").exists());
    let ran = world.run(&[hash, "--timeout", "4s"]);
    assert_eq!(ran.code, 7, "{}", ran.err);
    assert!(
        ran.err
            .contains("names no tracker; try --tracker or --peer"),
        "{}",
        ran.err
    );
}

/// A web server for one request: the path it wants, and its answer.
fn serves(path: &'static str, answer: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}{path}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            socket.read_exact(&mut byte).unwrap();
            asked.push(byte[0]);
        }
        assert!(asked.starts_with(format!("GET {path} HTTP/1.1\r\n").as_bytes()));
        // Whoever has heard enough may hang up.
        let _ = socket.write_all(&answer);
    });
    url
}

fn answer(status: &str, body: &[u8]) -> Vec<u8> {
    let len = body.len();
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n");
    [head.as_bytes(), body].concat()
}

#[test]
fn a_torrent_comes_from_a_web_server() {
    let world = World::new();
    let tracker = Tracker::start(&world);
    let torrent = world.share("things", FILES, Some(&tracker));
    let _seed = world.seed(&torrent, &[]);
    let bytes = std::fs::read(world.path(&torrent)).unwrap();
    let url = serves(
        "/get/a.torrent?passkey=0123456789abcdef0123456789abcdef",
        answer("200 OK", &bytes),
    );
    let ran = world.run(&[&url, "-d", "dir"]);
    ok(&ran);
    world.assert_same("things", "dir");
    let url = serves("/a.torrent", answer("200 OK", &bytes));
    assert_eq!(
        world.run(&["info", &url]).out,
        world.run(&["info", &torrent]).out
    );
}

#[test]
fn what_a_web_server_may_answer_instead() {
    let world = World::new();
    let key = "0123456789abcdef0123456789abcdef";
    let url = serves(
        "/get?passkey=0123456789abcdef0123456789abcdef",
        answer("200 OK", b"<!DOCTYPE html><p>Log in"),
    );
    let ran = world.run(&[&url]);
    assert_eq!(ran.code, 3, "{}", ran.err);
    assert!(
        ran.err.contains("not a torrent") && ran.err.contains("log in"),
        "{}",
        ran.err
    );
    assert!(!ran.err.contains(key), "{}", ran.err);
    let ran = world.run(&[&serves("/gone.torrent", answer("404 Not Found", b""))]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(ran.err.contains("status 404"), "{}", ran.err);
    let long = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 101 << 20);
    let mut long = long.into_bytes();
    long.resize(long.len() + (101 << 20), b'd');
    let ran = world.run(&[&serves("/long.torrent", long)]);
    assert_eq!(ran.code, 3, "{}", ran.err);
    assert!(ran.err.contains("100 MiB"), "{}", ran.err);
    let away =
        b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/x\r\nContent-Length: 0\r\n\r\n";
    let ran = world.run(&[&serves("/moved.torrent", away.to_vec())]);
    assert_eq!(ran.code, 6, "{}", ran.err);
    // Nobody listens there any more.
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}/a.torrent", listener.local_addr().unwrap())
    };
    let ran = world.run(&[&closed, "-d", "dir"]);
    assert_eq!(ran.code, 6, "{}", ran.err);
}
