//! News of a torrent, and how it gets to whoever listens.
//!
//! - A listener that lags loses what is passing (progress of checking, finished files, trackers), never
//!   a milestone.
//! - A listener that comes late is told the milestones that were before.
//! - Whoever tells never waits: both ends take one short lock, never for a block or a piece.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;
use torr_metainfo::{FileIndex, MetainfoError};
use torr_node::{SearchStats, TrackerEvent, WebEvent};
use torr_store::StorageError;

/// What waits for one listener, milestones aside.
const WAITING_MAX: usize = 1_000;
/// Warnings that are kept for those who come late. Of other milestones there are few.
const WARNINGS_MAX: usize = 100;

/// Something happened to a torrent.
#[derive(Clone, Debug)]
pub enum Event {
    /// The metadata that a link stands for is here, and what is in it known. A milestone.
    Metadata,
    /// It is here, and cannot be used: nothing is downloaded. A milestone.
    Refused(Refused),
    /// Files that are there are being hashed: pieces.
    Checking { done: u64, total: u64 },
    /// The storage is open, and the torrent in its swarm. A milestone.
    Added,
    /// All of a file is verified and written.
    FileDone { file: FileIndex },
    /// Everything wanted is verified and written. A milestone.
    Complete,
    /// … and durable: it survives a power cut. A milestone.
    Synced,
    /// A tracker answered, warned or failed. The URL is masked.
    Tracker { url: String, event: TrackerEvent },
    /// A round of its search in the DHT is over.
    Dht(SearchStats),
    /// A web seed failed, was given up, or was caught. The URL is masked.
    WebSeed { url: String, event: WebEvent },
    /// A peer was caught at something that no honest peer does.
    PeerBanned { addr: SocketAddr, why: String },
    /// Something that a person should know though it stops nothing. A milestone.
    Warning(String),
    /// The storage said no, and the torrent waits until it says yes: nothing is downloaded or uploaded
    /// meanwhile. Told again when more is known, such as how much room there is. A milestone, until it goes on.
    Halted(StorageError),
    /// … and it goes on. A milestone.
    Resumed,
    /// The storage said no: nothing is downloaded or uploaded any more, and what was verified is safe. A
    /// milestone.
    Failed(StorageError),
    /// It has left the swarm, and let go of its storage. A milestone, and the last event.
    Stopped,
}

/// Why metadata that came from peers cannot be used, though it is the right one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is no torrent that torr takes.
    #[error(transparent)]
    Metainfo(#[from] MetainfoError),
    /// The files that are wanted are not in it.
    #[error("{0}")]
    Selection(String),
}

impl Event {
    /// Says how it is with the storage.
    fn is_trouble(&self) -> bool {
        matches!(self, Self::Halted(_) | Self::Resumed)
    }

    /// Nobody may miss it.
    fn is_milestone(&self) -> bool {
        match self {
            Self::Metadata
            | Self::Refused(_)
            | Self::Added
            | Self::Complete
            | Self::Synced
            | Self::Warning(_)
            | Self::Halted(_)
            | Self::Resumed
            | Self::Failed(_)
            | Self::Stopped => true,
            Self::Checking { .. }
            | Self::FileDone { .. }
            | Self::Tracker { .. }
            | Self::Dht(_)
            | Self::WebSeed { .. }
            | Self::PeerBanned { .. } => false,
        }
    }
}

/// Hears the events of one torrent, from the milestones of its past on.
#[derive(Debug)]
pub struct Events {
    queue: Arc<Queue>,
}

impl Events {
    /// The next event; `None` after [`Event::Stopped`], or when the session has ended. Nothing is lost if
    /// the future is dropped.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            match self.queue.pop() {
                Popped::Event(event) => return Some(event),
                Popped::Over => return None,
                Popped::Nothing => self.queue.wake.notified().await,
            }
        }
    }
}

enum Popped {
    Event(Event),
    /// Nothing now.
    Nothing,
    /// Nothing ever again.
    Over,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<Event>,
    closed: bool,
}

/// Where the events of one torrent come in.
#[derive(Debug, Default)]
pub(crate) struct Hub(Mutex<HubState>);

#[derive(Debug, Default)]
struct HubState {
    milestones: Vec<Event>,
    listeners: Vec<Weak<Queue>>,
    closed: bool,
}

