//! Devices that fail are let alone (G8): after several I/O errors in a row nobody writes to that device but one
//! job at a time, a second apart. Without it, each of many jobs would wait for the device to fail again, which
//! may take it half a minute, and hold a worker meanwhile.
//!
//! One error says little: others may write where that one could not. A full disk needs no gate: it says so at
//! once, and a smaller piece may still fit.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use torr_store::{StorageError, StorageErrorKind, StorageOp};

use crate::storage::lock;

/// Errors in a row, of whatever storages, after which a device is let alone.
const ERRORS: u32 = 3;
/// From the end of one try to the next.
const REST: Duration = Duration::from_secs(1);

/// Of one device.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    shut: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    errors: u32,
    /// What it said last, and when.
    last: Option<(StorageError, Instant)>,
    /// Somebody tries.
    busy: bool,
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
    /// Whoever passes says with [`Self::tell`] what came of it.
    ///
    /// # Errors
    /// What the device said last.
    pub(crate) fn pass(&self, now: Instant) -> Result<(), StorageError> {
        if !self.shut.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut state = lock(&self.state);
        match &state.last {
            Some((error, at)) if state.busy || now.duration_since(*at) < REST => Err(error.clone()),
            Some(_) => {
                state.busy = true;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// What came of a job that was let through: of the device it says something only if it wrote, or could not.
    pub(crate) fn tell(&self, wrote: Option<Result<(), &StorageError>>, now: Instant) {
        match wrote {
            Some(Ok(())) => self.open(),
            Some(Err(error)) if is_of_device(error) => {
                let mut state = lock(&self.state);
                state.errors += 1;
                state.busy = false;
                state.last = Some((error.clone(), now));
                if state.errors >= ERRORS {
                    self.shut.store(true, Ordering::Relaxed);
                }
            }
            Some(Err(_)) | None => lock(&self.state).busy = false,
        }
    }

    /// The device works.
    pub(crate) fn open(&self) {
        *lock(&self.state) = State::default();
        self.shut.store(false, Ordering::Relaxed);
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
        let broken = failed(StorageOp::Write, "a", Errno::IO);
        for _ in 0..10 {
            gate.tell(Some(Err(&full)), now);
        }
        for _ in 1..ERRORS {
            gate.tell(Some(Err(&broken)), now);
        }
        assert!(
            gate.pass(now).is_ok(),
            "others may write where that one could not"
        );
        gate.tell(Some(Err(&broken)), now);
        assert_eq!(gates.of(1).pass(now), Err(broken.clone()));
        assert!(other.pass(now).is_ok());
        assert!(gate.pass(now + REST).is_ok(), "one may try");
        assert!(
            gate.pass(now + 60 * REST).is_err(),
            "… and no other meanwhile"
        );
        gate.tell(None, now + 60 * REST);
        assert!(
            gate.pass(now + 60 * REST).is_ok(),
            "it did not come to write"
        );
        gate.tell(Some(Ok(())), now);
        assert!(gate.pass(now).is_ok() && gate.pass(now).is_ok());
    }
}
