//! Messages in the words of the scenario language, both ways: `request 3+16384`, `have 2`, `choke`.

use torr_base::{Geometry, PieceIndex, RawBlock};
use torr_wire::{Extension, Message, MetadataMessage, PexFlags, PexMessage};

/// A message as text.
#[must_use]
pub(crate) fn say(message: &Message<'_>) -> String {
    match message {
        Message::KeepAlive => "keep-alive".to_owned(),
        Message::Choke => "choke".to_owned(),
        Message::Unchoke => "unchoke".to_owned(),
        Message::Interested => "interested".to_owned(),
        Message::NotInterested => "not-interested".to_owned(),
        Message::Have(piece) => format!("have {piece}"),
        Message::Bitfield(_) => "bitfield".to_owned(),
        Message::Request(raw) => block("request", *raw),
        Message::Cancel(raw) => block("cancel", *raw),
        Message::Port(_) => "port".to_owned(),
        Message::Suggest(piece) => format!("suggest {piece}"),
        Message::HaveAll => "have-all".to_owned(),
        Message::HaveNone => "have-none".to_owned(),
        Message::Reject(raw) => block("reject", *raw),
        Message::AllowedFast(piece) => format!("allowed-fast {piece}"),
        Message::Extended { id: 0, .. } => "extended-handshake".to_owned(),
        Message::Extended { id, payload } => match Extension::from_own_id(*id) {
            Some(Extension::Metadata) => metadata(payload),
            Some(Extension::Pex) => gossip(payload),
            Some(Extension::DontHave) => dont_have(payload),
            Some(_) | None => format!("extended {id}"),
        },
        Message::Unknown { id } => format!("unknown {id}"),
    }
}

/// `pex +2 -1`: whom it adds and drops, by the numbers of their hosts.
fn gossip(payload: &[u8]) -> String {
    let Ok(message) = PexMessage::parse(payload) else {
        return "pex-nonsense".to_owned();
    };
    let host = |addr: &std::net::SocketAddr| match addr.ip() {
        std::net::IpAddr::V4(ip) => u32::from(ip) >> 8 & 0xffff,
        std::net::IpAddr::V6(_) => u32::MAX,
    };
    let added = message
        .added
        .iter()
        .map(|(addr, _)| format!(" +{}", host(addr)));
    let dropped = message
        .dropped
        .iter()
        .map(|addr| format!(" -{}", host(addr)));
    let mut words = "pex".to_owned();
    words.extend(added.chain(dropped));
    words
}

fn dont_have(payload: &[u8]) -> String {
    match payload.try_into().map(u32::from_be_bytes) {
        Ok(piece) => format!("dont-have {piece}"),
        Err(_) => "dont-have-nonsense".to_owned(),
    }
}

fn metadata(payload: &[u8]) -> String {
    match MetadataMessage::parse(payload) {
        Ok(MetadataMessage::Request { block }) => format!("metadata-request {block}"),
        Ok(MetadataMessage::Data { block, .. }) => format!("metadata-data {block}"),
        Ok(MetadataMessage::Reject { block }) => format!("metadata-reject {block}"),
        Ok(MetadataMessage::Unknown) | Err(_) => "metadata-nonsense".to_owned(),
    }
}

/// A message about a block as text.
#[must_use]
pub(crate) fn block(word: &str, raw: RawBlock) -> String {
    format!("{word} {}+{}", raw.piece, raw.offset)
}

/// The block that `3+16384` names: of the geometry's length where it is one, else of 16 KiB.
#[must_use]
pub(crate) fn parse_block(text: &str, geometry: Geometry) -> Option<RawBlock> {
    let (piece, rest) = text.split_once('+')?;
    let (offset, len) = match rest.split_once('x') {
        Some((offset, len)) => (offset, Some(len.parse().ok()?)),
        None => (rest, None),
    };
    let (piece, offset) = (piece.parse().ok()?, offset.parse().ok()?);
    let whole = torr_base::BLOCK_LEN;
    let usual = match geometry.piece(piece) {
        Some(index) => (geometry.piece_len(index).saturating_sub(offset)).clamp(1, whole),
        None => whole,
    };
    Some(RawBlock {
        piece,
        offset,
        len: len.unwrap_or(usual),
    })
}

/// Calls `f` with the message that the text means; false where it means none.
pub(crate) fn parse(text: &str, geometry: Geometry, f: impl FnOnce(Message<'_>)) -> bool {
    let mut words = text.split_whitespace();
    let (Some(word), arg) = (words.next(), words.next()) else {
        return false;
    };
    let piece = arg.and_then(|arg| arg.parse::<u32>().ok());
    let raw = arg.and_then(|arg| parse_block(arg, geometry));
    let message = match (word, piece, raw) {
        ("keep-alive", ..) => Message::KeepAlive,
        ("choke", ..) => Message::Choke,
        ("unchoke", ..) => Message::Unchoke,
        ("interested", ..) => Message::Interested,
        ("not-interested", ..) => Message::NotInterested,
        ("have", Some(piece), _) => Message::Have(piece),
        ("have-all", ..) => Message::HaveAll,
        ("have-none", ..) => Message::HaveNone,
        ("suggest", Some(piece), _) => Message::Suggest(piece),
        ("allowed-fast", Some(piece), _) => Message::AllowedFast(piece),
        ("request", _, Some(raw)) => Message::Request(raw),
        ("cancel", _, Some(raw)) => Message::Cancel(raw),
        ("reject", _, Some(raw)) => Message::Reject(raw),
        ("dont-have", Some(piece), _) => {
            let payload = &piece.to_be_bytes();
            let id = Extension::DontHave.own_id();
            f(Message::Extended { id, payload });
            return true;
        }
        ("pex", ..) => {
            let named = arg.into_iter().chain(words);
            let added = named.filter_map(|addr| Some((addr.parse().ok()?, PexFlags::default())));
            let message = PexMessage {
                added: added.collect(),
                ..PexMessage::default()
            };
            let payload = &message.encode();
            let id = Extension::Pex.own_id();
            f(Message::Extended { id, payload });
            return true;
        }
        ("metadata-request", Some(block), _) => {
            let payload = &MetadataMessage::Request { block }.encode();
            let id = Extension::Metadata.own_id();
            f(Message::Extended { id, payload });
            return true;
        }
        ("bitfield", ..) => {
            let pieces = arg
                .unwrap_or_default()
                .split(',')
                .filter_map(|p| p.parse().ok());
            let mut field = torr_base::Bitfield::new(geometry.piece_count());
            for piece in pieces.filter_map(|p| geometry.piece(p)) {
                let _: PieceIndex = piece;
                field.set(piece);
            }
            f(Message::Bitfield(&field.to_bytes()));
            return true;
        }
        _ => return false,
    };
    f(message);
    true
}
