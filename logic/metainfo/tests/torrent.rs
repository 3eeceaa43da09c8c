//! Torrents as they are and as they should not be.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use torr_base::{InfoHash, PieceIndex};
use torr_metainfo::{
    FILES_MAX, FileIndex, Info, Magnet, Metainfo, MetainfoError, PATH_DEPTH_MAX, Refusal, Warning,
};

/// A single-file info dictionary of two pieces, with other keys between `name` and `piece length`.
fn info_with(keys: &str) -> Vec<u8> {
    let start = format!("d6:lengthi20e4:name8:demo.bin{keys}12:piece lengthi16e6:pieces40:");
    [start.as_bytes(), &[b'A'; 20], &[b'B'; 20], b"e"].concat()
}

fn around(before: &str, info: &[u8], after: &str) -> Vec<u8> {
    [
        b"d",
        before.as_bytes(),
        b"4:info",
        info,
        after.as_bytes(),
        b"e",
    ]
    .concat()
}

/// A torrent whose `files` is this, with pieces of 4 bytes.
fn folder(files: &str, pieces: usize) -> Vec<u8> {
    let start = format!(
        "d5:filesl{files}e4:name1:t12:piece lengthi4e6:pieces{}:",
        pieces * 20
    );
    let info = [start.as_bytes(), &vec![b'h'; pieces * 20], b"e"].concat();
    around("", &info, "")
}

fn error(bytes: &[u8]) -> MetainfoError {
    Metainfo::parse(bytes).unwrap_err()
}

fn warnings(torrent: &Metainfo) -> Vec<String> {
    torrent.warnings().map(|w| w.to_string()).collect()
}

#[test]
fn a_single_file() {
    let bytes = around("8:announce10:http://a/b", &info_with(""), "");
    let torrent = Metainfo::parse(&bytes).unwrap();
    let info = torrent.info();
    // Taken with another program.
    let hash = "1b43124431195e927b2abe3b664d74ebc123a8fe";
    assert_eq!(info.info_hash().to_string(), hash);
    assert_eq!(info.name(), "demo.bin");
    assert!(info.is_single_file() && !info.is_private());
    assert_eq!(info.geometry().total(), 20);
    assert_eq!(info.hash(PieceIndex::new(0)), [b'A'; 20]);
    assert_eq!(info.hash(PieceIndex::new(1)), [b'B'; 20]);
    assert_eq!(info.hash(PieceIndex::new(2)), [0; 20]);
    assert_eq!(info.layout().path(FileIndex::new(0)).unwrap(), "demo.bin");
    assert_eq!(info.raw_path(FileIndex::new(0)).count(), 0);
    assert_eq!(torrent.trackers(), [["http://a/b"]]);
    assert_eq!(torrent.warnings().next(), None);
    assert_eq!(torrent.to_bytes(), bytes);
    assert_eq!(
        torrent.magnet().to_string(),
        format!("magnet:?xt=urn:btih:{hash}&dn=demo.bin&tr=http%3A%2F%2Fa%2Fb")
    );
}

#[test]
fn the_hash_is_over_the_bytes_as_they_are() {
    // Keys out of order and unknown keys: another program hashes the same bytes.
    let odd = info_with("").replace_first(
        b"6:lengthi20e4:name8:demo.bin",
        b"4:name8:demo.bin6:lengthi20e",
    );
    let torrent = Metainfo::parse(&around("", &odd, "")).unwrap();
    assert_eq!(warnings(&torrent), ["keys are not in order"]);
    assert_eq!(torrent.info().raw(), odd);
    assert_ne!(
        torrent.info().info_hash().to_string(),
        "1b43124431195e927b2abe3b664d74ebc123a8fe"
    );
    let alone = Info::parse(&odd).unwrap();
    assert_eq!(alone.info_hash(), torrent.info().info_hash());
    assert_eq!(alone.warnings().next(), Some(Warning::KeysOutOfOrder));
}

