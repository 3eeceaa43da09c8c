//! Names on disk, for torrents whose names are as bad as they get.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeSet;

use proptest::prelude::*;
use torr_bencode::encode_dict;
use torr_metainfo::{FileIndex, Info, Layout, Warning};

/// Few names, so that they collide, and every kind of bad one.
fn component() -> impl Strategy<Value = Vec<u8>> {
    let plain = prop::sample::select(vec![
        "a",
        "A",
        "b",
        "a.txt",
        "a (2)",
        "a (2).txt",
        "a (3)",
        "a (2) (2)",
        "a b",
        ".a",
        "a.",
        "",
        ".",
        "..",
        "...",
        "_",
        "__",
        "/",
        "\\",
        "/a",
        "a/b",
        "../..",
        "\0",
        "a\0",
        "\x1b",
        "\u{85}",
        "\u{202e}",
        "\u{200b}",
        "a\u{feff}",
        "é",
        "日本",
        " ",
        "con",
        "a.b c",
        "a.tar.gz",
    ]);
    // Around the length where names are cut, with and without an extension, alike at the start.
    let long = (
        230_usize..260,
        "(x|é)",
        "(\\.txt|\\.x y|\\.longextension|a|b|\\.)?",
    )
        .prop_map(|(len, c, end)| format!("{}{end}", c.repeat(len / c.len())));
    prop_oneof![
        6 => plain.prop_map(|s| s.as_bytes().to_vec()),
        2 => long.prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..6),
        1 => any::<String>().prop_map(String::into_bytes),
    ]
}

#[derive(Clone, Debug)]
struct Names {
    root: Vec<u8>,
    /// Path, and whether it is padding.
    files: Vec<(Vec<Vec<u8>>, bool)>,
}

fn names() -> impl Strategy<Value = Names> {
    let path = prop::collection::vec(component(), 0..4);
    let files = prop::collection::vec((path, prop::bool::weighted(0.1)), 1..14);
    (component(), files).prop_map(|(root, files)| Names { root, files })
}

fn info_of(names: &Names) -> Info {
    let bytes = encode_dict(|d| {
        d.bytes("name", &names.root)
            .int("piece length", 16)
            .bytes("pieces", "");
        d.list("files", |list| {
            for (path, pad) in &names.files {
                list.dict(|file| {
                    file.int("length", 0).list("path", |list| {
                        for component in path {
                            list.bytes(component);
                        }
                    });
                    if *pad {
                        file.bytes("attr", "p");
                    }
                });
            }
        });
    });
    Info::parse(&bytes).unwrap()
}

fn paths(layout: &Layout, count: usize) -> Vec<Option<Vec<String>>> {
    let file = |index| {
        let components = layout.components(FileIndex::new(index))?;
        Some(components.map(str::to_owned).collect())
    };
    (0..count as u32).map(file).collect()
}

fn is_bad(c: char) -> bool {
    let invisible = ('\u{200b}'..='\u{200f}')
        .chain('\u{202a}'..='\u{202e}')
        .chain('\u{2066}'..='\u{2069}');
    c == '/'
        || c == '\\'
        || c.is_control()
        || c == '\u{feff}'
        || invisible.into_iter().any(|i| i == c)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn every_path_is_safe_and_its_own(names in names()) {
        let info = info_of(&names);
        let all = paths(info.layout(), names.files.len());
        let (mut files, mut folders) = (BTreeSet::new(), BTreeSet::new());
        for (path, (_, pad)) in all.iter().zip(&names.files) {
            prop_assert_eq!(path.is_none(), *pad);
            let Some(path) = path else { continue };
            prop_assert!(path.len() >= 2);
            for component in path {
                prop_assert!(!["", ".", ".."].contains(&component.as_str()), "{:?}", component);
                prop_assert!(component.len() <= 255 && !component.contains(is_bad), "{:?}", component);
            }
            prop_assert!(files.insert(path.clone()), "twice: {:?}", path);
            folders.extend((1..path.len()).map(|n| path[..n].to_vec()));
        }
        prop_assert!(files.is_disjoint(&folders), "{:?}", files.intersection(&folders));
    }

    #[test]
    fn names_change_where_a_warning_says_so_and_nowhere_else(names in names()) {
        let info = info_of(&names);
        let mut warned = BTreeSet::new();
        for warning in info.warnings() {
            let Warning::NameOnDisk { file, path, .. } = warning else {
                panic!("{warning}");
            };
            prop_assert!(warned.insert(file), "two warnings for one name");
            let on_disk = match file {
                Some(file) => info.layout().path(file).unwrap(),
                None => info.layout().root().to_owned(),
            };
            prop_assert_eq!(path, on_disk);
        }
        let same = |a: &[String], b: &[Vec<u8>]| a.iter().map(String::as_bytes).eq(b.iter().map(Vec::as_slice));
        let root_same = info.layout().root().as_bytes() == names.root;
        prop_assert_eq!(root_same, !warned.contains(&None));
        for ((path, raw), index) in paths(info.layout(), names.files.len()).iter().zip(&names.files).zip(0..) {
            let file = FileIndex::new(index);
            prop_assert!(info.raw_path(file).eq(raw.0.iter().map(Vec::as_slice)));
            let Some(path) = path else { continue };
            prop_assert_eq!(same(&path[1..], &raw.0), !warned.contains(&Some(file)), "{:?} {:?}", path, raw);
        }
    }

    #[test]
    fn a_kept_layout_comes_back_and_a_forged_one_does_not(
        names in names(),
        victim in any::<prop::sample::Index>(),
        evil in prop::sample::select(vec!["..", "a/../b", "/a", "a//b", "a\0", "", ".", "x\u{202e}"]),
    ) {
        let info = info_of(&names);
        let layout = info.layout();
        let count = names.files.len();
        let kept: Vec<_> = (0..count as u32).map(|i| layout.below_root(FileIndex::new(i))).collect();
        let restore = |root, files: &[Option<&str>]| Layout::restore(&info, root, files.iter().copied());
        let back = restore(layout.root(), &kept);
        prop_assert_eq!(back.as_ref(), Some(layout));
        prop_assert_eq!(restore(evil, &kept), None);
        prop_assert_eq!(restore(layout.root(), &kept[1..]), None);
        let longer = [&kept[..], &[Some("zz")]].concat();
        prop_assert_eq!(restore(layout.root(), &longer), None);
        let victim = victim.index(count);
        let mut forged = kept.clone();
        forged[victim] = match kept[victim] {
            Some(_) => Some(evil),
            None => Some("zz"),
        };
        prop_assert_eq!(restore(layout.root(), &forged), None);
        // Two files at one place, or one inside the other.
        if let [Some(first), Some(_), ..] = kept[..] {
            forged.clone_from(&kept);
            forged[1] = Some(first);
            prop_assert_eq!(restore(layout.root(), &forged), None);
            let inside = format!("{first}/x");
            forged[1] = Some(&inside);
            prop_assert_eq!(restore(layout.root(), &forged), None);
        }
    }
}

/// Names that would make a careless implementation look at every other name for each of them.
#[test]
fn a_hundred_thousand_equal_names_take_no_time() {
    let file = |name: &str| (vec![name.as_bytes().to_vec()], false);
    let mut files: Vec<_> = (0..50_000).map(|_| file("a")).collect();
    files.extend((2..50_000).map(|n| file(&format!("a ({n})"))));
    let names = Names {
        root: b"t".to_vec(),
        files,
    };
    let info = info_of(&names);
    let last = info.layout().path(FileIndex::new(49_999)).unwrap();
    assert_eq!(last, "t/a (99998)");
}
