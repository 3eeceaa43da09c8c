//! The program from outside: its streams, its statuses, its signals, over real sockets on this machine.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod commands;
mod common;
mod errors;
mod hostile;
mod info;
mod inside;
mod magnet;
mod options;
mod sandbox;
mod several;
mod terminal;
mod try_first;