trait ReplaceFirst {
    fn replace_first(&self, from: &[u8], to: &[u8]) -> Vec<u8>;
}

impl ReplaceFirst for [u8] {
    fn replace_first(&self, from: &[u8], to: &[u8]) -> Vec<u8> {
        let at = self.windows(from.len()).position(|w| w == from).unwrap();
        [&self[..at], to, &self[at + from.len()..]].concat()
    }
}

#[test]
fn everything_around_the_info() {
    // The list has a string in place of a tier, an integer in place of a URL, and one URL twice.
    let before = "8:announce1:x13:announce-listll3: u12:u22:u1eli3ee2:u4l2:u30:ee\
        7:comment5:c\x1b[2J10:created by1:b13:creation datei1700000000e8:encoding3:GBK";
    let after = "5:nodesll1:hi80eel3:::1i81eel1:hi0eee8:url-listl2:w12:w20:e4:x-yzi7e";
    let info = info_with("").replace_first(b"BBe", b"BB7:privatei1e6:source2:SRe");
    let bytes = around(before, &info, after);
    let torrent = Metainfo::parse(&bytes).unwrap();
    assert_eq!(
        torrent.trackers(),
        [vec!["u1", "u2"], vec!["u4"], vec!["u3"]]
    );
    assert_eq!(torrent.web_seeds(), ["w1", "w2"]);
    let nodes: Vec<_> = torrent.nodes().iter().map(|n| n.to_string()).collect();
    assert_eq!(nodes, ["h:80", "[::1]:81"]);
    assert_eq!(torrent.comment(), Some("c\x1b[2J"));
    assert_eq!(torrent.created_by(), Some("b"));
    assert_eq!(torrent.creation_date(), Some(1_700_000_000));
    assert_eq!(torrent.encoding(), Some("GBK"));
    assert!(torrent.info().is_private());
    assert_eq!(torrent.info().source(), Some("SR"));
    assert_eq!(
        warnings(&torrent),
        [
            "`announce-list` is ignored: a URL that is no UTF-8 string",
            "`nodes` is ignored: not a pair of host and port"
        ]
    );
    assert_eq!(torrent.to_bytes(), bytes);
}

#[test]
fn announce_list_alone_and_fallbacks() {
    let trackers = |before: &str| {
        let torrent = Metainfo::parse(&around(before, &info_with(""), "")).unwrap();
        torrent.trackers().to_vec()
    };
    assert_eq!(trackers("13:announce-listll1:aee"), [["a"]]);
    assert_eq!(trackers("8:announce1:b13:announce-listll1:aee"), [["a"]]);
    assert_eq!(trackers("8:announce1:b13:announce-listle"), [["b"]]);
    assert_eq!(trackers("8:announce1:b13:announce-listi1e"), [["b"]]);
    assert_eq!(trackers("8:announcei1e"), [[""; 0]; 0]);
    assert_eq!(trackers(""), [[""; 0]; 0]);
}

#[test]
fn url_list_may_be_a_string() {
    let bytes = around("", &info_with(""), "8:url-list3:url");
    assert_eq!(Metainfo::parse(&bytes).unwrap().web_seeds(), ["url"]);
    let bytes = around("", &info_with(""), "8:url-list0:");
    assert!(Metainfo::parse(&bytes).unwrap().web_seeds().is_empty());
}

