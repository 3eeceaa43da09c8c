//! Trackers from both sides, without a socket: when to announce what to whom, the text of HTTP announces
//! and scrapes, the packets of UDP trackers, where a tracker may lead, and the state of a small tracker.
//!
//! - [`Announcer`]: the schedule of one torrent (BEP 12 tiers, events, intervals, back-off).
//! - [`http`], [`http_reply`]: requests and replies over HTTP (BEP 3, 7, 23, 24, 31, 48).
//! - [`udp`]: packets (BEP 15, BEP 41).
//! - [`lsd`]: local service discovery (BEP 14).
//! - [`portmap`]: a way through the gateway (PCP, NAT-PMP, UPnP).
//! - [`policy`]: which addresses a request may go to (server-side request forgery).
//! - [`server`]: the other side, for private use and tests.
//! - [`mask()`], [`mask_text`], [`clean`]: what may be shown to people.
//!
//! Deliberately absent: sockets, name look-ups, TLS and clocks; `torr-net` has those.
#![forbid(unsafe_code)]

mod announce;
mod announcer;
pub mod http;
pub mod http_reply;
pub mod lsd;
mod mask;
pub mod policy;
pub mod portmap;
pub mod server;
mod text;
pub mod udp;
mod url;

pub use announce::{
    AnnounceReply, AnnounceRequest, Event, HttpReply, PEERS_MAX, Retry, ScrapeEntry, TrackerError,
    is_peer_address,
};
pub use announcer::{
    Announcer, AnnouncerConfig, RequestId, Stats, TrackerAction, TrackerEvent, TrackerId,
    TrackerState, TrackerStatus,
};
pub use mask::{mask, mask_reply, mask_text};
pub use text::{TEXT_CHARS_MAX, clean};
pub use url::{Scheme, TrackerUrl, URL_LEN_MAX, UrlError};
