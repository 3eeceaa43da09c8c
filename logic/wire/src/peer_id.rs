//! What a peer id tells about the client (BEP 20), and our own.

use torr_base::{PeerId, Rng};

/// Our sign. Neither BEP 20 nor the lists that clients carry know the two letters; `TO` would be
/// nearer to the name, but several others use it.
const OWN_CODE: &str = "RR";

/// Letters and digits only, since the id stands escaped in every announce.
const RANDOM: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// This version, one character for each number: 10 and more as letters.
const OWN_VERSION: [&str; 3] = [
    env!("CARGO_PKG_VERSION_MAJOR"),
    env!("CARGO_PKG_VERSION_MINOR"),
    env!("CARGO_PKG_VERSION_PATCH"),
];

/// A fresh id: `-RR`, the version, `0-`, and 12 random letters and digits.
#[must_use]
pub fn own_peer_id(rng: &mut Rng) -> PeerId {
    let version = OWN_VERSION.iter().map(|number| {
        let digit = number.parse().ok().and_then(|n| char::from_digit(n, 36));
        digit.map_or(b'0', |digit| digit.to_ascii_uppercase() as u8)
    });
    let code = OWN_CODE.bytes();
    let sign = [b'-'].into_iter().chain(code).chain(version).chain(*b"0-");
    let random = std::iter::repeat_with(|| {
        let byte = RANDOM.get(rng.index(RANDOM.len()));
        byte.copied().unwrap_or(b'0')
    });
    let mut id = [0; 20];
    for (to, from) in id.iter_mut().zip(sign.chain(random)) {
        *to = from;
    }
    PeerId(id)
}

/// The client's name and version, for people: "Transmission 4.0.6", or where the id tells nothing the
/// printable form of its first eight bytes. Nothing in it is a control character.
#[must_use]
pub fn client_name(id: &PeerId) -> String {
    let id = &id.0;
    azureus(id)
        .or_else(|| prefixed(id))
        .or_else(|| mainline(id))
        .or_else(|| shadow(id))
        .unwrap_or_else(|| {
            let start = id.first_chunk::<8>().map_or(id.as_slice(), |start| start);
            start.escape_ascii().to_string()
        })
}

/// How a client packs its version into four characters.
#[derive(Clone, Copy)]
enum Style {
    /// One number a character, 10 and more as letters; the fourth is left out where it is 0.
    Numbers,
    /// Three numbers, and a letter for the kind of release.
    ThreeAndLetter,
    /// Two numbers of two digits, the second with its leading zero: `0202` is 2.02.
    Pairs,
    /// Two numbers of two digits: `0203` is 2.3.
    PlainPairs,
    /// Transmission's: up to version 3 one digit and two (`2940` is 2.94), then three numbers.
    Transmission,
}

use Style::{Numbers, Pairs, PlainPairs, ThreeAndLetter, Transmission};

/// Clients that write `-XX1234-`: those of BEP 20 that are still met, and those that came after it.
const AZUREUS: &[(&str, &str, Style)] = &[
    (OWN_CODE, "torr", Numbers),
    ("7T", "aTorrent", Numbers),
    ("AG", "Ares", Numbers),
    ("AZ", "Vuze", Numbers),
    ("BC", "BitComet", Pairs),
    ("BI", "BiglyBT", Numbers),
    ("BT", "BitTorrent", ThreeAndLetter),
    ("DE", "Deluge", Numbers),
    ("FD", "Free Download Manager", Numbers),
    ("FL", "Folx", Numbers),
    ("FW", "FrostWire", Numbers),
    ("FX", "Freebox", Numbers),
    ("HL", "Halite", Numbers),
    ("KG", "KGet", Numbers),
    ("KT", "KTorrent", Numbers),
    ("LT", "libtorrent", Numbers),
    ("MG", "MediaGet", Numbers),
    ("MO", "MonoTorrent", Numbers),
    ("PI", "PicoTorrent", Numbers),
    ("SD", "Xunlei", Numbers),
    ("SZ", "Shareaza", Numbers),
    ("TL", "Tribler", Numbers),
    ("TO", "ttorrent", Numbers),
    ("TR", "Transmission", Transmission),
    ("TX", "Tixati", Numbers),
    ("UE", "\u{b5}Torrent Embedded", ThreeAndLetter),
    ("UM", "\u{b5}Torrent Mac", ThreeAndLetter),
    ("UT", "\u{b5}Torrent", ThreeAndLetter),
    ("UW", "\u{b5}Torrent Web", ThreeAndLetter),
    ("WD", "WebTorrent Desktop", PlainPairs),
    ("WW", "WebTorrent", PlainPairs),
    ("XL", "Xunlei", Numbers),
    ("ZO", "Zona", Numbers),
    ("lt", "rTorrent", Numbers),
    ("qB", "qBittorrent", Numbers),
    ("rQ", "rqbit", Numbers),
    ("tT", "tTorrent", Numbers),
];