#[test]
fn other_trackers_same_hash() {
    let bytes = around(
        "8:announce1:x",
        &info_with(""),
        "5:nodesle12:piece layersde",
    );
    let mut torrent = Metainfo::parse(&bytes).unwrap();
    let hash = torrent.info().info_hash();
    torrent.set_trackers(&[vec!["a".into(), "b".into()], vec![], vec!["c".into()]]);
    torrent.set_web_seeds(&["w".into()]);
    torrent.set_comment(Some("hello"));
    let before = "8:announce1:a13:announce-listll1:a1:bel1:cee7:comment5:hello";
    let expected = around(
        before,
        &info_with(""),
        "5:nodesle12:piece layersde8:url-list1:w",
    );
    assert_eq!(torrent.to_bytes(), expected);
    let again = Metainfo::parse(&expected).unwrap();
    assert_eq!(again.info().info_hash(), hash);
    assert_eq!(again.trackers(), torrent.trackers());
    torrent.set_trackers(&[vec!["a".into(), "b".into()]]);
    let one_tier = Metainfo::parse(&torrent.to_bytes()).unwrap();
    assert_eq!(one_tier.trackers(), [["a", "b"]]);
    torrent.set_trackers(&[]);
    torrent.set_web_seeds(&[]);
    torrent.set_comment(None);
    let expected = around("", &info_with(""), "5:nodesle12:piece layersde");
    assert_eq!(torrent.to_bytes(), expected);
}

#[test]
fn from_a_magnet_link() {
    let info = std::sync::Arc::new(Info::parse(&info_with("")).unwrap());
    let torrent = Metainfo::from_info(info, &[vec!["t".into()]], &["w1".into(), "w2".into()]);
    let expected = around("8:announce1:t", &info_with(""), "8:url-listl2:w12:w2e");
    assert_eq!(torrent.to_bytes(), expected);
    let again = Metainfo::parse(&expected).unwrap().magnet();
    assert_eq!(Magnet::parse(&again.to_string()), Ok(again));
}

#[test]
fn a_folder_with_every_kind_of_file() {
    let bytes = folder(
        "d4:attr1:x6:lengthi3e4:pathl1:a1:bee\
         d4:attr1:p6:lengthi1ee\
         d6:lengthi0e4:pathl5:emptyee\
         d4:attr2:hl4:pathl4:linke12:symlink pathl2:..1:aee\
         d6:lengthi5e4:pathl2:\u{e9}e10:path.utf-8l2:\u{e8}ee",
        3,
    );
    let torrent = Metainfo::parse(&bytes).unwrap();
    let info = torrent.info();
    let files: Vec<_> = info
        .files()
        .map(|f| (f.offset, f.len, f.attrs.letters()))
        .collect();
    let expected = [
        (0, 3, "x"),
        (3, 1, "p"),
        (4, 0, ""),
        (4, 0, "hl"),
        (4, 5, ""),
    ];
    assert_eq!(files, expected.map(|(o, l, a)| (o, l, a.to_owned())));
    let paths: Vec<_> = info.files().map(|f| info.layout().path(f.index)).collect();
    let expected = [
        Some("t/a/b"),
        None,
        Some("t/empty"),
        Some("t/link"),
        Some("t/\u{e8}"),
    ];
    assert_eq!(paths, expected.map(|p| p.map(str::to_owned)));
    let file = FileIndex::new;
    assert_eq!(info.symlink_target(file(3)).as_deref(), Some("_/a"));
    assert_eq!(info.symlink_target(file(0)), None);
    assert!(info.raw_path(file(0)).eq([b"a", b"b"]));
    assert_eq!(info.map().stored(), 8);
    assert_eq!(info.file(file(5)), None);
    assert_eq!(warnings(&torrent), [""; 0]);
}

#[test]
fn only_empty_files_is_a_torrent() {
    let bytes = folder("d6:lengthi0e4:pathl1:aeed6:lengthi0e4:pathl1:bee", 0);
    let torrent = Metainfo::parse(&bytes).unwrap();
    assert_eq!(torrent.info().geometry().piece_count(), 0);
    assert_eq!(torrent.info().files().count(), 2);
    assert!(torrent.info().map().is_empty());
}

