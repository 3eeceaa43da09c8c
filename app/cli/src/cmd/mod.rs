//! The commands besides the download itself.

pub(crate) mod check;
pub(crate) mod config;
pub(crate) mod create;
pub(crate) mod demo;
pub(crate) mod info;
pub(crate) mod magnet;
pub(crate) mod manual;
pub(crate) mod sandbox;
pub(crate) mod tracker;
mod work;
