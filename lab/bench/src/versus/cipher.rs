//! Encryption for the lab's own peers, where it is forced on everybody. Exchange and cipher are torr's: what
//! they cost here is the harness's, and the rivals show in the same cases that they are right.

use std::io::{Read, Write};
use std::net::TcpStream;

use anyhow::{Context, Result, ensure};
use torr_base::InfoHash;
use torr_wire::{
    Decryptor, Method, Methods, MseHandshake, MseSide, Rc4, SecretSource, torrent_token,
};

/// Both directions of a connection; none where nothing is encrypted.
#[derive(Debug, Default)]
pub(crate) struct Ciphers {
    incoming: Option<Decryptor>,
    outgoing: Option<Rc4>,
}

impl Ciphers {
    /// Answers an exchange of keys.
    pub(crate) fn accept(stream: &TcpStream, hash: [u8; 20]) -> Result<Self> {
        exchange(stream, MseSide::Accepts, hash)
    }

    /// Begins one; `hello` goes with it.
    pub(crate) fn dial(stream: &TcpStream, hash: [u8; 20], hello: Vec<u8>) -> Result<Self> {
        let side = MseSide::Dials {
            info_hash: InfoHash(hash),
            payload: hello,
        };
        exchange(stream, side, hash)
    }

    pub(crate) fn hear(&mut self, bytes: &mut [u8]) {
        if let Some(incoming) = &mut self.incoming {
            incoming.apply(bytes);
        }
    }

    pub(crate) fn say(&mut self, bytes: &mut [u8]) {
        if let Some(outgoing) = &mut self.outgoing {
            outgoing.apply(bytes);
        }
    }
}

/// All of it, waiting for the other side as long as the stream does.
fn exchange(mut stream: &TcpStream, side: MseSide, hash: [u8; 20]) -> Result<Ciphers> {
    let hash = InfoHash(hash);
    // The lab has no secrets.
    let mut source = SecretSource::new([7; 32]);
    let mut mse = MseHandshake::new(side, Methods::RC4, &mut source);
    loop {
        let mut out = Vec::new();
        mse.take_output(&mut out);
        stream.write_all(&out)?;
        if let Some(streams) = mse.finish() {
            ensure!(streams.method == Method::Rc4, "not encrypted");
            return Ok(Ciphers {
                incoming: streams.incoming,
                outgoing: streams.outgoing,
            });
        }
        let n = stream.read(mse.read_buf()).context("exchanging keys")?;
        ensure!(n > 0, "it left while keys were exchanged");
        let find = |token: &_| (torrent_token(&hash) == *token).then_some(hash);
        mse.advance(n, find)?;
    }
}
