//! Which crate may depend on which: arrows point down only.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Each own crate with the own crates that it may name, tests apart.
const ALLOWED: &[(&str, &[&str])] = &[
    ("torr-base", &[]),
    ("torr-bencode", &[]),
    ("torr-metainfo", &["torr-base", "torr-bencode"]),
    ("torr-wire", &["torr-base", "torr-bencode"]),
    ("torr-store", &["torr-base"]),
    ("torr-tracker", &["torr-base", "torr-bencode"]),
    ("torr-dht", &["torr-base", "torr-bencode"]),
    (
        "torr-swarm",
        &["torr-base", "torr-metainfo", "torr-store", "torr-wire"],
    ),
    (
        "torr-node",
        &[
            "torr-base",
            "torr-dht",
            "torr-metainfo",
            "torr-store",
            "torr-swarm",
            "torr-tracker",
            "torr-wire",
        ],
    ),
    ("torr-hash", &[]),
    ("torr-sandbox", &[]),
    (
        "torr-disk",
        &["torr-base", "torr-hash", "torr-metainfo", "torr-store"],
    ),
    (
        "torr-net",
        &["torr-base", "torr-node", "torr-store", "torr-tracker"],
    ),
    (
        "torr",
        &[
            "torr-base",
            "torr-disk",
            "torr-metainfo",
            "torr-net",
            "torr-node",
            "torr-store",
            "torr-tracker",
            "torr-wire",
        ],
    ),
    ("torr-cli", &["torr", "torr-base", "torr-sandbox"]),
    (
        "torr-sim",
        &[
            "torr-base",
            "torr-bencode",
            "torr-metainfo",
            "torr-node",
            "torr-store",
            "torr-swarm",
            "torr-tracker",
            "torr-wire",
        ],
    ),
    ("torr-storm", &["torr-base", "torr-dht", "torr-sim"]),
    ("torr-interop", &[]),
    (
        "torr-bench",
        &[
            "torr",
            "torr-base",
            "torr-bencode",
            "torr-interop",
            "torr-hash",
            "torr-metainfo",
            "torr-node",
            "torr-store",
            "torr-swarm",
            "torr-wire",
        ],
    ),
    (
        "torr-survive",
        &[
            "torr-base",
            "torr-disk",
            "torr-interop",
            "torr-metainfo",
            "torr-store",
        ],
    ),
    ("xtask", &[]),
];

/// What crates of `logic/` may name from outside.
const LOGIC_OTHERS: &[&str] = &[
    "bytes",
    "crc32c",
    "crypto-bigint",
    "sha1",
    "sha2",
    "thiserror",
];

/// Every breach of the two tables.
pub(crate) fn faults(root: &Path) -> Result<Vec<String>> {
    let output = Command::new("cargo")
        .args([
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
            "--offline",
        ])
        .current_dir(root)
        .output()
        .context("cannot run cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata failed");
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().context("no packages")?;
    let allowed: BTreeMap<_, _> = ALLOWED.iter().copied().collect();
    let own: BTreeSet<_> = packages.iter().filter_map(|p| p["name"].as_str()).collect();
    let mut faults = Vec::new();
    for package in packages {
        let name = package["name"]
            .as_str()
            .context("a package without a name")?;
        let Some(may) = allowed.get(name) else {
            faults.push(format!("{name} is not in the table of xtask/src/layers.rs"));
            continue;
        };
        let logic = package["manifest_path"]
            .as_str()
            .is_some_and(|p| p.contains("/logic/"));
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let target = dependency["name"].as_str().unwrap_or_default();
            let normal = dependency["kind"].is_null();
            if normal && own.contains(target) && !may.contains(&target) {
                faults.push(format!("{name} may not depend on {target}"));
            }
            if normal && logic && !own.contains(target) && !LOGIC_OTHERS.contains(&target) {
                faults.push(format!("{name} is logic and may not depend on {target}"));
            }
        }
    }
    Ok(faults)
}
