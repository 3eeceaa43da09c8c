//! What puppets do about the metadata (BEP 9): give it, or lie about it.

use torr_base::BLOCK_LEN;
use torr_wire::{Extension, Message, MetadataMessage};

use crate::conn::EndId;
use crate::manners::MetadataManners;
use crate::puppet::{Puppet, Stage, say};
use crate::torrent::Torrent;

impl Puppet {
    /// The length that it says the metadata has.
    pub(crate) fn metadata_size(&self, torrent: &Torrent) -> Option<u32> {
        match self.manners.metadata? {
            MetadataManners::Sized(size) => Some(size),
            MetadataManners::Lacks => None,
            MetadataManners::Right
            | MetadataManners::Wrong
            | MetadataManners::WrongAt(_)
            | MetadataManners::Larger
            | MetadataManners::Silent
            | MetadataManners::Rejects => u32::try_from(torrent.metadata.0.len()).ok(),
        }
    }

    /// It hears a message of `ut_metadata`.
    pub(crate) fn metadata_message(&mut self, stage: &mut Stage<'_>, end: EndId, payload: &[u8]) {
        let Ok(MetadataMessage::Request { block }) = MetadataMessage::parse(payload) else {
            return;
        };
        let total = self.metadata_size(stage.torrent);
        let size = total.unwrap_or(0) as usize;
        let start = (block * BLOCK_LEN) as usize;
        let len = size.saturating_sub(start).min(BLOCK_LEN as usize);
        let right = stage.torrent.metadata.0.get(start..start + len);
        let mut bytes = right.map_or_else(|| vec![0; len], <[u8]>::to_vec);
        let mut spoil = || {
            if let Some(byte) = bytes.first_mut() {
                *byte ^= 1;
            }
        };
        let mut total = total;
        match self.manners.metadata {
            None | Some(MetadataManners::Silent) => return,
            Some(MetadataManners::Rejects | MetadataManners::Lacks) => {
                let reject = MetadataMessage::Reject { block };
                self.say_metadata(stage, end, &reject);
                return;
            }
            Some(MetadataManners::Right) => {}
            Some(MetadataManners::Wrong) => {
                spoil();
                self.lied = true;
            }
            Some(MetadataManners::WrongAt(at)) => {
                if at == block {
                    spoil();
                    self.lied = true;
                }
            }
            Some(MetadataManners::Sized(_)) => self.lied = true,
            Some(MetadataManners::Larger) => total = total.map(|total| total + 1),
        }
        let data = MetadataMessage::Data {
            block,
            total,
            bytes: &bytes,
        };
        self.say_metadata(stage, end, &data);
    }

    /// Says it under the id that the other side wants.
    fn say_metadata(&self, stage: &mut Stage<'_>, end: EndId, message: &MetadataMessage<'_>) {
        let line = self.lines.get(&end);
        if let Some(id) = line.and_then(|line| line.extensions.get(Extension::Metadata)) {
            let payload = &message.encode();
            say(stage, end, Message::Extended { id, payload });
        }
    }
}
