//! The harness inside namespaces of its own: mounts, processes and network.
//!
//! Whatever ends the harness (its last line, Ctrl-C, SIGKILL) ends the process namespace, and with it every client
//! and every network namespace, since those are mounts that nobody else sees.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Set inside; holds the folder for everything temporary.
const INSIDE: &str = "TORR_INTEROP_INSIDE";

/// Process 1 of the new namespace: a shell, because it must forward a Ctrl-C, which the kernel keeps from a process 1
/// without a handler, and remove the folder.
const INIT: &str = r#"
trap 'kill $child 2>/dev/null; rm -rf "$TORR_INTEROP_INSIDE"; exit 130' INT TERM HUP
mkdir -p /run/netns && mount -t tmpfs tmpfs /run/netns || exit 1
"$@" & child=$!
wait $child; status=$?
[ -n "$TORR_INTEROP_KEEP" ] || rm -rf "$TORR_INTEROP_INSIDE"
exit $status
"#;

/// Returns the temporary folder once inside; outside it replaces this process and does not return.
pub fn enter() -> Result<PathBuf> {
    let base = std::env::var_os("TORR_INTEROP_TMP").map_or_else(std::env::temp_dir, PathBuf::from);
    enter_in(&base)
}

/// Like [`enter`], with the temporary folder below `base`.
pub fn enter_in(base: &Path) -> Result<PathBuf> {
    if let Some(dir) = inside() {
        return Ok(dir);
    }
    let dir = scratch(base)?;
    let me = std::env::current_exe().context("finding the harness's own path")?;
    let error = Command::new("unshare")
        .args([
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "--net",
        ])
        .args(["sh", "-c", INIT, "sh"])
        .arg(me)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, &dir)
        .exec();
    std::fs::remove_dir_all(&dir).ok();
    bail!("cannot run unshare (root is needed): {error}")
}

/// The temporary folder, if this process is inside already.
pub fn inside() -> Option<PathBuf> {
    std::env::var_os(INSIDE).map(PathBuf::from)
}

fn scratch(base: &Path) -> Result<PathBuf> {
    let dir = base.join(format!("torr-interop-{}", std::process::id()));
    std::fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
    // Trackers drop their privileges and still have to reach their folder.
    open_to_all(&dir)?;
    Ok(dir)
}

/// Readable and enterable by everybody.
pub fn open_to_all(dir: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755))
        .with_context(|| format!("opening {} to all", dir.display()))
}
