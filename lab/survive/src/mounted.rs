//! Small ext4 file systems, and what this machine looks like after it was started again.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use rustix::mount::{UnmountFlags, mount_bind, unmount};
use torr_base::{Rng, hex};

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The bytes of an empty ext4 file system of `len` bytes.
pub fn ext4_image(scratch: &Path, len: u64) -> Result<Vec<u8>> {
    let path = scratch.join("fresh.ext4");
    std::fs::File::create(&path)?.set_len(len)?;
    // Nothing is left for the kernel to make up for later, beside what is tested.
    let options = "lazy_itable_init=0,lazy_journal_init=0,nodiscard";
    run(Command::new("mkfs.ext4")
        .args(["-q", "-F", "-E", options])
        .arg(&path))?;
    let image = std::fs::read(&path)?;
    std::fs::remove_file(&path)?;
    Ok(image)
}

/// A mount through a loop device, which ends with it.
#[derive(Debug)]
pub struct Mounted(PathBuf);

impl Mounted {
    pub fn new(image: &Path, on: &Path) -> Result<Self> {
        std::fs::create_dir_all(on)?;
        run(Command::new("mount")
            .args(["-o", "loop", "-t", "ext4"])
            .args([image, on]))?;
        Ok(Self(on.to_owned()))
    }

    /// Unmounts in good order.
    pub fn end(self) -> Result<()> {
        run(Command::new("umount").arg(&self.0))?;
        std::mem::forget(self);
        Ok(())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

/// From here on this process and its children see another boot of the machine, as they would after a power cut.
pub fn boot_again(scratch: &Path, rng: &mut Rng) -> Result<()> {
    let mut id = [0; 16];
    rng.fill(&mut id);
    let path = scratch.join(format!("boot-{}", hex(&id[..4])));
    std::fs::write(&path, format!("{}\n", hex(&id)))?;
    // The one before, if there was one.
    let _ = unmount(BOOT_ID, UnmountFlags::DETACH);
    mount_bind(&path, BOOT_ID).context("a boot id of our own")
}

pub fn run(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("running {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
