//! Transfers between torr and other clients, each node in a network namespace of its own.
//!
//! - [`sandbox`] moves the harness into namespaces that die with it: nothing is left behind, however it ends.
//! - [`world`] makes one small network: a bridge, and nodes with an IPv4 and an IPv6 address each.
//! - [`payload`] and [`metafile`] make data and torrent files without any code of torr's, so that torr is not
//!   measured against itself.
//! - [`client`] starts each client as a seed or a leech and knows when it is done.
//! - [`matrix`], [`swarm`] and [`scenario`] are the cells; [`runner`] runs them and asserts that all of them ran.
//!
//! Deliberately absent: any use of torr's library. torr is one more program with a command line.

#![forbid(unsafe_code)]

pub mod client;
pub mod dht;
pub mod encryption;
pub mod gossip;
pub mod helper;
pub mod magnet;
pub mod matrix;
pub mod metafile;
pub mod payload;
pub mod portmap;
pub mod private;
pub mod process;
pub mod relay;
pub mod runner;
pub mod sandbox;
pub mod scenario;
pub mod swarm;
pub mod tracker;
pub mod web;
pub mod world;
