//! The extension handshake, message 0 of BEP 10: what a side calls its extensions, and what it says of
//! itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use torr_base::clean;
use torr_bencode::Dict;

/// Characters of a client's name that are kept.
const CLIENT_CHARS_MAX: usize = 64;

/// The extensions that have a meaning here, as they are called in the dictionary `m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Extension {
    /// `ut_metadata`, BEP 9.
    Metadata,
    /// `ut_pex`, BEP 11.
    Pex,
    /// `lt_donthave`, BEP 54.
    DontHave,
    /// `upload_only`, BEP 21.
    UploadOnly,
    /// `ut_holepunch`, BEP 55.
    Holepunch,
}

impl Extension {
    pub const ALL: [Self; 5] = [
        Self::Metadata,
        Self::Pex,
        Self::DontHave,
        Self::UploadOnly,
        Self::Holepunch,
    ];

    /// Its key in `m`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Metadata => "ut_metadata",
            Self::Pex => "ut_pex",
            Self::DontHave => "lt_donthave",
            Self::UploadOnly => "upload_only",
            Self::Holepunch => "ut_holepunch",
        }
    }

    /// The id under which we want it sent to us; the same on every connection.
    #[must_use]
    pub const fn own_id(self) -> u8 {
        self as u8 + 1
    }

    /// The extension that a peer means by the id of its message; `None` for the handshake, 0, and for
    /// what we never announced.
    #[must_use]
    pub fn from_own_id(id: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.own_id() == id)
    }
}

/// The dictionary `m`: the ids under which one side wants its extensions sent.
///
/// It is additive (BEP 10): a later handshake may switch single ones on, or off with an id of 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExtensionIds([Option<u8>; Extension::ALL.len()]);

impl ExtensionIds {
    /// With these, under our own ids.
    #[must_use]
    pub fn own(extensions: &[Extension]) -> Self {
        let mut ids = Self::default();
        for extension in extensions {
            ids.set(*extension, extension.own_id());
        }
        ids
    }

    /// The id to send it under; `None` if it is not wanted.
    #[must_use]
    pub fn get(&self, extension: Extension) -> Option<u8> {
        let id = self.0.get(extension as usize).copied().flatten();
        id.filter(|id| *id != 0)
    }

    /// An id of 0 says that it is not wanted any more.
    pub fn set(&mut self, extension: Extension, id: u8) {
        if let Some(slot) = self.0.get_mut(extension as usize) {
            *slot = Some(id);
        }
    }

    /// What a later handshake changed.
    pub fn apply(&mut self, later: &Self) {
        for (slot, later) in self.0.iter_mut().zip(later.0) {
            *slot = later.or(*slot);
        }
    }

    fn parse(m: Dict<'_>) -> Self {
        let mut ids = Self::default();
        for extension in Extension::ALL {
            let id = m.int(extension.name()).map(u8::try_from);
            if let Some(Ok(id)) = id {
                ids.set(extension, id);
            }
        }
        ids
    }
}

/// What one side says of itself. All of it is optional, and in a later handshake what is absent has not
/// changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtendedHandshake {
    /// `m`.
    pub extensions: ExtensionIds,
    /// `p`: the TCP port it listens on.
    pub port: Option<u16>,
    /// `v`: the client's name and version, fit to be shown: at most 64 characters, none of them
    /// invisible.
    pub client: Option<String>,
    /// `yourip`: the address that it sees the other side at.
    pub your_ip: Option<IpAddr>,
    /// An address that it can be reached at as well.
    pub ipv4: Option<Ipv4Addr>,
    /// An address that it can be reached at as well.
    pub ipv6: Option<Ipv6Addr>,
    /// How many requests it will queue.
    pub reqq: Option<u32>,
    /// Whether it wants no more pieces (BEP 21).
    pub upload_only: Option<bool>,
    /// Bytes in the info dictionary (BEP 9).
    pub metadata_size: Option<u32>,
}

/// The payload is no bencoded dictionary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExtendedHandshakeError {
    #[error("extension handshake: {0}")]
    Bencode(torr_bencode::Error),
    #[error("extension handshake: not a dictionary")]
    NotDict,
}

