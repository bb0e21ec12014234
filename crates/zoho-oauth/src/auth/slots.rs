//! Slots by id and by user name.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::slot::Slot;

/// A map that is read before every call and written when a record is first seen or goes.
///
/// Plain, since with many users a look-up costs what its cache misses cost, and a lock-free map has
/// one more of them. The lock is held for the look-up alone, never across an await; a held session
/// needs neither map nor lock.
#[derive(Debug)]
pub(super) struct Slots<K>(RwLock<HashMap<K, Arc<Slot>>>);

impl<K> Default for Slots<K> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

impl<K: Eq + Hash> Slots<K> {
    // A panic cannot leave the map half changed: nothing of ours runs while it changes.
    fn read(&self) -> RwLockReadGuard<'_, HashMap<K, Arc<Slot>>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<K, Arc<Slot>>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, key: &K) -> Option<Arc<Slot>> {
        self.read().get(key).map(Arc::clone)
    }

    /// Looks at a slot where it is, which saves counting a reference.
    #[inline]
    pub(super) fn look<T>(&self, key: &K, look: impl FnOnce(&Slot) -> Option<T>) -> Option<T> {
        self.read().get(key).and_then(|slot| look(slot))
    }

    pub(super) fn each(&self, work: impl Fn(&Slot)) {
        for slot in self.read().values() {
            work(slot);
        }
    }

    pub(super) fn get_or_insert(&self, key: K, make: impl FnOnce() -> Slot) -> Arc<Slot> {
        if let Some(slot) = self.get(&key) {
            return slot;
        }
        let mut slots = self.write();
        Arc::clone(slots.entry(key).or_insert_with(|| Arc::new(make())))
    }

    pub(super) fn insert(&self, key: K, slot: Arc<Slot>) {
        self.write().insert(key, slot);
    }

    pub(super) fn remove_if(&self, key: &K, is_it: impl FnOnce(&Slot) -> bool) {
        let mut slots = self.write();
        if slots.get(key).is_some_and(|slot| is_it(slot)) {
            slots.remove(key);
        }
    }
}
