//! A group of processes whose memory the kernel limits: cgroup v1 or v2, whichever may be written to.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where each version is mounted, the file of its limit, and the one that counts who was killed for it.
const VERSIONS: [(&str, &str, &str); 2] = [
    (
        "/sys/fs/cgroup/memory",
        "memory.limit_in_bytes",
        "memory.oom_control",
    ),
    ("/sys/fs/cgroup", "memory.max", "memory.events"),
];

/// A cgroup of our own; removed when dropped, which its processes must not outlive.
#[derive(Debug)]
pub(super) struct Cage {
    dir: PathBuf,
    events: &'static str,
}

impl Cage {
    /// `None` where there is none to be had.
    pub(super) fn new(bytes: u64) -> Option<Self> {
        VERSIONS.iter().find_map(|(root, limit, events)| {
            let dir = Path::new(root).join(format!("torr-flood-{}", own_id()?));
            fs::create_dir(&dir).ok()?;
            let cage = Self { dir, events };
            // Where the file is not there already, the controller is not: it is not ours to make.
            let limit = cage.dir.join(limit);
            let made = limit.exists() && fs::write(limit, bytes.to_string()).is_ok();
            made.then_some(cage)
        })
    }

    /// `program` inside of it from its first moment.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", r#"echo $$ > "$0" && exec "$@""#]);
        command.arg(self.dir.join("cgroup.procs")).arg(program);
        command
    }

    /// Whether somebody in there was killed for want of memory.
    pub(super) fn killed(&self) -> bool {
        let text = fs::read_to_string(self.dir.join(self.events)).unwrap_or_default();
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.is_some_and(|count| count.trim() != "0")
    }
}

impl Drop for Cage {
    fn drop(&mut self) {
        fs::remove_dir(&self.dir).ok();
    }
}

/// Inside a namespace of processes the number of ours is another one's elsewhere: a name that nobody else has.
fn own_id() -> Option<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/uuid").ok()?;
    Some(id.trim().to_owned())
}
