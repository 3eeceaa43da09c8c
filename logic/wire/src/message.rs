//! The messages themselves: BEP 3, BEP 5 (`port`), BEP 6 (ids 13 to 17) and BEP 10 (`extended`).

use torr_base::RawBlock;

/// The byte after the length prefix.
pub(crate) mod id {
    pub(crate) const CHOKE: u8 = 0;
    pub(crate) const UNCHOKE: u8 = 1;
    pub(crate) const INTERESTED: u8 = 2;
    pub(crate) const NOT_INTERESTED: u8 = 3;
    pub(crate) const HAVE: u8 = 4;
    pub(crate) const BITFIELD: u8 = 5;
    pub(crate) const REQUEST: u8 = 6;
    pub(crate) const PIECE: u8 = 7;
    pub(crate) const CANCEL: u8 = 8;
    pub(crate) const PORT: u8 = 9;
    pub(crate) const SUGGEST: u8 = 13;
    pub(crate) const HAVE_ALL: u8 = 14;
    pub(crate) const HAVE_NONE: u8 = 15;
    pub(crate) const REJECT: u8 = 16;
    pub(crate) const ALLOWED_FAST: u8 = 17;
    pub(crate) const EXTENDED: u8 = 20;
}

/// Every message but `piece`, whose payload takes another road: see [`WireSink`](crate::WireSink) for
/// the way in and [`piece_header`] for the way out.
///
/// Numbers are as they came: no piece is known to exist, no block to be in range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A length prefix of zero and nothing else.
    KeepAlive,
    Choke,
    Unchoke,
    Interested,
    NotInterested,
    Have(u32),
    /// One bit for each piece; [`Bitfield::from_bytes`](torr_base::Bitfield::from_bytes) checks it.
    Bitfield(&'a [u8]),
    Request(RawBlock),
    Cancel(RawBlock),
    /// UDP port of the peer's DHT node (BEP 5).
    Port(u16),
    /// BEP 6.
    Suggest(u32),
    /// BEP 6.
    HaveAll,
    /// BEP 6.
    HaveNone,
    /// BEP 6.
    Reject(RawBlock),
    /// BEP 6.
    AllowedFast(u32),
    /// BEP 10. `id` is 0 for the handshake, else what the receiver announced for that extension.
    Extended {
        id: u8,
        payload: &'a [u8],
    },
    /// Of a kind that is not known here; its body is skipped. Written, it has no body.
    Unknown {
        id: u8,
    },
}

