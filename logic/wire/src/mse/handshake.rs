//! Either end of the handshake, as a machine over what has come.
//!
//! How long the padding is, nobody says; it ends where a known pattern begins. So that no byte of the
//! payload is ever taken, no more is asked for at a time than must come before the handshake can end:
//! the rest of the pattern, and what follows it at least.

use std::fmt;

use torr_base::InfoHash;

use super::MseError;
use super::dh::{KEY_LEN, PrivateKey};
use super::hash::{SecretSource, TorrentToken, keys, mask_token, sync_mark, torrent_token};
use super::rc4::Rc4;
use super::streams::{Method, Methods, Streams};

/// The longest padding that is sent or taken, bytes; the second ones announce their length.
pub const MSE_PADDING_MAX: u16 = 512;
/// Of the second paddings, which are for what future versions may say, short ones are sent.
const SECOND_PADDING_MAX: u16 = 64;
/// Eight zeros, whose encryption marks the end of the accepting side's padding.
const CONSTANT: [u8; 8] = [0; 8];
/// Hash of the torrent, constant, methods, length of the padding, length of the first payload.
const AFTER_MARK: usize = 20 + AFTER_TOKEN;
const AFTER_TOKEN: usize = CONSTANT.len() + 4 + 2 + 2;
/// Method, length of the padding.
const AFTER_CONSTANT: usize = 4 + 2;

/// Which end this is, and what only that end knows.
#[derive(Clone, Debug)]
pub enum MseSide {
    /// `payload`, at most 65,535 bytes, goes out with the handshake: what the other side would wait for
    /// anyway.
    Dials {
        info_hash: InfoHash,
        payload: Vec<u8>,
    },
    Accepts,
}

/// One end of one handshake.
///
/// ```text
///   loop {
///       send what take_output appends
///       if read_buf is empty: finish
///       read into it, advance
///   }
/// ```
///
/// It holds at most 1.1 KiB of what came, and sends as much as that and the first payload.
pub struct MseHandshake {
    private: PrivateKey,
    methods: Methods,
    source: SecretSource,
    state: State,
    /// What has come and is not understood yet: `inbox[..filled]`. As long as may be read.
    inbox: Vec<u8>,
    filled: usize,
    out: Vec<u8>,
    /// The torrent, once known.
    info_hash: Option<InfoHash>,
    done: Option<Streams>,
}

enum State {
    /// The other side's public key.
    Key(MseSide),
    /// Padding up to the mark, then which torrent.
    Mark {
        mark: [u8; 20],
        shared: Box<[u8; KEY_LEN]>,
    },
    /// Padding up to the encrypted constant.
    Constant {
        constant: [u8; 8],
        incoming: Rc4,
        outgoing: Rc4,
    },
    /// Accepting: padding of announced length, then the length of the first payload.
    Offer {
        method: Method,
        incoming: Rc4,
        outgoing: Rc4,
    },
    /// Dialling: padding of announced length.
    Choice {
        method: Method,
        incoming: Rc4,
        outgoing: Rc4,
    },
    /// Through, or broken.
    Over,
}

impl MseHandshake {
    /// `methods` are offered by who dials, allowed by who accepts.
    #[must_use]
    pub fn new(side: MseSide, methods: Methods, source: &mut SecretSource) -> Self {
        let mut source = source.fork();
        let info_hash = match &side {
            MseSide::Dials { info_hash, .. } => Some(*info_hash),
            MseSide::Accepts => None,
        };
        let mut this = Self {
            private: PrivateKey::new(source.draw()),
            methods,
            source,
            state: State::Key(side),
            inbox: vec![0; KEY_LEN],
            filled: 0,
            out: Vec::new(),
            info_hash,
            done: None,
        };
        // Who accepts does no work before somebody has sent a key.
        if info_hash.is_some() {
            this.say_key();
        }
        this
    }

    fn say_key(&mut self) {
        self.out.extend_from_slice(&self.private.public());
        self.source.pad(MSE_PADDING_MAX, &mut self.out);
    }

    /// Where the next bytes go; empty once the handshake is through or broken.
    pub fn read_buf(&mut self) -> &mut [u8] {
        self.inbox.get_mut(self.filled..).unwrap_or_default()
    }

    /// Whether the other side's key has come: it speaks MSE, or something that looks like it.
    #[must_use]
    pub fn has_key(&self) -> bool {
        !matches!(self.state, State::Key(_))
    }

    /// The torrent that it is about: at once for who dials, late for who accepts.
    #[must_use]
    pub fn info_hash(&self) -> Option<InfoHash> {
        self.info_hash
    }