#[test]
fn hybrids_are_read_through_their_v1_part() {
    let info = "d9:file treed1:ad0:d6:lengthi3eeee5:filesld6:lengthi3e4:pathl1:aeee12:meta versioni2e\
                4:name1:n12:piece lengthi16384e6:pieces20:AAAAAAAAAAAAAAAAAAAAe";
    let bytes = around("", info.as_bytes(), "12:piece layersde");
    let torrent = Metainfo::parse(&bytes).unwrap();
    let v2 = torrent.info().info_hash_v2().unwrap();
    assert_eq!(
        torrent.info().info_hash().to_string(),
        "18c01ad0a2381cf4b6f75987a733445863894c04"
    );
    assert_eq!(
        v2.to_string(),
        "4475e7a8f397c09b16877b0661bf7b4435fde332b5fc34cf8a7810ca083f38c6"
    );
    assert_eq!(
        InfoHash::from_hex(&v2.to_string()[..40]),
        Some(v2.truncated())
    );
    assert_eq!(torrent.piece_layers(), Some(&b"de"[..]));
    assert_eq!(torrent.to_bytes(), bytes);
    assert_eq!(torrent.magnet().info_hash_v2, Some(v2));
    assert_eq!(warnings(&torrent), [""; 0]);
    let newer = info.replace("versioni2e", "versioni3e");
    let torrent = Metainfo::parse(&around("", newer.as_bytes(), "")).unwrap();
    assert_eq!(torrent.info().info_hash_v2(), None);
    assert_eq!(torrent.warnings().next(), Some(Warning::UnknownVersion(3)));
}

#[test]
fn pure_v2_is_told_from_broken() {
    let v2 = "d9:file treed1:ad0:d6:lengthi3eeee12:meta versioni2e4:name1:n12:piece lengthi16384ee";
    let refused = error(&around("", v2.as_bytes(), ""));
    assert_eq!(refused, MetainfoError::V2Only);
    assert_eq!(refused.refusal(), Refusal::Unsupported);
    assert_eq!(refused.to_string(), "BitTorrent v2 is not supported yet");
    let v3 = v2.replace("versioni2e", "versioni3e");
    assert_eq!(
        error(&around("", v3.as_bytes(), "")),
        MetainfoError::UnknownVersion(3)
    );
    let unmarked = v2.replace("12:meta versioni2e", "");
    assert_eq!(
        error(&around("", unmarked.as_bytes(), "")),
        MetainfoError::V2Only
    );
}

#[test]
fn refusals_say_where() {
    let one = |file: &str| folder(file, 1);
    for (bytes, text) in [
        (
            b"<html>".to_vec(),
            "not bencode: unexpected byte '<' at byte 0",
        ),
        (b"".to_vec(), "not bencode: cut short at byte 0"),
        (b"le".to_vec(), "`the torrent` is not a dictionary"),
        (b"de".to_vec(), "`info` is missing"),
        (b"d4:infolee".to_vec(), "`info` is not a dictionary"),
        (b"d4:infodee".to_vec(), "`info.length` is missing"),
        (one(""), "`info.files[0]` is missing"),
        (one("i1e"), "`info.files[0]` is not a dictionary"),
        (one("d4:pathl1:aee"), "`info.files[0].length` is missing"),
        (one("d6:lengthi4ee"), "`info.files[0].path` is missing"),
        (
            one("d6:lengthi4e4:path1:ae"),
            "`info.files[0].path` is not a list of strings",
        ),
        (
            one("d6:lengthi4e4:pathli1eee"),
            "`info.files[0].path` is not a list of strings",
        ),
        (
            one("d6:lengthi4e4:pathl1:aeed6:lengthi-1e4:pathl1:aee"),
            "`info.files[1].length` is not an integer from 0 to 2^63 - 1",
        ),
        (
            one("d6:lengthi5e4:pathl1:aee"),
            "`info.pieces` has 20 bytes where 2 pieces need 20 each",
        ),
        (
            around(
                "",
                &info_with("").replace_first(b"lengthi16e", b"lengthi0e"),
                "",
            ),
            "`info.piece length` and the lengths of the files do not fit: \
             piece length 0 is not between 1 and 536870912",
        ),
    ] {
        let error = error(&bytes);
        assert_eq!(error.to_string(), text, "{}", bytes.escape_ascii());
        assert_eq!(error.refusal(), Refusal::NotATorrent);
    }
}