fn azureus(id: &[u8; 20]) -> Option<String> {
    let [b'-', a, b, version @ ..] = id else {
        return None;
    };
    let (version, _) = version.split_first_chunk::<4>()?;
    let known = AZUREUS
        .iter()
        .find(|(code, ..)| code.as_bytes() == [*a, *b]);
    let (_, name, style) = known?;
    match style.version(*version) {
        Some(version) => Some(format!("{name} {version}")),
        None => Some((*name).to_owned()),
    }
}

impl Style {
    fn version(self, chars: [u8; 4]) -> Option<String> {
        let [a, b, c, d] = chars.map(|c| char::from(c).to_digit(36));
        let (a, b, c) = (a?, b?, c?);
        let decimal = a < 10 && b < 10 && c < 10;
        Some(match self {
            Self::Numbers => match d? {
                0 => format!("{a}.{b}.{c}"),
                d => format!("{a}.{b}.{c}.{d}"),
            },
            Self::ThreeAndLetter => format!("{a}.{b}.{c}"),
            Self::Pairs | Self::PlainPairs if !decimal => return None,
            Self::Pairs => format!("{}.{c}{}", a * 10 + b, d.filter(|d| *d < 10)?),
            Self::PlainPairs => format!("{}.{}", a * 10 + b, c * 10 + d.filter(|d| *d < 10)?),
            Self::Transmission if a >= 4 => format!("{a}.{b}.{c}"),
            Self::Transmission => format!("{a}.{b}{c}"),
        })
    }
}

/// Clients with a sign of their own: aria2 (`A2-1-36-0-`), Tixati (`TIX0294-`), XBT (`XBT054d-`).
fn prefixed(id: &[u8; 20]) -> Option<String> {
    if let Some(rest) = id.strip_prefix(b"A2-") {
        return dashed("aria2", rest);
    }
    if let Some(rest) = id.strip_prefix(b"TIX") {
        let version = Pairs.version(*rest.first_chunk()?)?;
        return Some(format!("Tixati {version}"));
    }
    let [a, b, c] = id.strip_prefix(b"XBT")?.first_chunk::<3>()?.map(char::from);
    let digits = [a, b, c].iter().all(char::is_ascii_digit);
    digits.then(|| format!("XBT {a}.{b}.{c}"))
}

/// `M7-10-5-`, BEP 20's first style, and `Q` for the same with another name.
fn mainline(id: &[u8; 20]) -> Option<String> {
    match id.split_first()? {
        (b'M', rest) => dashed("BitTorrent", rest),
        (b'Q', rest) => dashed("Queen Bee", rest),
        _ => None,
    }
}

/// Three numbers of one or two digits, each with a dash after it.
fn dashed(name: &str, version: &[u8]) -> Option<String> {
    let mut parts = version.split(|byte| *byte == b'-');
    let mut number = || {
        let part = std::str::from_utf8(parts.next()?).ok()?;
        let ok = matches!(part.len(), 1 | 2) && part.bytes().all(|byte| byte.is_ascii_digit());
        ok.then_some(part)
    };
    let (a, b, c) = (number()?, number()?, number()?);
    Some(format!("{name} {a}.{b}.{c}"))
}