    /// Appends what is to be sent now.
    pub fn take_output(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.out);
    }

    /// How the streams go on, once: when all of the handshake has come. What [`Self::take_output`] still
    /// has goes out before anything else.
    pub fn finish(&mut self) -> Option<Streams> {
        self.done.take()
    }

    /// `n` bytes were put into [`Self::read_buf`]. `find` tells the torrent of a token; it is asked once,
    /// by who accepts.
    ///
    /// # Errors
    /// [`MseError`] where the connection is of no use.
    pub fn advance(
        &mut self,
        n: usize,
        mut find: impl FnMut(&TorrentToken) -> Option<InfoHash>,
    ) -> Result<(), MseError> {
        debug_assert!(n <= self.inbox.len() - self.filled, "more than was offered");
        self.filled = self.filled.saturating_add(n).min(self.inbox.len());
        while self.filled == self.inbox.len() && !matches!(self.state, State::Over) {
            if let Err(error) = self.step(&mut find) {
                self.state = State::Over;
                self.filled = 0;
                self.expect(0);
                return Err(error);
            }
        }
        Ok(())
    }

    /// All that was asked for is there.
    fn step(
        &mut self,
        find: &mut impl FnMut(&TorrentToken) -> Option<InfoHash>,
    ) -> Result<(), MseError> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Key(side) => self.heard_key(side),
            State::Mark { mark, shared } => match self.find_pattern(&mark, AFTER_MARK)? {
                true => self.heard_mark(&shared, find),
                false => {
                    self.state = State::Mark { mark, shared };
                    Ok(())
                }
            },
            State::Constant {
                constant,
                incoming,
                outgoing,
            } => match self.find_pattern(&constant, AFTER_CONSTANT)? {
                true => self.heard_constant(incoming, outgoing),
                false => {
                    self.state = State::Constant {
                        constant,
                        incoming,
                        outgoing,
                    };
                    Ok(())
                }
            },
            State::Offer {
                method,
                incoming,
                outgoing,
            } => {
                self.heard_offer(method, incoming, outgoing);
                Ok(())
            }
            State::Choice {
                method,
                mut incoming,
                outgoing,
            } => {
                incoming.apply(&mut self.inbox);
                self.end(method, incoming, 0, outgoing);
                Ok(())
            }
            State::Over => Ok(()),
        }
    }

    fn heard_key(&mut self, side: MseSide) -> Result<(), MseError> {
        let theirs = self.take().ok_or(MseError::WeakKey)?;
        let shared = self.private.shared(&theirs).ok_or(MseError::WeakKey)?;
        match side {
            MseSide::Accepts => {
                self.say_key();
                let mark = sync_mark(&shared);
                self.expect(mark.len() + AFTER_MARK);
                let shared = Box::new(shared);
                self.state = State::Mark { mark, shared };
            }
            MseSide::Dials { info_hash, payload } => {
                let [ours, theirs] = keys(&shared, &info_hash);
                let (incoming, mut outgoing) = (Rc4::new(&theirs), Rc4::new(&ours));
                self.out.extend_from_slice(&sync_mark(&shared));
                let token = mask_token(&torrent_token(&info_hash), &shared);
                self.out.extend_from_slice(&token);
                let offer = self.out.len();
                self.say_methods(self.methods);
                let len = u16::try_from(payload.len()).unwrap_or(u16::MAX);
                self.out.extend_from_slice(&len.to_be_bytes());
                let payload = payload.get(..usize::from(len)).unwrap_or_default();
                self.out.extend_from_slice(payload);
                outgoing.apply(self.out.get_mut(offer..).unwrap_or_default());
                let mut constant = CONSTANT;
                incoming.clone().apply(&mut constant);
                self.expect(constant.len() + AFTER_CONSTANT);
                self.state = State::Constant {
                    constant,
                    incoming,
                    outgoing,
                };
            }
        }
        Ok(())
    }

    /// The padding is over: which torrent, and what is offered.
    fn heard_mark(
        &mut self,
        shared: &[u8; KEY_LEN],
        find: &mut impl FnMut(&TorrentToken) -> Option<InfoHash>,
    ) -> Result<(), MseError> {
        let masked = self.take::<20>().ok_or(MseError::NoSync)?;
        let info_hash = find(&mask_token(&masked, shared)).ok_or(MseError::UnknownTorrent)?;
        let [theirs, ours] = keys(shared, &info_hash);
        let (mut incoming, outgoing) = (Rc4::new(&theirs), Rc4::new(&ours));
        let mut constant = self.take::<8>().ok_or(MseError::NoSync)?;
        incoming.apply(&mut constant);
        if constant != CONSTANT {
            return Err(MseError::WrongConstant);
        }
        let (offered, padding) = self.heard_methods(&mut incoming)?;
        let method = self.methods.choose(offered);
        let method = method.ok_or(MseError::NoCommonMethod)?;
        self.info_hash = Some(info_hash);
        // After it comes the length of the first payload, of which two bytes are here, or two of padding.
        self.expect(padding + 2);
        self.state = State::Offer {
            method,
            incoming,
            outgoing,
        };
        Ok(())
    }

    fn heard_offer(&mut self, method: Method, mut incoming: Rc4, mut outgoing: Rc4) {
        incoming.apply(&mut self.inbox);
        let payload = self.inbox.last_chunk().copied().map(u16::from_be_bytes);
        let choice = self.out.len();
        self.say_methods(Methods::only(method));
        outgoing.apply(self.out.get_mut(choice..).unwrap_or_default());
        let payload = usize::from(payload.unwrap_or_default());
        self.end(method, incoming, payload, outgoing);
    }

    fn heard_constant(&mut self, mut incoming: Rc4, outgoing: Rc4) -> Result<(), MseError> {
        incoming.apply(&mut [0; CONSTANT.len()]);
        let (chosen, padding) = self.heard_methods(&mut incoming)?;
        let method = chosen.single().filter(|one| self.methods.contains(*one));
        let method = method.ok_or(MseError::NotOffered)?;
        self.expect(padding);
        self.state = State::Choice {
            method,
            incoming,
            outgoing,
        };
        Ok(())
    }

    /// `encrypted` bytes of payload come encrypted whatever was chosen.
    fn end(&mut self, method: Method, incoming: Rc4, encrypted: usize, outgoing: Rc4) {
        self.filled = 0;
        self.expect(0);
        self.done = Some(Streams::new(method, incoming, encrypted, outgoing));
    }

    /// Constant, methods and padding, as both sides say them; not encrypted yet.
    fn say_methods(&mut self, methods: Methods) {
        self.out.extend_from_slice(&CONSTANT);
        self.out.extend_from_slice(&methods.to_bytes());
        let mut padding = Vec::new();
        let len = self.source.pad(SECOND_PADDING_MAX, &mut padding);
        self.out.extend_from_slice(&len.to_be_bytes());
        self.out.append(&mut padding);
    }

    /// Methods and the length of the padding, as both sides say them.
    fn heard_methods(&mut self, incoming: &mut Rc4) -> Result<(Methods, usize), MseError> {
        let mut methods = self.take::<4>().ok_or(MseError::NoSync)?;
        let mut padding = self.take::<2>().ok_or(MseError::NoSync)?;
        incoming.apply(&mut methods);
        incoming.apply(&mut padding);
        let padding = u16::from_be_bytes(padding);
        if padding > MSE_PADDING_MAX {
            return Err(MseError::PaddingTooLong(padding));
        }
        Ok((Methods::from_bytes(methods), usize::from(padding)))
    }

    /// Looks for the pattern that ends the padding. True: it and the padding are gone, and `after` bytes
    /// that follow it are there. False: so much more is asked for as must come at least.
    fn find_pattern(&mut self, pattern: &[u8], after: usize) -> Result<bool, MseError> {
        let heard = self.inbox.get(..self.filled).unwrap_or_default();
        let whole = heard.windows(pattern.len()).position(|at| at == pattern);
        // Not all of it may be there yet.
        let partly = |at: &usize| heard.get(*at..).is_some_and(|end| pattern.starts_with(end));
        let at = whole.or_else(|| (0..=heard.len()).find(partly));
        let at = at.unwrap_or(heard.len());
        if at > usize::from(MSE_PADDING_MAX) {
            return Err(MseError::NoSync);
        }
        let end = at + pattern.len() + after;
        if end > self.filled {
            self.expect(end);
            return Ok(false);
        }
        self.inbox.drain(..at + pattern.len());
        self.filled -= at + pattern.len();
        Ok(true)
    }

    /// Takes bytes off the front.
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let bytes = *self.inbox.first_chunk::<N>()?;
        self.inbox.drain(..N);
        self.filled -= N;
        Some(bytes)
    }

    /// The machine goes on once so many bytes are there, with those that are.
    fn expect(&mut self, len: usize) {
        self.inbox.resize(len, 0);
    }
}

impl fmt::Debug for MseHandshake {
    /// Without the keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MseHandshake")
            .field("info_hash", &self.info_hash)
            .field("methods", &self.methods)
            .finish_non_exhaustive()
    }
}
