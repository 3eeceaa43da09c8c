//! What was written to disks, in order, and what of it is there after a power cut.

use std::time::Instant;

use torr_base::Rng;

/// What a disk writes whole or not at all, in bytes.
const SECTOR: usize = 4096;

/// What a disk does with the writes that it was not told to flush yet, when the power goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cache {
    /// They are all on the disk.
    Kept,
    /// Each is there, or not, or up to a sector of 4 KiB, as chance will have it.
    Some,
    /// They are all gone.
    Lost,
}

/// A write or a flush that came.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    pub when: Instant,
}

#[derive(Debug)]
struct Event {
    disk: usize,
    when: Instant,
    what: What,
}

#[derive(Debug)]
enum What {
    Write { at: u64, data: Box<[u8]> },
    Flush,
}

#[derive(Debug)]
enum Mode {
    /// Before the recording.
    Plain,
    Record,
    /// After a cut: the bytes that were written over, to put them back.
    Undo(Vec<(usize, u64, Box<[u8]>)>),
}

#[derive(Debug)]
pub(super) struct Disks {
    images: Vec<Vec<u8>>,
    /// What the disks were when the recording began; what is on them for certain, later.
    events: Vec<Event>,
    /// For each disk, up to which event it holds what was written.
    held: Vec<usize>,
    start: Vec<Vec<u8>>,
    mode: Mode,
}

impl Disks {
    pub(super) fn new(images: Vec<Vec<u8>>) -> Self {
        Self {
            held: vec![0; images.len()],
            start: Vec::new(),
            images,
            events: Vec::new(),
            mode: Mode::Plain,
        }
    }

    pub(super) fn len(&self, disk: usize) -> Option<u64> {
        self.images.get(disk).map(|image| image.len() as u64)
    }

    pub(super) fn read(&self, disk: usize, at: u64, len: usize) -> Option<&[u8]> {
        let image = self.images.get(disk)?;
        let from = usize::try_from(at).ok()?.min(image.len());
        image.get(from..from.saturating_add(len).min(image.len()))
    }

    pub(super) fn write(&mut self, disk: usize, at: u64, data: &[u8]) -> Option<()> {
        let image = self.images.get_mut(disk)?;
        let from = usize::try_from(at).ok()?;
        let place = image.get_mut(from..from.checked_add(data.len())?)?;
        match &mut self.mode {
            Mode::Plain => {}
            Mode::Record => self.events.push(Event {
                disk,
                when: Instant::now(),
                what: What::Write {
                    at,
                    data: data.into(),
                },
            }),
            Mode::Undo(old) => old.push((disk, at, (&*place).into())),
        }
        place.copy_from_slice(data);
        Some(())
    }

    pub(super) fn flush(&mut self, disk: usize) {
        if matches!(self.mode, Mode::Record) {
            self.events.push(Event {
                disk,
                when: Instant::now(),
                what: What::Flush,
            });
        }
    }

    pub(super) fn record(&mut self) {
        self.start.clone_from(&self.images);
        self.mode = Mode::Record;
    }

    pub(super) fn moments(&self) -> Vec<Moment> {
        let when = |event: &Event| Moment { when: event.when };
        self.events.iter().map(when).collect()
    }

    pub(super) fn cut(&mut self, events: usize, cache: Cache, rng: &mut Rng) {
        match std::mem::replace(&mut self.mode, Mode::Plain) {
            Mode::Undo(old) => {
                for (disk, at, bytes) in old.into_iter().rev() {
                    put(&mut self.images, disk, at, &bytes);
                }
            }
            Mode::Record => self.images = std::mem::take(&mut self.start),
            Mode::Plain => {}
        }
        let all = std::mem::take(&mut self.events);
        let past = all.get(..events).unwrap_or(&all);
        for disk in 0..self.images.len() {
            let is_flush = |event: &Event| event.disk == disk && matches!(event.what, What::Flush);
            let flushed = past.iter().rposition(is_flush).unwrap_or(0);
            let from = self.held.get(disk).copied().unwrap_or(0);
            let certain = past.get(from..flushed).unwrap_or_default();
            self.apply(disk, certain.iter());
            if let Some(held) = self.held.get_mut(disk) {
                *held = flushed.max(from);
            }
        }
        self.mode = Mode::Undo(Vec::new());
        for disk in 0..self.images.len() {
            let from = self.held.get(disk).copied().unwrap_or(0);
            let doubtful = past.get(from..).unwrap_or_default().iter();
            match cache {
                Cache::Kept => self.apply(disk, doubtful),
                Cache::Some => {
                    for event in doubtful {
                        self.apply_some(disk, event, rng);
                    }
                }
                Cache::Lost => {}
            }
        }
        self.events = all;
    }

    fn apply<'a>(&mut self, disk: usize, events: impl Iterator<Item = &'a Event>) {
        for event in events.filter(|event| event.disk == disk) {
            if let What::Write { at, data } = &event.what {
                self.write(disk, *at, data);
            }
        }
    }

    fn apply_some(&mut self, disk: usize, event: &Event, rng: &mut Rng) {
        let What::Write { at, data } = &event.what else {
            return;
        };
        let sectors = data.len().div_ceil(SECTOR);
        let kept = match rng.below(3) {
            0 => 0,
            1 => sectors,
            _ => rng.index(sectors + 1),
        };
        let part = data.get(..kept * SECTOR).unwrap_or(data);
        if event.disk == disk && kept > 0 {
            self.write(disk, *at, part);
        }
    }
}

fn put(images: &mut [Vec<u8>], disk: usize, at: u64, bytes: &[u8]) {
    let at = at as usize;
    let place = images
        .get_mut(disk)
        .and_then(|image| image.get_mut(at..at + bytes.len()));
    if let Some(place) = place {
        place.copy_from_slice(bytes);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A flush makes what came before it certain, on its disk alone; a cut takes back what was done after the last.
    #[test]
    fn what_was_flushed_is_there_and_the_rest_may_be() {
        let mut rng = Rng::new(1);
        let mut disks = Disks::new(vec![vec![0; 8], vec![0; 8]]);
        disks.write(0, 0, &[9]).unwrap();
        disks.record();
        disks.write(0, 1, &[1]).unwrap();
        disks.write(1, 1, &[1]).unwrap();
        disks.flush(0);
        disks.write(0, 2, &[2]).unwrap();
        disks.write(0, 3, &[3]).unwrap();
        let read = |disks: &Disks, disk| disks.read(disk, 0, 5).unwrap().to_vec();
        disks.cut(1, Cache::Lost, &mut rng);
        assert_eq!(read(&disks, 0), [9, 0, 0, 0, 0]);
        disks.write(0, 4, &[7]).unwrap();
        disks.cut(4, Cache::Lost, &mut rng);
        assert_eq!(read(&disks, 0), [9, 1, 0, 0, 0]);
        assert_eq!(read(&disks, 1), [0, 0, 0, 0, 0]);
        disks.cut(4, Cache::Kept, &mut rng);
        assert_eq!(read(&disks, 0), [9, 1, 2, 0, 0]);
        assert_eq!(read(&disks, 1), [0, 1, 0, 0, 0]);
        disks.cut(5, Cache::Some, &mut rng);
        assert_eq!(read(&disks, 0)[..2], [9, 1]);
        disks.cut(5, Cache::Kept, &mut rng);
        assert_eq!(read(&disks, 0), [9, 1, 2, 3, 0]);
    }
}
