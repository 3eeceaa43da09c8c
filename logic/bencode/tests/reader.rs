//! Examples of BEP 3 and of what the field and attackers make of it.
#![allow(clippy::unwrap_used)]

use torr_bencode::{DEPTH_MAX, ErrorKind, Kind, Limits, encode_dict, parse, parse_prefix, read};

fn error(bytes: &[u8]) -> (ErrorKind, usize) {
    let error = parse(bytes).unwrap_err();
    (error.kind, error.at)
}

#[test]
fn examples_of_bep_3() {
    assert_eq!(parse(b"4:spam").unwrap().as_bytes(), Some(&b"spam"[..]));
    assert_eq!(parse(b"i3e").unwrap().as_int(), Some(3));
    assert_eq!(parse(b"i-3e").unwrap().as_int(), Some(-3));
    assert_eq!(parse(b"i-3e").unwrap().as_uint(), None);
    assert_eq!(parse(b"i0e").unwrap().as_int(), Some(0));
    assert_eq!(parse(b"0:").unwrap().as_str(), Some(""));
    let list = parse(b"l4:spam4:eggse").unwrap().as_list().unwrap();
    let words: Vec<_> = list.iter().map(|v| v.as_str().unwrap()).collect();
    assert_eq!(words, ["spam", "eggs"]);
    let dict = parse(b"d3:cow3:moo4:spaml1:a1:bee").unwrap();
    let dict = dict.as_dict().unwrap();
    assert_eq!(dict.str("cow"), Some("moo"));
    assert_eq!(dict.list("spam").unwrap().raw(), b"l1:a1:be");
    assert_eq!(dict.iter().count(), 2);
    assert_eq!(dict.get("eggs"), None);
}

#[test]
fn spans_are_exact() {
    let bytes = b"d8:announce3:url4:infod6:lengthi5e4:name1:xe5:zzzzzlee";
    let root = parse(bytes).unwrap().as_dict().unwrap();
    let info = root.get("info").unwrap();
    assert_eq!(info.raw(), b"d6:lengthi5e4:name1:xe");
    assert_eq!(info.offset_in(bytes), Some(22));
    assert_eq!(info.offset_in(&bytes[23..]), None);
    assert_eq!(info.offset_in(&bytes[..24]), None);
    assert_eq!(info.offset_in(b"elsewhere"), None);
    let [zzz, none, announce] = root.pick(["zzzzz", "none", "announce"]);
    assert_eq!(zzz.unwrap().kind(), Kind::List);
    assert_eq!(none, None);
    assert_eq!(announce.unwrap().as_str(), Some("url"));
}

#[test]
fn wrong_bytes_are_named_with_their_place() {
    use ErrorKind as K;
    for (bytes, kind, at) in [
        (&b""[..], K::Truncated, 0),
        (b"i3", K::Truncated, 2),
        (b"l", K::Truncated, 1),
        (b"5:spam", K::Truncated, 0),
        (b"99999999999999999999999999:a", K::Truncated, 0),
        (b"e", K::UnexpectedByte(b'e'), 0),
        (b"x", K::UnexpectedByte(b'x'), 0),
        (b"l-1:ae", K::UnexpectedByte(b'-'), 1),
        (b"ie", K::BadInteger, 1),
        (b"i-e", K::BadInteger, 2),
        (b"i+1e", K::BadInteger, 1),
        (b"i1.5e", K::BadInteger, 2),
        (b"i--1e", K::BadInteger, 2),
        (b"1x:a", K::BadLength, 1),
        (b"i03e", K::LeadingZero, 1),
        (b"i00e", K::LeadingZero, 1),
        (b"i-03e", K::LeadingZero, 1),
        (b"04:spam", K::LeadingZero, 0),
        (b"00:", K::LeadingZero, 0),
        (b"i-0e", K::NegativeZero, 1),
        (b"di1ei2ee", K::KeyNotString, 1),
        (b"dlei2ee", K::KeyNotString, 1),
        (b"d1:ae", K::ValueMissing, 4),
        (b"d1:ai1e1:ai2ee", K::DuplicateKey, 7),
        (b"i1ei2e", K::TrailingBytes, 3),
        (b"i1e\n", K::TrailingBytes, 3),
    ] {
        assert_eq!(error(bytes), (kind, at), "{}", bytes.escape_ascii());
    }
}

