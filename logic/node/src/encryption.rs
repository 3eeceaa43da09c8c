//! Encrypted connections (MSE): who begins with an exchange of keys, what an end before the handshake tells
//! of a peer, and the ciphers of those that are through.

use std::net::SocketAddr;

use torr_base::Instant;
use torr_swarm::{CloseReason, ConnKey, Idle, Incompatible};
use torr_wire::{
    Decryptor, Handshake, HandshakeReader, Methods, MseError, MseHandshake, MseSide, Rc4, Streams,
};

use crate::conn::{Conn, Stage};
use crate::node::Node;
use crate::types::{Action, TorrentKey};

/// What a node makes of Message Stream Encryption. It hides BitTorrent from a network that looks for it;
/// it protects nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Encryption {
    /// Dials begin with an exchange of keys, and are repeated in plaintext where the peer does not answer
    /// it. Both are accepted. After the handshake the payload goes in plaintext where the peer allows it,
    /// since RC4 costs more than all else that a byte goes through.
    #[default]
    Prefer,
    /// No plaintext handshake is sent or taken, and all payload is encrypted.
    Require,
    /// No exchange of keys is begun or answered.
    Off,
}

impl Encryption {
    /// Those that are offered and allowed.
    fn methods(self) -> Methods {
        match self {
            Self::Prefer | Self::Off => Methods::ANY,
            Self::Require => Methods::RC4,
        }
    }
}

/// How the bytes of a connection go since its keys were exchanged.
#[derive(Debug)]
pub(crate) struct Ciphers {
    incoming: Option<Decryptor>,
    pub(crate) outgoing: Option<Rc4>,
}

impl Ciphers {
    /// `n` bytes are in `bufs`, from the first one on: decrypts them there.
    pub(crate) fn arrived<'a>(&mut self, bufs: impl IntoIterator<Item = &'a mut [u8]>, n: usize) {
        let Some(incoming) = &mut self.incoming else {
            return;
        };
        let mut left = n;
        for buf in bufs {
            let len = left.min(buf.len());
            incoming.apply(buf.get_mut(..len).unwrap_or_default());
            left -= len;
        }
        if incoming.is_done() {
            self.incoming = None;
        }
    }

    fn leaves(&mut self, bytes: &mut [u8]) {
        if let Some(rc4) = &mut self.outgoing {
            rc4.apply(bytes);
        }
    }
}

/// A candidate to be dialled once more, at once and in plaintext.
pub(crate) type Redial = (TorrentKey, SocketAddr);

impl<B> Node<B> {
    /// Whether a dial begins with the plaintext handshake.
    pub(crate) fn dials_in_plaintext(&self, torrent: TorrentKey, addr: &SocketAddr) -> bool {
        match self.config.encryption {
            Encryption::Off => true,
            Encryption::Require => false,
            Encryption::Prefer => {
                let home = self.torrents.get(torrent);
                home.is_some_and(|home| home.swarm.greets_in_plaintext(addr))
            }
        }
    }

    /// A dial came through that is to be encrypted. The handshake proper goes out with the keys.
    pub(crate) fn begin_exchange(&mut self, conn: ConnKey, torrent: TorrentKey, hello: Handshake) {
        let Some(entry) = self.conns.get_mut(conn) else {
            return;
        };
        let side = MseSide::Dials {
            info_hash: hello.info_hash,
            payload: hello.encode().to_vec(),
        };
        let methods = self.config.encryption.methods();
        let mut mse = Box::new(MseHandshake::new(side, methods, &mut self.secrets));
        mse.take_output(&mut entry.tx.control);
        let torrent = Some(torrent);
        entry.stage = Stage::Exchange { torrent, mse };
        self.actions.push_back(Action::Wake { conn });
    }

    /// What came is no handshake: an exchange of keys, if there may be one.
    pub(crate) fn not_a_handshake(&mut self, now: Instant, conn: ConnKey) {
        let methods = self.config.encryption.methods();
        let off = self.config.encryption == Encryption::Off;
        let Some(entry) = self.conns.get_mut(conn) else {
            return;
        };
        let Stage::Greeting { reader, .. } = &entry.stage else {
            return;
        };
        if off || entry.dialled || entry.ciphers.is_some() {
            let why = CloseReason::Incompatible(Incompatible::Protocol);
            if !entry.dialled {
                self.refused = Some((entry.remote, why));
            }
            self.close(now, conn, why);
            return;
        }
        let mut mse = Box::new(MseHandshake::new(
            MseSide::Accepts,
            methods,
            &mut self.secrets,
        ));
        // Fewer than a key has, so that all of it is the exchange's.
        let heard = reader.received();
        let n = heard.len();
        for (to, from) in mse.read_buf().iter_mut().zip(heard) {
            *to = *from;
        }
        entry.stage = Stage::Exchange { torrent: None, mse };
        self.exchanged(now, conn, n);
    }

    /// `n` bytes of an exchange of keys are in its machine.
    pub(crate) fn exchanged(&mut self, now: Instant, conn: ConnKey, n: usize) {
        let Self {
            conns, by_token, ..
        } = self;
        let Some(entry) = conns.get_mut(conn) else {
            return;
        };
        let Stage::Exchange { mse, .. } = &mut entry.stage else {
            return;
        };
        let result = mse.advance(n, |token| by_token.get(token).copied());
        if let Err(error) = result {
            let why = match error {
                MseError::UnknownTorrent => Incompatible::UnknownTorrent,
                MseError::WeakKey
                | MseError::NoSync
                | MseError::PaddingTooLong(_)
                | MseError::WrongConstant
                | MseError::NoCommonMethod
                | MseError::NotOffered => Incompatible::Encryption(error),
            };
            self.close(now, conn, CloseReason::Incompatible(why));
            return;
        }
        let before = entry.tx.control.len();
        mse.take_output(&mut entry.tx.control);
        if entry.tx.control.len() > before {
            entry.tx.moved = now;
            self.actions.push_back(Action::Wake { conn });
        }
        if let (Some(streams), Some(info_hash)) = (mse.finish(), mse.info_hash()) {
            self.end_exchange(now, conn, streams, info_hash);
        }
    }