/// One letter, up to five numbers of one character padded with dashes, and three dashes: `S58B-----`.
fn shadow(id: &[u8; 20]) -> Option<String> {
    let (letter, rest) = id.split_first()?;
    let name = match letter {
        b'A' => "ABC",
        b'O' => "Osprey",
        b'Q' => "BTQueue",
        b'R' => "Tribler",
        b'S' => "Shadow",
        b'T' => "BitTornado",
        b'U' => "UPnP NAT",
        _ => return None,
    };
    let (version, rest) = rest.split_first_chunk::<5>()?;
    rest.strip_prefix(b"---")?;
    let used = version.iter().take_while(|byte| **byte != b'-').count();
    let (numbers, padding) = version.split_at(used);
    if numbers.is_empty() || padding.iter().any(|byte| *byte != b'-') {
        return None;
    }
    let values = numbers.iter().map(|digit| {
        let value = RANDOM.iter().position(|known| known == digit)?;
        Some(value.to_string())
    });
    let values: Option<Vec<String>> = values.collect();
    Some(format!("{name} {}", values?.join(".")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(start: &[u8]) -> String {
        let mut id = *b"....................";
        id[..start.len()].copy_from_slice(start);
        client_name(&PeerId(id))
    }

    #[test]
    fn clients_by_their_sign() {
        for (start, expected) in [
            (b"-TR4060-".as_slice(), "Transmission 4.0.6"),
            (b"-TR2940-", "Transmission 2.94"),
            (b"-TR300Z-", "Transmission 3.00"),
            (b"-LT2080-", "libtorrent 2.0.8"),
            (b"-LT20A0-", "libtorrent 2.0.10"),
            (b"-lt0D80-", "rTorrent 0.13.8"),
            (b"-qB4650-", "qBittorrent 4.6.5"),
            (b"-DE13F1-", "Deluge 1.3.15.1"),
            (b"-UT355W-", "\u{b5}Torrent 3.5.5"),
            (b"-BC0202-", "BitComet 2.02"),
            (b"-WW0102-", "WebTorrent 1.2"),
            (b"-AZ2060-", "Vuze 2.0.6"),
            (b"A2-1-36-0-", "aria2 1.36.0"),
            (b"A2-1-4-2--", "aria2 1.4.2"),
            (b"TIX0294-", "Tixati 2.94"),
            (b"XBT054d-", "XBT 0.5.4"),
            (b"M4-3-6--", "BitTorrent 4.3.6"),
            (b"M4-20-8-", "BitTorrent 4.20.8"),
            (b"Q1-10-0-", "Queen Bee 1.10.0"),
            (b"S58B-----", "Shadow 5.8.11"),
            (b"T03I-----", "BitTornado 0.3.18"),
        ] {
            assert_eq!(name(start), expected, "{}", start.escape_ascii());
        }
    }

    #[test]
    fn others_by_their_first_bytes() {
        assert_eq!(name(b"-ZZ1234-"), "-ZZ1234-");
        assert_eq!(name(b"-TR\x1b[3m-"), "Transmission");
        assert_eq!(name(b"-BC0A02-"), "BitComet");
        assert_eq!(name(b"\x00\x03BS\x1b\xff.."), r"\x00\x03BS\x1b\xff..");
        assert_eq!(name(b"M4-x-6--"), "M4-x-6--");
        assert_eq!(name(b"S5-8-----"), "S5-8----");
        assert_eq!(name(b"T--------"), "T-------");
    }

    #[test]
    fn no_sign_stands_for_two() {
        for (i, (code, ..)) in AZUREUS.iter().enumerate() {
            assert_eq!(code.len(), 2);
            assert!(
                AZUREUS[..i].iter().all(|(other, ..)| other != code),
                "{code}"
            );
        }
    }

    #[test]
    fn our_own() {
        let mut rng = Rng::new(1);
        let (a, b) = (own_peer_id(&mut rng), own_peer_id(&mut rng));
        assert_ne!(a, b);
        assert_eq!(client_name(&a), concat!("torr ", env!("CARGO_PKG_VERSION")));
        assert!(a.0.starts_with(b"-RR") && a.0[7] == b'-');
        assert!(a.0[8..].iter().all(u8::is_ascii_alphanumeric));
    }
}
