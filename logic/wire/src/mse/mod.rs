//! Message Stream Encryption: what comes before the handshake where peers do not want to be recognised.
//!
//! ```text
//!  dials                                            accepts
//!    │── public key, padding ────────────────────────►│
//!    │◄──────────────────────── public key, padding ──│
//!    │── HASH('req1', S), which torrent,               │
//!    │   ENCRYPT(zeros, methods offered, padding,      │
//!    │           length of first payload) ────────────►│
//!    │── ENCRYPT(first payload) ──────────────────────►│
//!    │◄─── ENCRYPT(zeros, method chosen, padding) ─────│
//!    │◄═══════ payload by the method chosen ══════════►│
//! ```
//!
//! S is what Diffie-Hellman gives both; the torrent is told as a hash that means nothing to who does not
//! know its info-hash. [`MseHandshake`] is either end: it takes bytes as they come, however they are cut,
//! and never one that belongs to the payload.
//!
//! **This hides, it does not protect.** Nobody is authenticated; the cipher is RC4; who knows the info-hash
//! and sits in between reads everything. It keeps a network from telling BitTorrent by its first bytes.
//!
//! The protocol is Vuze's ("Message Stream Encryption", version 1.0), as all clients speak it; it has no BEP.

mod dh;
mod handshake;
mod hash;
mod rc4;
mod streams;

pub use handshake::{MSE_PADDING_MAX, MseHandshake, MseSide};
pub use hash::{SecretSource, TorrentToken, torrent_token};
pub use rc4::Rc4;
pub use streams::{Decryptor, Method, Methods, Streams};

/// The other side's handshake is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MseError {
    /// With 0, 1 and p − 1, and what equals them, there is no secret.
    #[error("its public key gives no secret")]
    WeakKey,
    /// What comes after the padding did not come: it does not speak MSE, or does not know the torrent.
    #[error("no answer to the key exchange after the longest padding")]
    NoSync,
    #[error("it announces padding of {0} bytes; 512 are allowed")]
    PaddingTooLong(u16),
    /// The eight zeros decrypt to something else.
    #[error("its verification constant is wrong")]
    WrongConstant,
    #[error("it asks for a torrent that is not here")]
    UnknownTorrent,
    /// It offers nothing that is allowed here.
    #[error("it offers no method of encryption that is allowed here")]
    NoCommonMethod,
    /// It chose what was not offered, or not exactly one.
    #[error("it chose a method of encryption that was not offered")]
    NotOffered,
}

#[cfg(test)]
mod tests;
