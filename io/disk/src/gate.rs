//! Devices that fail are let alone (G8): after an I/O error nobody writes to that device for a second, then
//! one job may try. Without it, each of many jobs would wait for the device to fail again, and hold a worker.
//!
//! A full disk needs none: it says so at once, and a smaller piece may still fit.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use torr_store::{StorageError, StorageErrorKind, StorageOp};

use crate::storage::lock;

/// From one try to the next.
const REST: Duration = Duration::from_secs(1);

/// Of one device.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    shut: AtomicBool,
    /// What it said last, and when somebody tried last.
    why: Mutex<Option<(StorageError, Instant)>>,
}

/// Of all devices that open storages are on.
#[derive(Debug, Default)]
pub(crate) struct Gates(Mutex<BTreeMap<u64, Weak<Gate>>>);

impl Gates {
    /// `device`: `st_dev` of a folder on it.
    pub(crate) fn of(&self, device: u64) -> Arc<Gate> {
        let mut gates = lock(&self.0);
        gates.retain(|_, gate| gate.strong_count() > 0);
        if let Some(gate) = gates.get(&device).and_then(Weak::upgrade) {
            return gate;
        }
        let gate = Arc::default();
        gates.insert(device, Arc::downgrade(&gate));
        gate
    }
}

impl Gate {
    /// # Errors
    /// What the device said a moment ago.
    pub(crate) fn pass(&self, now: Instant) -> Result<(), StorageError> {
        if !self.shut.load(Ordering::Relaxed) {
            return Ok(());
        }
        match &mut *lock(&self.why) {
            Some((error, tried)) if now.duration_since(*tried) < REST => Err(error.clone()),
            Some((_, tried)) => {
                *tried = now;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// What came of a job that was let through and wrote.
    pub(crate) fn tell(&self, result: Result<(), &StorageError>, now: Instant) {
        match result {
            Ok(()) => self.open(),
            Err(error) if is_of_device(error) => {
                *lock(&self.why) = Some((error.clone(), now));
                self.shut.store(true, Ordering::Relaxed);
            }
            Err(_) => {}
        }
    }

    pub(crate) fn open(&self) {
        if self.shut.load(Ordering::Relaxed) {
            self.shut.store(false, Ordering::Relaxed);
            *lock(&self.why) = None;
        }
    }
}

fn is_of_device(error: &StorageError) -> bool {
    let writes = match error.op {
        StorageOp::Create
        | StorageOp::Write
        | StorageOp::Sync
        | StorageOp::Allocate
        | StorageOp::Probe => true,
        // A place that cannot be read says little about others; the log may be on another device.
        StorageOp::Open | StorageOp::Read | StorageOp::Check | StorageOp::Lock | StorageOp::Log => {
            false
        }
    };
    writes && error.kind == StorageErrorKind::Io && error.errno.is_some()
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;
    use crate::errno::failed;

    #[test]
    fn a_device_that_failed_is_let_alone_and_tried_by_one() {
        let gates = Gates::default();
        let (gate, now) = (gates.of(1), Instant::now());
        let other = gates.of(2);
        let full = failed(StorageOp::Write, "a", Errno::NOSPC);
        gate.tell(Err(&full), now);
        assert!(gate.pass(now).is_ok(), "a smaller piece may fit");
        let broken = failed(StorageOp::Write, "a", Errno::IO);
        gate.tell(Err(&broken), now);
        assert_eq!(gates.of(1).pass(now), Err(broken));
        assert!(other.pass(now).is_ok());
        assert!(gate.pass(now + REST).is_ok(), "one may try");
        assert!(gate.pass(now + REST).is_err(), "… and no other");
        gate.tell(Ok(()), now);
        assert!(gate.pass(now).is_ok());
    }
}
