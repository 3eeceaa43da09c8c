//! What a session can say no with.

use torr_base::InfoHash;
use torr_metainfo::MetainfoError;
use torr_net::{Ending, ListenError, ShardGone, ShardHandle};
use torr_store::StorageError;

use crate::events::Refused;
use crate::host::SessionHost;

/// Why something was not done. Sorted by whose fault it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The bytes are no torrent that torr can use.
    #[error(transparent)]
    Metainfo(#[from] MetainfoError),
    /// Files or state cannot be read or written.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// No port can be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The torrent is in this session already.
    #[error("torrent {0} is there already")]
    AlreadyAdded(InfoHash),
    /// What peers gave cannot be used.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Priorities for another number of files than the torrent has.
    #[error("priorities for {given} files where the torrent has {files}")]
    WrongFileCount { given: u32, files: u32 },
    /// The torrent was stopped before it came to that.
    #[error("the torrent was stopped")]
    Stopped,
    /// It goes on, but nobody waited for it any longer.
    #[error("it did not stop in time")]
    TimedOut,
    /// The operating system does not give what a session needs: a thread, randomness.
    #[error("cannot start: {0}")]
    Start(std::io::Error),
    /// The session was shut down.
    #[error("the session has ended")]
    Closed,
    /// The session ended by a fault of its own. What was downloaded is safe.
    #[error("torr made a mistake and had to stop: {0}")]
    Crashed(String),
}

impl SessionError {
    /// Why the session does not answer.
    pub(crate) fn gone(shard: &ShardHandle<SessionHost>, _: ShardGone) -> Self {
        match shard.ending() {
            Some(Ending::Crashed(why)) => Self::Crashed(why),
            Some(Ending::Quit) | None => Self::Closed,
        }
    }
}
