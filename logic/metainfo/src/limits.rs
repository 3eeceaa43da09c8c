//! How large a torrent may be.

/// Bytes in a torrent file, 100 MiB: four million piece hashes take 80.
pub const TORRENT_LEN_MAX: usize = 100 << 20;

/// Files in a torrent, pad files too.
pub const FILES_MAX: u32 = 1 << 20;

/// Components in a file's path.
pub const PATH_DEPTH_MAX: usize = 100;

/// Trackers, web seeds or DHT nodes that are taken from one torrent or link.
pub(crate) const URLS_MAX: usize = 1000;

/// Bytes in a URL that is taken from a torrent or link.
pub(crate) const URL_LEN_MAX: usize = 8 << 10;

/// Warnings that are kept about one torrent, but for those about names.
pub(crate) const WARNINGS_MAX: usize = 1000;
