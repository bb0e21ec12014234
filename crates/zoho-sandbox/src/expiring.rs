//! A map that forgets by itself: what has ended, and the oldest entries when it is full.

use std::collections::{BTreeMap, HashMap};

use crate::clock::after;

/// Entries by an unguessable name. All live for the same time, so the oldest end first, and no
/// operation looks at more entries than it removes.
pub(crate) struct Expiring<V> {
    entries: HashMap<String, Entry<V>>,
    /// Names in the order in which their entries came.
    order: BTreeMap<u64, String>,
    next: u64,
    limit: usize,
    life_s: u64,
}

struct Entry<V> {
    value: V,
    position: u64,
    came_ms: u64,
}

impl<V> Expiring<V> {
    /// A map that holds at most `limit` entries, each for `life_s` seconds.
    pub(crate) fn new(limit: usize, life_s: u64) -> Self {
        Self {
            entries: HashMap::new(),
            order: BTreeMap::new(),
            next: 0,
            limit,
            life_s,
        }
    }

    pub(crate) fn insert(&mut self, name: String, value: V, now: u64) {
        while let Some((_, oldest)) = self.order.first_key_value() {
            let oldest = oldest.clone();
            let ended = self.live(&oldest, now).is_none();
            if !ended && self.entries.len() < self.limit {
                break;
            }
            self.forget(&oldest);
        }
        self.forget(&name);
        self.order.insert(self.next, name.clone());
        let entry = Entry {
            value,
            position: self.next,
            came_ms: now,
        };
        self.entries.insert(name, entry);
        self.next += 1;
    }

    pub(crate) fn get(&self, name: &str, now: u64) -> Option<&V> {
        self.live(name, now).map(|entry| &entry.value)
    }

    pub(crate) fn take(&mut self, name: &str, now: u64) -> Option<V> {
        self.live(name, now)?;
        self.forget(name)
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.order.clear();
    }

    fn live(&self, name: &str, now: u64) -> Option<&Entry<V>> {
        let entry = self.entries.get(name)?;
        (after(entry.came_ms, self.life_s) > now).then_some(entry)
    }

    fn forget(&mut self, name: &str) -> Option<V> {
        let entry = self.entries.remove(name)?;
        self.order.remove(&entry.position);
        Some(entry.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_end_and_the_oldest_make_room() {
        let mut map = Expiring::new(3, 10);
        for (at, name) in ["a", "b", "c", "d"].into_iter().enumerate() {
            map.insert(name.into(), at, 0);
        }
        assert_eq!(map.get("a", 0), None, "the oldest made room");
        assert_eq!(map.get("b", 9_999), Some(&1));
        assert_eq!(map.get("b", 10_000), None, "ended");
        assert_eq!(map.take("c", 0), Some(2));
        assert_eq!(map.take("c", 0), None);
        map.insert("e".into(), 4, 10_000);
        assert_eq!((map.entries.len(), map.order.len()), (1, 1));
    }
}
