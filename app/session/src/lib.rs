//! torr as a library: sessions, torrents, events.
//!
//! A [`Session`] has a port, memory, and threads of its own; a [`Torrent`] in it is a handle that tells
//! figures and events. Everything that BitTorrent decides is below, in `logic/`; everything that a person
//! decides, when to stop above all, is the caller's.
//!
//! ```no_run
//! use std::time::Duration;
//! use torr::{AddTorrent, Event, Session, SessionConfig, SessionError};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let session = Session::start(SessionConfig::new("/var/lib/torr")).await?;
//! let torrent = session.add(AddTorrent::new(std::fs::read("a.torrent")?, "/data")).await?;
//! let mut events = torrent.events();
//! while let Some(event) = events.next().await {
//!     match event {
//!         Event::Checking { done, total } => println!("checked {done} of {total} pieces"),
//!         Event::Failed(error) => return Err(error.into()),
//!         // Verified, written and durable: the files can be used.
//!         Event::Synced => break,
//!         _ => {}
//!     }
//! }
//! if let Some(path) = torrent.path() {
//!     println!("{}", path.display());
//! }
//! session.shutdown(Duration::from_secs(5)).await?;
//! # Ok(())
//! # }
//! ```
//!
//! Deliberately absent: the command line, JSON, and any wish to go on seeding.
#![forbid(unsafe_code)]

mod config;
mod create;
mod descriptors;
mod dht;
mod error;
mod events;
mod fetch;
mod host;
mod magnet;
mod opening;
mod session;
mod stats;
mod torrent;

pub use config::{AddTorrent, Choose, Dht, SessionConfig, Source};
pub use create::{CreateError, CreateTorrent, Created, create};
pub use error::SessionError;
pub use events::{Event, Events, Refused};
pub use fetch::{FetchError, fetch_torrent};
pub use session::{Listener, Session};
pub use stats::{TorrentState, TorrentStats, TrackerStatus};
pub use torrent::Torrent;

pub use torr_base::InfoHash;
pub use torr_disk::{
    CheckReport, FileReport, FileState, IoMode, Kept, OpenProgress, check, kept_torrent,
    make_folder,
};
pub use torr_metainfo as metainfo;
pub use torr_net::{ListenError, PortChoice, tracker_server};
pub use torr_node::{
    CloseReason, DhtStats, Encryption, MapWay, MetadataStats, OpenPort, PeerStats, PortStatus,
    SearchStats, TrackerEvent, TrackerState, WebEvent, WebFault,
};
pub use torr_store::{Room, StorageError, StorageErrorKind, StorageOp};
pub use torr_tracker::server::ServerConfig;
pub use torr_tracker::{clean, mask, mask_text};
