//! What peers say of themselves: there and back, and nothing that panics or can not be shown.

#![allow(clippy::unwrap_used, reason = "all of this is test code")]

use proptest::prelude::*;
use torr_base::{BLOCK_LEN, InfoHash, PeerId};
use torr_wire::{
    ExtendedHandshake, Extension, ExtensionIds, Handshake, HandshakeReader, METADATA_LEN_MAX,
    MetadataMessage, Reserved, allowed_fast_set, client_name,
};

fn ids() -> impl Strategy<Value = ExtensionIds> {
    proptest::collection::vec((0..Extension::ALL.len(), any::<u8>()), 0..5).prop_map(|set| {
        let mut ids = ExtensionIds::default();
        for (i, id) in set {
            ids.set(Extension::ALL[i], id);
        }
        ids
    })
}

prop_compose! {
    fn hello()(
        extensions in ids(),
        port in proptest::option::of(1..=u16::MAX),
        client in proptest::option::of("[a-zA-Z0-9\u{b5}/.]( ?[a-zA-Z0-9\u{b5}/.]){0,31}[a-z0-9]?"),
        v4 in proptest::option::of(any::<[u8; 4]>()),
        // In 2000::/3, so that it is no IPv4 address in disguise.
        v6 in proptest::option::of(any::<[u16; 7]>().prop_map(|w| [0x2001, w[0], w[1], w[2], w[3], w[4], w[5], w[6]])),
        your_v6 in any::<bool>(),
        reqq in proptest::option::of(1..=u32::MAX),
        upload_only in any::<Option<bool>>(),
        metadata_size in proptest::option::of(1..=u32::MAX),
    ) -> ExtendedHandshake {
        ExtendedHandshake {
            extensions, port, client, reqq, upload_only, metadata_size,
            your_ip: if your_v6 { v6.map(Into::into) } else { v4.map(Into::into) },
            ipv4: v4.map(Into::into),
            ipv6: v6.map(Into::into),
        }
    }
}

proptest! {
    #[test]
    fn extension_handshakes_there_and_back(hello in hello()) {
        let bytes = hello.encode();
        prop_assert_eq!(ExtendedHandshake::parse(&bytes), Ok(hello));
    }

    #[test]
    fn damaged_extension_handshakes_never_panic(
        hello in hello(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = hello.encode();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(hello) = ExtendedHandshake::parse(&bytes) {
            let client = hello.client.unwrap_or_default();
            prop_assert!(client.chars().count() <= 64);
            prop_assert!(!client.chars().any(char::is_control));
            // Whoever takes it must be able to say it again.
            let again = ExtendedHandshake { client: None, ..hello };
            prop_assert_eq!(ExtendedHandshake::parse(&again.encode()), Ok(again));
        }
    }

    #[test]
    fn handshakes_there_and_back_in_any_parts(
        reserved in any::<[u8; 8]>(), hash in any::<[u8; 20]>(), id in any::<[u8; 20]>(),
        sizes in proptest::collection::vec(1..70_usize, 1..6),
    ) {
        let handshake = Handshake {
            reserved: Reserved(reserved),
            info_hash: InfoHash(hash),
            peer_id: PeerId(id),
        };
        let bytes = handshake.encode();
        let mut reader = HandshakeReader::new();
        let mut rest = bytes.as_slice();
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let n = (*size).min(rest.len());
            reader.read_buf()[..n].copy_from_slice(&rest[..n]);
            prop_assert_eq!(reader.advance(n), Ok(()));
            rest = &rest[n..];
        }
        prop_assert!(reader.read_buf().is_empty());
        prop_assert_eq!(reader.handshake(), Some(handshake));
    }

    #[test]
    fn clients_names_can_be_shown(
        start in proptest::sample::select(vec![
            b"".as_slice(), b"-TR", b"-UT", b"-BC", b"A2-", b"TIX", b"XBT", b"M", b"Q", b"S", b"-",
        ]),
        rest in any::<[u8; 20]>(),
    ) {
        let mut id = rest;
        id[..start.len()].copy_from_slice(start);
        let name = client_name(&PeerId(id));
        prop_assert!(!name.is_empty() && name.chars().count() <= 40, "{}", name);
        prop_assert!(!name.chars().any(char::is_control), "{:?}", name);
    }

    #[test]
    fn allowed_fast_sets_grow_by_one(
        ip in any::<std::net::IpAddr>(), hash in any::<[u8; 20]>(), count in 0..200_u32, k in 0..20_usize,
    ) {
        let set = allowed_fast_set(ip, &InfoHash(hash), count, k);
        prop_assert_eq!(set.len(), k.min(count as usize));
        prop_assert!(set.iter().all(|piece| piece.get() < count));
        let distinct: std::collections::BTreeSet<_> = set.iter().collect();
        prop_assert_eq!(distinct.len(), set.len());
        if k + 1 < count as usize {
            let next = allowed_fast_set(ip, &InfoHash(hash), count, k + 1);
            prop_assert_eq!(&next[..k], set);
        }
    }

    #[test]
    fn metadata_messages_there_and_back(
        kind in 0..3_u8, block in 0..METADATA_LEN_MAX / BLOCK_LEN, total in proptest::option::of(any::<u32>()),
        bytes in proptest::collection::vec(any::<u8>(), 0..100),
    ) {
        let message = match kind {
            0 => MetadataMessage::Request { block },
            1 => MetadataMessage::Data { block, total, bytes: &bytes },
            _ => MetadataMessage::Reject { block },
        };
        let again = message.encode();
        prop_assert_eq!(MetadataMessage::parse(&again), Ok(message));
    }

    #[test]
    fn damaged_metadata_messages_never_panic(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..60),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        total in any::<u32>(),
    ) {
        let data = MetadataMessage::Data { block: 3, total: Some(total), bytes: &bytes };
        let mut message = data.encode();
        for (at, byte) in damage {
            let at = at.index(message.len());
            message[at] = byte;
        }
        for bytes in [&mut bytes, &mut message] {
            if let Ok(message) = MetadataMessage::parse(bytes) {
                let again = message.encode();
                prop_assert_eq!(MetadataMessage::parse(&again), Ok(message));
            }
        }
    }
}
