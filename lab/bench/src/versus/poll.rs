//! Waiting for several descriptors, with a bound.

use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// The numbers of those that have something to read, to accept or an end to see; none after `limit`.
pub(crate) fn readable(sources: &[impl AsFd], limit: Duration) -> Vec<usize> {
    let mut fds: Vec<PollFd<'_>> = sources
        .iter()
        .map(|source| PollFd::new(source, PollFlags::IN))
        .collect();
    let limit = Timespec {
        tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(limit.subsec_nanos()),
    };
    // An interrupted wait is a short one.
    if poll(&mut fds, Some(&limit)).is_err() {
        return Vec::new();
    }
    let ready = fds.iter().enumerate();
    ready
        .filter(|(_, fd)| !fd.revents().is_empty())
        .map(|(number, _)| number)
        .collect()
}
