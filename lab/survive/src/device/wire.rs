//! The few words of the kernel's FUSE protocol that a folder of a few files of fixed length needs.
//!
//! Source: `include/uapi/linux/fuse.h`, protocol 7.31. Numbers are in the machine's own order.

/// Bytes of the header before a request, and of the one before an answer.
pub(super) const IN_HEADER: usize = 40;
const OUT_HEADER: usize = 16;
/// A file is opened so that the kernel keeps nothing of it.
const FOPEN_DIRECT_IO: u32 = 1;
const FUSE_BIG_WRITES: u32 = 1 << 5;
const FUSE_MAX_PAGES: u32 = 1 << 22;
/// Bytes of a write at most.
pub(super) const WRITE_MAX: u32 = 1 << 20;

/// What the kernel asks for.
#[derive(Debug)]
pub(super) enum Request<'a> {
    Init,
    Lookup(&'a [u8]),
    Attributes(u64),
    Open,
    Read {
        node: u64,
        at: u64,
        len: usize,
    },
    Write {
        node: u64,
        at: u64,
        data: &'a [u8],
    },
    Sync(u64),
    Space,
    /// Nothing to do, and an answer of no bytes.
    Fine,
    /// No answer is expected.
    Silent,
    Unknown,
}

/// A request and the number that its answer carries; `None` where bytes are missing.
pub(super) fn read(bytes: &[u8]) -> Option<(u64, Request<'_>)> {
    let (op, unique, node) = (u32_at(bytes, 4)?, u64_at(bytes, 8)?, u64_at(bytes, 16)?);
    let body = bytes.get(IN_HEADER..)?;
    let request = match op {
        26 => Request::Init,
        1 => Request::Lookup(body.strip_suffix(&[0])?),
        // Attributes are set by who truncates to the length that there is, or touches the times.
        3 | 4 => Request::Attributes(node),
        14 | 27 => Request::Open,
        15 => Request::Read {
            node,
            at: u64_at(body, 8)?,
            len: u32_at(body, 16)? as usize,
        },
        16 => Request::Write {
            node,
            at: u64_at(body, 8)?,
            data: body.get(40..)?.get(..u32_at(body, 16)? as usize)?,
        },
        20 => Request::Sync(node),
        17 => Request::Space,
        18 | 25 | 29 | 30 | 34 | 38 => Request::Fine,
        2 | 36 | 42 => Request::Silent,
        _ => Request::Unknown,
    };
    Some((unique, request))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// An answer under way.
#[derive(Debug, Default)]
pub(super) struct Answer(Vec<u8>);

impl Answer {
    pub(super) fn begin(&mut self) {
        self.0.clear();
        self.0.resize(OUT_HEADER, 0);
    }

    /// Its bytes; `errno` is 0 where all went well.
    pub(super) fn end(&mut self, unique: u64, errno: i32) -> &[u8] {
        if errno != 0 {
            self.0.truncate(OUT_HEADER);
        }
        let len = self.0.len() as u32;
        let mut header = [0; OUT_HEADER];
        header[..4].copy_from_slice(&len.to_ne_bytes());
        header[4..8].copy_from_slice(&(-errno).to_ne_bytes());
        header[8..].copy_from_slice(&unique.to_ne_bytes());
        self.0[..OUT_HEADER].copy_from_slice(&header);
        &self.0
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn u32s(&mut self, numbers: &[u32]) {
        numbers.iter().for_each(|n| self.bytes(&n.to_ne_bytes()));
    }

    fn u64s(&mut self, numbers: &[u64]) {
        numbers.iter().for_each(|n| self.bytes(&n.to_ne_bytes()));
    }

    pub(super) fn init(&mut self) {
        self.u32s(&[7, 31, 1 << 20, FUSE_BIG_WRITES | FUSE_MAX_PAGES]);
        // max_background and congestion_threshold, 16 bits each.
        self.bytes(&[64, 0, 48, 0]);
        self.u32s(&[WRITE_MAX, 1]);
        // max_pages, map_alignment, 16 bits each.
        self.bytes(&[0, 1, 0, 0]);
        self.u32s(&[0; 8]);
    }

    /// A name was found: node 1 is the folder.
    pub(super) fn entry(&mut self, node: u64, len: u64) {
        self.u64s(&[node, 0, 3600, 3600]);
        self.u32s(&[0, 0]);
        self.attributes_of(node, len);
    }

    pub(super) fn attributes(&mut self, node: u64, len: u64) {
        self.u64s(&[3600]);
        self.u32s(&[0, 0]);
        self.attributes_of(node, len);
    }

    fn attributes_of(&mut self, node: u64, len: u64) {
        let mode = if node == 1 { 0o040_700 } else { 0o100_600 };
        self.u64s(&[node, len, len / 512, 0, 0, 0]);
        self.u32s(&[0, 0, 0, mode, 1, 0, 0, 0, 4096, 0]);
    }

    pub(super) fn open(&mut self) {
        self.u64s(&[0]);
        self.u32s(&[FOPEN_DIRECT_IO, 0]);
    }

    pub(super) fn written(&mut self, len: usize) {
        self.u32s(&[len as u32, 0]);
    }

    pub(super) fn space(&mut self) {
        self.u64s(&[0; 5]);
        self.u32s(&[4096, 255, 4096, 0]);
        self.u32s(&[0; 6]);
    }
}