impl Hub {
    pub(crate) fn listen(&self) -> Events {
        let mut state = lock(&self.0);
        let queue = Arc::new(Queue::default());
        let mut waiting = lock(&queue.waiting);
        waiting.events.extend(state.milestones.iter().cloned());
        waiting.closed = state.closed;
        drop(waiting);
        state
            .listeners
            .retain(|listener| listener.strong_count() > 0);
        state.listeners.push(Arc::downgrade(&queue));
        Events { queue }
    }

    pub(crate) fn emit(&self, event: &Event) {
        let mut state = lock(&self.0);
        if state.closed {
            return;
        }
        let full = matches!(event, Event::Warning(_)) && state.milestones.len() >= WARNINGS_MAX;
        if event.is_trouble() {
            // Who comes late wants to know how it is now.
            state.milestones.retain(|before| !before.is_trouble());
        }
        if event.is_milestone() && !full {
            state.milestones.push(event.clone());
        }
        state.closed = matches!(event, Event::Stopped);
        for queue in state.listeners.iter().filter_map(Weak::upgrade) {
            queue.push(event, state.closed);
        }
    }

    /// No event follows, though it has not stopped.
    pub(crate) fn close(&self) {
        let mut state = lock(&self.0);
        state.closed = true;
        for queue in state.listeners.iter().filter_map(Weak::upgrade) {
            lock(&queue.waiting).closed = true;
            queue.wake.notify_one();
        }
    }
}

impl Queue {
    fn pop(&self) -> Popped {
        let mut waiting = lock(&self.waiting);
        match waiting.events.pop_front() {
            Some(event) => Popped::Event(event),
            None if waiting.closed => Popped::Over,
            None => Popped::Nothing,
        }
    }

    fn push(&self, event: &Event, last: bool) {
        let mut waiting = lock(&self.waiting);
        waiting.closed |= last;
        let checking = |event: Option<&Event>| matches!(event, Some(Event::Checking { .. }));
        let back = waiting.events.back();
        let newer = match (back, event) {
            // The first one has the file, those that follow the room.
            (Some(Event::Halted(before)), Event::Halted(now)) => {
                before == now || before.room.is_some() && now.room.is_some()
            }
            _ => checking(Some(event)) && checking(back),
        };
        if newer {
            // The newer one says it all.
            waiting.events.pop_back();
        }
        if event.is_milestone() || waiting.events.len() < WAITING_MAX {
            waiting.events.push_back(event.clone());
        }
        drop(waiting);
        self.wake.notify_one();
    }
}

/// Nothing under these locks can panic half-way.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_lags_loses_no_milestone() {
        let hub = Hub::default();
        let mut events = hub.listen();
        for n in 0..5_000 {
            hub.emit(&Event::FileDone {
                file: FileIndex::new(n),
            });
        }
        hub.emit(&Event::Complete);
        hub.emit(&Event::Stopped);
        let mut seen = Vec::new();
        while let Some(event) = events.next().await {
            seen.push(event);
        }
        assert_eq!(seen.len(), WAITING_MAX + 2);
        assert!(matches!(seen[..], [.., Event::Complete, Event::Stopped]));
    }

    #[tokio::test]
    async fn who_comes_late_hears_the_milestones() {
        let hub = Hub::default();
        hub.emit(&Event::Checking { done: 1, total: 2 });
        hub.emit(&Event::Added);
        let mut events = hub.listen();
        assert!(matches!(events.next().await, Some(Event::Added)));
        hub.emit(&Event::Stopped);
        hub.emit(&Event::Complete);
        assert!(matches!(events.next().await, Some(Event::Stopped)));
        assert!(events.next().await.is_none());
        let mut late = hub.listen();
        assert!(matches!(late.next().await, Some(Event::Added)));
        assert!(matches!(late.next().await, Some(Event::Stopped)));
        assert!(late.next().await.is_none());
    }

    #[tokio::test]
    async fn progress_is_told_once_and_a_close_ends_it() {
        let hub = Hub::default();
        let mut events = hub.listen();
        for done in 0..10 {
            hub.emit(&Event::Checking { done, total: 10 });
        }
        hub.close();
        assert!(matches!(
            events.next().await,
            Some(Event::Checking { done: 9, .. })
        ));
        assert!(events.next().await.is_none());
    }
}
