//! Torrents with names that would lead out of the download folder.

use std::fs;

use sha1::{Digest as _, Sha1};

use crate::common::{Tracker, World, noise, tree};

const PIECE: usize = 16 << 10;

fn string(bytes: &[u8]) -> Vec<u8> {
    [format!("{}:", bytes.len()).as_bytes(), bytes].concat()
}

/// A torrent of these paths and bytes, as no honest program writes it.
pub(crate) fn torrent(name: &[u8], files: &[(&[&str], &[u8])]) -> Vec<u8> {
    let data: Vec<u8> = files
        .iter()
        .flat_map(|(_, bytes)| bytes.iter().copied())
        .collect();
    let mut out = b"d4:infod5:filesl".to_vec();
    for (path, bytes) in files {
        out.extend(format!("d6:lengthi{}e4:pathl", bytes.len()).bytes());
        path.iter()
            .for_each(|part| out.extend(string(part.as_bytes())));
        out.extend(b"ee");
    }
    out.extend(b"e4:name");
    out.extend(string(name));
    out.extend(format!("12:piece lengthi{PIECE}e6:pieces").bytes());
    let hashes: Vec<u8> = data.chunks(PIECE).flat_map(Sha1::digest).collect();
    out.extend(string(&hashes));
    out.extend(b"ee");
    out
}

#[test]
fn nothing_gets_outside_by_its_name() {
    let world = World::new();
    let bytes: Vec<Vec<u8>> = (1..=5).map(|n| noise(20_000 + n, n as u64)).collect();
    let files: [(&[&str], &[u8]); 5] = [
        (&["..", "x"], &bytes[0]),
        (&["/etc/cron.d/evil"], &bytes[1]),
        (&["..", "..", "..", "tmp", "y"], &bytes[2]),
        (&["a\u{202e}b\u{7}"], &bytes[3]),
        (&["plain"], &bytes[4]),
    ];
    world.write("hostile.torrent", &torrent(b"../../root", &files));
    let here = ["_/x", "_etc_cron.d_evil", "_/_/_/tmp/y", "a_b_", "plain"];
    let root = ".._.._root";
    for (path, bytes) in here.iter().zip(&bytes) {
        world.write(&format!("share/{root}/{path}"), bytes);
    }
    let tracker = Tracker::start(&world);
    let _seed = world.seed("hostile.torrent", &["-t", &tracker.urls[0]]);
    let before = tree(world.dir.path()).keys().cloned().collect::<Vec<_>>();
    let ran = world.run(&["hostile.torrent", "-d", "deep/dir", "-t", &tracker.urls[1]]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(
        tree(&world.path("deep/dir").join(root)),
        tree(&world.path("share").join(root))
    );
    // A warning for each change, and nothing in them that acts on a terminal.
    assert!(ran.err.matches("warning: ").count() >= 5, "{}", ran.err);
    assert!(!ran.err.contains('\u{202e}') && !ran.err.contains('\u{7}'));
    let new = tree(world.dir.path())
        .into_keys()
        .filter(|path| !before.contains(path));
    for path in new {
        let fine =
            path.starts_with(format!("deep/dir/{root}")) || path.starts_with(".local/state/torr");
        assert!(fine, "{}", path.display());
    }
    assert!(!fs::exists("/etc/cron.d/evil").unwrap());
}