impl<'a> Message<'a> {
    /// Appends the message with its length prefix.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        match *self {
            Self::KeepAlive => out.extend_from_slice(&[0; 4]),
            Self::Choke => put(out, id::CHOKE, &[]),
            Self::Unchoke => put(out, id::UNCHOKE, &[]),
            Self::Interested => put(out, id::INTERESTED, &[]),
            Self::NotInterested => put(out, id::NOT_INTERESTED, &[]),
            Self::Have(piece) => put(out, id::HAVE, &[&piece.to_be_bytes()]),
            Self::Bitfield(bits) => put(out, id::BITFIELD, &[bits]),
            Self::Request(raw) => put_block(out, id::REQUEST, raw),
            Self::Cancel(raw) => put_block(out, id::CANCEL, raw),
            Self::Port(port) => put(out, id::PORT, &[&port.to_be_bytes()]),
            Self::Suggest(piece) => put(out, id::SUGGEST, &[&piece.to_be_bytes()]),
            Self::HaveAll => put(out, id::HAVE_ALL, &[]),
            Self::HaveNone => put(out, id::HAVE_NONE, &[]),
            Self::Reject(raw) => put_block(out, id::REJECT, raw),
            Self::AllowedFast(piece) => put(out, id::ALLOWED_FAST, &[&piece.to_be_bytes()]),
            Self::Extended { id, payload } => put(out, id::EXTENDED, &[&[id], payload]),
            Self::Unknown { id } => put(out, id, &[]),
        }
    }

    /// From the id and the bytes after it; `None` where their number is wrong for a kind of fixed
    /// length, and for `piece`, which is never held in one place.
    pub(crate) fn parse(id: u8, body: &'a [u8]) -> Option<Self> {
        let empty = |message| body.is_empty().then_some(message);
        match id {
            id::CHOKE => empty(Self::Choke),
            id::UNCHOKE => empty(Self::Unchoke),
            id::INTERESTED => empty(Self::Interested),
            id::NOT_INTERESTED => empty(Self::NotInterested),
            id::HAVE => Some(Self::Have(piece(body)?)),
            id::BITFIELD => Some(Self::Bitfield(body)),
            id::REQUEST => Some(Self::Request(block(body)?)),
            id::PIECE => None,
            id::CANCEL => Some(Self::Cancel(block(body)?)),
            id::PORT => Some(Self::Port(u16::from_be_bytes(body.try_into().ok()?))),
            id::SUGGEST => Some(Self::Suggest(piece(body)?)),
            id::HAVE_ALL => empty(Self::HaveAll),
            id::HAVE_NONE => empty(Self::HaveNone),
            id::REJECT => Some(Self::Reject(block(body)?)),
            id::ALLOWED_FAST => Some(Self::AllowedFast(piece(body)?)),
            id::EXTENDED => {
                let (id, payload) = body.split_first()?;
                Some(Self::Extended { id: *id, payload })
            }
            _ => Some(Self::Unknown { id }),
        }
    }

    /// Whether [`Self::parse`] can make more of that kind than its name.
    pub(crate) const fn is_known(id: u8) -> bool {
        matches!(
            id,
            id::CHOKE..=id::PORT | id::SUGGEST..=id::ALLOWED_FAST | id::EXTENDED
        )
    }
}

/// What goes before the `raw.len` bytes of a block in a `piece` message.
#[must_use]
pub fn piece_header(raw: RawBlock) -> [u8; 13] {
    let len = raw.len.saturating_add(9).to_be_bytes();
    let piece = raw.piece.to_be_bytes();
    let offset = raw.offset.to_be_bytes();
    let mut out = [0; 13];
    let bytes = len
        .into_iter()
        .chain([id::PIECE])
        .chain(piece)
        .chain(offset);
    for (to, from) in out.iter_mut().zip(bytes) {
        *to = from;
    }
    out
}

/// The numbers of the `piece` message whose length prefix, id and header these are.
pub(crate) fn piece_raw(header: &[u8; 13]) -> Option<RawBlock> {
    let (len, rest) = header.split_first_chunk::<4>()?;
    let (_id, rest) = rest.split_first()?;
    let (piece, rest) = rest.split_first_chunk::<4>()?;
    Some(RawBlock {
        piece: u32::from_be_bytes(*piece),
        offset: u32::from_be_bytes(rest.try_into().ok()?),
        len: u32::from_be_bytes(*len).checked_sub(9)?,
    })
}

fn piece(body: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(body.try_into().ok()?))
}

fn block(body: &[u8]) -> Option<RawBlock> {
    let (piece, rest) = body.split_first_chunk::<4>()?;
    let (offset, len) = rest.split_first_chunk::<4>()?;
    Some(RawBlock {
        piece: u32::from_be_bytes(*piece),
        offset: u32::from_be_bytes(*offset),
        len: u32::from_be_bytes(len.try_into().ok()?),
    })
}

fn put_block(out: &mut Vec<u8>, id: u8, raw: RawBlock) {
    let [piece, offset, len] = [raw.piece, raw.offset, raw.len].map(u32::to_be_bytes);
    put(out, id, &[&piece, &offset, &len]);
}

