//! How many connections the process's limit of open files leaves room for.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// For all that is neither a connection nor a file of a torrent: listeners, logs, libraries, pipes.
const OTHERS: usize = 64;
/// Each torrent holds one, that of its lock, while it does nothing.
const TORRENTS: usize = 16_384;
/// With fewer there is no swarm; then accepts and dials fail now and then instead.
const CONNS_MIN: usize = 32;

/// How many of `conns` connections there can be beside `files` open files. Raises the soft limit where it
/// is too low for all of them and many torrents.
pub(crate) fn share(conns: usize, files: usize) -> usize {
    let wanted = (conns + files + OTHERS + TORRENTS) as u64;
    let limit = getrlimit(Resource::Nofile);
    let mut soft = limit.current.unwrap_or(u64::MAX);
    if soft < wanted {
        let raised = limit.maximum.map_or(wanted, |hard| hard.min(wanted));
        let new = Rlimit {
            current: Some(raised),
            ..limit
        };
        if setrlimit(Resource::Nofile, new).is_ok() {
            soft = raised;
        }
    }
    fitting(conns, files, soft)
}

fn fitting(conns: usize, files: usize, limit: u64) -> usize {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let room = limit.saturating_sub(files + OTHERS);
    conns.min(room.max(CONNS_MIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_room_for_files() {
        assert_eq!(fitting(2_000, 256, 65_536), 2_000);
        assert_eq!(fitting(2_000, 256, 1_024), 704);
        assert_eq!(fitting(2_000, 256, 256), CONNS_MIN);
        assert_eq!(fitting(10, 256, u64::MAX), 10);
        assert!(share(100, 10) <= 100);
    }
}
