//! What a handshake settles: the method, and a cipher for each direction that has one.

use super::rc4::Rc4;

/// How the payload goes after the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// As it is. Only the handshake was hidden.
    Plaintext,
    Rc4,
}

impl Method {
    const fn bit(self) -> u32 {
        match self {
            Self::Plaintext => 1,
            Self::Rc4 => 2,
        }
    }
}

/// A set of methods: `crypto_provide`, or the one of `crypto_select`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Methods(u32);

impl Methods {
    pub const RC4: Self = Self::only(Method::Rc4);
    /// Both methods.
    pub const ANY: Self = Self(Method::Plaintext.bit() | Method::Rc4.bit());

    #[must_use]
    pub const fn only(method: Method) -> Self {
        Self(method.bit())
    }

    #[must_use]
    pub const fn contains(self, method: Method) -> bool {
        self.0 & method.bit() != 0
    }

    /// The cheapest method of both sets. Plaintext comes first: RC4 costs more than all else that a byte
    /// goes through.
    #[must_use]
    pub fn choose(self, other: Self) -> Option<Method> {
        let mut methods = [Method::Plaintext, Method::Rc4].into_iter();
        methods.find(|method| self.contains(*method) && other.contains(*method))
    }

    /// The one method that the set holds; `None` where it holds another number of them, or bits that mean
    /// nothing here.
    pub(super) fn single(self) -> Option<Method> {
        let mut methods = [Method::Plaintext, Method::Rc4].into_iter();
        methods.find(|method| self == Self::only(*method))
    }

    pub(super) const fn from_bytes(bytes: [u8; 4]) -> Self {
        Self(u32::from_be_bytes(bytes))
    }

    pub(super) const fn to_bytes(self) -> [u8; 4] {
        self.0.to_be_bytes()
    }
}

/// What remains of a handshake: how each direction goes on.
#[derive(Debug)]
pub struct Streams {
    pub method: Method,
    /// `None`: bytes come as they are.
    pub incoming: Option<Decryptor>,
    /// `None`: bytes go as they are.
    pub outgoing: Option<Rc4>,
}

impl Streams {
    /// `encrypted` bytes come encrypted whatever the method.
    pub(super) fn new(method: Method, incoming: Rc4, encrypted: usize, outgoing: Rc4) -> Self {
        let (left, outgoing) = match method {
            Method::Plaintext => (Some(encrypted), None),
            Method::Rc4 => (None, Some(outgoing)),
        };
        let incoming = Decryptor {
            rc4: incoming,
            left,
        };
        Self {
            method,
            incoming: (!incoming.is_done()).then_some(incoming),
            outgoing,
        }
    }
}

/// The direction that is heard. With plaintext chosen, the first payload of who dialled is encrypted all
/// the same, since it was sent before the choice.
#[derive(Debug)]
pub struct Decryptor {
    rc4: Rc4,
    /// Bytes that are still encrypted; `None` for all of them.
    left: Option<usize>,
}

impl Decryptor {
    /// Decrypts in place what came next.
    pub fn apply(&mut self, bytes: &mut [u8]) {
        let n = self.left.map_or(bytes.len(), |left| left.min(bytes.len()));
        self.rc4.apply(bytes.get_mut(..n).unwrap_or_default());
        if let Some(left) = &mut self.left {
            *left -= n;
        }
    }

    /// Whether all that follows comes as it is, so that this may be dropped.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.left == Some(0)
    }
}
