//! `torr info --json` against other readers of the same torrents.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::common::World;
use crate::hostile;

/// Torrents of all kinds that name their files honestly.
fn fixtures(world: &World) -> Vec<PathBuf> {
    world.share(
        "many",
        &[("a", 100_000), ("d/e/f", 1), ("empty", 0), ("z", 40_000)],
        None,
    );
    world.share_file("single.bin", 77_777, None);
    let full = [
        "create",
        "share/many",
        "-o",
        "full.torrent",
        "--private",
        "--comment",
        "Grüße ☃",
        "--source",
        "SRC",
        "--piece",
        "32KiB",
        "-t",
        "http://a.example/announce,udp://b.example:1/announce",
        "-t",
        "https://c.example/k/0123456789abcdef/announce",
        "--web-seed",
        "http://w.example/x/",
        "--web-seed",
        "https://v.example/",
    ];
    assert_eq!(world.run(&full).code, 0);
    let hash = "h".repeat(20);
    let one = |before: &str, info: &str, after: &str| {
        let piece = format!("12:piece lengthi16384e6:pieces20:{hash}");
        format!("d{before}4:infod{info}{piece}e{after}e").into_bytes()
    };
    let file = "6:lengthi5e4:name1:n";
    let padded = "5:filesl\
        d6:lengthi9e4:pathl1:aee\
        d4:attr1:p6:lengthi7e4:pathl4:.pad1:7ee\
        d4:attr2:hx6:lengthi1e4:pathl1:bee\
        e4:name1:n";
    let link = "5:filesl\
        d6:lengthi9e4:pathl1:aee\
        d4:attr1:l4:pathl1:be12:symlink pathl1:aee\
        e4:name1:n";
    let utf8 = "6:lengthi5e4:name1:x10:name.utf-85:n\u{e4}me";
    let raw = [
        (
            "announce",
            one("8:announce21:http://t.example/ann/", file, ""),
        ),
        (
            "nodes",
            one("", file, "5:nodesll1:ai1eel9:127.0.0.1i6881eee"),
        ),
        ("padded", one("", padded, "")),
        ("link", one("", link, "")),
        ("utf8", one("13:comment.utf-83:ok!", utf8, "")),
        (
            "empty",
            b"d4:infod6:lengthi0e4:name1:n12:piece lengthi16384e6:pieces0:ee".to_vec(),
        ),
    ];
    let mut paths: Vec<PathBuf> = ["many", "single.bin", "full"]
        .map(|name| world.path(&format!("{name}.torrent")))
        .to_vec();
    for (name, bytes) in raw {
        world.write(&format!("{name}.torrent"), &bytes);
        paths.push(world.path(&format!("{name}.torrent")));
    }
    let data = vec![1; 50_000];
    world.write(
        "plain.torrent",
        &hostile::torrent(b"top", &[(&["x", "y z"], &data), (&["w"], &data)]),
    );
    paths.push(world.path("plain.torrent"));
    paths
}

fn python(interpreter: &str, args: &[&str]) -> Option<Value> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/py/read_torrent.py");
    let output = Command::new(interpreter)
        .arg(script)
        .args(args)
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}");
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