impl ExtendedHandshake {
    /// From the payload of an `extended` message with id 0. Entries of the wrong kind, or out of range,
    /// count as absent; bytes after the dictionary are ignored.
    ///
    /// # Errors
    /// If it is not a bencoded dictionary.
    pub fn parse(payload: &[u8]) -> Result<Self, ExtendedHandshakeError> {
        let (value, _) =
            torr_bencode::parse_prefix(payload).map_err(ExtendedHandshakeError::Bencode)?;
        let dict = value.as_dict().ok_or(ExtendedHandshakeError::NotDict)?;
        let positive = |key| dict.uint(key).filter(|n| *n > 0);
        Ok(Self {
            extensions: dict.dict("m").map(ExtensionIds::parse).unwrap_or_default(),
            port: positive("p").and_then(|port| u16::try_from(port).ok()),
            client: dict
                .bytes("v")
                .map(|name| clean(name, CLIENT_CHARS_MAX))
                .filter(|name| !name.is_empty()),
            your_ip: dict.bytes("yourip").and_then(ip),
            ipv4: dict
                .bytes("ipv4")
                .and_then(octets)
                .map(Ipv4Addr::from_octets),
            ipv6: dict
                .bytes("ipv6")
                .and_then(octets)
                .map(Ipv6Addr::from_octets),
            reqq: positive("reqq").map(|n| u32::try_from(n).unwrap_or(u32::MAX)),
            upload_only: dict.int("upload_only").map(|flag| flag != 0),
            metadata_size: positive("metadata_size").and_then(|size| u32::try_from(size).ok()),
        })
    }

    /// The payload of an `extended` message with id 0.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        torr_bencode::encode_dict(|d| {
            if let Some(ip) = self.ipv4 {
                d.bytes("ipv4", ip.octets());
            }
            if let Some(ip) = self.ipv6 {
                d.bytes("ipv6", ip.octets());
            }
            d.dict("m", |m| {
                for (extension, id) in Extension::ALL.into_iter().zip(self.extensions.0) {
                    if let Some(id) = id {
                        m.uint(extension.name(), id.into());
                    }
                }
            });
            if let Some(size) = self.metadata_size {
                d.uint("metadata_size", size.into());
            }
            if let Some(port) = self.port {
                d.uint("p", port.into());
            }
            if let Some(n) = self.reqq {
                d.uint("reqq", n.into());
            }
            if let Some(flag) = self.upload_only {
                d.uint("upload_only", flag.into());
            }
            if let Some(name) = &self.client {
                d.bytes("v", name);
            }
            match self.your_ip {
                None => {}
                Some(IpAddr::V4(ip)) => {
                    d.bytes("yourip", ip.octets());
                }
                Some(IpAddr::V6(ip)) => {
                    d.bytes("yourip", ip.octets());
                }
            }
        })
    }
}

/// Four or sixteen bytes, without a port.
fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = || octets(bytes).map(|octets: [u8; 4]| IpAddr::from(octets));
    let v6 = || octets(bytes).map(|octets: [u8; 16]| IpAddr::from(octets).to_canonical());
    v4().or_else(v6)
}

