//! The reader against a simple recursive one that was written without looking at it, and against the
//! writer.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;

use proptest::prelude::*;
use torr_bencode::{DictWriter, Kind, Limits, ListWriter, Value, encode_dict, read};

#[derive(Clone, Debug, PartialEq)]
enum Tree {
    Int(i64),
    Bytes(Vec<u8>),
    List(Vec<Self>),
    Dict(BTreeMap<Vec<u8>, Self>),
}

/// The oracle: a value and where it ends, or nothing. Integers that do not fit are `Bytes`.
fn oracle(b: &[u8], at: usize, depth: usize) -> Option<(Tree, usize)> {
    let number = |from: usize, stop: u8| -> Option<(String, usize)> {
        let len = b.get(from..)?.iter().position(|c| *c == stop)?;
        let text = std::str::from_utf8(&b[from..from + len]).ok()?;
        let digits = text.strip_prefix('-').unwrap_or(text);
        let plain = !digits.is_empty() && digits.bytes().all(|c| c.is_ascii_digit());
        let canonical = digits == "0" && digits == text || !digits.starts_with('0');
        (plain && canonical).then(|| (text.to_owned(), from + len + 1))
    };
    match *b.get(at)? {
        b'i' => {
            let (text, end) = number(at + 1, b'e')?;
            let tree = match text.parse() {
                Ok(n) => Tree::Int(n),
                Err(_) => Tree::Bytes(text.into_bytes()),
            };
            Some((tree, end))
        }
        b'0'..=b'9' => {
            let (text, start) = number(at, b':')?;
            let end = start.checked_add(text.parse().ok()?)?;
            Some((Tree::Bytes(b.get(start..end)?.to_vec()), end))
        }
        b'l' => {
            let (mut list, mut at) = (Vec::new(), at + 1);
            while *b.get(at)? != b'e' {
                let (value, end) = oracle(b, at, depth.checked_sub(1)?)?;
                list.push(value);
                at = end;
            }
            (depth > 0).then_some((Tree::List(list), at + 1))
        }
        b'd' => {
            let (mut dict, mut at) = (BTreeMap::new(), at + 1);
            while *b.get(at)? != b'e' {
                b.get(at)?.is_ascii_digit().then_some(())?;
                let (Tree::Bytes(key), end) = oracle(b, at, 1)? else {
                    return None;
                };
                let (value, end) = oracle(b, end, depth.checked_sub(1)?)?;
                at = end;
                if dict.insert(key, value).is_some() {
                    return None;
                }
            }
            (depth > 0).then_some((Tree::Dict(dict), at + 1))
        }
        _ => None,
    }
}

fn tree_of(value: Value<'_>) -> Tree {
    match value.kind() {
        Kind::Int => value.as_int().map_or_else(
            || Tree::Bytes(value.raw()[1..value.raw().len() - 1].to_vec()),
            Tree::Int,
        ),
        Kind::Bytes => Tree::Bytes(value.as_bytes().unwrap().to_vec()),
        Kind::List => Tree::List(value.as_list().unwrap().iter().map(tree_of).collect()),
        Kind::Dict => {
            let entries = value.as_dict().unwrap().iter();
            Tree::Dict(entries.map(|(k, v)| (k.to_vec(), tree_of(v))).collect())
        }
    }
}

fn write_entry(out: &mut DictWriter<'_>, key: &[u8], tree: &Tree) {
    match tree {
        Tree::Int(n) => out.int(key, *n),
        Tree::Bytes(bytes) => out.bytes(key, bytes),
        Tree::List(list) => out.list(key, |l| list.iter().for_each(|t| write_item(l, t))),
        Tree::Dict(dict) => out.dict(key, |d| {
            // Backwards: the writer has to sort.
            dict.iter().rev().for_each(|(k, t)| write_entry(d, k, t));
        }),
    };
}