fn own_reading(world: &World, path: &str) -> Value {
    let ran = world.run(&["info", "--json", path]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    serde_json::from_str(&ran.out).unwrap()
}

#[test]
fn every_fixture_reads_as_an_independent_reader_has_it() {
    let world = World::new();
    for path in fixtures(&world) {
        let path = path.display().to_string();
        let mut own = own_reading(&world, &path);
        let other = python("python3", &[&path]).expect("the tests need python3");
        let object = own.as_object_mut().unwrap();
        let magnet = object.remove("magnet").unwrap();
        let hash = other["info_hash"]["v1"].as_str().unwrap();
        assert!(
            magnet
                .as_str()
                .unwrap()
                .starts_with(&format!("magnet:?xt=urn:btih:{hash}"))
        );
        assert_eq!(object.remove("warnings"), Some(json!([])), "{path}");
        assert_eq!(own, other, "{path}");
    }
}

/// Only where the library is installed, as the interop lab does.
#[test]
fn every_fixture_reads_as_libtorrent_has_it() {
    let world = World::new();
    let Some(interpreter) = interpreter_with_libtorrent() else {
        return;
    };
    for path in fixtures(&world) {
        // libtorrent refuses torrents without bytes, and cleans names by rules of its own.
        if path.ends_with("empty.torrent") {
            continue;
        }
        let path = path.display().to_string();
        let own = own_reading(&world, &path);
        let other = python(&interpreter, &["--libtorrent", &path]).unwrap();
        for key in ["name", "piece_length", "pieces", "private"] {
            assert_eq!(own[key], other[key], "{path}: {key}");
        }
        assert_eq!(own["info_hash"]["v1"], other["info_hash"]["v1"], "{path}");
        assert_eq!(
            own["comment"].as_str().unwrap_or(""),
            other["comment"],
            "{path}"
        );
        let urls: Vec<&Value> = own["trackers"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|tier| tier.as_array().unwrap())
            .collect();
        assert_eq!(json!(urls), other["trackers"], "{path}");
        let files = own["files"].as_array().unwrap();
        assert_eq!(
            files.len(),
            other["files"].as_array().unwrap().len(),
            "{path}"
        );
        for (own, other) in files.iter().zip(other["files"].as_array().unwrap()) {
            assert_eq!(
                (&own["size"], &own["pad"]),
                (&other["size"], &other["pad"]),
                "{path}"
            );
            assert_eq!(own["executable"], other["executable"], "{path}");
            // Padding is called as each likes: it is on no disk.
            if own["pad"] == false {
                assert_eq!(own["path"], other["path"], "{path}");
            }
        }
    }
}

fn interpreter_with_libtorrent() -> Option<String> {
    let var = |name| std::env::var(name).ok();
    let cache =
        var("TORR_LAB_CACHE").or_else(|| Some(format!("{}/torr-lab", var("XDG_CACHE_HOME")?)));
    let cache = cache.or_else(|| Some(format!("{}/.cache/torr-lab", var("HOME")?)))?;
    let venv = format!("{cache}/venv/bin/python");
    [venv.as_str(), "python3"].into_iter().find_map(|python| {
        let mut command = Command::new(python);
        let output = command.args(["-c", "import libtorrent"]).output().ok()?;
        output.status.success().then(|| python.to_owned())
    })
}

#[test]
fn a_pure_v2_torrent_is_refused_in_plain_words() {
    let world = World::new();
    let v2 = b"d4:infod9:file treed1:ad0:d6:lengthi5e11:pieces root32:00000000000000000000000000000000eee12:meta versioni2e4:name1:a12:piece lengthi16384eee";
    world.write("v2.torrent", v2);
    let ran = world.run(&["info", "v2.torrent"]);
    assert_eq!(
        (ran.code, ran.err.as_str()),
        (3, "torr: v2.torrent: BitTorrent v2 is not supported yet\n")
    );
}

#[test]
fn people_get_a_table_without_passkeys() {
    let world = World::new();
    world.share("many", &[("a", 100_000), ("d/b", 1)], None);
    let key = "0123456789abcdef0123456789abcdef";
    let url = format!("https://t.example/{key}/announce");
    world.run(&[
        "create",
        "share/many",
        "-o",
        "k.torrent",
        "-t",
        &url,
        "--no-date",
    ]);
    let ran = world.run(&["info", "k.torrent"]);
    assert!(!ran.out.contains(key), "{}", ran.out);
    assert!(
        ran.out
            .contains("tracker      https://t.example/***/announce (tier 1)\n"),
        "{}",
        ran.out
    );
    assert!(
        ran.out
            .contains("size         100.0 kB (100,001 bytes) in 2 files\n"),
        "{}",
        ran.out
    );
    assert!(
        ran.out
            .ends_with("   1   100.0 kB  many/a\n   2        1 B  many/d/b\n"),
        "{}",
        ran.out
    );
    // Programs get what works.
    assert!(
        world
            .run(&["info", "k.torrent", "--json"])
            .out
            .contains(key)
    );
    assert!(world.run(&["magnet", "k.torrent"]).out.contains(key));
}