fn octets<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn example_of_bep_10() {
        // The micro sign is one byte there and two here, or its length prefixes would not fit.
        let bytes = b"d1:md11:LT_metadatai1e6:\xb5T_PEXi2ee1:pi6881e1:v13:\xc2\xb5Torrent 1.2e";
        let hello = ExtendedHandshake::parse(bytes).unwrap();
        let expected = ExtendedHandshake {
            port: Some(6881),
            client: Some("\u{b5}Torrent 1.2".to_owned()),
            ..ExtendedHandshake::default()
        };
        assert_eq!(hello, expected);
    }

    #[test]
    fn everything_both_ways() {
        let hello = ExtendedHandshake {
            extensions: ExtensionIds::own(&[Extension::Metadata, Extension::DontHave]),
            port: Some(51413),
            client: Some("torr 0.1.0".to_owned()),
            your_ip: Some([198, 18, 0, 1].into()),
            ipv4: Some([198, 18, 0, 2].into()),
            ipv6: Some("2001:2::1".parse().unwrap()),
            reqq: Some(2000),
            upload_only: Some(true),
            metadata_size: Some(31235),
        };
        let bytes = hello.encode();
        let start = b"d4:ipv44:\xc6\x12\x00\x024:ipv616:\x20\x01\x00\x02";
        assert_eq!(bytes[..start.len()], *start);
        let end = b"1:md11:lt_donthavei3e11:ut_metadatai1ee13:metadata_sizei31235e1:pi51413e\
            4:reqqi2000e11:upload_onlyi1e1:v10:torr 0.1.06:yourip4:\xc6\x12\x00\x01e";
        assert!(bytes.ends_with(end), "{}", bytes.escape_ascii());
        assert_eq!(ExtendedHandshake::parse(&bytes), Ok(hello));
        let empty = ExtendedHandshake::default();
        assert_eq!(empty.encode(), b"d1:mdee");
        assert_eq!(ExtendedHandshake::parse(b"de"), Ok(empty));
    }

    #[test]
    fn what_is_out_of_range_counts_as_absent() {
        for bytes in [
            b"d1:pi0ee".as_slice(),
            b"d1:pi65536ee",
            b"d1:pi-1ee",
            b"d1:p4:6881e",
            b"d1:vi7ee",
            b"d1:v3:\x1b\x00\x07e",
            b"d6:yourip5:abcdee",
            b"d4:ipv416:0123456789abcdefe",
            b"d4:reqqi-5ee",
            b"d13:metadata_sizei4294967296ee",
            b"d1:mle1:xi1ee",
            b"d1:md6:ut_pexi256e11:ut_metadatai-1eee",
        ] {
            let hello = ExtendedHandshake::parse(bytes);
            assert_eq!(
                hello,
                Ok(ExtendedHandshake::default()),
                "{}",
                bytes.escape_ascii()
            );
        }
        let hello = ExtendedHandshake::parse(b"d4:reqqi99999999999e11:upload_onlyi0ee").unwrap();
        assert_eq!(
            (hello.reqq, hello.upload_only),
            (Some(u32::MAX), Some(false))
        );
    }

    #[test]
    fn an_ipv4_address_is_one_in_either_length() {
        for bytes in [
            b"d6:yourip4:\xc6\x12\x00\x01e".as_slice(),
            b"d6:yourip16:\0\0\0\0\0\0\0\0\0\0\xff\xff\xc6\x12\x00\x01e",
        ] {
            let hello = ExtendedHandshake::parse(bytes).unwrap();
            assert_eq!(hello.your_ip, Some([198, 18, 0, 1].into()));
        }
    }

    #[test]
    fn rubbish_is_refused_and_trailing_bytes_are_not() {
        for bytes in [b"".as_slice(), b"le", b"i1e", b"d1:pi1e", b"d1:p"] {
            assert!(ExtendedHandshake::parse(bytes).is_err());
        }
        assert_eq!(
            ExtendedHandshake::parse(b"d1:pi1eerest").unwrap().port,
            Some(1)
        );
        let deep = [b"d1:m".as_slice(), &[b'l'; 30_000]].concat();
        assert!(ExtendedHandshake::parse(&deep).is_err());
    }

    #[test]
    fn later_handshakes_change_what_they_name() {
        let mut ids = ExtendedHandshake::parse(b"d1:md11:ut_metadatai9e6:ut_pexi2eee")
            .unwrap()
            .extensions;
        let later = ExtendedHandshake::parse(b"d1:md6:ut_pexi0e11:lt_donthavei7eee").unwrap();
        ids.apply(&later.extensions);
        assert_eq!(ids.get(Extension::Metadata), Some(9));
        assert_eq!(ids.get(Extension::Pex), None);
        assert_eq!(ids.get(Extension::DontHave), Some(7));
        assert_eq!(ids.get(Extension::Holepunch), None);
    }

    #[test]
    fn own_ids_are_the_place_in_the_list_and_never_0() {
        for (i, extension) in Extension::ALL.into_iter().enumerate() {
            assert_eq!(extension as usize, i);
            assert_eq!(Extension::from_own_id(extension.own_id()), Some(extension));
        }
        assert_eq!(Extension::from_own_id(0), None);
        assert_eq!(Extension::from_own_id(200), None);
    }
}
