#![allow(clippy::indexing_slicing)]

use super::component::COMPONENT_LEN_MAX;
use super::*;

fn layout(root: &[u8], files: &[&[&[u8]]]) -> (Vec<String>, Vec<PathChange>) {
    let files = files.iter().map(|path| Some(path.iter().copied()));
    let (layout, changes) = Layout::new(root, "hash", false, files);
    let count = layout.ends.len() as u32;
    let paths = (0..count).map(|i| layout.path(FileIndex::new(i)).unwrap());
    (paths.collect(), changes)
}

/// The paths below a folder `t`, from paths with `/`.
fn below(files: &[&str]) -> Vec<String> {
    let split: Vec<Vec<&[u8]>> = files
        .iter()
        .map(|path| path.split('/').map(str::as_bytes).collect())
        .collect();
    let refs: Vec<&[&[u8]]> = split.iter().map(Vec::as_slice).collect();
    let (paths, _) = layout(b"t", &refs);
    let strip = |path: &String| path.strip_prefix("t/").unwrap().to_owned();
    paths.iter().map(strip).collect()
}

#[test]
fn ordinary_names_stay() {
    let files: [&[&[u8]]; 2] = [&[b"a", b"b.txt"], &["naïve ñ".as_bytes()]];
    let (paths, changes) = layout("Ubuntu 24.04 (日本)".as_bytes(), &files);
    assert_eq!(
        paths,
        ["Ubuntu 24.04 (日本)/a/b.txt", "Ubuntu 24.04 (日本)/naïve ñ"]
    );
    assert_eq!(changes, []);
}

#[test]
fn nothing_leads_out() {
    assert_eq!(
        below(&["../../etc/passwd", "./a", "//b", ".", "...", "a/../c"]),
        ["_/_/etc/passwd", "a (2)", "b", "_ (2)", "...", "a/_/c"]
    );
    let files: [&[&[u8]]; 4] = [
        &[b"/etc/passwd"],
        &[b"..\\..\\x\0y"],
        &[],
        &[b"\xff\xfe.txt"],
    ];
    let (paths, changes) = layout(b"../up", &files);
    assert_eq!(
        paths,
        [
            ".._up/_etc_passwd",
            ".._up/.._.._x_y",
            ".._up/_",
            ".._up/__.txt"
        ]
    );
    let faults: Vec<_> = changes.iter().map(|c| c.faults.to_string()).collect();
    assert_eq!(
        faults,
        [
            "unsafe characters",
            "unsafe characters",
            "unsafe characters",
            "empty component",
            "not UTF-8"
        ]
    );
    assert_eq!(changes[0].file, None);
    assert_eq!(changes[4].file, Some(FileIndex::new(3)));
}

#[test]
fn a_torrent_without_a_name_is_called_by_its_hash() {
    for root in [&b""[..], b"."] {
        assert_eq!(layout(root, &[&[b"a"]]).0, ["hash/a"]);
    }
    assert_eq!(layout(b"..", &[&[b"a"]]).0, ["_/a"]);
}

#[test]
fn screens_are_not_deceived() {
    let name = "invoice\u{202e}fdp.exe".as_bytes();
    let zero = "a\u{200b}b\u{feff}\x1b\u{9b}".as_bytes();
    let (paths, _) = layout(b"t", &[&[name], &[zero]]);
    assert_eq!(paths, ["t/invoice_fdp.exe", "t/a_b___"]);
}

#[test]
fn long_names_are_cut_before_the_extension() {
    let long = format!("{}.tar", "é".repeat(150));
    let (paths, changes) = layout(b"t", &[&[long.as_bytes()], &[long.as_bytes()]]);
    assert_eq!(paths[0], format!("t/{}.tar", "é".repeat(118)));
    assert_eq!(paths[1], format!("t/{} (2).tar", "é".repeat(118)));
    assert_eq!(changes[0].faults, PathFaults::TOO_LONG);
    assert!(changes[1].faults.contains(PathFaults::TAKEN));
    let no_extension = format!("Mr. {}", "x".repeat(300));
    let (paths, _) = layout(b"t", &[&[no_extension.as_bytes()]]);
    assert_eq!(paths[0].len(), 2 + COMPONENT_LEN_MAX);
}

#[test]
fn equal_paths_are_numbered_in_order() {
    assert_eq!(
        below(&["a.txt", "a.txt", "d/a.txt", "a.txt", ".x", ".x"]),
        ["a.txt", "a (2).txt", "d/a.txt", "a (3).txt", ".x", ".x (2)"]
    );
    assert_eq!(
        below(&["Mr. X", "Mr. X", "a.tar.gz", "a.tar.gz", "a.", "a."]),
        [
            "Mr. X",
            "Mr. X (2)",
            "a.tar.gz",
            "a.tar (2).gz",
            "a.",
            "a (2)."
        ]
    );
    // A name that the torrent itself uses is not given away.
    assert_eq!(below(&["a", "a", "a (2)"]), ["a", "a (3)", "a (2)"]);
    assert_eq!(below(&["a", "a", "a (2)/b"]), ["a", "a (3)", "a (2)/b"]);
}

#[test]
fn a_file_makes_room_for_a_folder() {
    assert_eq!(
        below(&["a", "a/b", "a/b/c", "a", "a b"]),
        ["a (2)", "a/b (2)", "a/b/c", "a (3)", "a b"]
    );
}

#[test]
fn a_single_file_is_the_root() {
    let (layout, _) = Layout::new(
        b"x/y.iso",
        "hash",
        true,
        std::iter::once(Some([&b"ignored"[..]])),
    );
    let file = FileIndex::new(0);
    assert_eq!(layout.path(file).as_deref(), Some("x_y.iso"));
    assert!(layout.components(file).unwrap().eq(["x_y.iso"]));
    assert_eq!(layout.path(FileIndex::new(1)), None);
}

#[test]
fn padding_is_not_on_disk() {
    let files = [Some([&b"a"[..]]), None, Some([&b"a"[..]])];
    let (layout, _) = Layout::new(b"t", "hash", false, files.into_iter());
    let path = |i| layout.path(FileIndex::new(i));
    assert_eq!(path(0).as_deref(), Some("t/a"));
    assert_eq!(path(1), None);
    assert_eq!(path(2).as_deref(), Some("t/a (2)"));
}