    /// Both sides have the keys. Who accepted knows the torrent by now, and greets at once.
    fn end_exchange(
        &mut self,
        now: Instant,
        conn: ConnKey,
        streams: Streams,
        info_hash: torr_base::InfoHash,
    ) {
        let torrent = self.by_hash.get(&info_hash).copied();
        let hello = torrent.and_then(|torrent| self.hello(torrent));
        let Some(entry) = self.conns.get_mut(conn) else {
            return;
        };
        let mut ciphers = Box::new(Ciphers {
            incoming: streams.incoming,
            outgoing: streams.outgoing,
        });
        if let Some(hello) = hello.filter(|_| !entry.dialled) {
            let mut hello = hello.encode();
            ciphers.leaves(&mut hello);
            entry.tx.control.extend_from_slice(&hello);
            entry.tx.moved = now;
            self.actions.push_back(Action::Wake { conn });
        }
        entry.ciphers = Some(ciphers);
        let reader = HandshakeReader::new();
        entry.stage = Stage::Greeting { torrent, reader };
    }

    /// A plaintext handshake where encryption is required.
    pub(crate) fn refuse_plaintext(
        &mut self,
        now: Instant,
        conn: ConnKey,
        torrent: Option<TorrentKey>,
    ) {
        let why = CloseReason::Incompatible(Incompatible::Plaintext);
        let remote = self.conns.get(conn).map(|entry| entry.remote);
        let home = torrent.and_then(|key| self.torrents.get_mut(key));
        if let (Some(home), Some(remote)) = (home, remote) {
            home.swarm.note_failure(remote, why);
        }
        self.close(now, conn, why);
    }

    /// A connection ends. Where it was dialled and did not get through the handshake, that may tell which
    /// handshake its peer does not speak; then it is dialled again with the other one, at once if it did
    /// not answer the exchange of keys, and else when its time comes.
    pub(crate) fn judge_greeting(
        &mut self,
        conn: ConnKey,
        why: CloseReason,
    ) -> (CloseReason, Option<Redial>) {
        let prefers = self.config.encryption == Encryption::Prefer;
        let Some(entry) = self.conns.get(conn).filter(|entry| entry.dialled) else {
            return (why, None);
        };
        let (remote, torrent) = (entry.remote, entry.torrent());
        let Some(heard) = heard_on(entry) else {
            return (why, None);
        };
        let left = matches!(
            why,
            CloseReason::Transport | CloseReason::Idle(Idle::Handshake)
        );
        let broken = matches!(why, CloseReason::Incompatible(Incompatible::Encryption(_)));
        let why = match heard {
            Heard::NoKey if left => CloseReason::Incompatible(Incompatible::NoEncryption),
            Heard::Key if left => CloseReason::Incompatible(Incompatible::BrokeOff),
            Heard::NothingInPlaintext if left && !prefers => {
                CloseReason::Incompatible(Incompatible::NoPlaintext)
            }
            Heard::NoKey | Heard::Key | Heard::NothingInPlaintext | Heard::Handshake => why,
        };
        let home = torrent.and_then(|key| self.torrents.get_mut(key));
        let (true, Some(home), Some(torrent)) = (prefers && (left || broken), home, torrent) else {
            return (why, None);
        };
        if home.stopping {
            return (why, None);
        }
        let plain = match heard {
            Heard::NoKey | Heard::Key => true,
            Heard::NothingInPlaintext => false,
            Heard::Handshake => return (why, None),
        };
        home.swarm.set_greets_in_plaintext(&remote, plain);
        let again = heard == Heard::NoKey;
        (why, again.then_some((torrent, remote)))
    }

    /// Dials once more, in plaintext.
    pub(crate) fn redial(&mut self, now: Instant, again: Option<Redial>) {
        if let Some((torrent, addr)) = again {
            self.dial_as(now, torrent, addr, true);
        }
    }
}

/// How far a dialled connection came before the end of its handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    /// We asked for keys, and none came.
    NoKey,
    /// The exchange of keys broke off.
    Key,
    NothingInPlaintext,
    /// At least some of the handshake proper.
    Handshake,
}

/// `None` where the handshake is over, or did not begin.
fn heard_on<B>(entry: &Conn<B>) -> Option<Heard> {
    match &entry.stage {
        Stage::Dialling { .. } | Stage::Live { .. } => None,
        Stage::Exchange { mse, .. } if mse.has_key() => Some(Heard::Key),
        Stage::Exchange { .. } => Some(Heard::NoKey),
        Stage::Greeting { reader, .. } => {
            let nothing = reader.received().is_empty() && entry.ciphers.is_none();
            Some(match nothing {
                true => Heard::NothingInPlaintext,
                false => Heard::Handshake,
            })
        }
    }
}

impl<B: AsMut<[u8]>> Node<B> {
    /// All that waits to be written came just now from the swarm: encrypts it where it is. The block is
    /// the connection's alone.
    pub(crate) fn encrypt(&mut self, conn: ConnKey) {
        let Some(entry) = self.conns.get_mut(conn) else {
            return;
        };
        let Some(ciphers) = &mut entry.ciphers else {
            return;
        };
        entry.tx.each(|bytes| ciphers.leaves(bytes));
    }
}
