//! What is downloaded, how, and onto what.

use std::ops::ControlFlow;
use std::path::PathBuf;

use anyhow::Result;
use torr_base::Bitfield;
use torr_interop::payload::Payload;

use crate::device::Rack;
use crate::ground::Ground;
use crate::mounted::Mounted;

pub(super) const MIB: u64 = 1 << 20;

/// Whose state is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    Torr,
    Libtorrent,
    Rqbit,
}

impl Client {
    pub fn name(self) -> &'static str {
        match self {
            Self::Torr => "torr",
            Self::Libtorrent => "libtorrent",
            Self::Rqbit => "rqbit",
        }
    }
}

/// How the download is interrupted on its way, and taken up again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Break {
    None,
    Kill,
    Stop,
}

/// One download.
#[derive(Clone, Debug)]
pub(super) struct Scene {
    pub(super) name: &'static str,
    files: &'static [(&'static str, u64)],
    pub(super) piece_len: usize,
    /// Bytes in a second.
    pub(super) rate: u64,
    /// The length of each disk in bytes; the state is on the last one.
    pub(super) disks: &'static [u64],
    pub(super) preallocate: bool,
    /// How torr writes.
    pub(super) io: &'static str,
    pub(super) halfway: Break,
    pub(super) port: u16,
}

const PLAIN: Scene = Scene {
    name: "one-file",
    files: &[("", 96 * MIB + 4321)],
    piece_len: 256 * 1024,
    rate: 16 * MIB,
    disks: &[160 * MIB],
    preallocate: false,
    io: "auto",
    halfway: Break::None,
    port: 4001,
};

impl Scene {
    pub(super) fn of(client: Client) -> Vec<Self> {
        let reserved = Self {
            name: "reserved",
            files: &[("", 40 * MIB + 77)],
            // Slow enough for the timer to come before the bytes.
            rate: 5 * MIB,
            preallocate: true,
            halfway: Break::Stop,
            ..PLAIN
        };
        let two_disks = Self {
            name: "two-disks",
            files: &[
                ("a/first", 50 * MIB + 1),
                ("a/second", 300_001),
                ("b/third", 40 * MIB),
                ("empty", 0),
                ("last", 5 * MIB + 99_999),
            ],
            piece_len: 1024 * 1024,
            disks: &[160 * MIB, 32 * MIB],
            io: "buffered",
            halfway: Break::Kill,
            ..PLAIN
        };
        match client {
            Client::Torr => vec![PLAIN, two_disks, reserved],
            // They are asked for what they do by themselves.
            Client::Libtorrent | Client::Rqbit => vec![
                PLAIN,
                Self {
                    halfway: Break::None,
                    ..two_disks
                },
                Self {
                    halfway: Break::None,
                    ..reserved
                },
            ],
        }
    }

    pub(super) fn payload(&self) -> Payload {
        match self.files {
            [("", len)] => Payload::single(self.name, *len),
            files => Payload::multi(self.name, files),
        }
    }

    pub(super) fn is_single(&self) -> bool {
        matches!(self.files, [("", _)])
    }

    pub(super) fn total(&self) -> u64 {
        self.files.iter().map(|(_, len)| len).sum()
    }

    fn disk_dir(ground: &Ground, disk: usize) -> PathBuf {
        ground.dir.join(format!("disk-{disk}"))
    }

    /// The download folder.
    pub(super) fn folder(&self, ground: &Ground) -> PathBuf {
        Self::disk_dir(ground, 0).join("out")
    }

    /// The state directory.
    pub(super) fn state(&self, ground: &Ground) -> PathBuf {
        Self::disk_dir(ground, self.disks.len() - 1).join("state")
    }

    pub(super) fn mount(&self, ground: &Ground, rack: &Rack) -> Result<Vec<Mounted>> {
        let all = 0..self.disks.len();
        all.map(|disk| Mounted::new(&rack.path(disk), &Self::disk_dir(ground, disk)))
            .collect()
    }

    /// The pieces that are there and right, by nothing but their hashes.
    pub(super) fn truth(&self, ground: &Ground) -> Result<Bitfield> {
        let folder = self.folder(ground);
        if !folder.exists() {
            return Ok(Bitfield::new(ground.info.geometry().piece_count()));
        }
        let go_on = |_| ControlFlow::Continue(());
        let report = torr_disk::check(&ground.info, &folder, None, 2, &go_on)?;
        Ok(report.have)
    }
}
