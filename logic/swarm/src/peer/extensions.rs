//! Messages of the extension protocol (BEP 10): a peer's handshake, and what it sends under our ids.

use std::net::SocketAddr;

use torr_wire::{ExtendedHandshake, Extension};

use crate::action::{Action, Misbehaved};
use crate::peer::PeerCx;

impl<B> PeerCx<'_, B> {
    /// The peer has a node of the DHT (BEP 5); it is believed once.
    pub(super) fn node_at(&mut self, port: u16) -> Result<(), Misbehaved> {
        if let Some(peer) = self.swarm.peers.get_mut(self.key)
            && port > 0
            && std::mem::take(&mut peer.node_unknown)
        {
            let addr = SocketAddr::new(peer.addr.ip(), port);
            self.out.push(Action::HasNode { addr });
        }
        Ok(())
    }

    /// An `extended` message came.
    pub(super) fn extended(&mut self, id: u8, payload: &[u8]) -> Result<(), Misbehaved> {
        if id == 0 {
            return self.extended_handshake(payload);
        }
        match Extension::from_own_id(id) {
            Some(Extension::Metadata) => self
                .swarm
                .metadata_message(self.now, self.key, payload, self.bufs, self.out),
            Some(Extension::Pex) => self.swarm.gossip_heard(self.now, self.key, payload),
            Some(Extension::DontHave) => self.dont_have(payload),
            Some(Extension::UploadOnly) => match payload {
                [flag] => {
                    self.upload_only(*flag != 0);
                    Ok(())
                }
                _ => Err(Misbehaved::Malformed),
            },
            // Not announced.
            Some(Extension::Holepunch) | None => Ok(()),
        }
    }

    fn extended_handshake(&mut self, payload: &[u8]) -> Result<(), Misbehaved> {
        let hello = ExtendedHandshake::parse(payload).map_err(|_| Misbehaved::ExtendedHandshake)?;
        let Some(peer) = self.swarm.peers.get_mut(self.key) else {
            return Ok(());
        };
        peer.extensions.apply(&hello.extensions);
        if let Some(reqq) = hello.reqq {
            peer.requests.set_reqq(reqq);
        }
        let listens = match (peer.listens, hello.port) {
            (None, Some(port)) => Some(port),
            (Some(_), _) | (None, None) => None,
        };
        peer.listens = peer.listens.or(listens);
        let listens = listens.and_then(|_| peer.listen_addr());
        if let Some(client) = hello.client.filter(|client| !client.is_empty()) {
            peer.client = client;
        }
        let by = peer.addr.ip();
        let gives = peer.extensions.get(Extension::Metadata).is_some();
        if let Some(flag) = hello.upload_only {
            self.upload_only(flag);
        }
        if let Some(addr) = listens {
            // It need not be dialled there.
            self.swarm.dialer.connected(addr, self.now);
        }
        if let Some(ip) = hello.your_ip {
            self.swarm.seen.vote(by, ip);
        }
        match hello.metadata_size.filter(|_| gives) {
            Some(size) => self
                .swarm
                .metadata_offered(self.now, self.key, size, self.out),
            None => Ok(()),
        }
    }

    /// It wants pieces of nobody, or does again (BEP 21).
    pub(super) fn upload_only(&mut self, flag: bool) {
        if let Some(peer) = self.swarm.peers.get_mut(self.key)
            && peer.upload_only != flag
        {
            peer.upload_only = flag;
            // It may have missed what we got meanwhile.
            peer.wake(self.out);
        }
    }
}
