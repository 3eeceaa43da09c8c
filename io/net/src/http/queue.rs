//! Requests wait for their own host only: one that hangs delays nobody else (G15).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::HttpError;

/// Requests to one host at the same time.
const PER_HOST_MAX: usize = 8;
/// Requests in all at the same time, for the sake of file descriptors.
const IN_ALL_MAX: usize = 128;
/// How long a request waits for those before it.
const PATIENCE: Duration = Duration::from_secs(300);

#[derive(Debug)]
pub(super) struct Queue {
    hosts: Mutex<BTreeMap<String, Arc<Semaphore>>>,
    all: Arc<Semaphore>,
}

/// One request's place; dropped when it is done.
#[derive(Debug)]
pub(super) struct Place {
    _all: OwnedSemaphorePermit,
    _host: OwnedSemaphorePermit,
}

impl Queue {
    pub(super) fn new() -> Self {
        Self {
            hosts: Mutex::new(BTreeMap::new()),
            all: Arc::new(Semaphore::new(IN_ALL_MAX)),
        }
    }

    pub(super) async fn enter(&self, host: &str) -> Result<Place, HttpError> {
        let of_host = {
            let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
            // Nobody waits or runs where only the map holds on to it.
            hosts.retain(|_, it| Arc::strong_count(it) > 1);
            let new = || Arc::new(Semaphore::new(PER_HOST_MAX));
            Arc::clone(hosts.entry(host.to_owned()).or_insert_with(new))
        };
        let enter = async {
            // The host's place first, so that those who wait for a host take nothing from the others.
            let host = of_host.acquire_owned().await;
            let all = Arc::clone(&self.all).acquire_owned().await;
            Some(Place {
                _host: host.ok()?,
                _all: all.ok()?,
            })
        };
        let place = tokio::time::timeout(PATIENCE, enter).await;
        place.ok().flatten().ok_or(HttpError::Crowded)
    }

    #[cfg(test)]
    pub(super) fn hosts(&self) -> usize {
        self.hosts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }
}
