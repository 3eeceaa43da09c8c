//! Tells the program what it was built with: figures of another build differ, and are to say so.
#![allow(clippy::print_stdout)]

use std::env;
use std::process::Command;

/// What `Cargo.toml` sets for the release profile, and may be set otherwise from outside.
const LTO: &str = "CARGO_PROFILE_RELEASE_LTO";

fn main() {
    let rustc = env::var_os("RUSTC").expect("cargo names the compiler");
    let version = Command::new(rustc).arg("--version").output();
    let version = version.expect("the compiler runs").stdout;
    let mut build = String::from_utf8_lossy(&version).trim().to_owned();
    build += &format!(", {}", env::var("PROFILE").unwrap_or_default());
    if let Ok(lto) = env::var(LTO) {
        build += &format!(", LTO {lto}");
    }
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    if !flags.is_empty() {
        build += &format!(", {}", flags.replace('\x1f', " "));
    }
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed={LTO}");
    println!("cargo::rustc-env=TORR_BENCH_BUILD={build}");
}