fn put(out: &mut Vec<u8>, id: u8, parts: &[&[u8]]) {
    let body: usize = parts.iter().map(|part| part.len()).sum();
    let len = u32::try_from(1 + body).expect("no message of ours is near 4 GiB");
    out.extend_from_slice(&len.to_be_bytes());
    out.push(id);
    for part in parts {
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RAW: RawBlock = RawBlock {
        piece: 1,
        offset: 0x4000,
        len: 0x4000,
    };

    /// Each message with its bytes as BEP 3, 5, 6 and 10 lay them out.
    const EXAMPLES: &[(Message<'_>, &[u8])] = &[
        (Message::KeepAlive, &[0, 0, 0, 0]),
        (Message::Choke, &[0, 0, 0, 1, 0]),
        (Message::Unchoke, &[0, 0, 0, 1, 1]),
        (Message::Interested, &[0, 0, 0, 1, 2]),
        (Message::NotInterested, &[0, 0, 0, 1, 3]),
        (Message::Have(0x0102), &[0, 0, 0, 5, 4, 0, 0, 1, 2]),
        (
            Message::Bitfield(&[0xff, 0x80]),
            &[0, 0, 0, 3, 5, 0xff, 0x80],
        ),
        (
            Message::Request(RAW),
            &[0, 0, 0, 13, 6, 0, 0, 0, 1, 0, 0, 0x40, 0, 0, 0, 0x40, 0],
        ),
        (
            Message::Cancel(RAW),
            &[0, 0, 0, 13, 8, 0, 0, 0, 1, 0, 0, 0x40, 0, 0, 0, 0x40, 0],
        ),
        (Message::Port(6881), &[0, 0, 0, 3, 9, 0x1a, 0xe1]),
        (Message::Suggest(7), &[0, 0, 0, 5, 13, 0, 0, 0, 7]),
        (Message::HaveAll, &[0, 0, 0, 1, 14]),
        (Message::HaveNone, &[0, 0, 0, 1, 15]),
        (
            Message::Reject(RAW),
            &[0, 0, 0, 13, 16, 0, 0, 0, 1, 0, 0, 0x40, 0, 0, 0, 0x40, 0],
        ),
        (Message::AllowedFast(9), &[0, 0, 0, 5, 17, 0, 0, 0, 9]),
        (
            Message::Extended {
                id: 3,
                payload: b"de",
            },
            &[0, 0, 0, 4, 20, 3, b'd', b'e'],
        ),
        (Message::Unknown { id: 200 }, &[0, 0, 0, 1, 200]),
    ];

    #[test]
    fn bytes_are_those_of_the_beps_both_ways() {
        for (message, bytes) in EXAMPLES {
            let mut out = Vec::new();
            message.write_to(&mut out);
            assert_eq!(out, *bytes, "{message:?}");
            if let [_, _, _, _, id, body @ ..] = *bytes {
                assert_eq!(Message::parse(*id, body).as_ref(), Some(message));
            }
        }
    }

    #[test]
    fn a_wrong_length_is_no_message() {
        for (message, bytes) in EXAMPLES {
            let [_, _, _, _, id, body @ ..] = *bytes else {
                continue;
            };
            let longer = [body, &[0]].concat();
            let any_len = matches!(
                message,
                Message::Bitfield(_) | Message::Extended { .. } | Message::Unknown { .. }
            );
            assert_eq!(Message::parse(*id, &longer).is_none(), !any_len);
        }
        assert_eq!(Message::parse(id::EXTENDED, &[]), None);
    }

    #[test]
    fn piece_header_both_ways() {
        let header = piece_header(RAW);
        assert_eq!(header, [0, 0, 0x40, 9, 7, 0, 0, 0, 1, 0, 0, 0x40, 0]);
        assert_eq!(piece_raw(&header), Some(RAW));
    }

    #[test]
    fn what_is_known_is_what_parses_to_more_than_a_name() {
        for kind in 0..=u8::MAX {
            let unknown = Message::parse(kind, &[]) == Some(Message::Unknown { id: kind });
            assert_eq!(Message::is_known(kind), !unknown, "{kind}");
        }
    }
}