#[test]
fn limits_hold() {
    let unsupported = |bytes: &[u8]| {
        let error = error(bytes);
        assert_eq!(error.refusal(), Refusal::Unsupported, "{error}");
        error.to_string()
    };
    let text = unsupported(&around(
        "",
        &info_with("").replace_first(b"i16e", b"i536870913e"),
        "",
    ));
    assert!(text.contains("536870913"), "{text}");
    let text = unsupported(&around(
        "",
        &info_with("").replace_first(b"i20e", b"i67108865e"),
        "",
    ));
    assert!(text.contains("4194305 pieces"), "{text}");
    let twice = "d6:lengthi9223372036854775807e4:pathl1:aee".repeat(3);
    assert!(unsupported(&folder(&twice, 1)).contains("pieces are more than"));
    let deep = format!("d6:lengthi4e4:pathl{}ee", "1:a".repeat(PATH_DEPTH_MAX + 1));
    assert!(unsupported(&folder(&deep, 1)).contains("info.files[0].path"));
    let deep = format!("d6:lengthi4e4:pathl{}ee", "1:a".repeat(PATH_DEPTH_MAX));
    assert!(Metainfo::parse(&folder(&deep, 1)).is_ok());
    let many = "d6:lengthi0e4:pathl1:aee".repeat(FILES_MAX as usize + 1);
    assert_eq!(error(&folder(&many, 0)), MetainfoError::TooManyFiles);
    assert_eq!(
        error(&vec![b'0'; (100 << 20) + 1]),
        MetainfoError::TooLong((100 << 20) + 1)
    );
}

#[test]
fn oddities_are_forgiven_with_a_warning() {
    let odd = |keys: &str, info: &dyn Fn(Vec<u8>) -> Vec<u8>| {
        let torrent = Metainfo::parse(&around("", &info(info_with(keys)), "")).unwrap();
        (warnings(&torrent), torrent)
    };
    let same = |bytes: Vec<u8>| bytes;
    let (list, torrent) = odd("", &|b| b.replace_first(b"4:name8:demo.bin", b""));
    let hash = torrent.info().info_hash().to_string();
    assert_eq!(list[0], "the torrent has no name");
    assert_eq!(
        list[1],
        format!("the torrent is called `{hash}` on disk: empty component")
    );
    assert_eq!(torrent.info().layout().root(), hash);
    let (list, torrent) = odd("10:name.utf-84:utf8", &same);
    assert_eq!((list.len(), torrent.info().name()), (0, "utf8"));
    let (list, torrent) = odd("", &|b| b.replace_first(b"BBe", b"BB7:private1:1e"));
    assert_eq!(list, ["`info.private` is odd, and counts as 1"]);
    assert!(torrent.info().is_private());
    let (list, _) = odd("", &|b| {
        b.replace_first(b"d6:length", b"d5:filesld6:lengthi20e4:pathl1:aeee6:length")
    });
    assert_eq!(list, ["`info.length` is ignored: there are `files`"]);
    let mut bytes = around("", &info_with(""), "");
    bytes.extend(b"\r\n");
    let torrent = Metainfo::parse(&bytes).unwrap();
    assert_eq!(warnings(&torrent), ["2 bytes after the end are ignored"]);
}

#[test]
fn names_on_disk_are_told() {
    let bytes = folder("d6:lengthi2e4:pathl2:..1:xeed6:lengthi2e4:pathl1:_1:xee", 1);
    let torrent = Metainfo::parse(&bytes).unwrap();
    assert_eq!(
        warnings(&torrent),
        [
            "file 0 is called `t/_/x` on disk: `..`",
            "file 1 is called `t/_/x (2)` on disk: same path as another"
        ]
    );
}