fn write_item(out: &mut ListWriter<'_>, tree: &Tree) {
    match tree {
        Tree::Int(n) => out.int(*n),
        Tree::Bytes(bytes) => out.bytes(bytes),
        Tree::List(list) => out.list(|l| list.iter().for_each(|t| write_item(l, t))),
        Tree::Dict(dict) => out.dict(|d| dict.iter().for_each(|(k, t)| write_entry(d, k, t))),
    };
}

fn any_tree() -> impl Strategy<Value = Tree> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..12);
    let leaf = prop_oneof![
        any::<i64>().prop_map(Tree::Int),
        bytes().prop_map(Tree::Bytes)
    ];
    leaf.prop_recursive(5, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Tree::List),
            prop::collection::btree_map(bytes(), inner, 0..6).prop_map(Tree::Dict),
        ]
    })
}

fn any_dict() -> impl Strategy<Value = BTreeMap<Vec<u8>, Tree>> {
    prop::collection::btree_map(prop::collection::vec(any::<u8>(), 0..12), any_tree(), 0..6)
}

fn agree(bytes: &[u8], depth: u32) -> Result<(), TestCaseError> {
    let limits = Limits {
        depth,
        ..Limits::DEFAULT
    };
    let ours = read(bytes, &limits);
    let theirs = oracle(bytes, 0, depth as usize);
    match (ours, theirs) {
        (Ok(document), Some((tree, end))) => {
            prop_assert_eq!(document.root.raw(), &bytes[..end]);
            prop_assert_eq!(document.rest, &bytes[end..]);
            prop_assert_eq!(tree_of(document.root), tree);
        }
        (Err(error), None) => prop_assert!(error.at <= bytes.len()),
        (ours, theirs) => prop_assert!(false, "{:?} but {:?}", ours, theirs),
    }
    Ok(())
}

/// Put together at random, one in a few is a document.
const PARTS: [&str; 16] = [
    "l", "d", "e", "e", "0:", "1:a", "1:b", "2:ab", "i0e", "i-7e", "le", "1:ai0e", "-", "1", "i",
    ":",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_was_written_is_read_back(dict in any_dict()) {
        let bytes = encode_dict(|d| dict.iter().rev().for_each(|(k, t)| write_entry(d, k, t)));
        let document = read(&bytes, &Limits::DEFAULT).unwrap();
        prop_assert!(document.keys_sorted && document.rest.is_empty());
        prop_assert_eq!(tree_of(document.root), Tree::Dict(dict));
    }

    #[test]
    fn agrees_on_what_often_makes_bencode(
        parts in prop::collection::vec(prop::sample::select(PARTS.to_vec()), 0..9),
        open in prop::sample::select(vec!["", "d", "l", "d1:b", "ld"]),
    ) {
        let text = [open, &parts.concat(), "ee"].concat();
        agree(text.as_bytes(), 3)?;
    }

    #[test]
    fn agrees_on_small_dictionaries_with_any_keys(text in "d(1:[a-c](i[01]e|le|d1:bi1e1:ai1ee)){0,5}e") {
        agree(text.as_bytes(), 100)?;
        // Sorted is what the reader says it is.
        if let Ok(document) = read(text.as_bytes(), &Limits::DEFAULT) {
            let sorted = |d: torr_bencode::Dict<'_>| d.iter().map(|(k, _)| k).is_sorted();
            let root = document.root.as_dict().unwrap();
            let all = sorted(root) && root.iter().all(|(_, v)| v.as_dict().is_none_or(sorted));
            prop_assert_eq!(document.keys_sorted, all);
        }
    }

    #[test]
    fn agrees_on_mutated_documents(
        dict in any_dict(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3), 1..4),
    ) {
        let mut bytes = encode_dict(|d| dict.iter().for_each(|(k, t)| write_entry(d, k, t)));
        for (place, byte, what) in edits {
            let place = place.index(bytes.len());
            match what {
                0 => bytes[place] = byte,
                1 => bytes.insert(place, byte),
                _ => bytes.truncate(place),
            }
            if bytes.is_empty() {
                bytes.push(b'l');
            }
        }
        agree(&bytes, 100)?;
    }
}
