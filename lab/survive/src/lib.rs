//! Rigs that break things under torr and look at what is left: power cuts, kills, flipped bytes.
//!
//! - [`device`] is a disk that can be cut off at any of its writes.
//! - [`power`] downloads onto it, with torr and with others.
//! - [`flip`] damages every byte of a state directory.
//! - [`flipper`] changes files under peers that read them.
//! - [`flood`] sends thousands of hostile clients.
//! - [`restart`] kills a seed set of a tebibyte and counts what a start reads, [`term`] ends thousands of torrents.
//! - [`keep`] is torr's disk in this process, [`zeros`] makes torrents of any size out of nothing; [`ground`], [`child`] and [`mounted`] are what the rigs stand on.
//!
//! The guarantees meant by G1, G2 and so on are listed in `lab/README.md`.

#![forbid(unsafe_code)]

mod bep3;
pub mod child;
pub mod device;
pub mod flip;
pub mod flipper;
pub mod flood;
pub mod ground;
pub mod keep;
pub mod mounted;
pub mod power;
pub mod restart;
pub mod term;
pub mod zeros;
