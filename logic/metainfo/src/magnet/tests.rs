use super::*;

const HEX: &str = "c12fe1c06bba254a9dc9f519b335aa7c1367a88a";

fn hash() -> InfoHash {
    InfoHash::from_hex(HEX).unwrap()
}

fn parse(query: &str) -> Result<Magnet, MagnetError> {
    Magnet::parse(&format!("magnet:?{query}"))
}

#[test]
fn all_parameters() {
    let text = format!(
        "magnet:?xt=urn:btih:{HEX}&dn=A+b%20%C3%A9%2B&tr=http%3A%2F%2Fa%2Fannounce%3Fk%3D1\
         &tr.1=udp://b:80&tr=udp://b:80&ws=http://c/d+e&x.pe=1.2.3.4:5&x.pe=[2001:2::1]:6\
         &x.pe=host:7&x.pe=bad&x.pe=::1:5&so=4-6,0,2,5-8,9&xl=5&junk&xt=urn:ed2k:1"
    );
    let link = Magnet::parse(&text).unwrap();
    assert_eq!(link.info_hash, hash());
    assert_eq!(link.name.as_deref(), Some("A b é+"));
    assert_eq!(link.trackers, ["http://a/announce?k=1", "udp://b:80"]);
    assert_eq!(link.web_seeds, ["http://c/d+e"]);
    let peers: Vec<_> = link.peers.iter().map(Node::to_string).collect();
    assert_eq!(peers, ["1.2.3.4:5", "[2001:2::1]:6", "host:7"]);
    assert_eq!(link.select, [0..=0, 2..=2, 4..=9]);
    let selected = |n| link.selects(FileIndex::new(n));
    let picked: Vec<u32> = (0..20).filter(|n| selected(*n)).collect();
    assert_eq!(picked, [0, 2, 4, 5, 6, 7, 8, 9]);
    assert_eq!(
        link.priorities(3).get(FileIndex::new(1)),
        crate::FilePriority::Skip
    );
    assert_eq!(
        link.to_string(),
        format!(
            "magnet:?xt=urn:btih:{HEX}&dn=A%20b%20%C3%A9%2B\
             &tr=http%3A%2F%2Fa%2Fannounce%3Fk%3D1&tr=udp%3A%2F%2Fb%3A80&ws=http%3A%2F%2Fc%2Fd%2Be\
             &x.pe=1.2.3.4:5&x.pe=[2001:2::1]:6&x.pe=host:7&so=0,2,4-9"
        )
    );
    assert_eq!(Magnet::parse(&link.to_string()), Ok(link));
}

#[test]
fn hashes_in_every_spelling() {
    let base32 = "YEX6DQDLXISUVHOJ6UM3GNNKPQJWPKEK";
    for text in [HEX, &HEX.to_uppercase(), base32, &base32.to_lowercase()] {
        assert_eq!(
            parse(&format!("xt=urn:btih:{text}")).unwrap().info_hash,
            hash()
        );
        assert_eq!(parse_info_hash(text), Some(hash()));
    }
    let escaped = format!(" MAGNET:?dn=x&amp;xt.1=URN%3ABTIH%3A{HEX}&dn= \n");
    assert_eq!(Magnet::parse(&escaped).unwrap(), Magnet::new(hash()));
    for bad in [
        "",
        "0",
        &HEX[1..],
        &format!("{HEX}0"),
        &"1".repeat(32),
        &"é".repeat(20),
    ] {
        let error = parse(&format!("xt=urn:btih:{bad}")).unwrap_err();
        assert_eq!(error, MagnetError::BadHash(format!("urn:btih:{bad}")));
    }
}

#[test]
fn v2_beside_v1_is_kept_and_alone_refused() {
    let v2 = format!("xt=urn:btmh:1220{}", "ab".repeat(32));
    assert_eq!(parse(&v2), Err(MagnetError::V2Only));
    let both = parse(&format!("{v2}&xt=urn:btih:{HEX}")).unwrap();
    assert_eq!(both.info_hash_v2, Some(InfoHashV2([0xab; 32])));
    assert_eq!(Magnet::parse(&both.to_string()), Ok(both));
    let short = parse("xt=urn:btmh:1220ab");
    assert!(matches!(short, Err(MagnetError::BadHash(_))));
}

#[test]
fn what_is_no_link_is_refused() {
    for text in [
        "",
        "magnet:",
        "magnet:xt=1",
        "http://a/",
        "mägnet:?",
        "magne",
    ] {
        assert_eq!(Magnet::parse(text), Err(MagnetError::NotAMagnet), "{text}");
    }
    assert_eq!(parse("dn=x"), Err(MagnetError::NoHash));
    let other = format!("xt=urn:btih:{HEX}&xt=urn:btih:{}", "0".repeat(40));
    assert_eq!(parse(&other), Err(MagnetError::SeveralHashes));
    let long = format!("xt=urn:btih:{HEX}&dn={}", "x".repeat(MAGNET_LEN_MAX));
    assert!(matches!(parse(&long), Err(MagnetError::TooLong(_))));
    for so in [
        "x",
        "1-",
        "-1",
        "3-1",
        "1048576",
        "99999999999",
        "1-2-3",
        "+1",
    ] {
        let result = parse(&format!("xt=urn:btih:{HEX}&so={so}"));
        assert_eq!(result, Err(MagnetError::BadSelection(so.to_owned())));
    }
    assert!(
        parse(&format!("xt=urn:btih:{HEX}&so="))
            .unwrap()
            .select
            .is_empty()
    );
}

#[test]
fn stray_percent_signs_stay() {
    assert_eq!(decode("100%&%zz%4%41%"), "100%&%zz%4A%");
    assert_eq!(decode("%ff"), "\u{fffd}");
}
