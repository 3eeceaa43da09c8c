//! The file map against a walk over every byte, and torrents that went through the mill.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use proptest::prelude::*;
use torr_base::PieceIndex;
use torr_metainfo::{
    Draft, DraftFile, DraftFiles, FileAttrs, FileIndex, FileMap, FilePriorities, FilePriority,
    Info, Magnet, Metainfo, Node, Segment,
};

fn files() -> impl Strategy<Value = Vec<(u64, bool)>> {
    let len = prop_oneof![2 => Just(0_u64), 3 => 1_u64..4, 1 => 4_u64..40];
    prop::collection::vec((len, prop::bool::weighted(0.2)), 1..20)
}

/// For each byte of the torrent its file and the offset there.
fn walk(files: &[(u64, bool)]) -> Vec<(u32, u64)> {
    let each = files.iter().zip(0..);
    each.flat_map(|((len, _), file)| (0..*len).map(move |offset| (file, offset)))
        .collect()
}

fn any_priority() -> impl Strategy<Value = FilePriority> {
    prop::sample::select(vec![
        FilePriority::Skip,
        FilePriority::Normal,
        FilePriority::High,
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn segments_are_the_bytes(
        files in files(), piece_len in 1_u64..20, offset in 0_u64..120, len in 0_u64..120,
    ) {
        let map = FileMap::new(piece_len, files.clone()).unwrap();
        let bytes = walk(&files);
        prop_assert_eq!(map.geometry().total(), bytes.len() as u64);
        let check = |segments: &mut dyn Iterator<Item = Segment>, from: u64, len: u64| {
            let segments: Vec<_> = segments.collect();
            let seen: Vec<_> = segments
                .iter()
                .flat_map(|s| (0..s.len).map(move |n| (s.file.get(), s.offset + n)))
                .collect();
            let expected: Vec<_> = bytes.iter().skip(from as usize).take(len as usize).copied().collect();
            prop_assert_eq!(seen, expected);
            for s in &segments {
                prop_assert!(s.len > 0);
                prop_assert_eq!(s.pad, files[s.file.as_usize()].1);
            }
            prop_assert!(segments.windows(2).all(|w| w[0].file < w[1].file));
            Ok(())
        };
        check(&mut map.segments(offset, len), offset, len)?;
        for piece in map.geometry().pieces() {
            let start = map.geometry().piece_start(piece);
            check(&mut map.segments_of_piece(piece), start, piece_len)?;
        }
        for (file, index) in files.iter().zip(0..) {
            let index = FileIndex::new(index);
            prop_assert_eq!((map.len(index), map.is_pad(index)), *file);
            let mut pieces: Vec<_> = bytes
                .iter()
                .zip(0_u64..)
                .filter(|((file, _), _)| *file == index.get())
                .map(|(_, at)| PieceIndex::new((at / piece_len) as u32))
                .collect();
            pieces.dedup();
            prop_assert!(map.pieces_of(index).eq(pieces));
        }
    }

    #[test]
    fn wanted_pieces_hold_wanted_bytes(
        files in files(), piece_len in 1_u64..20,
        priorities in prop::collection::vec(any_priority(), 20),
    ) {
        let map = FileMap::new(piece_len, files.clone()).unwrap();
        let mut selection = FilePriorities::all(map.file_count());
        for (file, priority) in map.files().zip(&priorities) {
            selection.set(file, *priority);
        }
        let bytes = walk(&files);
        let holds = |piece: PieceIndex, least: FilePriority| {
            let in_piece = bytes.chunks(piece_len as usize).nth(piece.as_usize()).unwrap();
            in_piece.iter().any(|(file, _)| {
                priorities[*file as usize] >= least && !files[*file as usize].1
            })
        };
        let wanted = selection.wanted_pieces(&map);
        let high = selection.high_pieces(&map);
        for piece in map.geometry().pieces() {
            let expected = selection.wants_all() || holds(piece, FilePriority::Normal);
            prop_assert_eq!(wanted.get(piece), expected);
            prop_assert_eq!(high.get(piece), holds(piece, FilePriority::High));
        }
        let expected = bytes.iter().filter(|(file, _)| {
            priorities[*file as usize] != FilePriority::Skip && !files[*file as usize].1
        });
        prop_assert_eq!(selection.wanted_bytes(&map), expected.count() as u64);
    }

    #[test]
    fn drafts_come_back(draft in any_draft()) {
        let bytes = draft.encode().unwrap();
        let torrent = Metainfo::parse(&bytes).unwrap();
        prop_assert_eq!(torrent.to_bytes(), bytes);
        let info = torrent.info();
        prop_assert_eq!(info.name(), &draft.name);
        prop_assert_eq!(info.hashes(), &draft.hashes);
        prop_assert_eq!(info.geometry().piece_len_max(), draft.piece_len);
        prop_assert_eq!(info.is_private(), draft.private);
        prop_assert_eq!(info.source(), draft.source.as_deref());
        prop_assert_eq!(torrent.comment(), draft.comment.as_deref());
        prop_assert_eq!(torrent.creation_date(), draft.creation_date.map(|d| d as i64));
        match &draft.files {
            DraftFiles::Single(len) => {
                prop_assert!(info.is_single_file());
                prop_assert_eq!(info.geometry().total(), *len);
            }
            DraftFiles::Folder(files) => {
                prop_assert_eq!(info.files().len(), files.len());
                for (read, written) in info.files().zip(files) {
                    prop_assert_eq!(read.len, written.len);
                    prop_assert_eq!(read.attrs, written.attrs);
                    prop_assert!(info.raw_path(read.index).eq(written.path.iter().map(String::as_bytes)));
                }
            }
        }
        let again = Info::parse(info.raw()).unwrap();
        prop_assert_eq!(again.info_hash(), info.info_hash());
        prop_assert_eq!(again.layout(), info.layout());
    }

    #[test]
    fn nothing_panics_and_what_is_read_is_written(
        draft in any_draft(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), edit()), 1..4),
    ) {
        let mut bytes = draft.encode().unwrap();
        for (place, with) in edits {
            let place = place.index(bytes.len());
            let end = (place + with.len()).min(bytes.len());
            bytes.splice(place..end, with);
        }
        let Ok(torrent) = Metainfo::parse(&bytes) else { return Ok(()) };
        let info = torrent.info();
        prop_assert_eq!(info.hashes().len(), info.geometry().piece_count() as usize * 20);
        let total: u64 = info.files().map(|file| file.len).sum();
        prop_assert_eq!(total, info.geometry().total());
        for file in info.files() {
            info.raw_path(file.index).count();
            let link = info.symlink_target(file.index);
            prop_assert_eq!(link.is_some(), file.attrs.symlink);
        }
        torrent.warnings().for_each(|warning| drop(warning.to_string()));
        let written = torrent.to_bytes();
        let again = Metainfo::parse(&written).unwrap();
        prop_assert_eq!(again.info().raw(), info.raw());
        prop_assert_eq!(again.trackers(), torrent.trackers());
        prop_assert_eq!(again.to_bytes(), written);
        let magnet = torrent.magnet();
        prop_assert_eq!(Magnet::parse(&magnet.to_string()), Ok(magnet));
    }

    #[test]
    fn links_come_back(
        hash in any::<[u8; 20]>(),
        name in prop::option::of("\\PC{1,20}"),
        urls in prop::collection::btree_set("[!-~]{1,20}", 0..4),
        ports in prop::collection::btree_set(1_u16.., 0..4),
        select in prop::collection::vec((0_u32..2, 2_u32..9), 0..5),
    ) {
        let mut link = Magnet::new(torr_base::InfoHash(hash));
        link.name = name;
        link.trackers = urls.iter().cloned().collect();
        link.web_seeds = urls.iter().rev().cloned().collect();
        let hosts = ["1.2.3.4", "2001:2::1", "host.example"].iter().cycle();
        let peer = |(host, port): (&&str, &u16)| Node { host: (*host).to_owned(), port: *port };
        link.peers = hosts.zip(&ports).map(peer).collect();
        // Ranges that neither touch nor overlap, in order.
        let mut at = 0;
        for (more, gap) in select {
            link.select.push(at + gap..=at + gap + more);
            at += gap + more;
        }
        prop_assert_eq!(Magnet::parse(&link.to_string()), Ok(link));
    }

    #[test]
    fn no_link_panics(text in "(magnet:\\?)?(&?(xt|dn|tr|so|x\\.pe|tr\\.1)=(urn:btih:)?[%0-9a-f,:\\[\\]é-]{0,45}){0,4}") {
        if let Ok(link) = Magnet::parse(&text) {
            prop_assert_eq!(Magnet::parse(&link.to_string()), Ok(link));
        }
    }
}

