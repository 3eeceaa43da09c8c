//! A keyed slab: slots that are used again under a new generation.

use std::fmt;
use std::marker::PhantomData;

/// Slot and generation of an entry. A key kept past its entry's end misses instead of hitting the
/// successor in the same slot, so a late completion does no harm.
pub struct Key<T> {
    slot: u32,
    generation: u32,
    of: PhantomData<fn() -> T>,
}

impl<T> Key<T> {
    /// Which slot: small numbers, used again. For tables beside the slab.
    #[must_use]
    pub const fn slot(self) -> usize {
        self.slot as usize
    }

    /// A number that no other entry of this slab has had or will have.
    #[must_use]
    pub const fn unique(self) -> u64 {
        (self.generation as u64) << 32 | self.slot as u64
    }

    /// The key whose [`Self::unique`] this is.
    #[must_use]
    pub const fn from_unique(unique: u64) -> Self {
        Self {
            slot: unique as u32,
            generation: (unique >> 32) as u32,
            of: PhantomData,
        }
    }
}

impl<T> Clone for Key<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Key<T> {}

impl<T> PartialEq for Key<T> {
    fn eq(&self, other: &Self) -> bool {
        self.unique() == other.unique()
    }
}

impl<T> Eq for Key<T> {}

impl<T> PartialOrd for Key<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Key<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.slot, self.generation).cmp(&(other.slot, other.generation))
    }
}

impl<T> fmt::Debug for Key<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.slot, self.generation)
    }
}

/// Values under stable keys, iterated in slot order.
///
/// `K` is what the keys are marked with, so that a peer's key does not open a torrent.
pub struct Slab<T, K = T> {
    slots: Vec<(u32, Option<T>)>,
    /// Slots that are empty, last freed first.
    free: Vec<u32>,
    of: PhantomData<fn() -> K>,
}

impl<T, K> Slab<T, K> {
    #[must_use]
    pub const fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            of: PhantomData,
        }
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One more than the highest slot ever used: the length of a table beside the slab.
    #[must_use]
    pub fn slot_count(&self) -> usize {
        self.slots.len()
    }

    pub fn insert(&mut self, value: T) -> Key<K> {
        self.insert_with(|_| value)
    }

    /// For a value that must know its own key.
    pub fn insert_with(&mut self, make: impl FnOnce(Key<K>) -> T) -> Key<K> {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push((0, None));
            u32::try_from(self.slots.len() - 1).expect("bounded by connection and torrent limits")
        });
        let entry = &mut self.slots[slot as usize];
        let key = Key {
            slot,
            generation: entry.0,
            of: PhantomData,
        };
        entry.1 = Some(make(key));
        key
    }

    pub fn remove(&mut self, key: Key<K>) -> Option<T> {
        let entry = self.slots.get_mut(key.slot())?;
        if entry.0 != key.generation {
            return None;
        }
        let value = entry.1.take()?;
        entry.0 = entry.0.wrapping_add(1);
        self.free.push(key.slot);
        Some(value)
    }

    #[must_use]
    pub fn get(&self, key: Key<K>) -> Option<&T> {
        let entry = self.slots.get(key.slot())?;
        (entry.0 == key.generation).then_some(entry.1.as_ref()?)
    }

    pub fn get_mut(&mut self, key: Key<K>) -> Option<&mut T> {
        let entry = self.slots.get_mut(key.slot())?;
        (entry.0 == key.generation).then_some(entry.1.as_mut()?)
    }

    #[must_use]
    pub fn contains(&self, key: Key<K>) -> bool {
        self.get(key).is_some()
    }

    pub fn keys(&self) -> impl Iterator<Item = Key<K>> + '_ {
        self.iter().map(|(key, _)| key)
    }

    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().filter_map(|(_, value)| value.as_ref())
    }

    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.slots
            .iter_mut()
            .filter_map(|(_, value)| value.as_mut())
    }

    pub fn iter(&self) -> impl Iterator<Item = (Key<K>, &T)> {
        self.slots.iter().enumerate().filter_map(|(slot, entry)| {
            let key = Key {
                slot: slot as u32,
                generation: entry.0,
                of: PhantomData,
            };
            Some((key, entry.1.as_ref()?))
        })
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Key<K>, &mut T)> {
        self.slots
            .iter_mut()
            .enumerate()
            .filter_map(|(slot, entry)| {
                let key = Key {
                    slot: slot as u32,
                    generation: entry.0,
                    of: PhantomData,
                };
                Some((key, entry.1.as_mut()?))
            })
    }
}

impl<T, K> Default for Slab<T, K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: fmt::Debug, K> fmt::Debug for Slab<T, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_key_misses() {
        let mut slab: Slab<&str> = Slab::new();
        let a = slab.insert("a");
        assert_eq!(slab.remove(a), Some("a"));
        let b = slab.insert("b");
        assert_eq!(a.slot(), b.slot());
        assert_eq!(slab.get(a), None);
        assert_eq!(slab.remove(a), None);
        assert_eq!(slab.get(b), Some(&"b"));
        assert_eq!(Key::from_unique(b.unique()), b);
        assert_eq!((slab.len(), slab.slot_count()), (1, 1));
    }
}
