//! Worker threads that hash, write, read and check pieces, and keep the have-log.
//!
//! [`Disk`] serves the jobs of `torr-store`. What it guarantees (the numbers are those of the design):
//!
//! - G1: a piece is claimed after a crash only if it is on the disk: its record follows its bytes, and
//!   a commit mark follows the sync of both.
//! - G4: only what no mark covers is hashed again at the start.
//! - G6: nothing outside the download folder is touched, whatever names, links or races there are.
//! - G7: a file that torr did not make is taken over only if it is of this torrent, or blank.
//! - G8: a storage that failed is probed without harm, and goes on where it was; a device that fails is let
//!   alone meanwhile.
//! - G9: a folder whose file system is not there is let go of, and nothing is made in its place.
//! - G10: a file that somebody else changed is not read from until its pieces were hashed again.
//! - G11: files are read, never mapped: one that shrinks is an error and no crash.
//! - G13: a damaged have-log costs the damaged records, and says so.
//!
//! Deliberately absent: what to download, cache budgets, when to spill. Those are decided in `logic/`.

mod answer;
mod batch;
mod cache;
mod check;
mod check_files;
mod commit;
mod direct;
mod end;
mod errno;
mod gate;
mod guard;
mod hash;
mod hash_files;
mod home;
mod hook;
mod kept;
mod log_file;
// The names that all layers meet.
#[cfg(test)]
#[path = "../../sandbox/src/names.rs"]
mod names;
mod open;
mod plan;
mod pool;
mod probe;
mod reserve;
mod resident;
mod root;
mod serve;
mod settle;
mod spec;
mod state;
mod storage;
mod survey;
mod tree;
mod verified;

pub use check_files::{CheckReport, FileReport, FileState, check};
pub use hash_files::{Walked, WalkedFile, hash_files, walk};
pub use hook::{Call, Hook};
pub use kept::{Kept, kept_torrent};
pub use pool::Disk;
pub use root::make_folder;
pub use serve::{Served, Server};
pub use spec::{DiskConfig, IoMode, OnExisting, OpenProgress, OpenWarning, Opened, StorageSpec};