fn edit() -> impl Strategy<Value = Vec<u8>> {
    let known = [
        "",
        "e",
        "i0e",
        "i-1e",
        "le",
        "de",
        "0:",
        "4:attr1:p",
        "4:attr1:l",
        "7:privatei2e",
        "99999:",
        "12:meta versioni2e",
        "10:path.utf-8l1:xe",
        "i9223372036854775807e",
        "\u{202e}",
    ];
    prop_oneof![
        prop::sample::select(known.to_vec()).prop_map(|s| s.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..3),
    ]
}

fn any_draft() -> impl Strategy<Value = Draft> {
    let name = || "[a-zé ]{1,8}(\\.[a-z]{1,3})?";
    let file = (
        prop::collection::vec(name(), 1..4),
        0_u64..40,
        any::<[bool; 3]>(),
    );
    let file = file.prop_map(|(path, len, [pad, executable, hidden])| DraftFile {
        path,
        len,
        attrs: FileAttrs {
            pad,
            executable,
            hidden,
            symlink: false,
        },
    });
    let files = prop_oneof![
        (0_u64..99).prop_map(DraftFiles::Single),
        prop::collection::vec(file, 1..8).prop_map(DraftFiles::Folder),
    ];
    let text = || prop::option::of("\\PC{0,9}");
    let urls = || prop::collection::btree_set("[!-~]{1,9}", 0..4);
    let around = (
        text(),
        text(),
        text(),
        urls(),
        urls(),
        prop::option::of(0..1_u64 << 40),
    );
    (name(), files, 1_u32..40, any::<bool>(), around).prop_map(
        |(name, files, piece_len, private, (source, comment, created_by, urls, seeds, date))| {
            let total: u64 = match &files {
                DraftFiles::Single(len) => *len,
                DraftFiles::Folder(files) => files.iter().map(|file| file.len).sum(),
            };
            let pieces = total.div_ceil(u64::from(piece_len)) as usize;
            Draft {
                name,
                files,
                piece_len,
                hashes: (0..pieces * 20).map(|n| n as u8).collect(),
                private,
                source,
                trackers: urls.into_iter().map(|url| vec![url]).collect(),
                web_seeds: seeds.into_iter().collect(),
                comment,
                created_by,
                creation_date: date,
            }
        },
    )
}

/// A million files, most of them empty and in the way.
#[test]
fn many_files_stay_fast() {
    let files = (0..1_u64 << 20).map(|n| (u64::from(n % 1000 == 0), false));
    let map = FileMap::new(16, files).unwrap();
    let total = map.geometry().total();
    assert_eq!(total, 1049);
    for round in 0..100_000 {
        let segments: Vec<_> = map.segments(round % total, 2).collect();
        assert!(segments.iter().all(|s| s.file.get() % 1000 == 0));
    }
}