#[test]
fn keys_out_of_order_are_reported_and_duplicates_among_them_found() {
    let limits = Limits::DEFAULT;
    let good = read(b"d1:ai1e1:bi2ee", &limits).unwrap();
    assert!(good.keys_sorted);
    let unsorted = read(b"d1:bi1e1:ai2ee", &limits).unwrap();
    assert!(!unsorted.keys_sorted);
    assert_eq!(unsorted.root.as_dict().unwrap().int("a"), Some(2));
    let nested = read(b"ld1:bi1e1:ad1:xleeee", &limits).unwrap();
    assert!(!nested.keys_sorted);
    assert_eq!(
        error(b"d1:bi1e1:ai2e1:bi3ee"),
        (ErrorKind::DuplicateKey, 15)
    );
    // The same key in two dictionaries is no duplicate, wherever they nest.
    assert!(parse(b"d1:bd1:bi1e1:ai1ee1:ad1:bi1e1:ai1eee").is_ok());
    // A prefix is smaller than what it begins.
    assert!(read(b"d1:ai1e2:aai1ee", &limits).unwrap().keys_sorted);
    assert!(!read(b"d2:aai1e1:ai1ee", &limits).unwrap().keys_sorted);
}

#[test]
fn integers_of_any_size_are_valid_but_may_not_fit() {
    let max = parse(b"i9223372036854775807e").unwrap();
    assert_eq!(max.as_int(), Some(i64::MAX));
    let beyond = parse(b"i9223372036854775808e").unwrap();
    assert_eq!(beyond.as_int(), None);
    assert_eq!(beyond.as_uint(), Some(1 << 63));
    let huge = parse(b"i-99999999999999999999999999e").unwrap();
    assert_eq!((huge.as_int(), huge.as_uint()), (None, None));
    assert_eq!(huge.kind(), Kind::Int);
}

#[test]
fn a_prefix_hands_back_the_rest() {
    let (value, rest) = parse_prefix(b"d8:msg_typei1e5:piecei0eeTHE DATA").unwrap();
    assert_eq!(value.as_dict().unwrap().int("msg_type"), Some(1));
    assert_eq!(rest, b"THE DATA");
}

#[test]
fn limits_hold() {
    let depth = DEPTH_MAX as usize;
    let nested = |n: usize| [vec![b'l'; n], vec![b'e'; n]].concat();
    assert!(parse(&nested(depth)).is_ok());
    assert_eq!(error(&nested(depth + 1)), (ErrorKind::TooDeep, depth));
    assert_eq!(error(&vec![b'l'; 1 << 20]), (ErrorKind::TooDeep, depth));
    let dicts = b"d1:a".repeat(1 << 16);
    assert_eq!(error(&dicts), (ErrorKind::TooDeep, depth * 4));

    let fail = |bytes: &[u8], limits: Limits| read(bytes, &limits).unwrap_err().kind;
    let shallow = Limits {
        depth: 1,
        ..Limits::DEFAULT
    };
    assert!(read(b"l1:ae", &shallow).is_ok());
    assert_eq!(fail(b"llee", shallow), ErrorKind::TooDeep);
    let few = Limits {
        tokens: 3,
        ..Limits::DEFAULT
    };
    assert!(read(b"d1:ai1ee", &few).is_ok());
    assert_eq!(fail(b"d1:ali1eee", few), ErrorKind::TooManyTokens);
    let short = Limits {
        len: 6,
        ..Limits::DEFAULT
    };
    assert!(read(b"4:spam", &short).is_ok());
    assert!(read(b"4:spam and more", &short).is_ok());
    assert_eq!(fail(b"5:spams", short), ErrorKind::TooLong);
}

#[test]
fn writer_sorts_and_keeps_the_last_of_equals() {
    let bytes = encode_dict(|d| {
        d.int("b", 1).bytes("a", "x");
        d.list("c", |l| {
            l.int(-1).uint(u64::MAX).bytes(b"\xff");
            l.list(|l| {
                l.bytes("");
            });
            l.dict(|_| {});
        });
        d.dict("aa", |d| {
            d.int("z", 0).int("y", 0).int("z", 4).int("z", 5);
        });
        d.int("b", i64::MIN);
    });
    let expected: &[u8] = b"d1:a1:x2:aad1:yi0e1:zi5ee1:bi-9223372036854775808e\
        1:cli-1ei18446744073709551615e1:\xffl0:edeee";
    assert_eq!(
        bytes.escape_ascii().to_string(),
        expected.escape_ascii().to_string()
    );
    assert!(read(&bytes, &Limits::DEFAULT).unwrap().keys_sorted);
}

#[test]
fn equal_keys_in_a_row_are_one() {
    let bytes = encode_dict(|d| {
        d.int("a", 1).int("a", 2);
    });
    assert_eq!(bytes, b"d1:ai2ee");
}

#[test]
fn read_values_are_written_byte_for_byte() {
    let odd = parse(b"d1:bi1e1:ai2ee").unwrap();
    let bytes = encode_dict(|d| {
        d.value("info", odd);
        d.list("all", |l| {
            l.value(odd);
        });
    });
    assert_eq!(bytes, b"d3:allld1:bi1e1:ai2eee4:infod1:bi1e1:ai2eee");
}
