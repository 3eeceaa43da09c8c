//! Real bytes between real sessions: loopback sockets, files in temporary folders. One program, because
//! linking takes longer than running.
#![allow(clippy::unwrap_used, unreachable_pub)]

mod common;
mod dht;
mod faults;
mod limits;
mod magnet;
mod pex;
mod resume;
mod swarm;
mod trackers;
mod transfer;
mod trouble;
mod upload;
mod web;
