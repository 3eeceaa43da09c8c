//! Name look-ups by the operating system, bounded in time and number.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::HttpError;

/// How long anybody waits for a name.
const PATIENCE: Duration = Duration::from_secs(10);
/// Addresses of one name that are of use.
const ADDRESSES_MAX: usize = 16;
/// Look-ups under way: each holds a thread until the system's resolver gives up.
const LOOKUPS_MAX: usize = 64;

/// Looks names up.
#[derive(Clone, Debug)]
pub struct Lookup {
    permits: Arc<Semaphore>,
    /// Names that the system does not know, and what they are to be.
    #[cfg(test)]
    pub(super) names: Vec<(&'static str, Vec<IpAddr>)>,
}

impl Default for Lookup {
    fn default() -> Self {
        Self {
            permits: Arc::new(Semaphore::new(LOOKUPS_MAX)),
            #[cfg(test)]
            names: Vec::new(),
        }
    }
}

impl Lookup {
    /// The addresses of `host`, which may be an address itself, in the system's order of preference.
    ///
    /// # Errors
    /// [`HttpError::Lookup`], or [`HttpError::LookupTimeOut`] after ten seconds. The thread of a look-up
    /// that timed out lives on until the system gives up.
    pub async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, HttpError> {
        if let Ok(ip) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        #[cfg(test)]
        if let Some((_, ips)) = self.names.iter().find(|(name, _)| *name == host) {
            return Ok(ips.iter().map(|ip| SocketAddr::new(*ip, port)).collect());
        }
        let shown = torr_tracker::mask(host);
        let permits = Arc::clone(&self.permits);
        let name = host.to_owned();
        let lookup = async move {
            let permit = permits
                .acquire_owned()
                .await
                .map_err(std::io::Error::other)?;
            let lookup = move || {
                // Held until the thread is free again, which may be long after nobody waits any more.
                let _permit = permit;
                let addrs = (name.as_str(), port).to_socket_addrs()?;
                Ok::<Vec<SocketAddr>, std::io::Error>(addrs.take(ADDRESSES_MAX).collect())
            };
            tokio::task::spawn_blocking(lookup).await?
        };
        match tokio::time::timeout(PATIENCE, lookup).await {
            Ok(Ok(addrs)) if !addrs.is_empty() => Ok(addrs),
            Ok(Ok(_)) => Err(HttpError::Lookup {
                host: shown,
                error: "it has no address".to_owned(),
            }),
            Ok(Err(error)) => Err(HttpError::Lookup {
                host: shown,
                error: torr_tracker::clean(error.to_string().as_bytes()),
            }),
            Err(_) => Err(HttpError::LookupTimeOut {
                host: shown,
                within: PATIENCE,
            }),
        }
    }
}
